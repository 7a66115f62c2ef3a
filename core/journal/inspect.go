package journal

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/gofrs/flock"
	"github.com/jackc/pgx/v5"
	"github.com/pressly/goose/v3"
)

// Report is what [Inspect] found.
type Report struct {
	Kind   string // "sqlite", "postgres" or "memory"
	Where  string // the file, or the URL without its password
	Looked bool   // false: nothing is known but the address
	New    bool   // a start creates it
	Have   int64  // the version of its schema
	Know   int64  // the newest that this program knows; a start migrates to it
	Used   bool   // by a running daemon
	PID    int    // of that one, 0 if it is not known
}

// inspectWait bounds how long a database is waited for.
const inspectWait = 3 * time.Second

// Inspect looks whether Open would succeed, and changes nothing. A Postgres
// database is connected to only if connect is set. The error says what is wrong
// and what to do; the report is as far as it got.
func Inspect(ctx context.Context, o Options, connect bool) (Report, error) {
	ctx, cancel := context.WithTimeout(ctx, inspectWait)
	defer cancel()
	kind, rest, _ := strings.Cut(o.URL, ":")
	switch kind {
	case "memory":
		return Report{Kind: "memory", Looked: true, New: true}, nil
	case "sqlite":
		return inspectSQLite(ctx, rest)
	case "postgres", "postgresql":
		return inspectPostgres(ctx, o.URL, connect)
	}
	return Report{}, errors.New("journal: journal.url must begin with sqlite: or postgres://")
}

// newest is the version of the last migration.
func newest(folder string) (version int64) {
	files, _ := fs.Glob(migrations, "migrations/"+folder+"/*.sql")
	for _, name := range files {
		if n, err := goose.NumericComponent(filepath.Base(name)); err == nil {
			version = max(version, n)
		}
	}
	return version
}

// known refuses what Open would refuse.
func (r Report) known() error {
	if r.Have > r.Know {
		return &NewerSchemaError{Have: r.Have, Know: r.Know}
	}
	return nil
}

func inspectSQLite(ctx context.Context, path string) (Report, error) {
	r := Report{Kind: "sqlite", Where: path, Looked: true, Know: newest("sqlite")}
	dir := filepath.Dir(path)
	if info, err := os.Stat(dir); err != nil || !info.IsDir() {
		return r, fmt.Errorf("journal: folder %s does not exist: create it for the daemon's user, or change journal.url", dir)
	}
	if err := writable(dir); err != nil {
		return r, fmt.Errorf("journal: folder %s cannot be written by this user: the journal needs to put files there (%w)", dir, err)
	}
	info, err := os.Stat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		r.New = true
		return r, nil
	case err != nil:
		return r, fmt.Errorf("journal: %w", err)
	case !info.Mode().IsRegular():
		return r, fmt.Errorf("journal: %s is no file: change journal.url", path)
	}
	if err := writable(path); err != nil {
		return r, fmt.Errorf("journal: file %s cannot be written by this user (%w)", path, err)
	}
	r.Used, r.PID = userOf(path + ".lock")
	if info.Size() == 0 {
		r.New = true
		return r, nil
	}
	db, err := sql.Open("sqlite", readOnly(path, !r.Used))
	if err != nil {
		return r, sqliteError(err, path)
	}
	defer func() { _ = db.Close() }()
	var tables, ours int
	err = db.QueryRowContext(ctx, `select count(*), count(case when name in ('goose_db_version', 'events', 'deliveries', 'accepted') then 1 end)
		from sqlite_master where type = 'table'`).Scan(&tables, &ours)
	switch {
	case err != nil:
		return r, sqliteError(err, path)
	case tables == 0:
		r.New = true
		return r, nil
	case ours < 4:
		return r, fmt.Errorf("journal: %s is a database of SQLite and no journal of Hookline: change journal.url", path)
	}
	if err := db.QueryRowContext(ctx, "select coalesce(max(version_id), 0) from goose_db_version").Scan(&r.Have); err != nil {
		return r, sqliteError(err, path)
	}
	return r, r.known()
}

// userOf tells whether a daemon holds the lock file, and its pid if that is there.
func userOf(file string) (used bool, pid int) {
	text, err := os.ReadFile(file)
	if err != nil {
		return false, 0
	}
	pid, _ = strconv.Atoi(strings.TrimSpace(string(text)))
	if p, err := os.FindProcess(pid); pid > 0 && (err != nil || errors.Is(p.Signal(syscall.Signal(0)), os.ErrProcessDone)) {
		return false, 0 // without touching the lock: a daemon may start just now
	}
	l := flock.New(file, flock.SetFlag(os.O_RDONLY))
	free, err := l.TryRLock()
	_ = l.Close()
	if free || err != nil {
		return false, 0
	}
	return true, pid
}

func inspectPostgres(ctx context.Context, raw string, connect bool) (Report, error) {
	r := Report{Kind: "postgres", Where: redacted(raw), Know: newest("postgres")}
	config, err := pgx.ParseConfig(raw)
	if err != nil {
		return r, errPostgresURL
	}
	if !connect {
		return r, nil
	}
	config.ConnectTimeout = inspectWait
	conn, err := pgx.ConnectConfig(ctx, config)
	if err != nil {
		return r, postgresError(err, false)
	}
	defer drop(conn)
	r.Looked = true
	var made bool
	err = conn.QueryRow(ctx, "select to_regclass('goose_db_version') is not null and to_regclass('deliveries') is not null").Scan(&made)
	if err == nil && made {
		err = conn.QueryRow(ctx, "select coalesce(max(version_id), 0) from goose_db_version").Scan(&r.Have)
	}
	if err != nil {
		return r, postgresError(err, false)
	}
	r.New = !made
	return r, r.known()
}

// errPostgresURL has no cause: pgx's own text quotes the URL.
var errPostgresURL = errors.New("journal: journal.url is not a Postgres URL: write postgres://USER@HOST:PORT/DATABASE, with %-escapes for special characters of the password")
