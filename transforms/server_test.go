package transforms

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/dop251/goja"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/hookline/hookline/core"
	"github.com/hookline/hookline/plugins/host"
	pb "github.com/hookline/hookline/transforms/transformpb"
)

// fake is a script process without a process: each life is a server, and what
// is to go wrong happens before the call reaches it.
type fake struct {
	lives  []*life
	now    int
	killed int
}

type life struct {
	*server
	fail func(method string) error
	gone chan struct{}
}

func newFake(t testing.TB, fails ...func(method string) error) *fake {
	f := &fake{}
	for _, fail := range fails {
		s := newServer()
		t.Cleanup(s.stop)
		f.lives = append(f.lives, &life{server: s, fail: fail, gone: make(chan struct{})})
	}
	return f
}

func (f *fake) engine() *Engine {
	return &Engine{process: f, scripts: make(map[string]*loaded), options: Options{Log: slog.New(slog.DiscardHandler)}}
}

func (f *fake) Client() (any, <-chan struct{}, error) {
	if f.now == len(f.lives) {
		return nil, nil, host.ErrUnavailable
	}
	l := f.lives[f.now]
	return &fakeClient{f, l}, l.gone, nil
}

func (f *fake) Await(context.Context) (any, <-chan struct{}, error) { return f.Client() }

func (f *fake) Kill(any)            { f.killed++ }
func (f *fake) Status() host.Status { return host.Status{} }
func (f *fake) Stop()               {}

// ended says that the current life is over.
func (f *fake) ended(err error) error {
	if status.Code(err) == codes.Unavailable {
		close(f.lives[f.now].gone)
		f.now++
	}
	return err
}

type fakeClient struct {
	f *fake
	l *life
}

func (c *fakeClient) Load(ctx context.Context, in *pb.LoadRequest, _ ...grpc.CallOption) (*pb.LoadResponse, error) {
	if err := c.l.fail("Load"); err != nil {
		return nil, c.f.ended(err)
	}
	return c.l.Load(ctx, in)
}

func (c *fakeClient) Bundle(ctx context.Context, in *pb.BundleRequest, _ ...grpc.CallOption) (*pb.BundleResponse, error) {
	return c.l.Bundle(ctx, in)
}

func (c *fakeClient) Unload(ctx context.Context, in *pb.UnloadRequest, _ ...grpc.CallOption) (*pb.UnloadResponse, error) {
	return c.l.Unload(ctx, in)
}

func (c *fakeClient) Provide(ctx context.Context, in *pb.ProvideRequest, _ ...grpc.CallOption) (*pb.ProvideResponse, error) {
	return c.l.Provide(ctx, in)
}

func (c *fakeClient) Withdraw(ctx context.Context, in *pb.WithdrawRequest, _ ...grpc.CallOption) (*pb.WithdrawResponse, error) {
	return c.l.Withdraw(ctx, in)
}

func (c *fakeClient) Run(ctx context.Context, in *pb.RunRequest, _ ...grpc.CallOption) (*pb.RunResponse, error) {
	if err := c.l.fail("Run"); err != nil {
		return nil, c.f.ended(err)
	}
	return c.l.Run(ctx, in)
}

func works(string) error { return nil }

func fails(method string, code codes.Code) func(string) error {
	return func(m string) error {
		if m == method {
			return status.Error(code, "on purpose")
		}
		return nil
	}
}

