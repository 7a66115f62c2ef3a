package http

import (
	"bufio"
	"context"
	"crypto/tls"
	"errors"
	"io"
	"math"
	"net"
	nethttp "net/http"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/hookline/hookline/plugins/target"
)

const (
	maxReplyHead     = 256 << 10 // status line and headers, 1xx included
	maxInformational = 8
)

var (
	longAgo        = time.Unix(1, 0)
	errHeadTooLong = errors.New("the answer's head is longer than 256 KiB")
	errCutShort    = errors.New("the answer came first")
	errTooMany1xx  = errors.New("more than 8 informational answers")

	// toParse tells nethttp.ReadResponse that the answer may have a body.
	toParse = &nethttp.Request{Method: nethttp.MethodPost}
)

// conn is a connection to the target. One attempt owns it at a time.
type conn struct {
	raw    net.Conn // the socket
	rw     net.Conn // the socket, counted, or TLS above it
	br     *bufio.Reader
	config *tls.Config // nil for http
	peer   string      // address, for details

	sys       syscall.RawConn
	probe     func(fd uintptr) bool // c.probeFD; made once
	dead      bool                  // what probe found
	interrupt func()                // ends every read and write

	reused  bool
	keepFor time.Duration // what the target's Keep-Alive allows, 0 if it says nothing

	// Of the exchange under way:
	sent     int64 // bytes that the kernel took
	received int64 // bytes of the answer
	limit    int64 // bytes that may still be received
	readErr  error // of the socket or TLS; the parsers above may hide it
}

// writeCounter counts what surely may have left, below TLS.
type writeCounter struct {
	net.Conn
	c *conn
}

func (w writeCounter) Write(p []byte) (int, error) {
	n, err := w.Conn.Write(p)
	w.c.sent += int64(n)
	return n, err
}

// readSide is what c.br reads from: it counts, and bounds the answer's head.
type readSide struct{ c *conn }

func (r readSide) Read(p []byte) (int, error) {
	if r.c.limit <= 0 {
		r.c.readErr = errHeadTooLong
		return 0, errHeadTooLong
	}
	if int64(len(p)) > r.c.limit {
		p = p[:r.c.limit]
	}
	n, err := r.c.rw.Read(p)
	r.c.received += int64(n)
	r.c.limit -= int64(n)
	if err != nil {
		r.c.readErr = err
	}
	return n, err
}

// alive tells whether an unused connection is still open and silent. A target
// that has closed it, or said something unasked, would only cost an attempt.
func (c *conn) alive() bool {
	if c.sys == nil {
		return true
	}
	c.dead = true
	if err := c.sys.Read(c.probe); err != nil {
		return false
	}
	return !c.dead
}

// close ends an unused connection politely, abort any at once: a TLS farewell can
// block on a target that does not read.
func (c *conn) close() { _ = c.rw.Close() }
func (c *conn) abort() { _ = c.raw.Close() }

// exchange is what came of one request on one connection.
type exchange struct {
	resp      *nethttp.Response // nil if no complete head came
	body      []byte
	truncated bool  // body is cut at the limit
	err       error // why resp or its body is not complete
	writeErr  error // why the request was not sent completely

	peer     string
	reused   bool // the connection was
	sent     bool // some of the request left
	received bool // some of an answer came
	reusable bool // the connection can be used again
}

// nothingSent tells that an idle connection was closed just as we took it, before
// any of the request left: sent again, it is still sent for the first time.
func (x *exchange) nothingSent() bool { return x.reused && !x.sent && x.resp == nil }

