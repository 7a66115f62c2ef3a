package transforms_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/hookline/hookline/core"
	"github.com/hookline/hookline/transforms"
)

// given is what the scripts of the tests have.
func given(t testing.TB) (*transforms.Tables, map[string]string) {
	t.Helper()
	tables, err := transforms.NewTables(map[string][]byte{
		"sites.csv":  []byte("\xef\xbb\xbfsite,name,country\r\n101,\"Charité, Berlin\",DE\r\n102,Lyon,FR\n103,\"Quote \"\"it\"\"\",FR\n"),
		"codes.json": []byte(`{"male":"M","big":9007199254740993,"n":1.5,"list":[{"a":1},null,true],"__proto__":{"x":1}}`),
		"list.json":  []byte(`[1,"two"]`),
		"empty.csv":  []byte("a,b\n"),
	})
	if err != nil {
		t.Fatal(err)
	}
	return tables, map[string]string{"token": "s3cret-t0ken", "other": "0ther"}
}

// result runs a script that is the body of a transform, and says what came of it.
func result(t testing.TB, e *transforms.Engine, body string) string {
	t.Helper()
	s := write(t, "export default async (event, ctx) => {\n"+body+"\n};", 5*time.Second)
	s.Tables, s.Secrets = given(t)
	tr, err := e.Compile(t.Context(), s)
	if err != nil {
		t.Fatal(err)
	}
	defer tr.Close()
	outcome := func() string {
		shaped, err := tr.Transform(t.Context(), event(update), route, delivery, nil)
		var script *core.ScriptError
		switch {
		case errors.As(err, &script):
			return fmt.Sprintf("%s: %s", strings.TrimPrefix(script.Position, "transforms/case.js:"), script.Text)
		case err != nil:
			t.Fatal(err)
		case shaped.Skip != nil:
			return "skip " + *shaped.Skip
		}
		var b strings.Builder
		for i, m := range shaped.Messages {
			if i > 0 {
				b.WriteString(" | ")
			}
			b.Write(m.Payload)
			if m.ContentType != "" && !strings.HasPrefix(m.ContentType, "text/plain") {
				fmt.Fprintf(&b, " type=%s", m.ContentType)
			}
			if len(m.Headers) > 0 {
				fmt.Fprintf(&b, " headers=%v", m.Headers)
			}
			if m.Key+m.Path != "" {
				fmt.Fprintf(&b, " key=%s path=%s", m.Key, m.Path)
			}
		}
		return b.String()
	}
	first := outcome()
	if again := outcome(); again != first {
		t.Errorf("the second run gave %s, the first %s", again, first)
	}
	return first
}

