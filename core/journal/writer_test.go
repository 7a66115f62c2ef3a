package journal

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/hookline/hookline/core"
)

func eventOp(ev *core.Event) *op {
	return &op{name: "event " + ev.ID, steps: []step{eventStep(ev)}, audit: eventAudit(ev, [3]string{}), done: make(chan struct{})}
}

// TestPoison: an op that cannot be written does not take its batch with it.
func TestPoison(t *testing.T) {
	onEach(t, func(t *testing.T, url string) {
		l := &logs{}
		s := open(t, Options{URL: url, Log: l.logger()})
		a, b := newEvent("1"), newEvent("2")
		twice := eventOp(a)
		var lost error
		mustBe := &op{name: "poison", must: true, steps: []step{eventStep(a)}, end: func(err error) { lost = err }}
		ops := []*op{eventOp(a), twice, mustBe, eventOp(b)}
		newWriter(s.engine, l.logger()).turn(ops)
		for _, o := range []*op{ops[0], ops[3]} {
			if o.err != nil {
				t.Error(o.name, o.err)
			}
		}
		if twice.err == nil || errors.Is(twice.err, ErrUnavailable) || lost == nil {
			t.Error("the poison was taken:", twice.err, lost)
		}
		if all, _, err := s.Events(context.Background(), EventFilter{}); len(all) != 2 {
			t.Errorf("%d events, %v", len(all), err)
		}
		if !strings.Contains(l.String(), "defect of Hookline") {
			t.Error(l)
		}
	})
}

func TestCancelledBeforeItIsPickedUp(t *testing.T) {
	s := open(t, Options{URL: "memory:"})
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	ev := newEvent("1")
	if err := s.Begin(ctx, &core.Entry{Event: ev}); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	// The writer is busy until it is let go.
	busy, let := make(chan struct{}), make(chan struct{})
	first := make(chan error, 1)
	go func() {
		first <- s.writer.do(context.Background(), &op{name: "busy", script: func(tx) error {
			close(busy)
			<-let
			return nil
		}})
	}()
	<-busy
	ctx, cancel = context.WithTimeout(context.Background(), 10*time.Millisecond)
	defer cancel()
	if err := s.Begin(ctx, &core.Entry{Event: ev}); !errors.Is(err, context.DeadlineExceeded) {
		t.Error(err)
	}
	close(let)
	if err := receive(t, first); err != nil {
		t.Error(err)
	}
	begin1(t, s, "2", true) // goes behind what was abandoned
	if _, err := s.Event(context.Background(), ev.ID); !errors.Is(err, ErrNotFound) {
		t.Error("written all the same:", err)
	}
}

// unsure answers for a while that the connection was lost, after or before the
// commit.
type unsure struct {
	engine
	fail      atomic.Int64
	committed bool
}

func (u *unsure) batch(ops []*op) error {
	return u.spoil(func() error { return u.engine.batch(ops) })
}

func (u *unsure) alone(ctx context.Context, o *op) error {
	return u.spoil(func() error { return u.engine.alone(ctx, o) })
}

func (u *unsure) spoil(f func() error) error {
	if u.fail.Add(-1) < 0 {
		return f()
	}
	if u.committed {
		if err := f(); err != nil {
			return err
		}
	}
	return &trouble{why: "the connection was lost", unsure: true}
}

