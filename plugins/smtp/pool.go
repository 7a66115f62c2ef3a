package smtp

import (
	"crypto/tls"
	"slices"
	"sync"
	"time"
)

// goodbye is how long the end of a connection may take: QUIT is a courtesy.
const goodbye = 250 * time.Millisecond

// pool keeps unused connections, the latest on top, so that a load that falls lets
// the others age and close.
type pool struct {
	ttl time.Duration

	mu     sync.Mutex
	idle   []*session
	closed bool
}

// take returns a kept connection that was made under cfg, or nil.
func (p *pool) take(cfg *tls.Config) *session {
	p.mu.Lock()
	defer p.mu.Unlock()
	for len(p.idle) > 0 {
		s := p.idle[len(p.idle)-1]
		p.idle = p.idle[:len(p.idle)-1]
		s.expiry.Stop()
		if s.config == cfg {
			s.kept = true
			return s
		}
		s.drop() // no QUIT: the lock is held
	}
	return nil
}

func (p *pool) put(s *session) {
	p.mu.Lock()
	if p.closed {
		p.mu.Unlock()
		s.close()
		return
	}
	s.expiry = time.AfterFunc(p.ttl, func() { p.expire(s) })
	p.idle = append(p.idle, s)
	p.mu.Unlock()
}

// expire closes s if nobody has taken it meanwhile.
func (p *pool) expire(s *session) {
	p.mu.Lock()
	at := slices.Index(p.idle, s)
	if at >= 0 {
		p.idle = slices.Delete(p.idle, at, at+1)
	}
	p.mu.Unlock()
	if at >= 0 {
		s.close()
	}
}

func (p *pool) close() {
	p.mu.Lock()
	idle := p.idle
	p.idle, p.closed = nil, true
	p.mu.Unlock()
	var ending sync.WaitGroup
	for _, s := range idle {
		s.expiry.Stop()
		ending.Go(s.close)
	}
	ending.Wait()
}
