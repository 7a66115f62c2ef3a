//go:build linux

package torture_test

import (
	"bufio"
	"context"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/hookline/hookline/plugins/target/targettest"
)

// fault is what the target does to a request.
type fault int

const (
	fine fault = iota
	slow
	fails     // 500
	busy      // 503, with Retry-After or not
	throttles // 429
	deaf      // closes the connection and reads nothing
	rude      // reads, then closes the connection: what it did is unknown
	hangs     // reads, and never answers
	away      // nobody listens
)

// odds of each fault, out of a hundred.
var odds = []struct {
	fault
	weight int
}{
	{fine, 40}, {slow, 11}, {fails, 8}, {busy, 8}, {throttles, 6}, {deaf, 7}, {rude, 8}, {hangs, 5}, {away, 7},
}

// visit is a request that the target has read.
type visit struct {
	delivery, event string // from the headers
	daemon          int    // that sent it, or whose child did
	body            [sha256.Size]byte
	number          number
	arrived         time.Time
	// confirmed is when the target began to answer 2xx, zero if it did not. Its
	// sender may not have heard it.
	confirmed time.Time
	did       string
}

// target is the system that Hookline delivers to: a server on a plain socket, so
// that it can misbehave below HTTP. It says 2xx only to what it has recorded.
type target struct {
	t    *testing.T
	addr string
	work sync.WaitGroup

	mu       sync.Mutex
	random   *rand.Rand
	mode     fault
	listener net.Listener
	conns    map[*net.TCPConn]struct{}
	stopped  bool
	visits   []*visit
}

func newTarget(t *testing.T, random *rand.Rand) *target {
	t.Helper()
	s := &target{t: t, random: random, addr: targettest.ClosedAddr(t), conns: map[*net.TCPConn]struct{}{}}
	s.listen()
	return s
}

func (s *target) listen() {
	l, err := net.Listen("tcp", s.addr)
	if err != nil {
		s.t.Errorf("the target's port is gone: %v", err)
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.stopped {
		_ = l.Close()
		return
	}
	s.listener = l
	s.work.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			conn := c.(*net.TCPConn)
			s.mu.Lock()
			s.conns[conn] = struct{}{}
			s.mu.Unlock()
			s.work.Go(func() {
				s.serve(conn)
				_ = conn.Close()
				s.mu.Lock()
				delete(s.conns, conn)
				s.mu.Unlock()
			})
		}
	})
}

// leave refuses connections, and ends those that are.
func (s *target) leave() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.listener != nil {
		_ = s.listener.Close()
		s.listener = nil
	}
	for c := range s.conns {
		_ = c.Close()
	}
}

func (s *target) stop() {
	s.mu.Lock()
	s.stopped = true
	s.mu.Unlock()
	s.leave()
	s.work.Wait()
}

// weather changes the target's mood until ctx ends; then all is well.
func (s *target) weather(ctx context.Context) {
	defer s.become(fine)
	for {
		s.mu.Lock()
		pick, mood := s.random.IntN(100), fine
		for _, o := range odds {
			if mood = o.fault; pick < o.weight {
				break
			}
			pick -= o.weight
		}
		lasts := time.Duration(150+s.random.IntN(450)) * time.Millisecond
		s.mu.Unlock()
		s.become(mood)
		if !pause(ctx, lasts) {
			return
		}
	}
}

func (s *target) become(f fault) {
	s.mu.Lock()
	was := s.mode
	s.mode = f
	s.mu.Unlock()
	switch {
	case f == away && was != away:
		s.leave()
	case f != away && was == away:
		s.listen()
	}
}

// now is what is to be done with a request, and two random numbers below 1 for it.
// Most of a bad time is bad, not all.
func (s *target) now() (fault, float64, float64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	f := s.mode
	if s.random.Float64() < 0.3 {
		f = fine
	}
	return f, s.random.Float64(), s.random.Float64()
}

func (s *target) serve(c *net.TCPConn) {
	in := bufio.NewReader(c)
	for {
		if _, err := in.Peek(1); err != nil {
			return
		}
		f, a, b := s.now()
		if f == deaf {
			if a < 0.5 {
				_ = c.SetLinger(0)
			}
			return
		}
		req, err := http.ReadRequest(in)
		if err != nil {
			return
		}
		body, err := io.ReadAll(req.Body)
		if err != nil {
			return // its sender died
		}
		v := &visit{
			delivery: req.Header.Get("webhook-id"), event: req.Header.Get("hookline-event-id"),
			daemon: daemonOf(req.URL.Path), body: sha256.Sum256(body), arrived: time.Now(),
		}
		var event struct{ Caller, N int }
		if err := json.Unmarshal(body, &event); err != nil {
			event.Caller, event.N = -1, -1 // the check of the bytes says so
		}
		v.number = number{event.Caller, event.N}
		s.mu.Lock()
		s.visits = append(s.visits, v)
		s.mu.Unlock()
		if !s.answer(c, in, v, f, a, b) {
			return
		}
	}
}

// answer tells whether the connection can go on.
func (s *target) answer(c *net.TCPConn, in *bufio.Reader, v *visit, f fault, a, b float64) bool {
	status, extra := http.StatusOK, ""
	did := ""
	switch f {
	case slow:
		wait := time.NewTimer(time.Duration(a * 300 * float64(time.Millisecond)))
		<-wait.C
		did = "slowly "
	case fails:
		status = http.StatusInternalServerError
	case busy:
		status = http.StatusServiceUnavailable
		if a < 0.6 {
			extra = fmt.Sprintf("Retry-After: %d\r\n", int(b+0.5))
		}
	case throttles:
		status = http.StatusTooManyRequests
		if a < 0.5 {
			extra = "Retry-After: 1\r\n"
		}
	case rude:
		if a < 0.5 {
			_ = c.SetLinger(0)
		}
		s.note(v, "read it and closed the connection", false)
		return false
	case hangs:
		s.note(v, "read it and never answered", false)
		_ = c.SetReadDeadline(time.Now().Add(10 * time.Second))
		_, _ = in.Peek(1) // until its sender gives up
		return false
	}
	// Before the answer is written: nobody can have acted on it earlier.
	s.note(v, fmt.Sprintf("answered %s%d", did, status), status == http.StatusOK)
	_, err := fmt.Fprintf(c, "HTTP/1.1 %d %s\r\n%sContent-Length: 0\r\n\r\n", status, http.StatusText(status), extra)
	return err == nil
}

func (s *target) note(v *visit, did string, confirmed bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	v.did = did
	if confirmed {
		v.confirmed = time.Now()
	}
}

// seen are the visits by delivery, in the order of their arrival.
func (s *target) seen() map[string][]*visit {
	s.mu.Lock()
	defer s.mu.Unlock()
	out := map[string][]*visit{}
	for _, v := range s.visits {
		out[v.delivery] = append(out[v.delivery], v)
	}
	return out
}

// Each daemon sends to a path of its own.
func targetPath(daemon int) string { return fmt.Sprintf("/daemon/%d", daemon) }

func daemonOf(path string) int {
	var n int
	if _, err := fmt.Sscanf(strings.TrimSuffix(path, "/"), "/daemon/%d", &n); err != nil {
		return -1
	}
	return n
}

// pause waits, and tells whether ctx goes on.
func pause(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}
