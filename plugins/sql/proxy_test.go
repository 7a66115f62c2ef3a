package sql_test

import (
	"bytes"
	"net"
	"sync"
	"testing"

	"github.com/hookline/hookline/plugins/target/targettest"
)

// proxy stands between the transport and a server, and keeps its port while it is down.
type proxy struct {
	tb      testing.TB
	target  string
	address string

	mu       sync.Mutex
	listener net.Listener
	conns    map[net.Conn]bool
	mute     bool   // swallow what the server says
	after    []byte // from the bytes of this on that the client says; nil: at once
	wg       sync.WaitGroup
}

func newProxy(tb testing.TB, target string) *proxy {
	p := &proxy{tb: tb, target: target, address: targettest.ClosedAddr(tb), conns: map[net.Conn]bool{}}
	p.up()
	tb.Cleanup(func() { p.down(); p.wg.Wait() })
	return p
}

func (p *proxy) up() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.mute {
		p.cut()
		p.mute = false
	}
	if p.listener != nil {
		return
	}
	l, err := net.Listen("tcp", p.address)
	if err != nil {
		p.tb.Fatal(err)
	}
	p.listener, p.address = l, l.Addr().String()
	p.wg.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			d, err := net.Dial("tcp", p.target)
			if err != nil {
				_ = c.Close()
				continue
			}
			p.mu.Lock()
			if p.listener != l {
				_, _ = c.Close(), d.Close()
				p.mu.Unlock()
				return
			}
			p.conns[c], p.conns[d] = true, true
			p.mu.Unlock()
			p.wg.Go(func() { p.copy(d, c, true) })
			p.wg.Go(func() { p.copy(c, d, false) })
		}
	})
}

func (p *proxy) down() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.listener != nil {
		_ = p.listener.Close()
		p.listener = nil
	}
	p.cut()
}

func (p *proxy) cut() {
	for c := range p.conns {
		_ = c.Close()
	}
	clear(p.conns)
}

// silence lets nothing of the server through, from now on or once the client has said
// these bytes.
func (p *proxy) silence(after string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if after == "" {
		p.mute = true
		return
	}
	p.after = []byte(after)
}

func (p *proxy) copy(to, from net.Conn, client bool) {
	defer func() { _, _ = to.Close(), from.Close() }()
	buf := make([]byte, 1<<16)
	for {
		n, err := from.Read(buf)
		if err != nil {
			return
		}
		p.mu.Lock()
		if client && p.after != nil && bytes.Contains(buf[:n], p.after) {
			p.mute, p.after = true, nil
		}
		mute := p.mute && !client
		p.mu.Unlock()
		if mute {
			continue
		}
		if _, err := to.Write(buf[:n]); err != nil {
			return
		}
	}
}
