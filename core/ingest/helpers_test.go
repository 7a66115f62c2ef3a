package ingest

import (
	"bufio"
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/hookline/hookline/core"
	"github.com/hookline/hookline/core/socket"
)

var update = flag.Bool("update", false, "write the golden files anew")

func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m)
}

// patience is for what must happen; no test waits for it in vain.
const patience = 20 * time.Second

// logbook is a log that a test can read and wait on.
type logbook struct {
	mu   sync.Mutex
	buf  bytes.Buffer
	more chan struct{}
}

func newLogbook() *logbook { return &logbook{more: make(chan struct{}, 1)} }

func (l *logbook) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	select {
	case l.more <- struct{}{}:
	default:
	}
	return l.buf.Write(p)
}

func (l *logbook) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.String()
}

// await returns the first line that holds all of words.
func (l *logbook) await(t *testing.T, words ...string) string {
	t.Helper()
	limit := time.After(patience)
	for {
	lines:
		for line := range strings.Lines(l.String()) {
			for _, w := range words {
				if !strings.Contains(line, w) {
					continue lines
				}
			}
			return line
		}
		select {
		case <-l.more:
		case <-limit:
			t.Fatalf("no line with %q in the log:\n%s", words, l)
		}
	}
}

func (l *logbook) logger() *slog.Logger {
	return slog.New(slog.NewTextHandler(l, &slog.HandlerOptions{Level: slog.LevelDebug}))
}

// bench is a running server.
type bench struct {
	*Server
	addr string
	log  *logbook
}

func start(t testing.TB, o Options, set *Set, tweak ...func(*Server)) *bench {
	t.Helper()
	b := &bench{log: newLogbook()}
	if o.Log == nil {
		o.Log = b.log.logger()
	}
	b.Server = New(o)
	for _, f := range tweak {
		f(b.Server)
	}
	if set != nil {
		b.Use(set)
	}
	b.addr = b.serve(t, "tcp://127.0.0.1:0").Addr().String()
	return b
}

// serve listens on url until the test ends.
func (b *bench) serve(t testing.TB, url string) net.Listener {
	t.Helper()
	l, err := socket.Listen(url, 0o660)
	if err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- b.Serve(l) }()
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		if err := b.Drain(ctx); err != nil && !b.cut.Load() {
			t.Errorf("drain: %v", err)
		}
		if err := <-ended; err != nil {
			t.Errorf("serve: %v", err)
		}
	})
	return l
}

// peer is the other end of a connection, that writes HTTP by hand.
type peer struct {
	net.Conn
	t   testing.TB
	buf *bufio.Reader
}

func (b *bench) dial(t testing.TB) *peer {
	t.Helper()
	return dial(t, "tcp", b.addr)
}

func dial(t testing.TB, network, addr string) *peer {
	t.Helper()
	conn, err := net.Dial(network, addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	conn.SetDeadline(time.Now().Add(patience))
	return &peer{conn, t, bufio.NewReader(conn)}
}

// send writes text with its line ends made HTTP's.
func (p *peer) send(text string) {
	p.t.Helper()
	if _, err := io.WriteString(p, crlf(text)); err != nil {
		p.t.Fatal(err)
	}
}

func crlf(text string) string {
	head, body, _ := strings.Cut(text, "\n\n")
	return strings.ReplaceAll(head, "\n", "\r\n") + "\r\n\r\n" + body
}

// receive reads one answer and its body.
func (p *peer) receive() (*http.Response, string) {
	p.t.Helper()
	resp, err := http.ReadResponse(p.buf, nil)
	if err != nil {
		p.t.Fatalf("no answer: %v", err)
	}
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		p.t.Fatalf("half an answer: %v", err)
	}
	return resp, string(body)
}

// code reads an answer and returns its status and code.
func (p *peer) code() (int, string) {
	p.t.Helper()
	resp, body := p.receive()
	var a struct{ Code string }
	if err := json.Unmarshal([]byte(body), &a); err != nil {
		p.t.Fatalf("not JSON: %s", body)
	}
	return resp.StatusCode, a.Code
}

func (p *peer) want(status int, code core.Code) {
	p.t.Helper()
	if s, c := p.code(); s != status || c != string(code) {
		p.t.Errorf("answer %d %s, want %d %s", s, c, status, code)
	}
}

// closed waits for the server to close the connection.
func (p *peer) closed() {
	p.t.Helper()
	if rest, err := io.ReadAll(p.buf); len(rest) > 0 {
		p.t.Errorf("more than an answer: %q, %v", rest, err)
	} else if ne := net.Error(nil); errors.As(err, &ne) && ne.Timeout() {
		p.t.Error("the connection stays open")
	}
}

const (
	email    = "trialkit@example.org"
	password = "correct horse"
	insert   = `{"trans_id":"436","form_id":"319","form_name":"Sample Form","OnInsert":true}`
)

func basic(email, password string) string {
	return "Authorization: Basic " + base64.StdEncoding.EncodeToString([]byte(email+":"+password)) + "\n"
}

// post is a whole request as TrialKit would send it.
func post(hook, headers, body string) string {
	return fmt.Sprintf("POST /hooks/%s HTTP/1.1\nHost: h\nContent-Type: application/json\n%sContent-Length: %d\n\n%s", hook, headers, len(body), body)
}

