package workbench

import (
	"context"
	"encoding/json"
	"errors"
	"time"

	"github.com/hookline/hookline/core"
	"github.com/hookline/hookline/transforms"
)

// Tests runs the tests of a file: each in a fresh scope, one after the other. An
// error is about the bench, not about the tests.
func (b *Bench) Tests(ctx context.Context, s Script) ([]Result, error) {
	script := s.script()
	script.Tests = true
	t, err := b.engine.Compile(ctx, script)
	if err != nil {
		return refused(s.Name, err)
	}
	defer t.Close()
	var list struct {
		Tests []string `json:"tests"`
	}
	r, err := b.ask(ctx, t, map[string]any{"list": true}, &list)
	r.File = s.Name
	switch {
	case err != nil || r.Failed():
		return []Result{r}, err
	case len(list.Tests) == 0:
		r.Failure = `it has no tests: write test("what it shows", async () => { ... }), imported from "hookline/test"`
		return []Result{r}, nil
	}
	results := make([]Result, 0, len(list.Tests))
	for i, name := range list.Tests {
		if ctx.Err() != nil {
			return results, context.Cause(ctx)
		}
		r, err := b.ask(ctx, t, map[string]any{"run": i}, nil)
		if err != nil {
			return results, err
		}
		r.File, r.Name = s.Name, name
		results = append(results, r)
	}
	return results, nil
}

// ask runs the program of a file of tests; what it is asked goes in the place of an
// event.
func (b *Bench) ask(ctx context.Context, t *transforms.Transform, request map[string]any, answer any) (Result, error) {
	body, err := json.Marshal(request)
	if err != nil {
		return Result{}, err
	}
	ev := &core.Event{
		ID: StandIn.EventID, Ref: StandIn.Ref, ReceivedAt: StandIn.Now, Kind: core.Update, Body: body,
		Hook: &core.Hook{Name: StandIn.Hook, Study: StandIn.Study, Stage: StandIn.Stage},
	}
	b.logged()
	begin := time.Now()
	shaped, err := t.Transform(ctx, ev, &core.Route{Name: StandIn.Route}, StandIn.DeliveryID, nil)
	r := Result{Took: time.Since(begin), Logs: b.logged()}
	outcome, err := outcomeOf(shaped, err)
	if err != nil {
		return r, err
	}
	r.Logs = withoutThrown(r.Logs, outcome.Error)
	switch {
	case outcome.Error != nil:
		r.Failure, r.Position = outcome.Error.Text, outcome.Error.Position
	case len(outcome.Messages) != 1:
		return r, errors.New("the tests gave no answer")
	case answer != nil:
		return r, json.Unmarshal(outcome.Messages[0].Payload, answer)
	}
	return r, nil
}
