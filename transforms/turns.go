package transforms

import (
	"slices"
	"sync"
	"time"
)

// turns shares the processors among the runs: more scripts at once than there are
// processors would only take time from each other, and deadlines with it. First
// come, first served; a run that must be alone takes all.
type turns struct {
	total int

	mu      sync.Mutex
	free    int
	queue   []*turn
	idle    chan *turn // to the goroutines that rest
	resting int
	workers sync.WaitGroup
}

// turn is a wait for processors.
type turn struct {
	need  int
	start func() bool   // of a run that begins; it returns false if it has lost its processors
	ready chan struct{} // of one that goes on: closed when it may
	timer *time.Timer
}

func newTurns(total int) *turns {
	return &turns{total: total, free: total, idle: make(chan *turn)}
}

// begin has start called in a goroutine when it is its turn, or late if that has not
// come by end.
func (t *turns) begin(alone bool, end time.Time, start func() bool, late func()) {
	t.wait(&turn{need: t.need(alone), start: start}, end, late)
}

func (t *turns) need(alone bool) int {
	if alone {
		return t.total
	}
	return 1
}

// leave gives the caller's processors to others; it goes on without.
func (t *turns) leave(need int) {
	for _, w := range t.release(need) {
		t.let(w)
	}
}

// enter waits for processors until end and tells whether it has them.
func (t *turns) enter(need int, end time.Time) bool {
	w := &turn{need: need, ready: make(chan struct{})}
	late := make(chan struct{})
	t.wait(w, end, func() { close(late) })
	select {
	case <-w.ready:
		return true
	case <-late:
		return false
	}
}

// calm waits until no run has a processor, before all others that wait, calls f and
// lets them go on.
func (t *turns) calm(f func()) {
	w := &turn{need: t.total, ready: make(chan struct{})}
	t.mu.Lock()
	t.queue = slices.Insert(t.queue, 0, w)
	granted := t.grant()
	t.mu.Unlock()
	for _, g := range granted {
		t.let(g)
	}
	<-w.ready
	f()
	t.leave(t.total)
}

func (t *turns) wait(w *turn, end time.Time, late func()) {
	t.mu.Lock()
	if len(t.queue) == 0 && t.free >= w.need {
		t.free -= w.need
		t.mu.Unlock()
		t.let(w)
		return
	}
	t.queue = append(t.queue, w)
	w.timer = time.AfterFunc(time.Until(end), func() {
		if t.drop(w) {
			late()
		}
	})
	t.mu.Unlock()
}

// drop takes w out of the queue and tells whether it was there.
func (t *turns) drop(w *turn) bool {
	t.mu.Lock()
	i := slices.Index(t.queue, w)
	if i >= 0 {
		t.queue = slices.Delete(t.queue, i, i+1)
	}
	granted := t.grant() // it may have been in the way
	t.mu.Unlock()
	for _, g := range granted {
		t.let(g)
	}
	return i >= 0
}

// release gives processors back and returns whose turn it is now.
func (t *turns) release(need int) []*turn {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.free += need
	return t.grant()
}

func (t *turns) grant() (granted []*turn) {
	for len(t.queue) > 0 && t.queue[0].need <= t.free {
		w := t.queue[0]
		t.queue = slices.Delete(t.queue, 0, 1)
		t.free -= w.need
		if w.timer != nil {
			w.timer.Stop()
		}
		granted = append(granted, w)
	}
	return granted
}

// let tells w that it is its turn.
func (t *turns) let(w *turn) {
	if w.start == nil {
		close(w.ready)
		return
	}
	select {
	case t.idle <- w:
	default:
		t.workers.Go(func() { t.work(w) })
	}
}

// work runs w, and then whoever is next.
func (t *turns) work(w *turn) {
	for w != nil {
		need := w.need
		if !w.start() {
			need = 0
		}
		w = nil
		for _, g := range t.release(need) {
			if w == nil && g.start != nil {
				w = g // here: this goroutine's stack has grown
			} else {
				t.let(g)
			}
		}
		if w == nil {
			w = t.rest()
		}
	}
}

// rest waits for a next run, unless enough goroutines do.
func (t *turns) rest() *turn {
	t.mu.Lock()
	enough := t.resting == t.total
	if !enough {
		t.resting++
	}
	t.mu.Unlock()
	if enough {
		return nil
	}
	w := <-t.idle
	t.mu.Lock()
	t.resting--
	t.mu.Unlock()
	return w
}

// stop ends the goroutines. There must be no more runs.
func (t *turns) stop() {
	close(t.idle)
	t.workers.Wait()
}
