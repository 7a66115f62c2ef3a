// Package host runs plugins: it starts their processes, checks what they are,
// watches them, starts them again and ends them. Foreign code runs behind it and
// nowhere else.
package host

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"runtime"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/go-plugin"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/connectivity"
	"google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/status"

	"github.com/hookline/hookline/plugins"
)

// Times of a child's life.
const (
	startTimeout = 15 * time.Second // from exec to a configured plugin
	stopTimeout  = 3 * time.Second  // from the word to end to SIGKILL
	minBackoff   = 50 * time.Millisecond
	maxBackoff   = 30 * time.Second
	stableAfter  = 10 * time.Second // a child that lived so long is started again at once
	loopAfter    = 3                // ends in a row, each before that, are a crash loop
	healthEvery  = 10 * time.Second // a look whether it answers
	healthLimit  = 5 * time.Second  // for its answer
	healthMisses = 2                // in a row: it is replaced
)

// State is how a child stands.
type State string

// The states of a child.
const (
	Running   State = "running"
	Starting  State = "starting"   // it has ended, and is being started again
	CrashLoop State = "crash-loop" // again and again it ends soon, or cannot be started
	Stopped   State = "stopped"
)

// ErrUnavailable means that the child has no live process now.
var ErrUnavailable = errors.New("the process is not running")

// Spec is a child process to keep running.
type Spec struct {
	Name    string   // of the child in the log, for example "transport ehr"
	Command []string // executable and arguments
	Title   string   // argv[0], for process lists; "": the executable
	SHA256  []byte   // the executable must hash to it; nil: not checked
	NoMTLS  bool     // its language cannot do AutoMTLS
	// Attach is the file of a transport's plugin that somebody runs by hand
	// ([plugins.AttachEnv]); nothing is started then. "": none.
	Attach string

	Handshake plugin.HandshakeConfig
	Protocols map[int]plugin.PluginSet
	Service   string // the name to dispense

	// Setup runs on each new process before it is used. The process is only
	// used if Setup succeeds.
	Setup func(ctx context.Context, client any) error

	// Health is how often it is asked whether it answers; 0: every 10 s. A process
	// that does not is replaced.
	Health time.Duration
	// MaxBackoff is the longest pause before a process that has been in use is started
	// again; 0: 30 s. A short one is for what others can make end.
	MaxBackoff time.Duration

	Log    *slog.Logger
	Redact *Redactor // applied to everything the child says; nil: nothing is secret
}

// Child keeps one process of a plugin running until Stop.
type Child struct {
	spec     Spec
	current  atomic.Pointer[process]
	restarts atomic.Int64

	mu      sync.Mutex
	changed chan struct{} // closed when current is stored anew
	ends    int           // in a row, each soon after its start
	lastEnd string        // why it ended last

	stop    context.CancelFunc
	stopped chan struct{}
}

// process is one life of a child.
type process struct {
	client any
	pid    int
	since  time.Time
	kill   context.CancelFunc // SIGKILL
	killed atomic.Bool        // by Kill
	mute   atomic.Bool        // it did not answer, and was killed
	gone   chan struct{}      // closed when its connection has broken
}

// stable tells whether it has run long enough not to be in a crash loop.
func (p *process) stable() bool { return time.Since(p.since) > stableAfter }

// Status is what is known of a child now.
type Status struct {
	PID      int // 0: not running
	Restarts int
	State    State
	Since    time.Time // of the running process; zero: not running
	LastEnd  string    // why the one before ended; "": none has
}

// Start starts the child and returns when it is set up. If that fails the child
// is not started again: the error says what to mend.
func Start(ctx context.Context, spec Spec) (*Child, error) {
	if spec.Redact == nil {
		spec.Redact = &Redactor{}
	}
	run, stop := context.WithCancel(context.WithoutCancel(ctx))
	c := &Child{spec: spec, changed: make(chan struct{}), stop: stop, stopped: make(chan struct{})}
	first := make(chan error, 1)
	go c.supervise(run, first)
	select {
	case err := <-first:
		if err != nil {
			stop()
			<-c.stopped
			return nil, err
		}
		return c, nil
	case <-ctx.Done():
		c.Stop()
		return nil, fmt.Errorf("start of %s: %w", spec.Name, context.Cause(ctx))
	}
}

