package admin_test

import (
	"bufio"
	"cmp"
	"context"
	"crypto/tls"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"reflect"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/crypto/bcrypt"

	"github.com/hookline/hookline/core"
	"github.com/hookline/hookline/core/admin"
	"github.com/hookline/hookline/core/journal"
	"github.com/hookline/hookline/plugins/transport"
)

const password = "correct horse"

func hashOf(t testing.TB, password string) string {
	t.Helper()
	h, err := bcrypt.GenerateFromPassword([]byte(password), bcrypt.MinCost)
	if err != nil {
		t.Fatal(err)
	}
	return string(h)
}

func everyRole(t testing.TB) []admin.User {
	hash := hashOf(t, password)
	return []admin.User{{Name: "vera", Role: admin.Viewer, Hash: hash}, {Name: "aud", Role: admin.Auditor, Hash: hash}, {Name: "otto", Role: admin.Operator, Hash: hash}}
}

// office is a daemon's admin API over TCP, on a journal with one event whose every
// part quotes a patient.
type office struct {
	t        *testing.T
	server   *admin.Server
	store    *journal.Store
	addr     string
	logs     *logs
	event    *core.Event
	held     *core.Delivery
	reloads  atomic.Int64
	mu       sync.Mutex
	views    []string
	released []string // scripts
	settings admin.Options
}

const secret = "Jane Doe"

// carer has done everything already.
type carer struct{ *journal.Store }

func (carer) Prune(context.Context, bool) ([]journal.Pruned, bool, error) {
	return []journal.Pruned{{Hook: "demo", What: "events", Events: 3}}, false, nil
}

// Refused and Place are what driving an event again comes to.
func (carer) Refused(_ context.Context, _, _ string, old *core.Event, _ []byte) (*core.Event, error) {
	return old, nil
}

func (carer) Place(context.Context, string, string, *journal.EventDetail, bool) ([]journal.ActResult, error) {
	return []journal.ActResult{{ID: "0199f3a1-7c2e-7d10-9a55-0c1d2e3f4a5b", OK: true, Now: core.StateQueued}}, nil
}

func (carer) Backup(_ context.Context, _, file string) (*journal.Backup, error) {
	return &journal.Backup{File: file, Bytes: 1, Audited: true}, nil
}

// bad is a script in quarantine.
var bad = admin.Quarantined{Script: "transforms/bad.js", Hash: "aa", Why: "it did not obey its deadline"}

func openOffice(t *testing.T, change ...func(*admin.Options)) *office {
	t.Helper()
	store, err := journal.Open(t.Context(), journal.Options{URL: "memory:", Node: "test"})
	if err != nil {
		t.Fatal(err)
	}
	f := &office{t: t, store: store, logs: &logs{}}
	f.settings = admin.Options{
		Path: socket(t), TCP: []string{"127.0.0.1:0"}, Hosts: []string{"hookline.example.org"}, Users: everyRole(t),
		Reload: func(context.Context) error { f.reloads.Add(1); return nil }, Journal: store, Care: carer{store}, Redrive: carer{store},
		Metrics: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "text/plain; version=0.0.4")
			_, _ = io.WriteString(w, "hookline_journal_up 1\n")
		}),
		Log: slog.New(slog.NewTextHandler(f.logs, nil)),
		Status: func() admin.Status {
			return admin.Status{Version: "1", Revision: "r", Journal: "memory", Hooks: []string{"demo"}, Routes: []string{}, Recalled: &admin.Recalled{Why: "bad"}, Quarantined: []admin.Quarantined{bad}}
		},
		Release: func(script string) []admin.Quarantined {
			f.mu.Lock()
			defer f.mu.Unlock()
			f.released = append(f.released, script)
			return []admin.Quarantined{bad}
		},
		Alerts: func() admin.AlertList {
			return admin.AlertList{Transport: "ops", Alerts: []admin.Alert{{Alert: "dead", Subject: "ehr", Refs: []string{"HK-1"}}}}
		},
		Viewed: func(_ context.Context, actor, what, eventID string) error {
			f.mu.Lock()
			defer f.mu.Unlock()
			f.views = append(f.views, actor+" "+what+" "+eventID)
			return nil
		},
	}
	for _, c := range change {
		c(&f.settings)
	}
	f.server = serve(t, f.settings)
	f.addr = f.server.Addrs()[0].String()
	d := &desk{t: t, store: store}
	ev, deliveries := d.event(core.Insert, "1", "F", `{"name":"`+secret+`"}`, "ehr")
	f.event, f.held = ev, deliveries[0]
	done := make(chan error, 1)
	store.Settle(f.held, core.Settlement{
		State: core.StateHeld, Code: transport.Timeout, Due: -1, Reason: "rejected: " + secret, Position: "x.js:1:2",
		Attempts: []core.Attempt{{N: 1, Start: time.Now(), Receipt: transport.Receipt{Effect: transport.Unknown, Code: transport.Timeout, Detail: "said " + secret}}},
		Settled:  func(_ core.Promotion, err error) { done <- err },
	})
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	store.Answered(ev, core.AnswerRecord{Status: 502, Code: transport.Timeout, Detail: "told of " + secret})
	t.Cleanup(func() {
		f.server.Stop()
		if err := store.Close(); err != nil {
			t.Error(err)
		}
	})
	return f
}

