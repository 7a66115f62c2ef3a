package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"
)

// race is a section whose contestants do the same work in turns.
type race struct {
	name, title string
	baseline    string // the contestant that the others are divided by
	contestants []contestant
	before      func() error // each round, may be nil
	whole       bool         // all of it is wanted, whatever --only calls it
}

// contestant is one way for an event to go.
type contestant struct {
	name  string
	extra bool // runs only if --only names it
	start func(ctx context.Context, b *bench) (*entry, error)
}

// entry is a contestant that is ready.
type entry struct {
	spec      loadSpec
	arrives   *template // what the target gets; nil: nothing
	processes func() (map[string][]int, error)
	after     func() // each cell, may be nil
	stop      func()
}

func (r race) names() (out []string) {
	for _, c := range r.contestants {
		out = append(out, c.name)
	}
	return out
}

// noProcesses is for an entry that has none of its own.
func noProcesses() (map[string][]int, error) { return map[string][]int{}, nil }

// speed is what the whole way takes.
var speed = race{
	name: "speed", title: "From the caller to the target and back", baseline: "reverseproxy",
	contestants: []contestant{
		{name: "direct", start: func(_ context.Context, b *bench) (*entry, error) {
			spec := loadSpec{Addr: b.targetAt, Want: 200, Head: requestHead(b.targetAt, okPath, basic(targetUser, targetPassword))}
			return &entry{spec: spec, arrives: sent, processes: noProcesses, stop: func() {}}, nil
		}},
		{name: "reverseproxy", start: func(ctx context.Context, b *bench) (*entry, error) { return enterProxy(ctx, b, false) }},
		{name: "reverseproxy-pooled", extra: true, start: func(ctx context.Context, b *bench) (*entry, error) { return enterProxy(ctx, b, true) }},
		{name: "bare", extra: true, start: enterBare},
		{name: "hookline", start: func(ctx context.Context, b *bench) (*entry, error) {
			return enterHookline(ctx, b, "hookline", "", false)
		}},
		{name: "hookline-transform", start: func(ctx context.Context, b *bench) (*entry, error) {
			return enterHookline(ctx, b, "hookline-transform", "", true)
		}},
	},
}

func enterProxy(ctx context.Context, b *bench, pooled bool) (*entry, error) {
	w, err := startWorker(ctx, roleProxy)
	if err != nil {
		return nil, err
	}
	e := &entry{
		spec: loadSpec{Want: 200}, arrives: sent, stop: w.stop,
		processes: func() (map[string][]int, error) { return map[string][]int{"proxy": {w.pid()}}, nil },
	}
	spec := proxySpec{Target: b.targetAt, Authorization: basic(targetUser, targetPassword), Pooled: pooled}
	if err := w.call("listen", spec, &e.spec.Addr); err != nil {
		w.stop()
		return nil, err
	}
	e.spec.Head = requestHead(e.spec.Addr, "/", basic(hookUser, hookPassword))
	return e, nil
}

func enterBare(ctx context.Context, b *bench) (*entry, error) {
	w, err := startWorker(ctx, roleProxy)
	if err != nil {
		return nil, err
	}
	var got bareReply
	spec := bareSpec{Command: []string{b.hookline, "child", "transport", "http", "bench"}, Settings: b.targetSettings()}
	if err := w.call("listen-bare", spec, &got); err != nil {
		w.stop()
		return nil, err
	}
	return &entry{
		spec:    loadSpec{Addr: got.Addr, Want: 200, Head: requestHead(got.Addr, "/", basic(hookUser, hookPassword))},
		arrives: sent, stop: w.stop,
		processes: func() (map[string][]int, error) {
			return map[string][]int{"bare": {w.pid()}, "http child": {got.PID}}, nil
		},
	}, nil
}

