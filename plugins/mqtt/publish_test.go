//go:build unix

package mqtt_test

import (
	"bytes"
	"maps"
	"strings"
	"testing"

	"github.com/hookline/hookline/plugins/target/targettest"
	"github.com/hookline/hookline/plugins/transport"
)

func TestMessage(t *testing.T) {
	b := broker(t, "")
	for _, version := range []string{"5", "3.1.1"} {
		for _, qos := range []int{1, 2} {
			topic := newTopic()
			to := listen(t, b.Addr, topic)
			tr := configured(t, settings(b.Addr, obj{"topic": topic, "version": version, "qos": qos}))
			m := message()
			if version == "5" {
				m.Headers = map[string]string{"X-One": "1", "zwei": "ü", "content-type": "application/fhir+json"}
			}
			want(t, deliver(tr, m), transport.Done, transport.Delivered, 0)
			got := to.messages()
			if len(got) != 1 || string(got[0].Payload) != payloadText || got[0].Topic != topic || got[0].Retain {
				t.Fatalf("%s, qos %d: %+v", version, qos, got)
			}
			p := got[0].Properties
			have := map[string]string{}
			for _, u := range p.User {
				have[u.Key] = u.Value
			}
			expected := map[string]string{}
			if version == "5" {
				if p.ContentType != "application/fhir+json" || have["webhook-timestamp"] == "" {
					t.Errorf("%+v", p)
				}
				expected = map[string]string{
					"webhook-id": m.ID, "hookline-event-id": m.EventID, "traceparent": m.TraceParent, "hookline-attempt": "2",
					"hookline-kind": "update", "webhook-timestamp": have["webhook-timestamp"], "X-One": "1", "zwei": "ü",
				}
			}
			if !maps.Equal(have, expected) {
				t.Errorf("%s: properties %v, want %v", version, have, expected)
			}

			want(t, deliver(tr, &transport.Message{ID: "msg_2"}), transport.Done, transport.Delivered, 0)
			if got = to.messages(); len(got) != 2 || len(got[1].Payload) != 0 {
				t.Errorf("an empty message: %+v", got)
			}
		}
	}
}

// A message's key replaces the topic of the settings, its path is appended.
func TestTopic(t *testing.T) {
	b := broker(t, "")
	to := listen(t, b.Addr, "t/#")
	tr := configured(t, settings(b.Addr, obj{"topic": "t/base/"}))
	for _, m := range []transport.Message{{}, {Key: "t/other"}, {Path: "/site/042"}, {Key: "t/k", Path: "a//b"}, {Key: "t/ü €"}} {
		want(t, deliver(tr, &m), transport.Done, transport.Delivered, 0)
	}
	var got []string
	for _, p := range to.messages() {
		got = append(got, p.Topic)
	}
	if have := strings.Join(got, " "); have != "t/base/ t/other t/base/site/042 t/k/a//b t/ü €" {
		t.Errorf("topics: %s", have)
	}
}

func TestMessagesThatCannotBe(t *testing.T) {
	five := configured(t, settings(targettest.ClosedAddr(t), obj{"max_payload": 1000}))
	three := configured(t, settings(targettest.ClosedAddr(t), obj{"version": "3.1.1"}))
	for name, change := range map[string]func(*transport.Message){
		"a long key":             func(m *transport.Message) { m.Key = strings.Repeat("secret", 11000) },
		"a key with a wildcard":  func(m *transport.Message) { m.Key = "secret/#" },
		"a path with a wildcard": func(m *transport.Message) { m.Path = "secret/+/x" },
		"a path with a newline":  func(m *transport.Message) { m.Path = "secret\nx" },
		"a key of other text":    func(m *transport.Message) { m.Key = "secret\xff" },
		"a key of no character":  func(m *transport.Message) { m.Key = "secret\ufffe" },
		"a long id":              func(m *transport.Message) { m.ID = strings.Repeat("secret", 11000) },
		"a long content type":    func(m *transport.Message) { m.ContentType = strings.Repeat("secret", 11000) },
		"our own header":         func(m *transport.Message) { m.Headers = map[string]string{"Webhook-Id": "secret"} },
		"our own metadata":       func(m *transport.Message) { m.Headers = map[string]string{"hookline-anything": "secret"} },
		"the trace":              func(m *transport.Message) { m.Headers = map[string]string{"traceparent": "secret"} },
		"no name":                func(m *transport.Message) { m.Headers = map[string]string{"": "secret"} },
		"a long name":            func(m *transport.Message) { m.Headers = map[string]string{strings.Repeat("x", 1<<16): "secret"} },
		"a header of other text": func(m *transport.Message) { m.Headers = map[string]string{"a": "\xff"} },
		"a header of two lines":  func(m *transport.Message) { m.Headers = map[string]string{"a": "secret\nb"} },
		"more than max_payload":  func(m *transport.Message) { m.Payload = bytes.Repeat([]byte("secret"), 200) },
		"a header too many": func(m *transport.Message) {
			m.Headers = map[string]string{}
			for i := range 65 {
				m.Headers[strings.Repeat("x", i+1)] = ""
			}
		},
	} {
		m := message()
		change(m)
		r := deliver(five, m)
		want(t, r, transport.None, transport.RejectedByTarget, 0)
		if !strings.HasPrefix(r.Detail, "nothing was sent: ") {
			t.Errorf("%s: detail %q", name, r.Detail)
		}
	}
	m := message()
	m.Headers = map[string]string{"X-One": "secret"}
	want(t, deliver(three, m), transport.None, transport.RejectedByTarget, 0)
	// And what can be, is not refused but finds no broker.
	want(t, deliver(five, m), transport.None, transport.ConnectionRefused, 0)
	m.Headers = map[string]string{"Content-Type": "text/plain"}
	want(t, deliver(three, m), transport.None, transport.ConnectionRefused, 0)
}

