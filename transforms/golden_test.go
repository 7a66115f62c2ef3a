package transforms_test

import (
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/hookline/hookline/core"
	"github.com/hookline/hookline/transforms"
)

var updateGolden = flag.Bool("update", false, "write what the scripts give into testdata")

// A golden file holds cases: "=== name", the script, perhaps "--- event" and a
// body, then "--- want" and what must come of it.
type golden struct{ name, script, body, want string }

func readGolden(t *testing.T, path string) []golden {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	var cases []golden
	for _, part := range strings.Split("\n"+string(text), "\n=== ")[1:] {
		head, want, _ := strings.Cut(part, "--- want\n")
		name, script, _ := strings.Cut(head, "\n")
		script, body, _ := strings.Cut(script, "--- event\n")
		cases = append(cases, golden{name, script, strings.TrimSuffix(body, "\n"), strings.TrimRight(want, "\n")})
	}
	return cases
}

func writeGolden(t *testing.T, path string, cases []golden) {
	t.Helper()
	var b strings.Builder
	for _, c := range cases {
		fmt.Fprintf(&b, "=== %s\n%s", c.name, c.script)
		if c.body != "" {
			fmt.Fprintf(&b, "--- event\n%s\n", c.body)
		}
		fmt.Fprintf(&b, "--- want\n%s\n\n", c.want)
	}
	if err := os.WriteFile(path, []byte(strings.TrimSuffix(b.String(), "\n")), 0o600); err != nil {
		t.Fatal(err)
	}
}

// TestGolden runs every script in testdata in a real script process.
func TestGolden(t *testing.T) {
	files, err := filepath.Glob("testdata/*.txt")
	if err != nil || len(files) == 0 {
		t.Fatal("no golden files", err)
	}
	var out output
	e := start(t, &out)
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".txt"), func(t *testing.T) {
			cases := readGolden(t, file)
			for i := range cases {
				c := &cases[i]
				t.Run(c.name, func(t *testing.T) {
					got := strings.TrimRight(outcome(t, e, &out, c), "\n")
					if *updateGolden {
						c.want = got
					} else if got != c.want {
						t.Errorf("got:\n%s\nwant:\n%s", got, c.want)
					}
				})
			}
			if *updateGolden {
				writeGolden(t, file, cases)
			}
		})
	}
}

// outcome writes down what came of a script, twice: the second run must give
// the same, to the byte.
func outcome(t *testing.T, e *transforms.Engine, out *output, c *golden) string {
	tr, err := e.Compile(t.Context(), write(t, c.script, 5*time.Second))
	if err != nil {
		return "load error\n" + err.Error()
	}
	defer tr.Close()
	body := c.body
	if body == "" {
		body = update
	}
	body = strings.Replace(body, "<BOM>", "\xef\xbb\xbf", 1)
	first := once(t, tr, out, body, t.Name())
	again := once(t, tr, out, body, t.Name()+"/again")
	if first != again {
		t.Errorf("the second run gave:\n%s\nthe first:\n%s", again, first)
	}
	return first
}

func once(t *testing.T, tr *transforms.Transform, out *output, body, shownAs string) string {
	// The delivery's id seeds the run; what is shown is kept apart by it, so
	// the output is read between the runs.
	seen := len(out.of(delivery))
	shaped, err := tr.Transform(t.Context(), event(body), route, delivery, nil)
	var b strings.Builder
	for _, line := range out.of(delivery)[seen:] {
		fmt.Fprintf(&b, "shown: %s\n", line)
	}
	var script *core.ScriptError
	switch {
	case errors.As(err, &script):
		fmt.Fprintf(&b, "%s at %q\n%s", script.Code, script.Position, script.Text)
	case err != nil:
		t.Errorf("%s: not a ScriptError: %v", shownAs, err)
	case shaped.Skip != nil:
		fmt.Fprintf(&b, "skip %q", *shaped.Skip)
	case shaped.Reject != nil:
		fmt.Fprintf(&b, "reject %q", *shaped.Reject)
	}
	for _, m := range shaped.Messages {
		fmt.Fprintf(&b, "payload %q\n%s", m.ContentType, m.Payload)
	}
	return b.String()
}
