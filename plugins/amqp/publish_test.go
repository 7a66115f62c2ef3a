//go:build unix

package amqp_test

import (
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	amqp091 "github.com/rabbitmq/amqp091-go"

	"github.com/hookline/hookline/plugins/target/targettest"
	"github.com/hookline/hookline/plugins/transport"
)

func TestMessage(t *testing.T) {
	n := broker(t)
	q, ch := n.queue(t, nil), n.channel(t)
	tr := configured(t, n.settings(obj{"routing_key": q}))
	m := message()
	m.Headers = map[string]string{"X-One": "1", "zwei": "ü\n", "content-type": "application/fhir+json"}
	want(t, deliver(t, tr, m), transport.Done, transport.Delivered, 0)
	got := drain(t, ch, q)
	if len(got) != 1 {
		t.Fatalf("%d messages", len(got))
	}
	d := got[0]
	if string(d.Body) != payloadText || d.DeliveryMode != amqp091.Persistent || d.MessageId != m.ID || d.ContentType != "application/fhir+json" ||
		d.Type != "update" || d.AppId != "hookline" || time.Since(d.Timestamp) > time.Minute {
		t.Errorf("%+v", d)
	}
	headers := amqp091.Table{
		"webhook-id": m.ID, "hookline-event-id": m.EventID, "traceparent": m.TraceParent, "hookline-attempt": int32(2),
		"X-One": "1", "zwei": "ü\n",
	}
	if !maps.Equal(d.Headers, headers) {
		t.Errorf("headers %v, want %v", d.Headers, headers)
	}

	m = &transport.Message{ID: "msg_2", Payload: nil}
	want(t, deliver(t, tr, m), transport.Done, transport.Delivered, 0)
	if got = drain(t, ch, q); len(got) != 1 || len(got[0].Body) != 0 || got[0].ContentType != "application/json" {
		t.Errorf("an empty message: %+v", got)
	}
}

// A message's key replaces the routing key of the settings.
func TestKey(t *testing.T) {
	n := broker(t)
	one, two, ch := n.queue(t, nil), n.queue(t, nil), n.channel(t)
	for q, key := range map[string]string{one: "site.1", two: "site.2"} {
		if err := ch.QueueBind(q, key, "amq.topic", false, nil); err != nil {
			t.Fatal(err)
		}
	}
	tr := configured(t, n.settings(obj{"exchange": "amq.topic", "routing_key": "site.1"}))
	want(t, deliver(t, tr, message()), transport.Done, transport.Delivered, 0)
	m := message()
	m.Key = "site.2"
	want(t, deliver(t, tr, m), transport.Done, transport.Delivered, 0)
	m.Key = "site.3"
	want(t, deliver(t, tr, m), transport.None, transport.NotFoundAtTarget, amqp091.NoRoute)
	if a, b := drain(t, ch, one), drain(t, ch, two); len(a) != 1 || a[0].RoutingKey != "site.1" || len(b) != 1 || b[0].RoutingKey != "site.2" {
		t.Errorf("%v, %v", a, b)
	}
}

func TestMessagesThatCannotBe(t *testing.T) {
	tr := configured(t, obj{"address": targettest.ClosedAddr(t), "username": "u", "password": "p", "routing_key": "q"})
	for name, change := range map[string]func(*transport.Message){
		"a long key":             func(m *transport.Message) { m.Key = strings.Repeat("secret", 50) },
		"a key with a newline":   func(m *transport.Message) { m.Key = "a\nsecret" },
		"a long id":              func(m *transport.Message) { m.ID = strings.Repeat("x", 256) },
		"a long content type":    func(m *transport.Message) { m.ContentType = strings.Repeat("secret", 50) },
		"our own header":         func(m *transport.Message) { m.Headers = map[string]string{"Webhook-Id": "secret"} },
		"our own metadata":       func(m *transport.Message) { m.Headers = map[string]string{"hookline-anything": "secret"} },
		"RabbitMQ's header":      func(m *transport.Message) { m.Headers = map[string]string{"CC": "secret"} },
		"the trace":              func(m *transport.Message) { m.Headers = map[string]string{"traceparent": "secret"} },
		"no name":                func(m *transport.Message) { m.Headers = map[string]string{"": "secret"} },
		"a long name":            func(m *transport.Message) { m.Headers = map[string]string{strings.Repeat("x", 256): "secret"} },
		"a header of other text": func(m *transport.Message) { m.Headers = map[string]string{"a": "\xff"} },
		"many headers": func(m *transport.Message) {
			m.Headers = map[string]string{}
			for i := range 65 {
				m.Headers[strings.Repeat("x", i+1)] = ""
			}
		},
	} {
		m := message()
		change(m)
		r := deliver(t, tr, m)
		want(t, r, transport.None, transport.RejectedByTarget, 0)
		if !strings.HasPrefix(r.Detail, "nothing was sent: ") {
			t.Errorf("%s: detail %q", name, r.Detail)
		}
	}
	// And what can be, is not refused but finds no broker.
	want(t, deliver(t, tr, message()), transport.None, transport.ConnectionRefused, 0)
}

