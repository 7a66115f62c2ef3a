package app_test

import (
	"bufio"
	"context"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/hookline/hookline/core"
	"github.com/hookline/hookline/plugins/target/targettest"
	"github.com/hookline/hookline/plugins/transport"
)

// load keeps callers busy until it is stopped, and counts the answers' codes. A
// caller without an answer is an error.
type load struct {
	stop  func() map[core.Code]int
	count atomic.Int64
}

func startLoad(t testing.TB, d *daemon, callers int) *load {
	t.Helper()
	l := &load{}
	ctx, cancel := context.WithCancel(context.Background())
	var mu sync.Mutex
	codes := map[core.Code]int{}
	var running sync.WaitGroup
	for range callers {
		running.Go(func() {
			for ctx.Err() == nil {
				a, err := d.do(call{body: event("319")})
				if err != nil {
					t.Errorf("a caller got no answer: %v", err)
					return
				}
				mu.Lock()
				codes[a.Code]++
				mu.Unlock()
				l.count.Add(1)
			}
		})
	}
	l.stop = sync.OnceValue(func() map[core.Code]int { cancel(); running.Wait(); return codes })
	t.Cleanup(func() { l.stop() })
	return l
}

// more waits for n more answers.
func (l *load) more(t testing.TB, n int64) {
	t.Helper()
	want := l.count.Load() + n
	eventually(t, "answers under load", func() bool { return l.count.Load() >= want })
}

// kill -9 of a transport's process under load: every event is answered, and the
// next succeed within a second.
func TestKillTransportUnderLoad(t *testing.T) {
	// The callers keep step with the journal's transactions, so that now and then none
	// is under way.
	var inFlight atomic.Int64
	ehr := newTarget(t, func(_ int, _ http.ResponseWriter, _ *http.Request) {
		inFlight.Add(1)
		defer inFlight.Add(-1)
		time.Sleep(30 * time.Millisecond)
	})
	d := start(t, preamble+route("ehr", ehr.url, "", ""))
	l := startLoad(t, d, 64)
	l.more(t, 200)
	// Of three times the best counts: the machine may be busy with other things.
	best := time.Hour
	for range 3 {
		old := transportPID(t, "ehr")
		eventually(t, "an event in flight", func() bool { return inFlight.Load() > 0 })
		if err := syscall.Kill(old, syscall.SIGKILL); err != nil {
			t.Fatal(err)
		}
		killed := time.Now()
		awaitExit(t, old)
		eventually(t, "a delivery", func() bool { return d.send(call{body: event("319")}).Code == transport.Delivered })
		took := time.Since(killed)
		t.Logf("delivered again %s after the kill", took.Round(time.Millisecond))
		best = min(best, took)
		l.more(t, 100)
	}
	if best > time.Second {
		t.Errorf("the first delivery came %s after the kill", best)
	}
	codes := l.stop()
	t.Logf("answers: %v", codes)
	for code := range codes {
		switch code {
		case transport.Delivered, transport.PluginCrashed, transport.PluginUnavailable:
		default:
			t.Errorf("%d answers %s", codes[code], code)
		}
	}
	if codes[transport.PluginCrashed] == 0 {
		t.Error("no event was in flight when the process was killed: this test shows nothing")
	}
}