// viewed are the views since the last call.
func (f *office) viewed() []string {
	f.mu.Lock()
	defer f.mu.Unlock()
	out := f.views
	f.views = nil
	return out
}

// stands is how things are that a call could change.
func (f *office) stands() (out [2]string) {
	f.t.Helper()
	detail, err := f.store.Event(f.t.Context(), f.event.ID)
	if err != nil {
		f.t.Fatal(err)
	}
	acts, err := f.store.Acts(f.t.Context(), f.event.ID)
	if err != nil {
		f.t.Fatal(err)
	}
	return [2]string{fmt.Sprintf("%s %d", detail.Deliveries[0].State, len(acts)), fmt.Sprint(f.reloads.Load())}
}

// untouched fails if a call has acted.
func (f *office) untouched(what string) {
	f.t.Helper()
	if now := f.stands(); now != [2]string{"held 0", "0"} {
		f.t.Fatalf("%s: it has acted: %q", what, now)
	}
}

// answer is what came back.
type answer struct {
	status int
	header http.Header
	body   string
}

// send makes one request over a connection of its own, as it is written.
func (f *office) send(r *http.Request) answer {
	f.t.Helper()
	r.Close = true
	conn, err := net.Dial("tcp", f.addr)
	if err != nil {
		f.t.Fatal(err)
	}
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(20 * time.Second))
	if err := r.Write(conn); err != nil {
		f.t.Fatal(err)
	}
	return f.receive(conn, r)
}

func (f *office) receive(conn io.Reader, r *http.Request) answer {
	f.t.Helper()
	resp, err := http.ReadResponse(bufio.NewReader(conn), r)
	if err != nil {
		f.t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		f.t.Fatal(err)
	}
	a := answer{resp.StatusCode, resp.Header, string(body)}
	for name := range a.header {
		if strings.HasPrefix(name, "Access-Control-") {
			f.t.Errorf("%s %s: %s lets other sites in", r.Method, r.URL, name)
		}
	}
	for name, want := range map[string]string{
		"X-Content-Type-Options": "nosniff", "Cache-Control": "no-store", "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
	} {
		if got := a.header.Get(name); got != want {
			f.t.Errorf("%s %s: %s: %q, want %q", r.Method, r.URL, name, got, want)
		}
	}
	return a
}

func (f *office) request(method, path, user, pass, body string) *http.Request {
	f.t.Helper()
	r, err := http.NewRequest(method, "http://"+f.addr+path, strings.NewReader(body))
	if err != nil {
		f.t.Fatal(err)
	}
	if body != "" || method == http.MethodPost {
		r.Header.Set("Content-Type", "application/json")
	}
	if user != "" {
		r.SetBasicAuth(user, pass)
	}
	return r
}

// asks are the bodies of good requests, where they do not act on DELIVERY.
var asks = map[string]string{
	"/v1/reload":             `{}`,
	"/v1/events/{id}/retry":  `{"reason":"r","routes":true}`,
	"/v1/journal/prune":      `{}`,
	"/v1/transforms/release": `{"script":"transforms/bad.js","reason":"r"}`,
	"/v1/journal/backup":     `{"file": "/tmp/copy.db"}`,
}

