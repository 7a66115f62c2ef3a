package http1

import (
	"bufio"
	"bytes"
	"errors"
	"io"
	"net/http"
	"net/textproto"
	"net/url"
	"strings"

	"golang.org/x/net/http/httpguts"
)

// request is what a connection's requests are read into.
type request struct {
	r    http.Request
	url  url.URL
	body fixedBody
	// values has room for the headers' values, each of which is a slice of its own.
	values [24]string
}

// read reads a request whose whole head is b, the beginning of what is in in, if it is of
// the usual form: what [http.ReadRequest] makes of it is not in doubt then, and the same
// comes out, without the allocations. Nil is for all others, of which nothing is taken.
func (q *request) read(b []byte, in *bufio.Reader) *http.Request {
	head := string(b) // one copy, of which all is a part
	line, rest, ok := strings.Cut(head, "\r\n")
	if !ok || !strings.HasSuffix(line, " HTTP/1.1") {
		return nil
	}
	method, path, ok := strings.Cut(strings.TrimSuffix(line, " HTTP/1.1"), " ")
	switch method {
	case http.MethodPost, http.MethodPut:
	default:
		return nil
	}
	if !ok || !plainPath(path) {
		return nil
	}
	header := q.r.Header
	if header == nil {
		header = http.Header{}
	}
	clear(header)
	q.url = url.URL{Path: path}
	q.r = http.Request{
		Method: method, URL: &q.url, RequestURI: path, Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1,
		Header: header, Body: http.NoBody,
	}
	lengths := 0
	for n := 0; ; n++ {
		line, rest, ok = strings.Cut(rest, "\r\n")
		if !ok || n == len(q.values) {
			return nil
		}
		if line == "" {
			break
		}
		name, value, ok := strings.Cut(line, ":")
		value = strings.Trim(value, " \t")
		if !ok || !plainName(name) || !plainValue(value) {
			return nil
		}
		name = textproto.CanonicalMIMEHeaderKey(name)
		switch name {
		case "Host":
			if q.r.Host != "" || value == "" {
				return nil
			}
			q.r.Host = value
			continue // net/http keeps it apart as well
		case "Content-Length":
			if lengths++; lengths > 1 || !q.length(value) {
				return nil
			}
		case "Transfer-Encoding", "Trailer", "Expect", "Upgrade", "Connection", "Pragma":
			return nil
		}
		if had := header[name]; had != nil {
			header[name] = append(had, value)
			continue
		}
		q.values[n] = value
		header[name] = q.values[n : n+1 : n+1]
	}
	if rest != "" || q.r.Host == "" || !httpguts.ValidHostHeader(q.r.Host) {
		return nil
	}
	if q.r.ContentLength > 0 {
		q.body = fixedBody{in: in, left: q.r.ContentLength}
		q.r.Body = &q.body
	}
	_, _ = in.Discard(len(b)) // it is there
	return &q.r
}

// length takes Content-Length, if it is a number that nobody reads in another way.
func (q *request) length(s string) bool {
	if s == "" || len(s) > 12 {
		return false
	}
	var n int64
	for i := range len(s) {
		if s[i] < '0' || s[i] > '9' {
			return false
		}
		n = 10*n + int64(s[i]-'0')
	}
	q.r.ContentLength = n
	return true
}

// plainPath tells whether a path is what it looks like: there is nothing to decode.
func plainPath(s string) bool {
	if s == "" || s[0] != '/' || strings.HasPrefix(s, "//") {
		return false
	}
	for i := range len(s) {
		if c := s[i]; c != '/' && c != '-' && c != '_' && c != '.' && !alphanumeric(c) {
			return false
		}
	}
	return true
}

func plainName(s string) bool {
	for i := range len(s) {
		if c := s[i]; c != '-' && !alphanumeric(c) {
			return false
		}
	}
	return s != ""
}

func plainValue(s string) bool {
	for i := range len(s) {
		if s[i] < ' ' || s[i] > '~' {
			return false
		}
	}
	return true
}

func alphanumeric(c byte) bool {
	return c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9'
}

// fixedBody is a body of Content-Length bytes.
type fixedBody struct {
	in   *bufio.Reader
	left int64
}

func (b *fixedBody) Read(p []byte) (int, error) {
	if b.left == 0 {
		return 0, io.EOF
	}
	if int64(len(p)) > b.left {
		p = p[:b.left]
	}
	n, err := b.in.Read(p)
	b.left -= int64(n)
	if errors.Is(err, io.EOF) && b.left > 0 {
		b.left, err = 0, io.ErrUnexpectedEOF
	}
	return n, err
}

func (b *fixedBody) Close() error { return nil }

var headEnd = []byte("\r\n\r\n")

// wholeHead is the head of a request, if all of it has been read from the connection.
func wholeHead(in *bufio.Reader) []byte {
	b, _ := in.Peek(in.Buffered())
	n := bytes.Index(b, headEnd)
	if n < 0 {
		return nil
	}
	return b[:n+len(headEnd)]
}
