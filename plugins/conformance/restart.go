package conformance

import (
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hookline/hookline/plugins/transport"
)

// checkRestart takes the target down and up again in the middle of load. Each
// message is sent until it is delivered, as Hookline does it; then the target must
// have each as often as the receipts allow.
func checkRestart(t *trial) {
	const callers, each = 8, 25
	const within = time.Minute
	target := t.target()
	i := t.start(target)
	idempotent := i.Description().Idempotent

	type sent struct {
		*transport.Message
		unknown int // attempts whose effect is unknown
		done    bool
	}
	all := make([]*sent, callers*each)
	for n := range all {
		all[n] = &sent{Message: t.message(fmt.Sprintf(`{"restart":%d}`, n))}
	}
	var failures atomic.Int64
	third, failed := make(chan struct{}), make(chan struct{})
	var delivered atomic.Int64
	var calls sync.WaitGroup
	end := time.Now().Add(within)
	for c := range callers {
		calls.Go(func() {
			for _, m := range all[c*each : (c+1)*each] {
				for ; !m.done && time.Now().Before(end); m.Attempt++ {
					r := t.attempt(i, m.Message, 2*time.Second)
					switch r.Effect {
					case transport.Done:
						m.done = true
						if delivered.Add(1) == int64(len(all)/3) {
							close(third)
						}
						continue
					case transport.Unknown:
						m.unknown++
					}
					if failures.Add(1) == callers {
						close(failed)
					}
					time.Sleep(10 * time.Millisecond) // as much a pause as a retry has, and no more
				}
			}
		})
	}
	await(third, end)
	target.Set(Down)
	await(failed, time.Now().Add(ample))
	target.Set(Up)
	calls.Wait()

	got := map[string]int{}
	for _, p := range target.Received() {
		got[string(p)]++
	}
	for _, m := range all {
		n, most := got[string(m.Payload)], 1+m.unknown
		if idempotent {
			most = 1
		}
		switch {
		case !m.done:
			t.Fatalf("a message was not delivered within %v, though the target is back", within)
		case n == 0:
			t.Fatalf("a message was reported as delivered, and the target does not have it: it is lost")
		case n > most:
			t.Fatalf("the target has a message %d times, which was delivered once and unknown %d times (idempotent: %t)", n, m.unknown, idempotent)
		}
	}
}

func await(c <-chan struct{}, until time.Time) {
	timer := time.NewTimer(time.Until(until))
	defer timer.Stop()
	select {
	case <-c:
	case <-timer.C:
	}
}
