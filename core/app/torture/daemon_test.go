//go:build linux

package torture_test

import (
	"bufio"
	"bytes"
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"log/slog"
	"net/url"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/hookline/hookline/core/app"
	"github.com/hookline/hookline/core/config"

	"github.com/hookline/hookline/plugins/target/targettest"
)

// runDaemon is Hookline in a process of its own. It prints a line when it serves.
func runDaemon(path string) int {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	a, err := app.New(ctx, app.Options{
		Load: func() (*config.Config, error) { return config.Load(path, nil, os.Environ()) },
		Log:  slog.New(slog.NewTextHandler(os.Stderr, nil)),
	})
	if err != nil {
		fmt.Fprintln(os.Stderr, "cannot start:", err)
		return 3
	}
	fmt.Println("serving")
	if err := a.Run(ctx); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return 0
}

// The secrets. None may be seen in a log.
const (
	hookEmail    = "trialkit@example.org"
	hookPassword = "hook-Pa55word-41c9"
	ehrPassword  = "ehr-Pa55word-77d0"
	subject      = "Jane Doe" // in every event
)

// The routes: what differs between them is what a caller hears, and what becomes
// of the unknown.
const (
	routeSync   = "sync"
	routeHold   = "hold"   // what is unknown waits for an operator, who never comes
	routeLate   = "late"   // the attempt may outlive the caller
	routeScript = "script" // async, and shaped by a script
)

var routes = []string{routeSync, routeHold, routeLate, routeScript}

const shape = `export default (event, ctx) => ({ ...event, shaped: Math.random(), at: ctx.now, by: ctx.deliveryId });
`

func (d *daemon) config() string {
	b := &strings.Builder{}
	fmt.Fprintf(b, `
[server]
listen = ["tcp://%s"]
drain_timeout = "8s"
[journal]
url = "env:JOURNAL_URL"
node = "daemon-%d"
[hooks.demo]
email = %q
password = "env:HOOK_PASSWORD"
timeout = "2s"
loop_limit = 0
`, d.addr, d.n, hookEmail)
	for _, name := range []string{"ehr", "warehouse"} {
		fmt.Fprintf(b, `
[transports.%s]
plugin = "http"
circuit = { failures = 5, pause = "200ms" }
[transports.%[1]s.settings]
url = "http://%[2]s%[3]s"
username = "hookline"
password = "env:EHR_PASSWORD"
`, name, d.r.target.addr, targetPath(d.n))
	}
	const retry = `timeout = "1s"
retry = { initial = "50ms", max = "500ms" }
`
	for _, route := range []struct{ name, transport, more string }{
		{routeSync, "ehr", ""},
		{routeHold, "ehr", `on_unknown = "hold"`},
		{routeLate, "warehouse", `on_timeout = "accept"`},
		{routeScript, "warehouse", "mode = \"async\"\ntransform = \"shape.js\"\nscript_timeout = \"2s\""},
	} {
		fmt.Fprintf(b, "\n[routes.%s]\nhooks = [\"demo\"]\ntransport = %q\n%s%s\n", route.name, route.transport, retry, route.more)
	}
	return b.String()
}

// daemon is a process that is started again whenever it ends.
type daemon struct {
	r     *round
	n     int
	dir   string
	addr  string
	url   string // of the journal: its own proxy's, if it has one
	proxy *proxy // nil for SQLite
	log   *logWatch

	mu       sync.Mutex
	cmd      *exec.Cmd
	serving  chan struct{} // closed once this process serves
	sent     bool          // a signal: its end is expected
	down     time.Time     // since when it does not serve
	longest  time.Duration // without service, when nothing was in the way
	restarts int
}

func newDaemon(r *round, n int) *daemon {
	d := &daemon{r: r, n: n, addr: targettest.ClosedAddr(r.t), url: r.journal, serving: make(chan struct{}), down: time.Now()}
	d.dir = filepath.Join(r.dir, strconv.Itoa(n))
	if strings.HasPrefix(d.url, "postgres") {
		d.proxy, d.url = newProxy(r, d.url, r.random("proxy "+strconv.Itoa(n)))
	}
	if err := os.Mkdir(d.dir, 0o700); err != nil {
		r.t.Fatal(err)
	}
	for name, text := range map[string]string{"config.toml": d.config(), "shape.js": shape} {
		if err := os.WriteFile(filepath.Join(d.dir, name), []byte(text), 0o600); err != nil {
			r.t.Fatal(err)
		}
	}
	file, err := os.Create(filepath.Join(d.dir, "log"))
	if err != nil {
		r.t.Fatal(err)
	}
	r.t.Cleanup(func() { _ = file.Close() })
	d.log = newLogWatch(file, d.url)
	return d
}

