//go:build unix

package amqp_test

import (
	"bytes"
	"encoding/json"
	"os"
	"testing"

	amqp091 "github.com/rabbitmq/amqp091-go"

	"github.com/hookline/hookline/plugins/amqp"
	"github.com/hookline/hookline/plugins/conformance"
	"github.com/hookline/hookline/plugins/target/targettest"
	"github.com/hookline/hookline/plugins/transport"
)

func TestConformance(t *testing.T) {
	n := broker(t)
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	other, err := targettest.NewAuthority(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	with := func(more obj) func(conformance.Target) json.RawMessage {
		return func(to conformance.Target) json.RawMessage {
			s := to.(*queue).settings()
			for k, v := range more {
				s[k] = v
			}
			return raw(s)
		}
	}
	fault := func(name string, more obj, code transport.Code) conformance.Fault {
		return conformance.Fault{Name: name, Settings: with(more), Effect: transport.None, Codes: []transport.Code{code}}
	}
	conformance.Test(t, conformance.Subject{
		New:     func() transport.Transport { return amqp.New() },
		Command: []string{exe, "plugin"},
		Target:  func(tb testing.TB) conformance.Target { return newQueue(tb, n) },
		// RabbitMQ rejects for good only by the size of a message: a fault below.
		States: []conformance.State{conformance.Down, conformance.Slow},
		Secret: password,
		Big:    256 << 10,
		Bad: []conformance.BadSettings{
			{Name: "no queue", Settings: raw(obj{"address": "127.0.0.1", "username": "u", "password": "hunter2"}), Field: "routing_key", Hidden: "hunter2"},
			{Name: "a url", Settings: raw(obj{"address": "amqp://u:hunter2@127.0.0.1", "username": "u", "password": "hunter2", "routing_key": "q"}), Field: "address", Hidden: "hunter2"},
			{Name: "half a client certificate", Settings: raw(obj{"address": "127.0.0.1", "username": "u", "password": "hunter2", "routing_key": "q", "tls": obj{"cert_file": "x"}}), Field: "tls.key_file", Hidden: "hunter2"},
		},
		Faults: []conformance.Fault{
			fault("a wrong password", obj{"password": "hunter2"}, transport.UnauthorizedByTarget),
			fault("a user who may not publish", obj{"username": reader, "exchange": "amq.direct"}, transport.UnauthorizedByTarget),
			fault("a vhost that is not there", obj{"vhost": "nowhere"}, transport.UnauthorizedByTarget),
			fault("an exchange that is not there", obj{"exchange": "nowhere"}, transport.NotFoundAtTarget),
			fault("a key that nothing is bound to", obj{"exchange": "amq.direct", "routing_key": "nowhere"}, transport.NotFoundAtTarget),
			{
				Name: "a queue that is deleted", Make: func(to conformance.Target) { to.(*queue).drop() },
				Effect: transport.None, Codes: []transport.Code{transport.NotFoundAtTarget},
			},
			{
				Name: "a message that is too large", Effect: transport.None, Codes: []transport.Code{transport.RejectedByTarget},
				Message: func(m *transport.Message) { m.Payload = bytes.Repeat([]byte("x"), maxMessage+1) },
			},
			fault("an authority that is not the broker's", obj{"address": n.TLSAddr, "tls": obj{"ca_file": other.CAFile}}, transport.TLSError),
			fault("a port without TLS", obj{"tls": obj{"ca_file": n.CA.CAFile}}, transport.TLSError),
			fault("a port that wants TLS", obj{"address": n.TLSAddr}, transport.ConnectionReset),
			fault("a denied address", obj{"deny_addresses": []string{"127.0.0.0/8"}}, transport.AddressDenied),
		},
	})
}

// queue is a queue of the node, reached through a proxy.
type queue struct {
	tb    testing.TB
	proxy *targettest.Proxy
	name  string
	ch    *amqp091.Channel
	taken [][]byte
	gone  bool
}

func newQueue(tb testing.TB, n *node) *queue {
	return &queue{tb: tb, proxy: targettest.NewProxy(tb, n.Addr), name: n.queue(tb, nil), ch: n.channel(tb)}
}

func (q *queue) settings() obj {
	return obj{"address": q.proxy.Addr, "username": user, "password": password, "routing_key": q.name}
}

func (q *queue) Settings() json.RawMessage { return raw(q.settings()) }

func (q *queue) Set(s conformance.State) {
	switch s {
	case conformance.Up:
		q.proxy.Up()
	case conformance.Down:
		q.proxy.Down()
	case conformance.Slow:
		q.proxy.Slow()
	}
}

func (q *queue) drop() {
	q.gone = true
	if _, err := q.ch.QueueDelete(q.name, false, false, false); err != nil {
		q.tb.Error(err)
	}
}

func (q *queue) Received() [][]byte {
	if !q.gone {
		for _, d := range drain(q.tb, q.ch, q.name) {
			q.taken = append(q.taken, d.Body)
		}
	}
	return q.taken
}
