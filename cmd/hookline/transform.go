package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"github.com/hookline/hookline/core/app"
	"github.com/hookline/hookline/transforms"
	"github.com/hookline/hookline/transforms/workbench"
)

// transformCommand is the group of commands for those who write transforms.
func transformCommand() *cobra.Command {
	return group("transform", "Write, try and test transforms", transformRunCommand(), transformTestCommand(), transformTypesCommand(), transformInitCommand(), releaseScriptCommand())
}

// startBench starts a process to try scripts in. Stop it.
func startBench(ctx context.Context, stderr io.Writer) (*workbench.Bench, error) {
	command, err := app.ScriptCommand()
	if err != nil {
		return nil, err
	}
	return workbench.Start(ctx, workbench.Options{
		Command: command,
		// What happens to its process is of use here only when it goes wrong.
		Log: slog.New(slog.NewTextHandler(stderr, &slog.HandlerOptions{Level: slog.LevelError})),
	})
}

// nameOf is a file's name as it stands in positions: one that the shell knows.
func nameOf(path string) string {
	abs, err := filepath.Abs(path)
	if err != nil {
		return path
	}
	here, err := os.Getwd()
	if err != nil {
		return abs
	}
	name, err := filepath.Rel(here, abs)
	if err != nil || strings.HasPrefix(name, "..") {
		return abs
	}
	return filepath.ToSlash(name)
}

// lookups are the tables that scripts run with.
type lookups struct {
	folder string                        // --lookups
	read   map[string]*transforms.Tables // by folder
}

func (l *lookups) add(c *cobra.Command) {
	c.Flags().StringVar(&l.folder, "lookups", "", "`FOLDER` of the files for ctx.lookup; otherwise the nearest folder named lookups, beside the script or above it")
	_ = c.MarkFlagDirname("lookups")
}

// of finds and reads the tables for a script. It looks no higher than the folder
// that one works in.
func (l *lookups) of(script string) (*transforms.Tables, error) {
	folder := l.folder
	if folder == "" {
		here, err := os.Getwd()
		if err != nil {
			return nil, err
		}
		path, err := filepath.Abs(script)
		if err != nil {
			return nil, err
		}
		for dir := filepath.Dir(path); ; dir = filepath.Dir(dir) {
			if info, err := os.Stat(filepath.Join(dir, "lookups")); err == nil && info.IsDir() {
				folder = filepath.Join(dir, "lookups")
				break
			}
			if dir == here || dir == filepath.Dir(dir) {
				return nil, nil
			}
		}
	}
	return l.from(folder)
}

func (l *lookups) from(folder string) (*transforms.Tables, error) {
	if t := l.read[folder]; t != nil {
		return t, nil
	}
	t, err := transforms.ReadTables(folder)
	if err != nil {
		return nil, fmt.Errorf("lookups in %s: %w", nameOf(folder), err)
	}
	if l.read == nil {
		l.read = map[string]*transforms.Tables{}
	}
	l.read[folder] = t
	return t, nil
}

// rootOf is the folder that a script's imports must be in: the one that one works
// in, or the script's own if it is elsewhere.
func rootOf(script string) string {
	if filepath.IsAbs(nameOf(script)) {
		return filepath.Dir(script)
	}
	return "."
}

var position = regexp.MustCompile(`^(.+):(\d+):(\d+)$`)

// withExcerpt is an error of a script with the line that it stands in, as the
// errors of loading have it. Names in positions are those of [nameOf].
func withExcerpt(at, text string) string {
	m := position.FindStringSubmatch(at)
	if m == nil {
		return text
	}
	line, _ := strconv.Atoi(m[2])
	column, _ := strconv.Atoi(m[3])
	first, rest, _ := strings.Cut(text, "\n")
	problem := transforms.Problem{Line: line, Column: column, Text: first}
	if source, err := os.ReadFile(m[1]); err == nil {
		if lines := strings.Split(string(source), "\n"); line <= len(lines) {
			problem.Excerpt = strings.TrimSuffix(lines[line-1], "\r")
		}
	}
	shown := (&transforms.CompileError{Script: m[1], Problems: []transforms.Problem{problem}}).Error()
	return strings.TrimRight(shown+"\n"+rest, "\n")
}

// scriptError tells an error of a script, which fails, from one of its use.
func scriptError(err error) error {
	var script *transforms.CompileError
	if errors.As(err, &script) {
		return exitError{code: exitFailed, err: err}
	}
	return usage(err)
}

// colours for a terminal; nothing for a file.
type colours struct{ on bool }

func coloursFor(w io.Writer) colours {
	return colours{on: isTerminal(w) && os.Getenv("NO_COLOR") == "" && os.Getenv("TERM") != "dumb"}
}

func (c colours) red(s string) string   { return c.paint("31", s) }
func (c colours) green(s string) string { return c.paint("32", s) }
func (c colours) faint(s string) string { return c.paint("2", s) }

func (c colours) paint(code, s string) string {
	if !c.on || s == "" {
		return s
	}
	return "\x1b[" + code + "m" + s + "\x1b[0m"
}

// plain has no colours.
var plain colours

// lines are the lines of a text that others have written, indented; those of a
// difference are coloured.
func (c colours) lines(indent int, text string) string {
	var b strings.Builder
	for line := range strings.Lines(text) {
		line = printable(strings.TrimSuffix(line, "\n"))
		switch {
		case strings.HasPrefix(line, "- "):
			line = c.red(line)
		case strings.HasPrefix(line, "+ "):
			line = c.green(line)
		}
		fmt.Fprintf(&b, "%*s%s\n", indent, "", line)
	}
	return b.String()
}
