//go:build unix

package mqtt_test

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/eclipse/paho.golang/packets"

	"github.com/hookline/hookline/plugins/mqtt"
	"github.com/hookline/hookline/plugins/target/targettest"
	"github.com/hookline/hookline/plugins/transport"
)

// The broker is killed in the middle of load and started again: what was acknowledged
// is there, and nothing is there more often than the receipts allow.
func TestBrokerKilled(t *testing.T) {
	b := broker(t, "")
	for _, more := range []obj{{"qos": 1}, {"qos": 2, "version": "3.1.1"}} {
		s := newSystem(t, b, more)
		tr := configured(t, s.settings())
		const callers, each = 8, 60
		var delivered atomic.Int64
		unknown := make([]int, callers*each)
		third, failed := make(chan struct{}), make(chan struct{})
		var once sync.Once
		var calls sync.WaitGroup
		end := time.Now().Add(2 * time.Minute)
		for c := range callers {
			calls.Go(func() {
				for k := range each {
					i := c*each + k
					m := message()
					m.ID = fmt.Sprint("msg_", i)
					m.Payload = []byte(m.ID)
					for m.Attempt = 1; ; m.Attempt++ {
						r := targettest.Within(tr, m, 5*time.Second)
						if r.Effect == transport.Done {
							if delivered.Add(1) == callers*each/3 {
								close(third)
							}
							break
						}
						if r.Effect == transport.Unknown {
							unknown[i]++
						}
						once.Do(func() { close(failed) })
						if time.Now().After(end) {
							t.Errorf("%s: not delivered: %+v", m.ID, r)
							return
						}
						time.Sleep(20 * time.Millisecond) // the pause of a retry
					}
				}
			})
		}
		<-third
		s.Set("down")
		<-failed
		s.Set("up")
		calls.Wait()
		got := map[string]int{}
		for _, p := range s.Received() {
			got[string(p)]++
		}
		for i, maybe := range unknown {
			if n := got[fmt.Sprint("msg_", i)]; n < 1 || n > 1+maybe {
				t.Errorf("%v: msg_%d is there %d times; %d attempts were unknown", more, i, n, maybe)
			}
		}
	}
}

// A broker that hangs costs an attempt its time and no more; when it goes on, so does
// the transport, on the same connection.
func TestBrokerHangs(t *testing.T) {
	b := broker(t, "")
	topic := newTopic()
	to := listen(t, b.Addr, topic)
	tr := configured(t, settings(b.Addr, obj{"topic": topic, "in_flight": 2}))
	want(t, deliver(tr, message()), transport.Done, transport.Delivered, 0)
	b.Freeze()
	resume := sync.OnceFunc(b.Thaw)
	defer resume()
	start := time.Now()
	want(t, targettest.Within(tr, message(), 500*time.Millisecond), transport.Unknown, transport.Timeout, 0)
	want(t, targettest.Within(tr, message(), 500*time.Millisecond), transport.Unknown, transport.Timeout, 0)
	// All turns are taken by those.
	want(t, targettest.Within(tr, message(), 500*time.Millisecond), transport.None, transport.Timeout, 0)
	fresh := configured(t, settings(b.Addr, nil))
	want(t, targettest.Within(fresh, message(), 500*time.Millisecond), transport.None, transport.Timeout, 0)
	if took := time.Since(start); took > 10*time.Second {
		t.Errorf("four attempts of 500 ms took %v", took)
	}
	resume()
	want(t, deliver(tr, message()), transport.Done, transport.Delivered, 0)
	if got := to.messages(); len(got) != 4 {
		t.Errorf("%d messages; two were acknowledged and two are unknown, but the broker has read them", len(got))
	}
}

// A broker that hangs for longer than keepalive counts as gone, and is connected to
// again.
func TestKeepalive(t *testing.T) {
	b := broker(t, "")
	topic := newTopic()
	tr := configured(t, settings(b.Addr, obj{"topic": topic, "keepalive": "1s"}))
	want(t, deliver(tr, message()), transport.Done, transport.Delivered, 0x10)
	b.Freeze()
	resume := sync.OnceFunc(b.Thaw)
	defer resume()
	start := time.Now()
	want(t, deliver(tr, message()), transport.Unknown, transport.Timeout, 0)
	if took := time.Since(start); took > 10*time.Second {
		t.Errorf("a keepalive of 1 s took %v", took)
	}
	resume()
	want(t, deliver(tr, message()), transport.Done, transport.Delivered, 0x10)
}

