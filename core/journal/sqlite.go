package journal

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/gofrs/flock"
	"modernc.org/sqlite"
	sqlite3 "modernc.org/sqlite/lib"
)

const (
	busyWait      = time.Second
	readers       = 4
	checkpointMax = 10000    // pages of the WAL, 40 MB
	walKept       = 64 << 20 // of what it has grown to while a backup held it
	cacheKB       = 16384    // of the writer
	fileMode      = 0o600
)

// sqliteEngine is a journal in one file, or in memory.
type sqliteEngine struct {
	path string // "" in memory
	dsn  string
	log  *slog.Logger
	held *flock.Flock

	// Of the writer's goroutine alone:
	conn                    driver.Conn
	stmts                   map[query]*sqliteStmt
	begin, commit, rollback driver.Stmt
	named                   []driver.NamedValue
	file                    fs.FileInfo // the one that is open
	chain                   *chain
	broken                  bool // must be opened again before it is used

	mu   sync.RWMutex
	pool *sql.DB // of the readers
}

type sqliteStmt struct {
	driver.Stmt
	order []int
}

var memories struct {
	sync.Mutex
	n int
}

func init() {
	// As SQLite's own build does where there is one: the time stamps that fsync
	// writes besides are of no use here. An error means that there is none.
	_, _ = sqlite.Fdatasync(true)
}

func openSQLite(ctx context.Context, path string, log *slog.Logger) (_ *sqliteEngine, err error) {
	e := &sqliteEngine{path: path, log: log}
	defer func() {
		if err != nil {
			_ = e.close()
		}
	}()
	if path == "" {
		memories.Lock()
		memories.n++
		name := fmt.Sprintf("file:/hookline-%d?vfs=memdb", memories.n)
		memories.Unlock()
		e.dsn = name + "&" + pragmas(false)
		return e, e.start(ctx, true)
	}
	if path, err = filepath.Abs(path); err != nil {
		return nil, fmt.Errorf("journal: %w", err)
	}
	e.path, e.dsn = path, fileURI(path)+"?"+pragmas(true)
	dir := filepath.Dir(path)
	if info, err := os.Stat(dir); err != nil || !info.IsDir() {
		return nil, fmt.Errorf("journal: folder %s does not exist: create it for the daemon's user, or change journal.url", dir)
	}
	if err := e.takeLock(); err != nil {
		return nil, err
	}
	return e, e.start(ctx, true)
}

// fileURI is SQLite's spelling of a path that may hold any character.
func fileURI(path string) string {
	path = filepath.ToSlash(path)
	if !strings.HasPrefix(path, "/") {
		path = "/" + path // C:/...
	}
	u := url.URL{Scheme: "file", Path: path}
	return u.String()
}

func pragmas(file bool) string {
	v := url.Values{}
	add := func(format string, args ...any) { v.Add("_pragma", fmt.Sprintf(format, args...)) }
	add("busy_timeout(%d)", busyWait.Milliseconds())
	if file {
		add("journal_mode(WAL)")
		add("synchronous(FULL)")
		add("wal_autocheckpoint(%d)", checkpointMax)
		add("journal_size_limit(%d)", walKept)
		add("secure_delete(ON)") // what is pruned is overwritten, and not just free
	}
	add("cache_size(-%d)", cacheKB)
	add("temp_store(MEMORY)")
	return v.Encode()
}

// takeLock makes this daemon the only one. SQLite would let two of them write in
// turn, and each would take the other's running deliveries for orphans.
func (e *sqliteEngine) takeLock() error {
	file := e.path + ".lock"
	l := flock.New(file, flock.SetFlag(os.O_CREATE|os.O_RDWR), flock.SetPermissions(fileMode))
	ok, err := l.TryLock()
	if err != nil {
		return fmt.Errorf("journal: lock file %s: %w: the daemon's user must be able to write there", file, err)
	}
	if !ok {
		_ = l.Close()
		text, _ := os.ReadFile(file)
		pid, _ := strconv.Atoi(strings.TrimSpace(string(text)))
		return &LockedError{File: file, PID: pid}
	}
	e.held = l
	// For the message of the other daemon only. (Windows lets nobody write to a
	// locked file.)
	_ = os.WriteFile(file, []byte(strconv.Itoa(os.Getpid())+"\n"), fileMode)
	return nil
}

