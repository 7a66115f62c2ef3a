package journal

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"reflect"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/hookline/hookline/core"
	"github.com/hookline/hookline/plugins/transport"
)

func TestQueries(t *testing.T) {
	onEach(t, func(t *testing.T, url string) {
		s := open(t, Options{URL: url}) // SQLite prepares all as it opens
		if e, ok := s.engine.(*postgresEngine); ok {
			ctx := context.Background()
			conn, err := e.reader.acquire(ctx)
			if err != nil {
				t.Fatal(err)
			}
			defer e.reader.release(conn)
			for q, text := range e.texts {
				if _, err := conn.Prepare(ctx, string(q), text); err != nil {
					t.Errorf("query %q: %v", q, err)
				}
			}
			if _, err := conn.Prepare(ctx, "lock", lockLanes); err != nil {
				t.Error(err)
			}
		}
	})
}

func TestLaneOrder(t *testing.T) {
	onEach(t, func(t *testing.T, url string) {
		s := open(t, Options{URL: url})
		ctx := context.Background()
		a := begin1(t, s, "1", true)
		if a.State != core.StateRunning || a.Ahead != "" || a.Here || a.Begun.IsZero() || a.Seq == 0 {
			t.Fatalf("first: %+v %+v", a, a.Delivery)
		}
		ev := newEvent("1")
		b := place(ev, "r", true)
		b.Wait = time.Hour
		if err := s.Begin(ctx, &core.Entry{Event: ev, Deliveries: []*core.Placement{b}}); err != nil {
			t.Fatal(err)
		}
		if b.State != core.StateQueued || b.Ahead != core.StateRunning || !b.Here || !b.Begun.IsZero() {
			t.Fatalf("second: %+v %+v", b, b.Delivery)
		}
		c := begin1(t, s, "1", false)
		if ok, err := s.Take(ctx, b.Delivery); ok || err != nil {
			t.Fatal("took one that is not the head:", ok, err)
		}
		if got := claim(t, s, "r", 10); len(got) != 0 {
			t.Fatal("claimed one that is not due:", got)
		}
		p := settle(t, s, a.Delivery, delivered)
		if p.err != nil || p.Seq != b.Seq || p.Route != "r" || p.Due < 59*time.Minute {
			t.Fatalf("promotion %+v", p)
		}
		if got := claim(t, s, "r", 10); len(got) != 0 {
			t.Fatal("claimed within the wait:", got)
		}
		if ok, err := s.Take(ctx, b.Delivery); !ok || err != nil || b.State != core.StateRunning || b.Begun.IsZero() {
			t.Fatal("not taken:", ok, err)
		}
		p = settle(t, s, b.Delivery, waiting(0))
		if p.err != nil || p.Seq != 0 {
			t.Fatalf("an open one let go of its lane: %+v", p)
		}
		got := claim(t, s, "r", 10)
		if len(got) != 1 || got[0].ID != b.ID || !got[0].Begun.Equal(b.Begun) || string(got[0].Event.Body) != string(ev.Body) {
			t.Fatalf("claimed %+v", got)
		}
		if h := got[0].Event.Hook; *h != *hook {
			t.Fatalf("hook %+v", h)
		}
		p = settle(t, s, got[0], dead)
		if p.Seq != c.Seq || p.Due != 0 {
			t.Fatalf("promotion %+v", p)
		}
		if got := claim(t, s, "r", 10); len(got) != 1 || got[0].ID != c.ID {
			t.Fatalf("claimed %+v", got)
		}
		if p = settle(t, s, c.Delivery, delivered); p.err != nil || p.Seq != 0 {
			t.Fatalf("promotion of nobody: %+v", p)
		}
		if p = settle(t, s, c.Delivery, delivered); !errors.Is(p.err, core.ErrLost) {
			t.Fatalf("settled twice: %v", p.err)
		}
	})
}

