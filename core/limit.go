package core

import (
	"context"
	"sync"
	"time"
)

// limited is a context with a deadline whose timer is set only for who waits on it. A
// delivery has two, of the caller's budget and of the attempt; most end long before,
// and who is called has a timer of its own.
type limited struct {
	context.Context // until it is armed
	at              time.Time
	cause           error

	once   sync.Once
	timed  context.Context
	cancel context.CancelFunc
}

// limit ends ctx at a time, with a cause. stop must be called.
func limit(ctx context.Context, at time.Time, cause error) *limited {
	return &limited{Context: ctx, at: at, cause: cause}
}

func (l *limited) arm() context.Context {
	l.once.Do(func() { l.timed, l.cancel = context.WithDeadlineCause(l.Context, l.at, l.cause) })
	return l.timed
}

// over is what a limited that nobody has waited on is once it is stopped.
var over = func() context.Context {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	return ctx
}()

func (l *limited) stop() {
	l.once.Do(func() { l.timed = over })
	if l.cancel != nil {
		l.cancel()
	}
}

func (l *limited) Deadline() (time.Time, bool) {
	if earlier, ok := l.Context.Deadline(); ok && earlier.Before(l.at) {
		return earlier, true
	}
	return l.at, true
}

func (l *limited) Done() <-chan struct{} { return l.arm().Done() }
func (l *limited) Err() error            { return l.arm().Err() }

// Value finds the cause as well: [context.Cause] asks for it by a key.
func (l *limited) Value(key any) any { return l.arm().Value(key) }
