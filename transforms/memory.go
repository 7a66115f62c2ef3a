package transforms

import (
	"errors"
	"math"
	"runtime"
	"runtime/debug"
	"runtime/metrics"
	"sync"
	"time"
)

// memoryPeriod is how often the heap is looked at while scripts run.
const memoryPeriod = 4 * time.Millisecond

// errMemory is what a script is interrupted with when the process has too much.
var errMemory = errors.New("the scripts took too much memory")

// memory watches the heap while scripts run. Go does not say whose an object is:
// when there is too much, every script that is on is interrupted, and each has to
// prove itself alone.
type memory struct {
	turns *turns

	mu    sync.Mutex
	limit uint64
	base  uint64 // of the heap, that a run which is alone has not made
	runs  []*run // that are on, also those that wait for the host

	wake  chan struct{} // there is a run
	done  chan struct{}
	ended sync.WaitGroup
}

func watchMemory(t *turns) *memory {
	m := &memory{
		turns: t, limit: math.MaxUint64,
		wake: make(chan struct{}, 1), done: make(chan struct{}),
	}
	m.ended.Go(m.watch)
	return m
}

func (m *memory) stop() {
	close(m.done)
	m.ended.Wait()
}

// setLimit makes bytes the most that the heap may hold; 0: there is no limit. The
// collector works harder well below it, so that garbage does not count, and the
// system's limit is the last resort: built-in functions cannot be interrupted.
func (m *memory) setLimit(bytes uint64) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if bytes == 0 {
		m.limit = math.MaxUint64
		debug.SetMemoryLimit(math.MaxInt64)
		return
	}
	m.limit = bytes
	debug.SetMemoryLimit(int64(bytes / 4 * 3))
	limitData(2*bytes + memoryReserve)
}

// memoryReserve is what the process may take from the system beyond twice its limit:
// one string is copied to a larger one before anybody can look.
const memoryReserve = 256 << 20

// enter notes that a run is on.
func (m *memory) enter(r *run) {
	m.mu.Lock()
	r.place = len(m.runs)
	m.runs = append(m.runs, r)
	m.mu.Unlock()
	select {
	case m.wake <- struct{}{}:
	default:
	}
}

// exit notes its end and tells whether it was interrupted, or is about to be.
func (m *memory) exit(r *run) (hit bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	last := len(m.runs) - 1
	m.runs[r.place], m.runs[last].place = m.runs[last], r.place
	m.runs[last] = nil
	m.runs = m.runs[:last]
	if r.job != nil && r.job.req.GetAlone() {
		m.base = 0
	}
	return r.overMemory
}

// settle makes a run that is alone answer for what it takes itself.
func (m *memory) settle() {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.limit == math.MaxUint64 {
		return
	}
	if m.base = heap(); m.base > m.limit/8 {
		runtime.GC()
		m.base = heap()
	}
}

func (m *memory) watch() {
	period := time.NewTicker(memoryPeriod)
	defer period.Stop()
	for {
		select {
		case <-m.wake:
		case <-m.done:
			return
		}
		select {
		case <-period.C: // perhaps of long ago, which does no harm
		case <-m.done:
			return
		}
		if m.look() {
			m.turns.calm(debug.FreeOSMemory) // or its garbage would be the next one's
		}
	}
}

// look interrupts all scripts if there is too much.
func (m *memory) look() (interrupted bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if len(m.runs) == 0 {
		return false
	}
	select {
	case m.wake <- struct{}{}: // there will be another look
	default:
	}
	if now := heap(); now < m.limit || now-m.base < m.limit {
		return false
	}
	for _, r := range m.runs {
		r.overMemory = true
		r.interrupt(errMemory)
	}
	return true
}

// heap is how many bytes the objects in the heap take, dead ones that have not been
// collected included.
func heap() uint64 {
	sample := []metrics.Sample{{Name: "/memory/classes/heap/objects:bytes"}}
	metrics.Read(sample)
	return sample[0].Value.Uint64()
}
