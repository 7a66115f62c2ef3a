package http

import (
	"encoding/base64"
	"encoding/json"
	"net"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/net/http/httpguts"

	"github.com/hookline/hookline/plugins/target"
	"github.com/hookline/hookline/plugins/transport"
)

// settings is the JSON as written; settings.schema.json describes it.
type settings struct {
	target.Network
	URL            string            `json:"url"`
	Method         string            `json:"method"`
	Username       *string           `json:"username"`
	Password       *string           `json:"password"`
	BearerToken    *string           `json:"bearer_token"`
	Headers        map[string]string `json:"headers"`
	SigningSecrets stringOrList      `json:"signing_secrets"`
	TLS            *target.TLS       `json:"tls"`
	IdleTimeout    string            `json:"idle_timeout"`
	MaxIdle        int               `json:"max_idle"`
	MaxReply       int               `json:"max_reply"`
}

// defaults are those that the schema tells; a test holds the two together.
func defaults() settings {
	return settings{
		Network: target.DefaultNetwork(), Method: "POST", IdleTimeout: "30s", MaxIdle: 1024, MaxReply: 64 << 10,
	}
}

// stringOrList is one string or an array of them.
type stringOrList []string

func (l *stringOrList) UnmarshalJSON(b []byte) error {
	var one string
	if json.Unmarshal(b, &one) == nil {
		*l = stringOrList{one}
		return nil
	}
	if json.Unmarshal(b, (*[]string)(l)) != nil {
		return &transport.SettingError{Field: "signing_secrets", Rule: "must be text or a list of texts"}
	}
	return nil
}

// endpoint is the settings as they are used. It does not change.
type endpoint struct {
	https    bool
	hostname string // of the URL, without port and brackets
	addr     string // host:port to dial

	// The parts of a request that are the same for all: "POST /path", and from
	// the query to the last fixed header line.
	start, fixed []byte
	path         string          // of the URL, percent-encoded, begins with "/"
	configured   map[string]bool // lower-case names of headers set by the settings
	signers      []*signer

	tls         target.TLS
	dialer      *target.Dialer
	idleTimeout time.Duration
	maxIdle     int
	maxReply    int
}

// parseSettings turns JSON into an endpoint, or reports everything that is wrong. No
// value appears in an error: it may be a secret, or hold one.
func parseSettings(raw json.RawMessage, version string) (*endpoint, error) {
	s := defaults()
	if err := target.Decode("http", raw, &s); err != nil {
		return nil, err
	}
	var bad target.Faults
	t := &endpoint{maxIdle: s.MaxIdle, maxReply: s.MaxReply}
	head := newHead(version)

	t.parseURL(s.URL, &bad, head)
	if !slices.Contains([]string{"POST", "PUT", "PATCH"}, s.Method) {
		bad.Add("method", "must be POST, PUT or PATCH")
	}
	t.parseAuth(&s, &bad, head)
	t.parseHeaders(s.Headers, &bad, head)
	t.parseSecrets(s.SigningSecrets, &bad)
	if s.TLS != nil {
		if t.hostname != "" && !t.https {
			bad.Add("tls", "needs an https url")
		}
		s.TLS.Check(&bad)
		t.tls = *s.TLS
	}
	t.dialer = s.Dialer(&bad)
	t.idleTimeout = bad.Duration("idle_timeout", s.IdleTimeout)
	if s.MaxIdle < 0 || s.MaxIdle > 65536 {
		bad.Add("max_idle", "must be from 0 to 65536")
	}
	if s.MaxReply < 1024 || s.MaxReply > 1<<20 {
		bad.Add("max_reply", "must be from 1024 to 1048576 bytes")
	}
	if err := bad.Err(); err != nil {
		return nil, err
	}
	if s.MaxIdle == 0 {
		head.set("Connection", "close") // the target need not hold what we won't use
	}
	t.start = []byte(s.Method + " " + t.path)
	t.fixed = head.bytes()
	return t, nil
}

