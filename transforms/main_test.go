package transforms_test

import (
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/hookline/hookline/core"
	"github.com/hookline/hookline/transforms"
)

func TestMain(m *testing.M) {
	if len(os.Args) > 1 && os.Args[1] == "child" {
		transforms.ServeChild()
		return
	}
	goleak.VerifyTestMain(m)
}

// update is an event as TrialKit sends it.
const update = `{"trans_id":"435","form_id":"319","form_name":"Sample Form","OnUpdate":true}`

const delivery = "0190b4f4-0000-7000-8000-000000000001"

var received = time.Date(2026, 3, 1, 12, 30, 15, 250_000_000, time.UTC)

func event(body string) *core.Event {
	return &core.Event{
		ID: "0190b4f4-0000-7000-8000-0000000000ee", Ref: "K7QF2M9X", Kind: core.Update,
		Hook:    &core.Hook{Name: "demo", Study: "ABC-123", Stage: core.UAT},
		TransID: "435", FormID: "319", ReceivedAt: received, Body: []byte(body),
	}
}

var route = &core.Route{Name: "ehr"}

// output collects what scripts log and throw.
type output struct {
	mu    sync.Mutex
	lines map[string][]string // by delivery
}

func (o *output) show(_, deliveryID, text string) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.lines == nil {
		o.lines = make(map[string][]string)
	}
	o.lines[deliveryID] = append(o.lines[deliveryID], text)
}

func (o *output) of(deliveryID string) []string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.lines[deliveryID]
}

func start(t testing.TB, o *output) *transforms.Engine {
	t.Helper()
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	options := transforms.Options{Command: []string{exe, "child"}, Log: slog.New(slog.DiscardHandler)}
	if o != nil {
		options.ShowOutput = o.show
	}
	e, err := transforms.Start(t.Context(), options)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(e.Stop)
	return e
}

// write puts a script into a file of its own and describes it.
func write(t testing.TB, source string, timeout time.Duration) transforms.Script {
	t.Helper()
	path := filepath.Join(t.TempDir(), "case.js")
	if err := os.WriteFile(path, []byte(source), 0o600); err != nil {
		t.Fatal(err)
	}
	return transforms.Script{Name: "transforms/case.js", Path: path, Timeout: timeout}
}

func compile(t testing.TB, e *transforms.Engine, source string, timeout time.Duration) *transforms.Transform {
	t.Helper()
	tr, err := e.Compile(t.Context(), write(t, source, timeout))
	if err != nil {
		t.Fatal(err)
	}
	return tr
}

// payload runs the transform and returns what it is to send.
func payload(t testing.TB, tr *transforms.Transform, body, deliveryID string) string {
	t.Helper()
	shaped, err := tr.Transform(t.Context(), event(body), route, deliveryID, nil)
	if err != nil {
		t.Fatalf("transform: %v", err)
	}
	if len(shaped.Messages) != 1 {
		t.Fatalf("got %+v, want one message", shaped)
	}
	return string(shaped.Messages[0].Payload)
}