// start opens the database. Only the first time may it be a new one.
func (e *sqliteEngine) start(ctx context.Context, first bool) error {
	fresh := e.path == ""
	if e.path != "" {
		// SQLite gives -wal and -shm the mode of the file.
		f, err := os.OpenFile(e.path, os.O_RDWR|os.O_CREATE|os.O_EXCL, fileMode)
		switch {
		case err == nil && !first:
			_ = f.Close()
			_ = os.Remove(e.path)
			return &trouble{why: "file " + e.path + " is gone: put it back, or restart Hookline to begin a new journal", reopen: true}
		case err == nil:
			fresh = true
			err = f.Chmod(fileMode)
			if err = errors.Join(err, f.Close()); err != nil {
				return fmt.Errorf("journal: file %s: %w", e.path, err)
			}
		case !errors.Is(err, fs.ErrExist):
			return fmt.Errorf("journal: file %s cannot be created: %w", e.path, err)
		}
	}
	connector, err := sqlite.NewConnector(e.dsn)
	if err != nil {
		return sqliteError(err, e.path)
	}
	if e.conn, err = connector.Connect(ctx); err != nil {
		return sqliteError(err, e.path)
	}
	if e.path != "" {
		if e.file, err = os.Stat(e.path); err != nil {
			return sqliteError(err, e.path)
		}
	}
	read, err := sql.Open("sqlite", e.dsn)
	if err != nil {
		return sqliteError(err, e.path)
	}
	read.SetMaxOpenConns(readers)
	read.SetMaxIdleConns(readers)
	e.mu.Lock()
	e.pool = read
	e.mu.Unlock()
	if err := migrateSQLite(ctx, read, e.path, fresh, e.log); err != nil {
		return sqliteError(err, e.path)
	}
	return e.prepare()
}

func (e *sqliteEngine) prepare() error {
	for text, into := range map[string]*driver.Stmt{
		"begin immediate": &e.begin, "commit": &e.commit, "rollback": &e.rollback,
	} {
		st, err := e.conn.Prepare(text)
		if err != nil {
			return sqliteError(err, e.path)
		}
		*into = st
	}
	e.stmts = make(map[query]*sqliteStmt, len(queries))
	for q, text := range queries {
		text, order := positional(sqliteDialect.spell(text))
		st, err := e.conn.Prepare(text)
		if err != nil {
			return sqliteError(fmt.Errorf("query %q: %w", q, err), e.path)
		}
		e.stmts[q] = &sqliteStmt{Stmt: st, order: order}
	}
	return nil
}

// shut closes what start has opened.
func (e *sqliteEngine) shut() error {
	var errs []error
	for _, st := range e.stmts {
		errs = append(errs, st.Close())
	}
	for _, st := range []driver.Stmt{e.begin, e.commit, e.rollback} {
		if st != nil {
			errs = append(errs, st.Close())
		}
	}
	e.stmts, e.begin, e.commit, e.rollback = nil, nil, nil, nil
	e.mu.Lock()
	read := e.pool
	e.pool = nil
	e.mu.Unlock()
	if read != nil {
		errs = append(errs, read.Close())
	}
	if e.conn != nil {
		errs = append(errs, e.conn.Close()) // the last one: it checkpoints
		e.conn = nil
	}
	return errors.Join(errs...)
}

func (e *sqliteEngine) close() error {
	err := e.shut()
	if e.held != nil {
		// The file stays: to remove it would let a third daemon lock a new one
		// while a second waits on this one.
		err = errors.Join(err, e.held.Close())
		e.held = nil
	}
	return err
}

func (e *sqliteEngine) scripts() bool { return true }

func (e *sqliteEngine) alone(context.Context, *op) error { panic("journal: scripts are batched") }

// batch implements engine.
func (e *sqliteEngine) batch(ops []*op) (err error) {
	if err := e.ready(); err != nil {
		return err
	}
	ctx := context.Background()
	if err := e.plain(ctx, e.begin); err != nil {
		return e.trouble(err, false)
	}
	for _, o := range ops {
		o.err = nil
		if o.reset != nil {
			o.reset()
		}
		if err := e.run(o); err != nil {
			// After some errors SQLite has rolled back by itself.
			_ = e.plain(ctx, e.rollback)
			return e.trouble(err, false)
		}
	}
	next, err := e.audited(ops)
	if err != nil {
		_ = e.plain(ctx, e.rollback)
		return e.trouble(err, false)
	}
	if err := e.plain(ctx, e.commit); err != nil {
		_ = e.plain(ctx, e.rollback)
		e.chain = nil // whether its row was written is not known
		return e.trouble(err, true)
	}
	e.chain = next
	return nil
}

