package transforms

import (
	"errors"
	"math"
	"runtime"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/dop251/goja"

	pb "github.com/hookline/hookline/transforms/transformpb"
)

// eval is the value of an expression.
func eval(t testing.TB, s *sandbox, expression string) goja.Value {
	t.Helper()
	v, err := s.rt.RunString("(" + expression + ")")
	if err != nil {
		t.Fatalf("%s: %v", expression, err)
	}
	return v
}

// TestEncodeIsStringify: the bytes are those of JSON.stringify.
func TestEncodeIsStringify(t *testing.T) {
	s := testSandbox(t)
	stringify, _ := goja.AssertFunction(s.rt.Get("JSON").(*goja.Object).Get("stringify"))
	for _, expression := range []string{
		// What has no JSON.
		`undefined`, `() => 1`, `Symbol("x")`, `class {}`, `async () => 1`, `function* () {}`,
		`{ a: undefined, b: () => 1, c: Symbol("x"), d: 1, e: class {} }`, `[undefined, () => 1, Symbol("x"), , 1]`,
		`{ a: undefined }`, `{ b: 1, a: undefined }`, `{ a: undefined, b: 1 }`, `new Proxy(() => 1, {})`,
		// Plain data.
		`null`, `true`, `false`, `0`, `-0`, `1`, `-1`, `""`, `"a"`, `[]`, `{}`, `[[]]`, `[{}]`, `{ a: {} }`, `{ a: [1, [2]] }`, `{ "": 1 }`,
		`[null, true, false, 1.5, "x"]`, `{ b: 1, a: 2, 10: 3, 9: 4, [-1]: 5, 1.5: 6 }`, `{ __proto__: { a: 1 } }`, `{ ["__proto__"]: { a: 1 } }`,
		`Object.create({ inherited: 1 })`, `Object.create(null)`, `Object.freeze({ a: 1 })`, `{ [Symbol("x")]: 1, a: 1 }`,
		`Object.defineProperty({ a: 1 }, "hidden", { value: 2 })`, `new (class A { #p = 1; q = 2; get r() { return 3; } })`,
		`Object.assign([1, 2], { extra: 3 })`, `(() => { const a = [1]; a[5] = 6; return a; })()`, `Array.from({ length: 101 }, (_, i) => i)`,
		// Numbers.
		`[1e21, 1e20, 123456789012345680000, 1e-6, 1e-7, 1.5e-10, 1e100, 1e-100, 5e-324, 1.7976931348623157e308, 0.1, 0.1 + 0.2, 1/3, 100, 1e2, -1e-7]`,
		`[2**53, 2**53 + 2, -(2**53), 2**31, 2**32, -(2**31), 4294967295.5, 0.000001234, 12345.678]`,
		// Strings.
		`"\"\\\b\f\n\r\t\0\x1f\x7f/\u2028\u2029é€😀"`, `"\ud800"`, `"\udc00\ud800"`, `"a\ud800b\udfffc😀\uFFFD"`, `"\uFFFD"`, `"\uFEFF"`,
		`{ "\ud800": 1, "\ud801": 2, "\uFFFD": 3, "a\nb": 4, "é": 5, "😀": 6 }`, `"x".repeat(1000)`, `"é".repeat(100)`, `"\u0000".repeat(20)`,
		// Objects that are more than that.
		`new Date(0)`, `{ at: new Date(1e12) }`, `new Number(3)`, `new String("x")`, `new Boolean(false)`, `new Boolean(true)`,
		`[new Number(-0), new String("\ud800"), new Boolean(false)]`, `new (class extends Number { valueOf() { return 4; } })(3)`, `new (class extends String { toString() { return "y"; } })("x")`,
		`/x/`, `new Error("x")`, `new Uint8Array([1, 2])`, `new Float64Array([1.5])`, `new ArrayBuffer(3)`, `Math`, `JSON`, `(function () { return arguments; })(1, 2)`,
		`JSON.rawJSON("12345678901234567890")`, `{ id: JSON.rawJSON("1e400"), x: JSON.rawJSON('"s"') }`,
		// Functions that run.
		`{ get a() { return 1; }, b: 2 }`, `{ a: 1, get b() { delete this.c; return 2; }, c: 3 }`, `{ get a() { this.z = 1; return 2; } }`,
		`{ toJSON() { return { x: 1 }; } }`, `{ toJSON: 1 }`, `{ toJSON() {} }`, `[{ toJSON() {} }]`, `{ a: { toJSON(key) { return key; } }, b: [0, { toJSON(key) { return typeof key + key; } }] }`,
		`{ toJSON(key) { return [key, typeof key]; } }`, `{ toJSON() { return new Number(5); } }`, `{ toJSON() { return { toJSON() { return 1; }, a: 2 }; } }`,
		`new (class A { toJSON() { return "A"; } })`, `Object.assign(() => 1, { toJSON: () => 2 })`, `Object.assign(new Map(), { toJSON: () => "map" })`,
		// Proxies.
		`new Proxy({ a: 1 }, {})`, `new Proxy([1, 2], {})`, `new Proxy(new Proxy([1], {}), {})`, `new Proxy([1, 2], { get: (t, k) => k === "length" ? 3 : k === "toJSON" ? undefined : k })`,
		`new Proxy({}, { ownKeys: () => ["b", "a"], getOwnPropertyDescriptor: () => ({ enumerable: true, configurable: true, value: 0 }), get: (t, k) => k === "toJSON" ? undefined : k })`,
		`new Proxy({ a: 1, b: 2 }, { getOwnPropertyDescriptor: (t, k) => ({ value: t[k], configurable: true, writable: true, enumerable: k === "b" }) })`,
		// One object in several places is no cycle.
		`(() => { const o = { x: 1 }; return [o, o, { o, p: { o } }]; })()`,
	} {
		// Twice: a getter may change it.
		want, err := stringify(nil, eval(t, s, expression))
		if err != nil {
			t.Errorf("%s: JSON.stringify: %v", expression, err)
			continue
		}
		got, ok, err := s.json(eval(t, s, expression), 1<<20)
		if err != nil || ok == goja.IsUndefined(want) || ok && string(got) != want.String() {
			t.Errorf("%s\ngot  %s, %t, %v\nwant %s", expression, got, ok, err, want)
		}
	}
}

