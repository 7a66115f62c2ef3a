package main

import (
	"bytes"
	"database/sql"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/hookline/hookline/core"
	"github.com/hookline/hookline/core/admin"
	"github.com/hookline/hookline/core/journal"
	"github.com/hookline/hookline/plugins/transport"
)

// site is a daemon with two targets, one of which can be made to fail.
type site struct {
	t      *testing.T
	file   string // the configuration
	url    string // the hook
	status atomic.Int32
	daemon *running
}

// newSite runs a daemon. more is put before its configuration's tables.
func newSite(t *testing.T, more string) *site {
	t.Helper()
	dir, err := os.MkdirTemp("", "hl-op-") // t.TempDir is too long for sockets
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	s := &site{t: t, file: filepath.Join(dir, "config.toml")}
	s.status.Store(http.StatusServiceUnavailable)
	ehr := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(int(s.status.Load())) }))
	t.Cleanup(ehr.Close)
	lab := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	t.Cleanup(lab.Close)
	s.write(more + fmt.Sprintf(`
server.listen = ["tcp://127.0.0.1:0"]
[hooks.demo]
anonymous = true
study = "ABC-123"
stage = "uat"
[transports.ehr]
plugin = "http"
settings = { url = %q }
[transports.lab]
plugin = "http"
settings = { url = %q }
[routes.ehr]
hooks = ["demo"]
transport = "ehr"
[routes.lab]
hooks = ["demo"]
transport = "lab"
`, ehr.URL, lab.URL))
	return s
}

func (s *site) write(text string) {
	s.t.Helper()
	if err := os.WriteFile(s.file, []byte(text), 0o600); err != nil {
		s.t.Fatal(err)
	}
}

func (s *site) start() {
	s.t.Helper()
	s.daemon = launch(s.t, hookline(s.t, nil, "serve", "--config", s.file), false)
	s.url = "http://" + s.daemon.await(`"on":"tcp://([^"]+)"`) + "/hooks/demo"
}

// send posts a body to the hook and returns the answer.
func (s *site) send(body string) core.Answer {
	s.t.Helper()
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}, Timeout: 20 * time.Second}
	resp, err := client.Post(s.url, "application/json", strings.NewReader(body))
	if err != nil {
		s.t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	var a core.Answer
	if err := json.NewDecoder(resp.Body).Decode(&a); err != nil {
		s.t.Fatal(err)
	}
	return a
}

// run runs a command of the operator's, in this process.
func (s *site) run(args ...string) (code int, stdout, stderr string) {
	var out, errs bytes.Buffer
	code = run(append(args, "--config", s.file), strings.NewReader(""), &out, &errs)
	return code, out.String(), errs.String()
}

// good runs a command that must work and say nothing on stderr.
func (s *site) good(args ...string) string {
	s.t.Helper()
	code, out, errs := s.run(args...)
	if code != 0 || errs != "" {
		s.t.Fatalf("%q: exit %d\n%s%s", args, code, out, errs)
	}
	return out
}

// await asks the daemon until a delivery is in the state.
func (s *site) await(event, route string, state core.State) {
	s.t.Helper()
	client := s.client()
	s.until("the delivery is "+string(state), func() bool {
		page, err := client.Deliveries(s.t.Context(), journal.DeliveryFilter{Event: event, Route: route})
		if err != nil || len(page.Deliveries) != 1 {
			s.t.Fatalf("%+v, %v", page, err)
		}
		return page.Deliveries[0].State == state
	})
}

// answered asks the daemon until it has written down what the caller was told,
// for which nobody waits.
func (s *site) answered(event string) {
	s.t.Helper()
	s.until("an answer is in the journal", func() bool {
		e, err := s.client().Event(s.t.Context(), event)
		if err != nil {
			s.t.Fatal(err)
		}
		return e.Answer != nil
	})
}

func (s *site) client() *admin.Client {
	return admin.NewClient(filepath.Join(filepath.Dir(s.file), "hookline-admin.sock"))
}

