package app_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/hookline/hookline/core"
	"github.com/hookline/hookline/core/journal"
	"github.com/hookline/hookline/plugins/target/targettest"
	"github.com/hookline/hookline/plugins/transport"
)

// save is an update of a record, with a number that tells its saves apart.
func save(record string, n int) []byte {
	return fmt.Appendf(nil, `{"trans_id":%q,"form_id":"319","form_name":"Sample Form","OnUpdate":true,"subject":"Jane Doe","n":%d}`, record, n)
}

// number is what save put into a payload.
func number(t testing.TB, payload []byte) (record string, n int) {
	t.Helper()
	var ev struct {
		TransID string `json:"trans_id"`
		N       int    `json:"n"`
	}
	if err := json.Unmarshal(payload, &ev); err != nil {
		t.Fatalf("%s: %v", payload, err)
	}
	return ev.TransID, ev.N
}

// stopAndRead ends the daemon and opens what it has written.
func (d *daemon) stopAndRead() *journal.Store {
	d.t.Helper()
	d.app.Stop()
	s, err := journal.Open(context.Background(), journal.Options{URL: "sqlite:" + filepath.Join(d.dir, "hookline.db"), Log: discardSlog()})
	if err != nil {
		d.t.Fatal(err)
	}
	d.t.Cleanup(func() { _ = s.Close() })
	return s
}

// quick makes the background try again soon.
const quick = `retry = { initial = "20ms", max = "100ms" }` + "\n"

// outage is a target that is down until it is let up, at the same address.
type outage struct {
	*target
	addr string
	up   func()
}

func newOutage(t testing.TB) *outage {
	t.Helper()
	o := &outage{target: &target{}, addr: targettest.ClosedAddr(t)}
	o.url = "http://" + o.addr
	o.up = func() {
		l, err := net.Listen("tcp", o.addr)
		if err != nil {
			t.Fatal(err)
		}
		s := &http.Server{Handler: http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { o.record(r) }), ErrorLog: discardLog()}
		done := make(chan struct{})
		go func() { defer close(done); _ = s.Serve(l) }()
		t.Cleanup(func() { _ = s.Close(); <-done })
	}
	return o
}

// arrived waits until the target has got n requests, and no more.
func (r *target) arrived(t testing.TB, n int) []request {
	t.Helper()
	eventually(t, fmt.Sprintf("%d requests at the target", n), func() bool { return len(r.got()) >= n })
	got := r.got()
	if len(got) > n {
		t.Errorf("the target got %d requests, want %d", len(got), n)
	}
	return got
}

func TestAsync(t *testing.T) {
	ehr := newGate(t)
	d := start(t, preamble+route("ehr", ehr.url, `mode = "async"`, ""))
	a := d.send(call{body: save("1", 1)})
	if a.status != http.StatusAccepted || a.Code != core.Accepted || a.Deliveries[0].Status != core.StateQueued {
		t.Fatalf("%d %s", a.status, a.body)
	}
	ehr.await(t) // it is under way while the caller has its answer
	ehr.open()
	got := ehr.arrived(t, 1)
	if !bytes.Equal(got[0].body, save("1", 1)) || got[0].header.Get("Hookline-Event-Id") != a.EventID {
		t.Errorf("the target got %+v", got[0])
	}
	d.logs.wait(t, "delivery delivered", a.EventID)

	d.reload(strings.Replace(preamble, "timeout", "accepted_status = 200\ntimeout", 1) + route("ehr", ehr.url, `mode = "async"`, ""))
	if a := d.send(call{body: save("1", 2)}); a.status != http.StatusOK || a.Code != core.Accepted {
		t.Errorf("accepted_status: %d %s", a.status, a.body)
	}
}

