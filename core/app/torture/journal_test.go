//go:build linux

package torture_test

import (
	"context"
	"crypto/sha256"
	"database/sql"
	"fmt"
	"net/url"
	"os"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	_ "modernc.org/sqlite"
)

// reader looks at the journal's tables from outside, with a connection of its
// own: what the test believes must not pass through what is tested.
type reader struct {
	query func(ctx context.Context, text string, each func(scan func(...any) error) error) error
}

func openSQLite(t *testing.T, path string) *reader {
	t.Helper()
	db, err := sql.Open("sqlite", "file:"+path+"?mode=ro&_pragma=busy_timeout(3000)")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = db.Close() })
	return &reader{query: func(ctx context.Context, text string, each func(func(...any) error) error) error {
		rows, err := db.QueryContext(ctx, text)
		if err != nil {
			return err
		}
		defer func() { _ = rows.Close() }()
		for rows.Next() {
			if err := each(rows.Scan); err != nil {
				return err
			}
		}
		return rows.Err()
	}}
}

func reachable(raw string) error {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	conn, err := pgx.Connect(ctx, raw)
	if err != nil {
		return fmt.Errorf("HOOKLINE_TEST_POSTGRES: %w", err)
	}
	return conn.Close(ctx)
}

// newSchema makes a schema for this test alone and returns a URL that leads
// there.
func newSchema(t *testing.T, raw string) (string, *reader) {
	t.Helper()
	ctx := context.Background()
	name := fmt.Sprintf("torture_%d_%d", os.Getpid(), time.Now().UnixNano()%1e9)
	u, err := url.Parse(raw)
	if err != nil {
		t.Fatal("HOOKLINE_TEST_POSTGRES is not a URL")
	}
	values := u.Query()
	values.Set("search_path", name)
	u.RawQuery = values.Encode()
	conn, err := pgx.Connect(ctx, u.String())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := conn.Exec(ctx, "create schema "+name); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if keep() {
			t.Log("kept: schema " + name)
		} else if _, err := conn.Exec(ctx, "drop schema "+name+" cascade"); err != nil {
			t.Error(err)
		}
		_ = conn.Close(ctx)
	})
	var one sync.Mutex // a connection is for one at a time
	return u.String(), &reader{query: func(ctx context.Context, text string, each func(func(...any) error) error) error {
		one.Lock()
		defer one.Unlock()
		// Not ctx: its end would end the connection.
		rows, err := conn.Query(context.WithoutCancel(ctx), text)
		if err != nil {
			return err
		}
		defer rows.Close()
		for rows.Next() {
			if err := each(rows.Scan); err != nil {
				return err
			}
		}
		return rows.Err()
	}}
}

// unsettled counts the deliveries that Hookline still has something to do for. It
// has not for what waits for an operator, and for what waits behind that.
func (r *reader) unsettled(ctx context.Context) (n int, err error) {
	const stuck = `(%[1]s.state = 'held' or %[1]s.state = 'unknown' and %[1]s.due_at is null)`
	text := `select count(*) from deliveries d where open = 1 and not ` + fmt.Sprintf(stuck, "d") + `
		and not (head = 0 and state = 'queued' and exists (
			select 1 from deliveries h where h.lane = d.lane and h.head = 1 and ` + fmt.Sprintf(stuck, "h") + `))`
	err = r.query(ctx, text, func(scan func(...any) error) error { return scan(&n) })
	return n, err
}

// stored is an event in the journal.
type stored struct {
	id, record string
	body       []byte
	deliveries map[string]*delivery // by route
}

// delivery is one in the journal.
type delivery struct {
	seq         int64
	id          string
	route       string
	lane        string // its key for the test
	state, code string
	reason      string
	head        int64
	due, ended  sql.NullInt64
	attempts    int64
	of          *stored
	number      number
	tries       []try
}

// try is an attempt whose outcome the journal knows.
type try struct {
	n            int64
	begun, ended time.Time
	effect, code string
}

func (d *delivery) endedAt() time.Time { return time.UnixMicro(d.ended.Int64) }

// stuck: it waits for an operator.
func (d *delivery) stuck() bool { return d.state == "held" || d.state == "unknown" && !d.due.Valid }

// all reads the journal.
func (r *reader) all(ctx context.Context) (events map[string]*stored, err error) {
	events = map[string]*stored{}
	bySeq := map[int64]*delivery{}
	err = r.query(ctx, `select id, trans_id, body from events where refused_code = ''`, func(scan func(...any) error) error {
		e := &stored{deliveries: map[string]*delivery{}}
		err := scan(&e.id, &e.record, &e.body)
		events[e.id] = e
		return err
	})
	if err != nil {
		return nil, err
	}
	err = r.query(ctx, `select d.seq, d.id, d.route, d.state, d.code, d.reason, d.head, d.due_at, d.ended_at, d.attempts, e.id
		from deliveries d join events e on e.seq = d.event_seq`, func(scan func(...any) error) error {
		d, event := &delivery{}, ""
		err := scan(&d.seq, &d.id, &d.route, &d.state, &d.code, &d.reason, &d.head, &d.due, &d.ended, &d.attempts, &event)
		if err != nil {
			return err
		}
		d.of = events[event]
		if d.of == nil || d.of.deliveries[d.route] != nil {
			return fmt.Errorf("delivery %s: its event has another one on this route, or is none", d.id)
		}
		d.of.deliveries[d.route] = d
		bySeq[d.seq] = d
		return nil
	})
	if err != nil {
		return nil, err
	}
	err = r.query(ctx, `select delivery_seq, n, started_at, took_us, effect, code from attempts order by delivery_seq, n`, func(scan func(...any) error) error {
		var seq, begun, took int64
		var a try
		if err := scan(&seq, &a.n, &begun, &took, &a.effect, &a.code); err != nil {
			return err
		}
		a.begun = time.UnixMicro(begun)
		a.ended = a.begun.Add(time.Duration(took) * time.Microsecond)
		if d := bySeq[seq]; d != nil {
			d.tries = append(d.tries, a)
		}
		return nil
	})
	return events, err
}

type digest = [sha256.Size]byte
