package ingest

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"runtime"
	"runtime/debug"
	"strings"
	"time"

	"github.com/hookline/hookline/core"
	"github.com/hookline/hookline/core/credential"
	"github.com/hookline/hookline/core/http1"
)

// call is one request on its way to its answer.
type call struct {
	s     *Server
	w     *http1.Response
	r     *http.Request
	start time.Time // when the headers had arrived: the event's receive time

	hook       *door       // nil until it is known
	name       string      // of the hook, fit for a log, or ""
	ev         *core.Event // nil until there is one; a refused body gets one for its id and ref
	reading    bool        // the body has been asked for
	dispatched bool        // something may have been sent
	kept       Dispatcher  // that has the refused body, or nil
	answered   bool        // the answer is made
	caller     *watch      // nil before the event is dispatched

	traced func(status int, code core.Code) // told of the answer; nil without a trace
}

// handle is the one way in, so that no panic drops a connection.
func (s *Server) handle(w *http1.Response, r *http.Request) {
	c := call{s: s, w: w, r: r, start: time.Now()}
	defer func() {
		if p := recover(); p != nil {
			c.broken(p)
		}
	}()
	if name, ok := hookName(r.URL.Path); ok {
		if f := c.serve(name); f != nil {
			c.refuse(f)
		}
		return
	}
	switch r.URL.Path {
	case "/healthz":
		c.health(http.StatusOK, "ok", "")
	case "/readyz":
		if err := s.ready(); err != nil {
			c.health(http.StatusServiceUnavailable, "not ready", err.Error())
			return
		}
		note := ""
		if s.opts.Note != nil {
			note = s.opts.Note()
		}
		c.health(http.StatusOK, "ready", note)
	default:
		f := unknownHook()
		f.quiet = true // scanners ask for much
		c.refuse(f)
	}
}

// serve takes an event in, or says why not. What the headers decide is decided
// before the body is read: a caller that sent Expect: 100-continue keeps it.
func (c *call) serve(name string) *refusal {
	s, r := c.s, c.r
	if plausibleName(name) {
		c.name = name
	}
	if r.Method != http.MethodPost && r.Method != http.MethodPut {
		c.w.Set("Allow", "POST, PUT")
		return &refusal{
			code: core.MethodNotAllowed, why: "it was sent in a way that Hookline does not take",
			hint: "call hooks with POST or PUT",
		}
	}
	set := s.enter()
	if set == nil {
		return overloaded("Hookline is starting", "no configuration is loaded yet: /readyz says when it is")
	}
	defer set.flight.leave()
	if c.hook = set.hooks[name]; c.hook == nil {
		// The same for every name and every credential: the answer names no hook
		// that there is.
		return unknownHook()
	}
	if f := c.authenticate(); f != nil {
		return f
	}
	s.profile(c.hook.caller, name, r)
	if r.ContentLength > s.opts.MaxBody {
		return s.tooLarge()
	}
	if f := media(r.Header); f != nil {
		return f
	}

	key, f := callersKey(r.Header)
	if f != nil {
		return f
	}
	// The body counts as in flight too: it is memory. A stranger does not get here.
	leave, queue, f := s.room(c.hook.Hook.Hook, set.dispatch)
	if f != nil {
		return f
	}
	defer leave()
	c.reading = true
	body, f := s.readBody(c.w, r)
	if f != nil {
		return f
	}
	ev, err := core.ParseEvent(body)
	if err != nil {
		return c.keep(set.dispatch, body, invalid(err))
	}
	ev.TraceParent = traceParent(r.Header)
	given := ev.TraceParent != ""
	ev.Stamp(c.hook.Hook.Hook, c.start)
	c.ev = ev
	if s.opts.Calls != nil {
		c.traced = s.opts.Calls.Came(ev, given, strings.Join(r.Header["Tracestate"], ","))
	}
	return c.dispatch(set.dispatch, core.Arrival{Event: ev, Key: key, Queue: queue})
}

