package ingest

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/hookline/hookline/core"
	"github.com/hookline/hookline/plugins/transport"
)

func TestKeepAliveAndPipelining(t *testing.T) {
	s := start(t, Options{}, scripted())
	p := s.dial(t)
	good := basic(email, password)
	for range 3 {
		p.send(post("demo", "", insert)) // the challenge leaves the connection open
		p.want(http.StatusUnauthorized, core.Unauthorized)
		p.send(post("hashed", good, insert))
		p.want(http.StatusOK, core.Ignored)
		p.send(post("demo", good, "{}"))
		p.want(http.StatusBadRequest, core.InvalidBody)
		p.send(post("demo", good, strings.Repeat(" ", 1<<20+1)))
		if status, _ := p.code(); status != http.StatusRequestEntityTooLarge {
			t.Fatalf("status %d", status)
		}
		p.closed() // the body is still under way
		p = s.dial(t)
	}
	p.send(post("unrouted", "", insert))
	p.send(post("strict", "", insert))
	p.want(http.StatusOK, core.Ignored)
	p.want(http.StatusUnprocessableEntity, core.Unmatched)
}

// A caller whose chunks are too large is told so before it has sent them all.
func TestTooLargeOnItsWay(t *testing.T) {
	s := start(t, Options{MaxBody: 16, BodyTimeout: 2 * patience}, scripted())
	p := s.dial(t)
	p.send("POST /hooks/demo HTTP/1.1\nHost: h\n" + basic(email, password) + "Transfer-Encoding: chunked\n\n11\r\n" + strings.Repeat(" ", 17) + "\r\n")
	p.want(http.StatusRequestEntityTooLarge, core.TooLarge)
	p.closed()
}

func TestExpectContinue(t *testing.T) {
	s := start(t, Options{}, scripted())
	p := s.dial(t)
	p.send(strings.TrimSuffix(post("demo", basic(email, password)+"Expect: 100-continue\n", insert), insert))
	if line, _ := p.buf.ReadString('\n'); line != "HTTP/1.1 100 Continue\r\n" {
		t.Fatalf("%q", line)
	}
	p.buf.ReadString('\n')
	io.WriteString(p, insert)
	// The record 436 is a code that no plugin may answer.
	p.want(http.StatusBadGateway, transport.PluginProtocol)
}

func TestBodyAndTraceAreKept(t *testing.T) {
	const trace = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
	stall := newStall()
	close(stall.let)
	s := start(t, Options{}, &Set{Hooks: []Hook{hook("demo")}, Dispatcher: stall})
	p := s.dial(t)
	body := "\xef\xbb\xbf \n" + strings.Replace(insert, "436", `\u0034\u00336`, 1) + "\r\n "
	before := time.Now()
	p.send(post("demo", "Traceparent: "+trace+"\n", body))
	resp, _ := p.receive()
	ev := stall.await(t)
	if string(ev.Body) != body || ev.TraceParent != trace || ev.Hook.Name != "demo" || ev.ReceivedAt.Before(before.Add(-time.Second)) {
		t.Errorf("%+v", ev)
	}
	if resp.Header.Get("hookline-event-id") != ev.ID || resp.Header.Get("hookline-ref") != ev.Ref {
		t.Errorf("headers %v, event %s %s", resp.Header, ev.ID, ev.Ref)
	}
}

func TestTraceParent(t *testing.T) {
	const ids = "4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7"
	for in, want := range map[string]string{
		"00-" + ids + "-01":                  "00-" + ids + "-01",
		"00-" + ids + "-00":                  "00-" + ids + "-00",
		"cc-" + ids + "-03-extra":            "00-" + ids + "-01",
		"cc-" + ids + "-02":                  "00-" + ids + "-00",
		"":                                   "",
		"00-" + ids + "-01-extra":            "",
		"cc-" + ids + "-01.extra":            "",
		"ff-" + ids + "-01":                  "",
		"00-" + ids + "-0":                   "",
		"00-" + ids + "-0x":                  "",
		"00-" + strings.ToUpper(ids) + "-01": "",
		"00-" + strings.Repeat("0", 32) + "-00f067aa0ba902b7-01":       "",
		"00-4bf92f3577b34da6a3ce929d0e0e4736-" + "0000000000000000-01": "",
	} {
		if got := traceParent(http.Header{"Traceparent": {in}}); got != want {
			t.Errorf("%q: %q, want %q", in, got, want)
		}
	}
	if got := traceParent(http.Header{"Traceparent": {"00-" + ids + "-01", "00-" + ids + "-01"}}); got != "" {
		t.Errorf("two headers: %q", got)
	}
}

