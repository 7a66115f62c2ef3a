package app_test

import (
	"bytes"
	"context"
	"database/sql"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"log"
	"log/slog"
	"maps"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/hookline/hookline/core"
	"github.com/hookline/hookline/core/alerts"
	"github.com/hookline/hookline/core/app"
	"github.com/hookline/hookline/core/config"
	"github.com/hookline/hookline/plugins"
	"github.com/hookline/hookline/plugins/transport"
)

// What the test binary is when it is executed again, beside a child of the
// daemon under test.
const (
	modeDaemon   = "daemon"   // args: the config file
	modeActivate = "activate" // args: mode and its args; sets LISTEN_PID to itself
	modeVendor   = "vendor"   // a vendor's plugin
)

func TestMain(m *testing.M) {
	if len(os.Args) > 1 {
		switch os.Args[1] {
		case app.ChildCommand:
			// Not os.Exit: with -race it sleeps a second, in case of late reports.
			syscall.Exit(app.RunChild(os.Args[2:]))
		case modeDaemon:
			syscall.Exit(runDaemon(os.Args[2]))
		case modeActivate:
			os.Exit(activate(os.Args[2:]))
		case modeVendor:
			plugins.Serve(&vendor{})
			syscall.Exit(0)
		}
	}
	goleak.VerifyTestMain(m,
		// go-plugin leaves its broker's accept loop and its log reader to end by
		// themselves once the process is gone.
		goleak.IgnoreAnyFunction("github.com/hashicorp/go-plugin.(*GRPCBroker).Run"),
		goleak.IgnoreAnyFunction("github.com/hashicorp/go-plugin.(*gRPCBrokerClientImpl).StartStream"),
	)
}

// vendor is a plugin that is exclusive and answers with its settings' word; "crash" ends
// it.
type vendor struct {
	settings struct {
		Word   string `json:"word"`
		Refuse string `json:"refuse"`
	}
}

func (v *vendor) Describe() transport.Description {
	return transport.Description{Name: "vendor", Version: "1", Exclusive: true, Settings: json.RawMessage(`{
		"type": "object", "additionalProperties": false,
		"properties": {"word": {"type": "string"}, "refuse": {"type": "string"}}}`)}
}

func (v *vendor) Configure(_ context.Context, settings json.RawMessage) error {
	if err := json.Unmarshal(settings, &v.settings); err != nil {
		return err
	}
	if v.settings.Refuse != "" {
		return &transport.SettingError{Field: "refuse", Rule: "is not wanted"}
	}
	return nil
}

func (v *vendor) Deliver(context.Context, *transport.Message) transport.Receipt {
	if v.settings.Word == "crash" {
		syscall.Exit(3)
	}
	return transport.Receipt{Effect: transport.Done, Code: transport.Delivered, TargetStatus: 200, ContentType: "text/plain", Body: []byte(v.settings.Word)}
}

func (v *vendor) Check(context.Context) transport.Receipt {
	return transport.Receipt{Effect: transport.Done, Code: transport.Delivered}
}

// The secrets of every test. None may ever be seen outside Configure and the
// target's requests.
const (
	hookEmail     = "trialkit@example.org"
	hookPassword  = "hook-Pa55word-41c9"
	ehrUser       = "hookline"
	ehrPassword   = "ehr-Pa55word-77d0"
	bearerToken   = "bearer-t0ken-b3e8"
	signingSecret = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
	apiEmail      = "api@example.org"
	apiPassword   = "api-Pa55word-0b1d"
	apiKey        = "access-k3y-91aa"
)

// The contents of records in the tests' events. They may be seen in the answer
// (the form's name) and at the target, never in a log.
var recordContents = []string{"Sample Form", "Jane Doe", "Monitor Review"}

func secretForms() []string {
	var out []string
	for _, s := range []string{hookPassword, ehrPassword, bearerToken, signingSecret, apiPassword, apiKey, strings.TrimPrefix(signingSecret, "whsec_")} {
		out = append(out, s, base64.StdEncoding.EncodeToString([]byte(s)), url.QueryEscape(s))
	}
	for _, pair := range []string{hookEmail + ":" + hookPassword, ehrUser + ":" + ehrPassword, apiEmail + ":" + apiPassword} {
		out = append(out, base64.StdEncoding.EncodeToString([]byte(pair)))
	}
	return out
}

