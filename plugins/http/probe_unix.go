//go:build darwin || dragonfly || freebsd || linux || netbsd || openbsd

package http

import "syscall"

// probeFD reads without waiting. Only "nothing there, still open" is good.
func (c *conn) probeFD(fd uintptr) bool {
	var b [1]byte
	_, err := syscall.Read(int(fd), b[:])
	c.dead = err != syscall.EAGAIN && err != syscall.EWOULDBLOCK
	return true
}
