//go:build unix

package host

import (
	"fmt"
	"os"
	"os/exec"

	"github.com/hookline/hookline/plugins"
)

// hostPipe gives the child a pipe whose other end closes when this process ends
// in whatever way (invariant 5).
func hostPipe(cmd *exec.Cmd) (closePipe func(), err error) {
	r, w, err := os.Pipe()
	if err != nil {
		return nil, fmt.Errorf("host pipe: %w", err)
	}
	cmd.ExtraFiles = []*os.File{r}
	cmd.Env = append(cmd.Env, plugins.HostPipeEnv+"=3") // the first of ExtraFiles
	return func() { _, _ = r.Close(), w.Close() }, nil
}
