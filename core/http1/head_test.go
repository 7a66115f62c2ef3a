package http1

import (
	"bufio"
	"bytes"
	"io"
	"net/http"
	"reflect"
	"strings"
	"testing"
)

// Whatever is taken for a request of the usual form is one to net/http's parser too, and
// the same.
func FuzzUsual(f *testing.F) {
	for _, s := range []string{
		"POST /hooks/demo HTTP/1.1\nHost: h:1\nAuthorization: Basic YTpi\nContent-Type: application/json; charset=utf-8\nContent-Length: 2\n\n{}",
		"PUT /hooks/demo/ HTTP/1.1\nhost: h\nX-A: 1\nx-a: 2\nx-a: 3\nEmpty:\n\nrest",
		"POST /a.b_c HTTP/1.1\nHost: [::1]:80\nContent-Length: 007\nCookie:  a=\"b\" \t\n\n1234567POST",
		"POST /a/../b//c HTTP/1.1\nHost: h\nContent-Length: 9\n\n{}",
		"POST / HTTP/1.1\nHost: h\nContent-Length: 1\ncontent-length: 1\n\n{",
		"POST / HTTP/1.1\nHost: h\nHost: h\n\n",
		"POST //a HTTP/1.1\nHost: h\n\n",
		"POST / HTTP/1.1\nHost: h\nConnection: close\n\n",
		"POST / HTTP/1.1\nHost: h\nX Y: z\n\n",
		"POST / HTTP/1.1\nHost: h\nX: y\n z\n\n",
		"POST / HTTP/1.1\nHost: a/b\n\n",
	} {
		f.Add([]byte(strings.ReplaceAll(s, "\n", "\r\n")))
	}
	f.Fuzz(func(t *testing.T, sent []byte) {
		ours, theirs := bufio.NewReader(bytes.NewReader(sent)), bufio.NewReader(bytes.NewReader(sent))
		_, _ = ours.Peek(1)
		head := wholeHead(ours)
		if head == nil {
			return
		}
		var q request
		got := q.read(head, ours)
		if got == nil {
			if ours.Buffered() != min(len(sent), ours.Size()) {
				t.Error("something was taken of what is not of the usual form")
			}
			return
		}
		want, err := http.ReadRequest(theirs)
		if err != nil {
			t.Fatalf("%q is refused: %v", sent, err)
		}
		if f := check(want); f.status != 0 {
			t.Fatalf("%q is refused: %v", sent, f)
		}
		gotBody, gotErr := io.ReadAll(got.Body)
		wantBody, wantErr := io.ReadAll(want.Body)
		if !bytes.Equal(gotBody, wantBody) || (gotErr == nil) != (wantErr == nil) {
			t.Errorf("%q: body %q, %v; want %q, %v", sent, gotBody, gotErr, wantBody, wantErr)
		}
		gotRest, _ := io.ReadAll(ours)
		wantRest, _ := io.ReadAll(theirs)
		if !bytes.Equal(gotRest, wantRest) {
			t.Errorf("%q: %q is left, want %q", sent, gotRest, wantRest)
		}
		a, b := *got, *want
		a.Body, b.Body = nil, nil
		if !reflect.DeepEqual(a, b) {
			t.Errorf("%q:\ngot  %+v %+v\nwant %+v %+v", sent, a, a.URL, b, b.URL)
		}
	})
}

// What is read into is used again, and nothing of the request before is left in it.
func TestUsualAgain(t *testing.T) {
	var q request
	for _, s := range []string{
		"POST /a HTTP/1.1\r\nHost: h\r\nX-A: 1\r\nX-A: 2\r\nContent-Length: 2\r\n\r\n{}",
		"PUT /b HTTP/1.1\r\nHost: i\r\nX-B: 3\r\n\r\n",
	} {
		in := bufio.NewReader(strings.NewReader(s))
		_, _ = in.Peek(1)
		got := q.read(wholeHead(in), in)
		want, err := http.ReadRequest(bufio.NewReader(strings.NewReader(s)))
		if err != nil || got == nil {
			t.Fatal(got, err)
		}
		if !reflect.DeepEqual(got.Header, want.Header) || got.ContentLength != want.ContentLength || got.Host != want.Host {
			t.Errorf("got %+v, want %+v", got, want)
		}
		if want.ContentLength == 0 && got.Body != http.NoBody {
			t.Error("a body is left")
		}
	}
}
