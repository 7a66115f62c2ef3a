package core

import (
	"cmp"
	"context"
	"errors"
	"log/slog"
	"runtime/debug"
	"sync"
	"sync/atomic"
	"time"

	"github.com/google/uuid"

	"github.com/hookline/hookline/plugins/transport"
)

// Sender makes one attempt on a transport. It returns at the latest a few
// milliseconds after ctx's deadline.
type Sender interface {
	Deliver(ctx context.Context, m *transport.Message) transport.Receipt
}

// Transformer shapes an event into what a route sends. record is that of the
// event's [Snapshot], nil if the route does not enrich. An error is a
// *[ScriptError] where the script or its process is to blame.
type Transformer interface {
	Transform(ctx context.Context, ev *Event, route *Route, deliveryID string, record []byte) (Shaped, error)
}

// Shaped is what a transform made of an event: messages, or a word instead.
type Shaped struct {
	Messages []Content
	Skip     *string // ctx.skip: nothing is to be sent
	Reject   *string // ctx.reject: the entry is not acceptable; text for the user

	Logs []string // of ctx.log; they may quote the record
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
	// elsewhere is how often an event asks whether its turn has come when another
	// node runs the delivery ahead.
	elsewhere = 100 * time.Millisecond
)

// Dispatcher takes events through their routes: in the foreground while the
// caller waits, and for the [Scheduler] in the background. A reload makes a new
// one.
type Dispatcher struct {
	Router *Router
	Log    *slog.Logger
	// Details may go to the log of these transports only: they are ours. A
	// vendor's text could quote a record (invariant 7).
	LogDetail map[string]bool
	Revision  string // of the configuration
	// Observer hears of deliveries; nil: nobody does.
	Observer Observer
	// Stopping ends when nobody may wait any longer, for a place at a transport, for
	// a turn or to try again; nil: never.
	Stopping context.Context

	// Journal and Background are nil together: then nothing is kept, and a failure
	// is final.
	Journal    Journal
	Background *Scheduler

	jobs sync.WaitGroup // those that no caller waits for
}

// Wait returns when no delivery is under way that no caller waits for. They all
// have deadlines.
func (d *Dispatcher) Wait() { d.jobs.Wait() }

// Arrival is an event on its way in.
type Arrival struct {
	Event *Event
	Key   string // the caller's own id of it, or ""
	Queue bool   // only take it in: there is no room, or no time, to deliver it now
}

// Result is what came of an arrival.
type Result struct {
	Outcomes []Outcome
	// Duplicate: the caller's key stands for an earlier event, whose id and ref
	// the arrival's event now has.
	Duplicate bool
}

// Keeps tells whether there is a journal: what cannot be delivered now can be
// queued.
func (d *Dispatcher) Keeps() bool { return d.Journal != nil }

// Refused keeps a body that is not taken, so that it can be looked at and driven
// again. key and rule say what is wrong with it.
func (d *Dispatcher) Refused(ev *Event, code Code, key, rule string) {
	if d.Journal == nil {
		return
	}
	ev.Revision = d.Revision
	ctx, cancel := context.WithTimeout(d.lease(), ev.Hook.Timeout)
	defer cancel()
	if err := d.Journal.Refused(ctx, ev, code, key, rule); err != nil {
		d.Log.Warn("a refused body could not be kept", "event", ev.ID, "hook", ev.Hook.Name, "error", err)
	}
}

// Answered keeps what the caller was told.
func (d *Dispatcher) Answered(ev *Event, a AnswerRecord) {
	if d.Journal != nil {
		d.Journal.Answered(ev, a)
	}
}

// job is a delivery with what it takes to make it.
type job struct {
	Placement
	route   *Route
	start   time.Time
	budget  *Expired // of the caller; nil in the background
	held    *place   // what it holds at the gate, or nil
	because Code     // why it was not even to run at once, or ""
	turn    *turn    // where it hears that it has become the head of its lane
	tries   []Attempt
	watch   Run    // told of what happens in its run
	trace   string // context that the attempt's messages carry, "" for the event's
	// spoken is set by who tells the caller: the job with its outcome, or
	// Dispatch when the caller's wait is over before.
	spoken atomic.Bool
}