// A plugin_crashed says what is known: it may have arrived.
func TestKillTransportInFlight(t *testing.T) {
	hang := newGate(t)
	d := start(t, preamble+route("ehr", hang.url, "", ""))
	answers := make(chan *answer, 1)
	go func() { answers <- d.send(call{body: event("319")}) }()
	hang.await(t)
	if err := syscall.Kill(transportPID(t, "ehr"), syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	a := <-answers
	if a.status != 502 || a.Code != transport.PluginCrashed || a.Fault != core.FaultPlugin || a.Deliveries[0].Status != core.StateUnknown || a.Deliveries[0].Attempts != 1 {
		t.Errorf("answer %d %s", a.status, a.body)
	}
	contains(t, "detail", a.Detail, "the program that connects to it crashed", "Hookline keeps trying; please do not enter it again.")
	if a.took > 2*time.Second {
		t.Errorf("it took %s", a.took)
	}
}

// kill -9 of the scripts' process under load: scripts that ran run again, so no
// event is lost by it.
func TestKillScriptProcessUnderLoad(t *testing.T) {
	ehr := newTarget(t, nil)
	d := start(t, preamble+route("ehr", ehr.url, "transform = \"shape.js\"\nscript_timeout = \"3s\"", ""), files{"shape.js": scripts})
	l := startLoad(t, d, 64)
	l.more(t, 200)
	best := time.Hour
	for range 3 {
		old := childOf(t, os.Getpid(), "child transforms")
		if old == 0 {
			t.Fatal("there is no script process")
		}
		if err := syscall.Kill(old, syscall.SIGKILL); err != nil {
			t.Fatal(err)
		}
		killed := time.Now()
		awaitExit(t, old)
		d.update("319", transport.Delivered)
		best = min(best, time.Since(killed))
		l.more(t, 100)
	}
	if best > time.Second {
		t.Errorf("the next event took %s", best)
	}
	codes := l.stop()
	t.Logf("answers: %v", codes)
	if len(codes) != 1 || codes[transport.Delivered] == 0 {
		t.Errorf("answers: %v", codes)
	}
}

// A process that dies again and again is started with growing pauses; meanwhile
// the daemon answers, on other routes as ever.
func TestCrashLoop(t *testing.T) {
	hang, good := newGate(t), newTarget(t, nil)
	d := start(t, preamble+route("ehr", hang.url, `forms = ["319"]`, "")+route("other", good.url, `forms = ["320"]`, ""))
	answers := make(chan *answer, 1)
	go func() { answers <- d.send(call{body: event("319")}) }()
	hang.await(t)
	kill := func() {
		pid := 0
		eventually(t, "the process", func() bool {
			pid = childOf(t, os.Getpid(), "child transport http ehr")
			return pid != 0
		})
		_ = syscall.Kill(pid, syscall.SIGKILL)
		awaitExit(t, pid)
	}
	kill()
	if a := <-answers; a.Code != transport.PluginCrashed {
		t.Errorf("the first answer: %d %s", a.status, a.body)
	}
	hang.open()
	for !strings.Contains(d.logs.String(), "in=800ms") {
		kill()
	}
	a := d.update("319", transport.PluginUnavailable)
	if a.status != 503 || a.Fault != core.FaultPlugin || a.Deliveries[0].Status != core.StateWaiting || a.Deliveries[0].Attempts != 2 {
		t.Errorf("answer %d %s", a.status, a.body)
	}
	contains(t, "detail", a.Detail, "is not running", "Hookline keeps trying")
	d.update("320", transport.Delivered)
	if resp, err := d.client.Get(d.url + "/healthz"); err != nil || resp.StatusCode != 200 {
		t.Errorf("healthz: %v %v", resp, err)
	} else {
		_ = resp.Body.Close()
	}
	d.logs.wait(t, "child is back", "transport ehr")
	eventually(t, "a delivery", func() bool { return d.send(call{body: event("319")}).Code == transport.Delivered })
}

// spawn runs a daemon in a process of its own and returns its address.
func spawn(t *testing.T, d *daemon, prefix []string, extra ...*os.File) (*exec.Cmd, string) {
	t.Helper()
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(exe, append(prefix, modeDaemon, d.path)...)
	cmd.Env = append(append(os.Environ(), d.env...), "TMPDIR="+d.dir) // its children, killed with it, leave their folders
	cmd.Stderr = d.logs
	cmd.ExtraFiles = extra
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		d.assertClean()
	})
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		t.Fatalf("the daemon did not start: %v\n%s", err, d.logs)
	}
	return cmd, strings.TrimSpace(line)
}

