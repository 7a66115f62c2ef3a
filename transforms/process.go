package transforms

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/hookline/hookline/plugins/pipeline"
	pb "github.com/hookline/hookline/transforms/transformpb"
)

// TrialKit answers what scripts ask of TrialKit's API.
type TrialKit interface {
	// Get reads path from the API of the hook, within ctx's deadline, and returns the
	// answer as JSON. The script gets the error's text. ctx is that of the event's
	// Transform, or made of it: it knows since when a read is of use to the event.
	Get(ctx context.Context, hook, path string) (json []byte, err error)
}

// methodTrialKit is the host call that TrialKit answers.
const methodTrialKit = "trialkit.get"

// methodAlone says that a run which is to be alone begins now. It waits for the
// answer, so that the host knows whose fault it is if the process ends.
const methodAlone = "alone"

// methodOver says that such a run has nothing left to do but to answer. It waits for
// the reply too: what the next run does to the process could keep its answer from
// arriving, and it would be blamed.
const methodOver = "over"

// running is one life of the script process, with the runs that are in it.
type running struct {
	rpc      pb.TransformServiceClient
	trialkit TrialKit // nil: no hook has one
	pipe     *pipeline.Pipeline[pb.StreamRequest, pb.StreamResponse]

	// condemned: it is killed for a run that is known, so the others are not suspect.
	condemned atomic.Bool

	mu       sync.Mutex
	inFlight map[uint64]*flight
}

// flight is a run on its way.
type flight struct {
	parent context.Context
	end    time.Time          // of its budget
	ctx    context.Context    // of host calls, nil until there is one: it ends with the run
	cancel context.CancelFunc // of that; both are guarded by running.mu
	hook   string
	alone  atomic.Bool // it is on, and no other run
}

// open begins the stream of a new process.
func (p *running) open() error {
	p.inFlight = make(map[uint64]*flight)
	pipe, err := pipeline.Open(p.rpc.Stream, pipeline.Kind[pb.StreamRequest, pb.StreamResponse]{
		Number: (*pb.StreamResponse).GetRun, Aside: p.aside,
		Together: pipeline.Together[pb.StreamRequest]{
			Join: func(first *pb.StreamRequest, more []*pb.StreamRequest) { first.More = more },
			Size: func(f *pb.StreamRequest) int {
				return len(f.GetBegin().GetBody()) + len(f.GetBegin().GetRecord()) + len(f.GetResult().GetValue())
			},
		},
		More: (*pb.StreamResponse).GetMore,
	})
	if err != nil {
		return fmt.Errorf("stream: %w", err)
	}
	p.pipe = pipe
	return nil
}

// run runs a script once. The error is a gRPC status error: Unavailable or Canceled
// if the process is gone, DeadlineExceeded if it does not answer. alone tells whether
// it had begun without any other.
func (p *running) run(ctx context.Context, req *pb.RunRequest) (out *pb.RunResponse, alone bool, err error) {
	budget, begun := time.Duration(req.GetBudget()), time.Now()
	// A process that is frozen as a whole is noticed before the budget is over: a run
	// that waits for nobody has answered by then.
	patience := min(time.Duration(req.GetPatience()+req.GetTimeout())+stuckAfter, budget)
	id, answer, err := p.pipe.Begin(begun.Add(patience + grace))
	if err != nil {
		return nil, false, err
	}
	f := &flight{parent: ctx, end: begun.Add(budget), hook: req.GetHook()}
	p.mu.Lock()
	p.inFlight[id] = f
	p.mu.Unlock()
	defer func() {
		p.mu.Lock()
		delete(p.inFlight, id)
		if f.cancel != nil {
			f.cancel()
		}
		p.mu.Unlock()
	}()
	var in *pb.StreamResponse
	var ok bool
	select {
	case p.pipe.Frames <- &pb.StreamRequest{Run: id, Frame: &pb.StreamRequest_Begin{Begin: req}}:
		in, ok = <-answer
	case in, ok = <-answer:
	}
	switch {
	case !ok:
		return nil, f.alone.Load(), p.pipe.Err()
	case in == nil:
		return nil, f.alone.Load(), status.Error(codes.DeadlineExceeded, "no answer on the stream")
	}
	return in.GetEnd(), f.alone.Load(), nil
}

// aside takes the frames that are calls to the host.
func (p *running) aside(in *pb.StreamResponse) bool {
	call := in.GetCall()
	if call == nil {
		return false
	}
	p.mu.Lock()
	f := p.inFlight[in.GetRun()]
	if f == nil {
		p.mu.Unlock()
		return true // its run was given up
	}
	if f.ctx == nil {
		f.ctx, f.cancel = context.WithDeadline(context.WithoutCancel(f.parent), f.end)
	}
	ctx := f.ctx
	p.mu.Unlock()
	switch call.GetMethod() {
	case methodAlone, methodOver:
		f.alone.Store(call.GetMethod() == methodAlone)
	default:
		p.pipe.Extend(in.GetRun(), f.end.Add(grace)) // it is alive and waits for the host
	}
	go p.serve(ctx, f.hook, in.GetRun(), call) // it ends with ctx
	return true
}

// serve answers a call, unless the process is gone before.
func (p *running) serve(ctx context.Context, hook string, run uint64, call *pb.HostCall) {
	result := &pb.CallResult{Call: call.GetCall()}
	value, failure := p.ask(ctx, hook, call)
	if failure != nil {
		result.Outcome = &pb.CallResult_Failure{Failure: failure}
	} else {
		result.Outcome = &pb.CallResult_Value{Value: value}
	}
	select {
	case p.pipe.Frames <- &pb.StreamRequest{Run: run, Frame: &pb.StreamRequest_Result{Result: result}}:
	case <-ctx.Done():
	case <-p.pipe.Ended:
	}
}

func (p *running) ask(ctx context.Context, hook string, call *pb.HostCall) ([]byte, *pb.CallFailure) {
	switch {
	case call.GetMethod() == methodAlone, call.GetMethod() == methodOver:
		return nil, nil
	case call.GetMethod() != methodTrialKit:
		return nil, &pb.CallFailure{Code: "unknown", Text: "the host does not know the call " + call.GetMethod()}
	case p.trialkit == nil:
		return nil, &pb.CallFailure{Code: "unavailable", Text: "hook " + hook + " has no [hooks." + hook + ".trialkit]"}
	}
	value, err := p.trialkit.Get(ctx, hook, string(call.GetArgument()))
	switch {
	case err == nil:
		return value, nil
	case errors.Is(err, context.DeadlineExceeded):
		return nil, &pb.CallFailure{Code: "timeout", Text: err.Error()}
	default:
		return nil, &pb.CallFailure{Code: "failed", Text: err.Error()}
	}
}
