//go:build unix

package plugins

import "syscall"

// closeOnExec keeps the host pipe out of a plugin's own children, which would
// hold nothing open but could read it.
func closeOnExec(fd int) { syscall.CloseOnExec(fd) }