// Client returns what the live process dispensed and a channel that is closed
// when that process is lost. The error is [ErrUnavailable].
func (c *Child) Client() (client any, gone <-chan struct{}, err error) {
	p := c.current.Load()
	if p == nil {
		return nil, nil, ErrUnavailable
	}
	select {
	case <-p.gone:
		return nil, nil, ErrUnavailable
	default:
		return p.client, p.gone, nil
	}
}

// Await is Client, but waits until there is a process or ctx ends.
func (c *Child) Await(ctx context.Context) (client any, gone <-chan struct{}, err error) {
	for {
		c.mu.Lock()
		changed := c.changed
		c.mu.Unlock()
		if client, gone, err = c.Client(); err == nil {
			return client, gone, nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return nil, nil, ErrUnavailable
		case <-c.stopped:
			return nil, nil, ErrUnavailable
		}
	}
}

// publish makes p the process that calls go to; nil: none. The end of one that has
// run well begins to count anew.
func (c *Child) publish(p *process) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if was := c.current.Swap(p); was != nil && was.stable() {
		c.ends = 0
	}
	close(c.changed)
	c.changed = make(chan struct{})
}

// Status tells how the child is.
func (c *Child) Status() Status {
	c.mu.Lock()
	defer c.mu.Unlock()
	s := Status{Restarts: int(c.restarts.Load()), State: Starting, LastEnd: c.lastEnd}
	p := c.current.Load()
	looping := c.ends >= loopAfter
	if p != nil {
		s.PID, s.Since, s.State = p.pid, p.since, Running
		looping = looping && !p.stable()
	}
	if looping {
		s.State = CrashLoop
	}
	select {
	case <-c.stopped:
		s.State = Stopped
	default:
	}
	return s
}

// ended notes that a process has ended, or could not be started, and tells whether
// that is a loop by now.
func (c *Child) ended(because string) (looping bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.lastEnd = because
	c.ends++
	return c.ends >= loopAfter
}

// Kill ends the process that client belongs to, hard; a new one is started. It
// is for a process that does not obey its deadline. The new one starts without
// the backoff of a crash: one event's fault must not make the others wait.
func (c *Child) Kill(client any) {
	if p := c.current.Load(); p != nil && p.client == client {
		p.killed.Store(true)
		p.kill()
	}
}

// Stop ends the child and returns when its process is gone, at the latest after
// a few seconds. Calls in flight fail.
func (c *Child) Stop() {
	c.stop()
	<-c.stopped
}

// supervise is the child's one goroutine. It keeps its OS thread: Linux sends
// the parent-death signal when the *thread* that started the process ends.
func (c *Child) supervise(ctx context.Context, first chan<- error) {
	defer close(c.stopped)
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()

	backoff := minBackoff
	for attempt := 0; ; attempt++ {
		stable := false
		l, err := c.launch(ctx)
		if err == nil {
			c.publish(l.process)
		}
		if attempt == 0 {
			first <- err // after publish: a started child has a process
			if err != nil {
				return
			}
		}
		if err == nil {
			if attempt > 0 {
				c.spec.Log.Info("child is back", "child", c.spec.Name, "pid", l.process.pid)
			}
			select {
			case <-l.process.gone:
			case <-ctx.Done():
			}
			stable = l.process.stable() // and not later: to end may take it a while
			c.publish(nil)
			l.end()
			if ctx.Err() != nil {
				return
			}
			if l.process.killed.Load() {
				c.restarts.Add(1)
				continue
			}
			err = errors.New(l.epitaph())
			if l.process.mute.Load() {
				err = errors.New("it did not answer when asked for its health, and was ended")
			}
			if c.spec.MaxBackoff > 0 {
				backoff = min(backoff, c.spec.MaxBackoff)
			}
		}
		if ctx.Err() != nil {
			return
		}
		if stable {
			backoff = minBackoff
		}
		message := "child ended, starting it again"
		if c.ended(err.Error()) {
			message = "child ends again and again, starting it again"
		}
		c.spec.Log.Error(message, "child", c.spec.Name, "because", err.Error(), "in", backoff)
		c.restarts.Add(1)
		select {
		case <-time.After(backoff):
		case <-ctx.Done():
			return
		}
		backoff = min(2*backoff, maxBackoff)
	}
}