// TestUnsureCommit: whether a commit whose answer was lost was made or not, what
// a caller was told holds in the end.
func TestUnsureCommit(t *testing.T) {
	onEach(t, func(t *testing.T, url string) {
		for _, committed := range []bool{true, false} {
			s := open(t, Options{URL: url})
			ctx := context.Background()
			key := fmt.Sprint("key ", committed)
			u := &unsure{engine: s.engine, committed: committed}
			s.writer.engine = u

			a := begin1(t, s, "1", true)
			b := begin1(t, s, "1", false)
			u.fail.Store(1)
			if p := settle(t, s, a.Delivery, delivered); p.err != nil || p.Seq != b.Seq {
				t.Errorf("committed %t: settled %+v", committed, p)
			}

			// A claim that failed is given back.
			woken := make(chan core.Promotion, 9)
			s.OnPromoted(func(p core.Promotion) { woken <- p })
			u.fail.Store(1)
			if got, err := s.Claim(ctx, "r", true, 9); !errors.Is(err, ErrUnavailable) {
				t.Errorf("committed %t: claimed %v %v", committed, got, err)
			}
			if committed {
				receive(t, woken)
			}
			var got []*core.Delivery
			eventually(t, "claim", func() bool { got = append(got, claim(t, s, "r", 9)...); return len(got) == 1 })
			settle(t, s, got[0], delivered)

			u.fail.Store(1)
			ev := newEvent("2")
			p := place(ev, "r", true)
			err := s.Begin(ctx, &core.Entry{Event: ev, Deliveries: []*core.Placement{p}, Key: key, KeyAge: time.Hour})
			if !errors.Is(err, ErrUnavailable) {
				t.Fatal(err)
			}
			eventually(t, "begin taken back", func() bool {
				d, err := s.Event(ctx, ev.ID)
				return errors.Is(err, ErrNotFound) || err == nil && d.Deliveries[0].State == core.StateCancelled
			})
			// The caller sends it again.
			ev = newEvent("2")
			p = place(ev, "r", true)
			eventually(t, "begin", func() bool {
				err := s.Begin(ctx, &core.Entry{Event: ev, Deliveries: []*core.Placement{p}, Key: key, KeyAge: time.Hour})
				return err == nil
			})
			if p.State != core.StateRunning {
				t.Errorf("committed %t: %+v", committed, p.Delivery)
			}
			settle(t, s, p.Delivery, delivered)
			_ = s.Close()
		}
	})
}

// rival opens the file beside the daemon.
func rival(t *testing.T, file string) *sql.Conn {
	t.Helper()
	db, err := sql.Open("sqlite", fileURI(file))
	if err != nil {
		t.Fatal(err)
	}
	c, err := db.Conn(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close(); _ = db.Close() })
	return c
}

func (f failing) check(t *testing.T, want string) {
	t.Helper()
	start := time.Now()
	err := f.s.Begin(context.Background(), &core.Entry{Event: f.ev})
	if !errors.Is(err, ErrUnavailable) || !strings.Contains(err.Error(), want) {
		t.Errorf("%v\nwant %s", err, want)
	}
	if took := time.Since(start); took > 8*time.Second {
		t.Errorf("it took %s to say so", took)
	}
}

type failing struct {
	s  *Store
	ev *core.Event
}

func TestLockedByAnother(t *testing.T) {
	file := filepath.Join(t.TempDir(), "journal.db")
	l := &logs{}
	s := open(t, Options{URL: "sqlite:" + file, Log: l.logger()})
	ctx := context.Background()
	a, b := begin1(t, s, "1", true), begin1(t, s, "1", false)
	c := rival(t, file)
	if _, err := c.ExecContext(ctx, "begin exclusive"); err != nil {
		t.Fatal(err)
	}
	got := make(chan settled, 1)
	set := delivered
	set.Settled = func(p core.Promotion, err error) { got <- settled{p, err} }
	s.Settle(a.Delivery, set)
	for range 2 {
		failing{s, newEvent("1")}.check(t, "is locked by another program")
	}
	// Readers do not wait for the writer.
	if d := stateOf(t, s, a.Delivery); d.State != core.StateRunning {
		t.Errorf("%+v", d.DeliveryRow)
	}
	if len(got) != 0 {
		t.Fatal("settled:", <-got)
	}
	if _, err := c.ExecContext(ctx, "rollback"); err != nil {
		t.Fatal(err)
	}
	if p := receive(t, got); p.err != nil || p.Seq != b.Seq {
		t.Errorf("settled %+v", p)
	}
	eventually(t, "said so", func() bool { return strings.Contains(l.String(), "available again") })
	if n := strings.Count(l.String(), "is locked by another program"); n != 1 {
		t.Errorf("said %d times:\n%s", n, l)
	}
}

