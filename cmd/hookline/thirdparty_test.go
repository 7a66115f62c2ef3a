package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/hookline/hookline/core"
	"github.com/hookline/hookline/core/admin"
	"github.com/hookline/hookline/plugins/conformance"
)

// scaffolded makes a plugin outside the repository and builds it. Only a replace
// line leads to Hookline.
func scaffolded(t *testing.T) (dir string) {
	t.Helper()
	root, err := filepath.Abs(repository)
	if err != nil {
		t.Fatal(err)
	}
	t.Chdir(t.TempDir())
	if code, out, errs := hooklineHere("plugin", "init", "acme", "--replace", root); code != 0 || !strings.Contains(out, "go mod tidy && go test ./...") {
		t.Fatalf("exit %d %s%s", code, out, errs)
	}
	sums, err := os.ReadFile(filepath.Join(root, "go.sum")) // what `go mod tidy` would ask the network for
	if err == nil {
		err = os.WriteFile("acme/go.sum", sums, 0o644)
	}
	if err != nil {
		t.Fatal(err)
	}
	dir, err = filepath.Abs("acme")
	if err != nil {
		t.Fatal(err)
	}
	for _, args := range [][]string{{"build", "-o", "acme", "."}, {"vet", "./..."}} {
		cmd := exec.Command("go", args...)
		cmd.Dir = dir
		cmd.Env = append(os.Environ(), "GOFLAGS=-mod=mod", "GOPROXY=off", "GOWORK=off")
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("go %q: %v\n%s", args, err, out)
		}
	}
	return dir
}

// hooklineHere runs a command in this process.
func hooklineHere(args ...string) (code int, stdout, stderr string) {
	var out, errs bytes.Buffer
	code = run(args, strings.NewReader(""), &out, &errs)
	return code, out.String(), errs.String()
}

// A third party's view: what init makes builds elsewhere, passes the suite, runs in
// a daemon with its checksum pinned, and is refused with a changed byte.
func TestThirdParty(t *testing.T) {
	dir := scaffolded(t)
	var got atomic.Int32
	target := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		if r.URL.Path != "/in" {
			w.WriteHeader(http.StatusUnprocessableEntity)
			return
		}
		got.Add(1)
	}))
	defer target.Close()
	gone := httptest.NewServer(nil)
	gone.Close()
	settings := func(name, url string) string {
		file := filepath.Join(t.TempDir(), name)
		if err := os.WriteFile(file, fmt.Appendf(nil, `{"url":%q,"token":"correct-horse-battery"}`, url), 0o600); err != nil {
			t.Fatal(err)
		}
		return file
	}
	bad := filepath.Join(t.TempDir(), "bad.json")
	if err := os.WriteFile(bad, []byte(`[{"name":"another scheme","settings":{"url":"ftp://x/"},"field":"url"}]`), 0o600); err != nil {
		t.Fatal(err)
	}
	code, out, errs := hooklineHere("plugin", "test", filepath.Join(dir, "acme"), "--bad", bad, "--json",
		"--settings", settings("up.json", target.URL+"/in"), "--down", settings("down.json", gone.URL), "--rejecting", settings("no.json", target.URL+"/no"))
	var report conformance.Report
	if err := json.Unmarshal([]byte(out), &report); err != nil || code != 0 || errs != "" || !strings.Contains(out, `"took_ms": `) {
		t.Fatalf("exit %d %v\n%s%s", code, err, out, errs)
	}
	var left []string
	for _, r := range report.Results {
		if r.Outcome == conformance.NotChecked {
			left = append(left, r.Check)
		}
	}
	if want := []string{"recovers when the target is back", "loses nothing when the target restarts", "ends at the deadline", "ends when it is cancelled"}; !slices.Equal(left, want) ||
		report.Plugin != "acme" || report.Version != "0.1.0" {
		t.Errorf("%s %s: not checked: %q", report.Plugin, report.Version, left)
	}

	s := newSite(t, "")
	text, err := os.ReadFile(s.file)
	if err != nil {
		t.Fatal(err)
	}
	before, after, _ := strings.Cut(string(text), "[transports.lab]")
	_, routes, _ := strings.Cut(after, "[routes.ehr]")
	s.write(before + fmt.Sprintf("[transports.lab]\nplugin = %q # theirs\n[transports.lab.settings]\nurl = %q\n[routes.ehr]", filepath.Join(dir, "acme"), target.URL+"/in") + routes)
	if out := s.good("plugin", "pin", "--write"); !strings.Contains(out, "written to "+s.file) {
		t.Errorf("pin: %s", out)
	}
	printed := s.good("plugin", "pin", "lab")
	byPath := must(t, "plugin", "pin", filepath.Join(dir, "acme"))
	if want := "[transports.lab]\n" + strings.TrimSpace(byPath) + " # as it is\n"; printed != want {
		t.Errorf("pin: %q, want %q", printed, want)
	}
	s.start()
	was := got.Load()
	a := s.send(`{"OnUpdate": true, "trans_id": "435", "form_id": "7"}`)
	s.await(a.Ref, "lab", core.StateDelivered)
	if got.Load() != was+1 {
		t.Errorf("the target got %d", got.Load()-was)
	}
	var list admin.PluginList
	if err := json.Unmarshal([]byte(s.good("plugin", "list", "--json")), &list); err != nil || len(list.Plugins) != 2 {
		t.Fatalf("%+v %v", list, err)
	}
	theirs := list.Plugins[1]
	if theirs.Transport != "lab" || theirs.Plugin != "acme" || theirs.Version != "0.1.0" || !theirs.Pinned || theirs.BuiltIn || theirs.State != "running" || theirs.PID == 0 || theirs.Since == nil {
		t.Errorf("%+v", theirs)
	}
	table := s.good("plugin", "list")
	if !regexp.MustCompile(`(?m)^TRANSPORT +PLUGIN +VERSION +PID +STATE +FOR +RESTARTS +IN FLIGHT +MEMORY +CPU$`).MatchString(table) ||
		!regexp.MustCompile(`(?m)^lab +acme +0\.1\.0 +\d+ +running +\S+ +0 +\d+ `).MatchString(table) {
		t.Errorf("the list:\n%s", table)
	}
	s.daemon.stop()

	executable := filepath.Join(dir, "acme")
	file, err := os.ReadFile(executable)
	if err != nil {
		t.Fatal(err)
	}
	file[len(file)-1] ^= 1
	if err := os.WriteFile(executable, file, 0o755); err != nil {
		t.Fatal(err)
	}
	if code, out, errs := s.run("check"); code != exitConfig || !strings.Contains(errs, "does not have the pinned sha256") {
		t.Errorf("a changed byte: exit %d %s%s", code, out, errs)
	}
	if code, out, errs := s.run("plugin", "pin", "lab"); code != 0 || !strings.Contains(out, "# instead of ") {
		t.Errorf("a changed byte: exit %d %s%s", code, out, errs)
	}
}

