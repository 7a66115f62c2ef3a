package host

import (
	"os/exec"
	"syscall"
)

// dieWithHost has the kernel kill the child even if it does not watch its pipe.
func dieWithHost(cmd *exec.Cmd) {
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
}
