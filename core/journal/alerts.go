package journal

import (
	"context"
	"time"

	"github.com/hookline/hookline/core"
)

// maxTrouble is how many deliveries in each state are looked at, the newest: a look
// must not slow down with the backlog.
const maxTrouble = 2000

// Trouble is what needs an operator on a route.
type Trouble struct {
	Route string
	Count int
	Since time.Time // of the oldest
	Refs  []string  // of the events of the newest
}

// Troubles lists, by route, what was given up at since or later, and what waits for
// an operator: it is held, or nothing is due and its record's later events wait
// behind it. Of each state the newest 2,000 are looked at. refs is how many
// references each has at most.
func (s *Store) Troubles(ctx context.Context, since time.Time, refs int) (dead, held []Trouble, err error) {
	gather := func(in *[]Trouble, route, ref string, at time.Time) {
		i := 0
		for i < len(*in) && (*in)[i].Route != route {
			i++
		}
		if i == len(*in) {
			*in = append(*in, Trouble{Route: route, Since: at})
		}
		t := &(*in)[i]
		t.Count++
		if at.Before(t.Since) {
			t.Since = at
		}
		if len(t.Refs) < refs {
			t.Refs = append(t.Refs, ref)
		}
	}
	for _, state := range []core.State{core.StateDead, core.StateHeld, core.StateUnknown} {
		err := s.read(ctx, qTroubles, []any{string(state), int64(maxTrouble), since.UnixMicro()}, func(r row) {
			route, ref, stuck := r.str(0), r.str(1), r.flag(2) && r.null(3)
			updated, ended := r.time(4), r.time(5)
			if state == core.StateDead && !ended.Before(since) {
				gather(&dead, route, ref, ended)
			}
			if state == core.StateHeld || stuck {
				gather(&held, route, ref, updated)
			}
		})
		if err != nil {
			return nil, nil, err
		}
	}
	return dead, held, nil
}

// First tells whether this node is the first of those that use the journal: what
// is about the journal as a whole is told by one.
func (s *Store) First(ctx context.Context) (first bool, err error) {
	if s.alone() {
		return true, nil
	}
	err = s.read(ctx, qFirstNode, nil, func(r row) { first = r.str(0) == s.owner() })
	return first, err
}

// Arrivals are the last events of hooks among those that came after the event with
// the number seq, on whatever node. newest is the number of the last one; with seq 0
// nothing else is looked up.
func (s *Store) Arrivals(ctx context.Context, seq int64) (last map[string]time.Time, newest int64, err error) {
	if seq == 0 {
		err = s.read(ctx, qNewestEvent, nil, func(r row) { newest = max(1, r.int(0)) })
		return nil, newest, err
	}
	// Numbers are given before transactions end: a smaller one may be seen later.
	const late = 1000
	last, newest = map[string]time.Time{}, seq
	err = s.read(ctx, qArrivals, []any{seq - late}, func(r row) {
		last[r.str(0)] = r.time(1)
		newest = max(newest, r.int(2))
	})
	return last, newest, err
}

// Shared tells whether other nodes can use this journal.
func (s *Store) Shared() bool { return !s.single }

// DiskLow tells whether the disk of a SQLite file has less free than it should.
func (s *Store) DiskLow() bool {
	if s.disk == nil {
		return false
	}
	free, ok := freeBytes(s.disk.dir)
	return ok && free < s.disk.min
}
