package alerts

import (
	"bytes"
	"context"
	"log/slog"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/hookline/hookline/plugins/transport"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// hung is a target that answers when its caller's deadline is there.
type hung struct{ calls chan *transport.Message }

func (h hung) Deliver(ctx context.Context, m *transport.Message) transport.Receipt {
	h.calls <- m
	<-ctx.Done()
	return transport.Failed(transport.Unknown, transport.Timeout, "")
}

// A target that hangs does not keep the watch from looking, every send has a
// deadline, and Run ends.
func TestHungTarget(t *testing.T) {
	times := Usual
	times.Every, times.Send, times.Retry, times.RetryMax = time.Millisecond, 50*time.Millisecond, time.Millisecond, time.Millisecond
	h := hung{make(chan *transport.Message, 100)}
	var looks atomic.Int64
	var mu sync.Mutex
	var out bytes.Buffer
	w := New(Options{
		Times: times, Log: slog.New(slog.NewTextHandler(writer(func(p []byte) (int, error) { mu.Lock(); defer mu.Unlock(); return out.Write(p) }), nil)),
		Look: func(context.Context) Look {
			looks.Add(1)
			return Look{At: time.Now(), Active: []Condition{dead("ehr")}}
		},
		Target: func() Target { return Target{Transport: "ops", Sender: h, Node: "n"} },
	})
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan struct{})
	go func() { defer close(ended); w.Run(ctx) }()
	first := <-h.calls
	before := looks.Load()
	second := <-h.calls
	if looks.Load() < before+2 {
		t.Error("it does not look while it sends")
	}
	if first.ID != second.ID || first.Attempt != 1 || second.Attempt != 2 || first.Kind != "alert" || first.Hook != "" || first.Route != "" {
		t.Errorf("%+v %+v", first, second)
	}
	cancel()
	select {
	case <-ended:
	case <-time.After(10 * time.Second):
		t.Fatal("it does not end")
	}
	mu.Lock()
	defer mu.Unlock()
	if n := strings.Count(out.String(), "could not be sent"); n != 1 {
		t.Errorf("said %d times:\n%s", n, out.String())
	}
}

type writer func([]byte) (int, error)

func (w writer) Write(p []byte) (int, error) { return w(p) }
