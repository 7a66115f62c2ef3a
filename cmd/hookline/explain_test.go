package main

import (
	"bytes"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/net/html"

	"github.com/hookline/hookline/core"
	"github.com/hookline/hookline/core/admin"
)

var update = flag.Bool("update", false, "write the golden files anew")

// hostile is what a record, a target or an operator may hold.
const hostile = `</script></pre></style><img src=x onerror=alert(1)>"'&{{.}}`

// newExplained runs a daemon with a transform, a target that can be made to fail,
// a route that does not match, and secrets in its configuration.
func newExplained(t *testing.T) *site {
	t.Helper()
	s := newSite(t, "")
	ehr := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/html")
		w.WriteHeader(int(s.status.Load()))
		_, _ = io.WriteString(w, "<b>"+hostile)
	}))
	t.Cleanup(ehr.Close)
	lab := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	t.Cleanup(lab.Close)
	for name, text := range map[string]string{
		"ehr.js": `import { unwanted } from "./unwanted"; import note from "note"; ` +
			`export default function (event, ctx) { if (event.note === unwanted) return ctx.reject("not wanted"); return { patient: event.trans_id, note: note(event) } } // ` + hostile + "\n",
		"unwanted.ts":                "export const unwanted: string = \"no\"; // " + hostile + "\n",
		"node_modules/note/index.js": "module.exports = (event) => event.never ? setTimeout(event) : event.note;\n",
	} {
		file := filepath.Join(filepath.Dir(s.file), name)
		if err := os.MkdirAll(filepath.Dir(file), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	s.write(fmt.Sprintf(`# %[1]s
server.listen = ["tcp://127.0.0.1:0"]
[hooks.demo]
anonymous = true
study = "ABC-123"
stage = "uat"
[transports.ehr]
plugin = "http"
label = "Hospital <EHR>"
settings = { url = %[2]q, headers = { X-Key = "literal-s3cret" } }
[transports.lab]
plugin = "http"
settings = { url = %[3]q }
[routes.ehr]
hooks = ["demo"]
forms = ["Lab*"]
transport = "ehr"
transform = "ehr.js"
retry = { initial = "1h", max = "1h" }
[routes.lab]
hooks = ["demo"]
transport = "lab"
[routes.reviews]
hooks = ["demo"]
events = ["review"]
transport = "lab"
`, hostile, ehr.URL, lab.URL))
	return s
}

var (
	aSHA     = regexp.MustCompile(`\b[0-9a-f]{64}\b`)
	aTrace   = regexp.MustCompile(`\b00-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}\b`)
	aStamp   = regexp.MustCompile(`\d{4}-\d\d-\d\d \d\d:\d\d:\d\d(\.\d{3})?`)
	aPort    = regexp.MustCompile(`127\.0\.0\.1:\d+`)
	aPolicy  = regexp.MustCompile(`sha256-[A-Za-z0-9+/=&#;]+`)
	aVersion = regexp.MustCompile(`by version [^<]*`)
	aTook    = regexp.MustCompile(`\b\d+ ?ms\b`)
	aView    = regexp.MustCompile(`(?m)^.*was shown the (body|explanation|detail).*\n`)
	aUser    = regexp.MustCompile(`(?m)\b[a-z_][a-z0-9_-]*( did retry)`)
)

// aSpace follows the width of a time.
var aSpace = regexp.MustCompile(`SPAN +`)

// aTimeline are lines whose order two routes at once do not keep.
var aTimeline = regexp.MustCompile(`(?m)^(  TIME  .*\n|<tr><td class="time">TIME</td><td class="what">.*\n)+`)

// steady is what an explanation comes to whenever it is made.
func steady(s, actor string) string {
	s = aView.ReplaceAllString(s, "")
	s = strings.ReplaceAll(aUser.ReplaceAllString(s, "USER$1"), "<td>"+actor+"</td>", "<td>USER</td>")
	s = strings.ReplaceAll(s, "  "+actor+"  ", "  USER  ")
	s = aTrace.ReplaceAllString(aSHA.ReplaceAllString(s, "SHA"), "TRACE")
	s = aStamp.ReplaceAllString(aPort.ReplaceAllString(s, "ADDRESS"), "TIME")
	s = aPolicy.ReplaceAllString(aVersion.ReplaceAllString(s, "by version V"), "HASH")
	host, _ := os.Hostname()
	s = strings.ReplaceAll(s, "on node "+host+" ", "on node HOST ")
	if _, style, ok := strings.Cut(s, "<style>"); ok {
		style, _, _ = strings.Cut(style, "</style>")
		s = strings.Replace(s, style, "STYLE", 1)
	}
	s = aSpace.ReplaceAllString(stable(aTook.ReplaceAllString(s, "SPAN ")), "SPAN ")
	return aTimeline.ReplaceAllStringFunc(s, func(rows string) string {
		lines := slices.Sorted(strings.Lines(rows))
		return strings.Join(lines, "")
	})
}

func goldenFile(t *testing.T, name, got string) {
	t.Helper()
	path := filepath.Join("testdata", name)
	if *update {
		if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if got != string(want) {
		t.Errorf("%s differs (go test -update writes it anew):\n%s", path, got)
	}
}

func TestExplain(t *testing.T) {
	s := newExplained(t)
	s.start()
	body := fmt.Sprintf(`{"trans_id":435,"form_id":319,"form_name":"Labs","OnUpdate":true,"note":%q}`, "Jane Doe"+hostile)
	a := s.send(body)
	s.answered(a.Ref)
	s.await(a.Ref, "ehr", core.StateWaiting)
	s.await(a.Ref, "lab", core.StateDelivered)
	rejected := s.send(`{"trans_id":500,"form_id":319,"form_name":"Labs","OnUpdate":true,"note":"no"}`)
	s.answered(rejected.Ref)
	s.await(rejected.Ref, "ehr", core.StateRejected)
	detail, err := s.client().Event(t.Context(), a.Ref)
	if err != nil {
		t.Fatal(err)
	}
	s.status.Store(http.StatusOK)
	s.good("deliveries", "retry", detail.Deliveries[0].ID, "--reason", hostile)
	s.await(a.Ref, "ehr", core.StateDelivered)
	s.until("the act is on record", func() bool {
		detail, err = s.client().Event(t.Context(), a.Ref)
		return err == nil && len(detail.Deliveries[0].Acts) == 1
	})
	actor := detail.Deliveries[0].Acts[0].Actor

	text := s.good("explain", "--ref", strings.ToLower(a.Ref))
	goldenFile(t, "explain.txt", steady(text, actor))
	s.daemon.await(`"msg":"the explanation of an event was read.*"event_id":"` + a.EventID)
	spoken := strings.NewReplacer("0", "o", "1", "l").Replace(a.Ref)
	for _, args := range [][]string{{"--ref", spoken}, {"--event", a.EventID}, {"--event", strings.ToUpper(a.EventID)}, {"--hook", "demo", "--record", "435", "--form", "319", "--since", "1h"}} {
		if got := s.good(append([]string{"explain"}, args...)...); steady(got, actor) != steady(text, actor) {
			t.Errorf("%q tells something else:\n%s", args, got)
		}
	}

	page := filepath.Join(t.TempDir(), "435.html")
	if out := s.good("explain", "--ref", a.Ref, "--html", page); out != "1 event explained in "+page+"\n" {
		t.Error(out)
	}
	doc, err := os.ReadFile(page)
	if err != nil {
		t.Fatal(err)
	}
	if copied := os.Getenv("HOOKLINE_TEST_PAGE"); copied != "" { // to look at it in a browser
		_ = os.WriteFile(copied, doc, 0o600)
	}
	goldenFile(t, "explain.html", steady(string(doc), actor))
	inert(t, string(doc))
	if info, err := os.Stat(page); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("%v %v", info.Mode(), err)
	}

	var x explained
	asJSON := s.good("explain", "--ref", a.Ref, "--json")
	if err := json.Unmarshal([]byte(asJSON), &x); err != nil {
		t.Fatal(err)
	}
	e := x.Events[0]
	if string(e.Body.Bytes()) != body || len(e.Deliveries) != 2 || len(e.Routes) != 3 || len(e.Deliveries[0].Sent) != 1 ||
		len(e.Deliveries[0].Replies) == 0 || e.Deliveries[0].ScriptPath != "ehr.js" || !e.Deliveries[1].SentAsItCame || len(e.Notes) != 0 {
		t.Errorf("%s", asJSON)
	}
	if !slices.IsSortedFunc(e.Timeline, func(a, b admin.Moment) int { return a.At.Compare(b.At.Time) }) {
		t.Errorf("the timeline is not in order: %+v", e.Timeline)
	}
	for _, out := range []string{text, string(doc), asJSON} {
		if strings.Contains(out, "literal-s3cret") {
			t.Error("a secret of the configuration is told")
		}
	}

	if out := s.good("check"); strings.Count(out, "warning: ") != 1 || !strings.Contains(out, "warning: routes.ehr.transform: node_modules/note/index.js:1:43: setTimeout does not exist here") {
		t.Errorf("check: %s", out)
	}

	// A year later: another configuration is in force, and the script is gone.
	s.write(`
server.listen = ["tcp://127.0.0.1:0"]
[hooks.demo]
anonymous = true
[transports.other]
plugin = "http"
label = "Another"
settings = { url = "http://127.0.0.1:1" }
[routes.lab]
hooks = ["demo"]
events = ["insert"]
transport = "other"
`)
	s.good("reload")
	if err := os.Remove(filepath.Join(filepath.Dir(s.file), "ehr.js")); err != nil {
		t.Fatal(err)
	}
	later := explained{}
	if err := json.Unmarshal([]byte(s.good("explain", "--ref", a.Ref, "--json")), &later); err != nil {
		t.Fatal(err)
	}
	l := later.Events[0]
	if l.Headline != e.Headline || !reflect.DeepEqual(l.Routes, e.Routes) || !reflect.DeepEqual(l.Scripts, e.Scripts) || len(l.Notes) != 0 ||
		l.Configurations[0].ReplacedAt.IsZero() || l.Configurations[0].Running || l.Configurations[0].Text != e.Configurations[0].Text {
		t.Errorf("later it is told otherwise: %+v\n%+v", l, e)
	}

	// Several events, the newest last; a refused body; and too many.
	second := s.send(`{"trans_id":435,"form_id":7,"OnReview":true}`)
	s.answered(second.Ref)
	text = s.good("explain", "--hook", "demo", "--record", "435")
	first, last := strings.Index(text, a.Ref), strings.Index(text, second.Ref)
	if first < 0 || last < first || !strings.Contains(text, "no route took it") || !strings.Contains(text, "it takes insert, and this is review") {
		t.Errorf("both: %s", text)
	}
	text = s.good("explain", "--hook", "demo", "--record", "435", "--limit", "1")
	if strings.Contains(text, a.Ref) || !strings.HasPrefix(text, "There are earlier events") {
		t.Errorf("cut: %s", text)
	}
	both := filepath.Join(t.TempDir(), "both.html")
	if out := s.good("explain", "--hook", "demo", "--record", "435", "--html", both); !strings.HasPrefix(out, "2 events explained") {
		t.Error(out)
	}
	bad := s.send("\x00\xff" + hostile)
	s.answered(bad.Ref)
	text = s.good("explain", "--ref", bad.Ref)
	if !strings.Contains(text, "refused as invalid_event") || !strings.Contains(text, "00000000  00 ff 3c 2f") || strings.Contains(text, "ROUTES") {
		t.Errorf("a refused one: %s", text)
	}

	script := l.Scripts[0].SHA256
	if x := l.Scripts[0]; x.Name != "ehr.js" || len(x.Files) != 2 || !strings.HasPrefix(x.Text, "import") || x.SHA256 != fmt.Sprintf("%x", sha256.Sum256([]byte(x.Bundle))) {
		t.Errorf("the script is %+v", x)
	}
	if n := strings.Count(asJSON, `"script_inferred"`); n != 0 {
		t.Errorf("%d scripts are inferred that made a message", n)
	}
	text = s.good("explain", "--ref", rejected.Ref)
	if !strings.Contains(text, "ehr.js, SHA-256 "+script+", by the configuration: which version ran is not on record") ||
		!strings.Contains(text, "refused by the script for Hospital <EHR>") || !strings.Contains(text, "sent: nothing was made to send") ||
		!strings.Contains(text, "\n  reason           not wanted\n") || !strings.Contains(text, "\nSCRIPT "+script+"\n") {
		t.Errorf("a rejected one: %s", text)
	}

	dir := t.TempDir()
	link := filepath.Join(dir, "link.html")
	if err := os.Symlink("/nowhere", link); err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		args []string
		code int
		want string
	}{
		{nil, 2, "name what to explain"},
		{[]string{"--ref", a.Ref, "--event", a.EventID}, 2, "exclude each other"},
		{[]string{"--ref", a.Ref, "--hook", "demo"}, 2, "exclude each other"},
		{[]string{"--hook", "demo"}, 2, "--hook needs --record"},
		{[]string{"--record", "435"}, 2, "--record needs --hook"},
		{[]string{"--ref", a.Ref, "--since", "1h"}, 2, "go with --hook and --record"},
		{[]string{"--hook", "demo", "--record", "435", "--limit", "101"}, 2, "between 1 and 100"},
		{[]string{"--hook", "demo", "--record", "435", "--since", "yesterday"}, 2, "--since"},
		{[]string{"--ref", a.Ref, "--html", page, "--json"}, 2, "leave one out"},
		{[]string{"--ref", a.Ref, "--force"}, 2, "--html"},
		{[]string{"--ref", a.Ref, "--html", page}, 2, "is there already"},
		{[]string{"--ref", a.Ref, "--html", link}, 2, "is there already"},
		{[]string{"--ref", a.Ref, "--html", filepath.Join(dir, "no", "x.html")}, 3, "was not written"},
		{[]string{"--ref", "ZZZZZZZZ"}, 1, "event ZZZZZZZZ: not in the journal"},
		{[]string{"--ref", "Jane Doe"}, 2, `"Jane Doe" is no event`},
		{[]string{"--hook", "demo", "--record", "436"}, 1, "no such events of record 436"},
		{[]string{"--ref", a.Ref, "--admin", "/no/such/socket"}, 3, "no daemon answers"},
	} {
		code, out, errs := s.run(append([]string{"explain"}, tt.args...)...)
		if code != tt.code || !strings.Contains(errs, tt.want) || out != "" {
			t.Errorf("%q: exit %d, want %d and %q\n%s%s", tt.args, code, tt.code, tt.want, out, errs)
		}
	}
	s.good("explain", "--ref", bad.Ref, "--html", page, "--force")
	if now, err := os.ReadFile(page); err != nil || bytes.Equal(now, doc) || !bytes.HasSuffix(now, []byte("</html>\n")) {
		t.Errorf("--force: %v", err)
	}
	if left, _ := os.ReadDir(dir); len(left) != 1 {
		t.Errorf("left behind: %v", left)
	}
	if code := s.daemon.stop(); code != 0 {
		t.Errorf("serve: exit %d", code)
	}
	if strings.Contains(s.daemon.all.String(), "Jane Doe") {
		t.Error("the log holds contents")
	}
}