func (s *site) until(what string, ok func() bool) {
	s.t.Helper()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for end := time.Now().Add(20 * time.Second); !ok(); <-tick.C {
		if time.Now().After(end) {
			s.t.Fatalf("it never came that %s", what)
		}
	}
}

// ready asks /readyz.
func (s *site) ready() (status int, body string) {
	s.t.Helper()
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}, Timeout: 20 * time.Second}
	resp, err := client.Get(strings.TrimSuffix(s.url, "/hooks/demo") + "/readyz")
	if err != nil {
		s.t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		s.t.Fatal(err)
	}
	return resp.StatusCode, string(text)
}

var (
	aUUID = regexp.MustCompile(`[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}`)
	aTime = regexp.MustCompile(`\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{3})?Z`)
	aSpan = regexp.MustCompile(`\b(\d+(\.\d+)?)(µs|ms|s)\b( +)?`)
	aRef  = regexp.MustCompile(`\b[0-9A-HJKMNP-TV-Z]{8}\b`)
)

// stable replaces what is different each time.
func stable(s string) string {
	s = aUUID.ReplaceAllString(s, "UUID")
	s = aTime.ReplaceAllString(s, "TIME")
	s = aSpan.ReplaceAllString(s, "SPAN ")
	s = aRef.ReplaceAllStringFunc(s, func(ref string) string {
		if ref == "ATTEMPTS" {
			return ref
		}
		return "REFERENC"
	})
	var out strings.Builder
	for line := range strings.Lines(s) { // widths follow what was replaced
		out.WriteString(regexp.MustCompile(` {2,}`).ReplaceAllString(strings.TrimRight(line, " \n"), "  ") + "\n")
	}
	return out.String()
}

func golden(t *testing.T, what, got, want string) {
	t.Helper()
	if got := stable(got); got != want {
		t.Errorf("%s:\n%s\nwant:\n%s", what, got, want)
	}
}

