package http_test

import (
	"bytes"
	"encoding/base64"
	"math/rand/v2"
	"net/url"
	"path"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/hookline/hookline/plugins/http"
	"github.com/hookline/hookline/plugins/transport"
)

func TestRequest(t *testing.T) {
	s, got := recorder(t)
	tr := configured(t, obj{"url": s.URL + "/trialkit?site=7"})
	m := message()
	want(t, deliver(t, tr, m), transport.Done, transport.Delivered, 200)
	r := <-got
	for name, v := range map[string]string{
		"Content-Type": "application/json", "Webhook-Id": m.ID, "Hookline-Event-Id": m.EventID,
		"Traceparent": m.TraceParent, "User-Agent": "Hookline/1.2.3",
		"Authorization": "", "Webhook-Signature": "", "Accept-Encoding": "",
	} {
		if r.Header.Get(name) != v || len(r.Header.Values(name)) > 1 {
			t.Errorf("%s: %q, want %q", name, r.Header.Values(name), v)
		}
	}
	if r.Method != "POST" || r.RequestURI != "/trialkit?site=7" || r.Host != s.Listener.Addr().String() {
		t.Errorf("%s %s, host %s", r.Method, r.RequestURI, r.Host)
	}
	if string(r.body) != payloadText || r.ContentLength != int64(len(payloadText)) || len(r.TransferEncoding) > 0 {
		t.Errorf("length %d, encoding %v, body %q", r.ContentLength, r.TransferEncoding, r.body)
	}
	sec, err := strconv.ParseInt(r.Header.Get("Webhook-Timestamp"), 10, 64)
	if err != nil || time.Since(time.Unix(sec, 0)) > 10*time.Second {
		t.Errorf("timestamp %q", r.Header.Get("Webhook-Timestamp"))
	}
}

func TestPayloadsAreByteExact(t *testing.T) {
	s, got := recorder(t)
	tr := configured(t, obj{"url": s.URL, "method": "PUT"})
	rnd := rand.NewChaCha8([32]byte{1})
	for _, size := range []int{0, 1, 2, 4095, 4096, 32<<10 - 1, 32 << 10, 32<<10 + 1, 1 << 20, 5 << 20} {
		m := message()
		m.Payload = make([]byte, size)
		_, _ = rnd.Read(m.Payload)
		m.ContentType = "application/octet-stream; v=1"
		sent := slices.Clone(m.Payload)
		want(t, deliver(t, tr, m), transport.Done, transport.Delivered, 200)
		r := <-got
		if !bytes.Equal(r.body, sent) || !bytes.Equal(m.Payload, sent) {
			t.Errorf("%d bytes: not the same", size)
		}
		if r.Method != "PUT" || r.Header.Get("Content-Type") != m.ContentType || r.ContentLength != int64(size) {
			t.Errorf("%d bytes: %s %v length %d", size, r.Method, r.Header, r.ContentLength)
		}
	}
	if tr.Idle() != 1 {
		t.Errorf("%d idle connections", tr.Idle())
	}
}

func TestAuthorization(t *testing.T) {
	s, got := recorder(t)
	basic := func(s string) string { return "Basic " + base64.StdEncoding.EncodeToString([]byte(s)) }
	for want1, set := range map[string]obj{
		basic("hookline:pa:ss wörd"): {"username": "hookline", "password": "pa:ss wörd"},
		basic("key:"):                {"username": "key", "password": ""},
		"Bearer tok.en-1":            {"bearer_token": "tok.en-1"},
		"Token abc":                  {"headers": obj{"authorization": "Token abc"}},
	} {
		set["url"] = s.URL
		want(t, deliver(t, configured(t, set), message()), transport.Done, transport.Delivered, 200)
		if a := (<-got).Header.Values("Authorization"); len(a) != 1 || a[0] != want1 {
			t.Errorf("authorization %q, want %q", a, want1)
		}
	}
}

