package transforms

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"strconv"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/dop251/goja"

	"github.com/hookline/hookline/core"
)

func testSandbox(t testing.TB) *sandbox {
	t.Helper()
	p, problems := compile("x.js", []byte(`export default () => 1;`), 1)
	if len(problems) > 0 {
		t.Fatal(problems)
	}
	s, err := newSandbox(p)
	if err != nil {
		t.Fatal(err)
	}
	s.run = &run{program: p}
	return s
}

// again is text decoded and encoded.
func again(t testing.TB, s *sandbox, text []byte) (string, error) {
	t.Helper()
	v, err := s.decode(text, false)
	if err != nil {
		return "", err
	}
	out, ok, err := s.json(v, 1<<20)
	if err != nil || !ok {
		t.Fatalf("what came of %q cannot be written: %v", text, err)
	}
	return string(out), nil
}

func TestDecodeSuite(t *testing.T) {
	s := testSandbox(t)
	text, err := os.ReadFile("testdata/rfc8259.cases")
	if err != nil {
		t.Fatal(err)
	}
	n := 0
	for line := range strings.Lines(string(text)) {
		kind, rest, _ := strings.Cut(strings.TrimSpace(line), " ")
		name, rest, _ := strings.Cut(rest, " ")
		if kind == "#" || len(kind) > 1 {
			continue
		}
		quoted, err := strconv.QuotedPrefix(rest)
		if err != nil {
			continue // a comment's words
		}
		n++
		input, _ := strconv.Unquote(quoted)
		want, _ := strconv.Unquote(strings.TrimSpace(rest[len(quoted):]))
		got, err := again(t, s, []byte(input))
		switch {
		case kind == "n" || want == "refused":
			if err == nil {
				t.Errorf("%s_%s: %q was accepted", kind, name, input)
			}
		case err != nil:
			t.Errorf("%s_%s: %q was refused: %v", kind, name, input, err)
		case kind == "i" && got != want:
			t.Errorf("%s_%s: got %s, want %s", kind, name, got, want)
		case kind == "y":
			compare(t, s, []byte(input))
		}
	}
	if n < 250 {
		t.Errorf("only %d cases were found", n)
	}
}

// compare checks the value of valid JSON against encoding/json and JSON.parse.
func compare(t testing.TB, s *sandbox, text []byte) {
	t.Helper()
	v, err := s.decode(text, false)
	if err != nil {
		t.Fatalf("%q: %v", text, err)
	}
	if bytes.Contains(bytes.ToLower(text), []byte(`\ud`)) {
		return // encoding/json replaces what is half of a pair
	}
	text = bytes.TrimPrefix(text, []byte(utf8BOM))
	dec := json.NewDecoder(bytes.NewReader(text))
	dec.UseNumber()
	var want any
	if err := dec.Decode(&want); err != nil {
		t.Fatal(err)
	}
	exact := true
	if err := same(v, want, &exact); err != nil {
		t.Fatalf("%q: %v", text, err)
	}
	if !exact {
		return
	}
	parse, _ := goja.AssertFunction(s.rt.Get("JSON").(*goja.Object).Get("parse"))
	stringify, _ := goja.AssertFunction(s.rt.Get("JSON").(*goja.Object).Get("stringify"))
	parsed, err := parse(nil, s.rt.ToValue(string(text)))
	if err != nil {
		t.Fatal(err)
	}
	one, err := stringify(nil, parsed)
	if err != nil {
		t.Fatal(err)
	}
	two, _, err := s.json(v, 1<<30)
	if err != nil || one.String() != string(two) {
		t.Fatalf("%q became %s, and by JSON.parse and JSON.stringify %s: %v", text, two, one, err)
	}
}

