package transforms

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"runtime"
	"runtime/debug"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	"github.com/hookline/hookline/plugins/pipeline"
	pb "github.com/hookline/hookline/transforms/transformpb"
)

// server is the child's side of the hop.
type server struct {
	pb.UnimplementedTransformServiceServer

	turns  *turns
	memory *memory

	mu       sync.RWMutex
	programs map[string]*program
	provided map[string]*table // by fileID
}

func newServer() *server {
	s := &server{
		turns:    newTurns(max(2, runtime.GOMAXPROCS(0))),
		programs: make(map[string]*program),
		provided: make(map[string]*table),
	}
	s.memory = watchMemory(s.turns)
	return s
}

// stop ends the goroutines. There must be no more runs.
func (s *server) stop() {
	s.memory.stop()
	s.turns.stop()
}

// Configure sets the limits of the process.
func (s *server) Configure(_ context.Context, req *pb.ConfigureRequest) (*pb.ConfigureResponse, error) {
	s.memory.setLimit(req.GetMemory())
	return &pb.ConfigureResponse{}, nil
}

// Load compiles a script.
func (s *server) Load(_ context.Context, req *pb.LoadRequest) (out *pb.LoadResponse, err error) {
	defer notPanic(&err)
	if s.program(req.GetScriptId()) != nil {
		return &pb.LoadResponse{}, nil
	}
	p, problems := compile(req.GetName(), req.GetSource(), s.turns.total)
	if len(problems) > 0 {
		return &pb.LoadResponse{Problems: problems}, nil
	}
	p.tests = req.GetTests()
	if p.given, err = s.given(req); err != nil {
		return nil, err
	}
	// Its top level is foreign code as well, and must not disturb a run that is to
	// be alone.
	f, err := s.evaluate(p, req.GetTimeout().AsDuration(), 1)
	if err == nil && f != nil && f.reason == pb.Reason_REASON_MEMORY { // it may have been another's
		f, err = s.evaluate(p, req.GetTimeout().AsDuration(), s.turns.total)
	}
	if err != nil {
		return nil, err
	}
	if f != nil {
		return &pb.LoadResponse{Problems: []*pb.Problem{p.problem(f.at, p.given.redact.String(f.text))}}, nil
	}
	p.kept = nil // it was for problems, and is large
	s.mu.Lock()
	defer s.mu.Unlock()
	s.programs[req.GetScriptId()] = p
	return &pb.LoadResponse{}, nil
}

// evaluate runs a script's top level when so many processors are free.
func (s *server) evaluate(p *program, limit time.Duration, need int) (*failure, error) {
	if !s.turns.enter(need, time.Now().Add(loadTimeout)) {
		return nil, status.Error(codes.DeadlineExceeded, "other scripts took all the time there was")
	}
	defer s.turns.leave(need)
	return evaluateOnce(p, s.memory, limit), nil
}

// Unload forgets a script.
func (s *server) Unload(_ context.Context, req *pb.UnloadRequest) (*pb.UnloadResponse, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.programs, req.GetScriptId())
	return &pb.UnloadResponse{}, nil
}

// Stream runs scripts on events. Every run is answered in time, whatever its script
// does; what a stuck one sends later is dropped.
func (s *server) Stream(stream grpc.BidiStreamingServer[pb.StreamRequest, pb.StreamResponse]) error {
	h := &hop{waiting: make(map[uint64]chan *pb.CallResult)}
	h.Outbox = pipeline.NewOutbox(stream.Send, pipeline.Together[pb.StreamResponse]{
		Join: func(first *pb.StreamResponse, more []*pb.StreamResponse) { first.More = more },
		Size: func(f *pb.StreamResponse) int {
			if messages := f.GetEnd().GetMessages(); len(messages) == 1 && messages[0].Headers == nil && f.GetEnd().Logs == nil {
				return len(messages[0].GetPayload()) + len(messages[0].GetKey()) + len(messages[0].GetPath())
			}
			return proto.Size(f)
		},
	})
	defer h.end()
	for {
		frame, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		s.take(h, frame)
		for _, one := range frame.GetMore() {
			s.take(h, one)
		}
	}
}

func (s *server) take(h *hop, frame *pb.StreamRequest) {
	switch f := frame.GetFrame().(type) {
	case *pb.StreamRequest_Begin:
		s.begin(h, frame.GetRun(), f.Begin)
	case *pb.StreamRequest_Result:
		h.result(frame.GetRun(), f.Result)
	}
}

// begin lets a run wait for its turn.
func (s *server) begin(h *hop, id uint64, req *pb.RunRequest) {
	j := &job{server: s, hop: h, id: id, req: req, program: s.program(req.GetScriptId())}
	if j.program == nil {
		j.answer(failedFor(pb.Reason_REASON_NOT_LOADED, "the script is not loaded"))
		return
	}
	now := time.Now()
	j.end = now.Add(time.Duration(req.GetBudget()))
	patience := now.Add(time.Duration(min(req.GetPatience(), req.GetBudget())))
	s.turns.begin(req.GetAlone(), patience, j.run, func() {
		j.answer(failedFor(pb.Reason_REASON_QUEUED, "other scripts took all the time there was"))
	})
}

