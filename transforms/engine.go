package transforms

import (
	"cmp"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/hookline/hookline/plugins/host"
	pb "github.com/hookline/hookline/transforms/transformpb"
)

const (
	// DefaultTimeout is a script's time per event where none is set.
	DefaultTimeout = 250 * time.Millisecond
	// DefaultMemory is what the script process may hold where nothing is set, in bytes.
	DefaultMemory = 256 << 20

	loadTimeout = 10 * time.Second // a bundle near the limit takes some seconds
	// restartWait is how long an event waits for a new process after one died. A
	// start takes about a tenth of a second, after several deaths some seconds.
	restartWait = 5 * time.Second

	// minRestart is the pause between two processes, when scripts make them end.
	minRestart = 100 * time.Millisecond

	maxSource = 8 << 20 // bytes of a script with all that it imports and its source map
)

// Options are how to run the script process.
type Options struct {
	// Command is what becomes the script process, by calling ServeChild: an
	// executable and its arguments.
	Command []string
	Log     *slog.Logger
	// ShowOutput is given what scripts log and throw; nil: it is dropped. It may
	// quote a record, so it must not end in the log of a daemon (invariant 7).
	// Calls come concurrently.
	ShowOutput func(script, deliveryID, text string)
	// TrialKit is what ctx.trialkit reads from; nil: no hook has an API.
	TrialKit TrialKit
	// Quarantines keeps which scripts are in quarantine; nil: this engine does.
	Quarantines Quarantines
	// Memory is what the process may hold, in bytes; 0: DefaultMemory.
	Memory uint64
}

// Script is a transform as configured.
type Script struct {
	Name    string        // as written in the config, for positions: "transforms/ehr.ts"
	Path    string        // the file to read
	Root    string        // the folder that imports must be in; "", or if Path is not in it: Path's
	Source  []byte        // what [Transform.Source] was, to compile without the disk; nil: read it
	Timeout time.Duration // 0: DefaultTimeout

	// Modules are the texts of modules that are not on the disk, by the names that
	// import them: "hookline/test". Main is the one whose default export is run, after
	// the script has been; "": the script's own is.
	Modules map[string]string
	Main    string
	// RefuseBigIntegers fails events with a number that JavaScript would round,
	// instead of giving the script its digits as a string.
	RefuseBigIntegers bool

	// For scripts that are tried. Tests: it is a file of tests, and has the module
	// "hookline/test". TrialKit: what ctx.trialkit.get gives, JSON by path, in the
	// place of Options.TrialKit; nil: ask that.
	Tests    bool
	TrialKit map[string][]byte

	Tables  *Tables           // for ctx.lookup
	Secrets map[string]string // for ctx.secret, by name
}

// Engine runs scripts in a child process, which it keeps running.
type Engine struct {
	options Options
	process process
	redact  host.Redactor // of what the process writes
	idKey   []byte        // of [Engine.givenID]

	mu      sync.Mutex
	memory  uint64
	scripts map[string]*loaded    // by id: what every new process must have
	strikes map[string]*strikes   // by hash, of scripts that cost a process
	files   map[string]*tableFile // by fileID: the lookup files of the scripts
	has     map[string]bool       // by fileID: those that the process hasOf has
	hasOf   pb.TransformServiceClient
	stopped bool

	// keeping is held where strikes and Options.Quarantines are made the same.
	keeping sync.Mutex
	tasks   sync.WaitGroup // what keeps them; Stop waits for it
}

// process is the part of *[host.Child] that the engine needs.
type process interface {
	Client() (client any, gone <-chan struct{}, err error)
	Await(ctx context.Context) (client any, gone <-chan struct{}, err error)
	Kill(client any)
	Status() host.Status
	Stop()
}

// loaded is a script that at least one transform uses.
type loaded struct {
	req  *pb.LoadRequest
	hash string
	uses int
}

// Start starts the script process.
func Start(ctx context.Context, o Options) (*Engine, error) {
	e := &Engine{
		options: o, memory: cmp.Or(o.Memory, DefaultMemory), idKey: make([]byte, 32),
		scripts: make(map[string]*loaded), strikes: make(map[string]*strikes), files: make(map[string]*tableFile),
	}
	_, _ = rand.Read(e.idKey) // it never fails
	if err := e.ShareQuarantines(ctx); err != nil {
		return nil, err
	}
	child, err := host.Start(ctx, host.Spec{
		Name:      service,
		Command:   o.Command,
		Handshake: handshake,
		Protocols: protocols(nil),
		Service:   service,
		Setup:     e.setUp,
		// A script can make it end, again and again until it is in quarantine.
		MaxBackoff: minRestart,
		Redact:     &e.redact,
		Log:        o.Log,
	})
	if err != nil {
		return nil, err
	}
	e.process = child
	return e, nil
}

