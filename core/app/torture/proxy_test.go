//go:build linux

package torture_test

import (
	"math/rand/v2"
	"net"
	"net/url"
	"sync"
	"sync/atomic"
	"time"
)

// cut is how a daemon is kept from its database.
type cut int

const (
	whole    cut = iota
	severed      // connections are reset, and new ones too
	stalled      // nothing goes through; it arrives when the cut is over
	deafened     // what is asked arrives, the answers when the cut is over
)

func (c cut) String() string { return [...]string{"whole", "severed", "stalled", "deafened"}[c] }

// proxy stands between one daemon and the database. What it holds back it
// delivers later, also for a client that has given up meanwhile: so does a real
// network, where the kernel goes on sending what a closed socket has left.
type proxy struct {
	listener net.Listener
	upstream string
	holding  atomic.Int32 // directions of connections with something held

	mu     sync.Mutex
	random *rand.Rand
	cut    cut
	change chan struct{} // closed when cut changes
	ended  bool
	whole  time.Time // since when; only if cut is whole
	conns  map[*net.TCPConn]struct{}
}

// newProxy stands before the database of raw; the URL that it returns leads
// through it.
func newProxy(r *round, raw string, random *rand.Rand) (*proxy, string) {
	u, err := url.Parse(raw)
	if err != nil {
		r.t.Fatal("HOOKLINE_TEST_POSTGRES is not a URL")
	}
	port := u.Port()
	if port == "" {
		port = "5432"
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		r.t.Fatal(err)
	}
	p := &proxy{
		listener: l, upstream: net.JoinHostPort(u.Hostname(), port), random: random,
		change: make(chan struct{}), whole: time.Now(), conns: map[*net.TCPConn]struct{}{},
	}
	u.Host = l.Addr().String()
	r.proxies.Go(func() {
		var conns sync.WaitGroup
		defer conns.Wait()
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			conns.Go(func() { p.serve(c.(*net.TCPConn)) })
		}
	})
	return p, u.String()
}

func (p *proxy) serve(client *net.TCPConn) {
	if !p.keep(client) {
		return
	}
	defer p.drop(client)
	if state, _ := p.state(); state == severed {
		_ = client.SetLinger(0)
		return
	}
	c, err := net.Dial("tcp", p.upstream)
	if err != nil {
		return
	}
	server := c.(*net.TCPConn)
	if !p.keep(server) {
		return
	}
	defer p.drop(server)
	var both sync.WaitGroup
	both.Go(func() { p.pump(server, client, func(c cut) bool { return c == stalled }) })
	both.Go(func() { p.pump(client, server, func(c cut) bool { return c == stalled || c == deafened }) })
	both.Wait()
}

// pump copies what comes, and the end of it, when it may.
func (p *proxy) pump(to, from *net.TCPConn, held func(cut) bool) {
	buf := make([]byte, 64<<10)
	for {
		n, err := from.Read(buf)
		if !p.pass(held) {
			return
		}
		if n > 0 {
			if _, err := to.Write(buf[:n]); err != nil {
				_ = from.CloseRead()
				return
			}
		}
		if err != nil {
			_ = to.CloseWrite()
			return
		}
	}
}

// pass waits until what is held may go on. That is some time after the cut is
// over: TCP tries again at intervals that grow with the time it has failed. It
// returns false when nothing goes on any more.
func (p *proxy) pass(held func(cut) bool) bool {
	state, change := p.state()
	if change == nil || !held(state) {
		return change != nil
	}
	p.holding.Add(1)
	defer p.holding.Add(-1)
	since := time.Now()
	for change != nil && held(state) {
		<-change
		if state, change = p.state(); change == nil || held(state) {
			continue
		}
		p.mu.Lock()
		late := time.Duration(p.random.Float64() * float64(min(time.Since(since), latest)))
		p.mu.Unlock()
		t := time.NewTimer(late)
		<-t.C
		state, change = p.state()
	}
	return change != nil
}

// latest is how long after the end of a cut something held may arrive, at most.
const latest = 8 * time.Second

// quiet tells that nothing is held any more.
func (p *proxy) quiet() bool { return p == nil || p.holding.Load() == 0 }

func (p *proxy) state() (cut, <-chan struct{}) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.ended {
		return p.cut, nil
	}
	return p.cut, p.change
}

func (p *proxy) set(c cut) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.ended {
		return
	}
	p.cut = c
	if c == whole {
		p.whole = time.Now()
	}
	close(p.change)
	p.change = make(chan struct{})
	if c == severed {
		p.reset()
	}
}

func (p *proxy) reset() {
	for c := range p.conns {
		_ = c.SetLinger(0)
		_ = c.Close()
	}
}

// clear tells whether the way has been open since then, and a moment longer.
func (p *proxy) clear(since time.Time) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.cut == whole && p.whole.Add(time.Second).Before(since)
}

func (p *proxy) keep(c *net.TCPConn) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.ended {
		_ = c.Close()
		return false
	}
	p.conns[c] = struct{}{}
	return true
}

func (p *proxy) drop(c *net.TCPConn) {
	_ = c.Close()
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.conns, c)
}

func (p *proxy) stop() {
	_ = p.listener.Close()
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.ended {
		p.ended = true
		close(p.change)
		p.reset()
	}
}
