//go:build unix

package mqtt_test

import (
	"context"
	"encoding/json"
	"fmt"
	"net"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/eclipse/paho.golang/paho"
	"go.uber.org/goleak"

	"github.com/hookline/hookline/plugins"
	"github.com/hookline/hookline/plugins/mqtt"
	"github.com/hookline/hookline/plugins/target/targettest"
	"github.com/hookline/hookline/plugins/transport"
)

func TestMain(m *testing.M) {
	if len(os.Args) == 2 && os.Args[1] == "plugin" { // the conformance suite's child
		plugins.Serve(mqtt.New())
		return
	}
	goleak.VerifyTestMain(m)
}

// What the brokers are set up with.
const (
	user       = "hookline" // may publish under t/
	observer   = "observer" // may do all
	password   = "correct-horse-battery"
	maxMessage = 2 << 20
	acl        = "user " + user + "\ntopic write t/#\nuser " + observer + "\ntopic readwrite #\n"
)

// broker starts one of the test's own: a shared one must not be killed.
func broker(tb testing.TB, conf string) *targettest.Mosquitto {
	tb.Helper()
	program := targettest.FindMosquitto(tb)
	b, err := targettest.StartMosquitto(program, tb.TempDir(), password, acl, conf, user, observer)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(b.Kill)
	return b
}

var sizeLimit = fmt.Sprintf("message_size_limit %d\n", maxMessage)

var topics atomic.Int64

// newTopic is one that no other test publishes to.
func newTopic() string { return fmt.Sprintf("t/%d", topics.Add(1)) }

// listener is a subscriber, by Paho's own client: not by the code that it judges.
type listener struct {
	tb     testing.TB
	addr   string
	filter string

	client *paho.Client
	mu     sync.Mutex
	got    []*paho.Publish
	came   chan struct{} // has room for one
}

// listen subscribes until the test's end. A subscriber of QoS 0 owes the broker
// nothing, so a killed broker has nothing to send again.
func listen(tb testing.TB, addr, filter string) *listener {
	tb.Helper()
	l := &listener{tb: tb, addr: addr, filter: filter, came: make(chan struct{}, 1)}
	tb.Cleanup(func() {
		if l.client != nil {
			_ = l.client.Disconnect(&paho.Disconnect{})
			<-l.client.Done()
		}
	})
	l.subscribe()
	return l
}

// subscribe connects, again once the broker was killed.
func (l *listener) subscribe() {
	l.tb.Helper()
	if l.client != nil {
		<-l.client.Done() // and all that the last connection brought is there
	}
	conn, err := net.Dial("tcp", l.addr)
	if err != nil {
		l.tb.Fatal(err)
	}
	l.client = paho.NewClient(paho.ClientConfig{Conn: conn, OnPublishReceived: []func(paho.PublishReceived) (bool, error){
		func(r paho.PublishReceived) (bool, error) {
			l.mu.Lock()
			l.got = append(l.got, r.Packet)
			l.mu.Unlock()
			select {
			case l.came <- struct{}{}:
			default:
			}
			return true, nil
		},
	}})
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	if _, err := l.client.Connect(ctx, &paho.Connect{CleanStart: true, Username: observer, UsernameFlag: true, Password: []byte(password), PasswordFlag: true}); err != nil {
		l.tb.Fatal(err)
	}
	if _, err := l.client.Subscribe(ctx, &paho.Subscribe{Subscriptions: []paho.SubscribeOptions{{Topic: l.filter}}}); err != nil {
		l.tb.Fatal(err)
	}
}

// messages are all that the broker took until now: a mark that is sent after them
// comes after them.
func (l *listener) messages() []*paho.Publish {
	l.tb.Helper()
	mark := strings.Replace(l.filter, "#", "mark", 1)
	id := fmt.Sprint("mark ", topics.Add(1))
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	if _, err := l.client.Publish(ctx, &paho.Publish{QoS: 1, Topic: mark, Payload: []byte(id)}); err != nil {
		l.tb.Fatal(err)
	}
	for {
		l.mu.Lock()
		var out []*paho.Publish
		found := false
		for _, p := range l.got {
			switch {
			case string(p.Payload) == id:
				found = true
			case !strings.HasPrefix(string(p.Payload), "mark "):
				out = append(out, p)
			}
		}
		l.mu.Unlock()
		if found {
			return out
		}
		select {
		case <-l.came:
		case <-ctx.Done():
			l.tb.Fatal("the mark did not come back")
		}
	}
}

type obj = map[string]any

// settings for the broker, with the password and a topic, and more.
func settings(addr string, more obj) obj {
	out := obj{"address": addr, "username": user, "password": password, "topic": "t/x"}
	for k, v := range more {
		out[k] = v
	}
	return out
}

// configured returns a transport with the settings, closed at the test's end.
func configured(tb testing.TB, s obj) *mqtt.Transport {
	tb.Helper()
	tr := mqtt.New(mqtt.WithVersion("1.2.3"))
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
func deliver(tr *mqtt.Transport, m *transport.Message) transport.Receipt {
	return targettest.Within(tr, m, 20*time.Second)
}

// want is targettest.Want, with what no detail may hold here.
func want(t testing.TB, r transport.Receipt, effect transport.Effect, code transport.Code, status int) {
	t.Helper()
	targettest.Want(t, r, effect, code, status, password)
}
