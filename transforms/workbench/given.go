package workbench

import (
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/hookline/hookline/core"
)

// Given is what a transform is run on: an event, and all else that the result
// depends on. What is not given has the same stand-in each time.
type Given struct {
	Event    json.RawMessage            `json:"event"`
	Record   json.RawMessage            `json:"record,omitempty"`   // event.record, as a route with enrich = true has it
	Names    Names                      `json:"ctx,omitzero"`       // overrides of what ctx has
	Secrets  map[string]string          `json:"secrets,omitempty"`  // what ctx.secret gives
	TrialKit map[string]json.RawMessage `json:"trialkit,omitempty"` // what ctx.trialkit.get gives, by path
}

// Names are the properties of ctx that a run can be given.
type Names struct {
	Hook       string     `json:"hook,omitempty"`
	Route      string     `json:"route,omitempty"`
	Study      string     `json:"study,omitempty"`
	Stage      core.Stage `json:"stage,omitempty"`
	EventID    string     `json:"eventId,omitempty"`
	DeliveryID string     `json:"deliveryId,omitempty"`
	Ref        string     `json:"ref,omitempty"`
	Now        time.Time  `json:"now,omitzero"`
}

// StandIn are the names of a run that is given none. They are fixed, as random
// numbers and the clock depend on them: the same script gives the same result.
var StandIn = Names{
	Hook: "demo", Route: "demo", Study: "ABC-123", Stage: core.UAT,
	EventID: "019b7cbc-a4c8-7000-8000-0000000000e1", DeliveryID: "019b7cbc-a4c8-7000-8000-0000000000d1", Ref: "K7QF2M9X",
	Now: time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC),
}

// Or fills in what is not given.
func (n Names) Or(other Names) Names {
	now := n.Now
	if now.IsZero() {
		now = other.Now
	}
	return Names{
		Hook: cmp.Or(n.Hook, other.Hook), Route: cmp.Or(n.Route, other.Route),
		Study: cmp.Or(n.Study, other.Study), Stage: cmp.Or(n.Stage, other.Stage),
		EventID: cmp.Or(n.EventID, other.EventID), DeliveryID: cmp.Or(n.DeliveryID, other.DeliveryID),
		Ref: cmp.Or(n.Ref, other.Ref), Now: now,
	}
}

// ParseGiven reads what a run is given: an event as TrialKit sends it, or an
// object with the keys event, record, ctx, secrets and trialkit.
func ParseGiven(text []byte) (Given, error) {
	text = bytes.TrimPrefix(text, []byte("\xef\xbb\xbf"))
	var keys map[string]json.RawMessage
	if err := json.Unmarshal(text, &keys); err != nil {
		return Given{}, fmt.Errorf("it is no JSON object: %w", err)
	}
	if _, wrapped := keys["event"]; !wrapped || keys["trans_id"] != nil {
		return Given{Event: text}, nil
	}
	var g Given
	d := json.NewDecoder(bytes.NewReader(text))
	d.DisallowUnknownFields()
	if err := d.Decode(&g); err != nil {
		return Given{}, fmt.Errorf("%w; beside event there may be record, ctx (hook, route, study, stage, eventId, deliveryId, ref, now), secrets and trialkit", err)
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return Given{}, errors.New("there is more than one JSON value")
	}
	return g, nil
}

// event is the given event as the core has it, and the route that it is on.
func (g *Given) event() (*core.Event, *core.Route, string, error) {
	ev, err := core.ParseEvent(g.Event)
	if err != nil {
		return nil, nil, "", fmt.Errorf("the event: %w", err)
	}
	n := g.Names.Or(StandIn)
	ev.ID, ev.Ref, ev.ReceivedAt = n.EventID, n.Ref, n.Now
	ev.Hook = &core.Hook{Name: n.Hook, Study: n.Study, Stage: n.Stage}
	return ev, &core.Route{Name: n.Route}, n.DeliveryID, nil
}
