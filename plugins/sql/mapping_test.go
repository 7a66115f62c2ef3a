package sql_test

import (
	"context"
	stdsql "database/sql"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/go-sql-driver/mysql"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/hookline/hookline/plugins/sql"
	"github.com/hookline/hookline/plugins/target/targettest"
	"github.com/hookline/hookline/plugins/transport"
)

// Each value is read as the column's type.
func TestValuesArriveAsTheColumnsTypes(t *testing.T) {
	onEach(t, func(t *testing.T, s server) {
		db := s.open(t)
		name := s.table(t, db, "id TEXT primary key, n int, ok boolean, none TEXT, deep TEXT, at TIME, doc "+map[string]string{"postgres": "jsonb", "mariadb": "json"}[s.dialect]+", raw BYTES, QUOTEodd nameQUOTE TEXT")
		tr := configured(t, s.settings(obj{"table": name, "columns": obj{
			"id": ":id", "n": ":/n", "ok": ":/ok", "none": ":/nowhere", "deep": ":/new/a~1b/1/x", "at": ":received_at", "doc": ":payload", "raw": ":payload", "odd name": ":hook",
		}}))
		want(t, deliver(t, tr, message("m1"), ample), transport.Done, transport.Delivered)
		check := "select concat_ws('|', id, n + 1, case when ok then 'yes' end, coalesce(none, 'null'), deep, to_char(at at time zone 'UTC', 'YYYY-MM-DD HH24:MI:SS.US'), doc->>'trans_id', \"odd name\") from " + name
		if s.dialect == "mariadb" {
			check = "select concat_ws('|', id, n + 1, case when ok then 'yes' end, coalesce(none, 'null'), deep, at, json_value(doc, '$.trans_id'), `odd name`) from " + name
		}
		if got := ask(t, db, check); !slices.Equal(got, []string{"m1|8|yes|null|deep|2026-03-04 05:06:07.123456|435|demo"}) {
			t.Error(got)
		}
		if got := ask(t, db, "select raw from "+name); got[0] != payloadText {
			t.Error(got)
		}
	})
}

// One message, once: also beside other unique keys, and with another's row in the way.
func TestUpsert(t *testing.T) {
	onEach(t, func(t *testing.T, s server) {
		db := s.open(t)
		for _, on := range []string{"keep", "update"} {
			name := s.table(t, db, "id TEXT primary key, record TEXT, n TEXT, unique (record)")
			tr := configured(t, s.settings(obj{"table": name, "columns": obj{"id": ":id", "record": ":/trans_id", "n": ":attempt"}, "on_duplicate": on}))
			m := message("m1")
			for m.Attempt = 1; m.Attempt <= 3; m.Attempt++ {
				want(t, deliver(t, tr, m, ample), transport.Done, transport.Delivered)
			}
			n := map[string]string{"keep": "m1 435 1", "update": "m1 435 3"}[on]
			if got := ask(t, db, "select concat(id, ' ', record, ' ', n) from "+name); !slices.Equal(got, []string{n}) {
				t.Error(on, got)
			}
			// Another message of the same record: the table does not want it.
			want(t, deliver(t, tr, message("m2"), ample), transport.None, transport.RejectedByTarget, "unique")
			if got := ask(t, db, "select concat(id, ' ', record, ' ', n) from "+name); !slices.Equal(got, []string{n}) {
				t.Error(on, "the row of another message was changed:", got)
			}
		}
		// What cannot be an upsert is refused: the table would take a message twice.
		plain := s.table(t, db, "id TEXT, n TEXT")
		tr := configured(t, s.settings(obj{"table": plain, "columns": obj{"id": ":id"}}))
		want(t, deliver(t, tr, message("m1"), ample), transport.None, transport.RejectedByTarget, "no unique index")
		want(t, tr.Check(t.Context()), transport.None, transport.RejectedByTarget, "no unique index")
	})
}

