package workbench_test

import (
	"context"
	"reflect"
	"strings"
	"testing"

	"github.com/hookline/hookline/transforms"
	"github.com/hookline/hookline/transforms/workbench"
)

// look is a transform that shows all that a test can give it.
const look = `import type { Transform } from "hookline";
const look: Transform = async (event, ctx) => {
  ctx.log("saw", ctx.kind, event.form_id);
  switch (event.form_id) {
    case "skip": return ctx.skip("why");
    case "reject": return ctx.reject("No");
    case "throw": throw new RangeError("far out");
    case "nothing": return undefined as any;
    case "lost": ctx.skip("lost"); return {};
    case "late": Promise.reject(new Error("late")); return {};
    case "several": return [
      ctx.message({ n: 1 }, { headers: { "X-N": "1" }, key: "k", path: "p" }),
      ctx.message("text", { contentType: "text/csv" })];
    case "get": return await ctx.trialkit.get("form/7/1");
    case "secret": return ctx.secret("key");
  }
  return { hook: ctx.hook, route: ctx.route, study: ctx.study, stage: ctx.stage, kind: ctx.kind, eventId: ctx.eventId,
    deliveryId: ctx.deliveryId, ref: ctx.ref, now: ctx.now, clock: Date.now(), dice: Math.random(), id: ctx.crypto.uuid() };
};
export default look;
`

