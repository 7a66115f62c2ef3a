package app_test

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/hookline/hookline/core"
	"github.com/hookline/hookline/core/admin"
	"github.com/hookline/hookline/core/alerts"
	"github.com/hookline/hookline/plugins/transport"
)

// hurried are the times of the tests' alerts.
var hurried = alerts.Times{
	Every: 10 * time.Millisecond, Send: 5 * time.Second, Retry: 20 * time.Millisecond, RetryMax: 40 * time.Millisecond,
	Dead: time.Hour, Denied: time.Hour, Calm: 600 * time.Millisecond, Gone: 600 * time.Millisecond,
	Child: 300 * time.Millisecond, Restarts: time.Hour,
}

// What no alert may hold, beside secrets and contents.
const (
	wrongPassword  = "wr0ng-Pa55word-5a1e"
	operatorReason = "entered twice, says the site"
)

// told is a message about an alert.
type told struct {
	Alert, State, Subject, Node, Text string
	Since, At                         time.Time
	Count                             int
	Refs                              []string
}

// ops is the target of alerts.
type ops struct {
	*target
	down atomic.Bool // it answers 503
}

func newOps(t testing.TB) *ops {
	o := &ops{}
	o.target = newTarget(t, func(_ int, w http.ResponseWriter, _ *http.Request) {
		if o.down.Load() {
			w.WriteHeader(http.StatusServiceUnavailable)
		}
	})
	return o
}

// section is the configuration of alerts over it, with a transport and no route.
func (o *ops) section(more string) string {
	return fmt.Sprintf("\n[alerts]\ntransport = \"ops\"\n%s\n[transports.ops]\nplugin = \"http\"\nsettings = { url = %q }\n", more, o.url)
}

// messages are all that came, as "alert subject state", and the whole of each.
func (o *ops) messages(t testing.TB) (short []string, all []told) {
	t.Helper()
	for _, r := range o.got() {
		assertClean(t, "an alert", string(r.body), append([]string{wrongPassword, operatorReason, "own words"}, recordContents...)...)
		if got := r.header.Get("Content-Type"); got != "application/json" {
			t.Errorf("Content-Type %q", got)
		}
		var fields map[string]json.RawMessage
		var m told
		if err := json.Unmarshal(r.body, &fields); err != nil {
			t.Fatalf("%s: %v", r.body, err)
		}
		if err := json.Unmarshal(r.body, &m); err != nil {
			t.Fatalf("%s: %v", r.body, err)
		}
		for _, key := range []string{"alert", "state", "subject", "node", "since", "at", "text", "count", "refs"} {
			if _, ok := fields[key]; !ok || len(fields) != 9 {
				t.Errorf("%s: not the fields of an alert (%s)", r.body, key)
			}
		}
		if m.Node != "n1" || m.Text == "" || m.Since.IsZero() || m.At.Before(m.Since) || len(m.Refs) > 5 {
			t.Errorf("%s", r.body)
		}
		short, all = append(short, m.Alert+" "+m.Subject+" "+m.State), append(all, m)
	}
	return short, all
}

// await waits for a message and returns it.
func (o *ops) await(t testing.TB, want string) (found told) {
	t.Helper()
	eventually(t, "the message "+want, func() bool {
		short, all := o.messages(t)
		i := slices.Index(short, want)
		if i >= 0 {
			found = all[i]
		}
		return i >= 0
	})
	return found
}

// exactly wants these messages and no others, in this order.
func (o *ops) exactly(t testing.TB, want ...string) {
	t.Helper()
	if short, _ := o.messages(t); !slices.Equal(short, want) {
		t.Errorf("messages %q, want %q", short, want)
	}
}

// alerted starts a daemon in a hurry.
func alerted(t testing.TB, toml string, with ...files) *daemon {
	t.Helper()
	d := prepare(t, toml, with...)
	d.alertTimes = hurried
	if err := d.boot(); err != nil {
		t.Fatal(err)
	}
	return d
}

