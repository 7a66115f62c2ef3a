package ingest

import (
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"os"
	"strings"

	"github.com/hookline/hookline/core"
	"github.com/hookline/hookline/core/http1"
)

// refusal is why a request is not taken. why completes the sentence for the
// site's user, hint is for the integrator; both name rules, never values.
type refusal struct {
	code  core.Code
	why   string
	hint  string
	key   string // of the body
	quiet bool   // not worth a warning
	err   error  // for the log

	unsure bool // it may have been taken all the same
}

const (
	// lookInTrialKit is where an integrator finds what TrialKit sends.
	lookInTrialKit = "Study Configuration Settings, Hook Into Events"
	// lookInBody is the hint to a body that is not an event.
	lookInBody = "send TrialKit's JSON dictionary as its help page \"Hook Into Events\" shows it"
)

// hookName splits the path of a hook. A trailing slash is as good as none.
func hookName(path string) (name string, ok bool) {
	name, ok = strings.CutPrefix(path, "/hooks/")
	return strings.TrimSuffix(name, "/"), ok
}

// plausibleName tells whether a name from a request may go to the log.
func plausibleName(s string) bool {
	if s == "" || len(s) > 64 {
		return false
	}
	for i := range len(s) {
		if c := s[i]; (c < 'a' || c > 'z') && (c < '0' || c > '9') && c != '-' {
			return false
		}
	}
	return true
}

// media refuses what could be read wrongly: bytes in another encoding than the
// parser expects. The type itself does not matter, nor whether it is there.
func media(h http.Header) *refusal {
	for _, v := range h["Content-Encoding"] {
		if v = strings.TrimSpace(v); v != "" && !strings.EqualFold(v, "identity") {
			return &refusal{
				code: core.UnsupportedMediaType, why: "it came compressed, which Hookline does not take",
				hint: "send the body without Content-Encoding",
			}
		}
	}
	for _, v := range h["Content-Type"] {
		if v == "application/json" || !strings.Contains(v, ";") {
			continue
		}
		_, params, err := mime.ParseMediaType(v)
		if err != nil {
			continue // not a type at all; the body decides
		}
		switch strings.ToLower(params["charset"]) {
		case "", "utf-8", "utf8", "us-ascii", "ascii":
		default:
			return &refusal{
				code: core.UnsupportedMediaType, why: "it came in a character set that Hookline does not take",
				hint: "send the body as UTF-8, with the charset of Content-Type utf-8 or left out",
			}
		}
	}
	return nil
}

// maxKey is the longest id that a caller may give its event, in bytes.
const maxKey = 256

// callersKey is the caller's own id of the event, "" for none: webhook-id
// (Standard Webhooks) or Idempotency-Key.
func callersKey(h http.Header) (string, *refusal) {
	for _, name := range [...]string{"Webhook-Id", "Idempotency-Key"} {
		values := h[name]
		if len(values) == 0 {
			continue
		}
		key := strings.TrimSpace(values[0])
		if len(values) > 1 || key == "" || len(key) > maxKey || strings.ContainsFunc(key, func(r rune) bool { return r < ' ' || r > '~' }) {
			return "", &refusal{
				code: core.InvalidBody, why: "its " + strings.ToLower(name) + " cannot be read", key: strings.ToLower(name),
				hint: fmt.Sprintf("send one %s of 1 to %d printable ASCII characters, or none", strings.ToLower(name), maxKey),
			}
		}
		return key, nil
	}
	return "", nil
}

// readBody returns the body's bytes as sent, within the server's limits of size
// and time.
func (s *Server) readBody(w *http1.Response, r *http.Request) ([]byte, *refusal) {
	if r.ContentLength == 0 {
		return nil, nil
	}
	w.ReadWithin(s.opts.BodyTimeout)
	var body []byte
	var err error
	if n := r.ContentLength; n > 0 {
		body = make([]byte, n) // s.tooLarge has looked at it
		n, err := io.ReadFull(r.Body, body)
		if err != nil {
			return nil, s.unreadable(err, int64(n), r.ContentLength)
		}
	} else if body, err = io.ReadAll(http.MaxBytesReader(nil, r.Body, s.opts.MaxBody)); err != nil {
		return nil, s.unreadable(err, int64(len(body)), -1)
	}
	return body, nil
}

func (s *Server) unreadable(err error, got, announced int64) *refusal {
	var tooLarge *http.MaxBytesError
	switch {
	case errors.As(err, &tooLarge):
		return s.tooLarge()
	case errors.Is(err, os.ErrDeadlineExceeded):
		return &refusal{
			code: core.InvalidBody, why: fmt.Sprintf("the body did not arrive within %s", s.opts.BodyTimeout),
			hint: fmt.Sprintf("server.body_timeout is %s", s.opts.BodyTimeout),
		}
	case announced >= 0:
		return &refusal{
			code: core.InvalidBody, why: fmt.Sprintf("the body ended after %d of %d bytes", got, announced),
			hint: "send as many bytes as Content-Length says, and keep the connection open for the answer",
		}
	default:
		return &refusal{
			code: core.InvalidBody, why: "the body ended early or is not chunked as HTTP says",
			hint: "end a chunked body with a chunk of length 0, and keep the connection open for the answer",
		}
	}
}

func (s *Server) tooLarge() *refusal {
	return &refusal{
		code: core.TooLarge, why: fmt.Sprintf("it is larger than the %d bytes that Hookline takes", s.opts.MaxBody),
		hint: fmt.Sprintf("server.max_body is %d bytes", s.opts.MaxBody),
	}
}

// invalid is the refusal of a body that core.ParseEvent did not take.
func invalid(err error) *refusal {
	f := &refusal{code: core.InvalidBody, why: err.Error(), hint: lookInBody}
	if e, ok := errors.AsType[*core.InvalidEvent](err); ok {
		f.key = e.Key
	}
	return f
}

// traceParent returns the caller's trace context as version 00, or "" if there
// is none that is valid (W3C Trace Context, section 3.2.2 and 4.3: of a version
// that is not known only the first fields count).
func traceParent(h http.Header) string {
	values := h["Traceparent"]
	if len(values) != 1 {
		return ""
	}
	v := values[0]
	switch {
	case len(v) < 55 || v[2] != '-' || v[35] != '-' || v[52] != '-':
		return ""
	case !lowerHex(v[:2]) || v[:2] == "ff" || !lowerHex(v[3:35]) || !lowerHex(v[36:52]) || !lowerHex(v[53:55]):
		return ""
	case strings.Trim(v[3:35], "0") == "" || strings.Trim(v[36:52], "0") == "":
		return ""
	case v[:2] == "00":
		if len(v) != 55 {
			return ""
		}
		return v
	case len(v) > 55 && v[55] != '-':
		return ""
	}
	sampled := "00"
	if strings.IndexByte("13579bdf", v[54]) >= 0 {
		sampled = "01"
	}
	return "00" + v[2:53] + sampled
}

func lowerHex(s string) bool {
	for i := range len(s) {
		if c := s[i]; (c < '0' || c > '9') && (c < 'a' || c > 'f') {
			return false
		}
	}
	return true
}
