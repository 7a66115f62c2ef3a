package app_test

import (
	"context"
	"fmt"
	"io/fs"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/hookline/hookline/core/admin"
	"github.com/hookline/hookline/plugins/transport"
)

// A bad reload changes nothing, whatever is bad about it, and says what is.
func TestBadReloadChangesNothing(t *testing.T) {
	ehr := newTarget(t, nil)
	good := preamble + route("ehr", ehr.url, `transform = "shape.js"`, basicAuth)
	d := start(t, good, files{
		"shape.js":  scripts,
		"broken.js": "export default function (event) {\n  return {\n}",
		"empty.js":  "const x = 1",
		"other.js":  "export default (event) => ({ form: event.form_name })",

		"other.golden/ward.in.json":  `{"trans_id":"435","form_id":"319","form_name":"Jane Doe","OnUpdate":true}`,
		"other.golden/ward.out.json": `{"messages":[{"contentType":"application/json","payload":{"form":"Sample Form"}}]}`,
	})
	pid, scriptPID := transportPID(t, "ehr"), childOf(t, os.Getpid(), "child transforms")
	second := route("second", ehr.url, "", "") // good, and started for nothing
	for _, c := range []struct {
		name, toml string
		says       []string
	}{
		{"not TOML", good + "\n[routes", []string{"config.toml"}},
		{"unknown key", good + second + "timout = \"1s\"", []string{"routes.second.timout", "timeout"}},
		{"missing variable", good + second + "[hooks.other]\nemail = \"a@b.c\"\npassword = \"env:NOT_SET\"", []string{"hooks.other.password", "env:NOT_SET is not set"}},
		{"missing secret of a target", good + second + route("ward", ehr.url, "", "username = \"x\"\npassword = \"env:NOT_SET\""), []string{"transports.ward.settings.password", "env:NOT_SET is not set"}},
		{"missing secret file", good + second + route("ward", ehr.url, "", "username = \"x\"\npassword = \"file:nowhere\""), []string{"transports.ward.settings.password", "nowhere"}},
		{"missing script", good + second + route("ward", ehr.url, `transform = "nowhere.js"`, ""), []string{"routes.ward.transform", "nowhere.js"}},
		{"broken script", good + second + route("ward", ehr.url, `transform = "broken.js"`, ""), []string{"config.toml:", "routes.ward.transform", "broken.js:3", "\n    3 | }"}},
		{"script without an export", good + second + route("ward", ehr.url, `transform = "empty.js"`, ""), []string{"routes.ward.transform", "empty.js"}},
		{"golden pair of a script", good + second + route("ward", ehr.url, `transform = "other.js"`, ""), []string{"routes.ward.transform", "other.js", `golden pair "ward"`, "hookline transform test", "--update"}},
		{"setting refused by the schema", good + second + route("ward", "ftp://x", "", ""), []string{"transports.ward.settings.url"}},
		{"setting refused by the plugin", good + second + route("ward", "http://127.0.0.1/#x", "", ""), []string{"transports.ward.settings.url", "fragment"}},
		{"unknown setting", good + second + route("ward", ehr.url, "", "speed = 3"), []string{"config.toml:", "transports.ward.settings.speed: is not a key; the keys here are ", ", url, "}},
		{"missing plugin", good + second + strings.Replace(route("ward", ehr.url, "", ""), `"http"`, `"./nowhere"`, 1), []string{"transports.ward.plugin", "nowhere"}},
		{"unknown plugin", good + second + strings.Replace(route("ward", ehr.url, "", ""), `"http"`, `"kafka"`, 1), []string{"transports.ward", "kafka", "http"}},
		{"several at once", good + route("ward", "ftp://x", `transform = "broken.js"`, "") + route("lab", "ftp://y", "", ""), []string{"transports.ward.settings.url", "transports.lab.settings.url", "routes.ward.transform"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			d.write("config.toml", c.toml)
			err := d.app.Reload(context.Background())
			if err == nil {
				t.Fatal("it was taken")
			}
			contains(t, "the error", err.Error(), append(c.says, "not reloaded, the configuration in force stays")...)
			assertClean(t, "the error", err.Error(), recordContents...)
			d.update("319", transport.Delivered)
			if got := transportPID(t, "ehr"); got != pid {
				t.Errorf("the transport has another process: %d, it was %d", got, pid)
			}
			if got := childOf(t, os.Getpid(), "child transforms"); got != scriptPID {
				t.Errorf("the scripts have another process: %d, it was %d", got, scriptPID)
			}
			if children := descendants(t, os.Getpid()); len(children) != 2 {
				t.Errorf("what was started is still there: %v", children)
			}
		})
	}
}

