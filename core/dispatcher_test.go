package core_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hookline/hookline/core"
	"github.com/hookline/hookline/plugins/transport"
)

// senderFunc is a target under the test's control.
type senderFunc func(ctx context.Context, m *transport.Message) transport.Receipt

func (f senderFunc) Deliver(ctx context.Context, m *transport.Message) transport.Receipt {
	return f(ctx, m)
}

type transformFunc func(ctx context.Context) (core.Shaped, error)

func (f transformFunc) Transform(ctx context.Context, _ *core.Event, _ *core.Route, _ string, _ []byte) (core.Shaped, error) {
	return f(ctx)
}

var hook = &core.Hook{Name: "demo", Study: "ABC-123", Stage: core.UAT, Timeout: 15 * time.Second}

func route(name string, s core.Sender) *core.Route {
	return &core.Route{
		Name: name, Hooks: []string{"demo"}, Timeout: 10 * time.Second,
		Transport: &core.Transport{Name: name + "-t", Label: strings.ToUpper(name), Sender: s},
	}
}

func event(kind core.Kind) *core.Event {
	ev := &core.Event{
		Kind: kind, TransID: "435", FormID: "319", FormName: "Sample Form",
		Body: []byte(`{"trans_id":"435"}`),
	}
	ev.Stamp(hook, time.Now())
	ev.ID, ev.Ref = "0199-event", "K7QF2M9X"
	return ev
}

func dispatch(t *testing.T, ev *core.Event, log *bytes.Buffer, routes ...*core.Route) []core.Outcome {
	t.Helper()
	if log == nil {
		log = &bytes.Buffer{}
	}
	d := &core.Dispatcher{Router: &core.Router{Routes: routes}, Log: slog.New(slog.NewTextHandler(log, nil))}
	return arrive(t, d, ev)
}

func arrive(t *testing.T, d *core.Dispatcher, ev *core.Event) []core.Outcome {
	t.Helper()
	r, err := d.Dispatch(core.Arrival{Event: ev})
	if err != nil {
		t.Fatal(err)
	}
	return r.Outcomes
}

func always(r transport.Receipt) senderFunc {
	return func(context.Context, *transport.Message) transport.Receipt { return r }
}

var done = always(transport.Receipt{Effect: transport.Done, Code: transport.Delivered, TargetStatus: 200})

func TestDispatchSendsTheBodyAsItCame(t *testing.T) {
	var got *transport.Message
	ev := event(core.Update)
	out := dispatch(t, ev, nil, route("ehr", senderFunc(func(_ context.Context, m *transport.Message) transport.Receipt {
		got = m
		return transport.Receipt{Effect: transport.Done, Code: transport.Delivered}
	})))
	if len(out) != 1 || out[0].State != core.StateDelivered || out[0].Attempts != 1 {
		t.Fatalf("outcome %+v", out)
	}
	if !bytes.Equal(got.Payload, ev.Body) || got.ContentType != "application/json" || got.Lane != "demo/ehr/435" ||
		got.Kind != "update" || got.Study != "ABC-123" || got.Stage != "uat" || got.EventID != ev.ID || got.ID == "" || got.ID != got.DeliveryID {
		t.Errorf("message %+v", got)
	}
}

// What surely did not happen is tried once more within two seconds; what may
// have happened is not.
func TestDispatchRetries(t *testing.T) {
	for _, tt := range []struct {
		name     string
		receipt  transport.Receipt
		attempts int
		took     time.Duration
	}{
		{"refused", transport.Failed(transport.None, transport.ConnectionRefused, ""), 2, 250 * time.Millisecond},
		{"plugin gone", transport.Failed(transport.None, transport.PluginUnavailable, ""), 2, 250 * time.Millisecond},
		{"throttled, back in a second", transport.Receipt{Effect: transport.None, Code: transport.ThrottledByTarget, RetryAfter: time.Second}, 2, time.Second},
		{"throttled for long", transport.Receipt{Effect: transport.None, Code: transport.ThrottledByTarget, RetryAfter: time.Minute}, 1, 0},
		{"rejected", transport.Failed(transport.None, transport.RejectedByTarget, ""), 1, 0},
		{"connected in vain until the timeout", transport.Failed(transport.None, transport.Timeout, ""), 1, 0},
		{"target error", transport.Failed(transport.Unknown, transport.TargetError, ""), 1, 0},
		{"reset", transport.Failed(transport.Unknown, transport.ConnectionReset, ""), 1, 0},
		{"plugin crashed", transport.Failed(transport.Unknown, transport.PluginCrashed, ""), 1, 0},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var ids []string
				start := time.Now()
				out := dispatch(t, event(core.Update), nil, route("ehr", senderFunc(func(_ context.Context, m *transport.Message) transport.Receipt {
					ids = append(ids, m.ID+" "+string(m.Payload))
					if m.Attempt != len(ids) {
						t.Errorf("attempt %d is numbered %d", len(ids), m.Attempt)
					}
					return tt.receipt
				})))
				if out[0].Attempts != tt.attempts || len(ids) != tt.attempts {
					t.Errorf("%d attempts, want %d", out[0].Attempts, tt.attempts)
				}
				if took := time.Since(start); took != tt.took {
					t.Errorf("took %v, want %v", took, tt.took)
				}
				if len(ids) == 2 && ids[0] != ids[1] {
					t.Errorf("the attempts differ: %q", ids) // invariant 9
				}
				want := core.StateDead
				if tt.receipt.Effect == transport.Unknown {
					want = core.StateUnknown
				}
				if out[0].State != want || out[0].Code != tt.receipt.Code {
					t.Errorf("got %s %s, want %s %s", out[0].State, out[0].Code, want, tt.receipt.Code)
				}
			})
		})
	}
}

