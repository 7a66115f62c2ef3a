package core

import (
	"bytes"
	"cmp"
	"encoding/json"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/hookline/hookline/plugins/transport"
)

// Answer is what the caller is told: a success, or a protocol error in the form
// of RFC 9457 (problem details), which has Type, Title, Detail and Fault.
type Answer struct {
	Type       string           `json:"type,omitempty"`
	Title      string           `json:"title,omitempty"`
	Status     int              `json:"status"`
	Detail     string           `json:"detail,omitempty"` // for the site's user
	Hint       string           `json:"hint,omitempty"`   // for the integrator; names the setting
	Code       Code             `json:"code"`
	Step       Step             `json:"stage,omitempty"`
	Fault      Fault            `json:"fault,omitempty"`
	EventID    string           `json:"event_id,omitempty"`
	Ref        string           `json:"ref,omitempty"`
	Deliveries []DeliveryReport `json:"deliveries"`
}

// DeliveryReport is one delivery in an answer.
type DeliveryReport struct {
	Route      string `json:"route"`
	Transport  string `json:"transport"`
	Status     State  `json:"status"`
	Code       Code   `json:"code"`
	Reason     string `json:"reason,omitempty"` // of ctx.skip or ctx.reject
	Attempts   int    `json:"attempts"`
	DurationMS int64  `json:"duration_ms"`
}

// AppendJSON writes the answer to b, as its tags say. There is one for each event, and
// encoding/json takes three times as long.
func (a *Answer) AppendJSON(b []byte) []byte {
	b = append(b, '{')
	b = appendText(b, "type", a.Type)
	b = appendText(b, "title", a.Title)
	b = strconv.AppendInt(append(appendKey(b, "status"), ':'), int64(a.Status), 10)
	b = appendText(b, "detail", a.Detail)
	b = appendText(b, "hint", a.Hint)
	b = appendValue(append(appendKey(b, "code"), ':'), string(a.Code))
	b = appendText(b, "stage", string(a.Step))
	b = appendText(b, "fault", string(a.Fault))
	b = appendText(b, "event_id", a.EventID)
	b = appendText(b, "ref", a.Ref)
	b = append(appendKey(b, "deliveries"), ":["...)
	for i := range a.Deliveries {
		d := &a.Deliveries[i]
		if i > 0 {
			b = append(b, ',')
		}
		b = append(b, '{')
		b = appendValue(append(appendKey(b, "route"), ':'), d.Route)
		b = appendValue(append(appendKey(b, "transport"), ':'), d.Transport)
		b = appendValue(append(appendKey(b, "status"), ':'), string(d.Status))
		b = appendValue(append(appendKey(b, "code"), ':'), string(d.Code))
		b = appendText(b, "reason", d.Reason)
		b = strconv.AppendInt(append(appendKey(b, "attempts"), ':'), int64(d.Attempts), 10)
		b = strconv.AppendInt(append(appendKey(b, "duration_ms"), ':'), d.DurationMS, 10)
		b = append(b, '}')
	}
	return append(b, "]}"...)
}

// appendText writes a field unless it is empty.
func appendText(b []byte, key, value string) []byte {
	if value == "" {
		return b
	}
	return appendValue(append(appendKey(b, key), ':'), value)
}

func appendKey(b []byte, key string) []byte {
	if b[len(b)-1] != '{' {
		b = append(b, ',')
	}
	return append(append(append(b, '"'), key...), '"')
}

func appendValue(b []byte, s string) []byte {
	for i := range len(s) {
		if c := s[i]; c < ' ' || c == '"' || c == '\\' || c >= utf8.RuneSelf {
			return appendEscaped(b, s)
		}
	}
	return append(append(append(b, '"'), s...), '"')
}

// appendEscaped is for the texts that need more than quotes. The words are for people:
// <, > and & stay what they are.
func appendEscaped(b []byte, s string) []byte {
	w := bytes.NewBuffer(b)
	enc := json.NewEncoder(w)
	enc.SetEscapeHTML(false)
	_ = enc.Encode(s) // a string always can be
	return bytes.TrimSuffix(w.Bytes(), []byte("\n"))
}

// Failed tells whether the answer is a protocol error.
func (a *Answer) Failed() bool { return a.Fault != "" }

// maxUserText caps what a script may say to the site's user, and a form's name.
const (
	maxUserText = 500
	maxFormName = 80
)

