package journal

import (
	"context"
	"slices"
	"strings"
	"testing"

	"github.com/hookline/hookline/core"
)

// What a script has logged goes with what was shaped, or with a settlement of what was
// not; the next run replaces it, also with nothing.
func TestLogs(t *testing.T) {
	onEach(t, func(t *testing.T, url string) {
		s := open(t, Options{URL: url})
		ctx := context.Background()
		ev := newEvent("435")
		var all []*core.Placement
		for _, route := range []string{"shaped", "skipped", "failed", "quiet"} {
			p := place(ev, route, true)
			p.Shape = core.ShapeOpen
			all = append(all, p)
		}
		if err := s.Begin(ctx, &core.Entry{Event: ev, Deliveries: all}); err != nil {
			t.Fatal(err)
		}
		all[0].Logs, all[1].Logs, all[2].Logs = []string{"a \x00 NUL", "two\nlines ü"}, []string{"not wanted"}, []string{"before it threw"}
		for _, p := range []*core.Placement{all[0], all[3]} {
			p.Contents = []core.Content{{Payload: []byte("x")}}
			if err := s.Shaped(ctx, p.Delivery); err != nil {
				t.Fatal(err)
			}
			p.Logs = []string{"this run has no script any more"}
			settle(t, s, p.Delivery, delivered)
		}
		settle(t, s, all[1].Delivery, core.Settlement{State: core.StateSkipped, Code: core.Skipped})
		settle(t, s, all[2].Delivery, core.Settlement{State: core.StateDead, Code: core.TransformFailed, Reason: "TypeError"})
		for i, want := range [][]string{{"a \x00 NUL", "two\nlines ü"}, {"not wanted"}, {"before it threw"}, nil} {
			if got := stateOf(t, s, all[i].Delivery).Logs; !slices.Equal(got, want) {
				t.Errorf("%s: %q, want %q", all[i].Route, got, want)
			}
		}

		if res, err := s.Retry(ctx, "anna", "the script is mended", []string{all[2].ID}); err != nil || !res[0].OK {
			t.Fatal(res, err)
		}
		again := claim(t, s, "failed", 1)
		again[0].Contents = []core.Content{{Payload: []byte("z")}}
		if err := s.Shaped(ctx, again[0]); err != nil {
			t.Fatal(err)
		}
		settle(t, s, again[0], delivered)
		if got := stateOf(t, s, again[0]); got.Logs != nil || got.Reason != "" {
			t.Errorf("%q %q of the run before", got.Logs, got.Reason)
		}
		if v := verified(t, s); len(v.Findings) > 0 {
			t.Error(v.Findings)
		}
	})
}

// What a script has said goes with what was sent, and must not come back.
func TestPruneWords(t *testing.T) {
	onEach(t, func(t *testing.T, url string) {
		s := open(t, Options{URL: url})
		unaudited.Store(s, true)
		set := core.Settlement{State: core.StateDead, Code: core.TransformFailed, Reason: "no Jane Doe", Position: "a.js:1:2"}
		d, young := aged(t, s, hook, "1", 3*pruneDay, set, "saw Jane Doe"), aged(t, s, hook, "2", pruneDay, set, "saw Jane Doe")
		const words = "select count(*) from deliveries where id = $1 and reason <> '' and position <> '' and logs <> ''"
		prune(t, s, false, Retention{Hook: hook.Name, Payloads: 2 * pruneDay})
		if n := number(t, s, words, d.ID); n != 1 {
			t.Error("what the script said went with what came")
		}
		prune(t, s, false, Retention{Hook: hook.Name, Sent: 2 * pruneDay})
		if got := stateOf(t, s, d); got.Logs != nil || got.Reason != "" || got.Position != "" || got.Code != core.TransformFailed {
			t.Errorf("%q %+v", got.Logs, got.DeliveryRow)
		}
		if n := number(t, s, words, young.ID); n != 1 {
			t.Error("the words of a young event are gone")
		}
		if v := verified(t, s); len(v.Findings) > 0 {
			t.Fatal(v.Findings)
		}
		for _, column := range []string{"reason", "position", "logs"} {
			if err := raw(s, "update deliveries set "+column+" = 'x' where id = '"+d.ID+"'"); err != nil {
				t.Fatal(err)
			}
			v := verified(t, s)
			if len(v.Findings) != 1 || v.Findings[0].ID != d.ID || !strings.Contains(v.Findings[0].Detail, "pruned, and is there again") {
				t.Errorf("%s: %v", column, v.Findings)
			}
			if err := raw(s, "update deliveries set "+column+" = '' where id = '"+d.ID+"'"); err != nil {
				t.Fatal(err)
			}
		}
	})
}
