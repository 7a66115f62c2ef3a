package transforms

import (
	"testing"

	"google.golang.org/protobuf/proto"
)

// TestStateless: only what surely holds no state is evaluated once. Nothing that a
// script does for one event is to be seen in the next, however often it is evaluated.
func TestStateless(t *testing.T) {
	for source, want := range map[string]bool{
		`export default function (event, ctx) { return { id: event.trans_id }; }`:                                                                    true,
		`export default (event) => event.trans_id;`:                                                                                                  true,
		`export default async (event) => { await null; return event.trans_id; };`:                                                                    true,
		`const unit = "kg", most = 3; function half(n) { return n / 2 + unit; } export default () => half(most);`:                                    true,
		`const twice = (n) => n && twice(n - 1); export default (event) => { const twice_ = 1; return twice(twice_); };`:                             true,
		`export default () => { let n = 0; n++; const f = () => n; f.x = 1; return f(); };`:                                                          true,
		`export default () => { const r = /a/g; r.test("aa"); return r.lastIndex; };`:                                                                true,
		`const shape = (e) => e.trans_id; export default shape;`:                                                                                     true,
		`function shape(e) { return e.trans_id; } const other = shape; export default other;`:                                                        true,
		`const shape = (e) => e.trans_id; shape.n = 1; export default shape;`:                                                                        false,
		`const shape = (e) => shape.n = 1; export default shape;`:                                                                                    false,
		`const t = { a: "b", "c d": 1, e: -2.5, f: null, g: true }; export default (e) => [t.a, t[e.trans_id], e.trans_id in t, { ...t }];`:          true,
		`const t = { a: "b" }; export default (e) => { const o = {}; o[t[e.trans_id]] = 1; o.x = t.a; t.a.length; return o; };`:                      true,
		`const t = { a: "b" }; export default () => Object.keys(t).concat(Object.entries(t), Object.values(t), Object.hasOwn(t, "a"));`:              true,
		`const t = ["a", "b"]; export default (e) => { for (const v of t) if (t.includes(v)) return t.indexOf(v) + t.length + t.join() + [...t]; };`: true,
		`const t = { a: 1 }; export default () => { for (const k in t) return k; };`:                                                                 true,
		`const t = { a: 1 }; export default () => { t.a = 2; return t.a; };`:                                                                         false,
		`const t = { a: 1 }; export default () => { t.a++; return t.a; };`:                                                                           false,
		`const t = { a: 1 }; export default () => { t["a"] += 1; return t.a; };`:                                                                     false,
		`const t = { a: 1 }; export default () => { delete t.a; return t.a; };`:                                                                      false,
		`const t = { a: 1 }; export default () => { delete t?.a; return t.a; };`:                                                                     false,
		`const t = { a: 1 }; export default () => { [t.a] = [2]; return t.a; };`:                                                                     false,
		`const t = { a: 1 }; export default () => { [[t.a = 3]] = [[]]; return t.a; };`:                                                              false,
		`const t = { a: 1 }; export default () => { ({ x: t.a, ...t.b } = { x: 2 }); return t.a; };`:                                                 false,
		`const t = { a: 1 }; export default () => { for (t.a of [2]); return t.a; };`:                                                                false,
		`const t = { a: 1 }; export default () => { for (t.a in { b: 1 }); return t.a; };`:                                                           false,
		`const t = { a: 1 }; export default () => { const o = t; o.a = 2; return t.a; };`:                                                            false,
		`const t = { a: 1 }; export default () => t;`:                                                                                                false,
		`const t = { a: 1 }; export default () => ({ t });`:                                                                                          false,
		`const t = { a: 1 }; export default () => [t];`:                                                                                              false,
		`const t = { a: 1 }; const f = (o) => o.a = 2; export default () => f(t);`:                                                                   false,
		`const t = { a: 1 }; export default () => Object.assign(t, { a: 2 }).a;`:                                                                     false,
		`const t = { a: 1 }; const Object = { keys: 1 }; export default () => Object.keys(t);`:                                                       false,
		`const t = { a: 1 }; function Object() {} export default () => Object.keys(t);`:                                                              false,
		`const t = { a: 1 }; export default () => { const Object = { keys: (o) => o.a = 2 }; return Object.keys(t); };`:                              false,
		`const t = { a: 1 }; export default () => { t.valueOf().a = 2; return t.a; };`:                                                               false,
		`const t = { a: 1 }; export default () => { t["valueOf"]().a = 2; return t.a; };`:                                                            false,
		`const t = { a: 1 }; export default () => { t.valueOf?.().a; return t.a; };`:                                                                 false,
		`const t = { a: 1 }; export default () => t.valueOf` + "``;":                                                                                 false,
		`const t = { a: 1 }; export default () => t["valueOf"]` + "``;":                                                                              false,
		`const t = { a: 1 }; export default () => { t.__defineGetter__("b", () => 2); return t.b; };`:                                                false,
		`const t = { a: 1 }; export default () => { t.__proto__ = { b: 2 }; return t.b; };`:                                                          false,
		`const t = [1]; export default () => t.push(1);`:                                                                                             false,
		`const t = [1]; export default () => t.map((v, i, all) => all[0] = 2);`:                                                                      false,
		`const t = [1, , 2]; export default () => t[0];`:                                                                                             false,
		`const t = [[1]]; export default () => t[0];`:                                                                                                false,
		`const t = { a: { b: 1 } }; export default () => t.a;`:                                                                                       false,
		`const t = { a: () => 1 }; export default () => t.a;`:                                                                                        false,
		`const t = { get a() { return 1; } }; export default () => t.a;`:                                                                             false,
		`const t = { [1]: 1 }; export default () => t.a;`:                                                                                            false,
		`let t = { a: 1 }; export default () => { t = { a: 2 }; return t.a; };`:                                                                      false,
		`const t = { a: 1 }; export default () => eval("t.a = 2");`:                                                                                  false,
		`let n = 0; export default () => ++n;`:                                                                                                       false,
		`let n = 0; export default () => n += 1;`:                                                                                                    false,
		`let n = 0; export default () => { [n] = [n + 1]; return n; };`:                                                                              false,
		`let n = 0; export default () => { ({ n } = { n: n + 1 }); return n; };`:                                                                     false,
		`let n = 0; export default () => { ({ a: n } = { a: n + 1 }); return n; };`:                                                                  false,
		`let n = 0; export default () => { for (n of [1, 2]); return n; };`:                                                                          false,
		`let n = 0; export default () => { for (n in { a: 1 }); return n; };`:                                                                        false,
		`const seen = []; export default () => seen.push(1);`:                                                                                        false,
		`const seen = new Map(); export default () => seen.size;`:                                                                                    false,
		`const re = /a/g; export default () => re.test("aa");`:                                                                                       false,
		`const at = Date.now(); export default () => at;`:                                                                                            false,
		`function f() {} f.n = 0; export default () => ++f.n;`:                                                                                       false,
		`function f() { return f.n = 1; } export default () => f();`:                                                                                 false,
		`function f() { return 1; } export default () => [1].map(f);`:                                                                                false,
		`function f() { return 1; } export default () => ({ f });`:                                                                                   false,
		`function F() { this.a = 1; } export default () => new F().constructor;`:                                                                     false,
		`function f() { return 1; } export default () => { const g = f; return g.n; };`:                                                              false,
		`const f = function g() { return g.n = 1; }; export default () => f();`:                                                                      false,
		`export default function f() { f.n = (f.n || 0) + 1; return f.n; }`:                                                                          false,
		`export default (function f() { f.n = (f.n || 0) + 1; return f.n; });`:                                                                       false,
		`function* g() { yield 1; } export default () => Object.getPrototypeOf(g()).n = 1;`:                                                          false,
		`class A { static n = 0 } export default () => ++A.n;`:                                                                                       false,
		`const n = 1; export default () => eval("n");`:                                                                                               false,
		`export default () => (0, eval)("1");`:                                                                                                       false,
		`export default () => __hookline.n = 1;`:                                                                                                     false,
		`export default () => __hookline(1);`:                                                                                                        false,
		`export default () => typeof __hookline;`:                                                                                                    false,
		`function f() {} export default () => f` + "``;":                                                                                             false,
	} {
		p, problems := compile("x.js", []byte(source), 1)
		if len(problems) > 0 {
			t.Errorf("%s: %v", source, problems)
			continue
		}
		if p.stateless != want {
			t.Errorf("%s: stateless is %t", source, p.stateless)
		}
		after, fresh := inTurn(t, p, "435", "436"), inTurn(t, p, "436")
		if !proto.Equal(after[1], fresh[0]) {
			t.Errorf("%s: after another event\n%v\nand otherwise\n%v", source, after[1], fresh[0])
		}
	}
}
