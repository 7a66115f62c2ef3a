package sql

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"io"
	"regexp"
	"strings"
	"time"

	"github.com/go-sql-driver/mysql"

	"github.com/hookline/hookline/plugins/target"
	"github.com/hookline/hookline/plugins/transport"
)

// maria speaks to MariaDB through database/sql, whose pool it does not use: a session
// here is one of its connections, with a statement prepared on it.
type maria struct {
	*database
	db *sql.DB
}

// mariaKey carries the TLS configuration of a connection that is made.
type mariaKey struct{}

func newMaria(d *database) *maria {
	cfg := mysql.NewConfig()
	cfg.Net, cfg.Addr = "tcp", d.addr
	cfg.User, cfg.Passwd, cfg.DBName = d.username, d.password, d.name
	cfg.Logger = &mysql.NopLogger{} // every error is a receipt's
	cfg.MaxAllowedPacket = 0        // as large as the server says
	cfg.ClientFoundRows = d.statement.key == ""
	cfg.DialFunc = d.dialer.DialContext
	cfg.Params = map[string]string{
		"autocommit": "0", // a transaction begins by itself
		"time_zone":  "'+00:00'",
		// What does not fit must be refused, not cut.
		"sql_mode": "concat(@@sql_mode, ',STRICT_ALL_TABLES')",
	}
	_ = cfg.Apply(mysql.BeforeConnect(func(ctx context.Context, c *mysql.Config) error {
		c.TLS, _ = ctx.Value(mariaKey{}).(*tlsConfig)
		return nil
	})) // the option has no error
	connector, _ := mysql.NewConnector(cfg) // of what was checked
	db := sql.OpenDB(connector)
	db.SetMaxIdleConns(-1)
	return &maria{database: d, db: db}
}

func (m *maria) close() error { return m.db.Close() }

type mariaSession struct {
	*maria
	conn      *sql.Conn
	statement *sql.Stmt
	known     *sql.Stmt // of an upsert: is this id there?
	largest   int       // bytes of a value that the server takes
}

func (m *maria) connect(ctx context.Context, cfg *tlsConfig) (session, error) {
	conn, err := m.db.Conn(context.WithValue(ctx, mariaKey{}, cfg))
	if err != nil {
		if errors.Is(err, mysql.ErrNoTLS) {
			err = &target.HandshakeError{Peer: m.addr, Err: errors.New("the server has no TLS (have_ssl is not YES)")}
		}
		return nil, asHandshake(m.addr, lost(err))
	}
	s := &mariaSession{maria: m, conn: conn}
	if err := s.prepare(ctx); err != nil {
		s.close()
		return nil, lost(err)
	}
	return s, nil
}

// lost gives an error of a connection that has ended a name that others know.
func lost(err error) error {
	if errors.Is(err, driver.ErrBadConn) || errors.Is(err, mysql.ErrInvalidConn) || errors.Is(err, sql.ErrConnDone) {
		return io.ErrUnexpectedEOF
	}
	return err
}

const askKnown = "select 1 from %s where `%s` = ? lock in share mode"

func (s *mariaSession) prepare(ctx context.Context) (err error) {
	st := s.database.statement
	if s.statement, err = s.conn.PrepareContext(ctx, st.text); err != nil {
		return err
	}
	if err := s.conn.QueryRowContext(ctx, "select @@max_allowed_packet").Scan(&s.largest); err != nil {
		return err
	}
	if st.key == "" {
		return s.rollback(ctx) // asking may have begun a transaction
	}
	if err := s.lookAtKey(ctx); err != nil {
		return err
	}
	if s.known, err = s.conn.PrepareContext(ctx, fmt.Sprintf(askKnown, "`"+strings.Join(st.table, "`.`")+"`", st.key)); err != nil {
		return err
	}
	return s.rollback(ctx) // looking has begun one
}

// lookAtKey asks for what "on duplicate key" takes for granted: without it the table
// would take every message twice, or not keep it.
func (s *mariaSession) lookAtKey(ctx context.Context) error {
	st := s.database.statement
	schema, table := s.name, st.table[len(st.table)-1]
	if len(st.table) == 2 {
		schema = st.table[0]
	}
	var transactions, unique bool
	err := s.conn.QueryRowContext(ctx, `select
		exists(select 1 from information_schema.tables t join information_schema.engines e on e.engine = t.engine
			where t.table_schema = ? and t.table_name = ? and e.transactions = 'YES'),
		exists(select 1 from information_schema.statistics
			where table_schema = ? and table_name = ? and non_unique = 0
			group by index_name having count(*) = 1 and max(column_name) = ? and max(sub_part) is null)`,
		schema, table, schema, table, st.key).Scan(&transactions, &unique)
	switch {
	case err != nil:
		return err
	case !transactions:
		return &refusal{answer{code: transport.RejectedByTarget, detail: "the table is not of an engine with transactions, such as InnoDB"}}
	case !unique:
		return &refusal{answer{code: transport.RejectedByTarget, detail: "the column with :id has no unique index of its own"}}
	}
	return nil
}

