//go:build linux

package torture_test

import (
	"context"
	"fmt"
	"hash/fnv"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/hookline/hookline/core/app"
)

// modeDaemon makes this binary a daemon. Its argument is the config file.
const modeDaemon = "daemon"

func TestMain(m *testing.M) {
	if len(os.Args) > 1 {
		switch os.Args[1] {
		case app.ChildCommand:
			// Not os.Exit: with -race it sleeps a second, in case of late reports.
			syscall.Exit(app.RunChild(os.Args[2:]))
		case modeDaemon:
			syscall.Exit(runDaemon(os.Args[2]))
		}
	}
	goleak.VerifyTestMain(m)
}

const (
	usualTime = 20 * time.Second // of load, per engine
	roundTime = time.Minute      // at most; then everything is looked at
	settling  = 60 * time.Second // for what is left once nothing is broken any more
)

func TestSQLite(t *testing.T) {
	torture(t, 1, func(t *testing.T, r *round) {
		r.journal = "sqlite:" + filepath.Join(r.dir, "hookline.db")
		r.reader = openSQLite(t, filepath.Join(r.dir, "hookline.db"))
	})
}

func TestPostgres(t *testing.T) {
	url := os.Getenv("HOOKLINE_TEST_POSTGRES")
	if url == "" {
		url = "postgres://postgres@127.0.0.1:5432/test?sslmode=disable"
	}
	if err := reachable(url); err != nil {
		fmt.Println("!!! No Postgres: the torture of three daemons on one journal is not run:", err)
		return
	}
	torture(t, 3, func(t *testing.T, r *round) {
		r.journal, r.reader = newSchema(t, url)
	})
}

// torture runs rounds until the time is up. Each begins with an empty journal,
// so that hours of load need no more memory than a minute.
func torture(t *testing.T, daemons int, open func(*testing.T, *round)) {
	length, seed := usualTime, rand.Uint64N(1e9)
	if s := os.Getenv("HOOKLINE_TORTURE"); s != "" {
		var err error
		if length, err = time.ParseDuration(s); err != nil {
			t.Fatalf("HOOKLINE_TORTURE: %v", err)
		}
	}
	if s := os.Getenv("HOOKLINE_TORTURE_SEED"); s != "" {
		var err error
		if seed, err = strconv.ParseUint(s, 10, 64); err != nil {
			t.Fatalf("HOOKLINE_TORTURE_SEED: %v", err)
		}
	}
	for left := length; left > 0 && !t.Failed(); seed++ {
		load := min(left, roundTime)
		left -= load
		newRound(t, daemons, seed, open).run(load)
	}
}

// round is one load with all that is done to it, and what was seen.
type round struct {
	t       *testing.T
	seed    uint64
	start   time.Time
	dir     string
	journal string // its URL
	reader  *reader
	target  *target
	daemons []*daemon
	callers []*caller
	proxies sync.WaitGroup

	mu       sync.Mutex
	blows    []blow
	broken   []string // what is wrong, told at the end with the seed
	evidence *evidence
}

// blow is something that chaos did to a daemon or its children.
type blow struct {
	at, until time.Time // until is at, but for a cut
	daemon    int
	what      string
	lossy     bool // outcomes of what ran there may be unknown by it
}

func newRound(t *testing.T, daemons int, seed uint64, open func(*testing.T, *round)) *round {
	t.Helper()
	dir, err := os.MkdirTemp("", "hl-torture-") // t.TempDir is too long for sockets
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("HOOKLINE_TORTURE_SEED=%d", seed)
	r := &round{t: t, seed: seed, dir: dir, start: time.Now()}
	t.Cleanup(func() {
		if keep() || t.Failed() {
			t.Log("kept, with the logs: " + dir)
			return
		}
		_ = os.RemoveAll(dir)
	})
	open(t, r)
	r.target = newTarget(t, r.random("target"))
	for n := range daemons {
		r.daemons = append(r.daemons, newDaemon(r, n))
	}
	for n := range 12 + 4*daemons {
		r.callers = append(r.callers, newCaller(r, n))
	}
	return r
}

func keep() bool { return os.Getenv("HOOKLINE_TORTURE_KEEP") != "" }

// random is a source of choices that depends on the seed and the purpose alone.
func (r *round) random(purpose string) *rand.Rand {
	h := fnv.New64a()
	_, _ = h.Write([]byte(purpose))
	return rand.New(rand.NewPCG(r.seed, h.Sum64()))
}

// wrong notes a broken promise.
func (r *round) wrong(format string, args ...any) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.broken = append(r.broken, fmt.Sprintf(format, args...))
}

func (r *round) hit(b blow) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.blows = append(r.blows, b)
}

// since is a time as the reports show it.
func (r *round) since(at time.Time) string { return fmt.Sprintf("%8.3f", at.Sub(r.start).Seconds()) }

func (r *round) run(load time.Duration) {
	t := r.t
	var daemons, rest sync.WaitGroup
	life, end := context.WithCancel(context.Background())
	for _, d := range r.daemons {
		daemons.Go(func() { d.keep(life) })
	}
	t.Cleanup(func() {
		end()
		daemons.Wait()
		r.target.stop()
		for _, d := range r.daemons {
			if d.proxy != nil {
				d.proxy.stop()
			}
		}
		r.proxies.Wait()
	})
	for _, d := range r.daemons {
		if !d.await(30 * time.Second) {
			t.Fatalf("daemon %d did not start:\n%s", d.n, d.log.tail())
		}
	}

	ctx, stop := context.WithTimeout(context.Background(), load)
	defer stop()
	var chaos sync.WaitGroup
	chaos.Go(func() { r.chaos(ctx) })
	rest.Go(func() { r.target.weather(ctx) })
	for _, c := range r.callers {
		rest.Go(func() { c.run(ctx) })
	}
	chaos.Wait()
	rest.Wait() // the target is well, nothing is cut, every caller has its last answer

	healed := time.Now()
	for _, d := range r.daemons {
		if !d.await(30 * time.Second) {
			r.wrong("daemon %d did not come back within 30s although nothing was in its way", d.n)
		}
	}
	left := r.settle()
	settled := time.Since(healed)
	end()
	daemons.Wait()
	r.target.stop()
	r.noChildren()
	r.check(left)

	for _, d := range r.daemons {
		for _, line := range d.log.bad() {
			r.wrong("daemon %d wrote: %s", d.n, line)
		}
	}
	r.report(settled)
}

// settle waits until the journal has nothing left to do, and returns how many
// deliveries were not done in time.
func (r *round) settle() (left int) {
	ctx, cancel := context.WithTimeout(context.Background(), settling)
	defer cancel()
	tick := time.NewTicker(200 * time.Millisecond)
	defer tick.Stop()
	for {
		quiet := true // what a proxy still holds may change anything
		for _, d := range r.daemons {
			quiet = quiet && d.proxy.quiet()
		}
		n, err := r.reader.unsettled(ctx)
		if err == nil && n == 0 && quiet {
			return 0
		}
		if err == nil {
			left = n
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return left
		}
	}
}

// report fails the test with all that is wrong, or says what it has seen.
func (r *round) report(settled time.Duration) {
	r.t.Helper()
	r.t.Log(r.figures(settled))
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.broken) == 0 {
		return
	}
	const most = 12
	shown := r.broken[:min(most, len(r.broken))]
	r.t.Errorf("seed %d: %d promises are broken, of which the first are:\n\n%s", r.seed, len(r.broken), strings.Join(shown, "\n\n"))
	for _, d := range r.daemons {
		r.t.Logf("the log of daemon %d ends with:\n%s", d.n, d.log.tail())
	}
}
