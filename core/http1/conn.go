package http1

import (
	"bufio"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"runtime/debug"
	"strings"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/net/http/httpguts"
)

const (
	// restMost is how much of a body that the handler has not read is read to keep
	// the connection.
	restMost = 256 << 10
	// restTime is how long it may take, unless the handler has said so.
	restTime = 2 * time.Second
	// restWait is how long a connection that is closed with bytes unread takes more of
	// them: the kernel would reset it at once, and the caller might lose its answer.
	restWait = 500 * time.Millisecond
	// noLimit is for what is read of a body.
	noLimit = 1 << 62
)

// The states of a connection.
const (
	connIdle   int32 = iota // it waits for a request
	connBusy                // it has one
	connClosed              // Shutdown has closed it
)

// conn is a connection. One goroutine serves it.
type conn struct {
	s    *Server
	raw  net.Conn        // the transport's, beneath TLS
	rw   net.Conn        // what is spoken on: raw, or TLS over it
	sys  syscall.RawConn // nil where the system has none
	peer string
	busy atomic.Int32

	in       bufio.Reader
	usual    request
	left     int64 // bytes that may still be read; for the head
	w        Response
	out      []byte
	readEnd  time.Time // the deadlines that are set
	writeEnd time.Time
}

func newConn(s *Server, rw net.Conn) *conn {
	c := &conn{s: s, raw: rw, rw: rw, peer: fmt.Sprint(rw.RemoteAddr())}
	if t, ok := rw.(*tls.Conn); ok {
		c.raw = t.NetConn()
	}
	if sc, ok := c.raw.(syscall.Conn); ok {
		c.sys, _ = sc.SyscallConn()
	}
	c.in.Reset((*limited)(c))
	c.w.c = c
	return c
}

// limited is a connection's reading side.
type limited conn

func (l *limited) Read(p []byte) (int, error) {
	if l.left <= 0 {
		return 0, io.EOF
	}
	if int64(len(p)) > l.left {
		p = p[:l.left]
	}
	n, err := l.rw.Read(p)
	l.left -= int64(n)
	return n, err
}

func (c *conn) serve() {
	defer c.s.ended(c)
	defer func() { _ = c.rw.Close() }()
	defer func() {
		if p := recover(); p != nil { // not p: it may quote a request
			c.s.Log.Error("a connection's handler panicked", "remote", c.peer, "stack", string(debug.Stack()))
		}
	}()
	if !c.handshake() {
		return
	}
	wait := c.s.HeaderTimeout
	for c.next(wait) {
		wait = c.s.IdleTimeout
		c.busy.Store(connIdle)
	}
}

// handshake is TLS's, where there is TLS.
func (c *conn) handshake() bool {
	t, ok := c.rw.(*tls.Conn)
	if !ok {
		return true
	}
	ctx, cancel := context.WithTimeout(context.Background(), c.s.HeaderTimeout)
	defer cancel()
	err := t.HandshakeContext(ctx)
	if err == nil {
		return true
	}
	var record tls.RecordHeaderError
	if errors.As(err, &record) && record.Conn != nil && isRequest(record.RecordHeader) {
		_ = record.Conn.SetWriteDeadline(time.Now().Add(restWait))
		_, _ = io.WriteString(record.Conn, "HTTP/1.0 400 Bad Request\r\n\r\nthis address speaks HTTPS: call it with https://\n")
		_ = record.Conn.Close()
	}
	c.s.Log.Debug("TLS handshake failed", "remote", c.peer, "error", err)
	return false
}

// isRequest tells whether the first bytes are those of HTTP without TLS.
func isRequest(head [5]byte) bool {
	switch string(head[:]) {
	case "GET /", "HEAD ", "POST ", "PUT /", "OPTIO":
		return true
	}
	return false
}

// next serves one request and tells whether another may follow.
func (c *conn) next(wait time.Duration) (again bool) {
	now := time.Now()
	c.readBy(now, wait)
	c.left = int64(c.s.MaxHeader) + bufferSize // what has been read ahead counts too
	if !c.await() || !c.busy.CompareAndSwap(connIdle, connBusy) {
		return false
	}
	r := c.read()
	if r == nil {
		return false
	}
	r.RemoteAddr = c.peer
	w := &c.w
	w.begin(r)
	c.s.Handler(w, r)
	return c.answer(w, r)
}

// read reads a request whose first byte is here. One that no handler gets is answered
// here, and nil.
func (c *conn) read() *http.Request {
	head := wholeHead(&c.in)
	if head == nil {
		c.readUntil(time.Now().Add(c.s.HeaderTimeout))
	} else if r := c.usual.read(head, &c.in); r != nil {
		c.left = noLimit
		return r
	}
	r, err := http.ReadRequest(&c.in)
	if err != nil {
		c.malformed(err)
		return nil
	}
	c.left = noLimit
	if f := check(r); f.status != 0 {
		c.refuse(f)
		return nil
	}
	return r
}

// bufferSize is bufio's.
const bufferSize = 4096

// await returns when a request begins. Empty lines before it do not count (RFC 9112
// section 2.2); callers that end a body with one are known.
func (c *conn) await() bool {
	for range 8 {
		b, err := c.in.Peek(1)
		if err == nil && b[0] == '\r' {
			b, err = c.in.Peek(2)
		}
		switch {
		case err != nil:
			return false
		case b[len(b)-1] != '\n': // a CR alone is no empty line
			return true
		}
		_, _ = c.in.Discard(len(b))
	}
	return true // the parser refuses it
}

