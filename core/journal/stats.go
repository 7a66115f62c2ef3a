package journal

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/hookline/hookline/core"
)

// Stats are what a journal holds and takes.
type Stats struct {
	Engine string `json:"engine"` // "sqlite", "postgres" or "memory"
	Where  string `json:"where"`  // the file, or the URL without its password
	Schema int64  `json:"schema"`

	Bytes     int64            `json:"bytes"`                // of the file, or of all tables with their indexes
	WAL       int64            `json:"wal_bytes,omitempty"`  // of SQLite's -wal
	Disk      *int64           `json:"free_bytes,omitempty"` // on the disk of the file
	PageSize  int64            `json:"page_size,omitempty"`
	Pages     int64            `json:"pages,omitempty"`
	FreePages int64            `json:"pages_free,omitempty"` // new events go there first
	Tables    map[string]int64 `json:"table_bytes,omitempty"`

	Events     int64                `json:"events"`
	Deliveries map[core.State]int64 `json:"deliveries"`
	Attempts   int64                `json:"attempts"`
	Audit      int64                `json:"audit_rows"`
	Oldest     *StatsEvent          `json:"oldest_event,omitempty"`
	Newest     *StatsEvent          `json:"newest_event,omitempty"`
	OldestOpen *StatsDelivery       `json:"oldest_open,omitempty"`
}

// StatsEvent names an event.
type StatsEvent struct {
	ID         string    `json:"id"`
	Ref        string    `json:"ref"`
	ReceivedAt time.Time `json:"received_at"`
}

// StatsDelivery names a delivery.
type StatsDelivery struct {
	ID        string     `json:"id"`
	Event     string     `json:"event_id"`
	Route     string     `json:"route"`
	State     core.State `json:"state"`
	CreatedAt time.Time  `json:"created_at"`
}

const (
	// statsWait bounds one count: of many millions it takes its time.
	statsWait = time.Minute
	// tablesWait bounds the look at all pages of a file, which not everyone waits for.
	tablesWait = 3 * time.Second
)

// Stats counts, beside all that goes on.
func (s *Store) Stats(ctx context.Context) (*Stats, error) {
	switch e := s.engine.(type) {
	case *postgresEngine:
		config := e.reader.pool.Config().ConnConfig
		conn, err := dialPostgres(ctx, config.Copy(), statsWait)
		if err != nil {
			return nil, err
		}
		defer drop(conn)
		return statsPostgres(ctx, conn, fmt.Sprintf("postgres://%s@%s:%d/%s", config.User, config.Host, config.Port, config.Database))
	case *sqliteEngine:
		if e.path != "" {
			return statsSQLite(ctx, e.path, readOnly(e.path, false))
		}
		e.mu.RLock()
		pool := e.pool
		e.mu.RUnlock()
		if pool == nil {
			return nil, ErrClosed
		}
		st := &Stats{Engine: "memory", Where: "memory"}
		return st, st.countSQLite(ctx, pool)
	}
	return nil, errors.ErrUnsupported
}

// ReadStats counts in the journal at a URL, and changes nothing: a daemon that uses
// it is not disturbed.
func ReadStats(ctx context.Context, o Options) (*Stats, error) {
	r, err := existing(ctx, o, true)
	switch {
	case err != nil:
		return nil, err
	case r.Kind == "sqlite":
		return statsSQLite(ctx, r.Where, readOnly(r.Where, !r.Used))
	}
	conn, err := connectPostgres(ctx, o.URL, statsWait)
	if err != nil {
		return nil, err
	}
	defer drop(conn)
	return statsPostgres(ctx, conn, r.Where)
}

func statsSQLite(ctx context.Context, path, dsn string) (*Stats, error) {
	st := &Stats{Engine: "sqlite", Where: path}
	if info, err := os.Stat(path); err == nil {
		st.Bytes = info.Size()
	}
	if info, err := os.Stat(path + "-wal"); err == nil {
		st.WAL = info.Size()
	}
	if free, known := freeBytes(filepath.Dir(path)); known {
		st.Disk = &free
	}
	db, err := sql.Open("sqlite", dsn)
	if err != nil {
		return nil, sqliteError(err, path)
	}
	defer func() { _ = db.Close() }()
	if err := st.countSQLite(ctx, db); err != nil {
		return nil, asTrouble(sqliteError(err, path))
	}
	return st, nil
}

