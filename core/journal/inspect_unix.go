//go:build unix

package journal

import "golang.org/x/sys/unix"

// writable tells whether this process may write to path, without writing.
func writable(path string) error { return unix.Access(path, unix.W_OK) }
