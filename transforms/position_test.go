package transforms_test

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
	"unicode/utf16"

	"github.com/hookline/hookline/core"
	"github.com/hookline/hookline/transforms"
)

// tree writes files below a new folder, the configuration's.
func tree(t testing.TB, files map[string]string) string {
	t.Helper()
	root := t.TempDir()
	for name, text := range files {
		path := filepath.Join(root, filepath.FromSlash(name))
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return root
}

// script describes the file name below root.
func script(root, name string) transforms.Script {
	return transforms.Script{Name: name, Path: filepath.Join(root, filepath.FromSlash(name)), Root: root, Timeout: 5 * time.Second}
}

// mark stands in a source where an error is to be found.
const mark = "@@"

// unmark takes the mark out of the files and returns the position where it was,
// counted as editors do.
func unmark(t *testing.T, files map[string]string) (string, map[string]string) {
	t.Helper()
	clean, at := map[string]string{}, ""
	for name, text := range files {
		before, after, found := strings.Cut(text, mark)
		clean[name] = before + after
		if !found {
			continue
		}
		if at != "" || strings.Contains(after, mark) {
			t.Fatal("two marks")
		}
		line := before[strings.LastIndexAny(before, "\n")+1:]
		line = strings.TrimPrefix(line, "\ufeff")
		at = fmt.Sprintf("%s:%d:%d", name, strings.Count(before, "\n")+1, len(utf16.Encode([]rune(line)))+1)
	}
	return at, clean
}

// shapes are scripts that fail at run time at the mark.
var shapes = map[string]string{
	"throw":                       "export default (event: any): string => {\n  throw @@new Error('no');\n};",
	"made elsewhere":              "const e = (): Error => @@new Error('no');\nexport default () => { throw e(); };",
	"in a callback":               "interface Row { id: string }\nexport default (event: { rows?: Row[] }) => [1, 2].map((n: number) => {\n  const x: number = n;\n  return (undefined as any).@@id + x;\n});",
	"in a getter":                 "class Rec {\n  private readonly a?: string;\n  get id(): string { return (this as any).b.@@c; }\n}\nexport default () => new Rec().id;",
	"async after await":           "type T = { a?: { b: string } };\nexport default async (event: T) => {\n  await Promise.resolve(1);\n  const t: T = {};\n  return t.a!.@@b;\n};",
	"a class field":               "class Rec {\n  #p: number = 1;\n  id: string = (null as any).@@id;\n  static s = 1;\n}\nexport default () => new Rec();",
	"a template literal":          "export default (event: any) => `a ${event.trans_id} and ${event.nothing.@@more} b`;",
	"a template of several lines": "export default (event: any) => `a\n  ${event.trans_id}\n  and ${event.nothing.@@more} b`;",
	"after an enum":               "enum Kind { A = 'a', B = 'b' }\nconst enum N { X = 3 }\nexport default (event: any) => {\n  if (N.X === 3) return event[Kind.B].@@c;\n};",
	"optional chaining":           "export default (event: any) => event?.a?.b + event?.trans_id?.x.@@y;",
	"destructuring":               "export default (event: any) => {\n  const { a: { b } } = @@event;\n  return b;\n};",
	"destructuring a parameter":   "const f = @@({ a }: { a: number }) => a;\nexport default (event: any) => f(event.nothing);",
	"not a function":              "export default (event: any) => {\n  const s: string = event.trans_id;\n  return s.trim().@@nothing(1);\n};",
	"calling undefined":           "const f: any = undefined;\nexport default () => {\n  return @@f();\n};",
	"new of no constructor":       "export default (event: any) => {\n  return @@new event.trans_id();\n};",
	"const assignment":            "export default (event: any) => {\n  const f = () => null as any;\n  return f().@@x;\n};",
	"a rejected promise":          "export default (event: any) => Promise.reject(@@new Error('no'));",
	"a promise nobody awaits":     "export default (event: any) => {\n  Promise.reject(@@new Error('no'));\n  return 1;\n};",
	"tabs":                        "export default (event: any) => {\n\tif (event) {\n\t\t\treturn event.a.@@b;\n\t}\n};",
	"umlauts":                     "export default (event: any) => {\n  const ä = 'öü'; return event.größe.@@b;\n};",
	"beyond the BMP":              "export default (event: any) => {\n  const s = '😀😀 𝒳'; /* 😀 */ return s + event['𝒳'].@@b;\n};",
	"non-BMP in a raw template":   "export default (event: any) => {\n  const s = String.raw`😀 ü\\n` + event.a.@@b;\n  return s;\n};",
	"a non-null assertion":        "export default (event: any) => event.a!.@@b!.c;",
	"generics and casts":          "function id<T extends object>(x: T): T { return x; }\nexport default (event: any) => (id<{ a?: any }>({}) as { a?: any }).a.@@b;",
	"satisfies":                   "export default (event: any) => {\n  const o = { a: 1 } satisfies object;\n  return (o as any).b.@@c;\n};",
	"a namespace":                 "namespace N { export const f = (x: any) => x.@@y; }\nexport default () => N.f(undefined);",
	"an abstract class":           "abstract class A { abstract id(): string; run() { return this.id(); } }\nclass B extends A { constructor(public x?: any) { super(); } id() { return this.x.@@y; } }\nexport default () => new B().run();",
	"JSON":                        "export default () => JSON.@@parse('{');",
	"a builtin's callback":        "export default () => [3, 1].sort((a, b) => (a as any).x.@@y);",
	"toJSON":                      "export default () => ({ a: { toJSON() { return (undefined as any).@@x; } } });",
	"a generator":                 "function* g(): Generator<number> { yield 1; yield (undefined as any).@@x; }\nexport default () => [...g()];",
	"an async generator":          "async function* g() { yield 1; yield (undefined as any).@@x; }\nexport default async () => { for await (const x of g()) { void x; } };",
	"a static block":              "export default () => {\n  class A { static { (undefined as any).@@x; } }\n  return A;\n};",
	"a private method":            "class A { #m(x?: any) { return x.@@y; } run() { return this.#m(); } }\nexport default () => new A().run();",
	"a tagged template":           "const tag = (s: any, ...v: any[]) => v[0].@@x;\nexport default (event: any) => tag`a${event.b}c`;",
	"a computed key":              "export default (event: any) => ({ [event.a.@@b]: 1 });",
	"a default parameter":         "const f = (a: any, b = a.@@c) => b;\nexport default (event: any) => f(event.x);",
	"a spread":                    "export default (event: any) => Math.max(...(event.a.@@b));",
	"a switch":                    "export default (event: any) => {\n  switch (event.form_id) {\n    case '1': return 1;\n    default: return event.a.@@b;\n  }\n};",
	"a catch":                     "export default (event: any) => {\n  try { throw 1; } catch (e) { return (e as any).a.@@b; } finally { void 0; }\n};",
	"a long line":                 "export default (event: any) => { const a = [" + strings.Repeat("1, ", 200) + "2]; return a.length + event.a.@@b; };",
	"comments before it":          "/**\n * Says something.\n */\n// one\nexport default (event: any) => {\n  // two\n\n\n  /* three */ return event.a.@@b; // four\n};",
	"skip that is not returned":   "export default (event: any, ctx: any) => {\n  ctx.@@skip('why');\n  return 1;\n};",
}

// TestPositions: an error is at the user's position, in line and column.
func TestPositions(t *testing.T) {
	var out output
	e := start(t, &out)
	check := func(name string, files map[string]string, entry string) {
		t.Run(name, func(t *testing.T) {
			want, files := unmark(t, files)
			tr, err := e.Compile(t.Context(), script(tree(t, files), entry))
			if err != nil {
				t.Fatal(err)
			}
			defer tr.Close()
			_, err = tr.Transform(t.Context(), event(update), route, delivery, nil)
			var failed *core.ScriptError
			if !errors.As(err, &failed) {
				t.Fatalf("got %v, want a ScriptError", err)
			}
			if failed.Position != want {
				t.Errorf("at %s, want %s: %s", failed.Position, want, failed.Text)
			}
		})
	}
	const entry = "transforms/ehr.ts"
	use := "import f from \"./lib/names\";\nexport default (event, ctx) => f(event, ctx);\n"
	for name, source := range shapes {
		crlf := strings.ReplaceAll(source, "\n", "\r\n")
		check(name, map[string]string{entry: source}, entry)
		check(name+", CRLF and BOM", map[string]string{entry: "\ufeff" + crlf}, entry)
		check(name+", imported", map[string]string{entry: use, "transforms/lib/names.ts": source}, entry)
		check(name+", imported, CRLF and BOM", map[string]string{entry: use, "transforms/lib/names.ts": "\ufeff" + crlf}, entry)
	}
	check("an npm module", map[string]string{
		entry:                            "import { f } from 'lib';\nexport default (event) => f(event.a);",
		"node_modules/lib/package.json":  `{"name":"lib","exports":{".":{"import":"./dist/esm.mjs","require":"./dist/cjs.cjs"}}}`,
		"node_modules/lib/dist/esm.mjs":  "// licence\nexport function f(x) { return x.@@b; }\n",
		"node_modules/lib/dist/cjs.cjs":  "exports.f = () => 1;",
		"node_modules/other/package.jso": "",
	}, entry)
	check("a CommonJS module", map[string]string{
		entry:                       "import lib from 'lib';\nexport default (event) => lib.f(event.a);",
		"node_modules/lib/index.js": "'use strict';\nvar help = require('./help');\nexports.f = function (x) { return help(x); };\n",
		"node_modules/lib/help.js":  "module.exports = function (x) {\n\treturn x.@@b;\n};\n",
	}, entry)
	check("odd names of files", map[string]string{
		"transforms/eh r.ts":             "import f from './lib/ü b%20#c?.js';\nexport default (event) => f(event.a);",
		"transforms/lib/ü b%20#c?.js.ts": "export default (x) => x.@@b;",
	}, "transforms/eh r.ts")
	check("JavaScript", map[string]string{"a.mjs": "export default (event) => event.a.@@b;"}, "a.mjs")
}

// TestStacks: what a script logs of an error names the user's files only.
func TestStacks(t *testing.T) {
	var out output
	e := start(t, &out)
	tr, err := e.Compile(t.Context(), script(tree(t, map[string]string{
		"transforms/ehr.ts":       "import { outer } from './lib/names';\nexport default async (event: any, ctx: any) => {\n  try { outer(); } catch (e) { ctx.log('seen:', e, 'and on'); return { stack: (e as Error).stack }; }\n};",
		"transforms/lib/names.ts": "const inner = () => { throw new Error('no'); };\nexport function outer(): void {\n  inner();\n}\n",
	}), "transforms/ehr.ts"))
	if err != nil {
		t.Fatal(err)
	}
	got := payload(t, tr, update, delivery)
	const want = "seen: Error: no\n\tat inner (transforms/lib/names.ts:1:29)\n\tat outer (transforms/lib/names.ts:3:3)\n\tat ehr_default (transforms/ehr.ts:3:9) and on"
	if lines := out.of(delivery); len(lines) != 1 || lines[0] != want {
		t.Errorf("logged %q, want %q", lines, want)
	}
	// The script itself sees the engine's counters, and the right places.
	if !strings.Contains(got, "transforms/lib/names.ts:1:29(") || strings.Contains(got, "hookline:") {
		t.Errorf("the stack is %s", got)
	}
}
