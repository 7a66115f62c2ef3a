package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"text/tabwriter"
	"time"

	"github.com/hookline/hookline/plugins/transport"
)

const transportsSection = "transports"

// transportEntry is a transport in the box with its real server.
type transportEntry struct {
	name string
	make func() transport.Transport
	// open finds the server and makes ready what messages are sent to. Where there is
	// none, the error is errAbsent. end removes what was made.
	open func(ctx context.Context, b *bench) (settings any, end func(), err error)
}

// transportEntries are measured in this order; each has a file of its own.
var transportEntries = []transportEntry{
	fileEntry, postgresEntry, mariadbEntry, smtpEntry, amqpEntry, natsEntry, mqttEntry, mllpEntry,
}

func transportNames() (out []string) {
	for _, e := range transportEntries {
		out = append(out, transportsSection+"-"+e.name)
	}
	return out
}

// transportsReport is what each transport does against its real server, without
// Hookline around it.
type transportsReport struct {
	Cells []transportCell `json:"cells"`
}

type transportCell struct {
	Transport string  `json:"transport"`
	Callers   int     `json:"callers"`
	Round     int     `json:"round"`
	PerSecond float64 `json:"delivered_per_second"`
	P50       float64 `json:"p50_us"`
	P99       float64 `json:"p99_us"`
	Errors    uint64  `json:"errors"`
}

func transportsRun(ctx context.Context, b *bench, r *report) error {
	out := &transportsReport{}
	for _, e := range transportEntries {
		if name := transportsSection + "-" + e.name; len(b.only) > 0 && !slices.Contains(b.only, transportsSection) && !slices.Contains(b.only, name) {
			continue
		}
		settings, end, err := e.open(ctx, b)
		if errors.Is(err, errAbsent) {
			r.absent(b, transportsSection+"-"+e.name, err)
			continue
		}
		if err == nil {
			err = out.measure(ctx, b, r, e, settings)
			end()
		}
		if err != nil {
			return fmt.Errorf("%s: %w", e.name, err)
		}
	}
	if len(out.Cells) > 0 {
		r.Transports = out
	}
	return nil
}

func (out *transportsReport) measure(ctx context.Context, b *bench, r *report, e transportEntry, settings any) error {
	t := e.make()
	if c, ok := t.(io.Closer); ok {
		defer func() { _ = c.Close() }()
	}
	text, err := json.Marshal(settings)
	if err != nil {
		return err
	}
	if err := t.Configure(ctx, text); err != nil {
		return err
	}
	for round := 1; round <= b.rounds; round++ {
		for _, callers := range b.callers {
			b.say("%s: %s, round %d of %d, %d callers", transportsSection, e.name, round, b.rounds, callers)
			if _, err := deliverFor(ctx, t, callers, b.warmup); err != nil {
				return err
			}
			c, err := deliverFor(ctx, t, callers, b.duration)
			if err != nil {
				return err
			}
			c.Transport, c.Round = e.name, round
			if c.Errors > 0 {
				r.fault("%s at %d callers: %d of its deliveries failed", e.name, callers, c.Errors)
			}
			out.Cells = append(out.Cells, c)
		}
	}
	return nil
}

var deliveries atomic.Int64

// deliverFor has that many callers deliver one message after another.
func deliverFor(ctx context.Context, t transport.Transport, callers int, d time.Duration) (c transportCell, err error) {
	var mu sync.Mutex
	var took []time.Duration
	var failed transport.Receipt
	var work sync.WaitGroup
	start := time.Now()
	for range callers {
		work.Go(func() {
			var mine []time.Duration
			for time.Since(start) < d && ctx.Err() == nil {
				n := strconv.FormatInt(deliveries.Add(1), 10)
				id := "bench-" + strconv.Itoa(os.Getpid()) + "-" + n
				m := &transport.Message{
					ID: id, EventID: id, DeliveryID: id, Attempt: 1, Kind: "update",
					ContentType: "application/json", Payload: []byte(sent.Text),
				}
				attempt, cancel := context.WithTimeout(ctx, 10*time.Second)
				begun := time.Now()
				receipt := t.Deliver(attempt, m)
				cancel()
				if receipt.Effect == transport.Done {
					mine = append(mine, time.Since(begun))
					continue
				}
				mu.Lock()
				c.Errors++
				failed = receipt
				mu.Unlock()
			}
			mu.Lock()
			took = append(took, mine...)
			mu.Unlock()
		})
	}
	work.Wait()
	elapsed := time.Since(start)
	if ctx.Err() != nil {
		return c, ctx.Err()
	}
	if d > 0 && len(took) == 0 {
		return c, fmt.Errorf("nothing was delivered: %s (%s)", failed.Code, failed.Detail)
	}
	slices.Sort(took)
	at := func(q float64) float64 {
		if len(took) == 0 {
			return 0
		}
		return float64(took[int(math.Ceil(q*float64(len(took))))-1].Nanoseconds()) / 1e3
	}
	c.Callers, c.PerSecond, c.P50, c.P99 = callers, float64(len(took))/elapsed.Seconds(), at(0.50), at(0.99)
	return c, nil
}

func (out *transportsReport) print(w io.Writer) {
	fmt.Fprint(w, "\nTransports against their real servers, without Hookline around them\n\n")
	tw := tabwriter.NewWriter(w, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(tw, "transport\tcallers\tdelivered/s\tp50 µs\tp99 µs\terrors\t")
	type row struct {
		name    string
		callers int
	}
	var order []row
	cells := map[row][]transportCell{}
	for _, c := range out.Cells {
		at := row{c.Transport, c.Callers}
		if cells[at] == nil {
			order = append(order, at)
		}
		cells[at] = append(cells[at], c)
	}
	for _, at := range order {
		median := func(f func(transportCell) float64) float64 {
			var all []float64
			for _, c := range cells[at] {
				all = append(all, f(c))
			}
			return over(all).Median
		}
		var failed uint64
		for _, c := range cells[at] {
			failed += c.Errors
		}
		fmt.Fprintf(tw, "%s\t%d\t%.0f\t%.0f\t%.0f\t%d\t\n", at.name, at.callers,
			median(func(c transportCell) float64 { return c.PerSecond }),
			median(func(c transportCell) float64 { return c.P50 }),
			median(func(c transportCell) float64 { return c.P99 }), failed)
	}
	_ = tw.Flush() // to a writer that nobody could be told about
}
