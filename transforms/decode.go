package transforms

import (
	"errors"
	"fmt"
	"math"
	"strconv"
	"strings"
	"unicode/utf16"
	"unicode/utf8"

	"github.com/dop251/goja"

	"github.com/hookline/hookline/core"
)

const (
	// maxSafe is the largest integer up to which a JavaScript number is exact.
	maxSafe = 1<<53 - 1
	// maxExact is how many significant digits come out of a JavaScript number as
	// they went in, whatever they are.
	maxExact = 15

	utf8BOM = "\xef\xbb\xbf"
)

// decoder makes values of a runtime from JSON: exactly RFC 8259, in UTF-8.
//
//   - Keys keep the order in which they came, as far as JavaScript has one. Of two
//     equal keys the last value counts, at the place of the first, as JSON.parse
//     does it. "__proto__" is a key like others.
//   - Half of a surrogate pair, which only an escape can make, is kept.
//   - A whole number beyond 2^53, which JavaScript would round, becomes a string
//     of what stands there, since a rounded id is another id; so does a number
//     that is too large or too small for JavaScript. exact refuses them instead.
//     Other fractions become the nearest number, as everywhere.
//   - More than core.MaxDepth levels are refused, as of an event. A byte order
//     mark at the start is passed over.
type decoder struct {
	sandbox *sandbox
	exact   bool // refuse what is no exact number

	text  string
	ascii goja.String // the same, if it is all ASCII: its strings are parts of it
	at    int
	path  fieldPath
	items []any // of the arrays that are being read, the innermost last
}

// decode reads one JSON value. Its errors name bytes and keys, no values. Nothing
// of a script runs here, so there is no deadline to watch.
func (s *sandbox) decode(text []byte, exact bool) (goja.Value, error) {
	// Strings are parts of one copy: there is one allocation for all of them.
	d := &s.decoder
	defer d.forget()
	*d = decoder{sandbox: s, exact: exact, text: strings.TrimPrefix(string(text), utf8BOM), path: d.path, items: d.items}
	switch {
	case ascii(d.text):
		d.ascii, _ = s.rt.ToValue(d.text).(goja.String)
	case !utf8.ValidString(d.text):
		return nil, errors.New("it is not valid UTF-8")
	}
	d.space()
	v, err := d.value()
	if err != nil {
		return nil, err
	}
	if d.space(); d.at < len(d.text) {
		return nil, d.wrong("nothing may follow the JSON value")
	}
	return v, nil
}

// forget lets go of the event; only empty places stay for the next one.
func (d *decoder) forget() {
	path, items := d.path[:cap(d.path)], d.items[:cap(d.items)]
	if len(path) > maxSpareSteps || len(items) > maxSpareSteps {
		path, items = nil, nil
	}
	clear(path)
	clear(items)
	*d = decoder{path: path[:0], items: items[:0]}
}

// maxSpareSteps is how many places are kept for the next event.
const maxSpareSteps = 256

// wrong is the error for what stands at the current byte.
func (d *decoder) wrong(rule string) error {
	if d.at >= len(d.text) {
		return errors.New("it is not JSON: it ends in the middle")
	}
	return fmt.Errorf("it is not JSON: %s, at byte %d", rule, d.at+1)
}

func (d *decoder) space() {
	for d.at < len(d.text) {
		switch d.text[d.at] {
		case ' ', '\t', '\r', '\n':
			d.at++
		default:
			return
		}
	}
}

// next is the byte at hand, 0 at the end: JSON has no such byte.
func (d *decoder) next() byte {
	if d.at < len(d.text) {
		return d.text[d.at]
	}
	return 0
}

func (d *decoder) value() (goja.Value, error) {
	switch c := d.next(); c {
	case '{':
		return d.object()
	case '[':
		return d.array()
	case '"':
		return d.string()
	case 't':
		return d.word("true", d.sandbox.rt.ToValue(true))
	case 'f':
		return d.word("false", d.sandbox.rt.ToValue(false))
	case 'n':
		return d.word("null", goja.Null())
	default:
		if c == '-' || isDigit(c) {
			return d.number()
		}
		return nil, d.wrong("a value must stand there")
	}
}

func (d *decoder) word(word string, v goja.Value) (goja.Value, error) {
	if !strings.HasPrefix(d.text[d.at:], word) {
		return nil, d.wrong("a value must stand there")
	}
	d.at += len(word)
	return v, nil
}

// enter begins an object or an array.
func (d *decoder) enter() error {
	d.at++
	if d.path = append(d.path, step{}); len(d.path) > core.MaxDepth {
		return fmt.Errorf("it is nested deeper than %d levels", core.MaxDepth)
	}
	d.space()
	return nil
}

