package journal

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/hookline/hookline/core"
	"github.com/hookline/hookline/plugins/transport"
)

// maxReply is how much of a target's answer is kept.
const maxReply = 4 << 10

// keyPruneEvery is how many keys are written between two prunings.
const keyPruneEvery = 256

// begun collects what the database says of a new delivery.
type begun struct {
	seq     int64
	at      time.Time
	running bool
	ahead   core.State
	here    bool
}

func eventStep(ev *core.Event) step {
	values := eventValues(ev, [3]string{})
	return step{q: qEventInsert, args: append(values[:len(values)-3], ev.Salt[:], blob(ev.Body))}
}

// Begin implements [core.Journal].
func (s *Store) Begin(ctx context.Context, e *core.Entry) error {
	owner := s.owner()
	results := make([]begun, len(e.Deliveries))
	steps := make([]step, 0, 1+2*len(e.Deliveries))
	steps = append(steps, eventStep(e.Event))
	lanes := make([]string, 0, len(e.Deliveries))
	for i, p := range e.Deliveries {
		b := &results[i]
		lanes = append(lanes, p.Lane)
		steps = append(steps, step{
			q: qDeliveryInsert,
			args: []any{
				p.ID, e.Event.ID, e.Event.Hook.Name, p.Route, p.Lane, flag(p.Run), owner, p.Wait.Microseconds(),
				int64(p.Shape), p.Script, p.Revision,
			},
			row: func(r row) { b.seq, b.at = r.int(0), r.time(1) },
			did: func(id, _ int64, now time.Time) { b.seq, b.at = id, now },
		}, step{
			q: qHead, args: []any{p.Lane},
			row: func(r row) {
				state := core.State(r.str(1))
				if r.int(0) == b.seq {
					b.running = state == core.StateRunning
					return
				}
				b.ahead = state
				b.here = state == core.StateRunning && r.str(2) == owner
			},
		})
		steps = append(steps, messageSteps(p.Delivery, true, owner)...)
	}
	o := &op{
		name: "event " + e.Event.ID, lanes: lanes, steps: steps,
		reset: func() { clear(results) },
		undo:  func() *op { return s.undoBegin(e.Event.ID, lanes) },
	}
	event := eventAudit(e.Event, [3]string{})
	o.audit = func(t *trail) {
		event(t)
		for i := range results {
			t.touch(results[i].seq)
			if d := e.Deliveries[i].Delivery; d.Shape == core.ShapeMessages {
				t.shaped(results[i].seq, d.Contents)
			}
		}
	}
	if e.Key != "" {
		o.script = func(t tx) error { return beginKeyed(t, e, lanes, steps) }
	}
	if err := s.writer.do(ctx, o); err != nil {
		return err
	}
	for i, p := range e.Deliveries {
		b := &results[i]
		p.Seq, p.Ahead, p.Here = b.seq, b.ahead, b.here
		p.State = core.StateQueued
		if b.running {
			p.State, p.Begun = core.StateRunning, b.at
		}
	}
	if e.Key != "" && s.keyed.Add(1)%keyPruneEvery == 0 {
		s.writer.must(&op{name: "expired keys", steps: []step{{q: qKeyPrune}}})
	}
	return nil
}

func beginKeyed(t tx, e *core.Entry, lanes []string, steps []step) error {
	hook, key, sha := e.Event.Hook.Name, []byte(e.Key), sha256.Sum256(e.Event.Body)
	if err := t.lock(append(slices.Clone(lanes), keyLock(hook, e.Key))); err != nil {
		return err
	}
	var known, same bool
	var id string
	err := t.do(step{q: qKeyFind, args: []any{hook, key}, row: func(r row) {
		known, same, id = true, bytes.Equal(r.bytes(0), sha[:]), r.str(1)
	}})
	switch {
	case err != nil:
		return err
	case same:
		return duplicate(t, id)
	case known:
		return core.ErrKeyConflict
	}
	if err := t.do(step{q: qKeyUpsert, args: []any{hook, key, sha[:], e.Event.ID, e.KeyAge.Microseconds()}}); err != nil {
		return err
	}
	for _, st := range steps {
		if err := t.do(st); err != nil {
			return err
		}
	}
	return nil
}

// duplicate tells what became of the event that was sent before.
func duplicate(t tx, id string) error {
	d := &core.DuplicateError{EventID: id}
	var event int64
	err := t.do(step{q: qEventFind, args: []any{id, ""}, row: func(r row) { event, d.Ref = r.int(0), r.str(2) }})
	if err != nil {
		return err
	}
	var seqs []int64
	err = t.do(step{q: qEventSeqs, args: []any{event}, row: func(r row) { seqs = append(seqs, r.int(0)) }})
	if err != nil {
		return err
	}
	if len(seqs) > 0 {
		if d.Deliveries, err = load(t, seqs); err != nil {
			return err
		}
	}
	return d
}

