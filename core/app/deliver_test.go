package app_test

import (
	"bytes"
	"net/http"
	"strings"
	"testing"

	standardwebhooks "github.com/standard-webhooks/standard-webhooks/libraries/go"

	"github.com/hookline/hookline/core"
	"github.com/hookline/hookline/plugins/transport"
)

// The promise: what TrialKit sends arrives byte for byte, signed, with the right
// credentials, whichever way it came.
func TestEventsArriveByteExact(t *testing.T) {
	const trace = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
	events := []struct {
		name    string
		body    []byte
		chunked bool
		kind    core.Kind
	}{
		{name: "insert", body: sample(t, "insert")},
		{name: "update", body: sample(t, "update")},
		{name: "review", body: sample(t, "review")},
		{name: "byte order mark", body: append([]byte("\xef\xbb\xbf"), sample(t, "insert")...)},
		{name: "odd white space", body: []byte(" \r\n\t{ \"trans_id\" :\t435 ,\n\"form_id\":\"319\",\r\n\"OnUpdate\" : \"true\"  }\n\n ")},
		{name: "unknown keys", body: []byte(`{"trans_id":"1","form_id":"2","OnReview":1,"wf_id":7,"new":{"deep":[1.50,1e3,"é\u00e9\/"]},"subject":"Jane Doe"}`)},
		{name: "chunked", body: sample(t, "review"), chunked: true},
		{name: "large", body: []byte(`{"trans_id":"1","form_id":"2","OnInsert":true,"note":"` + strings.Repeat("Jane Doe ", 50_000) + `"}`)},
	}
	for _, listen := range []string{"tcp://127.0.0.1:0", "unix:hook.sock"} {
		t.Run(listen[:4], func(t *testing.T) {
			ehr := newTarget(t, nil)
			toml := strings.ReplaceAll(preamble, "tcp://127.0.0.1:0", listen) +
				route("ehr", ehr.url+"/in?site=1", "", basicAuth+"\nsigning_secrets = [\"env:EHR_SIGNING\"]")
			d := start(t, toml)
			verifier, err := standardwebhooks.NewWebhook(signingSecret)
			if err != nil {
				t.Fatal(err)
			}
			for i, ev := range events {
				t.Run(ev.name, func(t *testing.T) {
					a := d.send(call{body: ev.body, chunked: ev.chunked, header: http.Header{"Traceparent": {trace}}})
					if a.status != 200 || a.Code != transport.Delivered || a.header.Get("Content-Type") != "application/json" {
						t.Fatalf("answer %d %s", a.status, a.body)
					}
					requests := ehr.got()
					if len(requests) != i+1 {
						t.Fatalf("%d requests came, want %d", len(requests), i+1)
					}
					r := requests[i]
					if !bytes.Equal(r.body, ev.body) {
						t.Errorf("the target got %.200q, want %.200q", r.body, ev.body)
					}
					if r.method != "POST" || r.uri != "/in?site=1" || r.header.Get("Content-Type") != "application/json" {
						t.Errorf("%s %s %s", r.method, r.uri, r.header.Get("Content-Type"))
					}
					user, password, _ := (&http.Request{Header: r.header}).BasicAuth()
					if user != ehrUser || password != ehrPassword {
						t.Errorf("Authorization is of %q with the wrong password, or none", user)
					}
					if got := r.header.Get("Hookline-Event-Id"); got != a.EventID || got == "" {
						t.Errorf("hookline-event-id %q, the answer has %q", got, a.EventID)
					}
					if got := r.header.Get("Traceparent"); !strings.HasPrefix(got, trace[:35]) || !strings.HasSuffix(got, "-01") {
						t.Errorf("traceparent %q does not go on from %q", got, trace)
					}
					if err := verifier.Verify(r.body, r.header); err != nil {
						t.Errorf("signature: %v", err)
					}
				})
			}
		})
	}
}