func TestOperator(t *testing.T) {
	s := newSite(t, "")
	config, err := os.ReadFile(s.file)
	if err != nil {
		t.Fatal(err)
	}
	s.write(strings.Replace(string(config), `transport = "ehr"`, "transport = \"ehr\"\nretry = { initial = \"1h\", max = \"1h\" }", 1))
	s.start()
	if _, out, errs := s.run("events", "list"); out != "" || errs != "no such events\n" {
		t.Errorf("an empty journal: %q %q", out, errs)
	}
	if _, out, errs := s.run("deliveries", "list"); out != "" || errs != "no such deliveries\n" {
		t.Errorf("an empty journal: %q %q", out, errs)
	}

	const body = `{"trans_id":435,"form_id":319,"form_name":"Sample \u202eForm","OnInsert":true,"name":"Jane Doe"}`
	first := s.send(body)
	if first.Status != 503 || first.Code != transport.ThrottledByTarget {
		t.Fatalf("%+v", first)
	}
	refused := s.send(`{"trans_id":1}`)
	s.answered(first.Ref)
	s.answered(refused.Ref)
	s.await(first.Ref, "ehr", core.StateWaiting)
	s.await(first.Ref, "lab", core.StateDelivered)

	golden(t, "events list", s.good("events", "list"), `TIME  REF  HOOK  KIND  FORM  RECORD  ANSWER  DELIVERIES
TIME  REFERENC  demo  -  -  -  400  refused: invalid_event
TIME  REFERENC  demo  insert  319 Sample \u202eForm  435  503  ehr waiting, lab delivered
`)
	show := s.good("events", "show", strings.ToLower(first.Ref))
	golden(t, "events show", show, `event  UUID
reference  REFERENC
received  TIME on hook demo (study ABC-123, stage uat)
what  insert of record 435, form 319 "Sample \u202eForm"
body  `+fmt.Sprint(len(body))+` bytes
answered  503 throttled_by_target at TIME, after SPAN
  told  `+printable(strings.ReplaceAll(first.Detail, first.Ref, "REFERENC"))+`

route ehr: waiting, throttled_by_target
  delivery  UUID
  next  an attempt at TIME
  message  UUID, application/json, `+fmt.Sprint(len(body))+` bytes
  ATTEMPT  TIME  TOOK  CODE  TARGET  DETAIL
  1  TIME  SPAN throttled_by_target  503  the target answered 503
  2  TIME  SPAN throttled_by_target  503  the target answered 503

route lab: delivered
  delivery  UUID
  ended  TIME
  message  UUID, application/json, `+fmt.Sprint(len(body))+` bytes
  ATTEMPT  TIME  TOOK  CODE  TARGET  DETAIL
  1  TIME  SPAN delivered  200  the target answered 200
`)
	golden(t, "a refused one", s.good("events", "show", refused.EventID), `event  UUID
reference  REFERENC
received  TIME on hook demo (study ABC-123, stage uat)
body  14 bytes
refused  invalid_event
  rule  OnInsert, OnUpdate, OnReview are missing or false: exactly one of them must be true
answered  400 invalid_event at TIME, after SPAN
  told  `+strings.ReplaceAll(refused.Detail, refused.Ref, "REFERENC")+`
`)
	golden(t, "deliveries list", s.good("deliveries", "list", "--record", "435", "--state", "waiting,held"),
		`TIME  DELIVERY  EVENT  ROUTE  RECORD  STATE  CODE  ATTEMPTS  DUE
TIME  UUID  REFERENC  ehr  435  waiting  throttled_by_target  2  TIME
`)
	if out := s.good("events", "show", first.EventID, "--body"); out != body {
		t.Errorf("--body: %q", out)
	}
	s.daemon.await(`"msg":"the body of an event was read in the admin API".*"actor":"[^"]+","event_id":"` + first.EventID)
	if strings.Contains(show, "Jane Doe") {
		t.Error("a record's contents are shown")
	}

	var page admin.EventPage
	text := s.good("events", "list", "--hook", "demo", "--kind", "insert", "--form", "319", "--record", "435", "--since", "1h", "--until", "2100-01-01T00:00:00Z", "--json")
	if err := json.Unmarshal([]byte(text), &page); err != nil || len(page.Events) != 1 || page.Events[0].ID != first.EventID || page.Events[0].FormName != "Sample \u202eForm" {
		t.Errorf("%v: %s", err, text)
	}
	if strings.Contains(text, "\u202e") {
		t.Error("--json holds a hidden character")
	}
	text = s.good("events", "list", "--limit", "1")
	if !strings.HasSuffix(text, "There are more: run the same again with --cursor "+text[strings.LastIndexByte(strings.TrimSpace(text), ' ')+1:]) || strings.Count(text, "\n") != 3 {
		t.Errorf("a page: %s", text)
	}
	text = s.good("events", "list", "--limit", "1", "--cursor", strings.TrimSpace(text[strings.LastIndex(text, "--cursor ")+9:]))
	if !strings.Contains(text, first.Ref) || strings.Contains(text, "--cursor") {
		t.Errorf("the last page: %s", text)
	}
	if text = s.good("events", "list", "--refused"); !strings.Contains(text, refused.Ref) || strings.Contains(text, first.Ref) {
		t.Errorf("--refused: %s", text)
	}
	var detail admin.EventDetail
	if err := json.Unmarshal([]byte(s.good("events", "show", first.Ref, "--json")), &detail); err != nil || len(detail.Deliveries) != 2 || len(detail.Deliveries[0].History) != 2 {
		t.Errorf("%v: %+v", err, detail)
	}
	var list admin.DeliveryPage
	if err := json.Unmarshal([]byte(s.good("deliveries", "list", "--hook", "demo", "--route", "ehr", "--code", "throttled_by_target", "--event", first.Ref, "--json")), &list); err != nil || len(list.Deliveries) != 1 {
		t.Fatalf("%v: %+v", err, list)
	}
	waiting, ended := list.Deliveries[0].ID, detail.Deliveries[1].ID

	// The target comes back.
	s.status.Store(http.StatusOK)
	if out, want := s.good("deliveries", "retry", waiting, "--reason", "the EHR is up"), waiting+" was waiting and is queued\n"; out != want {
		t.Errorf("retry: %q, want %q", out, want)
	}
	s.daemon.await(`"msg":"deliveries were acted on".*"act":"retry","ids":1,"done":1`)
	s.await(first.Ref, "ehr", core.StateDelivered)
	if text = stable(s.good("events", "show", first.Ref)); !strings.Contains(text, "\n  ACT  TIME  BY  WAS  NOW  REASON\n  retry  TIME  ") ||
		!strings.Contains(text, "  waiting  queued  the EHR is up\n") {
		t.Errorf("what was done is not shown: %s", text)
	}
	if text = s.good("events", "list", "--record", "435"); !strings.Contains(text, "ehr delivered, lab delivered") {
		t.Errorf("after the retry: %s", text)
	}

	// And fails again.
	s.status.Store(http.StatusServiceUnavailable)
	second := s.send(`{"trans_id":436,"form_id":319,"OnUpdate":true}`)
	s.await(second.EventID, "ehr", core.StateWaiting)
	if err := json.Unmarshal([]byte(s.good("deliveries", "list", "--state", "waiting", "--json")), &list); err != nil || len(list.Deliveries) != 1 {
		t.Fatalf("%v: %+v", err, list)
	}
	waiting = list.Deliveries[0].ID
	if out, want := s.good("deliveries", "cancel", waiting, "--reason", "entered by hand"), waiting+" was waiting and is cancelled\n"; out != want {
		t.Errorf("cancel: %q, want %q", out, want)
	}
	code, out, errs := s.run("deliveries", "cancel", waiting, ended, "--reason", "again")
	if code != 1 || out != "" || !strings.Contains(errs, waiting+" is cancelled already\n") || !strings.Contains(errs, ended+" has ended as delivered: there is nothing to cancel\n") {
		t.Errorf("cancel again: exit %d\n%s%s", code, out, errs)
	}
	code, out, errs = s.run("deliveries", "retry", ended, "--json")
	var results admin.ActResults
	if err := json.Unmarshal([]byte(out), &results); err != nil || code != 1 || errs != "" || len(results.Results) != 1 || results.Results[0].OK {
		t.Errorf("exit %d, %v\n%s%s", code, err, out, errs)
	}

	for _, tt := range []struct {
		args []string
		code int
		want string
	}{
		{[]string{"events", "show", "ZZZZZZZZ"}, 1, "event ZZZZZZZZ: not in the journal"},
		{[]string{"events", "show", "Jane Doe"}, 2, `"Jane Doe" is no event`},
		{[]string{"events", "show", first.Ref, "--body", "--json"}, 2, "leave out --json"},
		{[]string{"events", "show"}, 2, "one argument"},
		{[]string{"events", "list", "x"}, 2, `does not know "x"`},
		{[]string{"events", "list", "--kind", "delete"}, 2, "insert, update, review"},
		{[]string{"events", "list", "--since", "yesterday"}, 2, `--since "yesterday": write how long ago`},
		{[]string{"events", "list", "--until", "-2h"}, 2, "--until"},
		{[]string{"events", "list", "--limit", "2000"}, 2, "between 1 and 1000"},
		{[]string{"events", "list", "--limit", "0"}, 2, "between 1 and 1000"},
		{[]string{"events", "list", "--cursor", "!"}, 2, "the page before"},
		{[]string{"deliveries", "list", "--state", "gone"}, 2, "queued, running"},
		{[]string{"deliveries", "retry"}, 2, "hookline deliveries list"},
		{[]string{"deliveries", "retry", first.Ref}, 2, "UUID"},
		{[]string{"deliveries", "cancel", waiting}, 2, "--reason is missing"},
		{[]string{"deliveries", "replay", waiting}, 2, "--reason is missing"},
		{[]string{"deliveries", "release", waiting, "--route", "ehr"}, 2, "not both"},
		{[]string{"deliveries", "release", waiting, "--dry-run"}, 2, "leave out the ids"},
		{[]string{"deliveries", "release", "--route", "ehr"}, 2, "--reason is missing"},
		{[]string{"deliveries", "retry", "--since", "yesterday", "--reason", "r"}, 2, "write how long ago"},
		{[]string{"deliveries", "release", "--state", "dead", "--dry-run"}, 2, "release is for held only"},
		{[]string{"deliveries", "replay", "--route", strings.Repeat("x", 600), "--dry-run"}, 2, "at most 512"},
		{[]string{"deliveries", "list", "--origin", "x"}, 2, "the id of a delivery"},
		{[]string{"deliveries", "list", "--code", "Jane Doe\x1b[2J"}, 2, "without control characters"},
		{[]string{"events", "list", "--id", "nobody"}, 2, "is no event"},
		{[]string{"events", "list", "--state", "gone"}, 2, "queued, running"},
		{[]string{"events", "watch", "--kind", "delete"}, 2, "insert, update, review"},
		{[]string{"events", "watch", "--id", first.Ref}, 2, "hookline events list"},
		{[]string{"events", "retry"}, 2, "ids or references"},
		{[]string{"events", "list", "--admin", "/no/such/socket"}, 3, "no daemon answers on /no/such/socket"},
		{[]string{"deliveries", "retry", waiting, "--admin", "/no/such/socket"}, 3, "no daemon answers"},
	} {
		code, out, errs := s.run(tt.args...)
		if code != tt.code || !strings.Contains(errs, tt.want) || out != "" {
			t.Errorf("%q: exit %d, want %d and %q\n%s%s", tt.args, code, tt.code, tt.want, out, errs)
		}
	}
	if code, _, errs := finish(t, hookline(t, nil, "events", "lst")); code != 2 || !strings.Contains(errs, "did you mean list?") {
		t.Errorf("a misspelt command: exit %d\n%s", code, errs)
	}
	used := fmt.Sprintf("journal: sqlite %s, schema 3, used by pid %d\nok\n", filepath.Join(filepath.Dir(s.file), "hookline.db"), s.daemon.cmd.Process.Pid)
	if code, out, errs := s.run("check"); code != 0 || errs != "" || !strings.HasSuffix(out, used) {
		t.Errorf("check: exit %d\n%s%swant %s", code, out, errs, used)
	}
	if code := s.daemon.stop(); code != 0 {
		t.Errorf("serve: exit %d\n%s", code, s.daemon.all)
	}
	if strings.Contains(s.daemon.all.String(), "Jane Doe") {
		t.Error("the log holds a record's contents")
	}
	if code, _, errs := s.run("events", "list"); code != 3 || !strings.Contains(errs, "no daemon answers") {
		t.Errorf("without a daemon: exit %d\n%s", code, errs)
	}
}

