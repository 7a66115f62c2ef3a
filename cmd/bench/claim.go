package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"text/tabwriter"
	"time"

	"github.com/hookline/hookline/core"
	"github.com/hookline/hookline/core/journal"
	"github.com/hookline/hookline/plugins/transport"
)

const claimSection = "claim"

var claimKeepers = []string{keeperMemory, keeperSQLite, keeperPostgres}

const (
	stalledLanes = 50
	claimBatch   = 128              // as the daemon asks for
	farOff       = 1000 * time.Hour // when half of the heads are due; the others never are
)

// claimReport is what it takes to find what is due behind what is not.
type claimReport struct {
	Stalled int         `json:"stalled"`
	Lanes   int         `json:"lanes"`
	Cells   []claimCell `json:"cells"`
	Probes  []probed    `json:"probes"`
	Goals   []goal      `json:"goals"`
}

// claimCell is one database over all rounds.
type claimCell struct {
	Keeper  string     `json:"journal"`
	Loading float64    `json:"loading_seconds"`
	Empty   claimTimes `json:"empty"`
	Stalled claimTimes `json:"stalled"`
	Others  float64    `json:"busy_others,omitempty"` // Postgres's own processes are among them
}

// claimTimes are in microseconds.
type claimTimes struct {
	Claims  int     `json:"claims"`
	P50     float64 `json:"claim_p50"` // of a Claim that finds one
	P99     float64 `json:"claim_p99"`
	Nothing float64 `json:"nothing_p50"` // of a Claim that finds none
	Next    float64 `json:"next_p50"`
}

// claimStore is an open journal, and what was timed in it.
type claimStore struct {
	*journal.Store
	remove              func()
	lastID              uint64
	claim, nothing, due []time.Duration
}

func claimRun(ctx context.Context, b *bench, r *report) error {
	out := &claimReport{Stalled: b.open, Lanes: min(stalledLanes, b.open)}
	for _, keeper := range b.wanted(claimSection, claimKeepers) {
		c, err := b.claims(ctx, keeper, out)
		if errors.Is(err, errAbsent) {
			r.absent(b, claimSection+"-"+keeper, err)
			continue
		}
		if err != nil {
			return fmt.Errorf("%s: %w", keeper, err)
		}
		out.Cells = append(out.Cells, c)
		if c.Empty.P50 > 0 {
			out.Goals = append(out.Goals, atMost(2, " x an empty one", c.Stalled.P50/c.Empty.P50, "%s: a claim with %d stalled takes", keeper, b.open))
		}
	}
	r.Claim = out
	return nil
}

// claims takes turns in two journals of a kind, one of them filled.
func (b *bench) claims(ctx context.Context, keeper string, r *claimReport) (c claimCell, err error) {
	empty, err := b.openClaims(ctx, keeper)
	if err != nil {
		return c, err
	}
	defer empty.end()
	full, err := b.openClaims(ctx, keeper)
	if err != nil {
		return c, err
	}
	defer full.end()
	b.say("claim: loading %d deliveries, %s", b.open, keeper)
	took, err := full.stall(ctx, r.Stalled, r.Lanes)
	if err != nil {
		return c, err
	}
	m, err := b.meter(map[string][]int{"bench": {os.Getpid()}})
	if err != nil {
		return c, err
	}
	begun := time.Now()
	for round := 1; round <= b.rounds; round++ {
		if r.Probes, err = b.probe(r.Probes); err != nil {
			return c, err
		}
		b.say("claim: round %d of %d, %s", round, b.rounds, keeper)
		for _, s := range []*claimStore{empty, full} {
			for start := time.Now(); ; {
				if err := s.once(ctx); err != nil {
					return c, err
				}
				if time.Since(start) >= b.duration {
					break
				}
			}
		}
	}
	used, err := m.read(1, time.Since(begun))
	return claimCell{
		Keeper: keeper, Loading: took.Seconds(), Empty: empty.times(), Stalled: full.times(), Others: used.Others,
	}, err
}

func (b *bench) openClaims(ctx context.Context, keeper string) (*claimStore, error) {
	url, remove, err := b.newJournal(ctx, keeper)
	if err != nil {
		return nil, err
	}
	s, err := journal.Open(ctx, journal.Options{URL: url})
	if err != nil {
		remove()
		return nil, err
	}
	return &claimStore{Store: s, remove: remove}, nil
}

func (s *claimStore) end() { _ = s.Close(); s.remove() }

