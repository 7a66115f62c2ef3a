// Command bench measures Hookline beside a direct call and Go's ReverseProxy: on
// one machine, in one run, taking turns, each in a process of its own.
//
//	go run ./cmd/bench
//	go run ./cmd/bench --only speed --callers 64 --rounds 5 --json
//	go run ./cmd/bench --only journal,accept,claim,restart --dir /var/tmp
//
// Events that get lost, change on their way or are not answered with success
// make it fail: speed counts only if all of them arrived.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	code := run(ctx, os.Args[1:], os.Stdin, os.Stdout, os.Stderr)
	stop()
	os.Exit(code)
}

// options are the flags.
type options struct {
	duration, warmup time.Duration
	rounds           int
	callers          []int
	acceptCallers    []int // of the section "accept"
	only             []string
	failures         int
	open             int
	events           int
	dir              string
	json             bool
	hookline         string
}

// bench is one run.
type bench struct {
	options
	hookline string // the executable
	dir      string
	progress io.Writer
	load     *worker
	target   *worker
	targetAt string // host:port
}

// section is a part of the report. A new one is a new line in sections.
type section struct {
	name string
	run  func(ctx context.Context, b *bench, r *report) error
	// contestants that --only can name
	contestants []string
}

func sections() []section {
	var out []section
	for _, race := range []race{speed, hop} {
		out = append(out, section{name: race.name, run: race.run, contestants: race.names()})
	}
	return append(out,
		section{name: "failures", run: failures},
		section{name: journalSection, run: journalRun, contestants: journalRace.names()},
		section{name: acceptSection, run: acceptRun, contestants: keeperNames(acceptSection, acceptKeepers)},
		section{name: claimSection, run: claimRun, contestants: keeperNames(claimSection, claimKeepers)},
		section{name: restartSection, run: restartRun},
		section{name: careSection, run: careRun},
		section{name: searchSection, run: searchRun},
		section{name: transportsSection, run: transportsRun, contestants: transportNames()},
	)
}

// run is the program, and with "as" first one of its worker processes.
func run(ctx context.Context, args []string, stdin io.Reader, stdout, stderr io.Writer) int {
	if len(args) == 2 && args[0] == asRole {
		return runRole(args[1], stdin, stdout, stderr)
	}
	o, err := parse(args, stderr)
	if errors.Is(err, flag.ErrHelp) {
		return 0
	}
	if err != nil {
		fmt.Fprintln(stderr, "bench:", err)
		return 2
	}
	r, err := measure(ctx, o, stderr)
	if err != nil {
		fmt.Fprintln(stderr, "bench:", err)
		return 3
	}
	if o.json {
		enc := json.NewEncoder(stdout)
		enc.SetIndent("", "  ")
		err = enc.Encode(r)
	} else {
		err = r.print(stdout)
	}
	if err != nil {
		fmt.Fprintln(stderr, "bench:", err)
		return 3
	}
	if len(r.Faults) > 0 {
		return 1
	}
	return 0
}