// named gives the daemon a name and an admin socket.
const named = "\n[journal]\nnode = \"n1\"\n[admin]\nlisten = \"unix:admin.sock\"\n"

func (d *daemon) admin() *admin.Client { return admin.NewClient(filepath.Join(d.dir, "admin.sock")) }

// list is what `hookline alerts` shows, as "alert subject".
func (d *daemon) list() (short []string, list *admin.AlertList) {
	d.t.Helper()
	list, err := d.admin().Alerts(context.Background())
	if err != nil {
		d.t.Fatal(err)
	}
	for _, a := range list.Alerts {
		short = append(short, a.Alert+" "+a.Subject)
	}
	return short, list
}

// knock calls a hook with a wrong password.
func (d *daemon) knock(hook string, times int) {
	d.t.Helper()
	for range times {
		r := http.Header{}
		req := &http.Request{Header: r}
		req.SetBasicAuth(hookEmail, wrongPassword)
		if a := d.send(call{hook: hook, body: event("319"), header: r}); a.status != http.StatusUnauthorized {
			d.t.Fatalf("a wrong password: %d", a.status)
		}
	}
}

// dbRows is the first column of what a query of the journal's file gives.
func dbRows(t testing.TB, d *daemon, query string) (out []string) {
	t.Helper()
	db, err := sql.Open("sqlite", "file:"+filepath.Join(d.dir, "hookline.db")+"?mode=ro")
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	rows, err := db.QueryContext(t.Context(), query)
	if err != nil {
		t.Fatal(err)
	}
	defer rows.Close()
	for rows.Next() {
		var s string
		if err := rows.Scan(&s); err != nil {
			t.Fatal(err)
		}
		out = append(out, s)
	}
	if err := rows.Err(); err != nil {
		t.Fatal(err)
	}
	return out
}

const hookSide = "\n[hooks.side]\nemail = \"" + hookEmail + "\"\npassword = \"env:HOOK_PASSWORD\"\n"

// Given up, and sent again by an operator; held, and cancelled.
func TestAlertDeadAndHeld(t *testing.T) {
	var bad atomic.Bool
	bad.Store(true)
	ehr := newTarget(t, func(_ int, w http.ResponseWriter, _ *http.Request) {
		if bad.Load() {
			w.WriteHeader(http.StatusBadRequest)
			_, _ = w.Write([]byte("the target's own words, which may name Jane Doe"))
		}
	})
	o := newOps(t)
	d := alerted(t, preamble+named+o.section("")+route("ehr", ehr.url, "forms = [\"id:ehr\"]", "")+route("lab", ehr.url, "forms = [\"id:lab\"]\non_dead = \"hold\"", ""))
	a := d.update("ehr", transport.RejectedByTarget)
	m := o.await(t, "dead ehr raised")
	if m.Count != 1 || !slices.Equal(m.Refs, []string{a.Ref}) {
		t.Errorf("%+v", m)
	}
	contains(t, "the text", m.Text, "1 delivery", "hookline deliveries list --state dead --route ehr")
	b := d.update("lab", transport.RejectedByTarget)
	o.await(t, "dead lab raised")
	o.await(t, "held lab raised")
	// More of the same is no news, but it is in the list.
	d.update("ehr", transport.RejectedByTarget)
	eventually(t, "two in the list", func() bool {
		_, list := d.list()
		return list.Transport == "ops" && list.Alerts[0].Subject == "ehr" && list.Alerts[0].Count == 2 && list.Alerts[0].Sent
	})
	short, list := d.list()
	if !slices.Equal(short, []string{"dead ehr", "dead lab", "held lab"}) {
		t.Errorf("the list: %q %+v", short, list)
	}

	ids := func(route string) []string {
		return dbRows(t, d, "select id from deliveries where route = '"+route+"'")
	}
	if _, err := d.admin().Cancel(t.Context(), admin.Act{IDs: ids("lab"), Reason: operatorReason}); err != nil {
		t.Fatal(err)
	}
	o.await(t, "dead lab cleared")
	o.await(t, "held lab cleared")
	bad.Store(false)
	if _, err := d.admin().Retry(t.Context(), admin.Act{IDs: ids("ehr")}); err != nil {
		t.Fatal(err)
	}
	o.await(t, "dead ehr cleared")
	short, all := o.messages(t)
	if len(short) != 6 {
		t.Errorf("%q", short)
	}
	for _, m := range all {
		if m.Subject == "lab" && !slices.Equal(m.Refs, []string{b.Ref}) {
			t.Errorf("%+v", m)
		}
	}
	if short, _ := d.list(); len(short) != 0 {
		t.Errorf("the list: %q", short)
	}
	// An alert is no delivery.
	if got := dbRows(t, d, "select id from deliveries where route not in ('ehr', 'lab')"); len(got) != 0 {
		t.Errorf("deliveries of alerts: %q", got)
	}
	d.logs.wait(t, "level=WARN", "alert raised", "alert=held", "subject=lab")
	d.logs.wait(t, "level=INFO", "alert cleared", "alert=held", "subject=lab")
}

