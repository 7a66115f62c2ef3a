package admin

import (
	"time"

	"github.com/hookline/hookline/core"
	"github.com/hookline/hookline/core/journal"
	"github.com/hookline/hookline/plugins/transport"
)

// Time is a time as the API writes it: RFC 3339, UTC, with milliseconds.
type Time struct{ time.Time }

func (t Time) String() string { return t.UTC().Format("2006-01-02T15:04:05.000Z") }

// MarshalJSON implements [json.Marshaler].
func (t Time) MarshalJSON() ([]byte, error) { return []byte(`"` + t.String() + `"`), nil }

// Status is what the daemon says of itself.
type Status struct {
	Version   string    `json:"version"`
	Revision  string    `json:"revision"` // of the configuration in force
	StartedAt Time      `json:"started_at"`
	Recalled  *Recalled `json:"recalled,omitempty"`
	Journal   string    `json:"journal"` // "sqlite", "postgres", "memory" or "none"
	Hooks     []string  `json:"hooks"`
	Routes    []string  `json:"routes"`
	// Quarantined are the scripts that are not run; their deliveries wait.
	Quarantined []Quarantined `json:"quarantined,omitempty"`
}

// Recalled says that the configuration in force is the one that was accepted last,
// because the files on disk could not be used.
type Recalled struct {
	AcceptedAt Time   `json:"accepted_at"`
	Why        string `json:"why"`
}

// EventFacts is what is known of an event itself. Of a body that was refused only
// what does not depend on its contents.
type EventFacts struct {
	ID           string    `json:"id"`
	Ref          string    `json:"ref"`
	Hook         string    `json:"hook"`
	Study        string    `json:"study,omitempty"`
	Stage        string    `json:"stage"`
	Kind         core.Kind `json:"kind,omitempty"`
	TransID      string    `json:"trans_id,omitempty"`
	FormID       string    `json:"form_id,omitempty"`
	FormName     string    `json:"form_name,omitempty"`
	WorkflowID   string    `json:"wf_id,omitempty"`
	WorkflowName string    `json:"wf_name,omitempty"`
	ReceivedAt   Time      `json:"received_at"`
	TraceParent  string    `json:"traceparent,omitempty"`
	Size         int       `json:"size"` // bytes of the body
	Refused      *Refusal  `json:"refused,omitempty"`
	Revision     string    `json:"revision,omitempty"` // of the configuration that it came under
	Origin       string    `json:"origin,omitempty"`   // id of the refused event that it is a second run of
	Answer       *Answer   `json:"answer,omitempty"`   // absent while the caller waits, or if the daemon died first
}

// Refusal says why a body is no event.
type Refusal struct {
	Code core.Code `json:"code"`
	Key  string    `json:"key,omitempty"`
	Rule string    `json:"rule"`
}

// Answer is what the caller was told.
type Answer struct {
	Status int       `json:"status"`
	Code   core.Code `json:"code"`
	Detail string    `json:"detail,omitempty" access:"read"`
	At     Time      `json:"at"`
	// GoneMS is after how many milliseconds the caller hung up without waiting for
	// the answer; absent if it waited.
	GoneMS int64 `json:"gone_ms,omitempty"`
}

// Event is an event in a list.
type Event struct {
	EventFacts
	Deliveries []DeliveryState `json:"deliveries"`
}

// DeliveryState is how a delivery stands, in short.
type DeliveryState struct {
	ID    string     `json:"id"`
	Route string     `json:"route"`
	State core.State `json:"state"`
	Code  core.Code  `json:"code,omitempty"`
}

// EventPage is a page of events, the newest first.
type EventPage struct {
	Events []Event `json:"events"`
	Next   string  `json:"next,omitempty"` // cursor of the next page; with after, always of what comes next
	// ScannedUntil is set if the page may be short because so much had to be looked
	// at: how far the search got. It goes on from next.
	ScannedUntil Time `json:"scanned_until,omitzero"`
}

// EventDetail is an event with all that became of it.
type EventDetail struct {
	EventFacts
	Deliveries []DeliveryDetail `json:"deliveries"`
	Acts       []Done           `json:"acts,omitempty"` // on the event itself
}

