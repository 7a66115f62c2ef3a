package smtp_test

import (
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/hookline/hookline/plugins/smtp/postfix"
	"github.com/hookline/hookline/plugins/transport"
)

// What arrives in a mailbox of Postfix, for each kind of payload.
func TestMail(t *testing.T) {
	s := start(t)
	const text = "Grüße,\n.\n..two dots\nFrom here\n\tend \n"
	for name, c := range map[string]struct {
		settings obj
		change   func(m *transport.Message)
		subject  string
		parts    map[string]string
	}{
		"JSON attached": {nil, func(*transport.Message) {}, "Hookline: insert on abc-123", map[string]string{
			"text/plain":   "Hookline sends this event of the hook abc-123. Its data are in the attachment.\r\n\r\nEvent: 0198c0de-0000-7000-8000-000000000001",
			"message.json": payloadText,
		}},
		"JSON inline":    {obj{"json": "inline"}, func(*transport.Message) {}, "Hookline: insert on abc-123", map[string]string{"text/plain": payloadText}},
		"templates":      {obj{"subject": ":study:::stage :key é", "text": ":received_at"}, func(*transport.Message) {}, "ABC-123:uat k-7 é", map[string]string{"text/plain": "2026-01-02T03:04:05Z", "message.json": payloadText}},
		"text":           {nil, func(m *transport.Message) { m.ContentType, m.Payload = "text/plain; charset=utf-8", []byte(text) }, "Hookline: insert on abc-123", map[string]string{"text/plain": strings.ReplaceAll(text, "\n", "\r\n")}},
		"HTML":           {nil, func(m *transport.Message) { m.ContentType, m.Payload = "text/html", []byte("<p>é</p>") }, "Hookline: insert on abc-123", map[string]string{"text/html": "<p>é</p>"}},
		"another type":   {obj{"text": "x"}, func(m *transport.Message) { m.ContentType, m.Payload = "application/pdf", []byte("%PDF\r\n\x00\xff\n") }, "Hookline: insert on abc-123", map[string]string{"text/plain": "x", "message.pdf": "%PDF\r\n\x00\xff\n"}},
		"mail of a text": {obj{"json": "mail"}, func(m *transport.Message) { m.Payload = []byte(`{"text":"t"}`) }, "Hookline: insert on abc-123", map[string]string{"text/plain": "t"}},
		"mail of both": {obj{"json": "mail"}, func(m *transport.Message) {
			m.Payload = []byte(`{"subject":"S é","text":"t","html":"<b>t</b>"}`)
		}, "S é", map[string]string{"text/plain": "t", "text/html": "<b>t</b>"}},
		"headers of the transform": {nil, func(m *transport.Message) { m.Headers = map[string]string{"SUBJECT": "mine", "X-Site": "042"} }, "mine", map[string]string{
			"text/plain":   "Hookline sends this event of the hook abc-123. Its data are in the attachment.\r\n\r\nEvent: 0198c0de-0000-7000-8000-000000000001",
			"message.json": payloadText,
		}},
	} {
		t.Run(name, func(t *testing.T) {
			to := "mail-" + strings.ToLower(strings.ReplaceAll(name, " ", "-"))
			m := message()
			c.change(m)
			tr := configured(t, s.settings(to, c.settings))
			want(t, deliver(t, tr, m), transport.Done, transport.Delivered, 250)
			header, parts := s.one(t, to)
			// The mailbox has a line's end of its own after the last one.
			for kind, body := range parts {
				if _, attached := c.parts[kind]; attached && !strings.HasPrefix(kind, "message.") {
					parts[kind] = strings.TrimSuffix(strings.ReplaceAll(strings.ReplaceAll(body, "\r\n", "\n"), "\n", "\r\n"), "\r\n")
				}
			}
			for kind, body := range c.parts {
				if !strings.HasPrefix(kind, "message.") {
					c.parts[kind] = strings.TrimSuffix(body, "\r\n")
				}
			}
			if !maps.Equal(parts, c.parts) {
				t.Errorf("parts %q, want %q", parts, c.parts)
			}
			subject, err := decodeWords(header.Get("Subject"))
			if err != nil || subject != c.subject {
				t.Errorf("subject %q (%v), want %q", subject, err, c.subject)
			}
			for name, want := range map[string]string{
				"Message-Id": "<0198c0de-0000-7000-8000-00000000000a@hookline.test>", "Auto-Submitted": "auto-generated",
				"From": `"Hookline" <hookline@hookline.test>`, "To": "<" + address(to) + ">", "Return-Path": "<hookline@hookline.test>",
				"Date": "Fri, 02 Jan 2026 03:04:05 +0000", "Mime-Version": "1.0", "User-Agent": "Hookline/1.2.3",
				"Webhook-Id": m.ID, "Hookline-Event-Id": m.EventID, "Traceparent": m.TraceParent, "X-Site": m.Headers["X-Site"],
			} {
				if got := header.Get(name); got != want {
					t.Errorf("%s is %q, want %q", name, got, want)
				}
			}
		})
	}
}

