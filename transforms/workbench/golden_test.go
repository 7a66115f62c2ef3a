package workbench_test

import (
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"github.com/hookline/hookline/transforms/workbench"
)

const update = `{"trans_id":"435","form_id":"319","form_name":"Sample Form","OnUpdate":true}`

func TestParseGiven(t *testing.T) {
	for _, c := range []struct{ name, text, event, err string }{
		{"an event", update, update, ""},
		{"with a byte order mark", "\xef\xbb\xbf" + update, update, ""},
		{"an event with a key event", `{"trans_id":"1","event":{}}`, `{"trans_id":"1","event":{}}`, ""},
		{"wrapped", `{"event":` + update + `,"record":{"a":1},"ctx":{"now":"2026-03-01T12:30:15Z"},"secrets":{"k":"v"},"trialkit":{"form/7/1":[1]}}`, update, ""},
		{"unknown key", `{"event":{},"secret":{}}`, "", `unknown field "secret"`},
		{"unknown name", `{"event":{},"ctx":{"eventID":"1","hok":"x"}}`, "", `unknown field "hok"`},
		{"a stage that is none", `{"event":{},"ctx":{"stage":"prod"}}`, "", "use live or uat"},
		{"a time that is none", `{"event":{},"ctx":{"now":"yesterday"}}`, "", "yesterday"},
		{"not JSON", `{`, "", "no JSON object"},
		{"two values", `{"event":{}} 1`, "", "no JSON object"},
	} {
		t.Run(c.name, func(t *testing.T) {
			g, err := workbench.ParseGiven([]byte(c.text))
			if c.err != "" {
				if err == nil || !strings.Contains(err.Error(), c.err) {
					t.Errorf("got %v, want %q", err, c.err)
				}
				return
			}
			if err != nil || string(g.Event) != c.event {
				t.Errorf("got %s, %v", g.Event, err)
			}
		})
	}
}

func TestOutcomeText(t *testing.T) {
	b := start(t)
	dir := folder(t, map[string]string{"t.js": `export default (event, ctx) => ({
		object: { z: 1, a: "caf\u00e9 <b>", n: 1.50 },
		text: "MSH|a\rPID|b\r",
		skip: ctx.skip("why"),
		reject: ctx.reject("Not \"so\""),
	})[event.form_id]`})
	for form, want := range map[string]string{
		"object": `{
  "messages": [
    {
      "contentType": "application/json",
      "payload": {
        "z": 1,
        "a": "café <b>",
        "n": 1.5
      }
    }
  ]
}
`,
		"text": `{
  "messages": [
    {
      "contentType": "text/plain; charset=utf-8",
      "payload": "MSH|a\rPID|b\r"
    }
  ]
}
`,
		"none": `{
  "error": {
    "code": "transform_failed",
    "text": "the script returned nothing: return an object or a string, ctx.skip(why) or ctx.reject(text)"
  }
}
`,
	} {
		// Words that are not returned are errors, so each form has its own script.
		text, err := os.ReadFile(filepath.Join(dir, "t.js"))
		if err != nil {
			t.Fatal(err)
		}
		s := script(dir, "t.js")
		s.Source = []byte(strings.NewReplacer(`skip: ctx.skip("why"),`, "", `reject: ctx.reject("Not \"so\""),`, "").Replace(string(text)))
		run, err := b.Run(t.Context(), s, workbench.Given{Event: []byte(strings.Replace(update, "319", form, 1))})
		if err != nil {
			t.Fatal(err)
		}
		if got := run.Outcome.Text(); got != want {
			t.Errorf("%s gave\n%s\nwant\n%s", form, got, want)
		}
	}
}

func TestLines(t *testing.T) {
	got := workbench.Lines("{\n  \"payload\": \"MSH|a\\rPID|\\\\r b\\r\\nend\\r\",\n  \"x\": 1\n}\n")
	want := "{\n  \"payload\": \"MSH|a\\r\n      PID|\\\\r b\\r\\n\n      end\\r\",\n  \"x\": 1\n}\n"
	if got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
}

