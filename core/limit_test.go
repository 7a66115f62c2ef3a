package core

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"
)

func TestLimited(t *testing.T) {
	cause := errors.New("the budget is over")
	synctest.Test(t, func(t *testing.T) {
		start := time.Now()
		outer := limit(t.Context(), start.Add(time.Minute), cause)
		inner := limit(outer, start.Add(time.Hour), errors.New("never"))
		if at, ok := inner.Deadline(); !ok || !at.Equal(start.Add(time.Minute)) {
			t.Errorf("the deadline is %v", at)
		}
		derived, cancel := context.WithCancel(inner)
		defer cancel()
		if err := derived.Err(); err != nil {
			t.Errorf("before the end: %v", err)
		}
		<-derived.Done()
		if time.Since(start) != time.Minute || !errors.Is(inner.Err(), context.DeadlineExceeded) {
			t.Errorf("after %s: %v", time.Since(start), inner.Err())
		}
		if got := context.Cause(derived); !errors.Is(got, cause) {
			t.Errorf("the cause is %v", got)
		}
		inner.stop()
		outer.stop()
	})
}

// Nobody waits for ever on one that has been stopped, whether it was armed or not.
func TestLimitedStopped(t *testing.T) {
	for _, armed := range []bool{false, true} {
		l := limit(t.Context(), time.Now().Add(time.Hour), nil)
		if armed && l.Err() != nil {
			t.Error("it is over before its time")
		}
		l.stop()
		<-l.Done()
		if !errors.Is(l.Err(), context.Canceled) {
			t.Errorf("armed=%t: %v", armed, l.Err())
		}
	}
}

// What its parent's end is, is its own.
func TestLimitedParent(t *testing.T) {
	gone := errors.New("the journal is lost")
	parent, cancel := context.WithCancelCause(t.Context())
	l := limit(parent, time.Now().Add(time.Hour), errors.New("never"))
	defer l.stop()
	done := l.Done()
	cancel(gone)
	<-done
	if got := context.Cause(l); !errors.Is(got, gone) {
		t.Errorf("the cause is %v", got)
	}
}
