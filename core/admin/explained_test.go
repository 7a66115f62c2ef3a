package admin_test

import (
	"context"
	"log/slog"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/hookline/hookline/core"
	"github.com/hookline/hookline/core/admin"
	"github.com/hookline/hookline/core/journal"
	"github.com/hookline/hookline/plugins/transport"
)

// traced changes what the journal has found of an event.
type traced struct {
	*journal.Store
	edit func(*journal.Traces)
}

func (j *traced) Traces(ctx context.Context, ev *journal.EventDetail) (*journal.Traces, error) {
	t, err := j.Store.Traces(ctx, ev)
	if err == nil {
		j.edit(t)
	}
	return t, err
}

// What cannot be found out is said, and nothing is made up in its place.
func TestExplainWhatIsMissing(t *testing.T) {
	d := open(t, "memory:")
	ev, deliveries := d.event(core.Insert, "1", "Adverse", `{"trans_id":"1"}`, "ehr")
	d.settle(deliveries[0], core.StateDead, transport.RejectedByTarget)

	explain := func(o admin.Options, edit func(*journal.Traces)) *admin.Explanation {
		t.Helper()
		path := socket(t)
		o.Path, o.Reload, o.Journal, o.Log = path, accept, &traced{d.store, edit}, slog.New(slog.DiscardHandler)
		o.Status = func() admin.Status { return admin.Status{} }
		s := serve(t, o)
		defer s.Stop()
		x, err := admin.NewClient(path).Explain(t.Context(), strings.ToLower(ev.Ref))
		if err != nil {
			t.Fatal(err)
		}
		return x
	}
	noted := func(x *admin.Explanation, all ...string) {
		t.Helper()
		got := strings.Join(x.Notes, "\n")
		for _, want := range all {
			if !strings.Contains(got, want) {
				t.Errorf("%q is not noted:\n%s", want, got)
			}
		}
		if len(x.Notes) != len(all) {
			t.Errorf("noted is more:\n%s", got)
		}
	}
	moments := func(x *admin.Explanation, what string) (out []string) {
		for _, m := range x.Timeline {
			if m.What == what {
				out = append(out, m.Text)
			}
		}
		return out
	}

	x := explain(admin.Options{}, func(*journal.Traces) {})
	noted(x, "does not tell what configuration r1 said", "why other routes did not take it is not known")
	if x.Deliveries[0].Label != "ehr" || len(x.Routes) != 0 || string(x.Body.Bytes()) != `{"trans_id":"1"}` ||
		x.Deliveries[0].Replies[1].Content.Text != "the target quotes Jane Doe" || len(moments(x, "state")) != 2 {
		t.Errorf("%+v", x)
	}

	// An old event of an old daemon, whose contents were pruned, with too long an audit.
	until := time.Date(2026, 1, 31, 8, 30, 0, 0, time.UTC)
	past := func(_ context.Context, revision string, _ *core.Event, _ time.Time) (*admin.Configuration, error) {
		return &admin.Configuration{Revision: revision, Note: "gone", Routes: []admin.RouteVerdict{}}, nil
	}
	x = explain(admin.Options{Past: past}, func(t *journal.Traces) {
		t.Body, t.BodyPruned, t.SentPruned, t.Changes, t.Until = nil, true, true, nil, until
	})
	noted(x, "configuration r1: gone", "why other routes did not take it is not known", "which is older than it", "up to 2026-01-31T08:30:00.000Z only")
	if !x.Body.Pruned || x.Body.Size != 0 || !x.Deliveries[0].SentPruned {
		t.Errorf("%+v", x)
	}
	if got := moments(x, "state"); len(got) != 2 || got[0] != "route ehr: placed" || got[1] != "route ehr: dead (rejected_by_target)" {
		t.Errorf("%q", got)
	}

	x = explain(admin.Options{Past: past}, func(t *journal.Traces) {
		t.Changes = append(t.Changes,
			journal.Change{At: time.Now(), AuditEntry: journal.AuditEntry{Kind: journal.ChangeView, Actor: "anna", What: "body"}},
			journal.Change{At: time.Now(), AuditEntry: journal.AuditEntry{Kind: journal.ChangePrune, What: "payloads"}})
	})
	if got := append(moments(x, "view"), moments(x, "prune")...); strings.Join(got, "; ") != "anna was shown the body; payloads deleted, as their age called for" {
		t.Errorf("%q", got)
	}

	for path, want := range map[string]int{
		"/v1/events/ZZZZZZZZ/explain":             http.StatusNotFound,
		"/v1/events/no/explain":                   http.StatusBadRequest,
		"/v1/events/" + ev.Ref + "/explain?x=1":   http.StatusBadRequest,
		"/v1/events/" + ev.Ref + "/explain":       http.StatusOK,
		"/v1/events/" + ev.Ref + "/explain/again": http.StatusNotFound,
	} {
		if status, _, body := d.call(http.MethodGet, path, "", ""); status != want {
			t.Errorf("%s: %d %s", path, status, body)
		}
	}
	if !strings.Contains(d.logs.String(), "event_id="+ev.ID) || strings.Contains(d.logs.String(), "Jane") {
		t.Errorf("the log: %s", d.logs)
	}
}