// Dispatch journals the event and delivers it on every route that wants it, at
// once where it may. It returns by the hook's budget. It takes no context: a
// caller that hangs up must not stop a delivery half-way.
//
// An error means that nothing was sent: the journal cannot be written, or
// [ErrKeyConflict].
func (d *Dispatcher) Dispatch(a Arrival) (Result, error) {
	ev := a.Event
	ev.Revision = d.Revision
	routes := d.Router.Match(ev)
	budget := &Expired{Setting: "hooks." + ev.Hook.Name + ".timeout", After: ev.Hook.Timeout, caller: true}
	ctx := limit(d.lease(), ev.ReceivedAt.Add(budget.After), budget)
	defer ctx.stop()

	queue := a.Queue || d.Background.braked(ev)
	jobs := make([]job, len(routes))
	for i, route := range routes {
		jobs[i].place(ev, route, budget, queue)
	}
	if err := d.begin(ctx, &a, jobs); err != nil {
		var dup *DuplicateError
		if errors.As(err, &dup) {
			ev.ID, ev.Ref = dup.EventID, dup.Ref
			return Result{Outcomes: d.current(dup), Duplicate: true}, nil
		}
		return Result{}, err
	}
	switch len(jobs) {
	case 0:
		return Result{}, nil
	case 1:
		if !d.outlives(jobs[0].route) {
			return Result{Outcomes: []Outcome{d.first(ctx, &jobs[0])}}, nil
		}
	}
	return Result{Outcomes: d.all(ctx, jobs)}, nil
}

// lease is what the contexts of attempts derive from.
func (d *Dispatcher) lease() context.Context {
	if d.Journal == nil {
		return context.Background()
	}
	return d.Journal.Lease()
}

func (d *Dispatcher) stopping() context.Context {
	if d.Stopping == nil {
		return context.Background()
	}
	return d.Stopping
}

// place makes the delivery of an event on a route.
func (j *job) place(ev *Event, route *Route, budget *Expired, queue bool) {
	j.start, j.route, j.budget = time.Now(), route, budget
	j.Delivery = &Delivery{
		ID: uuid.Must(uuid.NewV7()).String(), Event: ev, Route: route.Name, Lane: ev.Lane(route.Name),
		State: StateQueued,
	}
	switch {
	case route.Async:
		j.because = Accepted
	case queue:
		j.because = Overloaded
	case !route.Transport.Gate.Closed():
		j.because = CircuitOpen
	}
	if j.because != "" {
		return
	}
	j.Run, j.Wait = true, ev.ReceivedAt.Add(budget.After).Sub(j.start)
	if route.Transformer == nil {
		j.Shape = ShapeBody
	}
}

// begin journals the event before anything that can fail, sending included.
func (d *Dispatcher) begin(ctx context.Context, a *Arrival, jobs []job) error {
	if d.Journal == nil {
		for i := range jobs {
			jobs[i].Run, jobs[i].State = true, StateRunning
		}
		return nil
	}
	if err := d.Journal.Live(); err != nil {
		return err
	}
	entry := Entry{Event: a.Event, Deliveries: make([]*Placement, len(jobs))}
	if a.Key != "" && a.Event.Hook.KeyAge > 0 {
		entry.Key, entry.KeyAge = a.Key, a.Event.Hook.KeyAge
	}
	for i := range jobs {
		entry.Deliveries[i] = &jobs[i].Placement
		if jobs[i].Run {
			jobs[i].turn = d.Background.expect(jobs[i].Lane)
		}
	}
	err := d.Journal.Begin(ctx, &entry)
	for i := range jobs {
		j := &jobs[i]
		if j.turn != nil && (err != nil || j.State != StateQueued || j.Ahead != StateRunning) {
			d.Background.forget(j.Lane, j.turn)
			j.turn = nil
		}
	}
	return err
}

// current are the outcomes of an event that came before, as they stand.
func (d *Dispatcher) current(dup *DuplicateError) []Outcome {
	outcomes := make([]Outcome, len(dup.Deliveries))
	for i, del := range dup.Deliveries {
		route := d.Router.find(del.Route)
		if route == nil {
			route = &Route{Name: del.Route, Transport: &Transport{Name: del.Route, Label: del.Route}}
		}
		o := &outcomes[i]
		*o = Outcome{DeliveryID: del.ID, Route: route, State: del.State, Code: del.Code, Attempts: del.Attempts}
		switch del.State {
		case StateQueued, StateRunning:
			o.Code = Accepted
		case StateWaiting:
			o.Outlook = OutlookRetry
		case StateUnknown:
			o.MaybeSent, o.Outlook = true, OutlookRetry
			if route.HoldUnknown {
				o.Outlook = OutlookHeld
			}
		case StateHeld:
			o.Outlook = OutlookHeld
		}
	}
	return outcomes
}

