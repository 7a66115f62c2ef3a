package conformance

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/santhosh-tekuri/jsonschema/v6"

	"github.com/hookline/hookline/plugins/transport"
)

// check is one property of a good transport.
type check struct {
	name, why string
	ways      []string // it is made; nil: all
	state     State    // that the target must have
	control   bool     // the target's state must change while the transport runs
	bare      bool     // it needs no settings
	gate      string   // if it fails, no other is made, for this reason
	last      bool     // it is made even so
	run       func(t *trial)
}

func (c check) applies(w way) bool { return c.ways == nil || slices.Contains(c.ways, w.name) }

var (
	hops    = []string{"grpc", "process"}
	process = []string{"process"}
)

var checks = []check{
	{name: "shakes hands", ways: process, bare: true, run: checkHandshake, gate: "Hookline cannot start it",
		why: "Hookline starts a plugin by this line; without a certificate and a private socket, others on the machine could deliver"},
	{name: "keeps standard output clean", ways: process, bare: true, run: checkStdout, gate: "Hookline cannot start it",
		why: "standard output carries the handshake: a stray line keeps the plugin from starting"},
	{name: "describes itself", bare: true, run: checkDescription,
		why: "an operator reads name and version in every list, and must know which release a site runs"},
	{name: "has a schema of its settings", bare: true, run: checkSchema, gate: "its schema cannot be used",
		why: "Hookline checks settings by the schema and resolves secrets only where it says writeOnly"},
	{name: "takes good settings", run: func(t *trial) { t.start(t.target()) }, gate: "it did not take the good settings",
		why: "a plugin that cannot be configured cannot be used"},
	{name: "refuses bad settings", run: checkBadSettings,
		why: "a typing error must be found by `hookline check`, with the key, and not by the first event"},
	{name: "starts while the target is down", state: Down, run: checkStartsDown,
		why: "after a power cut Hookline may be up before the target, and must come up all the same"},
	{name: "delivers", run: checkDelivers,
		why: "what was saved in TrialKit is what the target must get, byte for byte, and as often"},
	{name: "delivers a message again", run: checkAgain,
		why: "a message whose outcome is unknown is sent again with the same id"},
	{name: "delivers a big message", run: checkBig,
		why: "a form with many fields, or an image in it, is as much an event as a small one"},
	{name: "delivers concurrently", run: checkConcurrent,
		why: "a batch review fires many events at once, and each of them blocks a screen"},
	{name: "answers a check", run: checkCheck,
		why: "`hookline check --probe` asks before a start whether the target can be reached"},
	{name: "takes an ended attempt", run: checkEnded,
		why: "what comes too late must not be sent and called not sent"},
	{name: "tells that the target is down", state: Down, run: checkDown,
		why: "only what surely was not sent is tried again at once, while the user waits"},
	{name: "recovers when the target is back", state: Down, control: true, run: checkRecovers,
		why: "nobody should have to restart Hookline because a target was restarted"},
	{name: "loses nothing when the target restarts", state: Down, control: true, run: checkRestart,
		why: "a restart in the middle of load is when messages get lost or doubled"},
	{name: "ends at the deadline", state: Slow, run: checkSlow,
		why: "somebody waits in front of a blocked screen until the attempt ends"},
	// Hookline's host lets an attempt end by its deadline and cancels only what it
	// has given up; others that hold the Go value cancel more.
	{name: "ends when it is cancelled", state: Slow, run: checkCancelled,
		why: "an attempt that nobody waits for any more holds a connection and memory"},
	{name: "tells that the target rejects", state: Rejecting, run: checkRejecting,
		why: "what the target does not want is not sent again for three days"},
	{name: "answers single calls", ways: hops, run: checkSingle,
		why: "Deliver is what every host can call; Stream is an offer beside it"},
	{name: "answers calls that travel together", ways: hops, run: checkBatch,
		why: "a busy host puts what waits into one message, and each of it blocks a screen"},
	{name: "comes back after a crash", ways: process, run: checkCrash,
		why: "the process may be killed at any time, and what it leaves behind must not keep the next one from starting"},
	{name: "ends with its host", ways: process, run: checkHostDeath,
		why: "a plugin that outlives a killed Hookline keeps ports, locks and connections from the next one"},
	{name: "ends when told", ways: process, run: checkEnds,
		why: "on a reload and at the end, what the transport holds must be closed by itself"},
}

