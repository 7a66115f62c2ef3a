package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"strconv"
	"strings"
	"syscall"
	"text/tabwriter"
	"time"

	"github.com/hookline/hookline/core/journal"
)

const restartSection = "restart"

const (
	// drainFirst is the number of redeliveries whose rate is told.
	drainFirst = 5000
	// drainMore is what may be delivered until the daemon has ended then.
	drainMore  = 1000
	seenAtMost = 3 * time.Minute
)

// restartReport is how soon a daemon goes on with what was open.
type restartReport struct {
	Loading float64      `json:"loading_seconds"`
	Loaded  int          `json:"loaded"`
	First   int          `json:"first"` // how many FirstRate is of
	Starts  []startTimes `json:"starts"`
	// Of the last start, which drains everything.
	DrainRate float64  `json:"drain_per_second"`
	Probes    []probed `json:"probes"`
	Goals     []goal   `json:"goals"`
}

// startTimes are those of one start, in milliseconds since the process was
// started.
type startTimes struct {
	After     string  `json:"after"` // how the one before ended
	Open      int     `json:"open"`
	Child     float64 `json:"child_ready_ms"`
	Listening float64 `json:"listening_ms"`
	First     float64 `json:"first_redelivery_ms"`
	AfterIt   float64 `json:"first_after_child_ms"`
	FirstRate float64 `json:"first_per_second"`
	Repeated  int64   `json:"repeated"` // of what came: it was under way when the one before ended
	Others    float64 `json:"busy_others,omitempty"`
}

func restartRun(ctx context.Context, b *bench, r *report) error {
	out := &restartReport{First: min(drainFirst, max(1, b.open/10))}
	ends := []struct {
		name   string
		signal os.Signal
	}{{"SIGTERM", syscall.SIGTERM}, {"kill -9", os.Kill}}
	// What each start drains is loaded beside: so many are open at each.
	out.Loaded = b.open + len(ends)*b.rounds*(out.First+drainMore)

	url, remove, err := b.newJournal(ctx, keeperSQLite)
	if err != nil {
		return err
	}
	defer remove()
	b.say("restart: loading %d deliveries", out.Loaded)
	if out.Loading, err = load(ctx, url, out.Loaded); err != nil {
		return err
	}
	d, err := newDaemon(b, daemonSpec{name: restartSection, journal: url, routes: []daemonRoute{{
		name: benchRoute, url: "http://" + b.targetAt + okPath, async: true, plugin: []string{b.load.cmd.Path, asRole, roleStamp},
	}}})
	if err != nil {
		return err
	}
	defer d.stop()
	if err := b.target.call("expect", expectation{Body: sent, Authorization: basic(targetUser, targetPassword)}, nil); err != nil {
		return err
	}
	after, came := "loading", int64(0)
	start := func() error {
		b.say("restart: after %s, %d open", after, out.Loaded-int(came))
		s, err := b.restart(ctx, d, out)
		s.After, s.Open = after, out.Loaded-int(came)
		out.Starts = append(out.Starts, s)
		return err
	}
	ended := func(w watched) {
		out.Starts[len(out.Starts)-1].Repeated = w.Came - (w.Distinct - came)
		came = w.Distinct
	}
	for range b.rounds {
		if out.Probes, err = b.probe(out.Probes); err != nil {
			return err
		}
		for _, end := range ends {
			if came >= int64(out.Loaded-out.First) {
				break // a fast machine and very few of them
			}
			if err := start(); err != nil {
				return err
			}
			d.end(end.signal)
			w, err := b.watched()
			if err != nil {
				return err
			}
			ended(w)
			after = end.name
		}
	}
	if err := start(); err != nil {
		return err
	}
	b.say("restart: draining the rest")
	w, err := b.seen(ctx, func(w watched) bool { return w.Distinct >= int64(out.Loaded) })
	if err != nil {
		r.fault("restart: deliveries were lost: %v", err)
	}
	ended(w)
	out.DrainRate = float64(w.Came) / (w.Last - w.First).Seconds()
	out.judge()
	r.Restart = out
	return nil
}

// load fills a journal that no daemon has.
func load(ctx context.Context, url string, n int) (seconds float64, err error) {
	s, err := journal.Open(ctx, journal.Options{URL: url})
	if err != nil {
		return 0, err
	}
	took, err := fill(ctx, s, n, func(id uint64) uint64 { return id })
	return took.Seconds(), errors.Join(err, s.Close())
}

