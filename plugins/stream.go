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
	rpc    grpc.BidiStreamingClient[pb.StreamRequest, pb.StreamResponse]
	frames chan *pb.StreamRequest // to the one goroutine that sends
	ended  <-chan struct{}        // closed when no frame is taken any more

	mu      sync.Mutex
	last    uint64
	pending map[uint64]chan *pb.StreamResponse
	err     error // why the stream has ended; no call begins after it
}

func openStream(client pb.TransportServiceClient) (*stream, error) {
	ctx, cancel := context.WithCancel(context.Background()) // receive cancels it when the stream ends
	rpc, err := client.Stream(ctx)
	if err != nil {
		cancel()
		return nil, err
	}
	s := &stream{
		rpc: rpc, ended: ctx.Done(),
		frames:  make(chan *pb.StreamRequest, 64),
		pending: map[uint64]chan *pb.StreamResponse{},
	}
	go s.receive(cancel)
	go s.send()
	return s, nil
}

// send is the one sender. It may block on a plugin that does not read, and the
// calls must not (invariant 4).
func (s *stream) send() {
	for {
		select {
		case frame := <-s.frames:
			// An error means that the stream has ended, which receive sees too.
			_ = s.rpc.Send(frame)
		case <-s.ended:
			return
		}
	}
}

// receive hands each answer to its call. When the stream ends all calls in
// flight fail at once.
func (s *stream) receive(cancel context.CancelFunc) {
	defer cancel()
	for {
		out, err := s.rpc.Recv()
		if err != nil {
			if errors.Is(err, io.EOF) {
				err = status.Error(codes.Unavailable, "the plugin ended the stream")
			}
			s.fail(err)
			return
		}
		s.mu.Lock()
		answer := s.pending[out.GetCall()]
		delete(s.pending, out.GetCall())
		s.mu.Unlock()
		if answer != nil { // else it was given up
			answer <- out
		}
	}
}

func (s *stream) fail(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.err = err
	for id, answer := range s.pending {
		close(answer)
		delete(s.pending, id)
	}
}

// begin gives the call a number and a place for its answer, which is closed if
// the stream ends before.
func (s *stream) begin() (id uint64, answer chan *pb.StreamResponse, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.err != nil {
		return 0, nil, s.err
	}
	s.last++
	answer = make(chan *pb.StreamResponse, 1)
	s.pending[s.last] = answer
	return s.last, answer, nil
}

// giveUp forgets the call and tells the plugin so, if it still reads.
func (s *stream) giveUp(id uint64) {
	s.mu.Lock()
	delete(s.pending, id)
	s.mu.Unlock()
	select {
	case s.frames <- &pb.StreamRequest{Call: id, Frame: &pb.StreamRequest_Cancel{Cancel: &pb.Cancel{}}}:
	default:
	}
}

// deliver makes one call and waits for its answer until grace after timeout.
func (s *stream) deliver(req *pb.DeliverRequest, timeout, grace time.Duration) (transport.Receipt, error) {
	id, answer, err := s.begin()
	if err != nil {
		return transport.Receipt{}, err
	}
	timer := time.NewTimer(timeout + grace)
	defer timer.Stop()
	frames := s.frames
	frame := &pb.StreamRequest{Call: id, Frame: &pb.StreamRequest_Deliver{Deliver: req}}
	for {
		select {
		case frames <- frame:
			frames = nil // sent: from now on only the answer counts
		case out, ok := <-answer:
			switch {
			case !ok:
				s.mu.Lock()
				defer s.mu.Unlock()
				return transport.Receipt{}, s.err
			case out.GetReceipt() == nil:
				return transport.Receipt{}, status.Error(codes.Internal, "the plugin failed on the call")
			}
			return fromReceipt(out.GetReceipt()), nil
		case <-timer.C:
			if frames != nil {
				s.giveUp(id)
				return transport.Failed(transport.None, transport.Timeout, "the plugin does not take messages"), nil
			}
			s.giveUp(id)
			return transport.Receipt{}, status.Error(codes.DeadlineExceeded, "no answer on the stream")
		}
	}
}
