package ingest

import (
	"math"
	"sync"
	"sync/atomic"
)

// unlimited is a limit for enter that is never reached.
const unlimited = math.MaxInt64

// flight counts what is under way, and says when the last has ended after it was
// retired. It costs one atomic operation on either end.
type flight struct {
	n      atomic.Int64 // those under way, and 1 until it is retired
	retire func()       // idempotent
	ending atomic.Bool  // retired
	idle   chan struct{}
}

func newFlight() *flight {
	f := &flight{idle: make(chan struct{})}
	f.n.Store(1)
	f.retire = sync.OnceFunc(func() { f.ending.Store(true); f.leave() })
	return f
}

// enter counts one more, unless limit are under way or the flight is idle for
// good. Between retire and idle it still lets one in: whoever saw the flight
// before it was retired may use it, and is waited for.
func (f *flight) enter(limit int64) bool {
	for {
		n := f.n.Load()
		if n == 0 || n > limit {
			return false
		}
		if f.n.CompareAndSwap(n, n+1) {
			return true
		}
	}
}

// leave ends what enter began.
func (f *flight) leave() {
	if f.n.Add(-1) == 0 {
		close(f.idle)
	}
}

// count is how many are under way in a retired flight.
func (f *flight) count() int64 { return f.n.Load() }

// under is how many are under way in any flight. While it is being retired it may
// be one less.
func (f *flight) under() int64 {
	n := f.n.Load()
	if !f.ending.Load() {
		n--
	}
	return max(n, 0)
}