// audited writes the batch's row of the audit.
func (e *sqliteEngine) audited(ops []*op) (*chain, error) {
	c := e.chain
	if c == nil {
		c = newChain()
	}
	t := trail{}
	for _, o := range ops {
		if o.audit != nil && o.err == nil {
			o.audit(&t)
		}
	}
	args, next, err := t.finish(c, e.do)
	if err != nil || args == nil {
		return c, err
	}
	return next, e.do(step{q: qAuditInsert, args: args})
}

func (e *sqliteEngine) plain(ctx context.Context, st driver.Stmt) error {
	_, err := st.(driver.StmtExecContext).ExecContext(ctx, nil)
	return err
}

func (e *sqliteEngine) run(o *op) error {
	if o.script != nil {
		err := o.script(sqliteTx{e})
		if isSQLite(err) || troubleOf(err) != nil {
			return err
		}
		o.err = err
		return nil
	}
	for i := range o.steps {
		if err := e.do(o.steps[i]); err != nil {
			return err
		}
	}
	return nil
}

func isSQLite(err error) bool {
	var se *sqlite.Error
	return errors.As(err, &se)
}

// ready opens the database again if that is what it takes.
func (e *sqliteEngine) ready() error {
	if e.path != "" && !e.broken {
		now, err := os.Stat(e.path)
		e.broken = err != nil || !os.SameFile(now, e.file)
	}
	if !e.broken {
		return nil
	}
	wal, _ := os.Stat(e.path + "-wal")
	_ = e.shut()
	if err := e.asideWAL(wal); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(context.Background(), 3*busyWait)
	defer cancel()
	if err := e.start(ctx, false); err != nil {
		_ = e.shut()
		return e.trouble(err, false)
	}
	e.broken = false
	e.chain = nil // what it followed may be in another file
	return nil
}

// asideWAL moves a -wal away that was left by a file that is no longer the one at
// the path: SQLite would take it for the new one's, and make a mess of both.
func (e *sqliteEngine) asideWAL(ours fs.FileInfo) error {
	now, _ := os.Stat(e.path)
	left, _ := os.Stat(e.path + "-wal")
	if now == nil || left == nil || e.file == nil || ours == nil || os.SameFile(now, e.file) || !os.SameFile(left, ours) {
		return nil
	}
	aside := fmt.Sprintf("%s-wal.replaced-%d", e.path, time.Now().Unix())
	if err := os.Rename(e.path+"-wal", aside); err != nil {
		return &trouble{why: e.path + "-wal belongs to the file that was there before: move it away", err: err}
	}
	e.log.Warn("the journal's file was replaced: what the old one had not yet taken over was moved away", "file", aside)
	return nil
}

// trouble explains an error of SQLite.
func (e *sqliteEngine) trouble(err error, commit bool) error {
	err = sqliteError(err, e.path)
	if t := troubleOf(err); t != nil {
		t.unsure = t.unsure || commit && t.reopen
		e.broken = e.broken || t.reopen && e.path != ""
	}
	return err
}

// sqliteTx is the transaction of the writer, which has no rivals to lock out.
type sqliteTx struct{ *sqliteEngine }

func (sqliteTx) lock([]string) error { return nil }

// do runs one statement.
func (e *sqliteEngine) do(s step) error {
	if s.when != nil && !s.when() {
		return nil
	}
	st := e.stmts[s.q]
	e.named = e.named[:0]
	now := time.Now().UnixMicro()
	for i, n := range st.order {
		v := driver.NamedValue{Ordinal: i + 1, Value: now}
		if n >= 0 {
			v.Value = s.args[n]
		}
		e.named = append(e.named, v)
	}
	ctx := context.Background()
	if s.row == nil || s.did != nil {
		res, err := st.Stmt.(driver.StmtExecContext).ExecContext(ctx, e.named)
		if err != nil || s.did == nil {
			return err
		}
		id, errID := res.LastInsertId()
		changed, errChanged := res.RowsAffected()
		s.did(id, changed, time.UnixMicro(now).UTC())
		return errors.Join(errID, errChanged)
	}
	rows, err := st.Stmt.(driver.StmtQueryContext).QueryContext(ctx, e.named)
	if err != nil {
		return err
	}
	// All rows are read: what a statement returns it does as it is stepped.
	values := make([]driver.Value, len(rows.Columns()))
	for {
		if err := rows.Next(values); err != nil {
			if errors.Is(err, io.EOF) {
				err = nil
			}
			return errors.Join(err, rows.Close())
		}
		r := make(row, len(values))
		for i, v := range values {
			r[i] = v
		}
		s.row(r)
	}
}

