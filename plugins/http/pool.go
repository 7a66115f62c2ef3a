package http

import (
	"bufio"
	"context"
	"crypto/tls"
	"math"
	"sync"
	"syscall"
	"time"

	"github.com/hookline/hookline/plugins/target"
)

// pool keeps unused connections, the latest on top, so that a load that falls
// lets the others age and close.
type pool struct {
	max int
	ttl time.Duration

	mu     sync.Mutex
	idle   []*conn
	reaper *time.Timer
	closed bool
}

// take returns a connection that looks alive and was made under cfg, or nil.
func (p *pool) take(now time.Time, cfg *tls.Config) *conn {
	for {
		p.mu.Lock()
		n := len(p.idle)
		if n == 0 {
			p.mu.Unlock()
			return nil
		}
		c := p.idle[n-1]
		p.idle[n-1] = nil
		p.idle = p.idle[:n-1]
		p.mu.Unlock()
		if now.Before(c.expires) && c.config == cfg && c.alive() {
			c.reused = true
			return c
		}
		c.close()
	}
}

func (p *pool) put(c *conn, now time.Time) {
	keep := p.ttl
	if c.keepFor > 0 && c.keepFor < keep {
		keep = c.keepFor
	}
	c.expires = now.Add(keep)
	p.mu.Lock()
	if p.closed || len(p.idle) >= p.max {
		p.mu.Unlock()
		c.close()
		return
	}
	p.idle = append(p.idle, c)
	if p.reaper == nil {
		p.reaper = time.AfterFunc(p.ttl, p.reap)
	}
	p.mu.Unlock()
}

// reap closes what has expired, and comes back as long as something is left.
func (p *pool) reap() {
	now := time.Now()
	var old []*conn
	p.mu.Lock()
	kept := p.idle[:0]
	for _, c := range p.idle {
		if now.Before(c.expires) {
			kept = append(kept, c)
		} else {
			old = append(old, c)
		}
	}
	clear(p.idle[len(kept):])
	p.idle = kept
	if p.reaper = nil; len(kept) > 0 && !p.closed {
		p.reaper = time.AfterFunc(p.ttl/2+time.Millisecond, p.reap)
	}
	p.mu.Unlock()
	for _, c := range old {
		c.close()
	}
}

func (p *pool) close() {
	p.mu.Lock()
	idle := p.idle
	p.idle, p.closed = nil, true
	if p.reaper != nil {
		p.reaper.Stop()
	}
	p.mu.Unlock()
	for _, c := range idle {
		c.close()
	}
}

// dial connects, and shakes hands if cfg is not nil.
func (t *Transport) dial(ctx context.Context, cfg *tls.Config) (*conn, error) {
	ctx, cancel := context.WithTimeout(ctx, t.endpoint.dialer.Timeout)
	defer cancel()
	connect := t.endpoint.dialer.DialContext
	if t.dialFunc != nil {
		connect = t.dialFunc
	}
	raw, err := connect(ctx, "tcp", t.endpoint.addr)
	if err != nil {
		return nil, err
	}
	c := &conn{raw: raw, config: cfg, peer: raw.RemoteAddr().String()}
	c.limit = math.MaxInt64
	if sc, ok := raw.(syscall.Conn); ok {
		c.sys, _ = sc.SyscallConn()
	}
	c.interrupt = func() { _ = raw.SetDeadline(longAgo) }
	c.probe = c.probeFD
	c.br = bufio.NewReaderSize(readSide{c}, 4<<10)
	if cfg == nil {
		c.rw = writeCounter{raw, c}
		return c, nil
	}
	tc := tls.Client(writeCounter{raw, c}, cfg)
	if err := tc.HandshakeContext(ctx); err != nil {
		_ = raw.Close()
		return nil, &target.HandshakeError{Peer: c.peer, Err: err}
	}
	c.rw = tc
	return c, nil
}
