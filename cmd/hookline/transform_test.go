package main

import (
	"encoding/json"
	"encoding/xml"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/hookline/hookline/transforms"
)

// bench is a folder to write transforms in.
type bench struct {
	t   *testing.T
	dir string
}

func newBench(t *testing.T, files map[string]string) *bench {
	b := &bench{t, t.TempDir()}
	for name, text := range files {
		b.write(name, text)
	}
	return b
}

func (b *bench) write(name, text string) {
	b.t.Helper()
	path := filepath.Join(b.dir, name)
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		b.t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		b.t.Fatal(err)
	}
}

func (b *bench) read(name string) string {
	b.t.Helper()
	text, err := os.ReadFile(filepath.Join(b.dir, name))
	if err != nil {
		b.t.Fatal(err)
	}
	return string(text)
}

func (b *bench) command(args ...string) *exec.Cmd {
	cmd := hookline(b.t, []string{"PSEUDONYM=hush hush"}, append([]string{"transform"}, args...)...)
	cmd.Dir = b.dir
	return cmd
}

// says runs a command, and wants its exit code and parts of what it prints.
func (b *bench) says(code int, args []string, want ...string) string {
	b.t.Helper()
	got, out, errs := finish(b.t, b.command(args...))
	if got != code {
		b.t.Errorf("%q: exit %d, want %d\n%s%s", args, got, code, out, errs)
	}
	for _, part := range want {
		if !strings.Contains(out+errs, part) {
			b.t.Errorf("%q does not say %q:\n%s%s", args, part, out, errs)
		}
	}
	return out
}

const benchConfig = `
[hooks.ward]
study = "XYZ-9"
stage = "live"
anonymous = true
[transports.ehr]
plugin = "http"
settings = { url = "http://127.0.0.1:1" }
[routes.ehr]
hooks = ["ward"]
transport = "ehr"
transform = "transforms/names.js"
secrets = { key = "env:PSEUDONYM" }
`

func TestTransformRun(t *testing.T) {
	b := newBench(t, map[string]string{
		"config.toml":         benchConfig,
		"transforms/names.js": `export default (event, ctx) => ({ hook: ctx.hook, route: ctx.route, study: ctx.study, stage: ctx.stage, sealed: ctx.crypto.hmac(ctx.secret("key"), "x").length })`,
		"all.ts": `export default (event: any, ctx: any) => {
  ctx.log("saw", event.trans_id, ctx.study);
  if (event.OnInsert) return ctx.skip("not an insert");
  if (event.OnReview) return ctx.reject("Not now.");
  return [
    ctx.message({ record: event.record, site: ctx.lookup("sites.csv").get("1").name }, { headers: { "X-Study": ctx.study }, key: "k", path: "visits" }),
    ctx.message("MSH|a\rPID|b\r\u001b[2J", { contentType: "x-application/hl7-v2+er7" })];
};
`,
		"lookups/sites.csv": "site,name\n1,Berlin\n",
		"rec.json":          `{"subject":"S-1"}`,
		"late.ts":           "export default (event: any) => {\n\n  return event.nothing.at;\n};\n",
		"bad.ts":            "export default () => {\n  const a = 1 +;\n};\n",
	})
	b.says(0, []string{"run", "all.ts", "--record", "rec.json"},
		"message 1 of 2, application/json\n", "header X-Study: ABC-123\n", "key k\n", "path visits\n", `"subject": "S-1"`, `"site": "Berlin"`,
		"message 2 of 2, x-application/hl7-v2+er7\nMSH|a\nPID|b\n\\x1b[2J\n", "log\n  saw 435 ABC-123\n", "took ")
	b.says(0, []string{"run", "all.ts", "--event", "insert"}, "skipped: not an insert")
	b.says(0, []string{"run", "all.ts", "--event", "review"}, "rejected, the site's user reads: Not now.")
	b.write("pair.json", `{"event":{"trans_id":"77","form_id":"1","OnInsert":true},"ctx":{"study":"S"}}`)
	b.says(0, []string{"run", "all.ts", "--event", "pair.json"}, "saw 77 S")

	b.says(1, []string{"run", "late.ts"}, "transform_failed\nlate.ts:3:24: TypeError", "    3 |   return event.nothing.at;\n      |                        ^")
	b.says(1, []string{"run", "bad.ts"}, "bad.ts:2:16: ", "    2 |   const a = 1 +;")
	b.says(2, []string{"run"}, "hookline transform run FILE")
	b.says(2, []string{"run", "none.ts"}, "none.ts")
	b.says(2, []string{"run", "all.ts", "--event", "none.json"}, "--event", "none.json")
	b.says(2, []string{"run", "all.ts", "--event", "rec.json"}, "exactly one of them must be true")
	b.says(2, []string{"run", "all.ts", "--record", "all.ts"}, "--record all.ts: it is not JSON")
	b.says(2, []string{"run", "all.ts", "--lookups", "nowhere"}, "lookups in nowhere")
	b.says(2, []string{"run", "all.ts", "--watch", "--json"}, "--watch goes with neither")

	b.says(0, []string{"run", "--route", "ehr"}, `"hook": "ward"`, `"route": "ehr"`, `"study": "XYZ-9"`, `"stage": "live"`, `"sealed": 64`)
	b.says(2, []string{"run", "--route", "lab"}, `has no route "lab"; it has ehr`)
	b.says(2, []string{"run", "--route", "ehr", "--config", "none.toml"}, "none.toml")

	var result struct {
		OK       bool
		Messages []struct {
			ContentType, Key, Path string
			Headers                map[string]string
			Payload                any
		}
		Error    struct{ Code, Text string }
		Position string
		Logs     []string
		TookMS   float64 `json:"took_ms"`
	}
	if err := json.Unmarshal([]byte(b.says(0, []string{"run", "all.ts", "--json"})), &result); err != nil || !result.OK ||
		len(result.Messages) != 2 || result.Messages[1].Payload != "MSH|a\rPID|b\r\x1b[2J" || len(result.Logs) != 1 || result.TookMS <= 0 {
		t.Errorf("%+v, %v", result, err)
	}
	if err := json.Unmarshal([]byte(b.says(1, []string{"run", "late.ts", "--json"})), &result); err != nil || result.OK ||
		result.Error.Code != "transform_failed" || result.Position != "late.ts:3:24" {
		t.Errorf("%+v, %v", result, err)
	}
}