// read implements engine.
func (e *sqliteEngine) read(ctx context.Context, q query, args []any, each func(row)) error {
	e.mu.RLock()
	pool := e.pool
	e.mu.RUnlock()
	if pool == nil {
		return &trouble{why: "its file is being opened again: try again in a moment"}
	}
	text, order := positional(sqliteDialect.spell(textOf(q)))
	given := make([]any, len(order))
	for i, n := range order {
		if n < 0 {
			given[i] = time.Now().UnixMicro()
		} else {
			given[i] = args[n]
		}
	}
	return sqliteError(readRows(ctx, pool, text, given, each), e.path)
}

// snapshot implements engine. A deferred transaction sees what its first statement
// saw.
func (e *sqliteEngine) snapshot(ctx context.Context, f func(snapshot) error) error {
	e.mu.RLock()
	pool := e.pool
	e.mu.RUnlock()
	if pool == nil {
		return &trouble{why: "its file is being opened again: try again in a moment"}
	}
	t, err := pool.BeginTx(ctx, &sql.TxOptions{ReadOnly: true})
	if err != nil {
		return sqliteError(err, e.path)
	}
	defer func() { _ = t.Rollback() }()
	return sqliteError(f(func(text string, each func(row)) error { return readRows(ctx, t, text, nil, each) }), e.path)
}

// querier is a pool or a transaction.
type querier interface {
	QueryContext(ctx context.Context, query string, args ...any) (*sql.Rows, error)
}

func readRows(ctx context.Context, pool querier, text string, args []any, each func(row)) error {
	rows, err := pool.QueryContext(ctx, text, args...)
	if err != nil {
		return err
	}
	defer func() { _ = rows.Close() }()
	columns, err := rows.Columns()
	if err != nil {
		return err
	}
	for rows.Next() {
		r := make(row, len(columns))
		into := make([]any, len(columns))
		for i := range r {
			into[i] = &r[i]
		}
		if err := rows.Scan(into...); err != nil {
			return err
		}
		each(r)
	}
	return rows.Err()
}

// sqliteError explains an error, unless it is about what was asked.
func sqliteError(err error, path string) error {
	var se *sqlite.Error
	if !errors.As(err, &se) {
		return err
	}
	if troubleOf(err) != nil {
		return err
	}
	if path == "" {
		path = "in memory"
	}
	t := &trouble{err: err}
	switch se.Code() & 0xff {
	case sqlite3.SQLITE_CONSTRAINT, sqlite3.SQLITE_TOOBIG, sqlite3.SQLITE_MISMATCH, sqlite3.SQLITE_RANGE:
		return err
	case sqlite3.SQLITE_FULL:
		t.why = "the disk of " + path + " is full: make room, it goes on by itself"
	case sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED:
		t.why = path + " is locked by another program: end what has it open (a backup, the sqlite3 shell)"
	case sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB:
		t.why = path + " is corrupt: move it away together with its -wal and -shm files, and put a backup in its place; no restart is needed"
		t.reopen = true
	case sqlite3.SQLITE_READONLY, sqlite3.SQLITE_PERM:
		t.why = path + " cannot be written: let the daemon's user write the file and its folder, and look whether the disk is mounted read-only"
		t.reopen = true
	case sqlite3.SQLITE_CANTOPEN:
		t.why = path + " cannot be opened: let the daemon's user read and write the file and its folder"
		t.reopen = true
	case sqlite3.SQLITE_IOERR:
		t.why = "the disk of " + path + " fails: look at the system's log for errors of the disk"
		t.reopen = true
	default:
		t.why = "SQLite cannot use " + path
		t.reopen = true
	}
	return t
}