func TestDispatchRetrySucceeds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := 0
		out := dispatch(t, event(core.Update), nil, route("ehr", senderFunc(func(context.Context, *transport.Message) transport.Receipt {
			if n++; n == 1 {
				return transport.Failed(transport.None, transport.ConnectionRefused, "")
			}
			return transport.Receipt{Effect: transport.Done, Code: transport.Delivered}
		})))
		if out[0].State != core.StateDelivered || out[0].Attempts != 2 {
			t.Errorf("outcome %+v", out[0])
		}
	})
}

func untilDeadline(ctx context.Context, _ *transport.Message) transport.Receipt {
	<-ctx.Done()
	return transport.Failed(transport.Unknown, transport.Timeout, "")
}

// The attempt ends at its route's timeout or at the hook's budget, and the
// outcome names the setting that ended it.
func TestDispatchNamesTheClock(t *testing.T) {
	for _, tt := range []struct {
		route, transform, want time.Duration
		setting                string
	}{
		{route: 10 * time.Second, want: 10 * time.Second, setting: "routes.ehr.timeout is 10s"},
		{route: 60 * time.Second, want: 15 * time.Second, setting: "hooks.demo.timeout is 15s"},
		{route: 10 * time.Second, transform: 8 * time.Second, want: 15 * time.Second, setting: "hooks.demo.timeout is 15s"},
	} {
		synctest.Test(t, func(t *testing.T) {
			r := route("ehr", senderFunc(untilDeadline))
			r.Timeout = tt.route
			if tt.transform > 0 {
				r.Transformer = transformFunc(func(context.Context) (core.Shaped, error) {
					time.Sleep(tt.transform) // the fake clock's
					return core.Shaped{Messages: []core.Content{{Payload: []byte("{}")}}}, nil
				})
			}
			start := time.Now()
			out := dispatch(t, event(core.Update), nil, r)
			if took := time.Since(start); took != tt.want {
				t.Errorf("took %v, want %v", took, tt.want)
			}
			if out[0].Clock == nil || out[0].Clock.Error() != tt.setting {
				t.Errorf("clock %v, want %s", out[0].Clock, tt.setting)
			}
		})
	}
}

func TestDispatchRunsRoutesAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		slow := senderFunc(func(context.Context, *transport.Message) transport.Receipt {
			time.Sleep(time.Second) // the fake clock's
			return transport.Receipt{Effect: transport.Done, Code: transport.Delivered}
		})
		start := time.Now()
		out := dispatch(t, event(core.Update), nil, route("a", slow), route("b", slow), route("c", slow))
		if took := time.Since(start); took != time.Second {
			t.Errorf("three routes of 1s took %v", took)
		}
		for i, name := range []string{"a", "b", "c"} {
			if out[i].Route.Name != name || out[i].State != core.StateDelivered {
				t.Errorf("outcome %d is %s %s", i, out[i].Route.Name, out[i].State)
			}
		}
	})
}

