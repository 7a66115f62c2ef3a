package core

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/hookline/hookline/plugins/transport"
)

// deliver makes one attempt. It is the only place that knows the sequence:
// enrich, transform, transport, classify. Of an attempt that failed the state says what
// surely happened; what follows from it is for settle.
func (d *Dispatcher) deliver(ctx context.Context, j *job) Outcome {
	if j.Shape == ShapeOpen {
		if out, ended := d.shape(ctx, j); ended {
			if out.State == StateWaiting {
				j.Attempts++ // or it would be tried for ever, and ever as soon
			}
			if j.held != nil {
				j.route.Transport.Gate.leave(1)
				j.held = nil
			}
			return out
		}
	}
	done, err := j.route.Transport.Gate.enter(ctx, d.stopping(), j.held)
	j.held = nil
	if err != nil {
		code := Overloaded
		switch {
		case errors.Is(err, errCircuitOpen):
			code = CircuitOpen
		case errors.Is(err, errStopping):
			code = Draining
		}
		out := j.blocked(code)
		if d.Journal == nil { // nothing keeps it for later, and accepted it would be dropped (invariant 3)
			out.State, out.Code, out.Outlook = StateDead, code, OutlookEnd
		}
		return out
	}
	failed := true // a panic keeps no place at the gate
	defer func() { done(failed) }()
	if d.Journal != nil && d.Journal.Live() != nil {
		failed = false
		return j.blocked(JournalUnavailable) // others may take it over any moment
	}
	j.Attempts++
	try := Attempt{N: j.Attempts, Start: time.Now()}
	if j.Begun.IsZero() {
		j.Begun = try.Start
	}
	j.trace = j.watch.Attempt(try.N)
	if d.outlives(j.route) {
		ctx = d.lease() // once begun, it has the route's timeout and no other
	}
	var out Outcome
	var target time.Duration
	for j.Sent < j.messages() {
		out = d.send(ctx, j, j.Sent)
		target += out.Receipt.TargetTook
		if out.State != StateDelivered {
			break
		}
		j.Sent++
	}
	failed = out.State != StateDelivered && table[out.Code].down()
	try.Message, try.Took, try.Receipt = min(j.Sent, j.messages()-1), time.Since(try.Start), out.Receipt
	try.Receipt.Code = out.Code
	j.watch.Attempted(&try, min(target, try.Took)) // a plugin's word is not to be believed beyond that
	j.tries = append(j.tries, try)
	return out
}

// shape settles what the delivery's messages are: every attempt sends these bytes
// (invariant 9), so they are durable before the first.
func (d *Dispatcher) shape(ctx context.Context, j *job) (out Outcome, ended bool) {
	if j.route.Transformer == nil {
		j.Shape = ShapeBody
		return out, false
	}
	j.Logs = nil
	ctx = WithReadSince(ctx, j.Event.ReceivedAt)
	if out, ended = d.enrich(ctx, j); ended {
		return out, true
	}
	var record []byte
	if j.Snapshot != nil {
		record = j.Snapshot.Record
	}
	start := time.Now()
	shaped, err := j.route.Transformer.Transform(ctx, j.Event, j.route, j.ID, record)
	took := time.Since(start)
	j.Logs = shaped.Logs
	if script, ok := errors.AsType[*ScriptError](err); ok {
		j.Logs = script.Logs
	}
	defer func() {
		code := out.Code
		if code == JournalUnavailable {
			code = "" // the script has done its part
		}
		j.watch.Transformed(start, took, code)
		if out.State == StateWaiting {
			j.Snapshot = nil // of nothing: the next run reads it anew
		}
	}()
	switch {
	case err != nil:
		return scriptFailed(err), true
	case shaped.Skip != nil:
		return Outcome{State: StateSkipped, Code: Skipped, Reason: *shaped.Skip}, true
	case shaped.Reject != nil:
		return Outcome{State: StateRejected, Code: RejectedByTransform, Reason: *shaped.Reject}, true
	case len(shaped.Messages) == 0:
		return Outcome{State: StateDead, Code: TransformFailed}, true // never a silent drop
	}
	j.Contents, j.Shape = shaped.Messages, ShapeMessages
	j.Script, j.Revision = j.route.Script, d.Revision
	if d.Journal == nil {
		return out, false
	}
	if err := d.Journal.Shaped(ctx, j.Delivery); err != nil {
		j.Contents, j.Shape = nil, ShapeOpen
		return Outcome{State: StateWaiting, Code: JournalUnavailable}, true
	}
	return out, false
}

// scriptFailed is the outcome of an event that its script made no message of. A
// script that had no process or no time to run is not to blame.
func scriptFailed(err error) Outcome {
	out := Outcome{State: StateDead, Code: TransformFailed}
	var script *ScriptError
	if errors.As(err, &script) {
		out.Code, out.Position, out.Thrown = script.Code, script.Position, script.Text
	}
	if errors.As(err, &out.Clock); script != nil && script.Blameless || out.Clock != nil && out.Clock.caller {
		out.State = StateWaiting
	}
	if script != nil {
		out.Receipt.RetryAfter = script.After
	}
	return out
}

// messages is how many messages a shaped delivery has.
func (j *job) messages() int {
	if j.Shape == ShapeBody {
		return 1
	}
	return len(j.Contents)
}

func (d *Dispatcher) send(ctx context.Context, j *job, n int) Outcome {
	clock := &Expired{Setting: "routes." + j.Route + ".timeout", After: j.route.Timeout}
	end := time.Now().Add(j.route.Timeout)
	if deadline, ok := ctx.Deadline(); ok && j.budget != nil && deadline.Before(end) {
		clock = j.budget
	}
	attempt := limit(ctx, end, clock)
	defer attempt.stop()

	ev := j.Event
	content := Content{Payload: ev.Body}
	if j.Shape == ShapeMessages {
		content = j.Contents[n]
	}
	m := &transport.Message{
		ID:         j.ID,
		EventID:    ev.ID,
		DeliveryID: j.ID,
		Attempt:    j.Attempts,
		Hook:       ev.Hook.Name, Route: j.Route, Study: ev.Hook.Study, Stage: string(ev.Hook.Stage),
		Lane: j.Lane, Kind: string(ev.Kind),
		ReceivedAt: ev.ReceivedAt, TraceParent: cmp.Or(j.trace, ev.TraceParent),
		ContentType: content.ContentType, Headers: content.Headers, Key: content.Key, Path: content.Path,
		Payload: content.Payload,
	}
	if n > 0 {
		m.ID = fmt.Sprintf("%s-%d", j.ID, n+1)
	}
	if m.ContentType == "" {
		m.ContentType = jsonType
	}
	out := Outcome{Receipt: j.route.Transport.Sender.Deliver(attempt, m)}
	var f fate
	f, out.Code = classify(out.Receipt)
	switch {
	case f == delivered:
		out.State = StateDelivered
	case f == maybeDone:
		out.State, out.MaybeSent = StateUnknown, true
	case table[out.Code].again:
		out.State = StateWaiting
	default:
		out.State = StateDead
	}
	if out.Code == transport.Timeout {
		out.Clock = clock
	}
	if n > 0 && f != delivered {
		out.MaybeSent = true // a part has arrived
	}
	return out
}