// assertClean fails the test if text holds a secret, or what is listed besides.
func assertClean(t testing.TB, what, text string, besides ...string) {
	t.Helper()
	for _, s := range append(secretForms(), besides...) {
		if i := strings.Index(text, s); i >= 0 {
			t.Errorf("%s holds %q: ...%s...", what, s, text[max(0, i-200):min(len(text), i+100)])
		}
	}
}

// logs collects a daemon's log, at debug level.
type logs struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (l *logs) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.Write(p)
}

func (l *logs) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.String()
}

// wait returns when the log has a line with all of parts.
func (l *logs) wait(t testing.TB, parts ...string) string {
	t.Helper()
	var found string
	eventually(t, fmt.Sprintf("a log line with %q", parts), func() bool {
		for line := range strings.Lines(l.String()) {
			if !slices.ContainsFunc(parts, func(p string) bool { return !strings.Contains(line, p) }) {
				found = line
				return true
			}
		}
		return false
	})
	return found
}

// eventually looks until ok, for at most ten seconds: there is no signal for
// what another process or a log does.
func eventually(t testing.TB, what string, ok func() bool) {
	t.Helper()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for end := time.Now().Add(10 * time.Second); !ok(); <-tick.C {
		if time.Now().After(end) {
			t.Fatalf("waited in vain for %s", what)
		}
	}
}

// daemon is a running Hookline with what it needs.
type daemon struct {
	t    testing.TB
	app  *app.App
	dir  string
	path string // of the config file
	url  string // of the first address, a Unix socket included
	logs *logs
	cut  bool // Stop is to end what is in flight

	alertTimes alerts.Times // the usual ones if zero

	strict bool // bad files are not made up for by the journal

	client *http.Client
	mu     sync.Mutex
	env    []string
	seen   bytes.Buffer // answers, for the clean-up's look
}

// files are written beside the config file, before the start.
type files map[string]string

// start runs a daemon on config text; addresses and logs are set by it. It is
// stopped at the test's end, and must then have kept every secret.
func start(t testing.TB, toml string, with ...files) *daemon {
	t.Helper()
	d := prepare(t, toml, with...)
	if err := d.boot(); err != nil {
		t.Fatal(err)
	}
	return d
}

// preamble is the part of the config that all tests share.
const preamble = `
[server]
listen = ["tcp://127.0.0.1:0"]
[hooks.demo]
study = "ABC-123"
email = "` + hookEmail + `"
password = "env:HOOK_PASSWORD"
timeout = "5s"
`

// prepare writes a daemon's files.
func prepare(t testing.TB, toml string, with ...files) *daemon {
	t.Helper()
	dir, err := os.MkdirTemp("", "hl-app-") // t.TempDir is too long for sockets
	if err != nil {
		t.Fatal(err)
	}
	d := &daemon{t: t, dir: dir, path: filepath.Join(dir, "config.toml"), logs: &logs{}}
	d.env = []string{"HOOK_PASSWORD=" + hookPassword, "EHR_PASSWORD=" + ehrPassword, "EHR_TOKEN=" + bearerToken, "EHR_SIGNING=" + signingSecret, "API_PASSWORD=" + apiPassword, "API_KEY=" + apiKey}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	d.write("config.toml", toml)
	for _, f := range with {
		for name, text := range f {
			d.write(name, text)
		}
	}
	return d
}

// write replaces a file at once, as a careful editor does.
func (d *daemon) write(name, text string) {
	d.t.Helper()
	path := filepath.Join(d.dir, name)
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		d.t.Fatal(err)
	}
	if err := os.WriteFile(path+".new", []byte(text), 0o600); err != nil {
		d.t.Fatal(err)
	}
	if err := os.Rename(path+".new", path); err != nil {
		d.t.Fatal(err)
	}
}

func (d *daemon) load() (*config.Config, error) {
	d.mu.Lock()
	env := slices.Clone(d.env)
	d.mu.Unlock()
	return config.Load(d.path, nil, env)
}

