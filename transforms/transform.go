package transforms

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	"github.com/hookline/hookline/core"
	pb "github.com/hookline/hookline/transforms/transformpb"
)

const (
	// grace is how long after an event's budget the process may still answer.
	grace = 50 * time.Millisecond
	// queueWait is how long an event waits until its script begins, if the caller's
	// deadline is not earlier. It also bounds how long a frozen process goes unnoticed.
	queueWait = 2 * time.Second
	// maxReruns is how often an event that lost its process is run again: it may
	// be hit by the faults of others more than once.
	maxReruns = 8
	// maxBudget is the time of an event whose caller has no deadline.
	maxBudget = time.Minute
)

// Transform is a compiled script.
type Transform struct {
	engine *Engine
	script Script
	hash   string
	req    *pb.LoadRequest
	closed sync.Once

	inputs   []string
	warnings []Problem
}

var _ core.Transformer = (*Transform)(nil)

// Name is the script's name as it is configured: "transforms/ehr.js".
func (t *Transform) Name() string { return t.script.Name }

// Hash is the SHA-256 of Source, in hex.
func (t *Transform) Hash() string { return t.hash }

// Source is all that the script is made of, as it was compiled: the code that runs,
// with a source map that holds the text of all files. [SourceFiles] takes it apart.
func (t *Transform) Source() []byte { return t.req.GetSource() }

// Inputs are the paths of the files that the script was made of: when one of them
// changes, it may be another script.
func (t *Transform) Inputs() []string { return t.inputs }

// Warnings are what does not keep the script from running and is worth a look.
func (t *Transform) Warnings() []string {
	texts := make([]string, 0, len(t.warnings))
	for _, w := range t.warnings {
		texts = append(texts, w.in(t.script.Name))
	}
	return texts
}

// Close lets the process forget the script. Runs that have begun end on it; none
// may begin after it.
func (t *Transform) Close() { t.closed.Do(func() { t.engine.release(t.req) }) }

// Transform runs the script on an event: at most for its timeout, from when its
// turn comes, and not beyond ctx's deadline. ctx's cancellation is not passed on.
// The script finds record, if it is not nil, in event.record.
//
// If the process ends during the run, the script runs again on the next process; it
// gives the same bytes (invariant 9). If nobody knows whose fault that was, it runs
// alone, and then it is known. A run that the process had to be killed for is not
// repeated; a script that cost its process twice is in quarantine.
func (t *Transform) Transform(ctx context.Context, ev *core.Event, route *core.Route, deliveryID string, record []byte) (core.Shaped, error) {
	req := &pb.RunRequest{
		ScriptId: t.req.GetScriptId(),
		Body:     ev.Body, Record: record, Kind: string(ev.Kind),
		Hook: ev.Hook.Name, Study: ev.Hook.Study, Stage: string(ev.Hook.Stage), Route: route.Name,
		EventId: ev.ID, DeliveryId: deliveryID, Ref: ev.Ref, ReceivedAt: ev.ReceivedAt.UnixNano(),
	}
	req.Timeout = int64(t.script.Timeout)
	req.RefuseBigIntegers = t.script.RefuseBigIntegers
	w := where{route.Name, ev.ID, deliveryID}
	reloaded := false
	for attempt := 0; ; attempt++ {
		if err := t.quarantine(); err != nil {
			return core.Shaped{}, err
		}
		client, gone, err := t.engine.client(ctx)
		if err != nil {
			return core.Shaped{}, t.unavailable(ctx, err)
		}
		budget := maxBudget
		if deadline, ok := ctx.Deadline(); ok {
			budget = min(budget, time.Until(deadline))
		}
		if budget <= 0 {
			return core.Shaped{}, t.expired(ctx, route, "", "no time was left to run the script")
		}
		patience := queueWait + t.script.Timeout
		if req.GetAlone() {
			patience = budget // others that were lost with it may be before it
		}
		req.Budget, req.Patience = int64(budget), int64(min(budget, patience))
		out, alone, err := client.run(ctx, req)
		reason := out.GetFailure().GetReason()
		switch {
		case err == nil && reason == pb.Reason_REASON_MEMORY && !req.GetAlone():
			req.Alone = true // it may have been another's
		case err == nil && reason == pb.Reason_REASON_NOT_LOADED && !reloaded:
			// A process without the script cannot be; if it is, mend it.
			reloaded = true
			if err := t.engine.load(ctx, t.req); err != nil {
				return core.Shaped{}, failed("", err.Error())
			}
		case err == nil:
			if reason == pb.Reason_REASON_STUCK {
				t.kill(client, w, "it did not obey its deadline")
			}
			shaped, err := t.result(ctx, out, route, deliveryID)
			if script, ok := errors.AsType[*core.ScriptError](err); ok {
				script.Logs = out.GetLogs()
			}
			shaped.Logs = out.GetLogs()
			return shaped, err
		case status.Code(err) == codes.DeadlineExceeded:
			// The process as a whole hangs: nothing says that it is for this script.
			t.engine.options.Log.Warn("the script process does not answer, it is killed", w.attrs(t)...)
			client.condemned.Store(true)
			t.engine.process.Kill(client)
			return core.Shaped{}, blameless(t.expired(ctx, route, "", "the script process did not answer in time"))
		case lost(err) && alone && !client.condemned.Load(): // else it was killed for another
			t.struck(client, w, "its process ended while nothing else ran in it")
			return core.Shaped{}, failed("", "the script ended its process: it took more memory than the system gives, or built-in functions called each other without end")
		case lost(err) && attempt < maxReruns:
			t.engine.await(ctx, gone)
			req = proto.CloneOf(req) // the old stream may be just encoding the other
			if !client.condemned.Load() {
				req.Alone = true
			}
		case lost(err):
			return core.Shaped{}, blameless(failed("", "the script process ended each time while the script ran"))
		default:
			return core.Shaped{}, failed("", "the script process failed: "+err.Error())
		}
	}
}

