package main

import (
	"errors"
	"fmt"
	"maps"
	"runtime"
	"slices"
	"time"
)

// usage is the CPU that was used for some events.
type usage struct {
	// CPU is the microseconds per event of each kind of process; null where the
	// system does not tell. Busy is the share of all cores that they took
	// together, Own that of load generator and target, Others that of processes
	// which are no part of this: with more than a few percent numbers mean little.
	CPU    map[string]float64 `json:"cpu_us,omitempty"`
	Busy   float64            `json:"busy,omitempty"`
	Own    float64            `json:"busy_load_and_target,omitempty"`
	Others float64            `json:"busy_others,omitempty"`
}

// daemon is what Hookline took of it, its children included.
func (u usage) daemon() (sum float64) {
	for label, cpu := range u.CPU {
		if label != "load" && label != "target" {
			sum += cpu
		}
	}
	return sum
}

// meter reads the CPU times of a contestant and of the bench's own processes.
type meter struct {
	own, pids map[string][]int
	cpu       map[string]time.Duration
	machine   time.Duration
}

func (b *bench) meter(pids map[string][]int) (*meter, error) {
	m := &meter{own: map[string][]int{"load": {b.load.pid()}, "target": {b.target.pid()}}, pids: maps.Clone(pids)}
	maps.Copy(m.pids, m.own)
	m.machine, _ = machineTime() // its error is cpuTimes' error too
	var err error
	m.cpu, err = cpuTimes(m.pids)
	return m, err
}

// read tells what was used since for so many events in that time.
func (m *meter) read(events uint64, elapsed time.Duration) (u usage, err error) {
	machine, _ := machineTime()
	cpu, err := cpuTimes(m.pids)
	if err != nil {
		return u, fmt.Errorf("a process has ended: %w", err)
	}
	if m.cpu == nil || events == 0 {
		return u, nil
	}
	u.CPU = map[string]float64{}
	all := float64(elapsed) * float64(runtime.NumCPU())
	for label, t := range cpu {
		used := t - m.cpu[label]
		u.CPU[label] = microseconds(used) / float64(events)
		u.Busy += float64(used) / all
		if m.own[label] != nil {
			u.Own += float64(used) / all
		}
	}
	u.Others = max(0, float64(machine-m.machine)/all-u.Busy)
	return u, nil
}

// cpuTimes is the CPU time of each kind of process so far, nil if the system
// does not tell.
func cpuTimes(pids map[string][]int) (map[string]time.Duration, error) {
	out := make(map[string]time.Duration, len(pids))
	for label, all := range pids {
		for _, pid := range all {
			t, err := cpuTime(pid)
			if errors.Is(err, errors.ErrUnsupported) {
				return nil, nil
			}
			if err != nil {
				return nil, fmt.Errorf("%s: %w", label, err)
			}
			out[label] += t
		}
	}
	return out, nil
}

func microseconds(d time.Duration) float64 { return float64(d) / float64(time.Microsecond) }

// quantile is the q-th of some times, 0.5 for the median; they get sorted.
func quantile(all []time.Duration, q float64) float64 {
	if len(all) == 0 {
		return 0
	}
	slices.Sort(all)
	return microseconds(all[min(len(all)-1, int(q*float64(len(all))))])
}

// over is the median and the bounds of some figures.
func over(all []float64) spread {
	all = slices.Sorted(slices.Values(all))
	n := len(all)
	if n == 0 {
		return spread{}
	}
	return spread{Median: (all[(n-1)/2] + all[n/2]) / 2, Min: all[0], Max: all[n-1]}
}
