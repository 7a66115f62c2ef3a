package journal

import (
	"bytes"
	"context"
	"crypto/sha256"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
)

// Reader reads a journal that it does not open for writing: one that a daemon
// uses, or a copy.
type Reader struct {
	engine interface {
		snapshot(ctx context.Context, f func(snapshot) error) error
		close() error
	}
}

// OpenReader opens a journal to look at it. Nothing in it is changed. The error
// wraps [ErrUnavailable].
func OpenReader(ctx context.Context, rawURL string) (*Reader, error) {
	r, err := openReader(ctx, rawURL)
	if err != nil {
		return nil, unusable{err}
	}
	return r, nil
}

func openReader(ctx context.Context, rawURL string) (*Reader, error) {
	kind, path, _ := strings.Cut(rawURL, ":")
	switch kind {
	case "sqlite":
		if info, err := os.Stat(path); err != nil || !info.Mode().IsRegular() {
			return nil, fmt.Errorf("journal: there is no file %s: write sqlite: and the path of a journal", path)
		}
		path, err := filepath.Abs(path)
		if err != nil {
			return nil, fmt.Errorf("journal: %w", err)
		}
		query := url.Values{"mode": {"ro"}, "_pragma": {fmt.Sprintf("busy_timeout(%d)", busyWait.Milliseconds())}}
		if _, err := os.Stat(path + "-wal"); errors.Is(err, os.ErrNotExist) {
			if used, _ := userOf(path + ".lock"); !used {
				query.Set("immutable", "1") // or SQLite would want to make -wal and -shm to read it
			}
		}
		db, err := sql.Open("sqlite", fileURI(path)+"?"+query.Encode())
		if err != nil {
			return nil, sqliteError(err, path)
		}
		db.SetMaxOpenConns(1)
		e := &sqliteEngine{path: path, pool: db, log: slog.New(slog.DiscardHandler)}
		return &Reader{e}, readable(ctx, e, "select version_id, is_applied from goose_db_version order by id")
	case "postgres", "postgresql":
		config, err := pgx.ParseConfig(rawURL)
		if err != nil {
			return nil, errors.New("journal: that is not a Postgres URL: write postgres://USER@HOST:PORT/DATABASE")
		}
		config.ConnectTimeout = pgTimeout
		e := &postgresEngine{}
		if e.reader, err = newPGPool(config, 1); err != nil {
			return nil, postgresError(err, false)
		}
		return &Reader{e}, readable(ctx, e, "select version_id, is_applied::int from goose_db_version order by id")
	}
	return nil, errors.New("journal: write sqlite:PATH, or a URL that begins with postgres://")
}

// readable refuses a journal whose schema is not today's.
func readable(ctx context.Context, e interface {
	snapshot(ctx context.Context, f func(snapshot) error) error
	close() error
}, text string) error {
	var have int64
	err := e.snapshot(ctx, func(read snapshot) error {
		return read(text, func(r row) { have = r.int(0) })
	})
	switch know := newest("sqlite"); {
	case err != nil:
		err = fmt.Errorf("journal: it cannot be read, or is none: %w", err)
	case have > know:
		err = &NewerSchemaError{Have: have, Know: know}
	case have < know:
		err = fmt.Errorf("journal: its schema has version %d and this Hookline reads %d: start the daemon on it once, it migrates it", have, know)
	}
	if err != nil {
		return errors.Join(err, e.close())
	}
	return nil
}

// Close ends the reading.
func (r *Reader) Close() error { return r.engine.close() }

// Verify is [Store.Verify].
func (r *Reader) Verify(ctx context.Context) (v *Verification, err error) {
	err = r.engine.snapshot(ctx, func(read snapshot) error {
		v, err = verify(read)
		return err
	})
	return v, err
}

// Export is [Store.Export].
func (r *Reader) Export(ctx context.Context, w io.Writer, since, until time.Time) error {
	return r.engine.snapshot(ctx, func(read snapshot) error { return export(read, w, since, until) })
}

// Export writes the audit rows that were written since and before until, one JSON
// object each, the oldest first.
func (s *Store) Export(ctx context.Context, w io.Writer, since, until time.Time) error {
	return asTrouble(s.engine.snapshot(ctx, func(read snapshot) error { return export(read, w, since, until) }))
}

// exported is an audit row as it leaves the journal.
type exported struct {
	Chain   string            `json:"chain"`
	N       int64             `json:"n"`
	At      time.Time         `json:"at"`
	AtMicro int64             `json:"at_us"` // that the hash is over
	Hash    string            `json:"hash"`
	Entries []json.RawMessage `json:"entries"`
}

func export(read snapshot, w io.Writer, since, until time.Time) error {
	from, to := int64(0), int64(1)<<62
	if !since.IsZero() {
		from = since.UnixMicro()
	}
	if !until.IsZero() {
		to = until.UnixMicro()
	}
	enc := json.NewEncoder(w)
	enc.SetEscapeHTML(false)
	var failed error
	err := read(fmt.Sprintf(`select chain, n, at, entries, hash from audit where at >= %d and at < %d order by seq`, from, to), func(r row) {
		if failed != nil {
			return
		}
		x := exported{Chain: r.str(0), N: r.int(1), AtMicro: r.int(2), At: r.time(2)}
		var sum [sha256.Size]byte
		copy(sum[:], r.bytes(4))
		x.Hash = encode(sum)
		for line := range bytes.SplitSeq(r.bytes(3), []byte("\n")) {
			if !json.Valid(line) {
				line, _ = json.Marshal(string(line)) // an altered one
			}
			x.Entries = append(x.Entries, line)
		}
		failed = enc.Encode(x)
	})
	return firstError(err, failed)
}
