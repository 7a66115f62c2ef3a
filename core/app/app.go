// Package app puts Hookline together from one configuration and keeps it
// running: start, reload, drain, stop.
package app

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hookline/hookline/core"
	"github.com/hookline/hookline/core/admin"
	"github.com/hookline/hookline/core/alerts"
	"github.com/hookline/hookline/core/config"
	"github.com/hookline/hookline/core/ingest"
	"github.com/hookline/hookline/core/journal"
	"github.com/hookline/hookline/core/socket"
	"github.com/hookline/hookline/transforms"
)

// Options are what an App is made from.
type Options struct {
	// Load reads the configuration, at the start and at each reload.
	Load func() (*config.Config, error)
	Log  *slog.Logger
	// Recall, if set, is how to go on from what the journal holds when the files
	// are bad at the start.
	Recall *Recall
	// Level, if set, follows log.level at a reload.
	Level *slog.LevelVar
	// ShowScriptOutput, if set, gets what scripts log and throw. It may hold
	// record contents: for development only.
	ShowScriptOutput func(script, deliveryID, text string)
	// AlertTimes are [alerts.Usual] unless a test is in a hurry.
	AlertTimes alerts.Times
}

// App is a running Hookline. A test starts it on port 0 as main does.
type App struct {
	options Options
	log     *slog.Logger
	server  *ingest.Server
	admin   *admin.Server

	store     *journal.Store  // nil without a journal
	scheduler *core.Scheduler // nil without a journal
	vigil     *vigil          // nil before New and in Check
	recalled  atomic.Pointer[recalled]
	// observation is what is counted and traced; nil until the configuration is read.
	observation atomic.Pointer[observation]
	unguard     func() // ends tend and guard; nil without a journal

	listeners []net.Listener
	serving   sync.WaitGroup // accept loops
	errs      chan error     // what ended an accept loop early

	reloading sync.Mutex // guards current, live, engine, awaited and gates
	current   *generation
	live      map[*generation]struct{} // current, and those that finish their last events
	engine    *transforms.Engine
	awaited   []string // files of scripts that the last build refused
	gates     map[string]gate
	reader    reader
	retiring  sync.WaitGroup // the goroutines that wait for that

	// alive guards changes of live and engine too, and is held for moments only: who
	// has to end the children now cannot wait for a reload.
	alive sync.Mutex

	stop     sync.Once
	life     context.Context // ends when Stop begins, and a reload in progress with it
	stopping context.CancelFunc
	patience context.Context // ends when no event may wait for its turn any longer
	hurry    context.CancelFunc
}

// New reads and checks the configuration, starts what it calls for and listens.
// If it fails, nothing is left running.
func New(ctx context.Context, o Options) (_ *App, err error) {
	a := &App{options: o, log: o.Log, errs: make(chan error, 8), live: map[*generation]struct{}{}, gates: map[string]gate{}}
	a.life, a.stopping = context.WithCancel(context.Background())
	a.patience, a.hurry = context.WithCancel(context.Background())
	defer func() {
		if err != nil {
			a.release()
		}
	}()
	if a.current, err = a.first(ctx); err != nil {
		return nil, err
	}
	c := a.current.config
	a.alive.Lock()
	a.live[a.current] = struct{}{}
	a.alive.Unlock()
	a.reader.use(a.current)
	if err := a.observeBy(c); err != nil {
		return nil, err
	}
	a.observe(a.current)
	a.vigil = newVigil(a)
	a.server = ingest.New(ingest.Options{
		MaxBody: c.Server.MaxBody, MaxInFlight: c.Server.MaxInFlight,
		HeaderTimeout: c.Server.HeaderTimeout, BodyTimeout: c.Server.BodyTimeout, IdleTimeout: c.Server.IdleTimeout,
		TrustedProxies: c.Server.TrustedProxies, Log: a.log, Ready: a.ready, Note: a.note, Calls: a.observation.Load(),
		Saw: a.vigil.saw,
	})
	a.server.Use(a.current.set)
	if err := a.listen(c); err != nil {
		return nil, err
	}
	if a.scheduler != nil {
		a.reloading.Lock() // the admin API may have asked for a reload already
		a.scheduler.Use(a.current.dispatcher)
		a.reloading.Unlock()
	}
	a.vigil.begin()
	for _, l := range a.listeners {
		a.serving.Go(func() {
			if err := a.server.Serve(l); err != nil {
				a.errs <- err
			}
		})
		a.log.Info("listening for TrialKit", "on", address(l), "hooks", len(c.Hooks), "routes", len(c.Routes))
	}
	return a, nil
}

// hookMode lets the owner and the group of a Unix socket call: a proxy in front.
const hookMode = 0o660

