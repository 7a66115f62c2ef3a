package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/hookline/hookline/core"
	"github.com/hookline/hookline/core/admin"
	"github.com/hookline/hookline/core/journal"
)

// taking is a target that notes the bodies that it gets.
type taking struct {
	mu     sync.Mutex
	bodies []string
	down   atomic.Bool
}

func (g *taking) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if g.down.Load() {
		w.WriteHeader(http.StatusServiceUnavailable)
		return
	}
	body, _ := io.ReadAll(r.Body)
	g.mu.Lock()
	defer g.mu.Unlock()
	g.bodies = append(g.bodies, string(body))
}

func (g *taking) got() []string {
	g.mu.Lock()
	defer g.mu.Unlock()
	return append([]string(nil), g.bodies...)
}

// siteFor is a daemon with one async route to the target.
func siteFor(t *testing.T, g *taking, more string) *site {
	t.Helper()
	target := httptest.NewServer(g)
	t.Cleanup(target.Close)
	s := newSite(t, "")
	s.write(fmt.Sprintf(`
server.listen = ["tcp://127.0.0.1:0"]
[hooks.demo]
anonymous = true
[transports.ehr]
plugin = "http"
settings = { url = %q }
circuit = { pause = "1s" }
%s
`, target.URL, more))
	s.start()
	return s
}

const ehrRoute = "[routes.ehr]\nhooks = [\"demo\"]\ntransport = \"ehr\"\nmode = \"async\"\n"

// Hundreds that are held are released by a filter and arrive in the order of their
// records; nothing happens without a yes.
func TestReleaseByFilter(t *testing.T) {
	g := &taking{}
	g.down.Store(true)
	s := siteFor(t, g, ehrRoute+"retry = { initial = \"1h\", max = \"1h\" }\n")
	client := s.client()
	const records, each = 10, 30
	for i := range records * each {
		a := s.send(fmt.Sprintf(`{"trans_id":%d,"form_id":1,"OnUpdate":true,"n":%d}`, i%records, i/records))
		if a.Status != 202 {
			t.Fatalf("%+v", a)
		}
	}
	held := func() int {
		page, err := client.Deliveries(t.Context(), journal.DeliveryFilter{States: []core.State{core.StateHeld}, Limit: 1000})
		if err != nil {
			t.Fatal(err)
		}
		return len(page.Deliveries)
	}
	said := ""
	s.until("all of them are held", func() bool { // the heads may be running just now
		_, _, said = s.run("deliveries", "hold", "--route", "ehr", "--reason", "the EHR moves", "--yes")
		n := held()
		if n < records*each {
			t.Logf("%d are held: %.300s", n, said)
		}
		return n == records*each
	})
	g.down.Store(false)

	out := s.good("deliveries", "release", "--route", "ehr", "--dry-run")
	if want := "ROUTE  STATE  DELIVERIES\nehr    held   300\n"; out != want {
		t.Errorf("dry run: %q", out)
	}
	if code, out, errs := s.run("deliveries", "release", "--route", "ehr", "--reason", "it is back"); code != 2 || out != "" || !strings.Contains(errs, "use --yes") {
		t.Errorf("without a terminal: exit %d\n%s%s", code, out, errs)
	}
	if held() != records*each || len(g.got()) > 0 {
		t.Fatal("something was done without a yes")
	}
	code, out, errs := s.run("deliveries", "release", "--route", "ehr", "--reason", "it is back", "--yes")
	if code != 0 || strings.Count(out, " was held and is queued\n") != records*each || !strings.Contains(errs, "200 of 300\n300 of 300\n") {
		t.Errorf("release: exit %d\n%s%s", code, out, errs)
	}
	s.until("all of them have arrived", func() bool { return len(g.got()) >= records*each })
	next := map[int]int{}
	for _, body := range g.got() {
		var e struct {
			Record int `json:"trans_id"`
			N      int `json:"n"`
		}
		if err := json.Unmarshal([]byte(body), &e); err != nil || e.N != next[e.Record] {
			t.Fatalf("record %d: number %d came, and %d was next (%v)", e.Record, e.N, next[e.Record], err)
		}
		next[e.Record]++
	}
}