// A broker that lives is asked so often that it keeps the connection, though nothing
// is published.
func TestPing(t *testing.T) {
	pings := make(chan net.Conn, 10)
	addr := script(t, welcome, func(p *packets.ControlPacket, c net.Conn) {
		switch m := p.Content.(type) {
		case *packets.Pingreq:
			pings <- c
			_, _ = c.Write([]byte{0xd0, 0})
		case *packets.Publish:
			_, _ = c.Write([]byte{0x40, 2, byte(m.PacketID >> 8), byte(m.PacketID)})
		}
	})
	tr := configured(t, settings(addr, obj{"keepalive": "1s"}))
	want(t, deliver(tr, message()), transport.Done, transport.Delivered, 0)
	start := time.Now()
	first := <-pings
	for range 3 {
		if c := <-pings; c != first {
			t.Error("another connection was made")
		}
	}
	if took := time.Since(start); took > 6*time.Second {
		t.Errorf("three pings took %v with a keepalive of 1 s", took)
	}
}

// Close does not wait for a broker that hangs, nor for attempts.
func TestCloseWhileHanging(t *testing.T) {
	b := broker(t, "")
	proxy := targettest.NewProxy(t, b.Addr)
	tr := configured(t, settings(proxy.Addr, nil))
	want(t, deliver(tr, message()), transport.Done, transport.Delivered, 0x10)
	proxy.Slow()
	receipt := make(chan transport.Receipt)
	go func() { receipt <- targettest.Within(tr, message(), time.Minute) }()
	time.Sleep(50 * time.Millisecond) // the attempt may be before or after its message; either is right
	start := time.Now()
	if err := tr.Close(); err != nil {
		t.Error(err)
	}
	if took := time.Since(start); took > 5*time.Second {
		t.Errorf("Close took %v", took)
	}
	if r := <-receipt; r.Code != transport.ConnectionReset {
		t.Errorf("%+v", r)
	}
	want(t, deliver(tr, message()), transport.None, transport.ConnectionReset, 0)
}

// Two connections of one client id: the broker ends the first, which is made again
// when it is needed.
func TestTakenOver(t *testing.T) {
	b := broker(t, "")
	one, two := configured(t, settings(b.Addr, obj{"client_id": "same"})), configured(t, settings(b.Addr, obj{"client_id": "same"}))
	for range 3 {
		for _, tr := range []*mqtt.Transport{one, two} {
			// Until it has heard of its end it may still write.
			end := time.Now().Add(20 * time.Second)
			r := deliver(tr, message())
			for ; r.Effect != transport.Done && time.Now().Before(end); r = deliver(tr, message()) {
				want(t, r, transport.Unknown, transport.ConnectionReset, r.TargetStatus)
			}
			want(t, r, transport.Done, transport.Delivered, 0x10)
			want(t, tr.Check(t.Context()), transport.Done, transport.Delivered, 0)
			want(t, deliver(tr, message()), transport.Done, transport.Delivered, 0x10) // a check ends nothing
		}
	}
}

// script is a broker that says what no real one says when it is asked to: it takes the
// login with connack, and answers what it gets after that by answer.
func script(t *testing.T, connack []byte, answer func(p *packets.ControlPacket, c net.Conn)) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var work sync.WaitGroup
	work.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			work.Go(func() {
				defer func() { _ = c.Close() }()
				r := bufio.NewReader(c)
				// The CONNECT, in which the versions differ, has less than 256 bytes.
				head := make([]byte, 3)
				if _, err := io.ReadFull(r, head); err != nil {
					return
				}
				rest := int64(head[1]) - 1
				if head[1] >= 0x80 {
					rest = int64(head[1]&0x7f) | int64(head[2])<<7
				}
				if _, err := io.CopyN(io.Discard, r, rest); err != nil {
					return
				}
				_, _ = c.Write(connack)
				for {
					p, err := packets.ReadPacket(r)
					if err != nil || p.Type == packets.DISCONNECT {
						return
					}
					answer(p, c)
				}
			})
		}
	})
	t.Cleanup(func() {
		_ = l.Close()
		work.Wait()
	})
	return l.Addr().String()
}

var welcome = []byte{0x20, 3, 0, 0, 0}

