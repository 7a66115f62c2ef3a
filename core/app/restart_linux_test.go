package app_test

import (
	"bytes"
	"fmt"
	"io"
	"net/http"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/hookline/hookline/core"
	"github.com/hookline/hookline/core/journal"
)

// A restart under load, with the socket held by systemd, refuses no call: what
// comes meanwhile waits, and what was taken in is delivered, once.
func TestRestartUnderLoad(t *testing.T) {
	ehr := newTarget(t, nil)
	file, addr := heldSocket(t)
	d := prepare(t, preamble+route("ehr", ehr.url, quick, "")+route("lab", ehr.url, "mode = \"async\"\n"+quick, ""))

	daemon, _ := spawn(t, d, []string{modeActivate}, file)
	var sent, answered atomic.Int64
	stop := make(chan struct{})
	var callers sync.WaitGroup
	for i := range 16 {
		// Half of them keep their connections, as .NET does.
		client := &http.Client{Transport: &http.Transport{DisableKeepAlives: i%2 == 0}, Timeout: 30 * time.Second}
		callers.Go(func() {
			defer client.CloseIdleConnections()
			for {
				select {
				case <-stop:
					return
				default:
				}
				n := sent.Add(1)
				req, err := http.NewRequest(http.MethodPost, "http://"+addr.String()+"/hooks/demo", bytes.NewReader(save(fmt.Sprint(n), 1)))
				if err != nil {
					t.Error(err)
					return
				}
				req.SetBasicAuth(hookEmail, hookPassword)
				resp, err := client.Do(req)
				if err != nil {
					t.Errorf("call %d: %v", n, err)
					return
				}
				body, err := io.ReadAll(resp.Body)
				_ = resp.Body.Close()
				if err != nil || resp.StatusCode != http.StatusOK && resp.StatusCode != http.StatusAccepted {
					t.Errorf("call %d: %d %s %v", n, resp.StatusCode, body, err)
					return
				}
				answered.Add(1)
			}
		})
	}
	more := func(n int64) {
		want := answered.Load() + n
		eventually(t, "answers", func() bool { return answered.Load() >= want || t.Failed() })
	}
	for range 3 {
		more(200)
		if err := daemon.Process.Signal(syscall.SIGTERM); err != nil {
			t.Fatal(err)
		}
		if err := daemon.Wait(); err != nil {
			t.Errorf("the daemon ended with %v", err)
		}
		daemon, _ = spawn(t, d, []string{modeActivate}, file)
	}
	more(200)
	close(stop)
	callers.Wait()
	want := int(2 * sent.Load()) // two routes
	eventually(t, "all to arrive", func() bool { return len(ehr.got()) >= want })
	if err := daemon.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	_ = daemon.Wait()
	if n := len(ehr.got()); n != want {
		t.Errorf("%d messages arrived, want %d", n, want)
	}
	s, err := journal.Open(t.Context(), journal.Options{URL: "sqlite:" + d.dir + "/hookline.db", Log: discardSlog()})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = s.Close() }()
	open := []core.State{core.StateQueued, core.StateRunning, core.StateWaiting, core.StateUnknown, core.StateHeld}
	if rows, _, err := s.Deliveries(t.Context(), journal.DeliveryFilter{States: open}); err != nil || len(rows) > 0 {
		t.Errorf("still open: %+v %v", rows, err)
	}
}
