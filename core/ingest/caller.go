package ingest

import (
	"context"
	"log/slog"
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// caller is what is known of a hook's caller. It outlives the sets: the profile
// is written once per process, not once per reload.
type caller struct {
	profiled   atomic.Bool
	challenged atomic.Pointer[string] // the address that was last sent a challenge
}

// challenge notes that a request without credentials was answered with 401.
func (c *caller) challenge(remote string) {
	if !c.profiled.Load() {
		c.challenged.Store(&remote)
	}
}

// profile logs how TrialKit calls, the first time that it gets through: nothing
// public says which method, type and manners it has.
func (s *Server) profile(c *caller, hook string, r *http.Request) {
	if c.profiled.Load() || !c.profiled.CompareAndSwap(false, true) {
		return
	}
	remote := s.remote(r)
	before := c.challenged.Load()
	body := "length"
	if r.ContentLength < 0 {
		body = "chunked"
	}
	s.log.LogAttrs(context.Background(), slog.LevelInfo, "first call of a hook",
		slog.String("hook", hook), slog.String("remote", remote),
		slog.String("method", r.Method), slog.String("proto", r.Proto),
		slog.String("content_type", short(r.Header.Get("Content-Type"))),
		slog.String("expect", short(r.Header.Get("Expect"))),
		slog.String("user_agent", short(r.Header.Get("User-Agent"))),
		slog.Bool("challenge_first", before != nil && *before == remote),
		slog.String("body", body))
}

// short keeps a header of unknown size out of the log.
func short(s string) string {
	if len(s) > 200 {
		return s[:200] + "..."
	}
	return s
}

var local = netip.AddrFrom4([4]byte{127, 0, 0, 1})

// remote is the address of the caller: the connection's, or what a trusted proxy
// says. Only the part of X-Forwarded-For that trusted proxies wrote counts; a
// caller can write anything to the left of it.
func (s *Server) remote(r *http.Request) string {
	peer, text := local, "unix"
	if ap, err := netip.ParseAddrPort(r.RemoteAddr); err == nil {
		peer = ap.Addr().Unmap().WithZone("")
		text = peer.String()
	}
	if !s.trusts(peer) {
		return text
	}
	hops := strings.Split(strings.Join(r.Header["X-Forwarded-For"], ","), ",")
	for _, hop := range slices.Backward(hops) {
		addr, err := parseHop(strings.TrimSpace(hop))
		if err != nil {
			return text
		}
		text = addr.String()
		if !s.trusts(addr) {
			break
		}
	}
	return text
}

// parseHop reads an address, which some proxies write with a port.
func parseHop(s string) (netip.Addr, error) {
	if ap, err := netip.ParseAddrPort(s); err == nil {
		return ap.Addr().Unmap().WithZone(""), nil
	}
	addr, err := netip.ParseAddr(strings.Trim(s, "[]"))
	return addr.Unmap().WithZone(""), err
}

func (s *Server) trusts(addr netip.Addr) bool {
	return slices.ContainsFunc(s.opts.TrustedProxies, func(p netip.Prefix) bool { return p.Contains(addr) })
}

// lookEvery is how exactly it is known when a caller has hung up.
const lookEvery = 20 * time.Millisecond

// watches are the calls under way. One timer looks after them all: one for each would
// cost more than reading its event.
type watches struct {
	noticed func() // for tests; nil: none

	mu    sync.Mutex
	calls map[*watch]struct{}
	timer *time.Timer
	on    bool // the timer is
}

// watch notes when the caller of one hangs up.
type watch struct {
	gone  func() bool
	start time.Time
	after time.Duration // start, 0 for not noticed; guarded by watches.mu
}

func (all *watches) begin(gone func() bool, start time.Time) *watch {
	w := &watch{gone: gone, start: start}
	all.mu.Lock()
	defer all.mu.Unlock()
	if all.calls == nil {
		all.calls = map[*watch]struct{}{}
		all.timer = time.AfterFunc(lookEvery, all.look)
		all.on = true
	}
	all.calls[w] = struct{}{}
	if !all.on {
		all.timer.Reset(lookEvery)
		all.on = true
	}
	return w
}

func (all *watches) look() {
	all.mu.Lock()
	defer all.mu.Unlock()
	now := time.Now()
	for w := range all.calls {
		if w.after == 0 && now.Sub(w.start) >= lookEvery && w.gone() {
			w.after = now.Sub(w.start)
			if all.noticed != nil {
				all.noticed()
			}
		}
	}
	if all.on = len(all.calls) > 0; all.on {
		all.timer.Reset(lookEvery)
	}
}

// end tells how long the caller waited if it did not wait for the answer.
func (all *watches) end(w *watch) (waited time.Duration, gone bool) {
	all.mu.Lock()
	delete(all.calls, w)
	waited = w.after
	all.mu.Unlock()
	switch {
	case waited > 0:
		return waited, true
	case w.gone(): // so lately that it is not noted yet
		return time.Since(w.start), true
	}
	return 0, false
}
