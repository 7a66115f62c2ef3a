package sql

import (
	"context"
	"crypto/tls"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/hookline/hookline/plugins/target"
	"github.com/hookline/hookline/plugins/transport"
)

// postgres speaks to PostgreSQL on the level of its protocol: each value is sent as
// text, which the server reads as whatever type the statement wants there.
type postgres struct {
	*database
	config *pgconn.Config
}

func newPostgres(d *database) (*postgres, error) {
	// Only ParseConfig makes one. What it takes from the environment is replaced.
	config, err := pgconn.ParseConfig("host=localhost port=5432 user=x dbname=x password=x sslmode=disable")
	if err != nil {
		return nil, errors.New("the environment has a PG... variable that cannot be used; remove it")
	}
	host, port, _ := net.SplitHostPort(d.addr)
	n, _ := strconv.ParseUint(port, 10, 16) // it was checked
	config.Host, config.Port = host, uint16(n)
	config.Database, config.User, config.Password = d.name, d.username, d.password
	config.TLSConfig, config.Fallbacks, config.ValidateConnect, config.AfterConnect = nil, nil, nil, nil
	config.ConnectTimeout = 0 // the context has it
	config.RuntimeParams = map[string]string{
		"application_name": "hookline", "client_encoding": "UTF8", "standard_conforming_strings": "on",
	}
	// The dialer looks the name up itself.
	config.LookupFunc = func(_ context.Context, host string) ([]string, error) { return []string{host}, nil }
	return &postgres{database: d, config: config}, nil
}

func (p *postgres) close() error { return nil }

// pgSession is a connection. raw is below TLS.
type pgSession struct {
	*postgres
	conn    *pgconn.PgConn
	raw     net.Conn
	formats []int16 // of the parameters
}

const (
	pgStatement = "hookline"
	pgText      = 0
	pgBinary    = 1
	pgBytea     = 17 // the type's number
)

func (p *postgres) connect(ctx context.Context, cfg *tlsConfig) (session, error) {
	s := &pgSession{postgres: p}
	config := p.config.Copy()
	config.DialFunc = func(ctx context.Context, network, _ string) (net.Conn, error) {
		if s.raw != nil {
			// pgx wants to cancel a statement on a connection of its own. Nobody has
			// time for that; the server rolls back when it sees that we have gone.
			return nil, net.ErrClosed
		}
		raw, err := p.dialer.DialContext(ctx, network, p.addr)
		if err != nil {
			return nil, err
		}
		s.raw = raw
		return p.secure(ctx, raw, cfg)
	}
	conn, err := pgconn.ConnectConfig(ctx, config)
	if err != nil {
		if s.raw != nil {
			_ = s.raw.Close()
		}
		return nil, asHandshake(p.addr, err)
	}
	s.conn = conn
	if err := s.prepare(ctx); err != nil {
		s.close()
		return nil, err
	}
	return s, nil
}

// secure asks the server for TLS and shakes hands, so that the failure of either is
// known for what it is.
func (p *postgres) secure(ctx context.Context, raw net.Conn, cfg *tlsConfig) (net.Conn, error) {
	if cfg == nil {
		return raw, nil
	}
	defer context.AfterFunc(ctx, func() { _ = raw.SetDeadline(time.Unix(1, 0)) })()
	const sslRequest = 80877103
	ask := binary.BigEndian.AppendUint32(binary.BigEndian.AppendUint32(nil, 8), sslRequest)
	said := make([]byte, 1)
	_, err := raw.Write(ask)
	if err == nil {
		_, err = io.ReadFull(raw, said)
	}
	if err == nil && said[0] != 'S' {
		err = errors.New("the server has no TLS (ssl is off), or does not speak the protocol of PostgreSQL")
	}
	if err != nil {
		_ = raw.Close()
		return nil, &target.HandshakeError{Peer: p.addr, Err: err}
	}
	conn := tls.Client(raw, cfg)
	if err := conn.HandshakeContext(ctx); err != nil {
		_ = raw.Close()
		return nil, &target.HandshakeError{Peer: p.addr, Err: err}
	}
	return conn, nil
}

