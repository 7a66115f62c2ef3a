package ingest

import (
	"bytes"
	"io"
	"net"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/hookline/hookline/core"
	"github.com/hookline/hookline/core/credential"
)

// pipe is a connection whose caller has already sent everything.
type pipe struct {
	in     *strings.Reader
	mu     sync.Mutex
	out    bytes.Buffer
	once   sync.Once
	closed chan struct{}
}

func (p *pipe) Read(b []byte) (int, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.in.Read(b)
}

func (p *pipe) Write(b []byte) (int, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.out.Write(b)
}

func (p *pipe) Close() error                     { p.once.Do(func() { close(p.closed) }); return nil }
func (p *pipe) LocalAddr() net.Addr              { return &net.TCPAddr{} }
func (p *pipe) RemoteAddr() net.Addr             { return &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1)} }
func (p *pipe) SetDeadline(time.Time) error      { return nil }
func (p *pipe) SetReadDeadline(time.Time) error  { return nil }
func (p *pipe) SetWriteDeadline(time.Time) error { return nil }

// queue is a listener that accepts what a test puts into it.
type queue struct {
	conns  chan net.Conn
	once   sync.Once
	closed chan struct{}
}

func newQueue() *queue { return &queue{conns: make(chan net.Conn), closed: make(chan struct{})} }

func (q *queue) Accept() (net.Conn, error) {
	select {
	case c := <-q.conns:
		return c, nil
	case <-q.closed:
		return nil, net.ErrClosed
	}
}

func (q *queue) Close() error   { q.once.Do(func() { close(q.closed) }); return nil }
func (q *queue) Addr() net.Addr { return &net.TCPAddr{} }

var statusLine = regexp.MustCompile(`^HTTP/1\.[01] [1-5]\d\d `)

// FuzzRequest sends any bytes: the endpoint answers HTTP or closes, never hangs,
// and nothing in it panics.
func FuzzRequest(f *testing.F) {
	good := basic(email, password)
	for _, text := range []string{
		post("demo", good, insert), post("demo", "", insert), post("demo", good, "{}"), post("open", "Expect: 100-continue\n", insert),
		"PUT /hooks/open/?a=b HTTP/1.1\nHost: h\nTransfer-Encoding: chunked\n\n2\r\n{}\r\n0\r\n\r\n",
		"POST /hooks/open HTTP/1.0\nContent-Type: a; charset=utf-16\nContent-Length: 2\n\n{}",
		"GET /readyz HTTP/1.1\nHost: h\n\n", "OPTIONS * HTTP/1.1\nHost: h\n\n", "CONNECT h:1 HTTP/1.1\nHost: h\n\n",
		"PRI * HTTP/2.0\n\nSM\r\n\r\n", "POST /hooks/%2e%2e/open HTTP/1.1\nHost: h\nTraceparent: 00-\nX-Forwarded-For: ,,\nContent-Length: 1\n\n1",
	} {
		f.Add(crlf(text))
	}
	s := New(Options{Log: quietLog(), MaxBody: 4 << 10})
	s.Use(setOf(hook("demo", password), hook("open"), hook("hashed", hashOf(f, password))))
	q := newQueue()
	ended := make(chan error, 1)
	go func() { ended <- s.Serve(q) }()
	f.Cleanup(func() {
		if err := s.Drain(f.Context()); err != nil && f.Context().Err() == nil {
			f.Error(err)
		}
		<-ended
	})
	f.Fuzz(func(t *testing.T, text string) {
		p := &pipe{in: strings.NewReader(text), closed: make(chan struct{})}
		q.conns <- p
		await(t, p.closed, "the connection's end")
		p.mu.Lock()
		defer p.mu.Unlock()
		out := p.out.String()
		if out != "" && !statusLine.MatchString(out) {
			t.Errorf("not an answer: %q", out)
		}
		if strings.Contains(out, `"code":"`+string(core.Internal)+`"`) {
			t.Errorf("a panic: %q", out)
		}
	})
}

// FuzzBasic parses any header; what it takes has the form of credentials.
func FuzzBasic(f *testing.F) {
	for _, text := range []string{"Basic dXNlcjpwYXNz", "basic dXNlcjpwOmFzcw", "Basic", "Basic ====", "Bearer x", "Basic dXNlcjpw/Gdl"} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		user, pass, ok := credential.ParseBasic(text)
		if !ok {
			return
		}
		if strings.Contains(user, ":") {
			t.Errorf("%q: user %q", text, user)
		}
		// What is written in the usual way is read back.
		u, p, ok := credential.ParseBasic(strings.TrimSuffix(strings.TrimPrefix(basic(user, pass), "Authorization: "), "\n"))
		if !ok || u != user || p != pass {
			t.Errorf("%q %q became %q %q", user, pass, u, p)
		}
	})
}

var _ io.ReadWriteCloser = (*pipe)(nil)
