package ingest

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"log/slog"
	"os"
	"strings"
	"testing"
	"time"

	"golang.org/x/crypto/bcrypt"

	"github.com/hookline/hookline/core"
	"github.com/hookline/hookline/plugins/transport"
)

// script is a target, and a script, that do what the event's trans_id says.
type script map[string]transport.Receipt

func (s script) Deliver(_ context.Context, m *transport.Message) transport.Receipt {
	var ev struct {
		TransID string `json:"trans_id"`
	}
	_ = json.Unmarshal(bytes.TrimPrefix(m.Payload, []byte("\xef\xbb\xbf")), &ev)
	r, ok := s[ev.TransID]
	if !ok {
		r = transport.Failed(transport.Unknown, transport.Code(ev.TransID), "")
	}
	return r
}

func (s script) Transform(_ context.Context, ev *core.Event, _ *core.Route, _ string, _ []byte) (core.Shaped, error) {
	why := "Visit 3 is missing"
	switch core.Code(ev.TransID) {
	case core.Skipped:
		return core.Shaped{Skip: &why}, nil
	case core.RejectedByTransform:
		return core.Shaped{Reject: &why}, nil
	case core.ScriptTimeout:
		return core.Shaped{}, &core.ScriptError{Code: core.ScriptTimeout, Position: "transforms/ehr.js:12:7", Text: "secret"}
	case core.Internal:
		panic("secret")
	}
	return core.Shaped{}, &core.ScriptError{Code: core.TransformFailed, Position: "transforms/ehr.js:12:7", Text: "secret"}
}

func quietLog() *slog.Logger { return slog.New(slog.NewTextHandler(io.Discard, nil)) }

func scripted() *Set {
	target := script{
		"delivered":   {Effect: transport.Done, Code: transport.Delivered, TargetStatus: 201},
		"page":        {Effect: transport.Done, Code: transport.Delivered, TargetStatus: 201, ContentType: "text/plain; charset=utf-8", Body: []byte("case 7 opened\n")},
		"empty":       {Effect: transport.Done, Code: transport.Delivered, TargetStatus: 204, Body: []byte("impossible")},
		"teapot":      {Effect: transport.None, Code: transport.RejectedByTarget, TargetStatus: 418, Body: []byte("<b>short and stout</b>")},
		"401":         {Effect: transport.None, Code: transport.UnauthorizedByTarget, TargetStatus: 401, Body: []byte("who?")},
		"301":         {Effect: transport.None, Code: transport.RedirectRefused, TargetStatus: 301},
		"1xx":         {Effect: transport.Unknown, Code: transport.BadResponse, TargetStatus: 101},
		"truncated":   {Effect: transport.Done, Code: transport.Delivered, TargetStatus: 200, Body: []byte("{"), Truncated: true},
		"unconfirmed": {Effect: transport.Unknown, Code: transport.BadResponse, TargetStatus: 200, Body: []byte("{}")},
		"silent":      transport.Failed(transport.Unknown, transport.Timeout, ""),
	}
	tr := &core.Transport{Name: "ehr", Label: "Hospital EHR", Sender: target}
	routes := []*core.Route{
		{Name: "ehr", Hooks: []string{"demo", "relay"}, Transport: tr, Timeout: 10 * time.Second},
		{Name: "shaped", Hooks: []string{"shaped"}, Transport: tr, Transformer: target, Timeout: 10 * time.Second},
	}
	hash, err := bcrypt.GenerateFromPassword([]byte(password), bcrypt.MinCost)
	if err != nil {
		panic(err)
	}
	strict, relay := hook("strict"), hook("relay")
	strict.UnmatchedError = true
	relay.Reply = "ehr"
	return &Set{
		Hooks: []Hook{
			hook("demo", "old password", password), hook("hashed", "$2y$"+string(hash[4:])), hook("shaped"),
			hook("unrouted"), strict, relay,
		},
		Dispatcher: &core.Dispatcher{Router: &core.Router{Routes: routes}, Log: quietLog()},
	}
}