// listen opens the sockets: those that systemd hands over, or the configured.
func (a *App) listen(c *config.Config) error {
	tlsConfig, err := listenerTLS(c.Server.TLS, "server.tls", a.log)
	if err != nil {
		return err
	}
	wrap := func(l net.Listener) net.Listener {
		if tlsConfig != nil && l.Addr().Network() == "tcp" {
			return tls.NewListener(l, tlsConfig)
		}
		return l
	}
	activated, err := socket.Activated()
	if err != nil {
		return err
	}
	for _, l := range activated {
		a.listeners = append(a.listeners, wrap(l))
	}
	if len(activated) == 0 {
		for _, addr := range c.Server.Listen {
			l, err := socket.Listen(addr.String(), hookMode)
			if err != nil {
				return fmt.Errorf("server.listen: %w", err)
			}
			a.listeners = append(a.listeners, wrap(l))
		}
	}
	if len(c.Admin.Listen) == 0 {
		return nil
	}
	o, err := a.adminOptions(c)
	if err != nil {
		return err
	}
	a.reloading.Lock() // a reload that is asked for at once needs it
	a.admin, err = admin.Listen(o)
	a.reloading.Unlock()
	if err != nil {
		return fmt.Errorf("admin.listen: %w", err)
	}
	for _, addr := range a.admin.Addrs() {
		a.log.Info("listening for the admin API", "on", "tcp://"+addr.String(), "users", len(o.Users), "tls", o.TLS != nil)
	}
	return nil
}

// listenerTLS is the TLS that a section of the configuration asks for; nil for none.
func listenerTLS(files config.TLS, section string, log *slog.Logger) (*tls.Config, error) {
	if !files.Enabled() {
		return nil, nil
	}
	t, err := ingest.TLSConfig(files.CertFile, files.KeyFile, log)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", section, err)
	}
	return t, nil
}

// AdminAddrs are the TCP addresses of the admin API, in the order of the config.
func (a *App) AdminAddrs() []net.Addr {
	if a.admin == nil {
		return nil
	}
	return a.admin.Addrs()
}

// Addrs are the addresses that TrialKit can call, in the order of the config.
func (a *App) Addrs() []net.Addr {
	out := make([]net.Addr, len(a.listeners))
	for i, l := range a.listeners {
		out[i] = l.Addr()
	}
	return out
}

func address(l net.Listener) string { return l.Addr().Network() + "://" + l.Addr().String() }

// Run serves until ctx ends, then drains and stops. The error is nil for an end
// that was asked for.
func (a *App) Run(ctx context.Context) error {
	watch, stopWatching := context.WithCancel(ctx)
	var watching sync.WaitGroup
	watching.Go(func() { a.watch(watch) })
	watching.Go(func() { a.tidy(watch) })
	var err error
	select {
	case <-ctx.Done():
	case err = <-a.errs:
		err = fmt.Errorf("the hook endpoint stopped: %w", err)
	}
	stopWatching()
	watching.Wait()
	a.Stop()
	return err
}

// lastWords is how long before the end of server.drain_timeout nobody waits any longer
// for a place at a transport.
const lastWords = time.Second

// Stop refuses new events, lets those in flight finish within
// server.drain_timeout, and ends everything. It may be called more than once.
func (a *App) Stop() {
	a.stop.Do(func() {
		a.stopping()
		a.reloading.Lock()
		timeout := a.current.config.Server.DrainTimeout
		a.reloading.Unlock()
		ctx, cancel := context.WithTimeout(context.Background(), timeout)
		defer cancel()
		start := time.Now()
		// What waits gives up while its caller can still be answered.
		defer time.AfterFunc(timeout-min(timeout/4, lastWords), a.hurry).Stop()
		if a.scheduler != nil {
			a.scheduler.Stop() // what is queued stays queued
		}
		err := a.server.Drain(ctx)
		if err == nil && !a.idle(ctx) {
			err = errors.New("deliveries of the background")
		}
		if err != nil {
			a.log.Warn("events were still in flight when server.drain_timeout ended", "drain_timeout", timeout, "error", err)
			a.cutShort()
		}
		a.serving.Wait()
		a.release()
		a.log.Info("stopped", "took", time.Since(start).Round(time.Millisecond))
	})
}

// idle waits for the deliveries that no caller waits for, and tells whether they
// have ended before ctx.
func (a *App) idle(ctx context.Context) bool {
	a.reloading.Lock()
	defer a.reloading.Unlock()
	for g := range a.live {
		ended := make(chan struct{})
		go func() { g.dispatcher.Wait(); close(ended) }() // they have deadlines
		select {
		case <-ended:
		case <-ctx.Done():
			return false
		}
	}
	return true
}