// errOtherKey is a row of another message in the way: ours was not written.
var errOtherKey = &refusal{answer{code: transport.RejectedByTarget, detail: "a unique key other than the message's id is taken by another row"}}

func (s *mariaSession) run(ctx context.Context, values []any) (rows int64, err error) {
	args := make([]any, len(values))
	for i, v := range values {
		args[i] = mariaValue(v)
		if length(args[i]) >= s.largest {
			// The server would refuse it too, and all that comes after it.
			return 0, errTooLarge
		}
	}
	result, err := s.statement.ExecContext(ctx, args...)
	if err != nil {
		return 0, lost(err)
	}
	if rows, err = result.RowsAffected(); err != nil || rows > 0 || s.known == nil {
		return rows, err
	}
	for i, src := range s.database.statement.sources {
		if src.name == "id" {
			var one int
			if err = s.known.QueryRowContext(ctx, args[i]).Scan(&one); errors.Is(err, sql.ErrNoRows) {
				err = errOtherKey
			}
		}
	}
	return 0, lost(err)
}

var errTooLarge = &refusal{answer{code: transport.RejectedByTarget, detail: "a value is larger than the server's max_allowed_packet"}}

func length(v any) int {
	switch v := v.(type) {
	case string:
		return len(v)
	case []byte:
		return len(v)
	}
	return 0
}

func mariaValue(v any) any {
	switch v := v.(type) {
	case bool: // true is a number there
		if v {
			return int64(1)
		}
		return int64(0)
	case time.Time:
		return v.Format("2006-01-02 15:04:05.999999")
	}
	return v
}

func (s *mariaSession) commit(ctx context.Context) error {
	_, err := s.conn.ExecContext(ctx, "commit")
	return lost(err)
}

func (s *mariaSession) rollback(ctx context.Context) error {
	_, err := s.conn.ExecContext(ctx, "rollback")
	return lost(err)
}

// check has nothing left to ask of the statement: preparing it looks at the grants.
func (s *mariaSession) check(ctx context.Context) (notes string, err error) {
	var readOnly, flush string
	err = s.conn.QueryRowContext(ctx, "select @@global.read_only, @@global.innodb_flush_log_at_trx_commit").Scan(&readOnly, &flush)
	switch {
	case err != nil:
		return "", lost(err)
	case readOnly != "0":
		return "", &refusal{answer{code: transport.TargetError, detail: "the server is read-only: is it a replica?"}}
	case flush != "1":
		notes = "; innodb_flush_log_at_trx_commit is not 1: a crash of the server can lose what it has confirmed"
	}
	return notes, nil
}

// close ends the connection, as the pool keeps none. What was not committed is rolled
// back by the server.
func (s *mariaSession) close() {
	_ = s.conn.Close()
}

func (m *maria) answer(err error) (answer, bool) {
	switch {
	case errors.Is(err, mysql.ErrPktTooLarge):
		return answer{code: transport.RejectedByTarget, detail: "the message is larger than the server's max_allowed_packet"}, true
	case errors.Is(err, mysql.ErrCleartextPassword), errors.Is(err, mysql.ErrNativePassword),
		errors.Is(err, mysql.ErrOldPassword), errors.Is(err, mysql.ErrUnknownPlugin):
		return answer{code: transport.UnauthorizedByTarget, detail: "the user's way of authentication is not supported: use mysql_native_password, ed25519 or, with tls, caching_sha2_password"}, true
	}
	e, ok := errors.AsType[*mysql.MySQLError](err)
	if !ok {
		return answer{}, false
	}
	state := string(e.SQLState[:])
	means, known := mariaCodes[e.Number]
	if !known {
		means = mariaClass(state)
	}
	a := answer{
		code:   means.code,
		ended:  e.Number == 1105 || e.Number == 1053 || e.Number == 1927 || e.Number == 1080 || e.Number == 4031 || state[:2] == "08",
		unsure: e.Number != 1213 && e.Number != 1205, // of COMMIT only these are sure to have rolled back
		detail: fmt.Sprintf("error %d, SQLSTATE %s (%s)", e.Number, state, means.words),
	}
	for _, n := range mariaNames {
		if found := n.pattern.FindStringSubmatch(e.Message); found != nil {
			a.detail += ", " + n.what + " " + strings.Trim(strings.ReplaceAll(found[1], "`", ""), "'")
		}
	}
	return a, true
}

