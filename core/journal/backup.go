package journal

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"modernc.org/sqlite"
)

// Backup is a copy of a journal that was made and checked.
type Backup struct {
	File   string `json:"file"`
	Bytes  int64  `json:"bytes"`
	Events int64  `json:"events"`
	TookMS int64  `json:"took_ms"`
	// Audited is false for a journal of an older version, which is only read.
	Audited bool `json:"audited"`
}

// A copy is made in small steps with pauses: VACUUM INTO takes a core and the disk
// to itself, and events wait three times as long meanwhile.
const (
	copyPages   = 32 // of a step
	copyRest    = 6  // times a step's own time
	copySync    = 1  // steps: what is not on the disk yet, the writer waits for with its own sync
	copyRestMin = 2 * time.Millisecond
)

// Backup copies the journal to a new file, while it is used, and checks the copy.
// The writer does not wait for it; the -wal grows by what is written meanwhile.
func (s *Store) Backup(ctx context.Context, actor, file string) (*Backup, error) {
	switch e := s.engine.(type) {
	case *postgresEngine:
		return nil, postgresBackup(e.reader.pool.Config().ConnConfig, file)
	case *sqliteEngine:
		if e.path == "" {
			return nil, errors.New("journal: it is in memory: there is no file to copy")
		}
		b, err := copySQLite(ctx, e.path, readOnly(e.path, false), file)
		if err != nil {
			return nil, err
		}
		b.Audited = true
		return b, s.care(ctx, actor, "backup")
	}
	return nil, errors.ErrUnsupported
}

// BackupOffline copies the journal at a URL that no daemon uses.
func BackupOffline(ctx context.Context, o Options, actor, file string) (*Backup, error) {
	r, err := idle(ctx, o)
	if err != nil {
		return nil, err
	}
	if r.Kind == "postgres" {
		config, err := pgx.ParseConfig(o.URL)
		if err != nil {
			return nil, errPostgresURL
		}
		return nil, postgresBackup(config, file)
	}
	if r.Have < r.Know { // the backup from before an upgrade: it must not migrate
		return copySQLite(ctx, r.Where, readOnly(r.Where, true), file)
	}
	s, err := Open(ctx, o)
	if err != nil {
		return nil, err
	}
	b, err := s.Backup(ctx, actor, file)
	return b, errors.Join(err, s.Close())
}

// existing looks at the journal that o names, which has to be there. A Postgres database
// is connected to only if connect is set. The error wraps [ErrUnavailable].
func existing(ctx context.Context, o Options, connect bool) (Report, error) {
	r, err := Inspect(ctx, o, connect)
	switch {
	case err != nil:
	case r.Kind == "memory":
		err = errors.New("journal: it is in memory: there is nothing of it outside of the daemon")
	case r.New:
		err = fmt.Errorf("journal: there is none at %s: name one that is there", r.Where)
	}
	if err != nil {
		return r, unusable{err}
	}
	return r, nil
}

// idle looks at a journal that is there and that no daemon may use if it is a file.
func idle(ctx context.Context, o Options) (Report, error) {
	r, err := existing(ctx, o, false)
	if err == nil && r.Used {
		err = &LockedError{File: r.Where + ".lock", PID: r.PID}
	}
	return r, err
}

// care notes in the audit what an operator has done to the journal as a whole.
func (s *Store) care(ctx context.Context, actor, what string) error {
	err := s.writer.do(ctx, &op{name: what, audit: func(t *trail) {
		t.add(&AuditEntry{Kind: auditCare, What: what, Actor: clean(actor)})
	}})
	if err != nil {
		return fmt.Errorf("the %s is made, but could not be noted in the journal: %w", what, err)
	}
	return nil
}

// postgresBackup tells what to use instead.
func postgresBackup(c *pgx.ConnConfig, file string) error {
	return fmt.Errorf("journal: it is in Postgres, which has a tool of its own for that: pg_dump --format=custom --host=%s --port=%d --username=%s --file=%s %s",
		shell(c.Host), c.Port, shell(c.User), shell(file), shell(c.Database))
}

