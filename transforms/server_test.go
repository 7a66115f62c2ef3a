package transforms

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/dop251/goja"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/hookline/hookline/core"
	"github.com/hookline/hookline/plugins/host"
	"github.com/hookline/hookline/plugins/pipeline"
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
	*running
	t    testing.TB
	fail func(method string) error
	gone chan struct{}
}

func newFake(t testing.TB, fails ...func(method string) error) *fake {
	f := &fake{}
	for _, fail := range fails {
		s := newServer()
		t.Cleanup(s.stop)
		f.lives = append(f.lives, &life{t: t, server: s, fail: fail, gone: make(chan struct{})})
	}
	return f
}

func (f *fake) engine() *Engine {
	return &Engine{
		process: f, scripts: make(map[string]*loaded), strikes: make(map[string]*strikes),
		options: Options{Log: slog.New(slog.DiscardHandler)},
	}
}

func (f *fake) Client() (any, <-chan struct{}, error) {
	if f.now == len(f.lives) {
		return nil, nil, host.ErrUnavailable
	}
	l := f.lives[f.now]
	if l.running == nil {
		l.running = &running{rpc: &fakeClient{f, l}}
		if err := l.open(); err != nil {
			return nil, nil, err
		}
	}
	return l.running, l.gone, nil
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

func (c *fakeClient) Configure(ctx context.Context, in *pb.ConfigureRequest, _ ...grpc.CallOption) (*pb.ConfigureResponse, error) {
	return c.l.Configure(ctx, in)
}

func (c *fakeClient) Stream(ctx context.Context, _ ...grpc.CallOption) (grpc.BidiStreamingClient[pb.StreamRequest, pb.StreamResponse], error) {
	p := newPipe(ctx, c.l.t, c.l.server)
	p.before = func() error {
		err := c.l.fail("Run")
		if err != nil {
			return c.f.ended(err)
		}
		return nil
	}
	return p, nil
}

// pipe is a stream without a network: what the client sends the server gets.
type pipe struct {
	grpc.ClientStream
	before func() error // each run: the stream ends with its error, but not with DeadlineExceeded
	up     chan *pb.StreamRequest
	down   chan *pb.StreamResponse
	broken chan error
	ctx    context.Context
}

func newPipe(ctx context.Context, t testing.TB, s *server) *pipe {
	ctx, cancel := context.WithCancel(ctx)
	p := &pipe{
		before: func() error { return nil }, ctx: ctx, broken: make(chan error, 1),
		up: make(chan *pb.StreamRequest), down: make(chan *pb.StreamResponse, 64),
	}
	var served sync.WaitGroup
	served.Go(func() { _ = s.Stream(&pipeEnd{p: p}) })
	t.Cleanup(func() {
		select {
		case p.broken <- status.Error(codes.Canceled, "the test is over"):
		default:
		}
		cancel()
		served.Wait()
	})
	return p
}

func (p *pipe) Send(f *pb.StreamRequest) error {
	if f.GetBegin() != nil {
		if err := p.before(); status.Code(err) == codes.DeadlineExceeded {
			return nil // it is not answered
		} else if err != nil {
			p.broken <- err
			return err
		}
	}
	select {
	case p.up <- f:
		return nil
	case <-p.ctx.Done():
		return p.ctx.Err()
	}
}

func (p *pipe) Recv() (*pb.StreamResponse, error) {
	select {
	case f := <-p.down:
		return f, nil
	case err := <-p.broken:
		return nil, err
	}
}

type pipeEnd struct {
	grpc.ServerStream
	p *pipe
}

func (e *pipeEnd) Recv() (*pb.StreamRequest, error) {
	select {
	case f := <-e.p.up:
		return f, nil
	case <-e.p.ctx.Done():
		return nil, e.p.ctx.Err()
	}
}

func (e *pipeEnd) Send(f *pb.StreamResponse) error {
	select {
	case e.p.down <- f:
		return nil
	case <-e.p.ctx.Done():
		return e.p.ctx.Err()
	}
}

// direct is a server with a stream to it.
type direct struct {
	*server
	runs *running
}

func newDirect(t testing.TB, trialkit TrialKit) direct {
	f := newFake(t, works)
	client, _, err := f.Client()
	if err != nil {
		t.Fatal(err)
	}
	d := direct{f.lives[0].server, client.(*running)}
	d.runs.trialkit = trialkit
	return d
}

func (d direct) run(t testing.TB, req *pb.RunRequest) *pb.RunResponse {
	if req.GetBody() == nil {
		req.Body = []byte("{}")
	}
	if req.GetPatience() == 0 {
		req.Patience = req.GetBudget()
	}
	out, _, err := d.runs.run(context.Background(), req)
	if err != nil {
		t.Error(err)
	}
	return out
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
		"dies each time":             {lives: slices.Repeat([]func(string) error{fails("Run", codes.Unavailable)}, maxReruns+1), code: core.TransformFailed},
		"dies and does not return":   {lives: []func(string) error{fails("Run", codes.Unavailable)}, code: core.TransformFailed, wait: time.Second},
		"does not answer":            {lives: []func(string) error{fails("Run", codes.DeadlineExceeded)}, code: core.ScriptTimeout, killed: 1, wait: 2 * time.Second},
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
	client := &running{rpc: &fakeClient{f, f.lives[1]}}
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
	d := newDirect(t, nil)
	load(t, d.server, "x", `export default () => 1;`)
	load(t, d.server, "loop", `export default () => { for (;;) {} };`)
	run := func(id string, timeout, patience time.Duration) *pb.RunResponse {
		return d.run(t, &pb.RunRequest{ScriptId: id, Timeout: int64(timeout), Patience: int64(patience), Budget: int64(time.Minute)})
	}
	var loops sync.WaitGroup
	for range d.turns.total {
		loops.Go(func() { run("loop", 300*time.Millisecond, time.Minute) })
	}
	for d.free() > 0 {
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

// free is how many processors no run has.
func (d direct) free() int {
	d.turns.mu.Lock()
	defer d.turns.mu.Unlock()
	return d.turns.free
}

// TestStuck: the child itself notices a script that is stuck.
func TestStuck(t *testing.T) {
	d := newDirect(t, nil)
	load(t, d.server, "x", "export default () => String(3n ** 20000000n).length;")
	out := d.run(t, &pb.RunRequest{ScriptId: "x", Timeout: int64(100 * time.Millisecond), Budget: int64(10 * time.Second)})
	if out.GetFailure().GetReason() != pb.Reason_REASON_STUCK {
		t.Fatal(out)
	}
}

func TestLogsAreCapped(t *testing.T) {
	d := newDirect(t, nil)
	load(t, d.server, "x", `export default (e, ctx) => { for (let i = 0; i < 1e5; i++) ctx.log('0123456789'); return 1; };`)
	out := d.run(t, &pb.RunRequest{ScriptId: "x", Timeout: int64(10 * time.Second), Budget: int64(10 * time.Second)})
	if len(out.GetMessages()) != 1 {
		t.Fatal(out.GetFailure())
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
	d := newDirect(b, nil)
	load(b, d.server, "x", benchScript)
	req := &pb.RunRequest{
		ScriptId: "x", Timeout: int64(time.Minute), Budget: int64(time.Minute), Body: []byte(benchBody), Kind: "update",
		DeliveryId: "0190b4f4-0000-7000-8000-000000000001", ReceivedAt: time.Now().UnixNano(),
	}
	b.ReportAllocs()
	for b.Loop() {
		if out := d.run(b, req); out.GetFailure() != nil {
			b.Fatal(out)
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

// oracle is a TrialKit under the test's control.
type oracle func(ctx context.Context, hook, path string) ([]byte, error)

func (o oracle) Get(ctx context.Context, hook, path string) ([]byte, error) {
	return o(ctx, hook, path)
}

// TestHostCall: a run that waits for the host holds nobody up, and its own time stands
// still; its budget does not.
func TestHostCall(t *testing.T) {
	asked := make(chan string, 8)
	answer := make(chan struct{})
	d := newDirect(t, oracle(func(ctx context.Context, hook, path string) ([]byte, error) {
		asked <- hook + " " + path
		switch path {
		case "fails":
			return nil, errors.New("no such form")
		case "never":
			<-ctx.Done()
			return nil, ctx.Err()
		}
		<-answer
		return []byte(`{"n":1}`), nil
	}))
	load(t, d.server, "x", `export default () => 1;`)
	call := func(path string, timeout, budget time.Duration, alone bool) (value string, err error, again bool) {
		j := &job{
			server: d.server, id: 0, end: time.Now().Add(budget),
			req: &pb.RunRequest{Alone: alone},
		}
		finished := make(chan struct{})
		h := &hop{Outbox: pipeline.NewOutbox((&loop{d: d, j: j}).Send, pipeline.Together[pb.StreamResponse]{}), waiting: map[uint64]chan *pb.CallResult{}}
		j.hop = h
		expired := make(chan struct{})
		d.turns.begin(alone, j.end, func() bool {
			defer close(finished)
			j.clock = &clock{}
			j.clock.start(cut{expiry: expired}, timeout)
			var v []byte
			v, err = (&run{job: j}).call(methodTrialKit, []byte(path))
			value = string(v)
			again = j.clock.stop()
			return !j.lost
		}, func() { t.Error("it never began") })
		<-finished
		return value, err, again
	}

	var calls sync.WaitGroup
	for range d.turns.total {
		calls.Go(func() {
			if v, err, inTime := call("form/7", 50*time.Millisecond, time.Minute, false); v != `{"n":1}` || err != nil || !inTime {
				t.Errorf("%q, %v, in time: %t", v, err, inTime)
			}
		})
	}
	for range d.turns.total {
		if got := <-asked; got != "demo form/7" {
			t.Errorf("asked for %q", got)
		}
	}
	// All processors would be taken.
	if out := d.run(t, &pb.RunRequest{ScriptId: "x", Timeout: int64(5 * time.Second), Budget: int64(10 * time.Second)}); len(out.GetMessages()) != 1 {
		t.Errorf("a run beside them: %v", out)
	}
	time.AfterFunc(100*time.Millisecond, func() { close(answer) }) // longer than their own time
	calls.Wait()

	var failed *callError
	if _, err, _ := call("fails", time.Second, time.Minute, true); !errors.As(err, &failed) || failed.text != "no such form" || failed.code != "failed" {
		t.Errorf("got %v", err)
	}
	if _, err, inTime := call("never", 10*time.Second, 50*time.Millisecond, false); !errors.Is(err, errCallOver) && !errors.As(err, &failed) || inTime && err == nil {
		t.Errorf("got %v", err)
	}
	for d.free() < d.turns.total {
		runtime.Gosched()
	}
}

// cut is closed when its time is over.
type cut struct{ expiry chan struct{} }

func (c cut) expired() { close(c.expiry) }
func (c cut) stuck()   {}

// loop is a stream whose calls the host answers at once.
type loop struct {
	grpc.BidiStreamingServer[pb.StreamRequest, pb.StreamResponse]
	d direct
	j *job
}

func (l *loop) Send(f *pb.StreamResponse) error {
	go func() {
		ctx, cancel := context.WithDeadline(context.Background(), l.j.end)
		defer cancel()
		value, failure := l.d.runs.ask(ctx, "demo", f.GetCall())
		r := &pb.CallResult{Call: f.GetCall().GetCall(), Outcome: &pb.CallResult_Value{Value: value}}
		if failure != nil {
			r.Outcome = &pb.CallResult_Failure{Failure: failure}
		}
		l.j.hop.result(l.j.id, r)
	}()
	return nil
}

func TestNoTrialKit(t *testing.T) {
	_, failure := (&running{}).ask(t.Context(), "demo", &pb.HostCall{Method: methodTrialKit})
	if failure.GetCode() != "unavailable" || failure.GetText() != "hook demo has no [hooks.demo.trialkit]" {
		t.Errorf("%v", failure)
	}
	if _, failure = (&running{}).ask(t.Context(), "", &pb.HostCall{Method: "shell"}); failure.GetCode() != "unknown" {
		t.Errorf("%v", failure)
	}
}
