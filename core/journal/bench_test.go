package journal

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/hookline/hookline/core"
	"github.com/hookline/hookline/plugins/transport"
)

// BenchmarkEvent is what an event that is delivered at once costs: begin, settle
// and answered. With 64 callers the batches are of about that size.
func BenchmarkEvent(b *testing.B) {
	for _, callers := range []int{1, 64} {
		b.Run(fmt.Sprintf("memory/%d", callers), func(b *testing.B) { bench(b, "memory:", callers) })
		b.Run(fmt.Sprintf("sqlite/%d", callers), func(b *testing.B) { bench(b, "sqlite:"+b.TempDir()+"/j.db", callers) })
	}
}

func bench(b *testing.B, url string, callers int) {
	s := open(b, Options{URL: url})
	body := make([]byte, 85)
	set := core.Settlement{State: core.StateDelivered, Code: transport.Delivered, Attempts: []core.Attempt{{
		N: 1, Start: time.Now(), Took: time.Millisecond,
		Receipt: transport.Receipt{Effect: transport.Done, Code: transport.Delivered, TargetStatus: 200, ContentType: "application/json", Body: []byte(`{"ok":true}`)},
	}}}
	var n atomic.Int64
	var wg sync.WaitGroup
	b.ResetTimer()
	for range callers {
		wg.Go(func() {
			for {
				i := n.Add(1)
				if i > int64(b.N) {
					return
				}
				ev := newEvent(fmt.Sprint(i))
				ev.Body = body
				p := place(ev, "r", true)
				if err := s.Begin(context.Background(), &core.Entry{Event: ev, Deliveries: []*core.Placement{p}}); err != nil {
					b.Error(err)
					return
				}
				s.Settle(p.Delivery, set)
				s.Answered(ev, core.AnswerRecord{Status: 200, Code: transport.Delivered})
			}
		})
	}
	wg.Wait()
	if err := s.Close(); err != nil {
		b.Fatal(err)
	}
}

// BenchmarkVerify reads a journal of 100,000 events.
func BenchmarkVerify(b *testing.B) {
	s := open(b, Options{URL: "sqlite:" + b.TempDir() + "/j.db"})
	fill(b, s, 100_000)
	for b.Loop() {
		if v := verified(b, s); len(v.Findings) > 0 || v.Rows < 300_000 {
			b.Fatalf("%+v", v)
		}
	}
}
