package http_test

import (
	"bytes"
	"context"
	"io"
	"net"
	nethttp "net/http"
	"os"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/hookline/hookline/plugins/http"
	"github.com/hookline/hookline/plugins/target/targettest"
	"github.com/hookline/hookline/plugins/transport"
)

// secretive are settings full of secrets; no receipt may show one.
func secretive(addr string) obj {
	return obj{
		"url": "http://" + addr + "/path-secret?key=query-secret", "username": "u", "password": "password-secret",
		"headers": obj{"X-Key": "header-secret"}, "signing_secrets": "whsec_c2VjcmV0LXNlY3JldC1zZWNyZXQtc2VjcmV0",
	}
}

func TestStatusMapping(t *testing.T) {
	const none, unknown, done = transport.None, transport.Unknown, transport.Done
	for status, w := range map[int]struct {
		effect transport.Effect
		code   transport.Code
	}{
		200: {done, transport.Delivered}, 201: {done, transport.Delivered}, 204: {done, transport.Delivered}, 299: {done, transport.Delivered},
		300: {none, transport.RedirectRefused}, 301: {none, transport.RedirectRefused}, 302: {none, transport.RedirectRefused},
		304: {none, transport.RedirectRefused}, 307: {none, transport.RedirectRefused}, 308: {none, transport.RedirectRefused},
		400: {none, transport.RejectedByTarget}, 401: {none, transport.UnauthorizedByTarget}, 403: {none, transport.UnauthorizedByTarget},
		404: {none, transport.NotFoundAtTarget}, 405: {none, transport.RejectedByTarget}, 408: {none, transport.TargetError},
		409: {none, transport.RejectedByTarget}, 410: {none, transport.NotFoundAtTarget}, 413: {none, transport.RejectedByTarget},
		422: {none, transport.RejectedByTarget}, 425: {none, transport.TargetError}, 429: {none, transport.ThrottledByTarget},
		500: {unknown, transport.TargetError}, 501: {unknown, transport.TargetError}, 502: {unknown, transport.TargetError},
		503: {none, transport.ThrottledByTarget}, 504: {unknown, transport.TargetError}, 599: {unknown, transport.TargetError},
		600: {unknown, transport.BadResponse}, 999: {unknown, transport.BadResponse},
	} {
		s := server(t, func(rw nethttp.ResponseWriter, r *nethttp.Request) {
			rw.Header().Set("Location", "http://127.0.0.1:1/location-secret")
			rw.Header().Set("Content-Type", "text/plain")
			rw.WriteHeader(status)
			if status != 204 && status != 304 {
				_, _ = io.WriteString(rw, "body-secret")
			}
		})
		r := deliver(t, configured(t, secretive(s.Listener.Addr().String())), message())
		want(t, r, w.effect, w.code, status)
		if status != 204 && status != 304 && (string(r.Body) != "body-secret" || r.ContentType != "text/plain" || r.Truncated) {
			t.Errorf("%d: body %q type %q truncated %v", status, r.Body, r.ContentType, r.Truncated)
		}
	}
}

