package pipeline_test

import (
	"context"
	"errors"
	"io"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/hookline/hookline/plugins/pipeline"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// frame is what goes either way.
type frame struct {
	call  uint64
	aside bool
	more  []*frame
}

// together lets frames travel together.
var together = pipeline.Together[frame]{
	Join: func(first *frame, more []*frame) { first.more = more },
	Size: func(*frame) int { return 1 },
}

// wire is the other side of a stream.
type wire struct {
	grpc.ClientStream
	ctx  context.Context
	sent chan *frame
	back chan *frame
	end  chan error
}

func (w *wire) Send(f *frame) error {
	select {
	case w.sent <- f:
		return nil
	case <-w.ctx.Done():
		return w.ctx.Err()
	}
}

func (w *wire) Recv() (*frame, error) {
	select {
	case f := <-w.back:
		return f, nil
	case err := <-w.end:
		return nil, err
	}
}

func open(t *testing.T, kind pipeline.Kind[frame, frame]) (*pipeline.Pipeline[frame, frame], *wire) {
	t.Helper()
	w := &wire{sent: make(chan *frame), back: make(chan *frame), end: make(chan error, 1)}
	kind.Number = func(f *frame) uint64 { return f.call }
	p, err := pipeline.Open(func(ctx context.Context, _ ...grpc.CallOption) (grpc.BidiStreamingClient[frame, frame], error) {
		w.ctx = ctx
		return w, nil
	}, kind)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		select {
		case w.end <- io.EOF:
		default: // it has ended
		}
		<-p.Ended
	})
	return p, w
}

func begin(t *testing.T, p *pipeline.Pipeline[frame, frame]) (uint64, <-chan *frame) {
	t.Helper()
	id, answer, err := p.Begin(time.Now().Add(time.Hour))
	if err != nil {
		t.Fatal(err)
	}
	return id, answer
}

// next is what comes of a call, nil if it failed.
func next(t *testing.T, answer <-chan *frame) *frame {
	t.Helper()
	select {
	case f := <-answer:
		return f
	case <-time.After(5 * time.Second):
		t.Fatal("nothing comes")
		return nil
	}
}

// Answers find their calls in whatever order they come, and a frame that is aside
// ends none.
func TestAnswers(t *testing.T) {
	asides := make(chan uint64, 1)
	p, w := open(t, pipeline.Kind[frame, frame]{Aside: func(f *frame) bool {
		if f.aside {
			asides <- f.call
		}
		return f.aside
	}})
	first, answer1 := begin(t, p)
	second, answer2 := begin(t, p)
	p.Frames <- &frame{call: first}
	if got := <-w.sent; got.call != first || first == second {
		t.Errorf("sent %d; the calls are %d and %d", got.call, first, second)
	}
	w.back <- &frame{call: first, aside: true}
	w.back <- &frame{call: second}
	if got := next(t, answer2); got == nil || got.call != second {
		t.Errorf("the second call: %+v", got)
	}
	if got := <-asides; got != first {
		t.Errorf("aside: %d", got)
	}
	w.back <- &frame{call: first}
	if got := next(t, answer1); got == nil || got.call != first || got.aside {
		t.Errorf("the first call: %+v", got)
	}
}

// What waits while a message is sent travels in the next one, and answers that have
// travelled together find their calls.
func TestTogether(t *testing.T) {
	p, w := open(t, pipeline.Kind[frame, frame]{Together: together, More: func(f *frame) []*frame { return f.more }})
	first, answer1 := begin(t, p)
	second, answer2 := begin(t, p)
	third, answer3 := begin(t, p)
	p.Frames <- &frame{call: 99} // it is being sent until the test takes it
	for _, id := range []uint64{first, second, third} {
		p.Frames <- &frame{call: id}
	}
	var sent []uint64
	messages := 0
	for len(sent) < 4 {
		got := <-w.sent
		messages++
		for _, one := range append([]*frame{got}, got.more...) {
			sent = append(sent, one.call)
		}
	}
	if !slices.Equal(sent, []uint64{99, first, second, third}) || messages > 2 {
		t.Errorf("sent %d in %d messages", sent, messages)
	}
	w.back <- &frame{call: third, more: []*frame{{call: first}, {call: 77}, {call: second}}}
	for i, answer := range []<-chan *frame{answer1, answer2, answer3} {
		if got := next(t, answer); got == nil || got.call != []uint64{first, second, third}[i] {
			t.Errorf("call %d: %+v", i+1, got)
		}
	}
}