// TestContext is a table of what ctx promises: a body, and what must come of it.
func TestContext(t *testing.T) {
	e := start(t, nil)
	for _, c := range []struct{ name, body, want string }{
		// Values known from elsewhere: FIPS 180-4, RFC 4231 test case 2, RFC 4648.
		{"sha256", `return ctx.crypto.sha256("abc")`, "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"},
		{"sha256 of bytes", `return ctx.crypto.sha256(new Uint8Array([0, 97, 98, 99]).subarray(1))`, "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"},
		{"sha256 of UTF-8", `return ctx.crypto.sha256("é") === ctx.crypto.sha256(new Uint8Array([0xc3, 0xa9]))`, "true"},
		{"sha256 base64", `return ctx.crypto.sha256("", "base64")`, "47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU="},
		{"sha256 base64url", `return ctx.crypto.sha256("", "base64url")`, "47DEQpj8HBSa-_TImW-5JCeuQeRkm5NMpJWZG3hSuFU"},
		{"hmac", `return ctx.crypto.hmac("Jefe", "what do ya want for nothing?")`, "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843"},
		{"hmac without key", `return ctx.crypto.hmac("", "x")`, "2:19: TypeError: ctx.crypto.hmac: the key is empty, so anybody could make this code"},
		{"sha256 of a number", `return ctx.crypto.sha256(1)`, "2:19: TypeError: ctx.crypto.sha256: the data must be a string or a Uint8Array, but is a number"},
		{"sha256 of a promise", `return ctx.crypto.sha256(Promise.resolve("x"))`, "2:19: TypeError: ctx.crypto.sha256: the data must be a string or a Uint8Array, but is a promise: write await before it"},
		{"an encoding", `return ctx.crypto.sha256("", "HEX")`, `2:19: TypeError: ctx.crypto.sha256: the encoding must be "hex", "base64" or "base64url"`},
		{"uuid", `const a = ctx.crypto.uuid(), b = ctx.crypto.uuid(); return a !== b && [a, b].every((u) => /^[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$/.test(u)) && new Set(a).size > 4`, "true"},
		{"uuid is the delivery's", `return ctx.crypto.uuid()`, "7746cca6-a084-48f5-bafc-adc43042e4be"},
		{"base64", `return ctx.base64.encode("fooé") + " " + ctx.base64.encodeUrl(new Uint8Array([251, 255])) + " " + ctx.base64.decode("Zm9v w6k".replace(" ", ""))`, "Zm9vw6k= -_8 fooé"},
		{"base64 of bytes", `const b = ctx.base64.decodeBytes("-_8"); return [b instanceof Uint8Array, ...b, ...ctx.base64.decodeBytes("+/8=")]`, "[true,251,255,251,255]"},
		{"base64 of no text", `return ctx.base64.decode("-_8")`, "2:19: TypeError: ctx.base64.decode: the bytes are no text in UTF-8: use ctx.base64.decodeBytes"},
		{"bad base64", `return ["a", "+_==", "Zg=", "Z===", "Zh==", "Zg==\n", "Z g="].map((s) => { try { return ctx.base64.decode(s); } catch (e) { return e.constructor === TypeError; } })`, "[true,true,true,true,true,true,true]"},

		{"secret", `return ctx.secret("token")`, "s3cret-t0ken"},
		{"no secret", `return ctx.secret("password")`, `2:12: TypeError: ctx.secret: there is no secret "password"; routes.ehr.secrets grants other, token`},
		{"a secret is not shown", `ctx.log(ctx.secret("token")); throw new Error("with " + ctx.secret("token") + encodeURIComponent(ctx.base64.encode(ctx.secret("token"))))`, "2:37: Error: with [secret][secret]"},
		{"a secret is not cut in two", `throw new Error("x".repeat(8185) + ctx.secret("token"))`, "2:7: Error: " + strings.Repeat("x", 8185) + "…"},

		{"get", `const s = ctx.lookup("sites.csv"); return [s.get(101).name, s.get("102").country, s.get("x") === undefined, s.columns, s.rows.length, s.find("name", 'Quote "it"').site]`,
			`["Charité, Berlin","FR",true,["site","name","country"],3,"103"]`},
		{"filter", `const s = ctx.lookup("sites.csv"); return [s.filter("country", "FR").map((r) => r.site), s.filter("country", "US"), s.rows.filter((r) => r.country === "DE"), [...s.rows].length, Array.isArray(s.rows)]`,
			`[["102","103"],[],[{"site":"101","name":"Charité, Berlin","country":"DE"}],3,true]`},
		{"a row is itself", `const s = ctx.lookup("sites.csv"); return [s === ctx.lookup("sites.csv"), s.rows === s.rows, s.get(101) === s.rows[0], s.filter("country", "FR")[0] === s.get(102), s.get === s.get]`, "[true,true,true,true,true]"},
		{"a row as an object", `const r = ctx.lookup("sites.csv").get(102); return [Object.keys(r), { ...r, x: 1 }, "name" in r, "nme" in r, r.nme === undefined]`, `[["site","name","country"],{"site":"102","name":"Lyon","country":"FR","x":1},true,false,true]`},
		{"a table as a payload", `return ctx.lookup("sites.csv").rows.slice(1, 2)`, `[{"site":"102","name":"Lyon","country":"FR"}]`},
		{"json", `const c = ctx.lookup("codes.json"); return [c.male, c.big, c.n, c.list, Object.keys(c), c.list[0] === c.list[0], c.x === undefined, ctx.lookup("list.json").map((x) => x)]`,
			`["M","9007199254740993",1.5,[{"a":1},null,true],["male","big","n","list","__proto__"],true,true,[1,"two"]]`},
		{"json as a payload", `return ctx.lookup("list.json")`, `[1,"two"]`},
		{"nothing can be changed", `const s = ctx.lookup("sites.csv"), c = ctx.lookup("codes.json");
  return [() => { s.rows = 1; }, () => { s.get(101).name = "x"; }, () => s.rows.push(1), () => { s.rows.length = 0; }, () => delete c.male, () => { c.list[0].a = 2; }, () => c.list.sort(), () => { s.columns[0] = 1; },
    () => { s.get.x = 1; }, () => Object.defineProperty(c, "y", { value: 1, writable: true, enumerable: true, configurable: true }), () => Object.assign(c, { z: 1 })].map((f) => { try { f(); return "changed"; } catch (e) { return e.name; } }).join()`,
			strings.TrimSuffix(strings.Repeat("TypeError,", 11), ",")},
		{"no such file", `return ctx.lookup("site.csv")`, `2:12: TypeError: ctx.lookup: there is no file "site.csv"; transforms.lookups has codes.json, empty.csv, list.json, sites.csv`},
		{"no such column", `return ctx.lookup("sites.csv").find("Name", "x")`, `2:32: TypeError: find: there is no column "Name"; the file has country, name, site`},
		{"a cell of another kind", `return ctx.lookup("sites.csv").get({})`, `2:32: TypeError: get: the key must be a string or a number, but is an object`},

		{"a message", `return ctx.message({ a: 1 }, { headers: { "X-A": "1", "x-b": "é" }, key: "k", path: "/p/1", contentType: "application/fhir+json" })`, `{"a":1} type=application/fhir+json headers=map[X-A:1 x-b:é] key=k path=/p/1`},
		{"messages", `return [1, 2, 3].map((n) => ctx.message("m" + n, { path: "/" + n }))`, "m1 key= path=/1 | m2 key= path=/2 | m3 key= path=/3"},
		{"messages keep their first payload", `const o = { n: 1 }; const a = ctx.message(o); o.n = 2; return [a, ctx.message(o)]`, `{"n":1} | {"n":2}`},
		{"a promise of messages", `return Promise.all([1, 2].map(async (n) => ctx.message(n)))`, "1 | 2"},
		{"promises of messages", `return [1, 2].map(async (n) => ctx.message(n))`, ": item 0 of the array that the script returned is a promise: write `return await Promise.all([...])`"},
		{"undefined options", `return ctx.message("x", { headers: undefined, key: undefined })`, "x"},
		{"an array of values", `return [1, { a: 2 }]`, `[1,{"a":2}]`},
		{"an empty array", `return []`, `: the script returned an empty array: nothing is ever dropped in silence, return ctx.skip("why")`},
		{"a mixed array", `return [ctx.message(1), { a: 1 }]`, ": item 1 of the array that the script returned is an object and not a message: return messages of ctx.message, or values, but not both"},
		{"a hole", `return [ctx.message(1), , ctx.message(2)]`, ": item 1 of the array that the script returned is undefined and not a message: return messages of ctx.message, or values, but not both"},
		{"a message that is lost", `ctx.message(1);
  return 1`, "2:5: the result of ctx.message was not returned: write `return ctx.message(...)`, or return an array of all messages"},
		{"a message in a payload", `return { m: ctx.message(1) }`, "2:17: the result of ctx.message was not returned: write `return ctx.message(...)`, or return an array of all messages"},
		{"one of two", `const a = ctx.message(1), b = ctx.message(2); return [b]`, "2:15: the result of ctx.message was not returned: write `return ctx.message(...)`, or return an array of all messages"},
		{"skip after a message", `ctx.message(1); return ctx.skip("no")`, "skip no"},
		{"skip in an array", `return [ctx.skip("no")]`, "2:13: the result of ctx.skip was not returned: write `return ctx.skip(...)`"},
		{"a message of nothing", `return ctx.message()`, "2:12: TypeError: ctx.message: the payload is nothing"},
		{"a message of null", `return ctx.message(null)`, "2:12: TypeError: ctx.message: the payload is null"},
		{"a message of a promise", `return ctx.message(Promise.resolve(1))`, "2:12: TypeError: ctx.message: the payload is a promise: write await before it"},
		{"a message of a message", `return ctx.message(ctx.message(1))`, "2:12: TypeError: ctx.message: the payload is itself a message"},
		{"a payload that throws", `return ctx.message({ toJSON() { throw new Error("mine"); } })`, "2:39: Error: mine"},
		{"too many", `return Array.from({ length: 101 }, (_, i) => ctx.message(i))`, "2:50: TypeError: ctx.message: one event makes at most 100 messages"},
		{"too many of one", `return Array(101).fill(ctx.message(1))`, ": the script returned more than 100 messages: one event makes at most as many"},
		{"too large together", `return [1, 2].map(() => ctx.message("x".repeat(600000)))`, "2:29: TypeError: ctx.message: the payloads have 1200000 bytes together, the limit is 1048576"},
		{"an option that is none", `return ctx.message(1, { header: {} })`, `2:12: TypeError: ctx.message: there is no option "header"; the options are contentType, headers, key and path`},
		{"options that are none", `return ctx.message(1, "text/csv")`, `2:12: TypeError: ctx.message: the options must be an object, but are a string`},
		{"a content type that is none", `return ctx.message(1, { contentType: "json" })`, `2:12: TypeError: ctx.message: contentType must be a media type such as text/csv or application/fhir+json; charset=utf-8`},
		{"a key with a newline", `return ctx.message(1, { key: "a\nb" })`, `2:12: TypeError: ctx.message: key has a control character`},
		{"a long path", `return ctx.message(1, { path: "a".repeat(8193) })`, `2:12: TypeError: ctx.message: path has 8193 bytes, the limit is 8192`},
		{"a header's name", `return ctx.message(1, { headers: { "a b": "" } })`, `2:12: TypeError: ctx.message: "a b" is not the name of a header`},
		{"a header that splits", `return ctx.message(1, { headers: { a: "b\r\nc: d" } })`, `2:12: TypeError: ctx.message: the value of header a has a control character`},
		{"a header's space", `return ctx.message(1, { headers: { a: " b" } })`, `2:12: TypeError: ctx.message: the value of header a has a space at an end: trim() it`},
		{"a header of Hookline's", `return ctx.message(1, { headers: { "Webhook-Id": "1" } })`, `2:12: TypeError: ctx.message: header Webhook-Id is one that Hookline or HTTP itself sets: leave it out`},
		{"a header of HTTP's", `return ctx.message(1, { headers: { "Content-Length": "1" } })`, `2:12: TypeError: ctx.message: header Content-Length is one that Hookline or HTTP itself sets: leave it out`},
		{"the content type as a header", `return ctx.message(1, { headers: { "Content-Type": "a/b" } })`, `2:12: TypeError: ctx.message: write the option contentType for header Content-Type`},
		{"a header twice", `return ctx.message(1, { headers: { a: "1", A: "2" } })`, `2:12: TypeError: ctx.message: header A stands there twice: names do not differ by case`},
		{"a header that is a number", `return ctx.message(1, { headers: { a: 1 } })`, `2:12: TypeError: ctx.message: header "a" must be a string, but is a number`},

		{"frozen", `return [ctx.crypto, ctx.base64, ctx.date, ctx.trialkit, ctx.message, ctx.crypto.uuid].every(Object.isFrozen)`, "true"},
		{"names", `return [ctx.message.name, ctx.crypto.sha256.name, ctx.lookup("sites.csv").get.name]`, `["message","sha256","get"]`},
	} {
		t.Run(c.name, func(t *testing.T) {
			if got := result(t, e, c.body); got != c.want {
				t.Errorf("got  %.600s\nwant %.600s", got, c.want)
			}
		})
	}
}