// SetMemory changes what the script process may hold, in bytes; 0: DefaultMemory.
func (e *Engine) SetMemory(ctx context.Context, bytes uint64) error {
	bytes = cmp.Or(bytes, DefaultMemory)
	e.mu.Lock()
	same := e.memory == bytes
	e.memory = bytes // of a process that starts in between as well
	e.mu.Unlock()
	if same {
		return nil
	}
	p, _, err := e.client(ctx)
	if err == nil {
		_, err = p.rpc.Configure(ctx, &pb.ConfigureRequest{Memory: bytes})
	}
	if err != nil && !lost(err) && !errors.Is(err, errUnavailable) { // the next process has it
		return fmt.Errorf("set the memory of the script process: %w", err)
	}
	return nil
}

func (e *Engine) limit() uint64 {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.memory
}

// Stop ends the script process; runs in flight fail.
func (e *Engine) Stop() {
	e.mu.Lock()
	e.stopped = true
	e.mu.Unlock()
	e.process.Stop()
	e.tasks.Wait()
}

// Status tells how the script process is.
func (e *Engine) Status() host.Status { return e.process.Status() }

// setUp gives a new process its limits and all scripts before it is used. A script
// that it does not take any more fails alone, at its next event.
func (e *Engine) setUp(ctx context.Context, client any) error {
	p := client.(*running)
	p.trialkit = e.options.TrialKit
	if err := p.open(); err != nil {
		return err
	}
	e.mu.Lock()
	limits := &pb.ConfigureRequest{Memory: e.memory}
	reqs := make([]*pb.LoadRequest, 0, len(e.scripts))
	for _, l := range e.scripts {
		reqs = append(reqs, l.req)
	}
	e.mu.Unlock()
	if _, err := p.rpc.Configure(ctx, limits); err != nil {
		return fmt.Errorf("set its limits: %w", err)
	}
	for _, req := range reqs {
		out, err := e.loadOn(ctx, p.rpc, req)
		if err != nil {
			return fmt.Errorf("load %s: %w", req.GetName(), err)
		}
		if len(out.GetProblems()) > 0 {
			e.options.Log.Error("a script that was running is not accepted any more", "script", req.GetName())
		}
	}
	return nil
}

// Compile reads, compiles and loads a script. The error is a *[CompileError] if
// the script is to blame. Close the transform when no route uses it any more.
func (e *Engine) Compile(ctx context.Context, s Script) (*Transform, error) {
	if s.Timeout <= 0 {
		s.Timeout = DefaultTimeout
	}
	if s.Tests {
		s.Modules, s.Main = map[string]string{testModule: testSource}, testModule
	}
	t := &Transform{engine: e, script: s}
	source := s.Source
	if source == nil {
		made, err := e.bundle(ctx, s)
		if err != nil {
			return nil, err
		}
		source, t.inputs, t.warnings = made.GetSource(), made.GetInputs(), problemsOf(made.GetWarnings())
	} else {
		t.inputs = s.inputs()
	}
	if len(source) > maxSource {
		return nil, fmt.Errorf("%s: it has %d bytes, the limit is %d", s.Name, len(source), maxSource)
	}
	hash := sha256.Sum256(source)
	t.hash = hex.EncodeToString(hash[:])
	// The name is part of the id: it stands in the positions.
	t.req = &pb.LoadRequest{
		ScriptId: t.hash + "/" + e.givenID(s) + s.Name,
		Name:     s.Name, Source: source, Timeout: durationpb.New(s.Timeout),
		Lookups: s.Tables.Digests(), Secrets: s.Secrets, Tests: s.Tests,
	}
	if s.TrialKit != nil {
		t.req.Answers = &pb.Answers{Trialkit: s.TrialKit}
	}

	// First kept, then loaded: a process that starts in between has it too.
	e.keep(t.req, t.hash, s.Tables)
	if err := e.load(ctx, t.req); err != nil {
		e.release(t.req)
		if refused, ok := errors.AsType[*CompileError](err); ok {
			refused.Inputs = t.inputs
		}
		return nil, err
	}
	return t, nil
}

// root is the folder that a script may be made of.
func (s Script) root() string {
	if s.Root != "" {
		if rel, err := filepath.Rel(s.Root, s.Path); err == nil && filepath.IsLocal(rel) {
			return s.Root
		}
	}
	return filepath.Dir(s.Path)
}

// inputs are the files that what is kept of the script was made of.
func (s Script) inputs() []string {
	files := []string{s.Path}
	for _, f := range SourceFiles(s.Source)[min(1, len(SourceFiles(s.Source))):] {
		// Names are relative to what the script's own name is relative to.
		if rel, err := filepath.Rel(filepath.Dir(s.Name), filepath.FromSlash(f.Name)); err == nil {
			files = append(files, filepath.Join(filepath.Dir(s.Path), rel))
		}
	}
	return files
}

