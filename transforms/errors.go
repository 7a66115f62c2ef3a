package transforms

import (
	"fmt"
	"strings"

	"github.com/hookline/hookline/core"
)

// CompileError is why a script cannot be used. It holds lines of the script,
// never of a record.
type CompileError struct {
	Script   string // Script.Name
	Problems []Problem
}

// Problem is one thing wrong with a script.
type Problem struct {
	Line, Column int // from 1; 0: not known
	Text         string
	Excerpt      string // the line, "" if it is not known
}

// Error names every problem with its position and its line.
func (e *CompileError) Error() string {
	var b strings.Builder
	for i, p := range e.Problems {
		if i > 0 {
			b.WriteByte('\n')
		}
		b.WriteString(e.Script)
		if p.Line > 0 {
			fmt.Fprintf(&b, ":%d:%d", p.Line, p.Column)
		}
		b.WriteString(": " + p.Text)
		if p.Excerpt != "" {
			b.WriteString("\n" + excerpt(p))
		}
	}
	return b.String()
}

// maxExcerpt is how many characters of a line are shown around the problem: a
// minified script is one line.
const maxExcerpt = 100

func excerpt(p Problem) string {
	line := []rune(strings.ReplaceAll(p.Excerpt, "\t", " "))
	at := min(max(p.Column-1, 0), len(line))
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