func TestSlowCallers(t *testing.T) {
	s := start(t, Options{HeaderTimeout: 50 * time.Millisecond, BodyTimeout: 50 * time.Millisecond, IdleTimeout: 50 * time.Millisecond}, scripted())
	t.Run("headers", func(t *testing.T) {
		p := s.dial(t)
		io.WriteString(p, "POST /hooks/demo HTTP/1.1\r\nHost:")
		p.closed()
	})
	t.Run("idle", func(t *testing.T) {
		p := s.dial(t)
		p.send("GET /healthz HTTP/1.1\nHost: h\n\n")
		p.receive()
		p.closed()
	})
	for name, head := range map[string]string{
		"body":    "POST /hooks/strict HTTP/1.1\nHost: h\nContent-Length: 100\n\n{",
		"chunks":  "POST /hooks/strict HTTP/1.1\nHost: h\nTransfer-Encoding: chunked\n\n1\r\n{\r\n",
		"expects": "POST /hooks/strict HTTP/1.1\nHost: h\nContent-Length: 100\nExpect: 100-continue\n\n",
	} {
		t.Run(name, func(t *testing.T) {
			p := s.dial(t)
			p.send(head)
			resp, body := p.receive()
			if resp.StatusCode == http.StatusContinue {
				resp, body = p.receive()
			}
			if resp.StatusCode != http.StatusBadRequest || !strings.Contains(body, "server.body_timeout is 50ms") {
				t.Errorf("%d %s", resp.StatusCode, body)
			}
			p.closed()
		})
	}
	t.Run("refused body", func(t *testing.T) {
		p := s.dial(t)
		p.send("POST /hooks/demo HTTP/1.1\nHost: h\nContent-Length: 100\n\n{")
		p.want(http.StatusUnauthorized, core.Unauthorized)
		p.closed()
	})
	t.Run("half a body", func(t *testing.T) {
		p := s.dial(t)
		p.send("POST /hooks/strict HTTP/1.1\nHost: h\nContent-Length: 100\n\n{")
		p.Conn.(interface{ CloseWrite() error }).CloseWrite()
		if _, body := p.receive(); !strings.Contains(body, "the body ended after 1 of 100 bytes") {
			t.Error(body)
		}
	})
}

func TestCallerHangsUp(t *testing.T) {
	stall, gone := newStall(), make(chan struct{})
	kept := &record{inner: stall}
	s := start(t, Options{}, &Set{Hooks: []Hook{hook("demo")}, Dispatcher: kept}, func(s *Server) {
		s.watches.noticed = func() { close(gone) }
	})
	p := s.dial(t)
	p.send(post("demo", "", insert))
	stall.await(t)
	p.Close()
	await(t, gone, "the hang-up")
	close(stall.let) // the delivery had gone on
	kept.eventually(t, "the record", func() bool { return len(kept.answered) == 1 && kept.answered[0].Gone > 0 })
	line := s.log.await(t, "caller hung up after", "before the budget of 15s", "level=WARN")
	for _, want := range []string{"event=", "waited=", "budget=15s", "code=ignored", "hook=demo"} {
		if !strings.Contains(line, want) {
			t.Errorf("no %s in %s", want, line)
		}
	}
}

// A caller that only closes its sending side still gets its answer.
func TestCallerClosesHalf(t *testing.T) {
	stall := newStall()
	s := start(t, Options{}, &Set{Hooks: []Hook{hook("demo")}, Dispatcher: stall})
	p := s.dial(t)
	p.send(post("demo", "", insert))
	stall.await(t)
	p.Conn.(interface{ CloseWrite() error }).CloseWrite()
	close(stall.let)
	p.want(http.StatusOK, core.Ignored)
}

func TestPanicIsAnswered(t *testing.T) {
	const secret = "record contents"
	s := start(t, Options{Ready: func() error { panic(errors.New(secret)) }}, &Set{
		Hooks:      []Hook{hook("demo")},
		Dispatcher: dispatch{f: func(*core.Event) []core.Outcome { panic(secret) }},
	})
	p := s.dial(t)
	p.send(post("demo", "", insert))
	resp, body := p.receive()
	if resp.StatusCode != 500 || resp.Header.Get("Content-Type") != "application/problem+json" ||
		!strings.Contains(body, `"code":"internal"`) || !strings.Contains(body, "It may have been received") {
		t.Errorf("%d %s", resp.StatusCode, body)
	}
	p.send("GET /readyz HTTP/1.1\nHost: h\n\n") // on the same connection
	p.want(http.StatusInternalServerError, core.Internal)
	line := s.log.await(t, "level=ERROR", "panicked", "server_test.go")
	if strings.Contains(s.log.String(), secret) {
		t.Errorf("the log quotes the panic: %s", line)
	}
}