// bundle has the process make one text of a script and what it imports.
func (e *Engine) bundle(ctx context.Context, s Script) (*pb.BundleResponse, error) {
	switch filepath.Ext(s.Path) {
	case ".ts", ".mts", ".js", ".mjs":
	default:
		return nil, fmt.Errorf("%s: a transform is a .ts or .js file (or .mts, .mjs)", s.Name)
	}
	file, err := filepath.Abs(s.Path)
	if err == nil {
		_, err = os.Stat(file)
	}
	if err != nil {
		return nil, fmt.Errorf("%s: %w", s.Name, err)
	}
	root, err := filepath.Abs(s.root())
	if err != nil {
		return nil, fmt.Errorf("%s: %w", s.Name, err)
	}
	var out *pb.BundleResponse
	err = e.ask(ctx, s.Name, func(ctx context.Context, client pb.TransformServiceClient) (err error) {
		out, err = client.Bundle(ctx, &pb.BundleRequest{Name: s.Name, Path: file, Root: root, Modules: s.Modules, Main: s.Main})
		return err
	})
	if err == nil && len(out.GetProblems()) > 0 {
		refused := compileError(s.Name, out.GetProblems())
		refused.Inputs = out.GetInputs()
		err = refused
	}
	return out, err
}

func (e *Engine) keep(req *pb.LoadRequest, hash string, tables *Tables) {
	e.mu.Lock()
	defer e.mu.Unlock()
	l := e.scripts[req.GetScriptId()]
	if l == nil {
		l = &loaded{req: req, hash: hash}
		e.scripts[req.GetScriptId()] = l
		e.keepGiven(req, tables)
	}
	l.uses++
}

// release forgets a script when its last transform is gone.
func (e *Engine) release(req *pb.LoadRequest) {
	e.mu.Lock()
	defer e.mu.Unlock()
	l := e.scripts[req.GetScriptId()]
	if l == nil {
		return
	}
	if l.uses--; l.uses > 0 {
		return
	}
	delete(e.scripts, req.GetScriptId())
	unused := e.releaseGiven(l.req)
	if client, _, err := e.process.Client(); err == nil {
		// Under the lock, so that it cannot overtake a new Load of the same
		// script. If it fails, the process keeps a little more memory.
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		child := client.(*running).rpc
		_, _ = child.Unload(ctx, &pb.UnloadRequest{ScriptId: req.GetScriptId()})
		for _, f := range unused {
			_, _ = child.Withdraw(ctx, f)
		}
	}
}

// load has the process compile a script.
func (e *Engine) load(ctx context.Context, req *pb.LoadRequest) error {
	var out *pb.LoadResponse
	err := e.ask(ctx, req.GetName(), func(ctx context.Context, client pb.TransformServiceClient) (err error) {
		out, err = e.loadOn(ctx, client, req)
		return err
	})
	if err == nil && len(out.GetProblems()) > 0 {
		return compileError(req.GetName(), out.GetProblems())
	}
	return err
}

// ask calls the process about a script. If it dies on it the next one is asked once
// more: another script may have been the cause.
func (e *Engine) ask(ctx context.Context, name string, call func(context.Context, pb.TransformServiceClient) error) error {
	ctx, cancel := context.WithTimeout(ctx, loadTimeout)
	defer cancel()
	for attempt := 0; ; attempt++ {
		client, gone, err := e.client(ctx)
		if err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		err = call(ctx, client.rpc)
		switch {
		case err == nil:
			return nil
		case attempt == 0 && lost(err):
			e.await(ctx, gone)
			continue
		case status.Code(err) == codes.DeadlineExceeded:
			e.process.Kill(client) // it may be busy with it for ever
			return fmt.Errorf("%s: compiling it did not end in time", name)
		default:
			return fmt.Errorf("%s: the script process failed on it: %w", name, err)
		}
	}
}

// loadOn gives one process a script with all that it has.
func (e *Engine) loadOn(ctx context.Context, client pb.TransformServiceClient, req *pb.LoadRequest) (*pb.LoadResponse, error) {
	if err := e.provide(ctx, client, req); err != nil {
		return nil, err
	}
	return client.Load(ctx, req)
}

func compileError(script string, problems []*pb.Problem) *CompileError {
	return &CompileError{Script: script, Problems: problemsOf(problems)}
}

func problemsOf(problems []*pb.Problem) (out []Problem) {
	for _, p := range problems {
		out = append(out, Problem{
			File: p.GetFile(), Line: int(p.GetLine()), Column: int(p.GetColumn()), Text: p.GetText(), Excerpt: p.GetLineText(),
		})
	}
	return out
}

var errUnavailable = errors.New("the script process is not running")

// client returns the live process. It waits for one that is being started.
func (e *Engine) client(ctx context.Context) (p *running, gone <-chan struct{}, err error) {
	raw, gone, err := e.process.Client()
	if err == nil {
		return raw.(*running), gone, nil
	}
	ctx, cancel := context.WithTimeout(ctx, restartWait)
	defer cancel()
	raw, gone, err = e.process.Await(ctx)
	if err != nil {
		return nil, nil, errUnavailable
	}
	return raw.(*running), gone, nil
}

// await waits until a process that failed a call is known to be gone, so that
// the next call does not go to it as well.
func (e *Engine) await(ctx context.Context, gone <-chan struct{}) {
	ctx, cancel := context.WithTimeout(ctx, restartWait)
	defer cancel()
	select {
	case <-gone:
	case <-ctx.Done():
	}
}

// lost tells whether a call failed because its process went away.
func lost(err error) bool {
	c := status.Code(err)
	return c == codes.Unavailable || c == codes.Canceled
}