// keep starts the process again and again, until ctx ends; then it stops it.
func (d *daemon) keep(ctx context.Context) {
	for ctx.Err() == nil {
		if !d.once(ctx) {
			pause(ctx, 250*time.Millisecond)
		}
	}
}

// once runs the process from its start to its end.
func (d *daemon) once(ctx context.Context) (served bool) {
	exe, err := os.Executable()
	if err != nil {
		d.r.wrong("%v", err)
		return false
	}
	cmd := exec.Command(exe, modeDaemon, filepath.Join(d.dir, "config.toml"))
	cmd.Env = []string{
		"PATH=" + os.Getenv("PATH"), "GORACE=" + os.Getenv("GORACE"), "TMPDIR=" + d.dir,
		"HOOK_PASSWORD=" + hookPassword, "EHR_PASSWORD=" + ehrPassword, "JOURNAL_URL=" + d.url,
	}
	cmd.Stderr = d.log
	cmd.WaitDelay = 5 * time.Second
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL} // if this test is killed
	out, err := cmd.StdoutPipe()
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		d.r.wrong("daemon %d cannot be started: %v", d.n, err)
		return false
	}
	begun := time.Now()
	d.mu.Lock()
	d.cmd, d.sent = cmd, false
	serving := d.serving
	d.restarts++
	d.mu.Unlock()

	ended := make(chan struct{})
	var stopper sync.WaitGroup
	stopper.Go(func() {
		select {
		case <-ctx.Done():
			d.terminate()
			if !pauseUntil(ended, 25*time.Second) {
				d.r.wrong("daemon %d has not stopped 25s after SIGTERM", d.n)
				_ = cmd.Process.Kill()
			}
		case <-ended:
		}
	})

	lines := bufio.NewScanner(out)
	for lines.Scan() {
		if lines.Text() == "serving" {
			served = true
			d.mu.Lock()
			if d.proxy == nil || d.proxy.clear(d.down) {
				d.longest = max(d.longest, time.Since(d.down))
			}
			d.mu.Unlock()
			close(serving)
		}
	}
	err = cmd.Wait()
	close(ended)
	stopper.Wait()

	d.mu.Lock()
	defer d.mu.Unlock()
	d.cmd, d.down = nil, time.Now()
	if served {
		d.serving = make(chan struct{})
	}
	var exit *exec.ExitError
	killed := errors.As(err, &exit) && exit.Sys().(syscall.WaitStatus).Signaled()
	switch {
	case err == nil && d.sent, killed && d.sent:
	case !served && (d.sent || d.proxy != nil && !d.proxy.clear(begun)):
		// It cannot start while it is cut off from its journal.
	default:
		d.r.wrong("daemon %d ended by itself: %v\n%s", d.n, err, d.log.tail())
	}
	return served
}

func pauseUntil(done <-chan struct{}, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-done:
		return true
	case <-t.C:
		return false
	}
}

// await tells whether it serves, now or within d.
func (d *daemon) await(within time.Duration) bool {
	d.mu.Lock()
	serving := d.serving
	d.mu.Unlock()
	return pauseUntil(serving, within)
}

// starts counts the processes so far.
func (d *daemon) starts() int {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.restarts
}

func (d *daemon) signal(s syscall.Signal) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.cmd == nil {
		return false
	}
	d.sent = true
	return d.cmd.Process.Signal(s) == nil
}

func (d *daemon) terminate() bool { return d.signal(syscall.SIGTERM) }
func (d *daemon) kill() bool      { return d.signal(syscall.SIGKILL) }

