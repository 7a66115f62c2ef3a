package transforms

import (
	"bytes"
	_ "embed"
	"encoding/json"
	"fmt"
	"maps"
	"mime"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/dop251/goja"
	"google.golang.org/protobuf/proto"

	"github.com/hookline/hookline/core"
	pb "github.com/hookline/hookline/transforms/transformpb"
)

// testModule is what a file of tests imports; no transform can.
const testModule = "hookline/test"

// isOwn tells whether a file of a bundle is ours, and no place for the user to look.
func isOwn(file string) bool { return file == entryFile || file == testModule }

//go:embed testing.js
var testSource string

// bench is the host's side of the module for tests: it puts a run of its own, with
// what the test gives, in the place of the run of the test.
type bench struct {
	sandbox *sandbox
	outer   *run
}

// object is what the module sees of it.
func (b *bench) object() (*goja.Object, error) {
	rt := b.sandbox.rt
	o := rt.NewObject()
	for name, f := range map[string]func(goja.FunctionCall) goja.Value{
		"begin": b.begin, "end": b.end, "leave": b.leave, "diff": b.diff,
	} {
		if err := o.Set(name, f); err != nil {
			return nil, err
		}
	}
	return o, nil
}

// testGiven is the third argument of run.
type testGiven struct {
	Ctx struct {
		Hook, Route, Study, Stage, Ref *string
		EventID                        *string `json:"eventId"`
		DeliveryID                     *string `json:"deliveryId"`
		Now                            *time.Time
	}
	Secrets  map[string]string
	TrialKit map[string]json.RawMessage
}

// begin takes an event and what is given beside it, as JSON, and gives the
// arguments of a transform.
func (b *bench) begin(c goja.FunctionCall) goja.Value {
	s := b.sandbox
	text := c.Argument(0)
	if !goja.IsString(text) {
		panic(s.rt.NewTypeError("run needs an event such as { trans_id: \"435\", form_id: \"319\", OnUpdate: true }"))
	}
	body := []byte(text.String())
	event, err := core.ParseEvent(body)
	if err != nil {
		panic(s.rt.NewTypeError("the event: %s", err.Error()))
	}
	var with testGiven
	d := json.NewDecoder(strings.NewReader(c.Argument(1).String()))
	d.DisallowUnknownFields()
	if err := d.Decode(&with); err != nil {
		panic(s.rt.NewTypeError("what run is given: %s; there may be ctx (hook, route, study, stage, eventId, deliveryId, ref, now), secrets and trialkit",
			strings.TrimPrefix(err.Error(), "json: ")))
	}
	answers := &pb.Answers{Trialkit: map[string][]byte{}} // a test never reaches a host
	for path, answer := range with.TrialKit {
		answers.Trialkit[path] = answer
	}
	b.outer = s.run
	req := proto.CloneOf(b.outer.req)
	req.Body, req.Kind = body, string(event.Kind)
	for to, from := range map[*string]*string{
		&req.Hook: with.Ctx.Hook, &req.Route: with.Ctx.Route, &req.Study: with.Ctx.Study, &req.Stage: with.Ctx.Stage,
		&req.EventId: with.Ctx.EventID, &req.DeliveryId: with.Ctx.DeliveryID, &req.Ref: with.Ctx.Ref,
	} {
		if from != nil {
			*to = *from
		}
	}
	if with.Ctx.Now != nil {
		req.ReceivedAt = with.Ctx.Now.UnixNano()
	}
	program := *b.outer.program
	program.given = &given{tables: program.given.tables, secrets: with.Secrets, answers: answers}
	inner := &run{job: b.outer.job, program: &program, sandbox: s, req: req, now: time.Unix(0, req.GetReceivedAt()).UTC()}
	first, err := s.decode(body, req.GetRefuseBigIntegers())
	if err != nil {
		panic(s.rt.NewTypeError("the event cannot be read: %s", err.Error()))
	}
	s.run = inner
	return b.build("event", first, "ctx", inner.context())
}

// end takes what the transform returned and gives what would come of it.
func (b *bench) end(c goja.FunctionCall) goja.Value {
	s, r := b.sandbox, b.sandbox.run
	var out pb.RunResponse
	err := r.answer(c.Argument(0), &out)
	if err == nil && len(r.unhandled) > 0 {
		err = r.thrown(r.unhandled[0].Result(), "a promise was rejected and not awaited: ")
	}
	if err != nil {
		f := r.failureOf(err)
		text := f.text
		if f.at != (place{}) {
			text += " (at " + f.at.String() + ")"
		}
		panic(s.rt.NewTypeError("%s", text))
	}
	messages := make([]any, 0, len(out.GetMessages()))
	for _, m := range out.GetMessages() {
		messages = append(messages, b.message(m))
	}
	logs := make([]any, 0, len(r.logs))
	for _, line := range r.logs {
		logs = append(logs, line)
	}
	values := []any{"messages", s.rt.NewArray(messages...), "logs", s.rt.NewArray(logs...)}
	if w := out.GetSkip(); w != nil {
		values = append(values, "skip", w.GetText())
	}
	if w := out.GetReject(); w != nil {
		values = append(values, "reject", w.GetText())
	}
	return b.build(values...)
}

func (b *bench) message(m *pb.Content) *goja.Object {
	contentType := m.GetContentType()
	if contentType == "" {
		contentType = "application/json"
	}
	var payload any = string(m.GetPayload())
	if !utf8.Valid(m.GetPayload()) {
		payload = b.sandbox.rt.NewArrayBuffer(bytes.Clone(m.GetPayload()))
	}
	headers := b.build()
	for _, name := range slices.Sorted(maps.Keys(m.GetHeaders())) {
		_ = headers.Set(name, m.GetHeaders()[name])
	}
	kind, _, _ := mime.ParseMediaType(contentType)
	isJSON := (kind == "application/json" || strings.HasSuffix(kind, "+json")) && json.Valid(m.GetPayload())
	return b.build("contentType", contentType, "headers", headers, "key", m.GetKey(), "path", m.GetPath(), "payload", payload, "json", isJSON)
}

// build makes an object of names and values, in their order.
func (b *bench) build(pairs ...any) *goja.Object {
	o := b.sandbox.rt.NewObject()
	for i := 0; i < len(pairs); i += 2 {
		if err := o.Set(fmt.Sprint(pairs[i]), pairs[i+1]); err != nil {
			panic(err)
		}
	}
	return o
}

// leave gives its place back to the run of the test.
func (b *bench) leave(goja.FunctionCall) goja.Value {
	if b.outer != nil {
		b.sandbox.run, b.outer = b.outer, nil
	}
	return goja.Undefined()
}

func (b *bench) diff(c goja.FunctionCall) goja.Value {
	return b.sandbox.rt.ToValue(Diff(c.Argument(0).String(), c.Argument(1).String()))
}

// ask has TrialKit's API answer, or what a script that is tried is given in its
// place. The error is that of [job.call].
func (r *run) ask(path string) ([]byte, error) {
	answers := r.program.given.answers
	if answers == nil {
		return r.job.call(methodTrialKit, []byte(path))
	}
	answer, ok := answers.GetTrialkit()[path]
	if !ok {
		return nil, &callError{"not_found", fmt.Sprintf("no answer is given for %q: write \"trialkit\": { %q: ... } beside the event", path, path)}
	}
	return answer, nil
}
