//go:build unix

package host_test

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"os"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/hookline/hookline/plugins"
	"github.com/hookline/hookline/plugins/host"
	"github.com/hookline/hookline/plugins/target/targettest"
	"github.com/hookline/hookline/plugins/transport"
)

func await(t *testing.T, tr *host.Transport, what string, is func(host.Status) bool) host.Status {
	t.Helper()
	for end := time.Now().Add(20 * time.Second); ; time.Sleep(2 * time.Millisecond) { // a pace for the loop
		if s := tr.Status(); is(s) {
			return s
		} else if time.Now().After(end) {
			t.Fatalf("%s: the status is %+v", what, s)
		}
	}
}

// A plugin that dies again and again is told apart from one that died once.
func TestCrashLoop(t *testing.T) {
	l := &logs{}
	tr := start(t, l)
	if s := tr.Status(); s.State != host.Running || s.Since.IsZero() || s.LastEnd != "" {
		t.Errorf("at first: %+v", s)
	}
	deliver(t, tr, "exit", 5*time.Second)
	once := await(t, tr, "it comes back", func(s host.Status) bool { return s.Restarts == 1 && s.State == host.Running })
	if once.LastEnd != "exit status 3" {
		t.Errorf("it ended with %q", once.LastEnd)
	}
	for n := 2; n <= 3; n++ {
		deliver(t, tr, "exit", 5*time.Second)
		await(t, tr, "it comes back", func(s host.Status) bool { return s.Restarts == n && s.PID != 0 })
	}
	if s := tr.Status(); s.State != host.CrashLoop {
		t.Errorf("after three soon ends: %+v", s)
	}
	if !strings.Contains(l.String(), "child ends again and again") {
		t.Errorf("the log does not say so:\n%s", l.String())
	}
	tr.Stop()
	if s := tr.Status(); s.State != host.Stopped {
		t.Errorf("after the stop: %+v", s)
	}
}

// A frozen process is there and does not answer: it is replaced.
func TestFrozenChildIsReplaced(t *testing.T) {
	s := spec(t, &logs{}, `{"url":"http://x"}`)
	s.Health = 100 * time.Millisecond
	tr, err := host.StartTransport(t.Context(), s)
	if err != nil {
		t.Fatal(err)
	}
	defer tr.Stop()
	frozen := tr.Status().PID
	if err := targettest.Freeze(frozen); err != nil {
		t.Fatal(err)
	}
	now := await(t, tr, "another takes its place", func(s host.Status) bool { return s.PID != 0 && s.PID != frozen })
	if !strings.Contains(now.LastEnd, "did not answer") {
		t.Errorf("it ended because %q", now.LastEnd)
	}
	if r := deliver(t, tr, "x", 5*time.Second); r.Effect != transport.Done {
		t.Errorf("receipt %+v", r)
	}
}

// Of a plugin that takes one at a time the others wait in Hookline, within their
// deadlines.
func TestMaxInFlight(t *testing.T) {
	s := spec(t, &logs{}, `{"url":"http://x"}`)
	s.Command = append(s.Command, "one")
	tr, err := host.StartTransport(t.Context(), s)
	if err != nil {
		t.Fatal(err)
	}
	defer tr.Stop()
	if n := tr.Description().MaxInFlight; n != 1 {
		t.Fatalf("it takes %d", n)
	}
	first := make(chan transport.Receipt, 1)
	go func() { first <- deliver(t, tr, "wait", 700*time.Millisecond) }()
	for tr.InFlight() == 0 {
		time.Sleep(time.Millisecond) // a pace for the loop
	}
	if r := deliver(t, tr, "x", 100*time.Millisecond); r.Effect != transport.None || r.Code != transport.Timeout {
		t.Errorf("no room within its time: %+v", r)
	}
	if r := deliver(t, tr, "x", 10*time.Second); r.Effect != transport.Done {
		t.Errorf("it waited for the first: %+v", r)
	}
	if r := <-first; r.Detail != "waited as told" {
		t.Errorf("the first: %+v", r)
	}
	if n := tr.InFlight(); n != 0 {
		t.Errorf("%d are in flight", n)
	}
}

// Without AutoMTLS the plugin works too, and the folder of its socket is its user's
// alone while it has a name.
func TestWithoutMTLS(t *testing.T) {
	s := spec(t, &logs{}, `{"url":"http://x"}`)
	s.NoMTLS = true
	tr, err := host.StartTransport(t.Context(), s)
	if err != nil {
		t.Fatal(err)
	}
	defer tr.Stop()
	r := deliver(t, tr, "environment", 5*time.Second)
	if strings.Contains(string(r.Body), "PLUGIN_CLIENT_CERT") || r.Effect != transport.Done {
		t.Errorf("receipt %+v", r)
	}
	r = deliver(t, tr, "socket folder", 5*time.Second)
	if string(r.Body) != "0700" {
		t.Errorf("the folder had mode %s", r.Body)
	}
}