// keyLock is no lane: a lane has no NUL.
func keyLock(hook, key string) string { return "\x00key\x00" + hook + "\x00" + key }

// undoBegin takes back a Begin that was answered as not written and may be.
func (s *Store) undoBegin(event string, lanes []string) *op {
	var found []core.Promotion
	var ended []int64
	o := &op{name: "event " + event + ", taken back", lanes: lanes, steps: []step{{
		q:    qUndoBegin,
		args: []any{"the journal failed while this was written, and the caller was told so", event},
		row:  func(r row) { ended = append(ended, r.int(0)) },
	}, {q: qKeyForget, args: []any{event}}}}
	for _, lane := range lanes {
		o.steps = append(o.steps, promoteSteps(lane, nil, func(p core.Promotion) { found = append(found, p) })...)
	}
	o.reset = func() { found, ended = nil, nil }
	o.audit = func(t *trail) { t.touch(ended...); t.promoted(found) }
	o.end = func(err error) {
		if err == nil {
			s.promoted(found)
		}
	}
	return o
}

// undoRun gives back a delivery whose Take or Claim may have been written.
func (s *Store) undoRun(seq int64, owner string) *op {
	var found []core.Promotion
	return &op{
		name:  fmt.Sprintf("delivery %d, given back", seq),
		reset: func() { found = nil },
		audit: func(t *trail) { t.promoted(found) },
		steps: []step{{q: qUndoRun, args: []any{seq, owner}, row: func(r row) {
			found = append(found, core.Promotion{Seq: seq, Route: r.str(0)})
		}}},
		end: func(err error) {
			if err == nil {
				s.promoted(found)
			}
		},
	}
}

// Refused implements [core.Journal].
func (s *Store) Refused(ctx context.Context, ev *core.Event, code core.Code, key, rule string) error {
	return s.writer.do(ctx, &op{
		name:  "refused event " + ev.ID,
		steps: []step{eventStep(ev), {q: qRefuse, args: []any{string(code), clean(key), clean(rule), ev.ID}}},
		audit: eventAudit(ev, [3]string{string(code), clean(key), clean(rule)}),
		undo:  func() *op { return s.undoBegin(ev.ID, nil) },
	})
}

// Take implements [core.Journal].
func (s *Store) Take(ctx context.Context, d *core.Delivery) (bool, error) {
	var taken bool
	var attempts int64
	var at time.Time
	owner := s.owner()
	err := s.writer.do(ctx, &op{
		name:  "delivery " + d.ID,
		reset: func() { taken = false },
		audit: func(t *trail) {
			if taken {
				t.touch(d.Seq)
			}
		},
		undo: func() *op { return s.undoRun(d.Seq, owner) },
		steps: []step{{q: qTake, args: []any{owner, d.Seq}, row: func(r row) {
			taken, attempts, at = true, r.int(0), r.time(1)
		}}},
	})
	if err != nil || !taken {
		return false, err
	}
	d.State, d.Attempts, d.Begun = core.StateRunning, int(attempts), at
	return true, nil
}

// messageSteps write the messages of a new delivery, or of one that owner runs.
func messageSteps(d *core.Delivery, isNew bool, owner string) []step {
	var steps []step
	for n, c := range d.Contents {
		steps = append(steps, step{q: qMessageInsert, args: append(messageValues(n, c), d.ID, flag(isNew), owner)})
	}
	return steps
}

// snapshotStep writes the record that was read for a delivery that owner runs. kept
// is set if it was.
func snapshotStep(d *core.Delivery, owner string, kept *bool) step {
	return step{
		q: qSnapshotInsert, args: append(snapshotValues(d.Snapshot), d.Seq, owner),
		row: func(row) { *kept = true },
		did: func(_, changed int64, _ time.Time) { *kept = changed > 0 },
	}
}

// logsText is how deliveries.logs has lines: JSON, as Postgres takes no NUL in a text.
func logsText(lines []string) string {
	if len(lines) == 0 {
		return ""
	}
	text, _ := json.Marshal(lines) // strings always can be
	return string(text)
}

