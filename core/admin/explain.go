package admin

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/hookline/hookline/core"
	"github.com/hookline/hookline/core/journal"
)

type explainJournal interface {
	Traces(ctx context.Context, ev *journal.EventDetail) (*journal.Traces, error)
	Document(ctx context.Context, sha string) ([]byte, error)
}

// Past tells what the configuration with this revision said that was in force at a
// time, and what its routes make of the event.
type Past func(ctx context.Context, revision string, ev *core.Event, at time.Time) (*Configuration, error)

// Explanation is all that is known of an event, with its contents.
type Explanation struct {
	Headline string `json:"headline"` // in one sentence
	EventFacts
	Revision string  `json:"revision,omitempty"` // of the configuration that it came under
	Origin   string  `json:"origin,omitempty"`   // the event that this is a second run of
	Body     Content `json:"body"`

	// Routes are what the configuration's routes made of it, in their order.
	Routes     []RouteVerdict      `json:"routes"`
	Deliveries []ExplainedDelivery `json:"deliveries"`
	Timeline   []Moment            `json:"timeline"`

	Configurations []Configuration `json:"configurations"`
	Scripts        []Script        `json:"scripts"`
	Notes          []string        `json:"notes"` // what could not be found out
}

// Content are bytes: Text if they are one, otherwise Base64.
type Content struct {
	Size   int    `json:"size"`
	SHA256 string `json:"sha256,omitempty"`
	Text   string `json:"text,omitempty"`
	Base64 []byte `json:"base64,omitempty"`
	Pruned bool   `json:"pruned,omitempty"` // it was deleted, as its age called for
}

// Bytes are the content as it was.
func (c Content) Bytes() []byte {
	if c.Base64 != nil {
		return c.Base64
	}
	return []byte(c.Text)
}

func contentOf(b []byte) Content {
	sum := sha256.Sum256(b)
	c := Content{Size: len(b), SHA256: hex.EncodeToString(sum[:])}
	if utf8.Valid(b) {
		c.Text = string(b)
	} else {
		c.Base64 = b
	}
	return c
}

// Configuration is one that was in force. Its text is without the secrets that
// are written in it; references to secrets are there.
type Configuration struct {
	Revision string `json:"revision"`
	Running  bool   `json:"running"` // it is in force now
	Node     string `json:"node,omitempty"`
	// AcceptedAt is when the node took it, ReplacedAt when it took another one.
	AcceptedAt Time              `json:"accepted_at,omitzero"`
	ReplacedAt Time              `json:"replaced_at,omitzero"`
	ReplacedBy string            `json:"replaced_by,omitempty"`
	SHA256     string            `json:"sha256,omitempty"` // of the text with its secrets
	Text       string            `json:"text,omitempty"`
	Scripts    map[string]string `json:"scripts,omitempty"` // path -> SHA-256
	Lookups    map[string]string `json:"lookups,omitempty"` // name of a lookup file -> SHA-256
	Note       string            `json:"note,omitempty"`    // what cannot be told of it

	Routes []RouteVerdict `json:"-"`
}

// RouteVerdict is what a route made of an event.
type RouteVerdict struct {
	Route        string `json:"route"`
	Matched      bool   `json:"matched"`
	Failed       string `json:"failed,omitempty"` // the first of its conditions that the event fails
	Why          string `json:"why"`
	Transport    string `json:"transport"`
	Label        string `json:"label,omitempty"` // what a site's user reads
	Plugin       string `json:"plugin,omitempty"`
	Script       string `json:"script,omitempty"`        // path of its transform
	ScriptSHA256 string `json:"script_sha256,omitempty"` // as the set was accepted
}

// Script is the source of a transform, as it was.
type Script struct {
	SHA256  string       `json:"sha256"` // of Bundle, or of Text if there is none
	Text    string       `json:"text"`   // as it was written
	Name    string       `json:"name,omitempty"`
	Files   []SourceFile `json:"files,omitempty"`   // what it imported
	Bundle  string       `json:"bundle,omitempty"`  // what ran, with its source map
	Missing bool         `json:"missing,omitempty"` // the journal does not hold it
}

// SourceFile is a file that a script was made of.
type SourceFile struct {
	Name string `json:"name"`
	Text string `json:"text"`
}

