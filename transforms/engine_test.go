package transforms_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/hookline/hookline/core"
	"github.com/hookline/hookline/transforms"
)

// wantTimeout checks that err is a script's timeout under the given setting.
func wantTimeout(t *testing.T, err error, setting string) *core.ScriptError {
	t.Helper()
	var script *core.ScriptError
	var clock *core.Expired
	if !errors.As(err, &script) || script.Code != core.ScriptTimeout {
		t.Fatalf("got %v, want a ScriptError of a timeout", err)
	}
	if !errors.As(err, &clock) || clock.Setting != setting {
		t.Fatalf("the clock is %v, want %s", clock, setting)
	}
	return script
}

// quickest runs f until it was within the bound, ten times at most, each after ready:
// what does not heed a deadline is late each time, a busy machine is not.
func quickest(bound time.Duration, ready func(), f func() error) (took time.Duration, err error) {
	for range 10 {
		ready()
		before := time.Now()
		err = f()
		if took = time.Since(before); took <= bound {
			break
		}
	}
	return took, err
}

func TestLoopEndsAtItsTimeout(t *testing.T) {
	const limit = 200 * time.Millisecond
	e := start(t, nil)
	good := compile(t, e, `export default (event) => event.trans_id;`, time.Second)
	for _, source := range []string{
		"export default () => {\n  for (;;) {}\n};",
		"export default () => {\n  try { for (;;) {} } catch { for (;;) {} } finally { for (;;) {} }\n};",
		"export default () => {\n  const f = () => Promise.resolve().then(f);\n  return f();\n};",
		"export default () => ({ toJSON() { for (;;) {} } });",
		"export default () => {\n  throw { toString() { for (;;) {} } };\n};",
		"export default (e, ctx) => {\n  ctx.log({ toJSON() { for (;;) {} } });\n};",
	} {
		bad := compile(t, e, source, limit)
		took, err := quickest(limit+100*time.Millisecond, func() {}, func() error {
			_, err := bad.Transform(t.Context(), event(update), route, delivery, nil)
			return err
		})
		script := wantTimeout(t, err, "routes.ehr.script_timeout")
		if !strings.HasPrefix(script.Position, "transforms/case.js:") {
			t.Errorf("position %q in\n%s", script.Position, source)
		}
		if took < limit || took > limit+100*time.Millisecond {
			t.Errorf("took %s, want %s and at most 100ms more:\n%s", took, limit, source)
		}
		if got := payload(t, good, update, delivery); got != "435" {
			t.Errorf("the next event gave %q", got)
		}
	}
	if n := e.Status().Restarts; n != 0 {
		t.Errorf("the process was restarted %d times; an interrupt is enough", n)
	}
}

func TestLoopAtTheTopLevel(t *testing.T) {
	e := start(t, nil)
	_, err := e.Compile(t.Context(), write(t, "for (;;) {}\nexport default () => 1;", 100*time.Millisecond))
	var refused *transforms.CompileError
	if !errors.As(err, &refused) || !strings.Contains(err.Error(), "did not end in time") {
		t.Fatal(err)
	}
}

func TestCallersDeadlineIsEarlier(t *testing.T) {
	e := start(t, nil)
	bad := compile(t, e, `export default () => { for (;;) {} };`, 10*time.Second)
	for name, cause := range map[string]error{
		"hooks.demo.timeout":        &core.Expired{Setting: "hooks.demo.timeout", After: 15 * time.Second},
		"routes.ehr.script_timeout": nil, // a caller that gives no cause
	} {
		ctx, cancel := context.WithDeadlineCause(t.Context(), time.Now().Add(100*time.Millisecond), cause)
		before := time.Now()
		_, err := bad.Transform(ctx, event(update), route, delivery, nil)
		wantTimeout(t, err, name)
		if took := time.Since(before); took > 250*time.Millisecond {
			t.Errorf("took %s", took)
		}
		_, err = bad.Transform(ctx, event(update), route, delivery, nil)
		wantTimeout(t, err, name) // no time at all
		cancel()
	}
}

// native never ends and never looks at the interrupt: it is one built-in call.
const native = `export default () => {
  let n = 0;
  return Array.prototype.indexOf.call({ get length() { return n++ ? 1e12 : 1; } }, 1);
};`

