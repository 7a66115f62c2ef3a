package journal

import (
	"context"
	"database/sql"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/jackc/pgx/v5/stdlib"
)

// pgPool is pgxpool, but for two things: a connection that has broken gives up its
// place at once, not after the 15 s that pgx may need to close it, and Close is as
// quick.
type pgPool struct {
	pool   *pgxpool.Pool
	closed atomic.Bool
	drops  sync.WaitGroup
}

// session is what the database calls a connection.
type session struct {
	pid   int32
	start time.Time // the epoch if it may not be seen
	used  time.Time

	pooled *pgxpool.Conn // while it is in use
}

const (
	// pgIdle is after how long a connection is looked at before it is trusted.
	pgIdle     = time.Second
	sessionKey = "hookline session"
	// Asked, as what stands between may have its own idea of a pid.
	askSession = `select pid, coalesce(backend_start, 'epoch') from pg_stat_activity where pid = pg_backend_pid()`
)

func newPGPool(conn *pgx.ConnConfig, n int) (*pgPool, error) {
	config, err := pgxpool.ParseConfig(conn.ConnString())
	if err != nil {
		return nil, errPostgresURL
	}
	config.ConnConfig = conn.Copy()
	config.MaxConns, config.MinConns, config.MinIdleConns = int32(n), 0, 0 //nolint:gosec // a few
	config.ShouldPing = func(context.Context, pgxpool.ShouldPingParams) bool { return false }
	config.BeforeClose = drop
	config.AfterConnect = func(ctx context.Context, conn *pgx.Conn) error {
		ctx, cancel := context.WithTimeout(ctx, pgTimeout)
		defer cancel()
		s := &session{used: time.Now()}
		if err := conn.QueryRow(ctx, askSession).Scan(&s.pid, &s.start); err != nil {
			return err
		}
		conn.PgConn().CustomData()[sessionKey] = s
		return nil
	}
	pool, err := pgxpool.NewWithConfig(context.Background(), config)
	if err != nil {
		return nil, fmt.Errorf("journal: %w", err)
	}
	return &pgPool{pool: pool}, nil
}

func sessionOf(conn *pgx.Conn) *session {
	return conn.PgConn().CustomData()[sessionKey].(*session)
}

// broken tells whether the connection was lost, or left in the midst of something.
func broken(conn *pgx.Conn) bool {
	return conn.IsClosed() || conn.PgConn().IsBusy() || conn.PgConn().TxStatus() != 'I'
}

// acquire waits for a connection. Whoever gets one must release it.
func (p *pgPool) acquire(ctx context.Context) (*pgx.Conn, error) {
	for {
		pooled, err := p.pool.Acquire(ctx)
		if err != nil {
			st := p.pool.Stat()
			switch {
			case p.closed.Load():
				return nil, ErrClosed
			case ctx.Err() != nil && st.AcquiredConns() == st.MaxConns():
				return nil, &trouble{why: "all its connections are busy: look at the load of the database"}
			}
			return nil, err
		}
		conn := pooled.Conn()
		s := sessionOf(conn)
		s.pooled = pooled
		if time.Since(s.used) <= pgIdle || alive(ctx, conn) {
			return conn, nil
		}
		p.discard(conn)
	}
}

func (p *pgPool) release(conn *pgx.Conn) {
	if broken(conn) {
		p.discard(conn)
		return
	}
	s := sessionOf(conn)
	pooled := s.pooled
	s.used, s.pooled = time.Now(), nil
	pooled.Release()
}

// alive leaves time for another connection.
func alive(ctx context.Context, conn *pgx.Conn) bool {
	ctx, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	return conn.Ping(ctx) == nil
}

// discard has nobody wait for the end of a connection that may have hung up.
func (p *pgPool) discard(conn *pgx.Conn) {
	p.drops.Add(1) // before the pool believes that it has no more
	c := sessionOf(conn).pooled.Hijack()
	go func() {
		defer p.drops.Done()
		drop(c)
	}()
}

// close waits for the connections in use, whose users all have timeouts.
func (p *pgPool) close() {
	p.closed.Store(true)
	p.pool.Close()
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

// pgSQL is for goose, which knows database/sql only.
func pgSQL(config *pgx.ConnConfig) *sql.DB { return stdlib.OpenDB(*config) }
