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
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/hookline/hookline/core"
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
	chains                 chains

	mu sync.Mutex
	// doubtful are sessions whose connection was lost while they wrote. What was
	// sent may arrive, and be committed, at any time until they have ended.
	doubtful []*session
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
	for _, p := range []struct {
		pool **pgPool
		n    int
	}{{&e.writer, 1}, {&e.reader, readers}, {&e.leases, 1}} {
		if *p.pool, err = newPGPool(config, p.n); err != nil {
			_ = e.close()
			return nil, err
		}
	}
	return e, nil
}

func (e *postgresEngine) close() error {
	for _, p := range []*pgPool{e.writer, e.reader, e.leases} {
		if p != nil {
			p.close()
		}
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
	conn, err := e.toWrite(ctx, e.writer)
	if err != nil {
		return err
	}
	defer e.written(e.writer, conn)

	var b pgx.Batch
	b.Queue("begin")
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
			if s.lite {
				continue
			}
			queued := b.Queue(e.texts[s.q], s.args...)
			if s.row != nil {
				queued.Query(func(rows pgx.Rows) error { return eachRow(rows, s.row) })
			}
		}
	}
	if err := conn.SendBatch(ctx, &b).Close(); err != nil {
		rollback(conn)
		return postgresError(err, false)
	}
	err = e.audited(ctx, conn, ops, func(b *pgx.Batch) error {
		b.Queue("commit")
		return conn.SendBatch(ctx, b).Close()
	})
	if err != nil {
		rollback(conn)
	}
	return err
}

// rollback ends a transaction that failed, unless its connection did.
func rollback(conn *pgx.Conn) {
	if conn.IsClosed() {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), pgTimeout)
	defer cancel()
	if _, err := conn.Exec(ctx, "rollback"); err != nil {
		_ = conn.Close(ctx)
	}
}

// audited writes the row of the audit and commits.
func (e *postgresEngine) audited(ctx context.Context, conn *pgx.Conn, ops []*op, commit func(*pgx.Batch) error) error {
	c := e.chains.take()
	t := trail{}
	for _, o := range ops {
		if o.audit != nil && o.err == nil {
			o.audit(&t)
		}
	}
	args, next, err := t.finish(c, func(s step) error {
		rows, err := conn.Query(ctx, e.texts[s.q], s.args...)
		if err != nil {
			return err
		}
		defer rows.Close()
		return eachRow(rows, s.row)
	})
	if err != nil {
		e.chains.give(c)
		return postgresError(err, false)
	}
	var b pgx.Batch
	if args != nil {
		b.Queue(e.texts[qAuditInsert], args...)
	} else {
		next = c
	}
	if err := commit(&b); err != nil {
		err = commitError(err, conn)
		if t := troubleOf(err); t != nil && !t.unsure {
			e.chains.give(c)
		}
		return err // else whether its row was written is not known: the chain ends
	}
	e.chains.give(next)
	return nil
}

// commitError explains an error of what may have committed.
func commitError(err error, conn *pgx.Conn) error {
	out := postgresError(err, true)
	if troubleOf(out) == nil && conn.IsClosed() && !pgconn.SafeToRetry(err) {
		return &trouble{why: whyLost, err: err, unsure: true}
	}
	return out
}

// toWrite takes a connection once nothing that was sent on an earlier one can be
// committed any more. Nothing has been sent when it fails.
func (e *postgresEngine) toWrite(ctx context.Context, pool *pgPool) (*pgx.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, pgTimeout)
	defer cancel()
	conn, err := acquire(ctx, pool)
	if err != nil {
		return nil, err
	}
	if err := e.fence(ctx, conn); err != nil {
		pool.release(conn)
		return nil, err
	}
	return conn, nil
}

// written takes back a connection of toWrite.
func (e *postgresEngine) written(pool *pgPool, conn *pgx.Conn) {
	if broken(conn) {
		e.mu.Lock()
		e.doubtful = append(e.doubtful, sessionOf(conn))
		e.mu.Unlock()
	}
	pool.release(conn)
}

const (
	sessionsOf = ` from pg_stat_activity a join unnest($1::int[], $2::timestamptz[]) as o(pid, start)
		on a.pid = o.pid and coalesce(a.backend_start, 'epoch') = o.start`
	findSessions = `select a.pid` + sessionsOf
	endSessions  = `select pg_terminate_backend(a.pid)` + sessionsOf
	// fencePause is between two looks whether a session has ended.
	fencePause = 20 * time.Millisecond
)

