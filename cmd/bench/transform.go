package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
)

const transformSection = "transform"

// engineRace is what the script engine and the hop to its process take.
var engineRace = race{
	name: transformSection, title: "A script on an event, without the daemon", baseline: scriptNewRuntime,
	contestants: []contestant{
		{name: scriptNewRuntime, start: enterScript(scriptNewRuntime)},
		{name: scriptInProcess, start: enterScript(scriptInProcess)},
		{name: scriptChild, start: enterScript(scriptChild)},
	},
}

func enterScript(way string) func(context.Context, *bench) (*entry, error) {
	return func(_ context.Context, b *bench) (*entry, error) {
		script := &scriptSpec{Way: way, Path: filepath.Join(b.dir, "rename.js")}
		if way != scriptChild {
			return &entry{spec: loadSpec{Script: script}, processes: noProcesses, stop: func() {}}, nil
		}
		script.Command = []string{b.hookline, "child", "transforms"}
		return enterHop(b, loadSpec{Script: script}, nil), nil
	}
}

// daemonRace is the whole way with a script, as the section "speed" has it.
var daemonRace = race{
	name: transformSection + "-daemon", title: "From the caller to the target and back with a script, without a journal", baseline: "script-reverseproxy",
	contestants: []contestant{
		{name: "script-reverseproxy", start: func(ctx context.Context, b *bench) (*entry, error) { return enterProxy(ctx, b, false) }},
		{name: "script-hookline", start: func(ctx context.Context, b *bench) (*entry, error) {
			return enterHookline(ctx, b, "script-hookline", "", true)
		}},
	},
}

// transformReport is what the races say of scripts.
type transformReport struct {
	Goals []goal `json:"goals"`
}

func transformRun(ctx context.Context, b *bench, r *report) error {
	if err := os.WriteFile(filepath.Join(b.dir, "rename.js"), []byte(renameScript), 0o600); err != nil {
		return err
	}
	had := len(r.Races)
	for _, race := range []race{engineRace, daemonRace} {
		// The section's name stands for both.
		race.whole = len(b.only) == 0 || slices.Contains(b.only, transformSection)
		if err := race.run(ctx, b, r); err != nil {
			return err
		}
	}
	r.Transform = &transformReport{Goals: transformGoals(r.Races[had:])}
	return nil
}

// The numbers of callers that the goals are for.
const (
	hopCallers    = 16
	daemonCallers = 64
)

// transformGoals compares what was measured; on a system that tells no CPU times,
// or with other numbers of callers, there is less to compare.
func transformGoals(races []raceReport) (goals []goal) {
	find := func(contestant string, callers int) *summary {
		for _, r := range races {
			for i, s := range r.Summary {
				if s.Contestant == contestant && s.Callers == callers {
					return &r.Summary[i]
				}
			}
		}
		return nil
	}
	var callers []int
	for _, r := range races {
		for _, s := range r.Summary {
			callers = append(callers, s.Callers)
		}
	}
	slices.Sort(callers)
	for i, n := range slices.Compact(callers) {
		naive, local, child := find(scriptNewRuntime, n), find(scriptInProcess, n), find(scriptChild, n)
		// More callers than processors only make the engine keep more runtimes.
		if i == 0 && naive != nil && local != nil && local.CPUSum > 0 {
			goals = append(goals, atLeast(5, "x", naive.CPUSum/local.CPUSum, "events per CPU second against a new runtime per event, %d callers", n))
		}
		if child != nil && local != nil && local.CPUSum > 0 && n == hopCallers {
			goals = append(goals, atMost(60, " µs", child.CPUSum-local.CPUSum, "CPU that the hop adds to an event, %d callers", n))
		}
		if whole := find("script-hookline", n); whole != nil && whole.Ratio != nil && n == daemonCallers {
			goals = append(goals, atLeast(0.7, "", whole.Ratio.Median, "requests/s of the whole daemon with a script against ReverseProxy, %d callers", n))
		}
	}
	return goals
}

func (r *transformReport) print(w io.Writer) {
	printGoals(w, r.Goals)
	if len(r.Goals) > 0 {
		fmt.Fprintln(w, "Of a script alone, CPU is that of the load generator too, which it runs in or is called by.")
	}
}