// To one that does not know of it nothing travels together.
func TestNotTogether(t *testing.T) {
	p, w := open(t, pipeline.Kind[frame, frame]{})
	for id := range uint64(5) {
		p.Frames <- &frame{call: id}
	}
	for id := range uint64(5) {
		if got := <-w.sent; got.call != id || got.more != nil {
			t.Errorf("%+v", got)
		}
	}
}

// A call that has no answer in time ends alone, and what comes for it later, or for
// one that was answered before, disturbs nobody.
func TestLate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p, w := open(t, pipeline.Kind[frame, frame]{})
		begun := time.Now()
		at := begun.Add
		begin := func(end time.Time) (uint64, <-chan *frame) {
			id, answer, err := p.Begin(end)
			if err != nil {
				t.Fatal(err)
			}
			return id, answer
		}
		late := func(answer <-chan *frame, after time.Duration) {
			t.Helper()
			got, ok := <-answer
			if took := time.Since(begun); got != nil || !ok || took != after {
				t.Errorf("got %+v, %t after %s, want nothing after %s", got, ok, took, after)
			}
		}
		long, answerLong := begin(at(time.Minute))
		first, answer1 := begin(at(2 * time.Second))
		_, answer2 := begin(at(time.Second)) // earlier than the timer
		third, answer3 := begin(at(time.Second))
		p.Extend(third, at(3*time.Second)) // and so, with the others, later than that
		p.Extend(99, at(0))
		late(answer2, time.Second)
		late(answer1, 2*time.Second)
		late(answer3, 3*time.Second)
		fourth, answer4 := begin(at(time.Hour))
		for _, id := range []uint64{first, 99, fourth, fourth} {
			w.back <- &frame{call: id}
		}
		if got := <-answer4; got == nil || got.call != fourth {
			t.Errorf("the fourth call: %+v", got)
		}
		p.Extend(long, at(4*time.Second))
		late(answerLong, 4*time.Second)
	})
}

// The end of the stream ends all calls at once, and no other begins.
func TestEnd(t *testing.T) {
	for _, c := range []struct {
		end  error
		code codes.Code
	}{
		{io.EOF, codes.Unavailable},
		{status.Error(codes.ResourceExhausted, "too large"), codes.ResourceExhausted},
	} {
		p, w := open(t, pipeline.Kind[frame, frame]{})
		_, answer1 := begin(t, p)
		_, answer2 := begin(t, p)
		w.end <- c.end
		for _, answer := range []<-chan *frame{answer1, answer2} {
			if got := next(t, answer); got != nil {
				t.Errorf("%v: %+v", c.end, got)
			}
		}
		if got := status.Code(p.Err()); got != c.code {
			t.Errorf("%v: %s", c.end, got)
		}
		if _, _, err := p.Begin(time.Now()); status.Code(err) != c.code {
			t.Errorf("%v: a call begins after the end: %v", c.end, err)
		}
		<-p.Ended
	}
}

// A stream that cannot be opened leaves nothing behind.
func TestOpenFails(t *testing.T) {
	refused := errors.New("refused")
	_, err := pipeline.Open(func(ctx context.Context, _ ...grpc.CallOption) (grpc.BidiStreamingClient[frame, frame], error) {
		return nil, refused
	}, pipeline.Kind[frame, frame]{})
	if !errors.Is(err, refused) {
		t.Error(err)
	}
}