func TestFileOfTests(t *testing.T) {
	b := start(t)
	for _, c := range []struct{ name, body, failure, position, diff string }{
		{"ctx is a stand-in", `
			const p = (await run(look, e("all"))).payload;
			assert.deepEqual([p.hook, p.route, p.study, p.stage, p.kind, p.ref], ["demo", "demo", "ABC-123", "uat", "update", "K7QF2M9X"]);
			assert.equal(p.now, "2026-01-02T03:04:05.000Z");
			assert.equal(p.clock, Date.parse(p.now));`, "", "", ""},
		{"ctx is what the test gives", `
			const now = new Date("2026-03-01T12:30:15.250Z");
			const p = (await run(look, e("all"), { ctx: { hook: "h", route: "r", study: "S", stage: "live", eventId: "E", deliveryId: "D", ref: "R", now } })).payload;
			assert.deepEqual([p.hook, p.route, p.study, p.stage, p.eventId, p.deliveryId, p.ref, p.now, p.clock],
				["h", "r", "S", "live", "E", "D", "R", now.toISOString(), now.getTime()]);`, "", "", ""},
		{"chance is the delivery's", `
			const [a, b, c] = [await run(look, e("x")), await run(look, e("x")), await run(look, e("x"), { ctx: { deliveryId: "other" } })];
			assert.deepEqual(a, b);
			assert.notEqual(a.payload.dice, c.payload.dice);
			assert.notEqual(a.payload.id, c.payload.id);`, "", "", ""},
		{"runs at once do not mix", `
			const all = await Promise.all(["skip", "x", "get", "reject"].map((f) => run(look, e(f), { trialkit: { "form/7/1": { a: f } } })));
			assert.deepEqual(all.map((o) => o.logs), ["skip", "x", "get", "reject"].map((f) => ["saw update " + f]));
			assert.deepEqual(all[2].payload, { a: "get" });`, "", "", ""},
		{"several messages", `
			const out = await run(look, e("several"));
			assert.deepEqual(out.messages, [
				{ contentType: "application/json", headers: { "X-N": "1" }, key: "k", path: "p", payload: { n: 1 } },
				{ contentType: "text/csv", headers: {}, key: "", path: "", payload: "text" }]);
			assert.equal(out.payload, undefined);`, "", "", ""},
		{"words", `
			const skipped = await run(look, e("skip")), rejected = await run(look, e("reject"));
			assert.deepEqual([skipped.skip, skipped.reject, skipped.messages.length], ["why", undefined, 0]);
			assert.deepEqual([rejected.skip, rejected.reject], [undefined, "No"]);`, "", "", ""},
		{"errors", `
			await assert.rejects(() => run(look, e("throw")), /^RangeError: far out$/);
			await assert.rejects(() => run(look, e("nothing")), /returned nothing/);
			await assert.rejects(() => run(look, e("lost")), /ctx.skip was not returned.*look.ts:9:/);
			await assert.rejects(() => run(look, e("late")), /late/);
			await assert.rejects(() => run(look, e("secret")), /there is no secret "key"/);
			await assert.rejects(() => run(look, e("get")), /no answer is given for "form\/7\/1"/);
			await assert.rejects(() => run(look, { trans_id: "1", form_id: "2" } as any), /OnInsert/);
			await assert.rejects(() => run(look, e("x"), { secret: {} } as any), /unknown field "secret"/);
			await assert.rejects(() => run(undefined as any, e("x")), /import it/);`, "", "", ""},
		{"secrets", `assert.equal((await run(look, e("secret"), { secrets: { key: "hush" } })).payload, "hush");`, "", "", ""},
		{"assert passes", `
			assert.ok(1); assert.equal(NaN, NaN); assert.notEqual({}, {}); assert.match("abc", /b/g); assert.match("abc", /b/g);
			assert.deepEqual({ a: 1, b: [new Date(0), /x/, null] }, { b: [new Date(0), /x/, null], a: 1 });
			assert.deepEqual(new Map([["a", { b: 1 }]]), new Map([["a", { b: 1 }]]));
			assert.throws(() => { throw new TypeError("no"); }, /^TypeError: no/);`, "", "", ""},
		{"deepEqual is strict", `
			for (const [a, b] of [[1, "1"], [{}, { a: undefined }], [[1], { 0: 1 }], [new Date(0), new Date(1)], [null, undefined],
				[new Set([1]), new Set([2])], [[1, 2], [2, 1]], [{ a: 1 }, { b: 1 }], [[undefined], [,]]]) {
				assert.throws(() => assert.deepEqual(a, b));
			}`, "", "", ""},

		{"ok", `assert.ok("", "a name");`, `AssertionError: a name: want something true, got ""`, "t.test.ts:8:10", ""},
		{"equal", `assert.equal(1, 2);`, "AssertionError: want 2, got 1", "t.test.ts:8:10", ""},
		{"deepEqual", `assert.deepEqual({ a: 1, text: "one\rtwo" }, { a: 1, text: "one\rthree" });`,
			"AssertionError: what is expected (-) against what came (+)", "t.test.ts:8:10", "-     three\"\n+     two\""},
		{"throws", `assert.throws(() => {});`, "AssertionError: nothing was thrown", "t.test.ts:8:10", ""},
		{"rejects", `await assert.rejects(async () => {});`, "AssertionError: the promise was not rejected", "t.test.ts:8:16", ""},
		{"the transform throws", `await run(look, e("throw"));`, "RangeError: far out", "look.ts:7:25", ""},
		{"not awaited", `run(look, e("throw"));`, "a promise was rejected and not awaited: RangeError: far out", "look.ts:7:25", ""},
		{"a test in a test", `test("inner", () => {});`, "TypeError: test stands at the top of the file, not in another test", "t.test.ts:8:3", ""},
		{"never settles", `await new Promise(() => {});`, "never settles", "", ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			dir := folder(t, map[string]string{"look.ts": look, "t.test.ts": `import { assert, run, test } from "hookline/test";
import look from "./look";
const e = (form_id: string) => ({ trans_id: "435", form_id, OnUpdate: true });
let state = 0;
test("before", () => { state++; });
test("the case", async () => {
  assert.equal(state, 0, "each test has a scope of its own");
  ` + strings.TrimSpace(c.body) + "\n});\n"})
			results, err := b.Tests(t.Context(), script(dir, "t.test.ts"))
			if err != nil || len(results) != 2 || results[1].Name != "the case" {
				t.Fatalf("%+v, %v", results, err)
			}
			r := results[1]
			if c.failure == "" && r.Failed() {
				t.Errorf("%s: %s", r.Position, r.Failure)
			}
			if !strings.Contains(r.Failure, c.failure) || !strings.Contains(r.Failure, c.diff) || r.Position != c.position {
				t.Errorf("%q: got\n%s\nwant\n%s\n%s", r.Position, r.Failure, c.failure, c.diff)
			}
		})
	}
}

