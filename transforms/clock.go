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

// clock is the time of one run. It can stand still.
type clock struct {
	mu      sync.Mutex
	timer   *time.Timer
	left    time.Duration // when it was last started
	started time.Time
	paused  bool
	over    bool
	cut     time.Time     // when it was over
	used    time.Duration // of the processors, by the process until then
	stopped bool

	expired func() // the time is over
	stuck   func() // and the run still goes on, stuckAfter later
}

// startClock gives a run so long.
func startClock(limit time.Duration, expired, stuck func()) *clock {
	c := &clock{left: limit, started: time.Now(), expired: expired, stuck: stuck}
	c.mu.Lock() // the timer may ring at once
	defer c.mu.Unlock()
	c.timer = time.AfterFunc(limit, c.ring)
	return c
}

func (c *clock) ring() {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case c.stopped, c.paused: // it rang at that moment
	case !c.over:
		c.over, c.cut, c.used = true, time.Now(), processorTime()
		c.expired() // under the lock: not after stop, when the runtime is another's
		c.timer.Reset(stuckAfter)
	case processorTime()-c.used < stuckAfter/2 && time.Since(c.cut) < stuckMost:
		c.timer.Reset(stuckAfter / 2)
	default:
		c.stopped = true
		go c.stuck() // it may send, and stop must not wait for that
	}
}

// pause lets the clock stand still, unless the time is over.
func (c *clock) pause() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.over || c.stopped {
		return
	}
	c.timer.Stop()
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
	c.left, c.started = max(0, min(c.left, most)), time.Now()
	c.timer.Reset(c.left)
}

// expire ends the time now.
func (c *clock) expire() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.over && !c.stopped {
		c.paused = false
		c.timer.Reset(0)
	}
}

// stop ends the clock and tells whether the time was not over.
func (c *clock) stop() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.stopped = true
	c.timer.Stop()
	return !c.over
}
