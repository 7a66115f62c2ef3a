package telemetry

import "github.com/prometheus/procfs"

// useOf reads /proc.
func useOf(pid int) (use, bool) {
	p, err := procfs.NewProc(pid)
	if err != nil {
		return use{}, false
	}
	stat, err := p.Stat()
	if err != nil {
		return use{}, false
	}
	return use{memory: float64(stat.ResidentMemory()), cpu: stat.CPUTime()}, true
}
