// Package telemetry counts and times what Hookline does, for Prometheus, and
// traces it, for OpenTelemetry. It is the [core.Observer] and the [core.Calls] of a
// daemon.
//
// A label's value is a name of the configuration or a word of a closed set: no
// caller and no target can make a new series.
package telemetry

import (
	"log/slog"
	"maps"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"

	"github.com/hookline/hookline/core"
)

// Options are what a Telemetry is made from.
type Options struct {
	Version string
	Log     *slog.Logger
	Sources Sources
	Traces  *TraceOptions // nil: none
}

// Telemetry is the daemon's metrics and traces.
type Telemetry struct {
	registry *prometheus.Registry
	tracer   *tracer // nil without traces

	events     *prometheus.CounterVec
	deliveries *prometheus.CounterVec
	attempts   *prometheus.CounterVec
	answer     *prometheus.HistogramVec
	enrich     *prometheus.HistogramVec
	transform  *prometheus.HistogramVec
	attempt    *prometheus.HistogramVec
	target     *prometheus.HistogramVec
	hop        *prometheus.HistogramVec
	commit     prometheus.Histogram
	batch      prometheus.Histogram
	reloaded   prometheus.Gauge

	using sync.Mutex // one Use at a time
	names atomic.Pointer[names]
}

// names are the series of the configuration in force.
type names struct {
	hooks      map[string]*hook
	routes     map[string]*route
	transports map[string]prometheus.Observer // of hop
}

// Names are those of a configuration.
type Names struct {
	Hooks      []string
	Routes     map[string]string // route to transport
	Transports []string
}

// buckets are for all times in seconds: from a fast target beside Hookline to the
// longest wait that is usual.
var buckets = []float64{
	.0005, .001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 30, 60,
}

// New returns a Telemetry that knows no hook and no route until Use.
func New(o Options) (*Telemetry, error) {
	t := &Telemetry{registry: prometheus.NewRegistry()}
	counter := func(name, help string, labels ...string) *prometheus.CounterVec {
		v := prometheus.NewCounterVec(prometheus.CounterOpts{Name: name, Help: help}, labels)
		t.registry.MustRegister(v)
		return v
	}
	histogram := func(name, help string, labels ...string) *prometheus.HistogramVec {
		v := prometheus.NewHistogramVec(prometheus.HistogramOpts{Name: name, Help: help, Buckets: buckets}, labels)
		t.registry.MustRegister(v)
		return v
	}
	t.events = counter("hookline_events_total", "Calls of hooks, by the code of their answer.", "hook", "kind", "code")
	t.deliveries = counter("hookline_deliveries_total", "Runs of deliveries, by the state and code they ended with.", "route", "state", "code")
	t.attempts = counter("hookline_attempts_total", "Attempts to deliver, by their code.", "route", "code")
	t.answer = histogram("hookline_answer_seconds", "Time from a call's headers to its answer.", "hook")
	t.enrich = histogram("hookline_enrich_seconds", "Time of reading an event's record from TrialKit's API.", "route")
	t.transform = histogram("hookline_transform_seconds", "Time of a route's script, its process included.", "route")
	t.attempt = histogram("hookline_attempt_seconds", "Time of an attempt, transport and target included.", "route")
	t.target = histogram("hookline_target_seconds", "Time of an attempt at the target, connecting included, as the transport measures it.", "route")
	t.hop = histogram("hookline_hop_seconds", "Time of an attempt that is not the target's: the way to the transport's process and back, and its work.", "transport")
	t.commit = prometheus.NewHistogram(prometheus.HistogramOpts{
		Name: "hookline_journal_commit_seconds", Help: "Time of a transaction of the journal's writer.", Buckets: buckets,
	})
	t.batch = prometheus.NewHistogram(prometheus.HistogramOpts{
		Name: "hookline_journal_batch_size", Help: "Changes in one transaction of the journal's writer.",
		Buckets: []float64{1, 2, 4, 8, 16, 32, 64, 128, 256, 512},
	})
	t.reloaded = prometheus.NewGauge(prometheus.GaugeOpts{
		Name: "hookline_config_last_reload_success_timestamp_seconds", Help: "When a configuration was last put in force, the start included.",
	})
	build := prometheus.NewGauge(prometheus.GaugeOpts{
		Name: "hookline_build_info", Help: "Always 1; the version is its label.", ConstLabels: prometheus.Labels{"version": o.Version},
	})
	build.Set(1)
	t.registry.MustRegister(
		t.commit, t.batch, t.reloaded, build, newSources(o.Sources, o.Log),
		collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}),
	)
	t.names.Store(&names{})
	if o.Traces != nil {
		var err error
		if t.tracer, err = newTracer(*o.Traces, o.Version, o.Log); err != nil {
			return nil, err
		}
	}
	return t, nil
}

