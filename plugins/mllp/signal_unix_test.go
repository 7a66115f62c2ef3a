//go:build unix

package mllp_test

import (
	"os"
	"syscall"

	"github.com/hookline/hookline/plugins/target/targettest"
)

func pause(p *os.Process) error  { return targettest.Freeze(p.Pid) }
func resume(p *os.Process) error { return p.Signal(syscall.SIGCONT) }