// The recipients of the envelope, and what of them stands in the mail.
func TestRecipients(t *testing.T) {
	s := start(t)
	a, b, c, d := name(), name(), name(), name()
	only := []string{"@" + strings.ToUpper(postfix.Domain)}
	both := obj{"cc": []string{address(b)}, "bcc": []string{address(c), "C <" + address(c) + ">"}, "envelope_from": address(d), "reply_to": []string{"desk@example.org"}, "allow_recipients": only}
	m := message()
	want(t, deliver(t, configured(t, s.settings(a, both)), m), transport.Done, transport.Delivered, 250)
	for _, n := range []string{a, b, c} {
		h, _ := s.one(t, n)
		if h.Get("To") != "<"+address(a)+">" || h.Get("Cc") != "<"+address(b)+">" || h.Get("Bcc") != "" || h.Get("Reply-To") != "<desk@example.org>" || h.Get("Return-Path") != "<"+address(d)+">" {
			t.Errorf("%s: %q", n, h)
		}
	}
	// A message that names its own.
	e, f := name(), name()
	m.Headers = map[string]string{"to": "E <" + address(e) + ">, " + address(f), "Bcc": address(d)}
	want(t, deliver(t, configured(t, s.settings(a, obj{"allow_recipients": only})), m), transport.Done, transport.Delivered, 250)
	for _, n := range []string{d, e, f} {
		if h, _ := s.one(t, n); h.Get("To") != `"E" <`+address(e)+`>, <`+address(f)+`>` || h.Get("Bcc") != "" {
			t.Errorf("%s: %q", n, h)
		}
	}
	// Only Bcc.
	g := name()
	want(t, deliver(t, configured(t, s.settings(g, obj{"to": nil, "bcc": []string{address(g)}})), message()), transport.Done, transport.Delivered, 250)
	if h, _ := s.one(t, g); h.Get("To") != "undisclosed-recipients:;" {
		t.Errorf("%q", h)
	}
}

