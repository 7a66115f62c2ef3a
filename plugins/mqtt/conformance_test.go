//go:build unix

package mqtt_test

import (
	"bytes"
	"encoding/json"
	"os"
	"testing"

	"github.com/hookline/hookline/plugins/conformance"
	"github.com/hookline/hookline/plugins/mqtt"
	"github.com/hookline/hookline/plugins/target/targettest"
	"github.com/hookline/hookline/plugins/transport"
)

func TestConformance(t *testing.T) {
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	testConformance(t, obj{}, exe, "plugin")
}

// Without the way over a process, which is the same for both versions.
func TestConformanceOldVersion(t *testing.T) {
	testConformance(t, obj{"version": "3.1.1", "qos": 2, "max_payload": maxMessage})
}

func testConformance(t *testing.T, more obj, command ...string) {
	b := broker(t, sizeLimit)
	other, err := targettest.NewAuthority(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	fault := func(name string, change obj, codes ...transport.Code) conformance.Fault {
		return conformance.Fault{Name: name, Effect: transport.None, Codes: codes, Settings: func(to conformance.Target) json.RawMessage {
			s := to.(*system).settings()
			for k, v := range change {
				s[k] = v
			}
			return raw(s)
		}}
	}
	faults := []conformance.Fault{
		fault("a wrong password", obj{"password": "hunter2"}, transport.UnauthorizedByTarget),
		fault("a user who is not there", obj{"username": "nobody"}, transport.UnauthorizedByTarget),
		{
			Name: "a message that is too large", Effect: transport.None, Codes: []transport.Code{transport.RejectedByTarget},
			Message: func(m *transport.Message) { m.Payload = bytes.Repeat([]byte("x"), maxMessage+1) },
		},
		{
			Name: "a topic with a wildcard", Effect: transport.None, Codes: []transport.Code{transport.RejectedByTarget},
			Message: func(m *transport.Message) { m.Path = "#" },
		},
		fault("an authority that is not the broker's", obj{"address": b.TLSAddr, "tls": obj{"ca_file": other.CAFile}}, transport.TLSError),
		// Mosquitto says nothing to what it does not understand.
		fault("a port without TLS", obj{"tls": obj{"ca_file": b.CA.CAFile}}, transport.TLSError, transport.ConnectionReset),
		fault("a port that wants TLS", obj{"address": b.TLSAddr}, transport.BadResponse, transport.ConnectionReset),
		fault("a denied address", obj{"deny_addresses": []string{"127.0.0.0/8"}}, transport.AddressDenied),
	}
	if more["version"] != "3.1.1" { // which knows no answer to these
		faults = append(faults,
			fault("a topic that the user may not publish to", obj{"topic": "denied"}, transport.UnauthorizedByTarget),
			fault("a topic without a subscriber", obj{"topic": "t/nobody", "require_subscriber": true}, transport.NotFoundAtTarget),
		)
	}
	const half = `{"address":"127.0.0.1","topic":"t","username":"u","password":"hunter2",`
	conformance.Test(t, conformance.Subject{
		New:     func() transport.Transport { return mqtt.New() },
		Command: command,
		Target:  func(tb testing.TB) conformance.Target { return newSystem(tb, b, more) },
		// Mosquitto rejects for good only by the size of a message: a fault.
		States: []conformance.State{conformance.Down, conformance.Slow},
		Secret: password,
		Bad: []conformance.BadSettings{
			{Name: "a url", Settings: json.RawMessage(`{"address":"mqtt://u:hunter2@127.0.0.1","topic":"t"}`), Field: "address", Hidden: "hunter2"},
			{Name: "a topic with a wildcard", Settings: json.RawMessage(`{"address":"127.0.0.1","topic":"hunter2/#"}`), Field: "topic", Hidden: "hunter2"},
			{Name: "qos 0", Settings: json.RawMessage(half + `"qos":0}`), Field: "qos", Hidden: "hunter2"},
			{Name: "half a client certificate", Settings: json.RawMessage(half + `"tls":{"cert_file":"x"}}`), Field: "tls.key_file", Hidden: "hunter2"},
		},
		Faults: faults,
	})
}

// system is a topic of the broker, which is really killed when it goes down. The way
// to it is a proxy, that opens only when the listener is there again.
type system struct {
	*listener
	broker *targettest.Mosquitto
	proxy  *targettest.Proxy
	topic  string
	more   obj
	down   bool
}

func newSystem(tb testing.TB, b *targettest.Mosquitto, more obj) *system {
	topic := newTopic()
	s := &system{listener: listen(tb, b.Addr, topic+"/#"), broker: b, proxy: targettest.NewProxy(tb, b.Addr), topic: topic, more: more}
	tb.Cleanup(func() { s.Set(conformance.Up) }) // for the next check
	return s
}

func (s *system) settings() obj {
	out := settings(s.proxy.Addr, s.more)
	out["topic"] = s.topic
	return out
}

func (s *system) Settings() json.RawMessage { return raw(s.settings()) }

func (s *system) Set(state conformance.State) {
	if s.down && state != conformance.Down {
		if err := s.broker.Start(); err != nil {
			s.tb.Fatal(err)
		}
		s.subscribe()
		s.down = false
	}
	switch state {
	case conformance.Up:
		s.proxy.Up()
	case conformance.Down:
		s.broker.Kill()
		s.proxy.Down()
		s.down = true
	case conformance.Slow:
		s.proxy.Slow()
	}
}

func (s *system) Received() [][]byte {
	var out [][]byte
	if s.down {
		s.tb.Fatal("a broker that is down cannot be asked")
	}
	for _, p := range s.messages() {
		out = append(out, p.Payload)
	}
	return out
}
