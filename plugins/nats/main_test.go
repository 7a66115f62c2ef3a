//go:build unix

package nats_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	natsgo "github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/nats-io/nkeys"
	"go.uber.org/goleak"

	"github.com/hookline/hookline/plugins"
	"github.com/hookline/hookline/plugins/nats"
	"github.com/hookline/hookline/plugins/target/targettest"
	"github.com/hookline/hookline/plugins/transport"
)

func TestMain(m *testing.M) {
	if len(os.Args) == 2 && os.Args[1] == "plugin" { // the conformance suite's child
		plugins.Serve(nats.New())
		return
	}
	goleak.VerifyTestMain(m, goleak.Cleanup(func(code int) {
		shared.end()
		os.Exit(code)
	}))
}

// What the shared server is set up with.
const (
	user       = "hookline"
	narrow     = "narrow" // may publish below allowed. only, and ask nothing
	deaf       = "deaf"   // may subscribe to nothing
	password   = "correct-horse-battery"
	maxPayload = 1 << 20
)

// server is a NATS of this test's own: a shared one must not be killed.
type server struct {
	*targettest.NATS
	once sync.Once
	dir  string
	seed string // of a user's NKey
	err  error
}

var shared server

// running starts the server for the first test that asks.
func running(tb testing.TB) *server {
	tb.Helper()
	program := targettest.FindNATS(tb)
	shared.once.Do(func() { shared.err = shared.start(program) })
	if shared.err != nil {
		tb.Fatal(shared.err)
	}
	return &shared
}

func (s *server) start(program string) (err error) {
	if s.dir, err = os.MkdirTemp("", "hookline-nats-"); err != nil {
		return err
	}
	pair, err := nkeys.CreateUser()
	if err != nil {
		return err
	}
	public, err := pair.PublicKey()
	if err != nil {
		return err
	}
	seed, err := pair.Seed()
	if err != nil {
		return err
	}
	s.seed = string(seed)
	s.NATS, err = targettest.StartNATS(program, s.dir, fmt.Sprintf(`
max_payload: %d
authorization { users: [
  { user: %q, password: %q }
  { user: %q, password: %q, permissions: { publish: ["allowed.>"], subscribe: ["_INBOX.>"] } }
  { user: %q, password: %q, permissions: { subscribe: { deny: ">" } } }
  { nkey: %s }
] }`, maxPayload, user, password, narrow, password, deaf, password, public))
	return err
}

func (s *server) end() {
	if s.NATS != nil {
		s.Kill()
	}
	if s.dir != "" {
		_ = os.RemoveAll(s.dir)
	}
}

// client is the test's own connection.
func client(tb testing.TB, addr string, options ...natsgo.Option) jetstream.JetStream {
	tb.Helper()
	if len(options) == 0 {
		options = []natsgo.Option{natsgo.UserInfo(user, password)}
	}
	c, err := natsgo.Connect("nats://"+addr, append(options, natsgo.MaxReconnects(-1), natsgo.ReconnectWait(50*time.Millisecond))...)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(c.Close)
	js, err := jetstream.New(c)
	if err != nil {
		tb.Fatal(err)
	}
	return js
}

var streams atomic.Int64

// stream makes a stream that is there until the test's end. It takes a subject of its
// own, and what is below.
func stream(tb testing.TB, js jetstream.JetStream, prefix string, edit func(*jetstream.StreamConfig)) (s jetstream.Stream, subject string) {
	tb.Helper()
	name := fmt.Sprint("S", streams.Add(1))
	subject = prefix + name
	cfg := jetstream.StreamConfig{Name: name, Subjects: []string{subject, subject + ".>"}}
	if edit != nil {
		edit(&cfg)
	}
	s, err := js.CreateStream(tb.Context(), cfg)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		if err := js.DeleteStream(ctx, name); err != nil && !errors.Is(err, jetstream.ErrStreamNotFound) {
			tb.Error(err)
		}
	})
	return s, subject
}

// stored are the messages that the stream has.
func stored(tb testing.TB, s jetstream.Stream) (out []*jetstream.RawStreamMsg) {
	tb.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	info, err := s.Info(ctx)
	if err != nil {
		tb.Error(err)
		return nil
	}
	for seq := info.State.FirstSeq; seq <= info.State.LastSeq && info.State.Msgs > 0; seq++ {
		m, err := s.GetMsg(ctx, seq)
		if err != nil {
			tb.Error(err)
			return out
		}
		out = append(out, m)
	}
	return out
}

type obj = map[string]any

func settings(addr, subject string, more obj) obj {
	out := obj{"servers": []string{addr}, "subject": subject, "username": user, "password": password}
	for k, v := range more {
		if v == nil {
			delete(out, k)
			continue
		}
		out[k] = v
	}
	return out
}

// configured returns a transport with the settings, closed at the test's end.
func configured(tb testing.TB, s obj) *nats.Transport {
	tb.Helper()
	tr := nats.New(nats.WithVersion("1.2.3"))
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

var ids atomic.Int64

// message has an id of its own: a stream knows those that it has seen.
func message() *transport.Message {
	return &transport.Message{
		ID: fmt.Sprint("msg_", ids.Add(1)), EventID: "0198c0de-0000-7000-8000-000000000001", DeliveryID: "d1", Attempt: 2, Kind: "update",
		TraceParent: "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
		ContentType: "application/json",
		Payload:     []byte(payloadText),
	}
}

// deliver makes one attempt with a deadline that only a hanging server meets.
func deliver(tb testing.TB, tr *nats.Transport, m *transport.Message) transport.Receipt {
	tb.Helper()
	return targettest.Within(tr, m, 10*time.Second)
}

// want is targettest.Want, with what no detail may hold here.
func want(t testing.TB, r transport.Receipt, effect transport.Effect, code transport.Code, status int) {
	t.Helper()
	targettest.Want(t, r, effect, code, status, password)
}