// ExplainedDelivery is a delivery with all that belongs to it.
type ExplainedDelivery struct {
	DeliveryDetail
	Label      string `json:"label"`
	Transport  string `json:"transport,omitempty"`
	Plugin     string `json:"plugin,omitempty"`
	Why        string `json:"why,omitempty"`         // the route matched
	ScriptPath string `json:"script_path,omitempty"` // Script is its digest
	// ScriptInferred: it made no message, so the journal does not say which version
	// ran, and Script is that of the configuration that the event came under.
	ScriptInferred bool   `json:"script_inferred,omitempty"`
	ShapedUnder    string `json:"shaped_under,omitempty"`  // revision, if it is not the event's
	SentAsItCame   bool   `json:"sent_as_it_came"`         // the body is what is sent
	Sent           []Sent `json:"sent_messages,omitempty"` // otherwise, once they are made
	SentPruned     bool   `json:"sent_pruned,omitempty"`
	// Read is the record that the transform was given; nil if the route did not read
	// one, or not in this delivery.
	Read       *Read `json:"read,omitempty"`
	ReadPruned bool  `json:"read_pruned,omitempty"` // of the event
	// Replies are what the target answered, by the number of the attempt.
	Replies map[int]Reply `json:"replies,omitempty"`
}

// Sent is a message as every attempt sends it.
type Sent struct {
	Message
	Headers map[string]string `json:"headers,omitempty"`
	Payload Content           `json:"payload"`
}

// Read is a record as TrialKit's API gave it.
type Read struct {
	At      Time    `json:"at"` // not the event's time: it may have been changed in between
	Content Content `json:"content"`
}

// Reply is the beginning of what the target answered.
type Reply struct {
	ContentType string  `json:"content_type,omitempty"`
	Content     Content `json:"content"`
	Truncated   bool    `json:"truncated,omitempty"`
}

// Moment is something that happened.
type Moment struct {
	At       Time   `json:"at"`
	What     string `json:"what"` // received, answered, gone, state, read, attempt, act, view, prune
	Route    string `json:"route,omitempty"`
	Delivery string `json:"delivery,omitempty"`
	Actor    string `json:"actor,omitempty"`
	Text     string `json:"text"`
}

func (a *api) explain(r *http.Request) (any, error) {
	detail, err := a.find(r)
	if err != nil {
		return nil, err
	}
	ctx := r.Context()
	x := explainer{api: a, ctx: ctx, ev: detail, configs: map[string]*Configuration{}}
	if err := x.read(); err != nil {
		return nil, err
	}
	out, err := x.explanation()
	if err != nil {
		return nil, err
	}
	text, err := json.Marshal(out)
	if err != nil {
		return nil, fmt.Errorf("explanation of event %s: %w", detail.ID, err)
	}
	if err := a.viewed(ctx, "explanation", detail.ID); err != nil {
		return nil, err
	}
	return document{mediaJSON, append(text, '\n')}, nil
}

// explainer gathers an explanation.
type explainer struct {
	*api
	ctx     context.Context
	ev      *journal.EventDetail
	acts    []journal.Act
	traces  *journal.Traces
	configs map[string]*Configuration
	order   []string // of configs
	notes   []string
}

func (x *explainer) read() error {
	err := bounded(x.ctx, func(ctx context.Context) (err error) {
		x.acts, err = x.Journal.Acts(ctx, x.ev.ID)
		return err
	})
	if err != nil {
		return err
	}
	err = bounded(x.ctx, func(ctx context.Context) (err error) {
		x.traces, err = x.Journal.Traces(ctx, x.ev)
		return err
	})
	if err != nil {
		return err
	}
	if x.ev.Refused != nil {
		return nil // no route was asked
	}
	if err := x.config(x.ev.Revision, x.ev.ReceivedAt); err != nil {
		return err
	}
	for i := range x.ev.Deliveries {
		d := &x.ev.Deliveries[i]
		if err := x.config(d.Revision, d.Updated); err != nil {
			return err
		}
	}
	return nil
}

// config finds out about a configuration, once.
func (x *explainer) config(revision string, at time.Time) error {
	if revision == "" || x.configs[revision] != nil {
		return nil
	}
	if x.Past == nil {
		x.note("this daemon does not tell what configuration %s said", short(revision))
		return nil
	}
	err := bounded(x.ctx, func(ctx context.Context) error {
		c, err := x.Past(ctx, revision, x.ev.Event, at)
		if err == nil {
			x.configs[revision] = c
			x.order = append(x.order, revision)
		}
		return err
	})
	if c := x.configs[revision]; err == nil && c != nil && c.Note != "" {
		x.note("configuration %s: %s", short(revision), c.Note)
	}
	return err
}

func (x *explainer) note(format string, args ...any) {
	x.notes = append(x.notes, fmt.Sprintf(format, args...))
}

