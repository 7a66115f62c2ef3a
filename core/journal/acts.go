package journal

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"

	"github.com/hookline/hookline/core"
)

// ActResult is what became of one delivery that an operator acted on.
type ActResult struct {
	ID       string
	OK       bool
	Was, Now core.State
	Why      string // it was not done
	New      string // id of the delivery that a replay has made
}

// The acts on deliveries.
const (
	actRetry   = "retry"
	actCancel  = "cancel"
	actHold    = "hold"
	actRelease = "release"
	actReplay  = "replay"
)

// Retry makes deliveries due that are open or have ended without success. One
// that has left its lane comes back with its old place in it, and is next once
// the lane is free. Their age counts anew, the number of their attempts goes on.
func (s *Store) Retry(ctx context.Context, actor, reason string, ids []string) ([]ActResult, error) {
	return s.act(ctx, doing{act: actRetry, actor: actor, reason: reason}, ids)
}

// Cancel ends open deliveries, and the blocking of dead ones. Their lanes go on.
func (s *Store) Cancel(ctx context.Context, actor, reason string, ids []string) ([]ActResult, error) {
	return s.act(ctx, doing{act: actCancel, actor: actor, reason: reason}, ids)
}

// Hold keeps open deliveries from being sent until they are released. What is
// behind them in their lanes waits.
func (s *Store) Hold(ctx context.Context, actor, reason string, ids []string) ([]ActResult, error) {
	return s.act(ctx, doing{act: actHold, actor: actor, reason: reason}, ids)
}

// Release makes held deliveries due, in their old places in their lanes.
func (s *Store) Release(ctx context.Context, actor, reason string, ids []string) ([]ActResult, error) {
	return s.act(ctx, doing{act: actRelease, actor: actor, reason: reason}, ids)
}

// Replay is how to send again what has ended.
type Replay struct {
	Reshape bool // by the script of today, instead of the bytes that were sent
	Force   bool // also over newer data
}

// Replay makes new deliveries of the events of deliveries that have ended, each at
// the end of its lane. The oldest comes first.
func (s *Store) Replay(ctx context.Context, actor, reason string, ids []string, how Replay) ([]ActResult, error) {
	return s.act(ctx, doing{act: actReplay, actor: actor, reason: reason, how: how}, ids)
}

// doing is an act in progress.
type doing struct {
	act, actor, reason string
	how                Replay
}

const whyRunning = "is being attempted now: try again when the attempt has ended"

// refusal says why act is not for a delivery in this state, "" if it is.
func refusal(act string, state core.State, open bool) string {
	switch {
	case act == actReplay:
		if isOpen(state) || state == core.StateDead && open {
			return fmt.Sprintf("is %s and will be sent, or waits for you: retry or release it", state)
		}
		return ""
	case state == core.StateRunning:
		return whyRunning
	case act == actRelease:
		if state != core.StateHeld {
			return fmt.Sprintf("is %s: only what is held can be released", state)
		}
		return ""
	case act == actHold && state == core.StateHeld:
		return "is held already"
	}
	switch state {
	case core.StateQueued, core.StateWaiting, core.StateUnknown, core.StateHeld:
		return ""
	case core.StateDead:
		switch {
		case act == actHold:
			return "has ended as dead: there is nothing to hold"
		case act == actRetry || open:
			return ""
		}
		return "is dead already, and nothing waits for it"
	case core.StateCancelled:
		switch act {
		case actRetry:
			return ""
		case actCancel:
			return "is cancelled already"
		}
	}
	return fmt.Sprintf("has ended as %s: there is nothing to %s", state, act)
}

// For tells in which states a delivery may be for the act to be of use.
func For(act string) []core.State {
	open := []core.State{core.StateQueued, core.StateWaiting, core.StateUnknown, core.StateHeld}
	switch act {
	case actRetry:
		return append(open, core.StateDead, core.StateCancelled)
	case actCancel:
		return append(open, core.StateDead)
	case actHold:
		return open[:3]
	case actRelease:
		return open[3:]
	case actReplay:
		return []core.State{core.StateDelivered, core.StateSkipped, core.StateRejected, core.StateDead, core.StateCancelled}
	}
	return nil
}

