package file

import (
	"time"

	"github.com/hookline/hookline/plugins/transport"
)

// maxBatch bounds the bytes of one write and fsync, so that the first of a batch
// does not wait for too many others.
const maxBatch = 8 << 20

// writer owns one file while there is something to write to it.
type writer struct {
	t     *Transport
	path  string
	queue []*entry // guarded by t.mu
	wake  chan struct{}
	out   appender
}

// run writes until the transport closes or the file has long been idle.
func (w *writer) run() {
	defer w.out.close()
	idle := time.NewTimer(w.t.idle)
	defer idle.Stop()
	for {
		select {
		case <-w.wake:
			w.drain()
			idle.Reset(w.t.idle)
		case <-w.t.closing:
			w.drain()
			return
		case <-idle.C:
			if w.retire() {
				return
			}
		}
	}
}

// retire takes the writer out of the transport's map unless something has come.
func (w *writer) retire() bool {
	w.t.mu.Lock()
	defer w.t.mu.Unlock()
	if len(w.queue) > 0 {
		return false
	}
	delete(w.t.writers, w.path)
	return true
}

// drain writes batches until nothing waits.
func (w *writer) drain() {
	for {
		w.t.mu.Lock()
		waiting := w.queue
		w.queue = nil
		w.t.mu.Unlock()
		if len(waiting) == 0 {
			return
		}
		for len(waiting) > 0 {
			var batch []*entry
			batch, waiting = take(waiting)
			answer(batch, w.out.append(batch))
		}
	}
}

// take claims the next batch; who has given up is left out.
func take(waiting []*entry) (batch, rest []*entry) {
	size := 0
	for i, e := range waiting {
		if size > 0 && size+len(e.line) > maxBatch {
			return batch, waiting[i:]
		}
		if e.state.CompareAndSwap(queued, taken) {
			batch = append(batch, e)
			size += len(e.line)
		}
	}
	return batch, nil
}

func answer(batch []*entry, receipts []transport.Receipt) {
	for i, e := range batch {
		e.done <- receipts[i]
	}
}
