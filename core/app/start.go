package app

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/hookline/hookline/core"
	"github.com/hookline/hookline/core/config"
	"github.com/hookline/hookline/core/journal"
)

// Recall is how to start when the configuration on disk is bad: with the set that
// was accepted last, from the journal.
type Recall struct {
	// Journal finds the journal without a configuration that can be used.
	Journal func() (url, node string)
	// Parse reads a configuration from the bytes that were accepted.
	Parse func(source []byte) (*config.Config, error)
	// Past reads one to tell what it said: [config.Past].
	Past func(source []byte) (*config.Config, error)
}

// recalled is the accepted set that runs in the place of bad files.
type recalled struct {
	at  time.Time
	why error
}

// first makes the generation to start with.
func (a *App) first(ctx context.Context) (*generation, error) {
	c, err := a.options.Load()
	if err != nil {
		return a.recall(ctx, nil, err)
	}
	if err := a.openJournal(ctx, c); err != nil {
		return nil, err
	}
	a.setLevel(c)
	g, err := a.build(ctx, c, nil, nil)
	if err != nil {
		return a.recall(ctx, c, &Unusable{Config: c, Err: err})
	}
	a.warn(c)
	a.accept(ctx, g)
	return g, nil
}

// recall starts with what was accepted last. bad says what is wrong with the files
// of now, and is the error if there is nothing to recall; c is what could be read
// of them, or nil.
func (a *App) recall(ctx context.Context, c *config.Config, bad error) (*generation, error) {
	if a.options.Recall == nil || c != nil && a.store == nil {
		return nil, bad
	}
	var node string
	if c == nil {
		var url string
		if url, node = a.options.Recall.Journal(); !known(url) {
			return nil, bad // a new journal holds nothing, and is not made for bad files
		}
		if err := a.openStore(ctx, journal.Options{URL: url, Node: node}); err != nil {
			return nil, errors.Join(bad, err)
		}
	} else {
		node = c.Journal.Node
	}
	set, err := a.store.Accepted(ctx, nodeName(node))
	if errors.Is(err, journal.ErrNotFound) {
		return nil, bad
	} else if err != nil {
		return nil, errors.Join(bad, err)
	}
	old, err := a.options.Recall.Parse(set.Config)
	if err != nil {
		return nil, errors.Join(bad, fmt.Errorf("and the configuration accepted on %s cannot be used either: %w", set.AcceptedAt.Format(time.RFC3339), err))
	}
	a.setLevel(old)
	g, err := a.build(ctx, old, nil, set)
	if err != nil {
		return nil, errors.Join(bad, fmt.Errorf("and the configuration accepted on %s cannot be used either: %w", set.AcceptedAt.Format(time.RFC3339), err))
	}
	a.refused(bad)
	a.recalled.Store(&recalled{at: set.AcceptedAt, why: bad})
	a.log.Error("the configuration on disk cannot be used: running on the one that was accepted last. Mend it and run `hookline reload`",
		"accepted_at", set.AcceptedAt, "revision", short(set.Revision), "error", bad)
	return g, nil
}

// known tells whether there can be something in a journal.
func known(url string) bool {
	if path, ok := strings.CutPrefix(url, "sqlite:"); ok {
		info, err := os.Stat(path)
		return err == nil && info.Mode().IsRegular()
	}
	return strings.HasPrefix(url, "postgres")
}

// nodeName is what a daemon's accepted sets are kept under.
func nodeName(configured string) string {
	host, _ := os.Hostname()
	return cmp.Or(configured, host, "hookline")
}

func (a *App) openJournal(ctx context.Context, c *config.Config) error {
	if c.Journal.None() {
		return nil
	}
	url, err := c.JournalURL()
	if err != nil {
		return &Unusable{Config: c, Err: err}
	}
	return a.openStore(ctx, journal.Options{URL: url, Node: c.Journal.Node, MinFree: c.Journal.MinFree})
}

// Polling of the journal by the background, for what it is not told.
const (
	pollShared = time.Second // what other daemons queue, or leave behind
	pollAlone  = 30 * time.Second
)