func TestBrokenTargets(t *testing.T) {
	const none, unknown, done = transport.None, transport.Unknown, transport.Done
	long := strings.Repeat("x", 300<<10)
	for name, tc := range map[string]struct {
		serve  func(*net.TCPConn)
		effect transport.Effect
		code   transport.Code
		status int
		detail string
	}{
		"reset after the request":  {resets, unknown, transport.ConnectionReset, 0, "connection reset"},
		"closed after the request": {readRequestOnly, unknown, transport.ConnectionReset, 0, "closed the connection"},
		"half body":                {says("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n12345"), unknown, transport.BadResponse, 200, "broke off"},
		"half chunked body":        {says("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\n123"), unknown, transport.BadResponse, 200, "broke off"},
		"bad chunk":                {says("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\nbody-secret"), unknown, transport.BadResponse, 200, ""},
		"no last chunk":            {says("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\n12345\r\n"), unknown, transport.BadResponse, 200, ""},
		"half body of a refusal":   {says("HTTP/1.1 401 No\r\nContent-Length: 10\r\n\r\n12345"), none, transport.UnauthorizedByTarget, 401, "401"},
		"half head":                {says("HTTP/1.1 200 OK\r\nContent-Le"), unknown, transport.BadResponse, 0, "broke off"},
		"half status line":         {says("HTTP/1.1 2"), unknown, transport.BadResponse, 0, ""},
		"not HTTP":                 {says("SSH-2.0-secret_9.6\r\n"), unknown, transport.BadResponse, 0, "malformed"},
		"bad status":               {says("HTTP/1.1 abc secret\r\n\r\n"), unknown, transport.BadResponse, 0, "malformed"},
		"status below 100":         {says("HTTP/1.1 099 Odd\r\nContent-Length: 0\r\n\r\n"), unknown, transport.BadResponse, 99, "99"},
		"HTTP/2":                   {says("HTTP/2.0 200 OK\r\nContent-Length: 0\r\n\r\n"), unknown, transport.BadResponse, 200, ""},
		"two lengths":              {says("HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n12"), unknown, transport.BadResponse, 0, "malformed"},
		"negative length":          {says("HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n"), unknown, transport.BadResponse, 0, "malformed"},
		"bad header":               {says("HTTP/1.1 200 OK\r\nno colon secret\r\n\r\n"), unknown, transport.BadResponse, 0, "malformed"},
		"switches protocol":        {says("HTTP/1.1 101 Switching\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n"), unknown, transport.BadResponse, 101, ""},
		"informational first":      {says("HTTP/1.1 103 Early\r\nLink: x\r\n\r\nHTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"), done, transport.Delivered, 200, ""},
		"informational only":       {says(strings.Repeat("HTTP/1.1 103 Early\r\n\r\n", 20)), unknown, transport.BadResponse, 0, "informational"},
		"endless header":           {says("HTTP/1.1 200 OK\r\nX: " + long), unknown, transport.BadResponse, 0, "256 KiB"},
		"endless headers":          {says("HTTP/1.1 200 OK\r\n" + strings.Repeat("X: secret\r\n", 40<<10)), unknown, transport.BadResponse, 0, "256 KiB"},
		"body until close":         {says("HTTP/1.0 200 OK\r\n\r\nbody"), done, transport.Delivered, 200, ""},
		"no body":                  {says("HTTP/1.1 204 No\r\n\r\n"), done, transport.Delivered, 204, ""},
		"body cut by a reset": {func(c *net.TCPConn) {
			readRequest(c)
			_, _ = io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n1")
			_ = c.SetLinger(0)
		}, unknown, transport.BadResponse, 0, ""},
		"closes at once": {func(c *net.TCPConn) {}, unknown, transport.ConnectionReset, 0, ""},
	} {
		t.Run(name, func(t *testing.T) {
			addr := rawServer(t, tc.serve)
			r := deliver(t, configured(t, secretive(addr)), message())
			status := tc.status
			if name == "body cut by a reset" {
				status = r.TargetStatus // the reset may overtake the head
				if r.Code == transport.ConnectionReset {
					return
				}
			}
			want(t, r, tc.effect, tc.code, status)
			if !strings.Contains(r.Detail, tc.detail) {
				t.Errorf("detail %q, want %q in it", r.Detail, tc.detail)
			}
		})
	}
}

func readRequestOnly(c *net.TCPConn) { readRequest(c) }

func TestNotReached(t *testing.T) {
	t.Run("refused", func(t *testing.T) {
		addr := targettest.ClosedAddr(t)
		r := deliver(t, configured(t, secretive(addr)), message())
		want(t, r, transport.None, transport.ConnectionRefused, 0)
		if r.Detail != "dial tcp "+addr+": connection refused" {
			t.Errorf("detail %q", r.Detail)
		}
	})
	for errno, code := range map[syscall.Errno]transport.Code{
		syscall.EHOSTUNREACH: transport.ConnectionRefused, syscall.ENETUNREACH: transport.ConnectionRefused,
		syscall.ENETDOWN: transport.ConnectionRefused, syscall.EMFILE: transport.ConnectionRefused,
		syscall.ECONNRESET: transport.ConnectionReset, syscall.ETIMEDOUT: transport.Timeout,
	} {
		tr := configured(t, secretive("10.0.0.1:80"), http.WithDial(func(context.Context, string, string) (net.Conn, error) {
			return nil, &net.OpError{Op: "dial", Net: "tcp", Err: os.NewSyscallError("connect", errno)}
		}))
		want(t, deliver(t, tr, message()), transport.None, code, 0)
	}
	t.Run("unknown name", func(t *testing.T) {
		tr := configured(t, secretive("nowhere.test"), http.WithResolver(fakeDNS(t, nil)))
		r := deliver(t, tr, message())
		want(t, r, transport.None, transport.DNSError, 0)
		if r.Detail != "lookup nowhere.test: no such host" {
			t.Errorf("detail %q", r.Detail)
		}
		want(t, tr.Check(t.Context()), transport.None, transport.DNSError, 0)
	})
}