func enterHookline(ctx context.Context, b *bench, name, journal string, transform bool) (*entry, error) {
	d, err := startDaemon(ctx, b, daemonSpec{name: name, journal: journal, routes: []daemonRoute{
		{name: "bench", url: "http://" + b.targetAt + okPath, transform: transform},
	}})
	if err != nil {
		return nil, err
	}
	e := &entry{
		spec:    loadSpec{Addr: d.addr, Want: 200, Head: d.headFor("bench")},
		arrives: sent, processes: d.processes, after: d.emptyLog, stop: d.stop,
	}
	if transform {
		e.arrives = renamed
	}
	return e, nil
}

// hop is what the step into the plugin's process takes, without the daemon: the
// load generator holds the host's side.
var hop = race{
	name: "hop", title: "From a transport's caller to the target and back, without the daemon", baseline: "http-in-process",
	contestants: []contestant{
		{name: "http-in-process", start: func(_ context.Context, b *bench) (*entry, error) {
			return &entry{
				spec: loadSpec{InProcess: true, Settings: b.targetSettings()}, arrives: sent,
				processes: noProcesses, stop: func() {},
			}, nil
		}},
		{name: "http-child", start: func(_ context.Context, b *bench) (*entry, error) {
			command := []string{b.hookline, "child", "transport", "http", "bench"}
			return enterHop(b, loadSpec{Command: command, Settings: b.targetSettings()}, sent), nil
		}},
		{name: "http-child-unary", start: func(_ context.Context, b *bench) (*entry, error) {
			command := []string{b.hookline, "child", "transport", "http", "bench"}
			return enterHop(b, loadSpec{Command: command, Unary: true, Settings: b.targetSettings()}, sent), nil
		}},
		{name: "idle-child-unary", start: func(_ context.Context, b *bench) (*entry, error) {
			command := []string{b.load.cmd.Path, asRole, rolePlugin}
			return enterHop(b, loadSpec{Command: command, Unary: true, Settings: json.RawMessage("{}")}, nil), nil
		}},
		{name: "idle-child", start: func(_ context.Context, b *bench) (*entry, error) {
			command := []string{b.load.cmd.Path, asRole, rolePlugin}
			return enterHop(b, loadSpec{Command: command, Settings: json.RawMessage("{}")}, nil), nil
		}},
	},
}

func (b *bench) targetSettings() json.RawMessage {
	raw, _ := json.Marshal(map[string]string{ // strings always marshal
		"url": "http://" + b.targetAt + okPath, "username": targetUser, "password": targetPassword,
	})
	return raw
}

func enterHop(b *bench, spec loadSpec, arrives *template) *entry {
	return &entry{
		spec: spec, arrives: arrives, stop: func() {},
		processes: func() (map[string][]int, error) { // the load generator starts it anew for each cell
			var pid int
			if err := b.load.call("pid", nil, &pid); err != nil {
				return nil, err
			}
			return map[string][]int{"child": {pid}}, nil
		},
	}
}

// cell is one contestant at one number of callers in one round.
type cell struct {
	Contestant string `json:"contestant"`
	Callers    int    `json:"callers"`
	Round      int    `json:"round"`

	Events    uint64  `json:"events"`
	Errors    uint64  `json:"errors"`
	Seconds   float64 `json:"seconds"`
	PerSecond float64 `json:"per_second"`
	P50       float64 `json:"p50_us"`
	P99       float64 `json:"p99_us"`
	Ratio     float64 `json:"ratio,omitempty"` // to the baseline's PerSecond in the same round

	usage
}

