package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"text/tabwriter"
	"time"
)

const acceptSection = "accept"

var acceptKeepers = []string{keeperSQLite, keeperPostgres}

const (
	drainAtMost = 2 * time.Minute
	drainLook   = 5 * time.Millisecond
)

// acceptReport is how an async route takes events in and delivers them at once.
type acceptReport struct {
	Probes []probed     `json:"probes"`
	Cells  []acceptCell `json:"cells"`
	Goals  []goal       `json:"goals"`
}

type acceptCell struct {
	Keeper  string `json:"journal"`
	Callers int    `json:"callers"`
	Round   int    `json:"round"`

	Accepted  float64 `json:"accepted_per_second"`
	Delivered float64 `json:"delivered_per_second"` // at the same time
	P50       float64 `json:"p50_us"`               // of the answer
	P99       float64 `json:"p99_us"`
	Backlog   uint64  `json:"backlog"` // when the last was accepted
	Drain     float64 `json:"drain_seconds"`
	Errors    uint64  `json:"errors"`
	usage             // of accepting and delivering
}

// acceptEntry is a daemon with its journal.
type acceptEntry struct {
	keeper string
	d      *daemon
	remove func()
}

func acceptRun(ctx context.Context, b *bench, r *report) error {
	var entries []*acceptEntry
	defer func() {
		for _, e := range entries {
			e.d.stop()
			e.remove()
		}
	}()
	for _, keeper := range b.wanted(acceptSection, acceptKeepers) {
		e, err := enterAccept(ctx, b, keeper)
		if errors.Is(err, errAbsent) {
			r.absent(b, acceptSection+"-"+keeper, err)
			continue
		}
		if err != nil {
			return fmt.Errorf("%s: %w", keeper, err)
		}
		entries = append(entries, e)
	}
	out := &acceptReport{}
	if len(entries) == 0 {
		return nil
	}
	for round := 1; round <= b.rounds; round++ {
		var err error
		if out.Probes, err = b.probe(out.Probes); err != nil {
			return err
		}
		for _, callers := range b.acceptCallers {
			b.say("accept: round %d of %d, %d callers", round, b.rounds, callers)
			for _, e := range entries {
				c, err := b.accept(ctx, e, callers, r)
				if err != nil {
					return fmt.Errorf("%s at %d callers: %w", e.keeper, callers, err)
				}
				c.Round = round
				out.Cells = append(out.Cells, c)
			}
		}
	}
	for _, s := range out.summary() {
		if s.Callers >= 64 {
			out.Goals = append(out.Goals, atLeast(5000, "/s", s.Accepted, "%s at %d: accepted while delivering %.0f/s", s.Keeper, s.Callers, s.Delivered))
		}
	}
	r.Accept = out
	return nil
}

func enterAccept(ctx context.Context, b *bench, keeper string) (*acceptEntry, error) {
	journal, remove, err := b.newJournal(ctx, keeper)
	if err != nil {
		return nil, err
	}
	d, err := startDaemon(ctx, b, daemonSpec{name: acceptSection + "-" + keeper, journal: journal, routes: []daemonRoute{
		{name: "bench", url: "http://" + b.targetAt + okPath, async: true},
	}})
	if err != nil {
		remove()
		return nil, err
	}
	return &acceptEntry{keeper: keeper, d: d, remove: remove}, nil
}

// accept measures once. Before and after it nothing is queued.
func (b *bench) accept(ctx context.Context, e *acceptEntry, callers int, r *report) (c acceptCell, err error) {
	if err := b.target.call("expect", expectation{Body: sent, Authorization: basic(targetUser, targetPassword)}, nil); err != nil {
		return c, err
	}
	var before tally
	if err := b.target.call("count", nil, &before); err != nil {
		return c, err
	}
	spec := loadSpec{Callers: callers, Addr: e.d.addr, Head: e.d.headFor("bench"), Want: 202}
	if err := b.load.call("open", spec, nil); err != nil {
		return c, err
	}
	defer func() { err = errors.Join(err, b.load.call("close", nil, nil)) }()
	var warm, l loaded
	if err := b.load.call("run", loadTime{Duration: max(b.warmup, time.Millisecond)}, &warm); err != nil {
		return c, err
	}
	if before, err = b.drained(ctx, before.Events+warm.Sent.Events-warm.Failed); err != nil {
		return c, err
	}

	pids, err := e.d.processes()
	if err != nil {
		return c, err
	}
	m, err := b.meter(pids)
	if err != nil {
		return c, err
	}
	start := time.Now()
	if err := b.load.call("run", loadTime{Duration: b.duration}, &l); err != nil {
		return c, err
	}
	var after tally
	if err := b.target.call("count", nil, &after); err != nil {
		return c, err
	}
	full := time.Now()
	meanwhile := after.minus(before)
	accepted := l.Sent.Events - l.Failed
	if after, err = b.drained(ctx, before.Events+accepted); err != nil {
		return c, err
	}
	used, err := m.read(accepted, time.Since(start))
	if err != nil {
		return c, err
	}
	e.d.emptyLog()

	seconds := l.Elapsed.Seconds()
	c = acceptCell{
		Keeper: e.keeper, Callers: callers, usage: used, Errors: l.Failed,
		Accepted: float64(accepted) / seconds, Delivered: float64(meanwhile.Events) / seconds,
		P50: microseconds(l.P50), P99: microseconds(l.P99),
		Backlog: accepted - min(accepted, meanwhile.Events), Drain: time.Since(full).Seconds(),
	}
	where := fmt.Sprintf("accept, %s, %d callers", e.keeper, callers)
	if l.Failed > 0 {
		r.fault("%s: %d of %d were not answered 202: %s", where, l.Failed, l.Sent.Events, l.Why)
	} else if got := after.minus(before); got != l.Sent {
		r.fault("%s: the target received %+v, and should have received %+v", where, got, l.Sent)
	}
	return c, nil
}

