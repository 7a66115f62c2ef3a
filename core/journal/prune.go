package journal

import (
	"context"
	"fmt"
	"slices"
	"time"
)

// The flags of events.pruned say what is gone of an event. Its salt goes with the
// last of it: from then on no digest of the audit can be guessed.
const (
	prunedBody = 1 // what came
	prunedSent = 2 // what was sent, and what targets and scripts said
	// prunedRecord is set where there was one.
	prunedRecord = 4 // what was read from TrialKit
)

// What can be pruned of an event.
const (
	PrunePayloads = "payloads" // the body that came
	PruneSent     = "sent"     // messages, and the words of targets and scripts
	PruneEnriched = "enriched" // the records that were read
	PruneEvents   = "events"   // all of it
)

// Retention says how long what a hook has taken in is kept, counted from when it
// came. Zero is for ever.
type Retention struct {
	Hook                             string
	Payloads, Sent, Enriched, Events time.Duration
}

// Pruned is what was pruned of a hook's events, or would be.
type Pruned struct {
	Hook, What string
	Events     int
	// Open are those that are old enough and stay: a delivery of theirs has not
	// ended, or is dead and blocks its lane.
	Open int
}

// pruneKind is one limit of one hook.
type pruneKind struct {
	hook, what string
	flag       int64 // of events.pruned; 0: all goes
	limit      time.Duration
}

func (r Retention) kinds() (all []pruneKind) {
	for _, k := range []pruneKind{
		{r.Hook, PruneEvents, 0, r.Events}, // first: its parts need not be pruned by themselves
		{r.Hook, PrunePayloads, prunedBody, r.Payloads},
		{r.Hook, PruneSent, prunedSent, r.Sent},
		{r.Hook, PruneEnriched, prunedRecord, r.Enriched},
	} {
		if k.limit > 0 {
			all = append(all, k)
		}
	}
	return all
}

// Events wait behind a batch in the writer, so it is small and seldom: what is
// pruned has waited for months.
const (
	pruneLook  = 1000 // events looked at by one read
	pruneBatch = 64   // events of one transaction
	// pruneRest is how many times a batch's own time is paused after it: fewer than one
	// event in a hundred meets it.
	pruneRest    = 120
	pruneRestMin = 10 * time.Millisecond
	pruneRestMax = 2 * time.Second
	// maxKeyAge is no less than how long a caller's own id can be remembered.
	maxKeyAge = 32 * 24 * time.Hour
	// pruneLock is no lane: a lane has no NUL.
	pruneLock = "\x00prune"
)

// pruner is what this node knows of the progress: it saves looking at the same
// events again. Who has turn may use it.
type pruner struct {
	turn chan struct{}
	done map[string]*pruneState
}

// pruneState is the progress of a kind. What lies behind at was looked at, and
// only left may still be there.
type pruneState struct {
	upto int64 // as in the table
	at   int64
	left []int64 // old ones that were open
}

func newPruner() pruner {
	return pruner{turn: make(chan struct{}, 1), done: map[string]*pruneState{}}
}

