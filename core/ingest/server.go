package ingest

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hookline/hookline/core"
	"github.com/hookline/hookline/core/credential"
	"github.com/hookline/hookline/core/http1"
)

// Dispatcher takes an event through its routes while the caller waits, and keeps
// what the caller was told.
type Dispatcher interface {
	// Dispatch returns by the hook's budget. An error means that the event was not
	// taken: it is core.ErrKeyConflict, or the journal cannot be written.
	Dispatch(a core.Arrival) (core.Result, error)
	Refused(ev *core.Event, code core.Code, key, rule string)
	Answered(ev *core.Event, a core.AnswerRecord)
	// Keeps tells whether an event can be queued when there is no room for it.
	Keeps() bool
}

// Hook is a hook with what its caller must prove.
type Hook struct {
	*core.Hook
	Email     string
	Passwords []string // any of them will do; literal, or a bcrypt hash ($2a$, $2b$, $2y$)
	// Anonymous lets everyone call a hook that has no passwords. With passwords it
	// has no effect: of two settings that contradict, the safe one counts.
	Anonymous bool
}

// Set is what one configuration makes of the endpoint. It is immutable: a reload
// makes another one.
type Set struct {
	Hooks      []Hook
	Dispatcher Dispatcher
}

// Options are what a reload does not change. Zero values mean the defaults.
type Options struct {
	MaxBody       int64         // bytes of a body, 1 MiB
	MaxInFlight   int           // events at a time, 1024
	HeaderTimeout time.Duration // for a request's headers, 10 s
	BodyTimeout   time.Duration // for its body, 30 s
	IdleTimeout   time.Duration // between requests on one connection, 2 min

	// TrustedProxies may say on whose behalf they call (X-Forwarded-For). The peer
	// of a Unix socket counts as 127.0.0.1.
	TrustedProxies []netip.Prefix

	Log *slog.Logger // slog.Default()

	// Ready is asked by /readyz; nil is always ready. Its error is shown to
	// everyone who can connect.
	Ready func() error
	// Calls, if set, hears of what is answered.
	Calls core.Calls
	// Saw, if set, is told of a hook's events, wrong passwords and lost callers. ref
	// is the event's. It must not block.
	Saw func(hook string, what Sight, ref string)
	// Note, if set, is what /readyz says beside "ready", "" for nothing.
	Note func() string
}

const (
	maxHeaderBytes = 32 << 10
	// writeTimeout is for an answer's bytes, from the moment it is known.
	writeTimeout = 30 * time.Second
	// restTimeout is how long a refused body may go on arriving.
	restTimeout = 2 * time.Second
	// linger is how long a drain leaves idle connections open. A connection that is
	// closed while a request is on its way costs its caller an error; one that is
	// used within this time is told to close with its answer.
	linger = 500 * time.Millisecond
)

// Server is the hook endpoint. Its life: New, Use and Serve in any order and any
// number, Drain. It answers 503 until the first Use.
type Server struct {
	opts    Options
	log     *slog.Logger
	http    *http1.Server
	current atomic.Pointer[generation]
	flight  *flight // events under way, on whatever set
	late    *flight // events that came while draining: they are only queued
	// overflow bounds the bodies that are read beyond MaxInFlight to be queued.
	overflow chan struct{}

	draining  atomic.Bool
	ending    chan struct{} // closed when draining begins
	cut       atomic.Bool   // Drain ran out of time and closed connections
	mu        sync.Mutex
	listeners map[net.Listener]struct{}
	callers   map[string]*caller // by hook: what is known for the process's life

	checker *credential.Checker
	watches watches
}

// New returns a server that listens nowhere yet.
func New(o Options) *Server {
	o.MaxBody = cmp.Or(o.MaxBody, 1<<20)
	o.MaxInFlight = cmp.Or(o.MaxInFlight, 1024)
	o.HeaderTimeout = cmp.Or(o.HeaderTimeout, 10*time.Second)
	o.BodyTimeout = cmp.Or(o.BodyTimeout, 30*time.Second)
	o.IdleTimeout = cmp.Or(o.IdleTimeout, 2*time.Minute)
	o.Log = cmp.Or(o.Log, slog.Default())
	s := &Server{
		opts: o, log: o.Log, flight: newFlight(), late: newFlight(),
		overflow:  make(chan struct{}, o.MaxInFlight),
		ending:    make(chan struct{}),
		listeners: map[net.Listener]struct{}{},
		callers:   map[string]*caller{},
		checker:   credential.NewChecker(),
	}
	s.http = &http1.Server{
		Handler:       s.handle,
		HeaderTimeout: o.HeaderTimeout, IdleTimeout: o.IdleTimeout, WriteTimeout: writeTimeout,
		MaxHeader: maxHeaderBytes, Log: o.Log,
	}
	return s
}

