package core

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hookline/hookline/plugins/transport"
)

func TestRetryPause(t *testing.T) {
	retry := Retry{Initial: 2 * time.Second, Factor: 2, Max: time.Minute, MaxAge: time.Hour}
	for _, tt := range []struct {
		name         string
		retry        Retry
		attempts     int
		age, atLeast time.Duration
		want         time.Duration // before the jitter
		again        bool
	}{
		{name: "the first", retry: retry, attempts: 1, want: 2 * time.Second, again: true},
		{name: "the third", retry: retry, attempts: 3, want: 8 * time.Second, again: true},
		{name: "no longer than max", retry: retry, attempts: 10, want: time.Minute, again: true},
		{name: "after very many", retry: retry, attempts: 5000, want: time.Minute, again: true},
		{name: "the last that max_age allows", retry: retry, attempts: 10, age: 58 * time.Minute, want: time.Minute, again: true},
		{name: "beyond max_age", retry: retry, attempts: 10, age: time.Hour, want: time.Minute},
		{name: "attempts are used up", retry: Retry{Initial: time.Second, Factor: 1, Max: time.Second, MaxAge: time.Hour, Attempts: 3}, attempts: 3},
		{name: "one is left", retry: Retry{Initial: time.Second, Factor: 1, Max: time.Second, MaxAge: time.Hour, Attempts: 3}, attempts: 2, want: time.Second, again: true},
	} {
		for range 100 { // the jitter
			got, again := tt.retry.pause(tt.attempts, tt.age, tt.atLeast)
			low, high := time.Duration(float64(tt.want)*(1-jitter)), time.Duration(float64(tt.want)*(1+jitter))
			if again != tt.again || got < low || got > high {
				t.Fatalf("%s: %v %v, want %v %v", tt.name, got, again, tt.want, tt.again)
			}
		}
	}
	if got, again := retry.pause(1, 0, 30*time.Minute); !again || got != 30*time.Minute {
		t.Errorf("what the target asked for is not kept: %v %v", got, again)
	}
	if _, again := retry.pause(1, 0, 2*time.Hour); again {
		t.Error("a target asks for a pause beyond max_age, and gets it")
	}
}

// settled is a journal that only remembers what it is told to settle.
type settled struct {
	Journal
	got  Settlement
	lost bool
}

func (s *settled) Settle(_ *Delivery, got Settlement) { s.got = got }

func (s *settled) Live() error {
	if s.lost {
		return errors.New("lost")
	}
	return nil
}

func (s *settled) Lease() context.Context { return context.Background() }

// The table of what follows from an attempt, for each policy.
func TestSettle(t *testing.T) {
	base := Retry{Initial: time.Second, Factor: 1, Max: time.Second, MaxAge: time.Hour, Attempts: 5}
	for _, tt := range []struct {
		name     string
		route    Route
		state    State
		attempts int
		told     bool
		want     State
		outlook  Outlook
		retried  bool
		blocks   bool
	}{
		{name: "delivered", state: StateDelivered, want: StateDelivered},
		{name: "skipped", state: StateSkipped, want: StateSkipped},
		{name: "rejected", state: StateRejected, want: StateRejected},
		{name: "not done", state: StateWaiting, told: true, want: StateWaiting, outlook: OutlookRetry, retried: true},
		{name: "not done, on_failure = stop", route: Route{StopOnFailure: true}, state: StateWaiting, told: true, want: StateDead},
		{name: "on_failure = stop is about what a caller was told", route: Route{StopOnFailure: true}, state: StateWaiting, want: StateWaiting, outlook: OutlookRetry, retried: true},
		{name: "not done, the last attempt", state: StateWaiting, attempts: 5, want: StateDead},
		{name: "unknown", state: StateUnknown, told: true, want: StateUnknown, outlook: OutlookRetry, retried: true},
		{name: "unknown, the last attempt", state: StateUnknown, attempts: 5, want: StateDead},
		{name: "unknown, on_unknown = hold", route: Route{HoldUnknown: true}, state: StateUnknown, told: true, want: StateUnknown, outlook: OutlookHeld},
		{name: "unknown, hold counts more than stop", route: Route{HoldUnknown: true, StopOnFailure: true}, state: StateUnknown, told: true, want: StateUnknown, outlook: OutlookHeld},
		{name: "unknown, hold counts more than the last attempt", route: Route{HoldUnknown: true}, state: StateUnknown, attempts: 5, want: StateUnknown, outlook: OutlookHeld},
		{name: "dead", state: StateDead, want: StateDead},
		{name: "dead, on_dead = hold", route: Route{HoldDead: true}, state: StateDead, want: StateDead, outlook: OutlookHeld, blocks: true},
		{name: "exhausted, on_dead = hold", route: Route{HoldDead: true}, state: StateWaiting, attempts: 5, want: StateDead, outlook: OutlookHeld, blocks: true},
	} {
		j := &settled{}
		d := &Dispatcher{Log: slog.New(slog.DiscardHandler), Journal: j}
		tt.route.Retry = base
		job := &job{Placement: Placement{Delivery: &Delivery{Attempts: max(tt.attempts, 1), Begun: time.Now()}}, route: &tt.route}
		out := Outcome{State: tt.state, Code: transport.Timeout}
		d.settle(job, &out, tt.told)
		if out.State != tt.want || j.got.State != tt.want || out.Outlook != tt.outlook || j.got.Blocks != tt.blocks || (j.got.Due >= 0) != tt.retried {
			t.Errorf("%s: %s, outlook %d, %+v", tt.name, out.State, out.Outlook, j.got)
		}
	}
}

