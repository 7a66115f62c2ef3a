package trialkit

import (
	"context"
	"encoding/base64"
	"encoding/pem"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/fstest"
	"time"

	"github.com/hookline/hookline/core"
	"github.com/hookline/hookline/examples/trialkit/standin"
)

const (
	password  = "api-Pa55word-0b1d"
	accessKey = "access-k3y-91aa"
	secret    = "Jane Doe"
)

var records = fstest.MapFS{
	"435.json":  {Data: []byte(`{"trans_id":"435","form_id":319,"subject":"` + secret + `"}`)},
	"436.json":  {Data: []byte("\xef\xbb\xbf" + `{"form_id":"319"}`)},
	"bad.json":  {Data: []byte(`{"form_id":"319","name":"` + secret + `"`)},
	"none.json": {Data: []byte(`{"subject":"` + secret + `"}`)},
	"deep.json": {Data: []byte(`{"form_id":"319","a":` + strings.Repeat("[", 100) + strings.Repeat("]", 100) + `}`)},
	"utf8.json": {Data: []byte("{\"form_id\":\"319\",\"a\":\"\xff\"}")},
	"null.json": {Data: []byte(`{"form_id":null}`)},
}

func newStandIn() *standin.API {
	return &standin.API{Email: "api@example.org", Password: password, Header: "From-Access-Key", AccessKey: accessKey, Records: records}
}

// options are those for a server.
func options(url string, edit ...func(*Options)) Options {
	o := Options{
		Hook: "demo", URL: url, Email: "api@example.org", Password: password, AccessKey: accessKey, AccessKeyHeader: "From-Access-Key",
		RecordPath: "form/7/{trans_id}", FormIDField: "/form_id", Timeout: 5 * time.Second, MaxReply: 1 << 20, Version: "test",
	}
	for _, e := range edit {
		e(&o)
	}
	return o
}

func start(t *testing.T, h http.Handler, edit ...func(*Options)) *Client {
	t.Helper()
	s := httptest.NewServer(h)
	t.Cleanup(s.Close)
	return client(t, s.URL, edit...)
}

func client(t *testing.T, url string, edit ...func(*Options)) *Client {
	t.Helper()
	c, err := New([]Options{options(url, edit...)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c
}

var hook = &core.Hook{Name: "demo"}

func event(id string) *core.Event {
	return &core.Event{Hook: hook, TransID: id, FormID: "319", ReceivedAt: time.Now()}
}

// clean fails the test if an error holds what it must not.
func clean(t *testing.T, err error) {
	t.Helper()
	for _, s := range []string{password, accessKey, secret, base64.StdEncoding.EncodeToString([]byte("api@example.org:" + password))} {
		if strings.Contains(err.Error(), s) {
			t.Errorf("the error holds %q: %v", s, err)
		}
	}
}

func TestEnrich(t *testing.T) {
	api := newStandIn()
	c := start(t, api)
	before := time.Now()
	got, err := c.Enrich(t.Context(), event("435"))
	if err != nil || string(got.Record) != string(records["435.json"].Data) {
		t.Fatalf("%+v %v", got, err)
	}
	if got.ReadAt.Before(before) || got.ReadAt.After(time.Now()) || got.ReadAt.Location() != time.UTC {
		t.Errorf("read at %s", got.ReadAt)
	}
	if got, err := c.Enrich(t.Context(), event("436")); err != nil || got.Record[0] != '{' {
		t.Errorf("with a byte order mark: %+v %v", got, err)
	}
	// Nothing is kept: the same once more is read once more.
	if _, err := c.Enrich(t.Context(), event("435")); err != nil || len(api.Paths()) != 3 {
		t.Errorf("%q %v", api.Paths(), err)
	}
}

// A base URL with a path, another header, another template and pointer.
func TestSettings(t *testing.T) {
	var got *http.Request
	c := start(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		got = r
		fmt.Fprint(w, `[{"Form":{"a/b":"319"}}]`)
	}), func(o *Options) {
		o.URL += "/api/v1/"
		o.AccessKeyHeader, o.RecordPath, o.FormIDField = "x-key", "Form/Get/{form_id}/{trans_id}", "/0/Form/a~1b"
	})
	if _, err := c.Enrich(t.Context(), event("a b")); err != nil {
		t.Fatal(err)
	}
	email, pass, _ := got.BasicAuth()
	if got.URL.EscapedPath() != "/api/v1/Form/Get/319/a%20b" || got.Header.Get("X-Key") != accessKey || email != "api@example.org" || pass != password ||
		got.Method != http.MethodGet || got.Header.Get("User-Agent") != "hookline/test" || got.Header.Get("Accept") != "application/json" {
		t.Errorf("%s %s %v", got.Method, got.URL, got.Header)
	}
	if _, err := start(t, newStandIn(), func(o *Options) { o.FormIDField = "" }).Enrich(t.Context(), event("none")); err != nil {
		t.Error("a record without a form, and nobody looks:", err)
	}
}

