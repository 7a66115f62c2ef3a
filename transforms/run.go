package transforms

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync/atomic"
	"time"

	"github.com/dop251/goja"

	pb "github.com/hookline/hookline/transforms/transformpb"
)

// Limits of what one run may hand out, in bytes.
const (
	maxOutput = 1 << 20
	maxLogs   = 64 << 10
	maxText   = 8 << 10 // of what is thrown, or said with skip and reject
)

// run is one script on one event, in a sandbox of its own for the time.
type run struct {
	job     *job // nil while a script is loaded
	program *program
	sandbox *sandbox
	req     *pb.RunRequest
	now     time.Time
	date    goja.Value // ctx.now, made at its first use
	rand    *rand.Rand // made at its first use

	logs      []string
	logged    int
	words     []word
	messages  []message
	sized     int                   // bytes of the messages' payloads
	lookups   map[string]goja.Value // what ctx.lookup has given, by file
	unhandled []*goja.Promise       // rejected, and nobody has looked yet

	place      int         // in memory.runs; guarded by memory.mu
	overMemory bool        // interrupted for it; guarded by memory.mu
	cut        atomic.Bool // interrupted, for whatever
	inRegexp   atomic.Bool // in a match that backtracks, perhaps; it ends by itself
}

// interrupt ends the script at its next step.
func (r *run) interrupt(why error) {
	r.cut.Store(true)
	r.sandbox.rt.Interrupt(why)
}

type wordKind int

const (
	skipped wordKind = iota
	rejected
)

// word is what ctx.skip or ctx.reject made. It counts only if it is returned.
type word struct {
	kind   wordKind
	text   string
	object *goja.Object
	at     place
}

// failure is a run's end without a result.
type failure struct {
	at     place
	text   string
	reason pb.Reason
}

func (f *failure) Error() string { return f.text }

// errExpired is what a script is interrupted with.
var errExpired = errors.New("the script did not end in time")

// runScript runs a job's script on its event. It returns at the latest when its
// time is over, unless a built-in function keeps the script from being interrupted:
// then the job is answered all the same.
func runScript(j *job) *pb.RunResponse {
	out := &pb.RunResponse{}
	r := &run{job: j, program: j.program, req: j.req, now: time.Unix(0, j.req.GetReceivedAt()).UTC()}
	err := r.guarded(j.server.memory, j.limit(), func() error { return r.shape(out) })
	out.Logs = r.logs
	if err != nil {
		f := r.failureOf(err)
		out.Messages, out.Skip, out.Reject = nil, nil, nil
		// Cleaned before it is cut: a part of a secret would not be found.
		out.Failure = &pb.Failure{Position: f.at.String(), Text: clip(r.program.given.redact.String(f.text), maxText), Reason: f.reason}
	}
	return out
}

// evaluateOnce runs the script's top level, to see that it has what an event needs.
func evaluateOnce(p *program, m *memory, limit time.Duration) *failure {
	r := &run{program: p, req: &pb.RunRequest{}}
	err := r.guarded(m, limit, func() error {
		_, err := r.sandbox.evaluate()
		return err
	})
	if err == nil {
		return nil
	}
	return r.failureOf(err)
}

// guarded runs f in a sandbox, under the clock, the watch on the memory and a
// recover. Only a sandbox that is surely sound is used again.
func (r *run) guarded(m *memory, limit time.Duration, f func() error) (err error) {
	s, err := r.program.sandbox()
	if err != nil {
		return err
	}
	r.sandbox, s.run = s, r
	s.clock.start(r, limit)
	if r.job != nil {
		r.job.clock = &s.clock
	}
	m.enter(r)
	sound := false
	defer func() {
		// What has run may interrupt at any moment, even the next event.
		interrupted := m.exit(r)
		if inTime := s.clock.stop(); !inTime || interrupted || !sound || !r.program.keep(s) {
			s.clock.discard()
		}
	}()
	err, sound = recovered(f)
	if err != nil {
		// The texts are read while the clock still runs: they are the script's.
		var known *failure
		if !errors.As(err, &known) {
			known, sound = r.describe(err, sound)
		}
		err = known
	}
	return err
}

// call asks the host for something, while others have the processors. The error is a
// *callError; or errCallOver, if the script has no time left and is interrupted.
func (r *run) call(method string, argument []byte) ([]byte, error) {
	if r.job == nil {
		return nil, &callError{"unavailable", "while the script is loaded nobody can be asked: call it in the function that is exported"}
	}
	return r.job.call(method, argument)
}

// expired ends the script when its time is over.
func (r *run) expired() { r.interrupt(errExpired) }

// stuck answers for a script that does not end. The host kills the process for it.
func (r *run) stuck() {
	switch {
	case r.job == nil:
	case r.inRegexp.Load():
		r.job.answer(failedFor(pb.Reason_REASON_TIMEOUT, "the script did not end in time: it was in a regular expression"))
	default:
		r.job.answer(failedFor(pb.Reason_REASON_STUCK, "the script did not end in time and could not be interrupted"))
	}
}

