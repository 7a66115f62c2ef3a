package main

import (
	"bytes"
	"encoding/json"
	"os"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"
)

// TestMain makes the test's executable the bench's, which starts itself again.
func TestMain(m *testing.M) {
	if len(os.Args) == 3 && os.Args[1] == asRole {
		os.Exit(runRole(os.Args[2], os.Stdin, os.Stdout, os.Stderr))
	}
	os.Exit(m.Run())
}

// TestRun runs all of it for a moment. What it measures then means nothing; that
// every event arrives, is counted and is timed does.
func TestRun(t *testing.T) {
	var stdout, stderr bytes.Buffer
	args := []string{"--duration", "100ms", "--warmup", "20ms", "--rounds", "2", "--callers", "1,4", "--failures", "100", "--open", "300", "--events", "3000", "--json"}
	if code := run(t.Context(), args, nil, &stdout, &stderr); code != 0 {
		t.Fatalf("exit code %d\n%s\n%s", code, &stdout, &stderr)
	}
	var r report
	if err := json.Unmarshal(stdout.Bytes(), &r); err != nil {
		t.Fatal(err)
	}
	if r.Machine.Cores == 0 || r.Machine.CPU == "" || !strings.HasPrefix(r.Machine.Hookline, "hookline ") {
		t.Errorf("machine: %+v", r.Machine)
	}
	want := map[string][]string{
		"speed":   {"direct", "reverseproxy", "hookline", "hookline-transform"},
		"hop":     {"http-in-process", "http-child", "http-child-unary", "idle-child-unary", "idle-child"},
		"journal": {"journal-none", "journal-sqlite", "journal-postgres"},

		"transform":        {"script-new-runtime", "script-in-process", "script-child"},
		"transform-daemon": {"script-reverseproxy", "script-hookline"},
	}
	withoutPostgres := len(r.Absent) > 0
	if withoutPostgres {
		t.Log("!!! cmd/bench was not tested on Postgres:", r.Absent)
		want["journal"] = want["journal"][:2]
	}
	if len(r.Races) != len(want) {
		t.Fatalf("%d races, want %d", len(r.Races), len(want))
	}
	for _, race := range r.Races {
		contestants := want[race.Name]
		if got := len(race.Cells); got != 2*2*len(contestants) {
			t.Errorf("%s has %d cells, want %d", race.Name, got, 2*2*len(contestants))
		}
		for i, c := range race.Cells {
			if c.Contestant != contestants[i%len(contestants)] {
				t.Errorf("%s: cell %d is of %s: they do not take turns", race.Name, i, c.Contestant)
			}
			if c.Events == 0 || c.Errors != 0 || c.PerSecond <= 0 || c.P50 <= 0 || c.P99 < c.P50 || c.Ratio <= 0 {
				t.Errorf("%s: %+v", race.Name, c)
			}
			if c.Contestant == race.Baseline && c.Ratio != 1 {
				t.Errorf("%s: the baseline's ratio is %v", race.Name, c.Ratio)
			}
			if runtime.GOOS != "linux" {
				continue
			}
			for label, cpu := range c.CPU {
				if cpu < 0 {
					t.Errorf("%s, %s: CPU of %s is %v", race.Name, c.Contestant, label, cpu)
				}
			}
			for _, label := range processesOf[c.Contestant] {
				if _, ok := c.CPU[label]; !ok {
					t.Errorf("%s, %s: no CPU of %s: %v", race.Name, c.Contestant, label, c.CPU)
				}
			}
		}
	}
	if f := r.Failures; f == nil || f.Events != 100 || runtime.GOOS == "linux" && (len(f.Held) != 3 || len(f.Goroutines) != 2) {
		t.Errorf("failures: %+v", f)
	} else {
		for label, n := range f.Goroutines {
			if n < 2 {
				t.Errorf("failures: %d goroutines counted in %s: is its dump not found?", n, label)
			}
		}
	}
	checkJournal(t, &r, withoutPostgres)
	var table bytes.Buffer
	if err := r.print(&table); err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(table.String(), "hookline-transform") {
		t.Errorf("the table:\n%s", &table)
	}
}