// Shaped implements [core.Journal].
func (s *Store) Shaped(ctx context.Context, d *core.Delivery) error {
	shape := d.Shape
	if shape == core.ShapeOpen {
		shape = core.ShapeMessages
	}
	owner := s.owner()
	var ours, kept bool
	steps := append([]step{
		{
			q: qShape, args: []any{int64(shape), d.Script, d.Revision, logsText(d.Logs), d.Seq, owner},
			row: func(row) { ours = true },
		},
		{q: qUnshape, args: []any{d.ID, owner}},
	}, messageSteps(d, false, owner)...)
	if d.Snapshot != nil {
		steps = append(steps, snapshotStep(d, owner, &kept))
	}
	for i := range steps[1:] {
		steps[1+i].when = func() bool { return ours }
	}
	err := s.writer.do(ctx, &op{
		name: "shape of delivery " + d.ID, steps: steps, reset: func() { ours, kept = false, false },
		audit: func(t *trail) {
			if ours {
				t.shaped(d.Seq, d.Contents)
			}
			if kept {
				t.enriched(d.Seq, d.Snapshot)
			}
		},
	})
	if err != nil {
		return err
	}
	if !ours {
		return core.ErrLost
	}
	d.Shape = shape
	return nil
}

// promoteSteps make the first of those that wait the head of a lane that has none,
// if when says so.
func promoteSteps(lane string, when func() bool, found func(core.Promotion)) []step {
	moved := false
	tell := func(r row) { found(core.Promotion{Seq: r.int(0), Route: r.str(1), Due: r.until(2)}) }
	return []step{
		{
			q: qPromote, args: []any{lane}, when: when, row: tell,
			did: func(_, changed int64, _ time.Time) { moved = changed > 0 },
		},
		{q: qPeek, args: []any{lane}, lite: true, when: func() bool { return (when == nil || when()) && moved }, row: tell},
	}
}

// Settle implements [core.Journal].
func (s *Store) Settle(d *core.Delivery, set core.Settlement) {
	var ours, kept bool
	var next core.Promotion
	owner, snapshot := s.owner(), d.Snapshot
	open := isOpen(set.State)
	blocks := open || set.Blocks
	var due, ended any
	if open && set.Due >= 0 {
		due = set.Due.Microseconds()
	}
	if !open {
		ended = int64(0)
	}
	steps := make([]step, 0, len(set.Attempts)+3)
	for i := range set.Attempts {
		steps = append(steps, attemptStep(d.Seq, owner, &set.Attempts[i]))
	}
	if d.Snapshot != nil && d.Shape == core.ShapeOpen { // otherwise it was written with the shape
		steps = append(steps, snapshotStep(d, owner, &kept))
	}
	steps = append(steps, step{
		q: qSettle,
		args: []any{
			string(set.State), flag(blocks), flag(blocks), due, int64(d.Attempts), int64(d.Sent), string(set.Code),
			clean(set.Reason), clean(set.Position), logsText(d.Logs), ended, d.Seq, owner,
		},
		row: func(row) { ours = true },
		did: func(_, changed int64, _ time.Time) { ours = changed > 0 },
	})
	o := &op{
		name: "outcome of delivery " + d.ID, calm: set.Calm, reset: func() { ours, kept, next = false, false, core.Promotion{} },
		audit: func(t *trail) {
			if ours {
				t.attempted(d.Seq, set.Attempts)
				t.touch(next.Seq)
			}
			if kept {
				t.enriched(d.Seq, snapshot)
			}
		},
	}
	if !blocks {
		o.lanes = []string{d.Lane}
		steps = append(steps, promoteSteps(d.Lane, func() bool { return ours }, func(p core.Promotion) { next = p })...)
	}
	o.steps = steps
	attempts, sent := int64(d.Attempts), int64(d.Sent)
	o.unsure = func() {
		o.steps = append(o.steps, step{
			q:    qSettled,
			args: []any{d.Seq, string(set.State), attempts, sent},
			row:  func(r row) { ours = ours || r.int(0) > 0 },
		})
		// If it was written, so was the promotion, of whom nobody was told.
		if !blocks {
			o.steps = append(o.steps, step{q: qPeek, args: []any{d.Lane}, row: func(r row) {
				next = core.Promotion{Seq: r.int(0), Route: r.str(1), Due: r.until(2)}
			}})
		}
	}
	o.end = func(err error) {
		if err == nil && !ours {
			err = core.ErrLost
		}
		if set.Settled != nil {
			set.Settled(next, err)
		}
	}
	s.writer.must(o)
}

func isOpen(state core.State) bool {
	switch state {
	case core.StateQueued, core.StateRunning, core.StateWaiting, core.StateUnknown, core.StateHeld:
		return true
	}
	return false
}