// Compose says what became of the event. The words are the core's own: of a
// script's text only ctx.reject's is passed on, of a plugin's nothing.
func Compose(ev *Event, outcomes []Outcome) Answer {
	a := Answer{Status: http.StatusOK, EventID: ev.ID, Ref: ev.Ref, Deliveries: make([]DeliveryReport, len(outcomes))}
	var worst *Outcome
	// Of what has not failed: a sync delivery that is still to be made makes the
	// whole only accepted; an async one does not.
	var delivered, queued, awaited bool
	for i := range outcomes {
		o := &outcomes[i]
		code := o.Code
		if code == "" && o.State.Open() { // an operator holds it before its first attempt
			code = Accepted
		}
		a.Deliveries[i] = DeliveryReport{
			Route: o.Route.Name, Transport: o.Route.Transport.Name, Status: o.State, Code: code,
			Reason: oneLine(o.Reason, maxUserText), Attempts: o.Attempts, DurationMS: o.Duration.Milliseconds(),
		}
		switch {
		case o.State == StateDelivered:
			delivered = true
		case code == Accepted:
			queued = true
			awaited = awaited || !o.Route.Async
		}
		if o.Failed() && (worst == nil || gravity[table[o.Code].fault] < gravity[table[worst.Code].fault]) {
			worst = o
		}
	}
	switch {
	case worst != nil:
		a.fail(worst.Code)
		a.Detail = failureDetail(ev, outcomes, worst)
		a.Hint = hint(worst, ev.Ref)
	case delivered && !awaited:
		a.Code = transport.Delivered
	case queued:
		a.Code, a.Status = Accepted, cmp.Or(ev.Hook.AcceptedStatus, table[Accepted].status)
	case len(outcomes) > 0:
		a.Code = Skipped
	case ev.Hook.UnmatchedError:
		a.fail(Unmatched)
		a.Detail = saved(ev) + " No destination is set up for it; please tell your study team. Reference " + ev.Ref + "."
		a.Hint = fmt.Sprintf("no route takes %s events of form %s from hooks.%s, which has unmatched = \"error\"", ev.Kind, ev.FormID, ev.Hook.Name)
	default:
		a.Code = Ignored
	}
	return a
}

// Refuse is the answer to a request that is not an event. why completes the
// sentence for the site's user; ref may be empty. unsure: it may be passed on all
// the same.
func Refuse(code Code, why, hint, eventID, ref string, unsure bool) Answer {
	a := Answer{EventID: eventID, Ref: ref, Deliveries: []DeliveryReport{}}
	a.fail(code)
	was := "was not"
	if unsure {
		was = "may not have been"
	}
	a.Detail = "Your entry is saved in TrialKit, but it " + was + " passed on: " + why + ". Please tell your study team."
	if ref != "" {
		a.Detail += " Reference " + ref + "."
	}
	a.Hint = hint
	return a
}

func (a *Answer) fail(code Code) {
	m, known := table[code]
	if !known { // no answer is without a status
		code, m = Internal, table[Internal]
	}
	a.Type = "urn:hookline:problem:" + string(code)
	a.Title = "Protocol Error" // the words TrialKit's users know
	a.Status, a.Code, a.Step, a.Fault = m.status, code, m.step, m.fault
}

// saved is the first thing a user must know: nothing was lost in TrialKit.
func saved(ev *Event) string {
	what := "Your entry in"
	if ev.Kind == Review {
		what = "Your review of"
	}
	name := oneLine(ev.FormName, maxFormName)
	if name == "" {
		name = "form " + ev.FormID
	} else {
		name = `"` + name + `"`
	}
	return fmt.Sprintf("%s %s (record %s) is saved in TrialKit.", what, name, ev.TransID)
}

func failureDetail(ev *Event, outcomes []Outcome, worst *Outcome) string {
	var b strings.Builder
	b.WriteString(saved(ev))
	var arrived []string
	for i := range outcomes {
		if outcomes[i].State == StateDelivered {
			arrived = append(arrived, outcomes[i].Route.Transport.Label)
		}
	}
	if len(arrived) > 0 {
		fmt.Fprintf(&b, " %s received it.", list(arrived))
	}
	// Every failure is told, the gravest first: the user may have to call two
	// places.
	failed := []*Outcome{worst}
	for i := range outcomes {
		if o := &outcomes[i]; o.Failed() && o != worst {
			failed = append(failed, o)
		}
	}
	for _, o := range failed {
		b.WriteString(failureSentence(o))
	}
	b.WriteString(outlook(failed))
	b.WriteString(" Reference " + ev.Ref + ".")
	return b.String()
}

