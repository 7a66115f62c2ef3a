package transforms_test

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/hookline/hookline/core"
	"github.com/hookline/hookline/transforms"
)

// TestQuarantine: a script that cost its process twice is not run any more, its
// events wait, and nothing of it touches another script.
func TestQuarantine(t *testing.T) {
	e := start(t, nil)
	bad := compile(t, e, native, 100*time.Millisecond)
	mended := compile(t, e, native+"\n// mended", 100*time.Millisecond)
	good := compile(t, e, `export default (event) => event.trans_id;`, 20*time.Second)
	fail := func(tr *transforms.Transform) *core.ScriptError {
		t.Helper()
		_, err := tr.Transform(t.Context(), event(update), route, delivery, nil)
		var script *core.ScriptError
		if !errors.As(err, &script) {
			t.Fatalf("got %v, want a ScriptError", err)
		}
		return script
	}
	for n := range 2 {
		if len(e.Quarantined()) != 0 {
			t.Fatalf("it is in quarantine after %d", n)
		}
		if err := fail(bad); err.Code != core.ScriptTimeout || err.Blameless {
			t.Errorf("%d: %+v", n, err)
		}
	}
	restarts := func() int { return e.Status().Restarts }
	payload(t, good, update, delivery) // the second process is back
	before := restarts()
	err := fail(bad)
	if err.Code != core.TransformFailed || !err.Blameless || err.After <= 0 ||
		!strings.Contains(err.Text, "in quarantine since 20") || !strings.Contains(err.Text, "hookline transform release transforms/case.js") {
		t.Errorf("%+v", err)
	}
	list := e.Quarantined()
	if len(list) != 1 || list[0].Script != bad.Name() || list[0].Hash != bad.Hash() || list[0].Why == "" || time.Since(list[0].Since) > time.Minute {
		t.Errorf("%+v", list)
	}
	if got := payload(t, good, update, delivery); got != "435" || restarts() != before {
		t.Errorf("%q, %d restarts", got, restarts()-before)
	}
	if err := fail(mended); err.Blameless {
		t.Errorf("another version of it is not run: %+v", err)
	}

	if _, err := e.Release(t.Context(), "transforms/other.js"); !errors.Is(err, transforms.ErrNotQuarantined) {
		t.Error(err)
	}
	if out, err := e.Release(t.Context(), bad.Name()); err != nil || len(out) != 1 {
		t.Error(out, err)
	}
	if err := fail(bad); err.Blameless || len(e.Quarantined()) != 0 {
		t.Errorf("it is not run after its release: %+v", err)
	}
	fail(bad)
	bad.Close()
	if list := e.Quarantined(); len(list) != 0 {
		t.Errorf("nothing uses it, and it is listed: %+v", list)
	}
}

// TestMemory: who took too much is found out, and nobody else is hurt.
func TestMemory(t *testing.T) {
	e := start(t, nil)
	hog := compile(t, e, `export default () => { const all = [], x = "x".repeat(1e6); for (;;) all.push(x + all.length); };`, 20*time.Second)
	good := compile(t, e, busy, 20*time.Second)
	want := payload(t, good, update, delivery)
	var others sync.WaitGroup
	for range 4 {
		others.Go(func() {
			for range 10 {
				if got := payload(t, good, update, delivery); got != want {
					t.Errorf("an event beside it gave %q, want %q", got, want)
				}
			}
		})
	}
	_, err := hog.Transform(t.Context(), event(update), route, delivery, nil)
	var script *core.ScriptError
	if !errors.As(err, &script) || script.Code != core.TransformFailed || script.Blameless ||
		!strings.Contains(script.Text, "transforms.memory is 256 MiB") || !strings.HasPrefix(script.Position, "transforms/case.js:1:") {
		t.Errorf("got %+v, %v", script, err)
	}
	others.Wait()

	// A larger limit is in force at once.
	large := compile(t, e, `export default () => { const all = [], x = "x".repeat(1e6); while (all.length < 700) all.push(x + all.length); return all.length; };`, 20*time.Second)
	if _, err := large.Transform(t.Context(), event(update), route, delivery, nil); err == nil {
		t.Error("700 MB were given")
	}
	if err := e.SetMemory(t.Context(), 1<<30); err != nil {
		t.Fatal(err)
	}
	if got := payload(t, large, update, delivery); got != "700" {
		t.Errorf("got %q", got)
	}
	if n := e.Status().Restarts; n != 0 {
		t.Errorf("%d processes were lost", n)
	}
}

