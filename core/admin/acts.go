package admin

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/hookline/hookline/core"
	"github.com/hookline/hookline/core/journal"
)

type actJournal interface {
	Select(ctx context.Context, f journal.DeliveryFilter) (page []journal.Selected, next string, err error)
	Retry(ctx context.Context, actor, reason string, ids []string) ([]journal.ActResult, error)
	Cancel(ctx context.Context, actor, reason string, ids []string) ([]journal.ActResult, error)
	Hold(ctx context.Context, actor, reason string, ids []string) ([]journal.ActResult, error)
	Release(ctx context.Context, actor, reason string, ids []string) ([]journal.ActResult, error)
	Replay(ctx context.Context, actor, reason string, ids []string, how journal.Replay) ([]journal.ActResult, error)
	Origin(ctx context.Context, eventID string) (journal.Origin, error)
}

// kindOfAct is something that can be done to deliveries.
type kindOfAct struct {
	name    string
	reason  bool // must be given
	sends   bool // only on a route that is in force
	usually []core.State
	do      func(Journal, *Act) doer
}

type doer func(ctx context.Context, actor, reason string, ids []string) ([]journal.ActResult, error)

// acts are all of them. What a filter takes if it names no states is what nobody is
// surprised by.
var acts = []kindOfAct{
	{
		name: "retry", sends: true,
		usually: []core.State{core.StateWaiting, core.StateUnknown, core.StateHeld, core.StateDead},
		do:      func(j Journal, _ *Act) doer { return j.Retry },
	},
	{
		name: "cancel", reason: true,
		usually: []core.State{core.StateQueued, core.StateWaiting, core.StateUnknown, core.StateHeld},
		do:      func(j Journal, _ *Act) doer { return j.Cancel },
	},
	{
		name: "hold", reason: true,
		usually: []core.State{core.StateQueued, core.StateWaiting, core.StateUnknown},
		do:      func(j Journal, _ *Act) doer { return j.Hold },
	},
	{
		name: "release", sends: true,
		usually: []core.State{core.StateHeld},
		do:      func(j Journal, _ *Act) doer { return j.Release },
	},
	{
		name: "replay", reason: true, sends: true,
		usually: []core.State{core.StateDelivered},
		do: func(j Journal, act *Act) doer {
			return func(ctx context.Context, actor, reason string, ids []string) ([]journal.ActResult, error) {
				return j.Replay(ctx, actor, reason, ids, journal.Replay{Reshape: act.Reshape, Force: act.Force})
			}
		},
	},
}

// Filter says which deliveries, with the names and values of the parameters of
// /v1/deliveries. In JSON, a value is a string, or several are an array.
type Filter url.Values

// NewFilter is f as a Filter.
func NewFilter(f journal.DeliveryFilter) Filter {
	f.Limit, f.Cursor = 0, ""
	return Filter(deliveryValues(f))
}

// UnmarshalJSON implements [json.Unmarshaler].
func (f *Filter) UnmarshalJSON(text []byte) error {
	var values map[string]any
	if err := json.Unmarshal(text, &values); err != nil {
		return errors.New("filter must be an object")
	}
	*f = Filter{}
	for name, v := range values {
		all, ok := v.([]any)
		if !ok {
			all = []any{v}
		}
		for _, v := range all {
			switch v := v.(type) {
			case string:
				(*f)[name] = append((*f)[name], v)
			case bool:
				(*f)[name] = append((*f)[name], fmt.Sprint(v))
			default:
				return fmt.Errorf("filter.%s must be a string, or an array of strings", clip(name))
			}
		}
	}
	return nil
}

const (
	bulkChunk  = 200 // deliveries of one transaction: events do not wait long for it
	countMost  = 20 * time.Second
	sampleSize = 10
)

// acts does one of them to what the call names.
func (a *api) acts(r *http.Request, kind *kindOfAct) (any, error) {
	j, err := a.kept()
	if err != nil {
		return nil, err
	}
	act, err := readAct(r)
	if err != nil {
		return nil, err
	}
	if (act.Reshape || act.Force) && kind.name != "replay" {
		return nil, refuse("reshape and force are for a replay only")
	}
	if !act.DryRun && strings.TrimSpace(act.Reason) == "" && (kind.reason || act.Filter != nil) {
		return nil, refuse("reason is missing: say why, for whoever reads the journal later")
	}
	do := kind.do(j, act)
	if kind.sends {
		do = a.onRoutes(j, kind.name, do)
	}
	if act.Filter == nil {
		return a.act(r, kind.name, act.Reason, act.IDs, do)
	}
	f, err := kind.filter(act)
	if err != nil {
		return nil, err
	}
	if act.DryRun {
		return count(r.Context(), j, f)
	}
	if act.After == "" {
		if err := asExpected(r.Context(), j, f, act.Expect); err != nil {
			return nil, err
		}
	}
	f.After, f.Limit = act.After, bulkChunk
	var chosen []journal.Selected
	var next string
	err = bounded(r.Context(), func(ctx context.Context) (err error) {
		chosen, next, err = j.Select(ctx, f)
		return err
	})
	if err != nil {
		return nil, listError(err)
	}
	out := &ActResults{Results: []ActResult{}}
	if len(chosen) > 0 {
		ids := make([]string, len(chosen))
		for i := range chosen {
			ids[i] = chosen[i].ID
		}
		if out, err = a.act(r, kind.name, act.Reason, ids, do); err != nil {
			return nil, err
		}
	}
	out.Next = next
	return out, nil
}

