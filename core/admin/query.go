package admin

import (
	"encoding/json"
	"errors"
	"io"
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

	maxSeveral = 100 // values of one parameter
)

// readBody reads a request's body into out; takes says what it must be.
func readBody(r *http.Request, out any, takes string) error {
	if _, err := query(r, nil); err != nil {
		return err
	}
	if err := readJSON(r, out); err != nil {
		return refuse("the body must be %s: %s", takes, clip(strings.TrimPrefix(err.Error(), "json: ")))
	}
	return nil
}

// readJSON reads one object and nothing else.
func readJSON(r *http.Request, into any) error {
	d := json.NewDecoder(r.Body)
	d.DisallowUnknownFields()
	if err := d.Decode(into); err != nil {
		return err
	}
	if _, more := d.Token(); more == nil {
		return errors.New("something follows the object")
	} else if !errors.Is(more, io.EOF) {
		return more
	}
	return nil
}

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
	return checked(r.URL.Path, values, known, several)
}

// checked looks at the names and values that where holds.
func checked(where string, values url.Values, known, several []string) (*parameters, error) {
	for name, all := range values {
		if !slices.Contains(known, name) {
			takes := "it takes none"
			if len(known) > 0 {
				takes = "it takes " + strings.Join(known, ", ")
			}
			return nil, refuse("%s has no parameter %s: %s", where, shown(name), takes)
		}
		if len(all) > 1 && !slices.Contains(several, name) {
			return nil, refuse("%s stands %d times: write it once", name, len(all))
		}
		if len(all) > maxSeveral {
			return nil, refuse("%s stands %d times: it may at most %d times", name, len(all), maxSeveral)
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

// States are all that a delivery can be in, in the order of its life.
func States() []core.State { return slices.Clone(states) }

var eventParameters = []string{
	"hook", "study", "kind", "form", "record", "code", "since", "until", "id", "refused", "gone", "route", "state", "limit", "cursor", "after",
}

func eventFilter(r *http.Request) (f journal.EventFilter, err error) {
	p, err := query(r, eventParameters, "id", "state")
	if err != nil {
		return f, err
	}
	f = journal.EventFilter{
		Hook: p.text("hook"), Study: p.text("study"), Form: p.text("form"), Record: p.text("record"), Code: p.code("code"),
		Refused: p.yes("refused"), Gone: p.yes("gone"), Route: p.text("route"), States: oneOf(p, "state", states),
		Kind: p.kind(), Limit: p.number("limit", maxPage), Cursor: p.text("cursor"), After: p.text("after"),
	}
	f.Since, f.Until = p.span()
	for _, s := range p.values["id"] {
		if s == "" {
			continue
		}
		id, err := eventName(s)
		if err != nil {
			p.wrong("id: %s", err)
		}
		f.IDs = append(f.IDs, id)
	}
	return f, p.err
}

func (p *parameters) kind() core.Kind {
	if kinds := oneOf(p, "kind", core.Kinds); len(kinds) > 0 {
		return kinds[0]
	}
	return ""
}

// code refuses what looks like no code: it would match nothing, silently.
func (p *parameters) code(name string) core.Code {
	s := p.text(name)
	if strings.Trim(s, "abcdefghijklmnopqrstuvwxyz0123456789_") != "" {
		p.wrong("%s is %s: it must be a code such as connection_refused", name, shown(s))
	}
	return core.Code(s)
}

func (p *parameters) span() (since, until time.Time) {
	since, until = p.time("since"), p.time("until")
	if !since.IsZero() && !until.IsZero() && !since.Before(until) {
		p.wrong("since is not before until: nothing can lie between them")
	}
	return since, until
}

// eventValues is the filter as a query.
func eventValues(f journal.EventFilter) url.Values {
	v := url.Values{}
	for _, id := range f.IDs {
		v.Add("id", id)
	}
	set(v, "hook", f.Hook)
	set(v, "study", f.Study)
	set(v, "kind", string(f.Kind))
	set(v, "form", f.Form)
	set(v, "record", f.Record)
	set(v, "code", string(f.Code))
	setTime(v, "since", f.Since)
	setTime(v, "until", f.Until)
	setYes(v, "refused", f.Refused)
	setYes(v, "gone", f.Gone)
	set(v, "route", f.Route)
	for _, s := range f.States {
		v.Add("state", string(s))
	}
	setPage(v, f.Limit, f.Cursor)
	set(v, "after", f.After)
	return v
}

// whichParameters say which deliveries, in a query and in a filter.
var whichParameters = []string{
	"hook", "study", "route", "kind", "form", "record", "state", "code", "since", "until", "event", "origin", "stuck",
}

var deliveryParameters = append(slices.Clone(whichParameters), "limit", "cursor")

func deliveryFilter(r *http.Request) (f journal.DeliveryFilter, err error) {
	p, err := query(r, deliveryParameters, "state")
	if err != nil {
		return f, err
	}
	f = which(p)
	f.Limit, f.Cursor = p.number("limit", maxPage), p.text("cursor")
	return f, p.err
}

func which(p *parameters) journal.DeliveryFilter {
	f := journal.DeliveryFilter{
		Hook: p.text("hook"), Study: p.text("study"), Route: p.text("route"), Kind: p.kind(), Form: p.text("form"),
		Record: p.text("record"), States: oneOf(p, "state", states), Code: p.code("code"), Stuck: p.yes("stuck"),
	}
	f.Since, f.Until = p.span()
	var err error
	if s := p.text("event"); s != "" {
		if f.Event, err = eventName(s); err != nil {
			p.wrong("event: %s", err)
		}
	}
	if s := p.text("origin"); s != "" {
		if f.Origin, err = readUUID(s); err != nil {
			p.wrong("origin is %s: it must be the id of a delivery, a UUID", shown(s))
		}
	}
	return f
}

func deliveryValues(f journal.DeliveryFilter) url.Values {
	v := url.Values{}
	set(v, "hook", f.Hook)
	set(v, "study", f.Study)
	set(v, "route", f.Route)
	set(v, "kind", string(f.Kind))
	set(v, "form", f.Form)
	set(v, "record", f.Record)
	for _, s := range f.States {
		v.Add("state", string(s))
	}
	set(v, "code", string(f.Code))
	setTime(v, "since", f.Since)
	setTime(v, "until", f.Until)
	set(v, "event", f.Event)
	set(v, "origin", f.Origin)
	setYes(v, "stuck", f.Stuck)
	setPage(v, f.Limit, f.Cursor)
	return v
}

func setYes(v url.Values, name string, yes bool) {
	if yes {
		v.Set(name, "true")
	}
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