// launched is a started process with all that must be undone when it ends.
type launched struct {
	process *process
	plugin  *plugin.Client
	cmd     *exec.Cmd
	kill    context.CancelFunc // SIGKILL
	cleanup []func()
}

// end stops the process, asking first, and undoes the launch.
func (l *launched) end() {
	if l.plugin != nil {
		hard := time.AfterFunc(stopTimeout, l.kill) // invariant 4: a frozen child never answers the word to end
		l.plugin.Kill()
		hard.Stop()
		l.kill() // releases the context; the process is gone
	}
	for i := len(l.cleanup) - 1; i >= 0; i-- {
		l.cleanup[i]()
	}
}

func (l *launched) epitaph() string {
	if l.cmd != nil && l.cmd.ProcessState != nil {
		return l.cmd.ProcessState.String()
	}
	return "the connection to it broke"
}

// launch starts one process and sets it up.
func (c *Child) launch(ctx context.Context) (_ *launched, err error) {
	if c.spec.Attach != "" {
		return c.attach(ctx)
	}
	ctx, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	l := &launched{}
	defer func() {
		if err != nil {
			if l.plugin != nil {
				l.end()
			}
			err = fmt.Errorf("start of %s: %w", c.spec.Name, c.spec.Redact.Error(err))
		}
	}()

	sockets, err := os.MkdirTemp("", "hookline-")
	if err != nil {
		return l, fmt.Errorf("folder for its socket: %w", err)
	}
	// Once the connection is open, nobody needs its name any more; and a host that
	// is killed later leaves nothing behind.
	defer func() { _ = os.RemoveAll(sockets) }()

	life, kill := context.WithCancel(context.Background())
	l.kill = kill
	defer context.AfterFunc(ctx, kill)() // a start that takes too long is ended
	l.cmd = exec.CommandContext(life, c.spec.Command[0], c.spec.Command[1:]...)
	if c.spec.Title != "" {
		l.cmd.Args[0] = c.spec.Title
	}
	closePipe, err := Prepare(l.cmd)
	if err != nil {
		kill()
		return l, err
	}
	l.cmd.Env = append(l.cmd.Env, plugin.EnvUnixSocketDir+"="+sockets)
	l.cleanup = append(l.cleanup, closePipe)
	dieWithHost(l.cmd)

	output := &lineLogger{log: c.spec.Log.With("child", c.spec.Name), redact: c.spec.Redact}
	config := &plugin.ClientConfig{
		HandshakeConfig:  c.spec.Handshake,
		VersionedPlugins: c.spec.Protocols,
		AllowedProtocols: []plugin.Protocol{plugin.ProtocolGRPC},
		Cmd:              l.cmd,
		SkipHostEnv:      true,           // invariant 7
		AutoMTLS:         !c.spec.NoMTLS, // without it only the folder of the socket, mode 0700, keeps others out
		StartTimeout:     startTimeout,
		Logger:           hclog.NewNullLogger(),
		Stderr:           output,
		SyncStderr:       output,
		SyncStdout:       output,
		GRPCDialOptions:  DialOptions(),
	}
	if c.spec.SHA256 != nil {
		config.SecureConfig = &plugin.SecureConfig{Checksum: c.spec.SHA256, Hash: sha256.New()}
	}
	l.plugin = plugin.NewClient(config)
	protocol, err := l.plugin.Client()
	if err != nil {
		if errors.Is(err, plugin.ErrChecksumsDoNotMatch) {
			return l, fmt.Errorf("%s does not have the pinned sha256: if the new file is meant, `hookline plugin pin` prints its hash", c.spec.Command[0])
		}
		if errors.Is(err, syscall.ENOEXEC) {
			return l, fmt.Errorf("%w: it must be a program for this system, or begin with a line such as #!/usr/bin/env node", err)
		}
		return l, err
	}
	client, err := protocol.Dispense(c.spec.Service)
	if err != nil {
		return l, err
	}
	conn := protocol.(*plugin.GRPCClient).Conn // AllowedProtocols admits no other
	watching, stopWatching := context.WithCancel(context.Background())
	l.process = &process{client: client, pid: l.cmd.Process.Pid, since: time.Now(), kill: kill, gone: make(chan struct{})}
	var watcher sync.WaitGroup
	watcher.Go(func() { watch(watching, conn, l.process.gone) })
	watcher.Go(func() { c.nurse(watching, conn, l.process) })
	l.cleanup = append(l.cleanup, func() { stopWatching(); watcher.Wait() })

	return l, c.setUp(ctx, l.process)
}