func TestFaults(t *testing.T) {
	down, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	down.Close()
	secure := httptest.NewTLSServer(newStandIn())
	defer secure.Close()
	secure.Config.ErrorLog = nil
	garbage := func(text string) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			conn, _, _ := w.(http.Hijacker).Hijack()
			_, _ = conn.Write([]byte(text))
			_ = conn.Close()
		})
	}
	in := func(f standin.Fault) http.Handler {
		api := newStandIn()
		api.Fail(f)
		return api
	}
	for name, tt := range map[string]struct {
		api    http.Handler
		record string
		edit   func(*Options)
		want   string
		soon   bool // to try at once again may help
	}{
		"unauthorized":  {api: in(standin.Unauthorized), want: "401, it does not accept the credentials: check hooks.demo.trialkit.email, password and access_key"},
		"forbidden":     {api: in(standin.Forbidden), want: "403: check hooks.demo.trialkit.access_key"},
		"password":      {api: in(""), edit: func(o *Options) { o.Password = "another" }, want: "401"},
		"unknown":       {api: in(""), record: "7", want: "404: it does not know"},
		"other study":   {api: in(standin.OtherStudy), want: "another form than the event's, 319: the default study of the API user hooks.demo.trialkit.email may be another"},
		"no form":       {api: in(""), record: "none", want: `no form at hooks.demo.trialkit.form_id_field, "/form_id"`},
		"null form":     {api: in(""), record: "null", want: "no form at"},
		"broken":        {api: in(standin.Broken), want: "500, an error of its own", soon: true},
		"busy":          {api: in(standin.Busy), want: "503: it is too busy", soon: true},
		"huge":          {api: in(standin.Huge), want: "larger than hooks.demo.trialkit.max_reply, 1048576 bytes"},
		"announced":     {api: in(""), edit: func(o *Options) { o.MaxReply = 10 }, want: "larger than"},
		"not json":      {api: in(standin.NotJSON), want: "is not JSON: do hooks.demo.trialkit.url and record_path lead to the API"},
		"half":          {api: in(""), record: "bad", want: "is not JSON"},
		"deep":          {api: in(""), record: "deep", want: "is nested deeper than 64 levels"},
		"utf8":          {api: in(""), record: "utf8", want: "is not valid UTF-8"},
		"redirect":      {api: in(standin.Redirect), want: "302: redirects are not followed"},
		"cut":           {api: in(standin.Cut), want: "broke off", soon: true},
		"slow":          {api: in(standin.Slow), edit: func(o *Options) { o.Timeout = 20 * time.Millisecond }, want: "did not answer in time"},
		"no http":       {api: garbage("220 " + secret + " " + password + "\r\n\r\n"), want: "what came is not HTTP", soon: true},
		"down":          {edit: func(o *Options) { o.URL = "http://" + down.Addr().String() }, want: "nothing accepts connections", soon: true},
		"no name":       {edit: func(o *Options) { o.URL = "http://no-such-host.invalid" }, want: "does not resolve", soon: true},
		"authority":     {edit: func(o *Options) { o.URL = secure.URL }, want: "hooks.demo.trialkit.ca_file", soon: true},
		"no tls":        {api: in(""), edit: func(o *Options) { o.URL = strings.Replace(o.URL, "http:", "https:", 1) }, want: "", soon: true},
		"id":            {api: in(""), record: "..", want: "hooks.demo.trialkit.record_path makes no path of this record's id"},
		"id with slash": {api: in(""), record: "435/../../admin", want: "makes no path"},
		"id with query": {api: in(""), record: "435?x=1", want: "404"},
	} {
		t.Run(name, func(t *testing.T) {
			var edits []func(*Options)
			if tt.edit != nil {
				edits = append(edits, tt.edit)
			}
			if tt.api == nil {
				tt.api = http.NotFoundHandler()
			}
			if tt.record == "" {
				tt.record = "435"
			}
			_, err := start(t, tt.api, edits...).Enrich(t.Context(), event(tt.record))
			var failed *core.EnrichError
			if !errors.As(err, &failed) || !strings.Contains(err.Error(), tt.want) || failed.Hopeless == tt.soon {
				t.Fatalf("%+v", err)
			}
			clean(t, err)
			if name == "busy" && failed.RetryAfter != time.Second {
				t.Error("Retry-After:", failed.RetryAfter)
			}
			var clock *core.Expired
			if errors.As(err, &clock) != (name == "slow") || name == "slow" && clock.Setting != "hooks.demo.trialkit.timeout" {
				t.Errorf("its clock: %v", clock)
			}
		})
	}
}