func TestCloseIsBounded(t *testing.T) {
	file := filepath.Join(t.TempDir(), "journal.db")
	l := &logs{}
	times := usual
	times.stop = 50 * time.Millisecond
	s := open(t, Options{URL: "sqlite:" + file, Log: l.logger(), times: times})
	a := begin1(t, s, "1", true)
	c := rival(t, file)
	if _, err := c.ExecContext(context.Background(), "begin exclusive"); err != nil {
		t.Fatal(err)
	}
	got := make(chan error, 1)
	set := delivered
	set.Settled = func(_ core.Promotion, err error) { got <- err }
	s.Settle(a.Delivery, set)
	if err := s.Close(); err != nil {
		t.Error(err)
	}
	if err := receive(t, got); !errors.Is(err, ErrUnavailable) {
		t.Error(err)
	}
	if !strings.Contains(l.String(), "could not be written before the stop") {
		t.Error(l)
	}
}

// prepared runs a statement before the next batch.
type prepared struct {
	*sqliteEngine
	text atomic.Value
}

func (p *prepared) batch(ops []*op) error {
	if text, _ := p.text.Swap("").(string); text != "" {
		if err := p.sqliteEngine.text(text); err != nil {
			return err
		}
	}
	return p.sqliteEngine.batch(ops)
}

func TestDiskFull(t *testing.T) {
	s := open(t, Options{URL: sqliteURL(t)})
	e := &prepared{sqliteEngine: s.engine.(*sqliteEngine)}
	s.writer.engine = e
	a := begin1(t, s, "1", true)
	e.text.Store("pragma max_page_count = 1") // no more than there are
	big := newEvent("2")
	big.Body = make([]byte, 1<<20)
	failing{s, big}.check(t, "is full: make room")
	if _, err := s.Claim(context.Background(), "r", true, 1); err != nil {
		t.Error("a claim needs no room:", err)
	}
	set := delivered
	set.Attempts = []core.Attempt{{N: 1}}
	for i := range 30 {
		set.Attempts = append(set.Attempts, core.Attempt{N: i + 2})
		set.Attempts[i].Receipt.Body = make([]byte, 4096)
	}
	got := make(chan error, 1)
	set.Settled = func(_ core.Promotion, err error) { got <- err }
	s.Settle(a.Delivery, set)
	eventually(t, "trouble", func() bool { return s.writer.health.is.Load() })
	e.text.Store("pragma max_page_count = 100000")
	if err := receive(t, got); err != nil {
		t.Error(err)
	}
	if err := s.Begin(context.Background(), &core.Entry{Event: big}); err != nil {
		t.Error(err)
	}
}

func TestFileReplaced(t *testing.T) {
	file := filepath.Join(t.TempDir(), "journal.db")
	s := open(t, Options{URL: "sqlite:" + file})
	old := begin1(t, s, "1", true)
	_ = s.Close()
	good, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	replace := func(content []byte) {
		t.Helper()
		if err := errors.Join(os.WriteFile(file+".new", content, 0o600), os.Rename(file+".new", file)); err != nil {
			t.Fatal(err)
		}
	}
	s = open(t, Options{URL: "sqlite:" + file})
	begin1(t, s, "2", true)
	replace([]byte(strings.Repeat("this is no database ", 1000)))
	failing{s, newEvent("3")}.check(t, "put a backup in its place")
	if err := os.Remove(file); err != nil {
		t.Fatal(err)
	}
	failing{s, newEvent("3")}.check(t, "is gone: put it back")
	replace(good)
	begin1(t, s, "3", true)
	if d := stateOf(t, s, old.Delivery); d.State != core.StateRunning {
		t.Errorf("%+v", d.DeliveryRow)
	}
	if n, err := s.Recover(context.Background(), nil); n != 1 || err != nil {
		t.Error(n, err)
	}
}

func TestReadOnlyFile(t *testing.T) {
	s := open(t, Options{URL: sqliteURL(t)})
	if err := raw(s, "pragma query_only = 1"); err != nil {
		t.Fatal(err)
	}
	failing{s, newEvent("1")}.check(t, "cannot be written")
	begin1(t, s, "1", true) // it was opened again
}
