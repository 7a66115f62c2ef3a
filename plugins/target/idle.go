package target

import (
	"slices"
	"sync"
	"time"
)

// Idle keeps connections that nobody uses, the latest on top, so that a load that falls
// lets the others age and end. Its fields are set before the first call.
type Idle[C any] struct {
	Max int     // more are not kept
	End func(C) // ends one; it may take a moment

	mu     sync.Mutex
	kept   []aging[C]
	reaper *time.Timer // nil: nothing is kept
	due    time.Time   // when it comes: as the first one's time is over, or before
	closed bool
}

type aging[C any] struct {
	conn  C
	until time.Time
}

// Take gives the connection that was put last, if there is one whose time is not over.
// It belongs to the caller then.
func (p *Idle[C]) Take(now time.Time) (conn C, ok bool) {
	for {
		p.mu.Lock()
		n := len(p.kept) - 1
		if n < 0 {
			p.mu.Unlock()
			return conn, false
		}
		last := p.kept[n]
		p.kept[n] = aging[C]{}
		p.kept = p.kept[:n]
		p.mu.Unlock()
		if now.Before(last.until) {
			return last.conn, true
		}
		p.End(last.conn) // the reaper is about to come
	}
}

// Put keeps a connection for so long, or ends it.
func (p *Idle[C]) Put(conn C, keep time.Duration) {
	p.mu.Lock()
	if p.closed || len(p.kept) >= p.Max {
		p.mu.Unlock()
		p.End(conn)
		return
	}
	until := time.Now().Add(keep)
	p.kept = append(p.kept, aging[C]{conn, until})
	if p.reaper == nil || until.Before(p.due) {
		p.await(until, keep)
	}
	p.mu.Unlock()
}

// await has the reaper come at that time, which is so far off; p.mu is held.
func (p *Idle[C]) await(at time.Time, off time.Duration) {
	if p.reaper != nil {
		p.reaper.Stop()
	}
	p.reaper, p.due = time.AfterFunc(off, p.reap), at
}

// reap ends those whose time is over, and comes back for the next.
func (p *Idle[C]) reap() {
	var next time.Time
	var old []aging[C]
	p.mu.Lock()
	now := time.Now()
	p.kept = slices.DeleteFunc(p.kept, func(a aging[C]) bool {
		over := !now.Before(a.until)
		if over {
			old = append(old, a)
		} else if next.IsZero() || a.until.Before(next) {
			next = a.until
		}
		return over
	})
	if len(p.kept) > 0 {
		p.await(next, next.Sub(now))
	} else {
		p.reaper = nil
	}
	p.mu.Unlock()
	p.end(old)
}

// Flush ends what is kept.
func (p *Idle[C]) Flush() { p.flush(false) }

// Close ends what is kept, and from now on whatever is put.
func (p *Idle[C]) Close() { p.flush(true) }

func (p *Idle[C]) flush(last bool) {
	p.mu.Lock()
	old := p.kept
	p.kept, p.closed = nil, p.closed || last
	if p.reaper != nil {
		p.reaper.Stop()
		p.reaper = nil
	}
	p.mu.Unlock()
	p.end(old)
}

// end waits for none before the next: one may say goodbye to a target that hangs.
func (p *Idle[C]) end(old []aging[C]) {
	var ending sync.WaitGroup
	for _, a := range old {
		ending.Go(func() { p.End(a.conn) })
	}
	ending.Wait()
}

// Len is how many are kept.
func (p *Idle[C]) Len() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.kept)
}