// drained waits until the target has received so many events in all.
func (b *bench) drained(ctx context.Context, events uint64) (t tally, err error) {
	ctx, cancel := context.WithTimeout(ctx, drainAtMost)
	defer cancel()
	tick := time.NewTicker(drainLook)
	defer tick.Stop()
	for {
		if err := b.target.call("count", nil, &t); err != nil || t.Events >= events {
			return t, err
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return t, fmt.Errorf("%d events were not delivered in %s: look at the daemon's log", events-t.Events, drainAtMost)
		}
	}
}

// summary are the medians over the rounds.
func (r *acceptReport) summary() (out []acceptCell) {
	for i, first := range r.Cells {
		var same []acceptCell
		known := false
		for j, c := range r.Cells {
			if c.Keeper == first.Keeper && c.Callers == first.Callers {
				known = known || j < i
				same = append(same, c)
			}
		}
		if known {
			continue
		}
		median := func(f func(acceptCell) float64) float64 {
			var all []float64
			for _, c := range same {
				all = append(all, f(c))
			}
			return over(all).Median
		}
		s := acceptCell{
			Keeper: first.Keeper, Callers: first.Callers,
			Accepted:  median(func(c acceptCell) float64 { return c.Accepted }),
			Delivered: median(func(c acceptCell) float64 { return c.Delivered }),
			P50:       median(func(c acceptCell) float64 { return c.P50 }),
			P99:       median(func(c acceptCell) float64 { return c.P99 }),
			Backlog:   uint64(median(func(c acceptCell) float64 { return float64(c.Backlog) })),
			Drain:     median(func(c acceptCell) float64 { return c.Drain }),
		}
		s.Busy = median(func(c acceptCell) float64 { return c.Busy })
		s.Own = median(func(c acceptCell) float64 { return c.Own })
		s.Others = median(func(c acceptCell) float64 { return c.Others })
		for _, c := range same {
			s.Errors += c.Errors
		}
		if first.CPU != nil {
			s.CPU = map[string]float64{}
			for label := range first.CPU {
				s.CPU[label] = median(func(c acceptCell) float64 { return c.CPU[label] })
			}
		}
		out = append(out, s)
	}
	return out
}

func (r *acceptReport) print(w io.Writer) {
	fmt.Fprintf(w, "\naccept: an async route takes events in and delivers them at the same time. Medians of the rounds.\n")
	fmt.Fprintf(w, "Backlog is what was not delivered when the last was accepted. CPU is in µs per event, accepted and delivered.\n")
	printProbes(w, r.Probes)
	fmt.Fprintln(w)
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "callers\t\taccepted/s\tdelivered/s\tp50 ms\tp99 ms\tbacklog\tdrained in s\tCPU: hookline\thttp child\tbusy\town\tothers\terrors")
	for _, c := range r.summary() {
		fmt.Fprintf(t, "%d\t%s\t%.0f\t%.0f\t%.2f\t%.2f\t%d\t%.2f\t", c.Callers, c.Keeper, c.Accepted, c.Delivered,
			c.P50/1000, c.P99/1000, c.Backlog, c.Drain)
		if c.CPU == nil {
			fmt.Fprint(t, "n/a\tn/a\tn/a\tn/a\tn/a")
		} else {
			fmt.Fprintf(t, "%.0f\t%.0f\t%.0f%%\t%.0f%%\t%.0f%%", c.CPU["hookline"], c.CPU["http child"], 100*c.Busy, 100*c.Own, 100*c.Others)
		}
		fmt.Fprintf(t, "\t%d\n", c.Errors)
	}
	_ = t.Flush()
	printGoals(w, r.Goals)
}
