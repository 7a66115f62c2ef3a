package smtp

import (
	"encoding/json"
	"net"
	"net/mail"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/hookline/hookline/plugins/target"
	"github.com/hookline/hookline/plugins/transport"
)

// The values of security.
const (
	securitySTARTTLS = "starttls"
	securityTLS      = "tls"
	securityNone     = "none"
)

// The values of json.
const (
	jsonAttach = "attach"
	jsonInline = "inline"
	jsonMail   = "mail"
)

const authAuto = "auto"

var ports = map[string]string{securitySTARTTLS: "587", securityTLS: "465", securityNone: "25"}

const (
	maxRecipients  = 100 // what any server must take (RFC 5321 4.5.3.1.8)
	maxConnections = 256
)

// settings is the JSON as written; settings.schema.json describes it.
type settings struct {
	Address         string      `json:"address"`
	Security        string      `json:"security"`
	AllowPlaintext  bool        `json:"allow_plaintext"`
	Auth            string      `json:"auth"`
	Username        *string     `json:"username"`
	Password        *string     `json:"password"`
	From            string      `json:"from"`
	EnvelopeFrom    string      `json:"envelope_from"`
	ReplyTo         []string    `json:"reply_to"`
	To              []string    `json:"to"`
	Cc              []string    `json:"cc"`
	Bcc             []string    `json:"bcc"`
	AllowRecipients []string    `json:"allow_recipients"`
	Subject         string      `json:"subject"`
	Text            string      `json:"text"`
	JSON            string      `json:"json"`
	Helo            string      `json:"helo"`
	TLS             *target.TLS `json:"tls"`
	target.Network
	IdleTimeout    string `json:"idle_timeout"`
	MaxConnections int    `json:"max_connections"`
}

// defaults are those that the schema tells; a test holds the two together.
func defaults() settings {
	return settings{
		Security: securitySTARTTLS, Auth: authAuto, JSON: jsonAttach,
		Subject: "Hookline: :kind on :hook",
		Text:    "Hookline sends this event of the hook :hook. Its data are in the attachment.\n\nEvent: :event_id",
		Network: target.DefaultNetwork(), IdleTimeout: "30s", MaxConnections: 4,
	}
}

// mailbox is the settings as they are used. It does not change.
type mailbox struct {
	version string

	addr, host     string // to dial; of TLS and SCRAM
	security       string
	allowPlaintext bool
	tls            target.TLS
	dialer         *target.Dialer
	helo           string

	auth, username, password string // username "": none

	from    *mail.Address
	sender  string // of the envelope
	replyTo []*mail.Address
	to      map[string][]*mail.Address // by header: to, cc, bcc
	allowed []string                   // addresses and "@domain"s, in lower case

	subject, text template
	json          string

	idleTimeout    time.Duration
	maxConnections int
}

// recipients are those of the settings, as the envelope has them.
func (m *mailbox) recipients() []string { return envelope(m.to) }

// parseSettings turns JSON into a mailbox, or reports everything that is wrong.
func parseSettings(raw json.RawMessage, version string) (*mailbox, error) {
	s := defaults()
	if err := target.Decode("smtp", raw, &s); err != nil {
		return nil, err
	}
	var bad target.Faults
	m := &mailbox{version: version, security: s.Security, allowPlaintext: s.AllowPlaintext, json: s.JSON, maxConnections: s.MaxConnections}
	m.parseServer(&s, &bad)
	m.parseAuth(&s, &bad)
	m.parseAddresses(&s, &bad)
	m.subject = parseTemplate("subject", s.Subject, &bad)
	if target.HasControl(s.Subject) {
		bad.Add("subject", "must be one line")
	}
	m.text = parseTemplate("text", s.Text, &bad)
	if !slices.Contains([]string{jsonAttach, jsonInline, jsonMail}, s.JSON) {
		bad.Add("json", "must be attach, inline or mail")
	}
	m.idleTimeout = bad.Duration("idle_timeout", s.IdleTimeout)
	if s.MaxConnections < 1 || s.MaxConnections > maxConnections {
		bad.Add("max_connections", "must be from 1 to %d", maxConnections)
	}
	if err := bad.Err(); err != nil {
		return nil, err
	}
	return m, nil
}

