//go:build unix

package socket

import (
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"
)

// Anyone who may read a folder can lock it for ever; a daemon starts all the same.
func TestLockedFolder(t *testing.T) {
	defer func(was time.Duration) { lockWait = was }(lockWait)
	lockWait = 50 * time.Millisecond
	dir := t.TempDir()
	f, err := os.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX); err != nil {
		t.Fatal(err)
	}
	listening := make(chan error, 1)
	go func() {
		l, err := Listen("unix:"+filepath.Join(dir, "h.sock"), 0o660)
		if err == nil {
			l.Close()
		}
		listening <- err
	}()
	select {
	case err := <-listening:
		if err != nil {
			t.Error(err)
		}
	case <-time.After(10 * time.Second):
		t.Error("it waits for the lock")
	}
}
