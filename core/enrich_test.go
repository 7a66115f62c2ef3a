package core_test

import (
	"context"
	"errors"
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hookline/hookline/core"
	"github.com/hookline/hookline/plugins/transport"
)

type enricherFunc func(ctx context.Context, ev *core.Event) (*core.Snapshot, error)

func (f enricherFunc) Enrich(ctx context.Context, ev *core.Event) (*core.Snapshot, error) {
	return f(ctx, ev)
}

// recordFunc is a transform that looks at the record.
type recordFunc func(ctx context.Context, record []byte) (core.Shaped, error)

func (f recordFunc) Transform(ctx context.Context, _ *core.Event, _ *core.Route, _ string, record []byte) (core.Shaped, error) {
	return f(ctx, record)
}

func TestEnrich(t *testing.T) {
	ev := event(core.Update)
	var sent string
	r := route("ehr", senderFunc(func(_ context.Context, m *transport.Message) transport.Receipt {
		sent = string(m.Payload)
		return transport.Receipt{Effect: transport.Done, Code: transport.Delivered}
	}))
	r.Enricher = enricherFunc(func(ctx context.Context, got *core.Event) (*core.Snapshot, error) {
		if got != ev || !core.ReadSince(ctx).Equal(ev.ReceivedAt) {
			t.Errorf("event %p, read since %s", got, core.ReadSince(ctx))
		}
		return &core.Snapshot{Record: []byte("the record"), ReadAt: time.Now()}, nil
	})
	r.Transformer = recordFunc(func(ctx context.Context, record []byte) (core.Shaped, error) {
		if !core.ReadSince(ctx).Equal(ev.ReceivedAt) {
			t.Error("what the script reads may be from before the event")
		}
		return core.Shaped{Messages: []core.Content{{Payload: record}}}, nil
	})
	if out := dispatch(t, ev, nil, r); out[0].State != core.StateDelivered || sent != "the record" {
		t.Errorf("%+v, sent %q", out[0], sent)
	}
	if since := core.ReadSince(context.Background()); time.Since(since) > time.Minute {
		t.Errorf("without an event, since %s", since)
	}
}

// A record that cannot be read is asked for once more while the caller waits, if that
// is of any use, and nothing is made or sent without it.
func TestEnrichFails(t *testing.T) {
	clock := &core.Expired{Setting: "hooks.demo.trialkit.timeout", After: time.Second}
	for name, tt := range map[string]struct {
		err     error
		reads   int
		took    time.Duration
		because string
		clock   *core.Expired
	}{
		"away":        {&core.EnrichError{Text: "away"}, 2, 250 * time.Millisecond, "away", nil},
		"in a second": {&core.EnrichError{Text: "busy", RetryAfter: time.Second}, 2, time.Second, "busy", nil},
		"in a minute": {&core.EnrichError{Text: "busy", RetryAfter: time.Minute}, 1, 0, "busy", nil},
		"hopeless":    {&core.EnrichError{Text: "wrong password", Hopeless: true}, 1, 0, "wrong password", nil},
		"too slow":    {&core.EnrichError{Text: "slow", Hopeless: true, Err: clock}, 1, 0, "slow", clock},
		"of no kind":  {errors.New("Jane Doe"), 2, 250 * time.Millisecond, "", nil},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := route("ehr", senderFunc(func(context.Context, *transport.Message) transport.Receipt {
					t.Error("it was sent")
					return transport.Receipt{}
				}))
				reads := 0
				r.Enricher = enricherFunc(func(context.Context, *core.Event) (*core.Snapshot, error) { reads++; return nil, tt.err })
				r.Transformer = recordFunc(func(context.Context, []byte) (core.Shaped, error) {
					t.Error("it was transformed")
					return core.Shaped{}, nil
				})
				var log strings.Builder
				d := &core.Dispatcher{Router: &core.Router{Routes: []*core.Route{r}}, Log: slog.New(slog.NewTextHandler(&log, nil))}
				start := time.Now()
				out := arrive(t, d, event(core.Update))[0]
				if out.State != core.StateDead || out.Code != core.EnrichFailed || out.Because != tt.because || out.Clock != tt.clock || out.MaybeSent {
					t.Errorf("%+v", out)
				}
				if reads != tt.reads || time.Since(start) != tt.took {
					t.Errorf("%d reads in %s", reads, time.Since(start))
				}
				if strings.Contains(log.String(), "Jane") {
					t.Error(log.String())
				}
			})
		})
	}
}
