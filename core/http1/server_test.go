package http1_test

import (
	"bufio"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/hookline/hookline/core/http1"
)

// server is one with a handler that the test leads.
type server struct {
	*http1.Server
	addr string
	came chan *http1.Response // a request of /wait has come
	let  chan struct{}        // it may be answered
}

// start serves until the test ends. secure puts TLS before it.
func start(t *testing.T, secure *tls.Config, set func(*http1.Server)) *server {
	t.Helper()
	s := &server{came: make(chan *http1.Response), let: make(chan struct{})}
	s.Server = &http1.Server{
		Handler: func(w *http1.Response, r *http.Request) {
			switch r.URL.Path {
			case "/wait":
				s.came <- w
				<-s.let
			case "/panic":
				panic("a secret")
			case "/big":
				_, _ = w.Write(make([]byte, 1<<20))
				return
			case "/split":
				w.Set("X-Split", "a\r\nX-Evil: b")
			}
			_, _ = io.WriteString(w, "done")
		},
		HeaderTimeout: 10 * time.Second, IdleTimeout: 10 * time.Second, WriteTimeout: 10 * time.Second,
		MaxHeader: 4 << 10, Log: slog.New(slog.DiscardHandler),
	}
	if set != nil {
		set(s.Server)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s.addr = l.Addr().String()
	if secure != nil {
		l = tls.NewListener(l, secure)
	}
	ended := make(chan struct{})
	go func() { defer close(ended); _ = s.Serve(l) }()
	t.Cleanup(func() {
		l.Close()
		<-ended
		s.Close()
		s.none(t)
	})
	return s
}

// none waits until no connection is left.
func (s *server) none(t *testing.T) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	if err := s.Shutdown(ctx); err != nil {
		t.Errorf("%d connections are left: %v", s.Open(), err)
	}
}

func (s *server) dial(t *testing.T) net.Conn {
	t.Helper()
	c, err := net.Dial("tcp", s.addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	_ = c.SetDeadline(time.Now().Add(20 * time.Second))
	return c
}

func send(t *testing.T, c net.Conn, path string) {
	t.Helper()
	if _, err := fmt.Fprintf(c, "GET %s HTTP/1.1\r\nHost: h\r\n\r\n", path); err != nil {
		t.Fatal(err)
	}
}

func receive(t *testing.T, c net.Conn) (*http.Response, string) {
	t.Helper()
	resp, err := http.ReadResponse(bufio.NewReader(c), nil)
	if err != nil {
		t.Fatal(err)
	}
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp, string(body)
}

// closed waits for the end of a connection.
func closed(t *testing.T, c net.Conn) {
	t.Helper()
	if n, err := io.Copy(io.Discard, c); n != 0 || errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("%d bytes, %v", n, err)
	}
}

// certificate is one for tests, and who trusts it.
func certificate(t *testing.T) (server, client *tls.Config) {
	t.Helper()
	s := httptest.NewTLSServer(nil)
	defer s.Close()
	client = s.Client().Transport.(*http.Transport).TLSClientConfig.Clone()
	client.ServerName, client.NextProtos = "example.com", nil
	return &tls.Config{Certificates: s.TLS.Certificates}, client
}

// A caller's hang-up is seen while its request is under way, on TCP and under TLS, and
// nothing else is taken for one.
func TestGone(t *testing.T) {
	secure, trusting := certificate(t)
	old := trusting.Clone()
	old.MaxVersion = tls.VersionTLS12
	for name, client := range map[string]*tls.Config{"TCP": nil, "TLS 1.3": trusting, "TLS 1.2": old} {
		for _, more := range []string{"", "GET / HTTP/1.1\r\nHost: h\r\n\r\n"} {
			t.Run(fmt.Sprintf("%s, pipelined %t", name, more != ""), func(t *testing.T) {
				var config *tls.Config
				if client != nil {
					config = secure
				}
				s := start(t, config, nil)
				c := s.dial(t)
				if client != nil {
					c = tls.Client(c, client)
				}
				send(t, c, "/wait")
				w := <-s.came
				if w.Gone() {
					t.Error("gone, before it was")
				}
				if more != "" {
					_, _ = io.WriteString(c, more)
					if w.Gone() {
						t.Error("gone, with another request on its way")
					}
				} else {
					c.Close()
					for begun := time.Now(); !w.Gone(); {
						if time.Since(begun) > 10*time.Second {
							t.Fatal("not gone")
						}
					}
				}
				close(s.let)
			})
		}
	}
}

// A stop ends connections that wait, lets a request end, and says that it was the last.
func TestShutdown(t *testing.T) {
	s := start(t, nil, nil)
	idle, busy := s.dial(t), s.dial(t)
	send(t, idle, "/")
	receive(t, idle)
	send(t, busy, "/wait")
	<-s.came
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error)
	go func() { ended <- s.Shutdown(ctx) }()
	closed(t, idle)
	cancel()
	if err := <-ended; !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	close(s.let)
	if resp, body := receive(t, busy); !resp.Close || body != "done" {
		t.Errorf("%v %s", resp, body)
	}
	closed(t, busy)
	s.none(t)
}

