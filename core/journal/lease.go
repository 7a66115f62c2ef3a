package journal

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/hookline/hookline/core"
)

// lease is how long others surely take this node for alive.
type lease struct {
	mu      sync.RWMutex
	id      string
	renewed time.Time // taken before the renewal was sent
	ctx     context.Context
	cancel  context.CancelCauseFunc
}

// errLease is the cause of a lease's end.
var errLease = fmt.Errorf("the journal could not be reached in time: %w", core.ErrLost)

func (l *lease) init() { l.ctx, l.cancel = context.WithCancelCause(context.Background()) }

func (l *lease) owner() string {
	l.mu.RLock()
	defer l.mu.RUnlock()
	return l.id
}

// begin makes a new lease under a new owner id.
func (l *lease) begin(id string, at time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.cancel(errLease)
	l.init()
	l.id, l.renewed = id, at
}

func (l *lease) renew(at time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.renewed = at
	if l.ctx.Err() != nil {
		l.init()
	}
}

// expire ends the lease if the last sign of life is older than max. It returns
// how long it has to go otherwise.
func (l *lease) expire(max time.Duration) time.Duration {
	l.mu.Lock()
	defer l.mu.Unlock()
	left := max - time.Since(l.renewed)
	if left <= 0 {
		l.cancel(errLease)
	}
	return left
}

func (l *lease) end() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.cancel(ErrClosed)
}

// alone tells whether no other node can use this journal.
func (s *Store) alone() bool { return s.single }

// Live implements [core.Journal].
func (s *Store) Live() error {
	if s.alone() {
		return nil
	}
	s.lease.mu.RLock()
	age := time.Since(s.lease.renewed)
	s.lease.mu.RUnlock()
	if age > s.times.live {
		return &trouble{why: fmt.Sprintf("the database has not been reached for %s, and other nodes may soon take over: look whether it is up", age.Round(time.Second))}
	}
	return nil
}

// Lease implements [core.Journal].
func (s *Store) Lease() context.Context {
	s.lease.mu.RLock()
	defer s.lease.mu.RUnlock()
	return s.lease.ctx
}

// renew gives signs of life until the journal is closed.
func (s *Store) renew(pg *postgresEngine) {
	expiry := time.NewTimer(s.times.lease)
	defer expiry.Stop()
	tick := time.NewTicker(s.times.renew)
	defer tick.Stop()
	results := make(chan error, 1)
	var before time.Time
	var busy, said bool
	var work sync.WaitGroup
	ctx, cancel := context.WithCancel(context.Background())
	defer work.Wait()
	defer cancel()
	for {
		select {
		case <-s.stop:
			return
		case <-expiry.C:
			left := s.lease.expire(s.times.lease)
			if left <= 0 {
				left = s.times.renew
			}
			expiry.Reset(left)
		case <-tick.C:
			if busy {
				continue
			}
			// Beside this loop, so that no renewal can keep a lease from ending.
			busy, before = true, time.Now()
			id := s.owner()
			work.Go(func() {
				ctx, cancel := context.WithTimeout(ctx, s.times.renewMax)
				defer cancel()
				results <- pg.renew(ctx, id)
			})
		case err := <-results:
			busy = false
			switch {
			case err == nil:
				s.lease.renew(before)
				said = false
			case errors.Is(err, errDeclaredDead):
				s.log.Warn("other nodes have taken this one for dead: it goes on as a new one")
				busy = true
				work.Go(func() {
					ctx, cancel := context.WithTimeout(ctx, s.times.renewMax)
					defer cancel()
					_ = s.register(ctx) // the next tick tries again
					results <- errStillDead
				})
			case errors.Is(err, errStillDead):
			default:
				if !said && s.Live() != nil {
					said = true
					s.log.Error("this node begins no attempts: it gives no sign of life", "error", err)
				}
			}
		}
	}
}

var (
	errDeclaredDead = errors.New("this node has been declared dead")
	errStillDead    = errors.New("registered, or to be tried again")
)
