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
		server: s, slots: make(chan struct{}, maxStreamCalls), work: make(chan *call), cancels: map[uint64]context.CancelFunc{},
	}
	var together pipeline.Together[pb.StreamResponse]
	if s.batches.Load() {
		together.Join = func(first *pb.StreamResponse, more []*pb.StreamResponse) { first.More = more }
		together.Size = func(end *pb.StreamResponse) int {
			r := end.GetReceipt()
			return len(r.GetBody()) + len(r.GetContentType()) + len(r.GetDetail())
		}
	}
	c.answers = pipeline.NewOutbox(stream.Send, together)
	ctx, cancelAll := context.WithCancel(stream.Context())
	defer c.workers.Wait()
	defer close(c.work)
	defer cancelAll()
	for {
		frame, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		if err := c.take(ctx, frame); err != nil {
			return err
		}
		for _, one := range frame.GetMore() {
			if err := c.take(ctx, one); err != nil {
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
	cancels map[uint64]context.CancelFunc
}

// call is one of them.
type call struct {
	id     uint64
	req    *pb.DeliverRequest
	ctx    context.Context
	cancel context.CancelFunc
}

// take begins a call, or cancels one.
func (c *calls) take(ctx context.Context, frame *pb.StreamRequest) error {
	id, req := frame.GetCall(), frame.GetDeliver()
	if req == nil {
		c.mu.Lock()
		defer c.mu.Unlock()
		if cancel := c.cancels[id]; cancel != nil {
			cancel()
		}
		return nil
	}
	select {
	case c.slots <- struct{}{}:
	case <-ctx.Done(): // the stream has ended, and those that hold the slots may not know
		return context.Cause(ctx)
	}
	one := &call{id: id, req: req}
	one.ctx, one.cancel = within(ctx, req.GetTimeout())
	c.mu.Lock()
	c.cancels[id] = one.cancel
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
	if r, err := c.deliver(one.ctx, one.req); err == nil {
		out.Receipt = r
	}
	c.mu.Lock()
	delete(c.cancels, one.id)
	c.mu.Unlock()
	one.cancel()
	<-c.slots
	c.answers.Send(out)
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