func (m *mailbox) parseServer(s *settings, bad *target.Faults) {
	port, known := ports[s.Security]
	if !known {
		bad.Add("security", "must be starttls, tls or none")
		port = ports[securitySTARTTLS]
	}
	if s.Address == "" {
		bad.Add("address", `is missing; it must be a host, or host:port, such as "mail.example.org"`)
	} else {
		m.addr, m.host = bad.Address("address", s.Address, port)
		if s.Security == securityNone && !s.AllowPlaintext && !loopback(m.host) {
			bad.Add("security", "must be starttls or tls: none is for loopback addresses, unless allow_plaintext is true")
		}
	}
	m.dialer = s.Dialer(bad)
	if s.TLS != nil {
		if s.Security == securityNone {
			bad.Add("tls", "needs security starttls or tls")
		}
		s.TLS.Check(bad)
		m.tls = *s.TLS
	}
	m.helo = s.Helo
	if m.helo == "" {
		if m.helo, _ = os.Hostname(); !target.ValidHost(m.helo) || m.helo == "" {
			m.helo = "localhost"
		}
	} else if !target.ValidHost(strings.Trim(m.helo, "[]")) {
		bad.Add("helo", "must be a host name, or an IP address in brackets")
	}
}

func loopback(host string) bool {
	ip := net.ParseIP(host)
	return strings.EqualFold(host, "localhost") || ip != nil && ip.IsLoopback()
}

func (m *mailbox) parseAuth(s *settings, bad *target.Faults) {
	if !slices.Contains([]string{authAuto, "plain", "login", "scram-sha-1", "scram-sha-256", "xoauth2"}, s.Auth) {
		bad.Add("auth", "must be auto, plain, login, scram-sha-1, scram-sha-256 or xoauth2")
	}
	m.auth = s.Auth
	switch {
	case s.Username == nil && s.Password == nil:
		if s.Auth != authAuto {
			bad.Add("username", "is missing; auth needs it")
		}
		return
	case s.Username == nil:
		bad.Add("username", "is missing; password needs it")
		return
	case s.Password == nil:
		bad.Add("password", "is missing; username needs it")
		return
	}
	m.username, m.password = *s.Username, *s.Password
	if m.username == "" || target.HasControl(m.username) {
		bad.Add("username", "must be text without control characters")
	}
	if m.password == "" || target.HasControl(m.password) {
		bad.Add("password", "must be text without control characters; a file must not hold a second line")
	}
}

func (m *mailbox) parseAddresses(s *settings, bad *target.Faults) {
	if s.From == "" {
		bad.Add("from", `is missing; it must be an address such as "Hookline <hookline@example.org>"`)
	} else if m.from = parseAddress("from", s.From, bad); m.from != nil {
		m.sender = bare(m.from)
	}
	if s.EnvelopeFrom != "" {
		if a := parseAddress("envelope_from", s.EnvelopeFrom, bad); a != nil {
			m.sender = bare(a)
		}
	}
	list := func(field string, values []string) (out []*mail.Address) {
		for i, v := range values {
			if a := parseAddress(field+"["+strconv.Itoa(i)+"]", v, bad); a != nil {
				out = append(out, a)
			}
		}
		return out
	}
	m.replyTo = list("reply_to", s.ReplyTo)
	m.to = map[string][]*mail.Address{"to": list("to", s.To), "cc": list("cc", s.Cc), "bcc": list("bcc", s.Bcc)}
	switch n := len(s.To) + len(s.Cc) + len(s.Bcc); {
	case n == 0 && len(s.AllowRecipients) == 0:
		bad.Add("to", "is missing; somebody must get the mail (to, cc or bcc, or allow_recipients for messages that name them)")
	case n > maxRecipients:
		bad.Add("to", "must be at most %d recipients, with cc and bcc", maxRecipients)
	}
	for i, a := range s.AllowRecipients {
		field := "allow_recipients[" + strconv.Itoa(i) + "]"
		if domain, ok := strings.CutPrefix(a, "@"); ok {
			if domain == "" || !target.ValidHost(domain) {
				bad.Add(field, `must be an address, or a domain such as "@example.org"`)
			}
		} else if addr := parseAddress(field, a, bad); addr != nil {
			a = addr.Address
		}
		m.allowed = append(m.allowed, strings.ToLower(a))
	}
}

