package conformance

import (
	"io"
	"net"
	"sync"
	"testing"
)

// Proxy stands before a real server that a test must not take down, and gives a
// [Target] its states Up, Down and Slow. It knows no protocol.
type Proxy struct {
	server string
	addr   string

	mu       sync.Mutex
	state    State
	listener net.Listener
	open     map[net.Conn]bool
	thaw     chan struct{} // closed when the state is no longer Slow
	serving  sync.WaitGroup
	tb       testing.TB
}

// NewProxy listens on a free port of 127.0.0.1 and passes on to server, a TCP
// address. It ends with the test.
func NewProxy(tb testing.TB, server string) *Proxy {
	p := &Proxy{server: server, addr: "127.0.0.1:0", open: map[net.Conn]bool{}, tb: tb}
	p.Set(Up)
	tb.Cleanup(func() { p.Set(Down); p.serving.Wait() })
	return p
}

// Addr is where to connect to: HOST:PORT, the same for the proxy's whole life.
func (p *Proxy) Addr() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.addr
}

// Set changes what the proxy does. Down refuses connections and breaks those that
// are there. Slow passes on what the client sends and holds back what the server
// answers: a message arrives, and its confirmation does not. What was held back
// is lost with the connection, which ends when the state changes.
func (p *Proxy) Set(s State) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.state == Slow && s != Slow {
		close(p.thaw)
		p.breakAll()
	}
	if s == Slow && p.state != Slow {
		p.thaw = make(chan struct{})
	}
	p.state = s
	switch {
	case s == Down && p.listener != nil:
		_ = p.listener.Close()
		p.listener = nil
		p.breakAll()
	case s != Down && p.listener == nil:
		l, err := net.Listen("tcp", p.addr)
		if err != nil {
			p.tb.Errorf("the proxy of %s: %v", p.server, err)
			return
		}
		p.listener, p.addr = l, l.Addr().String()
		p.serving.Go(func() { p.serve(l) })
	}
}

func (p *Proxy) breakAll() {
	for c := range p.open {
		_ = c.Close()
	}
}

func (p *Proxy) serve(l net.Listener) {
	for {
		client, err := l.Accept()
		if err != nil {
			return
		}
		server, err := net.Dial("tcp", p.server)
		if err != nil {
			_ = client.Close()
			continue
		}
		p.mu.Lock()
		if p.state == Down { // meanwhile
			p.mu.Unlock()
			_, _ = client.Close(), server.Close()
			continue
		}
		p.open[client], p.open[server] = true, true
		p.mu.Unlock()
		var both sync.WaitGroup
		both.Go(func() {
			_, _ = io.Copy(server, client)
			_ = server.(*net.TCPConn).CloseWrite()
		})
		both.Go(func() {
			p.answer(client, server)
			_, _ = client.Close(), server.Close()
		})
		p.serving.Go(func() {
			both.Wait()
			_, _ = client.Close(), server.Close()
			p.mu.Lock()
			defer p.mu.Unlock()
			delete(p.open, client)
			delete(p.open, server)
		})
	}
}

// answer passes on what the server says, unless it is held back.
func (p *Proxy) answer(client, server net.Conn) {
	buffer := make([]byte, 32<<10)
	for {
		n, err := server.Read(buffer)
		p.mu.Lock()
		slow, thaw := p.state == Slow, p.thaw
		p.mu.Unlock()
		if slow {
			<-thaw
			return
		}
		if n > 0 {
			if _, err := client.Write(buffer[:n]); err != nil {
				return
			}
		}
		if err != nil {
			return
		}
	}
}
