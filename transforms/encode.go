package transforms

import (
	"bytes"
	"fmt"
	"math"
	"math/big"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"unicode/utf16"
	"unicode/utf8"

	"github.com/dop251/goja"
)

// maxNesting is how many objects and arrays what a script returns may have inside
// each other. Readers have such limits too.
const maxNesting = 1000

// maxSpare is how many bytes may be kept for the next event to be written into.
const maxSpare = 64 << 10

// encoder writes a value of a runtime as JSON.stringify does: toJSON is asked,
// boxed values are unpacked, what has no JSON is left out of objects and null in
// arrays, half of a surrogate pair is escaped. What JSON.stringify would lose or
// never end with is an error that names the field: NaN and Infinity, invalid
// dates, BigInt, promises, maps and sets, cycles.
//
// Getters, toJSON and the traps of proxies run in here, so it is entered only
// through sandbox.encode, where they are caught and interrupted.
type encoder struct {
	sandbox *sandbox
	limit   int // bytes; not many more are ever held
	out     []byte
	path    fieldPath
	open    []*goja.Object // what is being written, outermost first; nil: a literal

	ok  bool // of the whole value
	err error
}

// What objects are exported as. Their class tells less: that of a Map is Object.
var (
	plainType = reflect.TypeFor[map[string]any]()
	proxyType = reflect.TypeFor[goja.Proxy]()
	bigType   = reflect.TypeFor[*big.Int]()
	mapType   = reflect.TypeFor[[][2]any]()
	setType   = reflect.TypeFor[[]any]() // of arrays too, whose class does tell
)

// json is v as JSON of at most limit bytes. It is false for what has none:
// undefined, functions and symbols. The error is a *failure where v is to blame,
// and otherwise what its own functions have thrown, or an interrupt.
func (s *sandbox) json(v goja.Value, limit int) (text []byte, ok bool, err error) {
	// One may run within another: toJSON can do what a script can.
	e, around := s.spare, s.encoder
	if e == nil {
		e = &encoder{sandbox: s}
	}
	e.limit, s.encoder, s.spare = limit, e, nil
	_, err = s.encode(goja.Undefined(), v)
	s.encoder = around
	if err == nil {
		err = e.err
	}
	if err != nil || !e.ok {
		return nil, false, err
	}
	text = bytes.Clone(e.out)
	if cap(e.out) <= maxSpare { // and it has written everything, so it holds nothing of the event
		clear(e.path[:cap(e.path)])
		clear(e.open[:cap(e.open)])
		e.out, e.ok, s.spare = e.out[:0], false, e
	}
	return text, true, nil
}

// value writes v and tells whether it has a JSON form.
func (e *encoder) value(v goja.Value) (bool, error) {
	switch v := v.(type) {
	case nil, *goja.Symbol:
		return false, nil
	case goja.String:
		return true, e.string(v)
	case *goja.Object:
		return e.object(v)
	}
	switch {
	case goja.IsUndefined(v):
		return false, nil
	case goja.IsNull(v):
		return true, e.put("null")
	case goja.IsBigInt(v):
		return false, e.bigInt()
	}
	switch v.ExportType().Kind() {
	case reflect.Bool:
		return true, e.put(strconv.FormatBool(v.ToBoolean()))
	case reflect.Int64:
		e.out = strconv.AppendInt(e.out, v.ToInteger(), 10)
		return true, e.checked()
	default:
		return true, e.number(v.ToFloat())
	}
}

// number writes f as Number.prototype.toString does (ECMA-262, 6.1.6.1.20).
func (e *encoder) number(f float64) error {
	size := math.Abs(f)
	switch {
	case math.IsNaN(f):
		return e.refused("NaN", ", which JSON does not have")
	case math.IsInf(f, 0):
		return e.refused("Infinity", ", which JSON does not have")
	case f == 0:
		return e.put("0") // -0 too
	case size >= 1e-6 && size < 1e21:
		e.out = strconv.AppendFloat(e.out, f, 'f', -1, 64)
		return e.checked()
	}
	e.out = strconv.AppendFloat(e.out, f, 'e', -1, 64)
	// Go writes an exponent with two digits at least: 1e-07.
	if n := len(e.out); e.out[n-4] == 'e' && e.out[n-2] == '0' {
		e.out = append(e.out[:n-2], e.out[n-1])
	}
	return e.checked()
}