// TestDates is about ctx.date; what is wrong is a TypeError without its function's
// name here.
func TestDates(t *testing.T) {
	e := start(t, nil)
	format := func(args string) string { return "return ctx.date.format(" + args + ")" }
	parse := func(args string) string { return "return ctx.date.parse(" + args + ").toISOString()" }
	for _, c := range []struct{ body, want string }{
		{format(`ctx.now`), "2026-03-01T12:30:15.250Z"},
		{format(`ctx.now.getTime(), undefined, "Europe/Berlin"`), "2026-03-01T13:30:15.250+01:00"},
		{format(`ctx.now, "yyyyMMddHHmmss"`), "20260301123015"},
		{format(`ctx.now, "yyyyMMddHHmmss.SSSxx", "Asia/Kolkata"`), "20260301180015.250+0530"},
		{format(`ctx.now, "d.M.yy h:mm a 'o''clock' EEE EEEE MMM MMMM D S ''"`), "1.3.26 12:30 PM o'clock Sun Sunday Mar March 60 2 '"},
		{format(`0, "X XX XXX x xx xxx"`), "Z Z Z +00 +0000 +00:00"},
		{format(`0, "X x XXX", "America/St_Johns"`), "-0330 -0330 -03:30"},
		{format(`0, "yyyy hh a", "America/New_York"`), "1969 07 PM"},
		{format(`0, "yyyy-MM-dd'T'HH:mm:ss.SSSSSS 年"`), "1970-01-01T00:00:00.000000 年"},
		{format(`new Date(NaN)`), "the date is not valid"},
		{format(`"2026-01-01"`), "the date must be a Date or a number of milliseconds, but is a string"},
		{format(`new Date("-000001-01-01T00:00:00Z")`), "the year is -1: it is between 0 and 9999"},
		{format(`0, "YYYY-MM-DD"`), "the pattern's YYYY is the year of weeks, which differs around New Year: write yyyy"},
		{format(`0, "yyyy-MM-DD"`), "the pattern's DD is the day of the year: write dd for the day of the month, DDD for that of the year"},
		{format(`0, "yyyy-MM-ddTHH"`), "the pattern's T is not known: the letters are y M d D E H h a m s S X x, other text stands in '...'"},
		{format(`0, "yyy"`), "the pattern's yyy is not known: use y, yy, yyyy"},
		{format(`0, "yyyy 'x"`), "the pattern has a quote without its second: text stands in '...', a quote itself is ''"},
		{format(`0, ""`), "the pattern is empty: leave it out for RFC 3339, or write one such as yyyy-MM-dd"},
		{format(`0, "y", "Berlin"`), `there is no zone "Berlin": write an IANA name such as Europe/Berlin, or UTC`},
		{format(`0, "y", "Local"`), `there is no zone "Local": write an IANA name such as Europe/Berlin, or UTC`},

		{parse(`"2026-03-01T12:30:15.2509+01:00"`), "2026-03-01T11:30:15.250Z"},
		{parse(`"2026-03-01t12:30:15z"`), "2026-03-01T12:30:15.000Z"},
		{parse(`"2026-03-01T12:30:15"`), "the text has no offset: give the zone that it is in, as the third argument"},
		{parse(`"2026-03-01T12:30:15.5", undefined, "Europe/Berlin"`), "2026-03-01T11:30:15.500Z"},
		{parse(`"2026-03-01"`), "\"T\" is missing where the pattern has it; without a pattern it must be RFC 3339, such as 2026-03-01T12:30:00+01:00"},
		{parse(`"2026-02-30T00:00:00Z"`), "February 2026 has no day 30; without a pattern it must be RFC 3339, such as 2026-03-01T12:30:00+01:00"},
		{parse(`"2026-03-01T12:30:60Z"`), "ss is 60: it is between 0 and 59; without a pattern it must be RFC 3339, such as 2026-03-01T12:30:00+01:00"},
		{parse(`"20260301123015", "yyyyMMddHHmmss", "Europe/Berlin"`), "2026-03-01T11:30:15.000Z"},
		{parse(`"01.03.2026", "dd.MM.yyyy"`), "2026-03-01T00:00:00.000Z"},
		{parse(`"1.3.2026", "d.M.y", "Pacific/Auckland"`), "2026-02-28T11:00:00.000Z"},
		{parse(`"1.3.2026", "dd.MM.yyyy"`), "dd needs 2 digits"},
		{parse(`"01-MAR-2026 9:05 pm", "dd-MMM-yyyy h:mm a"`), "2026-03-01T21:05:00.000Z"},
		{parse(`"12:00 AM 2026-060", "hh:mm a yyyy-DDD"`), "2026-03-01T00:00:00.000Z"},
		{parse(`"Sunday, March 1 2026", "EEEE, MMMM d y"`), "2026-03-01T00:00:00.000Z"},
		{parse(`"Mon 2026-03-01", "EEE yyyy-MM-dd"`), "2026-03-01 is a Sunday"},
		{parse(`"2026-03-01 +0130", "yyyy-MM-dd X", "Europe/Berlin"`), "2026-02-28T22:30:00.000Z"},
		{parse(`"2026-03-01x", "yyyy-MM-dd"`), "there is more text than the pattern has, from character 11"},
		{parse(`"2026/03/01", "yyyy-MM-dd"`), `"-" is missing where the pattern has it`},
		{parse(`"26-03-01", "yy-MM-dd"`), "a year of two digits does not say its century: make it four digits before, and write yyyy"},
		{parse(`"12:30", "HH:mm"`), "the pattern has no year: a date needs yyyy, MM and dd, or yyyy and DDD"},
		{parse(`"2026-03-01 5", "yyyy-MM-dd h"`), "the pattern's h needs an a (AM or PM): write HH for the hours of a day"},
		{parse(`"2026-13-01", "yyyy-MM-dd"`), "MM is 13: it is between 1 and 12"},
		{parse(`"2026-Mrz-01", "yyyy-MMM-dd"`), "MMM needs an English name, such as Jan"},
		{parse(`20260301, "yyyyMMdd"`), "the text must be a string, but is a number"},

		// The clocks: 02:00 to 03:00 is left out on the last Sunday of March, and comes
		// twice on that of October.
		{parse(`"2026-03-29 01:59", "yyyy-MM-dd HH:mm", "Europe/Berlin"`), "2026-03-29T00:59:00.000Z"},
		{parse(`"2026-03-29 02:30", "yyyy-MM-dd HH:mm", "Europe/Berlin"`), "there is no 02:30 on 2026-03-29 in Europe/Berlin: the clocks were put forward over it"},
		{parse(`"2026-03-29 03:00", "yyyy-MM-dd HH:mm", "Europe/Berlin"`), "2026-03-29T01:00:00.000Z"},
		{parse(`"2026-10-25 02:30", "yyyy-MM-dd HH:mm", "Europe/Berlin"`), "2026-10-25T00:30:00.000Z"},
		{parse(`"2026-10-25 02:30 +01:00", "yyyy-MM-dd HH:mm XXX", "Europe/Berlin"`), "2026-10-25T01:30:00.000Z"},
		{parse(`"2026-11-01 01:30", "yyyy-MM-dd HH:mm", "America/New_York"`), "2026-11-01T05:30:00.000Z"},
		{parse(`"2011-12-30 12:00", "yyyy-MM-dd HH:mm", "Pacific/Apia"`), "there is no 12:00 on 2011-12-30 in Pacific/Apia: the clocks were put forward over it"},
		{parse(`"2026-04-05 01:45", "yyyy-MM-dd HH:mm", "Australia/Lord_Howe"`), "2026-04-04T14:45:00.000Z"},
		{format(`ctx.date.parse("2026-10-25T01:30:00Z"), "HH:mm xxx", "Europe/Berlin"`), "02:30 +01:00"},
	} {
		t.Run(c.body, func(t *testing.T) {
			got := result(t, e, c.body)
			if at, text, ok := strings.Cut(got, ": TypeError: ctx.date."); ok {
				if at != "2:17" {
					t.Error("at", at)
				}
				_, got, _ = strings.Cut(text, ": ")
			}
			if got != c.want {
				t.Errorf("got  %s\nwant %s", got, c.want)
			}
		})
	}
}

