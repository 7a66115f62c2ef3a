package transforms

import (
	"context"
	"log/slog"
	"runtime"
	"runtime/debug"
	"sync"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	pb "github.com/hookline/hookline/transforms/transformpb"
)

// stuckAfter is how long after its limit a script that does not answer the
// interrupt is called stuck: the process is killed for it, which the others in it
// notice, so a busy machine gets some time.
const stuckAfter = 70 * time.Millisecond

// server is the child's side of the hop.
type server struct {
	pb.UnimplementedTransformServiceServer

	// jobs feeds as many workers as scripts may run at once: more than there are
	// processors would only take time from each other, and deadlines with it. A
	// worker's goroutine keeps its grown stack for the next script.
	jobs    chan job
	workers int
	ended   sync.WaitGroup

	mu       sync.RWMutex
	programs map[string]*program
	provided map[string]*table // by fileID
}

// job is one run, handed to a worker.
type job struct {
	program *program
	req     *pb.RunRequest
	end     time.Time              // of the event's budget
	out     chan<- *pb.RunResponse // buffered: a stuck run's answer is not waited for
}

func newServer() *server {
	s := &server{
		jobs:     make(chan job),
		workers:  max(2, runtime.GOMAXPROCS(0)),
		programs: make(map[string]*program),
		provided: make(map[string]*table),
	}
	for range s.workers {
		s.ended.Go(func() {
			for j := range s.jobs {
				j.run()
			}
		})
	}
	return s
}

// stop ends the workers. There must be no more runs.
func (s *server) stop() {
	close(s.jobs)
	s.ended.Wait()
}

func (j job) run() {
	defer func() {
		if p := recover(); p != nil {
			// What it says may quote a record (invariant 7): only the stack is logged.
			slog.Error("the script engine panicked", "stack", string(debug.Stack()))
			j.out <- &pb.RunResponse{Failure: &pb.Failure{Text: "the script engine panicked"}}
		}
	}()
	j.out <- runScript(j.program, j.req, j.limit())
}

// limit is how long the script may run from now on.
func (j job) limit() time.Duration {
	return min(j.req.GetTimeout().AsDuration(), time.Until(j.end))
}

// Load compiles a script.
func (s *server) Load(_ context.Context, req *pb.LoadRequest) (out *pb.LoadResponse, err error) {
	defer notPanic(&err)
	if s.program(req.GetScriptId()) != nil {
		return &pb.LoadResponse{}, nil
	}
	p, problems := compile(req.GetName(), req.GetSource(), s.workers)
	if len(problems) > 0 {
		return &pb.LoadResponse{Problems: problems}, nil
	}
	p.tests = req.GetTests()
	if p.given, err = s.given(req); err != nil {
		return nil, err
	}
	if f := evaluateOnce(p, req.GetTimeout().AsDuration()); f != nil {
		return &pb.LoadResponse{Problems: []*pb.Problem{p.problem(f.at, p.given.redact.String(f.text))}}, nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.programs[req.GetScriptId()] = p
	return &pb.LoadResponse{}, nil
}

// Unload forgets a script.
func (s *server) Unload(_ context.Context, req *pb.UnloadRequest) (*pb.UnloadResponse, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.programs, req.GetScriptId())
	return &pb.UnloadResponse{}, nil
}

// Run runs a script on one event. It answers in time whatever the script does.
func (s *server) Run(_ context.Context, req *pb.RunRequest) (*pb.RunResponse, error) {
	p := s.program(req.GetScriptId())
	if p == nil {
		return nil, status.Error(codes.NotFound, "the script is not loaded")
	}
	out := make(chan *pb.RunResponse, 1)
	j := job{program: p, req: req, end: time.Now().Add(req.GetBudget().AsDuration()), out: out}
	if !s.hand(j) {
		return failedFor(pb.Reason_REASON_QUEUED, "other scripts took all the time there was"), nil
	}
	watchdog := time.NewTimer(j.limit() + stuckAfter)
	defer watchdog.Stop()
	select {
	case r := <-out:
		return r, nil
	case <-watchdog.C:
		return failedFor(pb.Reason_REASON_STUCK, "the script did not end in time and could not be interrupted"), nil
	}
}

// hand gives a job to a worker and tells whether one took it in time.
func (s *server) hand(j job) bool {
	select {
	case s.jobs <- j:
		return true
	default:
	}
	patience := time.NewTimer(time.Until(j.end))
	defer patience.Stop()
	select {
	case s.jobs <- j:
		return true
	case <-patience.C:
		return false
	}
}

func failedFor(reason pb.Reason, text string) *pb.RunResponse {
	return &pb.RunResponse{Failure: &pb.Failure{Reason: reason, Text: text}}
}

func (s *server) program(id string) *program {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return s.programs[id]
}

// notPanic makes a panic a gRPC error. What it says may quote a record
// (invariant 7): only the stack is logged.
func notPanic(err *error) {
	if p := recover(); p != nil {
		slog.Error("the script engine panicked", "stack", string(debug.Stack()))
		*err = status.Error(codes.Internal, "the script engine panicked")
	}
}