// Each reason code by which a message can be refused.
func TestReasonCodes(t *testing.T) {
	var code atomic.Int32
	addr := script(t, welcome, func(p *packets.ControlPacket, c net.Conn) {
		switch m := p.Content.(type) {
		case *packets.Publish:
			kind := byte(0x40) // PUBACK
			if m.QoS == 2 {
				kind = 0x50 // PUBREC
			}
			_, _ = c.Write([]byte{kind, 3, byte(m.PacketID >> 8), byte(m.PacketID), byte(code.Load())})
		case *packets.Pubrel:
			_, _ = c.Write([]byte{0x70, 3, byte(m.PacketID >> 8), byte(m.PacketID), 0x92})
		}
	})
	one, two := configured(t, settings(addr, nil)), configured(t, settings(addr, obj{"qos": 2}))
	for c, what := range map[byte]transport.Code{
		0x80: transport.TargetError, 0x83: transport.TargetError, 0x91: transport.TargetError, 0xff: transport.TargetError,
		0x87: transport.UnauthorizedByTarget,
		0x90: transport.RejectedByTarget, 0x95: transport.RejectedByTarget, 0x99: transport.RejectedByTarget,
		0x9a: transport.RejectedByTarget, 0x9b: transport.RejectedByTarget,
		0x96: transport.ThrottledByTarget, 0x97: transport.ThrottledByTarget, 0x89: transport.ThrottledByTarget,
		0x9c: transport.RedirectRefused,
	} {
		code.Store(int32(c))
		want(t, deliver(one, message()), transport.None, what, int(c))
		want(t, deliver(two, message()), transport.None, what, int(c))
	}
	code.Store(0)
	want(t, deliver(one, message()), transport.Done, transport.Delivered, 0)
	want(t, deliver(two, message()), transport.Unknown, transport.TargetError, 0x92) // of PUBCOMP
}

// Each code by which a login can be refused, of both versions.
func TestLoginCodes(t *testing.T) {
	for c, what := range map[byte]transport.Code{
		0x80: transport.TargetError, 0x84: transport.BadResponse, 0x85: transport.UnauthorizedByTarget, 0x86: transport.UnauthorizedByTarget,
		0x87: transport.UnauthorizedByTarget, 0x88: transport.TargetError, 0x89: transport.ThrottledByTarget, 0x8a: transport.UnauthorizedByTarget,
		0x8c: transport.UnauthorizedByTarget, 0x95: transport.TargetError, 0x97: transport.ThrottledByTarget, 0x9d: transport.RedirectRefused,
		0x9f: transport.ThrottledByTarget, 1: transport.BadResponse,
	} {
		addr := script(t, []byte{0x20, 3, 0, c, 0}, nil)
		want(t, deliver(configured(t, settings(addr, nil)), message()), transport.None, what, int(c))
	}
	for c, what := range map[byte]transport.Code{
		1: transport.BadResponse, 2: transport.UnauthorizedByTarget, 3: transport.TargetError, 4: transport.UnauthorizedByTarget, 5: transport.UnauthorizedByTarget,
	} {
		addr := script(t, []byte{0x20, 2, 0, c}, nil)
		want(t, deliver(configured(t, settings(addr, obj{"version": "3.1.1"})), message()), transport.None, what, int(c))
	}
}

// What the broker says when it takes the login is kept to.
func TestLimits(t *testing.T) {
	acknowledge := func(p *packets.ControlPacket, c net.Conn) {
		if m, ok := p.Content.(*packets.Publish); ok {
			_, _ = c.Write([]byte{0x40, 2, byte(m.PacketID >> 8), byte(m.PacketID)})
		}
	}
	limited := script(t, []byte{0x20, 15, 0, 0, 12, 0x24, 1, 0x25, 0, 0x21, 0, 1, 0x27, 0, 0, 1, 0}, acknowledge) // qos 1, no retain, one at a time, 256 bytes
	want(t, deliver(configured(t, settings(limited, obj{"qos": 2})), message()), transport.None, transport.TargetError, 0)
	want(t, deliver(configured(t, settings(limited, obj{"retain": true})), message()), transport.None, transport.TargetError, 0)
	tr := configured(t, settings(limited, nil))
	want(t, deliver(tr, message()), transport.None, transport.RejectedByTarget, 0) // with all its properties
	want(t, deliver(tr, &transport.Message{ID: "msg_2"}), transport.Done, transport.Delivered, 0)
}