// TestEncodeRefuses is where JSON.stringify would lose something or never end.
func TestEncodeRefuses(t *testing.T) {
	s := testSandbox(t)
	deep := "{}"
	for range maxNesting {
		deep = "[" + deep + "]"
	}
	for expression, want := range map[string]string{
		`NaN`:                              "the script returned NaN, which JSON does not have",
		`{ a: [1, { "b c": -Infinity }] }`: `the script returned Infinity at a[1]["b c"], which JSON does not have`,
		`[0 / 0]`:                          "the script returned NaN at [0], which",
		`{ n: new Number(NaN) }`:           "the script returned NaN at n, which",
		`{ when: new Date("garbage") }`:    "the script returned an invalid Date at when, which",
		`{ id: 1n }`:                       "the script returned a BigInt at id, which JSON does not have: return String(value)",
		`[Object(1n)]`:                     "the script returned a BigInt at [0], which",
		`{ toJSON: () => 1n }`:             "the script returned a BigInt, which",
		`{ a: { b: Promise.resolve(1) } }`: "the script returned a promise at a.b: await it",
		`{ m: new Map([[1, 2]]) }`:         "the script returned a Map at m, which JSON does not have: return Object.fromEntries(map)",
		`[new Set([1])]`:                   "the script returned a Set at [0], which JSON does not have: return [...set]",
		`(() => { const o = {}; o.self = o; return o; })()`:                          "the script returned an object that holds itself at self",
		`(() => { const o = { a: { b: [] } }; o.a.b.push(o.a); return o; })()`:       "the script returned an object that holds itself at a.b[0]: it is a",
		`(() => { const a = []; a.push([a]); return a; })()`:                         "the script returned an object that holds itself at [0][0]",
		`(() => { const o = { toJSON: () => ({ o }) }; return o; })()`:               "the script returned more than 1000 objects within each other at …",
		`(() => { let a = []; for (let i = 0; i < 1e5; i++) a = [a]; return a; })()`: "the script returned more than 1000 objects within each other at …",
		deep: "the script returned more than 1000 objects within each other at …",
	} {
		_, ok, err := s.json(eval(t, s, expression), 1<<20)
		var f *failure
		if ok || !errors.As(err, &f) || !strings.HasPrefix(f.text, want) || len(f.text) > 400 {
			t.Errorf("%.100s\ngot  %v\nwant %s", expression, err, want)
		}
		if got, ok, err := s.json(s.rt.ToValue(1), 1); string(got) != "1" || !ok || err != nil {
			t.Fatalf("%.100s left something behind: %s, %v", expression, got, err)
		}
	}
}