func TestFileOfTestsThatCannotRun(t *testing.T) {
	b := start(t)
	for source, want := range map[string]string{
		`export default 1`:                                              "it has no tests",
		`import { test } from "hookline/test"; (`:                       "t.test.ts:1:40",
		"import { test } from 'hookline/test';\nthrow new Error('top')": "t.test.ts:2:7: Error: top",
		`import { test } from "hookline/test"; test("x")`:               `write test("what it shows"`,
	} {
		dir := folder(t, map[string]string{"t.test.ts": source})
		results, err := b.Tests(t.Context(), script(dir, "t.test.ts"))
		if err != nil || len(results) != 1 || results[0].Name != "" || !strings.Contains(results[0].Failure, want) {
			t.Errorf("%s gave %+v, %v, want %q", source, results, err, want)
		}
	}
}

// What a test logs is shown with it, and not with the next.
func TestLogsOfTests(t *testing.T) {
	b := start(t)
	dir := folder(t, map[string]string{"t.test.js": `import { run, test } from "hookline/test";
test("one", () => { console.log("of one"); throw new Error("one"); });
test("two", async () => { await run((event, ctx) => { ctx.log("inner"); return {}; }, { trans_id: "1", form_id: "2", OnInsert: true }); console.log("of two"); });`})
	results, err := b.Tests(t.Context(), script(dir, "t.test.js"))
	if err != nil || len(results) != 2 {
		t.Fatal(results, err)
	}
	if !reflect.DeepEqual(results[0].Logs, []string{"of one"}) || !reflect.DeepEqual(results[1].Logs, []string{"of two"}) {
		t.Errorf("%q %q", results[0].Logs, results[1].Logs)
	}
}

// A transform cannot get at the module for tests, nor can a file of tests pass for one.
func TestModuleIsForTestsOnly(t *testing.T) {
	b := start(t)
	dir := folder(t, map[string]string{"t.js": `import { run } from "hookline/test"; export default () => run`, "u.js": "export default () => typeof __hookline.bench"})
	if _, err := b.Run(t.Context(), script(dir, "t.js"), workbench.Given{Event: []byte(update)}); err == nil || !strings.Contains(err.Error(), "is for tests") {
		t.Error(err)
	}
	run, err := b.Run(t.Context(), script(dir, "u.js"), workbench.Given{Event: []byte(update)})
	if err == nil && (len(run.Outcome.Messages) != 1 || string(run.Outcome.Messages[0].Payload) != `"undefined"`) {
		t.Errorf("%+v", run.Outcome)
	}
}

// The worked examples are tested as their README says.
func TestExamples(t *testing.T) {
	const examples = "../../examples/transforms"
	b := start(t)
	tables, err := transforms.ReadTables(examples + "/lookups")
	if err != nil {
		t.Fatal(err)
	}
	suites, err := workbench.Find(examples)
	if err != nil {
		t.Fatal(err)
	}
	if len(suites) != 12 {
		t.Errorf("%d suites, want six scripts with pairs and six files of tests", len(suites))
	}
	for _, s := range suites {
		name := strings.TrimPrefix(s.Path, examples+"/")
		script := workbench.Script{Name: name, Path: s.Path, Root: examples, Tables: tables}
		test := b.Tests
		if !s.Tests {
			test = func(ctx context.Context, s workbench.Script) ([]workbench.Result, error) {
				return b.Golden(ctx, s, false)
			}
		}
		results, err := test(t.Context(), script)
		if err != nil || len(results) < 2 {
			t.Errorf("%s: %d results, %v", name, len(results), err)
		}
		for _, r := range results {
			if r.Failed() {
				t.Errorf("%s %s: %s %s\n%s", name, r.Name, r.Position, r.Failure, r.Diff)
			}
		}
	}
}
