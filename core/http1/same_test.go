package http1_test

import (
	"bufio"
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"log"
	"log/slog"
	"maps"
	"net"
	"net/http"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/hookline/hookline/core/http1"
)

// maxHeader is of the servers that are compared.
const maxHeader = 1 << 10

// describe is what both handlers answer: all that they have been given. What path
// asks for, it does.
func describe(end func(), r *http.Request, read func() ([]byte, error)) (status int, text string) {
	var b strings.Builder
	fmt.Fprintf(&b, "%s %q %s host=%q length=%d", r.Method, r.URL.RequestURI(), r.Proto, r.Host, r.ContentLength)
	for _, name := range slices.Sorted(maps.Keys(r.Header)) {
		fmt.Fprintf(&b, " %s=%q", name, r.Header[name])
	}
	status = http.StatusOK
	switch r.URL.Path {
	case "/unread":
		return http.StatusUnauthorized, b.String()
	case "/close":
		end()
	case "/empty":
		status = http.StatusNoContent
	}
	body, err := read()
	fmt.Fprintf(&b, " body=%d,%x failed=%t", len(body), sha256.Sum256(body), err != nil)
	if status == http.StatusNoContent {
		return status, ""
	}
	return status, b.String()
}

// both starts our server and net/http's.
func both(t testing.TB) (ours, theirs string) {
	t.Helper()
	listen := func(serve func(net.Listener) error) string {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		ended := make(chan struct{})
		go func() { defer close(ended); _ = serve(l) }()
		t.Cleanup(func() { l.Close(); <-ended })
		return l.Addr().String()
	}
	mine := &http1.Server{
		Handler: func(w *http1.Response, r *http.Request) {
			w.ReadWithin(5 * time.Second)
			status, text := describe(w.Close, r, func() ([]byte, error) { return io.ReadAll(r.Body) })
			w.WriteHeader(status)
			_, _ = io.WriteString(w, text)
		},
		HeaderTimeout: 5 * time.Second, IdleTimeout: 5 * time.Second, WriteTimeout: 5 * time.Second,
		MaxHeader: maxHeader, Log: slog.New(slog.DiscardHandler),
	}
	t.Cleanup(mine.Close)
	var protocols http.Protocols
	protocols.SetHTTP1(true)
	other := &http.Server{
		Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			status, text := describe(func() { w.Header().Set("Connection", "close") }, r, func() ([]byte, error) { return io.ReadAll(r.Body) })
			w.WriteHeader(status)
			_, _ = io.WriteString(w, text)
		}),
		ReadTimeout: 5 * time.Second, MaxHeaderBytes: maxHeader, Protocols: &protocols,
		DisableGeneralOptionsHandler: true, ErrorLog: log.New(io.Discard, "", 0),
	}
	t.Cleanup(func() { other.Close() })
	return listen(mine.Serve), listen(other.Serve)
}

// converse sends all at once, and tells what is answered until the connection is
// closed, or nothing more is to come.
func converse(t testing.TB, addr string, request []byte) (answers []string) {
	t.Helper()
	c, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(10 * time.Second))
	if _, err := c.Write(request); err != nil {
		return []string{"not taken"}
	}
	_ = c.(*net.TCPConn).CloseWrite()
	in := bufio.NewReader(c)
	for {
		// HEAD cannot be known from here: such answers have no body for either.
		resp, err := http.ReadResponse(in, &http.Request{Method: methodOf(request)})
		if err != nil {
			if !errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF) {
				answers = append(answers, "broken: "+strings.SplitN(err.Error(), "\"", 2)[0])
			}
			return answers
		}
		body, err := io.ReadAll(resp.Body)
		if resp.StatusCode == http.StatusContinue {
			answers = append(answers, "100")
			continue
		}
		answer := fmt.Sprintf("%d close=%t %v %s", resp.StatusCode, resp.Close, err, body)
		if resp.StatusCode >= 400 && resp.StatusCode != http.StatusUnauthorized {
			answer = refused // how it is put may differ
			if !resp.Close {
				answer = "refused, and the connection stays"
			}
		}
		answers = append(answers, answer)
	}
}

const refused = "refused"

func methodOf(request []byte) string {
	if bytes.HasPrefix(request, []byte("HEAD ")) {
		return http.MethodHead
	}
	return http.MethodPost
}

