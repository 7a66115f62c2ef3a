package transforms

import (
	"cmp"
	"context"
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
	// keepTime is how long it may take to keep a quarantine; no event waits for it.
	keepTime = 5 * time.Second
)

// Quarantine is a script that is not run any more.
type Quarantine struct {
	Script string    // Script.Name
	Hash   string    // Transform.Hash: another version of the script is not meant
	Since  time.Time // when it cost its process for the last time
	Why    string    // what it did, without contents
}

// Quarantines keeps quarantines for longer than an engine lives, and for all engines
// that have the same one. Calls come one at a time.
type Quarantines interface {
	// Quarantined are all that are kept.
	Quarantined(ctx context.Context) ([]Quarantine, error)
	// Quarantine keeps one more. One of the same Hash stays as it is.
	Quarantine(ctx context.Context, q Quarantine) error
	// Unquarantine forgets those of these hashes that are kept.
	Unquarantine(ctx context.Context, hashes []string) error
}

// strikes is what a script has done to its processes.
type strikes struct {
	Quarantine
	at   []time.Time
	held bool // it is in quarantine
	kept bool // so says Options.Quarantines
}

// strike notes that a script has cost its process and tells whether it has come into
// quarantine for it.
func (e *Engine) strike(t *Transform, why string) (quarantined bool) {
	now := time.Now()
	e.mu.Lock()
	defer e.mu.Unlock()
	s := e.strikes[t.hash]
	if s == nil {
		s = &strikes{}
		e.strikes[t.hash] = s
	}
	if s.held {
		return false
	}
	s.at = slices.DeleteFunc(s.at, func(at time.Time) bool { return now.Sub(at) > strikeAge })
	s.at = append(s.at, now)
	s.Quarantine = Quarantine{Script: t.script.Name, Hash: t.hash, Since: now, Why: why}
	if s.held = len(s.at) >= maxStrikes; s.held && e.options.Quarantines != nil && !e.stopped {
		e.tasks.Go(e.keepQuarantines)
	}
	return s.held
}

// keepQuarantines has what is new kept.
func (e *Engine) keepQuarantines() {
	ctx, cancel := context.WithTimeout(context.Background(), keepTime)
	defer cancel()
	e.keeping.Lock()
	defer e.keeping.Unlock()
	if err := e.keepNew(ctx); err != nil {
		e.options.Log.Error("a quarantine could not be kept: it ends when this process does", "error", err)
	}
}

// keepNew has keeping held, so nothing is released meanwhile.
func (e *Engine) keepNew(ctx context.Context) error {
	var fresh []*strikes
	e.mu.Lock()
	for _, s := range e.strikes {
		if s.held && !s.kept {
			fresh = append(fresh, s)
		}
	}
	e.mu.Unlock()
	for _, s := range fresh { // what is held does not change
		if err := e.options.Quarantines.Quarantine(ctx, s.Quarantine); err != nil {
			return fmt.Errorf("keep the quarantine of %s: %w", s.Script, err)
		}
		e.mu.Lock()
		s.kept = true
		e.mu.Unlock()
	}
	return nil
}

// ShareQuarantines makes the quarantines those of Options.Quarantines: engines that
// share one share their quarantines, and what ends them, as often as this is called.
func (e *Engine) ShareQuarantines(ctx context.Context) error {
	if e.options.Quarantines == nil {
		return nil
	}
	e.keeping.Lock()
	defer e.keeping.Unlock()
	if err := e.keepNew(ctx); err != nil {
		return err
	}
	all, err := e.options.Quarantines.Quarantined(ctx)
	if err != nil {
		return fmt.Errorf("read which scripts are in quarantine: %w", err)
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	listed := map[string]bool{}
	for _, q := range all {
		listed[q.Hash] = true
		if s := e.strikes[q.Hash]; s == nil || !s.held {
			e.strikes[q.Hash] = &strikes{Quarantine: q, held: true, kept: true}
			if e.uses(q.Hash) {
				e.options.Log.Error("the script is in quarantine, as another daemon found: "+wayOut, "script", q.Script, "because", q.Why)
			}
		}
	}
	for hash, s := range e.strikes {
		if s.kept && !listed[hash] {
			delete(e.strikes, hash)
			e.options.Log.Info("a script is run again, as it was released on another daemon", "script", s.Script)
		}
	}
	return nil
}

const wayOut = "mend it and reload, or release it with `hookline transform release`"

// Quarantined lists the scripts in quarantine that a transform uses, by name.
func (e *Engine) Quarantined() []Quarantine {
	e.mu.Lock()
	defer e.mu.Unlock()
	var out []Quarantine
	for _, s := range e.strikes {
		if s.held && e.uses(s.Hash) {
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
// configuration: "transforms/ehr.js". After an error it is as it was.
func (e *Engine) Release(ctx context.Context, name string) ([]Quarantine, error) {
	e.keeping.Lock()
	defer e.keeping.Unlock()
	var released []Quarantine
	var hashes []string
	e.mu.Lock()
	for hash, s := range e.strikes {
		if s.Script == name && s.held {
			released, hashes = append(released, s.Quarantine), append(hashes, hash)
		}
	}
	e.mu.Unlock()
	if len(released) == 0 {
		return nil, fmt.Errorf("%s: %w", name, ErrNotQuarantined)
	}
	if e.options.Quarantines != nil {
		if err := e.options.Quarantines.Unquarantine(ctx, hashes); err != nil {
			return nil, fmt.Errorf("%s stays in quarantine: %w", name, err)
		}
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	for _, hash := range hashes {
		delete(e.strikes, hash)
	}
	return released, nil
}

// quarantine is the error of an event whose script is not run; nil: it may run. The
// event was not looked at, so it waits and is tried again.
func (t *Transform) quarantine() error {
	t.engine.mu.Lock()
	defer t.engine.mu.Unlock()
	s := t.engine.strikes[t.hash]
	if s == nil || !s.held {
		return nil
	}
	err := failed("", fmt.Sprintf("the script is in quarantine since %s because %s; mend it and reload, or release it with `hookline transform release %s`",
		s.Since.UTC().Format(time.RFC3339), s.Why, s.Script))
	err.Blameless, err.After = true, quarantinePause
	return err
}