// TestSecretsAreGrantedToARoute has two routes with the same script.
func TestSecretsAreGrantedToARoute(t *testing.T) {
	var log bytes.Buffer
	var out output
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	e, err := transforms.Start(t.Context(), transforms.Options{
		Command: []string{exe, "child"}, ShowOutput: out.show,
		Log: slog.New(slog.NewTextHandler(&log, &slog.HandlerOptions{Level: slog.LevelDebug})),
	})
	if err != nil {
		t.Fatal(err)
	}
	s := write(t, `export default (event, ctx) => {
  ctx.log("the token is " + ctx.secret("token"));
  if (event.reject) return ctx.reject(ctx.secret("token"));
  return ctx.secret("token");
};`, 5*time.Second)
	var both []*transforms.Transform
	for _, secret := range []string{"first-s3cret", "second-s3cret"} {
		s.Secrets = map[string]string{"token": secret}
		tr, err := e.Compile(t.Context(), s)
		if err != nil {
			t.Fatal(err)
		}
		both = append(both, tr)
	}
	s.Secrets = nil
	none, err := e.Compile(t.Context(), s)
	if err != nil {
		t.Fatal(err)
	}
	if both[0].Hash() != both[1].Hash() || both[0].Hash() != none.Hash() {
		t.Error("the hash is the script's, whatever it is given")
	}
	for range 4 { // any sandbox of the pool
		for i, want := range []string{"first-s3cret", "second-s3cret"} {
			if got := payload(t, both[i], update, delivery); got != want {
				t.Errorf("route %d got %s", i, got)
			}
		}
	}
	if _, err := none.Transform(t.Context(), event(update), route, delivery, nil); err == nil || !strings.Contains(err.Error(), "routes.ehr.secrets grants none") {
		t.Error(err)
	}
	shaped, err := both[0].Transform(t.Context(), event(`{"reject":1}`), route, delivery, nil)
	if err != nil || shaped.Reject == nil || *shaped.Reject != "[secret]" {
		t.Errorf("%+v %v", shaped, err)
	}
	// The scripts and what they are given come back with a new process.
	kill(t, e)
	if got := payload(t, both[1], update, delivery); got != "second-s3cret" {
		t.Error(got)
	}
	e.Stop()
	shown := strings.Join(out.of(delivery), "\n")
	if !strings.Contains(shown, "the token is [secret]") || strings.Contains(shown+log.String(), "s3cret") {
		t.Errorf("shown:\n%s\nlog:\n%s", shown, log.String())
	}
}

