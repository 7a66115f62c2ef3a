package app

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/hookline/hookline/core/admin"
	"github.com/hookline/hookline/core/alerts"
	"github.com/hookline/hookline/core/config"
	"github.com/hookline/hookline/core/ingest"
)

// alertReads bounds what one look asks of the journal.
const alertReads = 5 * time.Second

// vigil looks at everything that may need an operator. It outlives generations.
type vigil struct {
	app      *App
	times    alerts.Times
	started  time.Time
	tally    *alerts.Tally
	watch    *alerts.Watch
	circuits alerts.Spells
	children *alerts.Children

	arrived map[string]time.Time // last events of hooks on other nodes
	upto    int64                // how far they were looked for

	end     context.CancelFunc
	running sync.WaitGroup
}

func newVigil(a *App) *vigil {
	times := a.options.AlertTimes
	if times == (alerts.Times{}) {
		times = alerts.Usual
	}
	v := &vigil{
		app: a, times: times, started: time.Now(), tally: alerts.NewTally(times), circuits: alerts.Spells{},
		children: alerts.NewChildren(times), arrived: map[string]time.Time{},
	}
	v.watch = alerts.New(alerts.Options{Times: times, Log: a.log, Look: v.look, Target: v.target})
	return v
}

// begin looks until the daemon stops.
func (v *vigil) begin() {
	ctx, cancel := context.WithCancel(v.app.life)
	v.end = cancel
	v.running.Go(func() { v.watch.Run(ctx) })
}

// stop waits for a message that is on its way.
func (v *vigil) stop() {
	if v.end != nil {
		v.end()
		v.running.Wait()
	}
}

// saw is told by the hook endpoint.
func (v *vigil) saw(hook string, what ingest.Sight, ref string) {
	switch now := time.Now(); what {
	case ingest.Came:
		v.tally.Came(hook, now)
	case ingest.Denied:
		v.tally.Denied(hook, now)
	case ingest.Gone:
		v.tally.Gone(hook, ref, now)
	}
}

// target is where alerts go by the configuration in force.
func (v *vigil) target() alerts.Target {
	v.app.reloading.Lock()
	defer v.app.reloading.Unlock()
	g := v.app.current
	t := alerts.Target{Transport: g.config.Alerts.Transport, Node: nodeName(g.config.Journal.Node)}
	if t.Transport != "" {
		t.Sender = g.transports[t.Transport]
	}
	return t
}

// list is what the admin API shows.
func (v *vigil) list() admin.AlertList {
	out := admin.AlertList{Transport: v.target().Transport, Alerts: []admin.Alert{}}
	for _, a := range v.watch.Active() {
		out.Alerts = append(out.Alerts, admin.Alert{
			Alert: string(a.Alert), Subject: a.Subject, Since: admin.Time{Time: a.Since}, Text: a.Text,
			Count: a.Count, Refs: append([]string{}, a.Refs...), Sent: a.Sent,
		})
	}
	return out
}

// findings is a look in the making.
type findings struct{ alerts.Look }

func (f *findings) add(alert alerts.Name, subject string, since time.Time) *alerts.Condition {
	f.Active = append(f.Active, alerts.Condition{Key: alerts.Key{Alert: alert, Subject: subject}, Since: since})
	return &f.Active[len(f.Active)-1]
}

func (v *vigil) look(ctx context.Context) alerts.Look {
	now := time.Now()
	f := &findings{alerts.Look{At: now, Unknown: map[alerts.Name]bool{}, Elsewhere: map[alerts.Name]bool{}}}
	c := v.processes(f)
	if v.app.recalled.Load() != nil {
		f.add(alerts.Recalled, "config.toml", time.Time{})
	}
	for _, h := range c.Hooks {
		f.Active = append(f.Active, v.tally.Conditions(h.Name, now)...)
	}
	v.certificates(f, c)
	v.journal(ctx, f, c)
	return f.Look
}

