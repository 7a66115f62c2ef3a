package admin

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"slices"
	"strings"
	"unicode"

	"github.com/hookline/hookline/core"
	"github.com/hookline/hookline/core/journal"
)

type deliveryJournal interface {
	Deliveries(ctx context.Context, f journal.DeliveryFilter) (page []journal.DeliveryRow, next string, err error)
	RouteOf(ctx context.Context, id string) (route string, state core.State, err error)
	Retry(ctx context.Context, actor, reason string, ids []string) ([]journal.ActResult, error)
	Cancel(ctx context.Context, actor, reason string, ids []string) ([]journal.ActResult, error)
}

func (a *api) deliveries(r *http.Request) (any, error) {
	j, err := a.kept()
	if err != nil {
		return nil, err
	}
	f, stuck, err := deliveryFilter(r)
	if err != nil {
		return nil, err
	}
	list := j.Deliveries
	if stuck {
		list = func(ctx context.Context, f journal.DeliveryFilter) ([]journal.DeliveryRow, string, error) {
			return onlyStuck(ctx, j, f)
		}
	}
	var rows []journal.DeliveryRow
	var next string
	err = bounded(r.Context(), func(ctx context.Context) (err error) {
		rows, next, err = list(ctx, f)
		return err
	})
	if err != nil {
		return nil, listError(err)
	}
	page := DeliveryPage{Deliveries: []Delivery{}, Next: next}
	for i := range rows {
		page.Deliveries = append(page.Deliveries, deliveryOf(&rows[i]))
	}
	return page, nil
}

// maybeStuck are the states in which a delivery may have no next attempt.
var maybeStuck = []core.State{core.StateUnknown, core.StateHeld, core.StateDead}

// onlyStuck lists what f finds that waits for an operator: the first of its lane,
// or one that has ended and blocks it, and nothing is due.
func onlyStuck(ctx context.Context, j Journal, f journal.DeliveryFilter) (out []journal.DeliveryRow, next string, err error) {
	want := cmp.Or(f.Limit, defaultPage)
	if len(f.States) == 0 {
		f.States = maybeStuck
	}
	for len(out) < want {
		f.Limit = want - len(out) // so that the cursor is that of the last one
		var rows []journal.DeliveryRow
		if rows, next, err = j.Deliveries(ctx, f); err != nil {
			return nil, "", err
		}
		for _, d := range rows {
			if d.Head && d.Due.IsZero() && d.State != core.StateRunning {
				out = append(out, d)
			}
		}
		if f.Cursor = next; next == "" {
			break
		}
	}
	return out, next, nil
}

func (a *api) retry(r *http.Request) (any, error) {
	j, err := a.kept()
	if err != nil {
		return nil, err
	}
	act, err := readAct(r)
	if err != nil {
		return nil, err
	}
	return a.act(r, "retry", act, a.onRoutes(j))
}

// onRoutes is the journal's Retry for what is on a route in force. The rest would
// be made due, and nobody would ever send it.
func (a *api) onRoutes(j Journal) doer {
	if a.Routes == nil {
		return j.Retry
	}
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
			if route == "" || slices.Contains(routes, route) || !retriable(state) { // the journal has better words
				good, at = append(good, id), append(at, i)
				continue
			}
			results[i] = journal.ActResult{ID: id, Was: state, Now: state, Why: whyNoRoute}
		}
		if len(good) == 0 {
			return results, nil
		}
		done, err := j.Retry(ctx, actor, reason, good)
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

func retriable(state core.State) bool {
	return state.Open() && state != core.StateRunning || state == core.StateDead || state == core.StateCancelled
}

func (a *api) cancel(r *http.Request) (any, error) {
	j, err := a.kept()
	if err != nil {
		return nil, err
	}
	act, err := readAct(r)
	if err != nil {
		return nil, err
	}
	if strings.TrimSpace(act.Reason) == "" {
		return nil, refuse("reason is missing: say why they are cancelled")
	}
	return a.act(r, "cancel", act, j.Cancel)
}

type doer func(ctx context.Context, actor, reason string, ids []string) ([]journal.ActResult, error)

func (a *api) act(r *http.Request, name string, act *Act, do doer) (any, error) {
	actor := actorOf(r.Context())
	// Once it is in the journal it is done, whether or not the caller waits.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(r.Context()), callTimeout)
	defer cancel()
	results, err := do(ctx, actor, act.Reason, act.IDs)
	if err != nil {
		a.Log.Error("deliveries could not be acted on", "actor", actor, "act", name, "ids", len(act.IDs), "reason", act.Reason, "error", err)
		return nil, err
	}
	out := ActResults{Results: []ActResult{}}
	done := 0
	for _, res := range results {
		if res.OK {
			done++
		}
		out.Results = append(out.Results, ActResult(res))
	}
	a.Log.Info("deliveries were acted on", "actor", actor, "act", name, "ids", len(act.IDs), "done", done, "reason", act.Reason)
	return out, nil
}

// Limits of an act.
const (
	maxIDs    = 1000
	maxReason = 500 // bytes
)

// readAct reads the body of a request, with the ids in their usual form.
func readAct(r *http.Request) (*Act, error) {
	if _, err := query(r, nil); err != nil {
		return nil, err
	}
	act := &Act{}
	d := json.NewDecoder(r.Body)
	d.DisallowUnknownFields()
	err := d.Decode(act)
	if err == nil {
		if _, more := d.Token(); more == nil {
			err = errors.New("something follows the object")
		} else if !errors.Is(more, io.EOF) {
			err = more
		}
	}
	if err != nil {
		return nil, bodyError(err)
	}
	switch {
	case len(act.IDs) == 0:
		return nil, refuse("ids is missing: name the deliveries")
	case len(act.IDs) > maxIDs:
		return nil, refuse("ids holds %d: it must be at most %d at a time", len(act.IDs), maxIDs)
	case len(act.Reason) > maxReason:
		return nil, refuse("reason is %d bytes long: it must be at most %d", len(act.Reason), maxReason)
	case strings.ContainsFunc(act.Reason, notOneLine):
		return nil, refuse("reason must be one line, without control characters")
	}
	seen := make(map[string]bool, len(act.IDs))
	for i, s := range act.IDs {
		id, err := readUUID(s)
		if err != nil {
			return nil, refuse("ids[%d], %s, is no delivery's id: it must be a UUID, as `hookline deliveries list` shows them", i, shown(s))
		}
		if seen[id] {
			return nil, refuse("ids[%d], %s, stands twice: write it once", i, id)
		}
		seen[id] = true
		act.IDs[i] = id
	}
	return act, nil
}

func bodyError(err error) error {
	const takes = `the body must be {"ids": ["..."], "reason": "..."}`
	return refuse("%s: %s", takes, clip(strings.TrimPrefix(err.Error(), "json: ")))
}

// notOneLine tells what may not stand in one line of text.
func notOneLine(r rune) bool { return unicode.IsControl(r) || r == '\u2028' || r == '\u2029' }
