package mllp_test

import (
	"encoding/json"
	"fmt"
	"hash/fnv"
	"os"
	"strings"
	"testing"

	"github.com/hookline/hookline/plugins/conformance"
	"github.com/hookline/hookline/plugins/mllp"
	"github.com/hookline/hookline/plugins/transport"
)

// The suite against python-hl7, an implementation of its own.
func TestConformance(t *testing.T) {
	if python() == "" {
		newReceiver(t) // says how to get it
	}
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	conformance.Test(t, conformance.Subject{
		New:     func() transport.Transport { return mllp.New() },
		Command: []string{exe, "plugin"},
		Target:  func(tb testing.TB) conformance.Target { return newReceiver(tb) },
		States:  []conformance.State{conformance.Down, conformance.Slow, conformance.Rejecting},
		Payload: func(text string) []byte {
			h := fnv.New64a()
			_, _ = h.Write([]byte(text))
			return adt(fmt.Sprintf("%016x", h.Sum64()), text)
		},
		ContentType: "application/hl7-v2",
		Bad: []conformance.BadSettings{
			{Name: "no address", Settings: json.RawMessage(`{}`)},
			{Name: "a URL", Settings: json.RawMessage(`{"address":"tcp://ehr"}`), Field: "address"},
			{Name: "an authority that is not there", Settings: json.RawMessage(`{"address":"ehr","tls":{"ca_file":"/nowhere"}}`), Field: "tls.ca_file"},
		},
		Faults: []conformance.Fault{{
			Name: "a payload that is not HL7", Effect: transport.None, Codes: []transport.Code{transport.RejectedByTarget},
			Message: func(m *transport.Message) { m.Payload = []byte(`{"name":"Jane-Doe-4711"}`) },
		}, {
			Name: "a message that is too large", Effect: transport.Unknown, Codes: []transport.Code{transport.ConnectionReset},
			Make: func(to conformance.Target) {
				r := to.(*receiver)
				r.kill()
				r.limit = 10000
				r.start()
			},
			Message: func(m *transport.Message) { m.Payload = adt("1", strings.Repeat("x", 50000)) },
		}, {
			Name: "an error that passes", Effect: transport.Unknown, Codes: []transport.Code{transport.TargetError},
			Make: func(to conformance.Target) { to.(*receiver).answers("AE:207") },
		}, {
			Name: "an answer to another message", Effect: transport.Unknown, Codes: []transport.Code{transport.BadResponse},
			Make: func(to conformance.Target) { to.(*receiver).answers("AA:other") },
		}, {
			Name: "TLS at a port that has none", Effect: transport.None,
			Codes: []transport.Code{transport.TLSError, transport.Timeout, transport.ConnectionReset},
			Settings: func(to conformance.Target) json.RawMessage {
				return fmt.Appendf(nil, `{"address":%q,"tls":{},"dial_timeout":"1s"}`, to.(*receiver).address)
			},
		}},
	})
}