func (d *daemon) boot() error {
	options := app.Options{
		Load: d.load,
		Log:  slog.New(slog.NewTextHandler(d.logs, &slog.HandlerOptions{Level: slog.LevelDebug})),

		AlertTimes: d.alertTimes,
	}
	if !d.strict {
		options.Recall = &app.Recall{
			Journal: func() (url, node string) { return config.FindJournal(d.path, nil, d.env) },
			Parse:   func(source []byte) (*config.Config, error) { return config.Parse(d.path, source, d.dir, nil, d.env) },
		}
	}
	a, err := app.New(context.Background(), options)
	if err != nil {
		return err
	}
	d.app = a
	d.connect(a.Addrs()[0])
	d.t.Cleanup(func() {
		assertChildrenClean(d.t)
		d.client.CloseIdleConnections()
		a.Stop()
		d.assertClean()
		if !d.cut && strings.Contains(d.logs.String(), "when server.drain_timeout ended") {
			d.t.Error("Stop says that its time was over, with nothing in flight")
		}
		if d.t.Failed() {
			d.t.Logf("the daemon's log:\n%s", tail(d.logs.String(), 12000))
		}
	})
	return nil
}

// assertClean is the one look for secrets and record contents.
func (d *daemon) assertClean() {
	d.t.Helper()
	assertClean(d.t, "the log", d.logs.String(), append([]string{"DATA RACE"}, recordContents...)...) // a child's race is in the log too
	d.mu.Lock()
	defer d.mu.Unlock()
	assertClean(d.t, "an answer", d.seen.String())
}

func tail(s string, n int) string { return s[max(0, len(s)-n):] }

// connect makes the client that plays TrialKit.
func (d *daemon) connect(addr net.Addr) {
	d.url = "http://" + addr.String()
	pool := &http.Transport{MaxIdleConnsPerHost: 256, DisableCompression: true}
	if addr.Network() == "unix" {
		d.url = "http://hookline"
		pool.DialContext = func(ctx context.Context, _, _ string) (net.Conn, error) {
			return (&net.Dialer{}).DialContext(ctx, "unix", addr.String())
		}
	}
	d.client = &http.Client{
		Transport: pool, Timeout: 30 * time.Second,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
}

// serve runs the daemon's Run as main does; stop what it returns.
func (d *daemon) serve() (stop func() error) {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- d.app.Run(ctx) }()
	stop = sync.OnceValue(func() error { cancel(); return <-done })
	d.t.Cleanup(func() { _ = stop() })
	return stop
}

// answer is what TrialKit got.
type answer struct {
	core.Answer
	header http.Header
	status int
	body   string
	took   time.Duration
}

// call is a request as TrialKit makes it.
type call struct {
	hook    string
	body    []byte
	header  http.Header
	chunked bool
	ctx     context.Context
}

func (d *daemon) do(c call) (*answer, error) {
	if c.ctx == nil {
		c.ctx = context.Background()
	}
	if c.hook == "" {
		c.hook = "demo"
	}
	var body io.Reader = bytes.NewReader(c.body)
	if c.chunked {
		body = io.MultiReader(body) // of no known length
	}
	req, err := http.NewRequestWithContext(c.ctx, http.MethodPost, d.url+"/hooks/"+c.hook, body)
	if err != nil {
		return nil, err
	}
	req.SetBasicAuth(hookEmail, hookPassword)
	req.Header.Set("Content-Type", "application/json")
	maps.Copy(req.Header, c.header)
	begun := time.Now()
	resp, err := d.client.Do(req)
	if err != nil {
		return nil, err
	}
	defer func() { _ = resp.Body.Close() }()
	text, err := io.ReadAll(resp.Body)
	a := &answer{header: resp.Header, status: resp.StatusCode, body: string(text), took: time.Since(begun)}
	if err != nil {
		return a, fmt.Errorf("the answer broke off: %w", err)
	}
	d.mu.Lock()
	fmt.Fprintf(&d.seen, "%v\n%s\n", resp.Header, text)
	d.mu.Unlock()
	if strings.Contains(resp.Header.Get("Content-Type"), "json") {
		if err := json.Unmarshal(text, &a.Answer); err != nil {
			return a, fmt.Errorf("%s: %w", text, err)
		}
	}
	return a, nil
}

// send is do that must get an answer.
func (d *daemon) send(c call) *answer {
	d.t.Helper()
	a, err := d.do(c)
	if err != nil {
		d.t.Fatalf("no answer: %v", err)
	}
	return a
}

// events counts those of all tests: each is of a record of its own.
var events atomic.Int64