// kill ends the script process as a crash would.
func kill(t *testing.T, e *transforms.Engine) {
	t.Helper()
	p, err := os.FindProcess(e.Status().PID)
	if err != nil {
		t.Fatal(err)
	}
	if err := p.Kill(); err != nil {
		t.Fatal(err)
	}
}

// TestTablesOfTwoGenerations has a reload in the middle: each transform sees the
// tables that it was compiled with, and a file lives as long as one has it.
func TestTablesOfTwoGenerations(t *testing.T) {
	e := start(t, nil)
	s := write(t, `export default (event, ctx) => ctx.lookup("t.csv").get("k").v`, 5*time.Second)
	compile := func(v string) *transforms.Transform {
		tables, err := transforms.NewTables(map[string][]byte{"t.csv": []byte("k,v\nk," + v + "\n"), "same.csv": []byte("a\n")})
		if err != nil {
			t.Fatal(err)
		}
		s.Tables = tables
		tr, err := e.Compile(t.Context(), s)
		if err != nil {
			t.Fatal(err)
		}
		return tr
	}
	old, next := compile("old"), compile("new")
	check := func(tr *transforms.Transform, want string) {
		t.Helper()
		if got := payload(t, tr, update, delivery); got != want {
			t.Errorf("got %s, want %s", got, want)
		}
	}
	check(old, "old")
	check(next, "new")
	kill(t, e)
	check(old, "old")
	check(next, "new")
	old.Close()
	check(next, "new")
	again := compile("old")
	check(again, "old")
	check(next, "new")
}