// fence ends the doubtful sessions and waits until they are gone: a commit has
// been made by then, and can be seen, or never will be. It does not depend on what
// their sockets do, or on what stands between.
func (e *postgresEngine) fence(ctx context.Context, conn *pgx.Conn) error {
	e.mu.Lock()
	old := slices.Clone(e.doubtful)
	e.mu.Unlock()
	if len(old) == 0 {
		return nil
	}
	pids, starts := make([]int32, len(old)), make([]time.Time, len(old))
	for i, s := range old {
		pids[i], starts[i] = s.pid, s.start
	}
	var refused error
	for {
		rows, _ := conn.Query(ctx, findSessions, pids, starts)
		left, err := pgx.CollectRows(rows, pgx.RowTo[int32])
		if err != nil {
			return postgresError(err, false)
		}
		if len(left) == 0 {
			break
		}
		if _, err := conn.Exec(ctx, endSessions, pids, starts); err != nil {
			refused = err
		}
		select {
		case <-time.After(fencePause):
		case <-ctx.Done():
			return &trouble{err: refused, why: fmt.Sprintf("an earlier connection to the database could still write, and has not ended yet: it goes on by itself when it has; if it does not, end the sessions with the pids %v (pg_terminate_backend)", left)}
		}
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	e.doubtful = slices.DeleteFunc(e.doubtful, func(s *session) bool { return slices.Contains(old, s) })
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
	if s.lite || s.when != nil && !s.when() {
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
	conn, err := e.toWrite(ctx, e.reader)
	if err != nil {
		return err
	}
	defer e.written(e.reader, conn)
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
	err = e.audited(ctx, conn, []*op{o}, func(b *pgx.Batch) error {
		if b.Len() > 0 {
			if err := conn.SendBatch(ctx, b).Close(); err != nil {
				return err
			}
		}
		return t.Commit(ctx)
	})
	if err != nil {
		_ = t.Rollback(ctx)
	}
	return err
}

// lookTx is in place of the transaction of an event that may have been written: it
// reads what writing it would have told.
type lookTx struct {
	ctx    context.Context
	conn   *pgx.Conn
	engine *postgresEngine
	insert []any // the arguments of the delivery that was looked at last
	seq    int64
}

var (
	errNotThere = errors.New("it was not written")
	errNotKnown = errors.New("it cannot be known")
)

const (
	lookEvent = `select seq from events where id = $1`
	// The last column: its node has been declared dead, so that another may take it
	// over.
	lookDelivery = `select seq, begun_at, state = 'running' and not exists (select 1 from nodes n where n.id = owner)
		from deliveries where id = $1`
)

func (t *lookTx) lock([]string) error { return nil }

func (t *lookTx) do(s step) error {
	switch s.q {
	case qKeyFind, qKeyUpsert, qMessageInsert, qRefuse:
		return nil
	case qEventInsert:
		return t.find(lookEvent, s.args[0], func(row) {})
	case qDeliveryInsert:
		t.insert = s.args
		lost := false
		err := t.find(lookDelivery, s.args[0], func(r row) {
			t.seq, lost = r.int(0), r[2] == true
			s.row(r)
		})
		if lost {
			return errNotKnown
		}
		return err
	case qHead:
		rows, err := t.conn.Query(t.ctx, t.engine.texts[qHead], s.args...)
		if err != nil {
			return err
		}
		defer rows.Close()
		return eachRow(rows, func(r row) {
			// It is not ours to run if another node has been quicker.
			if r.int(0) == t.seq && r.str(1) == string(core.StateRunning) && !slices.Contains(t.insert, any(r.str(2))) {
				r[1] = string(core.StateQueued)
			}
			s.row(r)
		})
	}
	return errNotKnown
}

func (t *lookTx) find(text string, id any, each func(row)) error {
	rows, err := t.conn.Query(t.ctx, text, id)
	if err != nil {
		return err
	}
	defer rows.Close()
	there := false
	err = eachRow(rows, func(r row) { there = true; each(r) })
	if err == nil && !there {
		return errNotThere
	}
	return err
}

// confirm implements confirmer.
func (e *postgresEngine) confirm(ctx context.Context, o *op) (bool, error) {
	conn, err := e.toWrite(ctx, e.reader)
	if err != nil {
		return false, err
	}
	defer e.reader.release(conn)
	t := &lookTx{ctx: ctx, conn: conn, engine: e}
	if o.reset != nil {
		o.reset()
	}
	if o.script != nil {
		err = o.script(t)
	}
	for i := 0; err == nil && o.script == nil && i < len(o.steps); i++ {
		if !o.steps[i].lite {
			err = t.do(o.steps[i])
		}
	}
	if errors.Is(err, errNotThere) {
		return false, nil
	}
	return err == nil, postgresError(err, false)
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
	text, ok := e.texts[q]
	if !ok {
		text = postgresDialect.spell(textOf(q))
	}
	rows, err := conn.Query(ctx2, text, args...)
	if err == nil {
		err = eachRow(rows, each)
		rows.Close()
	}
	if err != nil && ctx.Err() != nil {
		return ctx.Err()
	}
	return postgresError(err, false)
}

// snapshot implements engine. The whole journal takes longer than a statement may.
func (e *postgresEngine) snapshot(ctx context.Context, f func(snapshot) error) error {
	conn, err := acquire(ctx, e.reader)
	if err != nil {
		return err
	}
	defer e.reader.release(conn)
	t, err := conn.BeginTx(ctx, pgx.TxOptions{IsoLevel: pgx.RepeatableRead, AccessMode: pgx.ReadOnly})
	if err != nil {
		return postgresError(err, false)
	}
	defer func() { _ = t.Rollback(context.WithoutCancel(ctx)) }()
	if _, err := t.Exec(ctx, "set local statement_timeout = 0"); err != nil {
		return postgresError(err, false)
	}
	return postgresError(f(func(text string, each func(row)) error {
		rows, err := t.Query(ctx, text)
		if err != nil {
			return err
		}
		defer rows.Close()
		return eachRow(rows, each)
	}), false)
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

const whyLost = "the connection to the database was lost: it goes on by itself once the database is back"

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
			t.why = whyLost
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
		t.unsure = commit && (pe.Code[:2] == "57" || pe.Code[:2] == "08" ||
			pe.SeverityUnlocalized == "FATAL" || pe.SeverityUnlocalized == "PANIC")
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
			why: whyLost, err: err,
			unsure: commit && !pgconn.SafeToRetry(err),
		}
	}
	return err
}

func connectionLost(err error) bool {
	return errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, net.ErrClosed) ||
		strings.Contains(err.Error(), "conn closed") || strings.Contains(err.Error(), "conn busy")
}