func TestBeginConcurrently(t *testing.T) {
	onEach(t, func(t *testing.T, url string) {
		stores := []*Store{open(t, Options{URL: url})}
		if _, ok := stores[0].engine.(*postgresEngine); ok {
			stores = append(stores, open(t, Options{URL: url}))
		}
		const each = 40
		var wg sync.WaitGroup
		for _, s := range stores {
			for range 4 {
				wg.Go(func() {
					for range each {
						begin1(t, s, "1", true)
					}
				})
			}
		}
		wg.Wait()
		want := each * 4 * len(stores)
		s := stores[0]
		all, _, err := s.Deliveries(context.Background(), DeliveryFilter{Limit: 1000})
		if err != nil || len(all) != want {
			t.Fatalf("%d deliveries, want %d: %v", len(all), want, err)
		}
		slices.Reverse(all)
		for i, d := range all {
			if d.Head != (i == 0) {
				t.Fatalf("delivery %d of %d: head %t", i, want, d.Head)
			}
		}
		// The lane empties in the order of seq, whoever works on it.
		running := all[0].Delivery
		at := slices.IndexFunc(stores, func(s *Store) bool { return s.owner() == all[0].Owner })
		for i := range all[:20] {
			p := settle(t, stores[at], running, delivered)
			if p.err != nil || p.Seq != all[i+1].Seq {
				t.Fatalf("after %d came %d, want %d: %v", running.Seq, p.Seq, all[i+1].Seq, p.err)
			}
			at = i % len(stores)
			running = claim(t, stores[at], "r", 1)[0]
		}
	})
}

func TestClaim(t *testing.T) {
	onEach(t, func(t *testing.T, url string) {
		s := open(t, Options{URL: url})
		ctx := context.Background()
		if _, ok, err := s.Next(ctx, "r"); ok || err != nil {
			t.Fatal("next of nothing:", ok, err)
		}
		var want []string
		for i := range 5 {
			want = append(want, begin1(t, s, fmt.Sprint(i), false).ID)
			begin1(t, s, fmt.Sprint(i), false) // behind it
		}
		other := begin(t, s, "9", false, "other")[0]
		later := begin1(t, s, "8", true)
		settle(t, s, later.Delivery, waiting(time.Hour))
		if due, ok, err := s.Next(ctx, "r"); due != 0 || !ok || err != nil {
			t.Fatal("next:", due, ok, err)
		}
		got := claim(t, s, "r", 3)
		got = append(got, claim(t, s, "r", 100)...)
		var ids []string
		for _, d := range got {
			ids = append(ids, d.ID)
			if d.State != core.StateRunning || d.Shape != core.ShapeBody {
				t.Errorf("claimed %+v", d)
			}
		}
		if !slices.Equal(ids, want) {
			t.Fatalf("claimed %v\nwant %v", ids, want)
		}
		due, ok, err := s.Next(ctx, "r")
		if due < 59*time.Minute || due > time.Hour || !ok || err != nil {
			t.Fatal("next:", due, ok, err)
		}
		if got := claim(t, s, "other", 9); len(got) != 1 || got[0].ID != other.ID {
			t.Fatal("other route:", got)
		}
		// Never by itself.
		settle(t, s, got[0], core.Settlement{State: core.StateHeld, Due: -1, Reason: "on_unknown"})
		if d := stateOf(t, s, got[0]); !d.Due.IsZero() || !d.Head || d.State != core.StateHeld || d.Reason != "on_unknown" {
			t.Fatalf("held: %+v", d.DeliveryRow)
		}
	})
}

func TestClaimKeepsShapeOpen(t *testing.T) {
	onEach(t, func(t *testing.T, url string) {
		s := open(t, Options{URL: url})
		ev := newEvent("1")
		p := place(ev, "r", false)
		p.Shape = core.ShapeOpen
		if err := s.Begin(context.Background(), &core.Entry{Event: ev, Deliveries: []*core.Placement{p}}); err != nil {
			t.Fatal(err)
		}
		got, err := s.Claim(context.Background(), "r", false, 1)
		if err != nil || len(got) != 1 || got[0].Shape != core.ShapeOpen {
			t.Fatal(got, err)
		}
	})
}

