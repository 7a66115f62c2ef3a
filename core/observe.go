package core

import (
	"maps"
	"slices"
	"time"
)

// Observer hears of deliveries, for metrics and traces. Its methods and those of
// what it returns must be cheap and must not block: they are called on the way of
// an event.
type Observer interface {
	// Run is told that a delivery is about to be made, by the caller's own request
	// or in the background.
	Run(d *Delivery, r *Route, background bool) Run
}

// Run hears of one run of a delivery, in order and from one goroutine. Times are
// over when it is told of them.
type Run interface {
	// Enriched tells how long it took to read the event's record; "" is a success.
	Enriched(start time.Time, took time.Duration, code Code)
	// Transformed tells what the route's transform came to; "" is a message.
	Transformed(start time.Time, took time.Duration, code Code)
	// Attempt begins attempt n. It returns the trace context that the attempt's
	// messages carry, "" for the event's.
	Attempt(n int) (traceParent string)
	// Attempted ends it. target is how long the target took, 0 if that is not known.
	Attempted(a *Attempt, target time.Duration)
	// Settled ends the run.
	Settled(s State, code Code)
}

// Calls hears of the calls of hooks; see [Observer] for what it must not do.
type Calls interface {
	// Came is told of an event before it is dispatched, and may give it another
	// trace context. given: the event's is the caller's own, with this tracestate.
	// The result is nil, or must be called with the answer.
	Came(ev *Event, given bool, tracestate string) (answered func(status int, code Code))
	// Answered is told of every answer: hook is a configured one or "", kind is ""
	// for what is no event.
	Answered(hook string, kind Kind, code Code, took time.Duration)
}

// Codes are all codes of outcomes and answers, sorted.
func Codes() []Code { return slices.Sorted(maps.Keys(table)) }

// unobserved is the Run of a Dispatcher without an Observer.
type unobserved struct{}

func (unobserved) Enriched(time.Time, time.Duration, Code)    {}
func (unobserved) Transformed(time.Time, time.Duration, Code) {}
func (unobserved) Attempt(int) string                         { return "" }
func (unobserved) Attempted(*Attempt, time.Duration)          {}
func (unobserved) Settled(State, Code)                        {}

func (d *Dispatcher) observe(j *job, background bool) Run {
	if d.Observer == nil {
		return unobserved{}
	}
	return d.Observer.Run(j.Delivery, j.route, background)
}