// Use makes the series those of a configuration that is in force now. Those of
// names that are gone disappear; what is left of the others stays.
func (t *Telemetry) Use(n Names) {
	t.using.Lock()
	defer t.using.Unlock()
	old := t.names.Load()
	next := &names{hooks: map[string]*hook{}, routes: map[string]*route{}, transports: map[string]prometheus.Observer{}}
	next.hooks[""] = old.hooks[""] // calls of no hook
	if next.hooks[""] == nil {
		next.hooks[""] = t.newHook("")
	}
	for _, name := range n.Hooks {
		if next.hooks[name] = old.hooks[name]; next.hooks[name] == nil {
			next.hooks[name] = t.newHook(name)
		}
	}
	for _, name := range n.Transports {
		next.transports[name] = t.hop.WithLabelValues(name)
	}
	for name, transport := range n.Routes {
		had := old.routes[name]
		if had == nil || had.transport != transport {
			if had != nil {
				had.counted.close()
				had.settled.close()
			}
			had = t.newRoute(name, transport, next.transports[transport])
		}
		next.routes[name] = had
	}
	t.names.Store(next)
	for name, h := range old.hooks {
		if next.hooks[name] == nil {
			h.counted.close()
			gone := prometheus.Labels{"hook": name}
			t.events.DeletePartialMatch(gone)
			t.answer.DeletePartialMatch(gone)
		}
	}
	for name, r := range old.routes {
		if next.routes[name] == nil {
			r.counted.close()
			r.settled.close()
			gone := prometheus.Labels{"route": name}
			t.deliveries.DeletePartialMatch(gone)
			t.attempts.DeletePartialMatch(gone)
			for _, v := range []*prometheus.HistogramVec{t.enrich, t.transform, t.attempt, t.target} {
				v.DeletePartialMatch(gone)
			}
		}
	}
	for name := range old.transports {
		if next.transports[name] == nil {
			t.hop.DeleteLabelValues(name)
		}
	}
	t.reloaded.SetToCurrentTime()
}

// Committed is told of each transaction of the journal.
func (t *Telemetry) Committed(took time.Duration, changes int) {
	t.commit.Observe(took.Seconds())
	t.batch.Observe(float64(changes))
}

// Stop sends the spans that are left, for a few seconds at most.
func (t *Telemetry) Stop() {
	if t.tracer != nil {
		t.tracer.stop()
	}
}

// hook is what is counted of a hook.
type hook struct {
	counted *counters[asked]
	took    prometheus.Observer
}

type asked struct {
	kind core.Kind
	code core.Code
}

func (t *Telemetry) newHook(name string) *hook {
	return &hook{
		counted: newCounters(func(a asked) prometheus.Counter {
			return t.events.WithLabelValues(name, string(a.kind), string(a.code))
		}),
		took: t.answer.WithLabelValues(name),
	}
}

// route is what is counted of a route. It is the [core.Run] of all its deliveries
// that are not traced.
type route struct {
	transport       string
	counted         *counters[core.Code] // attempts
	settled         *counters[ended]
	enrich, script  prometheus.Observer
	attempt, target prometheus.Observer
	hop             prometheus.Observer
}

type ended struct {
	state core.State
	code  core.Code
}

