package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// daemon is a running `hookline serve`.
type daemon struct {
	name    string
	addr    string // host:port
	log     *os.File
	command []string
	env     []string
	cmd     *exec.Cmd
	started time.Time
	ended   chan struct{} // closed when its process is gone
}

// configHead is the part of the configuration that all daemons here have. As for
// real use, the hook and the target have Basic auth, the log is at info, and the
// plugin hop has its mTLS, which nothing can turn off.
const configHead = `
[server]
listen = ["tcp://{listen}"]
[admin]
listen = "{admin}"
[journal]
url = "{journal}"
[log]
level = "info"
format = "json"
`

// configRoute is one hook with its way to one target; {x} is its name. A circuit
// would queue what the section "failures" wants answered, and loop_limit is for
// targets that write back.
const configRoute = `
[hooks.{x}]
study = "ABC-123"
stage = "uat"
email = "{hook-user}"
password = "env:BENCH_HOOK_PASSWORD"
loop_limit = 0
[transports.{x}]
{plugin}
circuit = { failures = 0 }
[transports.{x}.settings]
url = "{url}"
username = "{target-user}"
password = "env:BENCH_TARGET_PASSWORD"
[routes.{x}]
hooks = ["{x}"]
transport = "{x}"
{more}
`

// adminSocket is beside a daemon's configuration.
const adminSocket = "a.sock"

// daemonSpec says what a daemon is to be like.
type daemonSpec struct {
	name    string
	journal string // its URL; "" for none
	admin   bool   // it has its socket, adminSocket
	routes  []daemonRoute
}

// daemonRoute is a hook, its route and its transport, all of one name.
type daemonRoute struct {
	name, url string
	transform bool
	async     bool
	plugin    []string // executable and arguments; nil for the built-in http
}

func (r daemonRoute) config() string {
	var more []string
	if r.transform {
		more = append(more, `transform = "rename.js"`)
	}
	if r.async {
		more = append(more, `mode = "async"`)
	}
	plugin := `plugin = "http"`
	if r.plugin != nil {
		// In single quotes, for the backslashes of a Windows path.
		plugin = "plugin = '" + r.plugin[0] + "'\nargs = ['" + strings.Join(r.plugin[1:], "', '") + "']"
	}
	return strings.NewReplacer("{x}", r.name, "{url}", r.url, "{plugin}", plugin, "{more}", strings.Join(more, "\n"),
		"{hook-user}", hookUser, "{target-user}", targetUser).Replace(configRoute)
}

// startDaemon starts Hookline with a configuration file of its own and waits
// until it is ready.
func startDaemon(ctx context.Context, b *bench, spec daemonSpec) (*daemon, error) {
	d, err := newDaemon(b, spec)
	if err != nil {
		return nil, err
	}
	if err := d.start(ctx); err != nil {
		d.stop()
		return nil, err
	}
	return d, nil
}

// newDaemon prepares what start needs.
func newDaemon(b *bench, spec daemonSpec) (_ *daemon, err error) {
	dir := filepath.Join(b.dir, "run-"+spec.name)
	if err := os.Mkdir(dir, 0o700); err != nil {
		return nil, err
	}
	d := &daemon{name: spec.name}
	if d.addr, err = freePort(); err != nil {
		return nil, err
	}
	journal := "none"
	if spec.journal != "" {
		journal = "env:BENCH_JOURNAL"
	}
	socket := "off"
	if spec.admin {
		socket = "unix:" + adminSocket
	}
	text := strings.NewReplacer("{listen}", d.addr, "{journal}", journal, "{admin}", socket).Replace(configHead)
	for _, r := range spec.routes {
		text += r.config()
	}
	config := filepath.Join(dir, "config.toml")
	if err := errors.Join(
		os.WriteFile(config, []byte(text), 0o600),
		os.WriteFile(filepath.Join(dir, "rename.js"), []byte(renameScript), 0o600),
	); err != nil {
		return nil, err
	}
	// Appended to, so that it can be emptied while the daemon writes.
	if d.log, err = os.OpenFile(filepath.Join(dir, "log"), os.O_CREATE|os.O_RDWR|os.O_APPEND, 0o600); err != nil {
		return nil, err
	}
	d.command = []string{b.hookline, "serve", "--config", config}
	d.env = append(os.Environ(), "BENCH_HOOK_PASSWORD="+hookPassword, "BENCH_TARGET_PASSWORD="+targetPassword,
		"BENCH_JOURNAL="+spec.journal)
	return d, nil
}

