package admin_test

import (
	"bufio"
	"cmp"
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
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
		Release: func(_ context.Context, script string) ([]admin.Quarantined, error) {
			f.mu.Lock()
			defer f.mu.Unlock()
			f.released = append(f.released, script)
			return []admin.Quarantined{bad}, nil
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
	f.held.Shape, f.held.Contents, f.held.Logs = core.ShapeMessages, []core.Content{{Payload: []byte("x")}}, []string{"logged " + secret}
	if err := store.Shaped(t.Context(), f.held); err != nil {
		t.Fatal(err)
	}
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