// processes looks at circuits and child processes, and returns the configuration
// that they are of.
func (v *vigil) processes(f *findings) *config.Config {
	a := v.app
	a.reloading.Lock()
	defer a.reloading.Unlock()
	c := a.current.config
	names, children := map[string]bool{}, map[string]bool{}
	child := func(subject, transport string, pid, restarts int) {
		children[subject] = true
		if since := v.children.Note(subject, pid != 0, restarts, f.At); !since.IsZero() {
			f.add(alerts.Child, subject, since).Transport = transport
		}
	}
	for _, t := range c.Transports {
		names[t.Name] = true
		if since := v.circuits.Note(t.Name, !a.gates[t.Name].Closed(), f.At); !since.IsZero() && f.At.Sub(since) >= c.Alerts.CircuitAfter {
			f.add(alerts.CircuitOpen, t.Name, since).Transport = t.Name
		}
		s := a.current.transports[t.Name].Status()
		child("transport "+t.Name, t.Name, s.PID, s.Restarts)
	}
	if a.engine != nil {
		s := a.engine.Status()
		child("transforms", "", s.PID, s.Restarts)
		for _, q := range a.engine.Quarantined() {
			f.add(alerts.Quarantined, q.Script, q.Since)
		}
	}
	v.circuits.Keep(names)
	v.children.Keep(children)
	return c
}

func (v *vigil) certificates(f *findings, c *config.Config) {
	for _, of := range certificateFiles(c) {
		end, err := ingest.CertificateExpiry(of.files.CertFile)
		switch {
		case err != nil:
			f.Unknown[alerts.Certificate] = true // it may be being written
		case end.Sub(f.At) < warnBefore:
			f.add(alerts.Certificate, of.section, time.Time{})
		}
	}
}

// journal looks at what the journal holds. What is about a shared one as a whole is
// one daemon's to tell: otherwise each would.
func (v *vigil) journal(ctx context.Context, f *findings, c *config.Config) {
	s := v.app.store
	if s == nil {
		v.quiet(f, c)
		return
	}
	if s.DiskLow() {
		f.add(alerts.DiskLow, "journal.min_free", time.Time{})
	}
	if s.Unavailable() != nil || s.Live() != nil {
		f.add(alerts.JournalUnavailable, "journal", time.Time{})
	}
	ctx, cancel := context.WithTimeout(ctx, alertReads)
	defer cancel()
	ours := []alerts.Name{alerts.Dead, alerts.Held, alerts.Quiet}
	first, err := s.First(ctx)
	if err == nil && s.Shared() {
		err = v.arrivals(ctx) // also while another tells: it may be the first to end
	}
	if err == nil && !first {
		for _, name := range ours {
			f.Elsewhere[name] = true
		}
		return
	}
	if err == nil {
		err = v.troubles(ctx, f)
	}
	if err != nil { // the log says it, and journal_unavailable
		f.Active = slices.DeleteFunc(f.Active, func(c alerts.Condition) bool { return slices.Contains(ours, c.Alert) })
		for _, name := range ours {
			f.Unknown[name] = true
		}
		return
	}
	v.quiet(f, c)
}

func (v *vigil) troubles(ctx context.Context, f *findings) error {
	dead, held, err := v.app.store.Troubles(ctx, f.At.Add(-v.times.Dead), alerts.MaxRefs)
	if err != nil {
		return fmt.Errorf("alerts: %w", err)
	}
	for _, t := range dead {
		c := f.add(alerts.Dead, t.Route, t.Since)
		c.Count, c.Refs = t.Count, t.Refs
	}
	for _, t := range held {
		c := f.add(alerts.Held, t.Route, t.Since)
		c.Count, c.Refs = t.Count, t.Refs
	}
	return nil
}

// arrivals notes the events that came to other nodes.
func (v *vigil) arrivals(ctx context.Context) error {
	last, upto, err := v.app.store.Arrivals(ctx, v.upto)
	if err != nil {
		return fmt.Errorf("alerts: %w", err)
	}
	v.upto = upto
	for hook, at := range last {
		if at.After(v.arrived[hook]) {
			v.arrived[hook] = at
		}
	}
	return nil
}

// quiet looks for hooks without events since they came, or since the start.
func (v *vigil) quiet(f *findings, c *config.Config) {
	for _, h := range c.Hooks {
		last := v.started
		for _, at := range []time.Time{v.tally.LastEvent(h.Name), v.arrived[h.Name]} {
			if at.After(last) {
				last = at
			}
		}
		if h.QuietAfter > 0 && f.At.Sub(last) >= h.QuietAfter {
			f.add(alerts.Quiet, h.Name, last)
		}
	}
}