func (e *encoder) object(o *goja.Object) (bool, error) {
	if r := &e.sandbox.returned; o == r.token {
		_, err := e.literal(r.of, r.values)
		return true, err
	}
	class := o.ClassName()
	if class == "Date" && o.Export() == nil {
		return false, e.refused("an invalid Date", ", which JSON does not have")
	}
	if f, ok := o.Get("toJSON").(*goja.Object); ok {
		if toJSON, ok := goja.AssertFunction(f); ok {
			v, err := toJSON(o, e.sandbox.rt.ToValue(e.path.last()))
			if err != nil {
				return false, err
			}
			if o, ok = v.(*goja.Object); !ok {
				return e.value(v)
			}
			class = o.ClassName()
		}
	}
	switch class {
	case "Array":
		return true, e.within(o, e.array)
	case "Object":
		if kind := o.ExportType(); kind != plainType {
			return e.exotic(o, kind)
		}
		return true, e.within(o, e.members)
	case "Number":
		return e.value(o.ToNumber())
	case "String":
		return e.value(o.ToString())
	case "Boolean":
		yes, _ := o.Export().(bool) // ToBoolean is true for every object
		return true, e.put(strconv.FormatBool(yes))
	case "RawJSON": // of JSON.rawJSON, which has checked it
		return true, e.put(o.Get("rawJSON").String())
	}
	return e.exotic(o, o.ExportType())
}

// exotic is object for what is no ordinary one, by what it is exported as.
func (e *encoder) exotic(o *goja.Object, kind reflect.Type) (bool, error) {
	switch kind {
	case bigType: // Object(1n)
		return false, e.bigInt()
	case promiseType:
		return false, e.refused("a promise", ": await it")
	case mapType:
		return false, e.refused("a Map", ", which JSON does not have: return Object.fromEntries(map)")
	case setType:
		return false, e.refused("a Set", ", which JSON does not have: return [...set]")
	}
	if _, ok := goja.AssertFunction(o); ok {
		return false, nil
	}
	if isArray(o) {
		return true, e.within(o, e.array)
	}
	if elements(o) > int64(e.limit) { // the list of its keys would be larger than it is itself
		return true, e.tooLong()
	}
	return true, e.within(o, e.members)
}

// within writes an object or an array, unless that is within itself.
func (e *encoder) within(o *goja.Object, write func(*goja.Object) error) error {
	if i := slices.Index(e.open, o); i == 0 {
		return e.refused("an object that holds itself", "")
	} else if i > 0 {
		return e.refused("an object that holds itself", ": it is "+e.path[:i].String())
	}
	if err := e.enter(o); err != nil {
		return err
	}
	if err := write(o); err != nil {
		return err
	}
	e.leave()
	return nil
}

// enter begins an object or an array; nil is one that nobody else can hold.
func (e *encoder) enter(o *goja.Object) error {
	if len(e.open) == maxNesting {
		return e.refused(fmt.Sprintf("more than %d objects within each other", maxNesting), "")
	}
	e.open = append(e.open, o)
	e.path = append(e.path, step{})
	return nil
}

func (e *encoder) leave() {
	e.open = e.open[:len(e.open)-1]
	e.path = e.path[:len(e.path)-1]
}

func (e *encoder) array(o *goja.Object) error {
	e.out = append(e.out, '[')
	var length int64
	if v := o.Get("length"); v != nil {
		length = v.ToInteger()
	}
	for i := range length {
		if i > 0 {
			e.out = append(e.out, ',')
		}
		s := step{index: int(i)}
		e.path[len(e.path)-1] = s
		ok, err := e.value(o.Get(s.name()))
		if err == nil && !ok {
			err = e.put("null")
		}
		if err != nil {
			return err
		}
	}
	return e.put("]")
}

func (e *encoder) members(o *goja.Object) error {
	e.out = append(e.out, '{')
	keys, first := o.Keys(), true
	for _, key := range keys {
		// Perhaps half of a surrogate pair, which a string of Go cannot hold.
		if strings.Contains(key, "\uFFFD") {
			return e.oddMembers(o)
		}
	}
	for _, key := range keys {
		if err := e.member(key, nil, o.Get(key), &first); err != nil {
			return err
		}
	}
	return e.put("}")
}

// oddMembers is members by the keys' values.
func (e *encoder) oddMembers(o *goja.Object) error {
	v, err := e.sandbox.keys(goja.Undefined(), o)
	if err != nil {
		return err
	}
	keys, first := v.(*goja.Object), true
	for i := range keys.Get("length").ToInteger() {
		key := keys.Get(strconv.FormatInt(i, 10)).(goja.String) // Object.keys gives only strings
		v, err := e.sandbox.get(goja.Undefined(), o, key)
		if err != nil {
			return err
		}
		if err := e.member(key.String(), key, v, &first); err != nil {
			return err
		}
	}
	return e.put("}")
}