func TestShapedComesBackByteForByte(t *testing.T) {
	onEach(t, func(t *testing.T, url string) {
		s := open(t, Options{URL: url})
		ctx := context.Background()
		ev := newEvent("1")
		ev.Body = []byte("\xef\xbb\xbf{\"trans_id\":1}\r\n\x00")
		p := place(ev, "r", true)
		p.Shape = core.ShapeOpen
		if err := s.Begin(ctx, &core.Entry{Event: ev, Deliveries: []*core.Placement{p}}); err != nil {
			t.Fatal(err)
		}
		all := make([]byte, 256)
		for i := range all {
			all[i] = byte(i)
		}
		d := p.Delivery
		d.Contents = []core.Content{
			{Payload: all, ContentType: "text/plain", Key: "k\x00\xff", Path: "/ä", Headers: map[string]string{"A": "ü\x01", "B": ""}},
			{Payload: []byte{}},
		}
		d.Script, d.Revision = "sha", "rev"
		for range 2 { // the second time after an answer that got lost
			d.Shape = core.ShapeMessages
			if err := s.Shaped(ctx, d); err != nil {
				t.Fatal(err)
			}
		}
		d.Attempts, d.Sent = 2, 1
		settle(t, s, d, waiting(0))
		got := claim(t, s, "r", 1)[0]
		if !reflect.DeepEqual(got.Contents, d.Contents) {
			t.Errorf("contents %q\nwant %q", got.Contents, d.Contents)
		}
		if got.Shape != core.ShapeMessages || got.Script != "sha" || got.Revision != "rev" || got.Attempts != 2 || got.Sent != 1 {
			t.Errorf("delivery %+v", got)
		}
		if !bytes.Equal(got.Event.Body, ev.Body) {
			t.Errorf("body %q", got.Event.Body)
		}
		body, err := s.Body(ctx, ev.ID)
		if err != nil || !bytes.Equal(body, ev.Body) {
			t.Errorf("body %q: %v", body, err)
		}
		meta := stateOf(t, s, d).Messages
		if len(meta) != 2 || meta[0].Size != 256 || meta[0].Key != "k\x00\xff" || meta[0].ID != d.ID || meta[1].ID != d.ID+"-2" {
			t.Errorf("meta %+v", meta)
		}
		settle(t, s, got, delivered)
		if err := s.Shaped(ctx, d); !errors.Is(err, core.ErrLost) {
			t.Error("shaped one that had ended:", err)
		}
	})
}

func TestSettleKeepsAttempts(t *testing.T) {
	onEach(t, func(t *testing.T, url string) {
		s := open(t, Options{URL: url})
		d := begin1(t, s, "1", true).Delivery
		d.Attempts = 1
		start := time.UnixMicro(time.Now().UnixMicro()).UTC()
		long := bytes.Repeat([]byte("x"), 5000)
		set := core.Settlement{
			State: core.StateRejected, Code: core.RejectedByTransform, Reason: "no\x00\xff", Position: "a.js:1:2",
			Attempts: []core.Attempt{{N: 1, Message: 0, Start: start, Took: time.Second, Receipt: transport.Receipt{
				Effect: transport.None, Code: transport.TargetError, TargetStatus: 503, ContentType: "a/b", Body: long,
				RetryAfter: 2 * time.Second, Detail: "d\x00",
			}}},
		}
		if p := settle(t, s, d, set); p.err != nil {
			t.Fatal(p.err)
		}
		got := stateOf(t, s, d)
		if got.State != core.StateRejected || got.Code != core.RejectedByTransform || got.Position != "a.js:1:2" ||
			got.Ended.IsZero() || got.Head || got.Blocks || got.DeliveryRow.Attempts != 1 || got.Owner != "" || got.Reason != "no\uFFFD\uFFFD" {
			t.Errorf("%+v", got.DeliveryRow)
		}
		want := set.Attempts[0]
		want.Receipt.Body, want.Receipt.Truncated, want.Receipt.Detail = long[:4096], true, "d\uFFFD"
		if len(got.Attempts) != 1 || !reflect.DeepEqual(got.Attempts[0], want) {
			t.Errorf("attempts %+v", got.Attempts)
		}
	})
}

func TestBlocks(t *testing.T) {
	onEach(t, func(t *testing.T, url string) {
		s := open(t, Options{URL: url})
		ctx := context.Background()
		a, b := begin1(t, s, "1", true), begin1(t, s, "1", false)
		set := dead
		set.Blocks = true
		if p := settle(t, s, a.Delivery, set); p.err != nil || p.Seq != 0 {
			t.Fatalf("%+v", p)
		}
		if got := claim(t, s, "r", 9); len(got) != 0 {
			t.Fatal("claimed", got)
		}
		if c := begin1(t, s, "1", true); c.Ahead != core.StateDead || c.State != core.StateQueued {
			t.Fatalf("%+v", c)
		}
		woken := make(chan core.Promotion, 9)
		s.OnPromoted(func(p core.Promotion) { woken <- p })
		res, err := s.Cancel(ctx, "anna", "entered by hand", []string{a.ID})
		if err != nil || !res[0].OK || res[0].Was != core.StateDead || res[0].Now != core.StateCancelled {
			t.Fatalf("%+v %v", res, err)
		}
		if p := receive(t, woken); p.Seq != b.Seq || p.Route != "r" {
			t.Fatalf("woken for %+v", p)
		}
		if got := claim(t, s, "r", 9); len(got) != 1 || got[0].ID != b.ID {
			t.Fatal("claimed", got)
		}
	})
}