// A refused body is driven again by the rules of today, once; what was delivered can
// be replayed, but not over newer data.
func TestRedriveAndReplay(t *testing.T) {
	g := &taking{}
	s := siteFor(t, g, ehrRoute)
	refused := s.send(`{"trans_id":1}`)
	code, _, errs := s.run("events", "retry", refused.Ref, "--reason", "r")
	if code != 1 || !strings.Contains(errs, "is no event by the rules of today either") {
		t.Errorf("a bad body: exit %d %s", code, errs)
	}
	one := s.send(`{"trans_id":5,"form_id":1,"OnInsert":true}`)
	s.await(one.EventID, "ehr", core.StateDelivered)
	if code, _, errs := s.run("events", "retry", one.Ref); code != 1 || !strings.Contains(errs, "no delivery that has ended without success") {
		t.Errorf("retry of what was delivered: exit %d %s", code, errs)
	}
	two := s.send(`{"trans_id":5,"form_id":1,"OnUpdate":true}`)
	s.await(two.EventID, "ehr", core.StateDelivered)
	code, _, errs = s.run("deliveries", "replay", "--event", one.Ref, "--reason", "lost there", "--yes")
	if code != 1 || !strings.Contains(errs, "would overwrite newer data: event "+two.Ref) || !strings.Contains(errs, "1 of 1 were not done") {
		t.Errorf("replay: exit %d %s", code, errs)
	}
	out := s.good("events", "show", two.Ref, "--json")
	var detail admin.EventDetail
	if err := json.Unmarshal([]byte(out), &detail); err != nil || len(detail.Deliveries) != 1 {
		t.Fatal(err, out)
	}
	old := detail.Deliveries[0].ID
	out = s.good("deliveries", "replay", old, "--reason", "lost there")
	if !strings.HasPrefix(out, old+" was delivered and is sent again as ") {
		t.Errorf("replay: %s", out)
	}
	s.until("the replay has arrived", func() bool { return len(g.got()) == 3 })
	if all := g.got(); all[2] != all[1] {
		t.Errorf("replayed %s, sent was %s", all[2], all[1])
	}
	if out := s.good("deliveries", "list", "--origin", old); !strings.Contains(out, two.Ref) {
		t.Error(out)
	}

	// A route that is new gets what it has not had, if asked to.
	file, err := os.ReadFile(s.file)
	if err != nil {
		t.Fatal(err)
	}
	s.write(string(file) + strings.Replace(ehrRoute, "routes.ehr", "routes.second", 1))
	s.good("reload")
	if out := s.good("events", "retry", two.Ref, "--routes", "--reason", "new"); !strings.Contains(out, "was not there and is queued") {
		t.Error(out)
	}
	s.await(two.EventID, "second", core.StateDelivered)
	if out := s.good("events", "show", two.Ref); !strings.Contains(out, "replay of "+old) || !strings.Contains(out, "place") {
		t.Error(out)
	}
}

// syncBuffer is written by one and read by another.
type syncBuffer struct {
	mu   sync.Mutex
	text strings.Builder
}

func (b *syncBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.text.Write(p)
}

func (b *syncBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.text.String()
}

func TestWatch(t *testing.T) {
	g := &taking{}
	s := siteFor(t, g, ehrRoute)
	before := s.send(`{"trans_id":4,"form_id":1,"OnInsert":true}`)
	s.await(before.EventID, "ehr", core.StateDelivered)
	ctx, cancel := context.WithCancel(context.Background())
	out := &syncBuffer{}
	w := &watcher{client: s.client(), filter: journal.EventFilter{Hook: "demo"}, out: out, seen: map[string]bool{}}
	done := make(chan error, 1)
	first := w.filter
	first.After = journal.CursorNew
	page, err := w.client.Events(ctx, first)
	if err != nil || len(page.Events) > 0 {
		t.Fatal(page, err)
	}
	go func() { done <- w.run(ctx) }()
	var refs []string
	s.until("an event and its end are printed", func() bool {
		refs = append(refs, s.send(`{"trans_id":5,"form_id":1,"OnInsert":true}`).Ref)
		for _, ref := range refs {
			if strings.Contains(out.String(), ref) && strings.Contains(out.String(), "ehr delivered") {
				return true
			}
		}
		return len(refs) > 200
	})
	cancel()
	select {
	case <-done:
	case <-time.After(20 * time.Second):
		t.Fatal("it goes on")
	}
	if strings.Contains(out.String(), before.Ref) || !strings.Contains(out.String(), "ehr delivered") {
		t.Error(out.String())
	}
}

