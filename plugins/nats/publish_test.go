//go:build unix

package nats_test

import (
	"maps"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/hookline/hookline/plugins/target/targettest"
	"github.com/hookline/hookline/plugins/transport"
)

func TestMessage(t *testing.T) {
	n := running(t)
	s, subject := stream(t, client(t, n.Addr), "message.", nil)
	tr := configured(t, settings(n.Addr, subject, nil))
	m := message()
	m.Path = "/site/042/visit.1"
	m.Headers = map[string]string{"X-One": "1", "zwei": "ü", "content-type": "application/fhir+json"}
	want(t, deliver(t, tr, m), transport.Done, transport.Delivered, 0)
	again := deliver(t, tr, m)
	want(t, again, transport.Done, transport.Delivered, 0)
	if !strings.Contains(again.Detail, "had it already") {
		t.Errorf("the second time: %q", again.Detail)
	}
	empty := &transport.Message{ID: "msg_empty"}
	want(t, deliver(t, tr, empty), transport.Done, transport.Delivered, 0)
	got := stored(t, s)
	if len(got) != 2 {
		t.Fatalf("%d messages", len(got))
	}
	if string(got[0].Data) != payloadText || got[0].Subject != subject+".site.042.visit.1" {
		t.Errorf("%s: %q", got[0].Subject, got[0].Data)
	}
	flat := map[string]string{}
	for name, values := range got[0].Header {
		flat[name] = strings.Join(values, "|")
	}
	headers := map[string]string{
		"Nats-Msg-Id": m.ID, "webhook-id": m.ID, "hookline-event-id": m.EventID, "hookline-attempt": "2", "hookline-kind": "update",
		"traceparent": m.TraceParent, "Content-Type": "application/fhir+json", "X-One": "1", "zwei": "ü",
	}
	if !maps.Equal(flat, headers) {
		t.Errorf("headers %v, want %v", flat, headers)
	}
	if len(got[1].Data) != 0 || got[1].Subject != subject || got[1].Header.Get("Content-Type") != "application/json" {
		t.Errorf("an empty message: %+v", got[1])
	}
}