// checks are the suite's and the subject's.
func (s Subject) checks() []check {
	all := slices.Clone(checks)
	for _, f := range s.Faults {
		all = append(all, check{
			name: "tells of " + f.Name, control: f.Make != nil, run: func(t *trial) { checkFault(t, f) },
			why: "the code says what somebody has to mend, and the effect whether it may be sent again",
		})
	}
	return append(all, check{
		name: "tells no secret and no record", bare: true, last: true, run: checkLeaks,
		why: "logs and errors are read by people, and kept, where passwords and health data must not be",
	})
}

const (
	// ample is the time of an attempt that should not need any.
	ample = 5 * time.Second
	// late is how much later than its deadline an attempt may end.
	late = 50 * time.Millisecond
	// tries is how often a transport may show that it is not late. One that does not
	// heed its deadline is late each time; one on a busy machine is not.
	tries = 4
	// cancelAfter is long enough that the message has been sent; short of it the
	// check is easier.
	cancelAfter = 100 * time.Millisecond
)

// recordMark stands in every payload: where else it stands, a record was told.
const recordMark = "Jane-Doe-4711"

// text is a payload's text with the mark of a record.
func (t *trial) text(what string) string {
	return fmt.Sprintf(`{"trans_id":"435","name":"%s","what":%q}`, recordMark, what)
}

var messages atomic.Int64

// message is a new message: a target may know those that it has seen by their ids.
func (t *trial) message(text string) *transport.Message {
	n := messages.Add(1)
	id := fmt.Sprintf("0199aaaa-%04x-7000-8000-%012x", n&0xffff, time.Now().UnixNano()&(1<<48-1)) // new in each run: the target may be the same
	m := &transport.Message{
		ID: id, EventID: strings.Replace(id, "0199aaaa", "0199bbbb", 1), DeliveryID: strings.Replace(id, "0199aaaa", "0199cccc", 1), Attempt: 1,
		Hook: "demo", Route: "under-test", Study: "ABC-123", Stage: "uat", Lane: "demo/under-test/435", Kind: "update",
		ReceivedAt:  time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC),
		TraceParent: "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
		ContentType: t.ContentType, Payload: []byte(text),
	}
	if m.ContentType == "" {
		m.ContentType = "application/json"
	}
	if t.Payload != nil {
		m.Payload = t.Payload(text)
	}
	return m
}

func (t *trial) deliver(i instance, text string, timeout time.Duration) transport.Receipt {
	t.Helper()
	return t.attempt(i, t.message(text), timeout)
}

func (t *trial) attempt(i instance, m *transport.Message, timeout time.Duration) transport.Receipt {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), timeout)
	defer cancel()
	r := i.Deliver(ctx, m)
	t.sane(r)
	return r
}

// sane checks what holds for every receipt.
func (t *trial) sane(r transport.Receipt) {
	t.Helper()
	if !slices.Contains(transport.Codes, r.Code) {
		t.Errorf("code %q is not one of the contract's: Hookline would call it plugin_protocol (%s)", r.Code, t.clean(r.Detail))
	}
	if (r.Effect == transport.Done) != (r.Code == transport.Delivered) {
		t.Errorf("effect %q with code %q: done and delivered belong together", r.Effect, r.Code)
	}
	if strings.ContainsAny(r.Detail, "\r\n") {
		t.Errorf("Detail is more than one line: %q", t.clean(r.Detail))
	}
	t.told.hear("a receipt's detail", r.Detail, recordMark)
}

