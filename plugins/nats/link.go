package nats

import (
	"context"
	"crypto/tls"
	"errors"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	natsgo "github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/hookline/hookline/plugins/target"
)

const (
	// pingInterval is how often an idle connection is looked after; one that does not
	// answer two pings counts as broken.
	pingInterval = 10 * time.Second
	// writeWait is how long a server may take no bytes.
	writeWait = 10 * time.Second
	// deafFor is how long a connection is kept on which no answer can be heard: an
	// operator may have mended it meanwhile.
	deafFor = time.Minute
	// closeWait is how long an orderly end of a connection may take.
	closeWait = time.Second
)

// link is a connection. It is not made again by itself: nats.go would keep messages
// for later, of which their attempts had been told that they were lost.
type link struct {
	conn *natsgo.Conn
	js   jetstream.JetStream
	raw  *socket
	addr string
	deaf chan struct{} // closed if the user may not subscribe to the inbox: no answer comes

	mu      sync.Mutex
	expires time.Time          // once it is deaf
	waiting map[string]*denial // by subject
	work    sync.WaitGroup
}

// denial is what those wait for that have sent something to the same subject.
type denial struct {
	waiting int
	told    chan struct{} // closed once the server takes nothing there from this user
}

// socket knows when it has ended, without a lock.
type socket struct {
	net.Conn
	ended atomic.Bool
}

func (s *socket) Read(b []byte) (int, error) {
	n, err := s.Conn.Read(b)
	if err != nil && !target.IsTimeout(err) {
		s.ended.Store(true)
	}
	return n, err
}

func (s *socket) Close() error {
	s.ended.Store(true)
	return s.Conn.Close()
}

// connectError is a server that was not connected to.
type connectError struct {
	addr string
	err  error
}

func (e *connectError) Error() string { return e.addr + ": " + e.err.Error() }
func (e *connectError) Unwrap() error { return e.err }

// within is how long connect may take.
func (c *cluster) within() time.Duration {
	return time.Duration(len(c.servers)) * c.dialer.Timeout
}

// connect connects to the first server that takes us, until ctx ends. Each has the
// dial_timeout for itself: one that is silent must not use up the time of the others.
// The error is about the last one.
func (c *cluster) connect(ctx context.Context) (l *link, err error) {
	for _, addr := range c.servers {
		one, cancel := context.WithTimeout(ctx, c.dialer.Timeout)
		l, err = c.connectTo(one, addr)
		cancel()
		if err == nil || ctx.Err() != nil {
			break
		}
	}
	return l, err
}

func (c *cluster) connectTo(ctx context.Context, addr string) (*link, error) {
	l := &link{addr: addr, waiting: map[string]*denial{}, deaf: make(chan struct{})}
	d := &dialer{ctx: ctx, dialer: c.dialer}
	within := c.dialer.Timeout
	if end, ok := ctx.Deadline(); ok {
		within = max(time.Until(end), time.Millisecond)
	}
	options := append([]natsgo.Option{
		natsgo.SetCustomDialer(d), natsgo.SkipHostLookup(), natsgo.Timeout(within), natsgo.Name("hookline"),
		natsgo.NoReconnect(), natsgo.IgnoreDiscoveredServers(), natsgo.PingInterval(pingInterval), natsgo.MaxPingsOutstanding(2),
		natsgo.FlusherTimeout(writeWait), natsgo.ErrorHandler(func(_ *natsgo.Conn, _ *natsgo.Subscription, err error) { l.heard(err) }),
	}, c.options...)
	if cfg := c.tls.Current(); cfg != nil {
		options = append(options, natsgo.Secure(cfg))
	}
	conn, err := natsgo.Connect("nats://"+addr, options...)
	stopped := d.stop == nil || d.stop()
	switch {
	case d.err != nil: // nats.go keeps a refused connection to itself
		err = d.err
	case err == nil && !stopped: // ctx has ended, and the socket was closed
		conn.Close()
		err = ctx.Err()
	case err != nil && ctx.Err() != nil:
		err = ctx.Err() // and not that the socket was closed
	}
	if err != nil {
		if d.socket != nil {
			_ = d.socket.Close()
		}
		return nil, &connectError{addr, err}
	}
	l.conn, l.raw = conn, d.socket
	if l.js, err = jetstream.New(conn); err != nil {
		l.close()
		return nil, &connectError{addr, err}
	}
	return l, nil
}