// During an outage the first save of a record is told, those behind it are queued
// at once, and all arrive in order when the target is back.
func TestOutage(t *testing.T) {
	ehr := newOutage(t)
	d := start(t, preamble+route("ehr", ehr.url, quick, ""))
	first := d.send(call{body: save("1", 1)})
	if first.status != http.StatusBadGateway || first.Deliveries[0].Status != core.StateWaiting {
		t.Fatalf("%d %s", first.status, first.body)
	}
	contains(t, "the answer", first.Detail, "Target ehr has not confirmed it: it cannot be reached. Hookline keeps trying; please do not enter it again. Reference "+first.Ref)
	for n := 2; n <= 5; n++ {
		a := d.send(call{body: save("1", n)})
		if a.status != http.StatusAccepted || a.took > time.Second { // to wait for the first would take until the hook's timeout, 5 s
			t.Errorf("save %d behind a failed one: %d after %v, %s", n, a.status, a.took, a.body)
		}
	}
	if a := d.send(call{body: save("2", 1)}); a.status != http.StatusBadGateway {
		t.Errorf("another record waits for nothing, but is told %d %s", a.status, a.body)
	}
	ehr.up()
	got := ehr.arrived(t, 6)
	var order []int
	for _, r := range got {
		if record, n := number(t, r.body); record == "1" {
			order = append(order, n)
		}
	}
	if !slices.Equal(order, []int{1, 2, 3, 4, 5}) {
		t.Errorf("the saves arrived in the order %v", order)
	}
	s := d.stopAndRead()
	detail, err := s.Event(t.Context(), first.Ref)
	if err != nil {
		t.Fatal(err)
	}
	if del := detail.Deliveries[0]; del.State != core.StateDelivered || len(del.Attempts) < 3 || del.Attempts[0].Receipt.Code != transport.ConnectionRefused {
		t.Errorf("the journal has %+v", del)
	}
	if detail.Answer == nil || detail.Answer.Status != http.StatusBadGateway || !strings.Contains(detail.Answer.Detail, "keeps trying") {
		t.Errorf("the journal says that the caller was told %+v", detail.Answer)
	}
}

// A save that comes while the one before is under way waits for its turn.
func TestSavesTakeTurns(t *testing.T) {
	ehr := newGate(t)
	d := start(t, preamble+route("ehr", ehr.url, "", ""))
	var callers sync.WaitGroup
	send := func(n int) {
		callers.Go(func() {
			if a := d.send(call{body: save("1", n)}); a.Code != transport.Delivered {
				t.Errorf("save %d: %d %s", n, a.status, a.body)
			}
		})
	}
	send(1)
	ehr.await(t)
	send(2)
	d.send(call{body: save("2", 1), header: http.Header{}, ctx: t.Context(), hook: "none"}) // 404: the server is not held up
	ehr.open()
	callers.Wait()
	if _, n := number(t, ehr.arrived(t, 2)[0].body); n != 1 {
		t.Error("the second save came first")
	}
}

// What has not ended at the budget is accepted where the route says so, and goes
// on by the route's own timeout.
func TestAcceptOnTimeout(t *testing.T) {
	ehr := newGate(t)
	d := start(t, strings.Replace(preamble, `timeout = "5s"`, `timeout = "300ms"`, 1)+route("ehr", ehr.url, `on_timeout = "accept"`, ""))
	a := d.send(call{body: save("1", 1)})
	if a.status != http.StatusAccepted || a.Deliveries[0].Status != core.StateRunning || a.took < 300*time.Millisecond {
		t.Fatalf("%d after %v: %s", a.status, a.took, a.body)
	}
	ehr.open()
	line := d.logs.wait(t, "delivery delivered", a.EventID)
	if strings.Contains(line, "attempts=") {
		t.Errorf("it was not the same attempt: %s", line)
	}
	ehr.arrived(t, 1)
}

// A caller that gives its event an id may send it again.
func TestCallersOwnID(t *testing.T) {
	ehr := newTarget(t, nil)
	d := start(t, preamble+route("ehr", ehr.url, "", ""))
	key := http.Header{"Webhook-Id": {"msg_1"}}
	first := d.send(call{body: save("1", 1), header: key})
	again := d.send(call{body: save("1", 1), header: key})
	if first.Code != transport.Delivered || again.Code != transport.Delivered || again.EventID != first.EventID || again.Ref != first.Ref ||
		again.header.Get("Hookline-Event-Id") != first.EventID {
		t.Errorf("first %s\nagain %s", first.body, again.body)
	}
	other := d.send(call{body: save("1", 2), header: key})
	if other.status != http.StatusConflict || other.Code != core.KeyConflict {
		t.Errorf("another body: %d %s", other.status, other.body)
	}
	d.send(call{body: save("1", 1)}) // without an id it is another save
	ehr.arrived(t, 2)
	s := d.stopAndRead()
	rows, _, err := s.Events(t.Context(), journal.EventFilter{})
	if err != nil || len(rows) != 3 || rows[1].Refused == nil || rows[1].Refused.Code != core.KeyConflict {
		t.Errorf("the journal has %+v, %v", rows, err)
	}
}

