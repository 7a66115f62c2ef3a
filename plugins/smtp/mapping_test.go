package smtp_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/hookline/hookline/plugins/smtp"
	"github.com/hookline/hookline/plugins/smtp/postfix"
	"github.com/hookline/hookline/plugins/target/targettest"
	"github.com/hookline/hookline/plugins/transport"
)

func TestMeaning(t *testing.T) {
	for _, c := range []struct {
		step   string
		code   int
		status string
		want   transport.Code
	}{
		{"MAIL FROM", 421, "", transport.ThrottledByTarget},
		{"greeting", 421, "4.3.2", transport.ThrottledByTarget},
		{"RCPT TO", 450, "4.2.1", transport.ThrottledByTarget},
		{"RCPT TO", 452, "4.5.3", transport.ThrottledByTarget},
		{"AUTH", 432, "4.3.2", transport.ThrottledByTarget},
		{"after the mail", 452, "", transport.ThrottledByTarget},
		{"RCPT TO", 450, "4.2.0", transport.TargetError},
		{"after the mail", 451, "4.3.0", transport.TargetError},
		{"AUTH", 454, "4.7.0", transport.TargetError},
		{"AUTH", 535, "5.7.8", transport.UnauthorizedByTarget},
		{"AUTH", 504, "", transport.UnauthorizedByTarget},
		{"MAIL FROM", 530, "5.7.0", transport.UnauthorizedByTarget},
		{"RCPT TO", 550, "5.1.1", transport.NotFoundAtTarget},
		{"RCPT TO (recipient 2 of 3, so none gets it)", 550, "5.1.10", transport.NotFoundAtTarget},
		{"RCPT TO", 550, "", transport.NotFoundAtTarget},
		{"RCPT TO", 551, "", transport.NotFoundAtTarget},
		{"RCPT TO", 550, "5.7.1", transport.RejectedByTarget},
		{"RCPT TO", 554, "5.7.1", transport.RejectedByTarget},
		{"MAIL FROM", 550, "5.1.8", transport.RejectedByTarget},
		{"MAIL FROM", 552, "5.3.4", transport.RejectedByTarget},
		{"after the mail", 550, "5.7.1", transport.RejectedByTarget},
		{"DATA", 250, "", transport.BadResponse},
		{"after the mail", 354, "", transport.BadResponse},
	} {
		if got := smtp.Meaning(c.step, c.code, c.status); got != c.want {
			t.Errorf("%s: %d %s is %s, want %s", c.step, c.code, c.status, got, c.want)
		}
	}
}

func plain(addr string, more ...obj) obj {
	s := obj{"address": addr, "security": "none", "from": "a@example.org", "to": []string{"b@example.org"}}
	for _, m := range more {
		for k, v := range m {
			s[k] = v
		}
	}
	return s
}