// A redirect never takes the credentials along.
func TestRedirect(t *testing.T) {
	reached := make(chan struct{}, 1)
	other := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { reached <- struct{}{} }))
	defer other.Close()
	c := start(t, http.RedirectHandler(other.URL, http.StatusTemporaryRedirect))
	if _, err := c.Enrich(t.Context(), event("435")); err == nil || !strings.Contains(err.Error(), "redirects are not followed") {
		t.Error(err)
	}
	select {
	case <-reached:
		t.Error("it was followed")
	default:
	}
}

func TestCA(t *testing.T) {
	secure := httptest.NewTLSServer(newStandIn())
	defer secure.Close()
	file := filepath.Join(t.TempDir(), "ca.pem")
	text := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: secure.Certificate().Raw})
	if err := os.WriteFile(file, text, 0o600); err != nil {
		t.Fatal(err)
	}
	c := client(t, secure.URL, func(o *Options) { o.CAFile = file })
	if _, err := c.Enrich(t.Context(), event("435")); err != nil {
		t.Error(err)
	}
	c = client(t, strings.Replace(secure.URL, "127.0.0.1", "localhost", 1), func(o *Options) { o.CAFile = file })
	if _, err := c.Enrich(t.Context(), event("435")); err == nil || !strings.Contains(err.Error(), "for another host") && !strings.Contains(err.Error(), "cannot be reached") {
		t.Error(err)
	}
}

