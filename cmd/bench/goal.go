package main

import (
	"fmt"
	"io"
)

// goal is a figure beside what it should be. Missing one is no fault: it may be
// the machine's.
type goal struct {
	What    string  `json:"what"`
	Figure  float64 `json:"figure"`
	Limit   float64 `json:"limit"`
	AtLeast bool    `json:"at_least,omitempty"` // otherwise at most
	Unit    string  `json:"unit"`
	Met     bool    `json:"met"`
}

func atMost(limit float64, unit string, figure float64, what string, args ...any) goal {
	return goal{What: fmt.Sprintf(what, args...), Figure: figure, Limit: limit, Unit: unit, Met: figure <= limit}
}

func atLeast(limit float64, unit string, figure float64, what string, args ...any) goal {
	return goal{What: fmt.Sprintf(what, args...), Figure: figure, Limit: limit, Unit: unit, AtLeast: true, Met: figure >= limit}
}

func (g goal) String() string {
	bound, verdict := "at most", "met"
	if g.AtLeast {
		bound = "at least"
	}
	if !g.Met {
		verdict = "MISSED"
	}
	return fmt.Sprintf("%s: %s%s (goal: %s %s%s, %s)", g.What, figure(g.Figure), g.Unit, bound, figure(g.Limit), g.Unit, verdict)
}

// figure writes as many digits as mean something.
func figure(f float64) string {
	if f < 10 && f > -10 {
		return fmt.Sprintf("%.2f", f)
	}
	return fmt.Sprintf("%.0f", f)
}

func printGoals(w io.Writer, goals []goal) {
	if len(goals) > 0 {
		fmt.Fprintln(w)
	}
	for _, g := range goals {
		fmt.Fprintln(w, g)
	}
}