// same tells why v is not what encoding/json made. exact gets false at a number
// that is a string.
func same(v goja.Value, want any, exact *bool) error {
	differs := fmt.Errorf("got %v, want %v", v, want)
	switch want := want.(type) {
	case nil:
		if !goja.IsNull(v) {
			return differs
		}
	case bool:
		if v.Export() != want {
			return differs
		}
	case string:
		if !goja.IsString(v) || v.String() != want {
			return differs
		}
	case json.Number:
		f, err := strconv.ParseFloat(string(want), 64)
		if goja.IsString(v) {
			*exact = false
			lost := err != nil || f == 0 || math.Abs(f) > maxSafe
			if v.String() != string(want) || !lost {
				return differs
			}
		} else if !goja.IsNumber(v) || v.ToFloat() != f || math.Signbit(v.ToFloat()) != math.Signbit(f) {
			return differs
		}
	case []any:
		o, ok := v.(*goja.Object)
		if !ok || o.ClassName() != "Array" || o.Get("length").ToInteger() != int64(len(want)) {
			return differs
		}
		for i := range want {
			if err := same(o.Get(strconv.Itoa(i)), want[i], exact); err != nil {
				return err
			}
		}
	case map[string]any:
		o, ok := v.(*goja.Object)
		if !ok || o.ClassName() != "Object" || len(o.Keys()) != len(want) {
			return differs
		}
		for _, key := range o.Keys() {
			w, ok := want[key]
			if !ok {
				return differs
			}
			if err := same(o.Get(key), w, exact); err != nil {
				return err
			}
		}
	}
	return nil
}

func TestDecode(t *testing.T) {
	s := testSandbox(t)
	for text, want := range map[string]string{
		// Order, and equal keys.
		`{"b":1,"a":2,"10":3,"2":4}`:          `{"2":4,"10":3,"b":1,"a":2}`,
		`{"a":1,"b":2,"a":3}`:                 `{"a":3,"b":2}`,
		`{"__proto__":{"x":1},"x":2}`:         `{"__proto__":{"x":1},"x":2}`,
		`{"a":1,"\u0061":2}`:                  `{"a":2}`,
		`{"\ud800":1,"\ud801":2,"\uFFFD":3}`:  `{"\ud800":1,"\ud801":2,"` + "\uFFFD" + `":3}`,
		`{"constructor":1,"toString":2,"":3}`: `{"constructor":1,"toString":2,"":3}`,
		// Numbers.
		`[9007199254740991,-9007199254740991]`:            `[9007199254740991,-9007199254740991]`,
		`[9007199254740992,-9007199254740992]`:            `["9007199254740992","-9007199254740992"]`,
		`[9007199254740993,18446744073709551616]`:         `["9007199254740993","18446744073709551616"]`,
		`[12345678901234567890.0,9007199254740993.5]`:     `["12345678901234567890.0","9007199254740993.5"]`,
		`[1e21,1.5e300,123456789012345e10]`:               `[1e+21,1.5e+300,1.23456789012345e+24]`,
		`[1234567890123456e10,9.007199254740993E15]`:      `["1234567890123456e10","9.007199254740993E15"]`,
		`[0.1,0.30000000000000004,5e-324,4.9e-324]`:       `[0.1,0.30000000000000004,5e-324,5e-324]`,
		`[1e-400,0e99999,0.000,-0.0,-0e5]`:                `["1e-400",0,0,0,0]`,
		`[1e309,-1e309,1.7976931348623157e308]`:           `["1e309","-1e309","1.7976931348623157e308"]`,
		`[1e-7,0.000001,1e-10,-1.5e-9,100,1.50,123e-1]`:   `[1e-7,0.000001,1e-10,-1.5e-9,100,1.5,12.3]`,
		`[100000000000000000000.5e-20,1e20,10e19,0.1e21]`: `[1,100000000000000000000,100000000000000000000,100000000000000000000]`,
	} {
		if got, err := again(t, s, []byte(text)); err != nil || got != want {
			t.Errorf("%s\ngot  %s, %v\nwant %s", text, got, err, want)
		}
	}
	v, err := s.decode([]byte(`-0`), true)
	if err != nil || !math.Signbit(v.ToFloat()) {
		t.Errorf("-0 became %v, %v", v, err)
	}
}