// Close cuts what is under way.
func TestClose(t *testing.T) {
	s := start(t, nil, nil)
	c := s.dial(t)
	send(t, c, "/wait")
	w := <-s.came
	s.Close()
	if !w.Gone() {
		t.Error("its caller is still there")
	}
	closed(t, c)
	close(s.let)
}

// What cannot be read is not quoted in the log: it may be credentials, or what is left of
// a body that was announced too short.
func TestMalformedIsNotQuoted(t *testing.T) {
	var log strings.Builder
	s := start(t, nil, func(s *http1.Server) {
		s.Log = slog.New(slog.NewTextHandler(&log, &slog.HandlerOptions{Level: slog.LevelDebug}))
	})
	for _, text := range []string{
		"GET / HTTP/1.1\r\nHost: h\r\nAuthorization Basic secret\r\n\r\n",
		"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 2\r\n\r\n{}, secret: 1}\r\n\r\n",
	} {
		c := s.dial(t)
		_, _ = io.WriteString(c, text)
		_, _ = io.Copy(io.Discard, c)
	}
	s.Close()
	s.none(t)
	if n := strings.Count(log.String(), "cannot be read"); n != 2 || strings.Contains(log.String(), "secret") {
		t.Error(log.String())
	}
}

// A connection that is accepted while the server closes is closed too: nobody would
// look for it afterwards.
func TestAcceptedLate(t *testing.T) {
	s := start(t, nil, nil)
	s.none(t)
	c := s.dial(t)
	_, _ = io.WriteString(c, "GET / HTTP/1.1\r\nHost: h\r\n\r\n")
	closed(t, c)
}

// One request's panic is nobody else's.
func TestPanic(t *testing.T) {
	var log strings.Builder
	s := start(t, nil, func(s *http1.Server) { s.Log = slog.New(slog.NewTextHandler(&log, nil)) })
	c, other := s.dial(t), s.dial(t)
	send(t, c, "/panic")
	closed(t, c)
	send(t, other, "/")
	receive(t, other)
	s.Close()
	s.none(t)
	if !strings.Contains(log.String(), "server_test.go") || strings.Contains(log.String(), "secret") {
		t.Error(log.String())
	}
}

// Who sends slowly, or does not read, does not keep a connection.
func TestSlow(t *testing.T) {
	s := start(t, nil, func(s *http1.Server) {
		s.HeaderTimeout, s.IdleTimeout, s.WriteTimeout = 50*time.Millisecond, 50*time.Millisecond, 50*time.Millisecond
	})
	for _, text := range []string{"", "GET / HTTP/1.1\r\nHost: h\r\n", "\r\n\r\n"} {
		c := s.dial(t)
		_, _ = io.WriteString(c, text)
		closed(t, c)
	}
	c := s.dial(t)
	_ = c.(*net.TCPConn).SetReadBuffer(4 << 10)
	for range 64 { // more than the buffers of both sides hold
		if _, err := io.WriteString(c, "GET /big HTTP/1.1\r\nHost: h\r\n\r\n"); err != nil {
			break
		}
	}
	s.none(t)
}

// A header's value is one line, whoever has made it.
func TestOneLine(t *testing.T) {
	s := start(t, nil, nil)
	c := s.dial(t)
	send(t, c, "/split")
	resp, _ := receive(t, c)
	if resp.Header.Get("X-Split") != "a  X-Evil: b" || resp.Header.Get("X-Evil") != "" {
		t.Error(resp.Header)
	}
	if at, err := http.ParseTime(resp.Header.Get("Date")); err != nil || time.Since(at) > time.Minute {
		t.Error(at, err)
	}
}

// Who speaks HTTP to an address that has TLS is told so.
func TestPlainToTLS(t *testing.T) {
	secure, _ := certificate(t)
	s := start(t, secure, nil)
	c := s.dial(t)
	send(t, c, "/")
	resp, body := receive(t, c)
	if resp.StatusCode != http.StatusBadRequest || !strings.Contains(body, "https://") {
		t.Errorf("%v %s", resp, body)
	}
}

// A body that nobody asked for, and that never comes, holds up its answer for a short
// time only.
func TestBodyThatNeverComes(t *testing.T) {
	s := start(t, nil, func(s *http1.Server) { s.IdleTimeout, s.HeaderTimeout = time.Hour, time.Hour })
	c := s.dial(t)
	_, _ = io.WriteString(c, "GET / HTTP/1.1\r\nHost: h\r\nContent-Length: 10\r\n\r\n")
	if resp, body := receive(t, c); !resp.Close || body != "done" {
		t.Errorf("%v %s", resp, body)
	}
}

// An answer that comes before its request's body arrives, although bytes are unread.
func TestUnreadBody(t *testing.T) {
	s := start(t, nil, nil)
	for range 20 {
		c := s.dial(t)
		go func() {
			_, _ = io.WriteString(c, "POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 4000000\r\n\r\n")
			_, _ = c.Write(make([]byte, 4000000))
		}()
		if resp, body := receive(t, c); !resp.Close || body != "done" {
			t.Fatalf("%v %s", resp, body)
		}
		c.Close()
	}
}
