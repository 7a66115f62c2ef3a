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
	"testing"
	"time"

	"github.com/santhosh-tekuri/jsonschema/v6"

	"github.com/hookline/hookline/plugins"
	"github.com/hookline/hookline/plugins/transport"
)

// check is one property of a good transport. A failure says what was expected and
// why it matters in production.
type check struct {
	name  string
	needs State // it is left out for a target that has no such state
	value bool  // it is about the Go value only
	run   func(tb testing.TB, b bench)
}

var checks = []check{
	{name: "describes itself", run: checkDescription},
	{name: "refuses bad settings", run: checkBadSettings},
	{name: "delivers", run: checkDelivers},
	{name: "delivers a message again", run: checkAgain},
	{name: "delivers a megabyte", run: checkBig},
	{name: "delivers concurrently", run: checkConcurrent},
	{name: "answers a check", run: checkCheck},
	{name: "takes an ended attempt", run: checkEnded},
	{name: "tells that the target is down", needs: Down, run: checkDown},
	{name: "recovers when the target is back", needs: Down, run: checkRecovers},
	{name: "ends at the deadline", needs: Slow, run: checkSlow},
	// Hookline's host lets an attempt end by its deadline and cancels nothing
	// before; others that hold the Go value do.
	{name: "ends when it is cancelled", needs: Slow, value: true, run: checkCancelled},
	{name: "tells that the target rejects", needs: Rejecting, run: checkRejecting},
}

// redacted is what the host puts in the place of a secret. Where it stands, the
// plugin has told one.
const redacted = "[secret]"

// late is how much later than its deadline an attempt may end.
const late = 50 * time.Millisecond

// tries is how often a transport may show that it is not late. One that does not
// heed its deadline is late each time; one on a busy machine is not.
const tries = 3

func (b bench) start(tb testing.TB, target Target) instance {
	tb.Helper()
	log := &output{}
	i, stop, err := b.way.start(tb, b.Subject, target.Settings(), log)
	tb.Cleanup(func() {
		stop()
		if b.Secret != "" && strings.Contains(log.String(), b.Secret) {
			tb.Errorf("the secret is in the plugin's output: it would be in Hookline's log")
		}
		if strings.Contains(log.String(), redacted) {
			tb.Errorf("the secret is in the plugin's output: Hookline takes it out, but knows only its common encodings")
		}
	})
	if err != nil {
		tb.Fatalf("good settings were refused: %v", err)
	}
	return i
}

var messages atomic.Int64

// message is a new message: a target may know those that it has seen by their ids.
func message(payload []byte) *transport.Message {
	n := messages.Add(1)
	id := fmt.Sprintf("0199aaaa-0000-7000-8000-%012x", n)
	return &transport.Message{
		ID: id, EventID: fmt.Sprintf("0199bbbb-0000-7000-8000-%012x", n), DeliveryID: id, Attempt: 1,
		Hook: "demo", Route: "under-test", Study: "ABC-123", Stage: "uat", Lane: "demo/under-test/435", Kind: "update",
		ReceivedAt:  time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC),
		TraceParent: "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
		ContentType: "application/json", Payload: payload,
	}
}

func (b bench) deliver(tb testing.TB, i instance, payload []byte, timeout time.Duration) transport.Receipt {
	tb.Helper()
	return b.attempt(tb, i, message(payload), timeout)
}

func (b bench) attempt(tb testing.TB, i instance, m *transport.Message, timeout time.Duration) transport.Receipt {
	tb.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), timeout)
	defer cancel()
	r := i.Deliver(ctx, m)
	b.sane(tb, r, m.Payload)
	return r
}

// sane checks what holds for every receipt.
func (b bench) sane(tb testing.TB, r transport.Receipt, payload []byte) {
	tb.Helper()
	if !slices.Contains(transport.Codes, r.Code) {
		tb.Errorf("code %q is not one of the contract's: Hookline would call it plugin_protocol (%s)", r.Code, r.Detail)
	}
	if (r.Effect == transport.Done) != (r.Code == transport.Delivered) {
		tb.Errorf("effect %q with code %q: done and delivered belong together", r.Effect, r.Code)
	}
	if strings.ContainsAny(r.Detail, "\r\n") {
		tb.Errorf("Detail is more than one line: %q", r.Detail)
	}
	if b.Secret != "" && strings.Contains(r.Detail, b.Secret) || strings.Contains(r.Detail, redacted) {
		tb.Error("Detail holds the secret")
	}
	if len(payload) > 8 && strings.Contains(r.Detail, string(payload)) {
		tb.Error("Detail holds the payload, which is a record's data")
	}
}

