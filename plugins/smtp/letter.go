package smtp

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"mime"
	"net/mail"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	gomail "github.com/wneessen/go-mail"
	"golang.org/x/net/http/httpguts"

	"github.com/hookline/hookline/plugins/target"
	"github.com/hookline/hookline/plugins/transport"
)

const (
	maxHeader = 998 // bytes of a value: a line's limit in RFC 5322
)

// letter is a mail, ready to be sent.
type letter struct {
	from string
	to   []string
	text []byte
}

// written is what a message itself says of its mail: by a transform's headers, or
// with json = "mail" by its payload.
type written struct {
	Subject *string   `json:"subject"`
	Text    *string   `json:"text"`
	HTML    *string   `json:"html"`
	To      addresses `json:"to"`
	Cc      addresses `json:"cc"`
	Bcc     addresses `json:"bcc"`
	ReplyTo addresses `json:"reply_to"`
}

// addresses is one address or a list of them.
type addresses []string

func (l *addresses) UnmarshalJSON(b []byte) error {
	if string(b) == "null" {
		return nil // as if it were not there, like the texts
	}
	var one string
	if json.Unmarshal(b, &one) == nil {
		*l = addresses{one}
		return nil
	}
	return json.Unmarshal(b, (*[]string)(l))
}

// compose makes the mail of a message. The error says why there can't be one.
func (m *mailbox) compose(msg *transport.Message) (*letter, error) {
	if msg.ID == "" {
		return nil, errors.New("the message has no id, which its Message-ID is made of")
	}
	out := gomail.NewMsg(gomail.WithNoDefaultUserAgent())
	own, err := m.headers(out, msg)
	if err != nil {
		return nil, err
	}
	if err := m.body(out, msg, own); err != nil {
		return nil, err
	}
	subject := m.subject.text(msg)
	if own.Subject != nil {
		subject = *own.Subject
	}
	if err := value("subject", subject); err != nil {
		return nil, err
	}
	out.Subject(subject)
	to, err := m.addressees(own)
	if err != nil {
		return nil, err
	}
	out.FromMailAddress(m.from)
	for name, header := range map[string]gomail.AddrHeader{"to": gomail.HeaderTo, "cc": gomail.HeaderCc, "reply_to": gomail.HeaderReplyTo} {
		if len(to[name]) > 0 {
			out.SetAddrHeaderFromMailAddress(header, to[name]...)
		}
	}
	if len(to["to"])+len(to["cc"]) == 0 {
		out.SetGenHeaderPreformatted(gomail.Header(gomail.HeaderTo), "undisclosed-recipients:;")
	}
	delete(to, "reply_to")
	l := &letter{from: m.sender, to: envelope(to)}
	switch n := len(l.to); {
	case n == 0:
		return nil, errors.New("the message names no recipient, and neither do the transport's settings")
	case n > maxRecipients:
		return nil, fmt.Errorf("the message has %d recipients; %d are allowed", n, maxRecipients)
	}
	text := bytes.NewBuffer(make([]byte, 0, 2<<10+len(msg.Payload)*3/2))
	if _, err := out.WriteTo(text); err != nil {
		return nil, errors.New("the mail could not be composed")
	}
	l.text = text.Bytes()
	return l, nil
}

// envelope lists each recipient once.
func envelope(to map[string][]*mail.Address) (out []string) {
	for _, name := range []string{"to", "cc", "bcc"} {
		for _, a := range to[name] {
			if b := bare(a); !slices.Contains(out, b) {
				out = append(out, b)
			}
		}
	}
	return out
}

