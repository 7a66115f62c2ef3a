package journal

import (
	"context"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/hookline/hookline/core"
)

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
