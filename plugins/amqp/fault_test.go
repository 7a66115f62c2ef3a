//go:build unix

package amqp_test

import (
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/hookline/hookline/plugins/target/targettest"
	"github.com/hookline/hookline/plugins/transport"
)

// The broker is killed in the middle of load and started again: what was confirmed is
// there, and nothing is there more often than the receipts allow.
func TestBrokerKilled(t *testing.T) {
	n := broker(t)
	q := n.queue(t, nil)
	n.Sync(t)
	tr := configured(t, n.settings(obj{"routing_key": q}))
	const callers, each = 8, 40
	var delivered atomic.Int64
	unknown := make([]int, callers*each)
	third, failed := make(chan struct{}), make(chan struct{})
	var once sync.Once
	var calls sync.WaitGroup
	end := time.Now().Add(3 * time.Minute)
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
	n.Kill()
	<-failed
	if err := n.Start(); err != nil {
		t.Fatal(err)
	}
	calls.Wait()
	got := map[string]int{}
	for _, d := range drain(t, n.channel(t), q) {
		got[string(d.Body)]++
	}
	for i, maybe := range unknown {
		if n := got[fmt.Sprint("msg_", i)]; n < 1 || n > 1+maybe {
			t.Errorf("msg_%d is there %d times; %d attempts were unknown", i, n, maybe)
		}
	}
}

// A broker that hangs costs an attempt its time and no more; when it goes on, so does
// the transport, on the same connection.
func TestBrokerHangs(t *testing.T) {
	n := broker(t)
	q, ch := n.queue(t, nil), n.channel(t)
	tr := configured(t, n.settings(obj{"routing_key": q}))
	want(t, deliver(t, tr, message()), transport.Done, transport.Delivered, 0)
	n.Freeze()
	resume := sync.OnceFunc(n.Thaw)
	defer resume()
	start := time.Now()
	want(t, targettest.Within(tr, message(), 300*time.Millisecond), transport.Unknown, transport.Timeout, 0)
	// The next one needs a channel, which nobody opens.
	want(t, targettest.Within(tr, message(), 300*time.Millisecond), transport.None, transport.Timeout, 0)
	if took := time.Since(start); took > 3*time.Second {
		t.Errorf("two attempts of 300 ms took %v", took)
	}
	fresh := configured(t, n.settings(obj{"routing_key": q}))
	want(t, targettest.Within(fresh, message(), 300*time.Millisecond), transport.None, transport.Timeout, 0)
	resume()
	want(t, targettest.Within(tr, message(), 20*time.Second), transport.Done, transport.Delivered, 0)
	if got := drain(t, ch, q); len(got) < 2 || len(got) > 3 {
		t.Errorf("%d messages; two were confirmed and one is unknown", len(got))
	}
}

// Close does not wait for a broker that hangs, nor for attempts.
func TestCloseWhileHanging(t *testing.T) {
	n := broker(t)
	q := n.queue(t, nil)
	proxy := targettest.NewProxy(t, n.Addr)
	tr := configured(t, n.settings(obj{"address": proxy.Addr, "routing_key": q}))
	want(t, deliver(t, tr, message()), transport.Done, transport.Delivered, 0)
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
	want(t, deliver(t, tr, message()), transport.None, transport.ConnectionReset, 0)
}

// A broker that is short of memory holds up its publishers, says so, and takes
// messages again once it is not.
func TestMemoryAlarm(t *testing.T) {
	n := broker(t)
	q, ch := n.queue(t, nil), n.channel(t)
	tr := configured(t, n.settings(obj{"routing_key": q}))
	want(t, deliver(t, tr, message()), transport.Done, transport.Delivered, 0)
	n.Control(t, "set_vm_memory_high_watermark", "absolute", "1")
	t.Cleanup(func() { n.Control(t, "set_vm_memory_high_watermark", "0.6") })

	// The broker tells a connection when that publishes something, which it may take.
	delivered, unknown := 1, 0
	throttled := 0
	for end := time.Now().Add(time.Minute); throttled == 0 && time.Now().Before(end); {
		r := targettest.Within(tr, message(), time.Second)
		switch r.Effect {
		case transport.Done:
			delivered++
		case transport.Unknown:
			unknown++
		}
		if r.Code == transport.ThrottledByTarget && r.Effect == transport.None {
			throttled++
		}
	}
	if throttled == 0 {
		t.Error("the transport never said that the broker holds it up")
	}
	n.Control(t, "set_vm_memory_high_watermark", "0.6")
	for end := time.Now().Add(30 * time.Second); ; time.Sleep(20 * time.Millisecond) { // a pace for the loop
		r := targettest.Within(tr, message(), 5*time.Second)
		if r.Effect == transport.Done {
			delivered++
			break
		}
		if r.Effect == transport.Unknown {
			unknown++
		}
		if time.Now().After(end) {
			t.Fatalf("the alarm is over, and still: %+v", r)
		}
	}
	if got := len(drain(t, ch, q)); got < delivered || got > delivered+unknown {
		t.Errorf("%d messages, %d delivered, %d unknown", got, delivered, unknown)
	}
}
