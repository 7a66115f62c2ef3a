package http1

import (
	"errors"
	"io"
	"net/http"
	"strconv"
	"strings"
	"sync/atomic"
	"time"
)

// keptMost keeps a rare big answer from staying in memory.
const keptMost = 16 << 10

// Response is an answer in the making. It is sent when the handler returns.
type Response struct {
	c      *conn
	status int
	header []byte // its lines
	close  bool
	body   []byte
	expect *expected // nil: the caller does not wait for 100
	here   bool      // nothing of the body is to be read from the connection
	timed  bool      // there is a time for reading it
}

func (w *Response) begin(r *http.Request) {
	w.Reset()
	w.expect, w.timed = nil, false
	if cap(w.body) > keptMost {
		w.body = nil
	}
	w.here = r.ContentLength >= 0 && r.ContentLength <= int64(w.c.in.Buffered())
	if r.Body != http.NoBody && r.ProtoAtLeast(1, 1) && expectsContinue(r) {
		w.expect = &expected{ReadCloser: r.Body, c: w.c}
		r.Body = w.expect
	}
}

// Reset forgets all that was set and written.
func (w *Response) Reset() {
	w.status, w.header, w.close, w.body = 0, w.header[:0], false, w.body[:0]
}

// Set adds a header. Names are the handler's own words, values may be anything: they are
// sent as one line. Content-Length, Date and Connection are the server's.
func (w *Response) Set(name, value string) {
	w.header = append(append(append(w.header, name...), ": "...), oneLine(value)...)
	w.header = append(w.header, "\r\n"...)
}

// Close has the connection end with this answer.
func (w *Response) Close() { w.close = true }

// WriteHeader sets the status. Only the first counts.
func (w *Response) WriteHeader(status int) {
	if w.status == 0 {
		w.status = status
	}
}

// AvailableBuffer is empty and has room, to append to and then write, as that of
// [bytes.Buffer].
func (w *Response) AvailableBuffer() []byte { return w.body[len(w.body):] }

// Write adds to the body.
func (w *Response) Write(p []byte) (int, error) {
	w.WriteHeader(http.StatusOK)
	w.body = append(w.body, p...)
	return len(p), nil
}

// ReadWithin bounds the reading of the request's body, by the handler and what is read
// of it afterwards.
func (w *Response) ReadWithin(wait time.Duration) {
	w.timed = true
	if !w.here {
		w.c.readUntil(time.Now().Add(wait))
	}
}

// Gone tells whether the caller has hung up. It may be called from any goroutine until
// the handler returns, after the body was read. Where the system cannot tell, it says
// no.
func (w *Response) Gone() bool { return w.c.gone() }

// expected tells the caller to send the body, when it is wanted (RFC 9110 section
// 10.1.1).
type expected struct {
	io.ReadCloser
	c    *conn
	told bool
	err  error
}

func (e *expected) Read(p []byte) (int, error) {
	if !e.told {
		e.told = true
		e.c.writeBy(time.Now(), e.c.s.WriteTimeout)
		_, e.err = io.WriteString(e.c.rw, "HTTP/1.1 100 Continue\r\n\r\n")
	}
	if e.err != nil {
		return 0, e.err
	}
	return e.ReadCloser.Read(p)
}

// rest reads what the handler has left of the body, and tells whether there is more.
func (w *Response) rest(r *http.Request) bool {
	if r.Body == http.NoBody {
		return false
	}
	if w.expect != nil && !w.expect.told {
		return true // the caller keeps it, or sends it all the same
	}
	if !w.timed {
		w.ReadWithin(restTime)
	}
	n, err := io.CopyN(io.Discard, r.Body, restMost)
	return n == restMost || !errors.Is(err, io.EOF)
}

// append writes the answer to b.
func (w *Response) append(b []byte, r *http.Request, keep bool, now time.Time) []byte {
	w.WriteHeader(http.StatusOK)
	b = append(b, "HTTP/1."...)
	if r.ProtoAtLeast(1, 1) {
		b = append(b, "1 "...)
	} else {
		b = append(b, "0 "...)
	}
	b = strconv.AppendInt(b, int64(w.status), 10)
	b = append(append(b, ' '), http.StatusText(w.status)...)
	b = append(b, "\r\n"...)
	b = append(b, w.header...)
	b = append(append(b, "Date: "...), date(now)...)
	switch {
	case !keep:
		b = append(b, "\r\nConnection: close"...)
	case !r.ProtoAtLeast(1, 1):
		b = append(b, "\r\nConnection: keep-alive"...)
	}
	if w.status == http.StatusNoContent || w.status == http.StatusNotModified {
		return append(b, headEnd...)
	}
	b = append(b, "\r\nContent-Length: "...)
	b = strconv.AppendInt(b, int64(len(w.body)), 10)
	b = append(b, headEnd...)
	if r.Method == http.MethodHead {
		return b
	}
	return append(b, w.body...)
}

var newlines = strings.NewReplacer("\r", " ", "\n", " ")

// oneLine keeps a value from ending its header.
func oneLine(v string) string {
	if strings.ContainsAny(v, "\r\n") {
		return newlines.Replace(v)
	}
	return v
}

// clock is a second as the header Date has it.
type clock struct {
	second int64
	text   []byte
}

var lastDate atomic.Pointer[clock]

// date is now (RFC 9110 section 6.6.1).
func date(now time.Time) []byte {
	if last := lastDate.Load(); last != nil && last.second == now.Unix() {
		return last.text
	}
	next := &clock{second: now.Unix(), text: now.UTC().AppendFormat(nil, http.TimeFormat)}
	lastDate.Store(next)
	return next.text
}