// stall begins n deliveries of a few records, whose first ones wait for something
// that does not come.
func (s *claimStore) stall(ctx context.Context, n, lanes int) (time.Duration, error) {
	for lane := range lanes {
		p := place(uint64(lane), 0) //nolint:gosec // it is positive
		p.Run, p.Shape = true, core.ShapeBody
		if err := begin(ctx, s.Store, p); err != nil {
			return 0, err
		}
		set := core.Settlement{State: core.StateWaiting, Code: transport.ConnectionRefused, Due: farOff}
		if lane%2 == 1 { // waits for an operator
			set.State, set.Code, set.Due = core.StateUnknown, transport.Timeout, -1
		}
		if err := settle(ctx, s.Store, p.Delivery, set); err != nil {
			return 0, err
		}
	}
	s.lastID = uint64(lanes) //nolint:gosec // it is positive
	return fill(ctx, s.Store, n, func(id uint64) uint64 { return id % s.lastID })
}

// once has a delivery of a record of its own come, claims and settles it.
func (s *claimStore) once(ctx context.Context) error {
	s.lastID++
	p := place(s.lastID, s.lastID)
	if err := begin(ctx, s.Store, p); err != nil {
		return err
	}
	start := time.Now()
	got, err := s.Claim(ctx, benchRoute, true, claimBatch)
	s.claim = append(s.claim, time.Since(start))
	if err != nil {
		return err
	}
	if len(got) != 1 || got[0].ID != p.ID {
		return fmt.Errorf("a claim found %d deliveries, and should have found the one that is due: a defect of package journal", len(got))
	}
	d := got[0]
	d.Attempts, d.Sent = 1, 1
	if err := settle(ctx, s.Store, d, core.Settlement{State: core.StateDelivered, Code: transport.Delivered, Due: -1}); err != nil {
		return err
	}
	start = time.Now()
	got, err = s.Claim(ctx, benchRoute, true, claimBatch)
	s.nothing = append(s.nothing, time.Since(start))
	if err != nil {
		return err
	}
	if len(got) != 0 {
		return fmt.Errorf("a claim found %d deliveries where none is due: a defect of package journal", len(got))
	}
	start = time.Now()
	_, _, err = s.Next(ctx, benchRoute)
	s.due = append(s.due, time.Since(start))
	return err
}

func (s *claimStore) times() claimTimes {
	return claimTimes{
		Claims: len(s.claim), P50: quantile(s.claim, 0.5), P99: quantile(s.claim, 0.99),
		Nothing: quantile(s.nothing, 0.5), Next: quantile(s.due, 0.5),
	}
}

func (r *claimReport) print(w io.Writer) {
	fmt.Fprintf(w, "\nclaim: in package journal, a claim that finds one delivery beside %d queued behind %d stalled heads of the route,\n", r.Stalled, r.Lanes)
	fmt.Fprintf(w, "in turns with one in an empty journal. Times in µs, of medians but for p99; the database's sync is in those of claim,\n")
	fmt.Fprintf(w, "and Postgres's own processes are among the others, which are no part of this.\n")
	printProbes(w, r.Probes)
	fmt.Fprintln(w)
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "\tloaded in s\tdeliveries\tclaims\tclaim\tratio\tp99\tfinds none\tratio\tnext\tratio\tothers")
	for _, c := range r.Cells {
		fmt.Fprintf(t, "%s\t\t0\t%d\t%.0f\t\t%.0f\t%.0f\t\t%.0f\t\t\n", c.Keeper, c.Empty.Claims, c.Empty.P50, c.Empty.P99, c.Empty.Nothing, c.Empty.Next)
		fmt.Fprintf(t, "\t%.1f\t%d\t%d\t%.0f\t%s\t%.0f\t%.0f\t%s\t%.0f\t%s\t%.0f%%\n", c.Loading, r.Stalled, c.Stalled.Claims,
			c.Stalled.P50, ratio(c.Stalled.P50, c.Empty.P50), c.Stalled.P99,
			c.Stalled.Nothing, ratio(c.Stalled.Nothing, c.Empty.Nothing), c.Stalled.Next, ratio(c.Stalled.Next, c.Empty.Next), 100*c.Others)
	}
	_ = t.Flush()
	printGoals(w, r.Goals)
}

func ratio(a, b float64) string {
	if b == 0 {
		return "-"
	}
	return fmt.Sprintf("%.2f", a/b)
}
