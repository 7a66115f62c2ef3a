package sql

import (
	"context"
	"crypto/tls"
	"time"

	"github.com/hookline/hookline/plugins/target"
	"github.com/hookline/hookline/plugins/transport"
)

type tlsConfig = tls.Config

// dialect is what differs between the databases.
type dialect interface {
	// connect logs in and prepares the statement. tls is nil for none.
	connect(ctx context.Context, tls *tlsConfig) (session, error)
	// answer is what the server said in err, if it said anything.
	answer(err error) (a answer, ok bool)
	close() error
}

// session is a connection with the statement prepared on it. Once a method but
// rollback has failed with anything but an answer it must be closed.
type session interface {
	// run begins a transaction and runs the statement, and tells how many rows that
	// touched.
	run(ctx context.Context, values []any) (rows int64, err error)
	commit(ctx context.Context) error
	rollback(ctx context.Context) error
	// check asks what can be known without running the statement. notes are for the
	// operator, each with "; " before it.
	check(ctx context.Context) (notes string, err error)
	// close waits for nobody.
	close()
}

// answer is what a server said instead of doing what it was told.
type answer struct {
	code   transport.Code
	detail string // without any value of a row
	ended  bool   // the server has ended the session
	unsure bool   // said to COMMIT, it does not tell whether it was done
}

// refusal is an answer of our own.
type refusal struct{ answer }

func (r *refusal) Error() string { return r.detail }

// held is a session of the pool.
type held struct {
	session
	config *tlsConfig // that it was made with
	kept   bool       // it has been in use before
}

// pool has no more sessions than its places open at a time.
type pool struct {
	places  chan struct{}
	ttl     time.Duration
	connect func(context.Context, *tlsConfig) (session, error)
	idle    target.Idle[*held]
}

func newPool(places int, ttl time.Duration, connect func(context.Context, *tlsConfig) (session, error)) *pool {
	return &pool{
		places: make(chan struct{}, places), ttl: ttl, connect: connect,
		idle: target.Idle[*held]{Max: places, End: func(s *held) { s.close() }},
	}
}

// waited is that no place was free until the context ended.
type waited struct{}

func (waited) Error() string { return "all connections were busy" }

// take waits for a place, and gives a session that was kept unless a fresh one is
// wanted. Whoever gets one must put or drop it.
func (p *pool) take(ctx context.Context, config *tlsConfig, fresh bool) (*held, error) {
	select {
	case p.places <- struct{}{}:
	case <-ctx.Done():
		return nil, waited{}
	}
	for !fresh {
		s, ok := p.idle.Take(time.Now())
		if !ok {
			break
		}
		if s.config == config {
			s.kept = true
			return s, nil
		}
		s.close()
	}
	s, err := p.connect(ctx, config)
	if err != nil {
		<-p.places
		return nil, err
	}
	return &held{session: s, config: config}, nil
}

func (p *pool) put(s *held) {
	p.idle.Put(s, p.ttl)
	<-p.places
}

func (p *pool) drop(s *held) {
	s.close()
	<-p.places
}