func TestExplainWithoutAJournal(t *testing.T) {
	s := newSite(t, "journal.url = \"none\"\n")
	s.start()
	for _, args := range [][]string{{"--ref", "ZZZZZZZZ"}, {"--hook", "demo", "--record", "1"}} {
		if code, out, errs := s.run(append([]string{"explain"}, args...)...); code != 1 || out != "" || !strings.Contains(errs, "journal.url is none") {
			t.Errorf("%q: exit %d\n%s%s", args, code, out, errs)
		}
	}
}

// inert fails the test if the page can do anything but be read.
func inert(t *testing.T, page string) {
	t.Helper()
	_, style, _ := strings.Cut(page, "<style>")
	style, _, _ = strings.Cut(style, "</style>")
	sum := sha256.Sum256([]byte(style))
	policy := "default-src 'none'; style-src 'sha256-" + base64.StdEncoding.EncodeToString(sum[:]) + "'; base-uri 'none'; form-action 'none'"
	allowed := " html head meta title style body header strong span h1 h2 h3 p ul ol li nav a section dl dt dd div table thead tbody tr th td pre details summary footer "
	found := false
	for z := html.NewTokenizer(strings.NewReader(page)); ; {
		switch z.Next() {
		case html.ErrorToken:
			if !errors.Is(z.Err(), io.EOF) {
				t.Error(z.Err())
			}
			if !found {
				t.Errorf("no policy %s", policy)
			}
			return
		case html.StartTagToken, html.SelfClosingTagToken:
			tag := z.Token()
			if !strings.Contains(allowed, " "+tag.Data+" ") {
				t.Errorf("the page has %s", tag)
			}
			for _, a := range tag.Attr {
				switch {
				case strings.HasPrefix(a.Key, "on"), a.Key == "src", a.Key == "style", a.Key == "href" && !strings.HasPrefix(a.Val, "#"):
					t.Errorf("the page has %s", tag)
				case a.Key == "content" && a.Val == policy:
					found = true
				}
			}
		case html.CommentToken:
			t.Errorf("the page has a comment: %s", z.Token())
		}
	}
}