// What a plugin prints is logged under its name, and one line is one record.
func TestOutputIsLoggedUnderTheName(t *testing.T) {
	l := &logs{}
	start(t, l)
	for end := time.Now().Add(10 * time.Second); !strings.Contains(l.String(), "noise on stdout"); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("the log:\n%s", l.String())
		}
	}
	for _, line := range strings.Split(strings.TrimSpace(l.String()), "\n") {
		if !strings.Contains(line, `child="transport ehr"`) {
			t.Errorf("without the name: %s", line)
		}
	}
}

// A changed byte is refused at every start, also when a running plugin is started
// again.
func TestPinIsCheckedAtARestart(t *testing.T) {
	data, err := os.ReadFile(executable(t))
	if err != nil {
		t.Fatal(err)
	}
	copied := t.TempDir() + "/plugin"
	if err := os.WriteFile(copied, data, 0o755); err != nil {
		t.Fatal(err)
	}
	sum := sha256.Sum256(data)
	s := spec(t, &logs{}, `{"url":"http://x"}`)
	s.Command[0], s.SHA256 = copied, sum[:]
	tr, err := host.StartTransport(t.Context(), s)
	if err != nil {
		t.Fatal(err)
	}
	defer tr.Stop()
	data[len(data)-1] ^= 1
	if err := os.Rename(copied, copied+".old"); err != nil { // the running file cannot be written
		t.Fatal(err)
	}
	if err := os.WriteFile(copied, data, 0o755); err != nil {
		t.Fatal(err)
	}
	deliver(t, tr, "exit", 5*time.Second)
	now := await(t, tr, "it is refused", func(s host.Status) bool { return strings.Contains(s.LastEnd, "pinned sha256") })
	if now.PID != 0 {
		t.Errorf("it runs: %+v", now)
	}
}

// An exclusive plugin's old process is gone before the new one is asked anything,
// and other calls find the plugin unavailable rather than wait.
func TestReplaceLetsAttemptsFinish(t *testing.T) {
	l := &logs{}
	tr := start(t, l)
	var wait sync.WaitGroup
	result := make(chan transport.Receipt, 1)
	wait.Go(func() { result <- deliver(t, tr, "wait", 500*time.Millisecond) })
	for tr.InFlight() == 0 {
		time.Sleep(time.Millisecond) // a pace for the loop
	}
	if _, err := tr.Replace(t.Context(), spec(t, l, `{"url":"http://y"}`)); err != nil {
		t.Fatal(err)
	}
	if r := <-result; r.Detail != "waited as told" {
		t.Errorf("the attempt in flight ended as %+v", r)
	}
	wait.Wait()
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
	defer cancel()
	if r := tr.Deliver(ctx, &transport.Message{ID: "m", Payload: json.RawMessage(`{}`)}); r.Effect != transport.Done {
		t.Errorf("after it: %+v", r)
	}
}

// A plugin that somebody runs by hand, say under a debugger, is used and not ended;
// when it is started anew it is found again.
func TestAttach(t *testing.T) {
	file := t.TempDir() + "/attach.json"
	byHand := func() *exec.Cmd {
		cmd := exec.Command(executable(t), "plugin")
		cmd.Env = append(os.Environ(), plugins.AttachEnv+"="+file)
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = cmd.Process.Kill(); _ = cmd.Wait() })
		for end := time.Now().Add(10 * time.Second); ; time.Sleep(time.Millisecond) { // a pace for the loop
			if _, err := os.Stat(file); err == nil {
				return cmd
			}
			if time.Now().After(end) {
				t.Fatal("it does not say where it is")
			}
		}
	}
	s := spec(t, &logs{}, `{"url":"http://x"}`)
	s.Command, s.Attach = []string{"/does/not/exist"}, file
	if _, err := host.StartTransport(t.Context(), s); err == nil || !strings.Contains(err.Error(), "run the plugin with HOOKLINE_ATTACH=") {
		t.Errorf("nobody has attached: %v", err)
	}
	first := byHand()
	tr, err := host.StartTransport(t.Context(), s)
	if err != nil {
		t.Fatal(err)
	}
	if r := deliver(t, tr, "x", 5*time.Second); r.Effect != transport.Done || tr.Status().PID != first.Process.Pid {
		t.Errorf("receipt %+v, status %+v", r, tr.Status())
	}
	if err := first.Process.Signal(os.Interrupt); err != nil {
		t.Fatal(err)
	}
	if err := first.Wait(); err != nil {
		t.Errorf("interrupted, it ended with %v", err)
	}
	second := byHand()
	await(t, tr, "the second is found", func(s host.Status) bool { return s.PID == second.Process.Pid })
	if r := deliver(t, tr, "x", 5*time.Second); r.Effect != transport.Done {
		t.Errorf("receipt %+v", r)
	}
	tr.Stop()
	if err := second.Process.Signal(syscall.Signal(0)); err != nil {
		t.Errorf("the host has ended what it did not start: %v", err)
	}
}
