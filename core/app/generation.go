package app

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"os"
	"slices"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/hookline/hookline/core"
	"github.com/hookline/hookline/core/admin"
	"github.com/hookline/hookline/core/config"
	"github.com/hookline/hookline/core/ingest"
	"github.com/hookline/hookline/core/journal"
	"github.com/hookline/hookline/core/trialkit"
	"github.com/hookline/hookline/plugins"
	"github.com/hookline/hookline/plugins/host"
	"github.com/hookline/hookline/plugins/transport"
	"github.com/hookline/hookline/transforms"
)

// generation is everything that one configuration calls for, built and checked.
// A reload builds the next one beside it.
type generation struct {
	config     *config.Config
	set        *ingest.Set
	users      []admin.User // of the admin API over TCP
	dispatcher *core.Dispatcher
	transports map[string]*running
	scripts    map[string]*transforms.Transform // by route
	golden     map[string]int                   // pairs of each route's script that it passed
	trialkit   *trialkit.Client                 // nil if it could not be made
	tables     *transforms.Tables               // of ctx.lookup; nil: there are none
}

// running is a transport's process with what it was started from: the next
// generation keeps it if that is the same.
type running struct {
	*host.Transport
	fingerprint string
	users       *atomic.Int32 // generations that have it; the last one stops it
}

func newRunning(t *host.Transport, fingerprint string) *running {
	r := &running{Transport: t, fingerprint: fingerprint, users: new(atomic.Int32)}
	r.users.Store(1)
	return r
}

// with is the same process under another fingerprint, used once more.
func (r *running) with(fingerprint string) *running {
	r.users.Add(1)
	return &running{Transport: r.Transport, fingerprint: fingerprint, users: r.users}
}

// build makes a generation of c. What old runs unchanged is taken over. kept,
// if not nil, has the scripts and lookup files to use instead of those on disk. If
// anything fails, everything that is wrong is in the error, all that was started
// is stopped and old is as it was (invariant 8).
func (a *App) build(ctx context.Context, c *config.Config, old *generation, kept *journal.Set) (_ *generation, err error) {
	g := &generation{config: c, transports: map[string]*running{}, scripts: map[string]*transforms.Transform{}}
	var problems problems
	defer func() {
		if err != nil {
			g.release()
		}
	}()

	g.set = &ingest.Set{Hooks: a.hooks(c, &problems)}
	g.users = adminUsers(c, &problems)
	g.trialkit = newTrialKit(c, &problems)
	if g.readTables(kept, &problems) {
		a.compileScripts(ctx, g, kept, &problems)
		if kept == nil { // what was accepted once had passed
			a.testScripts(ctx, g, &problems)
		}
	}
	later := a.startTransports(ctx, g, old, &problems)
	if err := problems.err(); err != nil {
		return nil, err
	}
	// Exclusive plugins last, when nothing else can fail any more: the old
	// process has to end first.
	if err := a.replaceExclusive(ctx, g, old, later); err != nil {
		return nil, err
	}
	g.dispatcher = a.dispatch(g)
	g.set.Dispatcher = g.dispatcher
	return g, nil
}

func (a *App) hooks(c *config.Config, problems *problems) []ingest.Hook {
	var out []ingest.Hook
	for _, h := range c.Hooks {
		hook := ingest.Hook{
			Hook: &core.Hook{
				Name: h.Name, Study: h.Study, Stage: h.Stage, Timeout: h.Timeout,
				Reply: h.Reply, UnmatchedError: h.UnmatchedError, AcceptedStatus: h.AcceptedStatus,
				LoopLimit: h.LoopLimit, KeyAge: h.Dedup,
			},
			Email: h.Email, Anonymous: h.Anonymous,
		}
		for _, ref := range h.Passwords {
			password, err := c.Resolve(ref)
			if err != nil {
				problems.add("hooks."+h.Name+".password", err)
				continue
			}
			hook.Passwords = append(hook.Passwords, password)
		}
		out = append(out, hook)
	}
	return out
}

// readTables reads the lookup files and tells whether they can be used.
func (g *generation) readTables(kept *journal.Set, problems *problems) bool {
	dir := g.config.Transforms.Lookups
	if dir == "" {
		return true
	}
	var err error
	if kept != nil {
		g.tables, err = transforms.NewTables(kept.Lookups)
	} else {
		g.tables, err = transforms.ReadTables(dir)
	}
	if err != nil {
		problems.add("transforms.lookups", err)
		return false
	}
	g.config.AddLookups(g.tables.Digests())
	return true
}