// headers sets those that Hookline makes and those of the transform, of which some
// are taken out: what belongs into the envelope, and the subject.
func (m *mailbox) headers(out *gomail.Msg, msg *transport.Message) (*written, error) {
	own := new(written)
	if err := target.HeaderCount(msg); err != nil {
		return nil, err
	}
	seen := make(map[string]bool, len(msg.Headers))
	for _, name := range slices.Sorted(maps.Keys(msg.Headers)) {
		if err := target.HeaderName(name); err != nil {
			return nil, err
		}
		v, lower := msg.Headers[name], strings.ToLower(name)
		switch {
		case reserved(lower):
			return nil, fmt.Errorf("the transform set header %s, which Hookline or the mail itself sets; remove it from the script", name)
		case seen[lower]:
			return nil, fmt.Errorf("the transform set header %s twice; names do not differ by case", name)
		}
		seen[lower] = true
		if err := value("header "+name, v); err != nil {
			return nil, err
		}
		switch lower {
		case "subject":
			own.Subject = &v
		case "to":
			own.To = split(v)
		case "cc":
			own.Cc = split(v)
		case "bcc":
			own.Bcc = split(v)
		case "reply-to":
			own.ReplyTo = split(v)
		default:
			out.SetGenHeader(gomail.Header(name), v)
		}
	}
	for _, h := range [...]struct{ name, value string }{
		{"webhook-id", msg.ID}, {"hookline-event-id", msg.EventID}, {"traceparent", msg.TraceParent},
	} {
		if h.value == "" {
			continue
		}
		if err := value(h.name, h.value); err != nil {
			return nil, err
		}
		out.SetGenHeader(gomail.Header(h.name), h.value)
	}
	out.SetGenHeader("User-Agent", "Hookline/"+m.version)
	out.SetGenHeader("Auto-Submitted", "auto-generated") // RFC 3834: nobody's out-of-office notice comes back
	out.SetMessageIDWithValue(messageID(msg.ID) + m.from.Address[strings.LastIndexByte(m.from.Address, '@'):])
	at := msg.ReceivedAt
	if at.IsZero() {
		at = time.Now()
	}
	out.SetDateWithValue(at.UTC())
	return own, nil
}

// split parts a list of addresses; one that can't be parted is refused later.
func split(list string) addresses {
	parsed, err := mail.ParseAddressList(list)
	if err != nil {
		return addresses{list}
	}
	out := make(addresses, len(parsed))
	for i, a := range parsed {
		out[i] = a.String()
	}
	return out
}

// reserved tells whether Hookline, the mail's form or a server on its way owns a
// header. name is in lower case.
func reserved(name string) bool {
	switch name {
	case "from", "sender", "date", "message-id", "mime-version", "auto-submitted", "user-agent",
		"received", "return-path", "dkim-signature", "authentication-results":
		return true
	}
	for _, prefix := range []string{"content-", "resent-", "arc-", "received-"} {
		if strings.HasPrefix(name, prefix) {
			return true
		}
	}
	return transport.OwnHeader(name)
}

// value refuses what could end a header or hide in it.
func value(what, v string) error {
	if target.HasControl(v) || !utf8.ValidString(v) || strings.ContainsAny(v, "\u0085\u2028\u2029") {
		return fmt.Errorf("the %s has a line break, a control character or is not UTF-8", what)
	}
	if len(v) > maxHeader {
		return fmt.Errorf("the %s has %d bytes; %d are allowed", what, len(v), maxHeader)
	}
	return nil
}

// messageID is the left side of a Message-ID: the id as it is if it may stand there.
func messageID(id string) string {
	odd := strings.ContainsFunc(id, func(c rune) bool {
		return (c|0x20 < 'a' || c|0x20 > 'z') && (c < '0' || c > '9') && c != '-' && c != '_'
	})
	if !odd && len(id) <= 128 {
		return id
	}
	sum := sha256.Sum256([]byte(id))
	return hex.EncodeToString(sum[:])
}

// addressees are those of the settings, or for each list those that the message
// names, if they are allowed.
func (m *mailbox) addressees(own *written) (map[string][]*mail.Address, error) {
	out := maps.Clone(m.to)
	out["reply_to"] = m.replyTo
	for name, list := range map[string]addresses{"to": own.To, "cc": own.Cc, "bcc": own.Bcc, "reply_to": own.ReplyTo} {
		if list == nil {
			continue
		}
		out[name] = nil
		for i, s := range list {
			a, rule := address(s)
			switch {
			case rule != "":
				return nil, fmt.Errorf("address %d of the message's %s %s", i+1, name, rule)
			case name != "reply_to" && !m.allows(a):
				return nil, fmt.Errorf("address %d of the message's %s is not one that allow_recipients lists", i+1, name)
			}
			out[name] = append(out[name], a)
		}
	}
	return out, nil
}