// InFlight is how many events are under way.
func (s *Server) InFlight() int {
	n := s.flight.under() + s.late.under()
	return int(n)
}

// generation is a set in use.
type generation struct {
	hooks    map[string]*door
	dispatch Dispatcher
	flight   *flight // requests that look at this set
}

// Use puts set in the place of the one before. Events under way end on the set
// they began on: drained is closed when the one before has none left. A nil set
// takes no events, and its Use drains the last one.
func (s *Server) Use(set *Set) (drained <-chan struct{}) {
	var next *generation
	if set != nil {
		next = &generation{hooks: make(map[string]*door, len(set.Hooks)), dispatch: set.Dispatcher, flight: newFlight()}
		memory := credential.NewMemory()
		for i := range set.Hooks {
			h := &set.Hooks[i]
			next.hooks[h.Name] = newDoor(h, memory, s.caller(h.Name))
		}
	}
	prev := s.current.Swap(next)
	if prev == nil {
		none := make(chan struct{})
		close(none)
		return none
	}
	prev.flight.retire()
	return prev.flight.idle
}

// enter returns the current set, with the request counted, or nil.
func (s *Server) enter() *generation {
	for {
		g := s.current.Load()
		if g == nil || g.flight.enter(unlimited) {
			return g
		}
	}
}

func (s *Server) caller(hook string) *caller {
	s.mu.Lock()
	defer s.mu.Unlock()
	c := s.callers[hook]
	if c == nil {
		c = new(caller)
		s.callers[hook] = c
	}
	return c
}

// Serve answers on l until Drain, which is not an error, and closes l. Any
// number of listeners may be served at once.
func (s *Server) Serve(l net.Listener) error {
	s.mu.Lock()
	if s.draining.Load() {
		s.mu.Unlock()
		return l.Close()
	}
	s.listeners[l] = struct{}{}
	s.mu.Unlock()

	err := s.http.Serve(l)
	s.mu.Lock()
	delete(s.listeners, l)
	s.mu.Unlock()
	if s.draining.Load() {
		return nil
	}
	return fmt.Errorf("listening on %s ended: %w", l.Addr(), err)
}

// Drain stops accepting, lets the events under way end and get their answers,
// and closes the connections. An event that still comes, on a connection that was
// kept alive, is queued; without a journal it is told 503 draining. When ctx ends
// first, what is left is cut off and the error says how much it was. Drain may be
// called again.
func (s *Server) Drain(ctx context.Context) error {
	s.mu.Lock()
	if !s.draining.Swap(true) {
		close(s.ending)
	}
	for l := range s.listeners {
		l.Close() // Serve returns, and says so if it should not have
	}
	s.mu.Unlock()
	s.flight.retire()

	// Shutdown drops requests that arrive on idle connections, so it comes last.
	select {
	case <-s.flight.idle:
	case <-ctx.Done():
	}
	s.linger(ctx)
	if err := s.http.Shutdown(ctx); err == nil {
		s.late.retire()
		<-s.late.idle // no connection is left that could bring one more
		return nil
	}
	s.cut.Store(true)
	s.http.Close()
	if n := s.flight.count(); n > 0 {
		return fmt.Errorf("%d events were still under way when the time to drain was over: their callers got no answer (server.drain_timeout)", n)
	}
	return errors.New("connections were still open when the time to drain was over, with no event under way (server.drain_timeout)")
}

// linger waits until no connection is open, for a short time.
func (s *Server) linger(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, linger)
	defer cancel()
	look := time.NewTicker(5 * time.Millisecond)
	defer look.Stop()
	for s.http.Open() > 0 {
		select {
		case <-look.C:
		case <-ctx.Done():
			return
		}
	}
}