func (a *App) compileScripts(ctx context.Context, g *generation, kept *journal.Set, problems *problems) {
	a.awaited = nil
	for _, r := range g.config.Routes {
		if r.Transform == "" {
			continue
		}
		engine, err := a.scriptEngine(ctx, g.config)
		if err != nil {
			problems.add("", err)
			return
		}
		script := transforms.Script{Name: scriptName(g.config, r), Path: r.Transform, Root: g.config.Dir, Timeout: r.ScriptTimeout, Tables: g.tables, RefuseBigIntegers: r.RefuseBigIntegers}
		if kept != nil {
			script.Source = kept.Scripts[r.Transform]
		}
		if script.Secrets, err = g.config.Secrets(r); err != nil {
			problems.add("", err)
			continue
		}
		t, err := engine.Compile(ctx, script)
		if err != nil {
			problems.add("routes."+r.Name+".transform", err)
			if refused, ok := errors.AsType[*transforms.CompileError](err); ok {
				a.awaited = append(a.awaited, refused.Inputs...)
			}
			continue
		}
		g.scripts[r.Name] = t
	}
}

// scriptEngine starts the scripts' process when the first route needs it.
func (a *App) scriptEngine(ctx context.Context, c *config.Config) (*transforms.Engine, error) {
	if a.engine != nil {
		return a.engine, nil
	}
	command, err := ScriptCommand()
	if err != nil {
		return nil, err
	}
	options := transforms.Options{
		Command: command, Log: a.log, ShowOutput: a.options.ShowScriptOutput, TrialKit: &a.reader,
		Memory: uint64(c.Transforms.Memory),
	}
	if a.store != nil {
		options.Quarantines = quarantines{a.store}
	}
	engine, err := transforms.Start(ctx, options)
	a.alive.Lock()
	a.engine = engine
	a.alive.Unlock()
	return engine, err
}

// limitScripts applies what c gives the scripts' process.
func (a *App) limitScripts(ctx context.Context, c *config.Config) {
	if a.engine == nil {
		return
	}
	if err := a.engine.SetMemory(ctx, uint64(c.Transforms.Memory)); err != nil {
		a.log.Error("transforms.memory could not be changed", "error", err)
	}
}

// reader is what ctx.trialkit reads from: the scripts' process outlives generations,
// and the newest one knows the hooks best.
type reader struct {
	of atomic.Pointer[trialkit.Client]
}

func (r *reader) use(g *generation) { r.of.Store(g.trialkit) }

// Get implements [transforms.TrialKit].
func (r *reader) Get(ctx context.Context, hook, path string) ([]byte, error) {
	client := r.of.Load()
	if client == nil {
		return nil, errors.New("the daemon has not started yet")
	}
	return client.Get(ctx, hook, path)
}

// startTransports starts what old does not run already, all at once: each takes
// some 50 ms. It returns the transports that must wait for old's to end.
func (a *App) startTransports(ctx context.Context, g, old *generation, problems *problems) (later []config.Transport) {
	type start struct {
		config.Transport
		spec        host.TransportSpec
		fingerprint string
		started     *host.Transport
		err         error
	}
	var starts []*start
	for _, t := range g.config.Transports {
		spec, fingerprint, err := a.transportSpec(g.config, t)
		if err != nil {
			problems.add("transports."+t.Name, err)
			continue
		}
		if old != nil {
			if was := old.transports[t.Name]; was != nil {
				// One that could be neither replaced nor started again is as good as changed.
				if was.fingerprint == fingerprint && was.Status().State != host.Stopped {
					g.transports[t.Name] = was.with(fingerprint)
					continue
				}
				if was.Description().Exclusive {
					later = append(later, t)
					continue
				}
			}
		}
		starts = append(starts, &start{Transport: t, spec: spec, fingerprint: fingerprint})
	}
	var all sync.WaitGroup
	for _, s := range starts {
		all.Go(func() { s.started, s.err = host.StartTransport(ctx, s.spec) })
	}
	all.Wait()
	for _, s := range starts {
		if s.err != nil {
			problems.addSettings("transports."+s.Name, s.err)
			continue
		}
		g.transports[s.Name] = newRunning(s.started, s.fingerprint)
	}
	return later
}