// shell quotes a word for a command line, if it needs that.
func shell(word string) string {
	plain := strings.Trim(word, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_./:@%") == ""
	if plain && word != "" {
		return word
	}
	return "'" + strings.ReplaceAll(word, "'", `'\''`) + "'"
}

// readOnly is how a file is opened to be read. Nobody uses an idle one: without
// immutable SQLite would make a -wal and a -shm to read it.
func readOnly(path string, idle bool) (dsn string) {
	v := url.Values{"mode": {"ro"}, "_pragma": {fmt.Sprintf("busy_timeout(%d)", busyWait.Milliseconds())}}
	if _, err := os.Stat(path + "-wal"); idle && errors.Is(err, fs.ErrNotExist) {
		v.Set("immutable", "1")
	}
	if absolute, err := filepath.Abs(path); err == nil {
		path = absolute
	}
	return fileURI(path) + "?" + v.Encode()
}

// copySQLite copies a database as it is at one moment. The file appears when it is
// whole, on the disk and checked.
func copySQLite(ctx context.Context, path, dsn, file string) (_ *Backup, err error) {
	began := time.Now()
	if !filepath.IsAbs(file) {
		return nil, fmt.Errorf("backup %s: write the whole path, from the root", file)
	}
	if _, err := os.Lstat(file); err == nil {
		return nil, fmt.Errorf("backup %s: there is such a file, and it is not overwritten: name another", file)
	}
	connector, err := sqlite.NewConnector(dsn)
	if err != nil {
		return nil, sqliteError(err, path)
	}
	conn, err := connector.Connect(ctx)
	if err != nil {
		return nil, sqliteError(err, path)
	}
	defer func() { _ = conn.Close() }()
	// One moment, until the connection is closed: a copy would begin anew each time
	// that another connection has written.
	if _, err := conn.(driver.ExecerContext).ExecContext(ctx, "begin", nil); err != nil {
		return nil, sqliteError(err, path)
	}
	pages, err := pragmaOf(ctx, conn, "page_count")
	if err != nil {
		return nil, sqliteError(err, path)
	}
	size, err := pragmaOf(ctx, conn, "page_size")
	if err != nil {
		return nil, sqliteError(err, path)
	}
	if err := room(filepath.Dir(file), pages*size); err != nil {
		return nil, fmt.Errorf("backup %s: %w", file, err)
	}

	part := file + ".part"
	f, err := os.OpenFile(part, os.O_RDWR|os.O_CREATE|os.O_EXCL, fileMode)
	if errors.Is(err, fs.ErrExist) {
		return nil, fmt.Errorf("backup %s: %s is there: another backup is under way, or one was cut off and the file is to be removed", file, part)
	}
	if err != nil {
		return nil, fmt.Errorf("backup %s: %w: the daemon's user must be able to write there", file, err)
	}
	defer func() {
		_ = f.Close()
		if err != nil {
			_ = os.Remove(part)
		}
	}()
	if err := errors.Join(f.Chmod(fileMode), copyPaged(ctx, conn, f)); err != nil {
		return nil, fmt.Errorf("backup %s: %w", file, err)
	}
	if err := f.Sync(); err != nil {
		return nil, fmt.Errorf("backup %s: %w", file, err)
	}
	b := &Backup{File: file}
	if b.Events, err = checkCopy(ctx, part); err != nil {
		return nil, fmt.Errorf("backup %s: %w", file, err)
	}
	info, err := f.Stat()
	if err == nil {
		err = publish(part, file)
	}
	if err != nil {
		return nil, fmt.Errorf("backup %s: %w", file, err)
	}
	b.Bytes, b.TookMS = info.Size(), time.Since(began).Milliseconds()
	return b, nil
}

// copyPaged copies what the connection sees. The last of it is synced by the caller.
func copyPaged(ctx context.Context, conn driver.Conn, to *os.File) error {
	b, err := conn.(interface {
		NewBackup(uri string) (*sqlite.Backup, error)
	}).NewBackup(fileURI(to.Name()) + "?" + url.Values{"_pragma": {"synchronous(OFF)", "journal_mode(OFF)"}}.Encode())
	if err != nil {
		return err
	}
	for n := 1; ; n++ {
		began := time.Now()
		more, err := b.Step(copyPages)
		if err == nil && n%copySync == 0 {
			err = to.Sync()
		}
		if err == nil && more {
			err = pause(ctx, max(copyRestMin, copyRest*time.Since(began)))
		}
		if err != nil {
			_ = b.Finish()
			return err
		}
		if !more {
			return b.Finish()
		}
	}
}

// checkCopy reads all of a file that nobody uses and returns how many events it has.
func checkCopy(ctx context.Context, path string) (events int64, err error) {
	db, err := sql.Open("sqlite", fileURI(path)+"?mode=ro&immutable=1")
	if err != nil {
		return 0, err
	}
	defer func() { _ = db.Close() }()
	var verdict string
	if err := db.QueryRowContext(ctx, "pragma quick_check(1)").Scan(&verdict); err != nil {
		return 0, err
	}
	if verdict != "ok" {
		return 0, fmt.Errorf("the copy is not sound (%s): look at the disk, and at the journal itself", oneLine(verdict))
	}
	return events, db.QueryRowContext(ctx, "select count(*) from events").Scan(&events)
}

// publish gives a finished file its name, unless that is taken by now.
func publish(part, file string) error {
	err := os.Link(part, file)
	switch {
	case err == nil:
		err = os.Remove(part)
	case errors.Is(err, fs.ErrExist):
		return err
	default: // a disk without links
		if _, there := os.Lstat(file); there == nil {
			return fs.ErrExist
		}
		err = os.Rename(part, file)
	}
	if err == nil {
		syncFolder(filepath.Dir(file))
	}
	return err
}

// syncFolder makes a new name last, where a system can.
func syncFolder(dir string) {
	if f, err := os.Open(dir); err == nil {
		_ = f.Sync()
		_ = f.Close()
	}
}

// room refuses what would fill the disk.
func room(dir string, bytes int64) error {
	if info, err := os.Stat(dir); err != nil || !info.IsDir() {
		return fmt.Errorf("folder %s does not exist: make it, or name another", dir)
	}
	if free, known := freeBytes(dir); known && free < bytes {
		return fmt.Errorf("it takes %d bytes, and the disk of %s has %d free: make room, or name a file on another disk", bytes, dir, free)
	}
	return nil
}

// pragmaOf reads a number.
func pragmaOf(ctx context.Context, conn driver.Conn, name string) (int64, error) {
	rows, err := conn.(driver.QueryerContext).QueryContext(ctx, "select * from pragma_"+name, nil)
	if err != nil {
		return 0, err
	}
	defer func() { _ = rows.Close() }()
	values := make([]driver.Value, len(rows.Columns()))
	if err := rows.Next(values); err != nil {
		return 0, fmt.Errorf("pragma %s: %w", name, err)
	}
	return row{values[0]}.int(0), nil
}

// Vacuumed tells what a vacuum came to. Bytes are 0 where the database frees its
// own disk.
type Vacuumed struct {
	Engine string `json:"engine"`
	Before int64  `json:"bytes_before,omitempty"`
	After  int64  `json:"bytes_after,omitempty"`
}

// Vacuum gives the disk back what has been pruned. A file of SQLite must be used
// by no daemon; in Postgres autovacuum keeps the tables in order, and this does it
// now, beside the daemons.
func Vacuum(ctx context.Context, o Options, actor string) (*Vacuumed, error) {
	r, err := idle(ctx, o)
	if err != nil {
		return nil, err
	}
	v := &Vacuumed{Engine: r.Kind}
	if r.Kind == "postgres" {
		if r, err = existing(ctx, o, true); err != nil {
			return nil, err
		}
	}
	if r.Have < r.Know {
		return nil, unusable{fmt.Errorf("journal: its schema has version %d, and this Hookline brings it to %d at its start: start it once, then vacuum", r.Have, r.Know)}
	}
	if r.Kind == "postgres" {
		err = vacuumPostgres(ctx, o.URL)
	} else {
		err = vacuumSQLite(ctx, r.Where, v)
	}
	if err != nil {
		return nil, err
	}
	s, err := Open(ctx, o)
	if err != nil {
		return v, err
	}
	return v, errors.Join(s.care(ctx, actor, "vacuum"), s.Close())
}

// vacuumSQLite puts a compact copy in the place of the file.
func vacuumSQLite(ctx context.Context, path string, v *Vacuumed) (err error) {
	if path, err = filepath.Abs(path); err != nil {
		return fmt.Errorf("journal: %w", err)
	}
	e := &sqliteEngine{path: path, dsn: fileURI(path) + "?" + pragmas(true)}
	if err := e.takeLock(); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, e.close()) }()
	old, err := os.Stat(path)
	if err != nil {
		return fmt.Errorf("journal: %w", err)
	}
	part := path + ".vacuum"
	if err := os.Remove(part); err != nil && !errors.Is(err, fs.ErrNotExist) { // of one that was cut off
		return fmt.Errorf("journal: %w", err)
	}
	f, err := os.OpenFile(part, os.O_RDWR|os.O_CREATE|os.O_EXCL, fileMode)
	if err != nil {
		return fmt.Errorf("journal: vacuum: %w", err)
	}
	defer func() {
		_ = f.Close()
		if err != nil {
			_ = os.Remove(part)
		}
	}()
	if err := errors.Join(f.Chmod(fileMode), sameOwner(f, old)); err != nil {
		return fmt.Errorf("journal: vacuum: %w", err)
	}
	if v.Before, err = vacuumInto(ctx, e, part); err != nil {
		return err
	}
	if _, err := checkCopy(ctx, part); err != nil {
		return fmt.Errorf("journal: vacuum: %w", err)
	}
	if err := f.Sync(); err != nil {
		return fmt.Errorf("journal: vacuum: %w", err)
	}
	now, err := f.Stat()
	if err != nil {
		return fmt.Errorf("journal: vacuum: %w", err)
	}
	if wal, err := os.Stat(path + "-wal"); err == nil && wal.Size() > 0 {
		return fmt.Errorf("journal: another program has %s open: end it (a backup, the sqlite3 shell) and try again", path)
	}
	if err := os.Rename(part, path); err != nil {
		return fmt.Errorf("journal: vacuum: %w", err)
	}
	syncFolder(filepath.Dir(path))
	v.After = now.Size()
	return nil
}

