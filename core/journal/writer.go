package journal

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// step is one statement of an op. Its arguments do not depend on the results of
// earlier steps, so that Postgres gets a whole batch in one round trip.
type step struct {
	q    query
	args []any
	row  func(row) // for each row of the result
	// did takes the place of row on SQLite, where the text's {returning ..} is left
	// out: the id of the row that was inserted, how many were changed, and when.
	did func(id, changed int64, now time.Time)
	// lite: it makes up on SQLite for what {returning ..} tells elsewhere.
	lite bool
	// when, if set, may save SQLite the statement: what it would find or do is
	// known to be of no interest.
	when func() bool
}

// tx is a transaction in progress.
type tx interface {
	// lock keeps other nodes away from lanes and keys until the end.
	lock(names []string) error
	do(s step) error
}

// op is a change on its way into the journal.
type op struct {
	name  string
	lanes []string // whose heads it may move
	steps []step
	// script, in place of steps, looks at results as it goes along. Its error is
	// the op's own unless it is trouble; it must not have written anything then.
	script func(tx) error
	// reset forgets the results of a try that was rolled back.
	reset func()
	// undo, if set, makes the op that takes this one back, for a commit that may
	// have been made although the caller was told that it was not.
	undo func() *op
	// unsure, if set, adds what a try needs to know of an earlier one whose
	// commit was not confirmed.
	unsure func()

	// audit tells what it has done, once its results are known.
	audit func(*trail)

	// calm: it may wait a little for company.
	calm bool
	// must: it stays until it is written; end takes the place of done then.
	must bool
	end  func(error)

	ctx   context.Context // of the caller
	state atomic.Int32
	err   error
	done  chan struct{}
}

// The states of an op: the one who moves it from waiting has it.
const (
	opWaiting int32 = iota
	opPicked
	opAbandoned
)

func (o *op) finish(err error) {
	o.err = err
	if o.end != nil {
		o.end(err)
	}
	if o.done != nil {
		close(o.done)
	}
}

const (
	// confirmWait bounds the search for what may have been written.
	confirmWait = 3 * time.Second

	// batchMax bounds a transaction, and with it how long its first op waits.
	batchMax = 512
	// queueWait bounds an op's wait for the writer, which itself is bounded by
	// the engine's timeouts: a caller is told in a few seconds.
	queueWait = 4 * time.Second
	// closeWait bounds Close's wait for what must not be lost.
	closeWait = 10 * time.Second

	// calmWait is how long what nobody waits for waits for company. Most of the time
	// the next event comes first, and takes it along: one sync less.
	calmWait = 5 * time.Millisecond

	retryFirst = 100 * time.Millisecond
	retryMost  = 2 * time.Second
	// troubleAgain is how often a journal that stays away is logged.
	troubleAgain = time.Minute
)

// engine is a database.
type engine interface {
	// batch runs ops, none of them with a script unless scripts says so, in one
	// transaction and in order. After an error none of it is written, but for
	// trouble that is unsure.
	batch(ops []*op) error
	// scripts tells whether a script belongs into a batch. Otherwise it is run by
	// alone, beside the writer.
	scripts() bool
	alone(ctx context.Context, o *op) error
	read(ctx context.Context, q query, args []any, each func(row)) error
	// snapshot lets f read several tables as of one instant.
	snapshot(ctx context.Context, f func(snapshot) error) error
	close() error
}

// confirmer is an engine that can find out whether an op was written of which it
// said that it is not sure.
type confirmer interface {
	// confirm tells whether o is written, and sees to its results if it is. It gives
	// an error if that cannot be known, which is trouble if it can be tried again.
	confirm(ctx context.Context, o *op) (bool, error)
}

// writer is the one goroutine that changes the journal: what waits when it gets
// round to it becomes one transaction (group commit).
type writer struct {
	engine engine
	log    *slog.Logger
	// committed, if set, is told of each transaction.
	committed func(took time.Duration, changes int)

	mu      sync.Mutex
	waiting []*op
	closed  bool
	wake    chan struct{}
	calm    chan struct{} // wakes it in calmWait
	undos   int           // that are pending
	undone  chan struct{} // closed when there are none

	late   []*op // that must not be lost and could not be written, in order
	pause  time.Duration
	health health

	stop    chan struct{} // closed by Close
	stopped chan struct{}
	bound   <-chan time.Time
}

func newWriter(e engine, log *slog.Logger) *writer {
	return &writer{
		engine: e, log: log, health: health{log: log},
		wake: make(chan struct{}, 1), calm: make(chan struct{}, 1), stop: make(chan struct{}), stopped: make(chan struct{}),
	}
}

func (w *writer) add(o *op) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.closed {
		return false
	}
	w.waiting = append(w.waiting, o)
	wake := w.wake
	if o.calm {
		wake = w.calm
	}
	select {
	case wake <- struct{}{}:
	default:
	}
	return true
}