func (s *Store) act(ctx context.Context, do doing, ids []string) ([]ActResult, error) {
	do.actor, do.reason = clean(do.actor), clean(do.reason)
	var results []ActResult
	var found []core.Promotion
	var done []acted
	err := s.writer.do(ctx, &op{
		name:  do.act,
		reset: func() { results, found, done = make([]ActResult, len(ids)), nil, nil },
		audit: func(t *trail) {
			for _, a := range done {
				if a.made == 0 {
					t.touch(a.seq)
				} else {
					t.touch(a.made)
					if a.shaped {
						t.shaped(a.made, a.contents)
					}
				}
				t.add(a.entry())
			}
			t.promoted(found)
		},
		script: func(t tx) error {
			lanes, seqs := map[string]bool{}, map[string]int64{}
			err := t.do(step{q: qLanes, args: []any{list(ids)}, row: func(r row) { lanes[r.str(1)], seqs[r.str(0)] = true, r.int(2) }})
			if err != nil {
				return err
			}
			if err := t.lock(slices.Collect(maps.Keys(lanes))); err != nil {
				return err
			}
			order := make([]int, len(ids))
			for i, id := range ids {
				order[i], results[i].ID = i, id
			}
			if do.act == actReplay { // what is replayed last is what the target keeps
				slices.SortStableFunc(order, func(a, b int) int { return cmp.Compare(seqs[ids[a]], seqs[ids[b]]) })
			}
			for _, i := range order {
				p, a, err := actOn(t, &do, &results[i])
				if err != nil {
					return err
				}
				found = append(found, p...)
				if results[i].OK {
					done = append(done, a)
				}
			}
			return nil
		},
	})
	if err != nil {
		return nil, err
	}
	s.promoted(found)
	return results, nil
}

// acted is an act as it is kept.
type acted struct {
	at              int64
	actor, act      string
	seq             int64 // of the delivery
	delivery, event string
	reason          string
	was, now        core.State

	made     int64 // seq of the delivery that a replay has made
	shaped   bool
	contents []core.Content // of it
}

// values are the columns of acts.
func (a *acted) values() []any {
	return []any{a.at, a.actor, a.act, a.seq, a.event, a.reason, string(a.was), string(a.now)}
}

func (a *acted) entry() *AuditEntry {
	return &AuditEntry{
		Kind: auditAct, Actor: a.actor, Act: a.act, Event: a.event, Delivery: a.delivery, Reason: a.reason,
		Was: string(a.was), State: string(a.now), Row: digest(nil, a.values()...),
	}
}

// subject is the delivery that an act is on.
type subject struct {
	seq                int64
	lane, route, event string
	record             string
	head, open         bool
	eventSeq           int64
	shape              core.Shape
	pruned             bool
}

// actOn does it to one delivery and returns which ones are due by it.
func actOn(t tx, do *doing, res *ActResult) (found []core.Promotion, done acted, err error) {
	var d subject
	err = t.do(step{q: qActRead, args: []any{res.ID}, row: func(r row) {
		res.Was = core.State(r.str(2))
		d = subject{
			seq: r.int(0), lane: r.str(1), head: r.flag(3), open: r.flag(4), route: r.str(5), event: r.str(6),
			eventSeq: r.int(7), shape: core.Shape(r.int(8)), record: r.str(9), pruned: r.int(10)&(prunedBody|prunedSent) != 0,
		}
	}})
	if err != nil {
		return nil, done, err
	}
	res.Now = res.Was
	if d.seq == 0 {
		res.Why = "is not in the journal"
		return nil, done, nil
	}
	if res.Why = refusal(do.act, res.Was, d.open); res.Why != "" {
		return nil, done, nil
	}
	due := func(p core.Promotion) { found = append(found, p) }
	done = acted{
		at: time.Now().UnixMicro(), actor: do.actor, act: do.act, seq: d.seq, delivery: res.ID, event: d.event,
		reason: do.reason, was: res.Was,
	}
	switch do.act {
	case actRetry, actRelease:
		if d.pruned && !isOpen(res.Was) {
			res.Why = whyPruned
			return nil, done, nil
		}
		res.Now = core.StateQueued
		err = t.do(step{q: qActRetry, args: []any{d.lane, d.seq}, row: func(r row) {
			if r.flag(0) {
				due(core.Promotion{Seq: d.seq, Route: d.route})
			}
		}})
	case actHold:
		res.Now = core.StateHeld
		err = t.do(step{q: qActHold, args: []any{heldReason, d.seq}})
	case actReplay:
		err = replay(t, &d, do.how, res, &done, due)
		if res.Why != "" || err != nil {
			return nil, done, err
		}
	default:
		res.Now = core.StateCancelled
		err = t.do(step{q: qActCancel, args: []any{d.seq}})
		if err == nil && d.head {
			for _, s := range promoteSteps(d.lane, nil, due) {
				err = errors.Join(err, t.do(s))
			}
		}
	}
	if err != nil {
		return nil, done, err
	}
	res.OK = true
	done.now = res.Now
	return found, done, t.do(step{q: qActInsert, args: done.values()})
}

