package sql_test

import (
	"context"
	stdsql "database/sql"
	"encoding/json"
	"fmt"
	"maps"
	"net"
	"net/url"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	_ "github.com/go-sql-driver/mysql"
	_ "github.com/jackc/pgx/v5/stdlib"
	"go.uber.org/goleak"

	"github.com/hookline/hookline/plugins"
	"github.com/hookline/hookline/plugins/sql"
	"github.com/hookline/hookline/plugins/target/targettest"
	"github.com/hookline/hookline/plugins/transport"
)

func TestMain(m *testing.M) {
	if len(os.Args) == 2 && os.Args[1] == "plugin" { // the conformance suite's child
		plugins.Serve(sql.New())
		return
	}
	goleak.VerifyTestMain(m,
		// go-plugin leaves its broker to end by itself once the process is gone.
		goleak.IgnoreAnyFunction("github.com/hashicorp/go-plugin.(*GRPCBroker).Run"),
		goleak.IgnoreAnyFunction("github.com/hashicorp/go-plugin.(*gRPCBrokerClientImpl).StartStream"),
	)
}

type obj = map[string]any

// server is a database server that the tests may use.
type server struct {
	dialect            string
	address            string
	username, password string // of one who may do everything
	database           string
	query              string // of the test's own connection
}

// shared are the servers that run anyway. None of them is ever stopped.
var shared = sync.OnceValue(func() (all []server) {
	for _, s := range []struct{ dialect, variable, standard string }{
		{"postgres", "HOOKLINE_TEST_POSTGRES", "postgres://postgres@127.0.0.1:5432/test"},
		{"mariadb", "HOOKLINE_TEST_MARIADB", "mariadb://root@127.0.0.1:3306/test"},
	} {
		raw := os.Getenv(s.variable)
		if raw == "" {
			raw = s.standard
		}
		u, err := url.Parse(raw)
		if err == nil {
			var c net.Conn
			if c, err = net.DialTimeout("tcp", u.Host, time.Second); err == nil {
				_ = c.Close()
				password, _ := u.User.Password()
				all = append(all, server{dialect: s.dialect, address: u.Host, username: u.User.Username(), password: password, database: strings.TrimPrefix(u.Path, "/"), query: "?sslmode=disable"})
				continue
			}
		}
		fmt.Printf("!!! plugins/sql was not tested on %s: start one and set %s to its URL, such as %s\n", s.dialect, s.variable, s.standard)
	}
	return all
})

// onEach runs the test on every server that is there.
func onEach(t *testing.T, f func(t *testing.T, s server)) {
	for _, s := range shared() {
		t.Run(s.dialect, func(t *testing.T) { f(t, s) })
	}
}

// open gives a connection of the test's own.
func (s server) open(t testing.TB) *stdsql.DB {
	t.Helper()
	driver, dsn := "pgx", (&url.URL{Scheme: "postgres", User: url.UserPassword(s.username, s.password), Host: s.address, Path: s.database}).String()+s.query
	if s.dialect == "mariadb" {
		driver, dsn = "mysql", fmt.Sprintf("%s:%s@tcp(%s)/%s?multiStatements=true", s.username, s.password, s.address, s.database)
	}
	db, err := stdsql.Open(driver, dsn)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = db.Close() })
	return db
}

// settings reach the server as its administrator.
func (s server) settings(more obj) obj {
	out := obj{"dialect": s.dialect, "address": s.address, "database": s.database, "username": s.username, "password": s.password}
	maps.Copy(out, more)
	return out
}

func do(t testing.TB, db *stdsql.DB, text string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	if _, err := db.ExecContext(ctx, text); err != nil {
		t.Fatalf("%s: %v", text, err)
	}
}

// ask gives the first column of each row; null is "NULL".
func ask(t testing.TB, db *stdsql.DB, text string) (out []string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	rows, err := db.QueryContext(ctx, text)
	if err != nil {
		t.Fatalf("%s: %v", text, err)
	}
	defer rows.Close()
	for rows.Next() {
		var one stdsql.NullString
		if err := rows.Scan(&one); err != nil {
			t.Fatal(err)
		}
		if !one.Valid {
			one.String = "NULL"
		}
		out = append(out, one.String)
	}
	if err := rows.Err(); err != nil {
		t.Fatal(err)
	}
	return out
}

// types are the columns' types that have other names in each dialect.
var types = map[string]*strings.Replacer{
	"postgres": strings.NewReplacer("SERIAL", "bigserial", "BYTES", "bytea", "TEXT", "text", "TIME", "timestamptz", "QUOTE", `"`),
	"mariadb":  strings.NewReplacer("SERIAL", "bigint auto_increment", "BYTES", "longblob", "TEXT", "varchar(200)", "TIME", "datetime(6)", "QUOTE", "`"),
}

var tables struct {
	sync.Mutex
	n int
}

// table makes one of these columns and drops it in the end.
func (s server) table(t testing.TB, db *stdsql.DB, columns string) string {
	t.Helper()
	tables.Lock()
	tables.n++
	name := fmt.Sprintf("hookline_%d_%d", os.Getpid(), tables.n)
	tables.Unlock()
	do(t, db, types[s.dialect].Replace("create table "+name+" ("+columns+")"))
	t.Cleanup(func() { do(t, db, "drop table if exists "+name) })
	return name
}

// configured returns a transport with the settings, closed at the test's end.
func configured(t testing.TB, settings obj) *sql.Transport {
	t.Helper()
	tr := sql.New(sql.WithVersion("1.2.3"))
	raw, err := json.Marshal(settings)
	if err != nil {
		t.Fatal(err)
	}
	if err := tr.Configure(t.Context(), raw); err != nil {
		t.Fatalf("configure: %v", err)
	}
	t.Cleanup(func() { _ = tr.Close() })
	return tr
}

func message(id string) *transport.Message {
	return &transport.Message{
		ID: id, EventID: "0198c0de-0000-7000-8000-000000000001", DeliveryID: "d1", Attempt: 1,
		Hook: "demo", Route: "ehr", Stage: "uat", Kind: "insert", Lane: "demo/ehr/435",
		ReceivedAt:  time.Date(2026, 3, 4, 5, 6, 7, 123456000, time.UTC),
		ContentType: "application/json",
		Payload:     []byte(payloadText),
	}
}

const payloadText = `{"trans_id":"435","patient":"row-secret","n":7,"ok":true,"none":null,"new":{"a/b":[1,{"x":"deep"}]}}`

// deliver makes one attempt with a deadline that only a hanging target meets.
func deliver(t testing.TB, tr *sql.Transport, m *transport.Message, within time.Duration) transport.Receipt {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), within)
	defer cancel()
	return tr.Deliver(ctx, m)
}

const ample = 20 * time.Second

// want is targettest.Want, and the detail must have the words.
func want(t testing.TB, r transport.Receipt, effect transport.Effect, code transport.Code, words ...string) {
	t.Helper()
	targettest.Want(t, r, effect, code, 0)
	for _, w := range words {
		if !strings.Contains(r.Detail, w) {
			t.Errorf("%q does not say %q", r.Detail, w)
		}
	}
}
