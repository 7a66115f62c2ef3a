//go:build unix

package host_test

import (
	"bufio"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/hookline/hookline/plugins"
	"github.com/hookline/hookline/plugins/host"
	"github.com/hookline/hookline/plugins/target/targettest"
	"github.com/hookline/hookline/plugins/transport"
)

// The test binary is its own plugin, and its own host to be killed.
func TestMain(m *testing.M) {
	if len(os.Args) > 1 {
		switch os.Args[1] {
		case "plugin":
			plugins.Serve(&actor{})
			return
		case "host":
			runHost()
			return
		}
	}
	goleak.VerifyTestMain(m,
		// go-plugin leaves its broker's accept loop and its log reader to end by
		// themselves once the process is gone.
		goleak.IgnoreAnyFunction("github.com/hashicorp/go-plugin.(*GRPCBroker).Run"),
		goleak.IgnoreAnyFunction("github.com/hashicorp/go-plugin.(*gRPCBrokerClientImpl).StartStream"),
	)
}

// actor is a plugin that does what the payload says.
type actor struct {
	settings actorSettings
	folder   string // the mode of the socket's
}

type actorSettings struct {
	URL      string `json:"url"`
	Password string `json:"password"`
	Max      int    `json:"max"`
}

const actorSchema = `{
	"type": "object", "additionalProperties": false, "required": ["url"],
	"properties": {
		"url": {"type": "string", "pattern": "^https?://"},
		"password": {"type": "string", "writeOnly": true, "minLength": 4},
		"tokens": {"oneOf": [{"type": "string", "writeOnly": true}, {"type": "array", "items": {"type": "string", "writeOnly": true}}]},
		"headers": {"type": "object", "additionalProperties": {"type": "string", "writeOnly": true}},
		"max": {"type": "integer", "minimum": 1},
		"exclusive": {"type": "boolean"}
	}
}`

func (a *actor) Describe() transport.Description {
	d := transport.Description{Name: "actor", Version: "1.2.3", Exclusive: true, Settings: json.RawMessage(actorSchema)}
	if len(os.Args) > 2 && os.Args[2] == "one" {
		d.MaxInFlight = 1
	}
	return d
}

func (a *actor) Configure(_ context.Context, settings json.RawMessage) error {
	if err := json.Unmarshal(settings, &a.settings); err != nil {
		return err
	}
	if info, err := os.Stat(os.Getenv("PLUGIN_UNIX_SOCKET_DIR")); err == nil { // later it has no name
		a.folder = fmt.Sprintf("%#o", info.Mode().Perm())
	}
	slog.Info("configured", "password", a.settings.Password)
	fmt.Println("noise on stdout about", a.settings.Password)
	if a.settings.URL == "http://refused" {
		return errors.Join(
			&transport.SettingError{Field: "url", Rule: "is not wanted"},
			&transport.SettingError{Field: "password", Rule: "is " + a.settings.Password},
		)
	}
	return nil
}

func (a *actor) Deliver(ctx context.Context, m *transport.Message) transport.Receipt {
	switch string(m.Payload) {
	case "exit":
		os.Exit(3)
	case "panic":
		panic("Jane Doe")
	case "hang":
		select {}
	case "wait":
		<-ctx.Done()
		return transport.Failed(transport.None, transport.Timeout, "waited as told")
	case "secret":
		return transport.Failed(transport.Unknown, transport.TargetError, "the password is "+a.settings.Password)
	case "environment":
		return transport.Receipt{Effect: transport.Done, Code: transport.Delivered, Body: []byte(strings.Join(os.Environ(), "\n"))}
	case "socket folder":
		return transport.Receipt{Effect: transport.Done, Code: transport.Delivered, Body: []byte(a.folder)}
	case "big":
		return transport.Receipt{Effect: transport.Done, Code: transport.Delivered, Body: make([]byte, 4<<20)}
	case "dirty":
		return transport.Receipt{Effect: transport.Done, Code: transport.Delivered, ContentType: "text/\xff", Detail: "\xfe"}
	}
	all, _ := json.Marshal(m)
	return transport.Receipt{Effect: transport.Done, Code: transport.Delivered, Body: all, RetryAfter: time.Second, TargetStatus: 201}
}

func (a *actor) Check(context.Context) transport.Receipt {
	return transport.Receipt{Effect: transport.Done, Code: transport.Delivered, Detail: a.settings.URL}
}

// logs collects what the host logs.
type logs struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (l *logs) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.Write(p)
}