// replaceExclusive ends the old process of each exclusive plugin and starts the
// new one. If one fails, those before it go back to what they were.
func (a *App) replaceExclusive(ctx context.Context, g, old *generation, changed []config.Transport) error {
	var undo []func()
	for _, t := range changed {
		spec, fingerprint, err := a.transportSpec(g.config, t)
		if err == nil {
			was := old.transports[t.Name]
			var before host.TransportSpec
			if before, err = was.Replace(ctx, spec); err == nil {
				g.transports[t.Name] = was.with(fingerprint)
				undo = append(undo, func() { _, _ = was.Replace(context.WithoutCancel(ctx), before) })
				continue
			}
		}
		for _, back := range undo {
			back()
		}
		var problems problems
		problems.addSettings("transports."+t.Name, err)
		return problems.err()
	}
	return nil
}

// transportSpec says how to start a transport, and fingerprints all of it, the
// secrets and the executable included: a change of any means a new process.
func (a *App) transportSpec(c *config.Config, t config.Transport) (host.TransportSpec, string, error) {
	spec := host.TransportSpec{Name: t.Name, Settings: t.Settings, Resolve: c.Resolve, Log: a.log}
	print := sha256.New()
	if t.BuiltIn() {
		if builtIn[t.Plugin] == nil {
			return spec, "", fmt.Errorf("plugin: there is no built-in %q; use one of %s, or a path such as ./plugins/%s",
				t.Plugin, strings.Join(slices.Sorted(maps.Keys(builtIn)), ", "), t.Plugin)
		}
		exe, err := self()
		if err != nil {
			return spec, "", err
		}
		spec.Command = []string{exe, ChildCommand, childTransport, t.Plugin, t.Name}
		spec.Title = "hookline"
	} else {
		spec.Command = append([]string{t.Plugin}, t.Args...)
		spec.NoMTLS, spec.Attach = t.NoMTLS, t.Attach
		info, err := os.Stat(t.Plugin)
		if err != nil {
			return spec, "", fmt.Errorf("plugin: %w", err)
		}
		fmt.Fprintln(print, info.Size(), info.ModTime().UnixNano())
		if t.SHA256 != "" {
			if spec.SHA256, err = hex.DecodeString(t.SHA256); err != nil {
				return spec, "", fmt.Errorf("sha256: %w", err)
			}
		}
	}
	fmt.Fprintf(print, "%q %q %t %q\n%s\n", spec.Command, t.SHA256, spec.NoMTLS, spec.Attach, t.Settings)
	for _, ref := range references(t.Settings) {
		if secret, err := c.Resolve(ref); err == nil { // an error is the plugin host's to tell, which knows the field
			fmt.Fprintf(print, "%q\n", secret)
		}
	}
	return spec, hex.EncodeToString(print.Sum(nil)), nil
}

// references are the strings in settings that may be references to secrets.
func references(settings json.RawMessage) (out []string) {
	var value any
	if json.Unmarshal(settings, &value) != nil {
		return nil
	}
	var walk func(any)
	walk = func(value any) {
		switch v := value.(type) {
		case string:
			if strings.HasPrefix(v, "env:") || strings.HasPrefix(v, "file:") {
				out = append(out, v)
			}
		case []any:
			for _, e := range v {
				walk(e)
			}
		case map[string]any:
			for _, k := range slices.Sorted(maps.Keys(v)) {
				walk(v[k])
			}
		}
	}
	walk(value)
	return out
}

func (a *App) dispatch(g *generation) *core.Dispatcher {
	d := &core.Dispatcher{Router: &core.Router{}, Log: a.log, LogDetail: map[string]bool{}, Revision: g.config.Revision, Stopping: a.patience}
	if a.store != nil {
		d.Journal, d.Background = a.store, a.scheduler
	}
	transports := map[string]*core.Transport{}
	for _, t := range g.config.Transports {
		transports[t.Name] = &core.Transport{Name: t.Name, Label: t.Label, Sender: g.transports[t.Name], Gate: a.gate(t)}
		d.LogDetail[t.Name] = t.BuiltIn()
	}
	for _, r := range g.config.Routes {
		route := coreRoute(r, transports[r.Transport])
		if script := g.scripts[r.Name]; script != nil {
			route.Transformer, route.Script, route.ScriptFile = script, script.Hash(), scriptName(g.config, r)
			if r.Enrich {
				route.Enricher = g.trialkit
			}
		}
		d.Router.Routes = append(d.Router.Routes, route)
	}
	return d
}