func attemptStep(seq int64, owner string, a *core.Attempt) step {
	return step{q: qAttemptInsert, args: append(attemptValues(a), seq, owner)}
}

// keptReply is how much of a target's answer is kept, and whether some is missing.
func keptReply(r *transport.Receipt) (reply []byte, cut bool) {
	if len(r.Body) > maxReply {
		return r.Body[:maxReply], true
	}
	return r.Body, r.Truncated
}

func attemptOf(r row) core.Attempt {
	return core.Attempt{
		N: int(r.int(1)), Message: int(r.int(2)), Start: r.time(3), Took: r.micros(4),
		Receipt: transport.Receipt{
			Effect: transport.Effect(r.str(5)), Code: transport.Code(r.str(6)), TargetStatus: int(r.int(7)),
			ContentType: r.str(8), Body: r.bytes(9), Truncated: r.flag(10), RetryAfter: r.micros(11), Detail: r.str(12),
		},
	}
}

// Answered implements [core.Journal].
func (s *Store) Answered(ev *core.Event, a core.AnswerRecord) {
	values := []any{int64(a.Status), string(a.Code), clean(a.Detail), a.Gone.Microseconds(), time.Now().UnixMicro()}
	s.writer.must(&op{
		name: "answer to event " + ev.ID, calm: true, steps: []step{{q: qAnswer, args: append(values[:5:5], ev.ID)}},
		audit: func(t *trail) {
			b := append([]byte(nil), `{"t":"answer"`...)
			b = appendField(b, "event", ev.ID)
			b = strconv.AppendInt(append(b, `,"status":`...), int64(a.Status), 10)
			b = appendField(b, "code", string(a.Code))
			b = appendField(b, "text", digest(ev.Salt[:], values...))
			t.line(append(b, '}'))
		},
	})
}

// Claim implements [core.Queue].
func (s *Store) Claim(ctx context.Context, route string, body bool, n int) ([]*core.Delivery, error) {
	shape := core.ShapeOpen
	if body {
		shape = core.ShapeBody
	}
	var seqs []int64
	var out []*core.Delivery
	owner := s.owner()
	reset := func() { seqs, out = nil, nil }
	o := &op{
		name: "claim of route " + route, reset: reset,
		script: func(t tx) error {
			err := t.do(step{q: qDue, args: []any{route, int64(n)}, row: func(r row) { seqs = append(seqs, r.int(0)) }})
			if err != nil || len(seqs) == 0 {
				return err
			}
			if err := t.do(step{q: qClaim, args: []any{owner, int64(shape), list(seqs)}}); err != nil {
				return err
			}
			out, err = load(t, seqs)
			return err
		},
		audit: func(t *trail) { t.touch(seqs...) },
		undo: func() *op {
			all := &op{name: "claim of route " + route + ", given back"}
			for _, seq := range seqs {
				all.steps = append(all.steps, s.undoRun(seq, owner).steps...)
			}
			given := slices.Clone(seqs)
			all.audit = func(t *trail) { t.touch(given...) }
			all.end = func(error) { s.promoted([]core.Promotion{{Route: route}}) }
			return all
		},
	}
	if err := s.writer.do(ctx, o); err != nil {
		return nil, err
	}
	return out, nil
}

// load reads deliveries with all that an attempt needs, in the order of seqs.
func load(t tx, seqs []int64) ([]*core.Delivery, error) {
	bySeq := make(map[int64]*core.Delivery, len(seqs))
	var shaped []int64
	ids := list(seqs)
	err := t.do(step{q: qLoad, args: []any{ids}, row: func(r row) {
		d := deliveryOf(r)
		d.Event = eventOf(r[11:])
		d.Event.Body = r.bytes(len(r) - 1)
		bySeq[d.Seq] = d
		if d.Shape == core.ShapeMessages {
			shaped = append(shaped, d.Seq)
		}
	}})
	if err != nil {
		return nil, err
	}
	if len(shaped) > 0 {
		var bad error
		err = t.do(step{q: qLoadMessages, args: []any{list(shaped)}, row: func(r row) {
			d := bySeq[r.int(0)]
			c := core.Content{ContentType: r.str(1), Key: r.str(3), Path: r.str(4), Payload: r.bytes(5)}
			if text := r.str(2); text != "{}" {
				if err := json.Unmarshal([]byte(text), &c.Headers); err != nil {
					bad = fmt.Errorf("message of delivery %s: its headers are not JSON", d.ID)
				}
			}
			d.Contents = append(d.Contents, c)
		}})
		if err = firstError(err, bad); err != nil {
			return nil, err
		}
	}
	out := make([]*core.Delivery, 0, len(seqs))
	for _, seq := range seqs {
		if d := bySeq[seq]; d != nil {
			out = append(out, d)
		}
	}
	return out, nil
}

