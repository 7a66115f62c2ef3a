package journal

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"io"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
)

// pgPool is a few connections, opened when they are needed.
type pgPool struct {
	config *pgx.ConnConfig
	slots  chan pgSlot // one for each connection that may be; taken while in use
	closed chan struct{}
	drops  sync.WaitGroup
}

type pgSlot struct {
	conn *pgx.Conn // nil: not open
	used time.Time
}

// session is what the database calls a connection.
type session struct {
	pid   int32
	start time.Time // the epoch if it may not be seen
}

const (
	// pgIdle is after how long a connection is looked at before it is trusted.
	pgIdle     = time.Second
	sessionKey = "hookline session"
	// Asked, as what stands between may have its own idea of a pid.
	askSession = `select pid, coalesce(backend_start, 'epoch') from pg_stat_activity where pid = pg_backend_pid()`
)

func newPGPool(config *pgx.ConnConfig, n int) (*pgPool, error) {
	p := &pgPool{config: config, slots: make(chan pgSlot, n), closed: make(chan struct{})}
	for range n {
		p.slots <- pgSlot{}
	}
	return p, nil
}

// acquire waits for a connection. Whoever gets one must release it.
func (p *pgPool) acquire(ctx context.Context) (*pgx.Conn, error) {
	var s pgSlot
	select {
	case s = <-p.slots:
	case <-p.closed:
		return nil, ErrClosed
	case <-ctx.Done():
		return nil, &trouble{why: "all its connections are busy: look at the load of the database"}
	}
	if s.conn != nil && time.Since(s.used) > pgIdle && !alive(ctx, s.conn) {
		p.discard(s.conn)
		s.conn = nil
	}
	if s.conn != nil {
		return s.conn, nil
	}
	conn, err := p.connect(ctx)
	if err != nil {
		p.slots <- pgSlot{}
		return nil, err
	}
	return conn, nil
}

func (p *pgPool) connect(ctx context.Context) (*pgx.Conn, error) {
	conn, err := pgx.ConnectConfig(ctx, p.config.Copy())
	if err != nil {
		return nil, err
	}
	s := &session{}
	if err := conn.QueryRow(ctx, askSession).Scan(&s.pid, &s.start); err != nil {
		drop(conn)
		return nil, err
	}
	conn.PgConn().CustomData()[sessionKey] = s
	return conn, nil
}

func sessionOf(conn *pgx.Conn) *session {
	return conn.PgConn().CustomData()[sessionKey].(*session)
}

// broken tells whether the connection was lost, or left in the midst of something.
func broken(conn *pgx.Conn) bool {
	return conn.IsClosed() || conn.PgConn().IsBusy() || conn.PgConn().TxStatus() != 'I'
}

// alive leaves time for another connection.
func alive(ctx context.Context, conn *pgx.Conn) bool {
	ctx, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	return conn.Ping(ctx) == nil
}

// discard has nobody wait for the end of a connection that may have hung up.
func (p *pgPool) discard(conn *pgx.Conn) {
	p.drops.Go(func() { drop(conn) })
}

func (p *pgPool) release(conn *pgx.Conn) {
	if broken(conn) {
		p.discard(conn)
		conn = nil
	}
	p.slots <- pgSlot{conn: conn, used: time.Now()}
}

// close waits for the connections in use, whose users all have timeouts.
func (p *pgPool) close() {
	close(p.closed)
	for range cap(p.slots) {
		if s := <-p.slots; s.conn != nil {
			drop(s.conn)
		}
	}
	p.drops.Wait()
}

func drop(conn *pgx.Conn) {
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	_ = conn.Close(ctx)
	select {
	case <-conn.PgConn().CleanupDone():
	case <-ctx.Done():
	}
}

// pgConnector lets goose, which knows database/sql only, work on connections of
// pgx. Of the driver there is as much as goose uses. (pgx's own needs pgxpool.)
type pgConnector struct{ config *pgx.ConnConfig }

func pgSQL(config *pgx.ConnConfig) *sql.DB { return sql.OpenDB(pgConnector{config}) }

func (c pgConnector) Connect(ctx context.Context) (driver.Conn, error) {
	conn, err := pgx.ConnectConfig(ctx, c.config.Copy())
	if err != nil {
		return nil, err
	}
	return &pgConn{conn: conn}, nil
}

func (pgConnector) Driver() driver.Driver { return pgDriver{} }

type pgDriver struct{}

func (pgDriver) Open(string) (driver.Conn, error) { return nil, errors.ErrUnsupported }

type pgConn struct{ conn *pgx.Conn }

var (
	_ driver.ExecerContext  = (*pgConn)(nil)
	_ driver.QueryerContext = (*pgConn)(nil)
	_ driver.ConnBeginTx    = (*pgConn)(nil)
)

func (c *pgConn) Prepare(string) (driver.Stmt, error) { return nil, errors.ErrUnsupported }
func (c *pgConn) Begin() (driver.Tx, error)           { return nil, errors.ErrUnsupported }

func (c *pgConn) Close() error {
	drop(c.conn)
	return nil
}

func (c *pgConn) BeginTx(ctx context.Context, _ driver.TxOptions) (driver.Tx, error) {
	t, err := c.conn.Begin(ctx)
	if err != nil {
		return nil, err
	}
	return pgSQLTx{ctx, t}, nil
}

type pgSQLTx struct {
	ctx context.Context
	tx  pgx.Tx
}

func (t pgSQLTx) Commit() error   { return t.tx.Commit(t.ctx) }
func (t pgSQLTx) Rollback() error { return t.tx.Rollback(context.WithoutCancel(t.ctx)) }

func pgArgs(named []driver.NamedValue) []any {
	args := make([]any, len(named))
	for i, v := range named {
		args[i] = v.Value
	}
	return args
}

func (c *pgConn) ExecContext(ctx context.Context, text string, args []driver.NamedValue) (driver.Result, error) {
	tag, err := c.conn.Exec(ctx, text, pgArgs(args)...)
	return driver.RowsAffected(tag.RowsAffected()), err
}

func (c *pgConn) QueryContext(ctx context.Context, text string, args []driver.NamedValue) (driver.Rows, error) {
	rows, err := c.conn.Query(ctx, text, pgArgs(args)...)
	if err != nil {
		return nil, err
	}
	// The error of the query itself is only known after the first step.
	out := &pgRows{}
	for _, f := range rows.FieldDescriptions() {
		out.columns = append(out.columns, f.Name)
	}
	err = eachRow(rows, func(r row) { out.rows = append(out.rows, r) })
	rows.Close()
	return out, err
}

type pgRows struct {
	columns []string
	rows    []row
}

func (r *pgRows) Columns() []string { return r.columns }
func (r *pgRows) Close() error      { return nil }

func (r *pgRows) Next(into []driver.Value) error {
	if len(r.rows) == 0 {
		return io.EOF
	}
	for i, v := range r.rows[0] {
		if n, ok := v.(int32); ok {
			v = int64(n)
		}
		into[i] = v
	}
	r.rows = r.rows[1:]
	return nil
}