func (l *logs) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.String()
}

func (l *logs) logger() *slog.Logger {
	return slog.New(slog.NewTextHandler(l, &slog.HandlerOptions{Level: slog.LevelDebug}))
}

func executable(t testing.TB) string {
	t.Helper()
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	return exe
}

func spec(t testing.TB, l *logs, settings string) host.TransportSpec {
	return host.TransportSpec{
		Name: "ehr", Command: []string{executable(t), "plugin"}, Settings: json.RawMessage(settings), Log: l.logger(),
		Resolve: func(ref string) (string, error) {
			if name, ok := strings.CutPrefix(ref, "env:"); ok {
				if name == "MISSING" {
					return "", errors.New("env:MISSING is not set")
				}
				return "s3cret-" + name, nil
			}
			return ref, nil
		},
	}
}

func start(t *testing.T, l *logs) *host.Transport {
	t.Helper()
	tr, err := host.StartTransport(t.Context(), spec(t, l, `{"url":"http://x","password":"env:PW","max":"7"}`))
	if err != nil {
		t.Fatal(err)
	}
	if tr.Status().PID == 0 {
		t.Error("a started transport has no process")
	}
	t.Cleanup(tr.Stop)
	return tr
}

// signal never takes 0 for a pid: that is the test's own process group.
func signal(t *testing.T, pid int, s syscall.Signal) {
	t.Helper()
	if pid <= 0 {
		t.Fatal("the child has no process")
	}
	if err := syscall.Kill(pid, s); err != nil {
		t.Fatal(err)
	}
}

func deliver(t testing.TB, tr *host.Transport, payload string, timeout time.Duration) transport.Receipt {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), timeout)
	defer cancel()
	return tr.Deliver(ctx, &transport.Message{ID: "m", Payload: []byte(payload)})
}

func TestDeliverCarriesTheWholeMessage(t *testing.T) {
	tr := start(t, &logs{})
	m := &transport.Message{
		ID: "id", EventID: "event", DeliveryID: "delivery", Attempt: 2, Hook: "demo", Route: "ehr", Study: "ABC", Stage: "uat",
		Lane: "demo/ehr/435", Kind: "update", ReceivedAt: time.Date(2026, 1, 2, 3, 4, 5, 6000, time.UTC), TraceParent: "00-1-2-01",
		ContentType: "text/plain", Headers: map[string]string{"x-a": "b"}, Key: "k", Path: "/p", Payload: []byte{0, 1, 255},
	}
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
	defer cancel()
	r := tr.Deliver(ctx, m)
	if r.Effect != transport.Done || r.Code != transport.Delivered || r.TargetStatus != 201 || r.RetryAfter != time.Second {
		t.Fatalf("receipt %+v", r)
	}
	want, _ := json.Marshal(m)
	if !bytes.Equal(r.Body, want) {
		t.Errorf("the plugin got\n%s\nwant\n%s", r.Body, want)
	}
	if about := tr.Description(); about.Name != "actor" || about.Version != "1.2.3" || !about.Exclusive {
		t.Errorf("description %+v", about)
	}
	if r := tr.Check(ctx); r.Effect != transport.Done || r.Detail != "http://x" {
		t.Errorf("check %+v", r)
	}
}

func TestSettings(t *testing.T) {
	for _, tt := range []struct {
		name, settings string
		want           []string
	}{
		{"missing and unknown, at once", `{"pasword":"x","max":0}`, []string{"url: is missing", "pasword: is not a key; the keys here are ", "max: must be at least 1"}},
		{"pattern, without the value", `{"url":"ftp://user:hunter2@x"}`, []string{"url: must match the pattern ^https?://"}},
		{"reference not set, and another fault", `{"url":7,"password":"env:MISSING"}`, []string{"password: env:MISSING is not set", "url: must be a string, but is a number"}},
		{"in a list and a map", `{"url":"http://x","tokens":["env:MISSING","a"],"headers":{"x":"env:MISSING"}}`, []string{"headers.x: env:MISSING is not set", "tokens[0]: env:MISSING is not set"}},
		{"the plugin's own rules", `{"url":"http://refused","password":"env:PW"}`, []string{"url: is not wanted", "password: is [secret]"}},
		{"not an integer", `{"url":"http://x","max":"seven"}`, []string{"max: must be a whole number without quotes, but is a string"}},
		{"a fraction", `{"url":"http://x","max":1.5}`, []string{"max: must be a whole number, but is a number with a fraction"}},
		{"below", `{"url":"http://x","tokens":["a",7],"headers":7}`, []string{"tokens[1]: must be a string, but is a number", "headers: must be a table, but is a number"}},
		{"none of several types", `{"url":"http://x","tokens":7}`, []string{"tokens: must be a string or a list, but is a number"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			tr, err := host.StartTransport(t.Context(), spec(t, &logs{}, tt.settings))
			if err == nil {
				tr.Stop()
				t.Fatal("accepted")
			}
			if strings.Contains(err.Error(), "hunter2") || strings.Contains(err.Error(), "s3cret") {
				t.Errorf("a value is in the error: %v", err)
			}
			var got []string
			for _, e := range plugins.SettingErrors(err) {
				got = append(got, e.Error())
			}
			for _, want := range tt.want {
				if !strings.Contains(strings.Join(got, "\n"), strings.TrimPrefix(want, ": ")) {
					t.Errorf("got %q, want %q among them", got, want)
				}
			}
			if len(got) != len(tt.want) {
				t.Errorf("got %d errors %q, want %d", len(got), got, len(tt.want))
			}
		})
	}
}