func failureSentence(o *Outcome) string {
	label := o.Route.Transport.Label
	if o.State == StateRejected {
		return fmt.Sprintf(" It was not sent to %s: %s", label, sentence(oneLine(o.Reason, maxUserText)))
	}
	why := table[o.Code].user
	if strings.Contains(why, "%s") {
		after := "the time allowed"
		if o.Clock != nil {
			after = spell(o.Clock.After)
		}
		why = fmt.Sprintf(why, after)
	}
	s := fmt.Sprintf(" %s has not confirmed it: %s.", label, why)
	switch {
	case o.Outlook == OutlookRetry:
		return s // whether it has arrived is not the user's to find out
	case o.MaybeSent:
		return s + " It may have been received there."
	}
	return s + " It was not received there."
}

// outlook says what happens next, and what the user is to do. Places are named
// only where they differ.
func outlook(failed []*Outcome) string {
	labels := map[Outlook][]string{}
	for _, o := range failed {
		if o.State != StateRejected {
			labels[o.Outlook] = append(labels[o.Outlook], o.Route.Transport.Label)
		}
	}
	var b strings.Builder
	for _, o := range []Outlook{OutlookRetry, OutlookHeld, OutlookEnd} {
		if len(labels[o]) == 0 {
			continue
		}
		where := ""
		if len(labels) > 1 {
			where = " to " + list(labels[o])
		}
		switch o {
		case OutlookRetry:
			if where != "" {
				where = " to send it" + where
			}
			fmt.Fprintf(&b, " Hookline keeps trying%s; please do not enter it again.", where)
		case OutlookHeld:
			fmt.Fprintf(&b, " Hookline holds it for your study team, who decide whether to send it%s: please tell them, and do not enter it again.", where)
		case OutlookEnd:
			fmt.Fprintf(&b, " Hookline will not send it%s again: please tell your study team.", where)
		}
	}
	return b.String()
}

func hint(o *Outcome, ref string) string {
	script := ""
	switch {
	case o.Position != "":
		script = " at " + o.Position
	case o.Route.ScriptFile != "":
		script = " (" + o.Route.ScriptFile + ")"
	}
	s := strings.NewReplacer("{transport}", o.Route.Transport.Name, "{route}", o.Route.Name, "{ref}", ref, "{script}", script).Replace(table[o.Code].hint)
	if o.Because != "" {
		s += ": " + o.Because
	}
	if o.Clock != nil {
		if s != "" {
			s += ": "
		}
		s += o.Clock.Error()
	}
	return s
}

// spell writes a duration as a user reads it.
func spell(d time.Duration) string {
	switch {
	case d == time.Second:
		return "1 second"
	case d >= time.Minute && d%time.Minute == 0:
		if d == time.Minute {
			return "1 minute"
		}
		return fmt.Sprintf("%d minutes", d/time.Minute)
	case d >= time.Second && d%time.Second == 0:
		return fmt.Sprintf("%d seconds", d/time.Second)
	case d >= time.Second:
		return fmt.Sprintf("%.1f seconds", d.Seconds())
	default:
		return fmt.Sprintf("%d milliseconds", d.Milliseconds())
	}
}

// oneLine makes foreign text fit for a sentence: no control or formatting
// characters, which could turn the text around, and capped.
func oneLine(s string, limit int) string {
	s = strings.Join(strings.FieldsFunc(s, func(r rune) bool { return unicode.In(r, unicode.Cc, unicode.Cf) || r == utf8.RuneError }), " ")
	s = strings.TrimSpace(s)
	if len(s) <= limit {
		return s
	}
	cut := limit
	for cut > 0 && !utf8.RuneStart(s[cut]) {
		cut--
	}
	return s[:cut] + "…"
}

// sentence ends s with a full stop if it has no end of its own.
func sentence(s string) string {
	if s == "" {
		return "no reason was given."
	}
	if strings.ContainsRune(".!?…", []rune(s)[len([]rune(s))-1]) {
		return s
	}
	return s + "."
}

func list(names []string) string {
	if len(names) == 1 {
		return names[0]
	}
	return strings.Join(names[:len(names)-1], ", ") + " and " + names[len(names)-1]
}