func (st *Stats) countSQLite(ctx context.Context, db *sql.DB) error {
	ask := func(text string, each func(row)) error { return readRows(ctx, db, text, nil, each) }
	err := ask("select page_count, freelist_count, page_size from pragma_page_count, pragma_freelist_count, pragma_page_size", func(r row) {
		st.Pages, st.FreePages, st.PageSize = r.int(0), r.int(1), r.int(2)
	})
	if err != nil {
		return err
	}
	if err := st.count(ask); err != nil {
		return err
	}
	limited, cancel := context.WithTimeout(ctx, tablesWait)
	defer cancel()
	sizes := map[string]int64{}
	err = readRows(limited, db, `select coalesce(m.tbl_name, s.name), sum(s.pgsize) from dbstat s left join sqlite_master m on m.name = s.name
		where s.aggregate = 1 group by 1`, nil, func(r row) { sizes[r.str(0)] = r.int(1) })
	if err == nil && limited.Err() == nil {
		st.Tables = sizes
	}
	return ctx.Err()
}

func statsPostgres(ctx context.Context, conn *pgx.Conn, where string) (*Stats, error) {
	st := &Stats{Engine: "postgres", Where: where, Tables: map[string]int64{}}
	ask := func(text string, each func(row)) error {
		rows, err := conn.Query(ctx, text)
		if err != nil {
			return err
		}
		defer rows.Close()
		return eachRow(rows, each)
	}
	_, err := conn.Exec(ctx, "begin isolation level repeatable read read only")
	if err == nil {
		err = st.count(ask)
	}
	for _, table := range tables {
		if err == nil {
			err = ask("select coalesce(pg_total_relation_size(to_regclass('"+table+"')), 0)", func(r row) {
				st.Tables[table] = r.int(0)
				st.Bytes += r.int(0)
			})
		}
	}
	if err != nil {
		return nil, asTrouble(postgresError(err, false))
	}
	return st, nil
}

// count asks what both engines answer alike.
func (st *Stats) count(ask func(text string, each func(row)) error) error {
	number := func(out *int64) func(row) { return func(r row) { *out = r.int(0) } }
	event := func(out **StatsEvent) func(row) {
		return func(r row) { *out = &StatsEvent{ID: r.str(0), Ref: r.str(1), ReceivedAt: r.time(2)} }
	}
	st.Deliveries = map[core.State]int64{}
	var all int64
	states := func(r row) { st.Deliveries[core.State(r.str(0))] += r.int(1); all -= r.int(1) }
	// Each has an index: of what was delivered there may be very many, and they are
	// the rest.
	const open = `(select seq, state from deliveries where head = 1
		union all select seq, state from deliveries where open = 1 and head = 0) s`
	type question struct {
		text string
		each func(row)
	}
	questions := []question{
		{"select coalesce(max(version_id), 0) from goose_db_version", number(&st.Schema)},
		{"select count(*) from events", number(&st.Events)},
		{"select count(*) from attempts", number(&st.Attempts)},
		{"select id, ref, received_at from events order by seq limit 1", event(&st.Oldest)},
		{"select id, ref, received_at from events order by seq desc limit 1", event(&st.Newest)},
		{`select d.id, e.id, d.route, d.state, d.created_at from deliveries d join events e on e.seq = d.event_seq
			where d.seq = (select min(seq) from ` + open + `)`, func(r row) {
			st.OldestOpen = &StatsDelivery{ID: r.str(0), Event: r.str(1), Route: r.str(2), State: core.State(r.str(3)), CreatedAt: r.time(4)}
		}},
		{"select count(*) from deliveries", func(r row) { all += r.int(0) }},
		{"select state, count(*) from " + open + " where state in ('queued', 'running') group by state", states},
		{`select state, count(*) from deliveries
			where state in ('waiting', 'unknown', 'held', 'dead', 'cancelled', 'rejected', 'skipped') group by state`, states},
	}
	for _, q := range questions {
		if err := ask(q.text, q.each); err != nil {
			return err
		}
	}
	if all > 0 {
		st.Deliveries[core.StateDelivered] = all
	}
	if st.Schema < 2 { // it had no audit
		return nil
	}
	return ask("select count(*) from audit", number(&st.Audit))
}