// call is a good request for an endpoint.
func (f *office) call(e admin.Endpoint, user, pass string) *http.Request {
	id, body := f.event.ID, ""
	if strings.HasPrefix(e.Path, "/v1/deliveries") {
		id = f.held.ID
	}
	if e.Method == http.MethodPost {
		body = cmp.Or(asks[e.Path], `{"ids":["DELIVERY"],"reason":"r"}`)
		body = strings.NewReplacer("DELIVERY", f.held.ID, "EVENT", f.event.ID).Replace(body)
	}
	return f.request(e.Method, strings.ReplaceAll(e.Path, "{id}", id), user, pass, body)
}

// What each role may do, at every endpoint that there is.
func TestRoles(t *testing.T) {
	f := openOffice(t)
	has := map[string][]string{"vera": {"see"}, "aud": {"see", "read"}, "otto": {"see", "act"}}
	roleOf := map[string]string{"vera": "viewer", "aud": "auditor", "otto": "operator"}
	for _, user := range []string{"vera", "aud", "otto"} {
		for _, e := range admin.Endpoints() {
			name := user + " " + e.Method + " " + e.Path
			if len(e.Needs) == 0 {
				t.Fatalf("%s needs nothing: anyone may call it", name)
			}
			may := !slices.ContainsFunc(e.Needs, func(need string) bool { return !slices.Contains(has[user], need) })
			before := f.stands()
			got := f.send(f.call(e, user, password))
			views := f.viewed()
			switch {
			case may && got.status != http.StatusOK:
				t.Errorf("%s: %d %s", name, got.status, got.body)
			case !may:
				needs := map[string]string{"read": "auditor", "act": "operator"}[e.Needs[len(e.Needs)-1]]
				if e.Needs[0] == "act" {
					needs = "operator"
				}
				if got.status != http.StatusForbidden || !strings.Contains(got.body, roleOf[user]) || !strings.Contains(got.body, "needs the role "+needs) {
					t.Errorf("%s: %d %s", name, got.status, got.body)
				}
				if now := f.stands(); now != before {
					t.Errorf("%s: it has acted: %q", name, now)
				}
			}
			shown := strings.Contains(got.body, secret)
			switch {
			case shown && (!slices.Contains(has[user], "read") || e.List):
				t.Errorf("%s: contents are shown: %s", name, got.body)
			case shown && (len(views) != 1 || !strings.HasSuffix(views[0], f.event.ID) || !strings.HasPrefix(views[0], "tcp:aud ")):
				t.Errorf("%s: contents are shown and told: %q", name, views)
			case !shown && len(views) > 0:
				t.Errorf("%s: nothing is shown and %q is told", name, views)
			}
		}
	}
	detail := f.send(f.call(admin.Endpoint{Method: http.MethodGet, Path: "/v1/events/{id}"}, "aud", password))
	for _, part := range []string{"rejected: " + secret, "said " + secret, "told of " + secret} {
		if !strings.Contains(detail.body, part) {
			t.Errorf("an auditor does not see %q: %s", part, detail.body)
		}
	}
	if text := f.logs.String(); strings.Contains(text, secret) || strings.Contains(text, password) || !strings.Contains(text, "actor=tcp:otto act=retry") {
		t.Errorf("log: %s", text)
	}

	// The user of the Unix socket may do everything, and is told of like the others.
	f.viewed()
	all, err := admin.NewClient(f.settings.Path).Event(t.Context(), f.event.Ref)
	if err != nil || !strings.Contains(all.Answer.Detail, secret) {
		t.Errorf("%+v, %v", all, err)
	}
	if views := f.viewed(); !slices.Equal(views, []string{me(t) + " detail " + f.event.ID}) {
		t.Errorf("views: %q", views)
	}
}