// more comes behind an item. It tells whether another follows.
func (d *decoder) more(end byte, rule string) (bool, error) {
	d.space()
	switch d.next() {
	case ',':
		d.at++
		d.space()
		return true, nil
	case end:
		return false, nil
	}
	return false, d.wrong(rule)
}

// leave ends an object or an array at its bracket.
func (d *decoder) leave() {
	d.at++
	d.path = d.path[:len(d.path)-1]
}

func (d *decoder) object() (goja.Value, error) {
	if err := d.enter(); err != nil {
		return nil, err
	}
	o := d.sandbox.rt.NewObject()
	for more := d.next() != '}'; more; {
		if d.next() != '"' {
			return nil, d.wrong("a key must stand there, in double quotes")
		}
		key, odd, err := d.chars()
		if err != nil {
			return nil, err
		}
		if d.space(); d.next() != ':' {
			return nil, d.wrong("a colon must follow the key")
		}
		d.at++
		d.space()
		d.path[len(d.path)-1] = step{key: key, index: -1}
		v, err := d.value()
		if err != nil {
			return nil, err
		}
		switch {
		case odd != nil:
			_, err = d.sandbox.define(goja.Undefined(), o, odd, v)
		case d.sandbox.inherited[key]:
			// Not Set, which would run the setter of "__proto__".
			err = o.DefineDataProperty(key, v, goja.FLAG_TRUE, goja.FLAG_TRUE, goja.FLAG_TRUE)
		default:
			err = o.Set(key, v)
		}
		if err != nil {
			return nil, fmt.Errorf("the key%s cannot be set: %w", d.path.at(), err)
		}
		if more, err = d.more('}', "a comma or } must stand there"); err != nil {
			return nil, err
		}
	}
	d.leave()
	return o, nil
}

func (d *decoder) array() (goja.Value, error) {
	if err := d.enter(); err != nil {
		return nil, err
	}
	first := len(d.items)
	for more := d.next() != ']'; more; {
		d.path[len(d.path)-1] = step{index: len(d.items) - first}
		v, err := d.value()
		if err != nil {
			return nil, err
		}
		d.items = append(d.items, v)
		if more, err = d.more(']', "a comma or ] must stand there"); err != nil {
			return nil, err
		}
	}
	d.leave()
	a := d.sandbox.rt.NewArray(d.items[first:]...) // copies them
	d.items = d.items[:first]
	return a, nil
}

func (d *decoder) string() (goja.Value, error) {
	from := d.at + 1
	s, odd, err := d.chars()
	switch {
	case err != nil:
		return nil, err
	case odd != nil:
		return odd, nil
	case d.ascii != nil && len(s) == d.at-1-from: // there was no escape
		return d.ascii.Substring(from, from+len(s)), nil
	}
	return d.sandbox.rt.ToValue(s), nil
}

// chars reads a string. odd is set if it holds half of a surrogate pair, which
// no string of Go can; s is then only for messages.
func (d *decoder) chars() (s string, odd goja.String, err error) {
	d.at++
	for from := d.at; d.at < len(d.text); d.at++ {
		switch c := d.text[d.at]; {
		case c == '"':
			s = d.text[from:d.at]
			d.at++
			return s, nil, nil
		case c == '\\':
			return d.escaped(from)
		case c < ' ':
			return "", nil, d.wrong("control characters must be escaped")
		}
	}
	return "", nil, d.wrong("")
}

// escaped is chars from the first backslash on.
func (d *decoder) escaped(from int) (s string, odd goja.String, err error) {
	text := []byte(d.text[from:d.at])
	halves := 0 // of surrogate pairs that stand alone
	for d.at < len(d.text) {
		c := d.text[d.at]
		switch {
		case c == '"':
			d.at++
			if halves > 0 {
				return strings.ToValidUTF8(string(text), "\uFFFD"), utf16String(text), nil
			}
			return string(text), nil, nil
		case c < ' ':
			return "", nil, d.wrong("control characters must be escaped")
		case c != '\\':
			text = append(text, c)
			d.at++
			continue
		}
		d.at++
		i := strings.IndexByte(`"\/bfnrtu`, d.next())
		switch {
		case i < 0 || d.at >= len(d.text):
			return "", nil, d.wrong(`there is no such escape`)
		case d.text[d.at] != 'u':
			text = append(text, "\"\\/\b\f\n\r\t"[i])
			d.at++
			continue
		}
		r, ok := d.unit(d.at + 1)
		if !ok {
			return "", nil, d.wrong(`four hexadecimal digits must follow \u`)
		}
		d.at += 5
		if utf16.IsSurrogate(r) {
			second, ok := rune(-1), false
			if strings.HasPrefix(d.text[d.at:], `\u`) {
				second, ok = d.unit(d.at + 2)
			}
			if pair := utf16.DecodeRune(r, second); ok && pair != utf8.RuneError {
				r = pair
				d.at += 6
			} else {
				halves++
				text = appendHalf(text, r)
				continue
			}
		}
		text = utf8.AppendRune(text, r)
	}
	return "", nil, d.wrong("")
}