// What was given up long ago is no news, and its alert is over by itself.
func TestAlertDeadIsOver(t *testing.T) {
	ehr := newTarget(t, func(_ int, w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusBadRequest) })
	o := newOps(t)
	d := prepare(t, preamble+named+o.section("")+route("ehr", ehr.url, "", ""))
	d.alertTimes = hurried
	d.alertTimes.Dead = time.Second
	if err := d.boot(); err != nil {
		t.Fatal(err)
	}
	d.update("ehr", transport.RejectedByTarget)
	o.await(t, "dead ehr cleared")
	o.exactly(t, "dead ehr raised", "dead ehr cleared")
}

func TestAlertCircuitOpen(t *testing.T) {
	var down atomic.Bool
	down.Store(true)
	ehr := newTarget(t, func(_ int, w http.ResponseWriter, _ *http.Request) {
		if down.Load() {
			w.WriteHeader(http.StatusServiceUnavailable)
		}
	})
	o := newOps(t)
	toml := preamble + named + o.section(`circuit_after = "0s"`) +
		strings.Replace(route("ehr", ehr.url, quick, ""), "circuit = { failures = 0 }", `circuit = { failures = 1, pause = "100ms" }`, 1)
	d := alerted(t, toml)
	d.update("319", transport.ThrottledByTarget)
	m := o.await(t, "circuit_open ehr raised")
	contains(t, "the text", m.Text, "transport ehr", "hookline check --probe")
	// It is probed meanwhile, which is not an end.
	n := len(ehr.got())
	eventually(t, "two probes", func() bool { return len(ehr.got()) > n+2 })
	down.Store(false)
	o.await(t, "circuit_open ehr cleared")
	o.exactly(t, "circuit_open ehr raised", "circuit_open ehr cleared")
}

// A circuit that is open for a short time is none.
func TestAlertCircuitAfter(t *testing.T) {
	ehr := newTarget(t, func(_ int, w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusServiceUnavailable) })
	o := newOps(t)
	d := alerted(t, preamble+named+hookSide+o.section("")+
		strings.Replace(route("ehr", ehr.url, "", ""), "circuit = { failures = 0 }", `circuit = { failures = 1 }`, 1))
	d.send(call{body: event("319")})
	d.logs.wait(t, "circuit open")
	d.knock("side", 5)
	o.await(t, "unauthorized side raised") // a later look than the circuit's
	o.await(t, "unauthorized side cleared")
	o.exactly(t, "unauthorized side raised", "unauthorized side cleared")
}

func TestAlertRecalled(t *testing.T) {
	o := newOps(t)
	toml := preamble + named + o.section("") + route("ehr", newTarget(t, nil).url, "", "")
	d := alerted(t, toml)
	d.app.Stop()
	d.write("config.toml", toml+"\nnonsense = \"Jane Doe\"\n")
	if err := d.boot(); err != nil {
		t.Fatal(err)
	}
	m := o.await(t, "recalled config.toml raised")
	contains(t, "the text", m.Text, "hookline check", "hookline reload")
	d.reload(toml)
	o.await(t, "recalled config.toml cleared")
	o.exactly(t, "recalled config.toml raised", "recalled config.toml cleared")
}

