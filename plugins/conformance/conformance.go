// Package conformance is the suite that every transport must pass. It runs the
// same checks three ways: on the Go value, over gRPC in one process, and on a real
// child process, because each adds ways to be wrong.
package conformance

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"

	"github.com/hookline/hookline/plugins"
	"github.com/hookline/hookline/plugins/host"
	"github.com/hookline/hookline/plugins/transport"
)

// State is what a target does.
type State string

// The states a target can be put into.
const (
	Up        State = "up"        // takes messages
	Down      State = "down"      // cannot be reached
	Slow      State = "slow"      // takes a message and does not answer
	Rejecting State = "rejecting" // answers that it does not want the message
)

// Target is the system that the transport under test delivers to.
type Target interface {
	// Settings reach the target. They hold the subject's secret, if it has one.
	Settings() json.RawMessage
	// Set puts the target into a state of Subject.States. It starts Up.
	Set(State)
	// Received are the payloads that the target took, in order.
	Received() [][]byte
}

// Subject is the transport under test.
type Subject struct {
	// New makes the transport; nil if it is not written in Go.
	New func() transport.Transport
	// Command runs it as a plugin; nil to leave that way out.
	Command []string
	// Target makes a new target for one check, and cleans up by tb.Cleanup.
	Target func(tb testing.TB) Target
	// States that the target can be put into, beside Up.
	States []State
	// Secret is a value in the settings that must never be told.
	Secret string
	// Bad are settings that must be refused.
	Bad []BadSettings
}

// BadSettings are settings that a transport must refuse.
type BadSettings struct {
	Name     string
	Settings json.RawMessage
	Field    string // that the error must name; "" for the whole
	Hidden   string // a value in them that the error must not hold
}

// Test runs the suite.
func Test(t *testing.T, s Subject) {
	ran := false
	for _, way := range ways {
		if !way.possible(s) {
			continue
		}
		ran = true
		t.Run(way.name, func(t *testing.T) {
			for _, c := range checks {
				if c.needs != "" && !contains(s.States, c.needs) || c.value && way.name != "value" {
					continue
				}
				t.Run(c.name, func(t *testing.T) { c.run(t, bench{s, way}) })
			}
		})
	}
	if !ran {
		t.Fatal("the subject has neither New nor Command: there is nothing to test")
	}
}

func contains(list []State, s State) bool {
	for _, one := range list {
		if one == s {
			return true
		}
	}
	return false
}

// bench is a subject, tested one way.
type bench struct {
	Subject
	way way
}

// instance is a configured transport, however it runs.
type instance interface {
	Description() transport.Description
	Deliver(ctx context.Context, m *transport.Message) transport.Receipt
	Check(ctx context.Context) transport.Receipt
}

// way is one way to run a transport.
type way struct {
	name     string
	possible func(Subject) bool
	// start configures the transport. stop is never nil.
	start func(tb testing.TB, s Subject, settings json.RawMessage, log io.Writer) (i instance, stop func(), err error)
}

var ways = []way{
	{"value", func(s Subject) bool { return s.New != nil }, startValue},
	{"grpc", func(s Subject) bool { return s.New != nil }, startGRPC},
	{"process", func(s Subject) bool { return s.Command != nil }, startProcess},
}

// startTimeout bounds the start of one transport.
const startTimeout = 20 * time.Second

// value is the Go value as it is.
type value struct{ transport.Transport }

func (v value) Description() transport.Description { return v.Describe() }

// patience is how long after ctx's end a call on the Go value may last before it
// is left alone, so that the suite can say what is wrong.
const patience = time.Second

func (v value) Deliver(ctx context.Context, m *transport.Message) transport.Receipt {
	return bounded(ctx, func() transport.Receipt { return v.Transport.Deliver(ctx, m) })
}

func (v value) Check(ctx context.Context) transport.Receipt {
	return bounded(ctx, func() transport.Receipt { return v.Transport.Check(ctx) })
}

func bounded(ctx context.Context, call func() transport.Receipt) transport.Receipt {
	out := make(chan transport.Receipt, 1)
	go func() { out <- call() }()
	select {
	case r := <-out:
		return r
	case <-ctx.Done():
	}
	select {
	case r := <-out:
		return r
	case <-time.After(patience):
		return transport.Failed(transport.Unknown, transport.Timeout, "it did not come back")
	}
}