// An event in flight ends on what it began with; the next takes what is new.
func TestReloadBesideAnEventInFlight(t *testing.T) {
	before, after := newGate(t), newTarget(t, nil)
	d := start(t, preamble+route("ehr", before.url, "", ""))
	old := transportPID(t, "ehr")
	answers := make(chan *answer, 1)
	go func() { answers <- d.send(call{body: event("319")}) }()
	before.await(t)

	d.reload(preamble + route("ehr", after.url, "", ""))
	d.update("319", transport.Delivered)
	if n := len(after.got()); n != 1 {
		t.Fatalf("the new target got %d requests", n)
	}
	select {
	case a := <-answers:
		t.Fatalf("the event in flight was answered %d %s", a.status, a.body)
	default:
	}
	before.open()
	if a := <-answers; a.Code != transport.Delivered {
		t.Errorf("the event in flight was answered %d %s", a.status, a.body)
	}
	awaitExit(t, old)
	if n := len(before.got()); n != 1 {
		t.Errorf("the old target got %d requests", n)
	}
}

// A process lasts as long as an event on any generation needs it: here the retry
// of an event comes after two reloads, of which the second drops the process.
func TestTwoReloadsBesideAnEventInFlight(t *testing.T) {
	hold := make(chan struct{})
	came := make(chan struct{}, 8)
	before := newTarget(t, func(n int, w http.ResponseWriter, _ *http.Request) {
		if n == 1 {
			came <- struct{}{}
			<-hold
			w.WriteHeader(http.StatusServiceUnavailable)
		}
	})
	after := newTarget(t, nil)
	toml := preamble + route("ehr", before.url, "", "")
	d := start(t, toml)
	answers := make(chan *answer, 1)
	go func() { answers <- d.send(call{body: event("319")}) }()
	<-came
	d.reload(strings.Replace(toml, `timeout = "5s"`, `timeout = "6s"`, 1))
	d.reload(preamble + route("ehr", after.url, "", ""))
	close(hold)
	if a := <-answers; a.Code != transport.Delivered || a.Deliveries[0].Attempts != 2 {
		t.Errorf("the event in flight was answered %d %s", a.status, a.body)
	}
}

// What is unchanged keeps its process; what changed gets another; what is gone
// loses it.
func TestReloadTouchesOnlyWhatChanged(t *testing.T) {
	ehr, lab := newTarget(t, nil), newTarget(t, nil)
	toml := preamble +
		route("ehr", ehr.url, `forms = ["ehr"]`, "username = \"hookline\"\npassword = \"file:ehr-password\"") +
		route("lab", lab.url, `forms = ["lab"]`, "")
	d := start(t, toml, files{"ehr-password": ehrPassword + "\n"})
	pids := func() [2]int { return [2]int{transportPID(t, "ehr"), transportPID(t, "lab")} }
	first := pids()

	t.Run("nothing", func(t *testing.T) {
		d.reload(toml)
		if now := pids(); now != first {
			t.Errorf("processes %v, they were %v", now, first)
		}
	})
	t.Run("the route only", func(t *testing.T) {
		d.reload(strings.Replace(toml, `forms = ["lab"]`, `forms = ["lab2"]`, 1))
		if now := pids(); now != first {
			t.Errorf("processes %v, they were %v", now, first)
		}
		d.update("lab2", transport.Delivered)
		d.reload(toml)
	})
	t.Run("a secret", func(t *testing.T) {
		d.write("ehr-password", "another-"+ehrPassword)
		d.reload(toml)
		awaitExit(t, first[0])
		now := pids()
		if now[0] == first[0] || now[1] != first[1] {
			t.Errorf("processes %v, they were %v", now, first)
		}
		d.update("ehr", transport.Delivered)
		got := ehr.got()
		if _, password, _ := (&http.Request{Header: got[len(got)-1].header}).BasicAuth(); password != "another-"+ehrPassword {
			t.Error("the target got the old password")
		}
	})
	t.Run("a hook's password", func(t *testing.T) {
		d.mu.Lock()
		d.env[0] = "HOOK_PASSWORD=changed"
		d.mu.Unlock()
		d.reload(toml)
		if a := d.send(call{body: event("lab")}); a.status != 401 {
			t.Errorf("the old password still works: %d", a.status)
		}
		d.mu.Lock()
		d.env[0] = "HOOK_PASSWORD=" + hookPassword
		d.mu.Unlock()
		d.reload(toml)
		d.update("lab", transport.Delivered)
	})
	t.Run("removed", func(t *testing.T) {
		gone := transportPID(t, "ehr")
		d.reload(preamble + route("lab", lab.url, `forms = ["lab"]`, ""))
		awaitExit(t, gone)
		if transportPID(t, "lab") != first[1] {
			t.Error("the other transport has another process")
		}
		if a := d.send(call{body: event("ehr")}); a.Code != "ignored" {
			t.Errorf("answer %d %s", a.status, a.body)
		}
	})
}

