package smtp_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"mime/multipart"
	"net/mail"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/hookline/hookline/plugins"
	"github.com/hookline/hookline/plugins/smtp"
	"github.com/hookline/hookline/plugins/smtp/postfix"
	"github.com/hookline/hookline/plugins/target/targettest"
	"github.com/hookline/hookline/plugins/transport"
)

func TestMain(m *testing.M) {
	if len(os.Args) == 2 && os.Args[1] == "plugin" { // the conformance suite's child
		plugins.Serve(smtp.New())
		return
	}
	goleak.VerifyTestMain(m)
}

type obj = map[string]any

const password = "correct-horse-battery"

// server is a Postfix that asks for TLS and a password, and its authority. A test
// decides what it answers to a mail.
type server struct {
	*postfix.Server
	ca string

	mu     sync.Mutex
	answer map[string]func() string // by recipient; what is missing is taken
}

// start starts a Postfix, which ends with the test. Without one on the machine the
// test is left out.
func start(t testing.TB) *server {
	t.Helper()
	s := &server{answer: map[string]func() string{}}
	var cert, key string
	s.ca, cert, key = authority(t)
	var err error
	s.Server, err = postfix.Start(postfix.Options{Password: password, CertFile: cert, KeyFile: key, Policy: s.decide})
	if errors.Is(err, postfix.ErrMissing) {
		targettest.Missing(t, "Postfix", err.Error())
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Stop)
	return s
}

func (s *server) decide(attributes map[string]string) string {
	s.mu.Lock()
	answer := s.answer[attributes["recipient"]]
	s.mu.Unlock()
	if answer == nil {
		return "dunno"
	}
	return answer()
}

// on lets the server answer so to mail for a name.
func (s *server) on(name string, answer func() string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.answer[address(name)] = answer
}

func address(name string) string { return "in-" + name + "@" + postfix.Domain }

var names atomic.Int64

// name is one that has not been used.
func name() string { return fmt.Sprintf("n%d", names.Add(1)) }

// settings reach the server and deliver to a name.
func (s *server) settings(name string, more ...obj) obj {
	out := obj{
		"address": s.Addr, "tls": obj{"ca_file": s.ca}, "username": postfix.User, "password": password,
		"from": "Hookline <hookline@hookline.test>", "to": []string{address(name)},
	}
	for _, m := range more {
		for k, v := range m {
			out[k] = v
		}
	}
	return out
}

func configured(t testing.TB, settings obj) *smtp.Transport {
	t.Helper()
	tr := smtp.New(smtp.WithVersion("1.2.3"))
	raw, err := json.Marshal(settings)
	if err != nil {
		t.Fatal(err)
	}
	if err := tr.Configure(t.Context(), raw); err != nil {
		t.Fatalf("configure: %v", err)
	}
	t.Cleanup(func() { _ = tr.Close() })
	return tr
}

const payloadText = `{"trans_id":"435","patient":"payload-secret"}`

func message() *transport.Message {
	return &transport.Message{
		ID: "0198c0de-0000-7000-8000-00000000000a", EventID: "0198c0de-0000-7000-8000-000000000001", DeliveryID: "d1", Attempt: 1,
		Hook: "abc-123", Route: "mail", Study: "ABC-123", Stage: "uat", Kind: "insert", Key: "k-7",
		ReceivedAt:  time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC),
		TraceParent: "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
		ContentType: "application/json", Payload: []byte(payloadText),
	}
}

// deliver makes one attempt with a deadline that only a hanging server meets.
func deliver(t testing.TB, tr *smtp.Transport, m *transport.Message) transport.Receipt {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	return tr.Deliver(ctx, m)
}

// want is targettest.Want, with what no detail may hold here.
func want(t testing.TB, r transport.Receipt, effect transport.Effect, code transport.Code, status int) {
	t.Helper()
	targettest.Want(t, r, effect, code, status, password)
}

// read parses a mail into its header and its parts by content type; a part that is an
// attachment stands under its name.
func read(t testing.TB, text []byte) (mail.Header, map[string]string) {
	t.Helper()
	m, err := mail.ReadMessage(strings.NewReader(string(text)))
	if err != nil {
		t.Fatalf("%v in %s", err, text)
	}
	parts := map[string]string{}
	var walk func(h map[string][]string, body io.Reader)
	walk = func(h map[string][]string, body io.Reader) {
		header := mail.Header(h)
		kind, params, err := mime.ParseMediaType(header.Get("Content-Type"))
		if err != nil {
			t.Fatalf("%v in %s", err, text)
		}
		if strings.HasPrefix(kind, "multipart/") {
			for r := multipart.NewReader(body, params["boundary"]); ; {
				p, err := r.NextRawPart()
				if errors.Is(err, io.EOF) {
					return
				}
				if err != nil {
					t.Fatalf("%v in %s", err, text)
				}
				walk(p.Header, p)
			}
		}
		if _, d, err := mime.ParseMediaType(header.Get("Content-Disposition")); err == nil && d["filename"] != "" {
			kind = d["filename"]
		}
		if _, twice := parts[kind]; twice {
			t.Fatalf("two parts %s in %s", kind, text)
		}
		parts[kind] = decode(t, header.Get("Content-Transfer-Encoding"), body)
	}
	walk(m.Header, m.Body)
	return m.Header, parts
}

// one reads the only mail of a name.
func (s *server) one(t testing.TB, name string) (mail.Header, map[string]string) {
	t.Helper()
	mails, err := s.Mails(name)
	if err != nil {
		t.Fatal(err)
	}
	if len(mails) != 1 {
		t.Fatalf("%d mails for %s, want one", len(mails), name)
	}
	return read(t, mails[0].Text)
}

// authority makes one whose files root's Postfix can read, and a server's certificate.
func authority(t testing.TB) (ca, cert, key string) {
	t.Helper()
	a, err := targettest.NewAuthority(t.TempDir())
	if err == nil {
		cert, key, err = a.Leaf("mail")
	}
	if err != nil {
		t.Fatal(err)
	}
	return a.CAFile, cert, key
}

func decodeWords(s string) (string, error) { return new(mime.WordDecoder).DecodeHeader(s) }
