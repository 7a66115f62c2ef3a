package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"text/tabwriter"
	"time"

	"github.com/google/uuid"

	"github.com/hookline/hookline/core"
	"github.com/hookline/hookline/core/admin"
	"github.com/hookline/hookline/core/journal"
	"github.com/hookline/hookline/plugins/transport"
)

const careSection = "care"

const (
	careEvents = 40_000 // that have ended, and are old enough to be pruned
	careBody   = 2 << 10
	careAge    = 90 * 24 * time.Hour
	careTimes  = 8 // as long as other cells, so that a backup comes to its end and is checked
	careLimit  = `retention = { payloads = "30d", sent = "30d" }`
)

// careCallers are the numbers of callers at a time.
var careCallers = []int{1, 16}

// What goes on beside the callers.
const (
	careAlone  = "nothing"
	careBackup = "backup"
	carePrune  = "retention"
)

// careReport is how long callers wait while the journal is looked after.
type careReport struct {
	Events  int        `json:"events"`
	Bytes   int64      `json:"journal_bytes"`
	Loading float64    `json:"loading_seconds"`
	Probes  []probed   `json:"probes"`
	Cells   []careCell `json:"cells"`
	Goals   []goal     `json:"goals"`
}

type careCell struct {
	Beside    string  `json:"beside"`
	Callers   int     `json:"callers"`
	Round     int     `json:"round"`
	PerSecond float64 `json:"per_second"`
	P50       float64 `json:"p50_us"`
	P99       float64 `json:"p99_us"`
	Ratio     float64 `json:"p99_ratio,omitempty"` // to nothing beside, in the same round
	Done      float64 `json:"done"`                // backups made, or events pruned
	Others    float64 `json:"busy_others,omitempty"`
}

// caring is a daemon whose journal is looked after.
type caring struct {
	*daemon
	operator *admin.Client
	config   string // its file
	text     string // without retention
	dir      string
}

func careRun(ctx context.Context, b *bench, r *report) error {
	url, remove, err := b.newJournal(ctx, keeperSQLite)
	if err != nil {
		return err
	}
	defer remove()
	out := &careReport{Events: min(careEvents, b.open)}
	b.say("care: loading %d events that have ended", out.Events)
	began := time.Now()
	if err := loadEnded(ctx, url, int64(out.Events)); err != nil {
		return err
	}
	out.Loading = time.Since(began).Seconds()
	if info, err := os.Stat(strings.TrimPrefix(url, keeperSQLite+":")); err == nil {
		out.Bytes = info.Size()
	}
	c, err := enterCare(ctx, b, url)
	if err != nil {
		return err
	}
	defer c.stop()
	for round := 1; round <= b.rounds; round++ {
		if out.Probes, err = b.probe(out.Probes); err != nil {
			return err
		}
		for _, callers := range careCallers {
			alone := 0.0
			for _, beside := range []string{careAlone, careBackup, carePrune} {
				b.say("care: round %d of %d, %d callers, %s beside", round, b.rounds, callers, beside)
				cell, err := b.careCell(ctx, c, beside, callers, r)
				if err != nil {
					return fmt.Errorf("%s at %d callers: %w", beside, callers, err)
				}
				cell.Round = round
				if beside == careAlone {
					alone = cell.P99
				} else if alone > 0 {
					cell.Ratio = cell.P99 / alone
				}
				out.Cells = append(out.Cells, cell)
			}
		}
	}
	for _, s := range out.summary() {
		if s.Beside != careAlone {
			out.Goals = append(out.Goals, atMost(2, " x", s.Ratio, "%s beside %d callers: p99 grows to", s.Beside, s.Callers))
		}
	}
	r.Care = out
	return nil
}

func enterCare(ctx context.Context, b *bench, url string) (*caring, error) {
	d, err := newDaemon(b, daemonSpec{name: careSection, journal: url, admin: true, routes: []daemonRoute{
		{name: benchRoute, url: "http://" + b.targetAt + okPath},
	}})
	if err != nil {
		return nil, err
	}
	dir := filepath.Dir(d.log.Name())
	c := &caring{daemon: d, dir: dir, config: filepath.Join(dir, "config.toml"), operator: admin.NewClient(filepath.Join(dir, adminSocket))}
	text, err := os.ReadFile(c.config)
	if err == nil {
		c.text = string(text)
		err = d.start(ctx)
	}
	if err != nil {
		d.stop()
		return nil, err
	}
	return c, nil
}

