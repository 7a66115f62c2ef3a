package core

import (
	"log/slog"
	"sync"
	"time"
)

// brake counts the events of each record: a target that writes back to TrialKit
// makes TrialKit call again, and must not keep a screen blocked for ever.
type brake struct {
	log     *slog.Logger
	mu      sync.Mutex
	records map[string]*window // by hook/record
	swept   time.Time
}

// window counts in a minute, and remembers the one before.
type window struct {
	start       time.Time
	count, last int
	warned      bool
}

const brakeWindow = time.Minute

// braked counts the event, and tells whether its record has had too many within
// the last minute. What happened in the minute before the current one counts by
// the part of it that is not yet over.
func (s *Scheduler) braked(ev *Event) bool {
	if s == nil || ev.Hook.LoopLimit == 0 {
		return false
	}
	n, warn := s.brake.count(ev)
	if warn {
		s.brake.log.Warn("many events of one record: they are queued from now on instead of sent at once. Does a target write back to TrialKit?",
			"hook", ev.Hook.Name, "record", ev.TransID, "events_per_minute", n, "setting", "hooks."+ev.Hook.Name+".loop_limit")
	}
	return n > ev.Hook.LoopLimit
}

func (b *brake) count(ev *Event) (n int, warn bool) {
	now := ev.ReceivedAt
	key := ev.Hook.Name + "/" + ev.TransID
	b.mu.Lock()
	defer b.mu.Unlock()
	if now.Sub(b.swept) > brakeWindow {
		for k, w := range b.records {
			if now.Sub(w.start) > 2*brakeWindow {
				delete(b.records, k)
			}
		}
		b.swept = now
	}
	if b.records == nil {
		b.records = map[string]*window{}
	}
	w := b.records[key]
	if w == nil {
		w = &window{start: now}
		b.records[key] = w
	}
	switch age := now.Sub(w.start); {
	case age >= 2*brakeWindow:
		*w = window{start: now}
	case age >= brakeWindow:
		*w = window{start: w.start.Add(brakeWindow), last: w.count}
	}
	w.count++
	left := 1 - float64(now.Sub(w.start))/float64(brakeWindow)
	n = w.count + int(float64(w.last)*left)
	if n > ev.Hook.LoopLimit && !w.warned {
		w.warned, warn = true, true
	}
	return n, warn
}
