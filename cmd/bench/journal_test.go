package main

import (
	"bytes"
	"flag"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"
)

var update = flag.Bool("update", false, "write what is printed into testdata/*.golden")

// checkJournal looks at what TestRun has found out about the journal.
func checkJournal(t *testing.T, r *report, withoutPostgres bool) {
	keepers := 2
	if withoutPostgres {
		keepers = 1
	}
	if r.Journal == nil || r.Accept == nil || r.Claim == nil || r.Restart == nil {
		t.Fatalf("a section is missing: %+v", r)
	}
	if n := len(r.Journal.Added); n != keepers*2 {
		t.Errorf("journal: %d comparisons, want %d", n, keepers*2)
	}
	for _, a := range r.Journal.Added {
		if a.P50.Median == 0 || a.Syncs.Median == 0 || (a.CPU != nil) != (runtime.GOOS == "linux") {
			t.Errorf("journal: %+v", a)
		}
	}
	if n := len(r.Accept.Cells); n != keepers*2*2 {
		t.Errorf("accept: %d cells, want %d", n, keepers*2*2)
	}
	for _, c := range r.Accept.Cells {
		if c.Accepted <= 0 || c.Delivered < 0 || c.P50 <= 0 || c.Errors > 0 {
			t.Errorf("accept: %+v", c)
		}
	}
	if n := len(r.Claim.Cells); n != keepers+1 {
		t.Errorf("claim: %d cells, want %d", n, keepers+1)
	}
	for _, c := range r.Claim.Cells {
		for _, times := range []claimTimes{c.Empty, c.Stalled} {
			if times.Claims < 2 || times.P50 <= 0 || times.Nothing <= 0 || times.Next <= 0 {
				t.Errorf("claim, %s: %+v", c.Keeper, times)
			}
		}
	}
	var after []string
	for _, s := range r.Restart.Starts {
		after = append(after, s.After)
		if s.Child <= 0 || s.Listening <= 0 || s.First <= s.Child || s.FirstRate <= 0 || s.Repeated != 0 && s.After != "kill -9" {
			t.Errorf("restart: %+v", s)
		}
	}
	// The last ones may be left out where much is drained until the daemon ends.
	if want := []string{"loading", "SIGTERM", "kill -9", "SIGTERM", "kill -9"}; len(after) < 3 || !slices.Equal(after[:3], want[:3]) {
		t.Errorf("restart: starts after %q, want %q", after, want)
	}
}

// journalCells are two rounds at two numbers of callers.
func journalCells() []cell {
	var out []cell
	for round := 1; round <= 2; round++ {
		for _, callers := range []int{1, 64} {
			for i, name := range []string{withoutJournal, withSQLite} {
				c := cell{Contestant: name, Callers: callers, Round: round, Events: 1000, PerSecond: float64(8000 - 1600*i), P50: float64(200 + 400*i*round), P99: 2000}
				c.Ratio = c.PerSecond / 8000
				c.CPU = map[string]float64{"load": 20, "target": 20, "hookline": float64(100 + (100+10*round)*i), "http child": 60}
				out = append(out, c)
			}
		}
	}
	return out
}

func TestJournalAdds(t *testing.T) {
	r := newRaceReport(journalRace, []string{withoutJournal, withSQLite}, []int{1, 64}, journalCells())
	all := journalAdds(r, []probed{{Round: 1, P50: 400}, {Round: 2, P50: 400}})
	if len(all) != 2 {
		t.Fatalf("%+v", all)
	}
	a := all[0]
	if a.Callers != 1 || a.Contestant != withSQLite || a.P50 != (spread{600, 400, 800}) || a.Syncs != (spread{1.5, 1, 2}) ||
		a.CPU == nil || *a.CPU != (spread{115, 110, 120}) || a.Ratio != 0.8 {
		t.Errorf("%+v, CPU %+v", a, a.CPU)
	}
	for _, g := range journalGoals(all) {
		if !g.Met {
			t.Errorf("%s", g)
		}
	}
}