// mariaNames find names of the schema in a message. A message may quote a row, but
// before these: they are bound to its end, or to one whose text holds no value.
var mariaNames = []struct {
	what    string
	pattern *regexp.Regexp
}{
	{"key", regexp.MustCompile(`^Duplicate entry (?s:.*) for key '([^']*)'$`)},
	{"constraint", regexp.MustCompile("^(?:CONSTRAINT|Cannot (?:add or update a child|delete or update a parent) row: a foreign key constraint fails \\(`[^`]*`\\.`[^`]*`, CONSTRAINT) `([^`]*)`")},
	{"column", regexp.MustCompile("(?s:^|.* )(?:[Cc]olumn|Field) ('[^'`]*'|(?:`[^`']*`\\.)*`[^`']*`)(?: at row [0-9]+| cannot be null| doesn't have a default value)$")},
}

type meaning struct {
	code  transport.Code
	words string
}

// mariaCodes are MariaDB's error numbers.
var mariaCodes = map[uint16]meaning{
	1044: {transport.UnauthorizedByTarget, "the user may not use the database"},
	1045: {transport.UnauthorizedByTarget, "the login was refused: wrong user, password or host"},
	1129: {transport.UnauthorizedByTarget, "this host is blocked"},
	1130: {transport.UnauthorizedByTarget, "this host may not connect"},
	1142: {transport.UnauthorizedByTarget, "the user lacks a grant on the table"},
	1143: {transport.UnauthorizedByTarget, "the user lacks a grant on a column"},
	1227: {transport.UnauthorizedByTarget, "the user lacks a grant"},
	1370: {transport.UnauthorizedByTarget, "the user may not call it"},
	1698: {transport.UnauthorizedByTarget, "the login was refused"},
	4151: {transport.UnauthorizedByTarget, "the account is locked"},

	1049: {transport.NotFoundAtTarget, "no such database"},
	1054: {transport.NotFoundAtTarget, "no such column"},
	1109: {transport.NotFoundAtTarget, "no such table"},
	1146: {transport.NotFoundAtTarget, "no such table"},
	1305: {transport.NotFoundAtTarget, "no such procedure or function"},

	1040: {transport.ThrottledByTarget, "too many connections"},
	1203: {transport.ThrottledByTarget, "too many connections of this user"},
	1226: {transport.ThrottledByTarget, "the user has used up its resources"},

	1021: {transport.TargetError, "its disk is full"},
	1030: {transport.TargetError, "its storage engine failed"},
	1053: {transport.TargetError, "it is being stopped"},
	1114: {transport.TargetError, "the table is full"},
	1205: {transport.TargetError, "a lock was not to be had in time"},
	1213: {transport.TargetError, "deadlock"},
	1290: {transport.TargetError, "it is read-only or otherwise restricted"},
	1317: {transport.TargetError, "the statement was interrupted"},
	1792: {transport.TargetError, "it is read-only"},
	1836: {transport.TargetError, "it is read-only"},
	1927: {transport.TargetError, "it ended the session"},
	1969: {transport.TargetError, "the statement took too long for it"},

	1062: {transport.RejectedByTarget, "unique"},
	1048: {transport.RejectedByTarget, "not null"},
	1153: {transport.RejectedByTarget, "larger than max_allowed_packet"},
	1264: {transport.RejectedByTarget, "out of range"},
	1265: {transport.RejectedByTarget, "a value does not fit"},
	1292: {transport.RejectedByTarget, "a value does not fit its type"},
	1301: {transport.RejectedByTarget, "larger than max_allowed_packet"},
	1364: {transport.RejectedByTarget, "a column without a default value"},
	1366: {transport.RejectedByTarget, "a value does not fit its type"},
	1406: {transport.RejectedByTarget, "too long"},
	1451: {transport.RejectedByTarget, "foreign key"},
	1452: {transport.RejectedByTarget, "foreign key"},
	1644: {transport.RejectedByTarget, "a trigger or procedure refused it"},
	3819: {transport.RejectedByTarget, "check"},
	4025: {transport.RejectedByTarget, "check"},
}

// mariaClass is for a number that is not listed.
func mariaClass(state string) meaning {
	switch state[:2] {
	case "21", "22", "23", "42", "44", "45":
		return meaning{transport.RejectedByTarget, "it does not allow that"}
	case "28":
		return meaning{transport.UnauthorizedByTarget, "the login was refused"}
	}
	return meaning{transport.TargetError, "the server failed"}
}