// all runs several jobs side by side, until they end or their caller's time does.
func (d *Dispatcher) all(ctx context.Context, jobs []job) []Outcome {
	outcomes := make([]Outcome, len(jobs))
	ended := make([]chan Outcome, len(jobs))
	for i := range jobs {
		j, c := &jobs[i], make(chan Outcome, 1)
		ended[i] = c
		d.jobs.Go(func() { c <- d.first(ctx, j) })
	}
	for i := range jobs {
		j := &jobs[i]
		if d.outlives(j.route) {
			select {
			case outcomes[i] = <-ended[i]:
				continue
			case <-ctx.Done():
				if j.spoken.CompareAndSwap(false, true) {
					outcomes[i] = j.accepted(StateRunning)
					continue
				}
			}
		}
		outcomes[i] = <-ended[i] // it ends with ctx
	}
	return outcomes
}

// outlives tells whether a delivery may go on after its caller's wait. Without a
// journal none may, whatever the route says: nobody would hear of its end.
func (d *Dispatcher) outlives(r *Route) bool { return r.AcceptOnTimeout && d.Journal != nil }

// accepted is the outcome of a delivery that is still to be made, or to end.
func (j *job) accepted(s State) Outcome {
	return Outcome{DeliveryID: j.ID, Route: j.route, State: s, Code: Accepted, Outlook: OutlookRetry, Duration: time.Since(j.start)}
}

// blocked is the outcome of a sync delivery that has to wait, for the reason that
// code tells.
func (j *job) blocked(code Code) Outcome {
	out := j.accepted(StateQueued)
	out.unmade = true
	if j.route.FailBlocked {
		out.Code = code
	}
	return out
}

// first is the delivery's time in the foreground: it ends, or is left to the
// background.
func (d *Dispatcher) first(ctx context.Context, j *job) Outcome {
	if j.State == StateRunning {
		return d.run(ctx, j, true)
	}
	switch {
	case j.Ahead == "":
		d.Background.wake(Promotion{Seq: j.Seq, Route: j.Route})
	case j.turn != nil && d.awaitTurn(ctx, j):
		return d.run(ctx, j, true)
	}
	out := j.blocked(cmp.Or(j.because, LaneBlocked))
	if d.Log.Enabled(ctx, slog.LevelDebug) || out.Failed() {
		d.log(ctx, j, &out)
	}
	return out
}

// awaitTurn waits until the delivery is the head of its lane, and takes it. It
// gives up when the head is stuck, ctx ends or the daemon stops.
func (d *Dispatcher) awaitTurn(ctx context.Context, j *job) bool {
	defer d.Background.forget(j.Lane, j.turn)
	var tick <-chan time.Time
	if !j.Here {
		t := time.NewTicker(elsewhere)
		defer t.Stop()
		tick = t.C
	}
	for {
		asked := false
		select {
		case <-j.turn.moved:
			switch j.turn.head.Load() {
			case j.Seq:
			case stuck:
				return false
			default:
				continue
			}
		case <-tick:
			asked = true
		case <-d.stopping().Done():
			return false
		case <-ctx.Done():
			return false
		}
		ok, err := d.Journal.Take(ctx, j.Delivery)
		if ok || err != nil || !asked {
			return ok
		}
	}
}

// run makes a running delivery and settles it. In the foreground it may try
// twice; a second try that is not made leaves the first one's outcome as it was.
func (d *Dispatcher) run(ctx context.Context, j *job, foreground bool) (out Outcome) {
	j.watch = d.observe(j, !foreground)
	defer func() {
		if p := recover(); p != nil {
			d.Log.Error("a part of Hookline panicked", "event", j.Event.ID, "route", j.Route, "stack", string(debug.Stack()))
			out = Outcome{State: StateUnknown, Code: Internal, MaybeSent: true, Receipt: out.Receipt}
		}
		out.DeliveryID, out.Route, out.Attempts, out.Duration = j.ID, j.route, j.Attempts, time.Since(j.start)
		d.settle(j, &out, foreground && j.spoken.CompareAndSwap(false, true))
		j.watch.Settled(out.State, out.Code)
		d.log(ctx, j, &out)
	}()

	out = d.deliver(ctx, j)
	if pause, ok := retryable(&out); ok && foreground && d.wait(ctx, pause) {
		if again := d.deliver(ctx, j); !again.unmade {
			out = again
		}
	}
	return out
}