// lines writes requests as they are sent.
func lines(s string) string { return strings.ReplaceAll(s, "\n", "\r\n") }

// requests are what callers send, well and badly.
var requests = []string{
	lines("POST /hooks/a HTTP/1.1\nHost: h\nContent-Length: 2\n\n{}"),
	lines("PUT /hooks/a?x=%20y HTTP/1.1\nHost: h\ncontent-length: 2\nX-A: 1\nx-a: 2\n\n{}"),
	lines("POST / HTTP/1.1\nHost: h\nTransfer-Encoding: chunked\n\n") + "2\r\n{}\r\n1;x=y\r\n \r\n0\r\nTrailer: x\r\n\r\n",
	lines("POST / HTTP/1.1\nHost: h\nTransfer-Encoding: chunked\n\n") + "zz\r\n{}\r\n0\r\n\r\n",
	lines("POST / HTTP/1.1\nHost: h\nTransfer-Encoding: gzip, chunked\n\n0\n\n"),
	lines("POST / HTTP/1.1\nHost: h\nTransfer-Encoding: chunked\nContent-Length: 5\n\n") + "2\r\n{}\r\n0\r\n\r\n",
	lines("POST / HTTP/1.1\nHost: h\nContent-Length: 2\nContent-Length: 3\n\n{} "),
	lines("POST / HTTP/1.1\nHost: h\nContent-Length: 2\nContent-Length: 2\n\n{}"),
	lines("POST / HTTP/1.1\nHost: h\nContent-Length: -1\n\n"),
	lines("POST / HTTP/1.1\nHost: h\nContent-Length: +2\n\n{}"),
	lines("POST / HTTP/1.1\nHost: h\nContent-Length: 20\n\n{}"),
	lines("POST / HTTP/1.1\nContent-Length: 0\n\n"),
	lines("POST / HTTP/1.1\nHost: a b\n\n"),
	lines("POST / HTTP/1.1\nHost: h\nA b: c\n\n"),
	lines("POST / HTTP/1.1\nHost: h\nA : c\n\n"),
	lines("POST / HTTP/1.1\nHost: h\nA: c\n folded\n\n"),
	lines("POST / HTTP/1.1\nHost: h\nA: c\x01\n\n"),
	lines("POST / HTTP/1.1\nHost: h\nno colon\n\n"),
	"POST / HTTP/1.1\nHost: h\nContent-Length: 2\n\n{}",
	lines("POST / HTTP/1.0\nContent-Length: 2\n\n{}"),
	lines("POST / HTTP/1.0\nConnection: keep-alive\nContent-Length: 2\n\n{}GET / HTTP/1.0\n\n"),
	lines("POST / HTTP/1.0\nTransfer-Encoding: chunked\n\n") + "2\r\n{}\r\n0\r\n\r\n",
	lines("POST / HTTP/1.2\nHost: h\nContent-Length: 2\n\n{}"),
	lines("POST / HTTP/2.0\nHost: h\nContent-Length: 2\n\n{}"),
	lines("GET / HTTP/9\nHost: h\n\n"),
	lines("GET /\n\n"),
	lines("GET  / HTTP/1.1\nHost: h\n\n"),
	lines("GET http://other/x HTTP/1.1\nHost: h\n\n"),
	lines("GET %zz HTTP/1.1\nHost: h\n\n"),
	lines("OPTIONS * HTTP/1.1\nHost: h\n\n"),
	lines("CONNECT h:1 HTTP/1.1\nHost: h:1\n\n"),
	lines("HEAD / HTTP/1.1\nHost: h\nConnection: close\n\n"),
	lines("GET /empty HTTP/1.1\nHost: h\n\nGET / HTTP/1.1\nHost: h\n\n"),
	lines("POST / HTTP/1.1\nHost: h\nContent-Length: 2\n\n{}POST /b HTTP/1.1\nHost: h\nContent-Length: 1\n\n1GET /c HTTP/1.1\nHost: h\nConnection: close\n\nGET /d HTTP/1.1\nHost: h\n\n"),
	lines("POST / HTTP/1.1\nHost: h\nContent-Length: 2\n\n{}\n\nGET / HTTP/1.1\nHost: h\n\n"),
	"\r" + lines("GET / HTTP/1.1\nHost: h\n\n"),
	lines("POST / HTTP/1.1\nHost: h\nExpect: 100-continue\nContent-Length: 2\n\n{}"),
	lines("POST /unread HTTP/1.1\nHost: h\nExpect: 100-Continue\nContent-Length: 2\n\n{}"),
	lines("POST / HTTP/1.1\nHost: h\nExpect: 200-ok\nContent-Length: 2\n\n{}"),
	lines("POST / HTTP/1.0\nExpect: 100-continue\nContent-Length: 2\n\n{}"),
	lines("POST /unread HTTP/1.1\nHost: h\nContent-Length: 2\n\n{}GET / HTTP/1.1\nHost: h\n\n"),
	lines("POST /unread HTTP/1.1\nHost: h\nContent-Length: 300000\n\n") + strings.Repeat("x", 300000),
	lines("POST /unread HTTP/1.1\nHost: h\nTransfer-Encoding: chunked\n\n") + "2\r\n{}\r\n0\r\n\r\n" + lines("GET / HTTP/1.1\nHost: h\n\n"),
	lines("POST /close HTTP/1.1\nHost: h\nContent-Length: 2\n\n{}GET / HTTP/1.1\nHost: h\n\n"),
	lines("GET / HTTP/1.1\nHost: h\nX: " + strings.Repeat("y", 4*maxHeader) + "\n\n"),
	lines("GET / HTTP/1.1\nHost: h\nX: " + strings.Repeat("y", 20*maxHeader) + "\n\n"),
	lines("GET / HTTP/1.1\nHo"),
	"\x16\x03\x01\x02\x00\x01\x00",
	"",
}