// dialer is a connection's way to the server, which ends with ctx while it is made.
type dialer struct {
	ctx    context.Context
	dialer *target.Dialer
	stop   func() bool
	socket *socket
	err    error
}

// Dial implements nats.CustomDialer.
func (d *dialer) Dial(network, addr string) (net.Conn, error) {
	raw, err := d.dialer.DialContext(d.ctx, network, addr)
	if d.err = err; err != nil {
		return nil, err
	}
	d.socket = &socket{Conn: raw}
	d.stop = context.AfterFunc(d.ctx, func() { _ = d.socket.Close() })
	return d.socket, nil
}

func (l *link) alive() bool {
	if l.isDeaf() {
		l.mu.Lock()
		defer l.mu.Unlock()
		return !l.raw.ended.Load() && time.Now().Before(l.expires)
	}
	return !l.raw.ended.Load()
}

// close ends the connection: in an orderly way if it does not hang.
func (l *link) close() {
	closed := make(chan struct{})
	l.work.Go(func() {
		l.conn.Close()
		close(closed)
	})
	timer := time.NewTimer(closeWait)
	defer timer.Stop()
	select {
	case <-closed:
	case <-timer.C:
		_ = l.raw.Close() // so that what hangs in a write ends
	}
	l.work.Wait()
}

// heard is told what the server says of no request in particular.
func (l *link) heard(err error) {
	if !errors.Is(err, natsgo.ErrPermissionViolation) {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	text := err.Error()
	if strings.Contains(text, "for Subscription to ") {
		if !l.isDeaf() {
			l.expires = time.Now().Add(deafFor)
			close(l.deaf)
		}
		return
	}
	// The server names the subject and not the message. What holds for one holds for
	// all that wait.
	_, subject, _ := strings.Cut(text, `for Publish to "`)
	subject, _, _ = strings.Cut(subject, `"`)
	if d := l.waiting[subject]; d != nil {
		close(d.told)
		delete(l.waiting, subject)
	}
}

func (l *link) isDeaf() bool {
	select {
	case <-l.deaf:
		return true
	default:
		return false
	}
}

func (l *link) begin(subject string) *denial {
	l.mu.Lock()
	defer l.mu.Unlock()
	d := l.waiting[subject]
	if d == nil {
		d = &denial{told: make(chan struct{})}
		l.waiting[subject] = d
	}
	d.waiting++
	return d
}

func (l *link) end(subject string, d *denial) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if d.waiting--; d.waiting == 0 && l.waiting[subject] == d {
		delete(l.waiting, subject)
	}
}

var (
	errDenied = errors.New("the server takes nothing to this subject from this user")
	errDeaf   = errors.New("the user may not subscribe to its inbox (inbox_prefix), where the answers come")
)

// ask waits for the answer of request, which sends something to subject, or for the
// end of ctx. nats.go does not heed that while a server takes no bytes.
func ask[A any](ctx context.Context, l *link, subject string, request func(context.Context) (A, error)) (answer A, err error) {
	type result struct {
		answer A
		err    error
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	d := l.begin(subject)
	defer l.end(subject, d)
	done := make(chan result, 1)
	go func() {
		answer, err := request(ctx)
		done <- result{answer, err}
	}()
	select {
	case r := <-done:
		return r.answer, r.err
	case <-l.deaf:
		return answer, errDeaf
	case <-d.told:
		if l.isDeaf() {
			return answer, errDeaf
		}
		return answer, errDenied
	case <-ctx.Done():
		return answer, ctx.Err()
	}
}

// tlsState is nil without TLS.
func (l *link) tlsState() *tls.ConnectionState {
	state, err := l.conn.TLSConnectionState()
	if err != nil {
		return nil
	}
	return &state
}