// TestLostProcess: a process that is gone is the fault of the one that takes it away
// when it is alone.
func TestLostProcess(t *testing.T) {
	e := start(t, nil)
	// One string larger than the system gives: no watch is fast enough.
	killer := compile(t, e, `export default () => String(1n << 100000000000n);`, 5*time.Second)
	good := compile(t, e, busy, 20*time.Second)
	want := payload(t, good, update, delivery)
	done := make(chan struct{})
	var others sync.WaitGroup
	for range 4 {
		others.Go(func() {
			for {
				if got := payload(t, good, update, delivery); got != want {
					t.Errorf("an event beside it gave %q, want %q", got, want)
				}
				select {
				case <-done:
					return
				default:
				}
			}
		})
	}
	for range 2 {
		_, err := killer.Transform(t.Context(), event(update), route, delivery, nil)
		var script *core.ScriptError
		if !errors.As(err, &script) || script.Blameless || !strings.Contains(script.Text, "ended its process") {
			t.Errorf("got %v", err)
		}
	}
	close(done)
	others.Wait()
	if list := e.Quarantined(); len(list) != 1 || list[0].Script != killer.Name() {
		t.Errorf("%+v", list)
	}
}

// TestSameBytesInAnyOrder: what an event gives depends on nothing but itself.
func TestSameBytesInAnyOrder(t *testing.T) {
	e := start(t, nil)
	scripts := map[string]*transforms.Transform{}
	for name, source := range map[string]string{
		"random":  `let n = 0; export default (e, ctx) => ({ n: ++n, r: [Math.random(), Math.random()], at: Date.now(), id: ctx.deliveryId });`,
		"regexp":  `const re = /(\d)/g; export default (e) => ({ hit: re.exec(e.trans_id), last: re.lastIndex, static: RegExp.$1 });`,
		"closure": `const seen = new Map(); export default async (e) => { await null; seen.set(e.trans_id, 1); return [...seen.keys()]; };`,
		"symbols": `export default (e) => { const s = Symbol.for("mark"); const was = e[s]; e[s] = 1; return { was: String(was), keys: Object.keys(globalThis).length }; };`,
		"host":    `const note = (o) => { try { o.n = (o.n || 0) + 1; } catch {} return o.n || 0; }; export default () => [__hookline, __hookline.prototype ?? {}, Object.getPrototypeOf(__hookline)].map(note);`,
		"plain":   `const twice = 2; const f = (n) => n * twice; export default (e) => ({ n: f(Number(e.trans_id)) });`,
		"throws":  `let n = 0; export default (e) => { n++; throw new Error(e.trans_id + " " + n); };`,
	} {
		path := t.TempDir() + "/" + name + ".js"
		if err := os.WriteFile(path, []byte(source), 0o600); err != nil {
			t.Fatal(err)
		}
		tr, err := e.Compile(t.Context(), transforms.Script{Name: "transforms/" + name + ".js", Path: path, Timeout: 20 * time.Second})
		if err != nil {
			t.Fatal(err)
		}
		scripts[name] = tr
	}
	type one struct {
		script string
		n      int
	}
	var all []one
	for name := range scripts {
		for n := range 20 {
			all = append(all, one{name, n})
		}
	}
	outcome := func(o one) string {
		body := fmt.Sprintf(`{"trans_id":"%d","form_id":"319","OnUpdate":true}`, o.n)
		shaped, err := scripts[o.script].Transform(t.Context(), event(body), route, fmt.Sprintf("%s-%d", delivery, o.n), nil)
		if err != nil {
			return "error: " + err.Error()
		}
		return string(shaped.Messages[0].Payload)
	}
	want := map[one]string{}
	for _, o := range all {
		want[o] = outcome(o)
	}
	for seed := range uint64(4) {
		order := append([]one{}, all...)
		rand.New(rand.NewPCG(seed, 1)).Shuffle(len(order), func(i, j int) { order[i], order[j] = order[j], order[i] })
		next := make(chan one)
		var workers sync.WaitGroup
		for range 8 {
			workers.Go(func() {
				for o := range next {
					if got := outcome(o); got != want[o] {
						t.Errorf("seed %d, %v: got %s, first %s", seed, o, got, want[o])
					}
				}
			})
		}
		for _, o := range order {
			next <- o
		}
		close(next)
		workers.Wait()
	}
}
