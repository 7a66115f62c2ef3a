package core

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"runtime/debug"
	"sync"
	"time"

	"github.com/google/uuid"

	"github.com/hookline/hookline/plugins/transport"
)

// Sender makes one attempt on a transport. It returns at the latest a few
// milliseconds after ctx's deadline.
type Sender interface {
	Deliver(ctx context.Context, m *transport.Message) transport.Receipt
}

// Transformer shapes an event into what a route sends. An error is a
// *[ScriptError] where the script or its process is to blame.
type Transformer interface {
	Transform(ctx context.Context, ev *Event, route *Route, deliveryID string) (Shaped, error)
}

// Shaped is what a transform made of an event: messages, or a word instead.
type Shaped struct {
	Messages []Content
	Skip     *string // ctx.skip: nothing is to be sent
	Reject   *string // ctx.reject: the entry is not acceptable; text for the user
}

// Content is what one message carries.
type Content struct {
	ContentType string // "" for JSON
	Headers     map[string]string
	Key         string
	Path        string
	Payload     []byte
}

const (
	// jsonType is the content type of what TrialKit sends.
	jsonType = "application/json"
	// retryWithin is how long after a failure the one retry in the foreground
	// may begin: a restarting target is often back, and the user waits.
	retryWithin = 2 * time.Second
	// retryPause is the wait before that retry when the target named none.
	retryPause = 250 * time.Millisecond
)

// Dispatcher takes an event through all its routes while the caller waits. It is
// immutable: a reload makes a new one.
type Dispatcher struct {
	Router *Router
	Log    *slog.Logger
	// Details may go to the log of these transports only: they are ours. A
	// vendor's text could quote a record (invariant 7).
	LogDetail map[string]bool
}

// Dispatch delivers the event on every route that wants it, at once, and returns
// when all have ended: by the hook's budget, which ctx's end does not shorten. A
// caller that hangs up must not stop a delivery half-way.
func (d *Dispatcher) Dispatch(ctx context.Context, ev *Event) []Outcome {
	routes := d.Router.Match(ev)
	if len(routes) == 0 {
		return nil
	}
	budget := &Expired{Setting: "hooks." + ev.Hook.Name + ".timeout", After: ev.Hook.Timeout}
	ctx, cancel := context.WithDeadlineCause(context.WithoutCancel(ctx), ev.ReceivedAt.Add(budget.After), budget)
	defer cancel()

	outcomes := make([]Outcome, len(routes))
	var others sync.WaitGroup
	for i, route := range routes[1:] {
		others.Go(func() { outcomes[i+1] = d.run(ctx, ev, route, budget) })
	}
	outcomes[0] = d.run(ctx, ev, routes[0], budget)
	others.Wait()
	return outcomes
}

// delivery is one event on one route, on its way.
type delivery struct {
	id       string
	event    *Event
	route    *Route
	budget   *Expired
	shaped   bool
	contents []Content // shaped once: every attempt sends these bytes (invariant 9)
	sent     int       // how many of contents the target has confirmed
	attempts int
}

// run makes a delivery with its one retry in the foreground.
func (d *Dispatcher) run(ctx context.Context, ev *Event, route *Route, budget *Expired) (out Outcome) {
	start := time.Now()
	del := &delivery{id: uuid.Must(uuid.NewV7()).String(), event: ev, route: route, budget: budget}
	defer func() {
		if p := recover(); p != nil {
			d.Log.Error("a part of Hookline panicked", "event", ev.ID, "route", route.Name, "stack", string(debug.Stack()))
			out = Outcome{State: StateUnknown, Code: Internal, Receipt: out.Receipt}
		}
		out.DeliveryID, out.Route, out.Attempts, out.Duration = del.id, route, del.attempts, time.Since(start)
		d.log(ctx, ev, &out)
	}()

	out = d.deliver(ctx, del)
	if pause, ok := retryable(&out); ok && wait(ctx, pause) {
		out = d.deliver(ctx, del)
	}
	return out
}

// retryable tells whether an outcome is worth the one retry while the caller
// waits: the target surely did not act and may do so in a moment.
func retryable(o *Outcome) (pause time.Duration, ok bool) {
	if o.State != StateDead || o.Receipt.Effect != transport.None || !table[o.Code].again || o.Code == transport.Timeout {
		return 0, false
	}
	pause = max(retryPause, o.Receipt.RetryAfter)
	return pause, pause <= retryWithin
}

// wait sleeps and tells whether there is still time for more.
func wait(ctx context.Context, pause time.Duration) bool {
	if deadline, ok := ctx.Deadline(); ok && time.Until(deadline) <= pause {
		return false
	}
	t := time.NewTimer(pause)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}

