package main

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/google/uuid"

	"github.com/hookline/hookline/core"
	"github.com/hookline/hookline/core/journal"
)

// benchRoute is the name of the hook and of the route.
const benchRoute = "bench"

// fillers write at the same time: as many as the journal puts into a transaction.
const fillers = 512

// place is a delivery of a new event, as the daemon makes it for an async route.
func place(record, id uint64) *core.Placement {
	body := []byte(sent.Text)
	sent.put(body, id)
	ev := &core.Event{
		Kind: core.Insert, TransID: fmt.Sprintf("%0*d", idDigits, record), FormID: "319", FormName: "Sample Form", Body: body,
	}
	ev.Stamp(&core.Hook{Name: benchRoute, Study: "ABC-123", Stage: core.UAT}, time.Now())
	return &core.Placement{Delivery: &core.Delivery{
		ID: uuid.Must(uuid.NewV7()).String(), Event: ev, Route: benchRoute, Lane: ev.Lane(benchRoute), State: core.StateQueued,
	}}
}

func begin(ctx context.Context, s *journal.Store, p *core.Placement) error {
	return s.Begin(ctx, &core.Entry{Event: p.Event, Deliveries: []*core.Placement{p}})
}

// fill begins n deliveries, numbered from 1, and tells how long it took.
func fill(ctx context.Context, s *journal.Store, n int, record func(id uint64) uint64) (time.Duration, error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	start := time.Now()
	var next atomic.Int64
	var all sync.WaitGroup
	for range min(fillers, n) {
		all.Go(func() {
			for ctx.Err() == nil {
				id := next.Add(1)
				if id > int64(n) {
					return
				}
				if err := begin(ctx, s, place(record(uint64(id)), uint64(id))); err != nil { //nolint:gosec // it is positive
					cancel(err)
				}
			}
		})
	}
	all.Wait()
	return time.Since(start), context.Cause(ctx)
}

// settle ends a run and waits until that is durable.
func settle(ctx context.Context, s *journal.Store, d *core.Delivery, set core.Settlement) error {
	done := make(chan error, 1)
	set.Settled = func(_ core.Promotion, err error) { done <- err }
	s.Settle(d, set)
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
		return ctx.Err()
	}
}