// Once shaped, a delivery is sent as it was first sent, whatever becomes of its
// script (invariant 9).
func TestShapedOnce(t *testing.T) {
	ehr := newTarget(t, func(n int, w http.ResponseWriter, _ *http.Request) {
		if n < 3 {
			w.WriteHeader(http.StatusInternalServerError)
		}
	})
	toml := preamble + route("ehr", ehr.url, `transform = "t.js"`+"\n"+`retry = { initial = "300ms" }`, "")
	script := `export default (event, ctx) => ({v: %d, at: Math.random()})`
	d := start(t, toml, files{"t.js": fmt.Sprintf(script, 1)})
	if a := d.send(call{body: save("1", 1)}); a.Deliveries[0].Status != core.StateUnknown || !strings.Contains(a.Detail, "keeps trying") {
		t.Fatalf("%d %s", a.status, a.body)
	}
	d.write("t.js", fmt.Sprintf(script, 2))
	d.reload(toml)
	got := ehr.arrived(t, 3)
	for _, r := range got {
		if !bytes.Equal(r.body, got[0].body) || r.header.Get("Webhook-Id") != got[0].header.Get("Webhook-Id") {
			t.Errorf("attempts differ: %s %s, %s %s", got[0].body, got[0].header.Get("Webhook-Id"), r.body, r.header.Get("Webhook-Id"))
		}
	}
}

// Where twice is worse than late, what may have arrived waits for an operator,
// and so does what comes after it.
func TestHold(t *testing.T) {
	broken := newTarget(t, func(n int, w http.ResponseWriter, _ *http.Request) {
		switch n {
		case 1:
			w.WriteHeader(http.StatusInternalServerError) // it may have acted
		case 2:
			w.WriteHeader(http.StatusUnprocessableEntity) // it will not
		}
	})
	d := start(t, preamble+route("irt", broken.url, `on_unknown = "hold"`+"\n"+`on_dead = "hold"`+"\n"+quick, ""))
	unknown := d.send(call{body: save("1", 1)})
	behind := d.send(call{body: save("1", 2)})
	dead := d.send(call{body: save("2", 1)})
	behindDead := d.send(call{body: save("2", 2)})
	for _, a := range []*answer{unknown, dead} {
		contains(t, "the answer", a.Detail, "Hookline holds it for your study team")
	}
	if unknown.Deliveries[0].Status != core.StateUnknown || dead.Deliveries[0].Status != core.StateDead ||
		behind.status != http.StatusAccepted || behindDead.status != http.StatusAccepted {
		t.Errorf("%s\n%s\n%s\n%s", unknown.body, behind.body, dead.body, behindDead.body)
	}
	s := d.stopAndRead() // a restart does not release them either
	broken.arrived(t, 2)
	rows, _, err := s.Deliveries(t.Context(), journal.DeliveryFilter{})
	if err != nil || len(rows) != 4 {
		t.Fatalf("%+v %v", rows, err)
	}
	for i, want := range []core.State{core.StateQueued, core.StateDead, core.StateQueued, core.StateUnknown} {
		if rows[i].State != want {
			t.Errorf("delivery %d is %s, want %s", i, rows[i].State, want)
		}
	}
}

// A failure that the caller is told is the end where the route says so.
func TestStopOnFailure(t *testing.T) {
	ehr := newOutage(t)
	d := start(t, preamble+route("ehr", ehr.url, `on_failure = "stop"`+"\n"+quick, ""))
	a := d.send(call{body: save("1", 1)})
	if a.Deliveries[0].Status != core.StateDead {
		t.Errorf("%s", a.body)
	}
	contains(t, "the answer", a.Detail, "Hookline will not send it again: please tell your study team.")
	ehr.up()
	if a := d.send(call{body: save("1", 2)}); a.Code != transport.Delivered {
		t.Errorf("the next save: %s", a.body)
	}
	ehr.arrived(t, 1)
}