// TestEncodeThrows: what the script's own functions throw stays what it is.
func TestEncodeThrows(t *testing.T) {
	s := testSandbox(t)
	for expression, want := range map[string]string{
		`{ get a() { throw new Error("from a getter"); } }`:                                                        "from a getter",
		`[{ toJSON() { throw new Error("from toJSON"); } }]`:                                                       "from toJSON",
		`new Proxy({}, { ownKeys() { throw new Error("from a trap"); } })`:                                         "from a trap",
		`new (class extends String { toString() { throw new Error("from toString"); } })("x")`:                     "from toString",
		`(() => { const p = Proxy.revocable({}, {}); p.revoke(); return [p.proxy]; })()`:                           "revoked",
		`(() => { const p = Proxy.revocable([], {}); const q = new Proxy(p.proxy, {}); p.revoke(); return q; })()`: "revoked",
	} {
		_, ok, err := s.json(eval(t, s, expression), 1<<20)
		var thrown *goja.Exception
		if ok || !errors.As(err, &thrown) || !strings.Contains(err.Error(), want) {
			t.Errorf("%s\ngot  %v\nwant %s", expression, err, want)
		}
	}
}

// TestEncodeWithin: toJSON may have something encoded itself.
func TestEncodeWithin(t *testing.T) {
	s := testSandbox(t)
	_ = s.rt.GlobalObject() // frozen: the function comes as an argument
	outer := eval(t, s, `(f) => ({ a: "before", b: { toJSON() { return f({ c: [1] }); } }, d: "after" })`)
	call, _ := goja.AssertFunction(outer)
	v, err := call(nil, s.rt.ToValue(func(c goja.FunctionCall) goja.Value {
		text, _, err := s.json(c.Argument(0), 100)
		if err != nil {
			t.Error(err)
		}
		return s.rt.ToValue(string(text))
	}))
	if err != nil {
		t.Fatal(err)
	}
	got, _, err := s.json(v, 100)
	if want := `{"a":"before","b":"{\"c\":[1]}","d":"after"}`; string(got) != want || err != nil {
		t.Errorf("got %s, %v, want %s", got, err, want)
	}
}

// TestEncodeLimit: an output of a gigabyte is refused without being made.
func TestEncodeLimit(t *testing.T) {
	s := testSandbox(t)
	const limit = 1 << 20
	for _, expression := range []string{
		`(() => { const s = "x".repeat(1e5); return Array.from({ length: 1e4 }, () => s); })()`,
		`(() => { const s = "x".repeat(1e5); return Object.fromEntries(Array.from({ length: 1e4 }, (_, i) => [i, s])); })()`,
		`(() => { let a = ["\u0001\u0001\u0001"]; for (let i = 0; i < 30; i++) a = [a, a]; return a; })()`,
		`(() => { let a = {}; for (let i = 0; i < 100; i++) a = { a, b: a }; return a; })()`,
		`new Array(4294967295)`, `new Proxy([], { get: (t, k) => k === "length" ? 2 ** 53 : undefined })`,
		`new Uint8Array(16e6)`, `new Proxy(new Uint8Array(16e6), {})`, `[new Proxy(new Proxy(new String("x".repeat(16e6)), {}), {})]`,
		`"x".repeat(16e6)`, `"é".repeat(5e6)`, `new String("x".repeat(16e6))`, `JSON.rawJSON("1".repeat(2e6))`, `{ ["k".repeat(2e6)]: 1 }`,
	} {
		v := eval(t, s, expression)
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		_, ok, err := s.json(v, limit)
		runtime.ReadMemStats(&after)
		if ok || err == nil || err.Error() != "the payload has more than 1048576 bytes, which is the limit" {
			t.Errorf("%s: %v", expression, err)
		}
		if made := after.TotalAlloc - before.TotalAlloc; made > 128<<20 {
			t.Errorf("%s: %d MiB were allocated", expression, made>>20)
		}
		if s.spare != nil && cap(s.spare.out) > maxSpare {
			t.Errorf("%s: a buffer of %d bytes is kept", expression, cap(s.spare.out))
		}
	}
	for text, fits := range map[string]bool{`"` + strings.Repeat("x", 8) + `"`: true, `"` + strings.Repeat("x", 9) + `"`: false, `[1,2,3,4]`: true, `{"a":1234}`: true, `{"a":12345}`: false, `"\u0001xx"`: true, `"\u0001xxx"`: false} {
		v, err := s.decode([]byte(text), false)
		if err != nil {
			t.Fatal(err)
		}
		if got, ok, err := s.json(v, 10); ok != fits || fits && (string(got) != text || err != nil) {
			t.Errorf("%s: %s, %t, %v", text, got, ok, err)
		}
	}
}

