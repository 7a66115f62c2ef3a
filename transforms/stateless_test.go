package transforms

import "testing"

// TestStateless: only what surely holds no state is evaluated once.
func TestStateless(t *testing.T) {
	for source, want := range map[string]bool{
		`export default function (event, ctx) { return { id: event.trans_id }; }`:                                        true,
		`export default (event) => event.trans_id;`:                                                                      true,
		`export default async (event) => { await null; return event.trans_id; };`:                                        true,
		`const unit = "kg", most = 3; function half(n) { return n / 2 + unit; } export default () => half(most);`:        true,
		`const twice = (n) => n && twice(n - 1); export default (event) => { const twice_ = 1; return twice(twice_); };`: true,
		`export default () => { let n = 0; n++; const f = () => n; f.x = 1; return f(); };`:                              true,
		`export default () => { const r = /a/g; r.test("aa"); return r.lastIndex; };`:                                    true,
		`let n = 0; export default () => ++n;`:                                                                           false,
		`let n = 0; export default () => n += 1;`:                                                                        false,
		`let n = 0; export default () => { [n] = [n + 1]; return n; };`:                                                  false,
		`let n = 0; export default () => { ({ n } = { n: n + 1 }); return n; };`:                                         false,
		`let n = 0; export default () => { ({ a: n } = { a: n + 1 }); return n; };`:                                      false,
		`let n = 0; export default () => { for (n of [1, 2]); return n; };`:                                              false,
		`let n = 0; export default () => { for (n in { a: 1 }); return n; };`:                                            false,
		`const seen = []; export default () => seen.push(1);`:                                                            false,
		`const seen = new Map(); export default () => seen.size;`:                                                        false,
		`const re = /a/g; export default () => re.test("aa");`:                                                           false,
		`const at = Date.now(); export default () => at;`:                                                                false,
		`function f() {} f.n = 0; export default () => ++f.n;`:                                                           false,
		`function f() { return f.n = 1; } export default () => f();`:                                                     false,
		`function f() { return 1; } export default () => [1].map(f);`:                                                    false,
		`function f() { return 1; } export default () => ({ f });`:                                                       false,
		`function F() { this.a = 1; } export default () => new F().constructor;`:                                         false,
		`function f() { return 1; } export default () => { const g = f; return g.n; };`:                                  false,
		`const f = function g() { return g.n = 1; }; export default () => f();`:                                          false,
		`export default function f() { f.n = (f.n || 0) + 1; return f.n; }`:                                              false,
		`export default (function f() { f.n = (f.n || 0) + 1; return f.n; });`:                                           false,
		`function* g() { yield 1; } export default () => Object.getPrototypeOf(g()).n = 1;`:                              false,
		`class A { static n = 0 } export default () => ++A.n;`:                                                           false,
		`const n = 1; export default () => eval("n");`:                                                                   false,
		`export default () => (0, eval)("1");`:                                                                           false,
		`export default () => __hookline.n = 1;`:                                                                         false,
		`export default () => __hookline(1);`:                                                                            false,
		`export default () => typeof __hookline;`:                                                                        false,
		`function f() {} export default () => f` + "``;":                                                                 false,
	} {
		p, problems := compile("x.js", []byte(source), 1)
		if len(problems) > 0 {
			t.Errorf("%s: %v", source, problems)
			continue
		}
		if p.stateless != want {
			t.Errorf("%s: stateless is %t", source, p.stateless)
		}
	}
}
