package http1

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"time"
)

// Server serves HTTP/1. Its fields must be set before the first Serve.
type Server struct {
	// Handler answers a request. Neither may be used when it has returned.
	Handler func(w *Response, r *http.Request)

	HeaderTimeout time.Duration // for a request's head, and the TLS handshake
	IdleTimeout   time.Duration // between two requests; it may end a sixteenth early
	WriteTimeout  time.Duration // for an answer, from the moment it is known; ditto
	MaxHeader     int           // bytes of a request's head, about
	Log           *slog.Logger  // what is wrong with connections, at debug

	mu      sync.Mutex
	conns   map[*conn]struct{}
	closing atomic.Bool
}

// Serve answers on l until accepting fails, which is how it ends: the error is never
// nil.
func (s *Server) Serve(l net.Listener) error {
	var pause time.Duration
	for {
		rw, err := l.Accept()
		if err == nil {
			pause = 0
			s.begin(rw)
			continue
		}
		// Out of file descriptors, most of the time: it passes.
		var temporary interface{ Temporary() bool }
		if !errors.As(err, &temporary) || !temporary.Temporary() {
			return err
		}
		pause = min(max(2*pause, 5*time.Millisecond), time.Second)
		s.Log.Warn("a connection could not be accepted", "error", err, "again_in", pause)
		time.Sleep(pause)
	}
}

func (s *Server) begin(rw net.Conn) {
	c := newConn(s, rw)
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closing.Load() { // it was accepted just before: Shutdown and Close may have been through
		_ = c.raw.Close()
		return
	}
	if s.conns == nil {
		s.conns = map[*conn]struct{}{}
	}
	s.conns[c] = struct{}{}
	go c.serve()
}

func (s *Server) ended(c *conn) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.conns, c)
}

// Open is how many connections there are.
func (s *Server) Open() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.conns)
}

// lookAgain is how soon Shutdown looks again for connections that are left.
const lookAgain = 5 * time.Millisecond

// Shutdown closes the connections that wait for a request, has each of the others
// closed with its answer, and returns when none is left, or with ctx's error when
// that ends. The listeners are for the caller to close, before.
func (s *Server) Shutdown(ctx context.Context) error {
	s.closing.Store(true)
	tick := time.NewTicker(lookAgain)
	defer tick.Stop()
	for s.closeIdle() > 0 {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return nil
}

// closeIdle closes the connections without a request and counts those that are left.
func (s *Server) closeIdle() (left int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for c := range s.conns {
		if c.busy.CompareAndSwap(connIdle, connClosed) {
			_ = c.raw.Close()
		}
	}
	return len(s.conns)
}

// Close closes all connections at once, whatever is under way on them.
func (s *Server) Close() {
	s.closing.Store(true)
	s.mu.Lock()
	defer s.mu.Unlock()
	for c := range s.conns {
		_ = c.raw.Close()
	}
}