const (
	heldReason = "an operator holds it"
	whyPruned  = "cannot be sent: the contents of its event are no longer kept"
)

// replay makes a new delivery of what has ended.
func replay(t tx, d *subject, how Replay, res *ActResult, done *acted, due func(core.Promotion)) error {
	if d.pruned {
		res.Why = whyPruned
		return nil
	}
	shape := d.shape
	switch {
	case how.Reshape:
		shape = core.ShapeOpen
	case shape == core.ShapeOpen:
		res.Why = "was never sent, as nothing was made of it: replay it with --reshape, which runs the transform of today"
		return nil
	}
	if !how.Force {
		newer, err := newerIn(t, d.lane, d.record, d.eventSeq)
		if err != nil {
			return err
		}
		if newer != "" {
			res.Why = fmt.Sprintf("would overwrite newer data: event %s of the same record was sent after it, or is about to be; --force replays it all the same", newer)
			return nil
		}
	}
	var old []*core.Delivery
	if shape == core.ShapeMessages {
		var err error
		if old, err = load(t, []int64{d.seq}); err != nil {
			return err
		}
	}
	res.New = uuid.Must(uuid.NewV7()).String()
	err := t.do(step{
		q: qReplay, args: []any{res.New, d.lane, int64(shape), d.seq},
		row: func(r row) { done.made = r.int(0) },
		did: func(id, _ int64, _ time.Time) { done.made = id },
	})
	if err != nil {
		return err
	}
	for _, o := range old {
		done.shaped, done.contents = true, o.Contents
		for _, s := range messageSteps(&core.Delivery{ID: res.New, Contents: o.Contents}, true, "") {
			if err := t.do(s); err != nil {
				return err
			}
		}
	}
	return t.do(step{q: qPeek, args: []any{d.lane}, row: func(r row) {
		if r.int(0) == done.made {
			due(core.Promotion{Seq: done.made, Route: d.route})
		}
	}})
}

// newerIn is the ref of the newest event of the lane whose delivery was made, or is
// still to be made, and which is newer than this one; "" for none.
func newerIn(t tx, lane, record string, eventSeq int64) (ref string, err error) {
	err = t.do(step{q: qNewer, args: []any{record, lane, eventSeq}, row: func(r row) { ref = r.str(0) }})
	return ref, err
}

// Set is a configuration that a node has accepted.
type Set struct {
	Node       string
	Revision   string
	Config     []byte
	Scripts    map[string][]byte // path as configured -> source
	Lookups    map[string][]byte // file name -> content
	AcceptedAt time.Time         // by the journal's clock
}

// Accept keeps the set as the node's newest. Contents are kept once, however
// many sets hold them.
func (s *Store) Accept(ctx context.Context, set Set) error {
	scripts := make(map[string]string, len(set.Scripts)+len(set.Lookups))
	var steps []step
	keep := func(content []byte) string {
		sum := sha256.Sum256(content)
		sha := hex.EncodeToString(sum[:])
		steps = append(steps, step{q: qDocInsert, args: []any{sha, blob(content)}})
		return sha
	}
	config := keep(set.Config)
	for _, path := range slices.Sorted(maps.Keys(set.Scripts)) {
		scripts[path] = keep(set.Scripts[path])
	}
	for _, name := range slices.Sorted(maps.Keys(set.Lookups)) {
		scripts[lookupPrefix+name] = keep(set.Lookups[name])
	}
	text, err := json.Marshal(scripts)
	if err != nil {
		return fmt.Errorf("journal: scripts: %w", err)
	}
	values := []any{clean(set.Node), set.Revision, config, string(text), time.Now().UnixMicro()}
	steps = append(steps, step{q: qAcceptInsert, args: values})
	return s.writer.do(ctx, &op{
		name: "configuration " + set.Revision, steps: steps,
		audit: func(t *trail) {
			t.add(&AuditEntry{Kind: auditConfig, Node: clean(set.Node), Revision: set.Revision, Row: digest(nil, values...)})
		},
	})
}