// known tells where the two may differ: the parser keeps the header Host to itself, so
// an empty one looks like none to us, and one that is not used, as a second one or one
// beside an absolute URL or what CONNECT names, is not seen. Nobody begins HTTP/2 with
// us, and empty lines before a request never count (RFC 9112 section 2.2). Of what is
// expected ours knows the elements of a list, net/http's server the first header's
// words. Behind a POST it takes a CR alone for an empty line too.
func known(request []byte) bool {
	if bareCR.Match(request) {
		return true
	}
	request = bytes.ReplaceAll(request, []byte("\r"), nil)
	return bytes.HasPrefix(request, []byte("\n")) || bytes.Contains(request, []byte("\n\n\n")) || bytes.Count(bytes.ToLower(request), []byte("host")) != 1 || !oneHost.Match(request) ||
		bytes.Contains(request, []byte("PRI * HTTP/2.0")) || bytes.Contains(request, []byte("//")) || bytes.Contains(request, []byte("CONNECT")) ||
		bytes.Contains(bytes.ToLower(expects100.ReplaceAll(request, nil)), []byte("expect:"))
}

var (
	oneHost    = regexp.MustCompile(`(?im)^host:[ \t]*[^ \t\r\n]`)
	bareCR     = regexp.MustCompile(`\r[^\n]`)
	expects100 = regexp.MustCompile(`(?im)^expect:[ \t]*100-continue[ \t]*$`)
)

func TestSame(t *testing.T) {
	ours, theirs := both(t)
	for _, request := range requests {
		a, b := converse(t, ours, []byte(request)), converse(t, theirs, []byte(request))
		if !slices.Equal(a, b) {
			t.Errorf("%.200q\nours   %q\ntheirs %q", request, a, b)
		}
	}
}

// differ compares conversations. net/http's server says nothing to one that ends in
// less than four bytes; ours says that this is no request.
func differ(ours, theirs []string) bool {
	if n := len(theirs); len(ours) == n+1 && ours[n] == refused {
		ours = ours[:n]
	}
	return !slices.Equal(ours, theirs)
}

// Whatever is sent is understood as net/http's server understands it.
func FuzzSame(f *testing.F) {
	for _, request := range requests {
		f.Add([]byte(request))
	}
	ours, theirs := both(f)
	f.Fuzz(func(t *testing.T, request []byte) {
		a, b := converse(t, ours, request), converse(t, theirs, request)
		if differ(a, b) && !known(request) {
			t.Errorf("%q\nours   %q\ntheirs %q", request, a, b)
		}
	})
}
