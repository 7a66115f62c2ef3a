package host

import (
	"testing"
	"time"
)

// A process that ran well is the end of a crash loop: its own end, or that it was
// killed, does not go on with it.
func TestCrashLoopIsOverOnceAProcessRanWell(t *testing.T) {
	c := &Child{changed: make(chan struct{}), stopped: make(chan struct{}), ends: loopAfter}
	for _, tt := range []struct {
		ran                 time.Duration
		running, afterwards State
	}{
		{0, CrashLoop, CrashLoop},
		{2 * stableAfter, Running, Starting},
	} {
		c.publish(&process{since: time.Now().Add(-tt.ran)})
		if s := c.Status().State; s != tt.running {
			t.Errorf("a process that has run for %s: %s", tt.ran, s)
		}
		c.publish(nil)
		if s := c.Status().State; s != tt.afterwards {
			t.Errorf("it ended after %s: %s", tt.ran, s)
		}
	}
}