// What the server says, and what is made of it. The session stays of use.
func TestRefusals(t *testing.T) {
	onEach(t, func(t *testing.T, s server) {
		db := s.open(t)
		name := s.table(t, db, "id TEXT primary key, n int not null, short varchar(3), constraint small check (n < 100)")
		child := s.table(t, db, "id TEXT primary key, parent TEXT, constraint parent_is_there foreign key (parent) references "+name+" (id)")
		t.Cleanup(func() { do(t, db, "drop table if exists "+child) }) // before its parent
		raise := s.table(t, db, "id TEXT primary key")
		if s.dialect == "postgres" {
			do(t, db, "create function "+raise+"_f() returns trigger language plpgsql as $$ begin raise exception 'not %', new.id; end $$; create trigger no before insert on "+raise+" for each row execute function "+raise+"_f()")
			t.Cleanup(func() { do(t, db, "drop function "+raise+"_f() cascade") })
		} else {
			do(t, db, "create trigger "+raise+"_t before insert on "+raise+" for each row signal sqlstate '45000' set message_text = 'row-secret'")
		}
		do(t, db, "insert into "+name+" values ('there', 1, 'x')")
		pg := s.dialect == "postgres"
		either := func(p, m string) string {
			if pg {
				return p
			}
			return m
		}
		for _, c := range []struct {
			statement string
			code      transport.Code
			words     []string
		}{
			{"insert into " + name + " values ('there', 1, :/patient)", transport.RejectedByTarget, []string{either("22001", "1406"), either("", "column short")}},
			{"insert into " + name + " (id, n) values (:/patient, :/none)", transport.RejectedByTarget, []string{either("23502", "1048"), "column n"}},
			{"insert into " + name + " (id, n) values (:/patient, 100 + :/n)", transport.RejectedByTarget, []string{either("23514", "4025"), "constraint small"}},
			{"insert into " + name + " (id, n) values (:/patient, :/patient)", transport.RejectedByTarget, []string{either("22P02", "1366"), either("", "n")}},
			{"insert into " + name + " (id, n) values ('there', :/n)", transport.RejectedByTarget, []string{either("23505", "1062"), either("constraint "+name+"_pkey", "key PRIMARY")}},
			{"insert into " + child + " values (:id, :/patient)", transport.RejectedByTarget, []string{either("23503", "1452"), "constraint parent_is_there"}},
			{"insert into " + raise + " values (:/patient)", transport.RejectedByTarget, []string{either("P0001", "1644")}},
			{"insert into nowhere_at_all values (:id)", transport.NotFoundAtTarget, []string{either("42P01", "1146")}},
			{"insert into " + name + " (nothing) values (:id)", transport.NotFoundAtTarget, []string{either("42703", "1054")}},
			{"select no_function_of_ours(:id)", transport.NotFoundAtTarget, []string{either("42883", "1305")}},
			{"insert insert (:id)", transport.RejectedByTarget, []string{either("42601", "1064")}},
		} {
			tr := configured(t, s.settings(obj{"statement": c.statement, "max_connections": 1}))
			for range 2 { // the second time on the same session, if it is one
				want(t, deliver(t, tr, message("m1"), ample), transport.None, c.code, c.words...)
			}
			if c.code != transport.RejectedByTarget {
				want(t, tr.Check(t.Context()), transport.None, c.code)
			}
		}
		if got := ask(t, db, "select id from "+name); len(got) != 1 {
			t.Error("a refused statement has left something:", got)
		}
	})
}

func TestRequireRow(t *testing.T) {
	onEach(t, func(t *testing.T, s server) {
		db := s.open(t)
		name := s.table(t, db, "id TEXT primary key, n int")
		do(t, db, "insert into "+name+" values ('435', 7)")
		for _, require := range []bool{true, false} {
			tr := configured(t, s.settings(obj{"statement": "update " + name + " set n = :/n where id = :/trans_id", "require_row": require}))
			want(t, deliver(t, tr, message("m1"), ample), transport.Done, transport.Delivered) // though nothing changes
			other := message("m2")
			other.Payload = []byte(`{"trans_id":"436"}`)
			r := deliver(t, tr, other, ample)
			if require {
				want(t, r, transport.None, transport.RejectedByTarget, "no row")
			} else {
				want(t, r, transport.Done, transport.Delivered)
			}
		}
		tr := configured(t, s.settings(obj{"statement": "insert into " + name + " (id) values (:/id)"}))
		text := message("m3")
		text.Payload = []byte("MSH|row-secret")
		want(t, deliver(t, tr, text, ample), transport.None, transport.RejectedByTarget, "nothing was sent", "not JSON")
	})
}

// person is a user of the test's own, with a table and grants on it.
func (s server) person(t *testing.T, db *stdsql.DB, grants string) (user, table string) {
	table = s.table(t, db, "id TEXT primary key, n int")
	user = table + "_u"
	if s.dialect == "postgres" {
		do(t, db, "create role "+user+" login")
		t.Cleanup(func() { do(t, db, "drop owned by "+user+"; drop role "+user) })
	} else {
		do(t, db, "create or replace user "+user+" with max_user_connections 16")
		t.Cleanup(func() { do(t, db, "drop user "+user) })
	}
	if grants != "" {
		do(t, db, "grant "+grants+" on "+table+" to "+user)
	}
	return user, table
}