// The same pair gives the same result whenever and wherever it runs, as all names,
// ids and the clock are stand-ins.
func TestGolden(t *testing.T) {
	b := start(t)
	dir := folder(t, map[string]string{
		"ehr.js": `export default function (event, ctx) {
  ctx.log("looked at", event.trans_id);
  if (event.form_id === "7") throw new Error("no such form");
  return { record: event.trans_id, hook: ctx.hook, study: ctx.study, at: ctx.now, ref: ctx.ref, dice: Math.random() };
}`,
		"ehr.golden/update.in.json":  update,
		"ehr.golden/named.in.json":   `{"event":` + update + `,"ctx":{"study":"XYZ-9","now":"2026-03-01T12:30:15Z"}}`,
		"ehr.golden/failing.in.json": strings.Replace(update, "319", "7", 1),
	})
	ehr := script(dir, "ehr.js")
	run := func(update bool) map[string]workbench.Result {
		t.Helper()
		results, err := b.Golden(t.Context(), ehr, update)
		if err != nil || len(results) != 3 {
			t.Fatalf("%d results, %v", len(results), err)
		}
		byName := map[string]workbench.Result{}
		for _, r := range results {
			byName[r.Name] = r
		}
		return byName
	}
	for name, r := range run(false) {
		if !strings.Contains(r.Failure, name+".out.json is missing") || !strings.Contains(r.Failure, "--update") {
			t.Errorf("%s without its result: %q", name, r.Failure)
		}
	}
	for name, r := range run(true) {
		if r.Failed() || !r.Written {
			t.Errorf("update %s: %+v", name, r)
		}
	}
	for name, r := range run(false) {
		if r.Failed() || r.Diff != "" {
			t.Errorf("%s: %+v", name, r)
		}
	}
	for name, r := range run(true) {
		if r.Failed() || r.Written {
			t.Errorf("%s is written again although nothing has changed: %+v", name, r)
		}
	}
	named, err := os.ReadFile(filepath.Join(dir, "ehr.golden/named.out.json"))
	if err != nil {
		t.Fatal(err)
	}
	for _, part := range []string{`"hook": "demo"`, `"study": "XYZ-9"`, `"at": "2026-03-01T12:30:15.000Z"`, `"ref": "K7QF2M9X"`} {
		if !strings.Contains(string(named), part) {
			t.Errorf("%s is not in\n%s", part, named)
		}
	}
	failing, err := os.ReadFile(filepath.Join(dir, "ehr.golden/failing.out.json"))
	if err != nil || !strings.Contains(string(failing), "no such form") || strings.Contains(string(failing), "ehr.js") {
		t.Errorf("an error without its position: %s, %v", failing, err)
	}

	// A change of the script is told with what differs and what was logged.
	text, _ := os.ReadFile(ehr.Path)
	changed := strings.Replace(string(text), "record: event.trans_id", "record: 'R-' + event.trans_id", 1)
	if err := os.WriteFile(ehr.Path, []byte(changed), 0o600); err != nil {
		t.Fatal(err)
	}
	r := run(false)["update"]
	if !r.Failed() || !strings.Contains(r.Diff, `-         "record": "435"`) || !strings.Contains(r.Diff, `+         "record": "R-435"`) ||
		!reflect.DeepEqual(r.Logs, []string{"looked at 435"}) {
		t.Errorf("%+v", r)
	}
	if r := run(false)["failing"]; r.Failed() {
		t.Errorf("what did not change fails: %+v", r)
	}
	// The order of keys is sent, and so it counts; spaces and escapes are not.
	out := filepath.Join(dir, "ehr.golden/failing.out.json")
	respelled := strings.NewReplacer("no such", `no\u0020such`, "\n", "  ").Replace(string(failing))
	if err := os.WriteFile(out, []byte(respelled), 0o600); err != nil {
		t.Fatal(err)
	}
	if r := run(false)["failing"]; r.Failed() {
		t.Errorf("the same in other spelling: %+v", r)
	}
}

func TestGoldenThatCannotRun(t *testing.T) {
	b := start(t)
	dir := folder(t, map[string]string{
		"good.js": `export default () => ({})`, "bad.js": `export default () => (`,
		"good.golden/a.in.json":  `{"form_id":"1","OnUpdate":true}`,
		"good.golden/b.in.json":  `[`,
		"bad.golden/a.in.json":   update,
		"lost.js":                `export default () => ({})`,
		"lost.golden/x.out.json": `{}`,
	})
	results, err := b.Golden(t.Context(), script(dir, "good.js"), true)
	if err != nil || len(results) != 2 || !strings.Contains(results[0].Failure, "trans_id") || !strings.Contains(results[1].Failure, "no JSON object") {
		t.Errorf("%+v, %v", results, err)
	}
	results, err = b.Golden(t.Context(), script(dir, "bad.js"), false)
	if err != nil || len(results) != 1 || results[0].Name != "" || !strings.Contains(results[0].Failure, "bad.js:1:23") {
		t.Errorf("%+v, %v", results, err)
	}
	if _, err = b.Golden(t.Context(), script(dir, "lost.js"), false); err == nil || !strings.Contains(err.Error(), "has no x.in.json beside it") {
		t.Errorf("half a pair: %v", err)
	}
}

func TestFind(t *testing.T) {
	dir := folder(t, map[string]string{
		"ehr.ts": "", "ehr.test.ts": "", "ehr.golden/a.in.json": update,
		"deep/lab.mjs": "", "deep/lab.golden/a.in.json": update, "deep/other.test.mjs": "",
		"plain.js": "", "node_modules/p/p.test.js": "", ".git/x.test.ts": "",
	})
	found, err := workbench.Find(dir)
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, s := range found {
		name, _ := filepath.Rel(dir, s.Path)
		got = append(got, filepath.ToSlash(name))
	}
	if want := []string{"deep/lab.mjs", "deep/other.test.mjs", "ehr.test.ts", "ehr.ts"}; !reflect.DeepEqual(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
	for name, n := range map[string]int{"ehr.ts": 2, "ehr.test.ts": 1, "plain.js": 0} {
		if found, err := workbench.Find(filepath.Join(dir, name)); err != nil || len(found) != n {
			t.Errorf("%s has %+v, %v", name, found, err)
		}
	}
	for name, says := range map[string]string{"lonely.golden/a.in.json": "has no script lonely.ts beside it", "ehr.js": "rename one of them"} {
		dir := folder(t, map[string]string{"ehr.ts": "", "ehr.golden/a.in.json": update, name: ""})
		if _, err := workbench.Find(dir); err == nil || !strings.Contains(err.Error(), says) {
			t.Errorf("with %s: %v, want %q", name, err, says)
		}
	}
}
