package core

import (
	"context"
	"log/slog"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hookline/hookline/plugins/transport"
)

// The background looks for what is due again and again; what it does not find must
// not count against the rate of the events that are sent.
func TestLookingCostsNoTurn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := NewGate(GateOptions{Concurrency: 10, Rate: 2})
		for range 5 {
			n, _ := g.reserve(10)
			if n != 2 {
				t.Fatalf("%d turns, want 2", n)
			}
			g.leave(n)
		}
		// One of two is used.
		if n, _ := g.reserve(10); n != 2 {
			t.Fatalf("%d turns, want 2", n)
		}
		g.leave(1)
		g.use()
		begin := time.Now()
		for range 3 {
			done, err := g.enter(t.Context(), context.Background(), nil)
			if err != nil {
				t.Fatal(err)
			}
			done(false)
		}
		if took := time.Since(begin); took != time.Second {
			t.Errorf("one turn at once and two more took %v, want 1s", took)
		}
	})
}

// Nor does an event that comes while the background looks wait for a turn that nobody
// uses in the end.
func TestLookingHoldsUpNobody(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := NewGate(GateOptions{Concurrency: 10, Rate: 0.1})
		n, _ := g.reserve(10)
		begin := time.Now()
		done, err := g.enter(t.Context(), context.Background(), nil)
		if err != nil {
			t.Fatal(err)
		}
		done(false)
		if took := time.Since(begin); n != 1 || took != 0 {
			t.Errorf("beside %d that were looked for it took %v", n, took)
		}
		if n, again := g.reserve(10); n != 0 || again != 10*time.Second {
			t.Errorf("with no turn left: %d, again in %v", n, again)
		}
		// What was due all the same comes next.
		if _, err := g.enter(t.Context(), context.Background(), g.use()); err != nil {
			t.Fatal(err)
		}
		if took := time.Since(begin); took != 10*time.Second {
			t.Errorf("what was due came after %v, want 10s", took)
		}
	})
}

// When the daemon stops nobody waits any longer, neither for a place at a transport nor
// to try again: what is known then is the answer.
func TestStoppingEndsEveryWait(t *testing.T) {
	for _, tt := range []struct {
		name string
		gate GateOptions
		want Code
	}{
		{"concurrency", GateOptions{Concurrency: 1}, Draining},
		{"rate", GateOptions{Concurrency: 2, Rate: 0.1}, Draining},
		{"the retry", GateOptions{Concurrency: 2}, transport.ConnectionRefused},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				stop, cancel := context.WithCancel(t.Context())
				gate := NewGate(tt.gate)
				if _, err := gate.enter(t.Context(), stop, nil); err != nil { // and stays
					t.Fatal(err)
				}
				route := &Route{Name: "ehr", Hooks: []string{"*"}, Timeout: time.Minute, Transport: &Transport{Name: "ehr", Label: "EHR", Sender: refused{}, Gate: gate}}
				d := &Dispatcher{Router: &Router{Routes: []*Route{route}}, Log: slog.New(slog.DiscardHandler), Stopping: stop}
				ev := &Event{Kind: Insert, TransID: "435", FormID: "319"}
				ev.Stamp(&Hook{Name: "demo", Timeout: time.Minute}, time.Now())
				time.AfterFunc(100*time.Millisecond, cancel)
				begin := time.Now()
				got, err := d.Dispatch(Arrival{Event: ev})
				if err != nil || got.Outcomes[0].Code != tt.want || got.Outcomes[0].State != StateDead {
					t.Errorf("%+v, %v; want %s", got.Outcomes[0], err, tt.want)
				}
				if took := time.Since(begin); took != 100*time.Millisecond {
					t.Errorf("it took %v", took)
				}
			})
		})
	}
}

// refused is a target that is down.
type refused struct{}

func (refused) Deliver(context.Context, *transport.Message) transport.Receipt {
	return transport.Failed(transport.None, transport.ConnectionRefused, "")
}
