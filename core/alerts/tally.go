package alerts

import (
	"slices"
	"sync"
	"time"
)

// denials is how many wrong passwords within Times.Denied are an alert.
const denials = 5

// restarts is how many restarts of a process within Times.Restarts are an alert.
const restarts = 5

// Tally counts what happens at hooks, each in a place of fixed size.
type Tally struct {
	mu    sync.Mutex
	times Times
	hooks map[string]*hookTally
}

type hookTally struct {
	came time.Time

	denied      [denials]time.Time // the last ones, as a ring
	deniedAt    int
	deniedCount int // since it was calm
	burst       time.Time

	gone      time.Time
	goneSince time.Time
	goneCount int
	goneRefs  []string
}

// NewTally returns one that has counted nothing.
func NewTally(t Times) *Tally { return &Tally{times: t, hooks: map[string]*hookTally{}} }

// at needs mu.
func (t *Tally) at(hook string) *hookTally {
	h := t.hooks[hook]
	if h == nil {
		h = &hookTally{}
		t.hooks[hook] = h
	}
	return h
}

// Came notes an event.
func (t *Tally) Came(hook string, now time.Time) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.at(hook).came = now
}

// Denied notes a call with a wrong email or password.
func (t *Tally) Denied(hook string, now time.Time) {
	t.mu.Lock()
	defer t.mu.Unlock()
	h := t.at(hook)
	if now.Sub(h.lastDenied()) >= t.times.Calm {
		h.deniedCount, h.burst = 0, time.Time{}
	}
	h.deniedCount++
	h.deniedAt = (h.deniedAt + 1) % denials
	h.denied[h.deniedAt] = now
	oldest := h.denied[(h.deniedAt+1)%denials]
	if h.burst.IsZero() && !oldest.IsZero() && now.Sub(oldest) <= t.times.Denied {
		h.burst = oldest
	}
}

func (h *hookTally) lastDenied() time.Time { return h.denied[h.deniedAt] }

// Gone notes a caller that has hung up before the answer to the event with this
// reference.
func (t *Tally) Gone(hook, ref string, now time.Time) {
	t.mu.Lock()
	defer t.mu.Unlock()
	h := t.at(hook)
	if now.Sub(h.gone) >= t.times.Gone {
		h.goneSince, h.goneCount, h.goneRefs = now, 0, nil
	}
	h.gone = now
	h.goneCount++
	h.goneRefs = append([]string{ref}, h.goneRefs[:min(len(h.goneRefs), MaxRefs-1)]...)
}

// LastEvent is when the last event came to a hook; zero for none.
func (t *Tally) LastEvent(hook string) time.Time {
	t.mu.Lock()
	defer t.mu.Unlock()
	if h := t.hooks[hook]; h != nil {
		return h.came
	}
	return time.Time{}
}

// Conditions are those of a hook.
func (t *Tally) Conditions(hook string, now time.Time) (out []Condition) {
	t.mu.Lock()
	defer t.mu.Unlock()
	h := t.hooks[hook]
	if h == nil {
		return nil
	}
	if !h.burst.IsZero() && now.Sub(h.lastDenied()) < t.times.Calm {
		out = append(out, Condition{Key: Key{Unauthorized, hook}, Since: h.burst, Count: h.deniedCount})
	}
	if !h.gone.IsZero() && now.Sub(h.gone) < t.times.Gone {
		out = append(out, Condition{Key: Key{CallerGone, hook}, Since: h.goneSince, Count: h.goneCount, Refs: slices.Clone(h.goneRefs)})
	}
	return out
}

// Spells tell since when something has been so, of what is looked at from time to
// time. It is not for concurrent use.
type Spells map[string]time.Time

// Note notes how something is now, and returns since when it has been so; zero if it
// is not.
func (s Spells) Note(name string, is bool, now time.Time) time.Time {
	if !is {
		delete(s, name)
		return time.Time{}
	}
	since, ok := s[name]
	if !ok {
		since = now
		s[name] = now
	}
	return since
}

// Keep forgets what is not looked at any more.
func (s Spells) Keep(names map[string]bool) {
	for name := range s {
		if !names[name] {
			delete(s, name)
		}
	}
}

// Children judges processes that are started again when they end. It is not for
// concurrent use.
type Children struct {
	times Times
	all   map[string]*childTally
}

type childTally struct {
	restarts int
	lately   []time.Time // restarts, the last ones
	down     time.Time
	sick     time.Time
}

// NewChildren returns one that knows no process.
func NewChildren(t Times) *Children { return &Children{times: t, all: map[string]*childTally{}} }

// Note notes how a process is now, and returns since when it has not been well; zero
// if it is.
func (c *Children) Note(name string, runs bool, count int, now time.Time) time.Time {
	t := c.all[name]
	if t == nil || count < t.restarts { // it is another one
		t = &childTally{restarts: count}
		c.all[name] = t
	}
	for ; t.restarts < count; t.restarts++ {
		t.lately = append(t.lately, now)
	}
	t.lately = t.lately[max(0, len(t.lately)-restarts):]
	if runs {
		t.down = time.Time{}
	} else if t.down.IsZero() {
		t.down = now
	}
	last := time.Time{}
	if n := len(t.lately); n > 0 {
		last = t.lately[n-1]
	}
	switch {
	case !runs && now.Sub(t.down) >= c.times.Child:
		t.ill(t.down)
	case len(t.lately) == restarts && now.Sub(t.lately[0]) <= c.times.Restarts && now.Sub(last) < c.times.Child:
		t.ill(t.lately[0])
	case runs && now.Sub(last) >= c.times.Child:
		t.sick = time.Time{}
	}
	return t.sick
}

func (t *childTally) ill(since time.Time) {
	if t.sick.IsZero() {
		t.sick = since
	}
}

// Keep forgets the processes that are not looked at any more.
func (c *Children) Keep(names map[string]bool) {
	for name := range c.all {
		if !names[name] {
			delete(c.all, name)
		}
	}
}