func TestOverload(t *testing.T) {
	stall := newStall()
	s := start(t, Options{MaxInFlight: 2}, &Set{Hooks: []Hook{hook("demo")}, Dispatcher: stall})
	var busy [2]*peer
	for i := range busy {
		busy[i] = s.dial(t)
		busy[i].send(post("demo", "", insert))
		stall.await(t)
	}
	p := s.dial(t)
	p.send(post("demo", "", insert))
	resp, body := p.receive()
	if resp.StatusCode != 503 || resp.Header.Get("Retry-After") != "1" || !strings.Contains(body, `"code":"overloaded"`) ||
		!strings.Contains(body, "server.max_in_flight is 2") {
		t.Errorf("%v %s", resp, body)
	}
	close(stall.let)
	for _, b := range busy {
		b.want(http.StatusOK, core.Ignored)
	}
	p.send(post("demo", "", insert))
	p.want(http.StatusOK, core.Ignored)
}

// With a journal nothing is refused for want of room: it is queued.
func TestOverloadIsQueued(t *testing.T) {
	stall := newStall()
	kept := &record{inner: stall}
	s := start(t, Options{MaxInFlight: 2}, &Set{Hooks: []Hook{hook("demo")}, Dispatcher: kept})
	var busy [2]*peer
	for i := range busy {
		busy[i] = s.dial(t)
		busy[i].send(post("demo", "", insert))
		stall.await(t)
	}
	for range 10 {
		p := s.dial(t)
		p.send(post("demo", "", insert))
		p.want(http.StatusAccepted, core.Accepted)
	}
	close(stall.let)
	for _, b := range busy {
		b.want(http.StatusOK, core.Ignored)
	}
}

// One that waits for room to be queued gets it when a stop begins: there is room of its
// own for what comes then.
func TestDrainingEndsTheWaitForRoom(t *testing.T) {
	stall := newStall()
	s := start(t, Options{MaxInFlight: 1}, &Set{Hooks: []Hook{hook("demo")}, Dispatcher: &record{inner: stall}})
	busy, slow, late := s.dial(t), s.dial(t), s.dial(t)
	busy.send(post("demo", "", insert))
	stall.await(t)
	head, body, _ := strings.Cut(post("demo", "", insert), "\n\n")
	slow.send(head + "\n\n") // the one place beyond MaxInFlight
	for len(s.overflow) == 0 {
		s.dial(t).Close()
	}
	late.send(post("demo", "", insert))
	for range 100 { // it is waiting by then
		p := s.dial(t)
		p.send("GET /healthz HTTP/1.1\nHost: h\n\n")
		p.want(http.StatusOK, "")
		p.Close()
	}
	drained := make(chan error, 1)
	go func() { drained <- s.Drain(t.Context()) }()
	late.want(http.StatusAccepted, core.Accepted)
	slow.send(body)
	slow.want(http.StatusAccepted, core.Accepted)
	close(stall.let)
	busy.want(http.StatusOK, core.Ignored)
	if err := <-drained; err != nil {
		t.Error(err)
	}
}

func TestDrainingQueues(t *testing.T) {
	stall := newStall()
	s := start(t, Options{}, &Set{Hooks: []Hook{hook("demo")}, Dispatcher: &record{inner: stall}})
	busy, kept, probe := s.dial(t), s.dial(t), s.dial(t)
	kept.send("GET /healthz HTTP/1.1\nHost: h\n\n")
	kept.receive()
	busy.send(post("demo", "", insert))
	stall.await(t)
	drained := make(chan error, 1)
	go func() { drained <- s.Drain(t.Context()) }()
	for draining := false; !draining; {
		probe.send("GET /readyz HTTP/1.1\nHost: h\n\n")
		_, body := probe.receive()
		draining = strings.Contains(body, "draining")
	}
	kept.send(post("demo", "", insert))
	if resp, body := kept.receive(); resp.StatusCode != 202 || !resp.Close {
		t.Errorf("%v %s", resp, body)
	}
	close(stall.let)
	busy.want(http.StatusOK, core.Ignored)
	if err := <-drained; err != nil {
		t.Error(err)
	}
}