// received is what the target has, unless nobody can know.
func (t *trial) received(target Target) (got [][]byte, known bool) {
	if t.staged() {
		if t.notes == nil {
			t.Log("what arrived was not compared: give a target to control (--target)")
		}
		return nil, false
	}
	return target.Received(), true
}

// describe gets the description without settings.
func (t *trial) describe() transport.Description {
	t.Helper()
	if t.way.connect == nil {
		return t.New().Describe()
	}
	about, _, err := describeOver(t)
	if err != nil {
		t.Fatalf("Describe: %v", err)
	}
	return about
}

func checkDescription(t *trial) {
	t.about = t.describe()
	if t.about.Name == "" || t.about.Version == "" {
		t.Errorf("name %q and version %q must both be set", t.about.Name, t.about.Version)
	}
}

func checkSchema(t *trial) {
	about := t.describe()
	schema, err := jsonschema.UnmarshalJSON(bytes.NewReader(about.Settings))
	if err != nil {
		t.Fatalf("the settings schema is not JSON: %v", err)
	}
	compiler := jsonschema.NewCompiler()
	if err := compiler.AddResource("urn:settings", schema); err != nil {
		t.Fatalf("the settings schema: %v", err)
	}
	if _, err := compiler.Compile("urn:settings"); err != nil {
		t.Errorf("the settings schema does not compile: %v", err)
	}
	untyped(schema, "", func(name string) {
		t.Errorf("the schema says nothing of what %s may be: anything is taken", name)
	})
	if t.Secret != "" && !bytes.Contains(about.Settings, []byte(`"writeOnly"`)) {
		t.Error(`no setting is "writeOnly": Hookline would resolve no reference to a secret, and hide none`)
	}
}

func checkStartsDown(t *trial) {
	target := t.target()
	target.Set(Down)
	i := t.start(target)
	if r := t.deliver(i, t.text("down"), 2*time.Second); r.Effect == transport.Done {
		t.Errorf("a target that is down: %s", t.say(r))
	}
	if t.staged() {
		return
	}
	target.Set(Up)
	if r := t.deliver(i, t.text("up"), ample); r.Effect != transport.Done {
		t.Errorf("the target has come up: %s", t.say(r))
	}
}

func checkDelivers(t *trial) {
	target := t.target()
	i := t.start(target)
	// What a JSON library would write in another way; and equal payloads, which
	// are not duplicates.
	texts := []string{
		`{"trans_id":"435"}`,
		`{"note":"é \u0000 \" ünïcode"}`,
		"{ \"z\" : 1.0,\r\n\t\"a\":\"<b> & c \u2028\" }\n",
		`{"trans_id":"435"}`,
		t.text("delivers"),
	}
	var want [][]byte
	for _, text := range texts {
		m := t.message(text)
		want = append(want, m.Payload)
		if r := t.attempt(i, m, ample); r.Effect != transport.Done {
			t.Fatalf("a target that is up: %s", t.say(r))
		}
	}
	got, known := t.received(target)
	if !known {
		return
	}
	if len(got) != len(want) {
		t.Fatalf("%d messages were delivered and the target has %d", len(want), len(got))
	}
	for n := range want {
		if !bytes.Equal(got[n], want[n]) {
			t.Errorf("message %d: the target has %q, sent was %q", n, got[n], want[n])
		}
	}
}

func checkAgain(t *trial) {
	target := t.target()
	i := t.start(target)
	m := t.message(t.text("again"))
	for m.Attempt = 1; m.Attempt <= 2; m.Attempt++ {
		if r := t.attempt(i, m, ample); r.Effect != transport.Done {
			t.Fatalf("attempt %d of a message: %s", m.Attempt, t.say(r))
		}
	}
	got, known := t.received(target)
	if !known {
		return
	}
	most := 2
	if i.Description().Idempotent {
		most = 1
	}
	if len(got) < 1 || len(got) > most {
		t.Errorf("two attempts of one message, and the target has it %d times; idempotent is %t", len(got), i.Description().Idempotent)
	}
	for _, p := range got {
		if !bytes.Equal(p, m.Payload) {
			t.Errorf("the target has %q, sent was %q", p, m.Payload)
		}
	}
}

