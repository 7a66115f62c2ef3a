//go:build unix

package nats_test

import (
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/hookline/hookline/plugins/target/targettest"
	"github.com/hookline/hookline/plugins/transport"
)

// The server is killed in the middle of load and started again: what was acknowledged
// is there, and once, because the stream knows the ids.
func TestServerKilled(t *testing.T) {
	n := running(t)
	s, subject := stream(t, client(t, n.Addr), "killed.", nil)
	tr := configured(t, settings(n.Addr, subject, nil))
	const callers, each = 8, 100
	var delivered atomic.Int64
	third, failed := make(chan struct{}), make(chan struct{})
	var once sync.Once
	var calls sync.WaitGroup
	end := time.Now().Add(time.Minute)
	for c := range callers {
		calls.Go(func() {
			for k := range each {
				m := message()
				m.Payload = []byte(fmt.Sprint("killed_", c*each+k))
				for m.Attempt = 1; ; m.Attempt++ {
					r := targettest.Within(tr, m, 5*time.Second)
					if r.Effect == transport.Done {
						if delivered.Add(1) == callers*each/3 {
							close(third)
						}
						break
					}
					if r.Code != transport.NotFoundAtTarget { // JetStream comes up after the connections
						once.Do(func() { close(failed) })
					}
					if time.Now().After(end) {
						t.Errorf("%s: not delivered: %+v", m.Payload, r)
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
	for _, m := range stored(t, s) {
		got[string(m.Data)]++
	}
	for i := range callers * each {
		if n := got[fmt.Sprint("killed_", i)]; n != 1 {
			t.Errorf("killed_%d is there %d times", i, n)
		}
	}
}

// A server that hangs costs an attempt its time and no more; when it goes on, so does
// the transport.
func TestServerHangs(t *testing.T) {
	n := running(t)
	s, subject := stream(t, client(t, n.Addr), "hangs.", nil)
	tr := configured(t, settings(n.Addr, subject, nil))
	want(t, deliver(t, tr, message()), transport.Done, transport.Delivered, 0)
	n.Freeze()
	resume := sync.OnceFunc(n.Thaw)
	defer resume()
	start := time.Now()
	want(t, targettest.Within(tr, message(), 300*time.Millisecond), transport.Unknown, transport.Timeout, 0)
	// More than the kernel's buffers take, so that a write hangs.
	big := strings.Repeat("x", maxPayload/2)
	for range 16 {
		m := message()
		m.Payload = []byte(big)
		want(t, targettest.Within(tr, m, 50*time.Millisecond), transport.Unknown, transport.Timeout, 0)
	}
	if took := time.Since(start); took > 5*time.Second {
		t.Errorf("attempts of 1.1 s took %v", took)
	}
	fresh := configured(t, settings(n.Addr, subject, nil))
	want(t, targettest.Within(fresh, message(), 300*time.Millisecond), transport.None, transport.Timeout, 0)
	resume()
	want(t, targettest.Within(tr, message(), 20*time.Second), transport.Done, transport.Delivered, 0)
	if got := stored(t, s); len(got) < 2 || len(got) > 19 {
		t.Errorf("%d messages; two were acknowledged and 17 are unknown", len(got))
	}
}

// Close does not wait for a server that hangs, nor for attempts.
func TestCloseWhileHanging(t *testing.T) {
	n := running(t)
	_, subject := stream(t, client(t, n.Addr), "close.", nil)
	proxy := targettest.NewProxy(t, n.Addr)
	tr := configured(t, settings(proxy.Addr, subject, nil))
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
