package main

import (
	"context"
	"fmt"
	"os"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"time"
)

// resources are what a process holds.
type resources struct {
	RSS     int64 `json:"rss_bytes"`
	Files   int   `json:"files"`
	Threads int   `json:"threads"`
}

// held is what the processes of a daemon hold at a moment.
type held struct {
	When      string               `json:"when"`
	Processes map[string]resources `json:"processes"`
}

// failureReport is what failing events leave behind.
type failureReport struct {
	Events     int            `json:"events_per_batch"`
	Callers    int            `json:"callers"`
	PerSecond  []float64      `json:"per_second"` // of each batch
	Held       []held         `json:"held"`
	Goroutines map[string]int `json:"goroutines_at_the_end,omitempty"` // of one process
}

// settled is when the processes have let go of what they will let go of.
const settled = time.Second

// failures has a daemon fail thousands of times, half with a target that is down
// and half with one that answers 500, and looks at what that leaves behind. The
// first batch fills pools and lets the heap find its size; the second must add
// nothing.
func failures(ctx context.Context, b *bench, r *report) error {
	down, err := freePort()
	if err != nil {
		return err
	}
	d, err := startDaemon(ctx, b, daemonSpec{name: "failures", routes: []daemonRoute{
		{name: "down", url: "http://" + down + okPath},
		{name: "failing", url: "http://" + b.targetAt + failPath},
	}})
	if err != nil {
		return err
	}
	defer d.stop()

	// A refused delivery waits for its second try in between; many callers keep
	// that from taking long.
	f := &failureReport{Events: b.failures, Callers: min(256, b.failures)}
	if err := f.look(d, "at the start"); err != nil {
		return err
	}
	for batch := 1; batch <= 2; batch++ {
		b.say("failures: batch %d of 2, %d events", batch, b.failures)
		start := time.Now()
		for _, hook := range []string{"down", "failing"} {
			if err := b.fail(d, hook, int64(b.failures+1)/2, f.Callers, r); err != nil {
				return err
			}
		}
		f.PerSecond = append(f.PerSecond, float64(b.failures)/time.Since(start).Seconds())
		d.emptyLog()
		select {
		case <-time.After(settled):
		case <-ctx.Done():
			return ctx.Err()
		}
		if err := f.look(d, fmt.Sprintf("after %d", batch*b.failures)); err != nil {
			return err
		}
	}
	if err := f.countGoroutines(ctx, d); err != nil {
		return err
	}
	f.judge(r)
	r.Failures = f
	return nil
}

// fail sends events that cannot be delivered.
func (b *bench) fail(d *daemon, hook string, events int64, callers int, r *report) error {
	spec := loadSpec{Callers: callers, Addr: d.addr, Head: d.headFor(hook), Want: 502}
	if err := b.load.call("open", spec, nil); err != nil {
		return err
	}
	var l loaded
	if err := b.load.call("run", loadTime{Events: events}, &l); err != nil {
		return err
	}
	if l.Failed > 0 || l.Sent.Events != uint64(events) {
		r.fault("failures: of %d events on hook %s, %d were not answered 502: %s", l.Sent.Events, hook, l.Failed, l.Why)
	}
	return b.load.call("close", nil, nil)
}

// look notes what the daemon and its children hold.
func (f *failureReport) look(d *daemon, when string) error {
	if runtime.GOOS != "linux" {
		return nil
	}
	pids, err := d.processes()
	if err != nil {
		return err
	}
	h := held{When: when, Processes: map[string]resources{}}
	for label, all := range pids {
		slices.Sort(all)
		for i, pid := range all {
			name := label
			if len(all) > 1 {
				name = fmt.Sprintf("%s %d", label, i+1)
			}
			if h.Processes[name], err = resourcesOf(pid); err != nil {
				return err
			}
		}
	}
	f.Held = append(f.Held, h)
	return nil
}

// Bounds of what a batch may add: the heap is never at rest, and a plugin keeps up
// to a connection for each caller. One goroutine or connection left behind by each
// of 10,000 events is far above.
const (
	moreRSS       = 16 << 20
	moreFiles     = 300
	moreThreads   = 16
	maxGoroutines = 150 // a plugin's process keeps 64 workers
)

// judge compares the second batch with the first.
func (f *failureReport) judge(r *report) {
	if len(f.Held) < 3 {
		return
	}
	first, second := f.Held[1], f.Held[2]
	for name, after := range second.Processes {
		before := first.Processes[name]
		if after.RSS > before.RSS+moreRSS || after.Files > before.Files+moreFiles || after.Threads > before.Threads+moreThreads {
			r.fault("failures: %s grew from %+v to %+v over %d failing events", name, before, after, f.Events)
		}
	}
	for name, n := range f.Goroutines {
		if n > maxGoroutines {
			r.fault("failures: %s has %d goroutines left", name, n)
		}
	}
}

// countGoroutines ends the daemon with SIGQUIT: Go's runtime then writes the
// stack of every goroutine, and nothing in Hookline has to tell us. A child's go
// through the daemon's log.
func (f *failureReport) countGoroutines(ctx context.Context, d *daemon) error {
	if runtime.GOOS != "linux" {
		return nil
	}
	pids, err := d.processes()
	if err != nil {
		return err
	}
	f.Goroutines = map[string]int{}
	for _, label := range []string{"http child", "hookline"} { // the children first
		d.emptyLog()
		for _, pid := range pids[label] {
			if p, err := os.FindProcess(pid); err != nil {
				return err
			} else if err := p.Signal(syscall.SIGQUIT); err != nil {
				return err
			}
		}
		select {
		case <-time.After(settled):
		case <-ctx.Done():
			return ctx.Err()
		}
		log, err := os.ReadFile(d.log.Name())
		if err != nil {
			return err
		}
		n := 0
		for line := range strings.Lines(string(log)) {
			if label == "hookline" && strings.HasPrefix(line, "goroutine ") ||
				label != "hookline" && strings.Contains(line, `"msg":"goroutine `) {
				n++
			}
		}
		f.Goroutines[label] = n / max(1, len(pids[label]))
	}
	return nil
}
