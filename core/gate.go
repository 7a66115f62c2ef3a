package core

import (
	"context"
	"errors"
	"math"
	"sync/atomic"
	"time"

	"github.com/sony/gobreaker/v2"
	"golang.org/x/sync/semaphore"
	"golang.org/x/time/rate"
)

// GateOptions bound what a transport is asked to do.
type GateOptions struct {
	Concurrency int           // attempts at a time
	Rate        float64       // attempts a second; 0: any number
	Failures    int           // in a row, after which the circuit opens; 0: never
	Pause       time.Duration // for which it stays open before one attempt may probe
	// Changed, if set, is told the circuit's new state.
	Changed func(state string)
}

// Gate is what an attempt passes before it is made: the transport's concurrency,
// its rate and its circuit breaker. One gate serves the foreground and the
// background, and outlives a reload.
type Gate struct {
	slots   *semaphore.Weighted
	limit   *rate.Limiter
	breaker *gobreaker.TwoStepCircuitBreaker[struct{}]
	pause   time.Duration
	freed   atomic.Pointer[func()] // told when something may go through again
}

// NewGate returns a gate with a closed circuit.
func NewGate(o GateOptions) *Gate {
	g := &Gate{slots: semaphore.NewWeighted(int64(o.Concurrency)), pause: o.Pause}
	if o.Rate > 0 {
		g.limit = rate.NewLimiter(rate.Limit(o.Rate), int(math.Ceil(o.Rate)))
	}
	if o.Failures > 0 {
		g.breaker = gobreaker.NewTwoStepCircuitBreaker[struct{}](gobreaker.Settings{
			Timeout:     o.Pause,
			ReadyToTrip: func(c gobreaker.Counts) bool { return c.ConsecutiveFailures >= uint32(o.Failures) },
			OnStateChange: func(_ string, _, to gobreaker.State) {
				if o.Changed != nil {
					o.Changed(to.String())
				}
			},
		})
	}
	return g
}

// Closed tells whether the circuit lets attempts through without a probe.
func (g *Gate) Closed() bool {
	return g == nil || g.breaker == nil || g.breaker.State() == gobreaker.StateClosed
}

// Circuit is the state of the circuit breaker: "closed", "half-open" or "open".
func (g *Gate) Circuit() string {
	if g == nil || g.breaker == nil {
		return gobreaker.StateClosed.String()
	}
	return g.breaker.State().String()
}

// Why an attempt is not to be made now.
var (
	errCircuitOpen = errors.New("the circuit is open")
	errStopping    = errors.New("the daemon is stopping")
)

// place is what the background holds at a gate before it makes an attempt: a slot, and
// the turn that comes then.
type place struct{ turn time.Time }

// enter waits for a slot and a turn, at most until ctx or stop ends. held, if not nil,
// has them already. The attempt's end must be told to done.
func (g *Gate) enter(ctx, stop context.Context, held *place) (done func(targetFailed bool), err error) {
	if g == nil {
		return func(bool) {}, nil
	}
	if held == nil && !g.slots.TryAcquire(1) {
		acquire := func(ctx context.Context) error { return g.slots.Acquire(ctx, 1) }
		if err := until(ctx, stop, acquire); err != nil {
			return nil, err
		}
	}
	switch {
	case held != nil && time.Until(held.turn) > 0:
		err = until(ctx, stop, held.wait)
	case held == nil && g.limit != nil && !g.limit.Allow():
		err = until(ctx, stop, g.limit.Wait)
	}
	if err != nil {
		g.leave(1)
		return nil, err
	}
	if g.breaker == nil {
		return func(bool) { g.leave(1) }, nil
	}
	tell, err := g.breaker.Allow()
	if err != nil {
		g.leave(1)
		return nil, errCircuitOpen
	}
	return func(targetFailed bool) {
		if targetFailed {
			tell(errCircuitOpen)
		} else {
			tell(nil)
		}
		g.leave(1)
	}, nil
}

// wait returns when the turn has come.
func (p *place) wait(ctx context.Context) error {
	t := time.NewTimer(time.Until(p.turn))
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// until waits until ctx or stop ends. Only who has to wait pays for a context of both.
func until(ctx, stop context.Context, wait func(context.Context) error) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(stop, cancel)()
	err := wait(ctx)
	if err != nil && stop.Err() != nil {
		return errStopping
	}
	return err
}

// reserve takes up to n slots at once, none if the circuit is open and one if it
// wants a probe. If it gives none, again says when to ask, 0 for when something
// is freed. It takes no more slots than there are turns, and no turn, which an event
// would miss that comes before it is known whether anything is due: see use.
func (g *Gate) reserve(n int) (got int, again time.Duration) {
	if g == nil {
		return n, 0
	}
	if g.breaker != nil {
		switch g.breaker.State() {
		case gobreaker.StateOpen:
			return 0, max(g.pause/10, time.Millisecond) // the breaker does not say how long it has been open
		case gobreaker.StateHalfOpen:
			if g.breaker.Counts().Requests > 0 {
				return 0, 0 // the probe is under way
			}
			n = 1
		}
	}
	if g.limit != nil {
		turns := g.limit.Tokens() // fewer than none while others wait
		if turns < 1 {
			next := (1 - turns) / float64(g.limit.Limit())
			return 0, max(time.Duration(math.Ceil(next*float64(time.Second))), time.Millisecond)
		}
		n = min(n, int(turns))
	}
	for got < n && g.slots.TryAcquire(1) {
		got++
	}
	return got, 0
}

// use makes a slot that reserve gave a place: it takes the next turn, which is now
// unless events have come meanwhile.
func (g *Gate) use() *place {
	if g == nil || g.limit == nil {
		return &place{}
	}
	return &place{turn: time.Now().Add(g.limit.Reserve().Delay())}
}

// leave gives back n slots.
func (g *Gate) leave(n int) {
	if g == nil || n == 0 {
		return
	}
	g.slots.Release(int64(n))
	if f := g.freed.Load(); f != nil {
		(*f)()
	}
}

// onFreed sets what is called when slots are given back. The last call counts.
func (g *Gate) onFreed(f func()) {
	if g != nil {
		g.freed.Store(&f)
	}
}