// killChild kills one of its children, the n-th of those that it has modulo their
// number. It returns what it was, "" if there was none.
func (d *daemon) killChild(n int) string {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.cmd == nil {
		return ""
	}
	children := childrenOf(d.cmd.Process.Pid)
	if len(children) == 0 {
		return ""
	}
	c := children[n%len(children)]
	if syscall.Kill(c.pid, syscall.SIGKILL) != nil {
		return ""
	}
	return c.name
}

// process is another one, as /proc shows it.
type process struct {
	pid  int
	name string
}

// childrenOf are the processes that pid has started.
func childrenOf(pid int) (out []process) {
	for child, parent := range parents() {
		if parent == pid {
			line, _ := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", child))
			words := strings.Split(strings.Trim(string(line), "\x00"), "\x00")
			out = append(out, process{child, strings.Join(words[min(1, len(words)):], " ")})
		}
	}
	return out
}

// parents are the living processes with the parent of each.
func parents() map[int]int {
	out := map[int]int{}
	entries, _ := os.ReadDir("/proc")
	for _, e := range entries {
		pid, err := strconv.Atoi(e.Name())
		if err != nil {
			continue
		}
		stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
		if err != nil {
			continue // it has ended
		}
		// pid (name) state ppid ...; the name may hold anything.
		fields := strings.Fields(string(stat[bytes.LastIndexByte(stat, ')')+1:]))
		if len(fields) > 1 && fields[0] != "Z" {
			out[pid], _ = strconv.Atoi(fields[1])
		}
	}
	return out
}

// noChildren wants no process of this binary to be left, orphans included.
func (r *round) noChildren() {
	exe, err := os.Readlink("/proc/self/exe")
	if err != nil {
		r.wrong("%v", err)
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	for {
		var left []string
		for pid := range parents() {
			if path, err := os.Readlink(fmt.Sprintf("/proc/%d/exe", pid)); err == nil && path == exe && pid != os.Getpid() {
				line, _ := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid))
				left = append(left, fmt.Sprintf("%d %q", pid, line))
			}
		}
		if len(left) == 0 {
			return
		}
		if !pause(ctx, 50*time.Millisecond) {
			r.wrong("processes are left over after the end: %s", strings.Join(left, ", "))
			return
		}
	}
}

// logWatch keeps a daemon's log in a file, and looks at each line.
type logWatch struct {
	file   *os.File
	secret []string

	mu      sync.Mutex
	rest    []byte
	last    []string // lines
	terrors []string // lines that must not be
	late    int      // outcomes that came too late
}

const tailLines = 15

func newLogWatch(file *os.File, journal string) *logWatch {
	w := &logWatch{file: file}
	for _, s := range []string{
		hookPassword, ehrPassword, hookEmail + ":" + hookPassword, "hookline:" + ehrPassword,
	} {
		w.secret = append(w.secret, s, base64.StdEncoding.EncodeToString([]byte(s)))
	}
	if u, err := url.Parse(journal); err == nil {
		if password, ok := u.User.Password(); ok {
			w.secret = append(w.secret, password)
		}
	}
	return w
}

// Write implements [io.Writer].
func (w *logWatch) Write(p []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.rest = append(w.rest, p...)
	for {
		i := bytes.IndexByte(w.rest, '\n')
		if i < 0 {
			break
		}
		w.line(string(w.rest[:i]))
		w.rest = w.rest[i+1:]
	}
	return w.file.Write(p)
}

func (w *logWatch) line(s string) {
	for _, never := range []string{
		"DATA RACE", "panicked", "panic:", "fatal error:", "is a defect of Hookline", "UNIQUE constraint", subject,
	} {
		if strings.Contains(s, never) {
			w.terrors = append(w.terrors, s)
		}
	}
	for _, secret := range w.secret {
		if strings.Contains(s, secret) {
			w.terrors = append(w.terrors, "a secret, in: "+s)
		}
	}
	if strings.Contains(s, "outcome came too late") {
		w.late++
	}
	w.last = append(w.last, s)
	if len(w.last) > 2*tailLines {
		w.last = append([]string(nil), w.last[tailLines:]...)
	}
}

func (w *logWatch) bad() []string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.terrors
}

func (w *logWatch) lateOutcomes() int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.late
}

func (w *logWatch) tail() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return strings.Join(w.last[max(0, len(w.last)-tailLines):], "\n")
}
