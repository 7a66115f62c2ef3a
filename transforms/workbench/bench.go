// Package workbench runs transforms for those who write them: on one event,
// against golden pairs, and their files of tests. It has a script process of its
// own, so that what it runs never meets the events of a daemon.
package workbench

import (
	"context"
	"log/slog"
	"slices"
	"sync"
	"time"

	"github.com/hookline/hookline/transforms"
)

// Timeout is the time of one run: enough on a busy machine, and a loop ends.
const Timeout = 5 * time.Second

// Options are how to set up a bench.
type Options struct {
	Command []string // what becomes the script process: [transforms.Options]
	Log     *slog.Logger
}

// Bench is a script process to try scripts in. It runs one at a time.
type Bench struct {
	engine *transforms.Engine

	mu   sync.Mutex
	logs []string // of the run that is on
}

// Start starts the script process. Stop ends it.
func Start(ctx context.Context, o Options) (*Bench, error) {
	b := &Bench{}
	engine, err := transforms.Start(ctx, transforms.Options{Command: o.Command, Log: o.Log, ShowOutput: b.show})
	if err != nil {
		return nil, err
	}
	b.engine = engine
	return b, nil
}

// Stop ends the script process.
func (b *Bench) Stop() { b.engine.Stop() }

func (b *Bench) show(_, _, text string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.logs = append(b.logs, text)
}

// logged takes what was logged since the last time.
func (b *Bench) logged() []string {
	b.mu.Lock()
	defer b.mu.Unlock()
	logs := b.logs
	b.logs = nil
	return logs
}

// Script is a transform, or a file of tests, to be tried.
type Script struct {
	Name   string // as it stands in positions
	Path   string
	Root   string             // the folder that imports must be in; "": the script's
	Source []byte             // what [transforms.Transform.Source] was, to run without the disk; nil: read it
	Tables *transforms.Tables // for ctx.lookup
}

// Run is one run of a script.
type Run struct {
	Outcome  Outcome
	Logs     []string
	Took     time.Duration
	Inputs   []string // paths of the files that the script is made of
	Warnings []string // of loading it
}

func (b *Bench) compile(ctx context.Context, s Script, given Given) (*transforms.Transform, error) {
	script := s.script()
	script.Secrets, script.TrialKit = given.Secrets, make(map[string][]byte, len(given.TrialKit))
	for path, answer := range given.TrialKit {
		script.TrialKit[path] = answer
	}
	return b.engine.Compile(ctx, script)
}

func (s Script) script() transforms.Script {
	return transforms.Script{Name: s.Name, Path: s.Path, Root: s.Root, Source: s.Source, Tables: s.Tables, Timeout: Timeout}
}

// Run runs a script on what is given. The error is a [*transforms.CompileError] if
// the script cannot be loaded; what it throws is in the outcome.
func (b *Bench) Run(ctx context.Context, s Script, given Given) (Run, error) {
	t, err := b.compile(ctx, s, given)
	if err != nil {
		return Run{}, err
	}
	defer t.Close()
	run, err := b.run(ctx, t, given)
	run.Inputs, run.Warnings = t.Inputs(), t.Warnings()
	return run, err
}

func (b *Bench) run(ctx context.Context, t *transforms.Transform, given Given) (Run, error) {
	ev, route, deliveryID, err := given.event()
	if err != nil {
		return Run{}, err
	}
	b.logged()
	begin := time.Now()
	shaped, err := t.Transform(ctx, ev, route, deliveryID, given.Record)
	run := Run{Took: time.Since(begin), Logs: b.logged()}
	run.Outcome, err = outcomeOf(shaped, err)
	run.Logs = withoutThrown(run.Logs, run.Outcome.Error)
	return run, err
}

// withoutThrown leaves out what was thrown, which the engine shows after what was
// logged.
func withoutThrown(logs []string, thrown *Failure) []string {
	if thrown == nil || len(logs) == 0 {
		return logs
	}
	text := thrown.Text
	if thrown.Position != "" {
		text = thrown.Position + ": " + text
	}
	if last := len(logs) - 1; logs[last] == text {
		return slices.Delete(logs, last, last+1)
	}
	return logs
}
