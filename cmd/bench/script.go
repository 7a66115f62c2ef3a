package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"runtime/debug"
	"strings"
	"time"

	"github.com/dop251/goja"

	"github.com/hookline/hookline/core"
	"github.com/hookline/hookline/transforms"
	pb "github.com/hookline/hookline/transforms/transformpb"
)

// The ways to run a script without the daemon.
const (
	scriptNewRuntime = "script-new-runtime" // a runtime for each event, and JSON.parse and JSON.stringify in it
	scriptInProcess  = "script-in-process"  // Hookline's engine, in the caller's process
	scriptChild      = "script-child"       // Hookline's engine, in the script process
)

// scriptSpec is a script to be called.
type scriptSpec struct {
	Way     string   `json:"way"`
	Path    string   `json:"path"`
	Command []string `json:"command,omitempty"` // of the script process
}

// Names and ids that a script sees: those that the daemon would give it.
const (
	benchHook, benchStudy, benchStage = "bench", "ABC-123", "uat"
	benchEvent, benchDelivery         = "0190b4f4-0000-7000-8000-0000000000ee", "0190b4f4-0000-7000-8000-000000000001"
	benchRef                          = "K7QF2M9X"
)

// shaper calls a script.
type shaper struct {
	body  []byte
	shape func(body []byte) ([]byte, error)
}

func (s *shaper) call(id uint64) error {
	sent.put(s.body, id)
	out, err := s.shape(s.body)
	if err != nil {
		return err
	}
	if got, ok := renamed.match(out); !ok || got != id {
		return fmt.Errorf("the script made %.300q of event %d", out, id)
	}
	return nil
}

func (s *shaper) close() {}

// openScript prepares a script for so many callers at a time. pid is of the script
// process, 0 if there is none.
func openScript(spec *scriptSpec, callers int) (shape func(body []byte) ([]byte, error), pid func() int, stop func(), err error) {
	pid, stop = func() int { return 0 }, func() {}
	script := transforms.Script{Name: "rename.js", Path: spec.Path, Timeout: callTimeout}
	switch spec.Way {
	case scriptNewRuntime:
		shape, err = newRuntimes(spec.Path)
	case scriptInProcess:
		shape, stop, err = inProcess(script, callers)
	default:
		shape, pid, stop, err = inChild(spec, script)
	}
	if err != nil {
		return nil, nil, nil, err
	}
	percent := debug.SetGCPercent(400) // as hookline serve and its children
	end := stop
	return shape, pid, func() { end(); debug.SetGCPercent(percent) }, nil
}

func inProcess(script transforms.Script, callers int) (shape func([]byte) ([]byte, error), stop func(), err error) {
	local, err := transforms.NewLocal(script, callers)
	if err != nil {
		return nil, nil, err
	}
	return func(body []byte) ([]byte, error) {
		out := local.Run(&pb.RunRequest{
			Body: body, Kind: string(core.Insert), Hook: benchHook, Study: benchStudy, Stage: benchStage, Route: benchHook,
			EventId: benchEvent, DeliveryId: benchDelivery, Ref: benchRef, ReceivedAt: time.Now().UnixNano(),
		})
		if f := out.GetFailure(); f != nil || len(out.GetMessages()) != 1 {
			return nil, fmt.Errorf("the script failed: %s", f.GetText())
		}
		return out.GetMessages()[0].GetPayload(), nil
	}, local.Close, nil
}

func inChild(spec *scriptSpec, script transforms.Script) (shape func([]byte) ([]byte, error), pid func() int, stop func(), err error) {
	engine, err := transforms.Start(context.Background(), transforms.Options{Command: spec.Command, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		return nil, nil, nil, err
	}
	t, err := engine.Compile(context.Background(), script)
	if err != nil {
		engine.Stop()
		return nil, nil, nil, err
	}
	hook := &core.Hook{Name: benchHook, Study: benchStudy, Stage: benchStage}
	route := &core.Route{Name: benchHook}
	shape = func(body []byte) ([]byte, error) {
		ctx, cancel := context.WithTimeout(context.Background(), callTimeout)
		defer cancel()
		ev := &core.Event{
			ID: benchEvent, Ref: benchRef, Hook: hook, Kind: core.Insert, ReceivedAt: time.Now(), Body: body,
		}
		out, err := t.Transform(ctx, ev, route, benchDelivery, nil)
		if err != nil || len(out.Messages) != 1 {
			return nil, errors.Join(errors.New("the script failed"), err)
		}
		return out.Messages[0].Payload, nil
	}
	return shape, func() int { return engine.Status().PID }, engine.Stop, nil
}

// newRuntimes is the usual way with goja: the script is compiled once, and each
// event has a runtime of its own, with what Hookline's ctx says of the event, a
// console and a time limit; but nothing is frozen, and nothing else is limited.
func newRuntimes(path string) (func([]byte) ([]byte, error), error) {
	source, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	program, err := goja.Compile("rename.js", `(function (body, ctx) { "use strict";
`+strings.Replace(string(source), "export default function", "function transform", 1)+`
ctx.now = new Date(ctx.now);
return JSON.stringify(transform(JSON.parse(body), ctx)); })`, false)
	if err != nil {
		return nil, err
	}
	return func(body []byte) ([]byte, error) {
		rt := goja.New()
		limit := time.AfterFunc(callTimeout, func() { rt.Interrupt("the script did not end in time") })
		defer limit.Stop()
		v, err := rt.RunProgram(program)
		if err != nil {
			return nil, err
		}
		transform, ok := goja.AssertFunction(v)
		if !ok {
			return nil, errors.New("the script is no function")
		}
		ctx := rt.NewObject()
		said := func(goja.FunctionCall) goja.Value { return goja.Undefined() }
		for name, value := range map[string]any{
			"kind": string(core.Insert), "hook": benchHook, "study": benchStudy, "stage": benchStage, "route": benchHook,
			"eventId": benchEvent, "deliveryId": benchDelivery, "ref": benchRef, "now": time.Now().UnixMilli(),
			"log": said, "skip": said, "reject": said,
		} {
			if err := ctx.Set(name, value); err != nil {
				return nil, err
			}
		}
		console := rt.NewObject()
		for _, name := range []string{"log", "info", "warn", "error", "debug"} {
			if err := console.Set(name, said); err != nil {
				return nil, err
			}
		}
		if err := rt.Set("console", console); err != nil {
			return nil, err
		}
		out, err := transform(goja.Undefined(), rt.ToValue(string(body)), ctx)
		if err != nil {
			return nil, err
		}
		return []byte(out.String()), nil
	}, nil
}