// The retry while the caller waits may find that the first attempt has opened the
// circuit, or used up the rate. That attempt has failed all the same, which is told, and
// on_failure says what follows.
func TestFailureWhoseRetryIsNotMade(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		limit, policy string
		state         core.State
		says          string
	}{
		{`circuit = { failures = 1, pause = "1h" }`, `on_failure = "stop"`, core.StateDead, "Hookline will not send it again"},
		{`circuit = { failures = 1, pause = "1h" }`, `on_failure = "retry"`, core.StateWaiting, "Hookline keeps trying"},
		{"circuit = { failures = 0 }\nrate = 0.01", `on_failure = "stop"`, core.StateDead, "Hookline will not send it again"},
		{"circuit = { failures = 0 }\nrate = 0.01", `on_failure = "retry"`, core.StateWaiting, "Hookline keeps trying"},
	} {
		t.Run(c.limit+" "+c.policy, func(t *testing.T) {
			toml := route("ehr", "http://"+targettest.ClosedAddr(t), c.policy, "")
			d := start(t, preamble+strings.Replace(toml, "circuit = { failures = 0 }", c.limit, 1))
			a := d.update("319", transport.ConnectionRefused)
			if a.status != http.StatusBadGateway || a.Deliveries[0].Status != c.state || a.Deliveries[0].Attempts != 1 {
				t.Errorf("%d %s", a.status, a.body)
			}
			contains(t, "the answer", a.Detail, "it cannot be reached", c.says)
			rows, _, err := d.stopAndRead().Deliveries(t.Context(), journal.DeliveryFilter{})
			if err != nil || len(rows) != 1 || rows[0].State != c.state || rows[0].Code != transport.ConnectionRefused {
				t.Errorf("the journal has %+v, %v", rows, err)
			}
		})
	}
}

func TestRetriesEnd(t *testing.T) {
	ehr := newTarget(t, status(http.StatusServiceUnavailable))
	d := start(t, preamble+route("ehr", ehr.url, `retry = { initial = "10ms", max = "20ms", attempts = 4 }`, ""))
	a := d.send(call{body: save("1", 1)})
	d.logs.wait(t, "delivery dead", a.EventID, "attempts=4", "throttled_by_target")
	ehr.arrived(t, 4)
}

// A target that fails again and again is left alone; what comes meanwhile is
// queued without a wait, and goes out when a probe has found it well.
func TestCircuit(t *testing.T) {
	ehr := newOutage(t)
	toml := preamble + strings.Replace(route("ehr", ehr.url, quick, ""), "circuit = { failures = 0 }", `circuit = { failures = 3, pause = "300ms" }`, 1)
	d := start(t, toml)
	for n := 1; ; n++ {
		a := d.send(call{body: save(fmt.Sprint(n), 1)})
		if a.status == http.StatusAccepted && a.took < 100*time.Millisecond {
			break // not even a try was made
		}
		if n > 5 {
			t.Fatalf("the circuit does not open: %s", a.body)
		}
	}
	d.logs.wait(t, "circuit open", "transport=ehr")
	d.reload(strings.Replace(toml, quick, quick+`on_blocked = "fail"`+"\n", 1))
	if a := d.send(call{body: save("x", 1)}); a.status != http.StatusServiceUnavailable || a.Code != core.CircuitOpen || !strings.Contains(a.Detail, "keeps trying") {
		t.Errorf("on_blocked = fail: %d %s", a.status, a.body)
	}
	ehr.up()
	d.logs.wait(t, "circuit closed")
	eventually(t, "all to arrive", func() bool { return len(ehr.got()) >= 3 })
	eventually(t, "a direct delivery", func() bool { return d.send(call{body: save("y", 1)}).Code == transport.Delivered })
}

// A target that writes back to TrialKit makes TrialKit call again.
func TestLoopBrake(t *testing.T) {
	ehr := newTarget(t, nil)
	d := start(t, strings.Replace(preamble, "timeout", "loop_limit = 3\ntimeout", 1)+route("ehr", ehr.url, "", ""))
	for n := 1; n <= 5; n++ {
		want := transport.Delivered
		if n > 3 {
			want = core.Accepted
		}
		if a := d.send(call{body: save("1", n)}); a.Code != want {
			t.Errorf("event %d: %s", n, a.body)
		}
	}
	if a := d.send(call{body: save("2", 1)}); a.Code != transport.Delivered {
		t.Errorf("another record: %s", a.body)
	}
	ehr.arrived(t, 6)
	if n := strings.Count(d.logs.String(), "many events of one record"); n != 1 {
		t.Errorf("%d warnings", n)
	}
}

