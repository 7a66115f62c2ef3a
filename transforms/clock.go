package transforms

import (
	"sync"
	"time"
)

// stuckAfter is how long after its limit a script that does not answer the
// interrupt is called stuck: the process is killed for it, which the others in it
// notice, so a busy machine gets some time.
const stuckAfter = 70 * time.Millisecond

// stuckMost is when it is stuck even if the process got hardly any processor since:
// on a busy machine it may not have had the time to obey.
const stuckMost = time.Second

// clock is the time of the run that a sandbox is for. It can stand still. A run that
// ends in time never touches the timer: that rings when the time of an earlier one
// would have been over, and then looks what is left.
type clock struct {
	mu      sync.Mutex
	timer   *time.Timer
	rings   time.Time     // when the timer does, at the latest; zero: it is off
	left    time.Duration // when it was last started
	started time.Time
	paused  bool
	over    bool
	cut     time.Time     // when it was over
	used    time.Duration // of the processors, by the process until then
	stopped bool

	of timed
}

// timed is what a clock is for.
type timed interface {
	expired() // its time is over
	stuck()   // and it still goes on, stuckAfter later
}

// start gives a run so long. The one before has stopped the clock, and its time was
// not over.
func (c *clock) start(of timed, limit time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.of, c.stopped = of, false
	c.run(limit)
}

// run lets the time that is left begin now.
func (c *clock) run(left time.Duration) {
	c.left, c.started = left, time.Now()
	if end := c.started.Add(left); c.rings.IsZero() || end.Before(c.rings) {
		c.arm(left)
	}
}

func (c *clock) arm(after time.Duration) {
	c.rings = time.Now().Add(after)
	if c.timer == nil {
		c.timer = time.AfterFunc(after, c.ring)
	} else {
		c.timer.Reset(after)
	}
}

func (c *clock) ring() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.rings = time.Time{}
	if c.stopped || c.paused {
		return
	}
	if !c.over {
		if left := c.left - time.Since(c.started); left > 0 {
			c.arm(left)
			return
		}
		c.over, c.cut, c.used = true, time.Now(), processorTime()
		c.of.expired() // under the lock: not after stop, when the runtime is another's
		c.arm(stuckAfter)
		return
	}
	// One that was on its way when it was set anew comes early.
	late := time.Since(c.cut)
	if late < stuckAfter || processorTime()-c.used < stuckAfter/2 && late < stuckMost {
		c.arm(stuckAfter / 2)
		return
	}
	c.stopped = true
	go c.of.stuck() // it may send, and stop must not wait for that
}

// pause lets the clock stand still, unless the time is over.
func (c *clock) pause() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.over || c.stopped {
		return
	}
	c.paused = true
	c.left -= time.Since(c.started)
}

// resume lets it go on, for at most so long.
func (c *clock) resume(most time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.over || c.stopped {
		return
	}
	c.paused = false
	c.run(max(0, min(c.left, most)))
}

// expire ends the time now.
func (c *clock) expire() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.over && !c.stopped {
		c.paused = false
		c.run(0)
	}
}

// stop ends the clock and tells whether the time was not over: then there can be a
// next run.
func (c *clock) stop() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.stopped, c.paused = true, false
	if c.over {
		return false
	}
	c.of = nil
	return true
}

// discard ends a stopped clock for good.
func (c *clock) discard() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.timer != nil {
		c.timer.Stop() // it holds the sandbox
	}
}
