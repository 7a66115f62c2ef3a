package app_test

import (
	"cmp"
	"context"
	"database/sql"
	"fmt"
	"net/url"
	"os"
	"strings"
	"testing"
	"time"

	_ "github.com/go-sql-driver/mysql"
	_ "github.com/jackc/pgx/v5/stdlib"

	"github.com/hookline/hookline/plugins/transport"
)

// What TrialKit sends is a row when it hears that it was delivered.
func TestSQL(t *testing.T) {
	for _, c := range []struct{ dialect, driver, variable, standard, dsn, columns string }{
		{"postgres", "pgx", "HOOKLINE_TEST_POSTGRES", "postgres://postgres@127.0.0.1:5432/test", "postgres://%s:%s@%s/%s?sslmode=disable", "id text primary key, record int, at timestamptz, body bytea"},
		{"mariadb", "mysql", "HOOKLINE_TEST_MARIADB", "mariadb://root@127.0.0.1:3306/test", "%s:%s@tcp(%s)/%s", "id varchar(99) primary key, record int, at datetime(6), body longblob"},
	} {
		t.Run(c.dialect, func(t *testing.T) {
			u, err := url.Parse(cmp.Or(os.Getenv(c.variable), c.standard))
			if err != nil {
				t.Fatalf("%s is no URL", c.variable)
			}
			password, _ := u.User.Password()
			database := strings.TrimPrefix(u.Path, "/")
			db, err := sql.Open(c.driver, fmt.Sprintf(c.dsn, u.User.Username(), password, u.Host, database))
			if err != nil {
				t.Fatal(err)
			}
			defer db.Close()
			ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
			defer cancel()
			if err := db.PingContext(ctx); err != nil {
				t.Skipf("!!! not tested on %s: start one and set %s to its URL: %v", c.dialect, c.variable, err)
			}
			table := fmt.Sprintf("hookline_app_%d_%d", os.Getpid(), time.Now().UnixNano())
			do := func(text string) {
				t.Helper()
				if _, err := db.ExecContext(context.WithoutCancel(ctx), text); err != nil {
					t.Fatalf("%s: %v", text, err)
				}
			}
			do("create table " + table + " (" + c.columns + ")")
			defer do("drop table " + table)
			if c.dialect == "postgres" {
				do("create role " + table + " login password '" + ehrPassword + "'")
				defer func() { do("drop owned by " + table); do("drop role " + table) }()
			} else {
				do("create user " + table + " identified by '" + ehrPassword + "'")
				defer do("drop user " + table)
			}
			do("grant select, insert, update on " + table + " to " + table)
			d := start(t, preamble+`
[transports.warehouse]
plugin = "sql"
[transports.warehouse.settings]
dialect = "`+c.dialect+`"
address = "`+u.Host+`"
database = "`+database+`"
username = "`+table+`"
password = "env:EHR_PASSWORD"
table = "`+table+`"
columns = { id = ":id", record = ":/trans_id", at = ":received_at", body = ":payload" }
[routes.warehouse]
hooks = ["demo"]
transport = "warehouse"
`)
			body := event("319")
			if a := d.send(call{body: body}); a.status != 200 || a.Code != transport.Delivered {
				t.Fatalf("answer %d %s", a.status, a.body)
			}
			var record, got string
			if err := db.QueryRowContext(ctx, "select record, body from "+table).Scan(&record, &got); err != nil {
				t.Fatal(err)
			}
			if got != string(body) || !strings.Contains(got, `"trans_id":"`+record+`"`) {
				t.Errorf("record %s: the table has %q, sent was %q", record, got, body)
			}
		})
	}
}