// What an attempt came to is the answer also where its one retry finds no way to the
// target: a failure that happened is told, and on_failure says what follows.
func TestRetryThatIsNotMade(t *testing.T) {
	never := func(*settled) {}
	for _, tt := range []struct {
		name  string
		gate  GateOptions
		route Route
		lose  func(*settled) // during the first attempt
		kept  bool
		want  State
		due   bool
	}{
		{name: "circuit open", gate: GateOptions{Concurrency: 1, Failures: 1, Pause: time.Hour}, lose: never, kept: true, want: StateWaiting, due: true},
		{name: "circuit open, on_failure = stop", gate: GateOptions{Concurrency: 1, Failures: 1, Pause: time.Hour}, route: Route{StopOnFailure: true}, lose: never, kept: true, want: StateDead},
		{name: "circuit open, on_blocked = fail", gate: GateOptions{Concurrency: 1, Failures: 1, Pause: time.Hour}, route: Route{FailBlocked: true}, lose: never, kept: true, want: StateWaiting, due: true},
		{name: "circuit open, no journal", gate: GateOptions{Concurrency: 1, Failures: 1, Pause: time.Hour}, want: StateDead},
		{name: "rate", gate: GateOptions{Concurrency: 1, Rate: 0.01}, lose: never, kept: true, want: StateWaiting, due: true},
		{name: "rate, on_failure = stop", gate: GateOptions{Concurrency: 1, Rate: 0.01}, route: Route{StopOnFailure: true}, lose: never, kept: true, want: StateDead},
		{name: "rate, no journal", gate: GateOptions{Concurrency: 1, Rate: 0.01}, want: StateDead},
		{name: "journal lost", gate: GateOptions{Concurrency: 1}, lose: func(s *settled) { s.lost = true }, kept: true, want: StateWaiting, due: true},
		{name: "journal lost, on_failure = stop", gate: GateOptions{Concurrency: 1}, route: Route{StopOnFailure: true}, lose: func(s *settled) { s.lost = true }, kept: true, want: StateDead},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				kept := &settled{}
				d := &Dispatcher{Log: slog.New(slog.DiscardHandler)}
				if tt.kept {
					d.Journal = kept
				}
				r := &tt.route
				r.Name, r.Timeout = "ehr", time.Second
				r.Retry = Retry{Initial: time.Second, Factor: 1, Max: time.Second, MaxAge: time.Hour}
				attempts := 0
				r.Transport = &Transport{Name: "ehr", Label: "EHR", Gate: NewGate(tt.gate), Sender: target(func() transport.Receipt {
					attempts++
					if tt.kept {
						tt.lose(kept)
					}
					return transport.Failed(transport.None, transport.ConnectionRefused, "")
				})}
				ev := &Event{ID: "0199-event", Ref: "K7QF2M9X", Kind: Update, TransID: "435", FormID: "319"}
				ev.Stamp(&Hook{Name: "demo", Timeout: 5 * time.Second}, time.Now())
				ctx, cancel := context.WithTimeout(t.Context(), ev.Hook.Timeout)
				defer cancel()
				j := &job{Placement: Placement{Delivery: &Delivery{ID: "0199-delivery", Event: ev, Route: "ehr", Shape: ShapeBody}}, route: r}
				out := d.run(ctx, j, true)
				if out.State != tt.want || out.Code != transport.ConnectionRefused || out.Attempts != 1 || attempts != 1 {
					t.Errorf("the outcome is %+v after %d attempts", out, attempts)
				}
				if a := Compose(ev, []Outcome{out}); a.Status != http.StatusBadGateway {
					t.Errorf("the answer is %d %s", a.Status, a.Code)
				}
				if tt.kept && (kept.got.State != tt.want || kept.got.Code != transport.ConnectionRefused || (kept.got.Due >= 0) != tt.due || len(kept.got.Attempts) != 1) {
					t.Errorf("the journal is told %+v", kept.got)
				}
			})
		})
	}
}