// deliver makes one attempt. It is the only place that knows the sequence:
// transform, transport, classify.
func (d *Dispatcher) deliver(ctx context.Context, del *delivery) Outcome {
	if !del.shaped {
		if out, ended := del.shape(ctx); ended {
			return out
		}
	}
	var out Outcome
	del.attempts++
	for del.sent < len(del.contents) {
		if out = del.send(ctx, del.sent); out.State != StateDelivered {
			return out
		}
		del.sent++
	}
	return out
}

func (del *delivery) shape(ctx context.Context) (out Outcome, ended bool) {
	if del.route.Transformer == nil {
		del.contents = []Content{{ContentType: jsonType, Payload: del.event.Body}}
		del.shaped = true
		return out, false
	}
	shaped, err := del.route.Transformer.Transform(ctx, del.event, del.route, del.id)
	switch {
	case err != nil:
		out = Outcome{State: StateDead, Code: TransformFailed}
		var script *ScriptError
		if errors.As(err, &script) {
			out.Code, out.Position = script.Code, script.Position
		}
		errors.As(err, &out.Clock)
		return out, true
	case shaped.Skip != nil:
		return Outcome{State: StateSkipped, Code: Skipped, Reason: *shaped.Skip}, true
	case shaped.Reject != nil:
		return Outcome{State: StateRejected, Code: RejectedByTransform, Reason: *shaped.Reject}, true
	case len(shaped.Messages) == 0:
		return Outcome{State: StateDead, Code: TransformFailed}, true // never a silent drop
	}
	del.contents, del.shaped = shaped.Messages, true
	return out, false
}

func (del *delivery) send(ctx context.Context, n int) Outcome {
	clock := &Expired{Setting: "routes." + del.route.Name + ".timeout", After: del.route.Timeout}
	if deadline, ok := ctx.Deadline(); ok && time.Until(deadline) < clock.After {
		clock = del.budget
	}
	ctx, cancel := context.WithTimeoutCause(ctx, del.route.Timeout, clock)
	defer cancel()

	ev, content := del.event, &del.contents[n]
	m := &transport.Message{
		ID:         del.id,
		EventID:    ev.ID,
		DeliveryID: del.id,
		Attempt:    del.attempts,
		Hook:       ev.Hook.Name, Route: del.route.Name, Study: ev.Hook.Study, Stage: string(ev.Hook.Stage),
		Lane: ev.Lane(del.route.Name), Kind: string(ev.Kind),
		ReceivedAt: ev.ReceivedAt, TraceParent: ev.TraceParent,
		ContentType: content.ContentType, Headers: content.Headers, Key: content.Key, Path: content.Path,
		Payload: content.Payload,
	}
	if n > 0 {
		m.ID = fmt.Sprintf("%s-%d", del.id, n+1)
	}
	if m.ContentType == "" {
		m.ContentType = jsonType
	}
	receipt := del.route.Transport.Sender.Deliver(ctx, m)
	out := Outcome{Receipt: receipt}
	out.State, out.Code = classify(receipt)
	if out.Code == transport.Timeout {
		out.Clock = clock
	}
	if n > 0 && out.State == StateDead {
		out.State = StateUnknown // a part has arrived
	}
	return out
}

// log writes the one line that a delivery leaves behind: ids, never contents.
func (d *Dispatcher) log(ctx context.Context, ev *Event, out *Outcome) {
	level := slog.LevelInfo
	if out.Failed() {
		level = slog.LevelWarn
	}
	if !d.Log.Enabled(ctx, level) {
		return
	}
	// A line per delivery is a tenth of the daemon's work: a success says what it
	// takes to find it at the target, and no more.
	attrs := append(make([]slog.Attr, 0, 16),
		slog.String("event", ev.ID), slog.String("ref", ev.Ref), slog.String("hook", ev.Hook.Name),
		slog.String("kind", string(ev.Kind)), slog.String("form", ev.FormID), slog.String("record", ev.TransID),
		slog.String("route", out.Route.Name), slog.String("delivery", out.DeliveryID), slog.Duration("took", out.Duration),
	)
	if out.Attempts > 1 || out.Failed() {
		attrs = append(attrs, slog.Int("attempts", out.Attempts))
	}
	if out.Failed() {
		attrs = append(attrs, slog.String("code", string(out.Code)), slog.String("transport", out.Route.Transport.Name))
		if out.Receipt.TargetStatus != 0 {
			attrs = append(attrs, slog.Int("target_status", out.Receipt.TargetStatus))
		}
		if out.Position != "" {
			attrs = append(attrs, slog.String("at", out.Position))
		}
		if out.Clock != nil {
			attrs = append(attrs, slog.String("because", out.Clock.Error()))
		}
		if out.Receipt.Detail != "" && d.LogDetail[out.Route.Transport.Name] {
			attrs = append(attrs, slog.String("detail", out.Receipt.Detail))
		}
	}
	d.Log.LogAttrs(ctx, level, "delivery "+string(out.State), attrs...)
}