// recovered calls f. It is sound if f did not panic and was not cut off.
func recovered(f func() error) (err error, sound bool) {
	defer func() {
		switch p := recover().(type) {
		case nil:
		case error:
			err, sound = fmt.Errorf("the script engine failed: %w", p), false
		default:
			err, sound = errors.New("the script engine failed"), false
		}
	}()
	if err = f(); err == nil {
		return nil, true
	}
	var interrupted *goja.InterruptedError
	var overflow *goja.StackOverflowError
	return err, !errors.As(err, &interrupted) && !errors.As(err, &overflow)
}

// shape is the way of an event through the script.
func (r *run) shape(out *pb.RunResponse) error {
	script, err := r.sandbox.evaluate()
	if err != nil {
		return err
	}
	event, err := r.sandbox.decode(r.req.GetBody(), r.req.GetRefuseBigIntegers())
	if err != nil {
		return &failure{text: "the event cannot be read: " + err.Error()}
	}
	if text := r.req.GetRecord(); len(text) > 0 {
		record, err := r.sandbox.decode(text, r.req.GetRefuseBigIntegers())
		if err != nil {
			return &failure{text: "event.record cannot be read: " + err.Error()}
		}
		if err := event.ToObject(r.sandbox.rt).DefineDataProperty("record", record, goja.FLAG_TRUE, goja.FLAG_TRUE, goja.FLAG_TRUE); err != nil {
			return err
		}
	}
	result, err := script(goja.Undefined(), event, r.context())
	if err != nil {
		return err
	}
	if p := promiseOf(result); p != nil {
		if result, err = r.settled(p); err != nil {
			return err
		}
	}
	if len(r.unhandled) > 0 {
		return r.thrown(r.unhandled[0].Result(), "a promise was rejected and not awaited: ")
	}
	return r.answer(result, out)
}

// context is the script's second argument. It is empty: what it has is inherited,
// and made only if a script asks for it.
func (r *run) context() goja.Value { return r.sandbox.rt.CreateObject(r.sandbox.words) }

// fields are what ctx tells of the event.
var fields = []struct {
	name string
	get  func(r *run) goja.Value
}{
	{"kind", text((*pb.RunRequest).GetKind)},
	{"hook", text((*pb.RunRequest).GetHook)},
	{"study", text((*pb.RunRequest).GetStudy)},
	{"stage", text((*pb.RunRequest).GetStage)},
	{"route", text((*pb.RunRequest).GetRoute)},
	{"eventId", text((*pb.RunRequest).GetEventId)},
	{"deliveryId", text((*pb.RunRequest).GetDeliveryId)},
	{"ref", text((*pb.RunRequest).GetRef)},
	{"now", (*run).receivedAt},
}

func text(of func(*pb.RunRequest) string) func(*run) goja.Value {
	return func(r *run) goja.Value { return r.sandbox.rt.ToValue(of(r.req)) }
}

// receivedAt is a Date, the same one however often it is asked for.
func (r *run) receivedAt() goja.Value {
	if r.date == nil {
		r.date = r.sandbox.newDate(r.now)
	}
	return r.date
}

// settled is what a returned promise came to. All jobs have run by now.
func (r *run) settled(p *goja.Promise) (goja.Value, error) {
	switch p.State() {
	case goja.PromiseStateFulfilled:
		return p.Result(), nil
	case goja.PromiseStateRejected:
		return nil, r.thrown(p.Result(), "")
	default:
		return nil, &failure{text: "the promise that the script returned never settles: there is nothing to wait for (no timers, no fetch)"}
	}
}

// answer puts what the script returned into out.
func (r *run) answer(result goja.Value, out *pb.RunResponse) error {
	for i := range r.words {
		if w := &r.words[i]; result.SameAs(w.object) {
			if w.kind == skipped {
				out.Skip = &pb.Word{Text: w.text}
			} else {
				out.Reject = &pb.Word{Text: w.text}
			}
			return nil
		}
	}
	messages, err := r.returned(result)
	if err != nil {
		return err
	}
	if len(r.words) > 0 {
		name := [...]string{skipped: "skip", rejected: "reject"}[r.words[0].kind]
		return &failure{at: r.words[0].at, text: "the result of ctx." + name + " was not returned: write `return ctx." + name + "(...)`"}
	}
	if messages != nil {
		out.Messages = messages
		return nil
	}
	one := &struct {
		content  pb.Content
		messages [1]*pb.Content
	}{}
	if err := r.content(result, &one.content); err != nil {
		return err
	}
	one.messages[0] = &one.content
	out.Messages = one.messages[:]
	return nil
}

// content writes a result into c.
func (r *run) content(result goja.Value, c *pb.Content) (err error) {
	switch {
	case result == nil || goja.IsUndefined(result):
		return notPayload("nothing")
	case goja.IsNull(result):
		return notPayload("null")
	case goja.IsString(result):
		c.ContentType = "text/plain; charset=utf-8"
		c.Payload, err = plainText(result.(goja.String), maxOutput)
		return err
	}
	var ok bool
	if c.Payload, ok, err = r.sandbox.json(result, maxOutput); err == nil && !ok {
		return notPayload("something that has no JSON form")
	}
	return err
}

