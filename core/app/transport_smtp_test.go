//go:build unix

package app_test

import (
	"encoding/base64"
	"errors"
	"strings"
	"testing"

	"github.com/hookline/hookline/plugins/smtp/postfix"
	"github.com/hookline/hookline/plugins/target/targettest"
	"github.com/hookline/hookline/plugins/transport"
)

// What TrialKit sends lies in a mailbox of Postfix, which asked for TLS and a password.
func TestSMTP(t *testing.T) {
	a, err := targettest.NewAuthority(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	cert, key, err := a.Leaf("mail")
	if err != nil {
		t.Fatal(err)
	}
	s, err := postfix.Start(postfix.Options{Password: ehrPassword, CertFile: cert, KeyFile: key})
	if errors.Is(err, postfix.ErrMissing) {
		targettest.Missing(t, "Postfix", err.Error())
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Stop)
	d := start(t, preamble+`
[transports.mail]
plugin = "smtp"
[transports.mail.settings]
address = "`+s.Addr+`"
username = "`+postfix.User+`"
password = "env:EHR_PASSWORD"
from = "Hookline <hookline@`+postfix.Domain+`>"
to = ["in-desk@`+postfix.Domain+`"]
tls = { ca_file = "`+a.CAFile+`" }
[routes.mail]
hooks = ["demo"]
transport = "mail"
`)
	body := event("319")
	answer := d.send(call{body: body})
	if answer.status != 200 || answer.Code != transport.Delivered {
		t.Fatalf("answer %d %s", answer.status, answer.body)
	}
	mails, err := s.Mails("desk")
	if err != nil || len(mails) != 1 {
		t.Fatalf("%d mails, %v", len(mails), err)
	}
	text := string(mails[0].Text)
	for _, want := range []string{"\nSubject: Hookline: update on demo\n", "\nhookline-event-id: " + answer.EventID + "\n", "\nAuto-Submitted: auto-generated\n"} {
		if !strings.Contains(text, want) {
			t.Errorf("no %q in %s", want, text)
		}
	}
	if attached := base64.StdEncoding.EncodeToString(body); !strings.Contains(strings.ReplaceAll(text, "\n", ""), attached) {
		t.Errorf("what was sent is not attached: %s", text)
	}
}