func (r race) run(ctx context.Context, b *bench, report *report) (err error) {
	var names []string
	entries := map[string]*entry{}
	defer func() {
		for _, e := range entries {
			e.stop()
		}
	}()
	for _, c := range r.contestants {
		all := (r.whole || len(b.only) == 0 || slices.Contains(b.only, r.name)) && !c.extra
		if !all && !slices.Contains(b.only, c.name) {
			continue
		}
		e, err := c.start(ctx, b)
		if errors.Is(err, errAbsent) {
			report.absent(b, c.name, err)
			continue
		}
		if err != nil {
			return fmt.Errorf("%s: %w", c.name, err)
		}
		entries[c.name] = e
		names = append(names, c.name)
	}

	var cells []cell
	if len(names) == 0 {
		return nil
	}
	for round := 1; round <= b.rounds; round++ {
		if r.before != nil {
			if err := r.before(); err != nil {
				return err
			}
		}
		for _, callers := range b.callers {
			b.say("%s: round %d of %d, %d callers", r.name, round, b.rounds, callers)
			from := len(cells)
			for _, name := range names {
				if err := ctx.Err(); err != nil {
					return err
				}
				c, faults, err := b.cell(entries[name], callers)
				if err != nil {
					return fmt.Errorf("%s at %d callers: %w", name, callers, err)
				}
				c.Contestant, c.Round = name, round
				cells = append(cells, c)
				for _, f := range faults {
					report.fault("%s, %d callers, round %d: %s", name, callers, round, f)
				}
			}
			setRatios(cells[from:], r.baseline)
		}
	}
	report.Races = append(report.Races, newRaceReport(r, names, b.callers, cells))
	return nil
}

func setRatios(cells []cell, baseline string) {
	i := slices.IndexFunc(cells, func(c cell) bool { return c.Contestant == baseline })
	if i < 0 || cells[i].PerSecond == 0 {
		return
	}
	for j := range cells {
		cells[j].Ratio = cells[j].PerSecond / cells[i].PerSecond
	}
}

// cell measures once. Around the measurement nothing is under way: what target
// and callers count must be equal, and CPU times are those of these events.
func (b *bench) cell(e *entry, callers int) (c cell, faults []string, err error) {
	if e.arrives != nil {
		if err := b.target.call("expect", expectation{Body: e.arrives, Authorization: basic(targetUser, targetPassword)}, nil); err != nil {
			return c, nil, err
		}
	}
	spec := e.spec
	spec.Callers = callers
	if err := b.load.call("open", spec, nil); err != nil {
		return c, nil, err
	}
	defer func() { err = errors.Join(err, b.load.call("close", nil, nil)) }()
	// One event at least: the first connects.
	if err := b.load.call("run", loadTime{Events: int64(callers)}, nil); err != nil {
		return c, nil, err
	}
	if err := b.load.call("run", loadTime{Duration: max(b.warmup, time.Millisecond)}, nil); err != nil {
		return c, nil, err
	}

	pids, err := e.processes()
	if err != nil {
		return c, nil, err
	}
	var before, after tally
	if err := b.target.call("count", nil, &before); err != nil {
		return c, nil, err
	}
	m, err := b.meter(pids)
	if err != nil {
		return c, nil, err
	}
	var l loaded
	if err := b.load.call("run", loadTime{Duration: b.duration}, &l); err != nil {
		return c, nil, err
	}
	used, err := m.read(l.Sent.Events, l.Elapsed)
	if err != nil {
		return c, nil, err
	}
	if err := b.target.call("count", nil, &after); err != nil {
		return c, nil, err
	}
	if e.after != nil {
		e.after()
	}

	c = cell{
		Callers: callers, Events: l.Sent.Events, Errors: l.Failed, Seconds: l.Elapsed.Seconds(),
		P50: microseconds(l.P50), P99: microseconds(l.P99), usage: used,
	}
	c.PerSecond = float64(l.Sent.Events-l.Failed) / c.Seconds
	if l.Failed > 0 {
		faults = append(faults, fmt.Sprintf("%d of %d failed: %s", l.Failed, l.Sent.Events, l.Why))
	}
	if e.arrives != nil {
		expected := l.Sent
		expected.Bytes = expected.Events * uint64(len(e.arrives.Text))
		if got := after.minus(before); got != expected {
			faults = append(faults, fmt.Sprintf("the target received %+v, and should have received %+v", got, expected))
		}
	}
	return c, faults, nil
}