// Where an attempt ends decides what may have happened: the final dot is the border.
func TestEnds(t *testing.T) {
	for name, c := range map[string]struct {
		d      dialogue
		effect transport.Effect
		code   transport.Code
		status int
	}{
		"turned away":           {dialogue{"connect": "554 5.7.1 secret"}, transport.None, transport.RejectedByTarget, 554},
		"too busy":              {dialogue{"connect": "421 4.3.2 secret"}, transport.None, transport.ThrottledByTarget, 421},
		"no greeting":           {dialogue{"connect": "close"}, transport.None, transport.ConnectionReset, 0},
		"another protocol":      {dialogue{"connect": "HTTP/1.1 400 secret"}, transport.None, transport.BadResponse, 0},
		"sender refused":        {dialogue{"MAIL": "550 5.1.8 secret"}, transport.None, transport.RejectedByTarget, 550},
		"a password is wanted":  {dialogue{"MAIL": "530 5.7.0 secret"}, transport.None, transport.UnauthorizedByTarget, 530},
		"recipient unknown":     {dialogue{"RCPT": "550 5.1.1 secret"}, transport.None, transport.NotFoundAtTarget, 550},
		"greylisted":            {dialogue{"RCPT": "450 4.2.0 secret"}, transport.None, transport.TargetError, 450},
		"closed at RCPT":        {dialogue{"RCPT": "close"}, transport.None, transport.ConnectionReset, 0},
		"DATA refused":          {dialogue{"DATA": "451 4.3.0 secret"}, transport.None, transport.TargetError, 451},
		"closed at DATA":        {dialogue{"DATA": "close"}, transport.None, transport.ConnectionReset, 0},
		"mail taken":            {dialogue{}, transport.Done, transport.Delivered, 250},
		"mail refused":          {dialogue{".": "554 5.7.1 secret"}, transport.None, transport.RejectedByTarget, 554},
		"mail too large":        {dialogue{".": "552 5.3.4 secret"}, transport.None, transport.RejectedByTarget, 552},
		"disk full":             {dialogue{".": "452 4.3.1 secret"}, transport.None, transport.ThrottledByTarget, 452},
		"closed after the mail": {dialogue{".": "close"}, transport.Unknown, transport.ConnectionReset, 0},
		"nonsense after it":     {dialogue{".": "secret"}, transport.Unknown, transport.BadResponse, 0},
		"another answer to it":  {dialogue{".": "220 secret"}, transport.Unknown, transport.BadResponse, 220},
		"no end of answers":     {dialogue{".": strings.Repeat("250-"+strings.Repeat("x", 996)+"\r\n", 1100) + "250 ok"}, transport.Unknown, transport.BadResponse, 0},
		"silence at MAIL":       {dialogue{"MAIL": ""}, transport.None, transport.Timeout, 0},
		"silence after it":      {dialogue{".": ""}, transport.Unknown, transport.Timeout, 0},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			addr, _ := fake(t, c.d)
			tr := configured(t, plain(addr))
			ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
			if c.code == transport.Timeout {
				cancel()
				ctx, cancel = context.WithTimeout(t.Context(), 300*time.Millisecond)
			}
			defer cancel()
			want(t, tr.Deliver(ctx, message()), c.effect, c.code, c.status)
		})
	}
}

// One recipient refused: the transaction is taken back before the mail, and the
// connection serves the next one.
func TestAllOrNothing(t *testing.T) {
	s := start(t)
	a, b := name(), name()
	tr := configured(t, s.settings(a, obj{"to": []string{address(a), "nobody@" + postfix.Domain, address(b)}, "max_connections": 1}))
	r := deliver(t, tr, message())
	want(t, r, transport.None, transport.NotFoundAtTarget, 550)
	if !strings.Contains(r.Detail, "recipient 2 of 3") || strings.Contains(r.Detail, "nobody") {
		t.Errorf("detail: %s", r.Detail)
	}
	if !strings.Contains(string(r.Body), "5.1.1") {
		t.Errorf("the server's answer is not in the body: %q", r.Body)
	}
	if c := tr.Check(t.Context()); c.Code != transport.NotFoundAtTarget {
		t.Errorf("check: %s %s", c.Code, c.Detail)
	}
	for _, n := range []string{a, b} {
		if mails, err := s.Mails(n); err != nil || len(mails) != 0 {
			t.Errorf("%d mails, %v", len(mails), err)
		}
	}
	addr, heard := fake(t, dialogue{"RCPT": "550 5.1.1 no"})
	tr = configured(t, plain(addr))
	for range 2 {
		want(t, deliver(t, tr, message()), transport.None, transport.NotFoundAtTarget, 550)
	}
	var commands []string
	for _, line := range heard() {
		command, _, _ := strings.Cut(line, " ")
		commands = append(commands, command)
	}
	if got := strings.Join(commands, " "); got != "EHLO MAIL RCPT RSET MAIL RCPT RSET" {
		t.Errorf("commands: %s", got)
	}
}