func parseAddress(field, s string, bad *target.Faults) *mail.Address {
	a, rule := address(s)
	if rule != "" {
		bad.Add(field, "%s", rule)
		return nil
	}
	return a
}

// address reads one address; rule is what it breaks. Only ASCII is taken: other
// local parts need every server on the way to know SMTPUTF8.
func address(s string) (a *mail.Address, rule string) {
	const want = `must be one address such as "a@example.org" or "A <a@example.org>"`
	if target.HasControl(s) {
		return nil, want
	}
	a, err := mail.ParseAddress(s)
	if err != nil || target.HasControl(a.Name) || target.HasControl(a.Address) || len(a.Address) > 254 {
		return nil, want
	}
	at := strings.LastIndexByte(a.Address, '@')
	if strings.ContainsFunc(a.Address, func(r rune) bool { return r >= 0x80 }) || !target.ValidHost(strings.Trim(a.Address[at+1:], "[]")) {
		return nil, "must be in ASCII; write a domain as xn--..."
	}
	return a, ""
}

// bare is an address as the envelope has it.
func bare(a *mail.Address) string { return (&mail.Address{Address: a.Address}).String() }

// allows tells whether a message may name the recipient.
func (m *mailbox) allows(a *mail.Address) bool {
	lower := strings.ToLower(a.Address)
	return slices.Contains(m.allowed, lower) || slices.Contains(m.allowed, lower[strings.LastIndexByte(lower, '@'):])
}

// template is a text with placeholders.
type template []func(*transport.Message) string

// placeholders are what a template can name. What the record holds is not among
// them: a subject is read by everyone on the way, and stands in logs.
var placeholders = map[string]func(*transport.Message) string{
	"id":          func(m *transport.Message) string { return m.ID },
	"event_id":    func(m *transport.Message) string { return m.EventID },
	"delivery_id": func(m *transport.Message) string { return m.DeliveryID },
	"hook":        func(m *transport.Message) string { return m.Hook },
	"route":       func(m *transport.Message) string { return m.Route },
	"study":       func(m *transport.Message) string { return m.Study },
	"stage":       func(m *transport.Message) string { return m.Stage },
	"kind":        func(m *transport.Message) string { return m.Kind },
	"key":         func(m *transport.Message) string { return m.Key },
	"received_at": func(m *transport.Message) string { return m.ReceivedAt.UTC().Format(time.RFC3339) },
}

// parseTemplate reads a text in which :name is a placeholder and :: a colon. A colon
// that no name follows is one too.
func parseTemplate(field, s string, bad *target.Faults) (t template) {
	literal := func(s string) {
		if s != "" {
			t = append(t, func(*transport.Message) string { return s })
		}
	}
	for {
		before, rest, found := strings.Cut(s, ":")
		literal(before)
		if !found {
			return t
		}
		if after, double := strings.CutPrefix(rest, ":"); double {
			literal(":")
			s = after
			continue
		}
		name := rest[:len(rest)-len(strings.TrimLeft(rest, "abcdefghijklmnopqrstuvwxyz_"))]
		if value := placeholders[name]; value != nil {
			t = append(t, value)
		} else if literal(":"); name != "" {
			bad.Add(field, "has a placeholder that is not known; write :: for a colon. Known are %s", known())
		}
		if placeholders[name] == nil {
			name = ""
		}
		s = rest[len(name):]
	}
}

func known() string {
	var names []string
	for name := range placeholders {
		names = append(names, ":"+name)
	}
	slices.Sort(names)
	return strings.Join(names, ", ")
}

func (t template) text(m *transport.Message) string {
	var b strings.Builder
	for _, part := range t {
		b.WriteString(part(m))
	}
	return b.String()
}
