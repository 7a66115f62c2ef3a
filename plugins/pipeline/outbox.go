package pipeline

import (
	"runtime"
	"sync"

	"google.golang.org/protobuf/proto"
)

const (
	// batchMost bounds how many frames follow one.
	batchMost = 64
	// batchBytes is what a message may hold before another frame is put into it: far
	// from the limit that a frame alone may reach.
	batchBytes = 64 << 10
)

func sizeOf[T any](frame *T) int {
	m, ok := any(frame).(proto.Message)
	if !ok {
		return 0
	}
	return proto.Size(m)
}

// Outbox sends frames of many goroutines over one stream, which takes one sender at
// a time: one of them sends, and takes along what the others have left meanwhile.
type Outbox[T any] struct {
	send func(*T) error
	join func(first *T, more []*T)

	mu      sync.Mutex
	idle    sync.Cond // nobody sends
	waiting []*T
	sending bool
	ended   bool
}

// NewOutbox sends by send. join puts frames behind another; nil: each goes by itself.
func NewOutbox[T any](send func(*T) error, join func(first *T, more []*T)) *Outbox[T] {
	o := &Outbox[T]{send: send, join: join}
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
		if o.join != nil {
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
	if o.join != nil {
		for room := batchBytes - sizeOf(first); room > 0 && n < len(o.waiting) && n <= batchMost; n++ {
			room -= sizeOf(o.waiting[n])
		}
		if n > 1 {
			o.join(first, o.waiting[1:n:n])
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