// The deliveries of a route that is gone wait for an operator.
func TestRouteGone(t *testing.T) {
	ehr := newOutage(t)
	other := newTarget(t, nil)
	d := start(t, preamble+route("ehr", ehr.url, quick, ""))
	d.send(call{body: save("1", 1)})
	d.send(call{body: save("1", 2)})
	d.reload(preamble + route("other", other.url, "", ""))
	// One of them may have been under way: that one is held when it has ended.
	d.logs.wait(t, "deliveries are held because their route is not in the configuration")
	s := d.stopAndRead()
	rows, _, err := s.Deliveries(t.Context(), journal.DeliveryFilter{States: []core.State{core.StateHeld}})
	if err != nil || len(rows) != 2 {
		t.Errorf("%+v %v", rows, err)
	}
}

// A burst of reviews at a slow target: all are kept, none is refused, and each
// record's reviews arrive in the order in which they were journalled.
func TestBurstOfReviews(t *testing.T) {
	const records, each = 200, 2
	ehr := newTarget(t, func(_ int, _ http.ResponseWriter, r *http.Request) {
		select {
		case <-time.After(2 * time.Second): // the target that the issue describes
		case <-r.Context().Done():
		}
	})
	d := start(t, strings.Replace(preamble, `timeout = "5s"`, `timeout = "15s"`, 1)+route("ehr", ehr.url, "", ""))
	var callers sync.WaitGroup
	for record := range records {
		for n := range each {
			callers.Go(func() {
				body := fmt.Appendf(nil, `{"trans_id":"%d","form_id":"319","OnReview":true,"wf_id":1,"n":%d}`, record, n)
				a, err := d.do(call{body: body})
				if err != nil || a.status != http.StatusOK && a.status != http.StatusAccepted {
					t.Errorf("review %d of %d: %v %+v", n, record, err, a)
				}
			})
		}
	}
	callers.Wait()
	got := ehr.arrived(t, records*each)
	s := d.stopAndRead()
	journalled := map[string][]string{} // event ids by record
	for cursor := ""; ; {
		rows, next, err := s.Deliveries(t.Context(), journal.DeliveryFilter{Limit: 1000, Cursor: cursor})
		if err != nil {
			t.Fatal(err)
		}
		for _, r := range rows {
			if r.State != core.StateDelivered {
				t.Errorf("delivery %s is %s", r.ID, r.State)
			}
			journalled[r.Event.TransID] = append([]string{r.Event.ID}, journalled[r.Event.TransID]...)
		}
		if cursor = next; next == "" {
			break
		}
	}
	sent := map[string][]string{}
	for _, r := range got {
		record, _ := number(t, r.body)
		sent[record] = append(sent[record], r.header.Get("Hookline-Event-Id"))
	}
	if len(journalled) != records {
		t.Errorf("%d records in the journal", len(journalled))
	}
	for record, want := range journalled {
		if !slices.Equal(sent[record], want) {
			t.Errorf("record %s arrived as %v, was journalled as %v", record, sent[record], want)
		}
	}
}

