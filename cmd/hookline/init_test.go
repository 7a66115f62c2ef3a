package main

import (
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/hookline/hookline/core/config"
)

// What init writes is good as it is, and an event of it arrives, by the commands
// that it prints.
func TestInit(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "first") // it is made
	code, said, errs := hooklineHere("init", dir)
	if code != 0 || errs != "" || !strings.Contains(said, "wrote "+filepath.Join(dir, "config.toml")) || !strings.Contains(said, "\n  cd "+dir+"\n  hookline check\n") {
		t.Fatalf("exit %d\n%s%s", code, said, errs)
	}
	in := func(env []string, args ...string) *exec.Cmd {
		cmd := hookline(t, env, append(args, "--config", "config.toml")...)
		cmd.Dir = dir
		return cmd
	}
	if code, out, errs := finish(t, in(nil, "check")); code != 0 || errs != "" || !strings.Contains(out, "golden pairs that it gives: 1") || !strings.HasSuffix(out, "\nok\n") {
		t.Errorf("check: exit %d\n%s%s", code, out, errs)
	}
	(&bench{t, dir}).says(0, []string{"test"}, "3 passed")

	got := make(chan string, 1)
	target := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		got <- r.Method + " " + r.URL.Path + " " + string(body)
	}))
	defer target.Close()
	daemon := launch(t, in([]string{"HOOKLINE__TRANSPORTS__EHR__SETTINGS__URL=" + target.URL + "/trialkit"}, "serve", "--listen", "tcp://127.0.0.1:0", "--log-format", "text"), false)
	address := daemon.await(`msg="listening for TrialKit" on=tcp://(\S+)`)
	curl := regexp.MustCompile(`(?m)^  (curl .*)$`).FindStringSubmatch(said)
	if curl == nil {
		t.Fatalf("it shows no way to send the example:\n%s", said)
	}
	send := exec.Command("sh", "-c", strings.Replace(curl[1], "127.0.0.1:8787", address, 1))
	if _, err := exec.LookPath("curl"); err != nil {
		t.Log("there is no curl: hookline sends the event in its place")
		send = hookline(t, nil, "send", "--file", "event.json", "--url", "http://"+address+"/hooks/demo", "--email", "trialkit@example.org", "--password", "file:hook-password")
	}
	send.Dir = dir
	if code, out, errs := finish(t, send); code != 0 || !strings.Contains(out, "200") || !strings.Contains(out, "delivered") {
		t.Errorf("sending the example: exit %d\n%s%s", code, out, errs)
	}
	select {
	case event := <-got:
		if !strings.HasPrefix(event, `POST /trialkit {"study":"ABC-123","record":"435",`) {
			t.Errorf("the target got %s", event)
		}
	case <-time.After(20 * time.Second):
		t.Error("the target got nothing")
	}
	if code := daemon.stop(); code != 0 {
		t.Errorf("serve: exit %d\n%s", code, daemon.all)
	}
	if left, err := exec.Command("git", "-C", dir, "init", "--quiet").CombinedOutput(); err == nil {
		status, err := exec.Command("git", "-C", dir, "status", "--short", "--untracked-files=all").CombinedOutput()
		if text := string(status); err != nil || strings.Contains(text, "password") || strings.Contains(text, ".db") || !strings.Contains(text, "transforms/ehr.ts") {
			t.Errorf("version control would take %s, %v", text, err)
		}
	} else {
		t.Logf("there is no git: %s", left)
	}
}

// What it calls a default is one, and the password is no one else's.
func TestInitText(t *testing.T) {
	dirs := []string{t.TempDir(), t.TempDir()}
	for _, dir := range dirs {
		if code, out, errs := hooklineHere("init", dir); code != 0 {
			t.Fatalf("exit %d\n%s%s", code, out, errs)
		}
	}
	b := bench{t, dirs[0]}
	was, err := config.Load(filepath.Join(b.dir, "config.toml"), nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	b.write("config.toml", regexp.MustCompile(`(?m)^#([a-z])`).ReplaceAllString(b.read("config.toml"), "$1"))
	now, err := config.Load(filepath.Join(b.dir, "config.toml"), nil, nil)
	if err != nil || now.Revision != was.Revision {
		t.Errorf("a default in it is not the default: %v", err)
	}
	if b.read("hook-password") == (&bench{t, dirs[1]}).read("hook-password") {
		t.Error("two folders have the same password")
	}
	if info, err := os.Stat(filepath.Join(b.dir, "hook-password")); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("others may read the password: %v, %v", info.Mode(), err)
	}
}

// Nothing is overwritten: the file that stands in the way is named, and no other is
// written.
func TestInitOverwritesNothing(t *testing.T) {
	t.Chdir(t.TempDir())
	b := bench{t, "."}
	b.write("transforms/ehr.golden/update.out.json", "mine")
	b.write(".gitignore", "mine")
	b.write("transforms/tsconfig.json", "mine")
	if code, out, errs := hooklineHere("init"); code != exitFailed || out != "" || !strings.Contains(errs, "transforms/ehr.golden/update.out.json is there already") {
		t.Errorf("exit %d\n%s%s", code, out, errs)
	}
	if _, err := os.Stat("config.toml"); err == nil {
		t.Error("a part of it was written")
	}
	if err := os.Remove("transforms/ehr.golden/update.out.json"); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("nowhere", "config.toml"); err != nil {
		t.Fatal(err)
	}
	if code, _, errs := hooklineHere("init"); code != exitFailed || !strings.Contains(errs, "config.toml is there already") {
		t.Errorf("a link that leads nowhere: exit %d\n%s", code, errs)
	}
	if err := os.Remove("config.toml"); err != nil {
		t.Fatal(err)
	}
	if code, out, errs := hooklineHere("init", "."); code != 0 || strings.Contains(out, "  cd ") {
		t.Errorf("exit %d\n%s%s", code, out, errs)
	}
	for _, kept := range []string{".gitignore", "transforms/tsconfig.json"} {
		if b.read(kept) != "mine" {
			t.Errorf("%s was overwritten", kept)
		}
	}
	b.write("file", "")
	if code, _, errs := hooklineHere("init", "file"); code != exitFailed || !strings.Contains(errs, "file") {
		t.Errorf("a file for the folder: exit %d\n%s", code, errs)
	}
	if code, _, errs := hooklineHere("init", "a", "b"); code != exitConfig || !strings.Contains(errs, "takes one folder") {
		t.Errorf("two folders: exit %d\n%s", code, errs)
	}
}
