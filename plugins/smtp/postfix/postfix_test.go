package postfix_test

import (
	"errors"
	"fmt"
	"net/smtp"
	"strings"
	"testing"

	"go.uber.org/goleak"

	"github.com/hookline/hookline/plugins/smtp/postfix"
	"github.com/hookline/hookline/plugins/target/targettest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// What was confirmed survives a kill, is read in order, and each mail once.
func TestKeepsWhatItConfirmed(t *testing.T) {
	s, err := postfix.Start(postfix.Options{})
	if errors.Is(err, postfix.ErrMissing) {
		targettest.Missing(t, "Postfix", err.Error())
	}
	if err != nil {
		t.Fatal(err)
	}
	defer s.Stop()
	for n := range 5 {
		text := fmt.Sprintf("Subject: %d\r\n\r\nhello\r\n", n)
		if err := smtp.SendMail(s.Addr, nil, "in-sender@hookline.test", []string{"in-a@hookline.test", "in-b@hookline.test"}, []byte(text)); err != nil {
			t.Fatal(err, s.Log())
		}
	}
	s.Kill()
	if err := s.Up(); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"a", "b"} {
		mails, err := s.Mails(name)
		if err != nil || len(mails) != 5 {
			t.Fatal(len(mails), err, s.Log())
		}
		for n, m := range mails {
			if !strings.Contains(string(m.Text), fmt.Sprintf("\nSubject: %d\n", n)) {
				t.Errorf("mail %d: %s", n, m.Text)
			}
		}
	}
	if mails, err := s.Mails("c"); len(mails) != 0 || err != nil {
		t.Error(len(mails), err)
	}
}
