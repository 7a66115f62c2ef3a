package transforms

import (
	"strings"
	"testing"
	"time"

	"github.com/dop251/goja"
	"google.golang.org/protobuf/proto"

	pb "github.com/hookline/hookline/transforms/transformpb"
)

// TestLiterals: which literals are never made, and that nobody can tell: every script
// does what it does with its literals made.
func TestLiterals(t *testing.T) {
	const deep = "{a:{b:{c:{d:1}}}}"
	for script, want := range map[string]int{
		`export default function (event, ctx) { return { id: event.trans_id, form: { id: event.form_id, name: event.form_name }, kind: ctx.kind }; }`: 1,
		`export default (event) => ({ id: event.trans_id });`:                                                                          1,
		`const shape = (e) => ({ a: 1, b: e.none, c: null }); export default shape;`:                                                   1,
		`const shape = function inner(e) { return { a: e.none }; }, other = shape; export default other;`:                              1,
		`const shape = (e) => ({ a: 1 }); const b = shape({}).a; export default shape;`:                                                0,
		`const shape = (e) => ({ a: 1 }); export default (e) => ({ b: shape(e).a });`:                                                  1,
		`const shape = function inner(e) { return e ? { a: typeof inner(null) } : { b: 1 }; }; export default shape;`:                  0,
		`export default async (event) => { const id = await event.trans_id; return { id, list: [1, await 2], deep: ` + deep + ` }; };`: 1,
		`export default () => ({});`: 1,
		`export default () => ({ a: undefined, b: () => 1, c: Symbol("x"), d: undefined });`:                                    1,
		`export default () => ({ a: { b: undefined }, c: { d: {} }, "": 0, "é\"\\\n": "ü" });`:                                  1,
		`export default (e) => e.trans_id === "435" ? { yes: 1 } : { no: 1 };`:                                                  2,
		`export default (e) => e.trans_id !== "435" ? { yes: 1 } : e;`:                                                          1,
		`export default (e, ctx) => { if (e.form_id === "319") return ctx.skip("no"); return { a: 1 }; };`:                      1,
		`export default (e) => { for (const a of [1, 2]) if (a === 2) return { a }; };`:                                         1,
		`export default (e) => { switch (e.form_id) { case "319": return { a: 1 }; default: return { b: 1 }; } };`:              2,
		`export default () => { try { return { a: 1, b: nope() }; } catch { return { c: 1 }; } function nope() { throw 1; } };`: 2,
		`export default () => { try { return { a: 1 }; } catch { return 1; } };`:                                                1,
		`export default () => { a: for (;;) { do { while (true) { return { a: 1 }; } } while (0); } };`:                         1,
		// What was returned is not what counts.
		`export default () => { try { return { a: 1 }; } finally { b: { try { return { b: 1 }; } finally { break b; } } } };`: 0,
		// Others get hold of it.
		`export default function f(event) { return event ? { a: JSON.stringify(f(null)) } : { b: 1 }; }`: 0,
		`export default function f(event) { const g = f; return event ? { a: g(null).b } : { b: 1 }; }`:  0,
		`function f(event) { return { a: 1 }; } f.x = f().a; export default f;`:                          0,
		`export default (event) => { const inner = () => ({ a: 1 }); return { b: inner().a }; };`:        1,
		`export default function (event) { const x = eval("1"); return { a: x }; }`:                      0,
		`export default function* () { return { a: 1 }; }`:                                               0,
		// The literal is more than its keys, or in another order.
		`export default (e) => ({ ...e, a: 1 });`:                        0,
		`export default (e) => ({ [e.trans_id]: 1 });`:                   0,
		`export default () => ({ b: 1, 2: 1, 1: 1 });`:                   0,
		`export default () => ({ b: 1, "1": 1 });`:                       0,
		`export default () => ({ a: 1, b: 2, a: 3 });`:                   0,
		`export default () => ({ get a() { return 1; } });`:              0,
		`export default () => ({ a() { return 1; }, b: 1 });`:            0,
		`export default () => ({ a: 1, toJSON: () => "other" });`:        0,
		`export default async () => ({ a: 1, then: (f) => f("x") });`:    0,
		`export default () => ({ __proto__: { toJSON: () => 1 } });`:     0,
		`export default () => ({ "\ud800": 1 });`:                        0,
		`export default (e) => ({ a: { ...e }, b: { c: { [1]: 1 } } });`: 1,
		// Values are asked as ever, and errors name the field.
		`export default () => ({ a: { toJSON: (key) => key }, b: new Date(0), c: [{ toJSON: (key) => key }] });`: 1,
		`export default () => ({ a: 1, b: { c: NaN } });`:                                                        1,
		`export default () => ({ a: { b: [{ c: 1n }] } });`:                                                      1,
		`export default () => { const o = { p: {} }; o.p.q = o; return { a: { b: o } }; };`:                      1,
		`export default () => { let o = 1; for (let i = 0; i < 998; i++) o = [o]; return { a: { b: o } }; };`:    1,
		`export default () => { let o = 1; for (let i = 0; i < 999; i++) o = [o]; return { a: { b: o } }; };`:    1,
		`export default () => ({ a: "x".repeat(1 << 20) });`:                                                     1,
		`export default (e) => ({ a: { b: e.none.c } });`:                                                        1,
		`export default () => ({ a: Promise.resolve(1) });`:                                                      1,
		`export default (e, ctx) => { ctx.skip("x"); return { a: 1 }; };`:                                        1,
		`export default (e, ctx) => { ctx.message({ a: 1 }); return { a: 1 }; };`:                                1,
		`export default (e, ctx) => ({ a: ctx.message({ a: 1 }) });`:                                             1,
		`let n = 0; export default () => ({ n: ++n });`:                                                          1,
	} {
		source, problems := bundleText("x.js", []byte(script))
		if len(problems) > 0 {
			t.Fatal(script, problems)
		}
		with, problems := compile("x.js", source, 1)
		if len(problems) > 0 {
			t.Fatal(script, problems)
		}
		if len(with.literals) != want {
			t.Errorf("%s: %d literals, want %d", script, len(with.literals), want)
		}
		without, tree, problems := parse("x.js", source)
		if len(problems) > 0 {
			t.Fatal(script, problems)
		}
		var err error
		if without.code, err = goja.CompileAST(tree, false); err != nil {
			t.Fatal(err)
		}
		got, expected := inTurn(t, with, "435", "436"), inTurn(t, without, "435", "436")
		for i := range got {
			if !proto.Equal(got[i], expected[i]) {
				t.Errorf("%s:\n%v\nwith its literals made:\n%v", script, short(got[i]), short(expected[i]))
			}
		}
	}
}

// inTurn runs a program on events, one after the other in one new sandbox.
func inTurn(t *testing.T, p *program, ids ...string) (out []*pb.RunResponse) {
	t.Helper()
	p.idle = make(chan *sandbox, 1)
	local := &Local{server: newServer(), program: p, timeout: 10 * time.Second}
	defer local.Close()
	for _, id := range ids {
		out = append(out, local.Run(&pb.RunRequest{
			Body: []byte(strings.Replace(benchBody, "435", id, 1)), Kind: "update", DeliveryId: "0190b4f4-0000-7000-8000-000000000001",
		}))
	}
	return out
}

func short(out *pb.RunResponse) string { return clip(out.String(), 500) }
