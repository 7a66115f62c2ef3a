package sql_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/hookline/hookline/plugins/sql"
	"github.com/hookline/hookline/plugins/target/targettest"
	"github.com/hookline/hookline/plugins/transport"
)

func TestBadSettings(t *testing.T) {
	const to = `"dialect":"postgres","address":"x","database":"d","username":"u"`
	const ok = to + `,"statement":"select 1"`
	const table = to + `,"table":"t","columns":{"id":":id"}`
	for in, want := range map[string]string{
		``:     "dialect address database username statement",
		`null`: "dialect address database username statement",
		`[1]`:  "",
		`{"dialect":"mysql","address":"x","database":"d","username":"u","statement":"select 1"}`: "dialect",
		`{` + ok + `,"address":"secret:port"}`:                                                   "address",
		`{` + ok + `,"address":"postgres://secret"}`:                                             "address",
		`{` + ok + `,"database":""}`:                                                             "database",
		`{` + ok + `,"username":"a\u0000secret"}`:                                                "username",
		`{` + ok + `,"password":"secret\n"}`:                                                     "password",
		`{` + ok + `,"passwd":"secret"}`:                                                         "passwd",
		`{` + ok + `,"password":["secret"]}`:                                                     "password",
		`{` + to + `,"statement":"drop table secret"}`:                                           "statement",
		`{` + to + `,"statement":"select :secret"}`:                                              "statement",
		`{` + ok + `,"columns":{"a":":id"}}`:                                                     "columns",
		`{` + ok + `,"on_duplicate":"update"}`:                                                   "on_duplicate",
		`{` + ok + `,"table":"t"}`:                                                               "table",
		`{` + table + `,"require_row":true}`:                                                     "require_row",
		`{` + table + `,"on_duplicate":"secret"}`:                                                "on_duplicate",
		`{` + to + `,"table":"t"}`:                                                               "columns",
		`{` + to + `,"table":"a.b.secret","columns":{"id":":id"}}`:                               "table",
		`{` + to + `,"table":"a..b","columns":{"id":":id"}}`:                                     "table",
		`{` + to + `,"table":"a\"secret","columns":{"id":":id"}}`:                                "table",
		`{` + to + `,"table":"t","columns":{"id":":id","x":"secret"}}`:                           "columns.x",
		`{` + to + `,"table":"t","columns":{"id":":id","x":":/a~secret"}}`:                       "columns.x",
		`{` + to + `,"table":"t","columns":{"id":":id","x` + "`" + `":":key"}}`:                  "columns",
		`{` + to + `,"table":"t","columns":{"x":":payload"}}`:                                    "columns",
		`{` + to + `,"table":"t","columns":{"x":":id","y":":id"}}`:                               "columns",
		`{` + to + `,"table":"t","columns":{"x":1}}`:                                             "columns",
		`{` + ok + `,"tls":{"min_version":"1.1"}}`:                                               "tls.min_version",
		`{` + ok + `,"tls":{"cert_file":"c"}}`:                                                   "tls.key_file",
		`{` + ok + `,"tls":{"ca_file":"/nowhere/secret"}}`:                                       "tls.ca_file",
		`{` + ok + `,"max_connections":0}`:                                                       "max_connections",
		`{` + ok + `,"max_connections":1001}`:                                                    "max_connections",
		`{` + ok + `,"idle_timeout":"5"}`:                                                        "idle_timeout",
		`{` + ok + `,"dial_timeout":"0s"}`:                                                       "dial_timeout",
		`{` + ok + `,"deny_addresses":["secret.example"]}`:                                       "deny_addresses[0]",
		`{"dialect":"x","address":"","max_connections":0}`:                                       "dialect address database username statement max_connections",
	} {
		err := sql.New().Configure(t.Context(), []byte(in))
		if err == nil {
			t.Errorf("%s: accepted", in)
			continue
		}
		if got := strings.Join(targettest.Fields(t, err), " "); got != want {
			t.Errorf("%s: %q (%v), want %q", in, got, err, want)
		}
		if shown := fmt.Sprintf("%v %+v", err, err); strings.Contains(shown, "secret") {
			t.Errorf("%s: the error shows a secret: %v", in, err)
		}
	}
}

// Only the form that looks for the message's id may say so, and not before it is known.
func TestIdempotent(t *testing.T) {
	to := obj{"dialect": "mariadb", "address": "x", "database": "d", "username": "u"}
	for want, settings := range map[bool]obj{
		true:  {"table": "t", "columns": obj{"id": ":id"}},
		false: {"statement": "insert into t values (:id)"},
	} {
		if sql.New().Describe().Idempotent {
			t.Error("idempotent, and it is not known what it does")
		}
		for k, v := range to {
			settings[k] = v
		}
		if got := configured(t, settings).Describe().Idempotent; got != want {
			t.Errorf("%v: idempotent is %t", settings, got)
		}
	}
	tr := configured(t, obj{"dialect": "postgres", "address": "x", "database": "d", "username": "u", "statement": "select 1"})
	if err := tr.Configure(t.Context(), nil); err == nil {
		t.Error("configured twice")
	}
}

func TestSchema(t *testing.T) {
	d := sql.New(sql.WithVersion("9")).Describe()
	if d.Name != "sql" || d.Version != "9" || d.Exclusive {
		t.Errorf("%+v", d)
	}
	told := targettest.Told(transport.RedirectRefused)
	for name := range sql.Parameters {
		told = append(told, ":"+name)
	}
	const to = `"dialect":"postgres","address":"x","database":"d","username":"u"`
	targettest.Schema{
		About: d,
		Takes: map[string]bool{
			`{` + to + `,"statement":"select 1","require_row":true}`: true,
			`{` + to + `,"password":"","table":"t","columns":{"a":":id"},"on_duplicate":"update","tls":{},"max_connections":1,"idle_timeout":"1m30s","dial_timeout":"5s","deny_addresses":["10.0.0.0/8"],"allow_link_local":true}`: true,
			`{}`:                               false,
			`{` + to + `,"other":1}`:           false,
			`{` + to + `,"columns":{"a":1}}`:   false,
			`{` + to + `,"tls":{"off":true}}`:  false,
			`{` + to + `,"max_connections":0}`: false,
		},
		Defaults: sql.Defaults(),
		Optional: []string{"statement", "table"},
		Secret:   []string{"password"},
		Told:     told,
	}.Check(t)
}