func startValue(tb testing.TB, s Subject, settings json.RawMessage, _ io.Writer) (instance, func(), error) {
	tb.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), startTimeout)
	defer cancel()
	t := s.New()
	stop := func() { closeTransport(tb, t) }
	settings, err := checked(t.Describe(), settings)
	if err != nil {
		return value{t}, stop, err
	}
	return value{t}, stop, t.Configure(ctx, settings)
}

// checked does what the host does before Configure.
func checked(about transport.Description, settings json.RawMessage) (json.RawMessage, error) {
	settings, _, err := host.ResolveSettings(about.Settings, settings, literally)
	return settings, err
}

func literally(ref string) (string, error) { return ref, nil }

func closeTransport(tb testing.TB, t transport.Transport) {
	tb.Helper()
	if c, ok := t.(io.Closer); ok {
		if err := c.Close(); err != nil {
			tb.Errorf("Close: %v", err)
		}
	}
}

// remote is the transport behind the hop, without a process between.
type remote struct {
	client *plugins.Client
	about  transport.Description
}

func (r remote) Description() transport.Description { return r.about }

// grace is what the host gives a plugin to tell of a timeout.
const grace = 30 * time.Millisecond

func (r remote) Deliver(ctx context.Context, m *transport.Message) transport.Receipt {
	deadline, _ := ctx.Deadline()
	return orBroken(r.client.Deliver(ctx, m, time.Until(deadline), grace))
}

func (r remote) Check(ctx context.Context) transport.Receipt {
	deadline, _ := ctx.Deadline()
	return orBroken(r.client.Check(ctx, time.Until(deadline), grace))
}

// orBroken says of an error what the host says of it.
func orBroken(r transport.Receipt, err error) transport.Receipt {
	if status.Code(err) == codes.DeadlineExceeded {
		return transport.Failed(transport.Unknown, transport.Timeout, "the plugin did not answer by the deadline")
	}
	if err != nil {
		return transport.Failed(transport.Unknown, transport.PluginProtocol, err.Error())
	}
	return r
}

func startGRPC(tb testing.TB, s Subject, settings json.RawMessage, _ io.Writer) (instance, func(), error) {
	tb.Helper()
	dir, err := os.MkdirTemp("", "conformance-") // short: a socket's path is limited
	if err != nil {
		tb.Fatal(err)
	}
	l, err := net.Listen("unix", filepath.Join(dir, "s"))
	if err != nil {
		tb.Fatal(err)
	}
	t := s.New()
	server := grpc.NewServer(plugins.ServerOptions()...)
	if err := (&plugins.TransportPlugin{Impl: t}).GRPCServer(nil, server); err != nil {
		tb.Fatal(err)
	}
	var serving sync.WaitGroup
	serving.Go(func() { _ = server.Serve(l) })
	conn, err := grpc.NewClient("unix:"+l.Addr().String(),
		append(host.DialOptions(), grpc.WithTransportCredentials(insecure.NewCredentials()))...)
	if err != nil {
		tb.Fatal(err)
	}
	stop := func() {
		_ = conn.Close()
		server.Stop()
		serving.Wait()
		closeTransport(tb, t)
		_ = os.RemoveAll(dir)
	}
	ctx, cancel := context.WithTimeout(context.Background(), startTimeout)
	defer cancel()
	r := remote{client: plugins.NewClient(conn)}
	var streams bool
	if r.about, streams, err = r.client.Describe(ctx); err != nil {
		return r, stop, err
	}
	if settings, err = checked(r.about, settings); err != nil {
		return r, stop, err
	}
	if err := r.client.Configure(ctx, settings); err != nil {
		return r, stop, err
	}
	if streams {
		err = r.client.Open()
	}
	return r, stop, err
}

func startProcess(tb testing.TB, s Subject, settings json.RawMessage, log io.Writer) (instance, func(), error) {
	tb.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), startTimeout)
	defer cancel()
	t, err := host.StartTransport(ctx, host.TransportSpec{
		Name: "under-test", Command: s.Command, Settings: settings,
		Resolve: literally,
		Log:     slog.New(slog.NewTextHandler(log, &slog.HandlerOptions{Level: slog.LevelDebug})),
	})
	if err != nil {
		return nil, func() {}, err
	}
	return t, t.Stop, nil
}

// output collects what a child says.
type output struct {
	mu  sync.Mutex
	buf []byte
}

func (o *output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.buf = append(o.buf, p...)
	return len(p), nil
}

func (o *output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return string(o.buf)
}

var errNotRefused = errors.New("was accepted")
