//go:build unix

package journal

import (
	"os"
	"syscall"
)

// sameOwner gives a file to the owner of another: root may vacuum what a daemon's
// user must write.
func sameOwner(f *os.File, like os.FileInfo) error {
	now, err := f.Stat()
	if err != nil {
		return err
	}
	want, ok := like.Sys().(*syscall.Stat_t)
	have, known := now.Sys().(*syscall.Stat_t)
	if !ok || !known || want.Uid == have.Uid && want.Gid == have.Gid {
		return nil
	}
	return f.Chown(int(want.Uid), int(want.Gid))
}