func TestDecodeExactly(t *testing.T) {
	s := testSandbox(t)
	for text, want := range map[string]string{
		`{"visits":[{},{"a key":9007199254740993}]}`: `it holds a whole number beyond 2^53 at visits[1]["a key"]; send it as a string, or have it arrive as one with big_integers = "string"`,
		`[1,-1e400]`:                   `it holds a number too large for JavaScript at [1]`,
		`1e-400`:                       `it holds a number too small for JavaScript; send`,
		`{"n":12345678901234567890.5}`: `it holds a number beyond 2^53 at n;`,
		`[9007199254740991,1e300,0.1]`: "",
		`{"n":"9007199254740993"}`:     "",
		`{"a":1,"b":[tru]}`:            `it is not JSON: a value must stand there, at byte 13`,
		`{"a":1`:                       `it is not JSON: it ends in the middle`,
		`{} {}`:                        `it is not JSON: nothing may follow the JSON value, at byte 4`,
		"\"\xff\"":                     `it is not valid UTF-8`,
	} {
		_, err := s.decode([]byte(text), true)
		if got := fmt.Sprint(err); want == "" && err != nil || !strings.HasPrefix(got, want) && want != "" {
			t.Errorf("%s\ngot  %s\nwant %s", text, got, want)
		}
	}
}

// TestDecodeDepth: what the hook takes, a script gets, and no more.
func TestDecodeDepth(t *testing.T) {
	s := testSandbox(t)
	for _, extra := range []int{0, 1} {
		deep := core.MaxDepth - 1 + extra
		body := `{"trans_id":"1","form_id":"2","OnInsert":true,"x":` + strings.Repeat("[", deep) + strings.Repeat("]", deep) + `}`
		_, taken := core.ParseEvent([]byte(body))
		_, err := s.decode([]byte(body), false)
		if (taken == nil) != (extra == 0) || (err == nil) != (extra == 0) {
			t.Errorf("%d levels: the hook says %v, the decoder %v", deep+1, taken, err)
		}
	}
}

// depthOf is the depth of valid JSON.
func depthOf(text []byte) (deepest int) {
	dec := json.NewDecoder(bytes.NewReader(text))
	dec.UseNumber()
	now := 0
	for {
		token, err := dec.Token()
		if errors.Is(err, io.EOF) {
			return deepest
		}
		if d, ok := token.(json.Delim); ok && (d == '{' || d == '[') {
			now++
			deepest = max(deepest, now)
		} else if ok {
			now--
		}
	}
}

// FuzzDecode compares with encoding/json: the same texts are accepted, but for
// invalid UTF-8 and depth, with the same values, but for what same says; and what
// is written of it can be read again and is then the same.
func FuzzDecode(f *testing.F) {
	text, err := os.ReadFile("testdata/rfc8259.cases")
	if err != nil {
		f.Fatal(err)
	}
	for line := range strings.Lines(string(text)) {
		if _, quoted, ok := strings.Cut(line, ` "`); ok {
			if quoted, err := strconv.QuotedPrefix(`"` + quoted); err == nil {
				input, _ := strconv.Unquote(quoted)
				f.Add([]byte(input))
			}
		}
	}
	s := testSandbox(f)
	f.Fuzz(func(t *testing.T, text []byte) {
		plain := bytes.TrimPrefix(text, []byte(utf8BOM))
		want := utf8.Valid(plain) && json.Valid(plain) && depthOf(plain) <= core.MaxDepth
		v, err := s.decode(text, false)
		if (err == nil) != want {
			t.Fatalf("%q: %v, and encoding/json says %v", text, err, json.Valid(plain))
		}
		if err != nil {
			return
		}
		compare(t, s, text)
		one, ok, err := s.json(v, 1<<30)
		if err != nil || !ok || !json.Valid(one) || !utf8.Valid(one) {
			t.Fatalf("%q: %q, %v", text, one, err)
		}
		if _, err := s.decode(one, true); err != nil {
			return // 11e17 is a number, and written with all its digits it is none
		}
		two, err := again(t, s, one)
		if err != nil || two != string(one) {
			t.Fatalf("%q: first %s, then %s, %v", text, one, two, err)
		}
	})
}
