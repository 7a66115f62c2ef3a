package main

import (
	"context"
	"fmt"
	"io"
	"text/tabwriter"
)

const journalSection = "journal"

// The contestants, which differ in nothing but journal.url.
const (
	withoutJournal = "journal-none"
	withSQLite     = "journal-" + keeperSQLite
	withPostgres   = "journal-" + keeperPostgres
)

// journalRace is what the journal adds to the whole way.
var journalRace = race{
	name: journalSection, title: "From the caller to the target and back, with and without a journal", baseline: withoutJournal,
	contestants: []contestant{
		{name: withoutJournal, start: func(ctx context.Context, b *bench) (*entry, error) {
			return enterHookline(ctx, b, withoutJournal, "", false)
		}},
		{name: withSQLite, start: func(ctx context.Context, b *bench) (*entry, error) {
			return enterJournal(ctx, b, withSQLite, keeperSQLite)
		}},
		{name: withPostgres, start: func(ctx context.Context, b *bench) (*entry, error) {
			return enterJournal(ctx, b, withPostgres, keeperPostgres)
		}},
	},
}

func enterJournal(ctx context.Context, b *bench, name, keeper string) (*entry, error) {
	journal, remove, err := b.newJournal(ctx, keeper)
	if err != nil {
		return nil, err
	}
	e, err := enterHookline(ctx, b, name, journal, false)
	if err != nil {
		remove()
		return nil, err
	}
	stop := e.stop
	e.stop = func() { stop(); remove() }
	return e, nil
}

// journalReport is what the race's cells say of the journal alone.
type journalReport struct {
	Probes []probed `json:"probes"`
	Added  []added  `json:"added"`
	Goals  []goal   `json:"goals"`
}

// added is what a journal adds to an event, compared round by round.
type added struct {
	Contestant string  `json:"contestant"`
	Callers    int     `json:"callers"`
	CPU        *spread `json:"cpu_us,omitempty"` // of Hookline with its children
	P50        spread  `json:"p50_us"`
	Syncs      spread  `json:"p50_syncs"` // P50 in the probe's medians
	Ratio      float64 `json:"-"`
}

func journalRun(ctx context.Context, b *bench, r *report) error {
	out := &journalReport{}
	race := journalRace
	race.before = func() (err error) {
		out.Probes, err = b.probe(out.Probes)
		return err
	}
	had := len(r.Races)
	if err := race.run(ctx, b, r); err != nil {
		return err
	}
	if len(r.Races) > had {
		out.Added = journalAdds(r.Races[had], out.Probes)
		out.Goals = journalGoals(out.Added)
	}
	r.Journal = out
	return nil
}

// journalAdds compares the cells with those of the same round without a journal.
func journalAdds(r raceReport, probes []probed) (out []added) {
	type place struct{ callers, round int }
	without := map[place]cell{}
	for _, c := range r.Cells {
		if c.Contestant == withoutJournal {
			without[place{c.Callers, c.Round}] = c
		}
	}
	for _, s := range r.Summary {
		if s.Contestant == withoutJournal {
			continue
		}
		var cpu, p50, syncs []float64
		for _, c := range r.Cells {
			base, ok := without[place{c.Callers, c.Round}]
			if !ok || c.Contestant != s.Contestant || c.Callers != s.Callers {
				continue
			}
			if c.CPU != nil && base.CPU != nil {
				cpu = append(cpu, c.daemon()-base.daemon())
			}
			p50 = append(p50, c.P50-base.P50)
			if c.Round <= len(probes) && probes[c.Round-1].P50 > 0 {
				syncs = append(syncs, (c.P50-base.P50)/probes[c.Round-1].P50)
			}
		}
		if len(p50) == 0 {
			continue
		}
		a := added{Contestant: s.Contestant, Callers: s.Callers, P50: over(p50), Syncs: over(syncs)}
		if len(cpu) > 0 {
			all := over(cpu)
			a.CPU = &all
		}
		if s.Ratio != nil {
			a.Ratio = s.Ratio.Median
		}
		out = append(out, a)
	}
	return out
}

func journalGoals(all []added) (goals []goal) {
	for _, a := range all {
		if a.Contestant != withSQLite {
			continue
		}
		if a.CPU != nil {
			goals = append(goals, atMost(150, " µs", a.CPU.Median, "%s at %d: CPU added to an event", a.Contestant, a.Callers))
		}
		switch a.Callers {
		case 1:
			goals = append(goals, atMost(1.5, " x one fdatasync", a.Syncs.Median, "%s at 1: p50 grows by", a.Contestant))
		case 64:
			goals = append(goals, atLeast(0.75, " of journal off", a.Ratio, "%s at 64: events/s", a.Contestant))
		}
	}
	return goals
}

func (r *journalReport) print(w io.Writer) {
	fmt.Fprintln(w)
	printProbes(w, r.Probes)
	if len(r.Added) == 0 {
		return
	}
	fmt.Fprintf(w, "What the journal adds to an event; Postgres's own processes are among the others above.\n\n")
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "callers\t\tCPU µs\tp50 µs\tin fdatasyncs")
	for _, a := range r.Added {
		cpu := "n/a"
		if a.CPU != nil {
			cpu = a.CPU.String()
		}
		fmt.Fprintf(t, "%d\t%s\t%s\t%s\t%s\n", a.Callers, a.Contestant, cpu, a.P50, a.Syncs)
	}
	_ = t.Flush()
	printGoals(w, r.Goals)
}

// String is the median with the bounds.
func (s spread) String() string {
	return fmt.Sprintf("%s [%s - %s]", figure(s.Median), figure(s.Min), figure(s.Max))
}