func TestAlertUnauthorized(t *testing.T) {
	o := newOps(t)
	d := alerted(t, preamble+named+hookSide+o.section("")+route("ehr", newTarget(t, nil).url, "", ""))
	// Challenges are no wrong passwords, and four are no five.
	for range 6 {
		if a := d.send(call{body: event("319"), header: http.Header{"Authorization": nil}}); a.status != http.StatusUnauthorized {
			t.Fatal(a.status)
		}
	}
	d.knock("demo", 4)
	d.knock("side", 5)
	m := o.await(t, "unauthorized side raised")
	if m.Count != 5 || len(m.Refs) != 0 {
		t.Errorf("%+v", m)
	}
	contains(t, "the text", m.Text, "hooks.side.email", "hooks.side.password")
	o.await(t, "unauthorized side cleared")
	o.exactly(t, "unauthorized side raised", "unauthorized side cleared")
}

// TestQuarantine: a script that cost its process twice is told of wherever an operator
// looks, and what met it is sent once the script is mended.
func TestQuarantine(t *testing.T) {
	o, ehr := newOps(t), newTarget(t, nil)
	const stuck = "export default () => {\n  let n = 0;\n  return Array.prototype.indexOf.call({ get length() { return n++ ? 1e12 : 1; } }, 1);\n};"
	d := alerted(t, preamble+named+o.section("")+route("ehr", ehr.url, "transform = \"shape.js\"\nscript_timeout = \"100ms\"", ""), files{"shape.js": stuck})
	for range 2 {
		if a := d.update("319", core.ScriptTimeout); a.Deliveries[0].Status != core.StateDead {
			t.Errorf("%s", a.body)
		}
	}
	a := d.update("319", core.TransformFailed)
	if a.Deliveries[0].Status != core.StateWaiting {
		t.Errorf("the delivery does not wait: %s", a.body)
	}
	m := o.await(t, "quarantined shape.js raised")
	contains(t, "the text", m.Text, "hookline transform release shape.js")
	client := d.admin()
	status, err := client.Status(t.Context())
	if err != nil || len(status.Quarantined) != 1 || status.Quarantined[0].Script != "shape.js" {
		t.Errorf("status: %+v, %v", status, err)
	}
	ready, err := d.client.Get(d.url + "/readyz")
	if err != nil {
		t.Fatal(err)
	}
	body, _ := io.ReadAll(ready.Body)
	_ = ready.Body.Close()
	if ready.StatusCode != http.StatusOK || !strings.Contains(string(body), "in quarantine, so that their deliveries wait: shape.js") {
		t.Errorf("/readyz: %d %s", ready.StatusCode, body)
	}

	d.write("shape.js", "export default (event) => ({ record: event.trans_id });")
	if err := client.Reload(t.Context()); err != nil {
		t.Fatal(err)
	}
	o.await(t, "quarantined shape.js cleared")
	if _, err := client.ReleaseScript(t.Context(), admin.Release{Script: "shape.js"}); !errors.Is(err, admin.ErrNotFound) {
		t.Errorf("released twice: %v", err)
	}
	eventually(t, "what waited is sent", func() bool {
		ev, err := client.Event(t.Context(), a.Ref)
		return err == nil && ev.Deliveries[0].State == core.StateDelivered
	})
}

func TestAlertCallerGone(t *testing.T) {
	ehr, o := newGate(t), newOps(t)
	d := alerted(t, preamble+named+o.section("")+route("ehr", ehr.url, "", ""))
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { _, err := d.do(call{body: event("319"), ctx: ctx}); ended <- err }()
	ehr.await(t)
	cancel()
	if <-ended == nil {
		t.Fatal("it got an answer")
	}
	ehr.open()
	m := o.await(t, "caller_gone demo raised")
	if m.Count != 1 || !slices.Equal(m.Refs, dbRows(t, d, "select ref from events")) {
		t.Errorf("%+v", m)
	}
	o.await(t, "caller_gone demo cleared")
	o.exactly(t, "caller_gone demo raised", "caller_gone demo cleared")
}

