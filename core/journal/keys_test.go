package journal

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/hookline/hookline/core"
)

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