// harmless are the texts of the views that hold no contents. A field that is in
// neither list makes the test fail: whoever adds it has to decide.
var harmless = []string{
	"Delivery.Origin", "ActResult.New", "ActResults.Next", "EventFacts.Revision", "EventFacts.Origin", "ActCount.Sample", "ActGroup.Route", "ActGroup.State",
	"Redriven.ID", "Redriven.EventID", "Redriven.Ref",
	"Stats.Engine", "Stats.Where", "Stats.Tables", "Stats.Deliveries", "StatsEvent.ID", "StatsEvent.Ref", "StatsDelivery.ID", "StatsDelivery.Event",
	"StatsDelivery.Route", "StatsDelivery.State", "Backup.File", "Pruned.Hook", "Pruned.What", "BackupAsk.File",
	"Quarantined.Script", "Quarantined.Hash", "Quarantined.Why", "Release.Script", "Release.Reason",
	"Alert.Alert", "Alert.Subject", "Alert.Text", "Alert.Refs", "AlertList.Transport",
	"Head.Hash", "Finding.What", "Finding.Table", "Finding.ID", "Finding.Detail",
	"Status.Version", "Status.Revision", "Status.Journal", "Status.Hooks", "Status.Routes", "Recalled.Why",
	"EventFacts.ID", "EventFacts.Ref", "EventFacts.Hook", "EventFacts.Study", "EventFacts.Stage", "EventFacts.Kind", "EventFacts.TransID",
	"EventFacts.FormID", "EventFacts.FormName", "EventFacts.WorkflowID", "EventFacts.WorkflowName", "EventFacts.TraceParent",
	"Refusal.Code", "Refusal.Key", "Refusal.Rule", "Answer.Code",
	"DeliveryState.ID", "DeliveryState.Route", "DeliveryState.State", "DeliveryState.Code", "EventPage.Next", "DeliveryPage.Next",
	"Delivery.ID", "Delivery.EventID", "Delivery.Ref", "Delivery.Hook", "Delivery.Route", "Delivery.TransID", "Delivery.Lane", "Delivery.State",
	"Delivery.Code", "Delivery.Position", "Delivery.Script", "Delivery.Revision",
	"Message.ID", "Message.ContentType", "Attempt.Effect", "Attempt.Code", "Done.Actor", "Done.Act", "Done.Was", "Done.Now",
	"ActResult.ID", "ActResult.Was", "ActResult.Now", "ActResult.Why",
}

func TestEveryTextIsJudged(t *testing.T) {
	seen := map[string]bool{}
	var walk func(reflect.Type)
	walk = func(typ reflect.Type) {
		for typ.Kind() == reflect.Pointer || typ.Kind() == reflect.Slice || typ.Kind() == reflect.Map {
			typ = typ.Elem()
		}
		if typ.Kind() != reflect.Struct || seen[typ.String()] || typ == reflect.TypeFor[admin.Time]() || typ == reflect.TypeFor[time.Time]() {
			return
		}
		seen[typ.String()] = true
		for i := range typ.NumField() {
			field := typ.Field(i)
			inner := field.Type
			for inner.Kind() == reflect.Pointer || inner.Kind() == reflect.Slice || inner.Kind() == reflect.Map {
				inner = inner.Elem()
			}
			text := inner.Kind() == reflect.String || inner.Kind() == reflect.Interface || inner.Kind() == reflect.Uint8
			tagged, known := admin.TagsOf(string(field.Tag)), slices.Contains(harmless, typ.Name()+"."+field.Name)
			if text && tagged == known {
				t.Errorf("%s.%s (%q): tag it access:\"read\", or name it as harmless", typ.Name(), field.Name, field.Tag)
			}
			walk(field.Type)
		}
	}
	for name, view := range views {
		if name == "Act" || name == "Redrive" { // what is asked, not what is told
			continue
		}
		walk(reflect.TypeOf(view))
	}
}

