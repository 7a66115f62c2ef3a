//go:build unix

package admin

import (
	"errors"
	"syscall"
)

// beforeBind gives the socket its mode before others can see its file, where the
// system can do that (Linux). Elsewhere the Chmod after the bind does it.
func beforeBind(_, _ string, c syscall.RawConn) error {
	return c.Control(func(fd uintptr) { _ = syscall.Fchmod(int(fd), socketMode) })
}

// dead tells from a failed dial that nobody listens.
func dead(err error) bool { return errors.Is(err, syscall.ECONNREFUSED) }
