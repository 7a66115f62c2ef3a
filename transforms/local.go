package transforms

import (
	"fmt"
	"os"
	"time"

	pb "github.com/hookline/hookline/transforms/transformpb"
)

// Local runs a script in this very process, as the script process does it. It is
// for benchmarks and tests that want the engine without the hop, and never for
// the daemon: foreign code does not run there (invariant 5).
type Local struct {
	server  *server
	program *program
	timeout time.Duration
}

// NewLocal reads and compiles a script. It keeps up to idle runtimes for later
// runs. The error is a *[CompileError] if the script is to blame.
func NewLocal(s Script, idle int) (*Local, error) {
	source, err := os.ReadFile(s.Path)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", s.Name, err)
	}
	p, problems := compile(s.Name, source, idle)
	if len(problems) > 0 {
		return nil, compileError(s.Name, problems)
	}
	if s.Timeout <= 0 {
		s.Timeout = DefaultTimeout
	}
	return &Local{server: newServer(), program: p, timeout: s.Timeout}, nil
}

// Close ends what watches the scripts. There must be no more runs.
func (l *Local) Close() { l.server.stop() }

// Run runs the script on one event. Calls may come concurrently.
func (l *Local) Run(req *pb.RunRequest) *pb.RunResponse {
	if req.GetTimeout() == 0 {
		req.Timeout = int64(l.timeout)
	}
	j := &job{server: l.server, program: l.program, req: req, end: time.Now().Add(l.timeout)}
	return j.outcome()
}
