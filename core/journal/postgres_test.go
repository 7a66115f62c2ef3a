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

	"github.com/jackc/pgx/v5"

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
	t.Parallel()
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
	links  []*link
	wg     sync.WaitGroup
}

// link is a connection through the proxy. While a way of it is held, what is sent
// waits there, an end too.
type link struct{ up, down sync.Mutex }

// hold holds the links that are, from the nth on, and not those that come. It
// returns what lets go.
func (p *proxy) hold(n int, up, down bool) func() {
	p.mu.Lock()
	defer p.mu.Unlock()
	var held []*sync.Mutex
	for _, l := range p.links[n:] {
		if up {
			held = append(held, &l.up)
		}
		if down {
			held = append(held, &l.down)
		}
	}
	for _, m := range held {
		m.Lock()
	}
	return sync.OnceFunc(func() {
		for _, m := range held {
			m.Unlock()
		}
	})
}

func (p *proxy) count() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.links)
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
			l := &link{}
			p.links = append(p.links, l)
			p.wg.Go(func() { p.copy(c, d, &l.down) })
			p.wg.Go(func() { p.copy(d, c, &l.up) })
		}
		p.mu.Unlock()
	}
}

func (p *proxy) copy(to, from net.Conn, held *sync.Mutex) {
	buf := make([]byte, 1<<16)
	for {
		n, err := from.Read(buf)
		held.Lock()
		held.Unlock() //nolint:staticcheck // it was the wait that counts
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
	t.Parallel()
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

// count asks past the proxy.
func count(t *testing.T, raw, text string, args ...any) (n int) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	conn, err := pgx.Connect(ctx, raw)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close(ctx) }()
	if err := conn.QueryRow(ctx, text, args...).Scan(&n); err != nil {
		t.Fatal(err)
	}
	return n
}

// TestPostgresLateBatch: what arrives after its caller was told that it failed is
// not written any more.
func TestPostgresLateBatch(t *testing.T) {
	t.Parallel()
	onPostgres(t, func(t *testing.T, raw string) {
		t.Parallel()
		p := newProxy(t, host(raw))
		s := open(t, Options{URL: p.through(raw)})
		begin1(t, s, "1", true) // the statements are prepared
		let := p.hold(0, true, true)
		t.Cleanup(let)
		ev := newEvent("2")
		err := s.Begin(context.Background(), &core.Entry{Event: ev, Deliveries: []*core.Placement{place(ev, "r", true)}})
		if !errors.Is(err, ErrUnavailable) || errors.Is(err, ErrUnsure) {
			t.Error("it is known not to be written:", err)
		}
		begin1(t, s, "3", true) // an undo would have been made
		let()
		time.Sleep(300 * time.Millisecond)
		if n := count(t, raw, "select count(*) from events where id = $1", ev.ID); n != 0 {
			t.Error("written late, and nobody has it")
		}
		if d := begin1(t, s, "2", true); d.State != core.StateRunning {
			t.Error("its lane is blocked:", d.State, d.Ahead)
		}
	})
}

// TestPostgresLateCommit: the same of a script, which has a connection of its own.
func TestPostgresLateCommit(t *testing.T) {
	t.Parallel()
	onPostgres(t, func(t *testing.T, raw string) {
		t.Parallel()
		p := newProxy(t, host(raw))
		s := open(t, Options{URL: p.through(raw)})
		d := begin1(t, s, "1", false)
		s.engine.(*postgresEngine).reader.pool.Reset()
		n := p.count() // the script opens one of its own
		var let func()
		undone := make(chan core.Promotion, 9)
		s.OnPromoted(func(p core.Promotion) { undone <- p })
		owner := s.owner()
		err := s.writer.do(context.Background(), &op{
			name: "late",
			undo: func() *op {
				o := s.undoRun(d.Seq, owner)
				end := o.end
				o.end = func(err error) { end(err); undone <- core.Promotion{Seq: -1} }
				return o
			},
			script: func(tx tx) error {
				err := tx.do(step{q: qTake, args: []any{owner, d.Seq}, row: func(row) {}})
				if let == nil {
					let = p.hold(n, true, true)
					t.Cleanup(let)
				}
				return err
			},
		})
		if !errors.Is(err, ErrUnsure) {
			t.Error(err)
		}
		receive(t, undone)
		let()
		time.Sleep(300 * time.Millisecond)
		if n := count(t, raw, "select count(*) from deliveries where state = 'running'"); n != 0 {
			t.Error("begun late, and nobody has it")
		}
		if got := claim(t, s, "r", 1); len(got) != 1 {
			t.Error("claimed", got)
		}
	})
}

