package conformance

import (
	"context"
	"fmt"
	"io"
	"strings"
	"time"
)

// Outcome is what came of a check.
type Outcome string

// The outcomes.
const (
	Passed     Outcome = "passed"
	Failed     Outcome = "failed"
	NotChecked Outcome = "not checked"
)

// Result is what came of one check, run one way.
type Result struct {
	Way      string   `json:"way"` // "value", "grpc" or "process"
	Check    string   `json:"check"`
	Why      string   `json:"why"` // what goes wrong in production otherwise
	Outcome  Outcome  `json:"outcome"`
	Failures []string `json:"failures,omitempty"`
	Missing  string   `json:"missing,omitempty"` // why it was not checked, and how it would be
	Notes    []string `json:"notes,omitempty"`
	TookMS   int64    `json:"took_ms"`
}

// Report is what came of a run.
type Report struct {
	Plugin      string   `json:"plugin"` // as the plugin names itself
	Version     string   `json:"version"`
	Results     []Result `json:"results"`
	Passed      int      `json:"passed"`
	Failed      int      `json:"failed"`
	NotChecked  int      `json:"not_checked"`
	Interrupted bool     `json:"interrupted,omitempty"` // the run was ended early
}

func (r *Report) add(one Result) {
	r.Results = append(r.Results, one)
	switch one.Outcome {
	case Passed:
		r.Passed++
	case Failed:
		r.Failed++
	default:
		r.NotChecked++
	}
}

// run makes the checks one way.
func (r *Report) run(ctx context.Context, s Subject, w way, checks []check, report func(Result)) {
	run := newRun(s, w)
	for _, c := range checks {
		if !c.applies(w) {
			continue
		}
		if ctx.Err() != nil {
			r.Interrupted = true
			return
		}
		result := Result{Way: w.name, Check: c.name, Why: c.why, Outcome: NotChecked, Missing: run.missing(c)}
		if result.Missing == "" {
			result = run.check(nil, c)
		}
		r.add(result)
		if report != nil {
			report(result)
		}
	}
	r.Plugin, r.Version = run.about.Name, run.about.Version
}

// OK tells whether all that was checked has passed, and something was.
func (r *Report) OK() bool { return r.Failed == 0 && r.Passed > 0 && !r.Interrupted }

// Print writes the result for a person.
func (r Result) Print(w io.Writer) {
	switch r.Outcome {
	case Passed:
		fmt.Fprintf(w, "  ok    %s (%v)\n", r.Check, time.Duration(r.TookMS)*time.Millisecond)
	case Failed:
		fmt.Fprintf(w, "  FAIL  %s\n", r.Check)
		for _, f := range r.Failures {
			fmt.Fprintf(w, "          %s\n", strings.ReplaceAll(f, "\n", "\n          "))
		}
		fmt.Fprintf(w, "        why it matters: %s\n", r.Why)
	default:
		fmt.Fprintf(w, "  --    %s: not checked: %s\n", r.Check, r.Missing)
	}
	for _, n := range r.Notes {
		fmt.Fprintf(w, "        %s\n", n)
	}
}