// forgetful is the part of a Dispatcher that has no journal.
type forgetful struct{}

func (forgetful) Refused(*core.Event, core.Code, string, string) {}
func (forgetful) Answered(*core.Event, core.AnswerRecord)        {}
func (forgetful) Keeps() bool                                    { return false }

// dispatch is a Dispatcher made of a function.
type dispatch struct {
	forgetful
	f func(ev *core.Event) []core.Outcome
}

func (d dispatch) Dispatch(a core.Arrival) (core.Result, error) {
	return core.Result{Outcomes: d.f(a.Event)}, nil
}

var ignore = dispatch{f: func(*core.Event) []core.Outcome { return nil }}

// record is a Dispatcher with a journal: what it is told is there to be looked at.
type record struct {
	inner    Dispatcher // nil: everything is accepted
	err      error
	mu       sync.Mutex
	arrivals []core.Arrival
	refused  []string
	answered []core.AnswerRecord
}

func (r *record) Dispatch(a core.Arrival) (core.Result, error) {
	r.mu.Lock()
	r.arrivals = append(r.arrivals, a)
	r.mu.Unlock()
	switch {
	case r.err != nil:
		return core.Result{}, r.err
	case a.Queue || r.inner == nil:
		route := &core.Route{Name: "ehr", Transport: &core.Transport{Name: "ehr", Label: "EHR"}}
		return core.Result{Outcomes: []core.Outcome{{Route: route, State: core.StateQueued, Code: core.Accepted}}}, nil
	}
	return r.inner.Dispatch(a)
}

func (r *record) Refused(ev *core.Event, code core.Code, key, rule string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.refused = append(r.refused, fmt.Sprintf("%s %s %s: %s", code, key, rule, ev.Body))
}

func (r *record) Answered(_ *core.Event, a core.AnswerRecord) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.answered = append(r.answered, a)
}

func (r *record) Keeps() bool { return true }

// eventually waits for what a caller cannot see: its answer comes before it is
// recorded.
func (r *record) eventually(t testing.TB, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(patience); ; time.Sleep(time.Millisecond) {
		r.mu.Lock()
		good := ok()
		r.mu.Unlock()
		if good {
			return
		}
		if time.Now().After(end) {
			t.Fatalf("%s: %q %+v", what, r.refused, r.answered)
		}
	}
}

func hook(name string, passwords ...string) Hook {
	h := Hook{Hook: &core.Hook{Name: name, Timeout: 15 * time.Second}, Email: email, Passwords: passwords}
	h.Anonymous = len(passwords) == 0
	return h
}

// stall is a dispatcher that holds its events until they are let go.
type stall struct {
	forgetful
	began chan *core.Event
	let   chan struct{}
}

func newStall() *stall {
	return &stall{began: make(chan *core.Event, 1024), let: make(chan struct{})}
}

func (s *stall) Dispatch(a core.Arrival) (core.Result, error) {
	s.began <- a.Event
	<-s.let
	return core.Result{}, nil
}

func (s *stall) await(t testing.TB) *core.Event {
	t.Helper()
	select {
	case ev := <-s.began:
		return ev
	case <-time.After(patience):
		t.Fatal("no event arrived")
		return nil
	}
}

func await(t testing.TB, c <-chan struct{}, what string) {
	t.Helper()
	select {
	case <-c:
	case <-time.After(patience):
		t.Fatalf("%s: not within %s", what, patience)
	}
}

var (
	uuids     = regexp.MustCompile(`[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[0-9a-f]{4}-[0-9a-f]{12}`)
	dates     = regexp.MustCompile(`Date: [^\r\n]+`)
	refs      = regexp.MustCompile(`((?:Reference |Hookline-Ref: |"ref":"))[0-9A-Z]{8}`)
	durations = regexp.MustCompile(`"duration_ms":\d+`)
	words     = regexp.MustCompile(`"detail":"(?:[^"\\]|\\.)*"(?:,"hint":"(?:[^"\\]|\\.)*")?`)
	lengths   = regexp.MustCompile(`Content-Length: \d{3,}`)
)

// steady takes out of an answer what differs from run to run.
func steady(s string) string {
	s = uuids.ReplaceAllString(s, "EVENT")
	s = dates.ReplaceAllString(s, "Date: DATE")
	s = refs.ReplaceAllString(s, "${1}REF")
	s = durations.ReplaceAllString(s, `"duration_ms":0`)
	if !strings.Contains(s, `"stage":"request"`) {
		s = words.ReplaceAllString(s, `"detail":"CORE'S"`) // its tests look at them
	}
	s = lengths.ReplaceAllString(s, "Content-Length: N")
	return strings.ReplaceAll(s, "\r\n", "\n")
}

// dump is an answer as text, with the headers in order.
func dump(resp *http.Response, body string) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s %s\n", resp.Proto, resp.Status)
	_ = resp.Header.Write(&b)
	if resp.Close {
		b.WriteString("Connection: close\n")
	}
	fmt.Fprintf(&b, "\n%s", strings.TrimSuffix(body, "\n"))
	return b.String()
}
