package plugins

import (
	"context"
	"errors"
	"io"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/hookline/hookline/plugins/pipeline"
	"github.com/hookline/hookline/plugins/transport"
	pb "github.com/hookline/hookline/plugins/transportpb"
)

// maxStreamCalls bounds the calls that a plugin works on at once: with more, the
// stream is not read, and the host's calls wait in its buffers until their
// deadlines.
const maxStreamCalls = 4096

// Stream serves many Deliver calls over one stream.
func (s *server) Stream(stream grpc.BidiStreamingServer[pb.StreamRequest, pb.StreamResponse]) error {
	c := &calls{
		server: s, slots: make(chan struct{}, maxStreamCalls), work: make(chan *call), pending: map[uint64]*call{},
	}
	c.alarm.Ring = c.ring
	var together pipeline.Together[pb.StreamResponse]
	if s.batches.Load() {
		together.Join = func(first *pb.StreamResponse, more []*pb.StreamResponse) { first.More = more }
		together.Size = func(end *pb.StreamResponse) int {
			r := end.GetReceipt()
			return len(r.GetBody()) + len(r.GetContentType()) + len(r.GetDetail())
		}
	}
	c.answers = pipeline.NewOutbox(stream.Send, together)
	defer c.workers.Wait()
	defer close(c.work)
	defer c.cancelAll()
	for {
		frame, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		if err := c.take(stream.Context(), frame); err != nil {
			return err
		}
		for _, one := range frame.GetMore() {
			if err := c.take(stream.Context(), one); err != nil {
				return err
			}
		}
	}
}

// calls are those of one stream.
type calls struct {
	*server
	answers *pipeline.Outbox[pb.StreamResponse]
	slots   chan struct{}
	workers sync.WaitGroup
	work    chan *call // to a worker that has nothing to do

	mu      sync.Mutex
	pending map[uint64]*call
	alarm   pipeline.Alarm // for their deadlines
}

// take begins a call, or cancels one.
func (c *calls) take(ctx context.Context, frame *pb.StreamRequest) error {
	id, req := frame.GetCall(), frame.GetDeliver()
	if req == nil {
		c.mu.Lock()
		defer c.mu.Unlock()
		if one := c.pending[id]; one != nil {
			one.cancel(context.Canceled)
		}
		return nil
	}
	select {
	case c.slots <- struct{}{}:
	case <-ctx.Done(): // the stream has ended, and those that hold the slots may not know
		return context.Cause(ctx)
	}
	one := &call{Context: ctx, id: id, req: req}
	if t := req.GetTimeout(); t != nil {
		one.end = time.Now().Add(t.AsDuration())
	}
	c.mu.Lock()
	if c.pending[id] != nil {
		c.mu.Unlock()
		return status.Errorf(codes.InvalidArgument, "the number %d is another call's", id) // whose end nobody would see to
	}
	c.pending[id] = one
	if !one.end.IsZero() {
		c.alarm.Set(one.end)
	}
	c.mu.Unlock()
	select {
	case c.work <- one:
	default:
		c.workers.Go(func() {
			// A goroutine that has run once has a stack that is large enough.
			for ok := true; ok; one, ok = <-c.work {
				c.make(one)
			}
		})
	}
	return nil
}

// make makes a call and answers it.
func (c *calls) make(one *call) {
	out := &pb.StreamResponse{Call: one.id}
	if r, err := c.deliver(one, one.req); err == nil {
		out.Receipt = r
	}
	c.mu.Lock()
	delete(c.pending, one.id)
	c.mu.Unlock()
	one.cancel(context.Canceled)
	<-c.slots
	c.answers.Send(out)
}

// ring ends the contexts of calls that are late.
func (c *calls) ring() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.alarm.Rang()
	now := time.Now()
	for _, one := range c.pending {
		switch {
		case one.end.IsZero():
		case one.end.After(now):
			c.alarm.Set(one.end)
		default:
			one.cancel(context.DeadlineExceeded)
		}
	}
}

// cancelAll is the stream's end.
func (c *calls) cancelAll() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.alarm.Stop()
	for _, one := range c.pending {
		one.cancel(context.Canceled)
	}
}

// stream is the host's side: calls in flight on one stream.
type stream struct {
	*pipeline.Pipeline[pb.StreamRequest, pb.StreamResponse]
}

func openStream(client pb.TransportServiceClient, batches bool) (*stream, error) {
	kind := pipeline.Kind[pb.StreamRequest, pb.StreamResponse]{Number: (*pb.StreamResponse).GetCall, More: (*pb.StreamResponse).GetMore}
	if batches {
		kind.Together.Join = func(first *pb.StreamRequest, more []*pb.StreamRequest) { first.More = more }
		kind.Together.Size = func(call *pb.StreamRequest) int {
			req := call.GetDeliver()
			n := len(req.GetPayload()) + len(req.GetKey()) + len(req.GetPath())
			for name, value := range req.GetHeaders() {
				n += len(name) + len(value)
			}
			return n
		}
	}
	p, err := pipeline.Open(client.Stream, kind)
	if err != nil {
		return nil, err
	}
	return &stream{p}, nil
}

// giveUp tells the plugin that nobody waits for the call, if it still reads.
func (s *stream) giveUp(id uint64) {
	select {
	case s.Frames <- &pb.StreamRequest{Call: id, Frame: &pb.StreamRequest_Cancel{Cancel: &pb.Cancel{}}}:
	default:
	}
}

// deliver makes one call and waits for its answer until grace after timeout.
func (s *stream) deliver(req *pb.DeliverRequest, timeout, grace time.Duration) (transport.Receipt, error) {
	id, answer, err := s.Begin(time.Now().Add(timeout + grace))
	if err != nil {
		return transport.Receipt{}, err
	}
	var out *pb.StreamResponse
	var ok, sent bool
	select {
	case s.Frames <- &pb.StreamRequest{Call: id, Frame: &pb.StreamRequest_Deliver{Deliver: req}}:
		sent = true
		out, ok = <-answer
	case out, ok = <-answer:
	}
	switch {
	case !ok:
		return transport.Receipt{}, s.Err()
	case out == nil && !sent:
		return transport.Failed(transport.None, transport.Timeout, "the plugin does not take messages"), nil
	case out == nil:
		s.giveUp(id)
		return transport.Receipt{}, status.Error(codes.DeadlineExceeded, "no answer on the stream")
	case out.GetReceipt() == nil:
		return transport.Receipt{}, status.Error(codes.Internal, "the plugin failed on the call")
	}
	return fromReceipt(out.GetReceipt()), nil
}
