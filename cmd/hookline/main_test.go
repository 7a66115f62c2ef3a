package main

import (
	"bufio"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
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
	"sync"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/hookline/hookline/core/app"
	"github.com/hookline/hookline/core/journal"
)

// The test binary is hookline when it is asked to be, and its children.
func TestMain(m *testing.M) {
	if os.Getenv("HOOKLINE_TEST_MAIN") != "" || len(os.Args) > 1 && os.Args[1] == app.ChildCommand {
		os.Exit(run(os.Args[1:], os.Stdin, os.Stdout, os.Stderr))
	}
	goleak.VerifyTestMain(m)
}

// repository is where config.toml is.
const repository = "../.."

// hookline is the command as a user runs it.
func hookline(t *testing.T, env []string, args ...string) *exec.Cmd {
	t.Helper()
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	t.Cleanup(cancel)
	cmd := exec.CommandContext(ctx, exe, args...)
	cmd.Dir = repository
	cmd.Env = append(os.Environ(), "HOOKLINE_TEST_MAIN=1")
	if !slices.Contains(args, "--config") { // the repository keeps no journal
		cmd.Env = append(cmd.Env, "HOOKLINE__JOURNAL__URL=sqlite:"+filepath.Join(t.TempDir(), "hookline.db"))
	}
	cmd.Env = append(cmd.Env, env...)
	return cmd
}

// finish runs a command to its end.
func finish(t *testing.T, cmd *exec.Cmd) (code int, stdout, stderr string) {
	t.Helper()
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	err := cmd.Run()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		t.Fatal(err)
	}
	return cmd.ProcessState.ExitCode(), out.String(), errs.String()
}

// running is a command that goes on; its output is read line by line.
type running struct {
	t     *testing.T
	cmd   *exec.Cmd
	lines chan string
	all   *bytes.Buffer
	mu    *sync.Mutex
}

func launch(t *testing.T, cmd *exec.Cmd, stdout bool) *running {
	t.Helper()
	pipe, err := cmd.StderrPipe()
	if stdout {
		pipe, err = cmd.StdoutPipe()
	}
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	r := &running{t: t, cmd: cmd, lines: make(chan string, 1000), all: &bytes.Buffer{}, mu: &sync.Mutex{}}
	done := make(chan struct{})
	go func() {
		defer close(done)
		defer close(r.lines)
		s := bufio.NewScanner(pipe)
		for s.Scan() {
			r.mu.Lock()
			r.all.WriteString(s.Text() + "\n")
			r.mu.Unlock()
			r.lines <- s.Text()
		}
	}()
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		<-done
		_ = cmd.Wait()
	})
	return r
}

// await returns the first group of the first line that matches.
func (r *running) await(pattern string) string {
	r.t.Helper()
	re := regexp.MustCompile(pattern)
	timeout := time.After(20 * time.Second)
	for {
		select {
		case line, ok := <-r.lines:
			if !ok {
				r.t.Fatalf("it ended before it said %s:\n%s", pattern, r.all)
			}
			if m := re.FindStringSubmatch(line); m != nil {
				return m[len(m)-1]
			}
		case <-timeout:
			r.t.Fatalf("it never said %s:\n%s", pattern, r.all)
		}
	}
}

func (r *running) stop() int {
	r.t.Helper()
	if err := r.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		r.t.Fatal(err)
	}
	for range r.lines { // until it has closed its output
	}
	_ = r.cmd.Wait()
	return r.cmd.ProcessState.ExitCode()
}

func TestDemo(t *testing.T) {
	code, out, errs := finish(t, hookline(t, nil, "demo"))
	if code != 0 || errs != "" {
		t.Fatalf("exit %d: %s", code, errs)
	}
	for want, n := range map[string]int{
		"TrialKit's user goes on working":         4,
		"(Basic auth as hookline: right)":         3,
		"200 delivered, reference":                3,
		"┌─ Protocol Error":                       3,
		"502 target_error":                        1,
		"504 timeout":                             1,
		"502 connection_refused":                  1,
		"down: waiting (2 attempts)":              1,
		"202 accepted, reference":                 1,
		"  ▸ POST /  (no credentials)":            2, // what was kept arrives
		`{"what":"insert","record":"435"`:         1,
		`"review":"Monitor Review"}`:              1,
		"hint for the integrator: routes.hanging": 1,
	} {
		if got := strings.Count(out, want); got != n {
			t.Errorf("%q stands %d times, want %d", want, got, n)
		}
	}
	if strings.Contains(out, demoPassword+`"`) || strings.Contains(out, "Basic aG") {
		t.Error("a credential is shown")
	}
}