// do hands the op to the writer and waits for it. An op that has not been picked
// up when ctx ends is surely not written.
func (w *writer) do(ctx context.Context, o *op) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if o.script != nil && !w.engine.scripts() {
		return w.alone(ctx, o)
	}
	o.ctx, o.done = ctx, make(chan struct{})
	if !w.add(o) {
		return ErrClosed
	}
	// Nearly always it is done before a timer would be worth its price.
	timer := time.NewTimer(queueWait)
	defer timer.Stop()
	select {
	case <-o.done:
		return o.err
	case <-ctx.Done():
		if o.state.CompareAndSwap(opWaiting, opAbandoned) {
			return ctx.Err()
		}
	case <-timer.C:
		if o.state.CompareAndSwap(opWaiting, opAbandoned) {
			return &trouble{why: fmt.Sprintf("it has been busy for %s: look at the load of its disk or database", queueWait)}
		}
	}
	<-o.done
	return o.err
}

func (w *writer) alone(ctx context.Context, o *op) error {
	w.mu.Lock()
	closed := w.closed
	w.mu.Unlock()
	if closed {
		return ErrClosed
	}
	if err := w.quiet(ctx); err != nil {
		return err
	}
	err := w.engine.alone(ctx, o)
	t := troubleOf(err)
	if t == nil {
		return err
	}
	if ctx.Err() == nil || t.unsure {
		w.health.bad(t)
	}
	if !t.unsure || o.undo == nil {
		return err
	}
	undo := w.counted(o.undo()) // now, as confirm forgets the results
	o.ctx = ctx
	made, known := w.confirm(o, time.Now().Add(confirmWait))
	switch {
	case made:
		undo.finish(errUnneeded)
		return nil
	case known:
		undo.finish(errUnneeded)
		return t.sure()
	}
	w.must(undo)
	return err
}

// errUnneeded is what becomes of an undo of something that is known.
var errUnneeded = errors.New("there is nothing to take back")

// counted keeps scripts, which run beside the writer, from overtaking an undo: it
// could not tell what they begin from what it is to take back.
func (w *writer) counted(undo *op) *op {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.undos == 0 {
		w.undone = make(chan struct{})
	}
	w.undos++
	end := undo.end
	undo.end = func(err error) {
		if end != nil {
			end(err)
		}
		w.mu.Lock()
		defer w.mu.Unlock()
		if w.undos--; w.undos == 0 {
			close(w.undone)
		}
	}
	return undo
}

// quiet waits until no undo is pending.
func (w *writer) quiet(ctx context.Context) error {
	w.mu.Lock()
	undone := w.undone
	w.mu.Unlock()
	if undone == nil {
		return nil
	}
	timer := time.NewTimer(queueWait)
	defer timer.Stop()
	select {
	case <-undone:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	case <-timer.C:
		return &trouble{why: "what may have been written while it was away is not taken back yet: it goes on by itself"}
	}
}

// confirm tries to find out what became of an op, as long as its caller waits.
func (w *writer) confirm(o *op, deadline time.Time) (made, known bool) {
	c, ok := w.engine.(confirmer)
	if !ok || o.ctx == nil {
		return false, false
	}
	ctx, cancel := context.WithDeadline(o.ctx, deadline)
	defer cancel()
	for ctx.Err() == nil {
		made, err := c.confirm(ctx, o)
		if err == nil {
			return made, true
		}
		if troubleOf(err) == nil {
			break
		}
		select {
		case <-time.After(retryFirst):
		case <-ctx.Done():
		}
	}
	return false, false
}

// must hands over an op that is kept until it is written.
func (w *writer) must(o *op) {
	o.must = true
	if !w.add(o) {
		o.finish(ErrClosed)
	}
}

func (w *writer) run() {
	defer close(w.stopped)
	var timer *time.Timer
	var company <-chan time.Time // until what is calm has waited enough
	for {
		var again <-chan time.Time
		if len(w.late) > 0 {
			timer = time.NewTimer(w.pause)
			again = timer.C
		}
		select {
		case <-w.wake:
		case <-company:
		case <-w.calm:
			if company == nil {
				company = time.After(calmWait)
			}
			continue
		case <-again:
		case <-w.stop:
			w.drain()
			return
		}
		if timer != nil {
			timer.Stop()
		}
		company = nil
		w.turn(w.take())
	}
}

// drain returns when the writer may end: nothing is left, or its time is up.
func (w *writer) drain() {
	for {
		w.turn(w.take())
		w.mu.Lock()
		idle := len(w.waiting) == 0
		w.mu.Unlock()
		if idle && len(w.late) == 0 {
			return
		}
		if idle {
			select {
			case <-time.After(w.pause):
			case <-w.bound:
				w.log.Error("the journal could not be written before the stop: outcomes are lost, and their deliveries count as unknown",
					"count", len(w.late))
				for _, o := range w.late {
					o.finish(ErrClosed)
				}
				return
			}
		}
	}
}