func TestRefusedBodiesAreKept(t *testing.T) {
	kept := &record{}
	s := start(t, Options{}, &Set{Hooks: []Hook{hook("demo", password)}, Dispatcher: kept})
	p := s.dial(t)
	p.send(post("demo", basic(email, "wrong"), "{}")) // a stranger fills no journal
	p.want(http.StatusUnauthorized, core.Unauthorized)
	p.send(post("demo", basic(email, password), `{"form_id":"319","OnInsert":true}`))
	p.want(http.StatusBadRequest, core.InvalidBody)
	kept.eventually(t, "the record", func() bool {
		return len(kept.answered) == 1 && kept.answered[0].Status == 400 && len(kept.refused) == 1 &&
			kept.refused[0] == `invalid_event trans_id trans_id is missing: {"form_id":"319","OnInsert":true}`
	})
	if len(kept.arrivals) != 0 {
		t.Error("what is refused was dispatched")
	}
}

func TestCallersKey(t *testing.T) {
	kept := &record{}
	s := start(t, Options{}, &Set{Hooks: []Hook{hook("demo")}, Dispatcher: kept})
	p := s.dial(t)
	for header, want := range map[string]string{
		"":                                    "",
		"webhook-id: msg_1\n":                 "msg_1",
		"Idempotency-Key:  a b \n":            "a b",
		"webhook-id: x\nidempotency-key: y\n": "x",
	} {
		p.send(post("demo", header, insert))
		p.want(http.StatusAccepted, core.Accepted)
		if got := kept.arrivals[len(kept.arrivals)-1].Key; got != want {
			t.Errorf("%q: key %q, want %q", header, got, want)
		}
	}
	for _, header := range []string{"webhook-id:\n", "webhook-id: é\n", "webhook-id: a\nwebhook-id: b\n", "idempotency-key: " + strings.Repeat("k", 257) + "\n"} {
		p.send(post("demo", header, insert))
		p.want(http.StatusBadRequest, core.InvalidBody)
	}
	kept.err = fmt.Errorf("hooks.demo: %w", core.ErrKeyConflict)
	p.send(post("demo", "webhook-id: x\n", insert))
	p.want(http.StatusConflict, core.KeyConflict)
	kept.eventually(t, "the record", func() bool { return len(kept.refused) == 1 && strings.HasPrefix(kept.refused[0], "key_conflict ") })
}

func TestJournalUnavailable(t *testing.T) {
	kept := &record{err: errors.New("the disk is full: free some space")}
	s := start(t, Options{}, &Set{Hooks: []Hook{hook("demo")}, Dispatcher: kept})
	p := s.dial(t)
	p.send(post("demo", "", insert))
	resp, body := p.receive()
	if resp.StatusCode != 503 || resp.Header.Get("Retry-After") == "" || !strings.Contains(body, `"code":"journal_unavailable"`) || strings.Contains(body, "disk") {
		t.Errorf("%v %s", resp, body)
	}
	s.log.await(t, "level=WARN", "journal_unavailable", "the disk is full: free some space")
	kept.mu.Lock()
	kept.err = fmt.Errorf("the connection was lost: %w", core.ErrUnsure)
	kept.mu.Unlock()
	p.send(post("demo", "", insert))
	if resp, body := p.receive(); resp.StatusCode != 503 || !strings.Contains(body, "it may not have been passed on") {
		t.Errorf("unsure: %v %s", resp, body)
	}
	kept.mu.Lock()
	kept.err = nil
	kept.mu.Unlock()
	p.send(post("demo", "", insert))
	p.want(http.StatusAccepted, core.Accepted)
}

func TestReadiness(t *testing.T) {
	var failing atomic.Bool
	s := start(t, Options{Ready: func() error {
		if failing.Load() {
			return errors.New("transports.ehr: no process")
		}
		return nil
	}}, nil)
	p := s.dial(t)
	ask := func(path string, status int, want string) {
		t.Helper()
		p.send("GET " + path + " HTTP/1.1\nHost: h\n\n")
		if resp, body := p.receive(); resp.StatusCode != status || !strings.Contains(body, want) {
			t.Errorf("%s: %d %s", path, resp.StatusCode, body)
		}
	}
	ask("/healthz", 200, "ok")
	ask("/readyz", 503, "starting")
	p.send(post("demo", "", insert))
	p.want(http.StatusServiceUnavailable, core.Overloaded)
	s.Use(&Set{Hooks: []Hook{hook("demo")}, Dispatcher: ignore})
	ask("/readyz", 200, "ready")
	failing.Store(true)
	ask("/readyz", 503, "transports.ehr: no process")
	ask("/healthz", 200, "ok")
}

