package main

import (
	"fmt"
	"io"
	"maps"
	"os/exec"
	"runtime"
	"slices"
	"strings"
	"text/tabwriter"
	"time"
)

// report is everything that a run found out.
type report struct {
	Machine    machine           `json:"machine"`
	Settings   settings          `json:"settings"`
	Races      []raceReport      `json:"races,omitempty"`
	Failures   *failureReport    `json:"failures,omitempty"`
	Journal    *journalReport    `json:"journal,omitempty"`
	Accept     *acceptReport     `json:"accept,omitempty"`
	Claim      *claimReport      `json:"claim,omitempty"`
	Restart    *restartReport    `json:"restart,omitempty"`
	Care       *careReport       `json:"care,omitempty"`
	Search     *searchReport     `json:"search,omitempty"`
	Transports *transportsReport `json:"transports,omitempty"`
	// Absent is what could not be measured here, and why.
	Absent []string `json:"absent,omitempty"`
	// Faults are what must not be: events lost, changed, not answered with
	// success, or resources that grew.
	Faults []string `json:"faults"`
}

type machine struct {
	Cores    int       `json:"cores"`
	CPU      string    `json:"cpu"`
	Kernel   string    `json:"kernel"`
	Go       string    `json:"go"`
	Hookline string    `json:"hookline"`
	Time     time.Time `json:"time"`
}

type settings struct {
	Seconds float64 `json:"seconds_per_cell"`
	Warmup  float64 `json:"warmup_seconds"`
	Rounds  int     `json:"rounds"`
	Callers []int   `json:"callers"`
	Body    string  `json:"body"`
	Folder  string  `json:"folder"` // of the SQLite journals
	On      string  `json:"filesystem"`
}

func newReport(b *bench) *report {
	return &report{
		Machine: machine{
			Cores: runtime.NumCPU(), CPU: cpuModel(), Kernel: kernel(),
			Go: runtime.Version(), Hookline: b.version(), Time: time.Now().UTC().Truncate(time.Second),
		},
		Settings: settings{
			Seconds: b.duration.Seconds(), Warmup: b.warmup.Seconds(), Rounds: b.rounds, Callers: b.callers, Body: sent.Text,
			Folder: b.dir, On: filesystem(b.dir),
		},
		Faults: []string{},
	}
}

func (b *bench) version() string {
	out, err := exec.Command(b.hookline, "version").Output()
	if err != nil {
		return "unknown"
	}
	return strings.TrimSpace(string(out))
}

func (r *report) fault(format string, args ...any) {
	r.Faults = append(r.Faults, fmt.Sprintf(format, args...))
}

// absent notes a contestant that is not here.
func (r *report) absent(b *bench, name string, why error) {
	b.say("%s is left out: %v", name, why)
	r.Absent = append(r.Absent, fmt.Sprintf("%s: %v", name, why))
}

// raceReport is a race's cells, and what they come to over the rounds.
type raceReport struct {
	Name     string    `json:"name"`
	Title    string    `json:"title"`
	Baseline string    `json:"baseline"`
	Summary  []summary `json:"summary"`
	Cells    []cell    `json:"cells"`
}

// summary is one contestant at one number of callers over all rounds: medians,
// and the lowest and highest of what is compared.
type summary struct {
	Contestant string             `json:"contestant"`
	Callers    int                `json:"callers"`
	Errors     uint64             `json:"errors"`
	PerSecond  spread             `json:"per_second"`
	Ratio      *spread            `json:"ratio,omitempty"`
	P50        float64            `json:"p50_us"`
	P99        float64            `json:"p99_us"`
	CPU        map[string]float64 `json:"cpu_us,omitempty"`
	CPUSum     float64            `json:"cpu_us_sum,omitempty"`
	Busy       float64            `json:"busy,omitempty"`
	Own        float64            `json:"busy_load_and_target,omitempty"`
	Others     float64            `json:"busy_others,omitempty"`
}