func TestAlertJournalUnavailable(t *testing.T) {
	o := newOps(t)
	d := alerted(t, preamble+named+o.section("")+route("ehr", newTarget(t, nil).url, "", ""))
	unlock := lockDatabase(t, filepath.Join(d.dir, "hookline.db"))
	if a := d.send(call{body: event("319")}); a.status != http.StatusServiceUnavailable {
		t.Fatalf("%d %s", a.status, a.body)
	}
	m := o.await(t, "journal_unavailable journal raised")
	contains(t, "the text", m.Text, "hookline check --probe")
	unlock()
	o.await(t, "journal_unavailable journal cleared")
	o.exactly(t, "journal_unavailable journal raised", "journal_unavailable journal cleared")
}

func TestAlertCertificate(t *testing.T) {
	o := newOps(t)
	cert, key := certificate(t, "soon", time.Now().Add(-time.Hour), time.Now().Add(29*24*time.Hour))
	toml := strings.Replace(preamble, "[hooks.demo]", "[server.tls]\ncert_file = \"c.pem\"\nkey_file = \"k.pem\"\n[hooks.demo]", 1) +
		named + o.section("") + route("ehr", newTarget(t, nil).url, "", "")
	d := alerted(t, toml, files{"c.pem": string(cert), "k.pem": string(key)})
	m := o.await(t, "certificate server.tls raised")
	contains(t, "the text", m.Text, "server.tls", "renew")
	d.write("c.pem", "half a fi") // it is being written: nothing is known
	next, nextKey := certificate(t, "later", time.Now().Add(-time.Hour), time.Now().Add(90*24*time.Hour))
	d.write("k.pem", string(nextKey))
	d.write("c.pem", string(next))
	o.await(t, "certificate server.tls cleared")
	o.exactly(t, "certificate server.tls raised", "certificate server.tls cleared")
}

func TestAlertQuiet(t *testing.T) {
	o := newOps(t)
	toml := func(after string) string {
		return preamble + "quiet_after = \"" + after + "\"\n" + named + hookSide + o.section("quiet_after = \"1h\"") + route("ehr", newTarget(t, nil).url, "", "")
	}
	d := alerted(t, toml("400ms"))
	m := o.await(t, "quiet demo raised")
	contains(t, "the text", m.Text, "hook demo", "quiet_after")
	d.update("319", transport.Delivered)
	o.await(t, "quiet demo cleared")
	d.reload(toml("0s"))
	// It may have been quiet again before the reload: it begins and ends by turns.
	short, _ := o.messages(t)
	for i, got := range short {
		if want := []string{"quiet demo raised", "quiet demo cleared"}[i%2]; got != want {
			t.Errorf("%q", short)
		}
	}
	eventually(t, "no alert", func() bool { short, _ := d.list(); return len(short) == 0 })
}

// A target that is down when an alert begins hears of it once, under one id.
func TestAlertsOutliveTheirTarget(t *testing.T) {
	ehr := newTarget(t, func(_ int, w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusBadRequest) })
	o := newOps(t)
	d := alerted(t, preamble+named+o.section("")+route("ehr", ehr.url, "", ""))
	o.down.Store(true)
	d.update("319", transport.RejectedByTarget)
	eventually(t, "several tries", func() bool { return len(o.got()) >= 4 })
	if _, list := d.list(); len(list.Alerts) != 1 || list.Alerts[0].Sent {
		t.Errorf("the list: %+v", list)
	}
	o.down.Store(false)
	eventually(t, "the message", func() bool { _, list := d.list(); return list.Alerts[0].Sent })
	got := o.got()
	for _, r := range got {
		if r.header.Get("webhook-id") != got[0].header.Get("webhook-id") || string(r.body) != string(got[0].body) {
			t.Errorf("another message: %v %s", r.header, r.body)
		}
	}
	// What goes out after it shows that nothing more of it does.
	n := len(got)
	d.knock("demo", 5)
	o.await(t, "unauthorized demo cleared")
	if short, _ := o.messages(t); !slices.Equal(short[n:], []string{"unauthorized demo raised", "unauthorized demo cleared"}) {
		t.Errorf("%q", short[n:])
	}
	if c := strings.Count(d.logs.String(), "an alert could not be sent: it is tried again until it changes\" alert=dead subject=ehr"); c == 0 {
		t.Error("the log says nothing")
	}
}