// TestAnswers compares whole answers, to requests written by hand, with
// testdata/answers.txt, which has one of every code. -update writes it anew.
func TestAnswers(t *testing.T) {
	good := basic(email, password)
	event := func(transID string) string { return strings.Replace(insert, "436", transID, 1) }
	cases := []struct{ name, request string }{
		{"delivered", post("demo", good, event("delivered"))},
		{"delivered, PUT, slash, query, BOM, chunked, no content type",
			"PUT /hooks/demo/?study=1 HTTP/1.1\nHost: h\n" + good + "Transfer-Encoding: chunked\n\n3\r\n\xef\xbb\xbf\r\n50\r\n" + event("delivered")[:80] + "\r\n2\r\n" + event("delivered")[80:] + "\r\n0\r\n\r\n"},
		{"delivered, bcrypt", post("hashed", good, insert)},
		{"delivered, other charset spelling", "POST /hooks/demo HTTP/1.0\n" + good + "Content-Type: text/plain; charset=\"UTF-8\"\nContent-Length: 82\n\n" + event("delivered")},
		{"skipped", post("shaped", "", event("skipped"))},
		{"ignored", post("unrouted", "", insert)},
		{"unmatched", post("strict", "", insert)},
		{"invalid: not JSON", post("demo", good, "trans_id=436")},
		{"invalid: no body", "POST /hooks/demo HTTP/1.1\nHost: h\n" + good + "\n"},
		{"invalid: contradiction", post("demo", good, `{"trans_id":"436","form_id":"319","OnInsert":true,"OnUpdate":true}`)},
		{"invalid: chunks", "POST /hooks/demo HTTP/1.1\nHost: h\n" + good + "Transfer-Encoding: chunked\n\nzz\r\n{}\r\n0\r\n\r\n"},
		{"unauthorized: challenge", post("demo", "", insert)},
		{"unauthorized: wrong password", post("demo", basic(email, "nope"), insert)},
		{"unauthorized: unknown user", post("demo", basic("nobody", password), insert)},
		{"unauthorized: wrong for bcrypt", post("hashed", basic(email, "nope"), insert)},
		{"unauthorized: other scheme", post("demo", "Authorization: Bearer abc\n", insert)},
		{"unauthorized: two headers", post("demo", good+good, insert)},
		{"unauthorized: Expect, body never sent", "POST /hooks/demo HTTP/1.1\nHost: h\nExpect: 100-continue\nContent-Length: 77\n\n"},
		{"unknown hook", post("nobody", good, insert)},
		{"unknown hook: Expect, body never sent", "POST /hooks/nobody HTTP/1.1\nHost: h\nExpect: 100-continue\nContent-Length: 77\n\n"},
		{"unknown path", "GET /favicon.ico HTTP/1.1\nHost: h\n\n"},
		{"method not allowed", "GET /hooks/demo HTTP/1.1\nHost: h\n\n"},
		{"unknown path: OPTIONS *", "OPTIONS * HTTP/1.1\nHost: h\n\n"},
		{"method not allowed: probe", "POST /healthz HTTP/1.1\nHost: h\nContent-Length: 0\n\n"},
		{"too large", post("demo", good, strings.Repeat(" ", 1025))},
		{"too large: Expect, body never sent", "POST /hooks/demo HTTP/1.1\nHost: h\n" + good + "Expect: 100-continue\nContent-Length: 2000000\n\n"},
		{"too large: chunked", "POST /hooks/demo HTTP/1.1\nHost: h\n" + good + "Transfer-Encoding: chunked\n\n401\r\n" + strings.Repeat(" ", 1025) + "\r\n0\r\n\r\n"},
		{"unsupported: compressed", post("demo", good+"Content-Encoding: gzip\n", insert)},
		{"unsupported: charset", "POST /hooks/demo HTTP/1.1\nHost: h\n" + good + "Content-Type: application/json; charset=utf-16\nContent-Length: 2\n\n{}"},
		{"rejected by transform", post("shaped", "", event("rejected_by_transform"))},
		{"transform failed", post("shaped", "", event("transform_failed"))},
		{"script timeout", post("shaped", "", event("script_timeout"))},
		{"internal: route panics", post("shaped", "", event("internal"))},
		{"relay: page", post("relay", "", event("page"))},
		{"relay: no content", post("relay", "", event("empty"))},
		{"relay: refusal without a type", post("relay", "", event("teapot"))},
		{"relay: 401 is ours to solve", post("relay", "", event("401"))},
		{"relay: 301 is ours to solve", post("relay", "", event("301"))},
		{"relay: 1xx", post("relay", "", event("1xx"))},
		{"relay: truncated", post("relay", "", event("truncated"))},
		{"relay: success that is not confirmed", post("relay", "", event("unconfirmed"))},
		{"relay: no answer", post("relay", "", event("silent"))},
		{"healthz", "GET /healthz HTTP/1.1\nHost: h\n\n"},
		{"readyz", "GET /readyz HTTP/1.1\nHost: h\n\n"},
	}
	codes := append([]transport.Code{transport.PluginCrashed, transport.PluginProtocol, transport.PluginUnavailable}, transport.Codes[1:]...)
	for _, code := range codes {
		cases = append(cases, struct{ name, request string }{"target: " + string(code), post("demo", good, event(string(code)))})
	}

	s := start(t, Options{MaxBody: 1024}, scripted())
	var got strings.Builder
	for _, c := range cases {
		p := s.dial(t)
		p.send(c.request)
		resp, body := p.receive()
		if want := resp.Header.Get("Hookline-Ref"); want == "" && resp.Header.Get("Content-Type") == "application/problem+json" || !strings.Contains(body, want) {
			if !strings.HasPrefix(c.name, "relay") {
				t.Errorf("%s: the answer's ref is not the header's", c.name)
			}
		}
		p.Close()
		got.WriteString("=== " + c.name + "\n")
		got.WriteString(steady(dump(resp, body)))
		got.WriteString("\n")
	}
	golden(t, "testdata/answers.txt", got.String())
	for _, secret := range []string{password, "nope", "nobody\"", "Sample Form", "secret", "who?"} {
		if strings.Contains(s.log.String(), secret) {
			t.Errorf("the log holds %q", secret)
		}
	}
}

func golden(t *testing.T, file, got string) {
	t.Helper()
	if *update {
		if err := os.WriteFile(file, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if got == string(want) {
		return
	}
	a, b := strings.Split(got, "\n"), strings.Split(string(want), "\n")
	for i := range min(len(a), len(b)) {
		if a[i] != b[i] {
			t.Fatalf("%s:%d: got\n%s\nwant\n%s", file, i+1, a[i], b[i])
		}
	}
	t.Fatalf("%s has %d lines, want %d", file, len(b), len(a))
}