func TestGet(t *testing.T) {
	api := newStandIn()
	c := start(t, api)
	got, err := c.Get(t.Context(), "demo", "form/7/435")
	if err != nil || string(got) != string(records["435.json"].Data) {
		t.Fatalf("%s %v", got, err)
	}
	for path, want := range map[string]string{
		"../admin": "", "form/../../admin": "", "/form/7/435": "begin with /", "form//7": "empty part", "form/7/": "empty part",
		"https://example.org/form/7/435": "name a server", "//example.org/x": "begin with /", "form/7/435?x=1": "query", "form/7/435#x": "query or a fragment",
		"form/%2e%2e/x": "not even escaped", "form/%2F": "not even escaped", "form/%5c": "not even escaped", `form\7`: "%XX", "form/ä": "%XX",
		"form/%": "two hexadecimal digits", "form/%zz": "two hexadecimal digits", "form/%+1": "two hexadecimal digits", "form/a b": "%XX",
		"form/%00": "control character", "form/\n": "%XX", "": "empty", ".": "part", "a/..;/b": "part", strings.Repeat("a", 1025): "longer", "form/%252e": "not even escaped",
	} {
		if _, err := c.Get(t.Context(), "demo", path); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v", path, err)
		}
	}
	if _, err := c.Get(t.Context(), "other", "form/7/435"); err == nil || !strings.Contains(err.Error(), "[hooks.other.trialkit]") {
		t.Error(err)
	}
	if n := len(api.Paths()); n != 1 {
		t.Errorf("%d requests", n)
	}
	if _, err := c.Get(t.Context(), "demo", "form/7/no%20one"); err == nil || !strings.Contains(err.Error(), "404") {
		t.Error(err)
	}
	if _, err := c.Enrich(t.Context(), &core.Event{Hook: &core.Hook{Name: "gone"}, TransID: "1"}); err == nil || !strings.Contains(err.Error(), "[hooks.gone.trialkit]") {
		t.Error(err)
	}
}

func TestNew(t *testing.T) {
	for name, tt := range map[string]struct {
		edit func(*Options)
		want []string
	}{
		"template": {func(o *Options) { o.RecordPath = "form/7/435" }, []string{"hooks.demo.trialkit.record_path: must hold {trans_id}"}},
		"path":     {func(o *Options) { o.RecordPath = "/form/{trans_id}" }, []string{"record_path: must not begin with /"}},
		"header":   {func(o *Options) { o.AccessKeyHeader = "From Access Key" }, []string{"access_key_header: must be the name of a header"}},
		"reserved": {func(o *Options) { o.AccessKeyHeader = "authorization" }, []string{"access_key_header: is a header that"}},
		"pointer":  {func(o *Options) { o.FormIDField = "/a~b" }, []string{"form_id_field: must have ~0"}},
		"secrets": {func(o *Options) { o.Password, o.AccessKey = password+"\n", accessKey+"\n" }, []string{
			"access_key: must not have control", "password: must not have control",
		}},
		"ca":  {func(o *Options) { o.CAFile = "no-such-file" }, []string{"ca_file: must be a file that can be read"}},
		"pem": {func(o *Options) { o.CAFile = "trialkit.go" }, []string{"ca_file: must hold certificates in PEM"}},
	} {
		_, err := New([]Options{options("http://127.0.0.1:1", tt.edit), func() Options { o := options("http://127.0.0.1:1"); o.Hook = "good"; return o }()})
		if err == nil {
			t.Errorf("%s: no error", name)
			continue
		}
		clean(t, err)
		for _, want := range tt.want {
			if !strings.Contains(err.Error(), want) {
				t.Errorf("%s: %v", name, err)
			}
		}
	}
}

// sinceOf is the context of an event's delivery.
func sinceOf(ev *core.Event) context.Context {
	return core.WithReadSince(context.Background(), ev.ReceivedAt)
}

// held is an API that answers once it is let, and tells when a request has come.
func held(t *testing.T) (api *standin.API, came chan int, let chan struct{}) {
	api, came, let = newStandIn(), make(chan int, 100), make(chan struct{})
	api.Before = func(_ string, n int) { came <- n; <-let }
	return api, came, let
}

// Those who want the same record for the same event share one request.
func TestShared(t *testing.T) {
	api, came, let := held(t)
	c := start(t, api)
	ev := event("435")
	ctx := sinceOf(ev)
	var all sync.WaitGroup
	for range 10 {
		all.Go(func() {
			if _, err := c.Enrich(ctx, ev); err != nil {
				t.Error(err)
			}
		})
	}
	<-came
	c.await(t, "form/7/435", 10)
	close(let)
	all.Wait()
	if n := len(api.Paths()); n != 1 {
		t.Errorf("%d requests", n)
	}
}