// room makes room for one more event. Without any it is only to be queued; where
// nothing can be, it is refused. What comes while draining has a place of its own.
func (s *Server) room(hook *core.Hook, d Dispatcher) (leave func(), queue bool, _ *refusal) {
	if s.draining.Load() {
		if !d.Keeps() || !s.late.enter(int64(s.opts.MaxInFlight)) {
			return nil, false, draining()
		}
		return s.late.leave, true, nil
	}
	if s.flight.enter(int64(s.opts.MaxInFlight)) {
		return s.flight.leave, false, nil
	}
	full := overloaded("Hookline has too much to do at the moment",
		fmt.Sprintf("server.max_in_flight is %d", s.opts.MaxInFlight))
	if !d.Keeps() {
		return nil, false, full
	}
	// Queueing takes milliseconds, so a place is soon free.
	wait := time.NewTimer(hook.Timeout)
	defer wait.Stop()
	select {
	case s.overflow <- struct{}{}:
	case <-s.ending:
		return s.room(hook, d)
	case <-wait.C:
		return nil, false, full
	}
	if !s.flight.enter(unlimited) {
		<-s.overflow
		return s.room(hook, d) // draining has begun
	}
	return func() { s.flight.leave(); <-s.overflow }, true, nil
}

// keep journals a body that is refused, with what is wrong with it.
func (c *call) keep(d Dispatcher, body []byte, f *refusal) *refusal {
	c.stamp()
	c.ev.Body = body
	d.Refused(c.ev, f.code, f.key, f.why)
	c.kept = d
	return f
}

// authenticate lets the caller in, or says what is wrong with it.
func (c *call) authenticate() *refusal {
	if c.hook.open() {
		return nil
	}
	const look = "; it sends those of " + lookInTrialKit
	hint := func() string {
		return fmt.Sprintf("the email and password in TrialKit, %s, must be hooks.%s.email and hooks.%s.password",
			lookInTrialKit, c.name, c.name)
	}
	values := c.r.Header["Authorization"]
	if len(values) == 0 {
		// Not an attack: .NET asks first which kind of credentials is wanted.
		c.hook.caller.challenge(c.s.remote(c.r))
		return &refusal{
			code: core.Unauthorized, why: "TrialKit sent no email and password" + look,
			hint: hint(), quiet: true,
		}
	}
	email, password, ok := "", "", len(values) == 1
	if ok {
		email, password, ok = credential.ParseBasic(values[0])
	}
	if !ok {
		c.s.saw(c.name, Denied, "")
		return &refusal{
			code: core.Unauthorized, why: "Hookline cannot read the email and password that TrialKit sent" + look,
			hint: "send one Authorization header of the scheme Basic. " + hint(),
		}
	}
	switch c.s.check(context.Background(), c.hook, email, password) {
	case credential.Right:
		return nil
	case credential.Busy:
		return &refusal{
			code: core.Throttled, why: "too many passwords are being checked at the moment",
			hint: fmt.Sprintf("a check of the bcrypt hash in hooks.%s.password did not get its turn within %s; the log says who sends wrong passwords", c.name, c.s.checker.Wait),
		}
	default:
		c.s.saw(c.name, Denied, "")
		return &refusal{
			code: core.Unauthorized, why: "Hookline does not know the email and password that TrialKit sent" + look,
			hint: hint(),
		}
	}
}

// dispatch has the event delivered and gives the answer.
func (c *call) dispatch(d Dispatcher, a core.Arrival) *refusal {
	ev := c.ev
	c.caller = c.s.watches.begin(c.w.Gone, c.start)
	c.dispatched = true
	result, err := d.Dispatch(a)
	if err != nil {
		c.dispatched = false
		c.s.watches.end(c.caller)
		if errors.Is(err, core.ErrKeyConflict) {
			return c.keep(d, ev.Body, keyConflict())
		}
		return journalUnavailable(err)
	}
	c.s.saw(ev.Hook.Name, Came, ev.Ref)
	answer := core.Compose(ev, result.Outcomes)
	record := core.AnswerRecord{Status: answer.Status, Code: answer.Code, Detail: answer.Detail}
	if c.s.draining.Load() {
		c.w.Close()
	}
	if target := relayed(ev.Hook, result.Outcomes, &answer); target != nil {
		record.Status, record.Detail = target.TargetStatus, ""
		c.relay(target)
	} else {
		c.answer(&answer)
	}
	c.told(record.Status, answer.Code)
	c.log(&answer)
	if waited, ok := c.s.watches.end(c.caller); ok && !c.s.cut.Load() {
		record.Gone = waited
		c.s.saw(ev.Hook.Name, Gone, ev.Ref)
		c.logGone(waited, &answer)
	}
	if !result.Duplicate { // the first call's answer stays on record
		d.Answered(ev, record)
	}
	return nil
}

