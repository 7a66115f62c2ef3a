package transforms_test

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/hookline/hookline/transforms"
)

// A bundle's golden file holds cases: "=== name", then "--- file NAME" with a text
// for each file, the script first, and "--- want" with what must come of it.
type bundled struct {
	name  string
	files [][2]string
	want  string
}

func readBundled(t *testing.T, path string) (cases []bundled) {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for _, part := range strings.Split("\n"+string(text), "\n=== ")[1:] {
		head, want, _ := strings.Cut(part, "--- want\n")
		name, rest, _ := strings.Cut(head, "\n")
		c := bundled{name: name, want: strings.TrimRight(want, "\n")}
		for _, f := range strings.Split("\n"+rest, "\n--- file ")[1:] {
			file, text, _ := strings.Cut(f, "\n")
			if !strings.HasSuffix(text, "\n") {
				text += "\n"
			}
			c.files = append(c.files, [2]string{file, text})
		}
		cases = append(cases, c)
	}
	return cases
}

func writeBundled(t *testing.T, path string, cases []bundled) {
	t.Helper()
	var b strings.Builder
	for _, c := range cases {
		fmt.Fprintf(&b, "=== %s\n", c.name)
		for _, f := range c.files {
			fmt.Fprintf(&b, "--- file %s\n%s", f[0], f[1])
		}
		fmt.Fprintf(&b, "--- want\n%s\n\n", c.want)
	}
	if err := os.WriteFile(path, []byte(strings.TrimSuffix(b.String(), "\n")), 0o600); err != nil {
		t.Fatal(err)
	}
}

// TestBundled loads the scripts in testdata/bundle with all that they import.
func TestBundled(t *testing.T) {
	files, err := filepath.Glob("testdata/bundle/*.txt")
	if err != nil || len(files) == 0 {
		t.Fatal("no golden files", err)
	}
	var out output
	e := start(t, &out)
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".txt"), func(t *testing.T) {
			cases := readBundled(t, file)
			for i := range cases {
				c := &cases[i]
				t.Run(c.name, func(t *testing.T) {
					all := map[string]string{}
					for _, f := range c.files {
						all[f[0]] = f[1]
					}
					root := tree(t, all)
					got := strings.TrimRight(strings.ReplaceAll(loaded(t, e, &out, script(root, c.files[0][0])), root, "ROOT"), "\n")
					if *updateGolden {
						c.want = got
					} else if got != c.want {
						t.Errorf("got:\n%s\nwant:\n%s", got, c.want)
					}
				})
			}
			if *updateGolden {
				writeBundled(t, file, cases)
			}
		})
	}
}

// loaded writes down what came of loading a script, and of one event.
func loaded(t *testing.T, e *transforms.Engine, out *output, s transforms.Script) string {
	tr, err := e.Compile(t.Context(), s)
	if err != nil {
		return "load error\n" + err.Error()
	}
	defer tr.Close()
	var b strings.Builder
	for _, w := range tr.Warnings() {
		b.WriteString("warning: " + w + "\n")
	}
	b.WriteString(once(t, tr, out, update, t.Name()))
	return b.String()
}

// TestKept: what is kept of a script is all that it takes to run it again.
func TestKept(t *testing.T) {
	e := start(t, nil)
	files := map[string]string{
		"transforms/ehr.ts":         "import { f } from './lib/names';\nimport { g } from 'lib';\nimport site from './site.json';\nimport text from './a.hl7';\nexport default (event: any) => ({ f: f(event), g: g(), site, text });\n",
		"transforms/lib/names.ts":   "export const f = (event: any): string => event.trans_id;\n",
		"transforms/site.json":      `{"name": "Zürich"}`,
		"transforms/a.hl7":          "MSH|^~\\&|\rPID|",
		"node_modules/lib/index.js": "exports.g = () => 'g';\n",
	}
	root := tree(t, files)
	one, err := e.Compile(t.Context(), script(root, "transforms/ehr.ts"))
	if err != nil {
		t.Fatal(err)
	}
	sum := sha256.Sum256(one.Source())
	if one.Hash() != hex.EncodeToString(sum[:]) {
		t.Error("Hash is not that of Source")
	}
	if text := string(one.Source()); strings.Contains(text, root) || !strings.Contains(text, "// transforms/lib/names.ts") {
		t.Errorf("it should name files, and none of this machine:\n%.2000s", text)
	}
	want := payload(t, one, update, delivery)
	if want != `{"f":"435","g":"g","site":{"name":"Zürich"},"text":"MSH|^~\\&|\rPID|"}` {
		t.Error(want)
	}

	inputs := one.Inputs()
	for name := range files {
		if !slices.Contains(inputs, filepath.Join(root, filepath.FromSlash(name))) {
			t.Errorf("the inputs lack %s: %q", name, inputs)
		}
	}
	var names []string
	for i, f := range transforms.SourceFiles(one.Source()) {
		if names = append(names, f.Name); files[f.Name] != f.Text || i == 0 && f.Name != "transforms/ehr.ts" {
			t.Errorf("file %d is %q: %q", i, f.Name, f.Text)
		}
	}
	if len(names) != len(files) {
		t.Errorf("kept are %q", names)
	}

	// The same elsewhere is the same; and the disk is not needed any more.
	if same, err := e.Compile(t.Context(), script(tree(t, files), "transforms/ehr.ts")); err != nil || same.Hash() != one.Hash() {
		t.Error("another folder makes another script", err)
	}
	again := script(filepath.Join(t.TempDir(), "gone"), "transforms/ehr.ts")
	again.Source = one.Source()
	two, err := e.Compile(t.Context(), again)
	if err != nil {
		t.Fatal(err)
	}
	if got := payload(t, two, update, delivery); got != want || two.Hash() != one.Hash() {
		t.Errorf("it gives %s", got)
	}
	if got := two.Inputs(); !slices.Contains(got, filepath.Join(again.Root, "transforms/lib/names.ts")) || len(got) != len(files) {
		t.Errorf("its inputs are %q", got)
	}
}