// TestLookupLeavesNoState: what an event does to a table's objects is gone with it.
func TestLookupLeavesNoState(t *testing.T) {
	e := start(t, nil)
	s := write(t, `export default (event, ctx) => {
  const r = ctx.lookup("sites.csv").get(101);
  const seen = [r.leak, ctx.lookup("sites.csv").rows.leak];
  Object.setPrototypeOf(r, { leak: 1 });
  Object.setPrototypeOf(ctx.lookup("sites.csv").rows, { leak: 1 });
  return seen;
};`, 5*time.Second)
	s.Tables, _ = given(t)
	tr, err := e.Compile(t.Context(), s)
	if err != nil {
		t.Fatal(err)
	}
	for range 3 {
		if got := payload(t, tr, update, delivery); got != "[null,null]" {
			t.Error(got)
		}
	}
}

func TestTablesRefused(t *testing.T) {
	for _, c := range []struct{ name, content, want string }{
		{"a.csv", "", "a.csv: it is empty: the first line names the columns"},
		{"a.csv", "\xef\xbb\xbf", "a.csv: it is empty: the first line names the columns"},
		{"a.csv", "a,b,a\n", `a.csv:1: there are two columns "a"`},
		{"a.csv", "a,,c\n", "a.csv:1: column 2 has no name"},
		{"a.csv", "a;b\n1;2\n", "a.csv:1: the columns must be divided by commas: save it as comma separated (RFC 4180)"},
		{"a.csv", "a,b\n1,2\nJane\n", "a.csv:3: it has not as many fields as the first line has columns"},
		{"a.csv", "a,b\n1,Jane \"Doe\"\n", `a.csv:2: there is a " in a field that does not begin with one: put the field in "..." and write "" for it`},
		{"a.csv", "a,b\n1,\"Jane\n", `a.csv:2: a " is not closed, or something follows the closing one`},
		{"a.csv", "a,b\n1,J\xe4ne\n", "a.csv:2: it is not UTF-8: save it as such"},
		{"a.json", "", "a.json:1: it is not JSON: it ends too early"},
		{"a.json", "{\"a\":\n[1,\nJane]}", "a.json:3: it is not JSON"},
		{"a.json", "{}\n{}", "a.json:2: there is more than one JSON value"},
		{"a.json", "{\"a\":1,\n\"a\":2}", `a.json:2: the key "a" stands twice in one object`},
		{"a.json", strings.Repeat("[", 300), "a.json:1: it is nested deeper than 200 levels"},
		{"a.csv", "a\n" + strings.Repeat("x\n", 9<<20), "a.csv: with it the files have 18874370 bytes together, the limit is 16 MiB"},
	} {
		_, err := transforms.NewTables(map[string][]byte{c.name: []byte(c.content)})
		if err == nil || err.Error() != c.want {
			t.Errorf("%.40q: got %v, want %s", c.content, err, c.want)
		}
	}
}