// unit reads the four hexadecimal digits at i.
func (d *decoder) unit(i int) (rune, bool) {
	if i+4 > len(d.text) {
		return 0, false
	}
	var r rune
	for _, c := range []byte(d.text[i : i+4]) {
		switch {
		case isDigit(c):
			r = r<<4 | rune(c-'0')
		case c|0x20 >= 'a' && c|0x20 <= 'f':
			r = r<<4 | rune(c|0x20-'a'+10)
		default:
			return 0, false
		}
	}
	return r, true
}

// appendHalf writes half of a surrogate pair as UTF-8 would if it had one, which
// valid text cannot hold; utf16String reads it.
func appendHalf(text []byte, r rune) []byte {
	return append(text, 0xE0|byte(r>>12), 0x80|byte(r>>6)&0x3F, 0x80|byte(r)&0x3F)
}

func utf16String(text []byte) goja.String {
	var units []uint16
	for len(text) > 0 {
		r, size := utf8.DecodeRune(text)
		if r == utf8.RuneError && size == 1 {
			r, size = rune(text[0]&0x0F)<<12|rune(text[1]&0x3F)<<6|rune(text[2]&0x3F), 3
			units = append(units, uint16(r)) //nolint:gosec // below 0xE000
		} else {
			units = utf16.AppendRune(units, r)
		}
		text = text[size:]
	}
	return goja.StringFromUTF16(units)
}

func (d *decoder) number() (goja.Value, error) {
	from := d.at
	if d.next() == '-' {
		d.at++
	}
	switch first := d.at; {
	case d.digits() == 0:
		return nil, d.wrong("a digit must stand there")
	case d.at-first > 1 && d.text[first] == '0':
		d.at = first
		return nil, d.wrong("a number must not begin with 0")
	}
	whole := true
	if d.next() == '.' {
		whole = false
		if d.at++; d.digits() == 0 {
			return nil, d.wrong("a digit must follow the point")
		}
	}
	if c := d.next(); c == 'e' || c == 'E' {
		whole = false
		d.at++
		if c := d.next(); c == '+' || c == '-' {
			d.at++
		}
		if d.digits() == 0 {
			return nil, d.wrong("a digit must stand in the exponent")
		}
	}
	text := d.text[from:d.at]
	if whole && text != "-0" {
		if n, err := strconv.ParseInt(text, 10, 64); err == nil && n >= -maxSafe && n <= maxSafe {
			return d.sandbox.rt.ToValue(n), nil
		}
		return d.inexact(text, "a whole number beyond 2^53")
	}
	f, err := strconv.ParseFloat(text, 64)
	switch digits := significant(text); {
	case err != nil:
		return d.inexact(text, "a number too large for JavaScript")
	case f == 0 && digits > 0:
		return d.inexact(text, "a number too small for JavaScript")
	case math.Abs(f) > maxSafe && digits > maxExact:
		return d.inexact(text, "a number beyond 2^53")
	}
	return d.sandbox.rt.ToValue(f), nil
}

// inexact is what becomes of a number that would not be the same in JavaScript.
func (d *decoder) inexact(text, what string) (goja.Value, error) {
	if d.exact {
		return nil, fmt.Errorf(`it holds %s%s; send it as a string, or have it arrive as one with big_integers = "string"`, what, d.path.at())
	}
	return d.sandbox.rt.ToValue(text), nil
}

// digits passes over digits and tells how many.
func (d *decoder) digits() int {
	from := d.at
	for isDigit(d.next()) {
		d.at++
	}
	return d.at - from
}

// significant counts the digits of a number that are more than its magnitude.
func significant(number string) int {
	mantissa := number
	if i := strings.IndexAny(number, "eE"); i >= 0 {
		mantissa = number[:i]
	}
	mantissa = strings.TrimRight(strings.TrimLeft(mantissa, "-0."), "0.")
	return len(mantissa) - strings.Count(mantissa, ".")
}

func isDigit(c byte) bool { return c >= '0' && c <= '9' }
