// Package pipeline is a bidirectional gRPC stream that carries many calls at once:
// numbered frames go out, and what comes back finds its call. [Pipeline] is the
// caller's side, [Outbox] the way back on the other. Frames that wait for each other
// travel in one message, which costs little more than one of them.
package pipeline

import (
	"context"
	"errors"
	"io"
	"runtime"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// Pipeline is the calls in flight on one stream. Out are the frames to the other
// side, In those that come back.
type Pipeline[Out, In any] struct {
	// Frames takes what is to be sent; nobody takes it once Ended is closed. One
	// goroutine sends, which may block on a side that does not read: a caller
	// selects on its answer too, which comes in time (invariant 4).
	Frames chan<- *Out
	Ended  <-chan struct{}

	rpc  grpc.BidiStreamingClient[Out, In]
	kind Kind[Out, In]

	mu      sync.Mutex
	last    uint64
	pending map[uint64]waiting[In]
	err     error // why the stream has ended; no call begins after it
	alarm   Alarm
}

// waiting is a call without an answer.
type waiting[In any] struct {
	answer chan *In // has a place
	end    time.Time
}

// Kind is what a pipeline needs to know of its frames.
type Kind[Out, In any] struct {
	// Number tells which call a frame is for.
	Number func(*In) uint64
	// Aside, if it is not nil, takes frames that do not end their call. It must not
	// block.
	Aside func(*In) bool
	// Together is how frames go that wait for each other. Zero: the other side takes
	// each by itself only.
	Together Together[Out]
	// More are the frames that have travelled with one.
	More func(*In) []*In
}

// Open opens the stream. It ends with the connection.
func Open[Out, In any](
	open func(context.Context, ...grpc.CallOption) (grpc.BidiStreamingClient[Out, In], error), kind Kind[Out, In],
) (*Pipeline[Out, In], error) {
	ctx, cancel := context.WithCancel(context.Background()) // receive cancels it when the stream ends
	rpc, err := open(ctx)
	if err != nil {
		cancel()
		return nil, err
	}
	frames := make(chan *Out, batchMost)
	p := &Pipeline[Out, In]{
		Frames: frames, Ended: ctx.Done(),
		rpc: rpc, kind: kind,
		pending: map[uint64]waiting[In]{},
	}
	p.alarm.Ring = p.ring
	go p.receive(cancel)
	go p.send(frames)
	return p, nil
}

func (p *Pipeline[Out, In]) send(frames <-chan *Out) {
	for {
		select {
		case frame := <-frames:
			if p.kind.Together.Join != nil {
				p.fill(frame, frames)
			}
			// An error means that the stream has ended, which receive sees too.
			_ = p.rpc.Send(frame)
		case <-p.Ended:
			return
		}
	}
}

// fill puts behind a frame those that are on their way to it: a busy host has callers
// that are about to send, and as long as more come it is worth to let others run.
func (p *Pipeline[Out, In]) fill(first *Out, frames <-chan *Out) {
	var more []*Out
	room := batchBytes - p.kind.Together.Size(first)
	for came := true; came; {
		runtime.Gosched()
		came = false
		for room > 0 && len(more) < batchMost {
			select {
			case frame := <-frames:
				more = append(more, frame)
				room -= p.kind.Together.Size(frame)
				came = true
				continue
			default:
			}
			break
		}
	}
	if more != nil {
		p.kind.Together.Join(first, more)
	}
}

// receive hands each answer to its call. When the stream ends all calls in flight
// fail at once.
func (p *Pipeline[Out, In]) receive(cancel context.CancelFunc) {
	defer cancel()
	for {
		in, err := p.rpc.Recv()
		if err != nil {
			if errors.Is(err, io.EOF) {
				err = status.Error(codes.Unavailable, "the process ended the stream")
			}
			p.fail(err)
			return
		}
		p.hand(in)
		if p.kind.More != nil {
			for _, one := range p.kind.More(in) {
				p.hand(one)
			}
		}
	}
}

// hand gives a frame to its call.
func (p *Pipeline[Out, In]) hand(in *In) {
	if p.kind.Aside != nil && p.kind.Aside(in) {
		return
	}
	id := p.kind.Number(in)
	p.mu.Lock()
	w, ok := p.pending[id]
	delete(p.pending, id)
	p.mu.Unlock()
	if ok { // else it was given up
		w.answer <- in
	}
}

func (p *Pipeline[Out, In]) fail(err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.err = err
	for id, w := range p.pending {
		close(w.answer)
		delete(p.pending, id)
	}
	p.alarm.Stop()
}

// Begin gives a call a number and a place for its answer. Nil is put there if there
// is none by end: the call is given up then, and what comes later is dropped. The
// place is closed if the stream ends before: Err says why.
func (p *Pipeline[Out, In]) Begin(end time.Time) (id uint64, answer <-chan *In, err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.err != nil {
		return 0, nil, p.err
	}
	p.last++
	w := waiting[In]{make(chan *In, 1), end}
	p.pending[p.last] = w
	p.alarm.Set(end)
	return p.last, w.answer, nil
}

// Extend gives a call that has no answer yet another end.
func (p *Pipeline[Out, In]) Extend(id uint64, end time.Time) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if w, ok := p.pending[id]; ok {
		w.end = end
		p.pending[id] = w
		p.alarm.Set(end)
	}
}

// ring gives up the calls that are late.
func (p *Pipeline[Out, In]) ring() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.alarm.Rang()
	now := time.Now()
	for id, w := range p.pending {
		if w.end.After(now) {
			p.alarm.Set(w.end)
			continue
		}
		delete(p.pending, id)
		w.answer <- nil
	}
}

// Err is why the stream has ended, a gRPC status error.
func (p *Pipeline[Out, In]) Err() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.err
}