// Delivery is a delivery as it stands.
type Delivery struct {
	ID       string     `json:"id"`
	EventID  string     `json:"event_id"`
	Ref      string     `json:"ref"` // of the event
	Hook     string     `json:"hook"`
	Route    string     `json:"route"`
	TransID  string     `json:"trans_id"`
	Lane     string     `json:"lane"`
	State    core.State `json:"state"`
	Code     core.Code  `json:"code,omitempty"`
	Reason   string     `json:"reason,omitempty" access:"read"`
	Position string     `json:"position,omitempty"` // in the script
	Attempts int        `json:"attempts"`           // begun so far
	Sent     int        `json:"sent"`               // messages that the target has confirmed
	// Head: it is its turn in its lane. Blocks: it has ended, and what is behind it
	// waits for it all the same.
	Head   bool `json:"head"`
	Blocks bool `json:"blocks"`
	// DueAt is when it is tried next, not before it is the head; absent for not by
	// itself.
	DueAt     Time   `json:"due_at,omitzero"`
	CreatedAt Time   `json:"created_at"`
	BegunAt   Time   `json:"begun_at,omitzero"`
	UpdatedAt Time   `json:"updated_at"`
	EndedAt   Time   `json:"ended_at,omitzero"`
	Script    string `json:"script,omitempty"`
	Revision  string `json:"revision,omitempty"`
	Origin    string `json:"origin,omitempty"` // id of the delivery that it is a replay of
}

// DeliveryPage is a page of deliveries, the newest first.
type DeliveryPage struct {
	Deliveries []Delivery `json:"deliveries"`
	Next       string     `json:"next,omitempty"` // cursor of the next page
	// ScannedUntil is as in [EventPage].
	ScannedUntil Time `json:"scanned_until,omitzero"`
}

// DeliveryDetail is a delivery with its messages, its attempts, and what operators did
// to it.
type DeliveryDetail struct {
	Delivery
	Messages []Message `json:"messages"`
	Logs     []string  `json:"logs,omitempty" access:"read"` // what its script has logged
	History  []Attempt `json:"history"`
	Acts     []Done    `json:"acts"`
}

// Done is what an operator has done to a delivery.
type Done struct {
	At     Time       `json:"at"`
	Actor  string     `json:"actor"`
	Act    string     `json:"act"` // such as "retry"
	Reason string     `json:"reason,omitempty" access:"read"`
	Was    core.State `json:"was"`
	Now    core.State `json:"now"`
}

// Message is a message without its payload.
type Message struct {
	N           int    `json:"n"`
	ID          string `json:"id"`
	ContentType string `json:"content_type"`
	Size        int    `json:"size"`
	Key         string `json:"key,omitempty" access:"read"`
	Path        string `json:"path,omitempty" access:"read"`
}

// Attempt is one try, without the target's answer, which may quote the payload.
type Attempt struct {
	N            int              `json:"n"` // 1 is the first
	Message      int              `json:"message"`
	StartedAt    Time             `json:"started_at"`
	TookMS       int64            `json:"took_ms"`
	Effect       transport.Effect `json:"effect"`
	Code         core.Code        `json:"code"`
	TargetStatus int              `json:"target_status,omitempty"`
	RetryAfterMS int64            `json:"retry_after_ms,omitempty"`
	Detail       string           `json:"detail,omitempty" access:"read"`
}

// Act asks for a change of deliveries: of those with these ids, or of all that a
// filter finds.
type Act struct {
	IDs    []string `json:"ids,omitempty"`
	Filter Filter   `json:"filter,omitempty"`
	Reason string   `json:"reason,omitempty"`

	// DryRun only counts what the filter finds.
	DryRun bool `json:"dry_run,omitempty"`
	// Expect is how many the caller was told: if they are far more or less by now,
	// nothing is done. It goes with the first call for a filter.
	Expect *int `json:"expect,omitempty"`
	// After is Next of the call before: a filter is worked off in several.
	After string `json:"after,omitempty"`

	// Of a replay: Reshape runs the transform of today, Force overwrites newer data.
	Reshape bool `json:"reshape,omitempty"`
	Force   bool `json:"force,omitempty"`
}

// ActCount is the answer to a dry run.
type ActCount struct {
	Count  int        `json:"count"`
	By     []ActGroup `json:"by"`
	Sample []string   `json:"sample"` // the first ids
	// Until is when it was counted: as the filter's until, it leaves out what comes
	// later.
	Until Time `json:"until"`
}

// ActGroup is how many there are in one state on one route.
type ActGroup struct {
	Route string     `json:"route"`
	State core.State `json:"state"`
	Count int        `json:"count"`
}