func TestBuiltInThatIgnoresTheInterrupt(t *testing.T) {
	const limit = 200 * time.Millisecond
	e := start(t, nil)
	bad := compile(t, e, native, limit)
	good := compile(t, e, busy, 10*time.Second)
	want := payload(t, good, update, delivery)

	took, err := quickest(limit+100*time.Millisecond, func() {
		_, _ = e.Release(t.Context(), bad.Name())
		payload(t, good, update, delivery) // another process is there: each try costs one
	}, func() error {
		_, err := bad.Transform(t.Context(), event(update), route, delivery, nil)
		return err
	})
	if took > limit+100*time.Millisecond {
		t.Errorf("took %s", took)
	}
	wantTimeout(t, err, "routes.ehr.script_timeout")
	if got := payload(t, good, update, delivery); got != want {
		t.Errorf("the next event gave %q, want %q", got, want)
	}
	if n := e.Status().Restarts; n == 0 {
		t.Errorf("%d restarts, want 1", n)
	}

	// The same among others, which must not notice.
	_, _ = e.Release(t.Context(), bad.Name())
	var others sync.WaitGroup
	for range 4 {
		others.Go(func() {
			if got := payload(t, good, update, delivery); got != want {
				t.Errorf("an event beside it gave %q, want %q", got, want)
			}
		})
	}
	_, err = bad.Transform(t.Context(), event(update), route, delivery, nil)
	wantTimeout(t, err, "routes.ehr.script_timeout")
	others.Wait()
}

// busy takes some ten milliseconds and depends on the delivery.
const busy = `export default (event, ctx) => {
  let sum = 0;
  for (let i = 0; i < 60000; i++) sum += i % 7;
  return { sum, random: Math.random(), id: ctx.deliveryId, now: Date.now() };
};`

func TestKilledProcessRunsItAgain(t *testing.T) {
	e := start(t, nil)
	tr := compile(t, e, strings.Replace(busy, "60000", "1000000", 1), 10*time.Second) // still running when it is killed
	quick := compile(t, e, `export default () => 1;`, 10*time.Second)
	id := func(i int) string { return fmt.Sprintf("%s-%d", delivery, i) }
	const n = 8
	var want [n]string
	for i := range n {
		want[i] = payload(t, tr, update, id(i))
	}

	pid := e.Status().PID
	var calling, done sync.WaitGroup
	calling.Add(n)
	for i := range n {
		done.Go(func() {
			calling.Done()
			if got := payload(t, tr, update, id(i)); got != want[i] {
				t.Errorf("got %s, want %s", got, want[i])
			}
		})
	}
	calling.Wait()
	payload(t, quick, update, delivery) // behind some of them: they are on the process
	p, err := os.FindProcess(pid)
	if err == nil {
		err = p.Kill()
	}
	if err != nil {
		t.Fatal(err)
	}
	done.Wait()
	if s := e.Status(); s.Restarts != 1 || s.PID == pid {
		t.Errorf("status %+v, the first process was %d", s, pid)
	}
}

func TestStoppedEngine(t *testing.T) {
	e := start(t, nil)
	tr := compile(t, e, `export default () => 1;`, time.Second)
	e.Stop()
	ctx, cancel := context.WithTimeoutCause(t.Context(), 50*time.Millisecond, &core.Expired{Setting: "hooks.demo.timeout", After: time.Second})
	defer cancel()
	_, err := tr.Transform(ctx, event(update), route, delivery, nil)
	var script *core.ScriptError
	if !errors.As(err, &script) || script.Code != core.TransformFailed || script.Text == "" {
		t.Fatal(err)
	}
}

func TestManyAtOnce(t *testing.T) {
	e := start(t, nil)
	scripts := []*transforms.Transform{
		compile(t, e, `let n = 0; export default (event, ctx) => ({ id: ctx.deliveryId, n: ++n, r: Math.random() });`, 20*time.Second),
		compile(t, e, `const seen = []; export default async (event, ctx) => { await null; seen.push(ctx.deliveryId); return { id: seen, r: Math.random() }; };`, 20*time.Second),
	}
	var done sync.WaitGroup
	for w := range 16 {
		done.Go(func() {
			tr := scripts[w%len(scripts)]
			for i := range 40 {
				id := fmt.Sprintf("%s-%d-%d", delivery, w, i)
				first := payload(t, tr, update, id)
				if !strings.Contains(first, id) || strings.Count(first, delivery) != 1 {
					t.Errorf("delivery %s gave %s", id, first)
				}
				if i%8 == 0 {
					if again := payload(t, tr, update, id); again != first {
						t.Errorf("again: %s, first: %s", again, first)
					}
				}
			}
		})
	}
	done.Wait()
}

