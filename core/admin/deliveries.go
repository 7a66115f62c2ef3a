package admin

import (
	"context"
	"net/http"
	"strings"
	"unicode"

	"github.com/hookline/hookline/core"
	"github.com/hookline/hookline/core/journal"
)

type deliveryJournal interface {
	SearchDeliveries(ctx context.Context, f journal.DeliveryFilter) (*journal.DeliveryPage, error)
	RouteOf(ctx context.Context, id string) (route string, state core.State, err error)
	actJournal
}

func (a *api) deliveries(r *http.Request) (any, error) {
	j, err := a.kept()
	if err != nil {
		return nil, err
	}
	f, err := deliveryFilter(r)
	if err != nil {
		return nil, err
	}
	var found *journal.DeliveryPage
	err = bounded(r.Context(), func(ctx context.Context) (err error) {
		found, err = j.SearchDeliveries(ctx, f)
		return err
	})
	if err != nil {
		return nil, listError(err)
	}
	page := DeliveryPage{Deliveries: []Delivery{}, Next: found.Next, ScannedUntil: Time{found.Scanned}}
	for i := range found.Rows {
		page.Deliveries = append(page.Deliveries, deliveryOf(&found.Rows[i]))
	}
	return page, nil
}

// Limits of an act.
const (
	maxIDs    = 1000
	maxReason = 500 // bytes
)

// readAct reads the body of a request, with the ids in their usual form.
func readAct(r *http.Request) (*Act, error) {
	act := &Act{}
	if err := readBody(r, act, `{"ids": ["..."], "reason": "..."} or {"filter": {...}, "reason": "..."}`); err != nil {
		return nil, err
	}
	switch {
	case act.Filter != nil && act.IDs != nil:
		return nil, refuse("ids and filter are both there: name the deliveries, or say which")
	case act.Filter == nil && len(act.IDs) == 0:
		return nil, refuse("ids is missing: name the deliveries, or say which with a filter")
	case act.Filter == nil && (act.DryRun || act.Expect != nil || act.After != ""):
		return nil, refuse("dry_run, expect and after go with a filter, not with ids")
	case len(act.After) > maxValue:
		return nil, refuse("after is %d bytes long: it must be at most %d", len(act.After), maxValue)
	case len(act.IDs) > maxIDs:
		return nil, refuse("ids holds %d: it must be at most %d at a time", len(act.IDs), maxIDs)
	}
	if err := goodReason(act.Reason); err != nil {
		return nil, err
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

func goodReason(reason string) error {
	switch {
	case len(reason) > maxReason:
		return refuse("reason is %d bytes long: it must be at most %d", len(reason), maxReason)
	case strings.ContainsFunc(reason, notOneLine):
		return refuse("reason must be one line, without control characters")
	}
	return nil
}

// notOneLine tells what may not stand in one line of text.
func notOneLine(r rune) bool { return unicode.IsControl(r) || r == '\u2028' || r == '\u2029' }
