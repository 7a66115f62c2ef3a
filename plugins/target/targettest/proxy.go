package targettest

import (
	"net"
	"sync"
	"testing"
)

// Proxy stands in front of a server that must not be stopped.
type Proxy struct {
	// Addr is where it listens, or listened when it was up.
	Addr string

	tb      testing.TB
	server  string
	mu      sync.Mutex
	mute    chan struct{} // closed when the server's answers may pass
	l       net.Listener
	open    map[net.Conn]bool
	working sync.WaitGroup
}

// NewProxy forwards to the server at addr until the test's end.
func NewProxy(tb testing.TB, addr string) *Proxy {
	p := &Proxy{Addr: ClosedAddr(tb), tb: tb, server: addr, mute: make(chan struct{}), open: map[net.Conn]bool{}}
	close(p.mute)
	p.Up()
	tb.Cleanup(func() {
		p.Down()
		p.working.Wait()
	})
	return p
}

// Up forwards, and lets pass what was held.
func (p *Proxy) Up() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.pass()
	if p.l != nil {
		return
	}
	l, err := net.Listen("tcp", p.Addr)
	if err != nil {
		p.tb.Errorf("the proxy cannot listen again: %v", err)
		return
	}
	p.l = l
	p.working.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			s, err := net.Dial("tcp", p.server)
			if err != nil {
				_ = c.Close()
				continue
			}
			p.mu.Lock()
			if p.l != l { // it went down meanwhile
				_, _ = c.Close(), s.Close()
			}
			p.open[c], p.open[s] = true, true
			p.mu.Unlock()
			p.working.Go(func() { p.forward(s, c, false) })
			p.working.Go(func() { p.forward(c, s, true) })
		}
	})
}

// Slow forwards what goes to the server, and holds its answers.
func (p *Proxy) Slow() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.pass()
	p.mute = make(chan struct{})
}

// Down ends all connections and refuses new ones.
func (p *Proxy) Down() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.pass()
	if p.l != nil {
		_ = p.l.Close()
		p.l = nil
	}
	for c := range p.open {
		_ = c.Close()
	}
	clear(p.open)
}

func (p *Proxy) pass() {
	select {
	case <-p.mute:
	default:
		close(p.mute)
	}
}

// forward copies until one side ends, and ends the other.
func (p *Proxy) forward(to, from net.Conn, answers bool) {
	buf := make([]byte, 64<<10)
	for {
		n, err := from.Read(buf)
		if answers {
			p.mu.Lock()
			mute := p.mute
			p.mu.Unlock()
			<-mute
		}
		if n > 0 {
			if _, err := to.Write(buf[:n]); err != nil {
				break
			}
		}
		if err != nil {
			break
		}
	}
	_, _ = to.Close(), from.Close()
	p.mu.Lock()
	delete(p.open, to)
	delete(p.open, from)
	p.mu.Unlock()
}
