//go:build unix

package nats_test

import (
	"bytes"
	"encoding/json"
	"os"
	"testing"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/hookline/hookline/plugins/conformance"
	"github.com/hookline/hookline/plugins/nats"
	"github.com/hookline/hookline/plugins/target/targettest"
	"github.com/hookline/hookline/plugins/transport"
)

func TestConformance(t *testing.T) {
	n := running(t)
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	js := client(t, n.Addr)
	fault := func(name string, more obj, code transport.Code) conformance.Fault {
		return conformance.Fault{
			Name: name, Effect: transport.None, Codes: []transport.Code{code},
			Settings: func(to conformance.Target) json.RawMessage {
				q := to.(*target)
				return raw(settings(q.proxy.Addr, q.subject, more))
			},
		}
	}
	conformance.Test(t, conformance.Subject{
		New:     func() transport.Transport { return nats.New() },
		Command: []string{exe, "plugin"},
		Target: func(tb testing.TB) conformance.Target {
			s, subject := stream(tb, js, "conformance.", nil)
			return &target{tb: tb, js: js, stream: s, subject: subject, proxy: targettest.NewProxy(tb, n.Addr)}
		},
		States: []conformance.State{conformance.Down, conformance.Slow, conformance.Rejecting},
		Secret: password,
		Big:    512 << 10,
		Bad: []conformance.BadSettings{
			{Name: "no server", Settings: raw(obj{"servers": []string{}, "subject": "a"}), Field: "servers"},
			{Name: "a url", Settings: raw(obj{"servers": []string{"nats://u:hunter2@127.0.0.1"}, "subject": "a"}), Field: "servers[0]", Hidden: "hunter2"},
			{Name: "a wildcard", Settings: raw(obj{"servers": []string{"127.0.0.1"}, "subject": "a.*"}), Field: "subject"},
			{Name: "a seed that is none", Settings: raw(obj{"servers": []string{"127.0.0.1"}, "subject": "a", "nkey_seed": "hunter2"}), Field: "nkey_seed", Hidden: "hunter2"},
			{Name: "half a client certificate", Settings: raw(obj{"servers": []string{"127.0.0.1"}, "subject": "a", "tls": obj{"cert_file": "x"}}), Field: "tls.key_file"},
		},
		Faults: []conformance.Fault{
			fault("a wrong password", obj{"password": "hunter2"}, transport.UnauthorizedByTarget),
			fault("no credentials", obj{"username": nil, "password": nil}, transport.UnauthorizedByTarget),
			fault("a user who may not publish there", obj{"username": narrow}, transport.UnauthorizedByTarget),
			fault("a subject that no stream takes", obj{"subject": "nowhere"}, transport.NotFoundAtTarget),
			fault("a server without TLS", obj{"tls": obj{}}, transport.TLSError),
			fault("a denied address", obj{"deny_addresses": []string{"127.0.0.0/8"}}, transport.AddressDenied),
			{
				Name: "a stream that is deleted", Effect: transport.None, Codes: []transport.Code{transport.NotFoundAtTarget},
				Make: func(to conformance.Target) { to.(*target).drop() },
			},
			{
				Name: "a message that is too large", Effect: transport.None, Codes: []transport.Code{transport.RejectedByTarget},
				Message: func(m *transport.Message) { m.Payload = bytes.Repeat([]byte("x"), maxPayload) }, // and its headers
			},
		},
	})
}

// target is a stream, reached through a proxy.
type target struct {
	tb      testing.TB
	js      jetstream.JetStream
	stream  jetstream.Stream
	subject string
	proxy   *targettest.Proxy
	gone    bool
}

func (q *target) Settings() json.RawMessage { return raw(settings(q.proxy.Addr, q.subject, nil)) }

func (q *target) Set(s conformance.State) {
	switch s {
	case conformance.Up:
		q.proxy.Up()
	case conformance.Down:
		q.proxy.Down()
	case conformance.Slow:
		q.proxy.Slow()
	case conformance.Rejecting:
		cfg := q.stream.CachedInfo().Config
		cfg.MaxMsgSize = 1
		if _, err := q.js.UpdateStream(q.tb.Context(), cfg); err != nil {
			q.tb.Error(err)
		}
	}
}

func (q *target) drop() {
	q.gone = true
	if err := q.js.DeleteStream(q.tb.Context(), q.stream.CachedInfo().Config.Name); err != nil {
		q.tb.Error(err)
	}
}

func (q *target) Received() (out [][]byte) {
	if !q.gone {
		for _, m := range stored(q.tb, q.stream) {
			out = append(out, m.Data)
		}
	}
	return out
}
