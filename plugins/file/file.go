// Package file is the transport to files of JSON Lines: one line for each message,
// on the disk before it is called delivered.
//
// Callers share what is slow. While one batch of lines is written and synced, the
// next collects, and becomes one write and one fsync.
package file

import (
	"context"
	_ "embed"
	"encoding/json"
	"errors"
	"log/slog"
	"os"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hookline/hookline/plugins/target"
	"github.com/hookline/hookline/plugins/transport"
)

//go:embed settings.schema.json
var schema []byte

const (
	idleAfter = 30 * time.Second // a file stays open that nothing is written to
	closeWait = 3 * time.Second  // Close waits for a disk that hangs
)

// Transport appends messages to files. Make it with [New].
type Transport struct {
	version  string
	sync     func(*os.File) error // tests only: fsync
	now      func() time.Time     // tests only
	idle     time.Duration
	settings *archive // nil until Configure

	mu      sync.Mutex
	writers map[string]*writer // by path
	closed  bool
	closing chan struct{}
	running sync.WaitGroup
}

// Option changes what [New] makes.
type Option func(*Transport)

// WithVersion sets the version that Describe tells.
func WithVersion(v string) Option {
	return func(t *Transport) { t.version = v }
}

// New returns a transport that waits for Configure.
func New(opts ...Option) *Transport {
	t := &Transport{
		version: "dev", sync: (*os.File).Sync, now: time.Now, idle: idleAfter,
		writers: make(map[string]*writer), closing: make(chan struct{}),
	}
	for _, opt := range opts {
		opt(t)
	}
	return t
}

// Describe implements [transport.Transport]. Idempotent is false: a file does not
// know what it holds. Exclusive is false where a lock on the file keeps the lines
// of several processes apart, so that a reload, or a second transport with the same
// path, does not have to wait.
func (t *Transport) Describe() transport.Description {
	return transport.Description{Name: "file", Version: t.version, Exclusive: !locks, Settings: slices.Clone(schema)}
}

// Configure implements [transport.Transport]. Its error joins one
// *[transport.SettingError] for each thing that is wrong. Nothing on the disk is
// looked at: a folder may be mounted later.
func (t *Transport) Configure(_ context.Context, settings json.RawMessage) error {
	if t.settings != nil {
		return errors.New("the file transport is configured already; new settings need a new process")
	}
	s, err := parseSettings(settings)
	if err != nil {
		return err
	}
	t.settings = s
	return nil
}

var (
	notConfigured = transport.Failed(transport.None, transport.TargetError, "the file transport is not configured")
	isClosed      = transport.Failed(transport.None, transport.TargetError, "the file transport is closed")
)

// The states of an entry. Whoever moves it out of queued decides whether the line
// may be in the file.
const (
	queued int32 = iota
	taken
	abandoned
)

// entry is a line on its way into a file.
type entry struct {
	state atomic.Int32
	line  []byte
	done  chan transport.Receipt // with room for one
}

// Deliver implements [transport.Transport]. A disk that hangs holds up a writer,
// but no caller beyond its deadline.
func (t *Transport) Deliver(ctx context.Context, m *transport.Message) (r transport.Receipt) {
	if t.settings == nil {
		return notConfigured
	}
	if ctx.Err() != nil {
		return target.Ended(ctx, transport.None, "before anything was written")
	}
	start, now := time.Now(), t.now()
	defer func() { r.TargetTook = time.Since(start) }()
	line, err := t.settings.line(m, now)
	if err != nil {
		return transport.Failed(transport.None, transport.RejectedByTarget, target.OneLine("nothing was written: "+err.Error()))
	}
	path := t.settings.path.expand(m, now)
	e := &entry{line: line, done: make(chan transport.Receipt, 1)}
	if !t.enqueue(path, e) {
		return isClosed
	}
	select {
	case r := <-e.done:
		return r
	case <-ctx.Done():
	}
	if e.state.CompareAndSwap(queued, abandoned) {
		t.forget(path, e)
		return target.Ended(ctx, transport.None, "waiting for the line before to reach the disk, "+path)
	}
	select {
	case r := <-e.done: // both at once
		return r
	default:
		return target.Ended(ctx, transport.Unknown, "waiting for the disk, "+path)
	}
}

// enqueue hands the entry to the path's writer, which it starts if there is none.
func (t *Transport) enqueue(path string, e *entry) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.closed {
		return false
	}
	w := t.writers[path]
	if w == nil {
		w = &writer{t: t, path: path, wake: make(chan struct{}, 1), out: appender{path: path, settings: t.settings, fsync: t.sync}}
		t.writers[path] = w
		t.running.Go(w.run)
	}
	w.queue = append(w.queue, e)
	select {
	case w.wake <- struct{}{}:
	default:
	}
	return true
}

// forget takes an entry that was given up out of its queue: while a disk hangs, those
// that come and give up would fill the memory.
func (t *Transport) forget(path string, e *entry) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if w := t.writers[path]; w != nil {
		if i := slices.Index(w.queue, e); i >= 0 {
			w.queue = slices.Delete(w.queue, i, i+1)
		}
	}
}

// Check implements [transport.Transport]: it makes and removes an empty file where
// the files are to be, and opens the file if there is only one and it exists.
func (t *Transport) Check(ctx context.Context) transport.Receipt {
	if t.settings == nil {
		return notConfigured
	}
	done := make(chan transport.Receipt, 1)
	t.mu.Lock()
	if t.closed {
		t.mu.Unlock()
		return isClosed
	}
	t.running.Go(func() { done <- t.settings.check() })
	t.mu.Unlock()
	select {
	case r := <-done:
		return r
	case <-ctx.Done():
		return target.Ended(ctx, transport.None, "waiting for the disk, "+t.settings.path.root)
	}
}

// Close writes what has been taken, and closes the files. A disk that hangs holds
// it up for a moment only, and the log says so: the process is about to end, and
// nobody was told that what is left is delivered.
func (t *Transport) Close() error {
	t.mu.Lock()
	if !t.closed {
		t.closed = true
		close(t.closing)
	}
	t.mu.Unlock()
	ended := make(chan struct{})
	go func() {
		t.running.Wait()
		close(ended)
	}()
	timer := time.NewTimer(closeWait)
	defer timer.Stop()
	select {
	case <-ended:
	case <-timer.C:
		slog.Warn("the disk does not answer; its files are left open", "folder", t.settings.path.root, "waited", closeWait)
	}
	return nil
}