// A broker that ends the connection says why; whom it is about is sure only if one
// message was under way.
func TestDisconnect(t *testing.T) {
	for c, what := range map[byte]struct {
		effect transport.Effect
		code   transport.Code
	}{
		0x95: {transport.None, transport.RejectedByTarget},
		0x8b: {transport.Unknown, transport.ConnectionReset},
		0x87: {transport.Unknown, transport.ConnectionReset},
	} {
		addr := script(t, welcome, func(p *packets.ControlPacket, conn net.Conn) { _, _ = conn.Write([]byte{0xe0, 1, c}) })
		want(t, deliver(configured(t, settings(addr, nil)), message()), what.effect, what.code, int(c))
	}
	var n atomic.Int32
	addr := script(t, welcome, func(p *packets.ControlPacket, conn net.Conn) {
		if n.Add(1) == 2 {
			_, _ = conn.Write([]byte{0xe0, 1, 0x95})
		}
	})
	tr := configured(t, settings(addr, nil))
	receipts := make(chan transport.Receipt)
	for range 2 {
		go func() { receipts <- deliver(tr, message()) }()
	}
	for range 2 {
		want(t, <-receipts, transport.Unknown, transport.ConnectionReset, 0x95)
	}
}

// Answers that are not MQTT, or out of place.
func TestBadAnswers(t *testing.T) {
	for name, connack := range map[string][]byte{
		"HTTP":              []byte("HTTP/1.1 400 Bad Request\r\n\r\n"),
		"another packet":    {0xd0, 0},
		"a short CONNACK":   {0x20, 1, 0},
		"no properties":     {0x20, 2, 0, 0},
		"a long packet":     {0x20, 0xff, 0xff, 0xff, 0x7f},
		"no end of a size":  {0x20, 0xff, 0xff, 0xff, 0xff, 0xff},
		"receive maximum 0": {0x20, 6, 0, 0, 3, 0x21, 0, 0},
		"a wrong property":  {0x20, 5, 0, 0, 2, 0x01, 0},
	} {
		r := deliver(configured(t, settings(script(t, connack, nil), nil)), message())
		if r.Effect != transport.None || r.Code != transport.BadResponse {
			t.Errorf("%s: %+v", name, r)
		}
	}
	for name, tc := range map[string]struct {
		qos    int
		answer []byte
	}{
		"a message":                {1, []byte{0x30, 3, 0, 1, 'x'}},
		"no identifier":            {1, []byte{0x40, 1, 0}},
		"another's identifier":     {1, []byte{0x40, 2, 7, 7}},
		"PUBREC for qos 1":         {1, []byte{0x50, 2, 0, 1}},
		"PUBACK for qos 2":         {2, []byte{0x40, 2, 0, 1}},
		"PUBCOMP before PUBREL":    {2, []byte{0x70, 2, 0, 1}},
		"PUBREC twice":             {2, []byte{0x50, 2, 0, 1, 0x50, 2, 0, 1}},
		"a packet that is no type": {1, []byte{0x00, 0}},
	} {
		addr := script(t, welcome, func(p *packets.ControlPacket, c net.Conn) {
			if p.Type == packets.PUBLISH {
				_, _ = c.Write(tc.answer)
			}
		})
		r := deliver(configured(t, settings(addr, obj{"qos": tc.qos})), message())
		if r.Effect != transport.Unknown || r.Code != transport.BadResponse {
			t.Errorf("%s: %+v", name, r)
		}
	}
}

// The broker goes away between PUBLISH and its acknowledgement: nobody knows.
func TestBrokenOff(t *testing.T) {
	for _, qos := range []int{1, 2} {
		addr := script(t, welcome, func(p *packets.ControlPacket, c net.Conn) {
			if m, ok := p.Content.(*packets.Publish); ok && qos == 2 {
				_, _ = c.Write([]byte{0x50, 2, byte(m.PacketID >> 8), byte(m.PacketID)})
				return
			}
			_ = c.Close()
		})
		tr := configured(t, settings(addr, obj{"qos": qos}))
		for range 2 {
			want(t, deliver(tr, message()), transport.Unknown, transport.ConnectionReset, 0)
		}
	}
	// And before PUBLISH: surely not sent.
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			_, _ = io.ReadFull(c, make([]byte, 10))
			_ = c.Close()
		}
	}()
	want(t, deliver(configured(t, settings(l.Addr().String(), nil)), message()), transport.None, transport.ConnectionReset, 0)
	_ = l.Close()
	<-done
}
