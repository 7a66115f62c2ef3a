package journal

import (
	"context"
	"errors"
	"io"
	"net"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/hookline/hookline/core"
)

// nameURL gives the URL an application name, and returns that too.
func nameURL(t *testing.T, raw string) (string, string) {
	u, _ := url.Parse(raw)
	v := u.Query()
	name := v.Get("search_path")
	v.Set("application_name", name)
	u.RawQuery = v.Encode()
	return u.String(), name
}

func TestPostgresConnectionKilled(t *testing.T) {
	onPostgres(t, func(t *testing.T, raw string) {
		url, name := nameURL(t, raw)
		s := open(t, Options{URL: url})
		a, b := begin1(t, s, "1", true), begin1(t, s, "1", false)
		kill := func() {
			admin(t, "select pg_terminate_backend(pid) from pg_stat_activity where application_name = $1", name)
		}
		kill()
		if p := settle(t, s, a.Delivery, delivered); p.err != nil || p.Seq != b.Seq {
			t.Errorf("settled %+v", p)
		}
		kill()
		eventually(t, "begin", func() bool {
			ev := newEvent("2")
			err := s.Begin(context.Background(), &core.Entry{Event: ev, Deliveries: []*core.Placement{place(ev, "r", true)}})
			if err != nil && (!errors.Is(err, ErrUnavailable) || !strings.Contains(err.Error(), "connection to the database was lost")) {
				t.Fatal(err)
			}
			return err == nil
		})
		kill()
		eventually(t, "read", func() bool { _, _, err := s.Events(context.Background(), EventFilter{}); return err == nil })
	})
}

// proxy stands between a node and the database.
type proxy struct {
	net.Listener
	target string
	mu     sync.Mutex
	mode   string // "", "cut", "hang"
	conns  []net.Conn
	wg     sync.WaitGroup
}

func newProxy(t *testing.T, target string) *proxy {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p := &proxy{Listener: l, target: target}
	p.wg.Go(p.serve)
	t.Cleanup(func() {
		_ = l.Close()
		p.set("cut")
		p.wg.Wait()
	})
	return p
}

func (p *proxy) serve() {
	for {
		c, err := p.Accept()
		if err != nil {
			return
		}
		d, err := net.Dial("tcp", p.target)
		p.mu.Lock()
		if err != nil || p.mode == "cut" {
			_ = c.Close()
			if d != nil {
				_ = d.Close()
			}
		} else {
			p.conns = append(p.conns, c, d)
			p.wg.Go(func() { p.copy(c, d) })
			p.wg.Go(func() { p.copy(d, c) })
		}
		p.mu.Unlock()
	}
}

func (p *proxy) copy(to, from net.Conn) {
	buf := make([]byte, 1<<16)
	for {
		n, err := from.Read(buf)
		if err != nil {
			_ = to.Close()
			return
		}
		p.mu.Lock()
		hang := p.mode == "hang"
		p.mu.Unlock()
		if hang {
			continue // into nowhere
		}
		if _, err := to.Write(buf[:n]); err != nil {
			_, _ = io.Copy(io.Discard, from)
			return
		}
	}
}

func (p *proxy) set(mode string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.mode = mode
	if mode != "hang" {
		for _, c := range p.conns {
			_ = c.Close()
		}
		p.conns = nil
	}
}

// through gives a URL that goes through the proxy.
func (p *proxy) through(raw string) string {
	u, _ := url.Parse(raw)
	u.Host = p.Addr().String()
	return u.String()
}

func host(raw string) string {
	u, _ := url.Parse(raw)
	return u.Host
}

func TestPostgresLease(t *testing.T) {
	onPostgres(t, func(t *testing.T, raw string) {
		short := usual
		short.renew, short.renewMax = 50*time.Millisecond, 200*time.Millisecond
		short.live, short.lease, short.dead = 600*time.Millisecond, time.Second, 1400*time.Millisecond
		p := newProxy(t, host(raw))
		l := &logs{}
		s := open(t, Options{URL: p.through(raw), Log: l.logger(), times: short})
		other := open(t, Options{URL: raw, times: short})
		ctx := context.Background()
		d := begin1(t, s, "1", true)
		lease, owner := s.Lease(), s.owner()
		if s.Live() != nil || lease.Err() != nil {
			t.Fatal(s.Live(), lease.Err())
		}
		p.set("cut")
		eventually(t, "not live", func() bool { return s.Live() != nil })
		if lease.Err() != nil {
			t.Error("the lease ended before Live said so")
		}
		if n, err := other.Recover(ctx, nil); n != 0 || err != nil {
			t.Error("taken over too early:", n, err)
		}
		select {
		case <-lease.Done():
		case <-time.After(10 * time.Second):
			t.Fatal("the lease did not end")
		}
		if n, err := other.Recover(ctx, nil); n != 0 || err != nil {
			t.Error("taken over at the end of the lease:", n, err)
		}
		eventually(t, "take over", func() bool {
			n, err := other.Recover(ctx, nil)
			if err != nil {
				t.Fatal(err)
			}
			return n == 1
		})
		got := claim(t, other, "r", 1)
		if len(got) != 1 || got[0].ID != d.ID {
			t.Fatal("claimed", got)
		}
		p.set("")
		eventually(t, "live again", func() bool { return s.Live() == nil })
		if s.owner() == owner || s.Lease() == lease || s.Lease().Err() != nil {
			t.Error("not a new node")
		}
		if st := settle(t, s, d.Delivery, delivered); !errors.Is(st.err, core.ErrLost) {
			t.Error("settled what another had taken over:", st.err)
		}
		if st := settle(t, other, got[0], delivered); st.err != nil {
			t.Error(st.err)
		}
		eventually(t, "begin", func() bool { return s.Begin(ctx, &core.Entry{Event: newEvent("1")}) == nil })
	})
}

// TestPostgresHangs: a database that does not answer hangs no caller.
func TestPostgresHangs(t *testing.T) {
	onPostgres(t, func(t *testing.T, raw string) {
		p := newProxy(t, host(raw))
		short := usual
		short.stop = 100 * time.Millisecond
		s := open(t, Options{URL: p.through(raw), times: short})
		begin1(t, s, "1", true)
		p.set("hang")
		start := time.Now()
		var wg sync.WaitGroup
		for range 5 {
			wg.Go(func() {
				if err := s.Begin(context.Background(), &core.Entry{Event: newEvent("1")}); !errors.Is(err, ErrUnavailable) {
					t.Error(err)
				}
			})
		}
		wg.Wait()
		if took := time.Since(start); took > 11*time.Second {
			t.Errorf("it took %s", took)
		}
		p.set("")
		eventually(t, "begin", func() bool { return s.Begin(context.Background(), &core.Entry{Event: newEvent("1")}) == nil })
	})
}

// TestPostgresNodesStartTogether: on a new database, too.
func TestPostgresNodesStartTogether(t *testing.T) {
	onPostgres(t, func(t *testing.T, raw string) {
		var wg sync.WaitGroup
		for range 4 {
			wg.Go(func() {
				s, err := Open(context.Background(), Options{URL: raw})
				if err != nil {
					t.Error(err)
					return
				}
				_ = s.Close()
			})
		}
		wg.Wait()
	})
}
