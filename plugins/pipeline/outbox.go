package pipeline

import (
	"runtime"
	"sync"
)

const (
	// batchMost bounds how many frames follow one.
	batchMost = 64
	// batchBytes is what a message may hold before another frame is put into it: far
	// from the limit that a frame alone may reach.
	batchBytes = 64 << 10
)

// Together is how frames travel in one message. The zero value: they do not.
type Together[T any] struct {
	// Join puts frames behind another.
	Join func(first *T, more []*T)
	// Size is about how many bytes a frame has: what in it is of any size.
	Size func(*T) int
}

// Outbox sends frames of many goroutines over one stream, which takes one sender at
// a time: one of them sends, and takes along what the others have left meanwhile.
type Outbox[T any] struct {
	send     func(*T) error
	together Together[T]

	mu      sync.Mutex
	idle    sync.Cond // nobody sends
	waiting []*T
	sending bool
	ended   bool
}

// NewOutbox sends by send.
func NewOutbox[T any](send func(*T) error, together Together[T]) *Outbox[T] {
	o := &Outbox[T]{send: send, together: together}
	o.idle.L = &o.mu
	return o
}

// Send sends a frame, or leaves it to a goroutine that is at it. If that fails the
// stream has ended, which the other side sees.
func (o *Outbox[T]) Send(frame *T) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.waiting = append(o.waiting, frame)
	if o.sending {
		return
	}
	o.sending = true
	for len(o.waiting) > 0 && !o.ended {
		o.mu.Unlock()
		if o.together.Join != nil {
			runtime.Gosched() // on a busy process others are about to send
		}
		o.mu.Lock()
		first := o.take()
		o.mu.Unlock()
		_ = o.send(first)
		o.mu.Lock()
	}
	o.sending = false
	o.idle.Broadcast()
}

// take is the next message.
func (o *Outbox[T]) take() *T {
	first, n := o.waiting[0], 1
	if o.together.Join != nil {
		for room := batchBytes - o.together.Size(first); room > 0 && n < len(o.waiting) && n <= batchMost; n++ {
			room -= o.together.Size(o.waiting[n])
		}
		if n > 1 {
			o.together.Join(first, o.waiting[1:n:n])
		}
	}
	if o.waiting = o.waiting[n:]; len(o.waiting) == 0 {
		o.waiting = nil
	}
	return first
}

// End returns when nothing is sent any more: what comes later is dropped.
func (o *Outbox[T]) End() {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.ended = true
	for o.sending {
		o.idle.Wait()
	}
	o.waiting = nil
}
