// Package journal is the durable store: every event, its deliveries and their
// attempts, on SQLite (the default) or Postgres. It implements [core.Journal]
// and [core.Queue].
//
// All changes of a node go through one writer, which makes one transaction of
// what waits when it gets round to it. A lane's order is kept by one flag: of
// the deliveries of a lane that are open exactly one is its head, and only a
// head runs. What ends hands the flag on in the same transaction.
package journal

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/google/uuid"

	"github.com/hookline/hookline/core"
)

// Options say which journal to open.
type Options struct {
	// URL is "sqlite:PATH", "postgres://...", or "memory:" for tests.
	URL string
	// Node is this daemon's name for people; the host's name by default.
	Node string
	Log  *slog.Logger
	// MinFree is how many bytes the disk of a SQLite file should have free: it is
	// warned below.
	MinFree int64
	// Committed, if set, is told of each transaction of the writer: how long it
	// took and how many changes it held. It must not block.
	Committed func(took time.Duration, changes int)

	times times // for tests
}

// times are those of a node's life. Others take over at dead, by the database's
// clock; this node has stopped for sure before that, by its own.
type times struct {
	renew    time.Duration // between two signs of life
	renewMax time.Duration // one of them may take
	live     time.Duration // without a sign: no new attempts
	lease    time.Duration // without a sign: attempts are cancelled
	dead     time.Duration // without a sign: others take over
	disk     time.Duration // between two looks at the disk
	stop     time.Duration // Close
}

var usual = times{
	renew: 2 * time.Second, renewMax: 2 * time.Second, live: 8 * time.Second, lease: 12 * time.Second,
	dead: 15 * time.Second, disk: 30 * time.Second, stop: closeWait,
}

// Store is an open journal.
type Store struct {
	engine engine
	writer *writer
	times  times
	log    *slog.Logger
	node   string
	single bool   // no other node can use this journal
	file   string // of SQLite, or ""

	lease      lease
	onPromoted promotedFunc
	keyed      atomic.Int64 // keys written
	pruner     pruner
	disk       *diskWatch // nil if it is not looked at

	stop    chan struct{}
	routine sync.WaitGroup
	once    sync.Once
	closing error
}

var (
	_ core.Journal = (*Store)(nil)
	_ core.Queue   = (*Store)(nil)
)

// Open opens the journal, creates or migrates it, and registers this node. The
// error may be a *[LockedError] or a *[NewerSchemaError]. It never holds a
// password.
func Open(ctx context.Context, o Options) (*Store, error) {
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.Node == "" {
		o.Node, _ = os.Hostname()
	}
	if o.times == (times{}) {
		o.times = usual
	}
	s := &Store{times: o.times, log: o.Log, node: clean(o.Node), stop: make(chan struct{}), pruner: newPruner()}
	s.lease.init()
	kind, rest, _ := strings.Cut(o.URL, ":")
	var err error
	var file string
	switch kind {
	case "memory":
		s.engine, err = openSQLite(ctx, "", o.Log)
	case "sqlite":
		if rest == "" {
			return nil, errors.New("journal: journal.url names no file: write sqlite: and its path")
		}
		file = rest
		s.engine, err = openSQLite(ctx, rest, o.Log)
	case "postgres", "postgresql":
		s.engine, err = openPostgres(ctx, o.URL, o.Log)
	default:
		return nil, errors.New("journal: journal.url must begin with sqlite: or postgres://")
	}
	if err != nil {
		return nil, err
	}
	_, shared := s.engine.(*postgresEngine)
	s.single = !shared
	s.file = file
	s.writer = newWriter(s.engine, o.Log)
	s.writer.committed = o.Committed
	go s.writer.run()
	if err := s.register(ctx); err != nil {
		s.writer.close(0)
		return nil, errors.Join(err, s.engine.close())
	}
	if pg, ok := s.engine.(*postgresEngine); ok {
		s.routine.Go(func() { s.renew(pg) })
	}
	if file != "" && o.MinFree > 0 {
		d := &diskWatch{dir: filepath.Dir(file), min: o.MinFree, log: o.Log}
		s.disk = d
		d.look()
		s.routine.Go(func() { s.every(o.times.disk, d.look) })
	}
	return s, nil
}

// register makes this node known under a new owner id.
func (s *Store) register(ctx context.Context) error {
	id := uuid.Must(uuid.NewV7()).String()
	before := time.Now()
	start, older, err := s.auditBegins(ctx)
	if err != nil {
		return err
	}
	start.What = id
	err = s.writer.do(ctx, &op{
		name: "node", steps: []step{{q: qNodeInsert, args: []any{id, s.node}}},
		audit: func(t *trail) {
			t.add(start)
			if older != nil {
				t.add(older)
			}
		},
	})
	if err != nil {
		return fmt.Errorf("journal: this node cannot be registered: %w", err)
	}
	s.lease.begin(id, before)
	return nil
}

// Close writes what is pending, for a bounded time, and closes the journal.
func (s *Store) Close() error {
	s.once.Do(func() {
		close(s.stop)
		s.writer.close(s.times.stop)
		s.routine.Wait()
		s.lease.end()
		if pg, ok := s.engine.(*postgresEngine); ok {
			pg.leave(s.owner())
		}
		s.closing = s.engine.close()
	})
	return s.closing
}

func (s *Store) every(d time.Duration, f func()) {
	t := time.NewTicker(d)
	defer t.Stop()
	for {
		select {
		case <-t.C:
			f()
		case <-s.stop:
			return
		}
	}
}

// owner is the id that this node's running deliveries carry.
func (s *Store) owner() string { return s.lease.owner() }

func (s *Store) read(ctx context.Context, q query, args []any, each func(row)) error {
	return asTrouble(s.engine.read(ctx, q, args, each))
}

// diskWatch warns when the disk gets full, once, and says when it is over.
type diskWatch struct {
	dir string
	min int64
	log *slog.Logger
	low bool
}

func (d *diskWatch) look() {
	free, ok := freeBytes(d.dir)
	if !ok || (free < d.min) == d.low {
		return
	}
	d.low = free < d.min
	if d.low {
		d.log.Warn("the journal's disk is getting full: make room", "folder", d.dir, "free_bytes", free, "min_free_bytes", d.min)
	} else {
		d.log.Info("the journal's disk has room again", "folder", d.dir, "free_bytes", free)
	}
}

// redacted is the URL without its password.
func redacted(raw string) string {
	u, err := url.Parse(raw)
	if err != nil {
		return "journal.url"
	}
	return u.Redacted()
}