func TestWhoMayNot(t *testing.T) {
	onEach(t, func(t *testing.T, s server) {
		db := s.open(t)
		user, table := s.person(t, db, "select")
		if s.dialect == "mariadb" { // which counts from the first connection on
			do(t, db, "alter user "+user+" with max_user_connections 1")
		}
		settings := s.settings(obj{"username": user, "password": "", "statement": "insert into " + table + " (id) values (:id)"})
		tr := configured(t, settings)
		want(t, deliver(t, tr, message("m1"), ample), transport.None, transport.UnauthorizedByTarget)
		want(t, tr.Check(t.Context()), transport.None, transport.UnauthorizedByTarget)

		do(t, db, "grant insert on "+table+" to "+user)
		var r transport.Receipt
		targettest.Eventually(t, "the server to notice that the connection from before has ended", func() bool {
			r = deliver(t, tr, message("m1"), ample)
			return r.Code != transport.ThrottledByTarget
		})
		want(t, r, transport.Done, transport.Delivered)
		// The one connection is kept by the first transport.
		if s.dialect == "postgres" {
			do(t, db, "alter role "+user+" connection limit 1")
		}
		second := configured(t, settings)
		want(t, deliver(t, second, message("m2"), ample), transport.None, transport.ThrottledByTarget)
		_ = tr.Close()
		targettest.Eventually(t, "a connection", func() bool { return deliver(t, second, message("m2"), ample).Code == transport.Delivered })
	})
}

// A session that the server has ended, or a way that has broken, costs no attempt while
// the server is there.
func TestStaleSessions(t *testing.T) {
	onEach(t, func(t *testing.T, s server) {
		db := s.open(t)
		user, table := s.person(t, db, "select, insert")
		p := newProxy(t, s.address)
		tr := configured(t, s.settings(obj{"username": user, "password": "", "address": p.address, "statement": "insert into " + table + " (id) values (:id)"}))
		for n, end := range []func(){
			func() {},
			func() {
				if s.dialect == "postgres" {
					do(t, db, "select pg_terminate_backend(pid) from pg_stat_activity where usename = '"+user+"'")
				} else {
					do(t, db, "kill user "+user)
				}
			},
			func() { p.down(); p.up() },
		} {
			end()
			want(t, deliver(t, tr, message(fmt.Sprint("m", n)), ample), transport.Done, transport.Delivered)
		}
		if got := ask(t, db, "select id from "+table+" order by id"); !slices.Equal(got, []string{"m0", "m1", "m2"}) {
			t.Error(got)
		}
	})
}

// COMMIT without an answer is all that is unknown.
func TestCommitLost(t *testing.T) {
	onEach(t, func(t *testing.T, s server) {
		db := s.open(t)
		table := s.table(t, db, "id TEXT primary key")
		p := newProxy(t, s.address)
		tr := configured(t, s.settings(obj{"address": p.address, "statement": "insert into " + table + " (id) values (:id)"}))
		want(t, deliver(t, tr, message("m0"), ample), transport.Done, transport.Delivered)

		commit := map[string]string{"postgres": "\x0bcommit\x00", "mariadb": "\x03commit"}[s.dialect] // the command, not a setting
		p.silence(commit)
		want(t, deliver(t, tr, message("m1"), 300*time.Millisecond), transport.Unknown, transport.Timeout, "COMMIT")
		p.up()
		if got := ask(t, db, "select count(*) from "+table); got[0] != "2" {
			t.Error("it was committed, and is not there:", got)
		}
		p.silence(commit)
		r := make(chan transport.Receipt)
		go func() { r <- deliver(t, tr, message("m2"), ample) }()
		targettest.Eventually(t, "the commit", func() bool { return ask(t, db, "select count(*) from "+table)[0] == "3" })
		p.down()
		want(t, <-r, transport.Unknown, transport.ConnectionReset, "COMMIT")
		p.up()
		want(t, deliver(t, tr, message("m3"), ample), transport.Done, transport.Delivered)
	})
}

