package app

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/google/uuid"

	"github.com/hookline/hookline/core"
	"github.com/hookline/hookline/core/admin"
	"github.com/hookline/hookline/core/journal"
)

// redriver drives events through the configuration in force. A reload waits for it,
// so that what it uses is not put away meanwhile; it only writes to the journal.
type redriver struct{ app *App }

// Refused implements [admin.Redriver].
func (d redriver) Refused(ctx context.Context, actor, reason string, old *core.Event, body []byte) (*core.Event, error) {
	d.app.reloading.Lock()
	defer d.app.reloading.Unlock()
	// Whoever waited for the lock may come after another who has done it.
	origin, err := d.app.store.Origin(ctx, old.ID)
	if err != nil {
		return nil, err
	}
	if origin.ID != "" {
		return nil, conflict("event %s was driven again before, as event %s", old.ID, origin.Ref)
	}
	g := d.app.current
	var hook *core.Hook
	for i := range g.set.Hooks {
		if g.set.Hooks[i].Name == old.Hook.Name {
			hook = g.set.Hooks[i].Hook
		}
	}
	if hook == nil {
		return nil, conflict("hook %s is not in the configuration: bring it back and reload", old.Hook.Name)
	}
	ev, err := core.ParseEvent(body)
	if err != nil {
		var invalid *core.InvalidEvent
		if errors.As(err, &invalid) {
			return nil, conflict("event %s is no event by the rules of today either: %s", old.ID, invalid)
		}
		return nil, err
	}
	ev.Stamp(hook, time.Now())
	ev.Origin = old.ID
	if _, err := g.dispatcher.Dispatch(core.Arrival{Event: ev, Queue: true}); err != nil {
		return nil, err
	}
	if err := d.app.store.Redriven(ctx, actor, reason, old.ID); err != nil {
		d.app.log.Warn("a refused event was driven again, and who did it could not be noted", "event", ev.ID, "error", err)
	}
	return ev, nil
}

// Place implements [admin.Redriver].
func (d redriver) Place(ctx context.Context, actor, reason string, detail *journal.EventDetail, force bool) ([]journal.ActResult, error) {
	origin, err := d.app.store.Origin(ctx, detail.ID)
	if err != nil {
		return nil, err
	}
	if origin.Pruned {
		return nil, conflict("event %s cannot be sent: its contents are no longer kept", detail.ID)
	}
	d.app.reloading.Lock()
	defer d.app.reloading.Unlock()
	had := map[string]bool{}
	for i := range detail.Deliveries {
		had[detail.Deliveries[i].Route] = true
	}
	var wanted []*core.Delivery
	for _, route := range d.app.current.dispatcher.Router.Match(detail.Event) {
		if !had[route.Name] {
			wanted = append(wanted, &core.Delivery{
				ID: uuid.Must(uuid.NewV7()).String(), Event: detail.Event, Route: route.Name, Lane: detail.Lane(route.Name),
			})
		}
	}
	if len(wanted) == 0 {
		return nil, nil
	}
	return d.app.store.Place(ctx, actor, reason, detail.Event, wanted, force)
}

func conflict(format string, args ...any) error {
	return &admin.Error{Status: http.StatusConflict, Text: fmt.Sprintf(format, args...)}
}
