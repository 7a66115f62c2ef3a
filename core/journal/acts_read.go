package journal

import (
	"context"
	"time"

	"github.com/hookline/hookline/core"
)

// Act is what an operator has done to a delivery, or to an event.
type Act struct {
	Delivery string // its id, "" for what was done to the event
	At       time.Time
	Actor    string
	Act      string // such as "retry"
	Reason   string
	Was, Now core.State
}

// Acts lists what operators have done to the deliveries of the event with this id,
// the oldest first.
func (s *Store) Acts(ctx context.Context, eventID string) (out []Act, err error) {
	err = s.read(ctx, qEventActs, []any{eventID}, func(r row) {
		out = append(out, Act{
			Delivery: r.str(0), At: r.time(1), Actor: r.str(2), Act: r.str(3), Reason: r.str(4),
			Was: core.State(r.str(5)), Now: core.State(r.str(6)),
		})
	})
	return out, err
}

// RouteOf returns the route of the delivery with this id, and its state; "" if
// there is none.
func (s *Store) RouteOf(ctx context.Context, id string) (route string, state core.State, err error) {
	err = s.read(ctx, qActRead, []any{id}, func(r row) { route, state = r.str(5), core.State(r.str(2)) })
	return route, state, err
}
