package app

import (
	"context"
	"slices"
	"sync/atomic"
	"time"

	"github.com/hookline/hookline/core"
	"github.com/hookline/hookline/core/config"
	"github.com/hookline/hookline/core/telemetry"
	"github.com/hookline/hookline/plugins/host"
	"github.com/hookline/hookline/transforms"
)

// watched is what a scrape looks at. It is a copy: a reload may hold its lock for
// long.
type watched struct {
	routes []string
	gates  map[string]*core.Gate
	// children are those of the generation in force.
	children map[string]func() host.Status
	scripts  *transforms.Engine // nil for none
	certs    []string
}

// observation is the daemon's telemetry with what it looks at.
type observation struct {
	*telemetry.Telemetry
	now atomic.Pointer[watched]
}

// observeBy makes the telemetry of a daemon that starts on c.
func (a *App) observeBy(c *config.Config) error {
	o := &observation{}
	o.now.Store(&watched{})
	sources := telemetry.Sources{
		Routes:       func() []string { return o.now.Load().routes },
		InFlight:     func() int { return a.server.InFlight() },
		Recalled:     func() bool { return a.recalled.Load() != nil },
		Circuits:     o.circuits,
		Children:     o.children,
		Quarantined:  o.quarantined,
		Certificates: func() []string { return o.now.Load().certs },
	}
	if a.store != nil {
		sources.Queue = a.depths
		sources.JournalUp = func() bool { return a.store.Unavailable() == nil }
		sources.DiskFree = a.store.DiskFree
	}
	options := telemetry.Options{Version: Version(), Log: a.log, Sources: sources}
	if c.Telemetry.OTLP != "" {
		headers, err := c.TelemetryHeaders()
		if err != nil {
			return &Unusable{Config: c, Err: err}
		}
		options.Traces = &telemetry.TraceOptions{
			URL: c.Telemetry.OTLP, Headers: headers, Sample: c.Telemetry.Sample, Node: nodeName(c.Journal.Node),
		}
	}
	var err error
	if o.Telemetry, err = telemetry.New(options); err != nil {
		return &Unusable{Config: c, Err: err}
	}
	a.observation.Store(o)
	return nil
}

// observe makes g's names the series, and hears of its deliveries. It is called
// before events go to g, with reloading held or before there is a reload.
func (a *App) observe(g *generation) {
	o := a.observation.Load()
	g.dispatcher.Observer = o
	w := &watched{gates: map[string]*core.Gate{}, children: map[string]func() host.Status{}}
	names := telemetry.Names{Routes: map[string]string{}}
	for _, h := range g.config.Hooks {
		names.Hooks = append(names.Hooks, h.Name)
	}
	for _, t := range g.config.Transports {
		names.Transports = append(names.Transports, t.Name)
		w.gates[t.Name] = a.gates[t.Name].Gate
		w.children["transport "+t.Name] = g.transports[t.Name].Status
	}
	for _, r := range g.config.Routes {
		names.Routes[r.Name] = r.Transport
		w.routes = append(w.routes, r.Name)
	}
	if a.engine != nil {
		w.children["transforms"], w.scripts = a.engine.Status, a.engine
	}
	if g.config.Server.TLS.Enabled() {
		w.certs = append(w.certs, g.config.Server.TLS.CertFile)
	}
	o.now.Store(w)
	o.Use(names)
}

// committed tells of a transaction of the journal, which is open before anybody
// counts.
func (a *App) committed(took time.Duration, changes int) {
	if o := a.observation.Load(); o != nil {
		o.Committed(took, changes)
	}
}

func (o *observation) circuits() map[string]string {
	out := map[string]string{}
	for name, gate := range o.now.Load().gates {
		out[name] = gate.Circuit()
	}
	return out
}

func (o *observation) children() (out []telemetry.Child) {
	for name, status := range o.now.Load().children {
		s := status()
		out = append(out, telemetry.Child{Name: name, PID: s.PID, Restarts: s.Restarts})
	}
	return out
}

// quarantined are the names of the scripts that are not run any more.
func (o *observation) quarantined() (out []string) {
	engine := o.now.Load().scripts
	if engine == nil {
		return nil
	}
	for _, q := range engine.Quarantined() {
		out = append(out, q.Script)
	}
	return slices.Compact(out) // versions of one
}

func (a *App) depths(ctx context.Context) ([]telemetry.Depth, error) {
	depths, err := a.store.Depths(ctx)
	out := make([]telemetry.Depth, len(depths))
	for i, d := range depths {
		out[i] = telemetry.Depth(d)
	}
	return out, err
}
