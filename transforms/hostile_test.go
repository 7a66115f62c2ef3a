package transforms_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/hookline/hookline/core"
	"github.com/hookline/hookline/transforms"
)

// hostile is a script that means no good, with what its first lines say must come of
// it:
//
//	// code: transform_failed|script_timeout   or ok
//	// text: a pattern that the error's text matches
//	// may: dies     its process may have to end, which costs a start; or
//	//      memory   it may have to prove itself alone, which costs a second run
type hostile struct {
	name, path string
	code, text *regexp.Regexp
	may        string
}

func readHostile(t *testing.T) (out []hostile) {
	t.Helper()
	files, err := filepath.Glob("testdata/hostile/*.js")
	if err != nil || len(files) < 40 {
		t.Fatalf("%d hostile scripts, %v", len(files), err)
	}
	for _, path := range files {
		source, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		h := hostile{name: strings.TrimSuffix(filepath.Base(path), ".js"), path: path, text: regexp.MustCompile("")}
		for line := range strings.Lines(string(source)) {
			key, value, _ := strings.Cut(strings.TrimSpace(strings.TrimPrefix(line, "// ")), ": ")
			switch {
			case !strings.HasPrefix(line, "// "):
			case key == "code":
				h.code = regexp.MustCompile("^(" + value + ")$")
			case key == "text":
				h.text = regexp.MustCompile(value)
			case key == "may":
				h.may = value
			}
		}
		if h.code == nil {
			t.Fatalf("%s does not say what must come of it", path)
		}
		out = append(out, h)
	}
	return out
}

// fairLimit is the default limit, or more where the machine is slow: with the race
// detector, or shared with others.
func fairLimit(t *testing.T, good *transforms.Transform) time.Duration {
	took := time.Hour
	for range 5 {
		before := time.Now()
		payload(t, good, update, delivery)
		took = min(took, time.Since(before))
	}
	return min(max(transforms.DefaultTimeout, 30*took), 1500*time.Millisecond)
}

// aStart is what starting a process takes at most, with the scripts of the suite in it.
const aStart = 2 * time.Second

// TestHostile runs scripts that loop, explode and lie, while a well-behaved one works
// beside them.
func TestHostile(t *testing.T) {
	e := start(t, nil)
	good := compile(t, e, busy, 20*time.Second)
	id := func(i int) string { return fmt.Sprintf("%s-%d", delivery, i%8) }
	var want [8]string
	for i := range want {
		want[i] = payload(t, good, update, id(i))
	}
	limit := fairLimit(t, good)
	t.Logf("the limit is %s", limit)
	heap := heapSize()

	ctx, cancel := context.WithCancel(t.Context())
	var beside sync.WaitGroup
	runs := 0
	beside.Go(func() {
		for i := 0; ctx.Err() == nil; i++ {
			if got := payload(t, good, update, id(i)); got != want[i%8] {
				t.Errorf("an event beside them gave %q, want %q", got, want[i%8])
			}
			runs++
		}
	})
	for _, h := range readHostile(t) {
		t.Run(h.name, func(t *testing.T) {
			bad, err := e.Compile(t.Context(), transforms.Script{Name: "hostile/" + h.name + ".js", Path: h.path, Timeout: limit})
			if err != nil {
				t.Fatal(err)
			}
			defer bad.Close()
			bound := limit + 100*time.Millisecond*limit/transforms.DefaultTimeout // what is fair for one is for the other
			if h.may != "" {
				bound *= 2 // once more, alone
			}
			restarts := e.Status().Restarts
			took, err := quickest(bound, func() {
				_, _ = e.Release(t.Context(), bad.Name())
				restarts = e.Status().Restarts
			}, func() error {
				_, err := bad.Transform(t.Context(), event(update), route, delivery, nil)
				return err
			})
			checkHostile(t, &h, err)
			lost := e.Status().Restarts - restarts
			if lost > 0 && h.may == "" {
				t.Errorf("it cost %d processes", lost)
			}
			if bound += time.Duration(lost) * aStart; took > bound {
				t.Errorf("took %s, want at most %s with %d processes lost", took, bound, lost)
			}
			if got := payload(t, good, update, id(0)); got != want[0] {
				t.Errorf("the next event gave %q", got)
			}
			if now := heapSize(); now > heap+32<<20 {
				t.Errorf("the heap of the daemon grew from %d to %d bytes", heap, now)
			}
		})
	}
	cancel()
	beside.Wait()
	t.Logf("%d events beside them, %d processes lost", runs, e.Status().Restarts)
}

func checkHostile(t *testing.T, h *hostile, err error) {
	t.Helper()
	code := "ok"
	var script *core.ScriptError
	if errors.As(err, &script) {
		code = string(script.Code)
		if script.Text == "" || !h.text.MatchString(script.Text) {
			t.Errorf("the text is %q, want %q", script.Text, h.text)
		}
		if script.Blameless {
			t.Errorf("it is not blamed: %s", script.Text)
		}
	} else if err != nil {
		t.Fatal(err)
	}
	if !h.code.MatchString(code) {
		t.Errorf("got %s, want %s: %v", code, h.code, err)
	}
}

// heapSize is what the heap holds now, garbage included.
func heapSize() uint64 {
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}