// What is over before its target could hear that it began is not told at all.
func TestAlertThatNobodyHeard(t *testing.T) {
	o := newOps(t)
	d := alerted(t, preamble+named+hookSide+o.section("")+route("ehr", newTarget(t, nil).url, "", ""))
	o.down.Store(true)
	d.knock("demo", 5)
	eventually(t, "a try", func() bool { return len(o.got()) > 0 })
	d.logs.wait(t, "alert cleared", "subject=demo")
	d.knock("side", 5)
	o.await(t, "unauthorized side raised") // in vain; the tries of the other are over
	o.down.Store(false)
	d.knock("side", 5) // on a slow machine it may be over already
	o.await(t, "unauthorized side cleared")
	short, _ := o.messages(t)
	if slices.Contains(short, "unauthorized demo cleared") {
		t.Errorf("%q", short)
	}
	if i := slices.Index(short, "unauthorized side raised"); slices.Contains(short[i:], "unauthorized demo raised") {
		t.Errorf("%q", short)
	}
}

// The alerts' own transport makes no loop: its circuit is not told over it, alerts
// do not open it, and they pass it when it is open.
func TestAlertsDoNotLoop(t *testing.T) {
	o := newOps(t)
	toml := preamble + named + hookSide + "\n[alerts]\ntransport = \"ops\"\ncircuit_after = \"0s\"\n" +
		strings.Replace(route("ops", o.url, "", ""), "circuit = { failures = 0 }", `circuit = { failures = 2, pause = "1h" }`, 1)
	d := alerted(t, toml)
	o.down.Store(true)
	d.knock("side", 5)
	eventually(t, "several tries", func() bool { return len(o.got()) >= 5 })
	if strings.Contains(d.logs.String(), "circuit open") {
		t.Fatal("alerts open the circuit of deliveries")
	}
	d.logs.wait(t, "alert cleared", "subject=side")
	d.update("319", transport.ThrottledByTarget) // two attempts
	d.logs.wait(t, "circuit open", "transport=ops")
	d.logs.wait(t, "alert raised", "alert=circuit_open", "subject=ops", "not_sent")
	if short, list := d.list(); !slices.Contains(short, "circuit_open ops") || list.Alerts[0].Sent {
		t.Errorf("the list: %q", short)
	}
	o.down.Store(false)
	before := len(o.got())
	d.knock("demo", 5)
	eventually(t, "an alert through an open circuit", func() bool { return len(o.got()) > before+1 })
	for _, r := range o.got()[before:] {
		if s := string(r.body); !strings.Contains(s, `"alert":"unauthorized"`) {
			t.Errorf("sent: %s", s)
		}
	}
}