func TestDrain(t *testing.T) {
	stall := newStall()
	s := start(t, Options{}, &Set{Hooks: []Hook{hook("demo")}, Dispatcher: stall})
	busy, kept, probe := s.dial(t), s.dial(t), s.dial(t)
	kept.send("GET /healthz HTTP/1.1\nHost: h\n\n")
	kept.receive()
	busy.send(post("demo", "", insert))
	stall.await(t)

	drained := make(chan error, 1)
	go func() { drained <- s.Drain(t.Context()) }()
	for draining := false; !draining; {
		probe.send("GET /readyz HTTP/1.1\nHost: h\n\n")
		_, body := probe.receive()
		draining = strings.Contains(body, "draining")
	}
	kept.send(post("demo", "", insert))
	resp, body := kept.receive()
	if resp.StatusCode != 503 || !resp.Close || resp.Header.Get("Retry-After") == "" || !strings.Contains(body, `"code":"draining"`) {
		t.Errorf("%v %s", resp, body)
	}
	kept.closed()
	select {
	case err := <-drained:
		t.Fatalf("drained with an event under way: %v", err)
	default:
	}
	close(stall.let)
	busy.want(http.StatusOK, core.Ignored)
	if err := <-drained; err != nil {
		t.Error(err)
	}
	if err := s.Drain(t.Context()); err != nil {
		t.Errorf("again: %v", err)
	}
	if l, err := net.Listen("tcp", "127.0.0.1:0"); err != nil {
		t.Error(err)
	} else if err := s.Serve(l); err != nil {
		t.Errorf("serve afterwards: %v", err)
	}
}

func TestDrainIsBounded(t *testing.T) {
	stall := newStall()
	s := start(t, Options{}, &Set{Hooks: []Hook{hook("demo")}, Dispatcher: stall})
	p := s.dial(t)
	p.send(post("demo", "", insert))
	stall.await(t)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := s.Drain(ctx); err == nil || !strings.Contains(err.Error(), "1 events were still under way") {
		t.Errorf("%v", err)
	}
	p.closed()
	close(stall.let)
	last := s.Use(nil)
	await(t, last, "the event's end")
	if strings.Contains(s.log.String(), "hung up") {
		t.Error("the caller is blamed for what Drain did")
	}
}

// Under load, a set that is reported drained is never used again, and no request
// is refused for a reload.
func TestSetsAreSwappedUnderLoad(t *testing.T) {
	type counted struct {
		dispatch
		busy, after atomic.Int64
		drained     atomic.Bool
	}
	fresh := func() (*counted, *Set) {
		c := new(counted)
		c.f = func(*core.Event) []core.Outcome {
			c.busy.Add(1)
			if c.drained.Load() {
				c.after.Add(1)
			}
			c.busy.Add(-1)
			return nil
		}
		return c, &Set{Hooks: []Hook{hook("demo")}, Dispatcher: c}
	}
	current, set := fresh()
	s := start(t, Options{Log: quietLog()}, set)
	stop := make(chan struct{})
	var callers sync.WaitGroup
	for range 4 {
		p := s.dial(t)
		callers.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				p.send(post("demo", "", insert))
				if resp, body := p.receive(); resp.StatusCode != 200 {
					t.Errorf("%d %s", resp.StatusCode, body)
					return
				}
			}
		})
	}
	var all []*counted
	for range 200 {
		next, set := fresh()
		await(t, s.Use(set), "draining the set before")
		current.drained.Store(true)
		if n := current.busy.Load(); n != 0 {
			t.Errorf("drained with %d events under way", n)
		}
		all = append(all, current)
		current = next
	}
	close(stop)
	callers.Wait()
	for _, c := range all {
		if c.after.Load() != 0 {
			t.Error("a set was used after it was drained")
		}
	}
}

