package sql

import (
	"encoding/json"
	"maps"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/hookline/hookline/plugins/target"
)

// The dialects.
const (
	postgreSQL = "postgres"
	mariaDB    = "mariadb"
)

// settings is the JSON as written; settings.schema.json describes it.
type settings struct {
	Dialect        string            `json:"dialect"`
	Address        string            `json:"address"`
	Database       string            `json:"database"`
	Username       string            `json:"username"`
	Password       string            `json:"password"`
	TLS            *target.TLS       `json:"tls"`
	Statement      string            `json:"statement"`
	RequireRow     bool              `json:"require_row"`
	Table          string            `json:"table"`
	Columns        map[string]string `json:"columns"`
	OnDuplicate    string            `json:"on_duplicate"`
	MaxConnections int               `json:"max_connections"`
	IdleTimeout    string            `json:"idle_timeout"`
	target.Network
}

// defaults are those that the schema tells; a test holds the two together.
func defaults() settings {
	return settings{OnDuplicate: keepRow, MaxConnections: 10, IdleTimeout: "1m", Network: target.DefaultNetwork()}
}

// What becomes of a row whose message id is there.
const (
	keepRow   = "keep"
	updateRow = "update"
)

// database is the settings as they are used. It does not change.
type database struct {
	dialect            string
	addr, host         string // addr is host:port
	name               string
	username, password string
	statement          *statement
	requireRow         bool
	tls                *target.TLS
	dialer             *target.Dialer
	connections        int
	idle               time.Duration
}

// parseSettings turns JSON into a database, or reports everything that is wrong. No
// value appears in an error: it may be a secret, or hold one.
func parseSettings(raw json.RawMessage) (*database, error) {
	s := defaults()
	if err := target.Decode("sql", raw, &s); err != nil {
		return nil, err
	}
	var bad target.Faults
	d := &database{
		dialect: s.Dialect, name: s.Database, username: s.Username, password: s.Password,
		requireRow: s.RequireRow, tls: s.TLS, connections: s.MaxConnections,
	}
	port := "5432"
	switch s.Dialect {
	case postgreSQL:
	case mariaDB:
		port = "3306"
	default:
		bad.Add("dialect", "must be postgres or mariadb")
	}
	d.addr, d.host = bad.Address("address", s.Address, port)
	text(&bad, "database", s.Database)
	text(&bad, "username", s.Username)
	if target.HasControl(s.Password) {
		bad.Add("password", "must not have control characters; a file must not hold a second line")
	}
	s.TLS.Check(&bad)
	s.parseWork(d, &bad)
	if s.MaxConnections < 1 || s.MaxConnections > 1000 {
		bad.Add("max_connections", "must be from 1 to 1000")
	}
	d.idle = bad.Duration("idle_timeout", s.IdleTimeout)
	d.dialer = s.Dialer(&bad)
	return d, bad.Err()
}

func text(bad *target.Faults, field, s string) {
	if s == "" || target.HasControl(s) || !utf8.ValidString(s) {
		bad.Add(field, "must be text without control characters")
	}
}

// parseWork reads what is done with a message: a statement or a table.
func (s *settings) parseWork(d *database, bad *target.Faults) {
	var err error
	switch {
	case s.Statement != "" && s.Table != "":
		bad.Add("table", "excludes statement; use one of them")
	case s.Statement != "":
		if len(s.Columns) > 0 {
			bad.Add("columns", "needs table; a statement names its columns itself")
		}
		if s.OnDuplicate != keepRow {
			bad.Add("on_duplicate", "needs table; write it into the statement")
		}
		if d.statement, err = parseStatement(s.Statement, d.dialect); err != nil {
			bad.Add("statement", "%s", err.Error())
		}
	case s.Table == "":
		bad.Add("statement", "is missing; give a statement, or table and columns")
	default:
		if s.RequireRow {
			bad.Add("require_row", "needs statement; a row that is there already is as good")
		}
		s.parseTable(d, bad)
	}
}

func (s *settings) parseTable(d *database, bad *target.Faults) {
	parts := strings.Split(s.Table, ".")
	if len(parts) > 2 || slices.ContainsFunc(parts, badName) {
		bad.Add("table", "must be a table's name, or schema.table, each part of 1 to 63 bytes")
	}
	if s.OnDuplicate != keepRow && s.OnDuplicate != updateRow {
		bad.Add("on_duplicate", "must be keep or update")
	}
	if len(s.Columns) == 0 {
		bad.Add("columns", "is missing; it must say for each column what goes into it, such as { id = \":id\", body = \":payload\" }")
		return
	}
	var columns []column
	var keys []string
	for _, name := range slices.Sorted(maps.Keys(s.Columns)) {
		if badName(name) {
			bad.Add("columns", "must have names of 1 to 63 bytes, without control characters and \"`")
			continue
		}
		src, err := parseSource(s.Columns[name])
		if err != nil {
			bad.Add("columns."+name, "%s", err.Error())
			continue
		}
		if src.name == "id" {
			keys = append(keys, name)
		}
		columns = append(columns, column{name, src})
	}
	if len(keys) != 1 {
		bad.Add("columns", "must have one column with \":id\", by which the table knows a message that it has")
		return
	}
	d.statement = upsert(d.dialect, parts, columns, keys[0], s.OnDuplicate == updateRow)
}

// badName refuses what a database would not take, and quotes, so that quoting a name
// is putting quotes around it.
func badName(name string) bool {
	return name == "" || len(name) > 63 || target.HasControl(name) || !utf8.ValidString(name) || strings.ContainsAny(name, "\"`")
}
