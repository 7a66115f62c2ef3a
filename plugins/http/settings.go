package http

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/net/http/httpguts"

	"github.com/hookline/hookline/plugins/transport"
)

// settings is the JSON as written; settings.schema.json describes it.
type settings struct {
	URL            string            `json:"url"`
	Method         string            `json:"method"`
	Username       *string           `json:"username"`
	Password       *string           `json:"password"`
	BearerToken    *string           `json:"bearer_token"`
	Headers        map[string]string `json:"headers"`
	SigningSecrets stringOrList      `json:"signing_secrets"`
	TLS            *tlsSettings      `json:"tls"`
	DenyAddresses  []string          `json:"deny_addresses"`
	AllowLinkLocal bool              `json:"allow_link_local"`
	DialTimeout    string            `json:"dial_timeout"`
	IdleTimeout    string            `json:"idle_timeout"`
	MaxIdle        int               `json:"max_idle"`
	MaxReply       int               `json:"max_reply"`
}

type tlsSettings struct {
	CAFile     string `json:"ca_file"`
	CertFile   string `json:"cert_file"`
	KeyFile    string `json:"key_file"`
	MinVersion string `json:"min_version"`
	ServerName string `json:"server_name"`
}

// defaults are those that the schema tells; a test holds the two together.
func defaults() settings {
	return settings{
		Method: "POST", DialTimeout: "10s", IdleTimeout: "30s", MaxIdle: 1024, MaxReply: 64 << 10,
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

// target is the settings as they are used. It does not change.
type target struct {
	https    bool
	hostname string // of the URL, without port and brackets
	addr     string // host:port to dial

	// The parts of a request that are the same for all: "POST /path", and from
	// the query to the last fixed header line.
	start, fixed []byte
	path         string          // of the URL, percent-encoded, begins with "/"
	configured   map[string]bool // lower-case names of headers set by the settings
	signers      []*signer

	tls         tlsSettings
	guard       *guard
	dialTimeout time.Duration
	idleTimeout time.Duration
	maxIdle     int
	maxReply    int
}

// faults gathers what is wrong with the settings.
type faults []error

func (f *faults) add(field, rule string, args ...any) {
	*f = append(*f, &transport.SettingError{Field: field, Rule: fmt.Sprintf(rule, args...)})
}

// parseSettings turns JSON into a target, or reports everything that is wrong. No
// value appears in an error: it may be a secret, or hold one.
func parseSettings(raw json.RawMessage, version string) (*target, error) {
	s := defaults()
	if len(bytes.TrimSpace(raw)) > 0 {
		dec := json.NewDecoder(bytes.NewReader(raw))
		dec.DisallowUnknownFields()
		if err := dec.Decode(&s); err != nil {
			return nil, decodeError(err)
		}
		if _, err := dec.Token(); err != io.EOF {
			return nil, &transport.SettingError{Rule: "must be one JSON object, nothing may follow it"}
		}
	}
	var bad faults
	t := &target{maxIdle: s.MaxIdle, maxReply: s.MaxReply}
	head := newHead(version)

	t.parseURL(s.URL, &bad, head)
	if !slices.Contains([]string{"POST", "PUT", "PATCH"}, s.Method) {
		bad.add("method", "must be POST, PUT or PATCH")
	}
	t.parseAuth(&s, &bad, head)
	t.parseHeaders(s.Headers, &bad, head)
	t.parseSecrets(s.SigningSecrets, &bad)
	t.parseTLS(s.TLS, &bad)
	t.guard = newGuard(s.DenyAddresses, s.AllowLinkLocal, &bad)
	t.dialTimeout = duration("dial_timeout", s.DialTimeout, &bad)
	t.idleTimeout = duration("idle_timeout", s.IdleTimeout, &bad)
	if s.MaxIdle < 0 || s.MaxIdle > 65536 {
		bad.add("max_idle", "must be from 0 to 65536")
	}
	if s.MaxReply < 1024 || s.MaxReply > 1<<20 {
		bad.add("max_reply", "must be from 1024 to 1048576 bytes")
	}
	if len(bad) > 0 {
		return nil, errors.Join(bad...)
	}
	if s.MaxIdle == 0 {
		head.set("Connection", "close") // the target need not hold what we won't use
	}
	t.start = []byte(s.Method + " " + t.path)
	t.fixed = head.bytes()
	return t, nil
}

// decodeError names the field without repeating its value.
func decodeError(err error) error {
	if _, ok := errors.AsType[*transport.SettingError](err); ok {
		return err
	}
	var typ *json.UnmarshalTypeError
	if errors.As(err, &typ) {
		want := typ.Type.String()
		switch typ.Type.Kind().String() {
		case "struct", "map":
			want = "a table"
		case "slice":
			want = "a list"
		case "int":
			want = "a whole number"
		case "bool":
			want = "true or false"
		case "string":
			want = "text"
		}
		return &transport.SettingError{Field: typ.Field, Rule: "must be " + want}
	}
	if name, ok := strings.CutPrefix(err.Error(), "json: unknown field "); ok {
		return &transport.SettingError{Field: strings.Trim(name, `"`), Rule: "is not a setting of the http transport"}
	}
	return &transport.SettingError{Rule: "must be a JSON object"}
}

func (t *target) parseURL(raw string, bad *faults, head *head) {
	if raw == "" {
		bad.add("url", "is missing; it must be an http or https URL")
		return
	}
	u, err := url.Parse(raw)
	if err != nil || u.Opaque != "" || (u.Scheme != "http" && u.Scheme != "https") || u.Hostname() == "" {
		bad.add("url", "must be a URL such as https://ehr.example.org/path, with http or https and a host")
		return
	}
	if u.User != nil {
		bad.add("url", "must not hold a user or password; use username and password")
	}
	if u.Fragment != "" || strings.Contains(raw, "#") {
		bad.add("url", "must not have a fragment; write # as %%23")
	}
	for _, c := range []byte(u.RawQuery) {
		if c <= ' ' || c >= 0x7f {
			bad.add("url", "has a query with a space or a character that is not ASCII; percent-encode it")
			break
		}
	}
	t.https = u.Scheme == "https"
	t.hostname = u.Hostname()
	if !validHost(t.hostname) {
		bad.add("url", "has a host that is neither a name in ASCII (write xn--... for others) nor an IP address")
	}
	port := u.Port()
	host := t.hostname
	if strings.Contains(host, ":") {
		ip, _, _ := strings.Cut(host, "%") // a zone is of this machine only
		host = "[" + ip + "]"
	}
	if port != "" {
		if n, err := strconv.Atoi(port); err != nil || n < 1 || n > 65535 {
			bad.add("url", "must have a port from 1 to 65535")
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

func validHost(h string) bool {
	if strings.Contains(h, ":") {
		_, err := netip.ParseAddr(h)
		return err == nil
	}
	stray := strings.ContainsFunc(h, func(c rune) bool {
		return (c|0x20 < 'a' || c|0x20 > 'z') && (c < '0' || c > '9') && !strings.ContainsRune("-._", c)
	})
	return !stray && len(h) <= 253
}

func (t *target) parseAuth(s *settings, bad *faults, head *head) {
	if s.BearerToken != nil {
		if s.Username != nil || s.Password != nil {
			bad.add("bearer_token", "excludes username and password; a request has one Authorization")
		}
		tok := *s.BearerToken
		if tok == "" || strings.ContainsFunc(tok, func(r rune) bool { return r <= ' ' || r >= 0x7f }) {
			bad.add("bearer_token", "must be visible ASCII without spaces; a file must not hold a second line")
		}
		head.set("Authorization", "Bearer "+tok)
		return
	}
	switch {
	case s.Username == nil && s.Password == nil:
		return
	case s.Username == nil:
		bad.add("username", "is missing; password needs it")
		return
	case s.Password == nil:
		bad.add("password", `is missing; username needs it (write "" if the target wants none)`)
		return
	}
	if *s.Username == "" || strings.Contains(*s.Username, ":") || hasControl(*s.Username) {
		bad.add("username", "must be text without colon and control characters")
	}
	if hasControl(*s.Password) {
		bad.add("password", "must not have control characters; a file must not hold a second line")
	}
	pair := *s.Username + ":" + *s.Password
	head.set("Authorization", "Basic "+base64.StdEncoding.EncodeToString([]byte(pair)))
}

func hasControl(s string) bool {
	return strings.ContainsFunc(s, func(r rune) bool { return r < ' ' || r == 0x7f })
}

func (t *target) parseHeaders(h map[string]string, bad *faults, head *head) {
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
			bad.add("headers", "has a name that is not a header name (letters, digits and hyphens)")
			continue
		case t.configured[lower]:
			bad.add(field, "is set twice; header names do not differ by case")
		case lower == "authorization":
			if head.has(name) {
				bad.add(field, "excludes username and bearer_token; a request has one Authorization")
			}
		case transport.ReservedHeader(lower):
			bad.add(field, "is set by Hookline or by HTTP itself; remove it")
		}
		v := strings.Trim(h[name], " \t")
		if !httpguts.ValidHeaderFieldValue(v) {
			bad.add(field, "must not have control characters; a file must not hold a second line")
		}
		t.configured[lower] = true
		head.set(name, v)
	}
}

func (t *target) parseSecrets(secrets []string, bad *faults) {
	if len(secrets) > 8 {
		bad.add("signing_secrets", "must be at most 8")
	}
	for i, s := range secrets {
		sig, err := newSigner(s)
		if err != nil {
			bad.add("signing_secrets["+strconv.Itoa(i)+"]", "%s", err.Error())
			continue
		}
		t.signers = append(t.signers, sig)
	}
}

func (t *target) parseTLS(s *tlsSettings, bad *faults) {
	if s == nil {
		return
	}
	t.tls = *s
	if t.hostname != "" && !t.https {
		bad.add("tls", "needs an https url")
	}
	if (s.CertFile == "") != (s.KeyFile == "") {
		field, other := "tls.cert_file", "tls.key_file"
		if s.CertFile != "" {
			field, other = other, field
		}
		bad.add(field, "is missing; %s needs it", other)
	}
	if s.MinVersion != "" && s.MinVersion != "1.2" && s.MinVersion != "1.3" {
		bad.add("tls.min_version", "must be 1.2 or 1.3")
	}
	if s.ServerName != "" && !validHost(s.ServerName) {
		bad.add("tls.server_name", "must be a host name or an IP address")
	}
}

func duration(field, s string, bad *faults) time.Duration {
	d, err := time.ParseDuration(s)
	if err != nil || d <= 0 || d > 24*time.Hour {
		bad.add(field, `must be a time such as "10s", more than 0 and at most 24h`)
	}
	return d
}
