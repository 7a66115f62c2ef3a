package app_test

import (
	"bufio"
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/hookline/hookline/core"
	"github.com/hookline/hookline/plugins/transport"
)

// Stop lets what is in flight end, takes nothing new, and leaves nothing.
func TestStopDrains(t *testing.T) {
	hold := newGate(t)
	d := start(t, strings.Replace(preamble, `"tcp://127.0.0.1:0"`, `"tcp://127.0.0.1:0", "unix:hook.sock"`, 1)+
		"[admin]\nlisten = \"unix:admin.sock\"\n"+
		route("ehr", hold.url, "", "")+route("script", hold.url, `transform = "shape.js"`, ""),
		files{"shape.js": scripts})
	address := d.app.Addrs()[0].String()
	stop := d.serve()
	children := descendants(t, os.Getpid())
	if len(children) != 3 {
		t.Errorf("processes %v", children)
	}

	// A connection that was kept alive from before.
	kept, err := net.Dial("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = kept.Close() }()
	replies := bufio.NewReader(kept)
	if r := raw(t, kept, replies, "GET /readyz HTTP/1.1\r\nHost: h\r\n\r\n"); r.StatusCode != 200 {
		t.Fatalf("readyz: %d", r.StatusCode)
	}

	answers := make(chan *answer, 1)
	go func() { answers <- d.send(call{body: event("319")}) }()
	hold.await(t)
	hold.await(t)
	stopped := make(chan error, 1)
	go func() { stopped <- stop() }()
	eventually(t, "the listener to close", func() bool {
		c, err := net.Dial("tcp", address)
		if err == nil {
			_ = c.Close()
		}
		return err != nil
	})
	late := event("319")
	credentials := base64.StdEncoding.EncodeToString([]byte(hookEmail + ":" + hookPassword))
	r := raw(t, kept, replies, fmt.Sprintf("POST /hooks/demo HTTP/1.1\r\nHost: h\r\nAuthorization: Basic %s\r\nContent-Length: %d\r\n\r\n%s", credentials, len(late), late))
	text, _ := io.ReadAll(r.Body)
	if r.StatusCode != 202 || !r.Close {
		t.Errorf("a new event while draining: %d %v", r.StatusCode, r.Header)
	}
	contains(t, "the answer while draining", string(text), `"code":"accepted"`, `"status":"queued"`)
	select {
	case err := <-stopped:
		t.Fatalf("stopped (%v) with an event in flight", err)
	default:
	}
	hold.open()
	if a := <-answers; a.Code != transport.Delivered || len(a.Deliveries) != 2 {
		t.Errorf("the event in flight was answered %d %s", a.status, a.body)
	}
	if err := <-stopped; err != nil {
		t.Errorf("Run: %v", err)
	}
	for _, p := range children {
		awaitExit(t, p.pid)
	}
	for _, name := range []string{"hook.sock", "admin.sock"} {
		if _, err := os.Lstat(filepath.Join(d.dir, name)); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%s is still there: %v", name, err)
		}
	}
	d.app.Stop()
	if err := d.app.Reload(context.Background()); err == nil {
		t.Error("a stopped daemon has reloaded")
	} else {
		contains(t, "the error", err.Error(), "the daemon is stopping")
	}
	if left := descendants(t, os.Getpid()); len(left) != 0 {
		t.Errorf("processes are left: %v", left)
	}
}

// raw is one request on a connection.
func raw(t testing.TB, c net.Conn, replies *bufio.Reader, text string) *http.Response {
	t.Helper()
	_ = c.SetDeadline(time.Now().Add(10 * time.Second))
	if _, err := io.WriteString(c, text); err != nil {
		t.Fatal(err)
	}
	r, err := http.ReadResponse(replies, nil)
	if err != nil {
		t.Fatal(err)
	}
	if r.StatusCode != http.StatusContinue && !r.Close {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			t.Fatal(err)
		}
		r.Body = io.NopCloser(strings.NewReader(string(body)))
	}
	return r
}