// job is one run on its way through the process.
type job struct {
	server  *server
	hop     *hop
	id      uint64
	program *program
	req     *pb.RunRequest
	end     time.Time // of the event's budget
	once    sync.Once
	clock   *clock
	calls   uint64
	lost    bool // its processors, while it waited for the host
}

// run runs the script and tells whether it still has its processors.
func (j *job) run() bool {
	if j.req.GetAlone() {
		j.server.memory.settle()
		if _, err := j.ask(methodAlone, nil); err != nil {
			j.answer(failedFor(pb.Reason_REASON_QUEUED, err.Error()))
			return true
		}
	}
	out := j.outcome()
	if j.req.GetAlone() {
		_, _ = j.ask(methodOver, nil) // an error means that the time is over, or the stream
	}
	j.answer(out)
	return !j.lost
}

func (j *job) outcome() (out *pb.RunResponse) {
	defer func() {
		if p := recover(); p != nil {
			// What it says may quote a record (invariant 7): only the stack is logged.
			slog.Error("the script engine panicked", "stack", string(debug.Stack()))
			out = &pb.RunResponse{Failure: &pb.Failure{Text: "the script engine panicked"}}
		}
	}()
	return runScript(j)
}

// limit is how long the script may run from now on.
func (j *job) limit() time.Duration {
	return min(time.Duration(j.req.GetTimeout()), time.Until(j.end))
}

// answer ends the run for the host. Only the first answer counts.
func (j *job) answer(out *pb.RunResponse) {
	j.once.Do(func() {
		j.hop.Send(&pb.StreamResponse{Run: j.id, Frame: &pb.StreamResponse_End{End: out}})
	})
}

// errCallOver is a host call whose run has no time left; the script is interrupted.
var errCallOver = errors.New("no time was left for the call")

// callError is a host call that the host could not answer.
type callError struct{ code, text string }

func (e *callError) Error() string { return e.text }

// call asks the host for something and waits. Meanwhile others have the processors,
// and the script's clock stands still. The error is a *callError, or errCallOver.
func (j *job) call(method string, argument []byte) (value []byte, err error) {
	need := j.server.turns.need(j.req.GetAlone())
	j.clock.pause()
	j.server.turns.leave(need)
	j.lost = true
	value, err = j.ask(method, argument)
	if errors.Is(err, errCallOver) || !j.server.turns.enter(need, j.end) {
		j.clock.expire()
		return nil, errCallOver
	}
	j.lost = false
	j.clock.resume(time.Until(j.end))
	return value, err
}

// ask sends a call and waits for its result.
func (j *job) ask(method string, argument []byte) ([]byte, error) {
	j.calls++
	result := j.hop.expect(j.id)
	defer j.hop.forget(j.id)
	j.hop.Send(&pb.StreamResponse{Run: j.id, Frame: &pb.StreamResponse_Call{Call: &pb.HostCall{
		Call: j.calls, Method: method, Argument: argument,
	}}})
	over := time.NewTimer(time.Until(j.end))
	defer over.Stop()
	for {
		select {
		case r, ok := <-result:
			switch f := r.GetFailure(); {
			case !ok:
				return nil, errCallOver
			case r.GetCall() != j.calls: // of an earlier call
			case f != nil:
				return nil, &callError{f.GetCode(), f.GetText()}
			default:
				return r.GetValue(), nil
			}
		case <-over.C:
			return nil, errCallOver
		}
	}
}

// hop is the child's end of one stream. A stuck run may still send when it has ended.
type hop struct {
	*pipeline.Outbox[pb.StreamResponse]

	mu      sync.Mutex
	waiting map[uint64]chan *pb.CallResult // by run; nil: the stream has ended
}

// expect gives a run's next result a place, which is closed if the stream ends.
func (h *hop) expect(run uint64) <-chan *pb.CallResult {
	place := make(chan *pb.CallResult, 1)
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.waiting == nil {
		close(place)
	} else {
		h.waiting[run] = place
	}
	return place
}

func (h *hop) forget(run uint64) {
	h.mu.Lock()
	defer h.mu.Unlock()
	delete(h.waiting, run)
}

func (h *hop) result(run uint64, r *pb.CallResult) {
	h.mu.Lock()
	defer h.mu.Unlock()
	select {
	case h.waiting[run] <- r: // nobody waits on nil
	default:
	}
}

func (h *hop) end() {
	h.End()
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, place := range h.waiting {
		close(place)
	}
	h.waiting = nil
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
