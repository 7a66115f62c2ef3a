package main

import (
	"sync/atomic"
	"time"
)

// watchSpec says what to look for: when the first event comes, and the nth.
type watchSpec struct {
	Nth int64 `json:"nth"`
	// IDs is the highest record number: which of them came is noted. An event that
	// was under way at a crash comes twice.
	IDs uint64 `json:"ids"`
	// Go on with what came before.
	Go bool `json:"go,omitempty"`
}

// watched is what was seen. Times are since the epoch, 0 for not yet.
type watched struct {
	First    time.Duration `json:"first"`
	Nth      time.Duration `json:"nth"`
	Came     int64         `json:"came"`     // since this watch began
	Distinct int64         `json:"distinct"` // since the one that did not go on
	Last     time.Duration `json:"last"`     // when the last of all came that was new
}

type watch struct {
	watchSpec
	first, nth, last atomic.Int64
	came             atomic.Int64
	seen             *seen
}

type seen struct {
	bits     []atomic.Uint32
	distinct atomic.Int64
}

func newWatch(s watchSpec) *watch {
	return &watch{watchSpec: s, seen: &seen{bits: make([]atomic.Uint32, s.IDs/32+1)}}
}

func (w *watch) saw(id uint64) {
	switch w.came.Add(1) {
	case 1:
		w.first.Store(time.Now().UnixNano())
		if w.Nth == 1 {
			w.nth.Store(w.first.Load())
		}
	case w.Nth:
		w.nth.Store(time.Now().UnixNano())
	}
	if id > w.IDs {
		return
	}
	bit := uint32(1) << (id % 32)
	if w.seen.bits[id/32].Or(bit)&bit == 0 {
		w.seen.distinct.Add(1)
		w.last.Store(time.Now().UnixNano())
	}
}

func (w *watch) read() watched {
	return watched{
		First: time.Duration(w.first.Load()), Nth: time.Duration(w.nth.Load()), Last: time.Duration(w.last.Load()),
		Came: w.came.Load(), Distinct: w.seen.distinct.Load(),
	}
}
