package ingest

import (
	"context"
	"log/slog"
	"net/http"
	"net/netip"
	"slices"
	"strings"
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
	s.log.LogAttrs(r.Context(), slog.LevelInfo, "first call of a hook",
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

// watch notes when the caller hangs up.
type watch struct {
	ctx  context.Context
	at   atomic.Int64 // after start, 0 for not yet
	stop func() bool
}

func (s *Server) watchCaller(ctx context.Context, start time.Time) *watch {
	w := &watch{ctx: ctx}
	w.stop = context.AfterFunc(ctx, func() {
		w.at.Store(int64(time.Since(start)))
		if s.hungUp != nil {
			s.hungUp()
		}
	})
	return w
}

// gone tells how long the caller waited if it did not wait for the answer.
func (w *watch) gone(start time.Time) (waited time.Duration, ok bool) {
	w.stop()
	if w.ctx.Err() == nil {
		return 0, false
	}
	if at := w.at.Load(); at != 0 {
		return time.Duration(at), true
	}
	return time.Since(start), true // it is gone so lately that it is not noted yet
}
