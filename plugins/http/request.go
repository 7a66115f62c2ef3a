package http

import (
	"bytes"
	"fmt"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/hookline/hookline/plugins/target"
	"github.com/hookline/hookline/plugins/transport"
)

const (
	inlinePayload = 32 << 10 // up to here head and payload are one write
	maxPath       = 8 << 10
)

// buffer holds a request, or the head of a long one.
type buffer struct{ b []byte }

var buffers = sync.Pool{New: func() any { return &buffer{b: make([]byte, 0, 4<<10)} }}

func (b *buffer) release() {
	if cap(b.b) <= 2*inlinePayload {
		buffers.Put(b)
	}
}

// head collects the header lines that every request has.
type head struct {
	host, query string
	version     string
	lines       []string
	names       map[string]bool
}

func newHead(version string) *head {
	return &head{version: version, names: make(map[string]bool)}
}

func (h *head) has(name string) bool { return h.names[strings.ToLower(name)] }

func (h *head) set(name, value string) {
	h.names[strings.ToLower(name)] = true
	h.lines = append(h.lines, name+": "+value+"\r\n")
}

// bytes is the rest of the request line and the fixed header lines.
func (h *head) bytes() []byte {
	var b bytes.Buffer
	if h.query != "" {
		b.WriteString("?" + h.query)
	}
	b.WriteString(" HTTP/1.1\r\nHost: " + h.host + "\r\n")
	if !h.has("User-Agent") {
		b.WriteString("User-Agent: Hookline/" + h.version + "\r\n")
	}
	for _, line := range h.lines {
		b.WriteString(line)
	}
	return b.Bytes()
}

// appendRequest writes m's request into buf. A payload too long to be copied is
// returned, to be sent after buf. The error says why m can't be sent at all.
func (t *endpoint) appendRequest(buf *buffer, m *transport.Message, now time.Time) (rest []byte, err error) {
	b := buf.b[:0]
	b = append(b, t.start...)
	defer func() { buf.b = b }()
	if m.Path != "" {
		if b, err = appendPath(b, m.Path); err != nil {
			return nil, err
		}
	}
	b = append(b, t.fixed...)

	custom, err := t.checkHeaders(m)
	if err != nil {
		return nil, err
	}
	if !custom.contentType && !t.configured["content-type"] {
		ct := m.ContentType
		if ct == "" {
			ct = "application/json"
		}
		if b, err = appendHeader(b, "Content-Type", ct); err != nil {
			return nil, err
		}
	}
	b = append(b, "Content-Length: "...)
	b = strconv.AppendInt(b, int64(len(m.Payload)), 10)
	b = append(b, "\r\n"...)

	for _, h := range [...]struct{ name, value string }{
		{"webhook-id", m.ID}, {"hookline-event-id", m.EventID}, {"traceparent", m.TraceParent},
	} {
		if h.value != "" {
			if b, err = appendHeader(b, h.name, h.value); err != nil {
				return nil, err
			}
		}
	}
	b = append(b, "webhook-timestamp: "...)
	n := len(b)
	b = strconv.AppendInt(b, now.Unix(), 10)
	timestamp := b[n:len(b):len(b)]
	b = append(b, "\r\n"...)
	if len(t.signers) > 0 {
		if m.ID == "" {
			return nil, fmt.Errorf("the message has no id, so it cannot be signed")
		}
		b = append(b, "webhook-signature: "...)
		for i, s := range t.signers {
			if i > 0 {
				b = append(b, ' ')
			}
			b = s.append(b, m.ID, timestamp, m.Payload)
		}
		b = append(b, "\r\n"...)
	}
	for _, name := range custom.names {
		if b, err = appendHeader(b, name, m.Headers[name]); err != nil {
			return nil, err
		}
	}
	b = append(b, "\r\n"...)
	if len(m.Payload) > inlinePayload {
		return m.Payload, nil
	}
	b = append(b, m.Payload...)
	return nil, nil
}

