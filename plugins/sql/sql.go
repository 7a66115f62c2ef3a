// Package sql is the transport that writes each message into a database, PostgreSQL
// or MariaDB, with one parametrised statement in a transaction of its own. Until
// COMMIT is sent the database surely rolls back what it was given, so that an attempt
// that ended before has surely had no effect.
package sql

import (
	"context"
	_ "embed"
	"encoding/json"
	"errors"
	"slices"
	"time"

	"github.com/hookline/hookline/plugins/target"
	"github.com/hookline/hookline/plugins/transport"
)

//go:embed settings.schema.json
var schema []byte

// Transport delivers messages to one database. Make it with [New].
type Transport struct {
	version string
	fileTTL time.Duration

	database *database // nil until Configure
	dialect  dialect
	tls      *target.TLSSource // nil without TLS
	pool     *pool
}

// Option changes what [New] makes.
type Option func(*Transport)

// WithVersion sets the version that Describe tells.
func WithVersion(v string) Option {
	return func(t *Transport) { t.version = v }
}

// New returns a transport that waits for Configure.
func New(opts ...Option) *Transport {
	t := &Transport{version: "dev", fileTTL: time.Second}
	for _, opt := range opts {
		opt(t)
	}
	return t
}

// Describe implements [transport.Transport]. Idempotent is true once the transport is
// configured with a table: a statement of the operator's own may do anything.
func (t *Transport) Describe() transport.Description {
	return transport.Description{
		Name: "sql", Version: t.version, Settings: slices.Clone(schema),
		Idempotent: t.database != nil && t.database.statement.key != "",
	}
}

// Configure implements [transport.Transport]. It does not connect. Its error joins one
// *[transport.SettingError] for each thing that is wrong.
func (t *Transport) Configure(_ context.Context, settings json.RawMessage) error {
	if t.database != nil {
		return errors.New("the sql transport is configured already; new settings need a new process")
	}
	d, err := parseSettings(settings)
	if err != nil {
		return err
	}
	if t.tls, err = d.tls.Source(d.host, t.fileTTL); err != nil {
		return err
	}
	if d.dialect == mariaDB {
		t.dialect = newMaria(d)
	} else if t.dialect, err = newPostgres(d); err != nil {
		return err
	}
	t.pool = newPool(d.connections, d.idle, t.connect)
	t.database = d
	return nil
}

// connect logs in and prepares the statement, all within the dial_timeout.
func (t *Transport) connect(ctx context.Context, tls *tlsConfig) (session, error) {
	ctx, cancel := context.WithTimeout(ctx, t.database.dialer.Timeout)
	defer cancel()
	return t.dialect.connect(ctx, tls)
}

// Deliver implements [transport.Transport].
func (t *Transport) Deliver(ctx context.Context, m *transport.Message) (r transport.Receipt) {
	if t.database == nil {
		return notConfigured
	}
	if ctx.Err() != nil {
		return target.Ended(ctx, transport.None, "before anything was sent")
	}
	values, err := t.database.statement.values(m)
	if err != nil {
		return target.Refused(err)
	}
	start := time.Now()
	defer func() { r.TargetTook = time.Since(start) }()
	for again := false; ; again = true {
		s, err := t.pool.take(ctx, t.tls.Current(), again)
		if err != nil {
			return t.notConnected(ctx, err)
		}
		r, stale := t.attempt(ctx, s, values)
		if stale && s.kept && !target.DeadlinePassed(ctx) {
			t.pool.idle.Flush() // the others are of the same server, which has gone or was restarted
			continue
		}
		return r
	}
}

// attempt makes one transaction and gives the session back. stale tells that the
// session has ended, and that nothing was done.
func (t *Transport) attempt(ctx context.Context, s *held, values []any) (r transport.Receipt, stale bool) {
	rows, err := s.run(ctx, values)
	if err == nil && rows == 0 && t.database.requireRow {
		err = &refusal{answer{code: transport.RejectedByTarget, detail: "the statement touched no row (require_row), so it was rolled back"}}
	}
	if err != nil {
		return t.notRun(ctx, s, err)
	}
	if ctx.Err() != nil {
		t.pool.drop(s)
		return target.Ended(ctx, transport.None, "before COMMIT was sent to "+t.database.addr), false
	}
	if err := s.commit(ctx); err != nil {
		t.pool.drop(s)
		return t.notCommitted(ctx, err), false
	}
	t.pool.put(s)
	return transport.Receipt{Effect: transport.Done, Code: transport.Delivered}, false
}

// Check implements [transport.Transport]: it connects anew, prepares the statement and
// has the database plan it, where that needs no execution.
func (t *Transport) Check(ctx context.Context) transport.Receipt {
	if t.database == nil {
		return notConfigured
	}
	if ctx.Err() != nil {
		return target.Ended(ctx, transport.None, "before connecting")
	}
	probe := newProbe(t.tls.Current())
	s, err := t.connect(ctx, probe.config())
	if err != nil {
		return t.notConnected(ctx, err)
	}
	defer s.close()
	notes, err := s.check(ctx)
	if err != nil {
		r, _ := t.failed(ctx, transport.None, "checking the statement at "+t.database.addr, err)
		return r
	}
	detail := "connected to " + t.database.addr + " and prepared the statement" + notes + probe.expiry()
	if t.tls != nil && t.tls.Trouble() != nil {
		detail += "; the files changed, but the earlier ones are in use: " + t.tls.Trouble().Error()
	}
	return transport.Receipt{Effect: transport.Done, Code: transport.Delivered, Detail: target.OneLine(detail)}
}

// Close closes the connections that are not in use; those in use close when their
// attempt ends.
func (t *Transport) Close() error {
	if t.database == nil {
		return nil
	}
	t.pool.idle.Close()
	return t.dialect.close()
}
