package transforms

import (
	"cmp"
	"fmt"
	"strings"

	"github.com/hookline/hookline/core"
)

// CompileError is why a script cannot be used. It holds lines of the script,
// never of a record.
type CompileError struct {
	Script   string // Script.Name
	Problems []Problem
	// Inputs are the paths of the files that were read or looked for: when one of
	// them changes, it may compile.
	Inputs []string
}

// Problem is one thing wrong with a script.
type Problem struct {
	File         string // as the user knows it; "": the script as a whole
	Line, Column int    // from 1, the column in UTF-16 code units as editors count; 0: not known
	Text         string
	Excerpt      string // the line, "" if it is not known
}

// Error names every problem with its position and its line.
func (e *CompileError) Error() string {
	lines := make([]string, 0, len(e.Problems))
	for _, p := range e.Problems {
		lines = append(lines, p.in(e.Script))
	}
	return strings.Join(lines, "\n")
}

// in writes the problem of a script with its line.
func (p Problem) in(script string) string {
	var b strings.Builder
	b.WriteString(cmp.Or(p.File, script))
	if p.Line > 0 {
		fmt.Fprintf(&b, ":%d:%d", p.Line, p.Column)
	}
	b.WriteString(": " + p.Text)
	if p.Excerpt != "" {
		b.WriteString("\n" + excerpt(p))
	}
	return b.String()
}

// maxExcerpt is how many characters of a line are shown around the problem: a
// minified script is one line.
const maxExcerpt = 100

func excerpt(p Problem) string {
	line := []rune(strings.ReplaceAll(p.Excerpt, "\t", " "))
	at := 0 // in characters, which take the column's units
	for left := p.Column - 1; at < len(line) && left > 0; at++ {
		left -= unitsOf(line[at])
	}
	from := max(0, at-maxExcerpt/2)
	line = line[from:min(len(line), from+maxExcerpt)]
	margin := fmt.Sprintf("%5d | ", p.Line)
	return margin + string(line) + "\n" + strings.Repeat(" ", len(margin)-2) + "| " + strings.Repeat(" ", at-from) + "^"
}

// timeoutError is a script's failure together with the clock that ran out.
type timeoutError struct {
	script *core.ScriptError
	clock  *core.Expired
}

func (e *timeoutError) Error() string   { return e.script.Error() + ": " + e.clock.Error() }
func (e *timeoutError) Unwrap() []error { return []error{e.script, e.clock} }