// Prune deletes what is older than its limit, of events whose deliveries have all
// ended. It goes gently, and can be ended at any time by ctx: then it returns what
// it has done with the error of ctx. With dry it only counts.
func (s *Store) Prune(ctx context.Context, rules []Retention, dry bool) (all []Pruned, err error) {
	if !dry {
		select {
		case s.pruner.turn <- struct{}{}:
			defer func() { <-s.pruner.turn }()
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
	for _, r := range rules {
		for _, k := range r.kinds() {
			p := Pruned{Hook: k.hook, What: k.what}
			err := s.prune(ctx, k, dry, &p)
			all = append(all, p)
			if err != nil {
				if ctx.Err() != nil {
					return all, ctx.Err()
				}
				return all, fmt.Errorf("%s of hook %s are not all pruned: %w", k.what, k.hook, err)
			}
		}
	}
	return all, nil
}

// old is an event that is older than its limit.
type old struct {
	seq int64
	id  string
}

func (s *Store) prune(ctx context.Context, k pruneKind, dry bool, p *Pruned) error {
	st, err := s.progress(ctx, k, dry)
	if err != nil {
		return err
	}
	err = s.goOn(ctx, k, dry, st, p)
	if dry || k.what == PruneEnriched {
		return err
	}
	// Also when it was cut off: the next one goes on from there.
	upto := st.at
	if len(st.left) > 0 {
		upto = min(upto, slices.Min(st.left)-1)
	}
	if upto <= st.upto {
		return err
	}
	saving, cancel := context.WithTimeout(context.WithoutCancel(ctx), queueWait)
	defer cancel()
	saved := s.writer.do(saving, &op{name: "progress of pruning", steps: []step{{q: qPruneUpto, args: []any{k.hook, k.what, upto}}}})
	if saved == nil {
		st.upto = upto
	}
	return firstError(err, saved)
}

// progress is where to go on. Another node may have come further.
func (s *Store) progress(ctx context.Context, k pruneKind, dry bool) (*pruneState, error) {
	var upto int64
	if k.what == PruneEnriched { // what was pruned is not found again
		return &pruneState{}, nil
	}
	err := s.read(ctx, qPruneFrom, []any{k.hook, k.what}, func(r row) { upto = r.int(0) })
	if err != nil {
		return nil, err
	}
	if dry {
		return &pruneState{upto: upto, at: upto}, nil
	}
	name := k.hook + "\x00" + k.what
	st := s.pruner.done[name]
	if st == nil {
		st = &pruneState{}
		s.pruner.done[name] = st
	}
	st.upto, st.at = max(st.upto, upto), max(st.at, upto)
	st.left = slices.DeleteFunc(st.left, func(seq int64) bool { return seq <= upto })
	return st, nil
}

// goOn looks at what was left, and at what came after.
func (s *Store) goOn(ctx context.Context, k pruneKind, dry bool, st *pruneState, p *Pruned) error {
	again := st.left
	st.left = nil
	for len(again) > 0 {
		n := min(pruneLook, len(again))
		if _, err := s.pruneSome(ctx, k, dry, st, p, again[:n]); err != nil {
			st.left = append(st.left, again...)
			return err
		}
		again = again[n:]
	}
	for more := true; more; {
		var err error
		if more, err = s.pruneSome(ctx, k, dry, st, p, nil); err != nil {
			return err
		}
	}
	return nil
}

// seen is an event that was looked at.
type seen struct {
	old
	ago  bool // it is older than the limit
	ours bool // of the hook, and not yet pruned
	open bool
	late bool // it is the newest
}

// pruneSome looks at some events, those again if there are any, and prunes those
// that are due. It tells whether more can follow them. After an error the progress
// is as it was.
func (s *Store) pruneSome(ctx context.Context, k pruneKind, dry bool, st *pruneState, p *Pruned, again []int64) (more bool, err error) {
	q, args := qPruneNext, []any{k.hook, flag(k.flag == 0), st.at, int64(pruneLook)}
	if k.what == PruneEnriched {
		q = qPruneRecords
	}
	if again != nil {
		q, args = qPruneAgain, []any{k.hook, flag(k.flag == 0), list(again)}
	}
	var all []seen
	last := -1 // the last one that is old: what came before it is not waited for
	began := time.Now()
	err = s.read(ctx, q, args, func(r row) {
		e := seen{
			old: old{r.int(0), r.str(1)}, ago: r.micros(2) >= k.limit, ours: r.flag(3) && r.int(4)&k.flag == 0,
			open: r.flag(5), late: r.flag(6),
		}
		if e.ago {
			last = len(all)
		}
		all = append(all, e)
	})
	if err != nil {
		return false, err
	}
	if again == nil {
		more = len(all) == pruneLook && last == len(all)-1
		all = all[:last+1]
	}
	var due []old
	var left []int64
	open := 0
	for _, e := range all {
		switch {
		case !e.ours:
		case e.ago && !e.open && !e.late:
			due = append(due, e.old)
		default:
			left = append(left, e.seq)
			if e.ago && e.open {
				open++
			}
		}
	}
	if err := pause(ctx, time.Since(began)); err != nil {
		return false, err
	}
	for batch := range slices.Chunk(due, pruneBatch) {
		if dry {
			p.Events += len(batch)
			continue
		}
		began := time.Now()
		gone, err := s.pruneBatch(ctx, k, batch)
		if err != nil {
			return false, err
		}
		p.Events += len(gone)
		for _, e := range batch { // what another node, or an operator, has come to first
			if !slices.Contains(gone, e.id) {
				left = append(left, e.seq)
			}
		}
		if err := pause(ctx, min(pruneRestMax, max(pruneRestMin, pruneRest*time.Since(began)))); err != nil {
			return false, err
		}
	}
	p.Open += open
	st.left = append(st.left, left...)
	if len(all) > 0 && again == nil {
		st.at = all[len(all)-1].seq
	}
	return more, nil
}

func pause(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// pruneBatch prunes events in one transaction, and returns the ids of those that
// still were to be.
func (s *Store) pruneBatch(ctx context.Context, k pruneKind, batch []old) (ids []string, err error) {
	var seqs []int64
	var all []int64
	var names []string
	for _, e := range batch {
		all = append(all, e.seq)
		names = append(names, e.id)
	}
	keys, err := s.keysOf(ctx, k, batch, names)
	if err != nil {
		return nil, err
	}
	err = s.writer.do(ctx, &op{
		name:  "pruning",
		reset: func() { seqs, ids = nil, nil },
		audit: func(t *trail) {
			if len(ids) > 0 {
				t.add(&AuditEntry{Kind: auditPrune, Hook: k.hook, What: k.what, Events: ids, Actor: "retention"})
			}
		},
		script: func(t tx) error {
			// An operator's retry locks the lane before it looks.
			lanes := []string{pruneLock}
			if err := t.do(step{q: qPruneLanes, args: []any{list(all)}, row: func(r row) { lanes = append(lanes, r.str(0)) }}); err != nil {
				return err
			}
			if err := t.lock(lanes); err != nil {
				return err
			}
			err := t.do(step{
				q: qPruneDue, args: []any{k.hook, list(all), k.flag, k.limit.Microseconds(), flag(k.flag == 0)},
				row: func(r row) { seqs, ids = append(seqs, r.int(0)), append(ids, r.str(1)) },
			})
			if err != nil || len(seqs) == 0 {
				return err
			}
			for _, s := range k.steps(seqs, ids, keys) {
				if err := t.do(s); err != nil {
					return err
				}
			}
			return nil
		},
	})
	return ids, err
}

// steps prune events.
func (k pruneKind) steps(seqs []int64, ids []string, keys [][]byte) (steps []step) {
	of, named := list(seqs), list(ids)
	switch k.what {
	case PrunePayloads:
		steps = append(steps, step{q: qPruneBody, args: []any{blob(nil), of}})
	case PruneSent:
		steps = append(steps,
			step{q: qPruneMessages, args: []any{of}},
			step{q: qPruneReplies, args: []any{blob(nil), of}},
			step{q: qPruneWords, args: []any{of}},
			step{q: qPruneSent, args: []any{of}},
		)
	case PruneEnriched:
		steps = append(steps, step{q: qPruneSnapshots, args: []any{of}}, step{q: qPruneEnriched, args: []any{of}})
	case PruneEvents:
		steps = append(steps,
			step{q: qPruneActs, args: []any{named}},
			step{q: qPruneOldActs, args: []any{of}},
			step{q: qPruneMessages, args: []any{of}},
			step{q: qPruneSnapshots, args: []any{of}},
			step{q: qPruneAttempts, args: []any{of}},
			step{q: qPruneDeliveries, args: []any{of}},
			step{q: qPruneAnswers, args: []any{of}},
			step{q: qPruneEvent, args: []any{of}},
		)
		for _, key := range keys {
			steps = append(steps, step{q: qPruneKey, args: []any{k.hook, key, named}})
		}
	}
	return steps
}

// keysOf are the callers' own ids of events that are to go: the table has no index
// for them, so they are looked for before, beside the writer.
func (s *Store) keysOf(ctx context.Context, k pruneKind, batch []old, ids []string) (keys [][]byte, err error) {
	if k.what != PruneEvents {
		return nil, nil
	}
	args := []any{batch[len(batch)-1].seq, maxKeyAge.Microseconds(), list(ids)}
	err = s.read(ctx, qPruneKeys, args, func(r row) { keys = append(keys, r.bytes(0)) })
	return keys, err
}
