package telemetry

import (
	"context"
	"errors"
	"log/slog"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	sdk "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/trace"

	"github.com/hookline/hookline/core"
	"github.com/hookline/hookline/plugins/transport"
)

func observed(t testing.TB, s Sources) *Telemetry {
	t.Helper()
	out, err := New(Options{Version: "1.2.3", Log: slog.New(slog.DiscardHandler), Sources: s})
	if err != nil {
		t.Fatal(err)
	}
	out.Use(Names{Hooks: []string{"demo"}, Routes: map[string]string{"ehr": "http"}, Transports: []string{"http"}})
	return out
}

// scrape returns the samples: everything but the comments.
func scrape(t testing.TB, o *Telemetry) map[string]string {
	t.Helper()
	w := httptest.NewRecorder()
	o.Handler().ServeHTTP(w, httptest.NewRequest("GET", "/metrics", nil))
	if w.Code != 200 {
		t.Fatalf("%d: %s", w.Code, w.Body)
	}
	out := map[string]string{}
	for line := range strings.Lines(w.Body.String()) {
		if i := strings.LastIndexByte(strings.TrimSpace(line), ' '); i > 0 && line[0] != '#' {
			out[line[:i]] = strings.TrimSpace(line[i:])
		}
	}
	return out
}

func want(t testing.TB, got map[string]string, series, value string) {
	t.Helper()
	if got[series] != value {
		t.Errorf("%s is %q, want %q", series, got[series], value)
	}
}

func holding(series map[string]string, part string) (out []string) {
	for name := range series {
		if strings.Contains(name, part) {
			out = append(out, name)
		}
	}
	return out
}

func TestRun(t *testing.T) {
	o := observed(t, Sources{})
	ehr := &core.Route{Name: "ehr"}
	d := &core.Delivery{Event: &core.Event{}}
	run := o.Run(d, ehr, false)
	run.Enriched(time.Now(), time.Millisecond, core.EnrichFailed)
	run.Transformed(time.Now(), time.Millisecond, "")
	if trace := run.Attempt(1); trace != "" {
		t.Errorf("trace context %q without traces", trace)
	}
	run.Attempted(&core.Attempt{N: 1, Took: 30 * time.Millisecond, Receipt: transport.Receipt{Code: transport.Delivered}}, 20*time.Millisecond)
	run.Attempted(&core.Attempt{N: 2, Took: 30 * time.Millisecond, Receipt: transport.Receipt{Code: "a vendor's <own>"}}, 0)
	run.Settled(core.StateDelivered, transport.Delivered)
	o.Answered("demo", core.Update, transport.Delivered, time.Second)
	got := scrape(t, o)
	want(t, got, `hookline_attempts_total{code="delivered",route="ehr"}`, "1")
	want(t, got, `hookline_attempts_total{code="internal",route="ehr"}`, "1")
	want(t, got, `hookline_deliveries_total{code="delivered",route="ehr",state="delivered"}`, "1")
	want(t, got, `hookline_attempt_seconds_count{route="ehr"}`, "2")
	want(t, got, `hookline_target_seconds_count{route="ehr"}`, "1")
	want(t, got, `hookline_hop_seconds_count{transport="http"}`, "1")
	want(t, got, `hookline_hop_seconds_bucket{transport="http",le="0.01"}`, "1")
	want(t, got, `hookline_enrich_seconds_count{route="ehr"}`, "1")
	want(t, got, `hookline_transform_seconds_count{route="ehr"}`, "1")
	want(t, got, `hookline_events_total{code="delivered",hook="demo",kind="update"}`, "1")
	want(t, got, `hookline_answer_seconds_sum{hook="demo"}`, "1")
	want(t, got, `hookline_build_info{version="1.2.3"}`, "1")
}

// What a name of the configuration leaves behind goes with it, and stays away: an
// attempt that began before may end after.
func TestGone(t *testing.T) {
	o := observed(t, Sources{})
	late := o.Run(&core.Delivery{Event: &core.Event{}}, &core.Route{Name: "ehr"}, false)
	late.Settled(core.StateDelivered, transport.Delivered)
	o.Answered("demo", core.Insert, transport.Delivered, time.Second)
	o.Use(Names{Hooks: []string{"other"}, Routes: map[string]string{"lab": "mail"}, Transports: []string{"mail"}})
	for _, run := range []core.Run{late, o.Run(&core.Delivery{Event: &core.Event{}}, &core.Route{Name: "ehr"}, true)} {
		run.Enriched(time.Now(), 1, "")
		run.Transformed(time.Now(), 1, "")
		run.Attempted(&core.Attempt{Receipt: transport.Receipt{Code: transport.Timeout}}, 1)
		run.Settled(core.StateDelivered, transport.Delivered)
		run.Settled(core.StateDead, transport.Timeout)
	}
	o.Answered("demo", core.Insert, core.Throttled, time.Second)
	got := scrape(t, o)
	for _, part := range []string{`"ehr"`, `"demo"`, `"http"`} {
		if left := holding(got, part); len(left) > 0 {
			t.Errorf("left of %s: %v", part, left)
		}
	}
	want(t, got, `hookline_attempt_seconds_count{route="lab"}`, "0")

	// And a name that comes back counts from the start.
	o.Use(Names{Hooks: []string{"demo"}})
	o.Answered("demo", core.Insert, transport.Delivered, time.Second)
	want(t, scrape(t, o), `hookline_events_total{code="delivered",hook="demo",kind="insert"}`, "1")
}