// A statement that waits is surely not done when its time is over, nor when another
// transaction wins.
func TestLocks(t *testing.T) {
	onEach(t, func(t *testing.T, s server) {
		db := s.open(t)
		table := s.table(t, db, "id TEXT primary key, n int")
		other := s.table(t, db, "id int")
		do(t, db, "insert into "+table+" values ('a', 0), ('b', 0)")
		tr := configured(t, s.settings(obj{"statement": "update " + table + " set n = n + 1 where id in ('a', 'b') and :id is not null"}))
		if s.dialect == "postgres" {
			tr = configured(t, s.settings(obj{"statement": "update " + table + " set n = n + 1 where id in ('a', 'b') and :id::text is not null"}))
		}
		hold := func() *stdsql.Tx {
			tx, err := db.BeginTx(t.Context(), nil)
			if err != nil {
				t.Fatal(err)
			}
			// The one with more to lose wins in MariaDB, the one who looks later in
			// PostgreSQL.
			first := "select 1"
			if s.dialect == "postgres" {
				first = "set local deadlock_timeout = '20s'"
			}
			for _, text := range []string{first, "insert into " + other + " values (1), (2), (3), (4), (5), (6), (7), (8), (9)", "update " + table + " set n = n + 10 where id = 'b'"} {
				if _, err := tx.Exec(text); err != nil {
					t.Fatal(err)
				}
			}
			return tx
		}
		waiting := "select 1 from pg_stat_activity where wait_event_type = 'Lock' and query like 'update " + table + "%'"
		if s.dialect == "mariadb" {
			waiting = "select 1 from information_schema.innodb_trx where trx_state = 'LOCK WAIT' and trx_query like 'update " + table + "%'"
		}
		waits := func() bool {
			time.Sleep(150 * time.Millisecond) // MariaDB shows what it showed to one who asks again within 100 ms
			return len(ask(t, db, waiting)) > 0
		}
		tx := hold()
		started := time.Now()
		want(t, deliver(t, tr, message("m1"), 300*time.Millisecond), transport.None, transport.Timeout)
		if took := time.Since(started); took > 3*time.Second {
			t.Error("it took", took)
		}
		if err := tx.Commit(); err != nil {
			t.Fatal(err)
		}
		targettest.Eventually(t, "the end of what was abandoned", func() bool { return !waits() })
		if got := ask(t, db, "select n from "+table+" order by id"); !slices.Equal(got, []string{"0", "10"}) {
			t.Error("effect none, and it was done:", got)
		}

		tx = hold()
		r := make(chan transport.Receipt)
		go func() { r <- deliver(t, tr, message("m2"), ample) }()
		targettest.Eventually(t, "a wait", waits)
		if _, err := tx.Exec("update " + table + " set n = n + 10 where id = 'a'"); err != nil {
			t.Error("the wrong one has lost:", err)
		}
		want(t, <-r, transport.None, transport.TargetError, "deadlock")
		_ = tx.Rollback()
		want(t, deliver(t, tr, message("m2"), ample), transport.Done, transport.Delivered)

		// More attempts than connections wait for their turn, and not for ever.
		tx = hold()
		one := configured(t, s.settings(obj{"max_connections": 1, "statement": "delete from " + table + " where id = 'b'"}))
		ctx, cancel := context.WithCancel(t.Context())
		go func() { r <- one.Deliver(ctx, message("m3")) }()
		targettest.Eventually(t, "the first", func() bool {
			return strings.Contains(deliver(t, one, message("m4"), 100*time.Millisecond).Detail, "max_connections")
		})
		cancel()
		want(t, <-r, transport.None, transport.Timeout, "cancelled")
		_ = tx.Rollback()
	})
}

// A constraint that is looked at when COMMIT comes refuses it for sure.
func TestDeferredConstraint(t *testing.T) {
	onEach(t, func(t *testing.T, s server) {
		if s.dialect != "postgres" {
			return // MariaDB has none
		}
		db := s.open(t)
		table := s.table(t, db, "id text, constraint late unique (id) deferrable initially deferred")
		tr := configured(t, s.settings(obj{"statement": "insert into " + table + " values (:id)"}))
		want(t, deliver(t, tr, message("m1"), ample), transport.Done, transport.Delivered)
		want(t, deliver(t, tr, message("m1"), ample), transport.None, transport.RejectedByTarget, "23505", "constraint late")
		want(t, deliver(t, tr, message("m2"), ample), transport.Done, transport.Delivered)
	})
}

// A table of an engine without transactions keeps half of what it is given.
func TestEngineWithoutTransactions(t *testing.T) {
	onEach(t, func(t *testing.T, s server) {
		if s.dialect != "mariadb" {
			return
		}
		db := s.open(t)
		table := s.table(t, db, "id varchar(99) primary key")
		do(t, db, "alter table "+table+" engine = MyISAM")
		tr := configured(t, s.settings(obj{"table": table, "columns": obj{"id": ":id"}}))
		want(t, deliver(t, tr, message("m1"), ample), transport.None, transport.RejectedByTarget, "InnoDB")
	})
}

