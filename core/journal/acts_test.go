package journal

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/hookline/hookline/core"
	"github.com/hookline/hookline/plugins/transport"
)

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