// The README's first five minutes, with the repository's own config.toml.
func TestServeSendSinkReload(t *testing.T) {
	sinkProcess := launch(t, hookline(t, nil, "sink", "--listen", "127.0.0.1:0",
		"--username", "hookline", "--password", "file:examples/demo/ehr-password"), true)
	target := sinkProcess.await(`waiting for events on (http://\S+)`)
	socket := filepath.Join(t.TempDir(), "admin.sock")
	env := []string{"HOOKLINE__TRANSPORTS__EHR__SETTINGS__URL=" + target + "/trialkit", "HOOKLINE__ADMIN__LISTEN=unix:" + socket}
	daemon := launch(t, hookline(t, env, "serve", "--listen", "tcp://127.0.0.1:0", "--log-format", "text"), false)
	url := "http://" + daemon.await(`msg="listening for TrialKit" on=tcp://(\S+)`) + "/hooks/demo"
	send := func(args ...string) (int, string) {
		code, out, errs := finish(t, hookline(t, env, append([]string{"send", "--url", url, "--email", "trialkit@example.org"}, args...)...))
		return code, out + errs
	}
	const password = "--password=file:examples/demo/hook-password"

	for _, args := range [][]string{{"insert", password}, {"update", password, "--challenge"}, {"--file", "examples/events/review.json", password}} {
		if code, out := send(args...); code != 0 || !strings.Contains(out, "200 delivered") {
			t.Errorf("send %q: exit %d\n%s", args, code, out)
		}
		sinkProcess.await(`POST /trialkit .*right`)
	}
	if code, out := send("update", "--password=wrong"); code != 1 || !strings.Contains(out, "Protocol Error") || !strings.Contains(out, "401 unauthorized") {
		t.Errorf("a wrong password: exit %d\n%s", code, out)
	}

	if code, out, errs := finish(t, hookline(t, env, "reload")); code != 0 || out != "reloaded\n" {
		t.Errorf("reload: exit %d\n%s%s", code, out, errs)
	}
	if err := daemon.cmd.Process.Signal(syscall.SIGHUP); err != nil {
		t.Fatal(err)
	}
	daemon.await(`msg=reloaded`)
	daemon.await(`msg=reloaded`)
	if code := sinkProcess.stop(); code != 0 {
		t.Errorf("sink: exit %d", code)
	}
	if code, out := send("update", password); code != 1 || !strings.Contains(out, "502 connection_refused") {
		t.Errorf("the target is down: exit %d\n%s", code, out)
	}
	if code := daemon.stop(); code != 0 {
		t.Errorf("serve: exit %d\n%s", code, daemon.all)
	}
	if _, err := os.Stat(socket); !os.IsNotExist(err) {
		t.Error("the admin socket is still there")
	}
	if log := daemon.all.String(); strings.Contains(log, "demo-hook-password") || strings.Contains(log, "Sample Form") {
		t.Errorf("the log holds a secret or a record's contents:\n%s", log)
	}
}

func TestServeOnAUnixSocket(t *testing.T) {
	target := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	defer target.Close()
	socket := filepath.Join(t.TempDir(), "hook.sock")
	env := []string{"HOOKLINE__TRANSPORTS__EHR__SETTINGS__URL=" + target.URL, "HOOKLINE__ADMIN__LISTEN=off"}
	daemon := launch(t, hookline(t, env, "serve", "--listen", "unix://"+socket), false)
	daemon.await(`"msg":"listening for TrialKit"`)
	code, out, errs := finish(t, hookline(t, nil, "send", "update", "--unix", socket, "--email", "trialkit@example.org", "--password", "file:examples/demo/hook-password"))
	if code != 0 {
		t.Errorf("exit %d\n%s%s", code, out, errs)
	}
	if code := daemon.stop(); code != 0 {
		t.Errorf("serve: exit %d", code)
	}
}