func TestProcessFailures(t *testing.T) {
	path := filepath.Join(t.TempDir(), "a.js")
	if err := os.WriteFile(path, []byte(`export default (event) => event.trans_id;`), 0o600); err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		lives   []func(string) error
		compile string // part of Compile's error
		code    core.Code
		killed  int
		wait    time.Duration // of the caller; 0: long
	}{
		"works":                      {lives: []func(string) error{works}},
		"dies at the first run":      {lives: []func(string) error{fails("Run", codes.Unavailable), works}},
		"dies three times":           {lives: []func(string) error{fails("Run", codes.Unavailable), fails("Run", codes.Unavailable), fails("Run", codes.Unavailable), works}},
		"dies each time":             {lives: []func(string) error{fails("Run", codes.Unavailable), fails("Run", codes.Unavailable), fails("Run", codes.Unavailable), fails("Run", codes.Unavailable), works}, code: core.TransformFailed},
		"dies and does not return":   {lives: []func(string) error{fails("Run", codes.Unavailable)}, code: core.TransformFailed, wait: time.Second},
		"does not answer":            {lives: []func(string) error{fails("Run", codes.DeadlineExceeded)}, code: core.ScriptTimeout, killed: 1},
		"breaks the protocol":        {lives: []func(string) error{fails("Run", codes.Internal)}, code: core.TransformFailed},
		"dies while compiling":       {lives: []func(string) error{fails("Load", codes.Unavailable), works}},
		"dies compiling twice":       {lives: []func(string) error{fails("Load", codes.Unavailable), fails("Load", codes.Unavailable)}, compile: "failed on it"},
		"does not end compiling":     {lives: []func(string) error{fails("Load", codes.DeadlineExceeded)}, compile: "did not end in time", killed: 1},
		"there is no process at all": {compile: "is not running", wait: 100 * time.Millisecond},
	} {
		t.Run(name, func(t *testing.T) {
			f := newFake(t, c.lives...)
			e := f.engine()
			if c.wait == 0 {
				c.wait = 20 * time.Second
			}
			ctx, cancel := context.WithTimeout(t.Context(), c.wait)
			defer cancel()
			tr, err := e.Compile(ctx, Script{Name: "a.js", Path: path, Timeout: 10 * time.Second})
			switch {
			case c.compile != "":
				if err == nil || !strings.Contains(err.Error(), c.compile) || !strings.Contains(err.Error(), "a.js") {
					t.Errorf("compile: %v", err)
				}
				if len(e.scripts) != 0 {
					t.Error("a script that was refused is kept")
				}
			case err != nil:
				t.Fatal(err)
			default:
				wantCode(ctx, t, tr, c.code)
			}
			if f.killed != c.killed {
				t.Errorf("killed %d times, want %d", f.killed, c.killed)
			}
		})
	}
}

// wantCode runs the transform; "" is for a payload.
func wantCode(ctx context.Context, t *testing.T, tr *Transform, want core.Code) {
	t.Helper()
	shaped, err := tr.Transform(ctx, &core.Event{Hook: &core.Hook{}, Body: []byte(`{"trans_id":"1"}`)}, &core.Route{Name: "r"}, "d", nil)
	var script *core.ScriptError
	switch {
	case want == "" && (err != nil || string(shaped.Messages[0].Payload) != "1"):
		t.Errorf("got %+v, %v", shaped, err)
	case want != "" && (!errors.As(err, &script) || script.Code != want):
		t.Errorf("got %v, want %s", err, want)
	}
}

// TestNewProcessHasAllScripts is what Setup is for.
func TestNewProcessHasAllScripts(t *testing.T) {
	f := newFake(t, works, works)
	e := f.engine()
	path := filepath.Join(t.TempDir(), "a.js")
	if err := os.WriteFile(path, []byte(`export default () => 1;`), 0o600); err != nil {
		t.Fatal(err)
	}
	tr, err := e.Compile(t.Context(), Script{Name: "a.js", Path: path})
	if err != nil {
		t.Fatal(err)
	}
	f.now = 1
	client, _, _ := f.Client()
	if err := e.setUp(t.Context(), client); err != nil {
		t.Fatal(err)
	}
	if f.lives[1].program(tr.req.GetScriptId()) == nil {
		t.Error("the new process lacks the script")
	}
	tr.Close()
	if f.lives[1].program(tr.req.GetScriptId()) != nil || len(e.scripts) != 0 {
		t.Error("the script was not forgotten")
	}
}

// TestQueue: waiting is under the caller's clock, not the script's.
func TestQueue(t *testing.T) {
	s := newServer()
	t.Cleanup(s.stop)
	load(t, s, "x", `export default () => 1;`)
	load(t, s, "loop", `export default () => { for (;;) {} };`)
	run := func(id string, timeout, budget time.Duration) *pb.RunResponse {
		out, err := s.Run(t.Context(), &pb.RunRequest{
			ScriptId: id, Body: []byte("{}"), Timeout: durationpb.New(timeout), Budget: durationpb.New(budget),
		})
		if err != nil {
			t.Error(err)
		}
		return out
	}
	var loops sync.WaitGroup
	for range s.workers {
		loops.Go(func() { run("loop", 300*time.Millisecond, time.Minute) })
	}
	for !busyWorkers(s) {
		runtime.Gosched()
	}
	if out := run("x", time.Second, 20*time.Millisecond); out.GetFailure().GetReason() != pb.Reason_REASON_QUEUED {
		t.Errorf("got %v", out)
	}
	if out := run("x", 250*time.Millisecond, time.Minute); len(out.GetMessages()) != 1 {
		t.Errorf("got %v", out)
	}
	loops.Wait()
}

