//go:build unix && !linux

package host_test

import (
	"syscall"
	"testing"
	"time"
)

func awaitExit(t *testing.T, pid int) {
	t.Helper()
	for range 200 {
		if syscall.Kill(pid, 0) != nil {
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
	t.Errorf("process %d outlives its host", pid)
}