// Nothing that a stranger, a page of another site, or a broken client sends acts or
// leaks.
func TestHostile(t *testing.T) {
	f := openOffice(t)
	retry := admin.Endpoint{Method: http.MethodPost, Path: "/v1/deliveries/retry"}
	show := admin.Endpoint{Method: http.MethodGet, Path: "/v1/events/{id}/body"}
	set := func(name, value string) func(*http.Request) {
		return func(r *http.Request) { r.Header.Set(name, value) }
	}
	host := func(name string) func(*http.Request) { return func(r *http.Request) { r.Host = name } }
	basic := func(user, pass string) func(*http.Request) {
		return func(r *http.Request) { r.SetBasicAuth(user, pass) }
	}
	for name, c := range map[string]struct {
		change func(*http.Request)
		status int
		says   string
	}{
		"forged host":           {host("evil.example.org"), 421, "admin.hosts"},
		"forged host and port":  {host("evil.example.org:80"), 421, "evil.example.org"},
		"another address":       {host("192.0.2.1"), 421, "admin.hosts"},
		"looks like ours":       {host("hookline.example.org.evil.org"), 421, "admin.hosts"},
		"looks like localhost":  {host("localhost.evil.org"), 421, "admin.hosts"},
		"a long host":           {host(strings.Repeat("a", 3000)), 421, "…"},
		"another origin":        {set("Origin", "https://evil.example.org"), 403, "another site"},
		"no origin":             {set("Origin", "null"), 403, "another site"},
		"another port":          {set("Origin", "http://127.0.0.1:1"), 403, "another site"},
		"a file":                {set("Origin", "file://"), 403, "another site"},
		"an extension":          {set("Origin", "chrome-extension://"+f.addr), 403, "another site"},
		"an origin with a path": {set("Origin", "http://"+f.addr+"/x"), 403, "another site"},
		"an origin with a user": {set("Origin", "http://x@"+f.addr), 403, "another site"},
		"cross-site":            {set("Sec-Fetch-Site", "cross-site"), 403, "another site"},
		"same-site":             {set("Sec-Fetch-Site", "same-site"), 403, "another site"},
		"two sites": {func(r *http.Request) {
			r.Header["Sec-Fetch-Site"] = []string{"same-origin", "cross-site"}
		}, 403, "another site"},
		"nobody":               {func(r *http.Request) { r.Header.Del("Authorization") }, 401, "who are you"},
		"wrong password":       {basic("otto", "wrong"), 401, "is wrong"},
		"no password":          {basic("otto", ""), 401, "is wrong"},
		"a hash as a password": {basic("otto", f.settings.Users[0].Hash), 401, "is wrong"},
		"unknown user":         {basic("mallory", password), 401, "is wrong"},
		"another's case":       {basic("OTTO", password), 401, "is wrong"},
		"a long user":          {basic(strings.Repeat("x", 4000), password), 401, "is wrong"},
		"a long password":      {basic("otto", password+strings.Repeat("x", 4000)), 401, "is wrong"},
		"bearer":               {set("Authorization", "Bearer x"), 401, "cannot be used"},
		"no base64":            {set("Authorization", "Basic !!!"), 401, "cannot be used"},
		"twice": {func(r *http.Request) {
			r.Header.Add("Authorization", "Basic "+base64.StdEncoding.EncodeToString([]byte("otto:wrong")))
		}, 401, "cannot be used"},
	} {
		for who, e := range map[string]admin.Endpoint{"otto": retry, "aud": show} {
			r := f.call(e, who, password)
			c.change(r)
			got := f.send(r)
			if got.status != c.status || !strings.Contains(got.body, c.says) || strings.Contains(got.body, secret) || len(got.body) > 500 {
				t.Errorf("%s, %s: %d %s", name, e.Path, got.status, got.body)
			}
			if (got.status == 401) != (got.header.Get("WWW-Authenticate") != "") {
				t.Errorf("%s: %v", name, got.header)
			}
			f.untouched(name)
		}
	}
	for name, c := range map[string]struct {
		r      *http.Request
		status int
	}{
		"a form":          {with(f.call(retry, "otto", password), "Content-Type", "application/x-www-form-urlencoded"), 415},
		"text":            {with(f.call(retry, "otto", password), "Content-Type", "text/plain"), 415},
		"no type":         {with(f.call(retry, "otto", password), "Content-Type", ""), 415},
		"a huge body":     {f.request("POST", retry.Path, "otto", password, strings.Repeat("x", 2<<20)), 413},
		"no JSON":         {f.request("POST", retry.Path, "otto", password, "ids="+f.held.ID), 400},
		"get with a body": {f.request("GET", "/v1/status", "otto", password, "{}"), 400},
		"wrong method":    {f.request("DELETE", "/v1/events/"+f.event.ID, "otto", password, ""), 405},
		"act by get":      {f.request("GET", retry.Path, "otto", password, ""), 405},
		"preflight":       {f.request("OPTIONS", retry.Path, "otto", password, ""), 405},
		"a huge id":       {f.request("GET", "/v1/events/"+strings.Repeat("9", 8000), "aud", password, ""), 400},
		"a path upwards":  {f.request("GET", "/v1/events/%2e%2e%2f%2e%2e%2fetc%2fpasswd", "aud", password, ""), 400},
		"not there":       {f.request("GET", "/v1/admin", "otto", password, ""), 404},
		"not for all":     {f.request("GET", "/v1/admin", "", "", ""), 401},
		"the document":    {f.request("GET", "/v1/openapi.json", "", "", ""), 401},
	} {
		if got := f.send(c.r); got.status != c.status || strings.Contains(got.body, secret) || len(got.body) > 500 {
			t.Errorf("%s: %d %s", name, got.status, got.body)
		}
		f.untouched(name)
	}
	if text := f.logs.String(); strings.Contains(text, "mallory") || strings.Contains(text, password) || strings.Contains(text, secret) || strings.Contains(text, "xxxx") {
		t.Errorf("log: %s", text)
	}

	// The Unix socket, as a browser gets to it when it is forwarded to a port.
	local := rawClient(t, f.settings.Path)
	for name, c := range map[string]struct {
		change func(*http.Request)
		status int
	}{
		"as the commands do": {func(*http.Request) {}, 200},
		"as a page of ours":  {func(r *http.Request) { r.Host = "localhost:8788"; r.Header.Set("Origin", "http://localhost:8788") }, 200},
		"rebinding":          {host("evil.example.org"), 421},
		"another site":       {set("Origin", "https://evil.example.org"), 403},
		"a link elsewhere":   {set("Sec-Fetch-Site", "cross-site"), 403},
	} {
		r := f.call(show, "", "")
		r.Host = "admin"
		c.change(r)
		resp, err := local.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		body, _ := io.ReadAll(resp.Body)
		_ = resp.Body.Close()
		if resp.StatusCode != c.status || strings.Contains(string(body), secret) != (c.status == 200) {
			t.Errorf("the Unix socket, %s: %d %s", name, resp.StatusCode, body)
		}
	}
	local.CloseIdleConnections()

	// What a server refuses before it has a request.
	conn, err := net.Dial("tcp", f.addr)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(20 * time.Second))
	go func() {
		_, _ = io.WriteString(conn, "GET /v1/status HTTP/1.1\r\nHost: "+f.addr+"\r\nX-Long: "+strings.Repeat("x", 100<<10)+"\r\n\r\n")
	}()
	resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err == nil && resp.StatusCode != http.StatusRequestHeaderFieldsTooLarge {
		t.Errorf("a huge header: %d", resp.StatusCode)
	}
}