// Every wrong use says what is wrong, and with the right exit code.
func TestWrongUse(t *testing.T) {
	bad := filepath.Join(t.TempDir(), "bad.toml")
	if err := os.WriteFile(bad, []byte("[server]\nlisen = []\n[hooks.demo]\nanonymous = true\n[transports.ehr]\nplugin = \"htp\"\n[routes.ehr]\nhooks = [\"dem\"]\ntransport = \"ehr\"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	beside := t.TempDir() // a journal with an accepted configuration, and another file's name
	s, err := journal.Open(t.Context(), journal.Options{URL: "sqlite:" + filepath.Join(beside, "hookline.db")})
	if err != nil {
		t.Fatal(err)
	}
	host, _ := os.Hostname()
	if err := errors.Join(s.Accept(t.Context(), journal.Set{Node: host, Config: []byte("[hooks.demo]\nanonymous = true\n")}), s.Close()); err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		args []string
		code int
		want []string
	}{
		{[]string{"srve"}, 2, []string{`does not know "srve"`, "did you mean serve?"}},
		{[]string{"serve", "now"}, 2, []string{`hookline serve does not know "now"`, "hookline serve --help"}},
		{[]string{"serve", "--conf"}, 2, []string{"--conf", "hookline serve --help"}},
		{[]string{"serve", "--config", "no-such.toml"}, 2, []string{"no-such.toml", "--config"}},
		{[]string{"serve", "--config", filepath.Join(beside, "config.tml")}, 2, []string{"config.tml", "--config"}},
		{[]string{"serve", "--config", bad}, 2, []string{"bad.toml:2: server.lisen", "did you mean listen?", "routes.ehr.hooks", "demo"}},
		{[]string{"check", "--config", bad}, 2, []string{"bad.toml:2: server.lisen"}},
		{[]string{"send"}, 2, []string{"insert, update or review"}},
		{[]string{"send", "delete"}, 2, []string{"insert, update or review"}},
		{[]string{"send", "update", "--file", "no-such.json"}, 2, []string{"no-such.json"}},
		{[]string{"send", "update", "--password", "env:NO_SUCH_VARIABLE"}, 2, []string{"NO_SUCH_VARIABLE"}},
		{[]string{"send", "update", "--url", "http://127.0.0.1:1/hooks/demo"}, 3, []string{"could not reach the hook"}},
		{[]string{"send", "update", "--url", "localhost:8787/hooks/demo"}, 2, []string{"--url", "http://127.0.0.1:8787/hooks/demo"}},
		{[]string{"send", "update", "--url", "127.0.0.1:8787/hooks/demo"}, 2, []string{"--url", "http://127.0.0.1:8787/hooks/demo"}},
		{[]string{"send", "update", "--unix", "/no/such/socket"}, 3, []string{"could not reach the hook", "/no/such/socket"}},
		{[]string{"sink", "--listen", "9090"}, 2, []string{"127.0.0.1:9090"}},
		{[]string{"sink", "--status", "99"}, 2, []string{"between 200 and 599"}},
		{[]string{"sink", "--password", "x"}, 2, []string{"--password needs --username"}},
		{[]string{"completion", "tcsh"}, 2, []string{`hookline completion does not know "tcsh"`}},
		{[]string{"help", "serv"}, 2, []string{`does not know "serv"`, "did you mean serve?"}},
		{[]string{"help", "deliveries", "lst"}, 2, []string{"did you mean list?"}},
		{[]string{"reload", "--admin", "/no/such/socket"}, 3, []string{"no daemon answers", "/no/such/socket", "--admin"}},
		{[]string{"child", "transport", "nothing"}, 3, []string{"no such child"}},
	} {
		code, out, errs := finish(t, hookline(t, nil, tt.args...))
		if code != tt.code {
			t.Errorf("%q: exit %d, want %d\n%s%s", tt.args, code, tt.code, out, errs)
		}
		for _, want := range tt.want {
			if !strings.Contains(errs, want) {
				t.Errorf("%q does not say %q:\n%s", tt.args, want, errs)
			}
		}
	}
}

func TestCheck(t *testing.T) {
	target := httptest.NewServer(http.NotFoundHandler())
	url := "HOOKLINE__TRANSPORTS__EHR__SETTINGS__URL=" + target.URL
	code, out, errs := finish(t, hookline(t, []string{url}, "check", "--probe"))
	if code != 0 || !strings.Contains(out, "can be reached") || !strings.HasSuffix(out, "hookline.db, will be created\nok\n") {
		t.Errorf("exit %d\n%s%s", code, out, errs)
	}
	code, out, errs = finish(t, hookline(t, []string{url}, "check", "--probe", "--json"))
	var good struct{ OK bool }
	if err := json.Unmarshal([]byte(out), &good); err != nil || code != 0 || !good.OK {
		t.Errorf("exit %d, %v\n%s%s", code, err, out, errs)
	}
	target.Close()
	code, out, _ = finish(t, hookline(t, []string{url}, "check", "--probe"))
	if code != 1 || !strings.Contains(out, "CANNOT be reached: connection_refused") || strings.HasSuffix(out, "ok\n") {
		t.Errorf("a target that is down: exit %d\n%s", code, out)
	}
	code, out, _ = finish(t, hookline(t, []string{url}, "check", "--probe", "--json"))
	var report struct {
		OK         bool
		Journal    app.JournalReport
		Transports []struct {
			Plugin string
			Probe  struct{ Code string }
		}
	}
	if err := json.Unmarshal([]byte(out), &report); err != nil || code != 1 || report.OK || report.Transports[0].Probe.Code != "connection_refused" || report.Transports[0].Plugin != "http" {
		t.Errorf("exit %d, %v\n%s", code, err, out)
	}
	code, out, errs = finish(t, hookline(t, []string{"HOOKLINE__TRANSPORTS__EHR__SETTINGS__URL=ftp://x", "HOOKLINE__TRANSPORTS__EHR__SETTINGS__METHOD=GET"}, "check", "--json"))
	var failure struct {
		OK     bool
		Errors []string
	}
	if err := json.Unmarshal([]byte(out), &failure); err != nil || code != 2 || failure.OK || len(failure.Errors) != 2 || errs != "" {
		t.Errorf("exit %d, %v\n%s%s", code, err, out, errs)
	}
}

// What a sink is told to answer is what the user's screen depends on.
func TestSinkAnswersAsTold(t *testing.T) {
	for _, tt := range []struct {
		flags []string
		code  int
		want  string
	}{
		{[]string{"--status", "201", "--delay", "100ms"}, 0, "200 delivered"},
		{[]string{"--status", "503"}, 1, "503 throttled_by_target"},
		{[]string{"--status", "404"}, 1, "502 not_found_at_target"},
		{[]string{"--username", "somebody", "--password", "else"}, 1, "502 unauthorized_by_target"},
		{[]string{"--hang"}, 1, "504 timeout"},
	} {
		t.Run(strings.Join(tt.flags, " "), func(t *testing.T) {
			t.Parallel()
			s := launch(t, hookline(t, nil, append([]string{"sink", "--listen", "127.0.0.1:0"}, tt.flags...)...), true)
			url, _ := startDaemon(t, s.await(`waiting for events on (http://\S+)`), "HOOKLINE__ROUTES__EHR__TIMEOUT=1s", "HOOKLINE__HOOKS__DEMO__TIMEOUT=4s")
			cmd := hookline(t, nil, "send", "--file", "-", "--url", url, "--email", "trialkit@example.org", "--password", "file:examples/demo/hook-password")
			cmd.Stdin = strings.NewReader(`{"trans_id":1,"form_id":2,"form_name":"F","OnInsert":true}`)
			if code, out, errs := finish(t, cmd); code != tt.code || !strings.Contains(out, tt.want) {
				t.Errorf("exit %d, want %d and %q\n%s%s", code, tt.code, tt.want, out, errs)
			}
		})
	}
}

// startDaemon runs a daemon on the repository's config.toml.
func startDaemon(t *testing.T, target string, env ...string) (url string, daemon *running) {
	t.Helper()
	env = append(env, "HOOKLINE__TRANSPORTS__EHR__SETTINGS__URL="+target, "HOOKLINE__ADMIN__LISTEN=off")
	daemon = launch(t, hookline(t, env, "serve", "--listen", "tcp://127.0.0.1:0", "--log-format", "text"), false)
	return "http://" + daemon.await(`msg="listening for TrialKit" on=tcp://(\S+)`) + "/hooks/demo", daemon
}

// SIGTERM takes no new event and lets the one in flight have its answer.
func TestStopFinishesWhatIsInFlight(t *testing.T) {
	came, answer := make(chan struct{}), make(chan struct{})
	target := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { close(came); <-answer }))
	defer target.Close()
	open := sync.OnceFunc(func() { close(answer) })
	defer open()
	url, daemon := startDaemon(t, target.URL)
	send := hookline(t, nil, "send", "update", "--url", url, "--email", "trialkit@example.org", "--password", "file:examples/demo/hook-password")
	var out bytes.Buffer
	send.Stdout = &out
	if err := send.Start(); err != nil {
		t.Fatal(err)
	}
	select {
	case <-came:
	case <-time.After(20 * time.Second):
		t.Fatal("no request came to the target")
	}
	if err := daemon.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}, Timeout: time.Second}
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for end := time.Now().Add(10 * time.Second); ; <-tick.C {
		resp, err := client.Get(strings.TrimSuffix(url, "/hooks/demo") + "/readyz")
		if err != nil {
			break
		}
		_ = resp.Body.Close()
		if resp.StatusCode != http.StatusOK {
			break
		}
		if time.Now().After(end) {
			t.Fatal("the daemon still says that it takes events")
		}
	}
	open()
	if err := send.Wait(); err != nil || !strings.Contains(out.String(), "200 delivered") {
		t.Errorf("send: %v\n%s", err, out.String())
	}
	for range daemon.lines { // until it has closed its output
	}
	if err := daemon.cmd.Wait(); err != nil {
		t.Errorf("serve: %v\n%s", err, daemon.all)
	}
}