// vacuumInto writes the compact copy, and leaves nothing in the -wal.
func vacuumInto(ctx context.Context, e *sqliteEngine, part string) (before int64, err error) {
	db, err := sql.Open("sqlite", e.dsn)
	if err != nil {
		return 0, sqliteError(err, e.path)
	}
	db.SetMaxOpenConns(1)
	defer func() { err = errors.Join(err, db.Close()) }()
	var pages, free, size int64
	err = db.QueryRowContext(ctx, "select page_count, freelist_count, page_size from pragma_page_count, pragma_freelist_count, pragma_page_size").
		Scan(&pages, &free, &size)
	if err != nil {
		return 0, sqliteError(err, e.path)
	}
	if err := room(filepath.Dir(part), (pages-free)*size); err != nil {
		return 0, fmt.Errorf("journal: vacuum: %w", err)
	}
	_, err = db.ExecContext(ctx, "vacuum into '"+strings.ReplaceAll(part, "'", "''")+"'")
	return pages * size, sqliteError(err, e.path)
}

// tables are those of the journal.
var tables = []string{
	"events", "answers", "deliveries", "messages", "snapshots", "attempts", "acts", "keys", "audit", "documents", "accepted", "nodes", "pruned", "quarantines",
}

func vacuumPostgres(ctx context.Context, raw string) error {
	conn, err := connectPostgres(ctx, raw, 0)
	if err != nil {
		return err
	}
	defer drop(conn)
	for _, table := range tables {
		if _, err := conn.Exec(ctx, "vacuum (analyze) "+table); err != nil {
			return postgresError(err, false)
		}
	}
	return nil
}

// connectPostgres makes a connection whose statements may take as long as limit; 0:
// as they like.
func connectPostgres(ctx context.Context, raw string, limit time.Duration) (*pgx.Conn, error) {
	config, err := pgx.ParseConfig(raw)
	if err != nil {
		return nil, errPostgresURL
	}
	return dialPostgres(ctx, config, limit)
}

func dialPostgres(ctx context.Context, config *pgx.ConnConfig, limit time.Duration) (*pgx.Conn, error) {
	config.ConnectTimeout = pgTimeout
	config.RuntimeParams["application_name"] = "hookline"
	config.RuntimeParams["statement_timeout"] = strconv.FormatInt(limit.Milliseconds(), 10)
	conn, err := pgx.ConnectConfig(ctx, config)
	if err != nil {
		return nil, postgresError(err, false)
	}
	return conn, nil
}