func (t *endpoint) parseURL(raw string, bad *target.Faults, head *head) {
	if raw == "" {
		bad.Add("url", "is missing; it must be an http or https URL")
		return
	}
	u, err := url.Parse(raw)
	if err != nil || u.Opaque != "" || (u.Scheme != "http" && u.Scheme != "https") || u.Hostname() == "" {
		bad.Add("url", "must be a URL such as https://ehr.example.org/path, with http or https and a host")
		return
	}
	if u.User != nil {
		bad.Add("url", "must not hold a user or password; use username and password")
	}
	if u.Fragment != "" || strings.Contains(raw, "#") {
		bad.Add("url", "must not have a fragment; write # as %%23")
	}
	for _, c := range []byte(u.RawQuery) {
		if c <= ' ' || c >= 0x7f {
			bad.Add("url", "has a query with a space or a character that is not ASCII; percent-encode it")
			break
		}
	}
	t.https = u.Scheme == "https"
	t.hostname = u.Hostname()
	if !target.ValidHost(t.hostname) {
		bad.Add("url", "has a host that is neither a name in ASCII (write xn--... for others) nor an IP address")
	}
	port := u.Port()
	host := t.hostname
	if strings.Contains(host, ":") {
		ip, _, _ := strings.Cut(host, "%") // a zone is of this machine only
		host = "[" + ip + "]"
	}
	if port != "" {
		if n, err := strconv.Atoi(port); err != nil || n < 1 || n > 65535 {
			bad.Add("url", "must have a port from 1 to 65535")
		}
		host += ":" + port
	} else if port = "80"; t.https {
		port = "443"
	}
	t.addr = net.JoinHostPort(t.hostname, port)
	t.path = u.EscapedPath()
	if t.path == "" {
		t.path = "/"
	}
	head.query = u.RawQuery
	head.host = host
}

func (t *endpoint) parseAuth(s *settings, bad *target.Faults, head *head) {
	if s.BearerToken != nil {
		if s.Username != nil || s.Password != nil {
			bad.Add("bearer_token", "excludes username and password; a request has one Authorization")
		}
		tok := *s.BearerToken
		if tok == "" || strings.ContainsFunc(tok, func(r rune) bool { return r <= ' ' || r >= 0x7f }) {
			bad.Add("bearer_token", "must be visible ASCII without spaces; a file must not hold a second line")
		}
		head.set("Authorization", "Bearer "+tok)
		return
	}
	switch {
	case s.Username == nil && s.Password == nil:
		return
	case s.Username == nil:
		bad.Add("username", "is missing; password needs it")
		return
	case s.Password == nil:
		bad.Add("password", `is missing; username needs it (write "" if the target wants none)`)
		return
	}
	if *s.Username == "" || strings.Contains(*s.Username, ":") || target.HasControl(*s.Username) {
		bad.Add("username", "must be text without colon and control characters")
	}
	if target.HasControl(*s.Password) {
		bad.Add("password", "must not have control characters; a file must not hold a second line")
	}
	pair := *s.Username + ":" + *s.Password
	head.set("Authorization", "Basic "+base64.StdEncoding.EncodeToString([]byte(pair)))
}

func (t *endpoint) parseHeaders(h map[string]string, bad *target.Faults, head *head) {
	t.configured = make(map[string]bool, len(h))
	names := make([]string, 0, len(h))
	for name := range h {
		names = append(names, name)
	}
	slices.Sort(names)
	for _, name := range names {
		field, lower := "headers."+name, strings.ToLower(name)
		switch {
		case !httpguts.ValidHeaderFieldName(name):
			bad.Add("headers", "has a name that is not a header name (letters, digits and hyphens)")
			continue
		case t.configured[lower]:
			bad.Add(field, "is set twice; header names do not differ by case")
		case lower == "authorization":
			if head.has(name) {
				bad.Add(field, "excludes username and bearer_token; a request has one Authorization")
			}
		case transport.ReservedHeader(lower):
			bad.Add(field, "is set by Hookline or by HTTP itself; remove it")
		}
		v := strings.Trim(h[name], " \t")
		if !httpguts.ValidHeaderFieldValue(v) {
			bad.Add(field, "must not have control characters; a file must not hold a second line")
		}
		t.configured[lower] = true
		head.set(name, v)
	}
}

func (t *endpoint) parseSecrets(secrets []string, bad *target.Faults) {
	if len(secrets) > 8 {
		bad.Add("signing_secrets", "must be at most 8")
	}
	for i, s := range secrets {
		sig, err := newSigner(s)
		if err != nil {
			bad.Add("signing_secrets["+strconv.Itoa(i)+"]", "%s", err.Error())
			continue
		}
		t.signers = append(t.signers, sig)
	}
}