// filter reads the act's filter, and narrows it to the states that it is for.
func (k *kindOfAct) filter(act *Act) (f journal.DeliveryFilter, err error) {
	p, err := checked("filter", url.Values(act.Filter), whichParameters, []string{"state"})
	if err != nil {
		return f, err
	}
	f = which(p)
	if p.err != nil {
		return f, p.err
	}
	if len(deliveryValues(f)) == 0 {
		return f, refuse("filter is empty: say which deliveries, at least by a route, a hook or a time")
	}
	able := journal.For(k.name)
	for _, s := range f.States {
		if !slices.Contains(able, s) {
			names := make([]string, len(able))
			for i, s := range able {
				names[i] = string(s)
			}
			return f, refuse("state %s: %s is for %s only", s, k.name, strings.Join(names, ", "))
		}
	}
	switch {
	case len(f.States) > 0:
	case f.Stuck:
		f.States = slices.DeleteFunc([]core.State{core.StateUnknown, core.StateHeld, core.StateDead}, func(s core.State) bool { return !slices.Contains(able, s) })
		if len(f.States) == 0 {
			return f, refuse("stuck: %s is not for what is stuck", k.name)
		}
	default:
		f.States = k.usually
	}
	return f, nil
}

// count looks at all that a filter finds.
func count(ctx context.Context, j Journal, f journal.DeliveryFilter) (*ActCount, error) {
	now := time.Now().Truncate(time.Millisecond).Add(time.Millisecond)
	if f.Until.IsZero() || f.Until.After(now) {
		f.Until = now
	}
	out := &ActCount{By: []ActGroup{}, Sample: []string{}, Until: Time{f.Until}}
	by := map[ActGroup]int{}
	f.Limit = maxPage
	for deadline := time.Now().Add(countMost); ; {
		var page []journal.Selected
		var next string
		err := bounded(ctx, func(ctx context.Context) (err error) {
			page, next, err = j.Select(ctx, f)
			return err
		})
		if err != nil {
			return nil, listError(err)
		}
		for _, d := range page {
			if out.Count++; len(out.Sample) < sampleSize {
				out.Sample = append(out.Sample, d.ID)
			}
			by[ActGroup{Route: d.Route, State: d.State}]++
		}
		if next == "" {
			break
		}
		if f.After = next; time.Now().After(deadline) {
			return nil, &Error{Status: http.StatusServiceUnavailable, Text: fmt.Sprintf(
				"the deliveries could not be counted within %s: narrow the filter, best by since and until", countMost)}
		}
	}
	for _, g := range slices.SortedFunc(maps.Keys(by), func(a, b ActGroup) int {
		return cmp.Or(cmp.Compare(a.Route, b.Route), cmp.Compare(a.State, b.State))
	}) {
		g.Count = by[g]
		out.By = append(out.By, g)
	}
	return out, nil
}

// asExpected refuses to act on something else than what the caller has seen.
func asExpected(ctx context.Context, j Journal, f journal.DeliveryFilter, expect *int) error {
	if expect == nil {
		return refuse("expect is missing: ask with dry_run how many there are, and say that number")
	}
	now, err := count(ctx, j, f)
	if err != nil {
		return err
	}
	if off := max(now.Count-*expect, *expect-now.Count); off > max(10, *expect/10) {
		return &Error{Status: http.StatusConflict, Text: fmt.Sprintf(
			"the filter finds %d deliveries now, and %d were expected: look again, nothing was done", now.Count, *expect)}
	}
	return nil
}

// onRoutes leaves out what is on a route that is not in force: it would be made
// due, and nobody would ever send it.
func (a *api) onRoutes(j Journal, act string, do doer) doer {
	if a.Routes == nil {
		return do
	}
	able := journal.For(act)
	return func(ctx context.Context, actor, reason string, ids []string) ([]journal.ActResult, error) {
		routes := a.Routes()
		results := make([]journal.ActResult, len(ids))
		var good []string
		var at []int // of good, in results
		for i, id := range ids {
			var route string
			var state core.State
			err := bounded(ctx, func(ctx context.Context) (err error) {
				route, state, err = j.RouteOf(ctx, id)
				return err
			})
			if err != nil {
				return nil, err
			}
			if route == "" || slices.Contains(routes, route) || !slices.Contains(able, state) { // the journal has better words
				good, at = append(good, id), append(at, i)
				continue
			}
			results[i] = journal.ActResult{ID: id, Was: state, Now: state, Why: whyNoRoute}
		}
		if len(good) == 0 {
			return results, nil
		}
		done, err := do(ctx, actor, reason, good)
		if err != nil {
			return nil, err
		}
		for i, res := range done {
			results[at[i]] = res
		}
		return results, nil
	}
}

