package core

import (
	"fmt"
	"math"
	"math/rand/v2"
	"path"
	"slices"
	"strings"
	"time"
)

// Hook is an ingress that TrialKit calls, one per study.
type Hook struct {
	Name           string
	Study          string
	Stage          Stage
	Timeout        time.Duration // the caller's wait: one deadline over everything
	Reply          string        // route whose target's answer is relayed, or ""
	UnmatchedError bool          // an event that no route wants is an error
	AcceptedStatus int           // status of an accepted event, 202 or 200
	LoopLimit      int           // events a minute of one record that are sent at once; 0: any number
	KeyAge         time.Duration // for which a caller's own id of an event is remembered; 0: not at all
}

// Route says which events go where. Empty lists match everything, except Hooks,
// which must be written.
type Route struct {
	Name     string
	Hooks    []string // ["*"] for every hook
	Kinds    []Kind
	Forms    []Pattern
	Workflow []Pattern // looked at for reviews only

	Enricher    Enricher    // nil: the transform gets the event as it came
	Transformer Transformer // nil: the payload is the event's body
	Script      string      // SHA-256 of the transform's source, in hex
	ScriptFile  string      // its name, for the integrator
	Transport   *Transport
	Timeout     time.Duration // of one attempt

	Async           bool // delivered in the background only
	AcceptOnTimeout bool // an attempt outlives the caller's wait
	HoldUnknown     bool // twice is worse than late: what may have been sent is held
	HoldDead        bool // what is given up keeps the record's later events waiting
	StopOnFailure   bool // a failure that the caller was told is not tried again
	FailBlocked     bool // the caller is told an error when its event must wait
	Retry           Retry
}

// Retry says when a delivery is tried again in the background, and how long.
type Retry struct {
	Initial  time.Duration // after the first attempt
	Factor   float64       // by which each pause is longer than the one before
	Max      time.Duration // the longest pause
	MaxAge   time.Duration // from the first attempt to the last
	Attempts int           // at most; 0: any number
}

const (
	// jitter spreads the retries of many deliveries that failed at one moment.
	jitter = 0.2
	// longestAsked is the longest pause that a target gets because it asks for it: a
	// strange answer must not put a delivery off for ever.
	longestAsked = 24 * time.Hour
)

// pause is how long to wait after so many attempts, and whether to try again.
// atLeast is what the target asked for.
func (r Retry) pause(attempts int, age, atLeast time.Duration) (time.Duration, bool) {
	if r.Attempts > 0 && attempts >= r.Attempts {
		return 0, false
	}
	wait := min(float64(r.Initial)*math.Pow(r.Factor, float64(attempts-1)), float64(r.Max))
	pause := max(time.Duration(wait*(1-jitter+2*jitter*rand.Float64())), min(atLeast, longestAsked))
	return pause, age+pause <= r.MaxAge
}

// Transport is a configured instance of a transport plugin, as the core sees it.
type Transport struct {
	Name   string
	Label  string // what a site's user reads
	Sender Sender
	Gate   *Gate // nil lets everything through
}

// Matches tells whether the route wants the event.
func (r *Route) Matches(ev *Event) bool { return r.Unwanted(ev) == "" }

// Unwanted says which of the route's conditions the event fails, "" for none.
func (r *Route) Unwanted(ev *Event) string {
	switch {
	case !slices.Contains(r.Hooks, ev.Hook.Name) && !slices.Contains(r.Hooks, "*"):
		return "hooks"
	case len(r.Kinds) > 0 && !slices.Contains(r.Kinds, ev.Kind):
		return "events"
	case !matchAny(r.Forms, ev.FormID, ev.FormName):
		return "forms"
	case ev.Kind == Review && !matchAny(r.Workflow, ev.Workflow.ID, ev.Workflow.Name):
		return "workflow"
	}
	return ""
}

// Verdict is what one route makes of an event.
type Verdict struct {
	Route *Route
	// Failed is the key of the first condition that the event fails, "" if the route
	// wants it.
	Failed string
	Why    string // in words, either way
}

// explain says why the route wants the event, or not.
func (r *Route) explain(ev *Event) Verdict {
	v := Verdict{Route: r, Failed: r.Unwanted(ev)}
	switch v.Failed {
	case "":
		v.Why = r.takes()
	case "hooks":
		v.Why = fmt.Sprintf("it takes %s, and this came on hook %s", r.takesHooks(), ev.Hook.Name)
	case "events":
		v.Why = fmt.Sprintf("it takes %s, and this is %s", either(r.Kinds), ev.Kind)
	case "forms":
		v.Why = fmt.Sprintf("it takes forms %s, and this is form %s", either(r.Forms), called(ev.FormID, ev.FormName))
	case "workflow":
		v.Why = fmt.Sprintf("it takes reviews of level %s, and this is a review of level %s",
			either(r.Workflow), called(ev.Workflow.ID, ev.Workflow.Name))
	}
	return v
}

