package ingest

import (
	"context"
	"errors"
	"net/http"
	"net/netip"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/crypto/bcrypt"

	"github.com/hookline/hookline/core"
	"github.com/hookline/hookline/core/credential"
)

func hashOf(t testing.TB, password string) string {
	t.Helper()
	h, err := bcrypt.GenerateFromPassword([]byte(password), bcrypt.MinCost)
	if err != nil {
		t.Fatal(err)
	}
	return string(h)
}

// counting replaces bcrypt by its count.
func counting(n *atomic.Int64) func(*Server) {
	return func(s *Server) {
		s.checker.Compare = func(hash, password []byte) error {
			n.Add(1)
			return bcrypt.CompareHashAndPassword(hash, password)
		}
	}
}

func setOf(h ...Hook) *Set { return &Set{Hooks: h, Dispatcher: ignore} }

func TestRotation(t *testing.T) {
	s := start(t, Options{}, setOf(hook("demo", "new", hashOf(t, "old"), "older")))
	p := s.dial(t)
	for _, good := range []string{"new", "old", "older"} {
		p.send(post("demo", basic(email, good), insert))
		p.want(http.StatusOK, core.Ignored)
	}
	s.Use(setOf(hook("demo", "new")))
	for _, bad := range []string{"old", "older", "", "new ", "NEW"} {
		p.send(post("demo", basic(email, bad), insert))
		p.want(http.StatusUnauthorized, core.Unauthorized)
	}
	s.log.await(t, "level=WARN", "code=unauthorized", "hook=demo", "remote=127.0.0.1")
}

func TestPasswordsCountMoreThanAnonymous(t *testing.T) {
	h := hook("demo", password)
	h.Anonymous = true
	none := hook("none")
	none.Anonymous = false
	s := start(t, Options{}, setOf(h, none))
	p := s.dial(t)
	p.send(post("demo", "", insert))
	p.want(http.StatusUnauthorized, core.Unauthorized)
	p.send(post("none", basic(email, ""), insert))
	p.want(http.StatusUnauthorized, core.Unauthorized)
}

func TestBcryptIsRemembered(t *testing.T) {
	var checks atomic.Int64
	s := start(t, Options{}, setOf(hook("demo", hashOf(t, password)), hook("other", hashOf(t, password))), counting(&checks))
	p := s.dial(t)
	try := func(hook, email, password string, status int, want int64) {
		t.Helper()
		before := checks.Load()
		p.send(post(hook, basic(email, password), insert))
		if got, _ := p.code(); got != status {
			t.Errorf("status %d, want %d", got, status)
		}
		if n := checks.Load() - before; n != want {
			t.Errorf("%d checks, want %d", n, want)
		}
	}
	try("demo", email, password, 200, 1)
	try("demo", email, password, 200, 0)
	try("other", email, password, 200, 1) // one hook's match is not another's
	try("demo", email, "wrong", 401, 1)
	try("demo", email, "wrong", 401, 1)
	try("demo", "nobody", password, 401, 1) // an unknown user costs the same
	try("demo", "nobody", password, 401, 1)
	s.Use(setOf(hook("demo", hashOf(t, password))))
	try("demo", email, password, 200, 1) // forgotten at the reload
	s.Use(setOf(hook("demo", hashOf(t, "changed"))))
	try("demo", email, password, 401, 1)
}

// After a reload a burst of callers with the right password waits for one check.
func TestBurstAfterReload(t *testing.T) {
	var checks atomic.Int64
	s := start(t, Options{}, setOf(hook("demo", hashOf(t, password))), counting(&checks), func(s *Server) {
		s.checker.Turns = make(chan struct{}, 1)
		s.checker.Wait = patience
	})
	var callers sync.WaitGroup
	for range 20 {
		p := s.dial(t)
		callers.Go(func() {
			p.send(post("demo", basic(email, password), insert))
			p.want(http.StatusOK, core.Ignored)
		})
	}
	callers.Wait()
	if n := checks.Load(); n != 1 {
		t.Errorf("%d checks", n)
	}
}

func TestThrottled(t *testing.T) {
	began, let := make(chan struct{}, 8), make(chan struct{})
	s := start(t, Options{}, setOf(hook("demo", hashOf(t, password)), hook("plain", password, hashOf(t, "x"))), func(s *Server) {
		s.checker.Turns = make(chan struct{}, 1)
		s.checker.Wait = time.Millisecond
		s.checker.Compare = func(_, _ []byte) error {
			began <- struct{}{}
			<-let
			return errors.New("wrong")
		}
	})
	flood := s.dial(t)
	flood.send(post("demo", basic(email, "wrong"), insert))
	await(t, began, "the check")
	p := s.dial(t)
	p.send(post("demo", basic(email, password), insert))
	resp, body := p.receive()
	if resp.StatusCode != 429 || resp.Header.Get("Retry-After") != "1" || !strings.Contains(body, `"code":"throttled"`) || !strings.Contains(body, "hooks.demo.password") {
		t.Errorf("%v %s", resp, body)
	}
	p.send(post("plain", basic(email, password), insert)) // literal passwords are not held up
	p.want(http.StatusOK, core.Ignored)
	close(let)
	flood.want(http.StatusUnauthorized, core.Unauthorized)

	gone, cancel := context.WithCancel(t.Context())
	cancel()
	full := New(Options{})
	full.checker.Turns = make(chan struct{}) // never a turn
	full.checker.Wait = patience
	d := newDoor(&Hook{Hook: &core.Hook{}, Passwords: []string{hashOf(t, "x")}}, credential.NewMemory(), nil)
	if v := full.check(gone, d, "", ""); v != credential.Busy {
		t.Errorf("a caller that is gone keeps its place: %v", v)
	}
}

func TestRemote(t *testing.T) {
	s := New(Options{TrustedProxies: []netip.Prefix{netip.MustParsePrefix("127.0.0.1/32"), netip.MustParsePrefix("10.0.0.0/8")}})
	for _, c := range []struct{ peer, forwarded, want string }{
		{"127.0.0.1:1", "", "127.0.0.1"},
		{"127.0.0.1:1", "203.0.113.7", "203.0.113.7"},
		{"[::ffff:127.0.0.1]:1", "203.0.113.7:4711", "203.0.113.7"},
		{"127.0.0.1:1", "1.1.1.1, 203.0.113.7, 10.1.2.3", "203.0.113.7"}, // the first is the caller's claim
		{"127.0.0.1:1", "10.1.2.3", "10.1.2.3"},
		{"127.0.0.1:1", "<script>", "127.0.0.1"},
		{"127.0.0.1:1", "1.1.1.1, <script>, 10.1.2.3", "10.1.2.3"},
		{"127.0.0.1:1", "[2001:db8::1]", "2001:db8::1"},
		{"192.0.2.1:1", "203.0.113.7", "192.0.2.1"}, // not a trusted proxy
		{"@", "203.0.113.7", "203.0.113.7"},         // a Unix socket
	} {
		r := &http.Request{RemoteAddr: c.peer, Header: http.Header{}}
		if c.forwarded != "" {
			r.Header.Set("X-Forwarded-For", c.forwarded)
		}
		if got := s.remote(r); got != c.want {
			t.Errorf("%s for %q: %s, want %s", c.peer, c.forwarded, got, c.want)
		}
	}
	if got := New(Options{}).remote(&http.Request{RemoteAddr: "@", Header: http.Header{"X-Forwarded-For": {"1.1.1.1"}}}); got != "unix" {
		t.Errorf("an untrusted Unix peer: %s", got)
	}
}
