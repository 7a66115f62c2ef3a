package journal

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/hookline/hookline/core"
	"github.com/hookline/hookline/plugins/transport"
)

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
		if len(meta) != 2 || meta[0].Size != 256 || meta[0].Key != "k\x00\xff" || meta[0].ID != d.ID || meta[1].ID != d.ID+"-2" ||
			meta[0].ContentType != "text/plain" || meta[1].ContentType != "application/json" {
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