func with(r *http.Request, name, value string) *http.Request {
	r.Header.Del(name)
	if value != "" {
		r.Header.Set(name, value)
	}
	return r
}

// The names by which it may be called, and a page of its own.
func TestOwnNames(t *testing.T) {
	f := openOffice(t)
	_, port, _ := net.SplitHostPort(f.addr)
	for _, host := range []string{f.addr, "127.0.0.1", "localhost:" + port, "LocalHost.", "[::1]:" + port, "hookline.example.org", "HOOKLINE.example.org:8443", "[::ffff:127.0.0.1]"} {
		for _, scheme := range []string{"", "http://", "https://"} {
			r := f.request("GET", "/v1/status", "vera", password, "")
			r.Host = host
			if scheme != "" {
				r.Header.Set("Origin", scheme+host)
				r.Header.Set("Sec-Fetch-Site", "same-origin")
			}
			if got := f.send(r); got.status != 200 {
				t.Errorf("%s%s: %d %s", scheme, host, got.status, got.body)
			}
		}
	}
	r := f.request("GET", "/v1/status", "vera", password, "")
	r.Header.Set("Sec-Fetch-Site", "none") // typed in
	if got := f.send(r); got.status != 200 {
		t.Errorf("typed in: %d", got.status)
	}
}

// With TLS the page must have it too, and nobody gets in without.
func TestOverTLS(t *testing.T) {
	lender := httptest.NewTLSServer(nil) // of a certificate
	defer lender.Close()
	f := openOffice(t, func(o *admin.Options) {
		o.TLS = &tls.Config{Certificates: lender.TLS.Certificates, MinVersion: tls.VersionTLS12, NextProtos: []string{"http/1.1"}}
	})
	client := lender.Client()
	defer client.CloseIdleConnections()
	for origin, status := range map[string]int{"": 200, "https://" + f.addr: 200, "http://" + f.addr: 403} {
		r := f.request("GET", "/v1/status", "vera", password, "")
		r.URL.Scheme = "https"
		if origin != "" {
			r.Header.Set("Origin", origin)
		}
		resp, err := client.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		_ = resp.Body.Close()
		if resp.StatusCode != status {
			t.Errorf("%q: %d, want %d", origin, resp.StatusCode, status)
		}
	}
	if _, err := admin.Connect(at(t, "http://vera@"+f.addr, password)).Status(t.Context()); err == nil {
		t.Error("it is served without TLS")
	}
	if _, err := admin.Connect(at(t, "https://vera@"+f.addr, password)).Status(t.Context()); err == nil || !strings.Contains(err.Error(), "certificate") {
		t.Errorf("a certificate that nobody vouches for: %v", err)
	}
}

