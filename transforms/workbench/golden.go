package workbench

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/hookline/hookline/transforms"
)

// The golden pairs of transforms/ehr.ts stand in the folder transforms/ehr.golden.
const (
	goldenFolder = ".golden"
	inEnding     = ".in.json"
	outEnding    = ".out.json"
)

// Pair is an input of a transform and what must come of it.
type Pair struct {
	Name    string
	In, Out string // files
}

// Pairs finds the golden pairs of a script; none is no error.
func Pairs(script string) ([]Pair, error) {
	folder := strings.TrimSuffix(script, filepath.Ext(script)) + goldenFolder
	entries, err := os.ReadDir(folder)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var pairs []Pair
	for _, e := range entries {
		if name, ok := strings.CutSuffix(e.Name(), inEnding); ok {
			pairs = append(pairs, Pair{Name: name, In: filepath.Join(folder, e.Name()), Out: filepath.Join(folder, name+outEnding)})
			continue
		}
		// A pair that has lost its first half would be a test that never runs.
		if name, ok := strings.CutSuffix(e.Name(), outEnding); ok {
			if _, err := os.Stat(filepath.Join(folder, name+inEnding)); err != nil {
				return nil, fmt.Errorf("%s has no %s%s beside it: add it, or delete the file", filepath.Join(folder, e.Name()), name, inEnding)
			}
		}
	}
	return pairs, nil
}

// Golden runs a script on its pairs. With update it writes what comes of them
// instead of comparing. An error is about the bench, not about the script.
func (b *Bench) Golden(ctx context.Context, s Script, update bool) ([]Result, error) {
	pairs, err := Pairs(s.Path)
	if err != nil || len(pairs) == 0 {
		return nil, err
	}
	t, err := b.compile(ctx, s, Given{})
	if err != nil {
		return refused(s.Name, err)
	}
	defer t.Close()
	s.Source = t.Source() // all pairs run the same
	results := make([]Result, 0, len(pairs))
	for _, p := range pairs {
		if ctx.Err() != nil {
			return results, context.Cause(ctx)
		}
		results = append(results, b.pair(ctx, s, p, update))
	}
	return results, nil
}

func (b *Bench) pair(ctx context.Context, s Script, p Pair, update bool) Result {
	r := Result{File: s.Name, Name: p.Name, Golden: true}
	fail := func(format string, args ...any) Result {
		r.Failure = fmt.Sprintf(format, args...)
		return r
	}
	text, err := os.ReadFile(p.In)
	if err != nil {
		return fail("%v", err)
	}
	given, err := ParseGiven(text)
	if err != nil {
		return fail("%s: %v", p.In, err)
	}
	run, err := b.Run(ctx, s, given)
	r.Took, r.Logs = run.Took, run.Logs
	if err != nil {
		return fail("%s: %v", p.In, err)
	}
	got := run.Outcome.Text()
	want, err := os.ReadFile(p.Out)
	missing := errors.Is(err, fs.ErrNotExist)
	switch {
	case err != nil && !missing:
		return fail("%v", err)
	case update && (missing || pretty(want) != got):
		if err := os.WriteFile(p.Out, []byte(got), 0o644); err != nil {
			return fail("%v", err)
		}
		r.Written = true
	case missing:
		return fail("%s is missing: look at what `hookline transform run` gives, then write it with `hookline transform test --update`", p.Out)
	case pretty(want) != got:
		r.Diff = transforms.Diff(Lines(pretty(want)), Lines(got))
		if e := run.Outcome.Error; e != nil {
			r.Position = e.Position
			return fail("%s\nthat is not what %s says", e.Text, p.Out)
		}
		return fail("the result is not that of %s", p.Out)
	}
	return r
}

// Result is what came of a golden pair or of a test.
type Result struct {
	File     string        // the script, or the file of tests
	Name     string        // the pair or the test; "" if the file as a whole failed
	Golden   bool          // it is a pair
	Took     time.Duration // of the run
	Failure  string        // why it failed; "" if it passed
	Position string        // of the failure, "file:line:column", if it is known
	Diff     string        // what was expected against what came, if that is the failure
	Logs     []string      // what the script logged
	Written  bool          // the pair's result was written
}

// Failed tells whether it did not pass.
func (r *Result) Failed() bool { return r.Failure != "" }

// refused is the result of a file that cannot be loaded.
func refused(file string, err error) ([]Result, error) {
	var script *transforms.CompileError
	if !errors.As(err, &script) {
		return nil, err
	}
	return []Result{{File: file, Failure: script.Error()}}, nil
}