// A daemon that could not use its files says so to whoever checks them.
func TestCheckTellsOfARecalledConfiguration(t *testing.T) {
	s := newSite(t, "")
	s.start()
	if code := s.daemon.stop(); code != 0 {
		t.Fatalf("serve: exit %d", code)
	}
	good, err := os.ReadFile(s.file)
	if err != nil {
		t.Fatal(err)
	}
	s.write(strings.Replace(string(good), "anonymous", "anonymus", 1))
	s.start()
	code, out, errs := s.run("check")
	if code != 2 || out != "" || strings.Count(errs, "the daemon runs on the configuration that was accepted on 20") != 1 || !strings.Contains(errs, "did you mean anonymous?") {
		t.Errorf("exit %d\n%s%s", code, out, errs)
	}
	code, out, errs = s.run("check", "--json")
	var report struct {
		OK     bool
		Errors []string
		Daemon *admin.Status
	}
	if err := json.Unmarshal([]byte(out), &report); err != nil || code != 2 || errs != "" || len(report.Errors) == 0 || report.Daemon == nil {
		t.Fatalf("exit %d, %v\n%s%s", code, err, out, errs)
	}
	d := report.Daemon
	if !strings.Contains(d.Recalled.Why, "anonymus") || d.Recalled.AcceptedAt.IsZero() || d.Journal != "sqlite" || len(d.Revision) < 12 ||
		strings.Join(d.Hooks, " ") != "demo" || strings.Join(d.Routes, " ") != "ehr lab" || time.Since(d.StartedAt.Time) > time.Minute || d.Version == "" {
		t.Errorf("%+v", d)
	}
	s.write(string(good)) // good again, and not yet loaded
	if code, out, errs = s.run("check"); code != 0 || !strings.HasSuffix(out, "ok\n") || !strings.Contains(errs, "hookline reload") {
		t.Errorf("exit %d\n%s%s", code, out, errs)
	}
	code, out, _ = s.run("check", "--json")
	report.Daemon = nil
	if err := json.Unmarshal([]byte(out), &report); err != nil || code != 0 || !report.OK || report.Daemon == nil {
		t.Errorf("exit %d, %v\n%s", code, err, out)
	}
	if out := s.good("reload"); out != "reloaded\n" {
		t.Error(out)
	}
	s.good("check")
	if code := s.daemon.stop(); code != 0 {
		t.Errorf("serve: exit %d", code)
	}
}