// webhook-id names the message: one for all attempts of a delivery, another for
// each save, however equal the saves are.
func TestWebhookIDIsTheMessages(t *testing.T) {
	ehr := newTarget(t, func(n int, w http.ResponseWriter, _ *http.Request) {
		if n%2 == 1 {
			w.WriteHeader(http.StatusServiceUnavailable) // no Retry-After: tried again in 250 ms
		}
	})
	d := start(t, preamble+route("ehr", ehr.url, "", "signing_secrets = [\"env:EHR_SIGNING\"]"))
	for range 2 {
		a := d.send(call{body: sample(t, "update")})
		if a.Code != transport.Delivered || a.Deliveries[0].Attempts != 2 {
			t.Fatalf("answer %s, of %d requests: %v", a.body, len(ehr.got()), ehr.got())
		}
	}
	got := ehr.got()
	if len(got) != 4 {
		t.Fatalf("%d requests came", len(got))
	}
	ids := make([]string, len(got))
	for i, r := range got {
		ids[i] = r.header.Get("Webhook-Id")
		if !bytes.Equal(r.body, got[0].body) {
			t.Errorf("attempt %d had another body", i)
		}
		verifier, _ := standardwebhooks.NewWebhook(signingSecret)
		if err := verifier.Verify(r.body, r.header); err != nil {
			t.Errorf("attempt %d: %v", i, err)
		}
	}
	if ids[0] == "" || ids[0] != ids[1] || ids[2] != ids[3] || ids[0] == ids[2] {
		t.Errorf("webhook-ids %q", ids)
	}
}

// The three ways to prove oneself to a target.
func TestTargetCredentials(t *testing.T) {
	for _, c := range []struct{ name, settings, header, want string }{
		{"basic", basicAuth, "Authorization", "Basic aG9va2xpbmU6ZWhyLVBhNTV3b3JkLTc3ZDA="},
		{"bearer", `bearer_token = "env:EHR_TOKEN"`, "Authorization", "Bearer " + bearerToken},
		{"header", `headers = { "X-Api-Key" = "env:EHR_TOKEN" }`, "X-Api-Key", bearerToken},
	} {
		t.Run(c.name, func(t *testing.T) {
			ehr := newTarget(t, nil)
			d := start(t, preamble+route("ehr", ehr.url, "", c.settings))
			d.update("319", transport.Delivered)
			if got := ehr.got()[0].header.Get(c.header); got != c.want {
				t.Errorf("%s is %q", c.header, got)
			}
		})
	}
}

// A request that is no event, or of a stranger, never reaches a target.
func TestWhatIsNotTaken(t *testing.T) {
	ehr := newTarget(t, nil)
	d := start(t, preamble+route("ehr", ehr.url, "", ""))
	for _, c := range []struct {
		name   string
		call   call
		status int
		code   core.Code
	}{
		{"not JSON", call{body: []byte("Jane Doe")}, 400, core.InvalidBody},
		{"no flag", call{body: []byte(`{"trans_id":"1","form_id":"2"}`)}, 400, core.InvalidBody},
		{"two flags", call{body: []byte(`{"trans_id":"1","form_id":"2","OnInsert":true,"OnUpdate":true}`)}, 400, core.InvalidBody},
		{"too large", call{body: bytes.Repeat([]byte(" "), 1<<20+1)}, 413, core.TooLarge},
		{"wrong password", call{body: event("1"), header: http.Header{"Authorization": {"Basic eDp5"}}}, 401, core.Unauthorized},
		{"no such hook", call{hook: "other", body: event("1")}, 404, core.UnknownHook},
	} {
		t.Run(c.name, func(t *testing.T) {
			a := d.send(c.call)
			if a.status != c.status || a.Code != c.code || a.header.Get("Content-Type") != "application/problem+json" || a.Ref == "" {
				t.Errorf("answer %d %s", a.status, a.body)
			}
		})
	}
	if n := len(ehr.got()); n != 0 {
		t.Errorf("%d requests reached the target", n)
	}
}