// inState makes a delivery of a lane of its own, or behind a running one.
func inState(t *testing.T, s *Store, state core.State, record string) *core.Delivery {
	t.Helper()
	d := begin1(t, s, record, state != core.StateQueued).Delivery
	switch state {
	case core.StateQueued, core.StateRunning:
	case core.StateCancelled:
		settle(t, s, d, waiting(time.Hour))
		if res, err := s.Cancel(context.Background(), "x", "", []string{d.ID}); err != nil || !res[0].OK {
			t.Fatal(res, err)
		}
	default:
		settle(t, s, d, core.Settlement{State: state, Code: transport.TargetError, Due: -1})
	}
	return d
}

func TestActs(t *testing.T) {
	states := map[core.State]struct{ retry, cancel bool }{
		core.StateQueued: {true, true}, core.StateRunning: {}, core.StateWaiting: {true, true},
		core.StateUnknown: {true, true}, core.StateHeld: {true, true}, core.StateDelivered: {}, core.StateSkipped: {},
		core.StateRejected: {}, core.StateDead: {true, false}, core.StateCancelled: {true, false},
	}
	onEach(t, func(t *testing.T, url string) {
		s := open(t, Options{URL: url})
		ctx := context.Background()
		n := 0
		for state, want := range states {
			for _, act := range []string{"retry", "cancel"} {
				n++
				d := inState(t, s, state, fmt.Sprint(n))
				behind := begin1(t, s, fmt.Sprint(n), false)
				before := stateOf(t, s, d)
				f, ok, now := s.Retry, want.retry, core.StateQueued
				if act == "cancel" {
					f, ok, now = s.Cancel, want.cancel, core.StateCancelled
				}
				if !ok {
					now = state
				}
				res, err := f(ctx, "anna", "because", []string{d.ID, "nonsense"})
				if err != nil || len(res) != 2 || res[0].OK != ok || res[0].Was != state || res[0].Now != now || (res[0].Why == "") != ok {
					t.Errorf("%s of %s: %+v %v", act, state, res, err)
				}
				if res[1].OK || res[1].Why == "" {
					t.Errorf("%s of nothing: %+v", act, res[1])
				}
				if state == core.StateRunning && res[0].Why != whyRunning {
					t.Error(res[0].Why)
				}
				after := stateOf(t, s, d)
				if after.State != now || after.Code != before.Code {
					t.Errorf("%s of %s: %+v", act, state, after.DeliveryRow)
				}
				if ok && act == "retry" && (after.Due.IsZero() != (after.State != core.StateQueued) || !after.Begun.IsZero()) {
					t.Errorf("%s of %s: %+v", act, state, after.DeliveryRow)
				}
				// Exactly one of the two is the head, unless both have left.
				b := stateOf(t, s, behind.Delivery)
				if after.Head == b.Head {
					t.Errorf("%s of %s: heads %t and %t", act, state, after.Head, b.Head)
				}
			}
		}
	})
}

// A dead one that is tried again has its old place, but does not push the head
// of its lane aside.
func TestRetryComesBackBehindTheHead(t *testing.T) {
	onEach(t, func(t *testing.T, url string) {
		s := open(t, Options{URL: url})
		a := begin1(t, s, "1", true)
		settle(t, s, a.Delivery, dead)
		b, c := begin1(t, s, "1", true), begin1(t, s, "1", false)
		res, err := s.Retry(context.Background(), "anna", "", []string{a.ID})
		if err != nil || !res[0].OK {
			t.Fatal(res, err)
		}
		if p := settle(t, s, b.Delivery, delivered); p.Seq != a.Seq {
			t.Fatalf("after the head came %+v, want %d", p, a.Seq)
		}
		got := claim(t, s, "r", 9)
		if len(got) != 1 || got[0].ID != a.ID {
			t.Fatal("claimed", got)
		}
		if p := settle(t, s, got[0], delivered); p.Seq != c.Seq {
			t.Fatalf("then came %+v", p)
		}
	})
}

