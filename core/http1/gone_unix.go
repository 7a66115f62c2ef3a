//go:build unix && !linux

package http1

import (
	"errors"
	"syscall"

	"golang.org/x/sys/unix"
)

// isClosed looks at what the other side has said last, and takes nothing of it.
func isClosed(sys syscall.RawConn, overTLS bool) (closed bool) {
	err := sys.Control(func(fd uintptr) {
		var b [5]byte
		n, _, err := unix.Recvfrom(int(fd), b[:], unix.MSG_PEEK|unix.MSG_DONTWAIT)
		switch {
		case errors.Is(err, unix.EAGAIN), errors.Is(err, unix.EINTR):
		case err != nil, n == 0:
			closed = true
		default:
			closed = overTLS && isAlert(b)
		}
	})
	return closed || err != nil
}

// isAlert tells whether a TLS record is an alert, as the farewell is: one in clear, or
// one that TLS 1.3 has wrapped, which shows by its length (RFC 8446 section 5). An empty
// line in a record of its own has the same.
func isAlert(head [5]byte) bool {
	const alert, wrapped, wrappedAlert = 21, 23, 2 + 1 + 16
	return head[0] == alert || head[0] == wrapped && head[3] == 0 && head[4] == wrappedAlert
}