// cutShort kills the children until no event is in flight. What is left after
// server.drain_timeout would otherwise last until its own deadlines, minutes
// perhaps, and Stop with it.
func (a *App) cutShort() {
	for idle := false; !idle; {
		a.killChildren()
		a.reloading.Lock()
		engine := a.engine
		for g := range a.live {
			g.trialkit.Close() // what waits for a record
		}
		a.reloading.Unlock()
		if engine != nil {
			engine.Stop() // an event that lost it would wait for the next process
		}
		// Again and again: an event may turn to the process that comes next.
		ctx, cancel := context.WithTimeout(context.Background(), 100*time.Millisecond)
		_ = a.server.Drain(ctx)
		idle = a.idle(ctx) && ctx.Err() == nil
		cancel()
	}
}

func (a *App) killChildren() {
	for _, pid := range a.children() {
		if p, err := os.FindProcess(pid); err == nil {
			_ = p.Kill() // an error means that it has ended
		}
	}
}

// children are the processes that run now.
func (a *App) children() (pids []int) {
	a.alive.Lock()
	defer a.alive.Unlock()
	for g := range a.live {
		for _, t := range g.transports {
			if pid := t.Status().PID; pid != 0 {
				pids = append(pids, pid)
			}
		}
	}
	if a.engine != nil {
		if pid := a.engine.Status().PID; pid != 0 {
			pids = append(pids, pid)
		}
	}
	return pids
}

// release ends what New has started, in reverse.
func (a *App) release() {
	if a.admin != nil {
		a.admin.Stop()
	}
	for _, l := range a.listeners {
		_ = l.Close()
	}
	if a.vigil != nil {
		a.vigil.stop()
	}
	if a.scheduler != nil {
		a.scheduler.Stop()
	}
	a.retiring.Wait()
	a.reloading.Lock()
	defer a.reloading.Unlock()
	if a.current != nil {
		a.current.release()
		a.current.dispatcher.Wait() // to hear what came of its last attempts
	}
	if a.engine != nil {
		a.engine.Stop()
	}
	if o := a.observation.Load(); o != nil {
		o.Stop()
	}
	if a.unguard != nil {
		a.unguard()
	}
	if a.store != nil {
		if err := a.store.Close(); err != nil {
			a.log.Error("the journal was not closed well: what it could not write is told as unknown at the next start", "error", err)
		}
	}
}

var errStopping = errors.New("the daemon is stopping")

// Reload reads the configuration again and, if all of it is good, puts it in the
// place of the one in force. Otherwise nothing changes and the error says why.
func (a *App) Reload(ctx context.Context) (err error) {
	a.reloading.Lock()
	defer a.reloading.Unlock()
	defer func() {
		if err != nil {
			a.refused(err)
			err = fmt.Errorf("not reloaded, the configuration in force stays: %w", err)
		}
	}()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(a.life, cancel)()
	if a.life.Err() != nil {
		return errStopping
	}
	c, err := a.options.Load()
	if err != nil {
		return err
	}
	old := a.current
	next, err := a.build(ctx, c, old, nil)
	switch {
	case a.life.Err() != nil:
		if err == nil {
			next.release()
		}
		return errStopping
	case err != nil:
		return &Unusable{Config: c, Err: err}
	}
	a.warn(c)
	if keys := old.config.RestartKeys(c); len(keys) > 0 {
		a.log.Warn("these keys have changed and take effect at the next start", "keys", keys)
	}
	a.setLevel(c)
	a.observe(next)
	a.limitScripts(ctx, c)
	a.reader.use(next)
	a.current = next
	a.alive.Lock()
	a.live[next] = struct{}{}
	a.alive.Unlock()
	drained := a.server.Use(next.set)
	if a.admin != nil {
		a.admin.Use(next.users)
	}
	if a.scheduler != nil {
		a.scheduler.Use(next.dispatcher)
	}
	a.accept(ctx, next)
	a.retiring.Go(func() {
		<-drained             // bounded by the hooks' budgets
		old.dispatcher.Wait() // by the routes' timeouts
		a.reloading.Lock()
		a.alive.Lock()
		delete(a.live, old)
		a.alive.Unlock()
		a.reloading.Unlock()
		old.release()
	})
	a.log.Info("reloaded", "revision", short(c.Revision), "hooks", len(c.Hooks), "transports", len(c.Transports), "routes", len(c.Routes))
	return nil
}

func (a *App) setLevel(c *config.Config) {
	if a.options.Level != nil {
		a.options.Level.Set(c.Log.Level)
	}
}

func (a *App) warn(c *config.Config) {
	for _, w := range c.Warnings {
		a.log.Warn("config: " + w)
	}
}

func short(revision string) string { return revision[:min(12, len(revision))] }