// TestKeptText: what was kept before there were bundles is the text of one file.
func TestKeptText(t *testing.T) {
	e := start(t, nil)
	s := transforms.Script{
		Name: "transforms/case.js", Path: "/nowhere/case.js", Timeout: time.Second,
		Source: []byte("\ufeffexport default (event) => {\n  if (event.bad) return 'ä' + event.a.b;\n  return setTimeout;\n};"),
	}
	tr, err := e.Compile(t.Context(), s) // no lint: it ran before
	if err != nil {
		t.Fatal(err)
	}
	sum := sha256.Sum256(s.Source)
	if tr.Hash() != hex.EncodeToString(sum[:]) || string(tr.Source()) != string(s.Source) || transforms.SourceFiles(tr.Source()) != nil {
		t.Error("it is not kept as it was")
	}
	if _, err = tr.Transform(t.Context(), event(`{"bad":1}`), route, delivery, nil); err == nil || !strings.Contains(err.Error(), "transforms/case.js:2:39") {
		t.Error(err)
	}
	s.Source = []byte("import './other.js';\nexport default () => 1;")
	if _, err = e.Compile(t.Context(), s); err == nil || !strings.Contains(err.Error(), `transforms/case.js:1:8: "./other.js" is not part of what was kept`) {
		t.Error(err)
	}
	for _, source := range []string{
		"// hookline bundle 1: ", "// hookline bundle 1: \"a.ts\"\n", "// hookline bundle 1: \"a.ts\"\n\n//# sourceMappingURL=data:application/json;base64,eyJ=",
		"// hookline bundle 1: \"a.ts\"\n(function(){\n//# sourceMappingURL=data:application/json;base64,eyJ2ZXJzaW9uIjozLCJzb3VyY2VzIjpbXSwibWFwcGluZ3MiOiI/Pz8ifQ==",
	} {
		s.Source = []byte(source)
		var refused *transforms.CompileError
		if _, err := e.Compile(t.Context(), s); !errors.As(err, &refused) {
			t.Errorf("%q: %v", source, err)
		}
	}
}