func TestDispatchTransform(t *testing.T) {
	why := "not a safety form"
	for _, tt := range []struct {
		name   string
		shaped core.Shaped
		err    error
		want   string
	}{
		{"skip", core.Shaped{Skip: &why}, nil, "skipped skipped not a safety form"},
		{"reject", core.Shaped{Reject: &why}, nil, "rejected rejected_by_transform not a safety form"},
		{"nothing is an error", core.Shaped{}, nil, "dead transform_failed "},
		{"throws", core.Shaped{}, &core.ScriptError{Code: core.TransformFailed, Position: "ehr.js:3:7", Text: "boom"}, "dead transform_failed ehr.js:3:7"},
		{"too slow", core.Shaped{}, fmt.Errorf("%w: %w", &core.ScriptError{Code: core.ScriptTimeout}, &core.Expired{Setting: "routes.ehr.script_timeout", After: time.Second}), "dead script_timeout routes.ehr.script_timeout is 1s"},
		{"some other error", core.Shaped{}, errors.New("disk on fire"), "dead transform_failed "},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r := route("ehr", senderFunc(func(context.Context, *transport.Message) transport.Receipt {
				t.Error("something was sent")
				return transport.Receipt{}
			}))
			r.Transformer = transformFunc(func(context.Context) (core.Shaped, error) { return tt.shaped, tt.err })
			var log bytes.Buffer
			out := dispatch(t, event(core.Update), &log, r)
			got := string(out[0].State) + " " + string(out[0].Code) + " " + out[0].Reason + out[0].Position
			if out[0].Clock != nil {
				got += out[0].Clock.Error()
			}
			if got != tt.want {
				t.Errorf("got %q, want %q", got, tt.want)
			}
			if strings.Contains(log.String(), "boom") || strings.Contains(log.String(), why) {
				t.Errorf("a script's text is in the log: %s", log.String()) // invariant 7
			}
		})
	}
}

// Several messages go out in order; after a failure only the rest is sent again.
func TestDispatchSeveralMessages(t *testing.T) {
	for _, tt := range []struct {
		fails []int // which sends
		want  string
		state core.State
	}{
		{nil, "a b-2 c-3", core.StateDelivered},
		{[]int{2}, "a b-2 b-2 c-3", core.StateDelivered},
		{[]int{2, 3}, "a b-2 b-2", core.StateUnknown}, // a part has arrived: "not done" would be untrue
		{[]int{1, 2}, "a a", core.StateDead},
	} {
		synctest.Test(t, func(t *testing.T) {
			var got []string
			r := route("ehr", senderFunc(func(_ context.Context, m *transport.Message) transport.Receipt {
				got = append(got, fmt.Sprintf("%s%s", m.Payload, strings.TrimPrefix(m.ID, m.DeliveryID)))
				if slices.Contains(tt.fails, len(got)) {
					return transport.Failed(transport.None, transport.ConnectionRefused, "")
				}
				return transport.Receipt{Effect: transport.Done, Code: transport.Delivered}
			}))
			r.Transformer = transformFunc(func(context.Context) (core.Shaped, error) {
				return core.Shaped{Messages: []core.Content{{Payload: []byte("a")}, {Payload: []byte("b")}, {Payload: []byte("c")}}}, nil
			})
			out := dispatch(t, event(core.Update), nil, r)
			if out[0].State != tt.state || strings.Join(got, " ") != tt.want {
				t.Errorf("%v: %s after %q", tt.fails, out[0].State, got)
			}
		})
	}
}

func TestDispatchPanicBecomesInternal(t *testing.T) {
	var log bytes.Buffer
	out := dispatch(t, event(core.Update), &log, route("a", senderFunc(func(context.Context, *transport.Message) transport.Receipt {
		panic("secret of record 435")
	})), route("b", done))
	a := core.Compose(event(core.Update), out)
	if out[0].Code != core.Internal || out[1].State != core.StateDelivered || a.Status != 500 || a.Fault != core.FaultHookline {
		t.Errorf("outcomes %+v answer %+v", out, a)
	}
	if strings.Contains(log.String(), "secret of record") {
		t.Error("the panic's value is in the log")
	}
}

// A plugin cannot claim what its receipt does not hold.
func TestReceiptsAreNotBelieved(t *testing.T) {
	for _, tt := range []struct {
		receipt transport.Receipt
		want    string
	}{
		{transport.Receipt{Effect: transport.Unknown, Code: transport.Delivered}, "unknown plugin_protocol"},
		{transport.Receipt{Effect: transport.None, Code: transport.Delivered}, "unknown plugin_protocol"},
		{transport.Receipt{Effect: transport.Done, Code: transport.TargetError}, "unknown target_error"},
		{transport.Receipt{Effect: transport.None, Code: "unauthorized"}, "dead plugin_protocol"},
		{transport.Receipt{}, "unknown plugin_protocol"},
	} {
		out := dispatch(t, event(core.Update), nil, route("ehr", always(tt.receipt)))
		if got := string(out[0].State) + " " + string(out[0].Code); got != tt.want {
			t.Errorf("%+v: got %s, want %s", tt.receipt, got, tt.want)
		}
	}
}