// A connection that the server ended while it was kept costs nothing.
func TestKeptConnectionEnded(t *testing.T) {
	s := start(t)
	n := name()
	tr := configured(t, s.settings(n))
	want(t, deliver(t, tr, message()), transport.Done, transport.Delivered, 250)
	s.Kill()
	want(t, deliver(t, tr, message()), transport.None, transport.ConnectionRefused, 0)
	if err := s.Up(); err != nil {
		t.Fatal(err)
	}
	want(t, deliver(t, tr, message()), transport.Done, transport.Delivered, 250)
	s.Kill()
	if err := s.Up(); err != nil {
		t.Fatal(err)
	}
	want(t, deliver(t, tr, message()), transport.Done, transport.Delivered, 250)
	if mails, err := s.Mails(n); err != nil || len(mails) != 3 {
		t.Errorf("%d mails, %v", len(mails), err)
	}
}

// What a real Postfix answers to a mail it has read.
func TestAnswersOfPostfix(t *testing.T) {
	s := start(t)
	for _, c := range []struct {
		action string
		code   transport.Code
		status int
	}{
		{"450 4.7.1 later", transport.TargetError, 450},
		{"452 4.3.1 no space", transport.ThrottledByTarget, 452},
		{"421 4.3.2 goodbye", transport.ThrottledByTarget, 421},
		{"554 5.7.1 spam", transport.RejectedByTarget, 554},
		{"dunno", transport.Delivered, 250},
	} {
		n := name()
		s.on(n, func() string { return c.action })
		tr := configured(t, s.settings(n))
		effect := transport.None
		if c.code == transport.Delivered {
			effect = transport.Done
		}
		for range 2 { // the second one over the same connection, if it is left
			want(t, deliver(t, tr, message()), effect, c.code, c.status)
		}
	}
}

// Every mechanism, over both kinds of TLS; and a Check that tells of the certificate.
func TestAuthentication(t *testing.T) {
	s := start(t)
	for _, auth := range []string{"auto", "plain", "login", "scram-sha-1", "scram-sha-256"} {
		for security, addr := range map[string]string{"starttls": s.Addr, "tls": s.TLSAddr} {
			n := name()
			tr := configured(t, s.settings(n, obj{"auth": auth, "security": security, "address": addr}))
			r := tr.Check(t.Context())
			if r.Effect != transport.Done || !strings.Contains(r.Detail, "certificate expires on 20") {
				t.Errorf("%s %s: check: %s %s", auth, security, r.Code, r.Detail)
			}
			want(t, deliver(t, tr, message()), transport.Done, transport.Delivered, 250)
			wrong := configured(t, s.settings(n, obj{"auth": auth, "security": security, "address": addr, "password": "hunter2"}))
			want(t, deliver(t, wrong, message()), transport.None, transport.UnauthorizedByTarget, 535)
		}
	}
	want(t, deliver(t, configured(t, s.settings(name(), obj{"auth": "xoauth2"})), message()), transport.None, transport.UnauthorizedByTarget, 0)
	// The server's certificate is for 127.0.0.1.
	want(t, deliver(t, configured(t, s.settings(name(), obj{"tls": obj{"ca_file": s.ca, "server_name": "mail.example.org"}})), message()), transport.None, transport.TLSError, 0)
	want(t, deliver(t, configured(t, s.settings(name(), obj{"address": s.TLSAddr, "dial_timeout": "300ms"})), message()), transport.None, transport.Timeout, 0)
}

// XOAUTH2 as its authors describe it; no free server speaks it without a provider.
func TestXOAuth2(t *testing.T) {
	addr, heard := fake(t, dialogue{"EHLO": "250-hello\r\n250 AUTH PLAIN XOAUTH2", "AUTH": "235 2.7.0 ok"})
	tr := configured(t, plain(addr, obj{"auth": "xoauth2", "username": "u", "password": "token"}))
	want(t, deliver(t, tr, message()), transport.Done, transport.Delivered, 250)
	// base64 of "user=u\x01auth=Bearer token\x01\x01"
	if !slices.Contains(heard(), "AUTH XOAUTH2 dXNlcj11AWF1dGg9QmVhcmVyIHRva2VuAQE=") {
		t.Errorf("heard %q", heard())
	}
}