func parse(args []string, stderr io.Writer) (o options, err error) {
	f := flag.NewFlagSet("bench", flag.ContinueOnError)
	f.SetOutput(stderr)
	f.DurationVar(&o.duration, "duration", 2*time.Second, "how long each cell is measured")
	f.DurationVar(&o.warmup, "warmup", 500*time.Millisecond, "how long it runs before that")
	f.IntVar(&o.rounds, "rounds", 3, "how often the contestants take turns")
	callers := f.String("callers", "1,16,64", "numbers of callers at a time")
	only := f.String("only", "", "sections or contestants, of: "+strings.Join(names(), ", "))
	f.IntVar(&o.failures, "failures", 10000, "failing events of the section \"failures\", of which it has two batches")
	f.IntVar(&o.open, "open", 100000, "open deliveries of the sections \"claim\" and \"restart\"")
	f.IntVar(&o.events, "events", 1000000, "events of the section \"search\"")
	f.StringVar(&o.dir, "dir", "", "`FOLDER` for everything, and so for the SQLite journals; otherwise the system's for temporary files")
	f.BoolVar(&o.json, "json", false, "print JSON, with every single cell")
	f.StringVar(&o.hookline, "hookline", "", "`PATH` of a hookline executable; otherwise it is built from this module")
	if err := f.Parse(args); err != nil {
		return o, err
	}
	if f.NArg() > 0 {
		return o, fmt.Errorf("%q is not a flag; see --help", f.Arg(0))
	}
	for s := range strings.SplitSeq(*callers, ",") {
		n, err := strconv.Atoi(strings.TrimSpace(s))
		if err != nil || n < 1 || n > maxCallers {
			return o, fmt.Errorf("--callers %s: must be numbers from 1 to %d with commas between", *callers, maxCallers)
		}
		o.callers = append(o.callers, n)
	}
	o.acceptCallers = o.callers
	if !given(f, "callers") {
		o.acceptCallers = []int{16, 64} // one caller makes no backlog
	}
	if *only != "" {
		o.only = strings.Split(*only, ",")
		for _, name := range o.only {
			if !slices.Contains(names(), name) {
				return o, fmt.Errorf("--only %s: use %s", name, strings.Join(names(), ", "))
			}
		}
	}
	if o.rounds < 1 || o.failures < 1 || o.open < 1 || o.events < 1 || o.duration <= 0 || o.warmup < 0 {
		return o, errors.New("--rounds, --failures, --open, --events and --duration must be more than 0, and --warmup not less")
	}
	return o, nil
}

// given tells whether a flag is on the command line.
func given(f *flag.FlagSet, name string) (yes bool) {
	f.Visit(func(g *flag.Flag) { yes = yes || g.Name == name })
	return yes
}

// maxCallers is what the daemon takes at a time with its defaults.
const maxCallers = 1024

// names are what --only understands.
func names() (out []string) {
	for _, s := range sections() {
		out = append(out, s.name)
		out = append(out, s.contestants...)
	}
	return out
}

// wants tells whether a section or a contestant is to run.
func (o *options) wants(s section) bool {
	return len(o.only) == 0 || slices.Contains(o.only, s.name) ||
		slices.ContainsFunc(s.contestants, func(c string) bool { return slices.Contains(o.only, c) })
}

// measure runs the sections.
func measure(ctx context.Context, o options, progress io.Writer) (_ *report, err error) {
	b := &bench{options: o, progress: progress}
	if b.dir, err = os.MkdirTemp(o.dir, "hookline-bench-"); err != nil {
		return nil, fmt.Errorf("--dir must be a folder that can be written to: %w", err)
	}
	if b.dir, err = filepath.Abs(b.dir); err != nil {
		return nil, err
	}
	defer func() { _ = os.RemoveAll(b.dir) }()
	if err := b.findHookline(ctx); err != nil {
		return nil, err
	}
	r := newReport(b)
	if b.load, err = startWorker(ctx, roleLoad); err != nil {
		return nil, err
	}
	defer b.load.stop()
	if b.target, err = startWorker(ctx, roleTarget); err != nil {
		return nil, err
	}
	defer b.target.stop()
	if err := b.target.call("listen", nil, &b.targetAt); err != nil {
		return nil, err
	}
	for _, s := range sections() {
		if !o.wants(s) {
			continue
		}
		if err := s.run(ctx, b, r); err != nil {
			if ctx.Err() != nil {
				err = errors.New("interrupted")
			}
			return nil, fmt.Errorf("section %s: %w", s.name, err)
		}
	}
	return r, nil
}

// findHookline takes the executable that was named, or builds it.
func (b *bench) findHookline(ctx context.Context) (err error) {
	if b.options.hookline != "" {
		b.hookline, err = filepath.Abs(b.options.hookline)
		return err
	}
	b.say("building hookline")
	b.hookline = filepath.Join(b.dir, "hookline")
	if runtime.GOOS == "windows" {
		b.hookline += ".exe"
	}
	cmd := exec.CommandContext(ctx, "go", "build", "-trimpath", "-o", b.hookline, "github.com/hookline/hookline/cmd/hookline")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("go build: %w\n%s", err, out)
	}
	return nil
}

func (b *bench) say(format string, args ...any) {
	fmt.Fprintf(b.progress, "bench: "+format+"\n", args...)
}
