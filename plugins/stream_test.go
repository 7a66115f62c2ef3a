package plugins_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"

	"github.com/hookline/hookline/plugins"
	"github.com/hookline/hookline/plugins/transport"
	pb "github.com/hookline/hookline/plugins/transportpb"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// target is a transport under the test's control.
type target struct {
	deliver func(ctx context.Context, m *transport.Message) transport.Receipt
}

func (t *target) Describe() transport.Description {
	return transport.Description{Name: "target", Version: "1", Idempotent: true, Settings: json.RawMessage(`{}`)}
}

func (t *target) Configure(context.Context, json.RawMessage) error {
	return errors.Join(&transport.SettingError{Field: "a", Rule: "b"}, fmt.Errorf("wrapped: %w", &transport.SettingError{Field: "c", Rule: "d"}), errors.New("e"))
}

func (t *target) Deliver(ctx context.Context, m *transport.Message) transport.Receipt {
	return t.deliver(ctx, m)
}

func (t *target) Check(ctx context.Context) transport.Receipt {
	<-ctx.Done()
	return transport.Failed(transport.None, transport.Timeout, "")
}

// dial serves the transport over a real socket, without a process between.
func dial(t *testing.T, impl transport.Transport) (*plugins.Client, *grpc.Server, *grpc.ClientConn) {
	t.Helper()
	l, err := net.Listen("unix", filepath.Join(t.TempDir(), "s"))
	if err != nil {
		t.Fatal(err)
	}
	server := grpc.NewServer(plugins.ServerOptions()...)
	if err := (&plugins.TransportPlugin{Impl: impl}).GRPCServer(nil, server); err != nil {
		t.Fatal(err)
	}
	var serving sync.WaitGroup
	serving.Go(func() { _ = server.Serve(l) })
	conn, err := grpc.NewClient("unix:"+l.Addr().String(), grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = conn.Close()
		server.Stop()
		serving.Wait()
	})
	return plugins.NewClient(conn), server, conn
}

// bothWays runs a test over unary calls and over a stream: the core must not see
// the difference.
func bothWays(t *testing.T, impl transport.Transport, test func(t *testing.T, c *plugins.Client)) {
	for _, streams := range []bool{false, true} {
		t.Run(fmt.Sprintf("stream=%t", streams), func(t *testing.T) {
			c, _, _ := dial(t, impl)
			if streams {
				if err := c.Open(); err != nil {
					t.Fatal(err)
				}
			}
			test(t, c)
		})
	}
}

func TestManyCallsAtOnce(t *testing.T) {
	impl := &target{deliver: func(_ context.Context, m *transport.Message) transport.Receipt {
		if m.Attempt%7 == 0 {
			panic("every seventh")
		}
		return transport.Receipt{Effect: transport.Done, Code: transport.Delivered, Body: m.Payload, TargetStatus: m.Attempt}
	}}
	bothWays(t, impl, func(t *testing.T, c *plugins.Client) {
		var calls sync.WaitGroup
		for i := 1; i <= 500; i++ {
			calls.Go(func() {
				payload := fmt.Sprint("message ", i)
				r, err := c.Deliver(t.Context(), &transport.Message{Attempt: i, Payload: []byte(payload)}, 10*time.Second, 0)
				switch {
				case i%7 == 0 && status.Code(err) != codes.Internal:
					t.Errorf("call %d: a panic gave %+v, %v", i, r, err)
				case i%7 != 0 && (err != nil || string(r.Body) != payload || r.TargetStatus != i):
					t.Errorf("call %d: got %+v, %v", i, r, err)
				}
			})
		}
		calls.Wait()
	})
}

func TestDeadlines(t *testing.T) {
	impl := &target{deliver: func(ctx context.Context, m *transport.Message) transport.Receipt {
		<-ctx.Done()
		if m.Key == "late" { // tells what it knows a little after the deadline
			return transport.Failed(transport.None, transport.Timeout, "not written")
		}
		<-t.Context().Done() // ignores its deadline
		return transport.Receipt{}
	}}
	bothWays(t, impl, func(t *testing.T, c *plugins.Client) {
		r, err := c.Deliver(t.Context(), &transport.Message{Key: "late"}, 50*time.Millisecond, time.Second)
		if err != nil || r.Effect != transport.None || r.Detail != "not written" {
			t.Errorf("within the grace: %+v, %v", r, err)
		}
		took := time.Hour
		for range 5 { // what ignores a deadline is late each time, a busy machine is not
			start := time.Now()
			if _, err = c.Deliver(t.Context(), &transport.Message{}, 50*time.Millisecond, 30*time.Millisecond); status.Code(err) != codes.DeadlineExceeded {
				t.Error(err)
			}
			took = min(took, time.Since(start))
		}
		if took > 130*time.Millisecond {
			t.Errorf("at best after %v", took)
		}
		if _, err := c.Check(t.Context(), 10*time.Millisecond, time.Second); err != nil {
			t.Error(err)
		}
	})
}

// All calls in flight end at once with the stream, and none begins after it.
func TestStreamEnds(t *testing.T) {
	entered := make(chan struct{}, 8)
	release := make(chan struct{})
	c, server, _ := dial(t, &target{deliver: func(context.Context, *transport.Message) transport.Receipt {
		entered <- struct{}{}
		<-release
		return transport.Receipt{}
	}})
	if err := c.Open(); err != nil {
		t.Fatal(err)
	}
	errs := make(chan error, 8)
	for range 8 {
		go func() {
			_, err := c.Deliver(context.Background(), &transport.Message{}, time.Minute, 0)
			errs <- err
		}()
	}
	for range 8 {
		<-entered
	}
	stopped := make(chan struct{})
	go func() { server.Stop(); close(stopped) }()
	for range 8 {
		if err := <-errs; status.Code(err) != codes.Unavailable {
			t.Errorf("got %v", err)
		}
	}
	if _, err := c.Deliver(t.Context(), &transport.Message{}, time.Minute, 0); status.Code(err) != codes.Unavailable {
		t.Errorf("after the end: %v", err)
	}
	close(release)
	<-stopped
}

