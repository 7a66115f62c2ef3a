package transforms

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"unicode/utf16"
)

// TestShift: columns of the code become bytes from 1, those of the files begin at 1.
func TestShift(t *testing.T) {
	const code = "ab\n\nü😀x y\u2028z"
	// Line 1: columns 0 and 1. Line 3: column 0, 3 (x) and 5 (y). Line 4: 0.
	var in strings.Builder
	for _, f := range [][]int{{0, 0, 0, 0}, {1, 0, 0, 4, 0}} {
		if in.Len() > 0 {
			in.WriteByte(',')
		}
		for _, n := range f {
			writeVLQ(&in, n)
		}
	}
	in.WriteString(";;")
	for i, f := range [][]int{{0, 0, 1, -4}, {3, 1, 70000, 2}, {2}} {
		if i > 0 {
			in.WriteByte(',')
		}
		for _, n := range f {
			writeVLQ(&in, n)
		}
	}
	in.WriteString(";AAAA")
	k := &kept{code: code, maps: sourceMap{Version: 3, Sources: []string{"a.ts", "b.ts"}, Mappings: in.String()}}
	maps, names, err := k.consumer()
	if err != nil {
		t.Fatal(err)
	}
	if len(names) != 2 || names["a.ts"] != "a.ts" {
		t.Error(names)
	}
	for at, want := range map[[2]int]string{
		{1, 1}: "a.ts:1:1", {1, 2}: "a.ts:1:5",
		{3, 1}: "a.ts:2:1", {3, 6}: "a.ts:2:1", {3, 7}: "b.ts:70002:3", {3, 8}: "b.ts:70002:3",
		{4, 1}: "b.ts:70002:3",
	} {
		source, _, line, column, ok := maps.Source(at[0], at[1])
		if got := fmt.Sprintf("%s:%d:%d", source, line, column); got != want || !ok {
			t.Errorf("%v: got %s, want %s", at, got, want)
		}
	}
	for _, bad := range []string{"?", "A", "AA", "g", "AAAAAA", "ACAA", "AAAD", "D", "ggggggggA", ",", "AAAA,"} {
		if _, err := shift(bad, code, 1); (err == nil) != (bad == "A") {
			t.Errorf("%q: %v", bad, err)
		}
	}
}

// FuzzShift: whatever a kept source map holds, reading it ends without a panic.
func FuzzShift(f *testing.F) {
	f.Add("AAAA,CAAC;;AACA", "ab\n\nü😀")
	f.Add("gggggggB", "\u2028")
	f.Add("A;D", "")
	f.Fuzz(func(t *testing.T, mappings, code string) {
		out, err := shift(mappings, code, 1)
		if err == nil && strings.Count(out, ";") != strings.Count(mappings, ";") {
			t.Errorf("%q became %q", mappings, out)
		}
		k := &kept{code: code, maps: sourceMap{Version: 3, Sources: []string{"a"}, Mappings: mappings}}
		maps, _, err := k.consumer()
		for line := 1; err == nil && line < 4; line++ {
			maps.Source(line, 2)
		}
	})
}

func TestColumns(t *testing.T) {
	for _, s := range []string{"", "abc", "ü", "a😀b", "\u2028"} {
		if got, want := units(s), len(utf16.Encode([]rune(s))); got != want {
			t.Errorf("%q has %d units, not %d", s, want, got)
		}
	}
	for unit, want := range map[int]int{0: 0, 1: 1, 2: 3, 4: 7, 5: 8, 9: 12} {
		if got := byteColumn("aü😀b", unit); got != want {
			t.Errorf("unit %d is at byte %d, not %d", unit, want, got)
		}
	}
	if got := codeLines("a\r\nb\rc\u2028d\u2029\ne"); !slices.Equal(got, []string{"a", "b", "c", "d", "", "e"}) {
		t.Errorf("%q", got)
	}
	got := excerpt(Problem{Line: 3, Column: 4, Excerpt: "\t😀x"})
	if want := "    3 |  😀x\n      |   ^"; got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
}

func TestRelocate(t *testing.T) {
	p := &program{names: map[string]string{"a.ts": "a.ts", "lib/%C3%BC.ts": "lib/ü.ts"}}
	const stack = "Error: at x (y:1:2)\n\tat f (a.ts:1:2(3))\n\tat lib/%C3%BC.ts:4:5(6)\n\tat help (hookline:7:8(9))\n\tat [Symbol.iterator] (<eval>:1:1(0))\n\tat native (native)\n"
	const want = "Error: at x (y:1:2)\n\tat f (a.ts:1:2)\n\tat lib/ü.ts:4:5\n\tat [Symbol.iterator] (<eval>:1:1)\n\tat native (native)"
	if got := p.relocate(stack); got != want {
		t.Errorf("got %q", got)
	}
	if got := p.positionIn("Error: a.ts:9:9(1)\n\tat help (hookline:7:8(9))\n\tat lib/%C3%BC.ts:4:5(6)"); got != (place{"lib/ü.ts", 4, 5}) {
		t.Error(got)
	}
	if got := p.relocate("a\n\nb"); got != "a\n\nb" {
		t.Error(got)
	}
}
