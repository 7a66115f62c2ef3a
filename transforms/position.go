package transforms

import (
	"fmt"
	"regexp"
	"strconv"
	"strings"

	"github.com/dop251/goja"
	"github.com/dop251/goja/file"
)

// place is a line and a column of the user's file, from 1; zero: not known.
type place struct{ line, column int }

// in writes the place as it stands in errors and logs.
func (at place) in(name string) string {
	if at == (place{}) {
		return ""
	}
	return fmt.Sprintf("%s:%d:%d", name, at.line, at.column)
}

// original is where a position in the compiled code stands in the user's file.
func (p *program) original(at file.Position) place {
	if at.Line < 1 {
		return place{}
	}
	source, _, line, column, ok := p.maps.Source(at.Line, at.Column-1)
	if !ok || !strings.HasPrefix(source, namespace+":") {
		return place{} // a helper of esbuild's or ours
	}
	return place{line, column + 1}
}

// position is the innermost place of a stack that is in the user's file.
func (p *program) position(stack []goja.StackFrame) place {
	for _, frame := range stack {
		if frame.SrcName() != p.name {
			continue // a built-in, or eval
		}
		if at := p.original(frame.Position()); at != (place{}) {
			return at
		}
	}
	return place{}
}

// trace is a position as Error.stack writes it.
var trace = regexp.MustCompile(`:(\d+):(\d+)\(\d+\)`)

func tracePosition(match []string) file.Position {
	line, _ := strconv.Atoi(match[1])
	column, _ := strconv.Atoi(match[2])
	return file.Position{Line: line, Column: column}
}

// positionIn is position for the text of Error.stack.
func (p *program) positionIn(stack string) place {
	for line := range strings.Lines(stack) {
		if !strings.HasPrefix(line, "\tat ") || !strings.Contains(line, p.name+":") {
			continue
		}
		if m := trace.FindStringSubmatch(line); m != nil {
			if at := p.original(tracePosition(m)); at != (place{}) {
				return at
			}
		}
	}
	return place{}
}

// relocate puts the user's positions into a text that holds Error.stack.
func (p *program) relocate(text string) string {
	if !strings.Contains(text, "\tat ") {
		return text
	}
	return trace.ReplaceAllStringFunc(text, func(s string) string {
		at := p.original(tracePosition(trace.FindStringSubmatch(s)))
		if at == (place{}) {
			return s
		}
		return fmt.Sprintf(":%d:%d", at.line, at.column)
	})
}
