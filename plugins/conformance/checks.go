package conformance

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"sync"
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
	run   func(tb testing.TB, b bench)
}

var checks = []check{
	{"describes itself", "", checkDescription},
	{"refuses bad settings", "", checkBadSettings},
	{"delivers", "", checkDelivers},
	{"delivers a megabyte", "", checkBig},
	{"delivers concurrently", "", checkConcurrent},
	{"answers a check", "", checkCheck},
	{"takes an ended attempt", "", checkEnded},
	{"tells that the target is down", Down, checkDown},
	{"recovers when the target is back", Down, checkRecovers},
	{"ends at the deadline", Slow, checkSlow},
	{"tells that the target rejects", Rejecting, checkRejecting},
}

// late is how much later than its deadline an attempt may end.
const late = 50 * time.Millisecond

func (b bench) start(tb testing.TB, target Target) instance {
	tb.Helper()
	log := &output{}
	i, stop, err := b.way.start(tb, b.Subject, target.Settings(), log)
	tb.Cleanup(func() {
		stop()
		if b.Secret != "" && strings.Contains(log.String(), b.Secret) {
			tb.Errorf("the secret is in the plugin's output: it would be in Hookline's log")
		}
	})
	if err != nil {
		tb.Fatalf("good settings were refused: %v", err)
	}
	return i
}

func message(payload []byte) *transport.Message {
	return &transport.Message{
		ID: "0199aaaa-0000-7000-8000-00000000000a", EventID: "0199aaaa-0000-7000-8000-00000000000b",
		DeliveryID: "0199aaaa-0000-7000-8000-00000000000a", Attempt: 1,
		Hook: "demo", Route: "under-test", Study: "ABC-123", Stage: "uat", Lane: "demo/under-test/435", Kind: "update",
		ReceivedAt:  time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC),
		TraceParent: "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
		ContentType: "application/json", Payload: payload,
	}
}

func (b bench) deliver(tb testing.TB, i instance, payload []byte, timeout time.Duration) transport.Receipt {
	tb.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), timeout)
	defer cancel()
	start := time.Now()
	r := i.Deliver(ctx, message(payload))
	if over := time.Since(start) - timeout; over > late {
		tb.Errorf("Deliver came back %v after its deadline: somebody is waiting in front of a screen", over)
	}
	b.sane(tb, r, payload)
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
	if b.Secret != "" && strings.Contains(r.Detail, b.Secret) {
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
		_, stop, err := b.way.start(tb, b.Subject, bad.Settings, &output{})
		stop()
		if err == nil {
			tb.Errorf("%s: %v: a typing error would go unnoticed", bad.Name, errNotRefused)
			continue
		}
		if bad.Hidden != "" && strings.Contains(err.Error(), bad.Hidden) {
			tb.Errorf("%s: the error holds the value, which may be a secret", bad.Name)
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
	payloads := [][]byte{[]byte(`{"trans_id":"435"}`), []byte(`{"note":"é \u0000 \" ünïcode"}`), []byte(`{"trans_id":"435"}`)}
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
	r := b.deliver(tb, i, []byte(`{"trans_id":"435"}`), 300*time.Millisecond)
	if r.Code != transport.Timeout || r.Effect != transport.Unknown {
		tb.Errorf("sent and not answered: %s %s, must be unknown timeout: the target may have acted", r.Effect, r.Code)
	}
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
