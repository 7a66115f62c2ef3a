package http1

import (
	"syscall"

	"golang.org/x/sys/unix"
)

// isClosed asks the system, which knows it whatever of the other side is still unread: a
// request ahead of its turn, the empty line behind a body, TLS's farewell.
func isClosed(sys syscall.RawConn, _ bool) (closed bool) {
	err := sys.Control(func(fd uintptr) {
		ask := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLRDHUP}}
		_, err := unix.Poll(ask, 0)
		closed = err == nil && ask[0].Revents != 0
	})
	return closed || err != nil
}