// within fails unless f ends at most 50 ms after the deadline. A transport that
// does not heed it is late each time; one on a busy machine is not.
func within(t *testing.T, deadline time.Duration, f func(ctx context.Context) transport.Receipt) transport.Receipt {
	t.Helper()
	for try := 1; ; try++ {
		ctx, cancel := context.WithTimeout(context.Background(), deadline)
		start := time.Now()
		r := f(ctx)
		took := time.Since(start)
		cancel()
		if took < deadline-time.Millisecond || took > deadline+50*time.Millisecond && try == 5 {
			t.Errorf("took %v, deadline %v", took, deadline)
			return r
		}
		if took <= deadline+50*time.Millisecond {
			return r
		}
	}
}

func TestDeadline(t *testing.T) {
	const wait = 250 * time.Millisecond
	big := message()
	big.Payload = bytes.Repeat([]byte("x"), 32<<20)
	blocked := func(ctx context.Context, _, _ string) (net.Conn, error) { <-ctx.Done(); return nil, ctx.Err() }
	release := make(chan struct{})
	notReading := rawServer(t, func(c *net.TCPConn) { <-release })
	t.Cleanup(func() { close(release) })
	for name, tc := range map[string]struct {
		tr     *http.Transport
		m      *transport.Message
		effect transport.Effect
		status int
	}{
		"dns":         {configured(t, secretive("slow.test"), http.WithResolver(hangingDNS())), message(), transport.None, 0},
		"connecting":  {configured(t, secretive("10.0.0.1:80"), http.WithDial(blocked)), message(), transport.None, 0},
		"handshake":   {configured(t, obj{"url": "https://" + rawServer(t, hangs)}), message(), transport.None, 0},
		"no answer":   {configured(t, secretive(rawServer(t, hangs))), message(), transport.Unknown, 0},
		"half a head": {configured(t, secretive(rawServer(t, saysAndHangs("HTTP/1.1 200 OK\r\nX:")))), message(), transport.Unknown, 0},
		"half a body": {configured(t, secretive(rawServer(t, saysAndHangs("HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n1")))), message(), transport.Unknown, 200},
		"not reading": {configured(t, secretive(notReading)), big, transport.Unknown, 0},
	} {
		t.Run(name, func(t *testing.T) {
			r := within(t, wait, func(ctx context.Context) transport.Receipt { return tc.tr.Deliver(ctx, tc.m) })
			want(t, r, tc.effect, transport.Timeout, tc.status)
			if !strings.Contains(r.Detail, "deadline passed") {
				t.Errorf("detail %q", r.Detail)
			}
		})
	}
	t.Run("refusal with a slow body", func(t *testing.T) {
		tr := configured(t, secretive(rawServer(t, saysAndHangs("HTTP/1.1 404 No\r\nContent-Length: 9\r\n\r\n1"))))
		r := within(t, wait, func(ctx context.Context) transport.Receipt { return tr.Deliver(ctx, message()) })
		want(t, r, transport.None, transport.NotFoundAtTarget, 404)
		if !r.Truncated {
			t.Error("not truncated")
		}
	})
	t.Run("dial_timeout", func(t *testing.T) {
		tr := configured(t, obj{"url": "http://10.0.0.1", "dial_timeout": "20ms"}, http.WithDial(blocked))
		r := deliver(t, tr, message())
		want(t, r, transport.None, transport.Timeout, 0)
		if !strings.Contains(r.Detail, "dial_timeout (20ms)") {
			t.Errorf("detail %q", r.Detail)
		}
	})
	t.Run("already over", func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		tr := configured(t, secretive(targettest.ClosedAddr(t)))
		want(t, tr.Deliver(ctx, message()), transport.None, transport.Timeout, 0)
		want(t, tr.Check(ctx), transport.None, transport.Timeout, 0)
	})
	t.Run("cancelled", func(t *testing.T) {
		got := make(chan struct{})
		tr := configured(t, secretive(rawServer(t, func(c *net.TCPConn) { readRequest(c); close(got); hangs(c) })))
		ctx, cancel := context.WithCancel(t.Context())
		go func() { <-got; cancel() }()
		r := tr.Deliver(ctx, message())
		want(t, r, transport.Unknown, transport.Timeout, 0)
		if !strings.Contains(r.Detail, "cancelled") {
			t.Errorf("detail %q", r.Detail)
		}
	})
}

func saysAndHangs(text string) func(*net.TCPConn) {
	return func(c *net.TCPConn) {
		readRequest(c)
		_, _ = io.WriteString(c, text)
		hangs(c)
	}
}