// References resolve only where the schema marks a secret; strings become the
// schema's numbers.
func TestSettingsAreResolvedBySchema(t *testing.T) {
	var asked []string
	s := spec(t, &logs{}, `{"url":"http://env:URL","password":"env:PW","max":"7","tokens":["env:T1"],"headers":{"a":"env:H1"},"exclusive":"true"}`)
	resolve := s.Resolve
	s.Resolve = func(ref string) (string, error) { asked = append(asked, ref); return resolve(ref) }
	tr, err := host.StartTransport(t.Context(), s)
	if err != nil {
		t.Fatal(err)
	}
	defer tr.Stop()
	if got := strings.Join(asked, " "); got != "env:H1 env:PW env:T1" {
		t.Errorf("asked for %s", got)
	}
}

func TestSecretsStayInside(t *testing.T) {
	l := &logs{}
	tr := start(t, l)
	if r := deliver(t, tr, "secret", time.Second); r.Detail != "the password is [secret]" {
		t.Errorf("detail %q", r.Detail)
	}
	tr.Stop()
	if s := l.String(); strings.Contains(s, "s3cret-PW") || !strings.Contains(s, "noise on stdout about [secret]") || !strings.Contains(s, "password=[secret]") {
		t.Errorf("log:\n%s", s)
	}
}

func TestChildGetsNoHostEnvironment(t *testing.T) {
	t.Setenv("HOST_SECRET", "hunter2")
	tr := start(t, &logs{})
	r := deliver(t, tr, "environment", time.Second)
	for _, line := range strings.Split(string(r.Body), "\n") {
		name, _, _ := strings.Cut(line, "=")
		switch {
		case strings.HasPrefix(name, "PLUGIN_"), strings.HasPrefix(name, "HOOKLINE_"), name == "PATH", name == "TZ", name == "TMPDIR",
			name == "LANG", strings.HasPrefix(name, "SSL_CERT_"), strings.HasPrefix(name, "-"), !strings.Contains(line, "="):
		case strings.HasPrefix(line, "MI") || strings.HasPrefix(line, "BA"): // the certificate's lines
		default:
			if strings.Contains(line, "hunter2") || name == "HOST_SECRET" || name == "HOME" || name == "USER" {
				t.Errorf("the child sees %s", name)
			}
		}
	}
	if strings.Contains(string(r.Body), "hunter2") || len(r.Body) == 0 {
		t.Error("the host's environment reached the child")
	}
}

func TestPluginsThatMisbehave(t *testing.T) {
	l := &logs{}
	tr := start(t, l)
	pid := tr.Status().PID
	const short, ample = 200 * time.Millisecond, 5 * time.Second
	for _, tt := range []struct {
		payload string
		timeout time.Duration
		effect  transport.Effect
		code    transport.Code
	}{
		{"panic", short, transport.Unknown, transport.PluginProtocol},
		{"hang", short, transport.Unknown, transport.Timeout}, // ignores its deadline
		{"wait", short, transport.None, transport.Timeout},    // honours it, and says more
		{"big", ample, transport.Done, transport.Delivered},
		{"dirty", ample, transport.Done, transport.Delivered},
	} {
		var r transport.Receipt
		for try := 1; ; try++ { // a plugin that fails at it does each time, a busy machine does not
			start := time.Now()
			r = deliver(t, tr, tt.payload, tt.timeout)
			late := time.Since(start) - tt.timeout
			if late <= 50*time.Millisecond && r.Effect == tt.effect && r.Code == tt.code && len(r.Body) <= 1<<20 {
				break
			}
			if try == 5 {
				t.Errorf("%s: receipt %s %s, %d bytes, %v late", tt.payload, r.Effect, r.Code, len(r.Body), late)
				break
			}
		}
	}
	if now := tr.Status(); now.PID != pid || now.Restarts != 0 {
		t.Errorf("one bad message cost the process: %+v", now)
	}
	if strings.Contains(l.String(), "Jane Doe") {
		t.Error("a panic's value is in the log")
	}
}

