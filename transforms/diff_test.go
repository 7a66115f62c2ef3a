package transforms_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/hookline/hookline/transforms"
)

func TestDiff(t *testing.T) {
	lines := func(from, to int) string {
		var b strings.Builder
		for i := from; i <= to; i++ {
			fmt.Fprintf(&b, "%d\n", i)
		}
		return b.String()
	}
	for _, c := range []struct{ name, want, got, diff string }{
		{"equal", "a\nb\n", "a\nb\n", ""},
		{"one line", "a\n", "b\n", "- a\n+ b\n"},
		{"no line break at the end", "a", "a\nb", "  a\n+ b\n"},
		{"first and last", "a\nb\nc\n", "x\nb\ny\n", "- a\n+ x\n  b\n- c\n+ y\n"},
		{"too much", "a\nc\n", "a\nb\nc\n", "  a\n+ b\n  c\n"},
		{"missing", "a\nb\nc\n", "a\nc\n", "  a\n- b\n  c\n"},
		{"far lines are left out", lines(1, 20), strings.Replace(lines(1, 20), "10\n", "ten\n", 1),
			"  …\n  7\n  8\n  9\n- 10\n+ ten\n  11\n  12\n  13\n  …\n"},
		{"two places", lines(1, 20), strings.NewReplacer("2\n3\n", "3\n", "19\n", "").Replace(lines(1, 20)),
			"  1\n- 2\n  3\n  4\n  5\n  …\n  16\n  17\n  18\n- 19\n  20\n"},
	} {
		t.Run(c.name, func(t *testing.T) {
			if got := transforms.Diff(c.want, c.got); got != c.diff {
				t.Errorf("got:\n%s\nwant:\n%s", got, c.diff)
			}
		})
	}
	long := transforms.Diff(strings.Repeat("a\n", 50_000), strings.Repeat("b\n", 50_000))
	if n := strings.Count(long, "\n"); n != 100_000 {
		t.Errorf("a long text gave %d lines", n)
	}
}
