package smtp_test

import (
	"encoding/base64"
	"encoding/json"
	"io"
	"mime/quotedprintable"
	"os"
	"strings"
	"testing"

	"github.com/hookline/hookline/plugins/conformance"
	"github.com/hookline/hookline/plugins/smtp"
	"github.com/hookline/hookline/plugins/smtp/postfix"
	"github.com/hookline/hookline/plugins/transport"
)

func TestConformance(t *testing.T) {
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	postfixes := start(t)
	otherCA, _, _ := authority(t)
	with := func(more obj) func(conformance.Target) json.RawMessage {
		return func(to conformance.Target) json.RawMessage {
			s := to.(*mailServer)
			raw, _ := json.Marshal(s.server.settings(s.name, more))
			return raw
		}
	}
	const need = `"address":"127.0.0.1","from":"a@example.org","to":["b@example.org"]`
	conformance.Test(t, conformance.Subject{
		New:     func() transport.Transport { return smtp.New() },
		Command: []string{exe, "plugin"},
		Target: func(tb testing.TB) conformance.Target {
			m := &mailServer{tb: tb, server: postfixes, name: name()}
			tb.Cleanup(func() { m.Set(conformance.Up) })
			return m
		},
		States: []conformance.State{conformance.Down, conformance.Slow, conformance.Rejecting},
		Secret: password,
		Faults: []conformance.Fault{
			{Name: "a wrong password", Settings: with(obj{"password": "hunter2"}), Effect: transport.None, Codes: []transport.Code{transport.UnauthorizedByTarget}},
			{Name: "a missing password", Settings: func(to conformance.Target) json.RawMessage {
				s := to.(*mailServer)
				settings := s.server.settings(s.name)
				delete(settings, "username")
				delete(settings, "password")
				raw, _ := json.Marshal(settings)
				return raw
			}, Effect: transport.None, Codes: []transport.Code{transport.RejectedByTarget}},
			{Name: "an unknown authority", Settings: with(obj{"tls": obj{"ca_file": otherCA}}), Effect: transport.None, Codes: []transport.Code{transport.TLSError}},
			{Name: "TLS on the plain port", Settings: with(obj{"security": "tls"}), Effect: transport.None, Codes: []transport.Code{transport.TLSError}},
			{Name: "a mailbox that is not there", Settings: with(obj{"to": []string{"nobody@" + postfix.Domain}}), Effect: transport.None, Codes: []transport.Code{transport.NotFoundAtTarget}},
			{Name: "a foreign domain", Settings: with(obj{"to": []string{"a@example.org"}}), Effect: transport.None, Codes: []transport.Code{transport.RejectedByTarget}},
			{Name: "a mail that is too large", Message: func(m *transport.Message) { m.Payload = make([]byte, postfix.SizeLimit) },
				Effect: transport.None, Codes: []transport.Code{transport.RejectedByTarget}},
		},
		Bad: []conformance.BadSettings{
			{Name: "nobody to send to", Settings: json.RawMessage(`{"address":"127.0.0.1","from":"a@example.org"}`), Field: "to"},
			{Name: "no TLS to another machine", Settings: json.RawMessage(`{"address":"192.0.2.1","security":"none","from":"a@example.org","to":["b@example.org"]}`), Field: "security"},
			{Name: "a line break in an address", Settings: json.RawMessage(`{"address":"127.0.0.1","from":"a@example.org","to":["hunter2\r\nBcc: c@example.org"]}`), Field: "to[0]", Hidden: "hunter2"},
			{Name: "a password without a user", Settings: json.RawMessage(`{` + need + `,"password":"hunter2"}`), Field: "username", Hidden: "hunter2"},
			{Name: "a placeholder that is none", Settings: json.RawMessage(`{` + need + `,"subject":":hunter"}`), Field: "subject", Hidden: "hunter"},
		},
	})
}

// mailServer is a mailbox of the Postfix, and what it answers for it.
type mailServer struct {
	tb     testing.TB
	server *server
	name   string
	wait   chan struct{} // not nil while it is slow
}

func (m *mailServer) Settings() json.RawMessage {
	raw, _ := json.Marshal(m.server.settings(m.name))
	return raw
}

func (m *mailServer) Set(state conformance.State) {
	if m.wait != nil {
		close(m.wait)
		m.wait = nil
	}
	m.server.on(m.name, nil)
	switch state {
	case conformance.Down:
		m.server.Kill()
		return
	case conformance.Slow: // it has the mail, and is asked whether it wants it
		wait := make(chan struct{})
		m.wait = wait
		m.server.on(m.name, func() string { <-wait; return "dunno" })
	case conformance.Rejecting:
		m.server.on(m.name, func() string { return "550 5.7.1 not wanted" })
	}
	if err := m.server.Up(); err != nil {
		m.tb.Fatal(err)
	}
}

func (m *mailServer) Received() (out [][]byte) {
	mails, err := m.server.Mails(m.name)
	if err != nil {
		m.tb.Fatal(err)
	}
	for _, one := range mails {
		_, parts := read(m.tb, one.Text)
		out = append(out, []byte(parts["message.json"]))
	}
	return out
}

func decode(t testing.TB, encoding string, body io.Reader) string {
	t.Helper()
	switch strings.ToLower(encoding) {
	case "base64":
		body = base64.NewDecoder(base64.StdEncoding, body)
	case "quoted-printable":
		body = quotedprintable.NewReader(body)
	}
	text, err := io.ReadAll(body)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}