var processesOf = map[string][]string{
	"direct":             {"load", "target"},
	"reverseproxy":       {"load", "target", "proxy"},
	"hookline":           {"load", "target", "hookline", "http child"},
	"hookline-transform": {"load", "target", "hookline", "http child", "script child"},
	"journal-none":       {"load", "target", "hookline", "http child"},
	"journal-sqlite":     {"load", "target", "hookline", "http child"},
	"journal-postgres":   {"load", "target", "hookline", "http child"},
	"http-in-process":    {"load", "target"},
	"http-child":         {"load", "target", "child"},
	"idle-child":         {"load", "target", "child"},
	"idle-child-unary":   {"load", "target", "child"},
	"http-child-unary":   {"load", "target", "child"},
	"script-new-runtime": {"load"},
	"script-in-process":  {"load"},
	"script-child":       {"load", "child"},
	"script-hookline":    {"load", "target", "hookline", "http child", "script child"},
}

// TestFaults shows that the bench would notice.
func TestFaults(t *testing.T) {
	ctx := t.Context()
	b := &bench{options: options{duration: 20 * time.Millisecond}}
	var err error
	if b.load, err = startWorker(ctx, roleLoad); err != nil {
		t.Fatal(err)
	}
	defer b.load.stop()
	if b.target, err = startWorker(ctx, roleTarget); err != nil {
		t.Fatal(err)
	}
	defer b.target.stop()
	if err := b.target.call("listen", nil, &b.targetAt); err != nil {
		t.Fatal(err)
	}
	right := basic(targetUser, targetPassword)
	for _, tc := range []struct {
		name          string
		path, auth    string
		arrives       *template
		faults, wants string
	}{
		{"all is well", okPath, right, sent, "", ""},
		{"wrong credentials", okPath, basic("x", "y"), sent, "status 401", "Wrong:"},
		{"another body", okPath, right, renamed, "", "Wrong:"},
		{"failure", failPath, right, sent, "status 500", "Events:0"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			e := &entry{
				spec:      loadSpec{Addr: b.targetAt, Want: 200, Head: requestHead(b.targetAt, tc.path, tc.auth)},
				processes: noProcesses, arrives: tc.arrives,
			}
			c, faults, err := b.cell(e, 2)
			if err != nil {
				t.Fatal(err)
			}
			all := strings.Join(faults, "\n")
			if !strings.Contains(all, tc.faults) || !strings.Contains(all, tc.wants) || (len(faults) > 0) != (tc.wants != "") {
				t.Errorf("faults: %q", faults)
			}
			if (c.Errors > 0) != (tc.faults != "") {
				t.Errorf("%d of %d events are errors", c.Errors, c.Events)
			}
		})
	}
}

func TestTemplate(t *testing.T) {
	b := []byte(sent.Text)
	sent.put(b, 435)
	if !strings.HasPrefix(string(b), `{"trans_id":"000000000435","form_id"`) || !json.Valid(b) {
		t.Errorf("%s", b)
	}
	if id, ok := sent.match(b); !ok || id != 435 {
		t.Errorf("match: %d, %t", id, ok)
	}
	b[len(b)-2] = 'E'
	if _, ok := sent.match(b); ok {
		t.Error("a body that was changed matches")
	}
}

func TestFlags(t *testing.T) {
	for _, args := range [][]string{
		{"--callers", "0"}, {"--open", "0"}, {"--callers", "x"}, {"--only", "slowness"}, {"--rounds", "0"}, {"more"},
	} {
		var stdout, stderr bytes.Buffer
		if code := run(t.Context(), args, nil, &stdout, &stderr); code != 2 {
			t.Errorf("%q: exit code %d, %s", args, code, &stderr)
		}
	}
	o, err := parse([]string{"--only", "hop,reverseproxy-pooled", "--callers", "1, 2"}, &bytes.Buffer{})
	if err != nil || !slices.Equal(o.callers, []int{1, 2}) || !slices.Equal(o.acceptCallers, o.callers) {
		t.Fatalf("%+v, %v", o, err)
	}
	for _, s := range sections() {
		if got, want := o.wants(s), s.name == "hop" || s.name == "speed"; got != want {
			t.Errorf("wants(%s) = %t", s.name, got)
		}
	}
}