func TestOperatorWithoutAJournal(t *testing.T) {
	s := newSite(t, "journal.url = \"none\"\n")
	s.start()
	for _, args := range [][]string{{"events", "list"}, {"events", "show", "ZZZZZZZZ"}, {"deliveries", "list"}} {
		if code, out, errs := s.run(args...); code != 1 || out != "" || !strings.Contains(errs, "journal.url is none") {
			t.Errorf("%q: exit %d\n%s%s", args, code, out, errs)
		}
	}
}

// What waits for the operator can be listed, and what nobody would send is not
// made due. The commands find the daemon although its secrets are not here.
func TestStuck(t *testing.T) {
	s := newSite(t, "")
	text, err := os.ReadFile(s.file)
	if err != nil {
		t.Fatal(err)
	}
	socket := filepath.Join(filepath.Dir(s.file), "op.sock")
	full := strings.Replace(string(text), `transport = "ehr"`, "transport = \"ehr\"\non_dead = \"hold\"", 1) +
		"[hooks.other]\nemail = \"a@example.org\"\npassword = \"env:HOOKLINE_TEST_SECRET\"\n[admin]\nlisten = \"unix:op.sock\"\n"
	s.write(full)
	s.status.Store(http.StatusBadRequest)
	s.daemon = launch(t, hookline(t, []string{"HOOKLINE_TEST_SECRET=s3cret-s3cret"}, "serve", "--config", s.file), false)
	s.url = "http://" + s.daemon.await(`"on":"tcp://([^"]+)"`) + "/hooks/demo"
	if code, _, errs := s.run("check"); code != 2 || !strings.Contains(errs, "HOOKLINE_TEST_SECRET") {
		t.Fatalf("check: exit %d\n%s", code, errs)
	}

	dead := s.send(`{"trans_id":1,"form_id":319,"OnInsert":true}`)
	behind := s.send(`{"trans_id":1,"form_id":319,"OnUpdate":true}`)
	if dead.Status != 502 || behind.Status != 202 {
		t.Fatalf("%+v\n%+v", dead, behind)
	}
	list := func(args ...string) (out []admin.Delivery) {
		t.Helper()
		var page admin.DeliveryPage
		if err := json.Unmarshal([]byte(s.good(append([]string{"deliveries", "list", "--json"}, args...)...)), &page); err != nil {
			t.Fatal(err)
		}
		return page.Deliveries
	}
	s.until("one is stuck", func() bool { return len(list("--stuck")) == 1 })
	golden(t, "--stuck", s.good("deliveries", "list", "--stuck"), `TIME  DELIVERY  EVENT  ROUTE  RECORD  STATE  CODE  ATTEMPTS  DUE
TIME  UUID  REFERENC  ehr  1  dead  rejected_by_target  1  -
`)
	golden(t, "all of the route", s.good("deliveries", "list", "--route", "ehr"), `TIME  DELIVERY  EVENT  ROUTE  RECORD  STATE  CODE  ATTEMPTS  DUE
TIME  UUID  REFERENC  ehr  1  queued  -  0  behind
TIME  UUID  REFERENC  ehr  1  dead  rejected_by_target  1  -
`)
	both := list("--route", "ehr")
	if len(both) != 2 || both[0].Blocks || both[0].Head || !both[1].Blocks || !both[1].Head {
		t.Errorf("%+v", both)
	}
	if got := list("--stuck", "--state", "held,queued"); len(got) != 0 {
		t.Errorf("--stuck of other states: %+v", got)
	}

	before, rest, _ := strings.Cut(full, "[routes.ehr]") // the route goes
	_, after, _ := strings.Cut(rest, "[routes.lab]")
	s.write(before + "[routes.lab]" + after)
	s.good("reload")
	s.daemon.await(`deliveries are held because`)
	s.until("all of it is held", func() bool { return len(list("--state", "held")) == 1 })
	code, out, errs := s.run("deliveries", "retry", both[0].ID, both[1].ID)
	if code != 1 || out != "" || strings.Count(errs, "its route is not in the configuration") != 2 {
		t.Errorf("retry: exit %d\n%s%s", code, out, errs)
	}
	if out := s.good("deliveries", "cancel", both[1].ID, "--reason", "gone"); !strings.Contains(out, "is cancelled") {
		t.Error(out)
	}
	if got := list("--stuck"); len(got) != 1 || got[0].ID != both[0].ID || got[0].State != core.StateHeld || got[0].Blocks {
		t.Errorf("stuck: %+v", got)
	}
	if _, err := os.Stat(socket); err != nil {
		t.Error(err)
	}
}