// await returns when n wait for the newest flight to path.
func (c *Client) await(t *testing.T, path string, n int) {
	t.Helper()
	a := c.hooks["demo"]
	for end := time.Now().Add(10 * time.Second); ; time.Sleep(time.Millisecond) {
		a.mu.Lock()
		f := a.open[path]
		ok := f != nil && f.waiting == n || n == 0 && f == nil
		a.mu.Unlock()
		if ok {
			return
		}
		if time.Now().After(end) {
			t.Fatalf("not %d who wait", n)
		}
	}
}

// A request that began before an event came may bring what was there before it: the
// event does not share it.
func TestNotShared(t *testing.T) {
	api, came, let := held(t)
	c := start(t, api)
	var all sync.WaitGroup
	for range 2 {
		ev := event("435") // later than the first one's request
		all.Go(func() {
			if _, err := c.Enrich(sinceOf(ev), ev); err != nil {
				t.Error(err)
			}
		})
		<-came
	}
	// Without an event it is from now.
	all.Go(func() {
		if _, err := c.Get(context.Background(), "demo", "form/7/435"); err != nil {
			t.Error(err)
		}
	})
	<-came
	// An old event may share the newest.
	old := event("435")
	old.ReceivedAt = time.Now().Add(-time.Hour)
	all.Go(func() {
		if _, err := c.Enrich(sinceOf(old), old); err != nil {
			t.Error(err)
		}
	})
	c.await(t, "form/7/435", 2)
	close(let)
	all.Wait()
	if n := len(api.Paths()); n != 3 {
		t.Errorf("%d requests", n)
	}
}

// No more than maxConns at a time. What waits for its turn has not begun: its own
// timeout has not either, and any event may share it.
func TestQueue(t *testing.T) {
	api, came, let := held(t)
	c := start(t, api)
	var all sync.WaitGroup
	enrich := func(id string) {
		ev := event(id)
		all.Go(func() {
			if _, err := c.Enrich(sinceOf(ev), ev); err != nil && !strings.Contains(err.Error(), "404") {
				t.Error(err)
			}
		})
	}
	for i := range maxConns {
		enrich(fmt.Sprint(i))
		<-came
	}
	for n := range 3 { // later events, one after the other
		enrich("435")
		c.await(t, "form/7/435", n+1)
	}
	gone, leave := context.WithCancel(context.Background())
	errs := make(chan error)
	go func() { _, err := c.Get(gone, "demo", "form/7/436"); errs <- err }()
	c.await(t, "form/7/436", 1)
	leave()
	if err := <-errs; err == nil {
		t.Error("it got something")
	}
	if len(came) != 0 {
		t.Error("more requests than there are connections")
	}
	close(let)
	all.Wait()
	if n := len(api.Paths()); n != maxConns+1 {
		t.Errorf("%d requests", n)
	}
}

// A request outlives the one who began it, and nobody's wait is longer than his own
// time; when the last has left it is ended.
func TestLeaving(t *testing.T) {
	ended := make(chan struct{})
	came := make(chan struct{}, 9)
	c := start(t, http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		came <- struct{}{}
		<-r.Context().Done()
		close(ended)
	}))
	ev := event("435")
	budget := &core.Expired{Setting: "hooks.demo.timeout", After: time.Second}
	first, cancel := context.WithCancelCause(sinceOf(ev))
	second, leave := context.WithCancel(sinceOf(ev))
	errs := make(chan error, 2)
	go func() { _, err := c.Enrich(first, ev); errs <- err }()
	<-came
	go func() { _, err := c.Enrich(second, ev); errs <- err }()
	c.await(t, "form/7/435", 2)
	cancel(budget)
	var clock *core.Expired
	if err := <-errs; !errors.As(err, &clock) || clock != budget {
		t.Errorf("the first: %v", err)
	}
	c.await(t, "form/7/435", 1)
	select {
	case <-ended:
		t.Error("it ended with the first")
	default:
	}
	leave()
	if err := <-errs; err == nil {
		t.Error("the second got something")
	}
	<-ended
	c.await(t, "form/7/435", 0)
	if _, err := c.Enrich(first, ev); err == nil || len(came) != 0 {
		t.Errorf("no time was left, and there was a request: %v", err)
	}
}

