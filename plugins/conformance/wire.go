package conformance

import (
	"context"
	"encoding/json"
	"time"

	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/hookline/hookline/plugins/transport"
	pb "github.com/hookline/hookline/plugins/transportpb"
)

// describeOver asks the transport behind the bare protocol what it is.
func describeOver(t *trial) (about transport.Description, streams bool, err error) {
	ctx, cancel := context.WithTimeout(context.Background(), startTimeout)
	defer cancel()
	out, err := t.way.connect(t).Describe(ctx, &pb.DescribeRequest{})
	return transport.Description{
		Name: out.GetName(), Version: out.GetVersion(), Settings: out.GetSettingsSchema(),
		Idempotent: out.GetIdempotent(), Exclusive: out.GetExclusive(),
	}, out.GetStream(), err
}

// configure describes and configures the transport behind rpc, as the host does.
func (t *trial) configure(rpc pb.TransportServiceClient, settings json.RawMessage) (about *pb.DescribeResponse) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), startTimeout)
	defer cancel()
	about, err := rpc.Describe(ctx, &pb.DescribeRequest{Batches: true})
	if err != nil {
		t.Fatalf("Describe: %v", err)
	}
	resolved, err := checked(transport.Description{Settings: about.GetSettingsSchema()}, settings)
	if err != nil {
		t.Fatalf("good settings were refused: %s", t.clean(err.Error()))
	}
	out, err := rpc.Configure(ctx, &pb.ConfigureRequest{Settings: resolved})
	if err != nil {
		t.Fatalf("Configure: %s", t.clean(err.Error()))
	}
	for _, e := range out.GetErrors() {
		t.Fatalf("good settings were refused: %s: %s", e.GetField(), t.clean(e.GetRule()))
	}
	return about
}

func request(m *transport.Message, timeout time.Duration) *pb.DeliverRequest {
	return &pb.DeliverRequest{
		MessageId: m.ID, EventId: m.EventID, DeliveryId: m.DeliveryID, Attempt: int32(m.Attempt),
		Hook: m.Hook, Route: m.Route, Study: m.Study, Stage: m.Stage, Lane: m.Lane, Kind: m.Kind,
		ReceivedAt: timestamppb.New(m.ReceivedAt), Traceparent: m.TraceParent,
		ContentType: m.ContentType, Payload: m.Payload, Timeout: durationpb.New(timeout),
	}
}

// single makes one unary call.
func (t *trial) single(rpc pb.TransportServiceClient, m *transport.Message) *pb.Receipt {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), ample+grace)
	defer cancel()
	out, err := rpc.Deliver(ctx, request(m, ample))
	if err != nil {
		t.Fatalf("Deliver: %s", t.clean(err.Error()))
	}
	t.told.hear("a receipt's detail", out.GetReceipt().GetDetail(), recordMark)
	return out.GetReceipt()
}

func checkSingle(t *trial) {
	target := t.target()
	rpc := t.way.connect(t)
	t.configure(rpc, target.Settings())
	if r := t.single(rpc, t.message(t.text("single"))); r.GetEffect() != pb.Effect_EFFECT_DONE || r.GetCode() != string(transport.Delivered) {
		t.Errorf("Deliver, without a stream: effect %s, code %s", r.GetEffect(), r.GetCode())
	}
}

// checkBatch sends calls that travel in one message.
func checkBatch(t *trial) {
	target := t.target()
	rpc := t.way.connect(t)
	switch about := t.configure(rpc, target.Settings()); {
	case !about.GetStream():
		t.Skip("it serves no Stream")
	case !about.GetBatches():
		t.Skip("it takes each call of a stream by itself")
	}
	ctx, cancel := context.WithTimeout(context.Background(), ample)
	defer cancel()
	stream, err := rpc.Stream(ctx)
	if err != nil {
		t.Fatalf("Stream: %v", err)
	}
	frame := func(call uint64) *pb.StreamRequest {
		return &pb.StreamRequest{Call: call, Frame: &pb.StreamRequest_Deliver{Deliver: request(t.message(t.text("together")), ample)}}
	}
	const calls = 4
	first, open := frame(1), map[uint64]bool{1: true}
	for call := uint64(2); call <= calls; call++ {
		first.More = append(first.More, frame(call))
		open[call] = true
	}
	if err := stream.Send(first); err != nil {
		t.Fatalf("Stream: %v", err)
	}
	for len(open) > 0 {
		out, err := stream.Recv()
		if err != nil {
			t.Fatalf("%d calls travelled in one message, and %d of them were not answered: %s", calls, len(open), t.clean(err.Error()))
		}
		for _, end := range append([]*pb.StreamResponse{out}, out.GetMore()...) {
			switch r := end.GetReceipt(); {
			case !open[end.GetCall()]:
				t.Fatalf("call %d was answered twice, or never made", end.GetCall())
			case r.GetEffect() != pb.Effect_EFFECT_DONE:
				t.Errorf("call %d of %d in one message: effect %s, code %s", end.GetCall(), calls, r.GetEffect(), r.GetCode())
			}
			delete(open, end.GetCall())
		}
	}
}

// checkCancelFrame cancels a call on the stream: nobody else can see whether a
// plugin heeds it, as its answer to a cancelled unary call is not passed on.
func checkCancelFrame(t *trial) {
	target := t.target()
	if t.staged() {
		target.Set(Slow)
	}
	rpc := t.way.connect(t)
	if !t.configure(rpc, target.Settings()).GetStream() {
		t.Skip("it serves no Stream, and of a cancelled unary call nothing is seen")
	}
	if !t.staged() { // so that a connection that is kept is there
		t.single(rpc, t.message(t.text("first")))
		target.Set(Slow)
	}
	ctx, cancel := context.WithTimeout(context.Background(), ample)
	defer cancel()
	stream, err := rpc.Stream(ctx)
	if err != nil {
		t.Fatalf("Stream: %v", err)
	}
	var over time.Duration
	for call := range uint64(tries) {
		if err := stream.Send(&pb.StreamRequest{Call: call + 1, Frame: &pb.StreamRequest_Deliver{Deliver: request(t.message(t.text("cancelled")), ample)}}); err != nil {
			t.Fatalf("Stream: %v", err)
		}
		cancelled := make(chan time.Time, 1)
		stop := time.AfterFunc(cancelAfter, func() {
			cancelled <- time.Now()
			_ = stream.Send(&pb.StreamRequest{Call: call + 1, Frame: &pb.StreamRequest_Cancel{Cancel: &pb.Cancel{}}})
		})
		out, err := stream.Recv()
		if stop.Stop() {
			t.Fatalf("it answered before the target did, and before it was cancelled: %v", out.GetReceipt().GetCode())
		}
		over = time.Since(<-cancelled)
		switch {
		case err != nil:
			t.Fatalf("cancelled, and no answer came within %v: a cancelled call is answered too, and soon", ample)
		case out.GetCall() != call+1:
			t.Fatalf("call %d was answered as %d", call+1, out.GetCall())
		case out.GetReceipt().GetEffect() == pb.Effect_EFFECT_DONE:
			t.Fatal("effect done, and the target has not answered")
		case over <= late:
			return
		}
	}
	t.Errorf("it ended %v after it was cancelled", over)
}
