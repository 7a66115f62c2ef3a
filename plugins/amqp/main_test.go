//go:build unix

package amqp_test

import (
	"encoding/json"
	"fmt"
	"os"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	amqp091 "github.com/rabbitmq/amqp091-go"
	"go.uber.org/goleak"

	"github.com/hookline/hookline/plugins"
	"github.com/hookline/hookline/plugins/amqp"
	"github.com/hookline/hookline/plugins/target/targettest"
	"github.com/hookline/hookline/plugins/transport"
)

func TestMain(m *testing.M) {
	if len(os.Args) == 2 && os.Args[1] == "plugin" { // the conformance suite's child
		plugins.Serve(amqp.New())
		return
	}
	goleak.VerifyTestMain(m, goleak.Cleanup(func(code int) {
		rabbit.end()
		os.Exit(code)
	}))
}

// What the node is set up with.
const (
	user       = "hookline"
	reader     = "reader" // may publish nowhere
	password   = "correct-horse-battery"
	maxMessage = 512 << 10
)

// node is a RabbitMQ of this test's own: a shared one must not be killed.
type node struct {
	*targettest.RabbitMQ
	once sync.Once
	dir  string
	err  error
}

var rabbit node

// broker starts the node for the first test that asks.
func broker(tb testing.TB) *node {
	tb.Helper()
	program := targettest.FindRabbitMQ(tb)
	rabbit.once.Do(func() { rabbit.err = rabbit.start(program) })
	if rabbit.err != nil {
		tb.Fatal(rabbit.err)
	}
	return &rabbit
}

func (n *node) start(program string) (err error) {
	if n.dir, err = os.MkdirTemp("", "hookline-amqp-"); err != nil {
		return err
	}
	n.RabbitMQ, err = targettest.StartRabbitMQ(program, n.dir, password,
		fmt.Sprintf("max_message_size = %d\n", maxMessage), [2]string{user, ".*"}, [2]string{reader, "^$"})
	return err
}

func (n *node) end() {
	if n.RabbitMQ != nil {
		n.Kill()
	}
	if n.dir != "" {
		_ = os.RemoveAll(n.dir)
	}
}

// channel is one that the test itself uses.
func (n *node) channel(tb testing.TB) *amqp091.Channel {
	tb.Helper()
	c, err := n.Dial()
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { _ = c.Close() })
	ch, err := c.Channel()
	if err != nil {
		tb.Fatal(err)
	}
	return ch
}

var queues atomic.Int64

// queue makes a durable queue that is there until the test's end, and returns its name.
func (n *node) queue(tb testing.TB, args amqp091.Table) string {
	tb.Helper()
	ch := n.channel(tb)
	name := fmt.Sprintf("q-%d", queues.Add(1))
	if _, err := ch.QueueDeclare(name, true, false, false, false, args); err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { // on a new connection: the node may have been killed
		c, err := n.Dial()
		if err != nil {
			tb.Error(err)
			return
		}
		defer func() { _ = c.Close() }()
		if ch, err := c.Channel(); err == nil {
			_, _ = ch.QueueDelete(name, false, false, false) // a test may have done it
		}
	})
	return name
}

// drain takes all messages out of the queue.
func drain(tb testing.TB, ch *amqp091.Channel, queue string) (out []amqp091.Delivery) {
	tb.Helper()
	for {
		d, ok, err := ch.Get(queue, true)
		if err != nil {
			tb.Error(err)
		}
		if !ok {
			return out
		}
		out = append(out, d)
	}
}

type obj = map[string]any

func (n *node) settings(more obj) obj {
	out := obj{"address": n.Addr, "username": user, "password": password}
	for k, v := range more {
		out[k] = v
	}
	return out
}

// configured returns a transport with the settings, closed at the test's end.
func configured(tb testing.TB, s obj) *amqp.Transport {
	tb.Helper()
	tr := amqp.New(amqp.WithVersion("1.2.3"))
	if err := tr.Configure(tb.Context(), raw(s)); err != nil {
		tb.Fatalf("configure: %v", err)
	}
	tb.Cleanup(func() { _ = tr.Close() })
	return tr
}

func raw(s obj) json.RawMessage {
	out, _ := json.Marshal(s) // it is made of texts and numbers
	return out
}

const payloadText = `{"trans_id":"435","patient":"payload-secret"}`

func message() *transport.Message {
	return &transport.Message{
		ID: "msg_1", EventID: "0198c0de-0000-7000-8000-000000000001", DeliveryID: "d1", Attempt: 2, Kind: "update",
		TraceParent: "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
		ContentType: "application/json",
		Payload:     []byte(payloadText),
	}
}

// deliver makes one attempt with a deadline that only a hanging broker meets.
func deliver(tb testing.TB, tr *amqp.Transport, m *transport.Message) transport.Receipt {
	tb.Helper()
	return targettest.Within(tr, m, 10*time.Second)
}

// want is targettest.Want, with what no detail may hold here.
func want(t testing.TB, r transport.Receipt, effect transport.Effect, code transport.Code, status int) {
	t.Helper()
	targettest.Want(t, r, effect, code, status, password)
}