// exchange sends head and then payload, and reads the answer. It returns by ctx's
// end. Nothing holds head or payload afterwards.
func (c *conn) exchange(ctx context.Context, head, payload []byte, maxReply int) (x exchange) {
	x.peer, x.reused = c.peer, c.reused
	c.sent, c.received, c.limit, c.readErr = 0, 0, maxReplyHead, nil
	stop := afterFunc(ctx, c.interrupt)

	var written chan error
	if len(payload) == 0 {
		_, x.writeErr = c.rw.Write(head)
		if x.writeErr != nil && c.sent == 0 {
			stop()
			return x
		}
	} else {
		// A target may answer a long request before it has read it, and then
		// read no further: reading must not wait for the writing.
		written = make(chan error, 1)
		go func() {
			_, err := c.rw.Write(head)
			if err == nil {
				_, err = c.rw.Write(payload)
			}
			written <- err
		}()
	}

	// Also after a failed write: a target that refuses an upload says why, and closes.
	x.resp, x.err = c.readHead() //nolint:bodyclose // its body is closed where the answer is read
	if x.err == nil {
		x.body, x.truncated, x.err = readBody(x.resp, maxReply)
	}
	if x.err != nil && c.readErr != nil {
		x.err = c.readErr
	}
	if written != nil {
		select {
		case x.writeErr = <-written:
		default:
			_ = c.raw.SetWriteDeadline(longAgo)
			if x.writeErr = <-written; x.writeErr == nil {
				_ = c.raw.SetWriteDeadline(time.Time{})
			} else if target.IsTimeout(x.writeErr) {
				x.writeErr = errCutShort
			}
		}
	}
	undisturbed := stop()
	x.sent, x.received = c.sent > 0, c.received > 0
	x.reusable = undisturbed && x.resp != nil && x.err == nil && x.writeErr == nil && !x.truncated &&
		!x.resp.Close && x.resp.StatusCode >= 200 && c.br.Buffered() == 0 && c.keepAlive(x.resp.Header)
	return x
}

// afterFunc is context.AfterFunc, which makes a channel and a context before it asks
// whether ctx does without.
func afterFunc(ctx context.Context, f func()) (stop func() bool) {
	if own, ok := ctx.(interface {
		AfterFunc(func()) func() bool
	}); ok {
		return own.AfterFunc(f)
	}
	return context.AfterFunc(ctx, f)
}

// readHead reads the first answer that is not informational. 101 ends an exchange
// as any other status: we have asked for no other protocol.
func (c *conn) readHead() (*nethttp.Response, error) {
	for range maxInformational + 1 {
		resp, err := nethttp.ReadResponse(c.br, toParse)
		if err != nil {
			return nil, err
		}
		if s := resp.StatusCode; s < 100 || s > 199 || s == nethttp.StatusSwitchingProtocols {
			c.limit = math.MaxInt64
			return resp, nil
		}
	}
	return nil, errTooMany1xx
}

// readBody reads at most limit bytes, and tells whether there is more.
func readBody(resp *nethttp.Response, limit int) (body []byte, more bool, err error) {
	size := resp.ContentLength
	if size == 0 {
		return nil, false, nil
	}
	if size > 0 {
		body = make([]byte, min(size, int64(limit)))
		n, err := io.ReadFull(resp.Body, body)
		return body[:n], err == nil && size > int64(limit), err
	}
	body = make([]byte, 0, 512)
	for len(body) < limit {
		if len(body) == cap(body) {
			grown := make([]byte, len(body), min(4*cap(body), limit))
			copy(grown, body)
			body = grown
		}
		n, err := resp.Body.Read(body[len(body):cap(body)])
		body = body[:len(body)+n]
		if err == io.EOF {
			return body, false, nil
		}
		if err != nil {
			return body, false, err
		}
	}
	var one [1]byte
	n, err := io.ReadFull(resp.Body, one[:])
	if n > 0 {
		return body, true, nil
	}
	if err == io.EOF {
		err = nil
	}
	return body, false, err
}

// keepAlive learns how long the target keeps the connection, and leaves a margin:
// a request that crosses its close is one whose effect nobody knows.
func (c *conn) keepAlive(h nethttp.Header) bool {
	v := h["Keep-Alive"]
	if len(v) == 0 {
		return true
	}
	for part := range strings.SplitSeq(v[0], ",") {
		name, value, _ := strings.Cut(strings.TrimSpace(part), "=")
		if n, err := strconv.Atoi(strings.Trim(value, `"`)); err == nil && strings.EqualFold(name, "timeout") && n < 1e6 {
			c.keepFor = time.Duration(n)*time.Second - time.Second
			return c.keepFor > 0
		}
	}
	return true
}