// A number that is another call's ends the stream, and every call with it: the first of
// the two would have no deadline and no end.
func TestNumberOfAnotherCall(t *testing.T) {
	ends := make(chan error, 2)
	_, _, conn := dial(t, &target{deliver: func(ctx context.Context, _ *transport.Message) transport.Receipt {
		select {
		case <-ctx.Done():
			ends <- ctx.Err()
		case <-time.After(20 * time.Second):
			ends <- errors.New("it has no end")
		}
		return transport.Receipt{}
	}})
	stream, err := pb.NewTransportServiceClient(conn).Stream(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	one := &pb.StreamRequest{Call: 1, Frame: &pb.StreamRequest_Deliver{Deliver: &pb.DeliverRequest{}}}
	if err := errors.Join(stream.Send(one), stream.Send(one), stream.CloseSend()); err != nil {
		t.Fatal(err)
	}
	for err == nil {
		_, err = stream.Recv()
	}
	if status.Code(err) != codes.InvalidArgument {
		t.Error(err)
	}
	if end := <-ends; !errors.Is(end, context.Canceled) {
		t.Error(end)
	}
}

// A plugin that does not read its stream makes no call wait beyond its deadline.
func TestStreamThatIsNotRead(t *testing.T) {
	l, err := net.Listen("unix", filepath.Join(t.TempDir(), "s"))
	if err != nil {
		t.Fatal(err)
	}
	server := grpc.NewServer(grpc.UnknownServiceHandler(func(_ any, s grpc.ServerStream) error {
		<-s.Context().Done()
		return s.Context().Err()
	}))
	var serving sync.WaitGroup
	serving.Go(func() { _ = server.Serve(l) })
	conn, err := grpc.NewClient("unix:"+l.Addr().String(), grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		_ = conn.Close()
		server.Stop()
		serving.Wait()
	}()
	c := plugins.NewClient(conn)
	if err := c.Open(); err != nil {
		t.Fatal(err)
	}
	none := 0
	var mu sync.Mutex
	var calls sync.WaitGroup
	start := time.Now()
	for range 200 {
		calls.Go(func() {
			r, err := c.Deliver(t.Context(), &transport.Message{Payload: make([]byte, 100<<10)}, 200*time.Millisecond, 30*time.Millisecond)
			mu.Lock()
			defer mu.Unlock()
			switch {
			case err == nil && r.Effect == transport.None && r.Code == transport.Timeout:
				none++ // it was surely never sent
			case status.Code(err) != codes.DeadlineExceeded:
				t.Errorf("got %+v, %v", r, err)
			}
		})
	}
	calls.Wait()
	if took := time.Since(start); took > 2*time.Second {
		t.Errorf("took %v", took)
	}
	if none == 0 {
		t.Error("no call was known not to have been sent")
	}
}

func TestSettingErrorsCross(t *testing.T) {
	c, _, _ := dial(t, &target{})
	errs := plugins.SettingErrors(c.Configure(t.Context(), nil))
	if len(errs) != 3 || *errs[0] != (transport.SettingError{Field: "a", Rule: "b"}) || errs[1].Field != "c" || errs[2].Rule != "e" {
		t.Errorf("got %v", errs)
	}
	about, streams, err := c.Describe(t.Context())
	if err != nil || !streams || about.Name != "target" || !about.Idempotent {
		t.Errorf("%+v %t %v", about, streams, err)
	}
}

// Answers travel together only to a host that says that it takes them so.
func TestAnswersTravelTogether(t *testing.T) {
	const calls = 32
	for _, takes := range []bool{true, false} {
		together := make(chan struct{})
		_, _, conn := dial(t, &target{deliver: func(context.Context, *transport.Message) transport.Receipt {
			<-together // all end at once
			return transport.Receipt{Effect: transport.Done, Code: transport.Delivered}
		}})
		rpc := pb.NewTransportServiceClient(conn)
		about, err := rpc.Describe(t.Context(), &pb.DescribeRequest{Batches: takes})
		if err != nil || !about.GetBatches() {
			t.Fatalf("%v, %v", about, err)
		}
		stream, err := rpc.Stream(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		first := &pb.StreamRequest{Call: 1, Frame: &pb.StreamRequest_Deliver{Deliver: &pb.DeliverRequest{}}}
		for call := uint64(2); call <= calls; call++ {
			first.More = append(first.More, &pb.StreamRequest{Call: call, Frame: &pb.StreamRequest_Deliver{Deliver: &pb.DeliverRequest{}}})
		}
		if err := stream.Send(first); err != nil {
			t.Fatal(err)
		}
		close(together)
		answered := map[uint64]bool{}
		for len(answered) < calls {
			out, err := stream.Recv()
			if err != nil {
				t.Fatal(err)
			}
			if !takes && len(out.GetMore()) > 0 {
				t.Error("answers travel together to a host that does not take them so")
			}
			for _, one := range append([]*pb.StreamResponse{out}, out.GetMore()...) {
				if answered[one.GetCall()] || one.GetReceipt().GetEffect() != pb.Effect_EFFECT_DONE {
					t.Errorf("call %d: %v", one.GetCall(), one.GetReceipt())
				}
				answered[one.GetCall()] = true
			}
		}
		if err := stream.CloseSend(); err != nil {
			t.Error(err)
		}
	}
}