func (t *Telemetry) newRoute(name, transport string, hop prometheus.Observer) *route {
	return &route{
		transport: transport,
		counted: newCounters(func(code core.Code) prometheus.Counter {
			return t.attempts.WithLabelValues(name, string(code))
		}),
		settled: newCounters(func(e ended) prometheus.Counter {
			return t.deliveries.WithLabelValues(name, string(e.state), string(e.code))
		}),
		enrich: t.enrich.WithLabelValues(name),
		script: t.transform.WithLabelValues(name), attempt: t.attempt.WithLabelValues(name),
		target: t.target.WithLabelValues(name), hop: hop,
	}
}

// Enriched is part of [core.Run], as are those that follow.
func (r *route) Enriched(_ time.Time, took time.Duration, _ core.Code) {
	r.enrich.Observe(took.Seconds())
}

// Transformed counts the run of a script.
func (r *route) Transformed(_ time.Time, took time.Duration, _ core.Code) {
	r.script.Observe(took.Seconds())
}

// Attempt changes nothing.
func (r *route) Attempt(int) string { return "" }

// Attempted counts the attempt.
func (r *route) Attempted(a *core.Attempt, target time.Duration) {
	r.counted.inc(known(a.Receipt.Code))
	r.attempt.Observe(a.Took.Seconds())
	if target > 0 {
		r.target.Observe(target.Seconds())
		if r.hop != nil {
			r.hop.Observe((a.Took - target).Seconds())
		}
	}
}

// Settled counts the delivery.
func (r *route) Settled(s core.State, code core.Code) {
	if code != "" {
		code = known(code)
	}
	r.settled.inc(ended{s, code})
}

// nobody is the Run of a route that is in no configuration any more.
var nobody = &route{
	counted: closed[core.Code](), settled: closed[ended](),
	enrich: nothing{}, script: nothing{}, attempt: nothing{}, target: nothing{}, hop: nothing{},
}

type nothing struct{}

func (nothing) Observe(float64) {}

var closedSet = func() map[core.Code]bool {
	m := map[core.Code]bool{}
	for _, c := range core.Codes() {
		m[c] = true
	}
	return m
}()

// known keeps a code that is not of the closed set from becoming a label.
func known(c core.Code) core.Code {
	if closedSet[c] {
		return c
	}
	return core.Internal
}

// Run implements [core.Observer].
func (t *Telemetry) Run(d *core.Delivery, r *core.Route, background bool) core.Run {
	of := t.names.Load().routes[r.Name]
	if of == nil {
		of = nobody
	}
	if t.tracer != nil {
		if run := t.tracer.run(of, d, r, background); run != nil {
			return run
		}
	}
	return of
}

// Came implements [core.Calls].
func (t *Telemetry) Came(ev *core.Event, given bool, tracestate string) func(int, core.Code) {
	if t.tracer == nil {
		return nil
	}
	return t.tracer.came(ev, given, tracestate)
}

// Answered implements [core.Calls].
func (t *Telemetry) Answered(name string, kind core.Kind, code core.Code, took time.Duration) {
	h := t.names.Load().hooks[name]
	if h == nil {
		return // a hook that has gone meanwhile
	}
	switch kind {
	case core.Insert, core.Update, core.Review:
	default:
		kind = ""
	}
	h.counted.inc(asked{kind, known(code)})
	h.took.Observe(took.Seconds())
}

// counters are the children of a counter, found without the vector's own look-up,
// which hashes every label: a delivery needs three of them.
type counters[K comparable] struct {
	make  func(K) prometheus.Counter
	found atomic.Pointer[map[K]prometheus.Counter]
	mu    sync.Mutex
	gone  bool // its series are deleted: it must not make new ones
}

func newCounters[K comparable](make func(K) prometheus.Counter) *counters[K] {
	c := &counters[K]{make: make}
	c.found.Store(&map[K]prometheus.Counter{})
	return c
}

func closed[K comparable]() *counters[K] {
	c := newCounters[K](nil)
	c.gone = true
	return c
}

func (c *counters[K]) inc(k K) {
	if counter := (*c.found.Load())[k]; counter != nil {
		counter.Inc()
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.gone {
		return
	}
	old := *c.found.Load()
	next := maps.Clone(old)
	if next[k] == nil {
		next[k] = c.make(k)
	}
	c.found.Store(&next)
	next[k].Inc()
}

func (c *counters[K]) close() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.gone = true
}
