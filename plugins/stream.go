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
	var (
		sending sync.Mutex // a stream takes one sender at a time
		calls   sync.WaitGroup
		slots   = make(chan struct{}, maxStreamCalls)
		mu      sync.Mutex
		cancels = map[uint64]context.CancelFunc{}
	)
	ctx, cancelAll := context.WithCancel(stream.Context())
	defer calls.Wait()
	defer cancelAll()
	for {
		frame, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		id := frame.GetCall()
		req := frame.GetDeliver()
		if req == nil {
			mu.Lock()
			if cancel := cancels[id]; cancel != nil {
				cancel()
			}
			mu.Unlock()
			continue
		}
		select {
		case slots <- struct{}{}:
		case <-ctx.Done(): // the stream has ended, and those that hold the slots may not know
			return context.Cause(ctx)
		}
		call, cancel := within(ctx, req.GetTimeout())
		mu.Lock()
		cancels[id] = cancel
		mu.Unlock()
		calls.Go(func() {
			out := &pb.StreamResponse{Call: id}
			if r, err := s.deliver(call, req); err == nil {
				out.Receipt = r
			}
			mu.Lock()
			delete(cancels, id)
			mu.Unlock()
			cancel()
			<-slots
			sending.Lock()
			defer sending.Unlock()
			_ = stream.Send(out) // if it fails the stream has ended, which the host sees
		})
	}
}

// stream is the host's side: calls in flight on one stream.
type stream struct {
	*pipeline.Pipeline[pb.StreamRequest, pb.StreamResponse]
}

func openStream(client pb.TransportServiceClient) (*stream, error) {
	p, err := pipeline.Open(client.Stream, (*pb.StreamResponse).GetCall, nil)
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
