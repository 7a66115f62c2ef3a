//go:build !linux

package admin

import "net"

// peerOf: the socket's mode admits only the daemon's own user.
func peerOf(net.Conn) string { return "" }