// TestPrint shows each new part of the report.
func TestPrint(t *testing.T) {
	probes := []probed{{Round: 1, Writes: 300, P50: 400, P99: 900}, {Round: 2, Writes: 300, P50: 420, P99: 1100}}
	r := &report{
		Machine:  machine{Cores: 2, CPU: "a CPU", Kernel: "a kernel", Go: "go1.26", Hookline: "hookline 1.0"},
		Settings: settings{Seconds: 2, Warmup: 0.5, Rounds: 2, Body: sent.Text, Folder: "/var/tmp/bench", On: "ext4"},
		Absent:   []string{"journal-postgres: not here"},
		Races:    []raceReport{newRaceReport(journalRace, []string{withoutJournal, withSQLite}, []int{1, 64}, journalCells())},
		Accept: &acceptReport{Probes: probes, Cells: []acceptCell{
			{Keeper: keeperSQLite, Callers: 64, Round: 1, Accepted: 6000, Delivered: 4000, P50: 9000, P99: 20000, Backlog: 4000, Drain: 0.8,
				usage: usage{CPU: map[string]float64{"hookline": 220, "http child": 60}, Busy: 0.95, Own: 0.2, Others: 0.01}},
			{Keeper: keeperSQLite, Callers: 64, Round: 2, Accepted: 5000, Delivered: 4400, P50: 9100, P99: 22000, Backlog: 1200, Drain: 0.4,
				usage: usage{CPU: map[string]float64{"hookline": 230, "http child": 60}, Busy: 0.95, Own: 0.2, Others: 0.01}},
			{Keeper: keeperPostgres, Callers: 64, Round: 1, Accepted: 3000, Delivered: 2900, P50: 9000, P99: 20000, Errors: 1},
		}, Goals: []goal{atLeast(5000, "/s", 5500, "sqlite at 64: accepted while delivering 4200/s")}},
		Claim: &claimReport{Stalled: 100000, Lanes: 50, Probes: probes, Cells: []claimCell{{
			Keeper: keeperSQLite, Loading: 12.3, Others: 0.02,
			Empty:   claimTimes{Claims: 900, P50: 500, P99: 1900, Nothing: 30, Next: 20},
			Stalled: claimTimes{Claims: 800, P50: 1100, P99: 2900, Nothing: 33, Next: 22},
		}}, Goals: []goal{atMost(2, " x an empty one", 2.2, "sqlite: a claim with 100000 stalled takes")}},
		Restart: &restartReport{Loading: 14, Loaded: 110000, First: 5000, DrainRate: 4300, Probes: probes, Starts: []startTimes{
			{After: "loading", Open: 110000, Child: 80, Listening: 84, First: 101, AfterIt: 21, FirstRate: 4000},
			{After: "kill -9", Open: 100000, Child: 90, Listening: 95, First: 120, AfterIt: 30, FirstRate: 4100, Repeated: 127, Others: 0.03},
		}},
	}
	r.Restart.judge()
	r.Journal = &journalReport{Probes: probes, Added: journalAdds(r.Races[0], probes)}
	r.Journal.Goals = journalGoals(r.Journal.Added)
	var got bytes.Buffer
	if err := r.print(&got); err != nil {
		t.Fatal(err)
	}
	file := filepath.Join("testdata", "report.golden")
	if *update {
		if err := os.WriteFile(file, got.Bytes(), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if text := strings.ReplaceAll(string(want), "\r\n", "\n"); got.String() != text {
		t.Errorf("got\n%s\nwant\n%s\nIf it is meant: go test ./cmd/bench -run TestPrint -update", &got, text)
	}
}

func TestReadStart(t *testing.T) {
	const log = `{"time":"2026-11-24T18:00:00.25Z","level":"INFO","msg":"configured at 1795543200200000000","child":"bench"}
not JSON
{"time":"2026-11-24T18:00:00.3Z","level":"INFO","msg":"listening for TrialKit","on":"tcp://127.0.0.1:1"}
{"time":"2026-11-24T18:00:09Z","level":"INFO","msg":"configured at 1795543209000000000","child":"bench"}
`
	child, listening, err := readStart(log)
	if err != nil || child.UnixNano() != 1795543200200000000 || !listening.Equal(time.Date(2026, 11, 24, 18, 0, 0, 3e8, time.UTC)) {
		t.Errorf("%s, %s, %v", child, listening, err)
	}
	if _, _, err := readStart("{}\n"); err == nil {
		t.Error("a log that tells nothing is no error")
	}
}

func TestWatch(t *testing.T) {
	w := newWatch(watchSpec{Nth: 3, IDs: 40})
	for _, id := range []uint64{1, 40, 1, 41} {
		w.saw(id)
	}
	got := w.read()
	if got.Came != 4 || got.Distinct != 2 || got.First == 0 || got.Nth < got.First || got.Last < got.First {
		t.Errorf("%+v", got)
	}
}

func TestInSchema(t *testing.T) {
	got, err := inSchema("postgres://x:y@h:1/d?sslmode=disable", "s")
	if want := "postgres://x:y@h:1/d?search_path=s&sslmode=disable"; err != nil || got != want {
		t.Errorf("%s, %v", got, err)
	}
	if _, err := inSchema("host=h password=secret", "s"); err == nil || strings.Contains(err.Error(), "secret") {
		t.Errorf("%v", err)
	}
}

func TestQuantile(t *testing.T) {
	all := []time.Duration{3 * time.Microsecond, time.Microsecond, 2 * time.Microsecond}
	if got := quantile(all, 0.5); got != 2 {
		t.Errorf("the median is %v", got)
	}
	if got := quantile(all, 1); got != 3 {
		t.Errorf("the highest is %v", got)
	}
	if got := quantile(nil, 0.5); got != 0 {
		t.Errorf("of nothing: %v", got)
	}
	if got := over([]float64{4, 1, 2, 3}); got != (spread{2.5, 1, 4}) {
		t.Errorf("%+v", got)
	}
}