func TestKeys(t *testing.T) {
	onEach(t, func(t *testing.T, url string) {
		s := open(t, Options{URL: url})
		ctx := context.Background()
		send := func(body string, age time.Duration) (*core.Event, error) {
			ev := newEvent("1")
			ev.Body = []byte(body)
			return ev, s.Begin(ctx, &core.Entry{
				Event: ev, Deliveries: []*core.Placement{place(ev, "r", true)}, Key: "k\x00", KeyAge: age,
			})
		}
		first, err := send("a", time.Hour)
		if err != nil {
			t.Fatal(err)
		}
		var dup *core.DuplicateError
		if _, err := send("a", time.Hour); !errors.As(err, &dup) || dup.EventID != first.ID || dup.Ref != first.Ref ||
			len(dup.Deliveries) != 1 || dup.Deliveries[0].State != core.StateRunning {
			t.Fatalf("%v %+v", err, dup)
		}
		if _, err := send("b", time.Hour); !errors.Is(err, core.ErrKeyConflict) {
			t.Fatal(err)
		}
		if all, _, _ := s.Events(ctx, EventFilter{}); len(all) != 1 {
			t.Fatalf("%d events", len(all))
		}
		if err := raw(s, "update keys set expires_at = 1"); err != nil {
			t.Fatal(err)
		}
		if _, err := send("b", time.Hour); err != nil {
			t.Fatal("after it had expired:", err)
		}

		var wg sync.WaitGroup
		var won atomic.Int64
		for range 8 {
			wg.Go(func() {
				ev := newEvent("2")
				err := s.Begin(ctx, &core.Entry{Event: ev, Deliveries: []*core.Placement{place(ev, "r", true)}, Key: "k2", KeyAge: time.Hour})
				switch {
				case err == nil:
					won.Add(1)
				case !errors.As(err, new(*core.DuplicateError)):
					t.Error(err)
				}
			})
		}
		wg.Wait()
		if won.Load() != 1 {
			t.Errorf("%d of the same were written", won.Load())
		}
	})
}

func TestRecover(t *testing.T) {
	onEach(t, func(t *testing.T, url string) {
		s := open(t, Options{URL: url})
		ctx := context.Background()
		lost := begin(t, s, "1", true, "r", "careful")
		mine := begin1(t, s, "2", true)
		ids := "'" + lost[0].ID + "', '" + lost[1].ID + "'"
		if err := raw(s, "update deliveries set owner = 'somebody' where id in ("+ids+")"); err != nil {
			t.Fatal(err)
		}
		woken := make(chan core.Promotion, 9)
		s.OnPromoted(func(p core.Promotion) { woken <- p })
		n, err := s.Recover(ctx, []string{"careful"})
		if n != 2 || err != nil {
			t.Fatal(n, err)
		}
		if p := receive(t, woken); p.Seq != lost[0].Seq || len(woken) != 0 {
			t.Errorf("woken for %+v and %d more", p, len(woken))
		}
		a, b := stateOf(t, s, lost[0].Delivery), stateOf(t, s, lost[1].Delivery)
		if a.State != core.StateUnknown || a.Due.IsZero() || a.DeliveryRow.Attempts != 1 || a.Code != transport.Timeout || a.Reason != lostReason || !a.Head {
			t.Errorf("%+v", a.DeliveryRow)
		}
		if b.State != core.StateUnknown || !b.Due.IsZero() {
			t.Errorf("careful: %+v", b.DeliveryRow)
		}
		if d := stateOf(t, s, mine.Delivery); d.State != core.StateRunning {
			t.Errorf("own: %+v", d.DeliveryRow)
		}
		if p := settle(t, s, lost[0].Delivery, delivered); !errors.Is(p.err, core.ErrLost) {
			t.Error("settled by the old owner:", p.err)
		}
		if got := claim(t, s, "r", 9); len(got) != 1 || got[0].ID != lost[0].ID {
			t.Error("claimed", got)
		}
	})
}

