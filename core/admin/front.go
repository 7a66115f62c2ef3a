package admin

import (
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"slices"
	"strings"
	"time"
)

// bare sets what holds for every answer, and sees to what a request has that
// nobody may ever read.
func bare(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h := w.Header()
		h.Set("X-Content-Type-Options", "nosniff")
		h.Set("Cache-Control", "no-store")
		// Nothing here is a page; one that is says otherwise.
		h.Set("Content-Security-Policy", "default-src 'none'; frame-ancestors 'none'")
		if r.ContentLength != 0 {
			// The server would wait for the rest of a body, however slow, before it
			// answers a call that was refused without a look at it.
			h.Set("Connection", "close")
			_ = http.NewResponseController(w).SetReadDeadline(time.Now().Add(bodyTimeout))
		}
		next.ServeHTTP(w, r)
	})
}

// front is what a call has to pass before anyone looks at what it wants. who says
// who calls.
func front(hosts []string, local bool, who func(http.ResponseWriter, *http.Request) (caller, error), next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		err := rightHost(r, hosts, local)
		if err == nil {
			err = sameSite(r)
		}
		var c caller
		if err == nil {
			c, err = who(w, r)
		}
		if err != nil {
			w.Header().Set("Connection", "close") // strangers are not to fill the places of others
			fail(w, err)
			return
		}
		next.ServeHTTP(w, r.WithContext(withCaller(r.Context(), c)))
	})
}

// rightHost refuses a call that believes to be somewhere else: a page whose name
// has come to mean this address could read the answers. The Unix socket is local:
// it has no name, and a browser gets there only when it is forwarded to a port; any
// single word will do, as nobody can buy it.
func rightHost(r *http.Request, hosts []string, local bool) error {
	host := r.Host
	if h, _, err := net.SplitHostPort(host); err == nil {
		host = h
	}
	host = strings.TrimSuffix(strings.ToLower(strings.Trim(host, "[]")), ".")
	if host == "localhost" || slices.Contains(hosts, host) || local && !strings.ContainsAny(host, ".:") {
		return nil
	}
	if ip, err := netip.ParseAddr(host); err == nil {
		ip = ip.Unmap().WithZone("")
		if ip.IsLoopback() || ip == localAddr(r) || slices.Contains(hosts, ip.String()) {
			return nil
		}
	}
	return &Error{Status: http.StatusMisdirectedRequest, Text: fmt.Sprintf(
		"the admin API is not called %s: add the name to admin.hosts, or call it by its address", shown(r.Host))}
}

// localAddr is the address that the caller connected to.
func localAddr(r *http.Request) netip.Addr {
	local, _ := r.Context().Value(http.LocalAddrContextKey).(net.Addr)
	if local == nil {
		return netip.Addr{}
	}
	at, err := netip.ParseAddrPort(local.String())
	if err != nil {
		return netip.Addr{}
	}
	return at.Addr().Unmap().WithZone("")
}

// sameSite refuses what a page of another site makes a browser send: it would have
// the user's password with it.
func sameSite(r *http.Request) error {
	for _, site := range r.Header.Values("Sec-Fetch-Site") {
		if site != "same-origin" && site != "none" {
			return errCrossOrigin
		}
	}
	for _, origin := range r.Header.Values("Origin") {
		if !sameOrigin(origin, r) {
			return errCrossOrigin
		}
	}
	return nil
}

var errCrossOrigin = &Error{Status: http.StatusForbidden, Text: "the call comes from a page of another site, and none of them may call the admin API"}

func sameOrigin(origin string, r *http.Request) bool {
	u, err := url.Parse(origin)
	if err != nil || u.Host == "" || u.User != nil || u.Path != "" || u.RawQuery != "" || u.Fragment != "" {
		return false
	}
	// Without TLS here there may be some in front.
	if u.Scheme != "https" && (u.Scheme != "http" || r.TLS != nil) {
		return false
	}
	return strings.EqualFold(u.Host, r.Host)
}