// What a message must not do is refused before anything is sent.
func TestRefusedMessages(t *testing.T) {
	addr, heard := fake(t, dialogue{})
	header := func(name, value string) func(*transport.Message) {
		return func(m *transport.Message) { m.Headers = map[string]string{name: value} }
	}
	payload := func(text string) func(*transport.Message) {
		return func(m *transport.Message) { m.Payload = []byte(text) }
	}
	mails := obj{"json": "mail", "allow_recipients": []string{"@example.org"}}
	for name, c := range map[string]struct {
		settings obj
		change   func(*transport.Message)
	}{
		"a line break in the subject":      {nil, header("Subject", "a\r\nBcc: secret@example.com")},
		"a line break in a header":         {nil, header("X-A", "a\nBcc: secret@example.com")},
		"another kind of line break":       {nil, header("X-A", "a\u2028secret")},
		"not UTF-8":                        {nil, header("X-A", "secret\xff")},
		"a line break in a name":           {nil, header("X-A\r\nBcc", "secret@example.com")},
		"a colon in a name":                {nil, header("Bcc: secret@example.com, X", "a")},
		"a line break in the key":          {obj{"subject": ":key"}, func(m *transport.Message) { m.Key = "secret\r\nBcc: x@example.com" }},
		"a line break in the event's id":   {nil, func(m *transport.Message) { m.EventID = "secret\r\nBcc: x@example.com" }},
		"another sender":                   {nil, header("From", "secret@example.com")},
		"another content type":             {nil, header("content-type", "secret")},
		"a header of a server":             {nil, header("ARC-Seal", "secret")},
		"a header of ours":                 {nil, header("Hookline-Event-Id", "secret")},
		"recipients where none may choose": {nil, header("To", "secret@example.org")},
		"a recipient elsewhere":            {mails, header("Bcc", "b@example.org, secret@example.com")},
		"a recipient below the domain":     {mails, header("To", "secret@sub.example.org")},
		"a recipient that is none":         {mails, header("To", "secret")},
		"a list in one address":            {mails, payload(`{"text":"t","to":"b@example.org, secret@example.org"}`)},
		"no recipient":                     {mails, payload(`{"text":"t","to":[],"subject":"secret"}`)},
		"a line break in the mail's own":   {mails, payload(`{"text":"t","subject":"secret\r\nBcc: x@example.com"}`)},
		"a line break in an address":       {mails, payload(`{"text":"t","to":"b@example.org>\r\nRCPT TO:<secret@example.com"}`)},
		"no text":                          {mails, payload(`{"subject":"secret"}`)},
		"an unknown field":                 {mails, payload(`{"text":"t","attachments":"secret"}`)},
		"not an object":                    {mails, payload(`["secret"]`)},
		"two of them":                      {mails, payload(`{"text":"t"} {"text":"secret"}`)},
		"a subject twice": {mails, func(m *transport.Message) {
			m.Headers, m.Payload = map[string]string{"subject": "secret"}, []byte(`{"text":"t","subject":"secret"}`)
		}},
		"no content type":           {nil, func(m *transport.Message) { m.ContentType = "secret" }},
		"a header in the type":      {nil, func(m *transport.Message) { m.ContentType = "text/plain\r\nX: secret" }},
		"a header in the charset":   {nil, func(m *transport.Message) { m.ContentType = "text/plain; charset=\"a\r\n b\"" }},
		"a charset that is no name": {nil, func(m *transport.Message) { m.ContentType = `text/plain; charset="secret; x"` }},
		"no id":                     {nil, func(m *transport.Message) { m.ID = "" }},
	} {
		m := message()
		c.change(m)
		r := deliver(t, configured(t, plain(addr, c.settings)), m)
		if r.Effect != transport.None || r.Code != transport.RejectedByTarget || r.TargetStatus != 0 || !strings.HasPrefix(r.Detail, "nothing was sent: ") {
			t.Errorf("%s: %s/%s %s", name, r.Code, r.Effect, r.Detail)
		}
		if strings.ContainsAny(r.Detail, "\r\n") || strings.Contains(strings.ReplaceAll(r.Detail, `"Bcc: secret@example.com, X"`, ""), "secret") {
			t.Errorf("%s: the detail tells what stood there: %q", name, r.Detail)
		}
	}
	if lines := heard(); len(lines) > 0 {
		t.Errorf("the server heard %q", lines)
	}
}

// A payload cannot end the mail and begin another (SMTP smuggling), nor a header's
// text leave its header.
func TestSmuggling(t *testing.T) {
	for _, payload := range []string{"a\r\n.\r\nMAIL FROM:<x@example.org>\r\n", "a\n.\nRCPT TO:<x@example.org>\n", "a\r.\rDATA\r", "a\n.\r\nRSET\r\n", "a\r\n.\nQUIT\n"} {
		for _, kind := range []string{"text/plain", "text/html", "text/csv", "application/json"} {
			addr, heard := fake(t, dialogue{})
			m := message()
			m.ContentType, m.Payload = kind, []byte(payload)
			want(t, deliver(t, configured(t, plain(addr)), m), transport.Done, transport.Delivered, 250)
			lines := heard()
			if dots := len(slices.DeleteFunc(slices.Clone(lines), func(l string) bool { return l != "." })); dots != 1 || lines[len(lines)-1] != "." {
				t.Errorf("%q as %s: %d lines end a mail: %q", payload, kind, dots, lines)
			}
			for _, l := range lines {
				if strings.ContainsRune(l, '\r') {
					t.Errorf("%q as %s: a bare CR in %q", payload, kind, l)
				}
			}
		}
	}
}