func TestHeaders(t *testing.T) {
	s, got := recorder(t)
	tr := configured(t, obj{"url": s.URL, "headers": obj{"X-Key": " k ", "user-agent": "Mine/1"}})
	m := message()
	m.Headers = map[string]string{"x-one": "1", "X-Two": "zwei ü", "content-type": "application/fhir+json"}
	want(t, deliver(t, tr, m), transport.Done, transport.Delivered, 200)
	r := <-got
	for name, v := range map[string]string{"X-Key": "k", "User-Agent": "Mine/1", "X-One": "1", "X-Two": "zwei ü", "Content-Type": "application/fhir+json"} {
		if a := r.Header.Values(name); len(a) != 1 || a[0] != v {
			t.Errorf("%s: %q, want %q", name, a, v)
		}
	}

	fixed := configured(t, obj{"url": s.URL, "headers": obj{"Content-Type": "application/cloudevents+json"}})
	want(t, deliver(t, fixed, message()), transport.Done, transport.Delivered, 200)
	if a := (<-got).Header.Values("Content-Type"); len(a) != 1 || a[0] != "application/cloudevents+json" {
		t.Errorf("content type %q", a)
	}

	refused := func(change func(*transport.Message)) {
		t.Helper()
		m := message()
		change(m)
		r := deliver(t, tr, m)
		want(t, r, transport.None, transport.RejectedByTarget, 0)
		if !strings.HasPrefix(r.Detail, "nothing was sent: ") {
			t.Errorf("detail %q", r.Detail)
		}
	}
	for _, name := range []string{
		"Authorization", "authorization", "Webhook-Id", "webhook-signature", "webhook-anything", "hookline-event-id", "TraceParent",
		"Host", "Content-Length", "Connection", "Keep-Alive", "Proxy-Authorization", "TE", "Trailer", "Transfer-Encoding", "Upgrade",
		"Expect", "Accept-Encoding", "User-Agent", "x-key", "", "a b", "a:b", "a\r\nb", "ü",
	} {
		refused(func(m *transport.Message) { m.Headers = map[string]string{name: "x-secret"} })
	}
	for _, v := range []string{"a\r\nX-Evil: secret", "a\nb", "a\x00", " a", "a\t", "\x7f"} {
		refused(func(m *transport.Message) { m.Headers = map[string]string{"X-A": v} })
		refused(func(m *transport.Message) { m.ID = v })
		refused(func(m *transport.Message) { m.EventID = v })
		refused(func(m *transport.Message) { m.TraceParent = v })
		refused(func(m *transport.Message) { m.ContentType = v })
	}
	refused(func(m *transport.Message) { m.Headers = map[string]string{"X-A": "1", "x-a": "2"} })
	refused(func(m *transport.Message) {
		m.Headers = map[string]string{}
		for i := range 65 {
			m.Headers["X-"+strconv.Itoa(i)] = ""
		}
	})
	for _, p := range []string{"../x", "a/../b", "..", ".", "%2e%2e/x", "%2E./x", "..%2fx", "%252e%252e/x", "..;/x", "a?b", "a#b", `a\b`, "a%5c..", "a\r\nb", "a%0d%0ab", strings.Repeat("x", 9000)} {
		refused(func(m *transport.Message) { m.Path = p })
	}
	if len(got) > 0 {
		t.Error("a refused message was sent")
	}
}

func TestPath(t *testing.T) {
	s, got := recorder(t)
	for _, tc := range [][3]string{
		{"", "", "/"}, {"", "a", "/a"}, {"", "//evil.example/x", "/evil.example/x"}, {"/base", "a/b", "/base/a/b"},
		{"/base/", "/a/", "/base/a/"}, {"/base?k=v", "a", "/base/a?k=v"}, {"/base", "http://evil/x", "/base/http://evil/x"},
		{"/b%20c", "d e/ü", "/b%20c/d%20e/%C3%BC"}, {"/b", "x%2Fy", "/b/x%2Fy"}, {"/b", "100%", "/b/100%25"}, {"/b", "a...b/..c", "/b/a...b/..c"},
		{"/b", "Patient/435;v=1", "/b/Patient/435;v=1"}, {"/b", "/", "/b/"},
	} {
		m := message()
		m.Path = tc[1]
		want(t, deliver(t, configured(t, obj{"url": s.URL + tc[0]}), m), transport.Done, transport.Delivered, 200)
		if r := <-got; r.RequestURI != tc[2] || r.Host != s.Listener.Addr().String() {
			t.Errorf("%s + %s: %s at %s, want %s", tc[0], tc[1], r.RequestURI, r.Host, tc[2])
		}
	}
}

func FuzzPath(f *testing.F) {
	for _, p := range []string{"a/b", "../x", "%2e%2e/", "..;a/", "//x", "%", "%zz", "a\r\nb: c", "a b?c#d", "%252e%252e%252f", "\\..\\"} {
		f.Add(p)
	}
	f.Fuzz(func(t *testing.T, p string) {
		out, err := http.JoinPath("/base", p)
		if err != nil {
			return
		}
		if !strings.HasPrefix(out, "/base/") {
			t.Fatalf("%q left the base: %q", p, out)
		}
		for _, c := range []byte(out) {
			if c <= ' ' || c >= 0x7f || strings.IndexByte("?#\\\"<>", c) >= 0 {
				t.Fatalf("%q has %q in it: %q", p, c, out)
			}
		}
		u, err := url.ParseRequestURI(out)
		if err != nil || u.Host != "" {
			t.Fatalf("%q: %q is not a path: %v", p, out, err)
		}
		// However often a target decodes, it stays below.
		for d := out; ; {
			if c := path.Clean(strings.ReplaceAll(d, `\`, "/")); c != "/base" && !strings.HasPrefix(c, "/base/") {
				t.Fatalf("%q leaves the base as %q", p, d)
			}
			next, err := url.PathUnescape(d)
			if err != nil || next == d {
				return
			}
			d = next
		}
	})
}