// Whoever sends slowly gets an end, and an answer to what is refused at once.
func TestSlow(t *testing.T) {
	f := openOffice(t, func(o *admin.Options) { *o = admin.WithHeaderTimeout(*o, 50*time.Millisecond) })
	dial := func(text string) net.Conn {
		conn, err := net.Dial("tcp", f.addr)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { conn.Close() })
		_ = conn.SetDeadline(time.Now().Add(20 * time.Second))
		if _, err := io.WriteString(conn, text); err != nil {
			t.Fatal(err)
		}
		return conn
	}
	begun := time.Now()
	for _, text := range []string{"", "GET /v1/sta", "GET /v1/status HTTP/1.1\r\nHost: " + f.addr + "\r\nX-A"} {
		// It may say why first.
		if _, err := io.Copy(io.Discard, dial(text)); err != nil {
			t.Errorf("%q: %v", text, err)
		}
	}
	if took := time.Since(begun); took > 5*time.Second {
		t.Errorf("the end came after %s", took)
	}
	r := f.request("POST", "/v1/deliveries/retry", "", "", "")
	got := f.receive(dial("POST /v1/deliveries/retry HTTP/1.1\r\nHost: "+f.addr+"\r\nContent-Type: application/json\r\nContent-Length: 1000\r\n\r\n{"), r)
	if got.status != 401 || time.Since(begun) > 8*time.Second {
		t.Errorf("a body that never comes: %d", got.status)
	}
}

// A password is checked once, then remembered until the users change; an unknown
// user costs what a known one does.
func TestPasswords(t *testing.T) {
	f := openOffice(t)
	var checks atomic.Int64
	f.server.Checks(2, 20*time.Second, func(hash, password []byte) error {
		checks.Add(1)
		return bcrypt.CompareHashAndPassword(hash, password)
	})
	try := func(user, pass string, status int, want int64) {
		t.Helper()
		before := checks.Load()
		if got := f.send(f.request("GET", "/v1/status", user, pass, "")); got.status != status {
			t.Errorf("%s: %d, want %d", user, got.status, status)
		}
		if n := checks.Load() - before; n != want {
			t.Errorf("%s: %d checks, want %d", user, n, want)
		}
	}
	try("vera", password, 200, 1)
	try("vera", password, 200, 0)
	try("aud", password, 200, 1) // not another's
	try("vera", "wrong", 401, 1)
	try("vera", "wrong", 401, 1)
	try("nobody", password, 401, 1)
	try("nobody", password, 401, 1)
	f.server.Use([]admin.User{{Name: "vera", Role: admin.Operator, Hash: hashOf(t, password)}})
	try("vera", password, 200, 1)
	try("aud", password, 401, 1)
	if got := f.send(f.request("POST", "/v1/reload", "vera", password, "{}")); got.status != 200 {
		t.Errorf("the role of now: %d", got.status)
	}
	f.server.Use([]admin.User{{Name: "vera", Role: admin.Operator, Hash: hashOf(t, "changed")}})
	try("vera", password, 401, 1)
	long := strings.Repeat("x", 72) // bcrypt looks at no more
	f.server.Use([]admin.User{{Name: "vera", Role: admin.Viewer, Hash: hashOf(t, long)}})
	try("vera", long+"y", 401, 1)
	try("vera", long, 200, 1)
	f.server.Use(nil)
	try("vera", "changed", 401, 0)

	f.server.Use(everyRole(t))
	began, let := make(chan struct{}), make(chan struct{})
	f.server.Checks(1, time.Millisecond, func(_, _ []byte) error {
		began <- struct{}{}
		<-let
		return errors.New("wrong")
	})
	held := make(chan answer, 1)
	go func() { held <- f.send(f.request("GET", "/v1/status", "vera", "wrong", "")) }()
	<-began
	got := f.send(f.request("GET", "/v1/status", "aud", password, ""))
	if got.status != http.StatusTooManyRequests || got.header.Get("Retry-After") != "1" {
		t.Errorf("beyond the bound: %d %s", got.status, got.body)
	}
	close(let)
	if got := <-held; got.status != 401 {
		t.Errorf("%d", got.status)
	}
	if n := strings.Count(f.logs.String(), "wrong name or password"); n != 1 {
		t.Errorf("%d lines for a burst of failures: %s", n, f.logs)
	}
}

