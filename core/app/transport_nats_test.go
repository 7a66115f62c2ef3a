//go:build unix

package app_test

import (
	"bytes"
	"fmt"
	"testing"

	natsgo "github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/hookline/hookline/plugins/target/targettest"
	"github.com/hookline/hookline/plugins/transport"
)

// What TrialKit sends is in the stream when it hears that it was delivered.
func TestNATS(t *testing.T) {
	program := targettest.FindNATS(t)
	n, err := targettest.StartNATS(program, t.TempDir(), fmt.Sprintf("authorization { user: %q, password: %q }", ehrUser, ehrPassword))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(n.Kill)
	c, err := natsgo.Connect("nats://"+n.Addr, natsgo.UserInfo(ehrUser, ehrPassword))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	js, err := jetstream.New(c)
	if err != nil {
		t.Fatal(err)
	}
	s, err := js.CreateStream(t.Context(), jetstream.StreamConfig{Name: "TRIALKIT", Subjects: []string{"trialkit.>"}})
	if err != nil {
		t.Fatal(err)
	}
	d := start(t, preamble+`
[transports.bus]
plugin = "nats"
[transports.bus.settings]
servers = ["`+n.Addr+`"]
subject = "trialkit.events"
username = "`+ehrUser+`"
password = "env:EHR_PASSWORD"
[routes.bus]
hooks = ["demo"]
transport = "bus"
`)
	body := event("319")
	a := d.send(call{body: body})
	if a.status != 200 || a.Code != transport.Delivered {
		t.Fatalf("answer %d %s", a.status, a.body)
	}
	m, err := s.GetLastMsgForSubject(t.Context(), "trialkit.events")
	if err != nil || !bytes.Equal(m.Data, body) {
		t.Fatalf("the stream has %+v (%v), sent was %q", m, err, body)
	}
	if m.Header.Get("hookline-event-id") != a.EventID || m.Header.Get("Nats-Msg-Id") == "" {
		t.Errorf("%v", m.Header)
	}
}