// member writes a key and its value, or nothing if the value has no JSON form.
// odd is the key if it is not certain to be what name says.
func (e *encoder) member(name string, odd goja.String, v goja.Value, first *bool) error {
	from := len(e.out)
	if !*first {
		e.out = append(e.out, ',')
	}
	e.path[len(e.path)-1] = step{key: name, index: -1}
	if odd != nil {
		if err := e.string(odd); err != nil {
			return err
		}
	} else {
		e.quote(name)
	}
	e.out = append(e.out, ':')
	ok, err := e.value(v)
	if err != nil {
		return err
	}
	if ok {
		*first = false
	} else {
		e.out = e.out[:from]
	}
	return nil
}

func (e *encoder) string(s goja.String) error {
	if s.Length() > e.limit-len(e.out) { // before it is copied
		return e.tooLong()
	}
	text := s.String()
	if !strings.Contains(text, "\uFFFD") {
		e.quote(text)
		return e.checked()
	}
	e.out = append(e.out, '"')
	for i := 0; i < s.Length(); {
		r, half, units := charAt(s, i)
		if i += units; half {
			e.unit(r)
		} else {
			e.escape(utf8.AppendRune(nil, r))
		}
	}
	e.out = append(e.out, '"')
	return e.checked()
}

// charAt is the character at a unit of s, or the half of a surrogate pair that
// stands there alone, and how many units it takes.
func charAt(s goja.String, i int) (r rune, half bool, units int) {
	r = rune(s.CharAt(i))
	if !utf16.IsSurrogate(r) {
		return r, false, 1
	}
	if i+1 < s.Length() {
		if pair := utf16.DecodeRune(r, rune(s.CharAt(i+1))); pair != utf8.RuneError {
			return pair, false, 2
		}
	}
	return r, true, 1
}

// quote writes valid UTF-8 as a string.
func (e *encoder) quote(text string) {
	e.out = append(e.out, '"')
	from := 0
	for i := range len(text) {
		if c := text[i]; c < ' ' || c == '"' || c == '\\' {
			e.out = append(e.out, text[from:i]...)
			e.escape([]byte{c})
			from = i + 1
		}
	}
	e.out = append(append(e.out, text[from:]...), '"')
}

// escape writes one character within a string.
func (e *encoder) escape(char []byte) {
	c := char[0]
	if i := strings.IndexByte("\"\\\b\t\n\f\r", c); i >= 0 {
		e.out = append(e.out, '\\', `"\btnfr`[i])
	} else if c < ' ' {
		e.unit(rune(c))
	} else {
		e.out = append(e.out, char...)
	}
}

// unit writes a unit of UTF-16 as an escape.
func (e *encoder) unit(r rune) { e.out = fmt.Appendf(e.out, `\u%04x`, r) }

func (e *encoder) put(word string) error {
	e.out = append(e.out, word...)
	return e.checked()
}

// checked is the error once there is more than may be.
func (e *encoder) checked() error {
	if len(e.out) > e.limit {
		return e.tooLong()
	}
	return nil
}

func (e *encoder) tooLong() error { return tooLong(e.limit) }

func tooLong(limit int) *failure {
	return &failure{text: fmt.Sprintf("the payload has more than %d bytes, which is the limit", limit)}
}

// refused is the error for what stands where the encoder is.
func (e *encoder) refused(what, rule string) error {
	return &failure{text: "the script returned " + what + e.path.at() + rule}
}

func (e *encoder) bigInt() error {
	return e.refused("a BigInt", ", which JSON does not have: return String(value)")
}

// isArray is Array.isArray for an object that may be a proxy of one.
func isArray(o *goja.Object) bool {
	o = target(o)
	return o != nil && o.ClassName() == "Array"
}

// elements is how many keys a typed array or a boxed string has of its own accord.
func elements(o *goja.Object) int64 {
	switch o = target(o); {
	case o == nil:
		return 0
	case o.ClassName() == "String":
		return o.Get("length").ToInteger() // its own, which nobody can change
	case o.ExportType().Kind() == reflect.Slice:
		return int64(reflect.ValueOf(o.Export()).Len()) // not a copy
	}
	return 0
}

// target is the object behind proxies, nil if one of them has been revoked.
func target(o *goja.Object) *goja.Object {
	for o != nil && o.ExportType() == proxyType {
		p, _ := o.Export().(goja.Proxy)
		o = p.Target()
	}
	return o
}

// plainText is s as UTF-8 of at most limit bytes, for a payload that is no JSON.
func plainText(s goja.String, limit int) ([]byte, error) {
	if s.Length() > limit { // before it is copied
		return nil, tooLong(limit)
	}
	text := s.String()
	if len(text) > limit {
		return nil, tooLong(limit)
	}
	if strings.Contains(text, "\uFFFD") {
		for i := 0; i < s.Length(); {
			_, half, units := charAt(s, i)
			if i += units; half {
				return nil, &failure{text: fmt.Sprintf("the text that the script returned has half of a surrogate pair as its character %d, which UTF-8 does not have", i)}
			}
		}
	}
	return []byte(text), nil
}