// retryable tells whether an outcome is worth the one retry while the caller
// waits: the target surely did not act and may do so in a moment.
func retryable(o *Outcome) (pause time.Duration, ok bool) {
	if o.State != StateWaiting || o.Code == transport.Timeout || o.hopeless {
		return 0, false
	}
	pause = max(retryPause, o.Receipt.RetryAfter)
	return pause, pause <= retryWithin
}

// wait sleeps and tells whether there is still time for more.
func (d *Dispatcher) wait(ctx context.Context, pause time.Duration) bool {
	if deadline, ok := ctx.Deadline(); ok && time.Until(deadline) <= pause {
		return false
	}
	t := time.NewTimer(pause)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-d.stopping().Done():
		return false
	case <-ctx.Done():
		return false
	}
}

// settle decides by the route's policy what becomes of a delivery after its run,
// and has it written. told: a caller is being told of it.
func (d *Dispatcher) settle(j *job, out *Outcome, told bool) {
	r := j.route
	s := Settlement{Code: out.Code, Due: -1, Reason: cmp.Or(out.Reason, out.Because, out.Thrown), Position: out.Position, Attempts: j.tries}
	switch out.State {
	case StateQueued: // the gate let nothing through
		s.Due = time.Second
		if s.Code == Accepted {
			s.Code = ""
		}
	case StateWaiting, StateUnknown:
		unsure := out.State == StateUnknown
		pause, again := r.Retry.pause(max(j.Attempts, 1), time.Since(j.Begun), out.Receipt.RetryAfter)
		if j.Begun.IsZero() {
			again = true // its time has not begun
		}
		switch {
		case d.Journal == nil:
			if !out.MaybeSent {
				out.State = StateDead
			} else {
				out.State = StateUnknown
			}
		case unsure && r.HoldUnknown:
			out.Outlook = OutlookHeld
		case !again, told && r.StopOnFailure:
			out.State = StateDead
		default:
			out.Outlook, s.Due = OutlookRetry, pause
		}
	}
	if out.State.Open() && d.Background.gone(j.Route) {
		out.State, out.Outlook, s.Due, s.Reason = StateHeld, OutlookHeld, -1, "its route is not in the configuration"
	}
	if out.State == StateDead && r.HoldDead && d.Journal != nil {
		s.Blocks, out.Outlook = true, OutlookHeld
	}
	if d.Journal == nil {
		return
	}
	s.State = out.State
	stays := s.State.Open() || s.Blocks
	s.Calm = told && !d.Background.expected(j.Lane)
	s.Settled = func(p Promotion, err error) {
		switch {
		case err != nil:
			d.Log.Warn("a delivery's outcome came too late: it was declared unknown and is another run's now",
				"event", j.Event.ID, "delivery", j.ID, "route", j.Route, "outcome", string(s.State), "error", err)
			return
		case stays && s.Due >= 0:
			p = Promotion{Seq: j.Seq, Route: j.Route, Due: s.Due}
		}
		d.Background.moved(j.Lane, stays, p)
	}
	d.Journal.Settle(j.Delivery, s)
}

// log writes the one line that a run leaves behind: ids, never contents.
func (d *Dispatcher) log(ctx context.Context, j *job, out *Outcome) {
	level := slog.LevelInfo
	if out.Failed() {
		level = slog.LevelWarn
	}
	if !d.Log.Enabled(ctx, level) {
		return
	}
	ev := j.Event
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
		switch {
		case out.Because != "":
			attrs = append(attrs, slog.String("because", out.Because))
		case out.Clock != nil:
			attrs = append(attrs, slog.String("because", out.Clock.Error()))
		}
		if out.Receipt.Detail != "" && d.LogDetail[out.Route.Transport.Name] {
			attrs = append(attrs, slog.String("detail", out.Receipt.Detail))
		}
	}
	// Without the place in the code, which nobody asks for: looking it up costs more
	// than writing it would.
	line := slog.NewRecord(time.Now(), level, "delivery "+string(out.State), 0)
	line.AddAttrs(attrs...)
	_ = d.Log.Handler().Handle(ctx, line)
}