// With bad files at the start, what was accepted last runs.
func TestLastAcceptedSet(t *testing.T) {
	t.Parallel()
	ehr := newTarget(t, nil)
	toml := preamble + route("ehr", ehr.url, `transform = "t.js"`, "")
	const script, lib = "import { good } from './lib';\nexport default () => ({ good })", "export const good: boolean = true;"
	d := start(t, toml, files{"t.js": script, "lib.ts": lib})
	d.app.Stop()

	for name, spoil := range map[string]func(){
		"a script":                func() { d.write("t.js", "export default function (") },
		"an imported file":        func() { d.write("lib.ts", "export const good = ;") },
		"a script that is gone":   func() { d.write("config.toml", strings.Replace(toml, "t.js", "none.js", 1)) },
		"a key":                   func() { d.write("config.toml", toml+"\n[routes.ehr2]\ntransprot = 1\n") },
		"a file that is not TOML": func() { d.write("config.toml", "[[[") },
		"settings of the plugin":  func() { d.write("config.toml", strings.Replace(toml, "http://", "gopher://", 1)) },
	} {
		spoil()
		d.strict = true
		if err := d.boot(); err == nil {
			t.Fatalf("%s is bad, and a strict start accepts it", name)
		}
		d.strict = false
		if err := d.boot(); err != nil {
			t.Fatalf("%s is bad: %v", name, err)
		}
		if a := d.send(call{body: save("1", 1)}); a.Code != transport.Delivered {
			t.Errorf("%s is bad: %s", name, a.body)
		}
		d.logs.wait(t, "level=ERROR", "running on the one that was accepted last")
		ready, err := d.client.Get(d.url + "/readyz")
		if err != nil {
			t.Fatal(err)
		}
		var note struct{ Status, Why string }
		_ = json.NewDecoder(ready.Body).Decode(&note)
		_ = ready.Body.Close()
		if ready.StatusCode != http.StatusOK || !strings.Contains(note.Why, "running on the configuration accepted on") {
			t.Errorf("%s is bad, and /readyz says %d %+v", name, ready.StatusCode, note)
		}
		if err := d.app.Reload(t.Context()); err == nil {
			t.Errorf("%s is bad, and a reload takes it", name)
		}
		d.write("t.js", script)
		d.write("lib.ts", lib)
		d.reload(toml)
		ready, err = d.client.Get(d.url + "/readyz")
		if err != nil {
			t.Fatal(err)
		}
		note.Why = ""
		_ = json.NewDecoder(ready.Body).Decode(&note)
		_ = ready.Body.Close()
		if note.Why != "" {
			t.Errorf("after it was mended /readyz says %+v", note)
		}
		d.app.Stop()
	}
	for _, r := range ehr.got() {
		if string(r.body) != `{"good":true}` {
			t.Errorf("the target got %s", r.body)
		}
	}
}

// A second daemon must not work on the same file.
func TestJournalIsLocked(t *testing.T) {
	toml := preamble + route("ehr", newTarget(t, nil).url, "", "")
	d := start(t, toml)
	second := prepare(t, strings.Replace(toml, "[server]", fmt.Sprintf("[journal]\nurl = \"sqlite:%s\"\n[server]", filepath.Join(d.dir, "hookline.db")), 1))
	err := second.boot()
	if err == nil {
		t.Fatal("two daemons run on one journal")
	}
	contains(t, "the error", err.Error(), "hookline.db", fmt.Sprint(os.Getpid()))
}

// What is not journalled is not sent: a journal that cannot be written is told
// the caller, and nobody has to restart anything when it can be again.
func TestJournalIsAway(t *testing.T) {
	ehr := newTarget(t, nil)
	d := start(t, preamble+route("ehr", ehr.url, "", ""))
	unlock := lockDatabase(t, filepath.Join(d.dir, "hookline.db"))
	a := d.send(call{body: save("1", 1)})
	if a.status != http.StatusServiceUnavailable || a.Code != core.JournalUnavailable || len(ehr.got()) != 0 {
		t.Errorf("%d %s, %d sent", a.status, a.body, len(ehr.got()))
	}
	d.logs.wait(t, "level=ERROR", "journal")
	unlock()
	eventually(t, "the journal to be back", func() bool { return d.send(call{body: save("1", 2)}).Code == transport.Delivered })
	d.logs.wait(t, "the journal is available again")
}

// Without a journal Hookline does what can be done without.
func TestWithoutJournal(t *testing.T) {
	ehr := newTarget(t, func(n int, w http.ResponseWriter, _ *http.Request) {
		if n > 1 {
			w.WriteHeader(http.StatusInternalServerError)
		}
	})
	d := start(t, strings.Replace(preamble, "[server]", "[journal]\nurl = \"none\"\n[server]", 1)+route("ehr", ehr.url, "", ""))
	if a := d.send(call{body: save("1", 1)}); a.Code != transport.Delivered {
		t.Error(a.body)
	}
	a := d.send(call{body: save("1", 2)})
	contains(t, "the answer", a.Detail, "It may have been received there. Hookline will not send it again")
	if _, err := filepath.Glob(filepath.Join(d.dir, "*.db*")); err != nil {
		t.Error(err)
	}
	ehr.arrived(t, 2)
}