func checkDescription(tb testing.TB, b bench) {
	about := b.start(tb, b.Target(tb)).Description()
	if about.Name == "" || about.Version == "" {
		tb.Errorf("name %q and version %q must both be set: an operator reads them", about.Name, about.Version)
	}
	schema, err := jsonschema.UnmarshalJSON(bytes.NewReader(about.Settings))
	if err != nil {
		tb.Fatalf("the settings schema is not JSON: %v", err)
	}
	compiler := jsonschema.NewCompiler()
	if err := compiler.AddResource("urn:settings", schema); err != nil {
		tb.Fatalf("the settings schema: %v", err)
	}
	if _, err := compiler.Compile("urn:settings"); err != nil {
		tb.Errorf("the settings schema does not compile: %v", err)
	}
	if b.Secret != "" && !bytes.Contains(about.Settings, []byte(`"writeOnly"`)) {
		tb.Error(`no setting is "writeOnly": Hookline would resolve no reference to a secret, and hide none`)
	}
}

func checkBadSettings(tb testing.TB, b bench) {
	for _, bad := range append(b.Bad, BadSettings{Name: "an unknown setting", Settings: withUnknown(b.Target(tb).Settings())}) {
		log := &output{}
		_, stop, err := b.way.start(tb, b.Subject, bad.Settings, log)
		stop()
		if bad.Hidden != "" && strings.Contains(log.String(), bad.Hidden) {
			tb.Errorf("%s: the plugin's output holds the value, which may be a secret", bad.Name)
		}
		if err == nil {
			tb.Errorf("%s: %v: a typing error would go unnoticed", bad.Name, errNotRefused)
			continue
		}
		if bad.Hidden != "" && strings.Contains(err.Error(), bad.Hidden) || strings.Contains(err.Error(), redacted) {
			tb.Errorf("%s: the error holds the value, which may be a secret", bad.Name)
			continue // the report must not hold it either
		}
		named := slices.ContainsFunc(plugins.SettingErrors(err), func(e *transport.SettingError) bool { return e.Field == bad.Field })
		if bad.Field != "" && !named {
			tb.Errorf("%s: the error does not name %s: %v", bad.Name, bad.Field, err)
		}
	}
}

func withUnknown(settings json.RawMessage) json.RawMessage {
	var m map[string]any
	if json.Unmarshal(settings, &m) != nil || m == nil {
		m = map[string]any{}
	}
	m["no_such_setting"] = true
	out, _ := json.Marshal(m) // it was JSON
	return out
}

func checkDelivers(tb testing.TB, b bench) {
	target := b.Target(tb)
	i := b.start(tb, target)
	// What a JSON library would write in another way; and equal payloads, which
	// are not duplicates.
	payloads := [][]byte{
		[]byte(`{"trans_id":"435"}`),
		[]byte(`{"note":"é \u0000 \" ünïcode"}`),
		[]byte("{ \"z\" : 1.0,\r\n\t\"a\":\"<b> & c \u2028\" }\n"),
		[]byte(`{"trans_id":"435"}`),
	}
	for _, p := range payloads {
		if r := b.deliver(tb, i, p, 5*time.Second); r.Effect != transport.Done {
			tb.Fatalf("a target that is up: %s %s (%s)", r.Effect, r.Code, r.Detail)
		}
	}
	got := target.Received()
	if len(got) != len(payloads) {
		tb.Fatalf("%d messages were delivered and the target has %d", len(payloads), len(got))
	}
	for n := range payloads {
		if !bytes.Equal(got[n], payloads[n]) {
			tb.Errorf("message %d: the target has %q, sent was %q", n, got[n], payloads[n])
		}
	}
}

func checkAgain(tb testing.TB, b bench) {
	target := b.Target(tb)
	i := b.start(tb, target)
	m := message([]byte(`{"trans_id":"435"}`))
	for m.Attempt = 1; m.Attempt <= 2; m.Attempt++ {
		if r := b.attempt(tb, i, m, 5*time.Second); r.Effect != transport.Done {
			tb.Fatalf("attempt %d of a message: %s %s (%s): a message whose outcome is unknown is sent again", m.Attempt, r.Effect, r.Code, r.Detail)
		}
	}
	got := target.Received()
	most := 2
	if i.Description().Idempotent {
		most = 1
	}
	if len(got) < 1 || len(got) > most {
		tb.Errorf("two attempts of one message, and the target has it %d times; idempotent is %t", len(got), i.Description().Idempotent)
	}
	for _, p := range got {
		if !bytes.Equal(p, m.Payload) {
			tb.Errorf("the target has %q, sent was %q", p, m.Payload)
		}
	}
}

func checkBig(tb testing.TB, b bench) {
	target := b.Target(tb)
	i := b.start(tb, target)
	big := []byte(`"` + strings.Repeat("0123456789abcdef", 1<<16) + `"`)
	if r := b.deliver(tb, i, big, 10*time.Second); r.Effect != transport.Done {
		tb.Fatalf("%s %s (%s)", r.Effect, r.Code, r.Detail)
	}
	if got := target.Received(); len(got) != 1 || !bytes.Equal(got[0], big) {
		tb.Error("the target has something else than the megabyte that was sent")
	}
}

