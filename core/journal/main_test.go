package journal

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"go.uber.org/goleak"

	"github.com/hookline/hookline/core"
	"github.com/hookline/hookline/plugins/transport"
)

func TestMain(m *testing.M) {
	if path := os.Getenv("HOOKLINE_TEST_CHILD"); path != "" {
		child(path)
	}
	goleak.VerifyTestMain(m)
}

// postgresURL is the database for tests, "" if nothing listens there.
var postgresURL = sync.OnceValue(func() string {
	raw := os.Getenv("HOOKLINE_TEST_POSTGRES")
	if raw == "" {
		raw = "postgres://postgres@127.0.0.1:5432/test?sslmode=disable"
	}
	u, err := url.Parse(raw)
	if err == nil {
		var c net.Conn
		if c, err = net.DialTimeout("tcp", u.Host, time.Second); err == nil {
			_ = c.Close()
			return raw
		}
	}
	fmt.Println("!!! core/journal was not tested on Postgres: start one and set HOOKLINE_TEST_POSTGRES to its URL:", oneLine(err.Error()))
	return ""
})

// onEach runs the test on every engine, beside the others: most of the time they wait
// for a disk or for the database. url is that of a new journal.
func onEach(t *testing.T, f func(t *testing.T, url string)) {
	t.Run("memory", func(t *testing.T) { t.Parallel(); f(t, "memory:") })
	onDurable(t, f)
}

// onDurable leaves the memory out.
func onDurable(t *testing.T, f func(t *testing.T, url string)) {
	t.Parallel()
	t.Run("sqlite", func(t *testing.T) { t.Parallel(); f(t, sqliteURL(t)) })
	onPostgres(t, func(t *testing.T, url string) { t.Parallel(); f(t, url) })
}

func onPostgres(t *testing.T, f func(t *testing.T, url string)) {
	if postgresURL() != "" {
		t.Run("postgres", func(t *testing.T) { f(t, schemaURL(t)) })
	}
}

func sqliteURL(t *testing.T) string {
	t.Helper()
	return "sqlite:" + filepath.Join(t.TempDir(), "journal.db")
}

// schemaURL makes a schema of the test's own.
func schemaURL(t *testing.T) string {
	t.Helper()
	name := "t" + strings.ReplaceAll(uuid.NewString(), "-", "")
	admin(t, "create schema "+name)
	t.Cleanup(func() { admin(t, "drop schema "+name+" cascade") })
	u, _ := url.Parse(postgresURL())
	v := u.Query()
	v.Set("search_path", name)
	u.RawQuery = v.Encode()
	return u.String()
}

func admin(t *testing.T, text string, args ...any) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	conn, err := pgx.Connect(ctx, postgresURL())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close(ctx) }()
	if _, err := conn.Exec(ctx, text, args...); err != nil {
		t.Fatal(err)
	}
}

// logs collects what is logged.
type logs struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (l *logs) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.Write(p)
}

func (l *logs) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.String()
}

func (l *logs) logger() *slog.Logger { return slog.New(slog.NewTextHandler(l, nil)) }

// unaudited are stores that a test writes to behind their back.
var unaudited sync.Map

func open(t testing.TB, o Options) *Store {
	t.Helper()
	s, err := Open(context.Background(), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		// Whatever a test does, its audit has to tell.
		if _, no := unaudited.Load(s); !no && !t.Failed() && s.Unavailable() == nil {
			if v, err := s.Verify(context.Background()); err == nil && len(v.Findings) > 0 {
				t.Errorf("the audit: %v", v.Findings)
			}
		}
		_ = s.Close()
	})
	return s
}

var hook = &core.Hook{Name: "study-a", Study: "A", Stage: core.UAT}

func newEvent(record string) *core.Event {
	ev := &core.Event{
		Kind: core.Review, TransID: record, FormID: "7", FormName: "Labs / Chemistry",
		Workflow: core.Workflow{ID: "3", Name: "Sign"}, Body: []byte(`{"trans_id":"` + record + `"}`),
	}
	ev.Stamp(hook, time.UnixMicro(time.Now().UnixMicro()))
	return ev
}