// start starts the process, which may have run before, and waits until it is
// ready. After an error stop is still to be called.
func (d *daemon) start(ctx context.Context) error {
	d.cmd = exec.Command(d.command[0], d.command[1:]...)
	d.cmd.Env, d.cmd.Stderr = d.env, d.log
	d.started = time.Now()
	if err := d.cmd.Start(); err != nil {
		d.cmd = nil
		return err
	}
	cmd, ended := d.cmd, make(chan struct{})
	d.ended = ended
	go func() { _ = cmd.Wait(); close(ended) }()
	if err := d.ready(ctx); err != nil {
		return fmt.Errorf("hookline %s: %w\n%s", d.name, err, d.lastWords())
	}
	return nil
}

func freePort() (string, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	return l.Addr().String(), l.Close()
}

// ready waits for /readyz: nothing else tells a process that is not ours that it
// is there.
func (d *daemon) ready(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	client := http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	for tick := time.Tick(20 * time.Millisecond); ; {
		select {
		case <-d.ended:
			return errors.New("it ended at its start")
		case <-ctx.Done():
			return errors.New("it was not ready in time")
		case <-tick:
		}
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+d.addr+"/readyz", nil)
		if err != nil {
			return err
		}
		resp, err := client.Do(req)
		if err != nil {
			continue
		}
		_ = resp.Body.Close()
		if resp.StatusCode == http.StatusOK {
			return nil
		}
	}
}

// lastWords is the end of the log.
func (d *daemon) lastWords() string {
	size, err := d.log.Seek(0, io.SeekEnd)
	if err != nil {
		return ""
	}
	words := make([]byte, min(size, 2<<10))
	n, _ := d.log.ReadAt(words, size-int64(len(words)))
	return string(words[:n])
}

// processes are the daemon and its children, by what they do.
func (d *daemon) processes() (map[string][]int, error) {
	pid := d.cmd.Process.Pid
	out := map[string][]int{"hookline": {pid}}
	children, err := childrenOf(pid)
	if errors.Is(err, errors.ErrUnsupported) {
		return out, nil
	}
	if err != nil {
		return nil, err
	}
	for child, args := range children {
		label := "other child"
		switch {
		case slices.Contains(args, "transport"):
			label = "http child"
		case slices.Contains(args, "transforms"):
			label = "script child"
		}
		out[label] = append(out[label], child)
	}
	return out, nil
}

// emptyLog gives the disk back what a cell has logged.
func (d *daemon) emptyLog() { _ = d.log.Truncate(0) }

// stop ends the daemon for good.
func (d *daemon) stop() {
	d.end(os.Interrupt)
	_ = d.log.Close()
}

// end ends the process by a signal. On Windows, which has none, it is killed.
func (d *daemon) end(by os.Signal) {
	if d.cmd == nil {
		return
	}
	if d.cmd.Process.Signal(by) != nil {
		_ = d.cmd.Process.Kill()
	}
	select {
	case <-d.ended:
	case <-time.After(10 * time.Second):
		_ = d.cmd.Process.Kill()
		<-d.ended
	}
	d.cmd = nil
}

// headFor is the head of a request to one of the daemon's hooks.
func (d *daemon) headFor(hook string) string {
	return requestHead(d.addr, "/hooks/"+hook, basic(hookUser, hookPassword))
}
