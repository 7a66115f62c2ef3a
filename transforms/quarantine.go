package transforms

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"
)

const (
	// maxStrikes is how often a script may cost its process within strikeAge. Then it
	// is in quarantine: each time, the events of all scripts wait for the next one.
	maxStrikes = 2
	strikeAge  = 24 * time.Hour
	// quarantinePause is how long an event that met a quarantine waits at least until
	// it looks again.
	quarantinePause = 5 * time.Second
)

// Quarantine is a script that is not run any more.
type Quarantine struct {
	Script string    // Script.Name
	Hash   string    // Transform.Hash: another version of the script is not meant
	Since  time.Time // when it cost its process for the last time
	Why    string    // what it did, without contents
}

// strikes is what a script has done to its processes.
type strikes struct {
	Quarantine
	at []time.Time
}

func (s *strikes) quarantined() bool { return len(s.at) >= maxStrikes }

// strike notes that a script has cost its process and tells whether it is in
// quarantine for it now.
func (e *Engine) strike(t *Transform, why string) (quarantined bool) {
	now := time.Now()
	e.mu.Lock()
	defer e.mu.Unlock()
	s := e.strikes[t.hash]
	if s == nil {
		s = &strikes{}
		e.strikes[t.hash] = s
	}
	if !s.quarantined() {
		s.at = slices.DeleteFunc(s.at, func(at time.Time) bool { return now.Sub(at) > strikeAge })
		s.at = append(s.at, now)
		s.Quarantine = Quarantine{Script: t.script.Name, Hash: t.hash, Since: now, Why: why}
	}
	return s.quarantined()
}

// Quarantined lists the scripts in quarantine that a transform uses, by name.
func (e *Engine) Quarantined() []Quarantine {
	e.mu.Lock()
	defer e.mu.Unlock()
	var out []Quarantine
	for _, s := range e.strikes {
		if s.quarantined() && e.uses(s.Hash) {
			out = append(out, s.Quarantine)
		}
	}
	slices.SortFunc(out, func(a, b Quarantine) int {
		return cmp.Or(strings.Compare(a.Script, b.Script), strings.Compare(a.Hash, b.Hash))
	})
	return out
}

func (e *Engine) uses(hash string) bool {
	for _, l := range e.scripts {
		if l.hash == hash {
			return true
		}
	}
	return false
}

// ErrNotQuarantined means that no script of that name is in quarantine.
var ErrNotQuarantined = errors.New("the script is not in quarantine")

// Release lets a script run again, as if it had done nothing. name is as in the
// configuration: "transforms/ehr.js".
func (e *Engine) Release(name string) ([]Quarantine, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	var released []Quarantine
	for hash, s := range e.strikes {
		if s.Script == name && s.quarantined() {
			released = append(released, s.Quarantine)
			delete(e.strikes, hash)
		}
	}
	if len(released) == 0 {
		return nil, fmt.Errorf("%s: %w", name, ErrNotQuarantined)
	}
	return released, nil
}

// quarantine is the error of an event whose script is not run; nil: it may run. The
// event was not looked at, so it waits and is tried again.
func (t *Transform) quarantine() error {
	t.engine.mu.Lock()
	defer t.engine.mu.Unlock()
	s := t.engine.strikes[t.hash]
	if s == nil || !s.quarantined() {
		return nil
	}
	err := failed("", fmt.Sprintf("the script is in quarantine since %s because %s; mend it and reload, or release it with `hookline transform release %s`",
		s.Since.UTC().Format(time.RFC3339), s.Why, s.Script))
	err.Blameless, err.After = true, quarantinePause
	return err
}