// TestReadTables reads a folder with all sorts of things in it.
func TestReadTables(t *testing.T) {
	dir := t.TempDir()
	for name, content := range map[string]string{
		"sites.csv": "a\n", "codes.json": "1", "README.md": "x", ".hidden.csv": "", "old.csv~": "", "upper.CSV": "",
	} {
		if err := os.WriteFile(dir+"/"+name, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Mkdir(dir+"/sub.csv", 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(dir+"/sites.csv", dir+"/link.csv"); err != nil {
		t.Fatal(err)
	}
	tables, err := transforms.ReadTables(dir)
	if err != nil {
		t.Fatal(err)
	}
	if got := fmt.Sprint(tables.Digests()); len(tables.Files()) != 3 || !strings.HasPrefix(got, "map[codes.json:6b86b273ff34fce1") || !strings.Contains(got, "link.csv:") {
		t.Error(got)
	}
	if _, err := transforms.ReadTables(dir + "/nowhere"); err == nil || !strings.Contains(err.Error(), "there is no folder "+dir) {
		t.Error(err)
	}
}

// BenchmarkLookup has 100,000 rows: it must not matter.
func BenchmarkLookup(b *testing.B) {
	e := start(b, nil)
	for _, rows := range []int{100, 100_000} {
		var csv strings.Builder
		csv.WriteString("id,name,site\n")
		for i := range rows {
			fmt.Fprintf(&csv, "%d,Name %d,%d\n", i, i, i%50)
		}
		tables, err := transforms.NewTables(map[string][]byte{"t.csv": []byte(csv.String())})
		if err != nil {
			b.Fatal(err)
		}
		s := write(b, fmt.Sprintf(`export default (event, ctx) => ctx.lookup("t.csv").get(%d).name`, rows-1), 5*time.Second)
		s.Tables = tables
		tr, err := e.Compile(b.Context(), s)
		if err != nil {
			b.Fatal(err)
		}
		b.Run(fmt.Sprint(rows), func(b *testing.B) {
			for b.Loop() {
				if _, err := tr.Transform(context.Background(), event(update), route, delivery, nil); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// answers is TrialKit's API.
type answers map[string]string

func (a answers) Get(_ context.Context, hook, path string) ([]byte, error) {
	if answer, ok := a[hook+" "+path]; ok {
		return []byte(answer), nil
	}
	return nil, errors.New("TrialKit answered 404")
}

func TestTrialKitGet(t *testing.T) {
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	e, err := transforms.Start(t.Context(), transforms.Options{
		Command: []string{exe, "child"}, Log: slog.New(slog.DiscardHandler),
		TrialKit: answers{"demo form/7/435": `{"id":435,"big":9007199254740993}`, "demo broken": `nope`},
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(e.Stop)
	for _, c := range []struct{ name, body, want string }{
		{"a record", `return [ctx.trialkit.get("form/7/435") instanceof Promise, await ctx.trialkit.get("form/7/435")]`, `[true,{"id":435,"big":"9007199254740993"}]`},
		{"several", `const [a, b] = await Promise.all(["form/7/435", "form/7/435"].map(ctx.trialkit.get)); return a.id + b.id`, "870"},
		{"the event is another object", `const a = await ctx.trialkit.get("form/7/435"); a.id = 1; return (await ctx.trialkit.get("form/7/435")).id`, "435"},
		{"a failure is caught", `try { await ctx.trialkit.get("none"); } catch (e) { return [e instanceof Error, e.code, e.message]; }`, `[true,"failed","ctx.trialkit.get: TrialKit answered 404"]`},
		{"a failure is thrown", `return (await ctx.trialkit.get("none")).id`, "2:28: Error: ctx.trialkit.get: TrialKit answered 404"},
		{"a failure that is forgotten", `ctx.trialkit.get("none"); return 1`, "2:14: a promise was rejected and not awaited: Error: ctx.trialkit.get: TrialKit answered 404"},
		{"no path", `return await ctx.trialkit.get(7)`, "2:27: Error: ctx.trialkit.get: the path must be a string, but is a number"},
		{"no JSON", `return await ctx.trialkit.get("broken")`, "2:27: Error: ctx.trialkit.get: what TrialKit answered cannot be read: it is not JSON: a value must stand there, at byte 1"},
	} {
		t.Run(c.name, func(t *testing.T) {
			if got := result(t, e, c.body); got != c.want {
				t.Errorf("got  %.600s\nwant %.600s", got, c.want)
			}
		})
	}
	if got := result(t, start(t, nil), `return await ctx.trialkit.get("x").catch((e) => e.code)`); got != "unavailable" {
		t.Error(got)
	}
}
