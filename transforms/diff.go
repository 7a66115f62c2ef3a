package transforms

import "strings"

const (
	diffContext = 3    // lines shown around a change
	maxDiff     = 2000 // lines of either text that are compared line by line
)

// Diff shows how got differs from want, line by line: "- " begins a line that is
// missing, "+ " one that is too much. It is empty if they are equal.
func Diff(want, got string) string {
	if want == got {
		return ""
	}
	a, b := splitLines(want), splitLines(got)
	var head, tail int
	for head < len(a) && head < len(b) && a[head] == b[head] {
		head++
	}
	for tail < len(a)-head && tail < len(b)-head && a[len(a)-1-tail] == b[len(b)-1-tail] {
		tail++
	}
	lines := make([]string, 0, len(b)+16)
	for _, line := range a[:head] {
		lines = append(lines, "  "+line)
	}
	lines = append(lines, changes(a[head:len(a)-tail], b[head:len(b)-tail])...)
	for _, line := range a[len(a)-tail:] {
		lines = append(lines, "  "+line)
	}
	return nearChanges(lines)
}

// changes is the shortest way from a to b. Of what is too long for that, all of a
// goes and all of b comes.
func changes(a, b []string) (out []string) {
	// common[i][j] is how many lines a[i:] and b[j:] have in common, in order.
	var common [][]int32
	if len(a) <= maxDiff && len(b) <= maxDiff {
		common = make([][]int32, len(a)+1)
		common[len(a)] = make([]int32, len(b)+1)
		for i := len(a) - 1; i >= 0; i-- {
			common[i] = make([]int32, len(b)+1)
			for j := len(b) - 1; j >= 0; j-- {
				if a[i] == b[j] {
					common[i][j] = common[i+1][j+1] + 1
				} else {
					common[i][j] = max(common[i+1][j], common[i][j+1])
				}
			}
		}
	}
	var i, j int
	for i < len(a) || j < len(b) {
		switch {
		case common != nil && i < len(a) && j < len(b) && a[i] == b[j]:
			out = append(out, "  "+a[i])
			i, j = i+1, j+1
		case j == len(b) || i < len(a) && (common == nil || common[i+1][j] >= common[i][j+1]):
			out = append(out, "- "+a[i])
			i++
		default:
			out = append(out, "+ "+b[j])
			j++
		}
	}
	return out
}

// nearChanges leaves out what is far from any change.
func nearChanges(lines []string) string {
	near := make([]bool, len(lines))
	for i, line := range lines {
		if line[0] == ' ' {
			continue
		}
		for k := max(0, i-diffContext); k <= min(len(lines)-1, i+diffContext); k++ {
			near[k] = true
		}
	}
	var b strings.Builder
	gap := false
	for i, line := range lines {
		if !near[i] {
			gap = true
			continue
		}
		if gap {
			b.WriteString("  …\n")
			gap = false
		}
		b.WriteString(line + "\n")
	}
	if gap {
		b.WriteString("  …\n")
	}
	return b.String()
}

func splitLines(s string) []string { return strings.Split(strings.TrimSuffix(s, "\n"), "\n") }