type spread struct {
	Median float64 `json:"median"`
	Min    float64 `json:"min"`
	Max    float64 `json:"max"`
}

func newRaceReport(r race, names []string, callers []int, cells []cell) raceReport {
	out := raceReport{Name: r.name, Title: r.title, Baseline: r.baseline, Cells: cells}
	for _, n := range callers {
		for _, name := range names {
			var of []cell
			for _, c := range cells {
				if c.Contestant == name && c.Callers == n {
					of = append(of, c)
				}
			}
			out.Summary = append(out.Summary, summarize(of))
		}
	}
	return out
}

func summarize(cells []cell) summary {
	over := func(f func(cell) float64) spread {
		var all []float64
		for _, c := range cells {
			all = append(all, f(c))
		}
		return over(all)
	}
	s := summary{
		Contestant: cells[0].Contestant, Callers: cells[0].Callers,
		PerSecond: over(func(c cell) float64 { return c.PerSecond }),
		P50:       over(func(c cell) float64 { return c.P50 }).Median,
		P99:       over(func(c cell) float64 { return c.P99 }).Median,
		Busy:      over(func(c cell) float64 { return c.Busy }).Median,
		Own:       over(func(c cell) float64 { return c.Own }).Median,
		Others:    over(func(c cell) float64 { return c.Others }).Median,
	}
	s.CPUSum = over(func(c cell) (sum float64) {
		for _, cpu := range c.CPU {
			sum += cpu
		}
		return sum
	}).Median
	for _, c := range cells {
		s.Errors += c.Errors
	}
	if cells[0].Ratio > 0 {
		ratio := over(func(c cell) float64 { return c.Ratio })
		s.Ratio = &ratio
	}
	if cells[0].CPU != nil {
		s.CPU = map[string]float64{}
		for label := range cells[0].CPU {
			s.CPU[label] = over(func(c cell) float64 { return c.CPU[label] }).Median
		}
	}
	return s
}

func (r *report) print(w io.Writer) error {
	m := r.Machine
	fmt.Fprintf(w, "%d cores, %s, %s, %s, %s, %s\n", m.Cores, m.CPU, m.Kernel, m.Go, m.Hookline, m.Time.Format(time.RFC3339))
	fmt.Fprintf(w, "All on loopback, in turns: %d rounds of %gs a cell after %gs of warm-up; bodies of %d bytes.\n",
		r.Settings.Rounds, r.Settings.Seconds, r.Settings.Warmup, len(r.Settings.Body))
	fmt.Fprintf(w, "SQLite journals are in %s, a file system that is %s.\n", r.Settings.Folder, r.Settings.On)
	for _, a := range r.Absent {
		fmt.Fprintln(w, "Left out:", a)
	}
	for _, race := range r.Races {
		if err := race.print(w); err != nil {
			return err
		}
		if race.Name == journalSection && r.Journal != nil {
			r.Journal.print(w)
		}
	}
	if r.Failures != nil {
		if err := r.Failures.print(w); err != nil {
			return err
		}
	}
	if r.Accept != nil {
		r.Accept.print(w)
	}
	if r.Claim != nil {
		r.Claim.print(w)
	}
	if r.Restart != nil {
		r.Restart.print(w)
	}
	if r.Care != nil {
		r.Care.print(w)
	}
	if r.Search != nil {
		r.Search.print(w)
	}
	if r.Transports != nil {
		r.Transports.print(w)
	}
	if len(r.Faults) == 0 {
		fmt.Fprintln(w, "\nNo event was lost or changed, and every answer was the right one.")
		return nil
	}
	fmt.Fprintln(w, "\nFAULTS:")
	for _, f := range r.Faults {
		fmt.Fprintln(w, " ", f)
	}
	return nil
}