func short(revision string) string { return revision[:min(12, len(revision))] }

// verdict is what the configuration said of a route, nil if that is not known.
func (x *explainer) verdict(revision, route string) *RouteVerdict {
	if c := x.configs[revision]; c != nil {
		if i := slices.IndexFunc(c.Routes, func(v RouteVerdict) bool { return v.Route == route }); i >= 0 {
			return &c.Routes[i]
		}
	}
	return nil
}

func (x *explainer) explanation() (*Explanation, error) {
	out := &Explanation{
		EventFacts: factsOf(&x.ev.EventRow), Revision: x.ev.Revision, Origin: x.ev.Origin,
		Routes: []RouteVerdict{}, Deliveries: []ExplainedDelivery{}, Configurations: []Configuration{}, Scripts: []Script{},
	}
	if x.traces.BodyPruned {
		out.Body = Content{Pruned: true}
	} else {
		out.Body = contentOf(x.traces.Body)
	}
	for i := range x.ev.Deliveries {
		out.Deliveries = append(out.Deliveries, x.delivery(&x.ev.Deliveries[i]))
	}
	if err := x.scripts(out); err != nil {
		return nil, err
	}
	for _, revision := range x.order {
		out.Configurations = append(out.Configurations, *x.configs[revision])
	}
	if c := x.configs[x.ev.Revision]; c != nil {
		out.Routes = c.Routes
		x.compare(c)
	} else if x.ev.Refused == nil && x.ev.Revision == "" {
		x.note("the event came before Hookline kept the revision of the configuration: why other routes did not take it is not known")
	}
	out.Timeline = x.timeline(out)
	out.Headline = headline(out)
	out.Notes = append([]string{}, x.notes...)
	return out, nil
}

// compare notes where what the routes make of the event now is not what was done.
func (x *explainer) compare(c *Configuration) {
	for _, v := range c.Routes {
		made := slices.ContainsFunc(x.ev.Deliveries, func(d journal.DeliveryDetail) bool { return d.Route == v.Route })
		switch {
		case made && !v.Matched:
			x.note("route %s delivered this event, although read today it does not take it", v.Route)
		case !made && v.Matched:
			x.note("route %s did not deliver this event, although read today it takes it", v.Route)
		}
	}
}

func (x *explainer) delivery(d *journal.DeliveryDetail) ExplainedDelivery {
	out := ExplainedDelivery{
		DeliveryDetail: detailOf(d, x.acts), Label: d.Route, SentAsItCame: d.Shape == core.ShapeBody,
		SentPruned: x.traces.SentPruned, ReadPruned: x.traces.ReadPruned,
	}
	if s, ok := x.traces.Read[d.ID]; ok {
		out.Read = &Read{At: Time{s.ReadAt}, Content: contentOf(s.Record)}
	}
	if v := x.verdict(x.ev.Revision, d.Route); v != nil && v.Matched {
		out.Why = v.Why
	}
	if d.Revision != x.ev.Revision {
		out.ShapedUnder = d.Revision
	}
	v := x.verdict(cmp.Or(d.Revision, x.ev.Revision), d.Route)
	if v == nil {
		v = x.verdict(x.ev.Revision, d.Route)
	}
	if v != nil {
		out.Label, out.Transport, out.Plugin = cmp.Or(v.Label, d.Route), v.Transport, v.Plugin
		if d.Shape != core.ShapeBody {
			out.ScriptPath = v.Script
		}
		if d.Script == "" && d.Shape == core.ShapeOpen && len(v.ScriptSHA256) > 0 {
			out.Script, out.ScriptInferred = v.ScriptSHA256, true
		}
	}
	for _, m := range x.traces.Sent[d.ID] {
		out.Sent = append(out.Sent, Sent{
			Message: Message{N: m.N, ID: m.ID, ContentType: m.ContentType, Size: m.Size, Key: m.Key, Path: m.Path},
			Headers: m.Headers, Payload: contentOf(m.Payload),
		})
	}
	for _, a := range d.Attempts {
		if r := a.Receipt; len(r.Body) > 0 {
			if out.Replies == nil {
				out.Replies = map[int]Reply{}
			}
			out.Replies[a.N] = Reply{ContentType: r.ContentType, Content: contentOf(r.Body), Truncated: r.Truncated}
		}
	}
	return out
}