func firstError(errs ...error) error {
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}

// deliveryOf reads deliveryColumns.
func deliveryOf(r row) *core.Delivery {
	return &core.Delivery{
		Seq: r.int(0), ID: r.str(1), Route: r.str(2), Lane: r.str(3), State: core.State(r.str(4)),
		Attempts: int(r.int(5)), Begun: r.time(6), Sent: int(r.int(7)), Shape: core.Shape(r.int(8)),
		Script: r.str(9), Revision: r.str(10),
	}
}

// eventOf reads eventColumns.
func eventOf(r row) *core.Event {
	return &core.Event{
		ID: r.str(1), Ref: r.str(2),
		Hook: &core.Hook{Name: r.str(3), Study: r.str(4), Stage: core.Stage(r.str(5))},
		Kind: core.Kind(r.str(6)), TransID: r.str(7), FormID: r.str(8), FormName: r.str(9),
		Workflow:   core.Workflow{ID: r.str(10), Name: r.str(11)},
		ReceivedAt: r.time(12), TraceParent: r.str(13), Revision: r.str(14), Origin: r.str(15),
	}
}

// Next implements [core.Queue].
func (s *Store) Next(ctx context.Context, route string) (due time.Duration, ok bool, err error) {
	err = s.read(ctx, qNext, []any{route}, func(r row) { due, ok = r.until(0), true })
	return due, ok, err
}

// lostReason and lostCode are what is known of a delivery whose daemon has died.
const (
	lostReason = "the daemon that was sending it ended"
	lostCode   = string(transport.Timeout)
	goneReason = "its route is not in the configuration"
)

// Recover implements [core.Queue].
func (s *Store) Recover(ctx context.Context, hold []string) (int, error) {
	var found []core.Promotion
	orphans, err := s.any(ctx, qOrphan, s.owner())
	if err != nil || !orphans {
		return 0, err
	}
	err = s.writer.do(ctx, &op{
		name: "recovery", reset: func() { found = nil },
		audit: func(t *trail) { t.promoted(found) },
		script: func(t tx) error {
			// Nodes first: one that comes back between the two statements finds
			// that it has been declared dead, and begins anew.
			me, silent := s.owner(), s.times.dead.Microseconds()
			if s.alone() {
				silent = -1 << 60 // whoever else has a row is dead: this one has the lock
			}
			if err := t.do(step{q: qRecoverNodes, args: []any{silent, me}}); err != nil {
				return err
			}
			return t.do(step{q: qRecover, args: []any{lostCode, lostReason, list(hold), me}, row: func(r row) {
				found = append(found, core.Promotion{Seq: r.int(0), Route: r.str(1), Due: r.until(2)})
			}})
		},
	})
	if err != nil {
		return 0, err
	}
	s.promoted(found)
	return len(found), nil
}

// HoldOthers implements [core.Queue].
func (s *Store) HoldOthers(ctx context.Context, routes []string) (int, error) {
	n := 0
	var held []int64
	count := func(r row) { n++; held = append(held, r.int(0)) }
	args := []any{goneReason, list(routes)}
	strays, err := s.any(ctx, qStray, list(routes))
	if err != nil || !strays {
		return 0, err
	}
	err = s.writer.do(ctx, &op{
		name: "hold of routes", reset: func() { n, held = 0, nil },
		audit: func(t *trail) { t.touch(held...) },
		script: func(t tx) error {
			if err := t.do(step{q: qHoldHeads, args: args, row: count}); err != nil {
				return err
			}
			return t.do(step{q: qHoldBehind, args: args, row: count})
		},
	})
	if err != nil {
		return 0, err
	}
	return n, nil
}

// any tells whether a query finds something.
func (s *Store) any(ctx context.Context, q query, args ...any) (found bool, err error) {
	err = s.read(ctx, q, args, func(row) { found = true })
	return found, err
}

// OnPromoted has f called when acts and recovery have made deliveries due, so
// that the background looks. It must not block.
func (s *Store) OnPromoted(f func(core.Promotion)) { s.onPromoted.Store(&f) }

func (s *Store) promoted(all []core.Promotion) {
	f := s.onPromoted.Load()
	if f == nil {
		return
	}
	for _, p := range all {
		if p.Due >= 0 {
			(*f)(p)
		}
	}
}

type promotedFunc = atomic.Pointer[func(core.Promotion)]