func checkBig(t *trial) {
	target := t.target()
	i := t.start(target)
	size := t.Big
	if size == 0 {
		size = 1 << 20
	}
	m := t.message(`"` + strings.Repeat("0123456789abcdef", size/16) + `"`)
	if r := t.attempt(i, m, 4*ample); r.Effect != transport.Done {
		t.Fatalf("a message of %d bytes: %s", len(m.Payload), t.say(r))
	}
	if got, known := t.received(target); known && (len(got) != 1 || !bytes.Equal(got[0], m.Payload)) {
		t.Errorf("the target has something else than the %d bytes that were sent", len(m.Payload))
	}
}

func checkConcurrent(t *trial) {
	target := t.target()
	i := t.start(target)
	const n = 64
	want := map[string]int{}
	var calls sync.WaitGroup
	for k := range n {
		m := t.message(fmt.Sprintf(`{"n":%d}`, k))
		want[string(m.Payload)]++
		calls.Go(func() {
			if r := t.attempt(i, m, 2*ample); r.Effect != transport.Done {
				t.Errorf("one of %d at once: %s", n, t.say(r))
			}
		})
	}
	calls.Wait()
	got, known := t.received(target)
	if !known {
		return
	}
	for _, p := range got {
		want[string(p)]--
	}
	for p, left := range want {
		if left != 0 {
			t.Errorf("%s: reported as delivered once, and the target has it %d times", p, 1-left)
		}
	}
}

func checkCheck(t *trial) {
	target := t.target()
	i := t.start(target)
	ctx, cancel := context.WithTimeout(context.Background(), ample)
	defer cancel()
	r := i.Check(ctx)
	t.sane(r)
	if r.Effect != transport.Done {
		t.Errorf("a target that is up: %s", t.say(r))
	}
	if got, known := t.received(target); known && len(got) != 0 {
		t.Errorf("a check delivered %d messages", len(got))
	}
	if !slices.Contains(t.States, Down) {
		return
	}
	if t.staged() {
		target.Set(Down)
		i = t.start(target)
	} else {
		target.Set(Down)
	}
	if r := i.Check(ctx); r.Effect == transport.Done {
		t.Error("a target that is down is said to be reachable")
	}
}

func checkEnded(t *trial) {
	target := t.target()
	i := t.start(target)
	ctx, cancel := context.WithDeadline(context.Background(), time.Now().Add(-time.Second))
	defer cancel()
	r := i.Deliver(ctx, t.message(t.text("ended")))
	t.sane(r)
	got, known := t.received(target)
	if r.Effect == transport.None && len(got) != 0 {
		t.Errorf("effect none, and the target has %d messages", len(got))
	}
	if known && r.Effect == transport.Done && len(got) == 0 {
		t.Error("effect done, and the target has nothing")
	}
}

func checkDown(t *trial) {
	target := t.target()
	i := t.startIn(target, Down)
	// The first attempt may find out that a kept connection has ended.
	r := t.deliver(i, t.text("down"), 2*time.Second)
	if r.Effect == transport.Done {
		t.Fatalf("a target that is down: %s", t.say(r))
	}
	for n := range tries {
		if r = t.deliver(i, t.text(fmt.Sprint("down ", n)), 2*time.Second); r.Effect == transport.None {
			return
		}
	}
	t.Errorf("a target that is down, again and again: %s; must be effect none", t.say(r))
}