// A reload takes the alerts to another transport and says nothing twice.
func TestAlertsFollowAReload(t *testing.T) {
	ehr := newTarget(t, func(_ int, w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusBadRequest) })
	first, second := newOps(t), newOps(t)
	rest := preamble + named + route("ehr", ehr.url, "", "")
	d := alerted(t, rest)
	d.update("319", transport.RejectedByTarget)
	d.logs.wait(t, "alert raised", "alert=dead", "subject=ehr") // with nobody to tell
	d.reload(rest + first.section(""))
	first.await(t, "dead ehr raised")
	eventually(t, "it is known that it came", func() bool { _, list := d.list(); return list.Alerts[0].Sent })
	d.reload(rest + second.section(""))
	if _, err := d.admin().Retry(t.Context(), admin.Act{IDs: []string{"00000000-0000-7000-8000-000000000000"}}); err != nil {
		t.Fatal(err)
	}
	d.knock("demo", 5)
	second.await(t, "unauthorized demo cleared")
	first.exactly(t, "dead ehr raised")
	second.exactly(t, "unauthorized demo raised", "unauthorized demo cleared")
	// A route that is gone takes no alert of the journal with it; a hook does.
	d.app.Stop()
	if err := d.boot(); err != nil {
		t.Fatal(err)
	}
	eventually(t, "a restart says again what stands", func() bool {
		short, _ := second.messages(t)
		return len(short) == 3 && short[2] == "dead ehr raised"
	})
}

// Without a journal there is less to look at.
func TestAlertsWithoutAJournal(t *testing.T) {
	o := newOps(t)
	toml := preamble + "quiet_after = \"300ms\"\n" + strings.Replace(named, "[journal]\n", "[journal]\nurl = \"none\"\n", 1) + o.section("") + route("ehr", newTarget(t, nil).url, "", "")
	d := alerted(t, toml)
	d.knock("demo", 5)
	o.await(t, "unauthorized demo raised")
	o.await(t, "quiet demo raised")
	d.update("319", transport.Delivered)
	o.await(t, "quiet demo cleared")
}

// Of the daemons on one journal one tells what is about the journal; the next one
// when it ends. Each tells what is about itself.
func TestAlertsOfASharedJournal(t *testing.T) {
	ehr := newTarget(t, func(_ int, w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusBadRequest) })
	first, second := newOps(t), newOps(t)
	url := postgresSchema(t)
	if url == "" {
		return
	}
	toml := func(o *ops) string {
		return preamble + "quiet_after = \"2s\"\n" + strings.Replace(named, "[journal]\n", fmt.Sprintf("[journal]\nurl = %q\n", url), 1) + o.section("") + route("ehr", ehr.url, "", "")
	}
	a := alerted(t, toml(first))
	b := alerted(t, toml(second))
	quiet := first.await(t, "quiet demo raised")
	b.update("319", transport.RejectedByTarget) // the other daemon's event
	first.await(t, "quiet demo cleared")
	first.await(t, "dead ehr raised")
	b.knock("demo", 5)
	second.await(t, "unauthorized demo cleared")
	second.exactly(t, "unauthorized demo raised", "unauthorized demo cleared")
	if quiet.Since.IsZero() {
		t.Error("it does not say since when")
	}
	a.app.Stop()
	second.await(t, "dead ehr raised")
}

// postgresSchema is the URL of a schema of the test's own.
func postgresSchema(t *testing.T) string {
	t.Helper()
	raw := os.Getenv("HOOKLINE_TEST_POSTGRES")
	if raw == "" {
		raw = "postgres://postgres@127.0.0.1:5432/test?sslmode=disable"
	}
	u, err := url.Parse(raw)
	if err != nil {
		t.Fatal(err)
	}
	probe, err := net.DialTimeout("tcp", u.Host, time.Second)
	if err != nil {
		fmt.Println("!!! No Postgres: the alerts of daemons that share a journal are not tested: start one and set HOOKLINE_TEST_POSTGRES to its URL")
		return ""
	}
	_ = probe.Close()
	do := func(text string) {
		t.Helper()
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		conn, err := pgx.Connect(ctx, raw)
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close(ctx)
		if _, err := conn.Exec(ctx, text); err != nil {
			t.Fatal(err)
		}
	}
	schema := fmt.Sprintf("app%d_%d", os.Getpid(), time.Now().UnixNano())
	do("create schema " + schema)
	t.Cleanup(func() { do("drop schema " + schema + " cascade") })
	q := u.Query()
	q.Set("search_path", schema)
	u.RawQuery = q.Encode()
	return u.String()
}