// target answers each attempt.
type target func() transport.Receipt

func (f target) Deliver(context.Context, *transport.Message) transport.Receipt { return f() }

func TestBrake(t *testing.T) {
	hook := &Hook{Name: "demo", LoopLimit: 20}
	start := time.Now()
	var b brake
	event := func(record string, at time.Duration) *Event {
		return &Event{Hook: hook, TransID: record, ReceivedAt: start.Add(at)}
	}
	warnings := 0
	count := func(record string, at time.Duration) int {
		n, warn := b.count(event(record, at))
		if warn {
			warnings++
		}
		return n
	}
	for i := range 20 {
		if n := count("1", time.Duration(i)*time.Second); n != i+1 {
			t.Fatalf("event %d counts as %d", i+1, n)
		}
	}
	if n := count("1", 20*time.Second); n != 21 || warnings != 1 {
		t.Errorf("event 21: %d, %d warnings", n, warnings)
	}
	if n := count("2", 20*time.Second); n != 1 {
		t.Errorf("another record: %d", n)
	}
	// A quarter into the next minute three quarters of the last one still count.
	if n := count("1", 75*time.Second); n != 1+15 {
		t.Errorf("after 75 s: %d", n)
	}
	if n := count("1", 10*time.Minute); n != 1 {
		t.Errorf("after a quiet time: %d", n)
	}
	if count("3", 20*time.Minute); len(b.records) != 1 {
		t.Errorf("%d records are remembered for ever", len(b.records))
	}
}

func TestGate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var states []string
		g := NewGate(GateOptions{Concurrency: 2, Failures: 2, Pause: time.Second, Changed: func(s string) { states = append(states, s) }})
		enter := func() func(bool) {
			t.Helper()
			done, err := g.enter(t.Context(), context.Background(), nil)
			if err != nil {
				t.Fatal(err)
			}
			return done
		}
		first, second := enter(), enter()
		if n, _ := g.reserve(5); n != 0 {
			t.Errorf("%d more than there are places", n)
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if _, err := g.enter(ctx, context.Background(), nil); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("a third: %v", err)
		}
		first(true)
		second(true)
		if g.Closed() {
			t.Error("after two failures the circuit is closed")
		}
		if _, err := g.enter(t.Context(), context.Background(), nil); !errors.Is(err, errCircuitOpen) {
			t.Errorf("with the circuit open: %v", err)
		}
		if n, again := g.reserve(5); n != 0 || again <= 0 {
			t.Errorf("with the circuit open: %d, again in %v", n, again)
		}
		time.Sleep(2 * time.Second) // the fake clock's
		n, _ := g.reserve(5)
		if n != 1 {
			t.Fatalf("%d probes", n)
		}
		probe, err := g.enter(t.Context(), context.Background(), g.use())
		if err != nil {
			t.Fatal(err)
		}
		if n, _ := g.reserve(5); n != 0 {
			t.Errorf("beside the probe: %d", n)
		}
		probe(false)
		if n, _ := g.reserve(5); n != 2 {
			t.Errorf("after it: %d", n)
		}
		if got := strings.Join(states, " "); got != "open half-open closed" {
			t.Errorf("told %q", got)
		}
	})
}

func TestGateRate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := NewGate(GateOptions{Concurrency: 100, Rate: 2})
		start := time.Now()
		for range 6 {
			done, err := g.enter(t.Context(), context.Background(), nil)
			if err != nil {
				t.Fatal(err)
			}
			done(true)
		}
		if took := time.Since(start); took != 2*time.Second { // two at once, then two a second
			t.Errorf("six took %v", took)
		}
		if n, again := g.reserve(5); n != 0 || again != 500*time.Millisecond {
			t.Errorf("%d, again in %v", n, again)
		}
	})
}