// busyWorkers tells whether no worker takes a job.
func busyWorkers(s *server) bool {
	out := make(chan *pb.RunResponse, 1)
	j := job{program: s.program("x"), req: &pb.RunRequest{Timeout: durationpb.New(time.Second)}, end: time.Now().Add(time.Second), out: out}
	select {
	case s.jobs <- j:
		<-out
		return false
	default:
		return true
	}
}

// TestStuck: the child itself notices a script that is stuck.
func TestStuck(t *testing.T) {
	s := newServer()
	t.Cleanup(s.stop)
	load(t, s, "x", `export default (e) => Array.prototype.indexOf.call({ length: 1e6 }, 1) + e.n;`)
	out, err := s.Run(t.Context(), &pb.RunRequest{
		ScriptId: "x", Body: []byte("{}"), Timeout: durationpb.New(time.Millisecond), Budget: durationpb.New(time.Second),
	})
	if err != nil || out.GetFailure().GetReason() != pb.Reason_REASON_STUCK {
		t.Fatal(out, err)
	}
}

func TestLogsAreCapped(t *testing.T) {
	s := newServer()
	t.Cleanup(s.stop)
	load(t, s, "x", `export default (e, ctx) => { for (let i = 0; i < 1e5; i++) ctx.log('0123456789'); return 1; };`)
	out, err := s.Run(t.Context(), &pb.RunRequest{ScriptId: "x", Body: []byte("{}"), Timeout: durationpb.New(10 * time.Second), Budget: durationpb.New(10 * time.Second)})
	if err != nil || len(out.GetMessages()) != 1 {
		t.Fatal(out.GetFailure(), err)
	}
	total := 0
	for _, line := range out.GetLogs() {
		total += len(line)
	}
	if last := out.GetLogs()[len(out.GetLogs())-1]; total > maxLogs || !strings.HasSuffix(last, "(no more is kept)") {
		t.Errorf("%d bytes are kept, the last line is %q", total, last)
	}
}

func load(t testing.TB, s *server, id, source string) {
	t.Helper()
	out, err := s.Load(context.Background(), &pb.LoadRequest{ScriptId: id, Name: "x.js", Source: []byte(source), Timeout: durationpb.New(time.Second)})
	if err != nil || len(out.GetProblems()) > 0 {
		t.Fatal(out, err)
	}
}

const (
	benchScript = `const names = { trans_id: 'record', form_id: 'form', form_name: 'title' };
export default function (event, ctx) {
  const out = {};
  for (const key of Object.keys(event)) out[names[key] || key] = event[key];
  out.kind = ctx.kind;
  return out;
}`
	benchBody = `{"trans_id":"435","form_id":"319","form_name":"Sample Form","OnUpdate":true}`
)

// BenchmarkRun is a script on an event without the hop.
func BenchmarkRun(b *testing.B) {
	s := newServer()
	b.Cleanup(s.stop)
	load(b, s, "x", benchScript)
	req := &pb.RunRequest{
		ScriptId: "x", Timeout: durationpb.New(time.Minute), Budget: durationpb.New(time.Minute), Body: []byte(benchBody), Kind: "update",
		DeliveryId: "0190b4f4-0000-7000-8000-000000000001", ReceivedAt: timestamppb.Now(),
	}
	b.ReportAllocs()
	for b.Loop() {
		if out, err := s.Run(context.Background(), req); err != nil || out.GetFailure() != nil {
			b.Fatal(out, err)
		}
	}
}

// BenchmarkNewRuntime is what a pool saves: a runtime, its freezing and the
// script's wrapper.
func BenchmarkNewRuntime(b *testing.B) {
	p, problems := compile("x.js", []byte(benchScript), 1)
	if problems != nil {
		b.Fatal(problems)
	}
	for b.Loop() {
		if _, err := newSandbox(p); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkNaive is the usual way: a new runtime per event, nothing frozen.
func BenchmarkNaive(b *testing.B) {
	prog := goja.MustCompile("x.js", "(function(body){"+strings.Replace(benchScript, "export default function", "function f", 1)+
		"; return JSON.stringify(f(JSON.parse(body), {kind: 'update'})) })", true)
	for b.Loop() {
		rt := goja.New()
		v, err := rt.RunProgram(prog)
		if err != nil {
			b.Fatal(err)
		}
		f, _ := goja.AssertFunction(v)
		if _, err := f(goja.Undefined(), rt.ToValue(benchBody)); err != nil {
			b.Fatal(err)
		}
	}
}