// A bad file changes nothing, and the operator reads why.
func TestReloadRefusesABadFile(t *testing.T) {
	dir, err := os.MkdirTemp("", "hl-cli-") // t.TempDir is too long for sockets
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = os.RemoveAll(dir) }()
	file := filepath.Join(dir, "config.toml")
	write := func(text string) {
		t.Helper()
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	target := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	defer target.Close()
	good := fmt.Sprintf("[server]\nlisten = [\"tcp://127.0.0.1:0\"]\n[hooks.demo]\nanonymous = true\n[transports.ehr]\nplugin = \"http\"\nsettings = { url = %q }\n[routes.ehr]\nhooks = [\"demo\"]\ntransport = \"ehr\"\n", target.URL)
	write(good)
	daemon := launch(t, hookline(t, nil, "serve", "--config", file), false)
	url := "http://" + daemon.await(`"on":"tcp://([^"]+)"`) + "/hooks/demo"
	for _, bad := range []struct{ text, want string }{
		{strings.Replace(good, "anonymous", "anonymus", 1), "did you mean anonymous?"},
		{strings.Replace(good, "http://", "ftp://", 1), "transports.ehr.settings.url"},
	} {
		write(bad.text)
		code, out, errs := finish(t, hookline(t, nil, "reload", "--config", file))
		if code != 2 || !strings.Contains(errs, bad.want) || !strings.Contains(errs, "not reloaded") {
			t.Errorf("exit %d, want 2 and %q\n%s%s", code, bad.want, out, errs)
		}
		if code, out, errs := finish(t, hookline(t, nil, "send", "update", "--url", url)); code != 0 {
			t.Errorf("after a bad reload: exit %d\n%s%s", code, out, errs)
		}
	}
	if code := daemon.stop(); code != 0 {
		t.Errorf("serve: exit %d", code)
	}
}