// restart starts the daemon and waits for its first redeliveries.
func (b *bench) restart(ctx context.Context, d *daemon, r *restartReport) (s startTimes, err error) {
	d.emptyLog()
	m, err := b.meter(map[string][]int{"bench": {os.Getpid()}})
	if err != nil {
		return s, err
	}
	watch := watchSpec{Nth: int64(r.First), IDs: uint64(r.Loaded), Go: len(r.Starts) > 0} //nolint:gosec // it is positive
	if err := b.target.call("watch", watch, nil); err != nil {
		return s, err
	}
	if err := d.start(ctx); err != nil {
		return s, err
	}
	w, err := b.seen(ctx, func(w watched) bool { return w.Nth > 0 })
	if err != nil {
		return s, fmt.Errorf("%w\n%s", err, d.lastWords())
	}
	log, err := os.ReadFile(d.log.Name())
	if err != nil {
		return s, err
	}
	child, listening, err := readStart(string(log))
	if err != nil {
		return s, err
	}
	since := func(t time.Time) float64 { return float64(t.Sub(d.started)) / float64(time.Millisecond) }
	first := time.Unix(0, int64(w.First))
	s.Child, s.Listening, s.First = since(child), since(listening), since(first)
	s.AfterIt = s.First - s.Child
	if took := w.Nth - w.First; took > 0 {
		s.FirstRate = float64(r.First-1) / took.Seconds()
	}
	pids, err := d.processes()
	if err != nil {
		return s, err
	}
	maps.Copy(m.pids, pids) // what they have used is of this start
	used, err := m.read(1, time.Since(d.started))
	s.Others = used.Others
	return s, err
}

func (b *bench) watched() (w watched, err error) {
	err = b.target.call("watched", nil, &w)
	return w, err
}

// seen waits until the target has seen enough.
func (b *bench) seen(ctx context.Context, enough func(watched) bool) (watched, error) {
	ctx, cancel := context.WithTimeout(ctx, seenAtMost)
	defer cancel()
	tick := time.NewTicker(drainLook)
	defer tick.Stop()
	for {
		w, err := b.watched()
		if err != nil || enough(w) {
			return w, err
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return w, fmt.Errorf("the target has seen %d deliveries, and not enough in %s: look at the daemon's log", w.Distinct, seenAtMost)
		}
	}
}

// readStart finds in a daemon's log when its child was ready, and when it
// listened.
func readStart(log string) (child, listening time.Time, err error) {
	for line := range strings.Lines(log) {
		var l struct {
			Time time.Time `json:"time"`
			Msg  string    `json:"msg"`
		}
		if json.Unmarshal([]byte(line), &l) != nil {
			continue
		}
		if nanos, ok := strings.CutPrefix(l.Msg, stampWords); ok && child.IsZero() {
			n, err := strconv.ParseInt(nanos, 10, 64)
			if err != nil {
				return child, listening, fmt.Errorf("the child's log line %q: %w", l.Msg, err)
			}
			child = time.Unix(0, n)
		}
		if strings.HasPrefix(l.Msg, "listening") && listening.IsZero() {
			listening = l.Time
		}
		if !child.IsZero() && !listening.IsZero() {
			return child, listening, nil
		}
	}
	return child, listening, errors.New("the daemon's log does not tell when the child was ready and when it listened")
}

// judge takes the median over all starts.
func (r *restartReport) judge() {
	var all []float64
	for _, s := range r.Starts {
		all = append(all, s.AfterIt)
	}
	r.Goals = []goal{atMost(200, " ms", over(all).Median, "first redelivery after the child is ready, median of %d starts", len(all))}
}

func (r *restartReport) print(w io.Writer) {
	fmt.Fprintf(w, "\nrestart: a daemon on SQLite starts with open deliveries that are due, and its target up. %d were loaded in %.1f s.\n", r.Loaded, r.Loading)
	fmt.Fprintf(w, "Times in ms since the process was started, rates per second; twice is what came again.\n")
	printProbes(w, r.Probes)
	fmt.Fprintln(w)
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintf(t, "after\topen\tchild ready\tlistening\tfirst redelivery\tafter the child\tfirst %d/s\ttwice\tothers\n", r.First)
	for _, s := range r.Starts {
		fmt.Fprintf(t, "%s\t%d\t%.0f\t%.0f\t%.0f\t%.0f\t%.0f\t%d\t%.0f%%\n", s.After, s.Open, s.Child, s.Listening, s.First, s.AfterIt, s.FirstRate, s.Repeated, 100*s.Others)
	}
	_ = t.Flush()
	fmt.Fprintln(w)
	for _, s := range r.Starts {
		fmt.Fprintf(w, "first redelivery %.0f ms after the child is ready (after %s)\n", s.AfterIt, s.After)
	}
	fmt.Fprintf(w, "The last start drained all at %.0f/s.\n", r.DrainRate)
	printGoals(w, r.Goals)
}
