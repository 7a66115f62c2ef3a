package transforms_test

import (
	"encoding/json"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/hookline/hookline/transforms"
)

// walk is a script that names all that its context has, and a table.
const walk = `export default (event, ctx) => {
  const names = (object) => {
    const found = new Set();
    const into = (o, path) => {
      for (let p = o; p !== null && p !== Object.prototype; p = Object.getPrototypeOf(p)) {
        for (const key of Object.getOwnPropertyNames(p)) {
          if (found.has(path + key)) continue;
          found.add(path + key);
          const value = o[key];
          if (typeof value === "object" && value !== null && !Array.isArray(value) && !(value instanceof Date)) into(value, path + key + ".");
        }
      }
    };
    into(object, "");
    return [...found].sort();
  };
  return { Context: names(ctx), Table: names(ctx.lookup("t.csv")) };
};`

// The types name what there is, and all of it.
func TestTypesAreTrue(t *testing.T) {
	e := start(t, nil)
	tables, err := transforms.NewTables(map[string][]byte{"t.csv": []byte("a,b\n1,2\n")})
	if err != nil {
		t.Fatal(err)
	}
	s := write(t, walk, 5*time.Second)
	s.Tables = tables
	tr, err := e.Compile(t.Context(), s)
	if err != nil {
		t.Fatal(err)
	}
	var real map[string][]string
	if err := json.Unmarshal([]byte(payload(t, tr, update, delivery)), &real); err != nil {
		t.Fatal(err)
	}
	for name, got := range real {
		if want := members(t, "export interface "+name+" {"); !reflect.DeepEqual(got, want) {
			t.Errorf("%s has\n%q\nand %q in the types", name, got, want)
		}
	}
}

var member = regexp.MustCompile(`^(?:readonly )?(\w+)\??[(:<]`)

// members are the properties that the types give after a line, those of objects in
// them with a dot.
func members(t *testing.T, after string) (names []string) {
	t.Helper()
	_, text, ok := strings.Cut(transforms.Types, after+"\n")
	if !ok {
		t.Fatalf("the types have no %q", after)
	}
	var path []string
	for line := range strings.Lines(text) {
		line = strings.TrimSpace(line)
		switch m := member.FindStringSubmatch(line); {
		case strings.HasPrefix(line, "}"):
			if len(path) == 0 {
				slices.Sort(names)
				return slices.Compact(names)
			}
			path = path[:len(path)-1]
		case strings.HasPrefix(line, "/**"), strings.HasPrefix(line, "*"):
		case m != nil:
			names = append(names, strings.Join(append(slices.Clone(path), m[1]), "."))
			if strings.HasSuffix(line, "{") {
				path = append(path, m[1])
			}
		}
	}
	t.Fatalf("%q is not closed", after)
	return nil
}

// The module for tests exports what its types say.
func TestTypesOfTests(t *testing.T) {
	_, text, _ := strings.Cut(transforms.Types, `declare module "hookline/test" {`)
	var want []string
	for _, m := range regexp.MustCompile(`export (?:function|const) (\w+)`).FindAllStringSubmatch(text, -1) {
		want = append(want, m[1])
	}
	slices.Sort(want)
	e := start(t, nil)
	s := write(t, `import * as all from "hookline/test"; all.test(JSON.stringify([Object.keys(all).sort(), Object.keys(all.assert).sort()]), () => {});`, 5*time.Second)
	s.Tests = true
	tr, err := e.Compile(t.Context(), s)
	if err != nil {
		t.Fatal(err)
	}
	var answer struct{ Tests []string }
	var got [2][]string
	if err := json.Unmarshal([]byte(payload(t, tr, `{"list":true}`, delivery)), &answer); err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal([]byte(answer.Tests[0]), &got); err != nil {
		t.Fatal(err)
	}
	exported := slices.DeleteFunc(got[0], func(name string) bool { return name == "default" }) // the host's
	if !reflect.DeepEqual(exported, want) {
		t.Errorf("the module exports %q, its types %q", exported, want)
	}
	if want := members(t, "  export const assert: {"); !reflect.DeepEqual(got[1], want) {
		t.Errorf("assert has %q, its types %q", got[1], want)
	}
}