// A retained message is there for who subscribes later.
func TestRetain(t *testing.T) {
	b := broker(t, "")
	for _, version := range []string{"5", "3.1.1"} {
		topic := newTopic()
		tr := configured(t, settings(b.Addr, obj{"topic": topic, "retain": true, "version": version}))
		r := deliver(tr, message())
		if r.Effect != transport.Done {
			t.Errorf("%+v", r)
		}
		if got := listen(t, b.Addr, topic).messages(); len(got) != 1 || !got[0].Retain || string(got[0].Payload) != payloadText {
			t.Errorf("%s: %+v", version, got)
		}
	}
}

// The broker tells with MQTT 5 whether somebody has subscribed.
func TestRequireSubscriber(t *testing.T) {
	b := broker(t, "")
	topic := newTopic()
	anyway := configured(t, settings(b.Addr, obj{"topic": topic}))
	require := configured(t, settings(b.Addr, obj{"topic": topic, "require_subscriber": true}))
	want(t, deliver(anyway, message()), transport.Done, transport.Delivered, 0x10)
	want(t, deliver(require, message()), transport.None, transport.NotFoundAtTarget, 0x10)
	to := listen(t, b.Addr, topic)
	want(t, deliver(require, message()), transport.Done, transport.Delivered, 0)
	if got := to.messages(); len(got) != 1 {
		t.Errorf("%d messages", len(got))
	}
}

// What docs/transport-mqtt.md warns of: by 3.1.1 Mosquitto acknowledges what it throws
// away, and nobody can tell.
func TestOldVersionTellsNothing(t *testing.T) {
	b := broker(t, sizeLimit)
	to := listen(t, b.Addr, "#")
	old := configured(t, settings(b.Addr, obj{"version": "3.1.1", "topic": "denied"}))
	want(t, deliver(old, message()), transport.Done, transport.Delivered, 0)
	large := message()
	large.Payload = make([]byte, maxMessage+1)
	want(t, deliver(old, large), transport.Done, transport.Delivered, 0)
	if got := to.messages(); len(got) != 0 {
		t.Errorf("%d messages", len(got))
	}
	now := configured(t, settings(b.Addr, obj{"topic": "denied"}))
	want(t, deliver(now, message()), transport.None, transport.UnauthorizedByTarget, 0x87)
}

// A broker that has told its longest packet is not sent a longer one, and the
// connection goes on.
func TestPacketLimit(t *testing.T) {
	b := broker(t, "max_packet_size 10000\n")
	topic := newTopic()
	to := listen(t, b.Addr, topic)
	tr := configured(t, settings(b.Addr, obj{"topic": topic}))
	m := message()
	m.Payload = make([]byte, 10000)
	want(t, deliver(tr, m), transport.None, transport.RejectedByTarget, 0)
	want(t, deliver(tr, message()), transport.Done, transport.Delivered, 0)
	// By 3.1.1 it cannot tell, and ends the connection.
	old := configured(t, settings(b.Addr, obj{"topic": topic, "version": "3.1.1"}))
	want(t, deliver(old, m), transport.Unknown, transport.ConnectionReset, 0)
	if got := to.messages(); len(got) != 1 {
		t.Errorf("%d messages", len(got))
	}
}

