package target_test

import (
	"context"
	"errors"
	"net"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/hookline/hookline/plugins/target"
)

// line is a connection of the tests.
type line struct{ broken, ended atomic.Bool }

// lines makes connections once it is allowed to.
type lines struct {
	target.Shared[*line]
	dials atomic.Int32
	may   chan error // what each Dial comes to
}

func newLines() *lines {
	l := &lines{may: make(chan error)}
	l.Within = time.Minute
	l.Alive = func(c *line) bool { return !c.broken.Load() }
	l.End = func(c *line) { c.ended.Store(true) }
	l.Dial = func(ctx context.Context) (*line, error) {
		l.dials.Add(1)
		select {
		case err := <-l.may:
			if err != nil {
				return nil, err
			}
			return &line{}, nil
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
	return l
}

func TestSharedDialsOnceForAll(t *testing.T) {
	l := newLines()
	defer l.Close()
	const callers = 20
	get := func() map[*line]int {
		var mu sync.Mutex
		got := map[*line]int{}
		var calls sync.WaitGroup
		for range callers {
			calls.Go(func() {
				c, err := l.Get(t.Context())
				if err != nil {
					t.Error(err)
				}
				mu.Lock()
				got[c]++
				mu.Unlock()
			})
		}
		calls.Wait()
		return got
	}
	go func() { l.may <- nil }()
	first := get()
	if len(first) != 1 || l.dials.Load() != 1 {
		t.Fatalf("%d connections after %d dials", len(first), l.dials.Load())
	}
	for c := range first {
		c.broken.Store(true)
		go func() { l.may <- nil }()
		if again := get(); len(again) != 1 || again[c] > 0 || l.dials.Load() != 2 {
			t.Errorf("after it broke: %d connections after %d dials", len(again), l.dials.Load())
		}
		l.Close()
		if !c.ended.Load() {
			t.Error("a broken connection was not released")
		}
	}
	if _, err := l.Get(t.Context()); !errors.Is(err, net.ErrClosed) {
		t.Errorf("after Close: %v", err)
	}
}

func TestSharedTellsTheFailure(t *testing.T) {
	l := newLines()
	defer l.Close()
	no := errors.New("no")
	go func() { l.may <- no }()
	if _, err := l.Get(t.Context()); !errors.Is(err, no) {
		t.Errorf("%v", err)
	}
	go func() { l.may <- nil }()
	if _, err := l.Get(t.Context()); err != nil {
		t.Errorf("the next one: %v", err)
	}
}

// One that gives up does not end the Dial that others wait for; Close does.
func TestSharedGivesUp(t *testing.T) {
	l := newLines()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := l.Get(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("%v", err)
	}
	l.may <- nil
	if _, err := l.Get(t.Context()); err != nil || l.dials.Load() != 1 {
		t.Errorf("%v after %d dials", err, l.dials.Load())
	}
	l.Close()

	l = newLines()
	failed := make(chan error)
	go func() {
		_, err := l.Get(context.Background())
		failed <- err
	}()
	for l.dials.Load() == 0 {
		time.Sleep(time.Millisecond) // a pace for the loop
	}
	l.Close()
	if err := <-failed; err == nil {
		t.Error("a connection after Close")
	}
}
