package journal

import (
	"context"
	"fmt"
	"reflect"
	"strings"
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

// What is released goes in the order of its lane, and what is replayed is the last.
func TestLaneOrderOfReleaseAndReplay(t *testing.T) {
	onEach(t, func(t *testing.T, url string) {
		s := open(t, Options{URL: url})
		ctx := context.Background()
		a, b, c := begin1(t, s, "1", false), begin1(t, s, "1", false), begin1(t, s, "1", false)
		ids := []string{c.ID, a.ID, b.ID}
		ok := func(res []ActResult, err error) []ActResult {
			t.Helper()
			for _, r := range res {
				if err != nil || !r.OK {
					t.Fatalf("%+v %v", res, err)
				}
			}
			return res
		}
		ok(s.Hold(ctx, "anna", "moving", ids))
		if got := claim(t, s, "r", 9); len(got) > 0 {
			t.Fatal("claimed what is held")
		}
		if d := stateOf(t, s, a.Delivery); d.State != core.StateHeld || !d.Head || d.Reason == "" || !d.Due.IsZero() {
			t.Errorf("%+v", d.DeliveryRow)
		}
		ok(s.Release(ctx, "anna", "moved", ids[:1]))
		if got := claim(t, s, "r", 9); len(got) > 0 {
			t.Fatal("the last one is first")
		}
		ok(s.Release(ctx, "anna", "moved", ids[1:]))
		for _, want := range []*core.Placement{a, b, c} {
			got := claim(t, s, "r", 9)
			if len(got) != 1 || got[0].ID != want.ID {
				t.Fatalf("claimed %v, want %s", got, want.ID)
			}
			settle(t, s, got[0], delivered)
		}
		if res, err := s.Replay(ctx, "anna", "lost", []string{a.ID}, Replay{}); err != nil || res[0].OK || !strings.Contains(res[0].Why, c.Event.Ref) {
			t.Errorf("over newer data: %+v %v", res, err)
		}
		d := begin1(t, s, "1", true) // it is open
		if res, err := s.Replay(ctx, "anna", "lost", []string{c.ID}, Replay{}); err != nil || res[0].OK || !strings.Contains(res[0].Why, d.Event.Ref) {
			t.Errorf("over what is about to come: %+v %v", res, err)
		}
		res := ok(s.Replay(ctx, "anna", "lost", []string{c.ID, a.ID}, Replay{Force: true}))
		if got := claim(t, s, "r", 9); len(got) > 0 {
			t.Fatal("a replay does not wait for its lane")
		}
		settle(t, s, d.Delivery, delivered)
		for i, want := range []int{1, 0} { // the oldest first
			got := claim(t, s, "r", 9)
			if len(got) != 1 || got[0].ID != res[want].New {
				t.Fatalf("%d: claimed %v, want %s", i, got, res[want].New)
			}
			if now := stateOf(t, s, got[0]); now.Origin != res[want].ID || now.Attempts != nil || now.Shape != core.ShapeBody {
				t.Errorf("%+v", now.DeliveryRow)
			}
			settle(t, s, got[0], delivered)
		}
	})
}

// A replay sends the bytes that were sent, or with reshape what is made anew.
func TestReplayShapes(t *testing.T) {
	onEach(t, func(t *testing.T, url string) {
		s := open(t, Options{URL: url})
		unaudited.Store(s, true)
		ctx := context.Background()
		ev := newEvent("1")
		p := place(ev, "r", true)
		p.Shape = core.ShapeOpen
		if err := s.Begin(ctx, &core.Entry{Event: ev, Deliveries: []*core.Placement{p}}); err != nil {
			t.Fatal(err)
		}
		p.Contents = []core.Content{{ContentType: "text/plain", Headers: map[string]string{"A": "b"}, Key: "k", Path: "/p", Payload: []byte("one")}, {Payload: []byte("two\x00")}}
		p.Script, p.Revision = "sha", "rev"
		if err := s.Shaped(ctx, p.Delivery); err != nil {
			t.Fatal(err)
		}
		settle(t, s, p.Delivery, delivered)
		for _, how := range []Replay{{}, {Reshape: true}} {
			res, err := s.Replay(ctx, "anna", "r", []string{p.ID}, how)
			if err != nil || !res[0].OK || res[0].Now != core.StateDelivered {
				t.Fatalf("%+v %v", res, err)
			}
			got, err := s.Claim(ctx, "r", false, 9)
			if err != nil || len(got) != 1 {
				t.Fatal(got, err)
			}
			if how.Reshape {
				if got[0].Shape != core.ShapeOpen || got[0].Contents != nil || got[0].Script != "" {
					t.Errorf("%+v", got[0])
				}
			} else if got[0].Shape != core.ShapeMessages || !reflect.DeepEqual(got[0].Contents, p.Contents) || got[0].Script != "sha" || got[0].Revision != "rev" {
				t.Errorf("%+v", got[0])
			}
			settle(t, s, got[0], delivered)
		}
		never := begin1(t, s, "2", false)
		if err := raw(s, "update deliveries set shape = 0"); err != nil {
			t.Fatal(err)
		}
		if res, err := s.Cancel(ctx, "anna", "r", []string{never.ID}); err != nil || !res[0].OK {
			t.Fatal(res, err)
		}
		if res, err := s.Replay(ctx, "anna", "r", []string{never.ID}, Replay{}); err != nil || res[0].OK || !strings.Contains(res[0].Why, "--reshape") {
			t.Errorf("%+v %v", res, err)
		}
	})
}

// Hold, release and replay are for some states only, and say why not for others.
func TestActsByState(t *testing.T) {
	states := map[core.State][3]bool{ // hold, release, replay
		core.StateQueued: {true, false, false}, core.StateRunning: {}, core.StateWaiting: {true, false, false}, core.StateUnknown: {true, false, false},
		core.StateHeld: {false, true, false}, core.StateDelivered: {false, false, true}, core.StateSkipped: {false, false, true},
		core.StateRejected: {false, false, true}, core.StateDead: {false, false, true}, core.StateCancelled: {false, false, true},
	}
	onEach(t, func(t *testing.T, url string) {
		s := open(t, Options{URL: url})
		ctx := context.Background()
		n := 0
		for state, want := range states {
			for i, act := range []string{"hold", "release", "replay"} {
				n++
				d := inState(t, s, state, fmt.Sprint(n))
				var res []ActResult
				var err error
				switch act {
				case "hold":
					res, err = s.Hold(ctx, "anna", "r", []string{d.ID})
				case "release":
					res, err = s.Release(ctx, "anna", "r", []string{d.ID})
				default:
					res, err = s.Replay(ctx, "anna", "r", []string{d.ID}, Replay{})
				}
				if err != nil || res[0].OK != want[i] || (res[0].Why == "") != want[i] || res[0].Was != state {
					t.Errorf("%s of %s: %+v %v", act, state, res, err)
				}
			}
		}
	})
}