// TestPostgresConfirmationLost: what was written is known to be.
func TestPostgresConfirmationLost(t *testing.T) {
	t.Parallel()
	for _, key := range []string{"", "key"} {
		onPostgres(t, func(t *testing.T, raw string) {
			t.Parallel()
			p := newProxy(t, host(raw))
			s, other := open(t, Options{URL: p.through(raw)}), open(t, Options{URL: raw})
			begin(t, s, "1", true, "behind")
			ctx := context.Background()
			if key != "" { // its connection has to be open, as new ones are not held
				if err := s.Begin(ctx, &core.Entry{Event: newEvent("1"), Key: "first", KeyAge: time.Hour}); err != nil {
					t.Fatal(err)
				}
			}
			ev := newEvent("1")
			ours, theirs, behind := place(ev, "ours", true), place(ev, "theirs", false), place(ev, "behind", true)
			e := &core.Entry{Event: ev, Deliveries: []*core.Placement{ours, theirs, behind}, Key: key, KeyAge: time.Hour}
			// A script waits for answers but for the last one: hold that only.
			admin(t, holdCommits(raw))
			began := make(chan error, 1)
			go func() { began <- s.Begin(ctx, e) }()
			time.Sleep(300 * time.Millisecond)
			t.Cleanup(p.hold(0, false, true))
			eventually(t, "commit", func() bool {
				return count(t, raw, "select count(*) from events where id = $1", ev.ID) == 1
			})
			if got := claim(t, other, "theirs", 1); len(got) != 1 {
				t.Fatal("claimed", got)
			}
			if err := receive(t, began); err != nil {
				t.Fatal(err)
			}
			if ours.State != core.StateRunning || ours.Seq == 0 || ours.Begun.IsZero() || ours.Ahead != "" {
				t.Errorf("ours: %+v", ours)
			}
			if theirs.State != core.StateQueued || theirs.Seq == 0 {
				t.Errorf("theirs: %+v", theirs)
			}
			if behind.State != core.StateQueued || behind.Ahead != core.StateRunning || !behind.Here {
				t.Errorf("behind: %+v", behind)
			}
			if st := settle(t, s, ours.Delivery, delivered); st.err != nil {
				t.Error(st.err)
			}
			if key != "" {
				var dup *core.DuplicateError
				again := newEvent("1")
				err := s.Begin(ctx, &core.Entry{Event: again, Key: key, KeyAge: time.Hour})
				if !errors.As(err, &dup) || dup.EventID != ev.ID {
					t.Error("the key was forgotten:", err)
				}
			}
		})
	}
}

// holdCommits has the commit of an event with three deliveries take a second.
func holdCommits(raw string) string {
	u, _ := url.Parse(raw)
	schema := u.Query().Get("search_path")
	return strings.ReplaceAll(`
		create function S.slow() returns trigger language plpgsql as 'begin perform pg_sleep(1); return null; end';
		create constraint trigger slow after insert on S.deliveries deferrable initially deferred
			for each row when (new.route = 'ours') execute function S.slow()`, "S.", schema+".")
}

// TestPostgresUnsure: what could not be found out in time is said to be unsure, and
// taken back.
func TestPostgresUnsure(t *testing.T) {
	t.Parallel()
	onPostgres(t, func(t *testing.T, raw string) {
		t.Parallel()
		p := newProxy(t, host(raw))
		s := open(t, Options{URL: p.through(raw)})
		begin1(t, s, "1", true)
		ctx, cancel := context.WithTimeout(context.Background(), 6*time.Second)
		defer cancel()
		ev := newEvent("2")
		// Only the answer to a commit leaves it open what was written.
		admin(t, holdCommits(raw))
		start := time.Now()
		began := make(chan error, 1)
		go func() {
			began <- s.Begin(ctx, &core.Entry{Event: ev, Deliveries: []*core.Placement{place(ev, "ours", true)}})
		}()
		time.Sleep(300 * time.Millisecond)
		t.Cleanup(p.hold(0, false, true))
		p.mu.Lock()
		p.mode = "cut"
		p.mu.Unlock()
		err := receive(t, began)
		if !errors.Is(err, ErrUnsure) || !errors.Is(err, ErrUnavailable) {
			t.Error(err)
		}
		if took := time.Since(start); took > 6500*time.Millisecond {
			t.Error("it took", took)
		}
		p.mu.Lock()
		p.mode = ""
		p.mu.Unlock()
		eventually(t, "taken back", func() bool {
			return count(t, raw, "select count(*) from deliveries where state = 'cancelled'") == 1
		})
	})
}
