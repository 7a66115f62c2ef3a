package transforms

import (
	"fmt"
	"regexp"
	"strconv"
	"strings"

	"github.com/dop251/goja"
	"github.com/dop251/goja/file"
)

// place is where something stands in one of the user's files: line and column from
// 1, the column in UTF-16 code units as editors and compilers count. Zero: not
// known.
type place struct {
	file         string
	line, column int
}

// String writes the place as it stands in errors and logs.
func (at place) String() string {
	if at == (place{}) {
		return ""
	}
	return fmt.Sprintf("%s:%d:%d", at.file, at.line, at.column)
}

// place is where a position of the script engine stands for the user.
func (p *program) place(at file.Position) place {
	name, ok := p.names[at.Filename]
	if !ok {
		return place{} // a helper of esbuild's or ours
	}
	return place{name, at.Line, at.Column}
}

// position is the innermost place of a stack that is in the user's files.
func (p *program) position(stack []goja.StackFrame) place {
	for _, frame := range stack {
		if frame.SrcName() != codeName {
			continue // a built-in, or eval
		}
		if at := p.place(frame.Position()); at != (place{}) && !isOwn(at.file) {
			return at
		}
	}
	return place{}
}

// frame is a line of Error.stack: function, file, line, column and the engine's own
// program counter.
var frame = regexp.MustCompile(`^(\tat (?:.*? \()?)(.*?):(\d+):(\d+)\(\d+\)(\)?)`)

func (p *program) placeIn(frame []string) place {
	line, _ := strconv.Atoi(frame[3])
	column, _ := strconv.Atoi(frame[4])
	return p.place(file.Position{Filename: frame[2], Line: line, Column: column})
}

// positionIn is position for the text of Error.stack.
func (p *program) positionIn(stack string) place {
	for line := range strings.Lines(stack) {
		if m := frame.FindStringSubmatch(line); m != nil {
			if at := p.placeIn(m); at != (place{}) && !isOwn(at.file) {
				return at
			}
		}
	}
	return place{}
}

// relocate makes a text that holds Error.stack fit to read: files under the names
// that the user knows, without the engine's counters and without helpers.
func (p *program) relocate(text string) string {
	if !strings.Contains(text, "\tat ") {
		return text
	}
	var out strings.Builder
	for line := range strings.Lines(text) {
		m := frame.FindStringSubmatch(line)
		switch {
		case m == nil:
			out.WriteString(line)
		case m[2] == codeName:
		default:
			name := m[2]
			if at := p.placeIn(m); at != (place{}) {
				name = at.file
			}
			fmt.Fprintf(&out, "%s%s:%s:%s%s%s", m[1], name, m[3], m[4], m[5], line[len(m[0]):])
		}
	}
	return strings.TrimSuffix(out.String(), "\n")
}