func TestCompletionAndVersion(t *testing.T) {
	if code, out, _ := finish(t, hookline(t, nil, "completion", "bash")); code != 0 || !strings.Contains(out, "__start_hookline") {
		t.Errorf("completion: exit %d", code)
	}
	if code, out, _ := finish(t, hookline(t, nil, "version")); code != 0 || !strings.HasPrefix(out, "hookline ") {
		t.Errorf("version: exit %d %q", code, out)
	}
}

// The configurations under examples stay true.
func TestExampleConfigs(t *testing.T) {
	files, err := filepath.Glob(filepath.Join(repository, "examples", "*.toml"))
	if err != nil || len(files) == 0 {
		t.Fatal("no examples", err)
	}
	for _, name := range files {
		code, out, errs := finish(t, hookline(t, nil, "check", "--config", "examples/"+filepath.Base(name)))
		if code != 0 || strings.Contains(out, "warning") {
			t.Errorf("%s: exit %d\n%s%s", name, code, out, errs)
		}
	}
}

// A vendor's plugin: built in its own module, pinned, used by a daemon.
func TestVendorPlugin(t *testing.T) {
	dir := t.TempDir()
	plugin := filepath.Join(dir, "plugin-file")
	build := exec.Command("go", "build", "-o", plugin, ".")
	build.Dir = filepath.Join(repository, "examples", "plugin-file")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	data, err := os.ReadFile(plugin)
	if err != nil {
		t.Fatal(err)
	}
	sum := sha256.Sum256(data)
	config := filepath.Join(dir, "config.toml")
	text := fmt.Sprintf(`
[server]
listen = ["tcp://127.0.0.1:0"]
[hooks.demo]
anonymous = true
[transports.archive]
plugin = "./plugin-file"
sha256 = "%s"
settings = { path = "%s/out.jsonl" }
[routes.archive]
hooks = ["demo"]
transport = "archive"
`, hex.EncodeToString(sum[:]), dir)
	if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	daemon := launch(t, hookline(t, nil, "serve", "--config", config), false)
	url := "http://" + daemon.await(`"on":"tcp://([^"]+)"`) + "/hooks/demo"
	body, err := os.ReadFile(filepath.Join(repository, "examples", "events", "review.json"))
	if err != nil {
		t.Fatal(err)
	}
	resp, err := http.Post(url, "application/json", bytes.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	answer, _ := io.ReadAll(resp.Body)
	_ = resp.Body.Close()
	http.DefaultClient.CloseIdleConnections()
	if resp.StatusCode != http.StatusOK {
		t.Fatalf("%d %s", resp.StatusCode, answer)
	}
	line, err := os.ReadFile(filepath.Join(dir, "out.jsonl"))
	if err != nil {
		t.Fatal(err)
	}
	var stored struct{ Kind, Payload string }
	if err := json.Unmarshal(line, &stored); err != nil || stored.Kind != "review" || stored.Payload != string(body) {
		t.Errorf("the file holds %q, %v", line, err)
	}
	if code := daemon.stop(); code != 0 {
		t.Errorf("serve: exit %d\n%s", code, daemon.all)
	}

	if err := os.Remove(plugin); err != nil { // the process may still be mapped
		t.Fatal(err)
	}
	data[len(data)-1] ^= 1
	if err := os.WriteFile(plugin, data, 0o700); err != nil {
		t.Fatal(err)
	}
	if code, _, errs := finish(t, hookline(t, nil, "check", "--config", config)); code != 2 || !strings.Contains(errs, "pinned sha256") {
		t.Errorf("a changed byte: exit %d\n%s", code, errs)
	}
}

func TestLogWriterKeepsEveryLine(t *testing.T) {
	var out bytes.Buffer
	w := newLogWriter(&out)
	var writers sync.WaitGroup
	for i := range 8 {
		writers.Go(func() {
			for k := range 500 {
				_, _ = fmt.Fprintf(w, "%d-%d\n", i, k)
			}
		})
	}
	writers.Wait()
	w.Close()
	_, _ = w.Write([]byte("after\n"))
	if n := strings.Count(out.String(), "\n"); n != 8*500+1 || !strings.HasSuffix(out.String(), "after\n") {
		t.Errorf("%d lines", n)
	}
}
