//go:build unix

package nats_test

import (
	"net"
	"testing"
	"time"

	"github.com/hookline/hookline/plugins/transport"
)

// A server that takes a connection and says nothing, as one does whose machine hangs,
// costs its dial_timeout, and then the next one is asked.
func TestSilentServerIsPassedOver(t *testing.T) {
	n := running(t)
	_, subject := stream(t, client(t, n.Addr), "failover.", nil)
	silent, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = silent.Close() }()
	tr := configured(t, settings(n.Addr, subject, obj{
		"servers": []string{silent.Addr().String(), n.Addr}, "dial_timeout": "500ms",
	}))
	want(t, deliver(t, tr, message()), transport.Done, transport.Delivered, 0)
	if r := tr.Check(t.Context()); r.Effect != transport.Done {
		t.Errorf("check: %+v", r)
	}

	// Without another it is the one to blame.
	alone := configured(t, settings(silent.Addr().String(), subject, obj{"dial_timeout": "200ms"}))
	start := time.Now()
	want(t, deliver(t, alone, message()), transport.None, transport.Timeout, 0)
	if took := time.Since(start); took > 5*time.Second {
		t.Errorf("it took %v", took)
	}
}