// Invariant 4, and the issue's "events in flight are answered with an error, the
// next succeed within a second".
func TestChildKilledUnderLoad(t *testing.T) {
	tr := start(t, &logs{})
	for round := range 3 {
		pid := tr.Status().PID
		var flight sync.WaitGroup
		receipts := make([]transport.Receipt, 32)
		ready := make(chan struct{}, len(receipts))
		for i := range receipts {
			flight.Go(func() {
				ready <- struct{}{}
				receipts[i] = deliver(t, tr, "wait", 20*time.Second)
			})
		}
		for range receipts {
			<-ready
		}
		if r := deliver(t, tr, "x", time.Second); r.Effect != transport.Done { // those before it are on their way
			t.Fatalf("round %d: %+v", round, r)
		}
		killed := time.Now()
		signal(t, pid, syscall.SIGKILL)
		flight.Wait()
		if took := time.Since(killed); took > time.Second {
			t.Errorf("round %d: events in flight hung for %v", round, took)
		}
		for _, r := range receipts {
			if r.Code != transport.PluginCrashed && r.Code != transport.PluginUnavailable || r.Effect == transport.Done {
				t.Errorf("round %d: receipt %+v", round, r)
			}
		}
		for {
			r := deliver(t, tr, "x", time.Second)
			if r.Effect == transport.Done {
				break
			}
			if r.Code != transport.PluginUnavailable && r.Code != transport.PluginCrashed {
				t.Fatalf("round %d: %+v", round, r)
			}
			if time.Since(killed) > time.Second {
				t.Fatalf("round %d: not back within a second", round)
			}
			time.Sleep(time.Millisecond) // a pace for the loop, not a wait for an outcome
		}
		if now := tr.Status(); now.PID == pid || now.Restarts != round+1 {
			t.Errorf("round %d: status %+v", round, now)
		}
	}
}

func TestPinnedExecutable(t *testing.T) {
	data, err := os.ReadFile(executable(t))
	if err != nil {
		t.Fatal(err)
	}
	copied := filepath.Join(t.TempDir(), "plugin")
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
	tr.Stop()
	data[len(data)-1] ^= 1
	if err := os.WriteFile(copied, data, 0o755); err != nil {
		t.Fatal(err)
	}
	if _, err := host.StartTransport(t.Context(), s); err == nil || !strings.Contains(err.Error(), "pinned sha256") {
		t.Errorf("a changed byte: %v", err)
	}
}

