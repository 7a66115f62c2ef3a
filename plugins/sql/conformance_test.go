package sql_test

import (
	stdsql "database/sql"
	"encoding/json"
	"os"
	"testing"

	"github.com/hookline/hookline/plugins/conformance"
	"github.com/hookline/hookline/plugins/sql"
	"github.com/hookline/hookline/plugins/transport"
)

const conformanceSecret = "correct-horse-battery"

func TestConformance(t *testing.T) {
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range shared() {
		for _, form := range []string{"table", "statement"} {
			subject := conformance.Subject{
				New:    func() transport.Transport { return sql.New() },
				Target: func(tb testing.TB) conformance.Target { return newSystem(tb, s, form) },
				States: []conformance.State{conformance.Down, conformance.Slow, conformance.Rejecting},
				Secret: conformanceSecret,
				Faults: faults,
				Bad: []conformance.BadSettings{
					{Name: "nothing to do", Settings: json.RawMessage(`{"dialect":"postgres","address":"x","database":"d","username":"u"}`), Field: "statement"},
					{Name: "another database", Settings: json.RawMessage(`{"dialect":"oracle","address":"x","database":"d","username":"u","statement":"select 1"}`), Field: "dialect"},
					{Name: "a parameter that is none", Settings: json.RawMessage(`{"dialect":"postgres","address":"x","database":"d","username":"u","statement":"select :hunter2"}`), Field: "statement", Hidden: "hunter2"},
					{Name: "a column from nowhere", Settings: json.RawMessage(`{"dialect":"postgres","address":"x","database":"d","username":"u","table":"t","columns":{"id":":id","b":":hunter2"}}`), Field: "columns.b", Hidden: "hunter2"},
				},
			}
			if (s.dialect == "postgres") == (form == "table") { // each form and each database in a process of its own once
				subject.Command = []string{exe, "plugin"}
			}
			t.Run(s.dialect+" "+form, func(t *testing.T) { conformance.Test(t, subject) })
		}
	}
}

var faults = []conformance.Fault{
	{Name: "a user that is not there", Settings: with("username", "nobody_here"),
		Effect: transport.None, Codes: []transport.Code{transport.UnauthorizedByTarget}},
	{Name: "a database that is not there", Settings: with("database", "nowhere"),
		// MariaDB tells only those who may know.
		Effect: transport.None, Codes: []transport.Code{transport.NotFoundAtTarget, transport.UnauthorizedByTarget}},
	{Name: "TLS where the server has none", Settings: with("tls", obj{}),
		Effect: transport.None, Codes: []transport.Code{transport.TLSError}},
	{Name: "an address that is denied", Settings: with("deny_addresses", []string{"127.0.0.0/8"}),
		Effect: transport.None, Codes: []transport.Code{transport.AddressDenied}},
	{Name: "a message that is too large", Message: func(m *transport.Message) { m.Payload = make([]byte, 3<<20) },
		Effect: transport.None, Codes: []transport.Code{transport.RejectedByTarget}},
	{Name: "a table that has gone", Make: func(to conformance.Target) { to.(*system).rename() },
		Effect: transport.None, Codes: []transport.Code{transport.NotFoundAtTarget}},
}

func with(key string, value any) func(conformance.Target) json.RawMessage {
	return func(to conformance.Target) json.RawMessage {
		var s obj
		_ = json.Unmarshal(to.Settings(), &s)
		s[key] = value
		out, _ := json.Marshal(s)
		return out
	}
}

// system is a table behind a proxy.
type system struct {
	tb     testing.TB
	server server
	form   string
	db     *stdsql.DB
	table  string // as it is named now
	first  string
	proxy  *proxy
}

func newSystem(tb testing.TB, s server, form string) *system {
	y := &system{tb: tb, server: s, form: form, db: s.open(tb)}
	y.table = s.table(tb, y.db, "seq SERIAL primary key, id TEXT "+map[string]string{"table": "unique", "statement": ""}[form]+", payload BYTES check (octet_length(payload) < 2097152)")
	y.first = y.table
	user := y.first
	if s.dialect == "postgres" {
		do(tb, y.db, "create role "+user+" login password '"+conformanceSecret+"'; grant select, insert on "+y.table+" to "+user+"; grant usage on sequence "+y.table+"_seq_seq to "+user)
		tb.Cleanup(func() { do(tb, y.db, "drop owned by "+user+"; drop role "+user) })
	} else {
		do(tb, y.db, "create or replace user "+user+" identified by '"+conformanceSecret+"'; grant select, insert, update on "+y.table+" to "+user)
		tb.Cleanup(func() { do(tb, y.db, "drop user "+user) })
	}
	y.proxy = newProxy(tb, s.address)
	return y
}

func (y *system) Settings() json.RawMessage {
	s := y.server.settings(obj{"address": y.proxy.address, "username": y.first, "password": conformanceSecret})
	if y.form == "table" {
		s["table"], s["columns"] = y.first, obj{"id": ":id", "payload": ":payload"}
	} else {
		s["statement"] = "insert into " + y.first + " (id, payload) values (:id, :payload)"
	}
	out, _ := json.Marshal(s)
	return out
}

func (y *system) Set(state conformance.State) {
	switch state {
	case conformance.Up:
		y.proxy.up()
	case conformance.Down:
		y.proxy.down()
	case conformance.Slow:
		y.proxy.silence("")
	case conformance.Rejecting:
		if y.server.dialect == "postgres" {
			do(y.tb, y.db, "alter table "+y.table+" add constraint refused check (false) not valid")
		} else {
			do(y.tb, y.db, "set statement check_constraint_checks = off for alter table "+y.table+" add constraint refused check (1 = 0)")
		}
	}
}

func (y *system) rename() {
	gone := y.table + "_gone"
	do(y.tb, y.db, "alter table "+y.table+" rename to "+gone)
	y.table = gone
	y.tb.Cleanup(func() { do(y.tb, y.db, "drop table "+gone) })
}

func (y *system) Received() (out [][]byte) {
	for _, one := range ask(y.tb, y.db, "select payload from "+y.table+" order by seq") {
		out = append(out, []byte(one))
	}
	return out
}
