//go:build unix

package app_test

import (
	"bytes"
	"testing"
	"time"

	"github.com/hookline/hookline/plugins/target/targettest"
	"github.com/hookline/hookline/plugins/transport"
)

// What TrialKit sends is in RabbitMQ's queue when it hears that it was delivered.
func TestAMQP(t *testing.T) {
	t.Parallel()
	program := targettest.FindRabbitMQ(t)
	n, err := targettest.StartRabbitMQ(program, t.TempDir(), ehrPassword, "", [2]string{ehrUser, ".*"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(n.Kill)
	c, err := n.Dial()
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = c.Close() }()
	ch, err := c.Channel()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := ch.QueueDeclare("events", true, false, false, false, nil); err != nil {
		t.Fatal(err)
	}
	d := start(t, preamble+`
[transports.bus]
plugin = "amqp"
[transports.bus.settings]
address = "`+n.Addr+`"
username = "`+ehrUser+`"
password = "env:EHR_PASSWORD"
routing_key = "events"
[routes.bus]
hooks = ["demo"]
transport = "bus"
`)
	body := event("319")
	a := d.send(call{body: body})
	if a.status != 200 || a.Code != transport.Delivered {
		t.Fatalf("answer %d %s", a.status, a.body)
	}
	m, ok, err := ch.Get("events", true)
	if err != nil || !ok || !bytes.Equal(m.Body, body) {
		t.Fatalf("the queue has %q (%t, %v), sent was %q", m.Body, ok, err, body)
	}
	if m.Headers["hookline-event-id"] != a.EventID || m.Type != "update" || m.MessageId == "" || time.Since(m.Timestamp) > time.Minute {
		t.Errorf("%+v", m)
	}
}
