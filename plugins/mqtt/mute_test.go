//go:build unix

package mqtt_test

import (
	"net"
	"sync/atomic"
	"testing"
	"time"

	"github.com/eclipse/paho.golang/packets"

	"github.com/hookline/hookline/plugins/target/targettest"
	"github.com/hookline/hookline/plugins/transport"
)

// A broker that answers pings and forgets messages holds a connection's turns for ever:
// once each was given up for longer than the keepalive, there is another connection.
func TestBrokerThatForgets(t *testing.T) {
	var forgets atomic.Bool
	forgets.Store(true)
	addr := script(t, welcome, func(p *packets.ControlPacket, c net.Conn) {
		switch m := p.Content.(type) {
		case *packets.Pingreq:
			_, _ = c.Write([]byte{0xd0, 0})
		case *packets.Publish:
			if !forgets.Load() {
				_, _ = c.Write([]byte{0x40, 2, byte(m.PacketID >> 8), byte(m.PacketID)})
			}
		}
	})
	tr := configured(t, settings(addr, obj{"in_flight": 2, "keepalive": "1s"}))
	for range 2 {
		want(t, targettest.Within(tr, message(), 50*time.Millisecond), transport.Unknown, transport.Timeout, 0)
	}
	want(t, targettest.Within(tr, message(), 50*time.Millisecond), transport.None, transport.Timeout, 0) // no turn
	forgets.Store(false)
	for end := time.Now().Add(20 * time.Second); ; {
		r := targettest.Within(tr, message(), 100*time.Millisecond)
		if r.Effect == transport.Done {
			return
		}
		if time.Now().After(end) {
			t.Fatalf("the turns stay taken: %+v", r)
		}
	}
}
