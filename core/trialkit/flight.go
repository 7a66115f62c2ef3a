package trialkit

import (
	"context"
	"errors"
	"time"

	"github.com/hookline/hookline/core"
)

// flight is a request on its way, or in the queue for one of the connections. Whoever
// wants the same meanwhile shares it, as long as it is not older than his event. It
// ends by its own timeout, which begins with the request, or when the last who waits
// for it has left.
type flight struct {
	began   time.Time     // zero in the queue; guarded by api.mu until done
	done    chan struct{} // closed when body and err are set
	body    []byte
	err     error
	waiting int // who waits; guarded by api.mu
	cancel  context.CancelFunc
}

// read gets what is at a path, and waits for it until ctx ends. The error is a
// *[core.EnrichError].
func (a *api) read(ctx context.Context, path string) (*flight, error) {
	if ctx.Err() != nil {
		return nil, a.late(ctx)
	}
	f := a.board(path, core.ReadSince(ctx))
	defer a.leave(path, f)
	select {
	case <-f.done:
	case <-ctx.Done():
		return nil, a.late(ctx)
	}
	return f, f.err
}

// board is the flight to path that begins at since or later. One that began before
// may bring what was there before the event.
func (a *api) board(path string, since time.Time) *flight {
	a.mu.Lock()
	defer a.mu.Unlock()
	f := a.open[path]
	if f == nil || !f.began.IsZero() && f.began.Before(since) {
		var ctx context.Context
		f = &flight{done: make(chan struct{})}
		ctx, f.cancel = context.WithCancel(a.life)
		a.open[path] = f
		a.running.Go(func() {
			f.body, f.err = a.fly(ctx, path, f)
			a.forget(path, f) // first: what has been read is not for later events
			close(f.done)
		})
	}
	f.waiting++
	return f
}

// fly makes the request once there is a connection for it.
func (a *api) fly(ctx context.Context, path string, f *flight) ([]byte, error) {
	select {
	case a.slots <- struct{}{}:
		defer func() { <-a.slots }()
	case <-ctx.Done():
		return nil, a.unreachable(ctx, ctx.Err())
	}
	a.mu.Lock()
	f.began = time.Now()
	a.mu.Unlock()
	ctx, cancel := context.WithTimeoutCause(ctx, a.Timeout, &core.Expired{Setting: a.key("timeout"), After: a.Timeout})
	defer cancel()
	return a.get(ctx, path)
}

func (a *api) forget(path string, f *flight) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.open[path] == f {
		delete(a.open, path)
	}
}

func (a *api) leave(path string, f *flight) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if f.waiting--; f.waiting > 0 {
		return
	}
	f.cancel()
	if a.open[path] == f { // nobody may board what was just ended
		delete(a.open, path)
	}
}

// late is the error of a caller whose own time is over.
func (a *api) late(ctx context.Context) error {
	err := &core.EnrichError{Text: "TrialKit's API had not answered when the time for it was over", Hopeless: true}
	var clock *core.Expired
	if errors.As(context.Cause(ctx), &clock) {
		err.Err = clock
	}
	return err
}
