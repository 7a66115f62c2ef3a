package transforms

import (
	"regexp"
	"strconv"
	"strings"
)

// fieldPath is where in a JSON value something stands, outermost first.
type fieldPath []step

// step is a key of an object, or an index of an array.
type step struct {
	key   string
	index int // -1: key counts
}

// maxPath is how many bytes of a path an error shows: what matters stands at
// its end, and a cycle can be long.
const maxPath = 200

// plain are keys that need no quotes.
var plain = regexp.MustCompile(`^[A-Za-z_$][A-Za-z0-9_$]*$`)

// String writes the path as a script would: visits[2].weight, ["a key"].x.
func (p fieldPath) String() string {
	var b strings.Builder
	for i, s := range p {
		switch {
		case s.index >= 0:
			b.WriteString("[" + s.name() + "]")
		case !plain.MatchString(s.key):
			b.WriteString("[" + strconv.Quote(s.key) + "]")
		default:
			if i > 0 {
				b.WriteByte('.')
			}
			b.WriteString(s.key)
		}
	}
	if text := b.String(); len(text) > maxPath {
		return "…" + strings.ToValidUTF8(text[len(text)-maxPath:], "")
	}
	return b.String()
}

// at is the path as it stands in a sentence; "" for the value as a whole.
func (p fieldPath) at() string {
	if len(p) == 0 {
		return ""
	}
	return " at " + p.String()
}

// last is the key or index of the value itself, "" for the whole.
func (p fieldPath) last() string {
	if len(p) == 0 {
		return ""
	}
	return p[len(p)-1].name()
}

// name is the key or the index as JavaScript has it.
func (s step) name() string {
	if s.index >= 0 {
		return strconv.Itoa(s.index)
	}
	return s.key
}
