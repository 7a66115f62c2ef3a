//go:build !unix

package socket

import (
	"io/fs"
	"syscall"
)

func withMode(fs.FileMode) func(_, _ string, _ syscall.RawConn) error { return nil }

// refused takes every failure for a dead daemon: the errors of other systems do
// not tell, and binding fails if it was not.
func refused(error) bool { return true }

func lockDir(string) (unlock func()) { return func() {} }