func TestHoldOthers(t *testing.T) {
	onEach(t, func(t *testing.T, url string) {
		s := open(t, Options{URL: url})
		keep, running := begin(t, s, "1", false, "keep")[0], begin(t, s, "1", true, "gone")[0]
		behind := begin(t, s, "1", false, "gone")[0]
		head := begin(t, s, "2", false, "gone")[0]
		for _, want := range []int{2, 0} {
			if n, err := s.HoldOthers(context.Background(), []string{"keep"}); n != want || err != nil {
				t.Fatal(n, err)
			}
		}
		for d, want := range map[*core.Placement]core.State{
			keep: core.StateQueued, running: core.StateRunning, behind: core.StateHeld, head: core.StateHeld,
		} {
			got := stateOf(t, s, d.Delivery)
			if got.State != want || (want == core.StateHeld) != (got.Reason == goneReason) {
				t.Errorf("%s: %+v", want, got.DeliveryRow)
			}
		}
		if p := settle(t, s, running.Delivery, delivered); p.Seq != behind.Seq || p.Due >= 0 {
			t.Errorf("promoted %+v", p)
		}
		if got := claim(t, s, "gone", 9); len(got) != 0 {
			t.Error("claimed", got)
		}
	})
}

// TestPlans: what runs all the time must not slow down with the backlog.
func TestPlans(t *testing.T) {
	plan := func(t *testing.T, s *Store, q query, args ...any) string {
		var out strings.Builder
		switch e := s.engine.(type) {
		case *sqliteEngine:
			text, order := positional(sqliteDialect.spell(queries[q]))
			given := make([]any, len(order))
			for i, n := range order {
				if n >= 0 { // otherwise the time, which plans do not depend on
					given[i] = args[n]
				}
			}
			err := readRows(context.Background(), e.pool, "explain query plan "+text, given, func(r row) {
				out.WriteString(r.str(3) + "\n")
			})
			if err != nil {
				t.Fatal(err)
			}
		case *postgresEngine:
			ctx := context.Background()
			conn, err := e.reader.acquire(ctx)
			if err != nil {
				t.Fatal(err)
			}
			defer e.reader.release(conn)
			if _, err := conn.Exec(ctx, "set enable_seqscan = off"); err != nil { // the tables are small
				t.Fatal(err)
			}
			rows, err := conn.Query(ctx, "explain "+e.texts[q], args...)
			if err != nil {
				t.Fatal(err)
			}
			if err := eachRow(rows, func(r row) { out.WriteString(r.str(0) + "\n") }); err != nil {
				t.Fatal(err)
			}
			if _, err := conn.Exec(ctx, "reset enable_seqscan"); err != nil {
				t.Fatal(err)
			}
		}
		return out.String()
	}
	onEach(t, func(t *testing.T, url string) {
		s := open(t, Options{URL: url})
		for q, want := range map[query]struct {
			index string
			args  []any
		}{
			qDue:                {"deliveries_due", []any{"r", int64(9)}},
			qNext:               {"deliveries_due", []any{"r"}},
			qHead:               {"deliveries_head", []any{"l"}},
			qPromote:            {"deliveries_behind", []any{"l"}},
			qEventFind:          {"events_ref", []any{"i", "r"}},
			qEventsOfRecord:     {"events_record", []any{int64(1), int64(1), int64(1), "", "", "", int64(0), "1", int64(9)}},
			qDeliveriesOfRecord: {"events_record", []any{int64(1), "", "", "[]", "", "1", int64(9)}},
			qDeliveriesOfEvent:  {"deliveries_event", []any{int64(1), "", "", "[]", "", int64(1), int64(9)}},
			qRecover:            {"deliveries_head", []any{"c", "r", "[]", "me"}},
		} {
			got := plan(t, s, q, want.args...)
			if !strings.Contains(got, want.index) {
				t.Errorf("query %q does not use %s:\n%s", q, want.index, got)
			}
			for line := range strings.Lines(got) {
				if strings.Contains(line, "Seq Scan") || strings.Contains(line, "SCAN") && strings.Contains(line, "deliveries") && !strings.Contains(line, "INDEX") {
					t.Errorf("query %q scans:\n%s", q, got)
				}
			}
		}
	})
}