func TestProfileIsLoggedOnce(t *testing.T) {
	s := start(t, Options{}, scripted())
	p := s.dial(t)
	p.send(post("demo", "", insert))
	p.receive()
	for range 2 {
		p.send(post("demo", "User-Agent: TrialKit\n"+basic(email, password), insert))
		p.receive()
	}
	s.Use(scripted())
	p.send(post("demo", basic(email, password), insert))
	p.receive()
	line := s.log.await(t, "first call of a hook", "hook=demo")
	for _, want := range []string{"method=POST", "proto=HTTP/1.1", "content_type=application/json", "user_agent=TrialKit", "challenge_first=true", "body=length", "remote=127.0.0.1"} {
		if !strings.Contains(line, want) {
			t.Errorf("no %s in %s", want, line)
		}
	}
	if n := strings.Count(s.log.String(), "first call of a hook"); n != 1 {
		t.Errorf("%d profiles", n)
	}
}

func TestMedia(t *testing.T) {
	for _, c := range []struct {
		key, value string
		ok         bool
	}{
		{"Content-Type", "", true},
		{"Content-Type", "application/json", true},
		{"Content-Type", "application/x-www-form-urlencoded", true},
		{"Content-Type", "application/json; charset=UTF-8", true},
		{"Content-Type", `text/json;Charset="us-ascii"; v=1`, true},
		{"Content-Type", "application/json; charset", true}, // malformed: the body decides
		{"Content-Type", "application/json; charset=utf-16", false},
		{"Content-Type", "application/json; charset=iso-8859-1", false},
		{"Content-Encoding", "identity", true},
		{"Content-Encoding", " ", true},
		{"Content-Encoding", "gzip", false},
		{"Content-Encoding", "identity, gzip", false},
	} {
		f := media(http.Header{c.key: {c.value}})
		if (f == nil) != c.ok {
			t.Errorf("%s: %q: %+v", c.key, c.value, f)
		}
		if f != nil && (f.code != core.UnsupportedMediaType || f.hint == "") {
			t.Errorf("%s: %q: %+v", c.key, c.value, f)
		}
	}
}

func TestHookName(t *testing.T) {
	for path, want := range map[string]string{"/hooks/demo": "demo", "/hooks/demo/": "demo", "/hooks/": "", "/hooks/a/b": "a/b"} {
		if got, ok := hookName(path); !ok || got != want {
			t.Errorf("%s: %q %v", path, got, ok)
		}
	}
	for _, path := range []string{"", "/", "/hooks", "/hook/demo", "//hooks/demo"} {
		if got, ok := hookName(path); ok {
			t.Errorf("%s: %q", path, got)
		}
	}
}

func TestRelayed(t *testing.T) {
	tr := &core.Transport{Name: "t", Label: "T"}
	reply, other := &core.Route{Name: "reply", Transport: tr}, &core.Route{Name: "other", Transport: tr}
	got := func(status int, state core.State, truncated bool, others core.State) bool {
		outcomes := []core.Outcome{
			{Route: other, State: others, Code: transport.TargetError},
			{Route: reply, State: state, Code: transport.RejectedByTarget, Receipt: transport.Receipt{TargetStatus: status, Truncated: truncated}},
		}
		hook := &core.Hook{Name: "h", Reply: "reply"}
		answer := core.Compose(&core.Event{Hook: hook}, outcomes)
		return relayed(hook, outcomes, &answer) != nil
	}
	const ok, dead, unknown = core.StateDelivered, core.StateDead, core.StateUnknown
	for _, c := range []struct {
		status    int
		state     core.State
		truncated bool
		others    core.State
		want      bool
	}{
		{200, ok, false, ok, true},
		{299, ok, false, core.StateSkipped, true},
		{200, ok, true, ok, false},
		{200, unknown, false, ok, false},
		{200, ok, false, dead, false}, // the other route's failure must be told
		{400, dead, false, dead, true},
		{599, unknown, false, ok, true},
		{0, dead, false, ok, false}, {-1, dead, false, ok, false}, {100, dead, false, ok, false}, {199, dead, false, ok, false},
		{304, dead, false, ok, false}, {401, dead, false, ok, false}, {407, dead, false, ok, false}, {600, dead, false, ok, false},
	} {
		if got := got(c.status, c.state, c.truncated, c.others); got != c.want {
			t.Errorf("%+v: relayed %v", c, got)
		}
	}
	if relayed(&core.Hook{Reply: "gone"}, nil, &core.Answer{}) != nil || relayed(&core.Hook{}, nil, &core.Answer{}) != nil {
		t.Error("relayed without an outcome")
	}
}
