package journal

import (
	"context"
	"fmt"
)

// Unavailable says that the last thing that was to be written could not be, nil
// if it could. It asks nobody.
func (s *Store) Unavailable() error {
	if s.writer.health.is.Load() {
		return fmt.Errorf("%w: it cannot be written, the log says why", ErrUnavailable)
	}
	return nil
}

// Probe writes something of no importance, so that a journal in which nothing is
// to be written is known to be well again. It waits no longer than ctx.
func (s *Store) Probe(ctx context.Context) error {
	// A sign of life more than is due promises nothing: the lease is not renewed.
	o := &op{
		name: "probe", done: make(chan struct{}),
		steps: []step{{q: qNodeRenew, args: []any{s.owner()}, row: func(row) {}}},
	}
	if !s.writer.add(o) {
		return ErrClosed
	}
	select {
	case <-o.done:
		return o.err
	case <-ctx.Done():
		o.state.CompareAndSwap(opWaiting, opAbandoned)
		return ctx.Err()
	}
}
