package journal

import (
	"context"
	"errors"
	"fmt"
	"hash/fnv"
	"io"
	"log/slog"
	"net"
	"slices"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

const (
	pgTimeout = 3 * time.Second // of a connect and of a statement
	pgBatch   = 5 * time.Second // of a transaction
	pgTries   = 5               // of one that others were in the way of
)

// lockLanes keeps other nodes from a batch's lanes. They are sorted, so that two
// batches cannot wait for each other; ids are drawn after it, so that within a
// lane the order of seq is the order of the commits.
const lockLanes = `select pg_advisory_xact_lock(k) from unnest($1::bigint[]) k`

// postgresEngine is a journal that several nodes share.
type postgresEngine struct {
	texts                  map[query]string
	writer, reader, leases *pgPool
}

func openPostgres(ctx context.Context, raw string, log *slog.Logger) (_ *postgresEngine, err error) {
	e := &postgresEngine{texts: make(map[query]string, len(queries))}
	for q, text := range queries {
		e.texts[q] = postgresDialect.spell(text)
	}
	config, err := pgx.ParseConfig(raw)
	if err != nil {
		// pgx's own text quotes the URL.
		return nil, errors.New("journal: journal.url is not a Postgres URL: write postgres://USER@HOST:PORT/DATABASE, with %-escapes for special characters of the password")
	}
	config.ConnectTimeout = pgTimeout
	params := config.RuntimeParams
	for name, value := range map[string]string{
		"application_name":                    "hookline",
		"statement_timeout":                   fmt.Sprint(pgTimeout.Milliseconds()),
		"idle_in_transaction_session_timeout": "10000",
		"timezone":                            "UTC",
		// The journal's promise: what is answered is on the disk.
		"synchronous_commit": "on",
	} {
		if _, set := params[name]; !set || name == "synchronous_commit" {
			params[name] = value
		}
	}
	migration := config.Copy()
	migration.RuntimeParams["statement_timeout"] = "0"
	db := pgSQL(migration)
	defer func() { _ = db.Close() }()
	if err := migratePostgres(ctx, db, redacted(raw), log); err != nil {
		return nil, postgresError(err, false)
	}
	e.writer, e.reader, e.leases = newPGPool(config, 1), newPGPool(config, readers), newPGPool(config, 1)
	return e, nil
}

func (e *postgresEngine) close() error {
	for _, p := range []*pgPool{e.writer, e.reader, e.leases} {
		p.close()
	}
	return nil
}

func (e *postgresEngine) scripts() bool { return false }

// locks are the advisory locks for names: sorted, each once.
func locks(names []string) []int64 {
	keys := make([]int64, len(names))
	for i, name := range names {
		h := fnv.New64a()
		_, _ = h.Write([]byte("hookline/" + name))
		keys[i] = int64(h.Sum64()) //nolint:gosec // any 64 bits will do
	}
	slices.Sort(keys)
	return slices.Compact(keys)
}

// batch implements engine: one round trip, which is one transaction.
func (e *postgresEngine) batch(ops []*op) (err error) {
	for range pgTries {
		err = e.once(ops)
		if t := troubleOf(err); t == nil || !t.again {
			return err
		}
	}
	return err
}

func (e *postgresEngine) once(ops []*op) error {
	ctx, cancel := context.WithTimeout(context.Background(), pgBatch)
	defer cancel()
	conn, err := acquire(ctx, e.writer)
	if err != nil {
		return err
	}
	defer e.writer.release(conn)

	var b pgx.Batch
	var names []string
	for _, o := range ops {
		names = append(names, o.lanes...)
	}
	if len(names) > 0 {
		b.Queue(lockLanes, locks(names))
	}
	for _, o := range ops {
		o.err = nil
		if o.reset != nil {
			o.reset()
		}
		for i := range o.steps {
			s := &o.steps[i]
			queued := b.Queue(e.texts[s.q], s.args...)
			if s.row != nil {
				queued.Query(func(rows pgx.Rows) error { return eachRow(rows, s.row) })
			}
		}
	}
	if err := conn.SendBatch(ctx, &b).Close(); err != nil {
		return postgresError(err, true)
	}
	return nil
}

// acquire takes a connection. Nothing has been sent when it fails.
func acquire(ctx context.Context, pool *pgPool) (*pgx.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, pgTimeout)
	defer cancel()
	conn, err := pool.acquire(ctx)
	if err != nil {
		return nil, postgresError(err, false)
	}
	return conn, nil
}

func eachRow(rows pgx.Rows, each func(row)) error {
	for rows.Next() {
		values, err := rows.Values()
		if err != nil {
			return err
		}
		each(values)
	}
	return rows.Err()
}

// pgTx is the transaction of a script.
type pgTx struct {
	ctx    context.Context
	tx     pgx.Tx
	engine *postgresEngine
}

func (t pgTx) lock(names []string) error {
	if len(names) == 0 {
		return nil
	}
	_, err := t.tx.Exec(t.ctx, lockLanes, locks(names))
	return err
}

func (t pgTx) do(s step) error {
	if s.when != nil && !s.when() {
		return nil
	}
	text := t.engine.texts[s.q]
	if s.row == nil {
		_, err := t.tx.Exec(t.ctx, text, s.args...)
		return err
	}
	rows, err := t.tx.Query(t.ctx, text, s.args...)
	if err != nil {
		return err
	}
	defer rows.Close()
	return eachRow(rows, s.row)
}