// The record that was read stands with the delivery, with the time of its reading.
func TestExplainRead(t *testing.T) {
	at := admin.Time{Time: time.Date(2026, 3, 2, 9, 30, 0, 0, time.UTC)}
	e := &admin.Explanation{Deliveries: []admin.ExplainedDelivery{
		{Read: &admin.Read{At: at, Content: admin.Content{Size: 13, Text: `{"site":"042"}`}}},
		{ReadPruned: true},
	}}
	page, err := explainHTML(&explained{Events: []*admin.Explanation{e}}, at.Time, "v1")
	if err != nil {
		t.Fatal(err)
	}
	var text bytes.Buffer
	if err := explainText(&text, &explained{Events: []*admin.Explanation{e}}); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"the record as TrialKit gave it at " + at.String() + ", 13 bytes", "042", "the record of this event was deleted, as its age called for"} {
		if !strings.Contains(text.String(), want) || !strings.Contains(string(page), want) {
			t.Errorf("%q is missing:\n%s\n%s", want, text.String(), page)
		}
	}
}

// What the script has logged stands line by line, and cannot play with the terminal.
func TestExplainLogged(t *testing.T) {
	e := &admin.Explanation{Deliveries: []admin.ExplainedDelivery{{}}}
	e.Deliveries[0].Logs = []string{"visit 3 <b>", "at a\n\x1b[2Jat b"}
	page, err := explainHTML(&explained{Events: []*admin.Explanation{e}}, time.Now(), "v1")
	if err != nil {
		t.Fatal(err)
	}
	var text bytes.Buffer
	if err := explainText(&text, &explained{Events: []*admin.Explanation{e}}); err != nil {
		t.Fatal(err)
	}
	want := "  logged by the script:\n    | visit 3 <b>\n    | at a\n    | \\x1b[2Jat b\n"
	if !strings.Contains(text.String(), want) {
		t.Errorf("the text is without\n%s:\n%s", want, text.String())
	}
	want = "<h3>Logged by the script</h3>\n<pre>visit 3 &lt;b&gt;\nat a\n\\x1b[2Jat b</pre>"
	if !strings.Contains(string(page), want) {
		t.Errorf("the page is without\n%s:\n%s", want, page)
	}
	text.Reset()
	printDelivery(&text, &e.Deliveries[0].DeliveryDetail, time.Now())
	if want = "  logged    visit 3 <b>\n  logged    at a\\n\\x1b[2Jat b\n"; !strings.Contains(text.String(), want) {
		t.Errorf("events show is without\n%s:\n%s", want, text.String())
	}
}