// ActResult is what became of one of them.
type ActResult struct {
	ID  string     `json:"id"`
	OK  bool       `json:"ok"`
	Was core.State `json:"was,omitempty"`
	Now core.State `json:"now,omitempty"`
	Why string     `json:"why,omitempty"` // it was not done
	New string     `json:"new,omitempty"` // id of the delivery that was made
}

// ActResults is the answer to an Act, in the order of its ids.
type ActResults struct {
	Results []ActResult `json:"results"`
	Next    string      `json:"next,omitempty"` // of a filter: the next call's After
}

// Redrive asks to drive an event again.
type Redrive struct {
	Reason string `json:"reason,omitempty"`
	// Routes also makes deliveries on the routes of today that want it and have none.
	Routes bool `json:"routes,omitempty"`
	Force  bool `json:"force,omitempty"` // also over newer data
}

// Redriven is what came of it: a new event for one that was refused, or what
// became of its deliveries.
type Redriven struct {
	ID      string      `json:"id"` // of the event that was driven again
	EventID string      `json:"event_id,omitempty"`
	Ref     string      `json:"ref,omitempty"` // of the new event
	Results []ActResult `json:"results"`
}

func factsOf(r *journal.EventRow) EventFacts {
	f := EventFacts{
		ID: r.ID, Ref: r.Ref, Kind: r.Kind, TransID: r.TransID, FormID: r.FormID, FormName: r.FormName,
		WorkflowID: r.Workflow.ID, WorkflowName: r.Workflow.Name,
		ReceivedAt: Time{r.ReceivedAt}, TraceParent: r.TraceParent, Size: r.Size, Revision: r.Revision, Origin: r.Origin,
	}
	if h := r.Hook; h != nil {
		f.Hook, f.Study, f.Stage = h.Name, h.Study, string(h.Stage)
	}
	if r.Refused != nil {
		f.Refused = &Refusal{Code: r.Refused.Code, Key: r.Refused.Key, Rule: r.Refused.Rule}
	}
	if a := r.Answer; a != nil {
		f.Answer = &Answer{Status: a.Status, Code: a.Code, Detail: a.Detail, At: Time{a.At}}
		if a.Gone > 0 {
			f.Answer.GoneMS = max(1, a.Gone.Milliseconds())
		}
	}
	return f
}

func deliveryOf(r *journal.DeliveryRow) Delivery {
	return Delivery{
		ID: r.ID, EventID: r.Event.ID, Ref: r.Event.Ref, Hook: r.Hook, Route: r.Route, TransID: r.Event.TransID, Lane: r.Lane,
		State: r.State, Code: r.Code, Reason: r.Reason, Position: r.Position, Attempts: r.Attempts, Sent: r.Sent,
		Head: r.Head, Blocks: r.Blocks && !r.State.Open(), DueAt: Time{r.Due}, CreatedAt: Time{r.Created}, BegunAt: Time{r.Begun},
		UpdatedAt: Time{r.Updated}, EndedAt: Time{r.Ended}, Script: r.Script, Revision: r.Revision, Origin: r.Origin,
	}
}

func detailOf(d *journal.DeliveryDetail, acts []journal.Act) DeliveryDetail {
	out := DeliveryDetail{Delivery: deliveryOf(&d.DeliveryRow), Logs: d.Logs, Messages: []Message{}, History: []Attempt{}, Acts: []Done{}}
	for _, m := range d.Messages {
		out.Messages = append(out.Messages, Message{N: m.N, ID: m.ID, ContentType: m.ContentType, Size: m.Size, Key: m.Key, Path: m.Path})
	}
	for _, a := range d.Attempts {
		r := a.Receipt
		out.History = append(out.History, Attempt{
			N: a.N, Message: a.Message, StartedAt: Time{a.Start}, TookMS: a.Took.Milliseconds(), Effect: r.Effect, Code: r.Code,
			TargetStatus: r.TargetStatus, RetryAfterMS: r.RetryAfter.Milliseconds(), Detail: r.Detail,
		})
	}
	out.Acts = append(out.Acts, doneTo(d.ID, acts)...)
	return out
}

// doneTo are the acts on one delivery, or with "" on the event.
func doneTo(delivery string, acts []journal.Act) (out []Done) {
	for _, act := range acts {
		if act.Delivery == delivery {
			out = append(out, Done{At: Time{act.At}, Actor: act.Actor, Act: act.Act, Reason: act.Reason, Was: act.Was, Now: act.Now})
		}
	}
	return out
}
