package plugins

import (
	"context"
	"errors"
	"testing"
	"time"
)

type key struct{}

// The context of a call is as one of the standard library, to itself and to those that
// are made of it.
func TestCallIsContext(t *testing.T) {
	parent := context.WithValue(context.Background(), key{}, "value")
	end := time.Now().Add(time.Hour)
	standard := func() (context.Context, func(error)) {
		ctx, cancel := context.WithDeadline(parent, end)
		return ctx, func(error) { cancel() }
	}
	ours := func() (context.Context, func(error)) {
		c := &call{Context: parent, end: end}
		return c, c.cancel
	}
	for name, begin := range map[string]func() (context.Context, func(error)){"standard": standard, "ours": ours} {
		t.Run(name, func(t *testing.T) {
			ctx, cancel := begin()
			if by, ok := ctx.Deadline(); !ok || !by.Equal(end) {
				t.Error(by, ok)
			}
			if ctx.Value(key{}) != "value" || ctx.Err() != nil || context.Cause(ctx) != nil {
				t.Error(ctx.Value(key{}), ctx.Err(), context.Cause(ctx))
			}
			child, stop := context.WithCancelCause(ctx)
			defer stop(nil)
			called, never := make(chan struct{}), make(chan struct{})
			keep := context.AfterFunc(ctx, func() { close(called) })
			drop := context.AfterFunc(ctx, func() { close(never) })
			if !drop() || drop() {
				t.Error("a function that has not run could not be taken back, or twice")
			}
			cancel(context.Canceled)
			cancel(context.DeadlineExceeded) // it has ended
			<-ctx.Done()
			<-child.Done()
			<-called
			if keep() {
				t.Error("a function was taken back that has run")
			}
			late := make(chan struct{})
			if stop := context.AfterFunc(ctx, func() { close(late) }); stop() {
				<-late
				t.Error("a function was taken back that ran at once")
			}
			<-late
			for _, err := range []error{ctx.Err(), child.Err(), context.Cause(ctx), context.Cause(child)} {
				if !errors.Is(err, context.Canceled) {
					t.Error(err)
				}
			}
			select {
			case <-never:
				t.Error("a function ran that was taken back")
			default:
			}
		})
	}
	// Nobody has asked for its channel before it ended.
	c := &call{Context: parent}
	c.cancel(context.DeadlineExceeded)
	<-c.Done()
	if _, ok := c.Deadline(); ok || !errors.Is(c.Err(), context.DeadlineExceeded) {
		t.Error(ok, c.Err())
	}
}