func TestVendorsWordsStayOutOfTheLog(t *testing.T) {
	var log bytes.Buffer
	d := &core.Dispatcher{
		Log:       slog.New(slog.NewTextHandler(&log, nil)),
		LogDetail: map[string]bool{"ours-t": true},
		Router: &core.Router{Routes: []*core.Route{
			route("ours", always(transport.Failed(transport.Unknown, transport.TargetError, "our own words"))),
			route("theirs", always(transport.Failed(transport.Unknown, transport.TargetError, "patient Jane Doe"))),
		}},
	}
	arrive(t, d, event(core.Update))
	if s := log.String(); !strings.Contains(s, "our own words") || strings.Contains(s, "Jane Doe") {
		t.Errorf("log: %s", s)
	}
}

// The golden file holds the whole answer for each way an event can end.
func TestCompose(t *testing.T) {
	type row struct {
		name     string
		ev       func(*core.Event)
		outcomes []core.Outcome
	}
	ehr, dwh, sae := route("ehr", nil), route("warehouse", nil), route("safety", nil)
	ehr.Transport.Label = "Hospital EHR"
	ehr.ScriptFile = "transforms/ehr.js"
	ok := core.Outcome{Route: dwh, State: core.StateDelivered, Code: transport.Delivered, Attempts: 1, Duration: 12 * time.Millisecond}
	rows := []row{
		{"delivered", nil, []core.Outcome{ok}},
		{"skipped", nil, []core.Outcome{{Route: ehr, State: core.StateSkipped, Code: core.Skipped, Reason: "not\na safety form"}}},
		{"ignored", nil, nil},
		{"unmatched", func(ev *core.Event) { h := *hook; h.UnmatchedError = true; ev.Hook = &h }, nil},
		{"rejected", nil, []core.Outcome{{Route: ehr, State: core.StateRejected, Code: core.RejectedByTransform, Reason: "the visit date is in the future"}}},
		{"one arrived, one did not", nil, []core.Outcome{ok, {Route: ehr, State: core.StateDead, Code: transport.ConnectionRefused, Attempts: 2}}},
		{"the gravest fault first", nil, []core.Outcome{
			{Route: ehr, State: core.StateDead, Code: transport.ConnectionRefused, Attempts: 2},
			{Route: sae, State: core.StateUnknown, Code: transport.PluginCrashed, Attempts: 1},
		}},
		{"review, no form name", func(ev *core.Event) { ev.Kind, ev.FormName = core.Review, "" }, []core.Outcome{{Route: ehr, State: core.StateDead, Code: transport.DNSError}}},
		{"hostile form name", func(ev *core.Event) { ev.FormName = "<b>\u202e" + strings.Repeat("é", 90) }, []core.Outcome{{Route: ehr, State: core.StateDead, Code: transport.DNSError}}},
		{"script position", nil, []core.Outcome{{Route: ehr, State: core.StateDead, Code: core.TransformFailed, Position: "transforms/ehr.js:12:7"}}},
		{"script without a position", nil, []core.Outcome{{Route: ehr, State: core.StateDead, Code: core.TransformFailed}}},
		{"script timeout", nil, []core.Outcome{{Route: ehr, State: core.StateDead, Code: core.ScriptTimeout, Clock: &core.Expired{Setting: "routes.ehr.script_timeout", After: 250 * time.Millisecond}}}},
		{"not enriched", nil, []core.Outcome{{Route: ehr, State: core.StateWaiting, Code: core.EnrichFailed, Outlook: core.OutlookRetry, Because: "TrialKit's API answered 500, an error of its own"}}},
		{"not enriched in time", nil, []core.Outcome{{Route: ehr, State: core.StateDead, Code: core.EnrichFailed, Because: "TrialKit's API did not answer in time", Clock: &core.Expired{Setting: "hooks.demo.trialkit.timeout", After: 5 * time.Second}}}},
		{"timeout", nil, []core.Outcome{{Route: ehr, State: core.StateUnknown, Code: transport.Timeout, Attempts: 1, Clock: &core.Expired{Setting: "routes.ehr.timeout", After: 10 * time.Second}}}},
	}
	async := route("lab", nil)
	async.Async = true
	queued := core.Outcome{Route: ehr, State: core.StateQueued, Code: core.Accepted}
	later := core.Outcome{Route: async, State: core.StateQueued, Code: core.Accepted}
	retried := core.Outcome{Route: ehr, State: core.StateWaiting, Code: transport.ConnectionRefused, Attempts: 2, Outlook: core.OutlookRetry}
	held := core.Outcome{Route: sae, State: core.StateUnknown, Code: transport.ConnectionReset, Attempts: 1, Outlook: core.OutlookHeld}
	rows = append(rows,
		row{"accepted: async", nil, []core.Outcome{later}},
		row{"accepted: 200 for a caller that needs it", func(ev *core.Event) { h := *hook; h.AcceptedStatus = 200; ev.Hook = &h }, []core.Outcome{later}},
		row{"accepted: queued", nil, []core.Outcome{ok, queued}},
		row{"accepted: the time was over", nil, []core.Outcome{{Route: ehr, State: core.StateRunning, Code: core.Accepted, Attempts: 1}}},
		row{"delivered, an async one to come", nil, []core.Outcome{ok, later}},
		row{"skipped, an async one to come", nil, []core.Outcome{{Route: ehr, State: core.StateSkipped, Code: core.Skipped}, later}},
		row{"cancelled", nil, []core.Outcome{{Route: ehr, State: core.StateCancelled, Code: transport.Timeout}}},
		row{"keeps trying", nil, []core.Outcome{retried}},
		row{"keeps trying, may have arrived", nil, []core.Outcome{{Route: ehr, State: core.StateUnknown, Code: transport.Timeout, Attempts: 1, Outlook: core.OutlookRetry, Clock: &core.Expired{Setting: "routes.ehr.timeout", After: 10 * time.Second}}}},
		row{"held", nil, []core.Outcome{held}},
		row{"dead, and holds its lane", nil, []core.Outcome{{Route: ehr, State: core.StateDead, Code: transport.RejectedByTarget, Attempts: 1, Outlook: core.OutlookHeld}}},
		row{"every outlook", nil, []core.Outcome{ok, retried, held, {Route: dwh, State: core.StateDead, Code: transport.RejectedByTarget, Attempts: 1}}},
		row{"circuit open, told as a failure", nil, []core.Outcome{{Route: ehr, State: core.StateQueued, Code: core.CircuitOpen, Outlook: core.OutlookRetry}}},
		row{"lane blocked, told as a failure", nil, []core.Outcome{{Route: ehr, State: core.StateQueued, Code: core.LaneBlocked, Outlook: core.OutlookRetry}}},
		row{"overloaded, told as a failure", nil, []core.Outcome{{Route: ehr, State: core.StateQueued, Code: core.Overloaded, Outlook: core.OutlookRetry}}},
		row{"journal lost before sending", nil, []core.Outcome{{Route: ehr, State: core.StateWaiting, Code: core.JournalUnavailable, Outlook: core.OutlookRetry}}},
	)
	for _, code := range append([]core.Code{core.Internal, transport.PluginCrashed, transport.PluginProtocol, transport.PluginUnavailable}, transport.Codes[1:]...) {
		rows = append(rows, row{"code " + string(code), nil, []core.Outcome{{Route: ehr, State: core.StateUnknown, Code: code}}})
	}
	var got bytes.Buffer
	for _, r := range rows {
		ev := event(core.Update)
		if r.ev != nil {
			r.ev(ev)
		}
		for i := range r.outcomes {
			if o := &r.outcomes[i]; o.State == core.StateUnknown {
				o.MaybeSent = true
			}
		}
		a := core.Compose(ev, r.outcomes)
		fmt.Fprintf(&got, "== %s\n%d %s stage=%s fault=%s\ndetail: %s\nhint: %s\n", r.name, a.Status, a.Code, a.Step, a.Fault, a.Detail, a.Hint)
		for _, d := range a.Deliveries {
			fmt.Fprintf(&got, "%+v\n", d)
		}
		if a.Failed() && (a.Type == "" || a.Title != "Protocol Error" || a.Detail == "" || a.Hint == "" && a.Code != transport.Timeout) {
			t.Errorf("%s: incomplete problem %+v", r.name, a)
		}
	}
	golden(t, "testdata/answers.golden", got.Bytes())
}

func golden(t *testing.T, name string, got []byte) {
	t.Helper()
	if *update {
		if err := os.WriteFile(name, got, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, want) {
		t.Errorf("%s differs; look at the difference, then run with -update\n%s", name, got)
	}
}