// TestRedriveRefused: bodies that an older version refused, and today's rules take.
func TestRedriveRefused(t *testing.T) {
	g := &taking{}
	s := siteFor(t, g, ehrRoute)
	s.daemon.stop()
	store, err := journal.Open(t.Context(), journal.Options{URL: "sqlite:" + filepath.Join(filepath.Dir(s.file), "hookline.db")})
	if err != nil {
		t.Fatal(err)
	}
	for n := range 3 {
		ev := &core.Event{Body: fmt.Appendf(nil, `{"trans_id":%d,"form_id":1,"OnInsert":true}`, n)}
		ev.Stamp(&core.Hook{Name: "demo", Stage: core.UAT}, time.Now())
		if err := store.Refused(t.Context(), ev, core.InvalidBody, "form_id", "is a number"); err != nil {
			t.Fatal(err)
		}
	}
	if err := store.Close(); err != nil {
		t.Fatal(err)
	}
	s.start()
	for _, c := range []struct {
		args []string
		code int
		says string
	}{
		{[]string{"--refused"}, 2, "--reason is missing"},
		{[]string{}, 2, "takes the ids or references of events, or flags that say which"},
		{[]string{"X1P3H50X", "--refused", "--reason", "r"}, 2, "not both"},
		{[]string{"X1P3H50X", "--dry-run"}, 2, "leave out the ids"},
		{[]string{"--refused", "--reason", "r"}, 2, "there is no terminal to ask on"},
	} {
		code, out, errs := s.run(append([]string{"events", "retry"}, c.args...)...)
		if code != c.code || out != "" || !strings.Contains(errs, c.says) {
			t.Errorf("%q: exit %d\n%s%s", c.args, code, out, errs)
		}
	}
	// Programs get JSON, also where there is nothing to do.
	for line, want := range map[string]string{
		"events retry --refused --dry-run":                  "3 events\n",
		"events retry --refused --dry-run --json":           "{\n  \"count\": 3\n}\n",
		"events retry --record none --reason r --json":      "[]\n",
		"deliveries cancel --record none --reason r --json": "{\n  \"results\": []\n}\n",
	} {
		if code, out, errs := s.run(words(line)...); code != 0 || out != want {
			t.Errorf("%s: exit %d\n%s%s", line, code, out, errs)
		}
	}
	if n := len(g.got()); n > 0 {
		t.Fatalf("%d were sent", n)
	}
	code, out, errs := s.run("events", "retry", "--refused", "--reason", "numbers are good now", "--yes")
	if code != 0 || strings.Count(out, " was refused and is event ") != 3 || errs != "3 events\n" {
		t.Fatalf("exit %d\n%s%s", code, out, errs)
	}
	s.until("all three have arrived", func() bool { return len(g.got()) == 3 })
	code, out, errs = s.run("events", "retry", "--refused", "--reason", "again", "--yes")
	if code != 1 || out != "" || strings.Count(errs, "was driven again before, as event ") != 3 {
		t.Errorf("twice: exit %d\n%s%s", code, out, errs)
	}
	for line := range strings.Lines(errs) {
		if id, _, found := strings.Cut(line, ":"); found && strings.Count(line, id) > 1 {
			t.Errorf("it names the event twice: %s", line)
		}
	}
	if out := s.good("audit", "verify"); !strings.Contains(out, "all is as it was written") {
		t.Error(out)
	}
}

// /dev/null is a device, and nobody who could answer.
func TestConfirmAsksTerminalsOnly(t *testing.T) {
	null, err := os.Open(os.DevNull)
	if err != nil {
		t.Fatal(err)
	}
	defer null.Close()
	for _, stdin := range []io.Reader{strings.NewReader("y\n"), null} {
		var asked bytes.Buffer
		if err := confirm(stdin, &asked, "hold 2 deliveries?"); exitCode(err) != exitConfig || !strings.Contains(err.Error(), "--yes") || asked.Len() > 0 {
			t.Errorf("%v %q", err, asked.String())
		}
	}
}