func TestPlainText(t *testing.T) {
	s := testSandbox(t)
	for expression, want := range map[string]string{
		`"é€😀\uFFFD\u0000"`: "é€😀\uFFFD\x00",
		`"a😀\ud800"`:        "!the text that the script returned has half of a surrogate pair as its character 4, which UTF-8 does not have",
		`"\udc00"`:          "!the text that the script returned has half of a surrogate pair as its character 1, which UTF-8 does not have",
		`"x".repeat(101)`:   "!the payload has more than 100 bytes, which is the limit",
		`"é".repeat(51)`:    "!the payload has more than 100 bytes, which is the limit",
		`"é".repeat(50)`:    strings.Repeat("é", 50),
	} {
		got, err := plainText(eval(t, s, expression).(goja.String), 100)
		text := string(got)
		if err != nil {
			text = "!" + err.Error()
		}
		if text != want {
			t.Errorf("%s\ngot  %s\nwant %s", expression, text, want)
		}
	}
}

// TestEncodeIsInterrupted: what runs while the result is written is under the clock.
func TestEncodeIsInterrupted(t *testing.T) {
	server := newServer()
	defer server.stop()
	for _, result := range []string{
		`{ get a() { for (;;) {} } }`, `{ a: [{ toJSON() { for (;;) {} } }] }`,
		`new Proxy({}, { ownKeys() { for (;;) {} } })`, `new Proxy([], { get() { for (;;) {} } })`,
		`new (class extends Number { valueOf() { for (;;) {} } })(1)`,
		`{ get a() { try { for (;;) {} } finally { for (;;) {} } } }`,
	} {
		p, problems := compile("x.js", []byte("export default () => ("+result+");"), 1)
		if problems != nil {
			t.Fatal(problems)
		}
		local := &Local{server: server, program: p, timeout: 50 * time.Millisecond}
		before := time.Now()
		out := local.Run(&pb.RunRequest{Body: []byte("{}")})
		if out.GetFailure().GetReason() != pb.Reason_REASON_TIMEOUT || out.GetFailure().GetPosition() == "" {
			t.Errorf("%s: %v", result, out)
		}
		if took := time.Since(before); took > 5*time.Second {
			t.Errorf("%s took %s", result, took)
		}
	}
}

func TestNumbersAreThoseOfJavaScript(t *testing.T) {
	s := testSandbox(t)
	random := seeded("numbers")
	for range 20000 {
		f := math.Float64frombits(random.Uint64())
		if math.IsNaN(f) || math.IsInf(f, 0) {
			continue
		}
		v := s.rt.ToValue(f)
		got, _, err := s.json(v, 100)
		if err != nil || string(got) != v.String() {
			t.Fatalf("%s became %s: %v", v, got, err)
		}
		if back, err := strconv.ParseFloat(string(got), 64); err != nil || back != f {
			t.Fatalf("%s is %g, want %g: %v", got, back, f, err)
		}
	}
}