// prepare also sees to it that COMMIT is answered once it is on the disk.
func (s *pgSession) prepare(ctx context.Context) error {
	about, err := s.conn.Prepare(ctx, pgStatement, s.statement.text, nil)
	if err != nil {
		return err
	}
	if len(about.ParamOIDs) != len(s.statement.sources) {
		return errPlaces
	}
	for _, oid := range about.ParamOIDs {
		format := int16(pgText)
		if oid == pgBytea {
			format = pgBinary
		}
		s.formats = append(s.formats, format)
	}
	_, err = s.ask(ctx, "select set_config('synchronous_commit', 'on', false) where current_setting('synchronous_commit') = 'off'")
	return err
}

var errPlaces = &refusal{answer{code: transport.RejectedByTarget, detail: "the server sees another number of parameters in the statement than Hookline does; write it without /*! comments and unusual quotes"}}

// ask runs a statement without parameters and gives its first row.
func (s *pgSession) ask(ctx context.Context, text string) ([]string, error) {
	results, err := s.conn.Exec(ctx, text).ReadAll()
	if err != nil || len(results) == 0 || len(results[0].Rows) == 0 {
		return nil, err
	}
	var out []string
	for _, field := range results[0].Rows[0] {
		out = append(out, string(field))
	}
	return out, nil
}

func (s *pgSession) run(ctx context.Context, values []any) (int64, error) {
	params := make([][]byte, len(values))
	for i, v := range values {
		params[i] = pgValue(v)
	}
	batch := &pgconn.Batch{} // one round trip
	batch.ExecParams("begin", nil, nil, nil, nil)
	batch.ExecPrepared(pgStatement, params, s.formats, nil)
	results, err := s.conn.ExecBatch(ctx, batch).ReadAll()
	if err != nil {
		return 0, err
	}
	// A row that is there already is what an upsert wants.
	return results[len(results)-1].CommandTag.RowsAffected(), nil
}

func pgValue(v any) []byte {
	switch v := v.(type) {
	case nil:
		return nil
	case []byte:
		return v
	case bool:
		return strconv.AppendBool(nil, v)
	case time.Time:
		return v.AppendFormat(nil, "2006-01-02T15:04:05.999999Z07:00")
	default:
		return []byte(v.(string))
	}
}

// errRolledBack is COMMIT answered by ROLLBACK, which is no error to the server.
var errRolledBack = &refusal{answer{code: transport.TargetError, detail: "the server rolled back instead of committing"}}

func (s *pgSession) commit(ctx context.Context) error {
	results, err := s.conn.Exec(ctx, "commit").ReadAll()
	if err == nil && (len(results) != 1 || results[0].CommandTag.String() != "COMMIT") {
		err = errRolledBack
	}
	return err
}

func (s *pgSession) rollback(ctx context.Context) error {
	_, err := s.ask(ctx, "rollback")
	return err
}

// check has the server plan the statement, which also looks at the grants and at the
// unique index that an upsert needs.
func (s *pgSession) check(ctx context.Context) (notes string, err error) {
	if s.statement.verb != "call" {
		params := make([][]byte, len(s.formats))
		if r := s.conn.ExecParams(ctx, "explain "+s.statement.text, params, nil, nil, nil).Read(); r.Err != nil {
			return "", r.Err
		}
	}
	row, err := s.ask(ctx, "select current_setting('transaction_read_only'), current_setting('fsync'), current_setting('full_page_writes')")
	if err != nil {
		return "", err
	}
	if row[0] == "on" {
		return "", &refusal{answer{code: transport.TargetError, detail: "the server is read-only: is it a standby?"}}
	}
	if row[1] == "off" || row[2] == "off" {
		notes = "; fsync or full_page_writes is off: a crash of the server can lose what it has confirmed"
	}
	return notes, nil
}

func (s *pgSession) close() {
	ended, cancel := context.WithCancel(context.Background())
	cancel()
	if s.conn.TxStatus() == 'I' && !s.conn.IsBusy() && !s.conn.IsClosed() {
		// It says good-bye and does not wait.
		_ = s.raw.SetDeadline(time.Now().Add(100 * time.Millisecond))
		_ = s.conn.Close(context.Background())
	}
	_ = s.raw.Close()
	_ = s.conn.Close(ended)
	<-s.conn.CleanupDone()
}