func (w *writer) take() []*op {
	w.mu.Lock()
	defer w.mu.Unlock()
	ops := w.waiting
	w.waiting = nil
	return ops
}

// turn writes what is late and then ops. Nothing overtakes: an op that is late
// goes before all that came after it.
func (w *writer) turn(ops []*op) {
	fresh := ops[:0]
	for _, o := range ops {
		if o.state.CompareAndSwap(opWaiting, opPicked) {
			fresh = append(fresh, o)
		}
	}
	all := fresh
	if len(w.late) > 0 {
		all = slices.Concat(w.late, fresh)
		w.late = nil
	}
	for len(all) > 0 {
		n := min(batchMax, len(all))
		if t := w.write(all[:n:n]); t != nil {
			w.failed(all, t)
			return
		}
		all = all[n:]
	}
}

// write runs a batch and finishes its ops. With trouble it finishes those that
// were written; the others have state opPicked still.
func (w *writer) write(batch []*op) *trouble {
	begun := time.Now()
	err := w.engine.batch(batch)
	if err == nil {
		if w.committed != nil {
			w.committed(time.Since(begun), len(batch))
		}
		w.health.good()
		w.pause = 0
		for _, o := range batch {
			o.state.Store(opAbandoned)
			o.finish(o.err)
		}
		return nil
	}
	if t := troubleOf(err); t != nil {
		return t
	}
	if len(batch) == 1 {
		o := batch[0]
		o.state.Store(opAbandoned)
		err = fmt.Errorf("journal: %s: %w", o.name, err)
		if o.must {
			w.log.Error("the journal refuses an entry: this is a defect of Hookline", "entry", o.name, "error", err)
		}
		o.finish(err)
		return nil
	}
	// One op is bad. It must not take the others with it.
	for i := range batch {
		if t := w.write(batch[i : i+1 : i+1]); t != nil {
			return t
		}
	}
	return nil
}

// failed tells the callers, and keeps what must not be lost.
func (w *writer) failed(ops []*op, t *trouble) {
	w.health.bad(t)
	w.pause = min(max(2*w.pause, retryFirst), retryMost)
	made, not := w.confirmAll(ops, t)
	for _, o := range ops {
		switch {
		case o.state.Load() != opPicked: // written before the trouble
		case o.must:
			if t.unsure && o.unsure != nil {
				o.unsure()
				o.unsure = nil
			}
			w.late = append(w.late, o)
		case made[o]:
			o.finish(nil)
		case not[o]:
			o.finish(t.sure())
		default:
			if t.unsure && o.undo != nil {
				undo := w.counted(o.undo())
				undo.must = true
				undo.state.Store(opPicked)
				w.late = append(w.late, undo)
			}
			o.finish(t)
		}
	}
}

// confirmAll finds out which ops are written and which are not. It asks first for
// those whose callers leave first.
func (w *writer) confirmAll(ops []*op, t *trouble) (made, not map[*op]bool) {
	made, not = map[*op]bool{}, map[*op]bool{}
	if !t.unsure {
		return made, not
	}
	ask := slices.DeleteFunc(slices.Clone(ops), func(o *op) bool {
		return o.state.Load() != opPicked || o.must || o.undo == nil || o.ctx == nil
	})
	deadline := time.Now().Add(confirmWait)
	slices.SortStableFunc(ask, func(a, b *op) int { return a.leaves(deadline).Compare(b.leaves(deadline)) })
	for _, o := range ask {
		yes, known := w.confirm(o, deadline)
		made[o], not[o] = yes, known && !yes
	}
	return made, not
}

// leaves is when the caller does, or deadline.
func (o *op) leaves(deadline time.Time) time.Time {
	if at, ok := o.ctx.Deadline(); ok && at.Before(deadline) {
		return at
	}
	return deadline
}

// close writes what waits, for closeWait at most.
func (w *writer) close(wait time.Duration) {
	w.mu.Lock()
	w.closed = true
	w.mu.Unlock()
	w.bound = time.After(wait)
	close(w.stop)
	<-w.stopped
}

// health logs once that the journal is away and once that it is back.
type health struct {
	log  *slog.Logger
	mu   sync.Mutex
	down time.Time
	said time.Time
	is   atomic.Bool
}

func (h *health) bad(t *trouble) {
	h.mu.Lock()
	defer h.mu.Unlock()
	now := time.Now()
	if !h.is.Swap(true) {
		h.down = now
	} else if now.Sub(h.said) < troubleAgain {
		return
	}
	h.said = now
	h.log.Error(t.Error())
}

func (h *health) good() {
	if !h.is.Load() {
		return
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.is.Swap(false) {
		h.log.Info("the journal is available again", "after", time.Since(h.down).Round(time.Millisecond))
	}
}

// asTrouble makes any error of a read one that wraps [ErrUnavailable].
func asTrouble(err error) error {
	if err == nil || errors.Is(err, ErrUnavailable) || errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) {
		return err
	}
	return fmt.Errorf("%w: %w", ErrUnavailable, err)
}