// body puts the payload into the mail: text and HTML as what is read, all else as an
// attachment, unless the settings say otherwise for JSON.
func (m *mailbox) body(out *gomail.Msg, msg *transport.Message, own *written) error {
	kind, params := "application/json", map[string]string{}
	if msg.ContentType != "" {
		var err error
		if kind, params, err = mime.ParseMediaType(msg.ContentType); err != nil || !strings.Contains(kind, "/") {
			return errors.New("the message's content type is not one (type/subtype)")
		}
	}
	delete(params, "name") // an attachment gets ours
	charset := gomail.WithPartCharset(gomail.CharsetUTF8)
	if cs := params["charset"]; cs != "" {
		if !httpguts.ValidHeaderFieldName(cs) {
			return errors.New("the charset of the message's content type is not a name")
		}
		charset = gomail.WithPartCharset(gomail.Charset(cs))
	}
	isJSON := kind == "application/json" || strings.HasSuffix(kind, "+json")
	switch {
	case kind == "text/plain":
		out.SetBodyString(gomail.TypeTextPlain, string(msg.Payload), charset)
	case kind == "text/html":
		out.SetBodyString(gomail.TypeTextHTML, string(msg.Payload), charset)
	case isJSON && m.json == jsonInline:
		out.SetBodyString(gomail.TypeTextPlain, string(msg.Payload))
	case isJSON && m.json == jsonMail:
		return m.write(out, msg, own)
	default:
		contentType := mime.FormatMediaType(kind, params)
		if contentType == "" {
			return errors.New("the message's content type is not one (type/subtype)")
		}
		out.SetBodyString(gomail.TypeTextPlain, m.text.text(msg))
		out.AttachReadSeeker("message"+extension(kind, isJSON), bytes.NewReader(msg.Payload), gomail.WithFileContentType(gomail.ContentType(contentType)))
	}
	return nil
}

// extension is that of an attachment's name. It does not ask the system, whose
// answers differ.
func extension(kind string, isJSON bool) string {
	switch {
	case isJSON:
		return ".json"
	case kind == "application/xml" || kind == "text/xml" || strings.HasSuffix(kind, "+xml"):
		return ".xml"
	case kind == "text/csv":
		return ".csv"
	case kind == "application/pdf":
		return ".pdf"
	}
	return ".bin"
}

// write reads the mail that the payload describes.
func (m *mailbox) write(out *gomail.Msg, msg *transport.Message, own *written) error {
	var w written
	dec := json.NewDecoder(bytes.NewReader(msg.Payload))
	dec.DisallowUnknownFields()
	if err := dec.Decode(&w); err != nil {
		return errors.New(`with json = "mail" the payload must be an object with no more than subject, text, html, to, cc, bcc and reply_to, which are texts or lists of addresses`)
	}
	if _, err := dec.Token(); !errors.Is(err, io.EOF) {
		return errors.New("the payload must be one JSON object, nothing may follow it")
	}
	for _, both := range []struct {
		name      string
		mine, its bool
	}{
		{"subject", w.Subject != nil, own.Subject != nil}, {"to", w.To != nil, own.To != nil}, {"cc", w.Cc != nil, own.Cc != nil},
		{"bcc", w.Bcc != nil, own.Bcc != nil}, {"reply_to", w.ReplyTo != nil, own.ReplyTo != nil},
	} {
		if both.mine && both.its {
			return fmt.Errorf("the transform set %s by a header and in the payload; remove one of them", both.name)
		}
	}
	switch {
	case w.Text == nil && w.HTML == nil:
		return errors.New("the payload has neither text nor html")
	case w.HTML == nil:
		out.SetBodyString(gomail.TypeTextPlain, *w.Text)
	case w.Text == nil:
		out.SetBodyString(gomail.TypeTextHTML, *w.HTML)
	default: // the best comes last (RFC 2046 5.1.4)
		out.SetBodyString(gomail.TypeTextPlain, *w.Text)
		out.AddAlternativeString(gomail.TypeTextHTML, *w.HTML)
	}
	for _, c := range []struct{ from, to *addresses }{{&w.To, &own.To}, {&w.Cc, &own.Cc}, {&w.Bcc, &own.Bcc}, {&w.ReplyTo, &own.ReplyTo}} {
		if *c.from != nil {
			*c.to = *c.from
		}
	}
	if w.Subject != nil {
		own.Subject = w.Subject
	}
	return nil
}