func checkRecovers(t *trial) {
	target := t.target()
	i := t.startIn(target, Down)
	t.deliver(i, t.text("down"), 2*time.Second)
	target.Set(Up)
	var r transport.Receipt
	for began := time.Now(); time.Since(began) < ample; time.Sleep(20 * time.Millisecond) { // a pace for the loop
		if r = t.deliver(i, t.text("up"), ample); r.Effect == transport.Done {
			return
		}
	}
	t.Errorf("the target is back, and after %v: %s", ample, t.say(r))
}

func checkSlow(t *trial) {
	target := t.target()
	i := t.startIn(target, Slow)
	const timeout = 300 * time.Millisecond
	var over time.Duration
	none := map[string]bool{} // payloads that are said not to have been sent
	for n := range tries {
		m := t.message(t.text(fmt.Sprint("slow ", n)))
		start := time.Now()
		r := t.attempt(i, m, timeout)
		over = time.Since(start) - timeout
		switch {
		case r.Code != transport.Timeout || r.Effect == transport.Done:
			t.Fatalf("sent and not answered: %s; must be unknown timeout: the target may have acted", t.say(r))
		case r.Effect == transport.None:
			none[string(m.Payload)] = true
		}
		if over <= late {
			break
		}
	}
	if over > late {
		t.Errorf("Deliver comes back %v after its deadline", over)
	}
	if t.staged() {
		if len(none) > 0 {
			t.Log("it says that nothing was sent, which was not compared: give a target to control (--target)")
		}
		return
	}
	target.Set(Up)
	for _, p := range target.Received() {
		if none[string(p)] {
			t.Error("effect none, and the target has the message: it would be sent twice where it must not be")
		}
	}
}

func checkCancelled(t *trial) {
	if t.way.connect != nil {
		checkCancelFrame(t)
		return
	}
	target := t.target()
	i := t.startIn(target, Slow)
	var over time.Duration
	for range tries {
		ctx, cancel := context.WithTimeout(context.Background(), ample)
		stop := time.AfterFunc(cancelAfter, cancel)
		start := time.Now()
		r := i.Deliver(ctx, t.message(t.text("cancelled")))
		over = time.Since(start) - cancelAfter
		stop.Stop()
		cancel()
		t.sane(r)
		if r.Effect == transport.Done {
			t.Fatal("effect done, and the target has not answered")
		}
		if over <= late {
			return
		}
	}
	t.Errorf("Deliver comes back %v after it is cancelled", over)
}

func checkRejecting(t *trial) {
	i := t.startIn(t.target(), Rejecting)
	r := t.deliver(i, t.text("rejected"), 2*time.Second)
	if r.Code != transport.RejectedByTarget || r.Effect != transport.None {
		t.Errorf("rejected: %s; must be none rejected_by_target", t.say(r))
	}
}

func checkFault(t *trial, f Fault) {
	target := t.target()
	settings := target.Settings()
	if f.Settings != nil {
		settings = f.Settings(target)
	}
	i := t.startWith(settings)
	if f.Make != nil {
		f.Make(target)
	}
	m := t.message(t.text("fault"))
	if f.Message != nil {
		f.Message(m)
	}
	r := t.attempt(i, m, ample)
	if r.Effect != f.Effect || !slices.Contains(f.Codes, r.Code) {
		t.Errorf("%s; must be effect %s and code %v", t.say(r), f.Effect, f.Codes)
	}
	if got, known := t.received(target); known && r.Effect == transport.None && len(got) > 0 {
		t.Errorf("effect none, and the target has %d messages", len(got))
	}
}

func checkLeaks(t *trial) {
	t.told.mu.Lock()
	defer t.told.mu.Unlock()
	for _, where := range t.told.found {
		t.Error(where)
	}
}

// withUnknown adds a setting that no plugin has.
func withUnknown(settings json.RawMessage) json.RawMessage {
	var m map[string]any
	if json.Unmarshal(settings, &m) != nil || m == nil {
		m = map[string]any{}
	}
	m["no_such_setting"] = true
	out, _ := json.Marshal(m) // it was JSON
	return out
}
