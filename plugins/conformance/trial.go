package conformance

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/hookline/hookline/plugins/host"
	"github.com/hookline/hookline/plugins/transport"
)

// run is one way through the checks.
type run struct {
	Subject
	way   way
	about transport.Description // once it is known
	told  leaks
	block string // why nothing else can be checked
}

func newRun(s Subject, w way) *run {
	r := &run{Subject: s, way: w}
	r.told.know(s.Secret)
	if r.Target != nil || len(r.Settings) == 0 {
		return r
	}
	r.States = nil
	for _, state := range []State{Down, Slow, Rejecting} {
		if r.Settings[state] != nil {
			r.States = append(r.States, state)
		}
	}
	return r
}

// staged tells whether a state of the target is a matter of settings.
func (r *run) staged() bool { return r.Target == nil }

// missing tells why the check cannot be made, and what to give; "": it can.
func (r *run) missing(c check) string {
	switch {
	case r.block != "" && !c.last:
		return r.block
	case c.bare:
		return ""
	case r.Target == nil && r.Settings[Up] == nil:
		return "give settings that lead to a target that may be written to (--settings)"
	case c.state != "" && !slices.Contains(r.States, c.state) && r.staged():
		return fmt.Sprintf("give settings that lead to a target that is %s (--%[1]s), or a target to control (--target)", c.state)
	case c.state != "" && !slices.Contains(r.States, c.state):
		return fmt.Sprintf("the target cannot be made %s", c.state)
	case c.control && r.staged():
		return "give a target to control (--target)"
	}
	return ""
}

// check makes one check. tb is the test, if there is one.
func (r *run) check(tb testing.TB, c check) Result {
	t := &trial{recorder: &recorder{TB: tb, name: c.name}, run: r}
	started := time.Now()
	t.do(func() { c.run(t) })
	result := Result{
		Way: r.way.name, Check: c.name, Why: c.why, Outcome: Passed,
		Failures: t.failures, Notes: t.notes, TookMS: time.Since(started).Milliseconds(),
	}
	switch {
	case len(t.failures) > 0:
		result.Outcome = Failed
		if c.gate != "" {
			r.block = c.gate
		}
	case t.skipped != "":
		result.Outcome, result.Missing = NotChecked, t.skipped
	}
	return result
}

// trial is one check, one way.
type trial struct {
	*recorder
	*run
}

// recorder takes a check's failures, so that they can be told in a report as well
// as in a test. What it does not do itself, the test does.
type recorder struct {
	testing.TB // nil in a run without a test
	name       string

	mu       sync.Mutex
	failures []string
	notes    []string
	skipped  string // why
	cleanups []func()
}

// do runs f to its end, or to where it gave up, and then cleans up.
func (r *recorder) do(f func()) {
	r.protected(f)
	for len(r.cleanups) > 0 {
		last := r.cleanups[len(r.cleanups)-1]
		r.cleanups = r.cleanups[:len(r.cleanups)-1]
		r.protected(last)
	}
}

// protected runs f on a goroutine that Fatal can end.
func (r *recorder) protected(f func()) {
	done := make(chan struct{})
	go func() {
		defer close(done)
		defer func() {
			if p := recover(); p != nil {
				r.Errorf("panic: %v", p)
			}
		}()
		f()
	}()
	<-done
}

func (r *recorder) Helper()          {}
func (r *recorder) Name() string     { return r.name }
func (r *recorder) Cleanup(f func()) { r.cleanups = append(r.cleanups, f) }

func (r *recorder) Errorf(format string, args ...any) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if one := fmt.Sprintf(format, args...); !slices.Contains(r.failures, one) { // once for a thing that is wrong many times
		r.failures = append(r.failures, one)
	}
}

func (r *recorder) Error(args ...any) {
	r.Errorf("%s", strings.TrimSuffix(fmt.Sprintln(args...), "\n"))
}

func (r *recorder) Fatalf(format string, args ...any) {
	r.Errorf(format, args...)
	runtime.Goexit()
}

func (r *recorder) Fatal(args ...any) {
	r.Error(args...)
	runtime.Goexit()
}

func (r *recorder) Fail()    { r.Errorf("it failed") }
func (r *recorder) FailNow() { r.Fatalf("it failed") }

func (r *recorder) Failed() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return len(r.failures) > 0
}

func (r *recorder) Logf(format string, args ...any) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.notes = append(r.notes, fmt.Sprintf(format, args...))
}

func (r *recorder) Log(args ...any) { r.Logf("%s", strings.TrimSuffix(fmt.Sprintln(args...), "\n")) }

// Skipf ends the check as not checked.
func (r *recorder) Skipf(format string, args ...any) {
	r.mu.Lock()
	r.skipped = fmt.Sprintf(format, args...)
	r.mu.Unlock()
	runtime.Goexit()
}

