package transforms

import (
	"encoding/json"
	"errors"
	"strings"
	"unicode/utf8"

	"github.com/dop251/goja/file"
	"github.com/go-sourcemap/sourcemap"
)

// codeName is how the script engine knows a bundle's code. Positions in it that
// the map does not lead to a file, esbuild's helpers, keep it.
const codeName = "hookline"

// consumer makes the map that the script engine looks positions up in, so that
// every stack is right from the start. The engine counts columns of the code in
// bytes from 1 and takes those of the map as they are; a map has UTF-16 code units
// from 0.
//
// names are the files as the engine writes them, which is not quite how they are
// called: it treats a name as a relative URL.
func (k *kept) consumer() (maps *sourcemap.Consumer, names map[string]string, err error) {
	m := k.maps
	if m.Mappings, err = shift(m.Mappings, k.code, len(m.Sources)); err != nil {
		return nil, nil, err
	}
	m.SourcesContent, m.Names = nil, nil
	names = make(map[string]string, len(m.Sources))
	for _, name := range m.Sources {
		if name != entryFile {
			names[written(name)] = name
		}
	}
	text, err := json.Marshal(m)
	if err != nil {
		return nil, nil, err
	}
	maps, err = sourcemap.Parse("", text)
	return maps, names, err
}

// written is how the engine writes the name of a file.
func written(name string) string {
	if u := file.ResolveSourcemapURL(codeName, name); u != nil {
		return u.String()
	}
	return name
}

const (
	base64Digits = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
	maxFields    = 5 // of a mapping: column, source, line and column in it, name
)

var errMapping = errors.New("a mapping is malformed")

// shift rewrites mappings: columns of the code become bytes from 1, columns of the
// files start from 1. The names are left out. A mapping that leads nowhere is an
// error: who looks it up would panic.
func shift(mappings, code string, files int) (string, error) {
	var out strings.Builder
	out.Grow(len(mappings) + 64)
	lines := codeLines(code)
	var at [3]int    // file, line and column in it
	shifted := false // the first column in a file; the others are relative to it
	for n, group := range strings.Split(mappings, ";") {
		if n > 0 {
			out.WriteByte(';')
		}
		if group == "" {
			continue
		}
		var line string
		if n < len(lines) {
			line = lines[n]
		}
		column, before := 0, 0
		for i, segment := range strings.Split(group, ",") {
			fields, err := vlq(segment)
			if err != nil {
				return "", err
			}
			if i > 0 {
				out.WriteByte(',')
			}
			for i, f := range fields[1:min(4, len(fields))] {
				at[i] += f
			}
			if column += fields[0]; column < 0 || len(fields) > 1 && (at[0] < 0 || at[0] >= files || at[1] < 0 || at[2] < 0) {
				return "", errMapping
			}
			next := 1 + byteColumn(line, column)
			fields[0], before = next-before, next
			if len(fields) >= 4 && !shifted {
				fields[3]++
				shifted = true
			}
			for _, f := range fields[:min(4, len(fields))] {
				writeVLQ(&out, f)
			}
		}
	}
	return out.String(), nil
}

// codeLines are the lines of code by JavaScript's rule, which counts two more
// characters as ends of a line.
func codeLines(code string) (lines []string) {
	for {
		end := strings.IndexFunc(code, func(r rune) bool { return r == '\n' || r == '\r' || r == '\u2028' || r == '\u2029' })
		if end < 0 {
			return append(lines, code)
		}
		lines = append(lines, code[:end])
		_, size := utf8.DecodeRuneInString(code[end:])
		if strings.HasPrefix(code[end:], "\r\n") {
			size = 2
		}
		code = code[end+size:]
	}
}

// byteColumn is where in line the UTF-16 code unit with that number begins.
func byteColumn(line string, units int) int {
	if units <= len(line) && isASCII(line[:units]) {
		return units
	}
	for i, r := range line {
		if units <= 0 {
			return i
		}
		units -= unitsOf(r)
	}
	return len(line) + max(0, units)
}

// units is how many UTF-16 code units s has: what editors and compilers count
// columns in.
func units(s string) (n int) {
	for _, r := range s {
		n += unitsOf(r)
	}
	return n
}

func unitsOf(r rune) int {
	if r > 0xffff {
		return 2
	}
	return 1
}

func isASCII(s string) bool {
	for i := range len(s) {
		if s[i] >= utf8.RuneSelf {
			return false
		}
	}
	return true
}

// vlq reads the numbers of one mapping.
func vlq(segment string) (fields []int, err error) {
	fields = make([]int, 0, maxFields)
	value, bits := 0, 0
	for i := range len(segment) {
		digit := strings.IndexByte(base64Digits, segment[i])
		if digit < 0 || bits > 30 {
			return nil, errMapping
		}
		value |= digit & 31 << bits
		if bits += 5; digit&32 != 0 {
			continue
		}
		if value&1 != 0 {
			fields = append(fields, -(value >> 1))
		} else {
			fields = append(fields, value>>1)
		}
		value, bits = 0, 0
	}
	if n := len(fields); bits != 0 || n != 1 && n != 4 && n != maxFields {
		return nil, errMapping
	}
	return fields, nil
}

func writeVLQ(b *strings.Builder, n int) {
	u := uint(n) << 1
	if n < 0 {
		u = uint(-n)<<1 | 1
	}
	for ; u > 31; u >>= 5 {
		b.WriteByte(base64Digits[u&31|32])
	}
	b.WriteByte(base64Digits[u])
}

// lineOf returns a line of a text, from 1, without its end.
func lineOf(text string, n int) string {
	lines := codeLines(text)
	if n < 1 || n > len(lines) {
		return ""
	}
	return strings.ToValidUTF8(lines[n-1], "?")
}
