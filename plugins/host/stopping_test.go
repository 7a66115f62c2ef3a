//go:build unix

package host_test

import (
	"syscall"
	"testing"
	"time"

	"github.com/hookline/hookline/plugins/host"
	"github.com/hookline/hookline/plugins/transport"
)

// Whoever has to end a process now finds it, also while somebody waits for its last
// attempt to end.
func TestStatusWhileItIsStopped(t *testing.T) {
	tr, err := host.StartTransport(t.Context(), spec(t, &logs{}, `{"url":"http://x"}`))
	if err != nil {
		t.Fatal(err)
	}
	result := make(chan transport.Receipt, 1)
	go func() { result <- deliver(t, tr, "wait", time.Minute) }()
	for tr.InFlight() == 0 {
		time.Sleep(time.Millisecond) // a pace for the loop
	}
	stopped := make(chan struct{})
	go func() { tr.Stop(); close(stopped) }()
	for tr.Description().Name != "" {
		time.Sleep(time.Millisecond) // a pace for the loop
	}
	s := tr.Status()
	if s.PID == 0 || s.State != host.Running {
		t.Fatalf("with an attempt in flight: %+v", s)
	}
	signal(t, s.PID, syscall.SIGKILL)
	if r := <-result; r.Code != transport.PluginCrashed {
		t.Errorf("the attempt ended as %+v", r)
	}
	<-stopped
	if s := tr.Status(); s.State != host.Stopped || s.PID != 0 {
		t.Errorf("after the stop: %+v", s)
	}
}
