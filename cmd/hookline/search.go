package main

import (
	"context"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/hookline/hookline/core"
	"github.com/hookline/hookline/core/admin"
	"github.com/hookline/hookline/core/journal"
)

// searchMost bounds a search that goes on by itself, as each answer of the daemon
// is bounded.
const searchMost = 30 * time.Second

// eventFlags say which events.
type eventFlags struct {
	f                        journal.EventFilter
	kind, code, since, until string
	states                   []string
}

func (w *eventFlags) add(c *cobra.Command) {
	l := c.Flags()
	l.StringSliceVar(&w.f.IDs, "id", nil, "only these, by their `IDS` or references, divided by commas")
	l.StringVar(&w.f.Hook, "hook", "", "only of this `HOOK`")
	l.StringVar(&w.f.Study, "study", "", "only of this `STUDY`")
	l.StringVar(&w.kind, "kind", "", "only this `KIND`: insert, update or review")
	l.StringVar(&w.f.Form, "form", "", "only of the `FORM` with this id or this name")
	l.StringVar(&w.f.Record, "record", "", "only of this `RECORD` (trans_id)")
	l.StringVar(&w.code, "code", "", "only those that were answered with this `CODE`, such as timeout")
	l.StringVar(&w.f.Route, "route", "", "only with a delivery on this `ROUTE`")
	l.StringSliceVar(&w.states, "state", nil, "only with a delivery in one of these `STATES`, divided by commas: "+strings.Join(stateNames(), ", "))
	l.StringVar(&w.since, "since", "", "only what came since this `TIME`: 2h for two hours ago, or 2026-01-31T08:30:00Z")
	l.StringVar(&w.until, "until", "", "only what came before this `TIME`, written likewise")
	l.BoolVar(&w.f.Refused, "refused", false, "only bodies that were refused because they are no events")
	l.BoolVar(&w.f.Gone, "caller-gone", false, "only those whose caller hung up before the answer")
	offer(c, "kind", kinds...)
	offer(c, "state", stateNames()...)
}

func (w *eventFlags) filter(now time.Time) (f journal.EventFilter, err error) {
	f = w.f
	f.Kind, f.Code, f.States = core.Kind(w.kind), core.Code(w.code), statesOf(w.states)
	if f.Since, err = moment("--since", w.since, now); err != nil {
		return f, err
	}
	f.Until, err = moment("--until", w.until, now)
	return f, err
}

// deliveryFlags say which deliveries.
type deliveryFlags struct {
	f                        journal.DeliveryFilter
	kind, code, since, until string
	states                   []string
}

func (w *deliveryFlags) add(c *cobra.Command) {
	l := c.Flags()
	l.StringVar(&w.f.Hook, "hook", "", "only of this `HOOK`")
	l.StringVar(&w.f.Study, "study", "", "only of this `STUDY`")
	l.StringVar(&w.f.Route, "route", "", "only on this `ROUTE`")
	l.StringVar(&w.kind, "kind", "", "only this `KIND`: insert, update or review")
	l.StringVar(&w.f.Form, "form", "", "only of the `FORM` with this id or this name")
	l.StringVar(&w.f.Record, "record", "", "only of this `RECORD` (trans_id)")
	l.StringSliceVar(&w.states, "state", nil, "only in these `STATES`, divided by commas: "+strings.Join(stateNames(), ", "))
	l.StringVar(&w.code, "code", "", "only with this `CODE`, such as connection_refused")
	l.StringVar(&w.since, "since", "", "only what was made since this `TIME`: 2h for two hours ago, or 2026-01-31T08:30:00Z")
	l.StringVar(&w.until, "until", "", "only what was made before this `TIME`, written likewise")
	l.StringVar(&w.f.Event, "event", "", "only of the `EVENT` with this id or reference")
	l.StringVar(&w.f.Origin, "origin", "", "only replays of the delivery with this `ID`")
	l.BoolVar(&w.f.Stuck, "stuck", false, "only those that wait for you, and hold their record's later events")
	offer(c, "kind", kinds...)
	offer(c, "state", stateNames()...)
}

func (w *deliveryFlags) filter(now time.Time) (f journal.DeliveryFilter, err error) {
	f = w.f
	f.Kind, f.Code, f.States = core.Kind(w.kind), core.Code(w.code), statesOf(w.states)
	if f.Since, err = moment("--since", w.since, now); err != nil {
		return f, err
	}
	f.Until, err = moment("--until", w.until, now)
	return f, err
}

var kinds = []string{string(core.Insert), string(core.Update), string(core.Review)}

func stateNames() []string {
	var names []string
	for _, s := range admin.States() {
		names = append(names, string(s))
	}
	return names
}

// offer completes a flag that takes one of values, or several divided by commas.
func offer(c *cobra.Command, flag string, values ...string) {
	err := c.RegisterFlagCompletionFunc(flag, func(_ *cobra.Command, _ []string, typed string) ([]string, cobra.ShellCompDirective) {
		before := typed[:strings.LastIndex(typed, ",")+1]
		offers := make([]string, len(values))
		for i, v := range values {
			offers[i] = before + v
		}
		return offers, cobra.ShellCompDirectiveNoFileComp
	})
	if err != nil {
		panic(err) // there is no such flag, or it is offered twice
	}
}

func statesOf(names []string) (out []core.State) {
	for _, s := range names {
		out = append(out, core.State(s))
	}
	return out
}

func searchEvents(ctx context.Context, client *admin.Client, f journal.EventFilter) (*admin.EventPage, error) {
	ask := func(cursor string, limit int) (*admin.EventPage, error) {
		f.Cursor, f.Limit = cursor, limit
		return client.Events(ctx, f)
	}
	return search(&admin.EventPage{Events: []admin.Event{}}, f.Cursor, f.Limit, ask, func(all, page *admin.EventPage) (int, string, admin.Time) {
		page.Events = append(all.Events, page.Events...)
		*all = *page
		return len(all.Events), all.Next, all.ScannedUntil
	})
}

func searchDeliveries(ctx context.Context, client *admin.Client, f journal.DeliveryFilter) (*admin.DeliveryPage, error) {
	ask := func(cursor string, limit int) (*admin.DeliveryPage, error) {
		f.Cursor, f.Limit = cursor, limit
		return client.Deliveries(ctx, f)
	}
	return search(&admin.DeliveryPage{Deliveries: []admin.Delivery{}}, f.Cursor, f.Limit, ask, func(all, page *admin.DeliveryPage) (int, string, admin.Time) {
		page.Deliveries = append(all.Deliveries, page.Deliveries...)
		*all = *page
		return len(all.Deliveries), all.Next, all.ScannedUntil
	})
}

// search asks for page after page until limit is reached, or the search is through, or
// it takes too long. add puts a page to all, and tells how many that makes and where to
// go on.
func search[P any](all *P, cursor string, limit int, ask func(cursor string, limit int) (*P, error), add func(all, page *P) (n int, next string, scanned admin.Time)) (*P, error) {
	end := time.Now().Add(searchMost)
	for n := 0; ; {
		page, err := ask(cursor, limit-n)
		if err != nil {
			return nil, err
		}
		var scanned admin.Time
		n, cursor, scanned = add(all, page)
		if cursor == "" || n >= limit || scanned.IsZero() || time.Now().After(end) {
			return all, nil
		}
	}
}

// soFar says how far a search got that has found nothing.
func soFar(next string, scanned admin.Time) string {
	if next == "" || scanned.IsZero() {
		return ""
	}
	return " since " + scanned.UTC().Format(time.RFC3339) + ": go on with --cursor " + printable(next)
}
