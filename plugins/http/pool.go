package http

import (
	"bufio"
	"context"
	"crypto/tls"
	"math"
	"syscall"
	"time"

	"github.com/hookline/hookline/plugins/target"
)

// take returns a connection that looks alive and was made under cfg, or nil.
func (t *Transport) take(now time.Time, cfg *tls.Config) *conn {
	for {
		c, ok := t.idle.Take(now)
		if !ok {
			return nil
		}
		if c.config == cfg && c.alive() {
			c.reused = true
			return c
		}
		c.close()
	}
}

func (t *Transport) put(c *conn) {
	keep := t.endpoint.idleTimeout
	if c.keepFor > 0 {
		keep = min(keep, c.keepFor)
	}
	t.idle.Put(c, keep)
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