// Whoever spreads the calls learns that this daemon cannot keep events, and that
// it can again, although none comes meanwhile.
func TestReadyFollowsTheJournal(t *testing.T) {
	s := newSite(t, "")
	s.start()
	if status, body := s.ready(); status != 200 {
		t.Fatalf("%d %s", status, body)
	}
	db, err := sql.Open("sqlite", "file:"+filepath.Join(filepath.Dir(s.file), "hookline.db")+"?_pragma=busy_timeout(10000)")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = db.Close() }()
	conn, err := db.Conn(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close() }()
	if _, err := conn.ExecContext(t.Context(), "begin immediate"); err != nil {
		t.Fatal(err)
	}
	if a := s.send(`{"trans_id":1,"form_id":319,"OnInsert":true}`); a.Code != core.JournalUnavailable {
		t.Errorf("%+v", a)
	}
	status, body := s.ready()
	if status != 503 || !strings.Contains(body, "the log says why") {
		t.Errorf("%d %s", status, body)
	}
	if _, err := conn.ExecContext(t.Context(), "rollback"); err != nil {
		t.Fatal(err)
	}
	s.until("it is ready again", func() bool { status, body = s.ready(); return status == 200 })
	if code := s.daemon.stop(); code != 0 {
		t.Errorf("serve: exit %d", code)
	}
}

