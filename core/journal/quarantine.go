package journal

import (
	"context"
	"maps"
	"slices"
	"time"
)

// Quarantine is a script that is not run any more. It is kept by what the script is,
// for all daemons of the journal.
type Quarantine struct {
	SHA    string // of the script
	Script string // its name in the configuration
	Since  time.Time
	Why    string // without contents
}

// byDaemon is the actor of what a daemon does by itself.
const byDaemon = "daemon"

// The acts of entries about quarantines.
const (
	actQuarantine   = "quarantine"
	actUnquarantine = "unquarantine"
)

func (q *Quarantine) values() []any {
	return []any{q.SHA, clean(q.Script), q.Since.UnixMicro(), clean(q.Why)}
}

func (q *Quarantine) entry(act, node string) *AuditEntry {
	v := q.values()
	e := &AuditEntry{Kind: auditQuarantine, Act: act, Actor: byDaemon, Node: node, Script: q.SHA, What: clean(q.Script), Row: digest(nil, v...)}
	if act == actQuarantine {
		e.Reason = clean(q.Why)
	}
	return e
}

// Quarantined lists the scripts in quarantine.
func (s *Store) Quarantined(ctx context.Context) (all []Quarantine, err error) {
	err = s.read(ctx, qQuarantines, nil, func(r row) { all = append(all, quarantineOf(r)) })
	return all, err
}

func quarantineOf(r row) Quarantine {
	return Quarantine{SHA: r.str(0), Script: r.str(1), Since: r.time(2), Why: r.str(3)}
}

// Quarantine keeps that a script is in quarantine; if it was, nothing changes. Durable
// when it returns.
func (s *Store) Quarantine(ctx context.Context, q Quarantine) error {
	fresh := false
	return s.writer.do(ctx, &op{
		name: "quarantine of script " + q.SHA, reset: func() { fresh = false },
		steps: []step{{
			q: qQuarantineInsert, args: q.values(), row: func(row) { fresh = true },
			did: func(_, changed int64, _ time.Time) { fresh = changed > 0 },
		}},
		audit: func(t *trail) {
			if fresh {
				t.add(q.entry(actQuarantine, s.node))
			}
		},
	})
}

// Unquarantine forgets the quarantines of the scripts with these digests. Who asked for
// it is for [Store.Asked] to note. Durable when it returns.
func (s *Store) Unquarantine(ctx context.Context, shas []string) error {
	var gone []Quarantine
	return s.writer.do(ctx, &op{
		name: "end of quarantine", reset: func() { gone = nil },
		script: func(t tx) error {
			err := t.do(step{q: qQuarantinesOf, args: []any{list(shas)}, row: func(r row) { gone = append(gone, quarantineOf(r)) }})
			if err != nil || len(gone) == 0 {
				return err
			}
			return t.do(step{q: qQuarantineDelete, args: []any{list(shas)}})
		},
		audit: func(t *trail) {
			for i := range gone {
				t.add(gone[i].entry(actUnquarantine, s.node))
			}
		},
	})
}

// quarantine takes note of what the audit says. Chains have no order between them, and
// need none: each quarantine has a digest of its own.
func (v *verifier) quarantine(e *AuditEntry) {
	all := v.quarantines[e.Script]
	if all == nil {
		all = map[string]int{}
		v.quarantines[e.Script] = all
	}
	if e.Act == actQuarantine {
		all[e.Row]++
	} else {
		all[e.Row]--
	}
}

func (v *verifier) quarantineRows() error {
	for _, all := range v.quarantines {
		maps.DeleteFunc(all, func(_ string, n int) bool { return n <= 0 })
	}
	err := v.read(`select sha, script, since, why from quarantines`, func(r row) {
		v.Rows++
		all := v.quarantines[r.str(0)]
		switch {
		case all[digest(nil, r...)] > 0:
		case len(all) > 0:
			v.find("altered", "quarantines", r.str(0), "it is not what was written of the script %s", r.str(1))
		default:
			v.find("extra", "quarantines", r.str(0), "nobody has written it, or it was released (script %s)", r.str(1))
		}
		delete(v.quarantines, r.str(0))
	})
	for _, sha := range slices.Sorted(maps.Keys(v.quarantines)) {
		if len(v.quarantines[sha]) > 0 {
			v.find("missing", "quarantines", sha, "the script is in quarantine, nobody has released it, and that is gone")
		}
	}
	return err
}
