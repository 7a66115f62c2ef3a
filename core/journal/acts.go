package journal

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/hookline/hookline/core"
)

// ActResult is what became of one delivery that an operator acted on.
type ActResult struct {
	ID       string
	OK       bool
	Was, Now core.State
	Why      string // it was not done
}

// Retry makes deliveries due that are open or have ended without success. One
// that has left its lane comes back with its old place in it, and is next once
// the lane is free. Their age counts anew, the number of their attempts goes on.
func (s *Store) Retry(ctx context.Context, actor, reason string, ids []string) ([]ActResult, error) {
	return s.act(ctx, "retry", actor, reason, ids)
}

// Cancel ends open deliveries, and the blocking of dead ones. Their lanes go on.
func (s *Store) Cancel(ctx context.Context, actor, reason string, ids []string) ([]ActResult, error) {
	return s.act(ctx, "cancel", actor, reason, ids)
}

const whyRunning = "is being attempted now: try again when the attempt has ended"

// refusal says why act is not for a delivery in this state, "" if it is.
func refusal(act string, state core.State, open bool) string {
	switch state {
	case core.StateRunning:
		return whyRunning
	case core.StateQueued, core.StateWaiting, core.StateUnknown, core.StateHeld:
		return ""
	case core.StateDead:
		if act == "retry" || open {
			return ""
		}
		return "is dead already, and nothing waits for it"
	case core.StateCancelled:
		if act == "retry" {
			return ""
		}
		return "is cancelled already"
	}
	return fmt.Sprintf("has ended as %s: there is nothing to %s", state, act)
}

func (s *Store) act(ctx context.Context, act, actor, reason string, ids []string) ([]ActResult, error) {
	var results []ActResult
	var found []core.Promotion
	var done []acted
	err := s.writer.do(ctx, &op{
		name:  act,
		reset: func() { results, found, done = make([]ActResult, len(ids)), nil, nil },
		audit: func(t *trail) {
			for _, a := range done {
				t.touch(a.seq)
				t.add(a.entry())
			}
			t.promoted(found)
		},
		script: func(t tx) error {
			lanes := map[string]bool{}
			if err := t.do(step{q: qLanes, args: []any{list(ids)}, row: func(r row) { lanes[r.str(1)] = true }}); err != nil {
				return err
			}
			if err := t.lock(slices.Collect(maps.Keys(lanes))); err != nil {
				return err
			}
			for i, id := range ids {
				results[i].ID = id
				p, a, err := actOn(t, act, actor, reason, &results[i])
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

// actOn does it to one delivery and returns which ones are due by it.
func actOn(t tx, act, actor, reason string, res *ActResult) (found []core.Promotion, done acted, err error) {
	var seq int64
	var lane, route, event string
	var head, open bool
	err = t.do(step{q: qActRead, args: []any{res.ID}, row: func(r row) {
		seq, lane, res.Was = r.int(0), r.str(1), core.State(r.str(2))
		head, open, route, event = r.flag(3), r.flag(4), r.str(5), r.str(6)
	}})
	if err != nil {
		return nil, done, err
	}
	res.Now = res.Was
	if seq == 0 {
		res.Why = "is not in the journal"
		return nil, done, nil
	}
	if res.Why = refusal(act, res.Was, open); res.Why != "" {
		return nil, done, nil
	}
	if act == "retry" {
		res.Now = core.StateQueued
		err = t.do(step{q: qActRetry, args: []any{lane, seq}, row: func(r row) {
			if r.flag(0) {
				found = append(found, core.Promotion{Seq: seq, Route: route})
			}
		}})
	} else {
		res.Now = core.StateCancelled
		err = t.do(step{q: qActCancel, args: []any{seq}})
		if err == nil && head {
			for _, s := range promoteSteps(lane, nil, func(p core.Promotion) { found = append(found, p) }) {
				err = errors.Join(err, t.do(s))
			}
		}
	}
	if err != nil {
		return nil, done, err
	}
	res.OK = true
	done = acted{
		at: time.Now().UnixMicro(), actor: clean(actor), act: act, seq: seq, delivery: res.ID, event: event,
		reason: clean(reason), was: res.Was, now: res.Now,
	}
	return found, done, t.do(step{q: qActInsert, args: done.values()})
}

// Set is a configuration that a node has accepted.
type Set struct {
	Node       string
	Revision   string
	Config     []byte
	Scripts    map[string][]byte // path as configured -> source
	AcceptedAt time.Time         // by the journal's clock
}

// Accept keeps the set as the node's newest. Contents are kept once, however
// many sets hold them.
func (s *Store) Accept(ctx context.Context, set Set) error {
	scripts := make(map[string]string, len(set.Scripts))
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
	var shas map[string]string
	if err := json.Unmarshal(scripts, &shas); err != nil {
		return nil, fmt.Errorf("journal: accepted configuration of node %s: its list of scripts: %w", node, err)
	}
	if set.Config, err = s.document(ctx, config); err != nil {
		return nil, err
	}
	set.Scripts = make(map[string][]byte, len(shas))
	for path, sha := range shas {
		if set.Scripts[path], err = s.document(ctx, sha); err != nil {
			return nil, err
		}
	}
	return set, nil
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