// A journal that cannot be used is told before a start, and by it, in one voice.
func TestCheckOfTheJournal(t *testing.T) {
	for _, tt := range []struct {
		name    string
		prepare string // SQL, or "" for no database at all
		exit    int    // of serve
		want    string
	}{
		{"no database", "", 3, "is corrupt: move it away together with its -wal and -shm files, and put a backup in its place"},
		{"another program's", "create table t (x)", 0, "no journal of Hookline: change journal.url"},
		{"newer", "insert into goose_db_version (version_id, is_applied) values (99, 1)", 3, "its schema has version 99 and this Hookline knows versions up to 3"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := newSite(t, "")
			file := filepath.Join(filepath.Dir(s.file), "hookline.db")
			if tt.prepare == "" {
				if err := os.WriteFile(file, bytes.Repeat([]byte("no database "), 1000), 0o600); err != nil {
					t.Fatal(err)
				}
			} else {
				if tt.exit != 0 {
					j, err := journal.Open(t.Context(), journal.Options{URL: "sqlite:" + file})
					if err != nil {
						t.Fatal(err)
					}
					if err := j.Close(); err != nil {
						t.Fatal(err)
					}
				}
				db, err := sql.Open("sqlite", "file:"+file)
				if err != nil {
					t.Fatal(err)
				}
				if _, err := db.Exec(tt.prepare); err != nil {
					t.Fatal(err)
				}
				if err := db.Close(); err != nil {
					t.Fatal(err)
				}
			}
			before, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			code, out, errs := s.run("check")
			if code != 1 || errs != "" || !strings.Contains(out, "journal CANNOT be used: ") || !strings.Contains(out, tt.want) || strings.HasSuffix(out, "ok\n") {
				t.Errorf("check: exit %d\n%s%s", code, out, errs)
			}
			after, err := os.ReadFile(file)
			others, _ := filepath.Glob(file + "-*")
			if err != nil || !bytes.Equal(before, after) || len(others) != 0 {
				t.Errorf("check has changed something: %v, %q", err, others)
			}
			if tt.exit == 0 {
				return
			}
			code, _, errs = finish(t, hookline(t, nil, "serve", "--config", s.file))
			if code != tt.exit || !strings.Contains(errs, tt.want) || strings.Contains(errs, "journal: journal") || strings.Contains(errs, "no restart is needed") {
				t.Errorf("serve: exit %d\n%s", code, errs)
			}
		})
	}
}