// labels are the processes in the order of their columns.
func (r *raceReport) labels() []string {
	found := map[string]bool{}
	for _, s := range r.Summary {
		for label := range s.CPU {
			found[label] = true
		}
	}
	order := []string{"load", "target", "proxy", "hookline", "http child", "script child", "child", "other child"}
	return slices.SortedFunc(maps.Keys(found), func(a, b string) int {
		return slices.Index(order, a) - slices.Index(order, b)
	})
}

func (r *raceReport) print(w io.Writer) error {
	labels := r.labels()
	fmt.Fprintf(w, "\n%s: %s. Medians of the rounds, [lowest - highest].\n", r.Name, r.Title)
	fmt.Fprintf(w, "CPU is in µs per event; busy is the share of all cores, own that of load and target,\nothers that of processes that are no part of this: only a quiet machine measures.\n\n")
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintf(t, "callers\t\tevents/s\t\tvs %s\t\tp50 ms\tp99 ms\tCPU: ", r.Baseline)
	if len(labels) == 0 {
		fmt.Fprint(t, "n/a\t")
	}
	for _, label := range labels {
		fmt.Fprintf(t, "%s\t", label)
	}
	fmt.Fprintln(t, "sum\tbusy\town\tothers\terrors")
	for _, s := range r.Summary {
		ratio, between := "-", ""
		if s.Ratio != nil {
			ratio, between = fmt.Sprintf("%.2f", s.Ratio.Median), fmt.Sprintf("[%.2f - %.2f]", s.Ratio.Min, s.Ratio.Max)
		}
		fmt.Fprintf(t, "%d\t%s\t%.0f\t[%.0f - %.0f]\t%s\t%s\t%.2f\t%.2f\t", s.Callers, s.Contestant,
			s.PerSecond.Median, s.PerSecond.Min, s.PerSecond.Max, ratio, between, s.P50/1000, s.P99/1000)
		if len(labels) == 0 {
			fmt.Fprint(t, "n/a\t")
		}
		for _, label := range labels {
			if cpu, ok := s.CPU[label]; ok {
				fmt.Fprintf(t, "%.0f\t", cpu)
			} else {
				fmt.Fprint(t, "\t")
			}
		}
		if s.CPU == nil {
			fmt.Fprint(t, "n/a\tn/a\tn/a\tn/a")
		} else {
			fmt.Fprintf(t, "%.0f\t%.0f%%\t%.0f%%\t%.0f%%", s.CPUSum, 100*s.Busy, 100*s.Own, 100*s.Others)
		}
		fmt.Fprintf(t, "\t%d\n", s.Errors)
	}
	return t.Flush()
}

func (f *failureReport) print(w io.Writer) error {
	fmt.Fprintf(w, "\nfailures: batches of %d events from %d callers, half refused and half answered 500 by the target.\n\n", f.Events, f.Callers)
	if len(f.Held) == 0 {
		fmt.Fprintln(w, "What the processes hold: n/a on this system.")
		return nil
	}
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprint(t, "\t")
	for _, h := range f.Held {
		fmt.Fprintf(t, "%s\t\t\t", h.When)
	}
	fmt.Fprint(t, "\n\t")
	for range f.Held {
		fmt.Fprint(t, "RSS MiB\tfiles\tthreads\t")
	}
	fmt.Fprintln(t)
	for _, name := range slices.Sorted(maps.Keys(f.Held[0].Processes)) {
		fmt.Fprintf(t, "%s\t", name)
		for _, h := range f.Held {
			p := h.Processes[name]
			fmt.Fprintf(t, "%.1f\t%d\t%d\t", float64(p.RSS)/(1<<20), p.Files, p.Threads)
		}
		fmt.Fprintln(t)
	}
	if err := t.Flush(); err != nil {
		return err
	}
	for _, label := range slices.Sorted(maps.Keys(f.Goroutines)) {
		fmt.Fprintf(w, "goroutines at the end, each %s: %d\n", label, f.Goroutines[label])
	}
	return nil
}