func TestEarlyAnswerToLongRequest(t *testing.T) {
	m := message()
	m.Payload = bytes.Repeat([]byte("x"), 16<<20)
	release := make(chan struct{})
	for name, serve := range map[string]func(*net.TCPConn){
		"and closes": func(c *net.TCPConn) {
			_, _ = c.Read(make([]byte, 100))
			_, _ = io.WriteString(c, "HTTP/1.1 413 Too Large\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
			_ = c.CloseWrite()
			_, _ = io.CopyN(io.Discard, c, 100<<10)
		},
		"and never reads": func(c *net.TCPConn) {
			_, _ = c.Read(make([]byte, 100))
			_, _ = io.WriteString(c, "HTTP/1.1 413 Too Large\r\nContent-Length: 0\r\n\r\n")
			<-release
		},
	} {
		t.Run(name, func(t *testing.T) {
			tr := configured(t, secretive(rawServer(t, serve)))
			want(t, deliver(t, tr, m), transport.None, transport.RejectedByTarget, 413)
			if tr.Idle() != 0 {
				t.Error("kept a connection with half a request on it")
			}
			if name == "and never reads" {
				close(release)
			}
		})
	}
}

func TestRetryAfter(t *testing.T) {
	for value, w := range map[string][2]time.Duration{
		"":                              {0, 0},
		"7":                             {7 * time.Second, 7 * time.Second},
		"0":                             {0, 0},
		"-5":                            {0, 0},
		"soon":                          {0, 0},
		"999999999":                     {24 * time.Hour, 24 * time.Hour},
		"9999999999999999999999":        {24 * time.Hour, 24 * time.Hour},
		"Mon, 02 Jan 2006 15:04:05 GMT": {0, 0},
		"Fri, 31 Dec 2199 23:59:59 GMT": {24 * time.Hour, 24 * time.Hour},
		time.Now().Add(time.Minute).UTC().Format(nethttp.TimeFormat): {50 * time.Second, 60 * time.Second},
	} {
		for _, status := range []int{429, 503} {
			s := server(t, func(w nethttp.ResponseWriter, _ *nethttp.Request) {
				if value != "" {
					w.Header().Set("Retry-After", value)
				}
				w.WriteHeader(status)
			})
			r := deliver(t, configured(t, obj{"url": s.URL}), message())
			want(t, r, transport.None, transport.ThrottledByTarget, status)
			if r.RetryAfter < w[0] || r.RetryAfter > w[1] {
				t.Errorf("%q: retry after %v", value, r.RetryAfter)
			}
		}
	}
}

func TestReplyLimit(t *testing.T) {
	for _, tc := range []struct {
		size    int
		chunked bool
		cut     bool
	}{{0, false, false}, {1, false, false}, {2047, true, false}, {2048, false, false}, {2048, true, false}, {2049, false, true}, {2049, true, true}, {1 << 20, true, true}} {
		body := strings.Repeat("b", tc.size)
		s := server(t, func(w nethttp.ResponseWriter, _ *nethttp.Request) {
			if tc.chunked {
				_ = nethttp.NewResponseController(w).Flush()
			} else {
				w.Header().Set("Content-Length", strconv.Itoa(tc.size))
			}
			_, _ = io.WriteString(w, body)
		})
		tr := configured(t, obj{"url": s.URL, "max_reply": 2048})
		r := deliver(t, tr, message())
		want(t, r, transport.Done, transport.Delivered, 200)
		if string(r.Body) != body[:min(tc.size, 2048)] || r.Truncated != tc.cut {
			t.Errorf("%+v: kept %d, truncated %v", tc, len(r.Body), r.Truncated)
		}
		if idle := tr.Idle(); (idle == 1) == tc.cut {
			t.Errorf("%+v: %d idle", tc, idle)
		}
	}
}

func TestConnectionsAreReused(t *testing.T) {
	var conns atomic.Int32
	drain := func(_ nethttp.ResponseWriter, r *nethttp.Request) { _, _ = io.Copy(io.Discard, r.Body) }
	s := watchedServer(t, drain, func(st nethttp.ConnState) {
		if st == nethttp.StateNew {
			conns.Add(1)
		}
	})
	tr := configured(t, obj{"url": s.URL})
	for range 50 {
		want(t, deliver(t, tr, message()), transport.Done, transport.Delivered, 200)
	}
	if n := conns.Load(); n != 1 {
		t.Errorf("%d connections for 50 requests", n)
	}
	var wg sync.WaitGroup
	for range 32 {
		wg.Go(func() {
			for range 50 {
				want(t, deliver(t, tr, message()), transport.Done, transport.Delivered, 200)
			}
		})
	}
	wg.Wait()
	if n := conns.Load(); n > 32 {
		t.Errorf("%d connections for 32 callers", n)
	}

	// The target closes all; no attempt may fail for it.
	s.CloseClientConnections()
	want(t, deliver(t, tr, message()), transport.Done, transport.Delivered, 200)

	one := configured(t, obj{"url": s.URL, "max_idle": 0})
	before := conns.Load()
	for range 3 {
		want(t, deliver(t, one, message()), transport.Done, transport.Delivered, 200)
	}
	if n := conns.Load() - before; n != 3 || one.Idle() != 0 {
		t.Errorf("max_idle 0: %d connections, %d idle", n, one.Idle())
	}
}

// A connection that dies in the middle of its second request is not tried again:
// the target may have acted on it.
func TestNoSilentRepeat(t *testing.T) {
	var requests atomic.Int32
	s := server(t, func(w nethttp.ResponseWriter, r *nethttp.Request) {
		if requests.Add(1) == 2 {
			panic(nethttp.ErrAbortHandler)
		}
	})
	tr := configured(t, obj{"url": s.URL})
	want(t, deliver(t, tr, message()), transport.Done, transport.Delivered, 200)
	want(t, deliver(t, tr, message()), transport.Unknown, transport.ConnectionReset, 0)
	if n := requests.Load(); n != 2 {
		t.Errorf("the target saw %d requests", n)
	}
	want(t, deliver(t, tr, message()), transport.Done, transport.Delivered, 200)
}

// What a target says unasked on an idle connection is not the next answer.
func TestUnaskedAnswerIsDropped(t *testing.T) {
	said := make(chan struct{})
	var n atomic.Int32
	addr := rawServer(t, func(c *net.TCPConn) {
		first := n.Add(1) == 1
		readRequest(c)
		_, _ = io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
		if first {
			<-said
			_, _ = io.WriteString(c, "HTTP/1.1 408 Timeout\r\nContent-Length: 0\r\n\r\n")
			said <- struct{}{}
		}
		hangs(c)
	})
	tr := configured(t, obj{"url": "http://" + addr})
	want(t, deliver(t, tr, message()), transport.Done, transport.Delivered, 200)
	said <- struct{}{}
	<-said
	want(t, deliver(t, tr, message()), transport.Done, transport.Delivered, 200)
	if n.Load() != 2 {
		t.Error("used the connection again")
	}
}

func TestKeepAliveHeader(t *testing.T) {
	for value, idle := range map[string]int{"timeout=1": 0, "max=5, timeout=60": 1, "timeout=x": 1} {
		s := server(t, func(w nethttp.ResponseWriter, _ *nethttp.Request) { w.Header().Set("Keep-Alive", value) })
		tr := configured(t, obj{"url": s.URL})
		want(t, deliver(t, tr, message()), transport.Done, transport.Delivered, 200)
		if tr.Idle() != idle {
			t.Errorf("%s: %d idle", value, tr.Idle())
		}
	}
}

func TestIdleConnectionsAge(t *testing.T) {
	gone := make(chan struct{})
	s := watchedServer(t, func(nethttp.ResponseWriter, *nethttp.Request) {}, func(st nethttp.ConnState) {
		if st == nethttp.StateClosed {
			close(gone)
		}
	})
	tr := configured(t, obj{"url": s.URL, "idle_timeout": "10ms"})
	want(t, deliver(t, tr, message()), transport.Done, transport.Delivered, 200)
	select {
	case <-gone:
	case <-time.After(5 * time.Second):
		t.Fatal("the idle connection stays open")
	}
}

func TestCheckPlain(t *testing.T) {
	addr := rawServer(t, func(c *net.TCPConn) {
		if n, _ := c.Read(make([]byte, 1)); n > 0 {
			t.Error("check sent something")
		}
	})
	r := configured(t, secretive(addr)).Check(t.Context())
	want(t, r, transport.Done, transport.Delivered, 0)
	if r.Detail != "connected to "+addr {
		t.Errorf("detail %q", r.Detail)
	}
	want(t, configured(t, secretive(targettest.ClosedAddr(t))).Check(t.Context()), transport.None, transport.ConnectionRefused, 0)
}

func TestNotConfigured(t *testing.T) {
	tr := http.New()
	want(t, tr.Deliver(t.Context(), message()), transport.None, transport.ConnectionRefused, 0)
	want(t, tr.Check(t.Context()), transport.None, transport.ConnectionRefused, 0)
	if err := tr.Close(); err != nil {
		t.Error(err)
	}
}