func place(ev *core.Event, route string, run bool) *core.Placement {
	return &core.Placement{
		Delivery: &core.Delivery{ID: uuid.Must(uuid.NewV7()).String(), Event: ev, Route: route, Lane: ev.Lane(route), Shape: core.ShapeBody},
		Run:      run,
	}
}

// begin writes an event with one delivery on each route.
func begin(t testing.TB, s *Store, record string, run bool, routes ...string) []*core.Placement {
	t.Helper()
	ev := newEvent(record)
	var all []*core.Placement
	for _, route := range routes {
		all = append(all, place(ev, route, run))
	}
	if err := s.Begin(context.Background(), &core.Entry{Event: ev, Deliveries: all}); err != nil {
		t.Fatal(err)
	}
	return all
}

func begin1(t testing.TB, s *Store, record string, run bool) *core.Placement {
	t.Helper()
	return begin(t, s, record, run, "r")[0]
}

type settled struct {
	core.Promotion
	err error
}

// settle waits for the settlement.
func settle(t testing.TB, s *Store, d *core.Delivery, set core.Settlement) settled {
	t.Helper()
	got := make(chan settled, 1)
	set.Settled = func(p core.Promotion, err error) { got <- settled{p, err} }
	s.Settle(d, set)
	return receive(t, got)
}

func receive[T any](t testing.TB, c <-chan T) T {
	t.Helper()
	select {
	case v := <-c:
		return v
	case <-time.After(20 * time.Second):
		t.Fatal("nothing came in 20 s")
		panic("")
	}
}

var (
	delivered = core.Settlement{State: core.StateDelivered, Code: transport.Delivered}
	dead      = core.Settlement{State: core.StateDead, Code: transport.RejectedByTarget}
)

func waiting(due time.Duration) core.Settlement {
	return core.Settlement{State: core.StateWaiting, Code: transport.ConnectionRefused, Due: due}
}

func claim(t testing.TB, s *Store, route string, n int) []*core.Delivery {
	t.Helper()
	got, err := s.Claim(context.Background(), route, true, n)
	if err != nil {
		t.Fatal(err)
	}
	return got
}

// stateOf reads a delivery back.
func stateOf(t testing.TB, s *Store, d *core.Delivery) DeliveryDetail {
	t.Helper()
	ev, err := s.Event(context.Background(), d.Event.ID)
	if err != nil {
		t.Fatal(err)
	}
	for _, got := range ev.Deliveries {
		if got.ID == d.ID {
			return got
		}
	}
	t.Fatalf("event %s has no delivery %s", d.Event.ID, d.ID)
	panic("")
}

// eventually polls.
func eventually(t testing.TB, what string, ok func() bool) {
	t.Helper()
	deadline := time.Now().Add(20 * time.Second)
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for !ok() {
		if time.Now().After(deadline) {
			t.Fatal("not in 20 s: " + what)
		}
		<-tick.C
	}
}

// raw runs statements in a transaction of the writer.
func raw(s *Store, texts ...string) error {
	switch e := s.engine.(type) {
	case *sqliteEngine:
		return s.writer.do(context.Background(), &op{name: "test", script: func(tx) error {
			for _, text := range texts {
				if err := e.text(text); err != nil {
					return err
				}
			}
			return nil
		}})
	case *postgresEngine:
		ctx := context.Background()
		conn, err := e.reader.acquire(ctx)
		if err != nil {
			return err
		}
		defer e.reader.release(conn)
		for _, text := range texts {
			if _, err := conn.Exec(ctx, text); err != nil {
				return err
			}
		}
	}
	return nil
}

func (e *sqliteEngine) text(text string) error {
	st, err := e.conn.Prepare(text)
	if err != nil {
		return err
	}
	defer func() { _ = st.Close() }()
	return e.plain(context.Background(), st)
}

func child(path string) {
	s, err := Open(context.Background(), Options{URL: "sqlite:" + path})
	if err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
	ev := newEvent("77")
	p := place(ev, "r", true)
	if err := s.Begin(context.Background(), &core.Entry{Event: ev, Deliveries: []*core.Placement{p}}); err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
	fmt.Println("begun", ev.ID)
	select {} // until it is killed
}