// retain has the daemon prune, or stop to.
func (c *caring) retain(ctx context.Context, on bool) error {
	text := c.text
	if on {
		text = strings.Replace(text, "loop_limit = 0\n", "loop_limit = 0\n"+careLimit+"\n", 1)
	}
	if err := os.WriteFile(c.config, []byte(text), 0o600); err != nil {
		return err
	}
	return c.operator.Reload(ctx)
}

// beside does something until stop is called, again and again, and counts.
func (c *caring) beside(ctx context.Context, what string) (stop func() (done float64, err error), err error) {
	if what == careAlone {
		return func() (float64, error) { return 0, nil }, nil
	}
	if what == carePrune {
		if err := c.retain(ctx, true); err != nil {
			return nil, err
		}
	}
	ctx, cancel := context.WithCancel(ctx)
	var work sync.WaitGroup
	var done float64
	var failed error
	began := time.Now()
	work.Go(func() {
		for i := 0; ctx.Err() == nil && failed == nil; i++ {
			if what == carePrune {
				_, failed = c.operator.Prune(ctx, false, nil)
				continue
			}
			file := filepath.Join(c.dir, fmt.Sprintf("backup-%d-%d.db", began.UnixNano(), i))
			_, failed = c.operator.Backup(ctx, file)
			if failed == nil {
				done++
			}
			failed = errors.Join(failed, os.RemoveAll(file))
		}
		if ctx.Err() != nil {
			failed = nil // it was cut off
		}
	})
	return func() (float64, error) {
		cancel()
		work.Wait()
		if what == carePrune {
			failed = errors.Join(failed, c.retain(context.WithoutCancel(ctx), false))
		}
		return done, failed
	}, nil
}

func (b *bench) careCell(ctx context.Context, c *caring, beside string, callers int, r *report) (cell careCell, err error) {
	if err := b.target.call("expect", expectation{Body: sent, Authorization: basic(targetUser, targetPassword)}, nil); err != nil {
		return cell, err
	}
	spec := loadSpec{Callers: callers, Addr: c.addr, Head: c.headFor(benchRoute), Want: 200}
	if err := b.load.call("open", spec, nil); err != nil {
		return cell, err
	}
	defer func() { err = errors.Join(err, b.load.call("close", nil, nil)) }()
	var l loaded
	if err := b.load.call("run", loadTime{Duration: max(b.warmup, time.Millisecond)}, &l); err != nil {
		return cell, err
	}
	pids, err := c.processes()
	if err != nil {
		return cell, err
	}
	m, err := b.meter(pids)
	if err != nil {
		return cell, err
	}
	left := 0
	if beside == carePrune {
		if left, err = c.left(ctx); err != nil {
			return cell, err
		}
	}
	stop, err := c.beside(ctx, beside)
	if err != nil {
		return cell, err
	}
	start := time.Now()
	err = b.load.call("run", loadTime{Duration: careTimes * b.duration}, &l)
	took := time.Since(start)
	done, failed := stop()
	if err = errors.Join(err, failed); err != nil {
		return cell, err
	}
	used, err := m.read(max(1, l.Sent.Events), took)
	if err != nil {
		return cell, err
	}
	if beside == carePrune {
		now, err := c.left(ctx)
		if err != nil {
			return cell, err
		}
		if done = float64(left - now); now == 0 {
			b.say("care: everything was pruned before the end: its figure is too good")
		}
	}
	c.emptyLog()
	if l.Failed > 0 {
		r.fault("care, %s, %d callers: %d of %d were not answered 200: %s", beside, callers, l.Failed, l.Sent.Events, l.Why)
	}
	return careCell{
		Beside: beside, Callers: callers, PerSecond: float64(l.Sent.Events) / l.Elapsed.Seconds(),
		P50: microseconds(l.P50), P99: microseconds(l.P99), Done: done, Others: used.Others,
	}, nil
}