func must(t *testing.T, args ...string) string {
	t.Helper()
	code, out, errs := hooklineHere(args...)
	if code != 0 || errs != "" {
		t.Fatalf("%q: exit %d %s%s", args, code, out, errs)
	}
	return out
}

// A command controls the target; the built-in plugin is named. What is not as it
// must be is told with its reason, and the exit code is 1.
func TestPluginTestWithACommand(t *testing.T) {
	var took atomic.Int32
	target := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		took.Add(1)
	}))
	defer target.Close()
	dir := t.TempDir()
	settings, command := filepath.Join(dir, "up.json"), filepath.Join(dir, "target.sh")
	if err := os.WriteFile(settings, fmt.Appendf(nil, `{"url":%q}`, target.URL), 0o600); err != nil {
		t.Fatal(err)
	}
	// It forgets everything, as a target that loses what it has confirmed does.
	if err := os.WriteFile(command, []byte("#!/bin/sh\n[ \"$1\" = received ] && echo '[]'\nexit 0\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	cmd := hookline(t, nil, "plugin", "test", "http", "--settings", settings, "--target", command, "--states", "down")
	code, out, errs := finish(t, cmd)
	if code != exitFailed || took.Load() == 0 {
		t.Errorf("exit %d %s", code, errs)
	}
	for _, want := range []string{
		"  ok    shakes hands (",
		"  FAIL  delivers\n          5 messages were delivered and the target has 0\n        why it matters: what was saved",
		"  --    ends at the deadline: not checked: the target cannot be made slow",
		"plugin http ",
	} {
		if !strings.Contains(out, want) {
			t.Errorf("it does not say %q:\n%s", want, out)
		}
	}
}

func TestPluginCommandsRefuse(t *testing.T) {
	dir := t.TempDir()
	t.Chdir(dir)
	for name, text := range map[string]string{"good.json": "{}", "bad.json": "{", "config.toml": "[hooks.demo]\nanonymous = true\n[transports.ehr]\nplugin = \"http\"\n[transports.ehr.settings]\nurl = \"http://127.0.0.1:1\"\n[routes.ehr]\nhooks = [\"demo\"]\ntransport = \"ehr\"\n"} {
		if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Mkdir("there", 0o755); err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		code int
		says string
		args []string
	}{
		{exitConfig, "see hookline plugin test --help", []string{"test"}},
		{exitConfig, "see hookline plugin pin --help", []string{"pin", "a", "b"}},
		{exitConfig, "there is no built-in plugin \"htp\"", []string{"test", "htp"}},
		{exitConfig, "./gone cannot be executed", []string{"test", "./gone"}},
		{exitConfig, "./good.json cannot be executed", []string{"test", "./good.json"}},
		{exitConfig, "bad.json is not JSON", []string{"test", "http", "--settings", "bad.json"}},
		{exitConfig, "--target needs --settings", []string{"test", "http", "--target", "x"}},
		{exitConfig, "not both", []string{"test", "http", "--target", "x", "--settings", "good.json", "--down", "good.json"}},
		{exitConfig, "use down, slow and rejecting", []string{"test", "http", "--target", "x", "--settings", "good.json", "--states", "up"}},
		{exitConfig, "must be of a to z", []string{"init", "Acme"}},
		{exitFailed, "there is there already", []string{"init", "there"}},
		{exitConfig, "is not Hookline's source", []string{"init", "acme", "--replace", "there"}},
		{exitConfig, "--write needs the name", []string{"pin", "./good.json", "--write"}},
		{exitFailed, "cannot be read", []string{"pin", "./gone"}},
		{exitFailed, "is built in", []string{"pin", "ehr"}},
		{exitFailed, "no transport of", []string{"pin"}},
		{exitConfig, "has no transport \"lab\"", []string{"pin", "lab"}},
		{exitEnvironment, "", []string{"list"}},
	} {
		code, out, errs := hooklineHere(append([]string{"plugin"}, tt.args...)...)
		if code != tt.code || out != "" || !strings.Contains(errs, tt.says) {
			t.Errorf("%q: exit %d, want %d\n%s%s", tt.args, code, tt.code, out, errs)
		}
	}
}

// A configuration that is a link stays one: its target is written, beside itself.
func TestPinWritesThroughALink(t *testing.T) {
	b := bench{t, t.TempDir()}
	b.write("etc/site.toml", "[hooks.demo]\nanonymous = true\n[transports.lab]\nplugin = \"../plugin\"\n[routes.lab]\nhooks = [\"demo\"]\ntransport = \"lab\"\n")
	b.write("plugin", "#!/bin/sh\n")
	for name, mode := range map[string]os.FileMode{"plugin": 0o755, "etc/site.toml": 0o640} {
		if err := os.Chmod(filepath.Join(b.dir, name), mode); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Mkdir(filepath.Join(b.dir, "run"), 0o755); err != nil {
		t.Fatal(err)
	}
	for name, to := range map[string]string{"run/config.toml": "current.toml", "run/current.toml": "../etc/site.toml"} {
		if err := os.Symlink(to, filepath.Join(b.dir, name)); err != nil {
			t.Fatal(err)
		}
	}
	link := filepath.Join(b.dir, "run/config.toml")
	if out := must(t, "plugin", "pin", "lab", "--write", "--config", link); !strings.Contains(out, "written to "+link) {
		t.Errorf("pin: %s", out)
	}
	for _, name := range []string{"config.toml", "current.toml"} {
		if info, err := os.Lstat(filepath.Join(b.dir, "run", name)); err != nil || info.Mode()&os.ModeSymlink == 0 {
			t.Errorf("%s is a link no more: %v, %v", name, info.Mode(), err)
		}
	}
	if text := b.read("etc/site.toml"); strings.Count(text, "\nsha256 = ") != 1 {
		t.Errorf("what it leads to is\n%s", text)
	}
	if info, err := os.Stat(filepath.Join(b.dir, "etc/site.toml")); err != nil || info.Mode().Perm() != 0o640 {
		t.Errorf("its mode is %v, %v", info.Mode(), err)
	}
	if left, err := os.ReadDir(filepath.Join(b.dir, "etc")); err != nil || len(left) != 1 {
		t.Errorf("beside it lie %v, %v", left, err)
	}
}