// scripts fetches the sources of the scripts that shaped something.
func (x *explainer) scripts(out *Explanation) error {
	for _, d := range out.Deliveries {
		if d.Script == "" || slices.ContainsFunc(out.Scripts, func(s Script) bool { return s.SHA256 == d.Script }) {
			continue
		}
		var source []byte
		err := bounded(x.ctx, func(ctx context.Context) (err error) {
			source, err = x.Journal.Document(ctx, d.Script)
			return err
		})
		switch {
		case errors.Is(err, journal.ErrNotFound):
			x.note("the journal does not hold the script %s", short(d.Script))
			out.Scripts = append(out.Scripts, Script{SHA256: d.Script, Missing: true})
		case err != nil:
			return err
		default:
			out.Scripts = append(out.Scripts, x.script(d.Script, source))
		}
	}
	return nil
}

// script shows what is kept of a script as people wrote it.
func (x *explainer) script(sha string, source []byte) Script {
	if x.SourceFiles != nil {
		if files := x.SourceFiles(source); len(files) > 0 {
			return Script{SHA256: sha, Name: files[0].Name, Text: files[0].Text, Files: files[1:], Bundle: string(source)}
		}
	}
	return Script{SHA256: sha, Text: string(source)}
}

func (x *explainer) timeline(out *Explanation) []Moment {
	all := []Moment{{At: out.ReceivedAt, What: "received", Text: fmt.Sprintf("received on hook %s, %d bytes", out.Hook, x.size(out))}}
	if r := out.Refused; r != nil {
		all[0].Text += fmt.Sprintf(", and refused: %s", r.Code)
	}
	if a := out.Answer; a != nil {
		if a.GoneMS > 0 {
			all = append(all, Moment{
				At: Time{out.ReceivedAt.Add(time.Duration(a.GoneMS) * time.Millisecond)}, What: "gone",
				Text: "the site hung up without waiting for the answer",
			})
		}
		all = append(all, Moment{At: a.At, What: "answered", Text: fmt.Sprintf("the site was told %d %s", a.Status, a.Code)})
	}
	audited := map[string]bool{}
	was := map[string]string{}
	for _, c := range x.traces.Changes {
		m := Moment{At: Time{c.At}, Actor: c.Actor}
		switch c.Kind {
		case journal.ChangeDelivery:
			audited[c.Delivery] = true
			before := was[c.Delivery]
			if was[c.Delivery] = c.State; before == c.State {
				continue
			}
			m.What, m.Route, m.Delivery, m.Text = "state", c.Route, c.Delivery, state(c.Route, before, c.State, c.Code)
		case journal.ChangeView:
			m.What, m.Text = "view", fmt.Sprintf("%s was shown the %s", c.Actor, cmp.Or(c.What, "contents"))
		case journal.ChangePrune:
			m.What, m.Text = "prune", fmt.Sprintf("%s deleted, as their age called for", cmp.Or(c.What, "contents"))
		default:
			continue // told from what it is about
		}
		all = append(all, m)
	}
	for i := range out.Deliveries {
		all = append(all, x.ofDelivery(&out.Deliveries[i], audited)...)
	}
	if !x.traces.Until.IsZero() {
		x.note("the audit was looked through up to %s only: who was shown the event later is not in here", Time{x.traces.Until})
	}
	slices.SortStableFunc(all, func(a, b Moment) int { return a.At.Compare(b.At.Time) })
	return all
}

func (x *explainer) size(out *Explanation) int { return max(out.Size, out.Body.Size) }

// ofDelivery are the moments that a delivery itself knows of.
func (x *explainer) ofDelivery(d *ExplainedDelivery, audited map[string]bool) (all []Moment) {
	of := func(at Time, what, format string, args ...any) {
		all = append(all, Moment{At: at, What: what, Route: d.Route, Delivery: d.ID, Text: fmt.Sprintf(format, args...)})
	}
	for _, a := range d.History {
		status := ""
		if a.TargetStatus != 0 {
			status = fmt.Sprintf(", the target answered %d", a.TargetStatus)
		}
		of(a.StartedAt, "attempt", "route %s: attempt %d, %s after %dms%s", d.Route, a.N, a.Code, a.TookMS, status)
	}
	if d.Read != nil {
		of(d.Read.At, "read", "route %s: the record was read from TrialKit, %d bytes", d.Route, d.Read.Content.Size)
	}
	for _, act := range d.Acts {
		text := fmt.Sprintf("%s did %s on route %s: it was %s and is %s", act.Actor, act.Act, d.Route, act.Was, act.Now)
		if act.Reason != "" {
			text += fmt.Sprintf(". Reason: %s", act.Reason)
		}
		of(act.At, "act", "%s", text)
		all[len(all)-1].Actor = act.Actor
	}
	if !audited[d.ID] { // it is older than the audit
		of(d.CreatedAt, "state", "route %s: placed", d.Route)
		if !d.EndedAt.IsZero() {
			of(d.EndedAt, "state", "%s", state(d.Route, "", string(d.State), string(d.Code)))
		}
		x.note("the audit holds nothing of the delivery on route %s, which is older than it: only how it stands is known", d.Route)
	}
	return all
}

