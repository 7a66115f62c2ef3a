package journal

import (
	"context"
	"slices"
	"testing"
	"time"

	"github.com/hookline/hookline/core"
	"github.com/hookline/hookline/plugins/transport"
)

func TestTroubles(t *testing.T) {
	onEach(t, func(t *testing.T, url string) {
		ctx := context.Background()
		s := open(t, Options{URL: url})
		start := time.Now().Add(-time.Minute)
		look := func() (dead, held []Trouble) {
			t.Helper()
			dead, held, err := s.Troubles(ctx, start, 2)
			if err != nil {
				t.Fatal(err)
			}
			return dead, held
		}
		if dead, held := look(); dead != nil || held != nil {
			t.Fatalf("an empty journal has %v %v", dead, held)
		}
		var ids, refs []string
		for _, record := range []string{"1", "2", "3"} {
			p := begin1(t, s, record, true)
			if r := settle(t, s, p.Delivery, dead); r.err != nil {
				t.Fatal(r.err)
			}
			ids, refs = append(ids, p.ID), append(refs, p.Event.Ref)
		}
		settle(t, s, begin1(t, s, "4", true).Delivery, delivered)
		settle(t, s, begin1(t, s, "5", true).Delivery, waiting(time.Hour))
		gone, held := look()
		if len(gone) != 1 || gone[0].Route != "r" || gone[0].Count != 3 || !slices.Equal(gone[0].Refs, []string{refs[2], refs[1]}) || gone[0].Since.Before(start) || len(held) != 0 {
			t.Fatalf("%+v %+v", gone, held)
		}
		if later, _, err := s.Troubles(ctx, time.Now().Add(time.Minute), 2); err != nil || later != nil {
			t.Errorf("what was given up before is news: %v %v", later, err)
		}
		if _, err := s.Retry(ctx, "me", "", ids[:1]); err != nil {
			t.Fatal(err)
		}
		if gone, _ = look(); len(gone) != 1 || gone[0].Count != 2 {
			t.Errorf("after a retry: %+v", gone)
		}

		// One that blocks its lane, one that waits for an operator, one that is held.
		blocked := begin(t, s, "6", true, "blocks")[0]
		settle(t, s, blocked.Delivery, core.Settlement{State: core.StateDead, Code: transport.RejectedByTarget, Blocks: true})
		unsure := begin(t, s, "7", true, "unsure")[0]
		settle(t, s, unsure.Delivery, core.Settlement{State: core.StateUnknown, Code: transport.Timeout, Due: -1})
		kept := begin(t, s, "8", true, "kept")[0]
		settle(t, s, kept.Delivery, core.Settlement{State: core.StateHeld, Code: transport.Timeout, Due: -1})
		routes := func(all []Trouble) (out []string) {
			for _, x := range all {
				out = append(out, x.Route)
			}
			slices.Sort(out)
			return out
		}
		gone, held = look()
		if got := routes(held); !slices.Equal(got, []string{"blocks", "kept", "unsure"}) {
			t.Errorf("held: %v", got)
		}
		if got := routes(gone); !slices.Equal(got, []string{"blocks", "r"}) {
			t.Errorf("dead: %v", got)
		}
		if _, err := s.Cancel(ctx, "me", "no use", []string{blocked.ID, unsure.ID, kept.ID}); err != nil {
			t.Fatal(err)
		}
		if gone, held = look(); len(held) != 0 || !slices.Equal(routes(gone), []string{"r"}) {
			t.Errorf("after a cancel: %+v %+v", gone, held)
		}
	})
}

func TestArrivals(t *testing.T) {
	onEach(t, func(t *testing.T, url string) {
		ctx := context.Background()
		s := open(t, Options{URL: url})
		_, seq, err := s.Arrivals(ctx, 0)
		if err != nil || seq == 0 {
			t.Fatal(seq, err)
		}
		begin1(t, s, "1", false)
		p := begin1(t, s, "2", false)
		last, newest, err := s.Arrivals(ctx, seq)
		if err != nil || !last[hook.Name].Equal(p.Event.ReceivedAt) || newest < 2 {
			t.Errorf("%v %d %v", last, newest, err)
		}
	})
}

// Of the nodes of a shared journal one is the first, and another when it is gone.
func TestFirst(t *testing.T) {
	first := func(s *Store) bool {
		t.Helper()
		is, err := s.First(context.Background())
		if err != nil {
			t.Fatal(err)
		}
		return is
	}
	if s := open(t, Options{URL: "memory:"}); !first(s) || s.Shared() {
		t.Error("the only node is not the first")
	}
	onPostgres(t, func(t *testing.T, url string) {
		a := open(t, Options{URL: url})
		b := open(t, Options{URL: url})
		if !first(a) || first(b) || !a.Shared() {
			t.Error("not exactly one is the first")
		}
		if err := a.Close(); err != nil {
			t.Fatal(err)
		}
		if !first(b) {
			t.Error("nobody is the first")
		}
	})
}

func TestDiskLow(t *testing.T) {
	if open(t, Options{URL: sqliteURL(t), MinFree: 1}).DiskLow() {
		t.Error("the disk is not full")
	}
	if !open(t, Options{URL: sqliteURL(t), MinFree: 1 << 60}).DiskLow() {
		t.Error("no disk has so much free")
	}
	if open(t, Options{URL: "memory:", MinFree: 1 << 60}).DiskLow() {
		t.Error("memory has no disk")
	}
}
