package plugins

import (
	"context"
	"slices"
	"sync"
	"time"

	pb "github.com/hookline/hookline/plugins/transportpb"
)

// call is a call of a stream, and the context that it is made in. The stream's alarm
// keeps its deadline, so that it needs no timer, and no channel unless somebody waits:
// a context of the standard library is a twentieth of what a delivery costs a plugin.
type call struct {
	context.Context // the stream's, for values
	id              uint64
	req             *pb.DeliverRequest
	end             time.Time // zero: it has none

	mu    sync.Mutex
	err   error
	done  chan struct{} // nil until somebody asks
	after []*func()
}

// over is a channel for what has ended already.
var over = func() chan struct{} { c := make(chan struct{}); close(c); return c }()

// cancel ends the context. Only the first time counts.
func (c *call) cancel(err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.err != nil {
		return
	}
	c.err = err
	if c.done == nil {
		c.done = over
	} else {
		close(c.done)
	}
	for _, f := range c.after {
		go (*f)()
	}
	c.after = nil
}

// Deadline implements [context.Context].
func (c *call) Deadline() (time.Time, bool) { return c.end, !c.end.IsZero() }

// Done implements [context.Context].
func (c *call) Done() <-chan struct{} {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.done == nil {
		c.done = make(chan struct{})
	}
	return c.done
}

// Err implements [context.Context].
func (c *call) Err() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.err
}

// AfterFunc is what [context.AfterFunc] and contexts made of this one use.
func (c *call) AfterFunc(f func()) (stop func() bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.err != nil {
		go f()
		return func() bool { return false }
	}
	c.after = append(c.after, &f)
	return func() bool {
		c.mu.Lock()
		defer c.mu.Unlock()
		i := slices.Index(c.after, &f)
		if i < 0 {
			return false
		}
		c.after = slices.Delete(c.after, i, i+1)
		return true
	}
}