// server.drain_timeout bounds Stop, however long the events in flight may last:
// in the target, in a script, and on a generation before the last.
func TestDrainTimeoutBoundsStop(t *testing.T) {
	slow := strings.NewReplacer(`[server]`, "[server]\ndrain_timeout = \"300ms\"", `timeout = "5s"`, `timeout = "60s"`).Replace(preamble)
	for _, c := range []struct {
		name   string
		more   string
		reload bool
	}{
		{name: "target", more: "timeout = \"50s\""},
		{name: "script", more: "timeout = \"50s\"\ntransform = \"loop.js\"\nscript_timeout = \"50s\""},
		{name: "older generation", more: "timeout = \"50s\"", reload: true},
	} {
		t.Run(c.name, func(t *testing.T) {
			hold, other := newGate(t), newTarget(t, nil)
			config := slow + route("ehr", hold.url, c.more, "")
			d := start(t, config, files{"loop.js": "export default function () { for (;;) {} }"})
			d.cut = true
			ended := make(chan struct{})
			go func() { _, _ = d.do(call{body: event("319")}); close(ended) }()
			if c.name == "script" {
				// The loop shows in no way but this.
				d.logs.wait(t, "first call of a hook")
			} else {
				hold.await(t)
			}
			if c.reload {
				d.reload(slow + route("ehr", other.url, "", ""))
			}
			children := descendants(t, os.Getpid())
			begun := time.Now()
			d.app.Stop()
			took := time.Since(begun)
			t.Logf("stopped after %s", took.Round(time.Millisecond))
			if took > 3*time.Second {
				t.Errorf("it took %s, drain_timeout is 300ms", took)
			}
			<-ended
			for _, p := range children {
				awaitExit(t, p.pid)
			}
			d.logs.wait(t, "server.drain_timeout")
		})
	}
}

// Whoever waits for a place at a transport gives up before server.drain_timeout ends,
// and in time for the caller to be answered. With a journal the event goes out after
// the next start.
func TestStopEndsTheWaitForAPlace(t *testing.T) {
	t.Parallel()
	slow := strings.NewReplacer(`[server]`, "[server]\ndrain_timeout = \"1s\"", `timeout = "5s"`, `timeout = "60s"`).Replace(preamble)
	const kept = ""
	for _, c := range []struct {
		name, journal, limit string
		status               int
		code                 core.Code
		state                core.State
	}{
		{"rate", kept, "rate = 0.02", http.StatusAccepted, core.Accepted, core.StateQueued},
		{"concurrency", kept, "concurrency = 1", http.StatusAccepted, core.Accepted, core.StateQueued},
		{"rate without a journal", unkept, "rate = 0.02", http.StatusServiceUnavailable, core.Draining, core.StateDead},
		{"concurrency without a journal", unkept, "concurrency = 1", http.StatusServiceUnavailable, core.Draining, core.StateDead},
	} {
		t.Run(c.name, func(t *testing.T) {
			ehr, other := newGate(t), newGate(t)
			limited := strings.Replace(route("ehr", ehr.url, `timeout = "50s"`, ""), "circuit", c.limit+"\ncircuit", 1)
			d := start(t, slow+c.journal+limited+route("other", other.url, `forms = ["id:320"]`, ""))
			first := make(chan struct{})
			go func() { _, _ = d.do(call{body: event("319")}); close(first) }()
			ehr.await(t)
			if strings.HasPrefix(c.name, "rate") {
				ehr.open()
				<-first
			} else {
				d.cut = true // what has the place lasts too long
			}
			second := make(chan *answer, 1)
			go func() {
				a, err := d.do(call{body: event("320")})
				if err != nil {
					a = &answer{body: err.Error()}
				}
				second <- a
			}()
			other.await(t) // it has come, and waits at its other route
			other.open()
			begun := time.Now()
			d.app.Stop()
			if took := time.Since(begun); took > 4*time.Second {
				t.Errorf("it took %s, drain_timeout is 1s", took)
			}
			a := <-second
			if a.status != c.status || a.Code != c.code || len(a.Deliveries) != 2 ||
				a.Deliveries[0].Status != c.state || a.Deliveries[0].Attempts != 0 || a.Deliveries[1].Status != core.StateDelivered {
				t.Errorf("the answer is %d %s", a.status, a.body)
			}
			<-first
			if c.journal == unkept {
				contains(t, "the answer", a.Detail, "Target other received it. Target ehr has not confirmed it: Hookline is being stopped or restarted. It was not received there. Hookline will not send it again")
				return
			}
			ehr.open()
			if err := d.boot(); err != nil {
				t.Fatal(err)
			}
			d.logs.wait(t, "delivery delivered", a.EventID, "route=ehr")
		})
	}
}

// A start that fails leaves nothing running.
func TestFailedStart(t *testing.T) {
	d := prepare(t, preamble+route("ehr", "ftp://no", "", ""))
	if err := d.boot(); err == nil {
		t.Fatal("it started")
	} else {
		contains(t, "the error", err.Error(), d.path, "transports.ehr.settings.url")
	}
	if left := descendants(t, os.Getpid()); len(left) != 0 {
		t.Errorf("a start that failed left %v", left)
	}
}