// A full queue that rejects: the broker says so by a negative confirmation.
func TestFullQueue(t *testing.T) {
	n := broker(t)
	q, ch := n.queue(t, amqp091.Table{"x-max-length": int32(1), "x-overflow": "reject-publish"}), n.channel(t)
	tr := configured(t, n.settings(obj{"routing_key": q}))
	want(t, deliver(t, tr, message()), transport.Done, transport.Delivered, 0)
	want(t, deliver(t, tr, message()), transport.Unknown, transport.ThrottledByTarget, 0)
	if got := drain(t, ch, q); len(got) != 1 {
		t.Errorf("%d messages", len(got))
	}
	want(t, deliver(t, tr, message()), transport.Done, transport.Delivered, 0)
}

func TestCheck(t *testing.T) {
	n := broker(t)
	q := n.queue(t, nil)
	for name, tc := range map[string]struct {
		settings obj
		code     transport.Code
		status   int
		detail   string
	}{
		"a queue":           {obj{"routing_key": q}, transport.Delivered, 0, "connected to " + n.Addr},
		"an exchange":       {obj{"exchange": "amq.topic"}, transport.Delivered, 0, "connected to " + n.Addr},
		"TLS":               {obj{"routing_key": q, "address": n.TLSAddr, "tls": obj{"ca_file": n.CA.CAFile}}, transport.Delivered, 0, "certificate expires on 20"},
		"no queue":          {obj{"routing_key": "nowhere"}, transport.NotFoundAtTarget, 404, `queue "nowhere" is not there`},
		"no exchange":       {obj{"exchange": "nowhere"}, transport.NotFoundAtTarget, 404, `exchange "nowhere" is not there`},
		"a wrong password":  {obj{"routing_key": q, "password": "hunter2"}, transport.UnauthorizedByTarget, 403, "password"},
		"a wrong vhost":     {obj{"routing_key": q, "vhost": "nowhere"}, transport.UnauthorizedByTarget, 530, "vhost"},
		"an unknown name":   {obj{"routing_key": q, "address": "nowhere.invalid"}, transport.DNSError, 0, "nowhere.invalid"},
		"nobody there":      {obj{"routing_key": q, "address": targettest.ClosedAddr(t)}, transport.ConnectionRefused, 0, "refused"},
		"another authority": {obj{"routing_key": q, "address": n.TLSAddr, "tls": obj{}}, transport.TLSError, 0, "unknown authority"},
		"another name":      {obj{"routing_key": q, "address": n.TLSAddr, "tls": obj{"ca_file": n.CA.CAFile, "server_name": "other.example"}}, transport.TLSError, 0, "not for other.example"},
	} {
		effect := transport.None
		if tc.code == transport.Delivered {
			effect = transport.Done
		}
		r := configured(t, n.settings(tc.settings)).Check(t.Context())
		want(t, r, effect, tc.code, tc.status)
		if !strings.Contains(r.Detail, tc.detail) {
			t.Errorf("%s: detail %q, want %q", name, r.Detail, tc.detail)
		}
	}
}

// Over TLS it delivers as well, and many at once share few channels.
func TestFewChannels(t *testing.T) {
	n := broker(t)
	q, ch := n.queue(t, nil), n.channel(t)
	tr := configured(t, n.settings(obj{"routing_key": q, "address": n.TLSAddr, "tls": obj{"ca_file": n.CA.CAFile}, "channels": 2}))
	receipts := make(chan transport.Receipt)
	const calls = 50
	for range calls {
		go func() { receipts <- targettest.Within(tr, message(), 30*time.Second) }()
	}
	for range calls {
		want(t, <-receipts, transport.Done, transport.Delivered, 0)
	}
	if got := drain(t, ch, q); len(got) != calls || slices.ContainsFunc(got, func(d amqp091.Delivery) bool { return string(d.Body) != payloadText }) {
		t.Errorf("%d messages", len(got))
	}
}