func TestClose(t *testing.T) {
	came := make(chan struct{})
	c := start(t, http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { close(came); <-r.Context().Done() }))
	errs := make(chan error)
	go func() { _, err := c.Enrich(t.Context(), event("435")); errs <- err }()
	<-came
	c.Close()
	if err := <-errs; err == nil || !strings.Contains(err.Error(), "the reading was ended") {
		t.Error(err)
	}
}

// Connections are used again.
func TestReuse(t *testing.T) {
	var mu sync.Mutex
	peers := map[string]bool{}
	api := newStandIn()
	c := start(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		mu.Lock()
		peers[r.RemoteAddr] = true
		mu.Unlock()
		api.ServeHTTP(w, r)
	}))
	for range 5 {
		if _, err := c.Enrich(t.Context(), event("435")); err != nil {
			t.Fatal(err)
		}
	}
	if len(peers) != 1 {
		t.Errorf("%d connections for 5 requests", len(peers))
	}
}

func TestPointer(t *testing.T) {
	const doc = `{"a":{"":"empty","b":[1,{"c":"deep"}],"~":"t","/":"s","n":12.50,"t":true},"x":"top"}`
	for pointer, want := range map[string]string{
		"x": "top", "/x": "top", "/a/": "empty", "/a/b/0": "1", "/a/b/1/c": "deep", "/a/~0": "t", "/a/~1": "s", "/a/n": "12.50",
		"/a/t": "", "/a/b": "", "/a/b/2": "", "/a/b/-1": "", "/y": "", "/x/y": "", "a/b": "", "/a/b/x": "",
	} {
		parts, err := parsePointer(pointer)
		if err != nil {
			t.Errorf("%s: %v", pointer, err)
			continue
		}
		if got, ok := textAt([]byte(doc), parts); got != want || ok != (want != "") {
			t.Errorf("%s: %q %v, want %q", pointer, got, ok, want)
		}
	}
	for _, bad := range []string{"/a~", "/~2", "/a/~x"} {
		if _, err := parsePointer(bad); err == nil {
			t.Errorf("%s is taken", bad)
		}
	}
}

// FuzzPath: no path that is taken leads out of the base, or says more than where.
func FuzzPath(f *testing.F) {
	for _, s := range []string{"form/7/435", "..", "a/%2e%2e/b", "a?b", "//x", "a%", "http://x", "a/./b", "%2F", "a;b=c/..;/d"} {
		f.Add(s)
	}
	const base = "https://example.org/api"
	f.Fuzz(func(t *testing.T, path string) {
		if checkPath(path) != nil {
			return
		}
		req, err := http.NewRequest(http.MethodGet, base+"/"+path, http.NoBody)
		if err != nil {
			t.Fatalf("%q makes no request: %v", path, err)
		}
		if req.URL.Host != "example.org" || req.URL.RawQuery != "" || req.URL.Fragment != "" || req.URL.EscapedPath() != "/api/"+path {
			t.Fatalf("%q became %s", path, req.URL)
		}
		if clean := filepath.ToSlash(filepath.Clean(req.URL.Path)); !strings.HasPrefix(clean, "/api/") || slices.Contains(strings.Split(req.URL.Path, "/"), "..") {
			t.Fatalf("%q leads to %s", path, clean)
		}
	})
}