func TestWhatIsNoProgram(t *testing.T) {
	text := filepath.Join(t.TempDir(), "main.js")
	if err := os.WriteFile(text, []byte("plugin.serve()\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	s := spec(t, &logs{}, `{"url":"http://x"}`)
	s.Command = []string{text}
	if _, err := host.StartTransport(t.Context(), s); err == nil || !strings.Contains(err.Error(), "#!/usr/bin/env node") {
		t.Errorf("%v", err)
	}
}

func TestWhatIsNotAPlugin(t *testing.T) {
	for _, command := range [][]string{
		{"/bin/true"}, {"/bin/echo", "hello"}, {"/does/not/exist"}, {executable(t), "-test.run=^$"},
	} {
		s := spec(t, &logs{}, `{"url":"http://x"}`)
		s.Command = command
		started := time.Now()
		if tr, err := host.StartTransport(t.Context(), s); err == nil {
			tr.Stop()
			t.Errorf("%q was taken for a plugin", command)
		} else if !strings.Contains(err.Error(), "transport ehr") {
			t.Errorf("%q: error does not name the transport: %v", command, err)
		}
		if took := time.Since(started); took > 5*time.Second {
			t.Errorf("%q took %v", command, took)
		}
	}
}

func TestReplaceExclusive(t *testing.T) {
	l := &logs{}
	tr := start(t, l)
	if _, err := tr.Replace(t.Context(), spec(t, l, `{"url":"http://refused"}`)); err == nil {
		t.Fatal("bad settings were accepted")
	}
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
	defer cancel()
	if r := tr.Check(ctx); r.Detail != "http://x" { // invariant 8
		t.Errorf("after a failed replacement: %+v", r)
	}
	was, err := tr.Replace(t.Context(), spec(t, l, `{"url":"http://y"}`))
	if err != nil || !strings.Contains(string(was.Settings), "http://x") {
		t.Fatalf("replaced %s, %v", was.Settings, err)
	}
	if r := tr.Check(ctx); r.Detail != "http://y" {
		t.Errorf("after the replacement: %+v", r)
	}
}

func TestStopLetsAttemptsFinish(t *testing.T) {
	tr, err := host.StartTransport(t.Context(), spec(t, &logs{}, `{"url":"http://x"}`))
	if err != nil {
		t.Fatal(err)
	}
	result := make(chan transport.Receipt, 1)
	go func() { result <- deliver(t, tr, "wait", 300*time.Millisecond) }()
	for tr.Status().PID == 0 || deliver(t, tr, "x", time.Second).Effect != transport.Done {
	}
	tr.Stop()
	if r := <-result; r.Code != transport.Timeout {
		t.Errorf("the attempt in flight ended as %+v", r)
	}
	if r := deliver(t, tr, "x", time.Second); r.Code != transport.PluginUnavailable || r.Effect != transport.None {
		t.Errorf("after Stop: %+v", r)
	}
}

// A child that is frozen neither hangs a call nor the stop.
func TestFrozenChild(t *testing.T) {
	tr, err := host.StartTransport(t.Context(), spec(t, &logs{}, `{"url":"http://x"}`))
	if err != nil {
		t.Fatal(err)
	}
	if err := targettest.Freeze(tr.Status().PID); err != nil {
		t.Fatal(err)
	}
	if r := deliver(t, tr, "x", 100*time.Millisecond); r.Code != transport.Timeout || r.Effect != transport.Unknown {
		t.Errorf("receipt %+v", r)
	}
	started := time.Now()
	tr.Stop()
	if took := time.Since(started); took > 6*time.Second {
		t.Errorf("stop took %v", took)
	}
}

// runHost is a daemon of its own, to be killed: it prints its child's pid.
func runHost() {
	exe, _ := os.Executable()
	tr, err := host.StartTransport(context.Background(), host.TransportSpec{
		Name: "ehr", Command: []string{exe, "plugin"}, Settings: json.RawMessage(`{"url":"http://x"}`),
		Resolve: func(ref string) (string, error) { return ref, nil }, Log: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
	fmt.Println(tr.Status().PID)
	select {}
}

// Invariant 5: kill -9 of the daemon leaves no process behind.
func TestChildDiesWithItsHost(t *testing.T) {
	tmp := t.TempDir()
	cmd := exec.Command(executable(t), "host")
	cmd.Env = append(os.Environ(), "TMPDIR="+tmp)
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		t.Fatal(err)
	}
	var pid int
	if _, err := fmt.Sscan(line, &pid); err != nil {
		t.Fatalf("%q: %v", line, err)
	}
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = cmd.Wait()
	awaitExit(t, pid)

	left, err := os.ReadDir(tmp)
	if err != nil || len(left) != 0 {
		t.Errorf("left behind: %v, %v", left, err)
	}
}

// The pipe alone is enough: it works where there is no parent-death signal.
func TestChildDiesWithThePipe(t *testing.T) {
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	cmd := exec.Command(executable(t), "plugin")
	cmd.ExtraFiles = []*os.File{r}
	cmd.Env = []string{
		plugins.HostPipeEnv + "=3", "PLUGIN_PROTOCOL_VERSIONS=1", "PLUGIN_UNIX_SOCKET_DIR=" + filepath.Join(dir, "sockets"),
		plugins.Handshake.MagicCookieKey + "=" + plugins.Handshake.MagicCookieValue,
	}
	if err := os.Mkdir(filepath.Join(dir, "sockets"), 0o700); err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	_ = r.Close()
	if _, err := bufio.NewReader(out).ReadString('\n'); err != nil && err != io.EOF {
		t.Fatal(err)
	}
	_ = w.Close()
	if err := cmd.Wait(); err == nil || cmd.ProcessState.ExitCode() != 1 {
		t.Errorf("the child ended with %v", err)
	}
	if _, err := os.Stat(filepath.Join(dir, "sockets")); !os.IsNotExist(err) {
		t.Error("the child left its socket behind")
	}
}