// A vendor's plugin is a file; one that is exclusive is never there twice, and a
// refused setting brings back the one before.
func TestReloadOfAnExclusivePlugin(t *testing.T) {
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	vendor := func(settings string) string {
		return strings.Replace(preamble, `timeout = "5s"`, "timeout = \"5s\"\nreply = \"vendor\"", 1) + fmt.Sprintf(`
[transports.vendor]
plugin = %q
args = [%q]
settings = { %s }
[routes.vendor]
hooks = ["demo"]
transport = "vendor"
`, exe, modeVendor, settings)
	}
	d := start(t, vendor(`word = "first"`))
	says := func(want string) {
		t.Helper()
		if a := d.send(call{body: event("319")}); a.body != want {
			t.Errorf("got %d %s, want %s", a.status, a.body, want)
		}
		if pid := childOf(t, os.Getpid(), " "+modeVendor); pid == 0 {
			t.Error("it has no process")
		}
	}
	says("first")
	d.reload(vendor(`word = "second"`))
	says("second")
	d.write("config.toml", vendor(`word = "third", refuse = "yes"`))
	err = d.app.Reload(context.Background())
	if err == nil {
		t.Fatal("it was taken")
	}
	contains(t, "the error", err.Error(), "transports.vendor.settings.refuse: is not wanted")
	says("second")
	d.reload(vendor(`word = "fourth"`))
	says("fourth")
}

// server.watch: a save of the file, or of a script, is enough.
func TestWatch(t *testing.T) {
	first, second := newTarget(t, nil), newTarget(t, nil)
	watched := strings.Replace(preamble, "[server]", "[server]\nwatch = true", 1)
	d := start(t, watched+route("ehr", first.url, `transform = "shape.js"`, ""), files{"shape.js": "export default () => ({ v: 1 })"})
	stop := d.serve()
	d.update("319", transport.Delivered)

	last := func(r *target) string {
		d.update("319", transport.Delivered)
		got := r.got()
		if len(got) == 0 {
			return ""
		}
		return string(got[len(got)-1].body)
	}
	// Until the watcher has seen the first state, a change is none.
	eventually(t, "the script's change", func() bool {
		d.write("shape.js", "export default () => ({ v: 2 })")
		return last(first) == `{"v":2}`
	})
	// What a script imports is watched too: also what it only would, were it right.
	d.write("lib.ts", "export const v = 3;")
	d.write("shape.js", "import { v } from './lib';\nexport default () => ({ v })")
	eventually(t, "the import", func() bool { return last(first) == `{"v":3}` })
	d.write("lib.ts", "export const v: number = 44;")
	eventually(t, "the imported file's change", func() bool { return last(first) == `{"v":44}` })
	d.write("shape.js", "import { v } from './lib';\nimport { w } from './later';\nexport default () => ({ v, w })")
	d.logs.wait(t, "level=ERROR", "shape.js:2:19", "later")
	d.write("later.ts", "export const w = 5;")
	eventually(t, "the file that was missing", func() bool { return last(first) == `{"v":44,"w":5}` })
	d.write("config.toml", watched+route("ehr", second.url, "", ""))
	eventually(t, "the file's change", func() bool { return strings.Contains(last(second), `"form_id":"319"`) })
	d.write("config.toml", watched+"[routes")
	d.logs.wait(t, "level=ERROR", "not reloaded, the configuration in force stays")
	d.update("319", transport.Delivered)
	if err := stop(); err != nil {
		t.Errorf("Run: %v", err)
	}
}

// The admin socket: for its owner only, and the caller of reload is told why.
func TestAdminSocket(t *testing.T) {
	ehr := newTarget(t, nil)
	toml := preamble + route("ehr", ehr.url, "", "") + "[admin]\nlisten = \"unix:admin.sock\"\n"
	d := prepare(t, toml)
	socket := filepath.Join(d.dir, "admin.sock")
	// A daemon that was killed has left its socket.
	l, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	l.(*net.UnixListener).SetUnlinkOnClose(false)
	_ = l.Close()
	if err := d.boot(); err != nil {
		t.Fatal(err)
	}
	info, err := os.Stat(socket)
	if err != nil {
		t.Fatal(err)
	}
	if info.Mode() != fs.ModeSocket|0o600 {
		t.Errorf("mode %s", info.Mode())
	}

	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	d.write("config.toml", strings.ReplaceAll(toml, ehr.url, "http://127.0.0.1:1"))
	if err := admin.Reload(ctx, socket); err != nil {
		t.Fatal(err)
	}
	d.update("319", transport.ConnectionRefused)
	d.write("config.toml", toml+"[routes.ehr2]\nhooks = [\"demo\"]\ntransport = \"er\"\n")
	err = admin.Reload(ctx, socket)
	if err == nil {
		t.Fatal("a bad configuration was taken")
	}
	contains(t, "the caller's error", err.Error(), "routes.ehr2.transport", "did you mean ehr?", "the configuration in force stays")
	d.write("config.toml", toml)
	if err := admin.Reload(ctx, socket); err != nil {
		t.Fatal(err)
	}
	d.update("319", transport.Delivered)

	second := prepare(t, strings.Replace(toml, "unix:admin.sock", "unix:"+socket, 1))
	if err := second.boot(); err == nil {
		t.Fatal("a second daemon runs on the same admin socket")
	} else {
		contains(t, "the second daemon's error", err.Error(), "admin.listen", socket, "another process listens there")
	}
	if n := len(descendants(t, os.Getpid())); n != 1 {
		t.Errorf("after a start that failed there are %d processes, want 1", n)
	}
	d.update("319", transport.Delivered)
	if err := admin.Reload(ctx, socket); err != nil {
		t.Errorf("the second daemon took the first one's socket: %v", err)
	}
}