func state(route, before, now, code string) string {
	s := fmt.Sprintf("route %s: %s", route, now)
	if before != "" {
		s = fmt.Sprintf("route %s: %s, was %s", route, now, before)
	}
	if code != "" && code != now && now != string(core.StateRunning) {
		s += " (" + code + ")"
	}
	return s
}

// moment is a time in a sentence.
func moment(t Time) string { return t.UTC().Format("2006-01-02 15:04:05 UTC") }

// headline tells all of it in a sentence.
func headline(x *Explanation) string {
	var s strings.Builder
	if r := x.Refused; r != nil {
		fmt.Fprintf(&s, "Received %s by hook %s and refused as %s: ", moment(x.ReceivedAt), x.Hook, r.Code)
		if r.Key != "" && !strings.HasPrefix(r.Rule, r.Key) {
			s.WriteString(r.Key + " ")
		}
		s.WriteString(r.Rule + "; ")
	} else {
		fmt.Fprintf(&s, "Record %s, %s on form %s, received %s by hook %s: ",
			x.TransID, x.Kind, cmp.Or(x.FormName, x.FormID), moment(x.ReceivedAt), x.Hook)
	}
	if a := x.Answer; a != nil {
		fmt.Fprintf(&s, "told the site %d %s at %s", a.Status, a.Code, moment(a.At))
	} else {
		s.WriteString("the site was not answered, or not yet")
	}
	for i := range x.Deliveries {
		s.WriteString("; " + outcome(&x.Deliveries[i]))
	}
	if len(x.Deliveries) == 0 && x.Refused == nil {
		s.WriteString("; no route took it")
	}
	return s.String() + "."
}

// outcome is how a delivery stands, as a part of a sentence.
func outcome(d *ExplainedDelivery) string {
	at := ""
	if !d.EndedAt.IsZero() {
		at = " at " + moment(d.EndedAt)
	}
	code := ""
	if d.Code != "" {
		code = " (" + string(d.Code) + ")"
	}
	tries := counted(d.Attempts)
	switch d.State {
	case core.StateDelivered:
		return fmt.Sprintf("delivered to %s on the %s attempt%s", d.Label, ordinal(d.Attempts), at)
	case core.StateQueued:
		return "queued for " + d.Label
	case core.StateRunning:
		return "being sent to " + d.Label
	case core.StateWaiting:
		return fmt.Sprintf("to be sent to %s again after %s%s", d.Label, tries, code)
	case core.StateUnknown:
		return fmt.Sprintf("sent to %s and not confirmed after %s%s", d.Label, tries, code)
	case core.StateHeld:
		return fmt.Sprintf("held for %s until somebody decides", d.Label)
	case core.StateSkipped:
		return fmt.Sprintf("not sent to %s, as its script decided%s", d.Label, at)
	case core.StateRejected:
		return fmt.Sprintf("refused by the script for %s%s", d.Label, at)
	case core.StateDead:
		return fmt.Sprintf("given up for %s after %s%s%s", d.Label, tries, code, at)
	case core.StateCancelled:
		who := ""
		for _, act := range d.Acts {
			if act.Now == core.StateCancelled {
				who = " by " + act.Actor
			}
		}
		return fmt.Sprintf("ended for %s%s after %s%s", d.Label, who, tries, at)
	}
	return fmt.Sprintf("%s for %s", d.State, d.Label)
}

func counted(n int) string {
	switch n {
	case 0:
		return "no attempt"
	case 1:
		return "one attempt"
	}
	return strconv.Itoa(n) + " attempts"
}

var ordinals = []string{"", "first", "second", "third", "fourth", "fifth", "sixth", "seventh", "eighth", "ninth", "tenth"}

func ordinal(n int) string {
	switch {
	case n > 0 && n < len(ordinals):
		return ordinals[n]
	case n%10 == 1 && n%100 != 11:
		return strconv.Itoa(n) + "st"
	case n%10 == 2 && n%100 != 12:
		return strconv.Itoa(n) + "nd"
	case n%10 == 3 && n%100 != 13:
		return strconv.Itoa(n) + "rd"
	}
	return strconv.Itoa(n) + "th"
}