// What cannot be brought about here, by the servers' own tables of errors.
func TestAnswers(t *testing.T) {
	for state, want := range map[string]transport.Code{
		"28P01": transport.UnauthorizedByTarget, "28000": transport.UnauthorizedByTarget, "42501": transport.UnauthorizedByTarget,
		"53100": transport.TargetError, "53200": transport.TargetError, "53300": transport.ThrottledByTarget,
		"57P01": transport.TargetError, "57P03": transport.TargetError, "57014": transport.TargetError, "25006": transport.TargetError,
		"40001": transport.TargetError, "40P01": transport.TargetError, "55P03": transport.TargetError, "58030": transport.TargetError, "XX000": transport.TargetError,
		"54000": transport.RejectedByTarget, "22P05": transport.RejectedByTarget, "44000": transport.RejectedByTarget,
		"3D000": transport.NotFoundAtTarget, "3F000": transport.NotFoundAtTarget,
	} {
		err := fmt.Errorf("wrapped: %w", &pgconn.PgError{Code: state, Message: "row-secret", Detail: "row-secret", Hint: "row-secret", Where: "row-secret", ConstraintName: "c"})
		if code, detail, ended, ok := sql.Answer("postgres", err); code != want || !ok || ended || strings.Contains(detail, "secret") || !strings.HasSuffix(detail, ", constraint c") {
			t.Errorf("%s: %s %q", state, code, detail)
		}
	}
	if _, _, ended, _ := sql.Answer("postgres", &pgconn.PgError{Code: "57P01", SeverityUnlocalized: "FATAL"}); !ended {
		t.Error("a fatal error leaves the session of use")
	}
	for _, c := range []struct {
		number         uint16
		state, message string
		want           transport.Code
		ends           string
	}{
		{1021, "HY000", "Disk full (row-secret); waiting", transport.TargetError, "full)"},
		{1114, "HY000", "The table 'row-secret' is full", transport.TargetError, "full)"},
		{1040, "08004", "Too many connections", transport.ThrottledByTarget, ""},
		{1290, "HY000", "--read-only", transport.TargetError, ""},
		{1836, "HY000", "Running in read-only mode", transport.TargetError, ""},
		{1205, "HY000", "Lock wait timeout exceeded", transport.TargetError, ""},
		{1153, "08S01", "Got a packet bigger", transport.RejectedByTarget, ""},
		{9999, "23999", "row-secret", transport.RejectedByTarget, ""},
		{9999, "28000", "row-secret", transport.UnauthorizedByTarget, ""},
		{9999, "HY000", "row-secret", transport.TargetError, ""},
		{1062, "23000", "Duplicate entry 'row-secret' for key 'of-a-row'' for key 'PRIMARY'", transport.RejectedByTarget, ", key PRIMARY"},
		{1062, "23000", "Duplicate entry 'x' for key 'row-secret' in 'y", transport.RejectedByTarget, "(unique)"},
		{1366, "22007", "Incorrect integer value: 'x' for column `a`.`row-secret`.`c` at row 1' for column `db`.`t`.`c` at row 1", transport.RejectedByTarget, ", column db.t.c"},
		{1406, "22001", "Data too long for column 'c' at row 1", transport.RejectedByTarget, ", column c"},
		{1364, "HY000", "Field 'c' doesn't have a default value", transport.RejectedByTarget, ", column c"},
		{1452, "23000", "Cannot add or update a child row: a foreign key constraint fails (`d`.`t`, CONSTRAINT `f` FOREIGN KEY (`p`) REFERENCES `q` (`id`))", transport.RejectedByTarget, ", constraint f"},
	} {
		e := &mysql.MySQLError{Number: c.number, Message: c.message}
		copy(e.SQLState[:], c.state)
		code, detail, _, ok := sql.Answer("mariadb", e)
		if code != c.want || !ok || strings.Contains(detail, "secret") || !strings.HasSuffix(detail, c.ends) {
			t.Errorf("%d: %s %q", c.number, code, detail)
		}
	}
	for _, dialect := range []string{"postgres", "mariadb"} {
		if _, _, _, ok := sql.Answer(dialect, fmt.Errorf("row-secret")); ok {
			t.Error("any error is taken for the server's answer")
		}
	}
}
