package journal

import (
	"context"
	"fmt"
	"time"

	"github.com/hookline/hookline/core"
)

// The acts on events.
const (
	actRedrive = "redrive" // of a body that was refused
	actPlace   = "place"   // of an event on a route that it was not on
)

// stateRefused is the state of an event that was refused, in its acts.
const stateRefused core.State = "refused"

// Origin is what is to be known of an event that is to be driven again.
type Origin struct {
	Pruned bool // its contents are no longer kept
	// ID and Ref are those of the event that it became when it was driven again
	// before, "" if it was not.
	ID, Ref string
}

// Origin looks at an event that is to be driven again.
func (s *Store) Origin(ctx context.Context, eventID string) (o Origin, err error) {
	err = s.read(ctx, qEventOrigin, []any{eventID}, func(r row) { o = Origin{Pruned: r.flag(0), ID: r.str(1), Ref: r.str(2)} })
	return o, err
}

// Redriven notes that an operator has driven a refused event again.
func (s *Store) Redriven(ctx context.Context, actor, reason, eventID string) error {
	a := acted{
		at: time.Now().UnixMicro(), actor: clean(actor), act: actRedrive, event: eventID, reason: clean(reason),
		was: stateRefused, now: core.StateQueued,
	}
	return s.writer.do(ctx, &op{
		name: "redrive of event " + eventID, steps: []step{{q: qActInsert, args: a.values()}},
		audit: func(t *trail) { t.add(a.entry()) },
	})
}

// Place makes deliveries of an event on routes that have none of it, at the ends of
// their lanes. Unless force is set, none is made that would overwrite newer data.
// The results are in the order of routes, with the new id in New.
func (s *Store) Place(ctx context.Context, actor, reason string, ev *core.Event, deliveries []*core.Delivery, force bool) ([]ActResult, error) {
	var results []ActResult
	var found []core.Promotion
	var done []acted
	lanes := make([]string, len(deliveries))
	for i, d := range deliveries {
		lanes[i] = d.Lane
	}
	err := s.writer.do(ctx, &op{
		name:  "place event " + ev.ID,
		reset: func() { results, found, done = make([]ActResult, len(deliveries)), nil, nil },
		audit: func(t *trail) {
			for i := range done {
				t.touch(done[i].seq)
				t.add(done[i].entry())
			}
		},
		script: func(t tx) error {
			if err := t.lock(lanes); err != nil {
				return err
			}
			var seq int64
			var record string
			err := t.do(step{q: qEventPlace, args: []any{ev.ID}, row: func(r row) { seq, record = r.int(0), r.str(1) }})
			if err != nil {
				return err
			}
			had := map[string]bool{}
			if err := t.do(step{q: qEventRoutes, args: []any{seq}, row: func(r row) { had[r.str(0)] = true }}); err != nil {
				return err
			}
			for i, d := range deliveries {
				a, p, err := placeOn(t, ev, d, had[d.Route], force, seq, record, &results[i])
				if err != nil {
					return err
				}
				if !results[i].OK {
					continue
				}
				a.actor, a.reason = clean(actor), clean(reason)
				done, found = append(done, a), append(found, p...)
				if err := t.do(step{q: qActInsert, args: a.values()}); err != nil {
					return err
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

func placeOn(t tx, ev *core.Event, d *core.Delivery, had, force bool, seq int64, record string, res *ActResult) (a acted, found []core.Promotion, err error) {
	res.ID = ev.ID
	switch {
	case seq == 0:
		res.Why = "is not in the journal"
		return a, nil, nil
	case had:
		res.Why = fmt.Sprintf("has a delivery on route %s already", d.Route)
		return a, nil, nil
	case !force:
		newer, err := newerIn(t, d.Lane, record, seq)
		if err != nil {
			return a, nil, err
		}
		if newer != "" {
			res.Why = fmt.Sprintf("would overwrite newer data on route %s: event %s of the same record was sent there after it, or is about to be; --force places it all the same", d.Route, newer)
			return a, nil, nil
		}
	}
	var made int64
	err = t.do(step{
		q:    qDeliveryInsert,
		args: []any{d.ID, ev.ID, ev.Hook.Name, d.Route, d.Lane, int64(0), "", int64(0), int64(d.Shape), d.Script, d.Revision},
		row:  func(r row) { made = r.int(0) },
		did:  func(id, _ int64, _ time.Time) { made = id },
	})
	if err != nil {
		return a, nil, err
	}
	err = t.do(step{q: qPeek, args: []any{d.Lane}, row: func(r row) {
		if r.int(0) == made {
			found = append(found, core.Promotion{Seq: made, Route: d.Route})
		}
	}})
	res.OK, res.New, res.Now = true, d.ID, core.StateQueued
	return acted{
		at: time.Now().UnixMicro(), act: actPlace, seq: made, delivery: d.ID, event: ev.ID, now: core.StateQueued,
	}, found, err
}