// event is an update of the form, with a name in it that no log may hold.
func event(form string) []byte {
	return fmt.Appendf(nil, `{"trans_id":"%d","form_id":%q,"form_name":"Sample Form","OnUpdate":true,"subject":"Jane Doe"}`, events.Add(1), form)
}

// update sends such an event and wants its code.
func (d *daemon) update(form string, want core.Code) *answer {
	d.t.Helper()
	a := d.send(call{body: event(form)})
	if a.Code != want {
		d.t.Fatalf("form %s: got %d %s, want %s", form, a.status, a.body, want)
	}
	return a
}

// reload must succeed.
func (d *daemon) reload(toml string) {
	d.t.Helper()
	d.write("config.toml", toml)
	if err := d.app.Reload(context.Background()); err != nil {
		d.t.Fatal(err)
	}
}

// sample is one of examples/events.
func sample(t testing.TB, name string) []byte {
	t.Helper()
	b, err := os.ReadFile(filepath.Join("..", "..", "examples", "events", name+".json"))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// request is what a target got.
type request struct {
	method, uri string
	header      http.Header
	body        []byte
}

// target is an external system.
type target struct {
	url  string
	addr string

	mu       sync.Mutex
	requests []request
}

func (r *target) record(req *http.Request) int {
	body, _ := io.ReadAll(req.Body)
	r.mu.Lock()
	defer r.mu.Unlock()
	r.requests = append(r.requests, request{req.Method, req.RequestURI, req.Header.Clone(), body})
	return len(r.requests)
}

func (r *target) got() []request {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.requests)
}

// newTarget starts a target. handle is given the number of the request, from 1;
// nil answers 200.
func newTarget(t testing.TB, handle func(n int, w http.ResponseWriter, r *http.Request)) *target {
	t.Helper()
	out := &target{}
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		n := out.record(r)
		if handle != nil {
			handle(n, w, r)
		}
	}))
	t.Cleanup(s.Close)
	out.url, out.addr = s.URL, s.Listener.Addr().String()
	return out
}

// gate is a target that holds its answer until it is opened, and says when a
// request has come.
type gate struct {
	*target
	came chan struct{}
	open func()
}

func newGate(t testing.TB) *gate {
	opened := make(chan struct{})
	g := &gate{came: make(chan struct{}, 4096), open: sync.OnceFunc(func() { close(opened) })}
	g.target = newTarget(t, func(_ int, _ http.ResponseWriter, r *http.Request) {
		g.came <- struct{}{}
		select {
		case <-opened:
		case <-r.Context().Done():
		}
	})
	t.Cleanup(g.open)
	return g
}

func (g *gate) await(t testing.TB) {
	t.Helper()
	select {
	case <-g.came:
	case <-time.After(10 * time.Second):
		t.Fatal("no request came to the target")
	}
}

// route is a route and its transport of the same name. more follows in the
// route's table, settings in that of the transport's settings.
func route(name, url, more, settings string) string {
	return fmt.Sprintf(`
[transports.%[1]s]
plugin = "http"
label = "Target %[1]s"
circuit = { failures = 0 } # most tests are about one failure at a time
[transports.%[1]s.settings]
url = %[2]q
%[4]s
[routes.%[1]s]
hooks = ["demo"]
transport = %[1]q
%[3]s
`, name, url, more, settings)
}

const basicAuth = `username = "` + ehrUser + `"
password = "env:EHR_PASSWORD"`

func contains(t testing.TB, what, text string, parts ...string) {
	t.Helper()
	for _, p := range parts {
		if !strings.Contains(text, p) {
			t.Errorf("%s does not say %q:\n%s", what, p, text)
		}
	}
}

func discardLog() *log.Logger { return log.New(io.Discard, "", 0) }

func discardSlog() *slog.Logger { return slog.New(slog.DiscardHandler) }

// lockDatabase has another program hold a SQLite file until unlock is called.
func lockDatabase(t testing.TB, path string) (unlock func()) {
	t.Helper()
	db, err := sql.Open("sqlite", "file:"+path+"?_pragma=busy_timeout(5000)")
	if err != nil {
		t.Fatal(err)
	}
	conn, err := db.Conn(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := conn.ExecContext(t.Context(), "begin immediate"); err != nil {
		t.Fatal(err)
	}
	unlock = sync.OnceFunc(func() { _ = conn.Close(); _ = db.Close() })
	t.Cleanup(unlock)
	return unlock
}
