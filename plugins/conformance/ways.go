package conformance

import (
	"context"
	"encoding/json"
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
	pb "github.com/hookline/hookline/plugins/transportpb"
)

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
	// connect runs an unconfigured transport behind the bare protocol; nil: the way
	// has none.
	connect func(t *trial) pb.TransportServiceClient
}

var ways = []way{
	{"value", func(s Subject) bool { return s.New != nil }, startValue, nil},
	{"grpc", func(s Subject) bool { return s.New != nil }, startGRPC, connectGRPC},
	{"process", func(s Subject) bool { return s.Command != nil }, startProcess, connectProcess},
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

// serve serves the Go value over gRPC in this process.
func serve(tb testing.TB, t transport.Transport) (conn *grpc.ClientConn, stop func()) {
	tb.Helper()
	dir, err := os.MkdirTemp("", "conformance-") // short: a socket's path is limited
	if err != nil {
		tb.Fatal(err)
	}
	l, err := net.Listen("unix", filepath.Join(dir, "s"))
	if err != nil {
		tb.Fatal(err)
	}
	server := grpc.NewServer(plugins.ServerOptions()...)
	if err := (&plugins.TransportPlugin{Impl: t}).GRPCServer(nil, server); err != nil {
		tb.Fatal(err)
	}
	var serving sync.WaitGroup
	serving.Go(func() { _ = server.Serve(l) })
	conn, err = grpc.NewClient("unix:"+l.Addr().String(),
		append(host.DialOptions(), grpc.WithTransportCredentials(insecure.NewCredentials()))...)
	if err != nil {
		tb.Fatal(err)
	}
	return conn, func() {
		_ = conn.Close()
		server.Stop()
		serving.Wait()
		closeTransport(tb, t)
		_ = os.RemoveAll(dir)
	}
}

func startGRPC(tb testing.TB, s Subject, settings json.RawMessage, _ io.Writer) (instance, func(), error) {
	tb.Helper()
	conn, stop := serve(tb, s.New())
	ctx, cancel := context.WithTimeout(context.Background(), startTimeout)
	defer cancel()
	r := remote{client: plugins.NewClient(conn)}
	about, streams, err := r.client.Describe(ctx)
	if err != nil {
		return r, stop, err
	}
	r.about = about
	if settings, err = checked(about, settings); err != nil {
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

func connectGRPC(t *trial) pb.TransportServiceClient {
	conn, stop := serve(t, t.New())
	t.Cleanup(stop)
	return pb.NewTransportServiceClient(conn)
}

func startProcess(tb testing.TB, s Subject, settings json.RawMessage, log io.Writer) (instance, func(), error) {
	tb.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), startTimeout)
	defer cancel()
	t, err := host.StartTransport(ctx, host.TransportSpec{
		Name: "under-test", Command: s.Command, NoMTLS: s.NoMTLS, Settings: settings,
		Resolve: literally,
		Log:     slog.New(slog.NewTextHandler(log, &slog.HandlerOptions{Level: slog.LevelDebug})),
	})
	if err != nil {
		return nil, func() {}, err
	}
	return t, t.Stop, nil
}

func connectProcess(t *trial) pb.TransportServiceClient {
	return pb.NewTransportServiceClient(observe(t).conn)
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
