package journal

import (
	"context"
	"errors"
	"testing"

	"github.com/hookline/hookline/core"
	"github.com/hookline/hookline/plugins/transport"
)

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
