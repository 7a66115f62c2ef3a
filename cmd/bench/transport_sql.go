package main

import (
	"cmp"
	"context"
	stdsql "database/sql"
	"fmt"
	"net/url"
	"os"
	"strings"

	"github.com/go-sql-driver/mysql"
	_ "github.com/jackc/pgx/v5/stdlib" // the driver "pgx"

	"github.com/hookline/hookline/plugins/sql"
	"github.com/hookline/hookline/plugins/transport"
)

// The databases of Hookline's tests, each with a table of rows by message id.
var (
	postgresEntry = transportEntry{name: "sql-postgres", make: newSQL, open: func(ctx context.Context, _ *bench) (any, func(), error) {
		return openSQL(ctx, "postgres", cmp.Or(os.Getenv(postgresEnv), postgresDefault), "id text primary key, record text, body bytea")
	}}
	mariadbEntry = transportEntry{name: "sql-mariadb", make: newSQL, open: func(ctx context.Context, _ *bench) (any, func(), error) {
		return openSQL(ctx, "mariadb", cmp.Or(os.Getenv("HOOKLINE_TEST_MARIADB"), "mariadb://root@127.0.0.1:3306/test"), "id varchar(99) primary key, record varchar(99), body longblob")
	}}
)

func newSQL() transport.Transport { return sql.New() }

func openSQL(ctx context.Context, dialect, raw, columns string) (any, func(), error) {
	u, err := url.Parse(raw)
	if err != nil {
		return nil, nil, fmt.Errorf("the variable with the URL of %s holds none", dialect)
	}
	password, _ := u.User.Password()
	database := strings.TrimPrefix(u.Path, "/")
	driver, dsn := "pgx", raw
	if dialect == "mariadb" {
		c := mysql.NewConfig()
		c.User, c.Passwd, c.Net, c.Addr, c.DBName, c.Logger = u.User.Username(), password, "tcp", u.Host, database, &mysql.NopLogger{}
		driver, dsn = "mysql", c.FormatDSN()
	}
	db, err := stdsql.Open(driver, dsn)
	if err != nil {
		return nil, nil, fmt.Errorf("the URL of %s is not one that its driver takes", dialect)
	}
	table := fmt.Sprintf("hookline_bench_%d", os.Getpid())
	if _, err := db.ExecContext(ctx, "create table "+table+" ("+columns+")"); err != nil {
		_ = db.Close()
		return nil, nil, fmt.Errorf("%w: %s does not take a new table: start one, or let the variable of Hookline's tests name another", errAbsent, dialect)
	}
	end := func() {
		// Not ctx: an interrupted run leaves nothing behind either.
		_, _ = db.ExecContext(context.WithoutCancel(ctx), "drop table "+table)
		_ = db.Close()
	}
	return map[string]any{
		"dialect": dialect, "address": u.Host, "database": database, "username": u.User.Username(), "password": password,
		"table": table, "columns": map[string]string{"id": ":id", "record": ":/trans_id", "body": ":payload"}, "max_connections": 16,
	}, end, nil
}