// kill -9 of the daemon leaves no process behind, with events in flight or not.
func TestKillDaemon(t *testing.T) {
	hang := newGate(t)
	d := prepare(t, preamble+route("ehr", hang.url, `transform = "shape.js"`, basicAuth)+route("other", hang.url, "", ""), files{"shape.js": scripts})
	cmd, address := spawn(t, d, nil)
	d.connect(tcpAddr(t, address))
	t.Cleanup(d.client.CloseIdleConnections)
	ended := make(chan error, 1)
	go func() { _, err := d.do(call{body: event("319")}); ended <- err }()
	hang.await(t)
	hang.await(t)

	children := descendants(t, cmd.Process.Pid)
	if len(children) != 3 {
		t.Fatalf("the daemon has %d processes below it: %v", len(children), children)
	}
	assertChildrenClean(t)
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	for _, p := range children {
		awaitExit(t, p.pid)
	}
	if err := <-ended; err == nil {
		t.Error("a killed daemon has answered")
	}
}

func tcpAddr(t testing.TB, s string) net.Addr {
	t.Helper()
	addr, err := net.ResolveTCPAddr("tcp", s)
	if err != nil {
		t.Fatal(err)
	}
	return addr
}

// Failures cost nothing that stays: goroutines and open files of the daemon and
// of its child are after 2,000 of them what they were after the first.
func TestFailuresLeaveNothingBehind(t *testing.T) {
	hang := newGate(t)
	reset := rawTarget(t, func(c *net.TCPConn) { _ = c.SetLinger(0) })
	// A retry in the foreground takes 250 ms: enough callers keep the test short.
	const callers, each = 50, 40
	const few = "max_idle = 4" // connections that are kept for use would look like a leak
	kinds := []string{"refused", "500", "reset", "timeout"}
	d := start(t, preamble+
		route("refused", "http://"+targettest.ClosedAddr(t), `forms = ["refused"]`, few)+
		route("e500", newTarget(t, status(500)).url, `forms = ["500"]`, few)+
		route("reset", reset, `forms = ["reset"]`, few)+
		route("timeout", hang.url, "forms = [\"timeout\"]\ntimeout = \"20ms\"", few))
	names := []string{"refused", "e500", "reset", "timeout"}

	round := func(n int) {
		var all sync.WaitGroup
		for range callers {
			all.Go(func() {
				for i := range n {
					a, err := d.do(call{body: event(kinds[i%len(kinds)])})
					if err != nil || a.Fault != core.FaultTarget {
						t.Errorf("%v %+v", err, a)
						return
					}
				}
			})
		}
		all.Wait()
		d.client.CloseIdleConnections()
	}
	measure := func() (goroutines, own int, children map[string]int) {
		children = map[string]int{}
		for _, n := range names {
			children[n] = fds(t, transportPID(t, n))
		}
		return runtime.NumGoroutine(), fds(t, os.Getpid()), children
	}
	round(4) // pools are filled
	g0, f0, c0 := measure()
	round(each)
	check := func() string {
		g, f, c := measure()
		var grown []string
		if g > g0+10 {
			grown = append(grown, fmt.Sprintf("goroutines from %d to %d", g0, g))
		}
		if f > f0+10 {
			grown = append(grown, fmt.Sprintf("open files from %d to %d", f0, f))
		}
		for _, n := range names {
			if c[n] > c0[n]+10 {
				grown = append(grown, fmt.Sprintf("open files of %s from %d to %d", n, c0[n], c[n]))
			}
		}
		return strings.Join(grown, ", ")
	}
	grown := ""
	for end := time.Now().Add(5 * time.Second); time.Now().Before(end); runtime.Gosched() {
		if grown = check(); grown == "" {
			break
		}
	}
	if grown != "" {
		t.Errorf("after %d failures have grown: %s", callers*each, grown)
	}
}