// takes says what the route wants.
func (r *Route) takes() string {
	all := []string{r.takesHooks()}
	if len(r.Kinds) > 0 {
		all = append(all, either(r.Kinds))
	}
	if len(r.Forms) > 0 {
		all = append(all, "forms "+either(r.Forms))
	}
	if len(r.Workflow) > 0 {
		all = append(all, "reviews of level "+either(r.Workflow))
	}
	return "it takes " + strings.Join(all, "; ")
}

func (r *Route) takesHooks() string {
	switch {
	case slices.Contains(r.Hooks, "*"):
		return "every hook"
	case len(r.Hooks) == 1:
		return "hook " + r.Hooks[0]
	}
	return "hooks " + either(r.Hooks)
}

func either[T any](all []T) string {
	parts := make([]string, len(all))
	for i, v := range all {
		parts[i] = fmt.Sprint(v)
	}
	return strings.Join(parts, " or ")
}

// called is an id with its name, either of which may be missing.
func called(id, name string) string {
	if name != "" {
		name = `"` + name + `"`
	}
	if s := strings.TrimSpace(id + " " + name); s != "" {
		return s
	}
	return "(none)"
}

// Router holds the routes in the order of the config file.
type Router struct {
	Routes []*Route
}

// Match returns the routes that want the event, in order.
func (r *Router) Match(ev *Event) []*Route {
	var out []*Route
	for _, route := range r.Routes {
		if route.Matches(ev) {
			out = append(out, route)
		}
	}
	return out
}

// Explain says of each route, in order, why it wants the event or not. Those that
// want it are those of [Router.Match].
func (r *Router) Explain(ev *Event) []Verdict {
	out := make([]Verdict, len(r.Routes))
	for i, route := range r.Routes {
		out[i] = route.explain(ev)
	}
	return out
}

// find returns the route of that name, or nil.
func (r *Router) find(name string) *Route {
	for _, route := range r.Routes {
		if route.Name == name {
			return route
		}
	}
	return nil
}

// Pattern matches an id or a name: a glob of path.Match's syntax in which '*'
// also matches '/'. A prefix "id:" or "name:" narrows it to one of them.
type Pattern struct {
	glob         string
	onID, onName bool
}

// ParsePattern reads a pattern.
func ParsePattern(s string) (Pattern, error) {
	p := Pattern{glob: s, onID: true, onName: true}
	if rest, ok := strings.CutPrefix(s, "id:"); ok {
		p.glob, p.onName = rest, false
	} else if rest, ok := strings.CutPrefix(s, "name:"); ok {
		p.glob, p.onID = rest, false
	}
	if p.glob == "" {
		return p, fmt.Errorf("%q matches nothing; write an id, a name or a glob such as Adverse*", s)
	}
	p.glob = hideSlash(p.glob)
	if _, err := path.Match(p.glob, ""); err != nil {
		return p, fmt.Errorf("%q is not a glob: a [ must be closed and a \\ must be followed by a character", s)
	}
	return p, nil
}

// String is the pattern as it was written.
func (p Pattern) String() string {
	glob := strings.ReplaceAll(p.glob, "\x1f", "/")
	switch {
	case !p.onName:
		return "id:" + glob
	case !p.onID:
		return "name:" + glob
	}
	return glob
}

// UnmarshalText is ParsePattern, for config files.
func (p *Pattern) UnmarshalText(text []byte) (err error) {
	*p, err = ParsePattern(string(text))
	return err
}

// Match tells whether the id or the name fits.
func (p Pattern) Match(id, name string) bool {
	return p.onID && p.fits(id) || p.onName && p.fits(name)
}

func (p Pattern) fits(s string) bool {
	ok, _ := path.Match(p.glob, hideSlash(s)) // the syntax was checked
	return ok && s != ""
}

// hideSlash keeps path.Match from seeing '/' as a separator: a form may be
// called "Labs / Chemistry". Control characters never reach an event's names.
func hideSlash(s string) string { return strings.ReplaceAll(s, "/", "\x1f") }

func matchAny(patterns []Pattern, id, name string) bool {
	return len(patterns) == 0 || slices.ContainsFunc(patterns, func(p Pattern) bool { return p.Match(id, name) })
}