// A change of the script, of what it imports or of the event runs it again.
func TestTransformRunWatches(t *testing.T) {
	b := newBench(t, map[string]string{
		"t.ts":     `import { v } from "./lib"; export default (e: any) => ({ v, form: e.form_id })`,
		"lib.ts":   `export const v = "first";`,
		"ev.json":  `{"trans_id":"1","form_id":"one","OnUpdate":true}`,
		"rec.json": `{}`,
	})
	r := launch(t, b.command("run", "t.ts", "--watch", "--event", "ev.json", "--record", "rec.json"), true)
	r.await(`"v": "first"`)
	r.await(`watching t.ts, ev.json, rec.json, lib.ts`)
	b.write("lib.ts", `export const v = "second";`)
	r.await(`"v": "second"`)
	r.await("watching")
	b.write("lib.ts", `export const v = ;`)
	r.await(`lib.ts:1:18: Unexpected ";"`)
	r.await("watching")
	b.write("lib.ts", `export const v = "third";`)
	r.await(`"v": "third"`)
	r.await("watching")
	b.write("ev.json", `{"trans_id":"1","form_id":"two","OnUpdate":true}`)
	r.await(`"form": "two"`)
	if err := r.cmd.Process.Signal(syscall.SIGINT); err != nil {
		t.Fatal(err)
	}
	if code := r.stop(); code != 0 {
		t.Errorf("exit %d", code)
	}
}

