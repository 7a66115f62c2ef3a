package config

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
)

// Problem is one thing that is wrong, and the way out. It never holds a secret.
type Problem struct {
	Source string `json:"source"`           // the file, an environment variable or "command line"
	Line   int    `json:"line,omitempty"`   // of the file; 0 when it is about no line
	Column int    `json:"column,omitempty"` // syntax errors only
	Key    string `json:"key,omitempty"`    // dotted; "" when it is about the whole
	Rule   string `json:"rule"`
}

// String is one line: config.toml:12: hooks.demo.timeout: must be ...
func (p Problem) String() string {
	var b strings.Builder
	b.WriteString(p.Source)
	if p.Line > 0 {
		fmt.Fprintf(&b, ":%d", p.Line)
	}
	if p.Column > 0 {
		fmt.Fprintf(&b, ":%d", p.Column)
	}
	b.WriteString(": ")
	if p.Key != "" {
		b.WriteString(p.Key + ": ")
	}
	b.WriteString(p.Rule)
	return b.String()
}

// Error is everything that is wrong with a configuration.
type Error struct {
	Problems []Problem

	cause error
}

// Error prints one problem per line.
func (e *Error) Error() string {
	lines := make([]string, len(e.Problems))
	for i, p := range e.Problems {
		lines[i] = p.String()
	}
	return strings.Join(lines, "\n")
}

// Unwrap gives the cause of a file that could not be read.
func (e *Error) Unwrap() error { return e.cause }

// sorted orders problems as one reads a file: by line, then what is not in it.
func sorted(problems []Problem) []Problem {
	slices.SortStableFunc(problems, func(a, b Problem) int {
		return cmp.Or(
			cmp.Compare(layerOf(a), layerOf(b)),
			cmp.Compare(a.Source, b.Source),
			cmp.Compare(a.Line, b.Line),
			cmp.Compare(a.Key, b.Key),
			cmp.Compare(a.Rule, b.Rule),
		)
	})
	return slices.Compact(problems)
}

func layerOf(p Problem) int {
	switch {
	case p.Source == commandLine:
		return 2
	case strings.HasPrefix(p.Source, envPrefix):
		return 1
	}
	return 0
}

// nearest is the candidate that is most likely meant by word, "" for none.
func nearest(word string, candidates []string) string {
	best, bestDistance := "", max(2, len(word)/3)+1
	for _, c := range candidates {
		// A word of which nothing is left would fit any short candidate.
		if d := distance(strings.ToLower(word), c); d < bestDistance && d < len(c) {
			best, bestDistance = c, d
		}
	}
	return best
}

// distance is Levenshtein's, with two neighbours swapped counted as one edit.
func distance(a, b string) int {
	prev2, prev, row := make([]int, len(b)+1), make([]int, len(b)+1), make([]int, len(b)+1)
	for j := range prev {
		prev[j] = j
	}
	for i := 1; i <= len(a); i++ {
		row[0] = i
		for j := 1; j <= len(b); j++ {
			cost := 1
			if a[i-1] == b[j-1] {
				cost = 0
			}
			row[j] = min(prev[j]+1, row[j-1]+1, prev[j-1]+cost)
			if i > 1 && j > 1 && a[i-1] == b[j-2] && a[i-2] == b[j-1] {
				row[j] = min(row[j], prev2[j-2]+1)
			}
		}
		prev2, prev, row = prev, row, prev2
	}
	return prev[len(b)]
}
