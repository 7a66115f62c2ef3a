// Package node tests the plugin beside it, which is written in JavaScript, with the
// suite that every plugin must pass.
package node

import (
	"bytes"
	"encoding/json"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"

	"github.com/hookline/hookline/plugins/conformance"
	"github.com/hookline/hookline/plugins/transport"
)

// installed has what package.json asks for.
func installed(t *testing.T) (command string) {
	t.Helper()
	if _, err := exec.LookPath("node"); err != nil {
		t.Skip("!!! Node.js is not on this machine: its plugin is NOT tested. Install node and npm.")
	}
	if _, err := os.Stat("node_modules/@grpc/grpc-js"); err != nil {
		if out, err := exec.Command("npm", "ci", "--ignore-scripts").CombinedOutput(); err != nil {
			t.Fatalf("npm ci: %v\n%s", err, out)
		}
	}
	command, err := filepath.Abs("main.js")
	if err != nil {
		t.Fatal(err)
	}
	return command
}

func TestConformance(t *testing.T) {
	command := installed(t)
	for name, noMTLS := range map[string]bool{"AutoMTLS": false, "mtls = false": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			conformance.Test(t, conformance.Subject{
				Command: []string{command},
				NoMTLS:  noMTLS,
				Target:  newSystem,
				States:  []conformance.State{conformance.Down, conformance.Slow, conformance.Rejecting},
				Secret:  token,
				Bad: []conformance.BadSettings{
					{Name: "another scheme", Settings: json.RawMessage(`{"url":"ftp://127.0.0.1/"}`), Field: "url"},
				},
				Faults: []conformance.Fault{{
					Name: "a wrong token", Effect: transport.None, Codes: []transport.Code{transport.UnauthorizedByTarget},
					Settings: func(s conformance.Target) json.RawMessage { return s.(*system).with("wrong") },
				}},
			})
		})
	}
}

// The copy of the contract is the contract.
func TestProto(t *testing.T) {
	mine, err := os.ReadFile("transport.proto")
	if err != nil {
		t.Fatal(err)
	}
	theirs, err := os.ReadFile("../../plugins/transportpb/transport.proto")
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(mine, theirs) {
		t.Error("transport.proto is not plugins/transportpb/transport.proto: copy it again")
	}
}

const token = "correct-horse-battery"

// system is the target under the test's control.
type system struct {
	tb      testing.TB
	address string

	mu      sync.Mutex
	state   conformance.State
	server  *http.Server
	took    [][]byte
	release chan struct{}
	serving sync.WaitGroup
}

func newSystem(tb testing.TB) conformance.Target {
	s := &system{tb: tb, address: "127.0.0.1:0", release: make(chan struct{})}
	s.Set(conformance.Up)
	tb.Cleanup(func() {
		close(s.release)
		s.Set(conformance.Down)
		s.serving.Wait()
	})
	return s
}

func (s *system) with(token string) json.RawMessage {
	out, _ := json.Marshal(map[string]string{"url": "http://" + s.address, "token": token})
	return out
}

func (s *system) Settings() json.RawMessage { return s.with(token) }

func (s *system) Set(state conformance.State) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.state = state
	switch {
	case state == conformance.Down && s.server != nil:
		_ = s.server.Close()
		s.server = nil
	case state != conformance.Down && s.server == nil:
		l, err := net.Listen("tcp", s.address)
		if err != nil {
			s.tb.Fatal(err)
		}
		server := &http.Server{Handler: s}
		s.server, s.address = server, l.Addr().String()
		s.serving.Go(func() { _ = server.Serve(l) })
	}
}

func (s *system) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return
	}
	s.mu.Lock()
	state := s.state
	wanted := r.Header.Get("Authorization") == "Bearer "+token && state != conformance.Rejecting
	if wanted {
		s.took = append(s.took, body)
	}
	s.mu.Unlock()
	switch {
	case state == conformance.Rejecting:
		w.WriteHeader(http.StatusUnprocessableEntity)
	case !wanted:
		w.WriteHeader(http.StatusUnauthorized)
	case state == conformance.Slow:
		select {
		case <-s.release:
		case <-r.Context().Done():
		}
	}
}

func (s *system) Received() [][]byte {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([][]byte(nil), s.took...)
}
