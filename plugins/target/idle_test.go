package target_test

import (
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hookline/hookline/plugins/target"
)

// names are connections that are called by a number, and those that were ended.
type names struct {
	target.Idle[int]
	mu    sync.Mutex
	ended []int
}

func newNames(most int) *names {
	n := &names{}
	n.Max = most
	n.End = func(c int) {
		n.mu.Lock()
		defer n.mu.Unlock()
		n.ended = append(n.ended, c)
	}
	return n
}

func (n *names) wantEnded(t *testing.T, want ...int) {
	t.Helper()
	n.mu.Lock()
	defer n.mu.Unlock()
	slices.Sort(n.ended)
	if !slices.Equal(n.ended, want) {
		t.Errorf("ended are %v, want %v", n.ended, want)
	}
}

func (n *names) wantTake(t *testing.T, want int) {
	t.Helper()
	if c, ok := n.Take(time.Now()); ok != (want != 0) || c != want {
		t.Errorf("got %d, want %d (0: none)", c, want)
	}
}

// The latest comes first, and no more are kept than may be.
func TestIdleIsAStack(t *testing.T) {
	n := newNames(2)
	n.wantTake(t, 0)
	for c := 1; c <= 3; c++ {
		n.Put(c, time.Hour)
	}
	n.wantEnded(t, 3)
	n.wantTake(t, 2)
	n.wantTake(t, 1)
	n.wantTake(t, 0)
	n.Put(4, time.Hour)
	n.Put(5, time.Hour)
	n.Flush()
	n.wantEnded(t, 3, 4, 5)
	n.Put(6, time.Hour)
	n.Put(7, time.Hour)
	n.Close()
	n.Put(8, time.Hour)
	n.wantTake(t, 0)
	n.wantEnded(t, 3, 4, 5, 6, 7, 8)
	n.Close()
}

// Each is ended as its time is over, in whatever order they were put.
func TestIdleEndsByTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNames(10)
		n.Put(1, 30*time.Second)
		n.Put(2, 10*time.Second)
		n.Put(3, 20*time.Second)
		pass := func(d time.Duration) {
			time.Sleep(d) // of the bubble
			synctest.Wait()
		}
		pass(10*time.Second - 1)
		n.wantEnded(t)
		pass(1)
		n.wantEnded(t, 2)
		n.wantTake(t, 3)
		n.Put(3, 20*time.Second) // a use begins its time anew
		pass(15 * time.Second)
		n.wantEnded(t, 2)
		pass(5 * time.Second)
		n.wantEnded(t, 1, 2, 3)
		n.Put(4, time.Second)
		pass(time.Second)
		n.wantEnded(t, 1, 2, 3, 4)

		n.Put(5, time.Second)
		if c, ok := n.Take(time.Now().Add(time.Second)); ok { // before the reaper comes
			t.Errorf("%d is taken although its time is over", c)
		}
		n.wantEnded(t, 1, 2, 3, 4, 5)
		n.Close()
	})
}

// One that says goodbye to a target that hangs holds up no other.
func TestIdleEndsAllAtOnce(t *testing.T) {
	var both sync.WaitGroup
	both.Add(2)
	n := target.Idle[int]{Max: 2, End: func(int) { both.Done(); both.Wait() }}
	n.Put(1, time.Hour)
	n.Put(2, time.Hour)
	n.Close()
}

// Every attempt takes and puts one.
func TestIdleAllocatesNothing(t *testing.T) {
	n := newNames(2)
	defer n.Close()
	n.Put(1, time.Hour)
	if a := testing.AllocsPerRun(100, func() {
		c, _ := n.Take(time.Now())
		n.Put(c, time.Hour)
	}); a != 0 {
		t.Errorf("%v allocations for a connection that is taken and put back", a)
	}
}