// setUp runs Setup on a new process, unless that ends before.
func (c *Child) setUp(ctx context.Context, p *process) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	done := make(chan error, 1)
	go func() { done <- c.spec.Setup(ctx, p.client) }()
	select {
	case err := <-done:
		return err
	case <-p.gone:
		cancel()
		<-done //nolint:errcheck // whatever Setup says of a process that is gone
		return errors.New("it ended while it was being set up")
	}
}

// watch closes gone when the connection breaks: a killed process is noticed in a
// few milliseconds, without polling.
func watch(ctx context.Context, conn *grpc.ClientConn, gone chan<- struct{}) {
	defer close(gone)
	wasReady := false
	for {
		s := conn.GetState()
		switch {
		case s == connectivity.Ready:
			wasReady = true
		case wasReady, s == connectivity.Shutdown, s == connectivity.TransientFailure:
			return
		}
		if !conn.WaitForStateChange(ctx, s) {
			return
		}
	}
}

// nurse ends a process that is there and does not answer: nothing else would ever
// replace one that is frozen.
func (c *Child) nurse(ctx context.Context, conn *grpc.ClientConn, p *process) {
	every, limit := healthEvery, healthLimit
	if c.spec.Health > 0 {
		every, limit = c.spec.Health, min(limit, c.spec.Health)
	}
	client := grpc_health_v1.NewHealthClient(conn)
	tick := time.NewTicker(every)
	defer tick.Stop()
	for misses := 0; misses < healthMisses; {
		select {
		case <-tick.C:
		case <-p.gone:
			return
		case <-ctx.Done():
			return
		}
		asking, cancel := context.WithTimeout(ctx, limit)
		_, err := client.Check(asking, &grpc_health_v1.HealthCheckRequest{Service: plugin.GRPCServiceName})
		cancel()
		if status.Code(err) == codes.DeadlineExceeded { // any other answer is one
			misses++
		} else {
			misses = 0
		}
	}
	p.mute.Store(true)
	p.kill()
}

// Prepare gives a command that is not started what every child gets: the pipe by
// which it knows that its host lives, and of the environment what Hookline passes
// on. closePipe is what the host's death does.
func Prepare(cmd *exec.Cmd) (closePipe func(), err error) {
	cmd.Env = childEnv()
	return hostPipe(cmd)
}

// DialOptions are the gRPC options of the host's side.
func DialOptions() []grpc.DialOption {
	return []grpc.DialOption{
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(plugins.MaxMessage), grpc.MaxCallSendMsgSize(plugins.MaxMessage)),
		grpc.WithInitialWindowSize(plugins.Window),
		grpc.WithInitialConnWindowSize(plugins.Window),
		grpc.WithIdleTimeout(0), // an idle connection is not a dead child
		grpc.WithDisableServiceConfig(),
		grpc.WithDisableRetry(), // whether to try again is the core's to decide
	}
}

// childEnv is everything a child gets of the host's environment: where the
// system keeps its files, never what an operator put there (invariant 7).
func childEnv() []string {
	var env []string
	// GORACE is for builds with the race detector, so that tests see a child's races.
	for _, name := range []string{"TZ", "TMPDIR", "LANG", "SSL_CERT_FILE", "SSL_CERT_DIR", "SystemRoot", "GORACE"} {
		if v, ok := os.LookupEnv(name); ok {
			env = append(env, name+"="+v)
		}
	}
	return append(env, "PATH=/usr/local/bin:/usr/bin:/bin")
}
