package admin_test

import (
	"bufio"
	"crypto/tls"
	"encoding/base64"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/hookline/hookline/core/admin"
)

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
	for _, part := range []string{"rejected: " + secret, "said " + secret, "logged " + secret, "told of " + secret} {
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
	"Plugin.Transport", "Plugin.Plugin", "Plugin.Version", "Plugin.State",
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