// log writes what no delivery has written: that there was none.
func (c *call) log(a *core.Answer) {
	if a.Code != core.Ignored && a.Code != core.Unmatched {
		return
	}
	level, msg := slog.LevelInfo, "event ignored"
	if a.Failed() {
		level, msg = slog.LevelWarn, "event refused"
	}
	ev := c.ev
	c.s.log.LogAttrs(context.Background(), level, msg, slog.String("code", string(a.Code)),
		slog.String("event", ev.ID), slog.String("ref", ev.Ref), slog.String("hook", ev.Hook.Name),
		slog.String("kind", string(ev.Kind)), slog.String("form", ev.FormID), slog.String("record", ev.TransID))
}

func (c *call) logGone(waited time.Duration, a *core.Answer) {
	budget, side := c.ev.Hook.Timeout, "before"
	if waited >= budget {
		side = "after"
	}
	c.s.log.LogAttrs(context.Background(), slog.LevelWarn,
		fmt.Sprintf("caller hung up after %s, %s the budget of %s", waited.Round(time.Millisecond), side, budget),
		slog.String("event", c.ev.ID), slog.String("ref", c.ev.Ref), slog.String("hook", c.ev.Hook.Name),
		slog.Duration("waited", waited), slog.Duration("budget", budget), slog.String("code", string(a.Code)),
		slog.String("setting", "hooks."+c.ev.Hook.Name+".timeout"))
}

// refuse answers a request that is not taken, and logs why.
func (c *call) refuse(f *refusal) {
	c.stamp()
	if c.r.ContentLength != 0 && (!c.reading || f.code == core.TooLarge) {
		// The server reads what is left of the body before it answers, to keep the
		// connection. That must not take long.
		c.w.ReadWithin(min(restTimeout, c.s.opts.BodyTimeout))
	}
	switch f.code {
	case core.Unauthorized:
		c.w.Set("WWW-Authenticate", challenge)
	case core.Throttled, core.Overloaded, core.JournalUnavailable:
		c.w.Set("Retry-After", retryAfter)
	case core.Draining:
		c.w.Set("Retry-After", retryAfter)
		c.w.Close()
	}
	answer := core.Refuse(f.code, f.why, f.hint, c.ev.ID, c.ev.Ref, f.unsure)
	c.answer(&answer)
	c.told(answer.Status, answer.Code)
	if c.kept != nil {
		c.kept.Answered(c.ev, core.AnswerRecord{Status: answer.Status, Code: answer.Code, Detail: answer.Detail})
	}

	level := slog.LevelWarn
	if f.quiet {
		level = slog.LevelDebug
	}
	if !c.s.log.Enabled(context.Background(), level) {
		return
	}
	attrs := []slog.Attr{
		slog.String("code", string(f.code)), slog.String("event", c.ev.ID), slog.String("ref", c.ev.Ref),
		slog.String("hook", c.name), slog.String("remote", c.s.remote(c.r)), slog.String("why", f.why),
	}
	if f.key != "" {
		attrs = append(attrs, slog.String("key", f.key))
	}
	if f.err != nil {
		attrs = append(attrs, slog.Any("error", f.err))
	}
	c.s.log.LogAttrs(context.Background(), level, "request refused", attrs...)
}