// Without TLS nothing leaves, neither a password nor a mail.
func TestNoTLSNoMail(t *testing.T) {
	addr, heard := fake(t, dialogue{"EHLO": "250-hello\r\n250 AUTH PLAIN"})
	tr := configured(t, obj{"address": addr, "username": "u", "password": password, "from": "a@example.org", "to": []string{"b@example.org"}})
	want(t, deliver(t, tr, message()), transport.None, transport.TLSError, 0)
	for _, line := range heard() {
		if !strings.HasPrefix(line, "EHLO ") {
			t.Errorf("it said %q", line)
		}
	}
	denied := configured(t, plain(addr, obj{"deny_addresses": []string{"127.0.0.0/8"}}))
	want(t, deliver(t, denied, message()), transport.None, transport.AddressDenied, 0)
}

// The answer to the mail gets lost on the way: the server has it, and the receipt
// must not say otherwise.
func TestAnswerLost(t *testing.T) {
	s := start(t)
	n := name()
	asked, let := make(chan struct{}), make(chan struct{})
	s.on(n, func() string { close(asked); <-let; return "dunno" })
	proxy := targettest.NewProxy(t, s.Addr)
	tr := configured(t, s.settings(n, obj{"address": proxy.Addr}))
	result := make(chan transport.Receipt, 1)
	go func() { result <- deliver(t, tr, message()) }()
	<-asked
	proxy.Down()
	want(t, <-result, transport.Unknown, transport.ConnectionReset, 0)
	close(let)
	for end := time.Now().Add(10 * time.Second); ; time.Sleep(10 * time.Millisecond) { // a pace for the loop
		mails, err := s.Mails(n)
		if err != nil {
			t.Fatal(err)
		}
		if len(mails) == 1 {
			return
		}
		if time.Now().After(end) {
			t.Fatal("Postfix did not take the mail")
		}
	}
}

// No more connections than max_connections; who waits in vain has sent nothing.
func TestConnections(t *testing.T) {
	addr, heard := fake(t, dialogue{".": ""})
	tr := configured(t, plain(addr, obj{"max_connections": 2}))
	ctx, cancel := context.WithTimeout(t.Context(), 500*time.Millisecond)
	defer cancel()
	results := make(chan transport.Receipt, 5)
	for range 5 {
		go func() { results <- tr.Deliver(ctx, message()) }()
	}
	count := map[string]int{}
	for range 5 {
		r := <-results
		count[fmt.Sprint(r.Effect, " ", r.Code)]++
	}
	if count["unknown timeout"] != 2 || count["none timeout"] != 3 {
		t.Errorf("%v", count)
	}
	greeted := 0
	for _, line := range heard() {
		if strings.HasPrefix(line, "EHLO") {
			greeted++
		}
	}
	if greeted != 2 {
		t.Errorf("%d connections", greeted)
	}
}

// A kept connection says goodbye when it has been idle for long, and at the end.
func TestIdle(t *testing.T) {
	addr, heard := fake(t, dialogue{})
	tr := configured(t, plain(addr, obj{"idle_timeout": "50ms"}))
	goodbyes := func(n int) {
		t.Helper()
		for end := time.Now().Add(10 * time.Second); ; time.Sleep(5 * time.Millisecond) { // a pace for the loop
			quits := 0
			for _, line := range heard() {
				if line == "QUIT" {
					quits++
				}
			}
			if quits == n {
				return
			}
			if time.Now().After(end) {
				t.Fatalf("%d goodbyes, want %d", quits, n)
			}
		}
	}
	want(t, deliver(t, tr, message()), transport.Done, transport.Delivered, 250)
	goodbyes(1)
	kept := configured(t, plain(addr, obj{"idle_timeout": "1h"}))
	want(t, deliver(t, kept, message()), transport.Done, transport.Delivered, 250)
	if err := kept.Close(); err != nil {
		t.Fatal(err)
	}
	goodbyes(2)
}

func TestNotConfigured(t *testing.T) {
	tr := smtp.New()
	want(t, deliver(t, tr, message()), transport.None, transport.ConnectionRefused, 0)
	want(t, tr.Check(t.Context()), transport.None, transport.ConnectionRefused, 0)
	if err := errors.Join(tr.Close(), tr.Close()); err != nil {
		t.Error(err)
	}
}