// TestOutside: nothing outside of the configuration's folder gets into a script.
func TestOutside(t *testing.T) {
	e := start(t, nil)
	outside := tree(t, map[string]string{"secret.txt": "secret", "lib.ts": "export const x = 'secret';", "pkg/index.js": "export const x = 'secret';"})
	for name, c := range map[string]struct{ source, link, to, want string }{
		"dots":                  {source: "import { x } from '../../DIR/lib';\nexport default () => x;", want: "1:19: "},
		"an absolute path":      {source: "import x from 'OUT/secret.txt';\nexport default () => x;", want: "1:15: "},
		"require":               {source: "const x = require('OUT/secret.txt');\nexport default () => x;", want: "1:19: "},
		"a symlink":             {source: "import x from './a.txt';\nexport default () => x;", link: "transforms/a.txt", to: "secret.txt", want: "1:15: "},
		"a folder's symlink":    {source: "import { x } from './lib/lib';\nexport default () => x;", link: "transforms/lib", to: "", want: "1:19: "},
		"a package's symlink":   {source: "import { x } from 'pkg';\nexport default () => x;", link: "node_modules/pkg", to: "pkg", want: "1:19: "},
		"the script is symlink": {source: "", link: "transforms/ehr.ts", to: "lib.ts", want: "transforms/ehr.ts: "},
	} {
		t.Run(name, func(t *testing.T) {
			files := map[string]string{"transforms/.keep": "", "node_modules/.keep": ""}
			if c.source != "" {
				files["transforms/ehr.ts"] = strings.NewReplacer("OUT", outside, "DIR", filepath.Base(outside)).Replace(c.source)
			}
			root := tree(t, files)
			if name == "dots" { // root and outside have the same parent, one level up
				rel, _ := filepath.Rel(filepath.Join(root, "transforms"), filepath.Join(outside, "lib"))
				if err := os.WriteFile(filepath.Join(root, "transforms/ehr.ts"), []byte("import { x } from '"+rel+"';\nexport default () => x;"), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			if c.link != "" {
				if err := os.Symlink(filepath.Join(outside, c.to), filepath.Join(root, c.link)); err != nil {
					t.Fatal(err)
				}
			}
			_, err := e.Compile(t.Context(), script(root, "transforms/ehr.ts"))
			var refused *transforms.CompileError
			if !errors.As(err, &refused) || !strings.Contains(err.Error(), c.want) || !strings.Contains(err.Error(), "is outside of "+root) {
				t.Errorf("%v", err)
			}
		})
	}
}

// TestSymlinksInside: a folder that is made of symlinks, as Kubernetes mounts
// them, has the names that its links have.
func TestSymlinksInside(t *testing.T) {
	e := start(t, nil)
	root := tree(t, map[string]string{
		"..v1/ehr.ts": "import { f } from './lib.js';\nexport default (event) => f(event.a);", "..v1/lib.ts": "export const f = (x) => x.b;",
	})
	for link, to := range map[string]string{"..data": "..v1", "ehr.ts": "..data/ehr.ts", "lib.ts": "..data/lib.ts", "../current": root} {
		if err := os.Symlink(to, filepath.Join(root, link)); err != nil {
			t.Fatal(err)
		}
	}
	for _, root := range []string{root, filepath.Join(root, "../current")} {
		tr, err := e.Compile(t.Context(), script(root, "ehr.ts"))
		if err != nil {
			t.Fatal(err)
		}
		if _, err = tr.Transform(t.Context(), event(update), route, delivery, nil); err == nil || !strings.Contains(err.Error(), "lib.ts:1:27") || strings.Contains(err.Error(), "..v1") {
			t.Error(err)
		}
	}
}

// TestModules: a module of the host's, which gets to run in place of the script.
func TestModules(t *testing.T) {
	e := start(t, nil)
	s := script(tree(t, map[string]string{
		"ehr.ts":      "export default (event: any) => event.trans_id;",
		"ehr.test.ts": "import { test } from \"hookline/test\";\nimport transform from \"./ehr\";\ntest(\"one\", () => transform({ trans_id: 1 }));\ntest(\"two\", () => transform(undefined));\n",
	}), "ehr.test.ts")
	if _, err := e.Compile(t.Context(), s); err == nil || !strings.Contains(err.Error(), "ehr.test.ts:1:22: \"hookline/test\" is for tests") {
		t.Error(err)
	}
	s.Main = "hookline/test"
	s.Modules = map[string]string{s.Main: "const all: any[] = [];\nexport const test = (name: string, body: () => unknown) => { all.push([name, body]); };\nexport default () => all.map(([name, body]) => [name, body()]);\n"}
	tr, err := e.Compile(t.Context(), s)
	if err != nil {
		t.Fatal(err)
	}
	if _, err = tr.Transform(t.Context(), event(update), route, delivery, nil); err == nil || !strings.Contains(err.Error(), "ehr.ts:1:38") {
		t.Error(err)
	}
	s.Modules[s.Main] += "nothing();"
	if _, err = e.Compile(t.Context(), s); err == nil || !strings.Contains(err.Error(), "hookline/test:4:1: nothing is called nothing here") {
		t.Error(err)
	}
}

// TestLinkedPackages: pnpm keeps each package with links to what it needs beside it.
func TestLinkedPackages(t *testing.T) {
	e := start(t, nil)
	root := tree(t, map[string]string{
		"ehr.ts": "import { f } from 'a';\nexport default (event) => f(event.x);",
		"node_modules/.pnpm/a@1/node_modules/a/index.js": "const b = require('b');\nexports.f = (x) => b(x);\n",
		"node_modules/.pnpm/b@1/node_modules/b/index.js": "module.exports = (x) => x.y;\n",
	})
	for link, to := range map[string]string{
		"node_modules/a": ".pnpm/a@1/node_modules/a", "node_modules/.pnpm/a@1/node_modules/b": "../../b@1/node_modules/b",
	} {
		if err := os.Symlink(to, filepath.Join(root, link)); err != nil {
			t.Fatal(err)
		}
	}
	tr, err := e.Compile(t.Context(), script(root, "ehr.ts"))
	if err != nil {
		t.Fatal(err)
	}
	if _, err = tr.Transform(t.Context(), event(update), route, delivery, nil); err == nil || !strings.Contains(err.Error(), "node_modules/.pnpm/b@1/node_modules/b/index.js:1:27") {
		t.Error(err)
	}
}

// TestElsewhere: a script that is not in the configuration's folder may import what
// is in its own, and is called by its full path.
func TestElsewhere(t *testing.T) {
	e := start(t, nil)
	root := tree(t, map[string]string{
		"s/ehr.ts": "import { f } from './lib';\nexport default (event) => f(event.x);", "s/lib.ts": "export const f = (x: any) => x.y;",
		"s/up.ts": "import { z } from '../z';\nexport default () => z;", "z.ts": "export const z = 1;",
	})
	at := func(name string) transforms.Script {
		path := filepath.Join(root, name)
		return transforms.Script{Name: path, Path: path, Root: t.TempDir(), Timeout: time.Second}
	}
	tr, err := e.Compile(t.Context(), at("s/ehr.ts"))
	if err != nil {
		t.Fatal(err)
	}
	if _, err = tr.Transform(t.Context(), event(update), route, delivery, nil); err == nil || !strings.Contains(err.Error(), root+"/s/lib.ts:1:32") {
		t.Error(err)
	}
	if _, err = e.Compile(t.Context(), at("s/up.ts")); err == nil || !strings.Contains(err.Error(), root+"/s/up.ts:1:19: "+root+"/z.ts is outside of "+root+"/s") {
		t.Error(err)
	}
}

// TestRefusedInputs: who waits for a script to be mended knows what to look at.
func TestRefusedInputs(t *testing.T) {
	e := start(t, nil)
	root := tree(t, map[string]string{"ehr.ts": "import './lib/broken';\nimport './lib/none';\nexport default () => 1;", "lib/broken.ts": "const a = ;"})
	_, err := e.Compile(t.Context(), script(root, "ehr.ts"))
	var refused *transforms.CompileError
	if !errors.As(err, &refused) {
		t.Fatal(err)
	}
	for _, name := range []string{"ehr.ts", "lib/broken.ts", "lib/none.ts"} {
		if !slices.Contains(refused.Inputs, filepath.Join(root, name)) {
			t.Errorf("%s is not among %q", name, refused.Inputs)
		}
	}
	if !strings.Contains(err.Error(), "lib/broken.ts:1:11") || !strings.Contains(err.Error(), "ehr.ts:2:8") {
		t.Errorf("not all of it: %v", err)
	}
}

func TestTooLarge(t *testing.T) {
	e := start(t, nil)
	root := tree(t, map[string]string{
		"ehr.ts": "import a from './a.txt';\nimport b from './b.txt';\nexport default () => a.length + b.length;",
		"a.txt":  strings.Repeat("a", 5<<20), "b.txt": strings.Repeat("b", 5<<20),
	})
	_, err := e.Compile(t.Context(), script(root, "ehr.ts"))
	if err == nil || !regexp.MustCompile(`ehr\.ts:[12]:15: with all that it imports .* ctx\.lookup`).MatchString(err.Error()) {
		t.Error(err)
	}
}

// The same script is the same bytes, wherever it lies.
func TestHashIsOfTheScript(t *testing.T) {
	e := start(t, nil)
	hashes := map[string]bool{}
	for _, dir := range []string{"a", "a-longer-name"} {
		root := filepath.Join(t.TempDir(), dir)
		if err := os.Mkdir(root, 0o700); err != nil {
			t.Fatal(err)
		}
		path := filepath.Join(root, "case.js")
		if err := os.WriteFile(path, []byte("export default (event) => event;"), 0o600); err != nil {
			t.Fatal(err)
		}
		tr, err := e.Compile(t.Context(), transforms.Script{Name: "case.js", Path: path, Root: root})
		if err != nil {
			t.Fatal(err)
		}
		hashes[tr.Hash()] = true
	}
	if len(hashes) != 1 {
		t.Errorf("%d hashes of one script", len(hashes))
	}
}