// appendHeader refuses a value that could be changed on the way: a signature covers
// webhook-id as the target reads it.
func appendHeader(b []byte, name, value string) ([]byte, error) {
	if err := target.HeaderValue(name, value); err != nil {
		return b, err
	}
	b = append(b, name...)
	b = append(b, ": "...)
	b = append(b, value...)
	return append(b, "\r\n"...), nil
}

// customHeaders are a transform's headers, in a fixed order.
type customHeaders struct {
	names       []string
	contentType bool
}

func (t *endpoint) checkHeaders(m *transport.Message) (c customHeaders, err error) {
	if len(m.Headers) == 0 {
		return c, nil
	}
	if err := target.HeaderCount(m); err != nil {
		return c, err
	}
	c.names = make([]string, 0, len(m.Headers))
	seen := make(map[string]bool, len(m.Headers))
	for name := range m.Headers {
		if err := target.HeaderName(name); err != nil {
			return c, err
		}
		lower := strings.ToLower(name)
		switch {
		case transport.ReservedHeader(lower):
			return c, fmt.Errorf("the transform set header %s, which Hookline or HTTP itself sets; remove it from the script", name)
		case t.configured[lower]:
			return c, fmt.Errorf("the transform set header %s, which the transport's settings set; remove it from one of them", name)
		case lower == "user-agent":
			return c, fmt.Errorf("the transform set header %s; set it in the transport's headers", name)
		case seen[lower]:
			return c, fmt.Errorf("the transform set header %s twice; names do not differ by case", name)
		case lower == "content-type":
			c.contentType = true
		}
		seen[lower] = true
		c.names = append(c.names, name)
	}
	slices.Sort(c.names)
	return c, nil
}

// appendPath joins a message's path to the URL's, which b ends with. The result
// stays below the URL's path: dot segments are refused, also in disguise, since a
// target may decode before it resolves. What is not allowed in a path is encoded;
// a % that begins an escape is kept.
func appendPath(b []byte, path string) ([]byte, error) {
	if len(path) > maxPath {
		return b, fmt.Errorf("the message's path has %d bytes; %d are allowed", len(path), maxPath)
	}
	if strings.ContainsAny(path, "?#") {
		return b, fmt.Errorf("the message's path has a ? or #; write %%3F or %%23, and put a query into the transport's url")
	}
	for decoded := path; ; {
		if err := checkSegments(decoded); err != nil {
			return b, err
		}
		next, err := url.PathUnescape(decoded)
		if err != nil || next == decoded {
			break
		}
		decoded = next
	}
	path = strings.TrimLeft(path, "/")
	if b[len(b)-1] != '/' {
		b = append(b, '/')
	}
	const hex = "0123456789ABCDEF"
	for i := 0; i < len(path); i++ {
		c := path[i]
		if pathByte(c) || c == '%' && i+2 < len(path) && isHex(path[i+1]) && isHex(path[i+2]) {
			b = append(b, c)
			continue
		}
		b = append(b, '%', hex[c>>4], hex[c&15])
	}
	return b, nil
}

func checkSegments(path string) error {
	for seg := range strings.FieldsFuncSeq(path, func(r rune) bool { return r == '/' || r == '\\' }) {
		name, _, _ := strings.Cut(seg, ";") // some servers drop ";..." before they resolve
		if name == "." || name == ".." {
			return fmt.Errorf("the message's path has a . or .. segment; it must stay below the transport's url")
		}
	}
	if strings.Contains(path, `\`) || target.HasControl(path) {
		return fmt.Errorf("the message's path has a backslash or a control character")
	}
	return nil
}

// pathByte tells whether RFC 3986 allows c in a path as it is.
func pathByte(c byte) bool {
	return 'a' <= c|0x20 && c|0x20 <= 'z' || '0' <= c && c <= '9' || strings.IndexByte("/-._~!$&'()*+,;=:@", c) >= 0
}

func isHex(c byte) bool {
	return '0' <= c && c <= '9' || 'a' <= c|0x20 && c|0x20 <= 'f'
}