// alone implements engine: a script has a connection of its own, as its round
// trips would hold up the writer.
func (e *postgresEngine) alone(ctx context.Context, o *op) (err error) {
	for range pgTries {
		err = e.script(ctx, o)
		if t := troubleOf(err); t == nil || !t.again {
			return err
		}
	}
	return err
}

func (e *postgresEngine) script(ctx context.Context, o *op) error {
	conn, err := acquire(ctx, e.reader)
	if err != nil {
		return err
	}
	defer e.reader.release(conn)
	// From here on its result counts, whatever becomes of the caller.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), pgBatch)
	defer cancel()
	if o.reset != nil {
		o.reset()
	}
	t, err := conn.Begin(ctx)
	if err != nil {
		return postgresError(err, false)
	}
	if err := o.script(pgTx{ctx: ctx, tx: t, engine: e}); err != nil {
		_ = t.Rollback(ctx)
		return postgresError(err, false)
	}
	if err := t.Commit(ctx); err != nil {
		return postgresError(err, true)
	}
	return nil
}

// read implements engine.
func (e *postgresEngine) read(ctx context.Context, q query, args []any, each func(row)) error {
	conn, err := acquire(ctx, e.reader)
	if err != nil {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		return err
	}
	defer e.reader.release(conn)
	ctx2, cancel := context.WithTimeout(ctx, pgBatch)
	defer cancel()
	rows, err := conn.Query(ctx2, e.texts[q], args...)
	if err == nil {
		err = eachRow(rows, each)
		rows.Close()
	}
	if err != nil && ctx.Err() != nil {
		return ctx.Err()
	}
	return postgresError(err, false)
}

// renew is the node's sign of life.
func (e *postgresEngine) renew(ctx context.Context, id string) error {
	conn, err := acquire(ctx, e.leases)
	if err != nil {
		return err
	}
	defer e.leases.release(conn)
	found := false
	rows, err := conn.Query(ctx, e.texts[qNodeRenew], id)
	if err == nil {
		err = eachRow(rows, func(row) { found = true })
		rows.Close()
	}
	if err == nil && !found {
		return errDeclaredDead
	}
	return postgresError(err, false)
}

// leave lets the others know at once that this node has ended.
func (e *postgresEngine) leave(id string) {
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	conn, err := acquire(ctx, e.leases)
	if err != nil {
		return // they find out
	}
	defer e.leases.release(conn)
	_, _ = conn.Exec(ctx, e.texts[qNodeDelete], id)
}

// postgresError explains an error, unless it is about what was asked.
func postgresError(err error, commit bool) error {
	if err == nil || troubleOf(err) != nil {
		return err
	}
	var pe *pgconn.PgError
	if errors.As(err, &pe) {
		t := &trouble{err: errors.New(pe.Message + ", SQLSTATE " + pe.Code)}
		switch {
		case pe.Code[:2] == "22" || pe.Code[:2] == "23":
			return err
		case pe.Code == "40001" || pe.Code == "40P01":
			t.again = true
			t.why = "other transactions are in the way: look for long ones in pg_stat_activity"
		case pe.Code == "53100":
			t.why = "the disk of the database is full: make room, it goes on by itself"
		case pe.Code[:2] == "53":
			t.why = "the database has no room for another connection or for its memory: raise max_connections, or stop other programs"
		case pe.Code == "25006":
			t.why = "the database is read-only: let journal.url name the primary"
		case pe.Code[:2] == "28":
			t.why = "the database refuses the login: look at user and password of journal.url"
		case pe.Code == "3D000":
			t.why = "the database does not exist: create it, or change journal.url"
		case pe.Code == "57014" || pe.Code == "55P03":
			t.why = "the database was too slow: look at its load and for locks in pg_locks"
		case pe.Code[:2] == "57" || pe.Code[:2] == "08":
			t.why = "the connection to the database was lost: it goes on by itself once the database is back"
		case pe.Code == "42501":
			t.why = "the database's user lacks a right: grant it select, insert, update and delete on Hookline's tables"
		case pe.Code[:2] == "42":
			t.why = "the database lacks Hookline's tables: restart Hookline to create them, or restore a backup"
		case pe.Code[:2] == "XX":
			t.why = "the database is corrupt: look at its log"
		default:
			t.why = "the database cannot do it"
		}
		// A statement's error rolls back; the end of the session may come after
		// the commit.
		t.unsure = commit && (pe.Code[:2] == "57" || pe.Code[:2] == "08")
		return t
	}
	var ce *pgconn.ConnectError
	var ne net.Error
	switch {
	case errors.As(err, &ce):
		return &trouble{why: "the database cannot be reached: look whether it is up and whether journal.url is right", err: err}
	case errors.As(err, &ne), pgconn.Timeout(err), errors.Is(err, context.DeadlineExceeded), errors.Is(err, context.Canceled),
		connectionLost(err):
		return &trouble{
			why: "the connection to the database was lost: it goes on by itself once the database is back", err: err,
			unsure: commit && !pgconn.SafeToRetry(err),
		}
	}
	return err
}

func connectionLost(err error) bool {
	return errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, net.ErrClosed) ||
		strings.Contains(err.Error(), "conn closed") || strings.Contains(err.Error(), "conn busy")
}