// Whatever is told, the series are those of a closed set.
func TestBounded(t *testing.T) {
	o := observed(t, Sources{})
	o.Answered("demo", core.Insert, core.Internal, 0)
	o.Answered("demo", "", core.Internal, 0)
	o.Run(&core.Delivery{Event: &core.Event{}}, &core.Route{Name: "ehr"}, false).Settled(core.StateDead, core.Internal)
	before := len(scrape(t, o))
	for range 100 {
		odd := uuid.NewString()
		o.Answered(odd, core.Insert, core.Internal, 0)
		o.Answered("demo", core.Kind(odd), core.Code(odd), 0)
		o.Run(&core.Delivery{Event: &core.Event{}}, &core.Route{Name: odd}, false).Settled(core.StateDead, "x")
		o.Run(&core.Delivery{Event: &core.Event{}}, &core.Route{Name: "ehr"}, false).Settled(core.StateDead, core.Code(odd))
	}
	if after := len(scrape(t, o)); after != before {
		t.Errorf("%d series became %d", before, after)
	}
}

// An event without a trace costs no memory.
func TestAllocations(t *testing.T) {
	o := observed(t, Sources{})
	ehr, d := &core.Route{Name: "ehr"}, &core.Delivery{Event: &core.Event{}}
	a := &core.Attempt{Took: time.Second, Receipt: transport.Receipt{Code: transport.Delivered}}
	if n := testing.AllocsPerRun(100, func() {
		run := o.Run(d, ehr, false)
		run.Attempted(a, time.Millisecond)
		run.Settled(core.StateDelivered, transport.Delivered)
		o.Answered("demo", core.Insert, transport.Delivered, time.Second)
	}); n != 0 {
		t.Errorf("%v allocations for an event", n)
	}
}

// The queue is counted seldom, whoever asks, and not told when it is not known.
func TestQueue(t *testing.T) {
	asked, fail := 0, error(nil)
	o := observed(t, Sources{
		Routes: func() []string { return []string{"ehr"} },
		Queue: func(ctx context.Context) ([]Depth, error) {
			if _, bounded := ctx.Deadline(); !bounded {
				t.Error("the look at the queue has no deadline")
			}
			asked++
			return []Depth{
				{"ehr", core.StateWaiting, 3, time.Minute}, {"ehr", core.StateHeld, 1, time.Hour},
				{"gone", core.StateHeld, 2, time.Second}, {"gone too", core.StateHeld, 2, 2 * time.Second},
			}, fail
		},
	})
	got := scrape(t, o)
	scrape(t, o)
	if asked != 1 {
		t.Errorf("the journal was asked %d times for two scrapes", asked)
	}
	want(t, got, `hookline_queue_depth{route="ehr",state="waiting"}`, "3")
	want(t, got, `hookline_queue_depth{route="ehr",state="running"}`, "0")
	want(t, got, `hookline_queue_oldest_seconds{route="ehr"}`, "3600")
	want(t, got, `hookline_queue_depth{route="",state="held"}`, "4")
	want(t, got, `hookline_queue_oldest_seconds{route=""}`, "2")

	away := observed(t, Sources{
		Routes: func() []string { return []string{"ehr"} },
		Queue:  func(context.Context) ([]Depth, error) { return nil, errors.New("away") },
	})
	if left := holding(scrape(t, away), "hookline_queue"); len(left) > 0 {
		t.Errorf("told of a queue that is not known: %v", left)
	}
}

func TestTraceParent(t *testing.T) {
	for _, s := range []string{
		"00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
		"00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-00",
	} {
		c, ok := parse(s)
		if got := format(c); !ok || got != s {
			t.Errorf("%s became %s", s, got)
		}
	}
	for _, s := range []string{
		"", "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-0g",
		"00-00000000000000000000000000000000-00f067aa0ba902b7-01",
		"00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01",
	} {
		if _, ok := parse(s); ok {
			t.Errorf("%q was taken", s)
		}
	}
}

// A trace's id is the event's, a UUIDv7, whose bits are not all random.
func TestSample(t *testing.T) {
	const events = 20_000
	for _, part := range []float64{0, 0.1, 0.5, 0.9, 1} {
		taken := 0
		for range events {
			id := trace.TraceID(uuid.Must(uuid.NewV7()))
			if ratio(part).ShouldSample(sdk.SamplingParameters{ParentContext: context.Background(), TraceID: id}).Decision == sdk.RecordAndSample {
				taken++
			}
		}
		if got := float64(taken) / events; got < part-0.03 || got > part+0.03 {
			t.Errorf("of a part of %v, %v was taken", part, got)
		}
	}
}