func (r *recorder) Skip(args ...any) { r.Skipf("%s", strings.TrimSuffix(fmt.Sprintln(args...), "\n")) }
func (r *recorder) SkipNow()         { r.Skipf("it was skipped") }

func (r *recorder) Skipped() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.skipped != ""
}

// Context ends before the clean-up begins.
func (r *recorder) Context() context.Context {
	ctx, cancel := context.WithCancel(context.Background())
	r.Cleanup(cancel)
	return ctx
}

func (r *recorder) TempDir() string {
	dir, err := os.MkdirTemp("", "conformance-")
	if err != nil {
		r.Fatal(err)
	}
	r.Cleanup(func() { _ = os.RemoveAll(dir) })
	return dir
}

// leaks collects where a secret or a record's data was told, over a whole way.
type leaks struct {
	mu      sync.Mutex
	secrets []string
	found   []string
}

// know adds a secret, which must be told nowhere.
func (l *leaks) know(secrets ...string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, s := range secrets {
		if s != "" && !slices.Contains(l.secrets, s) {
			l.secrets = append(l.secrets, s)
		}
	}
}

// clean takes the secrets out of what goes into the report, which must not hold
// them either.
func (l *leaks) clean(text string) string {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, s := range l.secrets {
		text = strings.ReplaceAll(text, s, redacted)
	}
	return text
}

// hear looks at what the plugin told. record is a text of a payload.
func (l *leaks) hear(where, text string, records ...string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	var what []string
	if slices.ContainsFunc(l.secrets, func(s string) bool { return strings.Contains(text, s) }) {
		what = append(what, "the secret")
	}
	if strings.Contains(text, redacted) {
		what = append(what, "the secret (Hookline takes it out, but knows only its common encodings)")
	}
	for _, record := range records {
		if record != "" && strings.Contains(text, record) {
			what = append(what, "a record's data")
			break
		}
	}
	for _, one := range what {
		if one = where + " holds " + one; !slices.Contains(l.found, one) {
			l.found = append(l.found, one)
		}
	}
}

// redacted is what the host puts in the place of a secret. Where it stands, the
// plugin has told one.
const redacted = "[secret]"

// target makes a new target that is up.
func (t *trial) target() Target {
	if t.Target == nil {
		return &staged{settings: t.Settings, state: Up}
	}
	return t.Target(t)
}

// staged is a target that nobody controls: each of its states has settings of its
// own, and what it took is not known.
type staged struct {
	settings map[State]json.RawMessage
	state    State
}

func (s *staged) Settings() json.RawMessage { return s.settings[s.state] }
func (s *staged) Set(state State)           { s.state = state }
func (s *staged) Received() [][]byte        { return nil }

// start configures the transport for the target.
func (t *trial) start(target Target) instance {
	t.Helper()
	return t.startWith(target.Settings())
}

func (t *trial) startWith(settings json.RawMessage) instance {
	t.Helper()
	t.learn(settings)
	log := &output{}
	i, stop, err := t.way.start(t, t.Subject, settings, log)
	t.Cleanup(func() {
		stop()
		t.told.hear("the plugin's output", log.String(), recordMark)
	})
	if err != nil {
		t.told.hear("the error of Configure", err.Error())
		t.Fatalf("good settings were refused: %s", t.clean(err.Error()))
	}
	return i
}

// startIn configures the transport and puts the target into the state, after a
// first message so that a connection that is kept is there.
func (t *trial) startIn(target Target, s State) instance {
	t.Helper()
	if t.staged() {
		target.Set(s)
		return t.start(target)
	}
	i := t.start(target)
	if r := t.deliver(i, t.text("first"), ample); r.Effect != transport.Done {
		t.Fatalf("a target that is up: %s", t.say(r))
	}
	target.Set(s)
	return i
}

// say is a receipt in words.
func (t *trial) say(r transport.Receipt) string {
	text := fmt.Sprintf("effect %s, code %s", r.Effect, r.Code)
	if r.Detail != "" {
		text += " (" + r.Detail + ")"
	}
	return t.clean(text)
}

func (t *trial) clean(text string) string { return t.told.clean(text) }

// minSecret is how long a secret must be that the suite finds in the settings by
// itself: a shorter one may stand anywhere by chance.
const minSecret = 8

// learn finds the secrets in settings, by the schema.
func (t *trial) learn(settings json.RawMessage) {
	_, secrets, err := host.ResolveSettings(t.about.Settings, settings, literally)
	if err != nil {
		return // the check itself says so
	}
	for _, s := range secrets {
		if len(s) >= minSecret {
			t.told.know(s)
		}
	}
}