func notPayload(what string) error {
	return &failure{text: "the script returned " + what + ": return an object or a string, ctx.skip(why) or ctx.reject(text)"}
}

// log is ctx.log and console.log.
func (r *run) log(call goja.FunctionCall) goja.Value {
	if r.logged >= maxLogs {
		return goja.Undefined()
	}
	parts := make([]string, 0, len(call.Arguments))
	for _, a := range call.Arguments {
		v, err := r.sandbox.show(goja.Undefined(), a)
		if err != nil {
			panic(err) // an interrupt: it must end the script
		}
		parts = append(parts, strings.TrimSuffix(v.String(), "\n")) // of Error.stack
	}
	line := r.program.given.redact.String(r.program.relocate(strings.Join(parts, " ")))
	if r.logged += len(line) + 1; r.logged >= maxLogs {
		line = clip(line, len(line)-(r.logged-maxLogs-1)) + " (no more is kept)"
	}
	r.logs = append(r.logs, line)
	return goja.Undefined()
}

// say is ctx.skip and ctx.reject.
func (r *run) say(kind wordKind, call goja.FunctionCall) goja.Value {
	w := word{kind: kind, object: r.sandbox.rt.NewObject()}
	if a := call.Argument(0); goja.IsString(a) {
		w.text = clip(r.program.given.redact.String(a.String()), maxText)
	} else if kind == rejected {
		panic(r.sandbox.rt.NewTypeError("ctx.reject needs a text for the user"))
	} else if !goja.IsUndefined(a) {
		panic(r.sandbox.rt.NewTypeError("ctx.skip takes a text"))
	}
	w.at = r.program.position(r.sandbox.rt.CaptureCallStack(0, nil))
	r.words = append(r.words, w)
	return w.object
}

func (r *run) random() float64 { return r.source().Float64() }

func (r *run) source() *rand.Rand {
	if r.rand == nil {
		r.rand = seeded(r.req.GetDeliveryId())
	}
	return r.rand
}

// rejection keeps account of rejected promises that nobody handles: an error
// that got lost would be a silent drop.
func (r *run) rejection(p *goja.Promise, op goja.PromiseRejectionOperation) {
	if op == goja.PromiseRejectionReject {
		r.unhandled = append(r.unhandled, p)
		return
	}
	for i, other := range r.unhandled {
		if other == p {
			r.unhandled = append(r.unhandled[:i], r.unhandled[i+1:]...)
			return
		}
	}
}

// thrown is the failure that a thrown value means.
func (r *run) thrown(v goja.Value, prefix string) *failure {
	f := &failure{text: prefix + "undefined"}
	if v == nil {
		return f
	}
	text, err := r.sandbox.text(goja.Undefined(), v)
	if err != nil { // cut off: the helper itself catches everything
		f, _ = r.describe(err, false)
		return f
	}
	f.text = prefix + r.program.relocate(text.String())
	if o, ok := v.(*goja.Object); ok && o.ClassName() == "Error" {
		if stack, err := r.sandbox.show(goja.Undefined(), v); err == nil {
			f.at = r.program.positionIn(stack.String())
		}
	}
	return f
}

// describe finds words and a position for an error. sound says whether the
// runtime may still be used.
func (r *run) describe(err error, sound bool) (*failure, bool) {
	var interrupted *goja.InterruptedError
	var overflow *goja.StackOverflowError
	var thrown *goja.Exception
	switch {
	case errors.As(err, &interrupted):
		return r.cutOff(interrupted), false
	case errors.As(err, &overflow):
		return &failure{at: r.program.position(overflow.Stack()), text: fmt.Sprintf("RangeError: functions call each other deeper than %d levels", maxCalls)}, false
	case errors.As(err, &thrown):
		var f *failure
		failed, still := recovered(func() error { f = r.thrown(thrown.Value(), ""); return nil })
		if failed != nil {
			return &failure{at: r.program.position(thrown.Stack()), text: "[a value that cannot be shown]"}, false
		}
		if at := r.program.position(thrown.Stack()); at != (place{}) {
			f.at = at
		}
		return f, sound && still
	default:
		return &failure{text: err.Error()}, sound
	}
}

// cutOff is the failure of a script that was interrupted.
func (r *run) cutOff(by *goja.InterruptedError) *failure {
	f := &failure{at: r.program.position(by.Stack()), text: errExpired.Error(), reason: pb.Reason_REASON_TIMEOUT}
	if errors.Is(by, errMemory) {
		f.text, f.reason = errMemory.Error(), pb.Reason_REASON_MEMORY
	}
	return f
}

func (r *run) failureOf(err error) *failure {
	var f *failure
	if errors.As(err, &f) {
		return f
	}
	return &failure{text: err.Error()}
}

// clip caps s at limit bytes.
func clip(s string, limit int) string {
	if len(s) <= limit {
		return strings.ToValidUTF8(s, "?")
	}
	return strings.ToValidUTF8(s[:max(0, limit)], "") + "…"
}