// left is how much there is to prune.
func (c *caring) left(ctx context.Context) (n int, err error) {
	if err := c.retain(ctx, true); err != nil {
		return 0, err
	}
	all, err := c.operator.Prune(ctx, true, nil)
	for _, p := range all {
		n += p.Events
	}
	return n, errors.Join(err, c.retain(ctx, false))
}

// loadEnded fills a journal with events that came long ago and were delivered.
func loadEnded(ctx context.Context, url string, n int64) error {
	s, err := journal.Open(ctx, journal.Options{URL: url})
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var next atomic.Int64
	var all sync.WaitGroup
	for range fillers {
		all.Go(func() {
			for id := next.Add(1); id <= n && ctx.Err() == nil; id = next.Add(1) {
				if err := endedEvent(ctx, s, id); err != nil {
					cancel(err)
				}
			}
		})
	}
	all.Wait()
	return errors.Join(context.Cause(ctx), s.Close())
}

func endedEvent(ctx context.Context, s *journal.Store, id int64) error {
	ev := &core.Event{
		Kind: core.Insert, TransID: fmt.Sprintf("old-%d", id), FormID: "319", FormName: "Sample Form",
		Body: []byte(`{"note":"` + strings.Repeat("x", careBody) + `"}`),
	}
	ev.Stamp(&core.Hook{Name: benchRoute, Study: "ABC-123", Stage: core.UAT}, time.Now().Add(-careAge))
	d := &core.Delivery{
		ID: uuid.Must(uuid.NewV7()).String(), Event: ev, Route: benchRoute, Lane: ev.Lane(benchRoute), Shape: core.ShapeBody,
	}
	if err := begin(ctx, s, &core.Placement{Delivery: d, Run: true}); err != nil {
		return err
	}
	d.Attempts, d.Sent = 1, 1
	return settle(ctx, s, d, core.Settlement{State: core.StateDelivered, Code: transport.Delivered, Due: -1, Attempts: []core.Attempt{
		{N: 1, Start: ev.ReceivedAt, Receipt: transport.Receipt{Effect: transport.Done, Code: transport.Delivered, TargetStatus: 200, Body: []byte("ok")}},
	}})
}

// summary are the medians over the rounds.
func (r *careReport) summary() (out []careCell) {
	for _, callers := range careCallers {
		for _, beside := range []string{careAlone, careBackup, carePrune} {
			var same []careCell
			for _, c := range r.Cells {
				if c.Callers == callers && c.Beside == beside {
					same = append(same, c)
				}
			}
			if len(same) == 0 {
				continue
			}
			median := func(f func(careCell) float64) float64 {
				var all []float64
				for _, c := range same {
					all = append(all, f(c))
				}
				return over(all).Median
			}
			out = append(out, careCell{
				Beside: beside, Callers: callers,
				PerSecond: median(func(c careCell) float64 { return c.PerSecond }),
				P50:       median(func(c careCell) float64 { return c.P50 }),
				P99:       median(func(c careCell) float64 { return c.P99 }),
				Ratio:     median(func(c careCell) float64 { return c.Ratio }),
				Done:      median(func(c careCell) float64 { return c.Done }),
				Others:    median(func(c careCell) float64 { return c.Others }),
			})
		}
	}
	return out
}

func (r *careReport) print(w io.Writer) {
	fmt.Fprintf(w, "\ncare: callers of a sync route while the journal, a SQLite file of %d MiB with %d events, is looked after. Medians of the rounds.\n", r.Bytes>>20, r.Events)
	fmt.Fprintf(w, "The ratio is that of p99 to nothing beside, in the same round; done is how many backups were made, or events pruned, meanwhile.\n")
	printProbes(w, r.Probes)
	fmt.Fprintln(w)
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "callers\tbeside\tevents/s\tp50 ms\tp99 ms\tratio\tdone\tothers")
	for _, c := range r.summary() {
		grown := "-"
		if c.Beside != careAlone {
			grown = fmt.Sprintf("%.2f", c.Ratio)
		}
		fmt.Fprintf(t, "%d\t%s\t%.0f\t%.2f\t%.2f\t%s\t%.0f\t%.0f%%\n", c.Callers, c.Beside, c.PerSecond, c.P50/1000, c.P99/1000, grown, c.Done, 100*c.Others)
	}
	_ = t.Flush()
	printGoals(w, r.Goals)
}
