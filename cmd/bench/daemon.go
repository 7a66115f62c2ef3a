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
	name  string
	addr  string // host:port
	log   *os.File
	cmd   *exec.Cmd
	ended chan struct{} // closed when its process is gone
}

// configHead is the part of the configuration that all daemons here have. As for
// real use, the hook and the target have Basic auth, the log is at info, and the
// plugin hop has its mTLS, which nothing can turn off.
const configHead = `
[server]
listen = ["tcp://{listen}"]
[admin]
listen = "off"
[log]
level = "info"
format = "json"
`

// configRoute is one hook with its way to one target; {x} is its name.
const configRoute = `
[hooks.{x}]
study = "ABC-123"
stage = "uat"
email = "{hook-user}"
password = "env:BENCH_HOOK_PASSWORD"
[transports.{x}]
plugin = "http"
[transports.{x}.settings]
url = "{url}"
username = "{target-user}"
password = "env:BENCH_TARGET_PASSWORD"
[routes.{x}]
hooks = ["{x}"]
transport = "{x}"
{transform}
`

// daemonRoute is a hook, its route and its transport, all of one name.
type daemonRoute struct {
	name, url string
	transform bool
}

// startDaemon starts Hookline with a configuration file of its own and waits
// until it is ready.
func startDaemon(ctx context.Context, b *bench, name string, routes ...daemonRoute) (_ *daemon, err error) {
	dir := filepath.Join(b.dir, "run-"+name)
	if err := os.Mkdir(dir, 0o700); err != nil {
		return nil, err
	}
	d := &daemon{name: name, ended: make(chan struct{})}
	if d.addr, err = freePort(); err != nil {
		return nil, err
	}
	text := strings.ReplaceAll(configHead, "{listen}", d.addr)
	for _, r := range routes {
		transform := ""
		if r.transform {
			transform = `transform = "rename.js"`
		}
		text += strings.NewReplacer("{x}", r.name, "{url}", r.url, "{transform}", transform,
			"{hook-user}", hookUser, "{target-user}", targetUser).Replace(configRoute)
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
	d.cmd = exec.Command(b.hookline, "serve", "--config", config)
	d.cmd.Env = append(os.Environ(), "BENCH_HOOK_PASSWORD="+hookPassword, "BENCH_TARGET_PASSWORD="+targetPassword)
	d.cmd.Stderr = d.log
	if err := d.cmd.Start(); err != nil {
		return nil, err
	}
	go func() { _ = d.cmd.Wait(); close(d.ended) }()
	if err := d.ready(ctx); err != nil {
		err = fmt.Errorf("hookline %s: %w\n%s", name, err, d.lastWords())
		d.stop()
		return nil, err
	}
	return d, nil
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

func (d *daemon) stop() {
	_ = d.cmd.Process.Signal(os.Interrupt)
	select {
	case <-d.ended:
	case <-time.After(10 * time.Second):
		_ = d.cmd.Process.Kill()
		<-d.ended
	}
	_ = d.log.Close()
}

// headFor is the head of a request to one of the daemon's hooks.
func (d *daemon) headFor(hook string) string {
	return requestHead(d.addr, "/hooks/"+hook, basic(hookUser, hookPassword))
}