// where is a run, in ids: the log gets nothing else.
type where struct{ route, event, delivery string }

func (w where) attrs(t *Transform) []any {
	return []any{"script", t.script.Name, "route", w.route, "event", w.event, "delivery", w.delivery}
}

// kill ends a process that a script keeps from obeying its deadline (invariant 4).
func (t *Transform) kill(client *running, w where, why string) {
	t.struck(client, w, why)
	t.engine.process.Kill(client)
}

// struck notes that the script has cost its process, once for each process.
func (t *Transform) struck(client *running, w where, why string) {
	if client.condemned.Swap(true) {
		return
	}
	log := t.engine.options.Log.With(w.attrs(t)...)
	log.Warn("a script has cost its process", "because", why)
	if t.engine.strike(t, why) {
		log.Error("the script is in quarantine: " + wayOut)
	}
}

// result turns the process's answer into the core's.
func (t *Transform) result(ctx context.Context, out *pb.RunResponse, route *core.Route, deliveryID string) (core.Shaped, error) {
	for _, line := range out.GetLogs() {
		t.show(deliveryID, line)
	}
	switch f := out.GetFailure(); {
	case f.GetReason() == pb.Reason_REASON_TIMEOUT, f.GetReason() == pb.Reason_REASON_STUCK,
		f.GetReason() == pb.Reason_REASON_QUEUED && isOver(ctx):
		return core.Shaped{}, t.expired(ctx, route, f.GetPosition(), f.GetText())
	case f.GetReason() == pb.Reason_REASON_QUEUED, f.GetReason() == pb.Reason_REASON_NOT_LOADED:
		return core.Shaped{}, blameless(failed("", f.GetText()))
	case f.GetReason() == pb.Reason_REASON_MEMORY:
		return core.Shaped{}, failed(f.GetPosition(), fmt.Sprintf("the script took more memory than it may: transforms.memory is %d MiB", t.engine.limit()>>20))
	case f != nil:
		err := failed(f.GetPosition(), f.GetText())
		t.show(deliveryID, err.Error())
		return core.Shaped{}, err
	case out.GetSkip() != nil:
		return core.Shaped{Skip: &out.GetSkip().Text}, nil
	case out.GetReject() != nil:
		return core.Shaped{Reject: &out.GetReject().Text}, nil
	case len(out.GetMessages()) == 0:
		return core.Shaped{}, failed("", "the script process gave no result")
	}
	shaped := core.Shaped{Messages: make([]core.Content, 0, len(out.GetMessages()))}
	for _, m := range out.GetMessages() {
		shaped.Messages = append(shaped.Messages, core.Content{
			ContentType: m.GetContentType(), Headers: m.GetHeaders(), Key: m.GetKey(), Path: m.GetPath(), Payload: m.GetPayload(),
		})
	}
	return shaped, nil
}

func (t *Transform) show(deliveryID, text string) {
	if t.engine.options.ShowOutput != nil {
		t.engine.options.ShowOutput(t.script.Name, deliveryID, text)
	}
}

// unavailable is the error when there was no process to run on.
func (t *Transform) unavailable(ctx context.Context, err error) error {
	script := failed("", err.Error())
	script.Blameless = true
	if ctx.Err() == nil {
		return script
	}
	var budget *core.Expired
	if errors.As(context.Cause(ctx), &budget) {
		return &timeoutError{script, budget}
	}
	return script
}

// blameless marks an error of a script that had no fair run: it is tried again.
func blameless(err error) error {
	if script, ok := errors.AsType[*core.ScriptError](err); ok {
		script.Blameless = true
	}
	return err
}

func failed(position, text string) *core.ScriptError {
	return &core.ScriptError{Code: core.TransformFailed, Position: position, Text: text}
}

// expired is the error when time has run out. It names the clock that did: the
// script's own, or the caller's if that one is over as well.
func (t *Transform) expired(ctx context.Context, route *core.Route, position, text string) error {
	err := &timeoutError{
		script: &core.ScriptError{Code: core.ScriptTimeout, Position: position, Text: text},
		clock:  &core.Expired{Setting: "routes." + route.Name + ".script_timeout", After: t.script.Timeout},
	}
	if isOver(ctx) {
		<-ctx.Done() // its timer may be a moment late
		errors.As(context.Cause(ctx), &err.clock)
	}
	return err
}

// isOver tells whether ctx's deadline has come.
func isOver(ctx context.Context) bool {
	deadline, ok := ctx.Deadline()
	return ok && time.Until(deadline) <= 0
}