// TestModel does at random what a daemon does, and compares with a simple model.
func TestModel(t *testing.T) {
	onEach(t, func(t *testing.T, url string) {
		s := open(t, Options{URL: url})
		ctx := context.Background()
		seed := uint64(time.Now().UnixNano())
		t.Logf("seed %d", seed)
		rnd := rand.New(rand.NewPCG(seed, 1))
		type entry struct {
			*core.Delivery
			head, open bool
		}
		lanes := make(map[string][]*entry) // in the order of seq
		byID := map[string]*entry{}
		head := func(lane string) *entry {
			for _, e := range lanes[lane] {
				if e.head {
					return e
				}
			}
			return nil
		}
		next := func(lane string) int64 {
			for _, e := range lanes[lane] {
				if e.open && !e.head {
					e.head = true
					return e.Seq
				}
			}
			return 0
		}
		pick := func(ok func(*entry) bool) *entry {
			var all []*entry
			for _, lane := range slices.Sorted(maps.Keys(lanes)) {
				for _, e := range lanes[lane] {
					if ok(e) {
						all = append(all, e)
					}
				}
			}
			if len(all) == 0 {
				return nil
			}
			return all[rnd.IntN(len(all))]
		}
		end := time.Now().Add(1500 * time.Millisecond)
		for steps := 0; time.Now().Before(end); steps++ {
			switch rnd.IntN(8) {
			case 0, 1:
				p := begin1(t, s, fmt.Sprint(rnd.IntN(5)), rnd.IntN(2) == 0)
				h := head(p.Lane)
				if (h == nil) != (p.Ahead == "") || h != nil && h.State != p.Ahead {
					t.Fatalf("ahead %q, model %+v", p.Ahead, h)
				}
				e := &entry{Delivery: p.Delivery, head: h == nil, open: true}
				lanes[p.Lane] = append(lanes[p.Lane], e)
				byID[p.ID] = e
			case 2, 3:
				for _, d := range claim(t, s, "r", 1+rnd.IntN(3)) {
					e := byID[d.ID]
					if !e.head || !e.open || e.State == core.StateRunning || e.State == core.StateHeld || e.State == core.StateDead {
						t.Fatalf("claimed %+v", e)
					}
					e.State = core.StateRunning
				}
			case 4, 5:
				e := pick(func(e *entry) bool { return e.State == core.StateRunning })
				if e == nil {
					continue
				}
				set := []core.Settlement{delivered, dead, {State: core.StateDead, Blocks: true}, waiting(0), {State: core.StateHeld, Due: -1}, {State: core.StateUnknown, Due: 0}}[rnd.IntN(6)]
				p := settle(t, s, e.Delivery, set)
				e.State = set.State
				var want int64
				if !isOpen(set.State) && !set.Blocks {
					e.head, e.open = false, false
					want = next(e.Lane)
				}
				if p.err != nil || p.Seq != want {
					t.Fatalf("promoted %+v, want %d", p, want)
				}
			case 6, 7:
				e := pick(func(*entry) bool { return true })
				if e == nil {
					continue
				}
				if rnd.IntN(2) == 0 {
					res, err := s.Retry(ctx, "m", "", []string{e.ID})
					if err != nil || res[0].Was != e.State {
						t.Fatalf("%+v %v, model %+v", res, err, e)
					}
					if refusal("retry", e.State, e.open) == "" {
						e.head = e.head || head(e.Lane) == nil
						e.State, e.open = core.StateQueued, true
					}
				} else {
					res, err := s.Cancel(ctx, "m", "", []string{e.ID})
					if err != nil || res[0].Was != e.State {
						t.Fatalf("%+v %v, model %+v", res, err, e)
					}
					if refusal("cancel", e.State, e.open) == "" {
						was := e.head
						e.State, e.open, e.head = core.StateCancelled, false, false
						if was {
							next(e.Lane)
						}
					}
				}
			}
			if steps%25 != 0 {
				continue
			}
			for cursor := ""; ; {
				all, next, err := s.Deliveries(ctx, DeliveryFilter{Limit: 1000, Cursor: cursor})
				if err != nil {
					t.Fatal(err)
				}
				for _, d := range all {
					if e := byID[d.ID]; e.State != d.State || e.head != d.Head || e.open != d.Blocks {
						t.Fatalf("step %d: journal %+v\nmodel %+v", steps, d, e)
					}
				}
				if cursor = next; cursor == "" {
					break
				}
			}
			for lane, all := range lanes {
				heads, open := 0, 0
				for _, e := range all {
					heads += int(flag(e.head))
					open += int(flag(e.open))
				}
				if heads > 1 || (heads == 1) != (open > 0) {
					t.Fatalf("lane %s: %d heads of %d", lane, heads, open)
				}
			}
		}
	})
}
