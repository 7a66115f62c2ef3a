//go:build !unix

package host

import "os/exec"

// hostPipe: Windows passes no extra files to a child.
func hostPipe(*exec.Cmd) (closePipe func(), err error) { return func() {}, nil }