func TestCheck(t *testing.T) {
	b := broker(t, "")
	for name, tc := range map[string]struct {
		settings obj
		code     transport.Code
		status   int
		detail   string
	}{
		"MQTT 5":              {obj{}, transport.Delivered, 0, "connected to " + b.Addr},
		"MQTT 3.1.1":          {obj{"version": "3.1.1"}, transport.Delivered, 0, "connected to " + b.Addr},
		"a client id":         {obj{"client_id": "plant/7"}, transport.Delivered, 0, "connected to " + b.Addr},
		"TLS":                 {obj{"address": b.TLSAddr, "tls": obj{"ca_file": b.CA.CAFile}}, transport.Delivered, 0, "certificate expires on 20"},
		"a wrong password":    {obj{"password": "hunter2"}, transport.UnauthorizedByTarget, 0x87, "not authorized"},
		"... by 3.1.1":        {obj{"password": "hunter2", "version": "3.1.1"}, transport.UnauthorizedByTarget, 5, "not authorized"},
		"an unknown name":     {obj{"address": "nowhere.invalid"}, transport.DNSError, 0, "nowhere.invalid"},
		"nobody there":        {obj{"address": targettest.ClosedAddr(t)}, transport.ConnectionRefused, 0, "refused"},
		"another authority":   {obj{"address": b.TLSAddr, "tls": obj{}}, transport.TLSError, 0, "unknown authority"},
		"another name":        {obj{"address": b.TLSAddr, "tls": obj{"ca_file": b.CA.CAFile, "server_name": "other.example"}}, transport.TLSError, 0, "not for other.example"},
		"a denied address":    {obj{"deny_addresses": []string{"127.0.0.0/8"}}, transport.AddressDenied, 0, "deny_addresses"},
		"a port without TLS":  {obj{"tls": obj{"ca_file": b.CA.CAFile}}, transport.ConnectionReset, 0, "TLS handshake"},
		"a port that has TLS": {obj{"address": b.TLSAddr}, transport.ConnectionReset, 0, "port for TLS"},
	} {
		t.Run(name, func(t *testing.T) {
			effect := transport.None
			if tc.code == transport.Delivered {
				effect = transport.Done
			}
			r := configured(t, settings(b.Addr, tc.settings)).Check(t.Context())
			want(t, r, effect, tc.code, tc.status)
			if !strings.Contains(r.Detail, tc.detail) {
				t.Errorf("detail %q, want %q", r.Detail, tc.detail)
			}
		})
	}
}

// A broker that wants a certificate gets ours, and turns us away without one.
func TestClientCertificate(t *testing.T) {
	b := broker(t, "require_certificate true\n")
	cert, key, err := b.CA.Leaf("client")
	if err != nil {
		t.Fatal(err)
	}
	with := configured(t, settings(b.TLSAddr, obj{"tls": obj{"ca_file": b.CA.CAFile, "cert_file": cert, "key_file": key}}))
	want(t, deliver(with, message()), transport.Done, transport.Delivered, 0x10)
	for _, version := range []string{"1.2", "1.3"} {
		without := configured(t, settings(b.TLSAddr, obj{"tls": obj{"ca_file": b.CA.CAFile, "min_version": version}}))
		want(t, deliver(without, message()), transport.None, transport.TLSError, 0)
		want(t, without.Check(t.Context()), transport.None, transport.TLSError, 0)
	}
}

// Over TLS it delivers as well, and many at once take turns.
func TestFewTurns(t *testing.T) {
	b := broker(t, "max_inflight_messages 2\n")
	for _, version := range []string{"5", "3.1.1"} {
		topic := newTopic()
		to := listen(t, b.Addr, topic)
		tr := configured(t, settings(b.TLSAddr, obj{"topic": topic, "version": version, "qos": 2, "in_flight": 2, "tls": obj{"ca_file": b.CA.CAFile}}))
		receipts := make(chan transport.Receipt)
		const calls = 50
		for range calls {
			go func() { receipts <- deliver(tr, message()) }()
		}
		for range calls {
			want(t, <-receipts, transport.Done, transport.Delivered, 0)
		}
		if got := to.messages(); len(got) != calls {
			t.Errorf("%d messages", len(got))
		}
	}
}