func at(t *testing.T, text, password string) admin.Address {
	t.Helper()
	a, err := admin.ParseAddress(text)
	if err != nil {
		t.Fatal(err)
	}
	a.Password = password
	return a
}

func TestClientOverTCP(t *testing.T) {
	f := openOffice(t)
	c := admin.Connect(at(t, "http://otto@"+f.addr, password))
	if s, err := c.Status(t.Context()); err != nil || s.Version != "1" {
		t.Errorf("%+v, %v", s, err)
	}
	if got, err := c.Retry(t.Context(), admin.Act{IDs: []string{f.held.ID}}); err != nil || !got.Results[0].OK {
		t.Errorf("%+v, %v", got, err)
	}
	var refused *admin.Error
	if _, err := c.Body(t.Context(), f.event.ID); !errors.As(err, &refused) || refused.Status != 403 {
		t.Errorf("%v", err)
	}
	if _, err := admin.Connect(at(t, "http://otto@"+f.addr, "wrong")).Status(t.Context()); !errors.As(err, &refused) || refused.Status != 401 || strings.Contains(err.Error(), "wrong@") {
		t.Errorf("%v", err)
	}
	f.server.Stop()
	if _, err := c.Status(t.Context()); !errors.Is(err, admin.ErrNoDaemon) || !strings.Contains(err.Error(), f.addr) || strings.Contains(err.Error(), password) {
		t.Errorf("%v", err)
	}

	// Another host never gets the password.
	asked := make(chan string, 4)
	other := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asked <- r.URL.Path + " " + r.Header.Get("Authorization")
		http.Redirect(w, r, "/elsewhere", http.StatusTemporaryRedirect)
	}))
	defer other.Close()
	if _, err := admin.Connect(at(t, strings.Replace(other.URL, "//", "//otto@", 1), password)).Status(t.Context()); err == nil {
		t.Error("a redirect is no answer")
	}
	if len(asked) != 1 {
		t.Errorf("it went after the redirect, %d calls", len(asked))
	}
}

func TestParseAddress(t *testing.T) {
	for text, want := range map[string]admin.Address{
		"hookline-admin.sock":     {Socket: "hookline-admin.sock"},
		"unix:/run/a.sock":        {Socket: "/run/a.sock"},
		"unix:///run/a.sock":      {Socket: "/run/a.sock"},
		"https://h.example.org":   {URL: &url.URL{Scheme: "https", Host: "h.example.org"}},
		"http://al@127.0.0.1:88/": {URL: &url.URL{Scheme: "http", Host: "127.0.0.1:88"}, User: "al"},
	} {
		got, err := admin.ParseAddress(text)
		if err != nil || !reflect.DeepEqual(got, want) {
			t.Errorf("%s: %+v, %v", text, got, err)
		}
	}
	for _, text := range []string{
		"", "unix:", "tcp://127.0.0.1:1", "http://", "https://:1", "http://a:hunter2@h", "http://a:hunter2@[h", "http://h/v1", "http://h?x", "https://h#x", "http://a:@h", "https:h",
	} {
		if got, err := admin.ParseAddress(text); err == nil || strings.Contains(err.Error(), "hunter2") {
			t.Errorf("%s: %+v, %v", text, got, err)
		}
	}
	for text, open := range map[string]bool{
		"a.sock": false, "https://h": false, "http://h": true, "http://127.0.0.1:1": false, "http://[::1]:1": false, "http://localhost": false, "http://10.0.0.1": true,
	} {
		if got := at(t, text, "").InTheOpen(); got != open {
			t.Errorf("%s: %v", text, got)
		}
	}
}

// Of two addresses that cannot both be had, none stays open.
func TestListenFails(t *testing.T) {
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	path := socket(t)
	s, err := admin.Listen(admin.Options{Path: path, TCP: []string{taken.Addr().String()}, Log: slog.New(slog.DiscardHandler)})
	if err == nil {
		s.Stop()
		t.Fatal("it listens twice")
	}
	if !strings.Contains(err.Error(), taken.Addr().String()) {
		t.Error(err)
	}
	if _, err := net.Dial("unix", path); err == nil {
		t.Error("the socket is open")
	}
}