// TestContentsNeverReachTheLog is invariant 7.
func TestContentsNeverReachTheLog(t *testing.T) {
	var log bytes.Buffer
	var out output
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	e, err := transforms.Start(t.Context(), transforms.Options{
		Command: []string{exe, "child"}, ShowOutput: out.show,
		Log: slog.New(slog.NewTextHandler(&log, &slog.HandlerOptions{Level: slog.LevelDebug})),
	})
	if err != nil {
		t.Fatal(err)
	}
	const secret = "Jane-Doe-1970"
	for _, source := range []string{
		`export default (e, ctx) => { console.log(e.name); throw new Error(e.name); };`,
		`export default (e, ctx) => { console.log(e.name); Promise.reject(e.name); return 1; };`,
		`export default (e) => ({ get a() { throw e.name; } });`,
		`export default (e) => { e.name.missing[e.name].x(); };`,
		`export default (e) => { const f = () => f(e.name); f(); };`,
		native,
	} {
		tr := compile(t, e, source, 200*time.Millisecond)
		if _, err := tr.Transform(t.Context(), event(`{"name":"`+secret+`"}`), route, delivery, nil); err == nil {
			t.Errorf("no error from %s", source)
		}
	}
	e.Stop()
	if !strings.Contains(strings.Join(out.of(delivery), "\n"), secret) {
		t.Error("ShowOutput was not given what the scripts said")
	}
	if strings.Contains(log.String(), secret) || !strings.Contains(log.String(), delivery) {
		t.Errorf("the log must name the delivery that was killed and no contents:\n%s", log.String())
	}
}

func TestCompileAndClose(t *testing.T) {
	e := start(t, nil)
	const source = `export default (event) => event.trans_id;`
	one, two := compile(t, e, source, time.Second), compile(t, e, source, time.Second)
	other := compile(t, e, source+"\n", time.Second)
	if one.Hash() != two.Hash() || one.Hash() == other.Hash() || len(one.Hash()) != 64 {
		t.Error(one.Hash(), two.Hash(), other.Hash())
	}
	one.Close()
	one.Close() // counts once
	if got := payload(t, two, update, delivery); got != "435" {
		t.Errorf("got %q", got)
	}
	for path, want := range map[string]string{
		"missing.js": "no such file", "a.lua": "a transform is a .ts or .js file", "a.tsx": "a transform is a .ts or .js file",
	} {
		_, err := e.Compile(t.Context(), transforms.Script{Name: "transforms/" + path, Path: path})
		if err == nil || !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), "transforms/"+path) {
			t.Errorf("%s: %v", path, err)
		}
	}
}

// TestBigIntegers: a number that JavaScript would round is a string, or refused.
func TestBigIntegers(t *testing.T) {
	e := start(t, nil)
	script := write(t, `export default (event) => [event.id, typeof event.id];`, 5*time.Second)
	for refuse, want := range map[bool]string{false: `["9007199254740993","string"]`, true: ""} {
		script.RefuseBigIntegers = refuse
		tr, err := e.Compile(t.Context(), script)
		if err != nil {
			t.Fatal(err)
		}
		shaped, err := tr.Transform(t.Context(), event(`{"id":9007199254740993}`), route, delivery, nil)
		var failed *core.ScriptError
		switch {
		case !refuse && (err != nil || string(shaped.Messages[0].Payload) != want):
			t.Errorf("got %v, %v, want %s", shaped, err, want)
		case refuse && (!errors.As(err, &failed) || failed.Code != core.TransformFailed || !strings.Contains(failed.Text, "beyond 2^53 at id")):
			t.Errorf("got %v, %v, want that it is refused", shaped, err)
		}
	}
}

func TestStartFails(t *testing.T) {
	_, err := transforms.Start(t.Context(), transforms.Options{Command: []string{"/bin/false"}, Log: slog.New(slog.DiscardHandler)})
	if err == nil {
		t.Fatal("no error")
	}
}

func BenchmarkChild(b *testing.B) {
	e := start(b, nil)
	tr := compile(b, e, rename, 10*time.Second)
	b.SetParallelism(8)
	b.ReportAllocs()
	b.RunParallel(func(p *testing.PB) {
		for p.Next() {
			if _, err := tr.Transform(context.Background(), event(update), route, delivery, nil); err != nil {
				b.Error(err)
				return
			}
		}
	})
}

// BenchmarkChildAlone has one caller: it is the latency that a script adds.
func BenchmarkChildAlone(b *testing.B) {
	e := start(b, nil)
	tr := compile(b, e, rename, 10*time.Second)
	for b.Loop() {
		if _, err := tr.Transform(context.Background(), event(update), route, delivery, nil); err != nil {
			b.Fatal(err)
		}
	}
}

const rename = `const names = { trans_id: 'record', form_id: 'form', form_name: 'title' };
export default function (event, ctx) {
  const out = {};
  for (const key of Object.keys(event)) out[names[key] || key] = event[key];
  out.kind = ctx.kind;
  return out;
}`