// Whatever field holds it, it is text.
func TestExplainHostile(t *testing.T) {
	var e admin.Explanation
	fill(reflect.ValueOf(&e).Elem(), hostile+"\x1b[2J\u202e")
	for _, c := range []struct {
		name string
		edit func(*admin.Explanation)
	}{
		{"text", func(e *admin.Explanation) { e.Body.Base64, e.Deliveries[0].Sent[0].Payload.Base64 = nil, nil }},
		{"bytes", func(*admin.Explanation) {}},
		{"json", func(e *admin.Explanation) {
			text, _ := json.Marshal(map[string]string{hostile: hostile})
			e.Body.Base64, e.Body.Pruned = text, false
		}},
		{"an event", func(e *admin.Explanation) { e.Refused = nil }},
		{"pruned", func(e *admin.Explanation) {
			e.Body = admin.Content{Pruned: true}
			e.Deliveries[0].Sent, e.Deliveries[0].SentPruned = nil, true
			e.Deliveries[1].Sent, e.Deliveries[1].SentAsItCame = nil, true
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			c.edit(&e)
			x := &explained{Events: []*admin.Explanation{&e, &e}, More: true}
			page, err := explainHTML(x, time.Now(), hostile)
			if err != nil {
				t.Fatal(err)
			}
			inert(t, string(page))
			var text bytes.Buffer
			if err := explainText(&text, x); err != nil {
				t.Fatal(err)
			}
			for _, out := range []string{string(page), text.String()} {
				if strings.ContainsFunc(strings.NewReplacer("\n", "", "\t", "").Replace(out), hidden) {
					t.Error("it holds a hidden character")
				}
			}
			if c.name == "pruned" && (strings.Count(text.String(), "deleted, as its age called for") != 4 || strings.Count(string(page), "deleted, as its age called for") != 4) {
				t.Errorf("it does not say what was pruned:\n%s", text.String())
			}
		})
	}
}

