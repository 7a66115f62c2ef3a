//go:build unix

package app_test

import (
	"bytes"
	"net"
	"testing"
	"time"

	"github.com/eclipse/paho.golang/paho"

	"github.com/hookline/hookline/plugins/target/targettest"
	"github.com/hookline/hookline/plugins/transport"
)

// What TrialKit sends is at the broker's subscriber when it hears that it was delivered.
func TestMQTT(t *testing.T) {
	program := targettest.FindMosquitto(t)
	b, err := targettest.StartMosquitto(program, t.TempDir(), ehrPassword, "user "+ehrUser+"\ntopic readwrite trialkit/#\n", "", ehrUser)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(b.Kill)
	conn, err := net.Dial("tcp", b.Addr)
	if err != nil {
		t.Fatal(err)
	}
	got := make(chan *paho.Publish, 1)
	c := paho.NewClient(paho.ClientConfig{Conn: conn, OnPublishReceived: []func(paho.PublishReceived) (bool, error){
		func(r paho.PublishReceived) (bool, error) {
			got <- r.Packet
			return true, nil
		},
	}})
	if _, err := c.Connect(t.Context(), &paho.Connect{CleanStart: true, Username: ehrUser, UsernameFlag: true, Password: []byte(ehrPassword), PasswordFlag: true}); err != nil {
		t.Fatal(err)
	}
	defer func() {
		_ = c.Disconnect(&paho.Disconnect{})
		<-c.Done()
	}()
	if _, err := c.Subscribe(t.Context(), &paho.Subscribe{Subscriptions: []paho.SubscribeOptions{{Topic: "trialkit/#"}}}); err != nil {
		t.Fatal(err)
	}
	d := start(t, preamble+`
[transports.bus]
plugin = "mqtt"
[transports.bus.settings]
address = "`+b.Addr+`"
topic = "trialkit/events"
username = "`+ehrUser+`"
password = "env:EHR_PASSWORD"
require_subscriber = true
[routes.bus]
hooks = ["demo"]
transport = "bus"
`)
	body := event("319")
	a := d.send(call{body: body})
	if a.status != 200 || a.Code != transport.Delivered {
		t.Fatalf("answer %d %s", a.status, a.body)
	}
	select {
	case m := <-got:
		if m.Topic != "trialkit/events" || !bytes.Equal(m.Payload, body) || m.Properties.User.Get("hookline-event-id") != a.EventID {
			t.Errorf("the subscriber has %+v, sent was %q", m, body)
		}
	case <-time.After(30 * time.Second):
		t.Error("the subscriber has nothing")
	}
}
