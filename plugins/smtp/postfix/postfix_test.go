package postfix_test

import (
	"net/smtp"
	"testing"

	"github.com/hookline/hookline/plugins/smtp/postfix"
)

func TestTry(t *testing.T) {
	s, err := postfix.Start(postfix.Options{Policy: func(a map[string]string) string { t.Log(a); return "dunno" }})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Stop()
	for range 3 {
		if err := smtp.SendMail(s.Addr, nil, "a@hookline.test", []string{"in-x@hookline.test"}, []byte("Subject: x\r\n\r\nhello\r\n")); err != nil {
			t.Fatal(err, s.Log())
		}
	}
	s.Kill()
	if err := s.Up(); err != nil {
		t.Fatal(err)
	}
	m, err := s.Mails("x")
	if err != nil || len(m) != 3 {
		t.Fatal(m, err, s.Log())
	}
	t.Log(string(m[0].Text), s.Log())
}