func TestPrintable(t *testing.T) {
	const nasty = "a\x1b[2J\x9b\u009b\u202e\u2028\t\n\x00é \\ 漢😀"
	const want = `a\x1b[2J\x9b\u009b\u202e\u2028\t\n\x00é \ 漢😀`
	if got := printable(nasty); got != want {
		t.Errorf("%s, want %s", got, want)
	}
	var out bytes.Buffer
	type named struct{ Name string }
	in := []named{{strings.ToValidUTF8(nasty, "") + "\U000e0001\x7f<&>"}}
	if err := printJSON(&out, in); err != nil {
		t.Fatal(err)
	}
	if strings.ContainsFunc(strings.ReplaceAll(out.String(), "\n", ""), hidden) {
		t.Errorf("%q", out.String())
	}
	var back []named
	if err := json.Unmarshal(out.Bytes(), &back); err != nil || back[0] != in[0] {
		t.Errorf("%v: %q, want %q", err, back, in)
	}
}

func TestWhatIsNext(t *testing.T) {
	now := time.Date(2026, 1, 31, 8, 30, 0, 0, time.UTC)
	at := func(d time.Duration) admin.Time { return admin.Time{Time: now.Add(d)} }
	for _, tt := range []struct {
		d    admin.Delivery
		want string
	}{
		{admin.Delivery{State: core.StateDelivered}, ""},
		{admin.Delivery{State: core.StateDead}, ""},
		{admin.Delivery{State: core.StateDead, Blocks: true, Head: true}, "it has ended, and the record's later events wait for you: retry or cancel it"},
		{admin.Delivery{State: core.StateRunning, Head: true}, "an attempt is being made"},
		{admin.Delivery{State: core.StateQueued}, "its turn comes after the record's earlier events"},
		{admin.Delivery{State: core.StateHeld, Head: true}, "nothing by itself: release or cancel it"},
		{admin.Delivery{State: core.StateHeld}, "nothing by itself: release or cancel it"},
		{admin.Delivery{State: core.StateUnknown, Head: true}, "nothing by itself: retry or cancel it"},
		{admin.Delivery{State: core.StateWaiting, Head: true, DueAt: at(time.Hour)}, "an attempt at 2026-01-31T09:30:00.000Z"},
		{admin.Delivery{State: core.StateUnknown, Head: true, DueAt: at(-time.Second)}, "an attempt, as soon as there is room (due 2026-01-31T08:29:59.000Z)"},
	} {
		if got := next(&tt.d, now); got != tt.want {
			t.Errorf("%+v: %q, want %q", tt.d, got, tt.want)
		}
	}
}
