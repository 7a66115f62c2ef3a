package http_test

import (
	"encoding/json"
	"io"
	"net"
	nethttp "net/http"
	"os"
	"sync"
	"testing"

	"github.com/hookline/hookline/plugins/conformance"
	"github.com/hookline/hookline/plugins/http"
	"github.com/hookline/hookline/plugins/target/targettest"
	"github.com/hookline/hookline/plugins/transport"
)

const conformanceSecret = "correct-horse-battery"

func TestConformance(t *testing.T) {
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	conformance.Test(t, conformance.Subject{
		New:     func() transport.Transport { return http.New() },
		Command: []string{exe, "plugin"},
		Target:  newSystem,
		States:  []conformance.State{conformance.Down, conformance.Slow, conformance.Rejecting},
		Secret:  conformanceSecret,
		Bad: []conformance.BadSettings{
			{Name: "no url", Settings: json.RawMessage(`{}`)},
			{Name: "another scheme", Settings: json.RawMessage(`{"url":"ftp://127.0.0.1/"}`), Field: "url"},
			{Name: "a password in the url", Settings: json.RawMessage(`{"url":"http://u:hunter2@127.0.0.1/"}`), Field: "url", Hidden: "hunter2"},
			{Name: "a signing secret that is none", Settings: json.RawMessage(`{"url":"http://127.0.0.1/","signing_secrets":["hunter2"]}`), Field: "signing_secrets[0]", Hidden: "hunter2"},
			{Name: "two kinds of credentials", Settings: json.RawMessage(`{"url":"http://127.0.0.1/","username":"u","password":"hunter2","bearer_token":"hunter3"}`), Field: "bearer_token", Hidden: "hunter2"},
		},
	})
}

// system is an HTTP server on a port of its own, which it keeps while it is down.
type system struct {
	tb      testing.TB
	address string

	mu       sync.Mutex
	state    conformance.State
	server   *nethttp.Server
	received [][]byte
	hanging  chan struct{}
	serving  sync.WaitGroup
}

func newSystem(tb testing.TB) conformance.Target {
	s := &system{tb: tb, address: targettest.ClosedAddr(tb), hanging: make(chan struct{})}
	s.Set(conformance.Up)
	tb.Cleanup(func() {
		close(s.hanging)
		s.Set(conformance.Down)
		s.serving.Wait()
	})
	return s
}

func (s *system) Settings() json.RawMessage {
	out, _ := json.Marshal(map[string]string{
		"url": "http://" + s.address + "/trialkit", "username": "hookline", "password": conformanceSecret,
	})
	return out
}

func (s *system) Set(state conformance.State) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.state = state
	if state == conformance.Down {
		if s.server != nil {
			_ = s.server.Close()
			s.server = nil
		}
		return
	}
	if s.server != nil {
		return
	}
	l, err := net.Listen("tcp", s.address)
	if err != nil {
		s.tb.Fatal(err)
	}
	s.address = l.Addr().String()
	server := &nethttp.Server{Handler: s}
	s.server = server
	s.serving.Go(func() { _ = server.Serve(l) })
}

func (s *system) ServeHTTP(w nethttp.ResponseWriter, r *nethttp.Request) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return
	}
	s.mu.Lock()
	state := s.state
	if state == conformance.Up {
		s.received = append(s.received, body)
	}
	s.mu.Unlock()
	switch state {
	case conformance.Slow:
		<-s.hanging
	case conformance.Rejecting:
		w.WriteHeader(nethttp.StatusUnprocessableEntity)
	}
}

func (s *system) Received() [][]byte {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([][]byte(nil), s.received...)
}