// fill puts s into all that v holds, and one element into what is empty.
func fill(v reflect.Value, s string) {
	switch v.Kind() {
	case reflect.String:
		v.SetString(s)
	case reflect.Int, reflect.Int64:
		v.SetInt(7)
	case reflect.Pointer:
		v.Set(reflect.New(v.Type().Elem()))
		fill(v.Elem(), s)
	case reflect.Slice:
		if v.Type().Elem().Kind() == reflect.Uint8 {
			v.SetBytes([]byte(s))
			return
		}
		v.Set(reflect.MakeSlice(v.Type(), 2, 2))
		for i := range 2 {
			fill(v.Index(i), s)
		}
	case reflect.Map:
		key, value := reflect.New(v.Type().Key()).Elem(), reflect.New(v.Type().Elem()).Elem()
		fill(key, s)
		fill(value, s)
		v.Set(reflect.MakeMap(v.Type()))
		v.SetMapIndex(key, value)
	case reflect.Struct:
		if v.Type() == reflect.TypeFor[admin.Time]() {
			v.Set(reflect.ValueOf(admin.Time{Time: time.Unix(1_700_000_000, 0)}))
			return
		}
		for i := range v.NumField() {
			fill(v.Field(i), s)
		}
	}
	if v.Kind() == reflect.String && v.Type() == reflect.TypeFor[core.State]() {
		v.SetString(string(core.StateDead) + s)
	}
}

