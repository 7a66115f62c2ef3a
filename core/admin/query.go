package admin

import (
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/hookline/hookline/core"
	"github.com/hookline/hookline/core/journal"
)

// Limits of a query.
const (
	maxValue = 512 // bytes: no name is longer
	maxShown = 64  // of a value in an error
	maxPage  = 1000

	defaultPage = 50
)

// parameters are those of a call. The first thing that is wrong is kept.
type parameters struct {
	values url.Values
	err    error
}

// query reads the parameters of a call that takes the known ones. Those in
// several may stand more than once.
func query(r *http.Request, known []string, several ...string) (*parameters, error) {
	values, err := url.ParseQuery(r.URL.RawQuery)
	if err != nil {
		return nil, refuse("the query cannot be read: %s", clip(err.Error()))
	}
	for name, all := range values {
		if !slices.Contains(known, name) {
			takes := "it takes none"
			if len(known) > 0 {
				takes = "it takes " + strings.Join(known, ", ")
			}
			return nil, refuse("%s has no parameter %s: %s", r.URL.Path, shown(name), takes)
		}
		if len(all) > 1 && !slices.Contains(several, name) {
			return nil, refuse("%s stands %d times: write it once", name, len(all))
		}
		for _, v := range all {
			switch {
			case len(v) > maxValue:
				return nil, refuse("%s is %d bytes long: it must be at most %d", name, len(v), maxValue)
			case !utf8.ValidString(v) || strings.ContainsFunc(v, notOneLine):
				return nil, refuse("%s must be one line of UTF-8, without control characters", name)
			}
		}
	}
	return &parameters{values: values}, nil
}

func (p *parameters) text(name string) string { return p.values.Get(name) }

func (p *parameters) wrong(format string, args ...any) {
	if p.err == nil {
		p.err = refuse(format, args...)
	}
}

func (p *parameters) number(name string, most int) int {
	s := p.text(name)
	if s == "" {
		return 0
	}
	n, err := strconv.Atoi(s)
	if err != nil || n < 1 || n > most {
		p.wrong("%s is %s: it must be a whole number between 1 and %d", name, shown(s), most)
	}
	return n
}

func (p *parameters) time(name string) time.Time {
	s := p.text(name)
	if s == "" {
		return time.Time{}
	}
	t, err := time.Parse(time.RFC3339, s)
	if err != nil {
		p.wrong("%s is %s: it must be a time such as 2026-01-31T08:30:00Z", name, shown(s))
	}
	return t
}

func (p *parameters) yes(name string) bool {
	switch s := p.text(name); s {
	case "", "false":
	case "true":
		return true
	default:
		p.wrong("%s is %s: it must be true or false", name, shown(s))
	}
	return false
}

// oneOf reads values of which only those in all are allowed.
func oneOf[T ~string](p *parameters, name string, all []T) (out []T) {
	for _, s := range p.values[name] {
		switch {
		case s == "":
		case slices.Contains(all, T(s)):
			out = append(out, T(s))
		default:
			names := make([]string, len(all))
			for i, v := range all {
				names[i] = string(v)
			}
			p.wrong("%s is %s: it must be one of %s", name, shown(s), strings.Join(names, ", "))
		}
	}
	return out
}

var states = []core.State{
	core.StateQueued, core.StateRunning, core.StateWaiting, core.StateUnknown, core.StateHeld,
	core.StateDelivered, core.StateSkipped, core.StateRejected, core.StateDead, core.StateCancelled,
}

var eventParameters = []string{"hook", "kind", "form", "record", "since", "until", "refused", "limit", "cursor"}

func eventFilter(r *http.Request) (f journal.EventFilter, err error) {
	p, err := query(r, eventParameters)
	if err != nil {
		return f, err
	}
	f = journal.EventFilter{
		Hook: p.text("hook"), Form: p.text("form"), Record: p.text("record"),
		Since: p.time("since"), Until: p.time("until"), Refused: p.yes("refused"),
		Limit: p.number("limit", maxPage), Cursor: p.text("cursor"),
	}
	if kinds := oneOf(p, "kind", core.Kinds); len(kinds) > 0 {
		f.Kind = kinds[0]
	}
	if !f.Since.IsZero() && !f.Until.IsZero() && !f.Since.Before(f.Until) {
		p.wrong("since is not before until: nothing can lie between them")
	}
	return f, p.err
}

// values is the filter as a query.
func eventValues(f journal.EventFilter) url.Values {
	v := url.Values{}
	set(v, "hook", f.Hook)
	set(v, "kind", string(f.Kind))
	set(v, "form", f.Form)
	set(v, "record", f.Record)
	setTime(v, "since", f.Since)
	setTime(v, "until", f.Until)
	if f.Refused {
		v.Set("refused", "true")
	}
	setPage(v, f.Limit, f.Cursor)
	return v
}

var deliveryParameters = []string{"hook", "route", "record", "state", "code", "event", "stuck", "limit", "cursor"}

func deliveryFilter(r *http.Request) (f journal.DeliveryFilter, stuck bool, err error) {
	p, err := query(r, deliveryParameters, "state")
	if err != nil {
		return f, false, err
	}
	f = journal.DeliveryFilter{
		Hook: p.text("hook"), Route: p.text("route"), Record: p.text("record"),
		States: oneOf(p, "state", states), Code: core.Code(p.text("code")),
		Limit: p.number("limit", maxPage), Cursor: p.text("cursor"),
	}
	if s := p.text("event"); s != "" {
		if f.Event, err = eventName(s); err != nil {
			p.wrong("event: %s", err)
		}
	}
	stuck = p.yes("stuck")
	return f, stuck, p.err
}

func deliveryValues(f journal.DeliveryFilter) url.Values {
	v := url.Values{}
	set(v, "hook", f.Hook)
	set(v, "route", f.Route)
	set(v, "record", f.Record)
	for _, s := range f.States {
		v.Add("state", string(s))
	}
	set(v, "code", string(f.Code))
	set(v, "event", f.Event)
	setPage(v, f.Limit, f.Cursor)
	return v
}

func set(v url.Values, name, value string) {
	if value != "" {
		v.Set(name, value)
	}
}

func setTime(v url.Values, name string, t time.Time) {
	if !t.IsZero() {
		v.Set(name, t.UTC().Format(time.RFC3339Nano))
	}
}

func setPage(v url.Values, limit int, cursor string) {
	if limit != 0 {
		v.Set("limit", strconv.Itoa(limit))
	}
	set(v, "cursor", cursor)
}

// shown is what a caller sent, fit for an error.
func shown(s string) string { return strconv.Quote(clip(s)) }

func clip(s string) string {
	if len(s) > maxShown {
		return strings.ToValidUTF8(s[:maxShown], "") + "…"
	}
	return s
}
