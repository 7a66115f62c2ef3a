package pipeline

import "time"

// Alarm is a timer that all calls of a stream share. It rings at the earliest time that
// it was set to, and a call that ends before leaves it as it is: a timer for each would
// cost it more than its frame does. What it belongs to has a lock, which is held for
// every method.
type Alarm struct {
	// Ring is called without the lock. It begins with Rang, and sets the alarm again
	// for the calls that are left.
	Ring func()

	timer *time.Timer
	rings time.Time // zero: it is off
}

// Set has it ring by a time.
func (a *Alarm) Set(by time.Time) {
	if !a.rings.IsZero() && !by.Before(a.rings) {
		return
	}
	a.rings = by
	if a.timer == nil {
		a.timer = time.AfterFunc(time.Until(by), a.Ring)
	} else {
		a.timer.Reset(time.Until(by))
	}
}

// Rang notes that it has rung.
func (a *Alarm) Rang() { a.rings = time.Time{} }

// Stop turns it off. It may be ringing.
func (a *Alarm) Stop() {
	if a.timer != nil {
		a.timer.Stop()
	}
}