func TestDisplay(t *testing.T) {
	content := func(s string) admin.Content { return admin.Content{Base64: []byte(s), Size: len(s)} }
	for _, tt := range []struct {
		in    string
		limit int
		want  shown
	}{
		{"", 10, shown{Note: "empty"}},
		{"a\tb\r\n\u202e\n", 100, shown{Raw: "a\tb\\r\n\\u202e\n"}},
		{`{"a":1.10,"a":"\u0041"}`, 100, shown{Raw: `{"a":1.10,"a":"\u0041"}`, Pretty: "{\n  \"a\": 1.10,\n  \"a\": \"\\u0041\"\n}"}},
		{"{\n  \"a\": 1\n}\n", 100, shown{Raw: "{\n  \"a\": 1\n}\n"}},
		{"grün und grün", 3, shown{Raw: "gr", Cut: "the first 2 of 15 bytes; --json has all of them"}},
		{"\x00AB", 100, shown{Raw: "00000000  00 41 42                                          |.AB|\n", Hex: true}},
		{strings.Repeat("\xff", 40), 80, shown{
			Raw: "00000000  ff ff ff ff ff ff ff ff  ff ff ff ff ff ff ff ff  |................|\n", Hex: true,
			Cut: "the first 16 of 40 bytes; --json has all of them",
		}},
	} {
		if got := display(content(tt.in), tt.limit); got != tt.want {
			t.Errorf("%q:\n%+v\nwant\n%+v", tt.in, got, tt.want)
		}
	}
	big := `{"a":"` + strings.Repeat("<x>", 1<<20) + `"}`
	x := &explained{Events: []*admin.Explanation{{Body: content(big)}}}
	page, err := explainHTML(x, time.Now(), "1")
	if err != nil || len(page) > 2<<20 {
		t.Errorf("a body of %d bytes makes a page of %d: %v", len(big), len(page), err)
	}
}
