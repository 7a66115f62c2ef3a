//go:build unix

package socket

import (
	"errors"
	"io/fs"
	"os"
	"syscall"
	"time"
)

// withMode gives the socket its mode before others can see its file, where the
// system can do that (Linux). Elsewhere the Chmod after the bind does it.
func withMode(mode fs.FileMode) func(_, _ string, c syscall.RawConn) error {
	return func(_, _ string, c syscall.RawConn) error {
		return c.Control(func(fd uintptr) { _ = syscall.Fchmod(int(fd), uint32(mode)) })
	}
}

func refused(err error) bool { return errors.Is(err, syscall.ECONNREFUSED) }

// lockWait is how long another may hold a folder's lock. A daemon does so for
// moments; but whoever may look into the folder can lock it, and must not keep a daemon
// from starting.
var lockWait = 3 * time.Second // shorter in tests

// lockDir holds other daemons off while a socket in dir is looked at and made. If
// it cannot be locked, listening says why or works all the same.
func lockDir(dir string) (unlock func()) {
	f, err := os.Open(dir)
	if err != nil {
		return func() {}
	}
	for end := time.Now().Add(lockWait); time.Now().Before(end); time.Sleep(5 * time.Millisecond) {
		err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
		if !errors.Is(err, syscall.EWOULDBLOCK) && !errors.Is(err, syscall.EINTR) {
			break
		}
	}
	return func() { f.Close() }
}
