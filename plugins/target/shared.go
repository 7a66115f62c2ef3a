package target

import (
	"context"
	"net"
	"sync"
	"time"
)

// Shared is one connection that many attempts use at once. It is made when one of
// them needs it, once for all that wait, and again when it has ended. Its fields are
// set before the first call.
type Shared[C any] struct {
	Dial   func(ctx context.Context) (C, error) // ctx ends after Within, and with Close
	Within time.Duration                        // of one Dial
	Alive  func(C) bool                         // it must not block
	End    func(C)                              // releases a connection that is not alive or not needed any more

	mu      sync.Mutex
	current C
	made    bool     // current is one
	dialing *dial[C] // under way, or nil
	closed  bool
	work    sync.WaitGroup
}

type dial[C any] struct {
	done   chan struct{} // closed once conn and err are set
	cancel context.CancelFunc
	conn   C
	err    error
}

// Get is the connection, or why there is none: Dial's error, that of ctx, or
// net.ErrClosed after Close. [Failure] makes a receipt of them. The caller that waits
// can give up without ending the Dial, which others may wait for.
func (s *Shared[C]) Get(ctx context.Context) (C, error) {
	var none C
	s.mu.Lock()
	if s.closed {
		s.mu.Unlock()
		return none, net.ErrClosed
	}
	if s.made {
		if s.Alive(s.current) {
			defer s.mu.Unlock()
			return s.current, nil
		}
		old := s.current
		s.current, s.made = none, false
		s.work.Go(func() { s.End(old) })
	}
	d := s.dialing
	if d == nil {
		d = s.dial()
	}
	s.mu.Unlock()
	select {
	case <-d.done:
		return d.conn, d.err
	case <-ctx.Done():
		return none, ctx.Err()
	}
}

// dial begins to connect; s.mu is held.
func (s *Shared[C]) dial() *dial[C] {
	ctx, cancel := context.WithTimeout(context.Background(), s.Within)
	d := &dial[C]{done: make(chan struct{}), cancel: cancel}
	s.dialing = d
	s.work.Go(func() {
		defer cancel()
		conn, err := s.Dial(ctx)
		s.mu.Lock()
		defer s.mu.Unlock()
		s.dialing = nil
		d.conn, d.err = conn, err
		switch {
		case err != nil:
		case s.closed:
			s.work.Go(func() { s.End(conn) })
			d.err = net.ErrClosed
		default:
			s.current, s.made = conn, true
		}
		close(d.done)
	})
	return d
}

// Close releases the connection and ends a Dial under way. It returns when both have
// ended.
func (s *Shared[C]) Close() {
	s.mu.Lock()
	s.closed = true
	if s.dialing != nil {
		s.dialing.cancel()
	}
	if s.made {
		old := s.current
		s.made = false
		s.work.Go(func() { s.End(old) })
	}
	s.mu.Unlock()
	s.work.Wait()
}
