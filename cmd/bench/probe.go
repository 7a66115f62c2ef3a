package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"time"
)

const (
	probeSize  = 4 << 10
	probeCount = 300
	probeTime  = 3 * time.Second // at most: some disks are slow
)

// probe adds what the disk does now to those before.
func (b *bench) probe(probes []probed) ([]probed, error) {
	p, err := probe(b.dir, len(probes)+1)
	return append(probes, p), err
}

// probed is what it takes to append 4 KiB to a file and have the disk keep them:
// what no journal can do without.
type probed struct {
	Round  int     `json:"round"`
	Writes int     `json:"writes"`
	P50    float64 `json:"p50_us"`
	P99    float64 `json:"p99_us"`
}

func probe(dir string, round int) (p probed, err error) {
	f, err := os.CreateTemp(dir, "probe-")
	if err != nil {
		return p, err
	}
	defer func() { err = errors.Join(err, f.Close(), os.Remove(f.Name())) }()
	page := make([]byte, probeSize)
	var took []time.Duration
	for start := time.Now(); len(took) < probeCount && time.Since(start) < probeTime; {
		before := time.Now()
		if _, err := f.Write(page); err != nil {
			return p, err
		}
		if err := dataSync(f); err != nil {
			return p, err
		}
		took = append(took, time.Since(before))
	}
	return probed{Round: round, Writes: len(took), P50: quantile(took, 0.5), P99: quantile(took, 0.99)}, nil
}

// printProbes tells what those before a section's rounds come to.
func printProbes(w io.Writer, probes []probed) {
	var p50, p99 []float64
	for _, p := range probes {
		p50, p99 = append(p50, p.P50), append(p99, p.P99)
	}
	fmt.Fprintf(w, "A write of 4 KiB with fdatasync in the same folder, before each round: p50 %s, p99 %s µs.\n", over(p50), over(p99))
}
