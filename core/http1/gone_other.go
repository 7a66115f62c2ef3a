//go:build !unix

package http1

import "syscall"

func isClosed(syscall.RawConn, bool) bool { return false }