func checkConcurrent(tb testing.TB, b bench) {
	target := b.Target(tb)
	i := b.start(tb, target)
	const n = 64
	want := map[string]int{}
	var calls sync.WaitGroup
	for k := range n {
		payload := fmt.Sprintf(`{"n":%d}`, k)
		want[payload]++
		calls.Go(func() {
			if r := b.deliver(tb, i, []byte(payload), 10*time.Second); r.Effect != transport.Done {
				tb.Errorf("one of %d at once: %s %s (%s)", n, r.Effect, r.Code, r.Detail)
			}
		})
	}
	calls.Wait()
	for _, p := range target.Received() {
		want[string(p)]--
	}
	for p, left := range want {
		if left != 0 {
			tb.Errorf("%s: reported as delivered once, and the target has it %d times", p, 1-left)
		}
	}
}

func checkCheck(tb testing.TB, b bench) {
	target := b.Target(tb)
	i := b.start(tb, target)
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	r := i.Check(ctx)
	b.sane(tb, r, nil)
	if r.Effect != transport.Done {
		tb.Errorf("a target that is up: %s %s (%s)", r.Effect, r.Code, r.Detail)
	}
	if n := len(target.Received()); n != 0 {
		tb.Errorf("a check delivered %d messages", n)
	}
	if !contains(b.States, Down) {
		return
	}
	target.Set(Down)
	if r := i.Check(ctx); r.Effect == transport.Done {
		tb.Error("a target that is down is said to be reachable")
	}
}

func checkEnded(tb testing.TB, b bench) {
	target := b.Target(tb)
	i := b.start(tb, target)
	ctx, cancel := context.WithDeadline(context.Background(), time.Now().Add(-time.Second))
	defer cancel()
	r := i.Deliver(ctx, message([]byte(`{}`)))
	b.sane(tb, r, nil)
	if n := len(target.Received()); r.Effect == transport.None && n != 0 {
		tb.Errorf("effect none, and the target has %d messages", n)
	}
	if r.Effect == transport.Done && len(target.Received()) == 0 {
		tb.Error("effect done, and the target has nothing")
	}
}

func checkDown(tb testing.TB, b bench) {
	target := b.Target(tb)
	i := b.start(tb, target)
	target.Set(Down)
	r := b.deliver(tb, i, []byte(`{"trans_id":"435"}`), 2*time.Second)
	if r.Effect != transport.None {
		tb.Errorf("a target that is down: effect %s (%s): only none is tried again at once", r.Effect, r.Code)
	}
}

func checkRecovers(tb testing.TB, b bench) {
	target := b.Target(tb)
	i := b.start(tb, target)
	b.deliver(tb, i, []byte(`{"n":1}`), 2*time.Second)
	target.Set(Down)
	b.deliver(tb, i, []byte(`{"n":2}`), 2*time.Second)
	target.Set(Up)
	if r := b.deliver(tb, i, []byte(`{"n":3}`), 5*time.Second); r.Effect != transport.Done {
		tb.Errorf("the target is back: %s %s (%s): an operator would have to restart Hookline", r.Effect, r.Code, r.Detail)
	}
}

func checkSlow(tb testing.TB, b bench) {
	target := b.Target(tb)
	i := b.start(tb, target)
	target.Set(Slow)
	const timeout = 300 * time.Millisecond
	var over time.Duration
	for range tries {
		start := time.Now()
		r := b.deliver(tb, i, []byte(`{"trans_id":"435"}`), timeout)
		over = time.Since(start) - timeout
		if r.Code != transport.Timeout || r.Effect != transport.Unknown {
			tb.Errorf("sent and not answered: %s %s, must be unknown timeout: the target may have acted", r.Effect, r.Code)
			return
		}
		if over <= late {
			return
		}
	}
	tb.Errorf("Deliver comes back %v after its deadline: somebody is waiting in front of a screen", over)
}

func checkCancelled(tb testing.TB, b bench) {
	target := b.Target(tb)
	i := b.start(tb, target)
	target.Set(Slow)
	// Long enough that the message has been sent; short of it the check is easier.
	const after = 100 * time.Millisecond
	var over time.Duration
	for range tries {
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		stop := time.AfterFunc(after, cancel)
		start := time.Now()
		r := i.Deliver(ctx, message([]byte(`{"trans_id":"435"}`)))
		over = time.Since(start) - after
		stop.Stop()
		cancel()
		b.sane(tb, r, nil)
		if r.Effect == transport.Done {
			tb.Error("effect done, and the target has not answered")
			return
		}
		if over <= late {
			return
		}
	}
	tb.Errorf("Deliver comes back %v after it is cancelled", over)
}

func checkRejecting(tb testing.TB, b bench) {
	target := b.Target(tb)
	i := b.start(tb, target)
	target.Set(Rejecting)
	r := b.deliver(tb, i, []byte(`{"trans_id":"435"}`), 2*time.Second)
	if r.Code != transport.RejectedByTarget || r.Effect != transport.None {
		tb.Errorf("rejected: %s %s, must be none rejected_by_target", r.Effect, r.Code)
	}
}