func coreRoute(r config.Route, t *core.Transport) *core.Route {
	return &core.Route{
		Name: r.Name, Hooks: r.Hooks, Kinds: r.Events, Forms: r.Forms, Workflow: r.Workflow,
		Transport: t, Timeout: r.Timeout,
		Async: r.Async, AcceptOnTimeout: r.AcceptOnTimeout, HoldUnknown: r.HoldUnknown, HoldDead: r.HoldDead,
		StopOnFailure: r.StopOnFailure, FailBlocked: r.FailBlocked, Retry: r.Retry,
	}
}

// gate is a transport's gate with what it was made from: the same serves the next
// generation, with its circuit as it is, if that is the same.
type gate struct {
	*core.Gate
	options gateOptions
}

type gateOptions struct {
	concurrency int
	rate        float64
	circuit     config.Circuit
}

func (a *App) gate(t config.Transport) *core.Gate {
	options := gateOptions{t.Concurrency, t.Rate, t.Circuit}
	if a.store == nil {
		options.circuit.Failures = 0 // without a journal nothing can wait for it to close
	}
	if had, ok := a.gates[t.Name]; ok && had.options == options {
		return had.Gate
	}
	g := core.NewGate(core.GateOptions{
		Concurrency: t.Concurrency, Rate: t.Rate, Failures: options.circuit.Failures, Pause: t.Circuit.Pause,
		Changed: func(state string) {
			level := slog.LevelInfo
			if state == "open" {
				level = slog.LevelWarn
			}
			a.log.Log(context.Background(), level, "circuit "+state, "transport", t.Name, "failures", t.Circuit.Failures, "pause", t.Circuit.Pause)
		},
	})
	a.gates[t.Name] = gate{g, options}
	return g
}

// release gives up the scripts and the readers of TrialKit's API, which every
// generation has for itself, and ends the processes that no other generation uses. An event may still be in flight on
// a generation before the last: a process lasts as long as any that has it.
func (g *generation) release() {
	for _, script := range g.scripts {
		script.Close()
	}
	if g.trialkit != nil {
		g.trialkit.Close()
	}
	var stops sync.WaitGroup
	for _, t := range g.transports {
		if t.users.Add(-1) == 0 {
			stops.Go(t.Stop)
		}
	}
	stops.Wait()
}

// Unusable is a configuration that reads well and cannot be put to work: a
// secret, a script, a certificate or a plugin's settings are at fault.
type Unusable struct {
	Config *config.Config
	Err    error // all of them, joined
}

// Error has one line for each, which begins with where it is written; what a script's
// error shows of the script comes below its line.
func (e *Unusable) Error() string {
	all := []error{e.Err}
	if joined, ok := e.Err.(interface{ Unwrap() []error }); ok {
		all = joined.Unwrap()
	}
	lines := make([]string, len(all))
	for i, err := range all {
		place := e.Config.Path
		var p *problem
		if errors.As(err, &p) {
			place = e.Config.Place(p.key)
		}
		lines[i] = place + ": " + err.Error()
	}
	return strings.Join(lines, "\n")
}

// Unwrap gives the joined errors.
func (e *Unusable) Unwrap() error { return e.Err }

// problems gathers all that is wrong, to be told at once.
type problems []error

// problem is one of them, at a key of the configuration, or "" for none.
type problem struct {
	key string
	error
}

func (p *problem) Error() string {
	if p.key == "" {
		return p.error.Error()
	}
	return p.key + ": " + p.error.Error()
}

func (p *problem) Unwrap() error { return p.error }

func (p *problems) add(key string, err error) { *p = append(*p, &problem{key, err}) }

// addSettings names the full key of each setting that a plugin refuses.
func (p *problems) addSettings(section string, err error) {
	var refused *transport.SettingError
	if !errors.As(err, &refused) {
		p.add(section, err)
		return
	}
	for _, e := range plugins.SettingErrors(err) {
		key := section + ".settings"
		if e.Field != "" {
			key += "." + e.Field
		}
		p.add(key, errors.New(e.Rule))
	}
}

func (p problems) err() error { return errors.Join(p...) }