// readBy sets the deadline of reading to a wait from now, or leaves one that is
// nearly that: to set it costs as much as to read the request's line.
func (c *conn) readBy(now time.Time, wait time.Duration) {
	if end := now.Add(wait); c.overTLS() || c.readEnd.After(end) || end.Sub(c.readEnd) > wait/16 {
		c.readUntil(end)
	}
}

// readUntil sets the deadline of reading. Under TLS it is writing's too, because to read
// is to answer key updates (RFC 8446 section 4.6.3): a caller that does not take the
// answers would hold the connection, and what is left of an earlier deadline end it.
func (c *conn) readUntil(end time.Time) {
	c.readEnd = end
	if !c.overTLS() {
		_ = c.rw.SetReadDeadline(end) // if it fails so does reading
		return
	}
	c.writeEnd = end
	_ = c.rw.SetDeadline(end)
}

func (c *conn) writeBy(now time.Time, wait time.Duration) {
	if end := now.Add(wait); c.writeEnd.After(end) || end.Sub(c.writeEnd) > wait/16 {
		c.writeEnd = end
		_ = c.rw.SetWriteDeadline(end)
	}
}

// fault is what is wrong with a request that no handler gets.
type fault struct {
	status int
	why    string
}

// check looks at what net/http's server looks at beside its parser.
func check(r *http.Request) fault {
	switch {
	case r.ProtoMajor != 1:
		return fault{http.StatusHTTPVersionNotSupported, "HTTP/1.1 is spoken here"}
	case r.Host == "" && r.ProtoAtLeast(1, 1) && r.Method != http.MethodConnect:
		return fault{http.StatusBadRequest, "the header Host is missing (RFC 9112 section 3.2)"}
	case r.URL.Host == "" && !httpguts.ValidHostHeader(r.Host):
		return fault{http.StatusBadRequest, "the header Host is malformed"}
	}
	for name, values := range r.Header {
		if !httpguts.ValidHeaderFieldName(name) {
			return fault{http.StatusBadRequest, "a header has a name with characters that names do not have"}
		}
		for _, v := range values {
			if !httpguts.ValidHeaderFieldValue(v) {
				return fault{http.StatusBadRequest, "a header has control characters in its value"}
			}
		}
	}
	if e := r.Header["Expect"]; len(e) > 0 && !expectsContinue(r) && e[0] != "" {
		return fault{http.StatusExpectationFailed, "the only Expect that is known is 100-continue"}
	}
	return fault{}
}

func expectsContinue(r *http.Request) bool {
	e := r.Header["Expect"]
	return len(e) > 0 && httpguts.HeaderValuesContainsToken(e, "100-continue")
}

// malformed answers what the parser does not take, if somebody may be there to read
// it.
func (c *conn) malformed(err error) {
	var network *net.OpError
	var f fault
	switch {
	case errors.Is(err, io.EOF) && c.left > 0, errors.Is(err, os.ErrDeadlineExceeded), errors.As(err, &network):
		return
	case c.left <= 0:
		f = fault{http.StatusRequestHeaderFieldsTooLarge, fmt.Sprintf("the request's headers have more than %d bytes", c.s.MaxHeader)}
	case strings.Contains(err.Error(), "unsupported transfer encoding"):
		f = fault{http.StatusNotImplemented, "the only Transfer-Encoding that is known is chunked"}
	default:
		f = fault{http.StatusBadRequest, "this is not a request as HTTP/1.1 has it (RFC 9112)"}
	}
	// Not err: it quotes a line, which may be credentials, or the rest of a body that was
	// announced too short.
	c.s.Log.Debug("a request cannot be read", "remote", c.peer, "why", f.why)
	c.refuse(f)
}

// refuse answers a request that no handler gets, and ends the connection.
func (c *conn) refuse(f fault) {
	c.writeBy(time.Now(), c.s.WriteTimeout)
	_, _ = fmt.Fprintf(c.rw, "HTTP/1.1 %d %s\r\nContent-Type: text/plain; charset=utf-8\r\nConnection: close\r\n\r\n%s\n",
		f.status, http.StatusText(f.status), f.why)
	c.closeWrite()
}

// answer sends what the handler has left in w, and tells whether the connection goes
// on.
func (c *conn) answer(w *Response, r *http.Request) bool {
	rest := w.rest(r)
	keep := !r.Close && !rest && !c.s.closing.Load() && !w.close
	now := time.Now()
	c.out = w.append(c.out[:0], r, keep, now)
	c.writeBy(now, c.s.WriteTimeout)
	_, err := c.rw.Write(c.out)
	if cap(c.out) > keptMost {
		c.out = nil
	}
	if err != nil {
		return false
	}
	if rest {
		c.closeWrite()
	}
	return keep
}

// closeWrite ends the answer and reads on for a short time.
func (c *conn) closeWrite() {
	if half, ok := c.rw.(interface{ CloseWrite() error }); !ok || half.CloseWrite() != nil {
		return
	}
	_ = c.raw.SetReadDeadline(time.Now().Add(restWait))
	_, _ = io.Copy(io.Discard, c.raw)
}

// gone tells whether the caller has closed the connection, or its half of it.
func (c *conn) gone() bool {
	if c.sys == nil {
		return false
	}
	return isClosed(c.sys, c.overTLS())
}

func (c *conn) overTLS() bool { return c.raw != c.rw }