func TestMessagesThatCannotBe(t *testing.T) {
	tr := configured(t, settings(targettest.ClosedAddr(t), "events", nil))
	for name, change := range map[string]func(*transport.Message){
		"a wildcard":            func(m *transport.Message) { m.Path = "secret/>" },
		"another wildcard":      func(m *transport.Message) { m.Path = "*" },
		"an empty part":         func(m *transport.Message) { m.Path = "a//secret" },
		"a space":               func(m *transport.Message) { m.Path = "a secret" },
		"a line":                func(m *transport.Message) { m.Path = "a\r\nPUB secret" },
		"other text":            func(m *transport.Message) { m.Path = "\xff" },
		"a long path":           func(m *transport.Message) { m.Path = strings.Repeat("x", 2000) },
		"an id with a line":     func(m *transport.Message) { m.ID = "a\r\nsecret" },
		"our own header":        func(m *transport.Message) { m.Headers = map[string]string{"Webhook-Id": "secret"} },
		"our own metadata":      func(m *transport.Message) { m.Headers = map[string]string{"hookline-anything": "secret"} },
		"NATS's header":         func(m *transport.Message) { m.Headers = map[string]string{"Nats-Rollup": "all"} },
		"the trace":             func(m *transport.Message) { m.Headers = map[string]string{"traceparent": "secret"} },
		"no name":               func(m *transport.Message) { m.Headers = map[string]string{"": "secret"} },
		"a name with a colon":   func(m *transport.Message) { m.Headers = map[string]string{"a:b": "secret"} },
		"a value with a line":   func(m *transport.Message) { m.Headers = map[string]string{"a": "x\r\nNats-Rollup: all"} },
		"a type with a newline": func(m *transport.Message) { m.ContentType = "a\nsecret" },
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
	// And what can be, is not refused but finds no server.
	want(t, deliver(t, tr, message()), transport.None, transport.ConnectionRefused, 0)
}

// What a stream says when it does not store a message.
func TestStreamsThatRefuse(t *testing.T) {
	n := running(t)
	js := client(t, n.Addr)
	for name, tc := range map[string]struct {
		edit   func(*jetstream.StreamConfig)
		first  bool // one message is taken
		code   transport.Code
		status int
	}{
		"full":               {func(c *jetstream.StreamConfig) { c.MaxMsgs, c.Discard = 1, jetstream.DiscardNew }, true, transport.ThrottledByTarget, 503},
		"full of bytes":      {func(c *jetstream.StreamConfig) { c.MaxBytes, c.Discard = 100, jetstream.DiscardNew }, false, transport.ThrottledByTarget, 503},
		"for small messages": {func(c *jetstream.StreamConfig) { c.MaxMsgSize = 10 }, false, transport.RejectedByTarget, 400},
	} {
		t.Run(name, func(t *testing.T) {
			s, subject := stream(t, js, "refusing.", tc.edit)
			tr := configured(t, settings(n.Addr, subject, nil))
			taken := 0
			if tc.first {
				want(t, deliver(t, tr, message()), transport.Done, transport.Delivered, 0)
				taken = 1
			}
			want(t, deliver(t, tr, message()), transport.None, tc.code, tc.status)
			if got := stored(t, s); len(got) != taken {
				t.Errorf("%d messages", len(got))
			}
		})
	}
}

func TestCheck(t *testing.T) {
	n := running(t)
	_, subject := stream(t, client(t, n.Addr), "check.", func(c *jetstream.StreamConfig) { c.Duplicates = 90 * time.Second })
	for name, tc := range map[string]struct {
		settings obj
		code     transport.Code
		detail   string
	}{
		"a stream":              {nil, transport.Delivered, "recognises a message id for 1m30s"},
		"the second server":     {obj{"servers": []string{targettest.ClosedAddr(t), n.Addr}}, transport.Delivered, "connected to " + n.Addr},
		"no stream":             {obj{"subject": "nowhere"}, transport.NotFoundAtTarget, "no stream takes subject nowhere"},
		"may not ask":           {obj{"username": narrow}, transport.Delivered, "may not ask"},
		"may not hear":          {obj{"username": deaf}, transport.UnauthorizedByTarget, "inbox"},
		"a wrong password":      {obj{"password": "hunter2"}, transport.UnauthorizedByTarget, "does not take this user"},
		"an NKey":               {obj{"username": nil, "password": nil, "nkey_seed": n.seed}, transport.Delivered, "recognises"},
		"another inbox":         {obj{"inbox_prefix": "inbox.hookline"}, transport.Delivered, "recognises"},
		"an inbox out of reach": {obj{"inbox_prefix": "elsewhere", "username": narrow}, transport.UnauthorizedByTarget, "inbox"},
		"an unknown name":       {obj{"servers": []string{"nowhere.invalid"}}, transport.DNSError, "nowhere.invalid"},
		"nobody there":          {obj{"servers": []string{targettest.ClosedAddr(t)}}, transport.ConnectionRefused, "refused"},
		"no TLS there":          {obj{"tls": obj{}}, transport.TLSError, "does not speak TLS"},
	} {
		effect := transport.None
		if tc.code == transport.Delivered {
			effect = transport.Done
		}
		r := configured(t, settings(n.Addr, subject, tc.settings)).Check(t.Context())
		if r.Effect != effect || r.Code != tc.code || !strings.Contains(r.Detail, tc.detail) {
			t.Errorf("%s: %+v, want %s with %q", name, r, tc.code, tc.detail)
		}
	}
}

// Many at once to a subject that the user may not publish to, and to one that is
// allowed: each hears of its own.
func TestDeniedAmongAllowed(t *testing.T) {
	n := running(t)
	_, subject := stream(t, client(t, n.Addr), "allowed.", nil)
	tr := configured(t, settings(n.Addr, "allowed", obj{"username": narrow}))
	other := configured(t, settings(n.Addr, "denied", obj{"username": narrow}))
	name := strings.TrimPrefix(subject, "allowed.")
	receipts := make(chan transport.Receipt)
	const calls = 30
	for range calls {
		go func() {
			m := message()
			m.Path = name
			receipts <- targettest.Within(tr, m, 20*time.Second)
		}()
	}
	for range calls {
		want(t, <-receipts, transport.Done, transport.Delivered, 0)
	}
	start := time.Now()
	for range calls {
		go func() { receipts <- targettest.Within(other, message(), 20*time.Second) }()
	}
	for range calls {
		want(t, <-receipts, transport.None, transport.UnauthorizedByTarget, 0)
	}
	if took := time.Since(start); took > 10*time.Second {
		t.Errorf("the refusals took %v", took)
	}
}

// Without the permission to hear the answers, the first attempt may have been stored;
// the next ones are not sent.
func TestDeaf(t *testing.T) {
	n := running(t)
	_, subject := stream(t, client(t, n.Addr), "deaf.", nil)
	tr := configured(t, settings(n.Addr, subject, obj{"username": deaf}))
	want(t, deliver(t, tr, message()), transport.Unknown, transport.UnauthorizedByTarget, 0)
	want(t, deliver(t, tr, message()), transport.None, transport.UnauthorizedByTarget, 0)
}