// told has the answer counted.
func (c *call) told(status int, code core.Code) {
	if c.traced != nil {
		c.traced(status, code)
		c.traced = nil
	}
	if c.s.opts.Calls == nil {
		return
	}
	hook, kind := "", core.Kind("")
	if c.hook != nil { // not what the caller wrote: that may be anything
		hook = c.hook.Name
	}
	if c.ev != nil {
		kind = c.ev.Kind
	}
	c.s.opts.Calls.Answered(hook, kind, code, time.Since(c.start))
}

// stamp gives a request that is no event an id and a ref, so that what the user
// reads can be found in the log.
func (c *call) stamp() {
	if c.ev == nil {
		c.ev = &core.Event{TraceParent: traceParent(c.r.Header)}
		var hook *core.Hook
		if c.hook != nil {
			hook = c.hook.Hook.Hook
		}
		c.ev.Stamp(hook, c.start)
	}
}

// broken answers after a panic.
func (c *call) broken(p any) {
	if c.caller != nil {
		c.s.watches.end(c.caller)
	}
	c.stamp()
	// The value of a panic may quote a record; the runtime's own do not.
	what := fmt.Sprintf("%T", p)
	if err, ok := p.(runtime.Error); ok {
		what = err.Error()
	}
	c.s.log.LogAttrs(context.Background(), slog.LevelError, "a part of Hookline panicked",
		slog.String("event", c.ev.ID), slog.String("ref", c.ev.Ref), slog.String("hook", c.name),
		slog.String("panic", what), slog.String("stack", string(debug.Stack())))
	defer func() { c.told(http.StatusInternalServerError, core.Internal) }()
	if c.answered {
		return
	}
	c.w.Reset()
	const hint = "this is a defect of Hookline: its log has the stack trace"
	if !c.dispatched {
		a := core.Refuse(core.Internal, "Hookline itself failed", hint, c.ev.ID, c.ev.Ref, false)
		c.answer(&a)
		return
	}
	// Something may have been sent, so "it was not passed on" might be untrue.
	unknown := core.Outcome{
		Route: &core.Route{Transport: &core.Transport{Label: "Hookline"}},
		State: core.StateUnknown, Code: core.Internal, MaybeSent: true,
	}
	a := core.Compose(c.ev, []core.Outcome{unknown})
	a.Deliveries = []core.DeliveryReport{}
	c.answer(&a)
}

var errDraining = errors.New("draining: Hookline is ending")

func (s *Server) ready() error {
	switch {
	case s.draining.Load():
		return errDraining
	case s.current.Load() == nil:
		return errors.New("starting: no configuration is loaded yet")
	case s.opts.Ready != nil:
		return s.opts.Ready()
	}
	return nil
}

func unknownHook() *refusal {
	return &refusal{
		code: core.UnknownHook, why: "Hookline does not know the address that it was sent to",
		hint: "check the URL in TrialKit under " + lookInTrialKit + ": its path is /hooks/<name>, with the name of a hook in Hookline's config",
	}
}

func draining() *refusal {
	return &refusal{
		code: core.Draining, why: "Hookline is being stopped or restarted",
		hint: "Hookline ends the events it has and takes no new ones",
	}
}

func keyConflict() *refusal {
	return &refusal{
		code: core.KeyConflict, why: "it came with the id of another entry",
		hint: "webhook-id or Idempotency-Key was used before on this hook with another body: give each event its own id",
	}
}

func journalUnavailable(err error) *refusal {
	if errors.Is(err, core.ErrUnsure) {
		return &refusal{
			code: core.JournalUnavailable, why: "Hookline lost its journal's database while it wrote the entry there", unsure: true,
			hint: "whether it is in the journal will be known when the database is back: Hookline's log says more", err: err,
		}
	}
	return &refusal{
		code: core.JournalUnavailable, why: "Hookline cannot write its journal at the moment",
		hint: "nothing was sent: the journal cannot be written, and Hookline's log says why", err: err,
	}
}

func overloaded(why, hint string) *refusal {
	return &refusal{code: core.Overloaded, why: why, hint: hint}
}
