package journal

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/hookline/hookline/core"
)

// Traces are what the journal holds of an event beside [Store.Event] and
// [Store.Acts].
type Traces struct {
	Body       []byte // as it came; nil if it was pruned
	BodyPruned bool
	SentPruned bool // the messages, and what the targets answered
	ReadPruned bool // the records

	Sent map[string][]SentMessage // by delivery, of those that were shaped
	Read map[string]core.Snapshot // by delivery, of those that were enriched

	// Changes are what the audit says of the event, in the order of time. It was
	// looked through to its end, unless Until says how far.
	Changes []Change
	Until   time.Time
}

// SentMessage is a message as every attempt sends it.
type SentMessage struct {
	MessageMeta
	Headers map[string]string
	Payload []byte
}

// Change is an entry of the audit about one event.
type Change struct {
	At time.Time
	AuditEntry
}

const (
	// auditPage is how many rows of the audit are looked through by one read, and
	// auditTime how long all of them may take: what an event has left there after it
	// had ended is who read it, which may be years later.
	auditPage = 20_000
	auditTime = 3 * time.Second
	// clockSkew is by how much the nodes' clocks may differ.
	clockSkew = 10 * time.Minute
)

// Traces reads what else is known of an event. Its contents are all in memory
// then. The error may be [ErrNotFound].
func (s *Store) Traces(ctx context.Context, ev *EventDetail) (*Traces, error) {
	t := &Traces{Sent: map[string][]SentMessage{}, Read: map[string]core.Snapshot{}}
	found := false
	err := s.read(ctx, qTraceEvent, []any{ev.ID}, func(r row) {
		found = true
		t.BodyPruned, t.SentPruned = r.int(0)&prunedBody != 0, r.int(0)&prunedSent != 0
		t.ReadPruned = r.int(0)&prunedRecord != 0
	})
	switch {
	case err != nil:
		return nil, err
	case !found:
		return nil, fmt.Errorf("event %s: %w", ev.ID, ErrNotFound)
	}
	if !t.BodyPruned {
		if t.Body, err = s.Body(ctx, ev.ID); err != nil {
			return nil, err
		}
	}
	if err := s.sent(ctx, ev.ID, t); err != nil {
		return nil, err
	}
	err = s.read(ctx, qTraceRecord, []any{ev.ID}, func(r row) {
		t.Read[r.str(0)] = core.Snapshot{ReadAt: r.time(1), Record: slices.Clone(r.bytes(2))}
	})
	if err != nil {
		return nil, err
	}
	return t, s.changes(ctx, ev, t)
}

func (s *Store) sent(ctx context.Context, id string, t *Traces) error {
	var bad error
	err := s.read(ctx, qTraceSent, []any{id}, func(r row) {
		delivery, n, payload := r.str(0), int(r.int(1)), slices.Clone(r.bytes(6))
		m := SentMessage{
			MessageMeta: MessageMeta{
				N: n, ID: messageID(delivery, n), ContentType: cmp.Or(r.str(2), jsonType), Size: len(payload), Key: r.str(4), Path: r.str(5),
			},
			Payload: payload,
		}
		if err := json.Unmarshal(r.bytes(3), &m.Headers); err != nil && bad == nil {
			bad = fmt.Errorf("journal: headers of message %s: %w", m.ID, err)
		}
		t.Sent[delivery] = append(t.Sent[delivery], m)
	})
	return errors.Join(err, bad)
}

// changes looks through the audit, from when the event came.
func (s *Store) changes(ctx context.Context, ev *EventDetail, t *Traces) error {
	var from, end int64
	err := s.read(ctx, qTraceSeqs, []any{ev.ReceivedAt.Add(-clockSkew).UnixMicro()}, func(r row) { from, end = r.int(0), r.int(1) })
	if err != nil || from == 0 {
		return err
	}
	name := []byte(`"` + ev.ID + `"`)
	stop := time.Now().Add(auditTime)
	for ; from <= end; from += auditPage {
		if time.Now().After(stop) {
			return s.read(ctx, qTraceAuditAt, []any{from}, func(r row) { t.Until = r.time(0) })
		}
		var bad error
		err := s.read(ctx, qTraceAudit, []any{from, min(from+auditPage, end+1), name}, func(r row) {
			at := r.time(0)
			for line := range strings.SplitSeq(r.str(1), "\n") {
				if !strings.Contains(line, ev.ID) {
					continue
				}
				c := Change{At: at}
				if err := json.Unmarshal([]byte(line), &c.AuditEntry); err != nil {
					bad = cmp.Or(bad, fmt.Errorf("journal: an entry of the audit of event %s: %w", ev.ID, err))
				} else if c.Event == ev.ID || slices.Contains(c.Events, ev.ID) {
					t.Changes = append(t.Changes, c)
				}
			}
		})
		if err := errors.Join(err, bad); err != nil {
			return err
		}
	}
	slices.SortStableFunc(t.Changes, func(a, b Change) int {
		return cmp.Or(a.At.Compare(b.At), cmp.Compare(a.Version, b.Version))
	})
	return nil
}

// PastSet is an accepted set, with digests in the place of the scripts and of the
// lookup files.
type PastSet struct {
	Node       string
	Revision   string
	Config     []byte
	ConfigSHA  string
	Scripts    map[string]string // path as configured -> SHA-256
	Lookups    map[string]string // file name -> SHA-256
	AcceptedAt time.Time
	// Replaced is when the node took the next one with another revision, whose that
	// is. Zero: it has not.
	Replaced   time.Time
	ReplacedBy string
}

// SetOf returns the set of that revision that a node had accepted last at a time,
// or else the first one after it. The error may be [ErrNotFound].
func (s *Store) SetOf(ctx context.Context, revision string, at time.Time) (*PastSet, error) {
	var set *PastSet
	var scripts []byte
	err := s.read(ctx, qTraceSet, []any{revision, at.UnixMicro()}, func(r row) {
		set = &PastSet{Node: r.str(0), Revision: revision, ConfigSHA: r.str(1), AcceptedAt: r.time(3)}
		scripts = r.bytes(2)
	})
	if err != nil {
		return nil, err
	}
	if set == nil {
		return nil, fmt.Errorf("an accepted configuration of revision %s: %w", revision, ErrNotFound)
	}
	if set.Scripts, set.Lookups, err = documents(scripts); err != nil {
		return nil, fmt.Errorf("journal: accepted configuration %s: its list of scripts: %w", revision, err)
	}
	if set.Config, err = s.document(ctx, set.ConfigSHA); err != nil {
		return nil, err
	}
	err = s.read(ctx, qTraceNextSet, []any{set.Node, set.AcceptedAt.UnixMicro(), revision}, func(r row) {
		set.ReplacedBy, set.Replaced = r.str(0), r.time(1)
	})
	return set, err
}

// Document returns what was accepted with this digest: the source of a script, or
// a configuration. The error may be [ErrNotFound].
func (s *Store) Document(ctx context.Context, sha string) ([]byte, error) {
	return s.document(ctx, sha)
}

// The kinds of [Change] that an explanation tells of.
const (
	ChangeDelivery = auditDelivery
	ChangeView     = auditView
	ChangePrune    = auditPrune
)