func (p *postgres) answer(err error) (answer, bool) {
	e, ok := errors.AsType[*pgconn.PgError](err)
	if !ok {
		return answer{}, false
	}
	ended := e.SeverityUnlocalized == "FATAL" || e.SeverityUnlocalized == "PANIC" || e.Severity == "FATAL" || e.Severity == "PANIC"
	var about strings.Builder
	for _, part := range [...]struct{ what, name string }{
		{"constraint", e.ConstraintName}, {"column", e.ColumnName}, {"table", e.TableName},
	} {
		if part.name != "" {
			fmt.Fprintf(&about, ", %s %s", part.what, part.name)
		}
	}
	code, words := pgMeaning(e.Code)
	return answer{
		code: code, ended: ended || e.Code == "26000", // the prepared statement has gone
		unsure: e.Code == "08007" || e.Code == "40003",
		detail: "SQLSTATE " + e.Code + " (" + words + ")" + about.String(),
	}, true
}

// pgCodes are SQLSTATEs, or their classes of two characters, of PostgreSQL's Appendix A.
var pgCodes = map[string]struct {
	code  transport.Code
	words string
}{
	"28":    {transport.UnauthorizedByTarget, "the login was refused"},
	"28P01": {transport.UnauthorizedByTarget, "wrong password"},
	"42501": {transport.UnauthorizedByTarget, "the user lacks a grant"},
	"3D000": {transport.NotFoundAtTarget, "no such database"},
	"3F000": {transport.NotFoundAtTarget, "no such schema"},
	"42P01": {transport.NotFoundAtTarget, "no such table"},
	"42703": {transport.NotFoundAtTarget, "no such column"},
	"42883": {transport.NotFoundAtTarget, "no such function or operator"},
	"42704": {transport.NotFoundAtTarget, "no such type or other object"},
	"53300": {transport.ThrottledByTarget, "too many connections"},
	"53100": {transport.TargetError, "its disk is full"},
	"53":    {transport.TargetError, "it lacks resources"},
	"57P03": {transport.TargetError, "it is starting or recovering"},
	"57014": {transport.TargetError, "it cancelled the statement"},
	"57":    {transport.TargetError, "it is being stopped, or ended the session"},
	"40P01": {transport.TargetError, "deadlock"},
	"40":    {transport.TargetError, "it rolled back because of another transaction"},
	"55P03": {transport.TargetError, "a lock was not to be had in time"},
	"25006": {transport.TargetError, "it is read-only: is it a standby?"},
	"26000": {transport.TargetError, "it lost the prepared statement: does a pooler stand between?"},
	"0A":    {transport.RejectedByTarget, "it does not support that"},
	"21":    {transport.RejectedByTarget, "more rows than fit"},
	"22":    {transport.RejectedByTarget, "a value does not fit its type"},
	"23":    {transport.RejectedByTarget, "a constraint does not allow it"},
	"23502": {transport.RejectedByTarget, "not null"},
	"23503": {transport.RejectedByTarget, "foreign key"},
	"23505": {transport.RejectedByTarget, "unique"},
	"23514": {transport.RejectedByTarget, "check"},
	"27":    {transport.RejectedByTarget, "a trigger does not allow it"},
	"38":    {transport.RejectedByTarget, "a function refused it"},
	"39":    {transport.RejectedByTarget, "a function failed"},
	"42":    {transport.RejectedByTarget, "the statement is wrong"},
	"42P10": {transport.RejectedByTarget, "the column with :id has no unique index"},
	"42P18": {transport.RejectedByTarget, "a parameter's type is not known: cast it, as in :id::text"},
	"44":    {transport.RejectedByTarget, "the view does not allow it"},
	"54":    {transport.RejectedByTarget, "too large for the server"},
	"P0":    {transport.RejectedByTarget, "a function or trigger refused it"},
}

func pgMeaning(state string) (transport.Code, string) {
	for _, key := range []string{state, state[:min(2, len(state))]} {
		if m, ok := pgCodes[key]; ok {
			return m.code, m.words
		}
	}
	return transport.TargetError, "the server failed"
}