func TestTransformTest(t *testing.T) {
	b := newBench(t, map[string]string{
		"transforms/t.ts":               `export default (e: any, ctx: any) => { ctx.log("saw it"); return { form: e.form_id }; }`,
		"transforms/t.golden/a.in.json": `{"trans_id":"1","form_id":"one","OnUpdate":true}`,
		"transforms/t.test.ts": `import { assert, run, test } from "hookline/test";
import t from "./t";
const e = { trans_id: "1", form_id: "one", OnUpdate: true };
test("gives the form", async () => { assert.equal((await run(t, e)).payload.form, "one"); });
test("has a <tag> & more", () => { console.log("logged \x1b[2J"); assert.equal(1, 2); });
`,
		"empty/x.js": "export default () => 1",
	})
	b.says(1, []string{"test"}, "transforms/t.test.ts\n", "  ok   gives the form", "  FAIL has a <tag> & more", "transforms/t.test.ts:5:74: AssertionError: want 2, got 1",
		"    5 | e\", () =>", `log: logged \x1b[2J`, "  FAIL golden a", "a.out.json is missing", "1 passed, 2 failed in ")
	b.says(1, []string{"test", "--update", "transforms/t.ts"}, "  new  golden a")
	if got := b.read("transforms/t.golden/a.out.json"); !strings.Contains(got, `"form": "one"`) {
		t.Error(got)
	}
	b.says(1, []string{"test", "empty"}, "no tests found in empty")
	b.says(2, []string{"test", "nowhere"}, "nowhere")
	b.says(2, []string{"test", "--junit", "transforms", "transforms"}, "--junit")

	b.says(1, []string{"test", "--junit", "reports/junit.xml"})
	var junit junitSuites
	if err := xml.Unmarshal([]byte(b.read("reports/junit.xml")), &junit); err != nil || junit.Tests != 3 || junit.Failures != 1 || len(junit.Suites) != 2 {
		t.Fatalf("%+v, %v", junit, err)
	}
	failed := junit.Suites[0].Cases[1]
	if failed.Name != "has a <tag> & more" || failed.Class != "transforms/t.test.ts" || failed.Failure == nil ||
		failed.Failure.Message != "AssertionError: want 2, got 1" || !strings.Contains(failed.Failure.Text, "t.test.ts:5:74") || !strings.HasPrefix(failed.Output, "logged") {
		t.Errorf("%+v %+v", failed, failed.Failure)
	}

	var report struct {
		OK             bool
		Passed, Failed int
		Results        []struct {
			File, Name, Failure, Position string
			OK, Golden                    bool
		}
	}
	if err := json.Unmarshal([]byte(b.says(1, []string{"test", "--json"})), &report); err != nil || report.OK || report.Passed != 2 || report.Failed != 1 ||
		len(report.Results) != 3 || report.Results[1].Position != "transforms/t.test.ts:5:74" || !report.Results[2].Golden || !report.Results[2].OK {
		t.Errorf("%+v, %v", report, err)
	}

	b.write("transforms/t.golden/a.out.json", strings.Replace(b.read("transforms/t.golden/a.out.json"), "one", "two", 1))
	b.says(1, []string{"test", "transforms/t.ts"}, "the result is not that of transforms/t.golden/a.out.json", `-         "form": "two"`, `+         "form": "one"`, "log: saw it")
}

// The tests of ten scripts take about a second: a bound with room for a busy machine.
func TestTransformTestIsQuick(t *testing.T) {
	b := newBench(t, nil)
	for _, name := range strings.Fields("a b c d e f g h i j") {
		b.says(0, []string{"init", name})
	}
	var report struct {
		OK     bool
		Passed int
		TookMS float64 `json:"took_ms"`
	}
	if err := json.Unmarshal([]byte(b.says(0, []string{"test", "--json"})), &report); err != nil || !report.OK || report.Passed != 30 {
		t.Fatalf("%+v, %v", report, err)
	}
	t.Logf("%d tests of ten scripts took %.0f ms", report.Passed, report.TookMS)
	if report.TookMS > float64(30*time.Second/time.Millisecond) {
		t.Errorf("they took %.0f ms", report.TookMS)
	}
}

func TestTransformTypesAndInit(t *testing.T) {
	b := newBench(t, nil)
	b.says(0, []string{"types"}, "wrote hookline.d.ts")
	if b.read("hookline.d.ts") != transforms.Types {
		t.Error("another file was written")
	}
	b.says(0, []string{"types"}, "hookline.d.ts is up to date")
	first, _, _ := strings.Cut(transforms.Types, "\n")
	b.write("hookline.d.ts", first+"\n// of an earlier version\n")
	b.says(0, []string{"types"}, "wrote hookline.d.ts")
	b.write("mine.d.ts", "// my own\n")
	b.says(2, []string{"types", "--out", "mine.d.ts"}, "mine.d.ts was not written by this command", "--force")
	b.says(0, []string{"types", "--out", "mine.d.ts", "--force"}, "wrote mine.d.ts")
	if out := b.says(0, []string{"types", "--out", "-"}); out != transforms.Types {
		t.Error("--out - printed something else")
	}

	b.says(0, []string{"init", "ehr"}, "wrote transforms/ehr.ts", "wrote transforms/ehr.test.ts", "wrote transforms/ehr.golden/update.out.json",
		"wrote transforms/hookline.d.ts", "wrote transforms/tsconfig.json", "hookline transform test transforms", "[routes.ehr]", `transform = "transforms/ehr.ts"`)
	b.says(0, []string{"test"}, "3 passed")
	b.says(1, []string{"init", "ehr"}, "transforms/ehr.ts is there already")
	b.write("transforms/tsconfig.json", "{}")
	b.says(0, []string{"init", "lab-results"}, "wrote transforms/lab-results.ts")
	if got := b.read("transforms/tsconfig.json"); got != "{}" {
		t.Errorf("tsconfig.json was overwritten: %s", got)
	}
	b.says(0, []string{"test"}, "6 passed")
	b.says(2, []string{"init"}, "hookline transform init ehr")
	b.says(2, []string{"init", "../x"}, "lower case letters")
	b.says(2, []string{"tst"}, `does not know "tst"`, "did you mean test?")
}