// Accepted returns the set that the node accepted last. The error may be
// [ErrNotFound].
func (s *Store) Accepted(ctx context.Context, node string) (*Set, error) {
	var set *Set
	var config string
	var scripts []byte
	err := s.read(ctx, qAcceptRead, []any{clean(node)}, func(r row) {
		set = &Set{Node: node, Revision: r.str(0), AcceptedAt: r.time(3)}
		config, scripts = r.str(1), r.bytes(2)
	})
	if err != nil {
		return nil, err
	}
	if set == nil {
		return nil, fmt.Errorf("an accepted configuration of node %s: %w", node, ErrNotFound)
	}
	shas, lookups, err := documents(scripts)
	if err != nil {
		return nil, fmt.Errorf("journal: accepted configuration of node %s: its list of scripts: %w", node, err)
	}
	if set.Config, err = s.document(ctx, config); err != nil {
		return nil, err
	}
	if set.Scripts, err = s.contents(ctx, shas); err != nil {
		return nil, err
	}
	set.Lookups, err = s.contents(ctx, lookups)
	return set, err
}

// lookupPrefix marks a lookup file in the list of a set's documents. The path of a
// script is absolute and does not begin so.
const lookupPrefix = "lookup:"

// documents reads that list: digests by path, and by name of a lookup file.
func documents(list []byte) (scripts, lookups map[string]string, err error) {
	var all map[string]string
	if err := json.Unmarshal(list, &all); err != nil {
		return nil, nil, err
	}
	scripts = make(map[string]string, len(all))
	for path, sha := range all {
		if name, ok := strings.CutPrefix(path, lookupPrefix); ok {
			if lookups == nil {
				lookups = map[string]string{}
			}
			lookups[name] = sha
		} else {
			scripts[path] = sha
		}
	}
	return scripts, lookups, nil
}

func (s *Store) contents(ctx context.Context, shas map[string]string) (out map[string][]byte, err error) {
	if shas == nil {
		return nil, nil
	}
	out = make(map[string][]byte, len(shas))
	for path, sha := range shas {
		if out[path], err = s.document(ctx, sha); err != nil {
			return nil, err
		}
	}
	return out, nil
}

func (s *Store) document(ctx context.Context, sha string) ([]byte, error) {
	var content []byte
	err := s.read(ctx, qDocRead, []any{sha}, func(r row) { content = r.bytes(0) })
	if err == nil && content == nil {
		err = fmt.Errorf("document %s: %w", sha, ErrNotFound)
	}
	return content, err
}

// What leaves no other trace than in the audit. All of them are durable when they
// return.

// Viewed notes that somebody is about to see contents of an event.
func (s *Store) Viewed(ctx context.Context, actor, what, event string) error {
	return s.noted(ctx, "view of event "+event, &AuditEntry{Kind: auditView, Actor: clean(actor), What: clean(what), Event: event})
}

// Asked notes something that an operator has the daemon do, and that is about no
// delivery.
func (s *Store) Asked(ctx context.Context, actor, act, reason string) error {
	return s.noted(ctx, act, &AuditEntry{Kind: auditAct, Actor: clean(actor), Act: act, Reason: clean(reason)})
}

// LoadRefused notes that a configuration was not taken, and why.
func (s *Store) LoadRefused(ctx context.Context, why string) error {
	return s.noted(ctx, "refused configuration", &AuditEntry{Kind: auditLoad, Node: s.node, Reason: clean(why)})
}

func (s *Store) noted(ctx context.Context, name string, e *AuditEntry) error {
	return s.writer.do(ctx, &op{name: name, audit: func(t *trail) { t.add(e) }})
}