const whyNoRoute = "cannot be sent, as its route is not in the configuration: bring it back and reload, or cancel it"

func (a *api) act(r *http.Request, name, reason string, ids []string, do doer) (*ActResults, error) {
	actor := actorOf(r.Context())
	// Once it is in the journal it is done, whether or not the caller waits.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(r.Context()), callTimeout)
	defer cancel()
	results, err := do(ctx, actor, reason, ids)
	if err != nil {
		a.Log.Error("deliveries could not be acted on", "actor", actor, "act", name, "ids", len(ids), "error", err)
		return nil, err
	}
	out := &ActResults{Results: []ActResult{}}
	done := 0
	for _, res := range results {
		if res.OK {
			done++
		}
		out.Results = append(out.Results, ActResult(res))
	}
	a.Log.Info("deliveries were acted on", "actor", actor, "act", name, "ids", len(ids), "done", done) // the reason is the journal's: it may quote a record
	return out, nil
}

// Redriver drives events through the configuration in force. Its errors may be an
// [*Error].
type Redriver interface {
	// Refused takes a body that was refused in, as a new event.
	Refused(ctx context.Context, actor, reason string, old *core.Event, body []byte) (*core.Event, error)
	// Place makes deliveries of an event on the routes that want it and have none.
	Place(ctx context.Context, actor, reason string, ev *journal.EventDetail, force bool) ([]journal.ActResult, error)
}

func (a *api) redrive(r *http.Request) (any, error) {
	detail, err := a.find(r)
	if err != nil {
		return nil, err
	}
	var call Redrive
	if err := readBody(r, &call, `{"reason": "...", "routes": false}`); err != nil {
		return nil, err
	}
	if err := goodReason(call.Reason); err != nil {
		return nil, err
	}
	if a.Redrive == nil {
		return nil, &Error{Status: http.StatusConflict, Text: "this daemon cannot drive events again"}
	}
	out := &Redriven{ID: detail.ID, Results: []ActResult{}}
	if detail.Refused != nil {
		return out, a.redriveRefused(r, detail, &call, out)
	}
	if call.Force && !call.Routes {
		return nil, refuse("force goes with routes: a retry keeps its place and overwrites nothing")
	}
	var ids []string
	for _, d := range detail.Deliveries {
		if d.State == core.StateDead || d.State == core.StateCancelled {
			ids = append(ids, d.ID)
		}
	}
	if len(ids) > 0 {
		done, err := a.act(r, "retry", call.Reason, ids, a.onRoutes(a.Journal, "retry", a.Journal.Retry))
		if err != nil {
			return nil, err
		}
		out.Results = done.Results
	}
	if call.Routes {
		done, err := a.act(r, "place", call.Reason, []string{detail.ID}, func(ctx context.Context, actor, reason string, _ []string) ([]journal.ActResult, error) {
			return a.Redrive.Place(ctx, actor, reason, detail, call.Force)
		})
		if err != nil {
			return nil, err
		}
		out.Results = append(out.Results, done.Results...)
	}
	if len(out.Results) == 0 {
		return nil, &Error{Status: http.StatusConflict, Text: fmt.Sprintf("event %s has no delivery that has ended without success, and %s", detail.ID, nothingElse(&call))}
	}
	return out, nil
}

func nothingElse(call *Redrive) string {
	if call.Routes {
		return "all routes that want it have it"
	}
	return "routes of today that it is not on are looked at with routes only; see its deliveries for what is still open"
}

func (a *api) redriveRefused(r *http.Request, detail *journal.EventDetail, call *Redrive, out *Redriven) error {
	var body []byte
	var origin journal.Origin
	err := bounded(r.Context(), func(ctx context.Context) (err error) {
		if origin, err = a.Journal.Origin(ctx, detail.ID); err != nil {
			return err
		}
		body, err = a.Journal.Body(ctx, detail.ID)
		return err
	})
	switch {
	case err != nil:
		return err
	case origin.Pruned:
		return &Error{Status: http.StatusConflict, Text: "its contents are no longer kept"}
	case origin.ID != "":
		return &Error{Status: http.StatusConflict, Text: fmt.Sprintf("event %s was driven again before, as event %s", detail.ID, origin.Ref)}
	}
	actor := actorOf(r.Context())
	ctx, cancel := context.WithTimeout(context.WithoutCancel(r.Context()), callTimeout)
	defer cancel()
	ev, err := a.Redrive.Refused(ctx, actor, call.Reason, detail.Event, body)
	if err != nil {
		a.Log.Warn("a refused event could not be driven again", "actor", actor, "event_id", detail.ID)
		return err
	}
	a.Log.Info("a refused event was driven again", "actor", actor, "event_id", detail.ID, "as", ev.ID)
	out.EventID, out.Ref = ev.ID, ev.Ref
	return nil
}