func (a *App) openStore(ctx context.Context, o journal.Options) (err error) {
	o.Node, o.Log, o.Committed = nodeName(o.Node), a.log, a.committed
	if a.store, err = journal.Open(ctx, o); err != nil {
		return atStart(err)
	}
	options := core.SchedulerOptions{Queue: a.store, Log: a.log, Poll: pollAlone}
	if strings.HasPrefix(o.URL, "postgres") {
		options.Shared, options.Poll = true, pollShared
	}
	a.scheduler = core.NewScheduler(options)
	a.store.OnPromoted(a.scheduler.Wake)
	guarded, cancel := context.WithCancel(context.Background())
	var guarding sync.WaitGroup
	guarding.Go(func() { a.tend(guarded) })
	if options.Shared {
		guarding.Go(func() { a.guard(guarded) })
		guarding.Go(func() { a.shareQuarantines(guarded) })
	}
	a.unguard = func() { cancel(); guarding.Wait() }
	return nil
}

// atStart tells why the journal cannot be opened. What goes on by itself in a
// daemon that runs does not in one that has not started.
func atStart(err error) error {
	if !errors.Is(err, journal.ErrUnavailable) {
		return err
	}
	return &startError{err}
}

type startError struct{ err error }

var byItself = strings.NewReplacer("; no restart is needed", "", ", it goes on by itself", "", ": it goes on by itself once the database is back", "")

func (e *startError) Error() string {
	return byItself.Replace(e.err.Error()) + ". Start Hookline again afterwards"
}

func (e *startError) Unwrap() error { return e.err }

// Times of tend.
const (
	tendEvery = 2 * time.Second
	probeMost = time.Second
)

// tend tries a journal that could not be written, as a daemon that is not ready
// may get nothing more to write.
func (a *App) tend(ctx context.Context) {
	t := time.NewTicker(tendEvery)
	defer t.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-t.C:
		}
		if a.store.Unavailable() != nil {
			ctx, cancel := context.WithTimeout(ctx, probeMost)
			_ = a.store.Probe(ctx) // it is logged, and shows in Unavailable
			cancel()
		}
	}
}

// ready is what /readyz asks: an event that cannot be kept is refused.
func (a *App) ready() error {
	if a.store == nil {
		return nil
	}
	if err := a.store.Live(); err != nil {
		return err
	}
	return a.store.Unavailable()
}

// guard ends what is under way when this daemon has lost the database for so long
// that others will take its deliveries over. An attempt that has begun has no end
// but its own timeout; its process has.
func (a *App) guard(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-a.store.Lease().Done():
		}
		if ctx.Err() != nil {
			return
		}
		a.log.Error("the journal's database cannot be reached for so long that other daemons take this one's deliveries over: its plugins are ended in the middle of what they do")
		a.killChildren()
		again := time.NewTicker(100 * time.Millisecond)
		for a.store.Live() != nil && ctx.Err() == nil {
			select {
			case <-again.C:
			case <-ctx.Done():
			}
		}
		again.Stop()
	}
}

// accept notes that a configuration is in force, with all that a start on it
// would read.
func (a *App) accept(ctx context.Context, g *generation) {
	a.recalled.Store(nil)
	if a.store == nil {
		return
	}
	set := journal.Set{
		Node: nodeName(g.config.Journal.Node), Revision: g.config.Revision,
		Config: g.config.Source, Scripts: map[string][]byte{}, Lookups: g.tables.Files(),
	}
	for _, r := range g.config.Routes {
		if script := g.scripts[r.Name]; script != nil {
			set.Scripts[r.Transform] = script.Source()
		}
	}
	if err := a.store.Accept(ctx, set); err != nil {
		a.log.Warn("the configuration could not be noted in the journal: a start with bad files cannot fall back on it", "error", err)
	}
}

// refused notes that a configuration was not taken.
func (a *App) refused(why error) {
	if a.store == nil || errors.Is(why, errStopping) {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), probeMost)
	defer cancel()
	if err := a.store.LoadRefused(ctx, why.Error()); err != nil {
		a.log.Warn("that a configuration was refused could not be noted in the journal", "error", err)
	}
}

// note is what /readyz says beside that the daemon is ready.
func (a *App) note() string {
	var notes []string
	if r := a.recalled.Load(); r != nil {
		notes = append(notes, "running on the configuration accepted on "+r.at.UTC().Format(time.RFC3339)+
			": the files on disk cannot be used, `hookline check` says why")
	}
	if held := a.observation.Load().quarantined(); len(held) > 0 {
		notes = append(notes, "in quarantine, so that their deliveries wait: "+strings.Join(held, ", "))
	}
	return strings.Join(notes, "; ")
}
