package plugins

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"runtime/debug"
	"strings"
	"sync/atomic"
	"time"

	"github.com/hashicorp/go-plugin"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/hookline/hookline/plugins/transport"
	pb "github.com/hookline/hookline/plugins/transportpb"
)

// TransportPlugin joins a transport to go-plugin. On the plugin's side Impl is
// set; on the host's side it is nil and a *[Client] is dispensed.
type TransportPlugin struct {
	plugin.NetRPCUnsupportedPlugin
	Impl transport.Transport
}

var _ plugin.GRPCPlugin = (*TransportPlugin)(nil)

// GRPCServer registers the transport on a plugin's gRPC server.
func (p *TransportPlugin) GRPCServer(_ *plugin.GRPCBroker, s *grpc.Server) error {
	pb.RegisterTransportServiceServer(s, &server{impl: p.Impl})
	return nil
}

// GRPCClient gives the host a *[Client].
func (p *TransportPlugin) GRPCClient(_ context.Context, _ *plugin.GRPCBroker, conn *grpc.ClientConn) (any, error) {
	return NewClient(conn), nil
}

// server is the plugin's side of the hop.
type server struct {
	pb.UnimplementedTransportServiceServer
	impl    transport.Transport
	batches atomic.Bool // the host takes answers that travel together
}

func (s *server) Describe(_ context.Context, req *pb.DescribeRequest) (out *pb.DescribeResponse, err error) {
	defer notPanic(&err)
	s.batches.Store(req.GetBatches())
	d := s.impl.Describe()
	return &pb.DescribeResponse{
		Name: d.Name, Version: d.Version,
		Idempotent: d.Idempotent, Exclusive: d.Exclusive,
		SettingsSchema: d.Settings, Stream: true, MaxInFlight: uint32(max(0, d.MaxInFlight)), Batches: true,
	}, nil
}

func (s *server) Configure(ctx context.Context, req *pb.ConfigureRequest) (out *pb.ConfigureResponse, err error) {
	defer notPanic(&err)
	out = &pb.ConfigureResponse{}
	for _, e := range SettingErrors(s.impl.Configure(ctx, json.RawMessage(req.GetSettings()))) {
		out.Errors = append(out.Errors, &pb.SettingError{Field: e.Field, Rule: e.Rule})
	}
	return out, nil
}

func (s *server) Deliver(ctx context.Context, req *pb.DeliverRequest) (*pb.DeliverResponse, error) {
	ctx, cancel := within(ctx, req.GetTimeout())
	defer cancel()
	r, err := s.deliver(ctx, req)
	if err != nil {
		return nil, err
	}
	return &pb.DeliverResponse{Receipt: r}, nil
}

// deliver makes one attempt, by whichever way the call came.
func (s *server) deliver(ctx context.Context, req *pb.DeliverRequest) (out *pb.Receipt, err error) {
	defer notPanic(&err)
	return toReceipt(s.impl.Deliver(ctx, &transport.Message{
		ID: req.GetMessageId(), EventID: req.GetEventId(), DeliveryID: req.GetDeliveryId(), Attempt: int(req.GetAttempt()),
		Hook: req.GetHook(), Route: req.GetRoute(), Study: req.GetStudy(), Stage: req.GetStage(),
		Lane: req.GetLane(), Kind: req.GetKind(),
		ReceivedAt: req.GetReceivedAt().AsTime(), TraceParent: req.GetTraceparent(),
		ContentType: req.GetContentType(), Headers: req.GetHeaders(), Key: req.GetKey(), Path: req.GetPath(),
		Payload: req.GetPayload(),
	})), nil
}

func (s *server) Check(ctx context.Context, req *pb.CheckRequest) (out *pb.CheckResponse, err error) {
	defer notPanic(&err)
	ctx, cancel := within(ctx, req.GetTimeout())
	defer cancel()
	return &pb.CheckResponse{Receipt: toReceipt(s.impl.Check(ctx))}, nil
}

// within applies the attempt's own timeout. The RPC's deadline is a little
// later, for a host in another language that sends no timeout it is the one.
func within(ctx context.Context, timeout *durationpb.Duration) (context.Context, context.CancelFunc) {
	if timeout == nil {
		return context.WithCancel(ctx)
	}
	return context.WithTimeout(ctx, timeout.AsDuration())
}

// notPanic turns a panic of the vendor's code into a gRPC error: one bad message
// must not take down the other messages of this process.
func notPanic(err *error) {
	if p := recover(); p != nil {
		slog.Error("the plugin panicked", "stack", string(debug.Stack())) // not p: it may quote the message
		*err = status.Error(codes.Internal, "the plugin panicked")
	}
}

// SettingErrors finds the setting errors that err wraps or joins; another error
// counts as one about the settings as a whole.
func SettingErrors(err error) []*transport.SettingError {
	switch e := err.(type) { //nolint:errorlint // it walks the tree itself
	case nil:
		return nil
	case *transport.SettingError:
		return []*transport.SettingError{e}
	case interface{ Unwrap() []error }:
		var out []*transport.SettingError
		for _, one := range e.Unwrap() {
			out = append(out, SettingErrors(one)...)
		}
		return out
	}
	var s *transport.SettingError
	if inner := errors.Unwrap(err); inner != nil && errors.As(err, &s) {
		return SettingErrors(inner)
	}
	return []*transport.SettingError{{Rule: err.Error()}}
}

// Client is the host's side of the hop: the contract in plain Go over gRPC. Its
// errors are gRPC status errors and mean that plugin or protocol broke.
type Client struct {
	rpc    pb.TransportServiceClient
	stream *stream // nil: Deliver is called for each message

	batches bool // the plugin takes calls that travel together
}

// NewClient speaks the contract over conn.
func NewClient(conn grpc.ClientConnInterface) *Client {
	return &Client{rpc: pb.NewTransportServiceClient(conn)}
}

// Describe asks what the plugin is. streams tells whether Open is possible.
func (c *Client) Describe(ctx context.Context) (about transport.Description, streams bool, err error) {
	r, err := c.rpc.Describe(ctx, &pb.DescribeRequest{Batches: true})
	if err != nil {
		return transport.Description{}, false, fmt.Errorf("describe: %w", err)
	}
	c.batches = r.GetBatches()
	return transport.Description{
		Name: r.GetName(), Version: r.GetVersion(),
		Idempotent: r.GetIdempotent(), Exclusive: r.GetExclusive(),
		MaxInFlight: int(r.GetMaxInFlight()), Settings: r.GetSettingsSchema(),
	}, r.GetStream(), nil
}

// Open makes later Deliver calls share one stream. It comes once, after Configure
// and before the first Deliver. The stream ends with the connection.
func (c *Client) Open() error {
	s, err := openStream(c.rpc, c.batches)
	if err != nil {
		return fmt.Errorf("stream: %w", err)
	}
	c.stream = s
	return nil
}

// Configure hands over the settings. Settings that the plugin refuses are joined
// *[transport.SettingError]s.
func (c *Client) Configure(ctx context.Context, settings json.RawMessage) error {
	r, err := c.rpc.Configure(ctx, &pb.ConfigureRequest{Settings: settings})
	if err != nil {
		return fmt.Errorf("configure: %w", err)
	}
	var refused []error
	for _, e := range r.GetErrors() {
		refused = append(refused, &transport.SettingError{Field: e.GetField(), Rule: e.GetRule()})
	}
	return errors.Join(refused...)
}

// Deliver makes one attempt that is to end within timeout. It waits for grace
// longer, because a receipt says more than a timeout; what ctx allows does not
// matter, an attempt that has begun is waited for.
func (c *Client) Deliver(ctx context.Context, m *transport.Message, timeout, grace time.Duration) (transport.Receipt, error) {
	req := &pb.DeliverRequest{
		MessageId: m.ID, EventId: m.EventID, DeliveryId: m.DeliveryID, Attempt: int32(m.Attempt),
		Hook: m.Hook, Route: m.Route, Study: m.Study, Stage: m.Stage, Lane: m.Lane, Kind: m.Kind,
		ReceivedAt: timestamppb.New(m.ReceivedAt), Traceparent: m.TraceParent,
		ContentType: m.ContentType, Headers: m.Headers, Key: m.Key, Path: m.Path, Payload: m.Payload,
		Timeout: durationpb.New(timeout),
	}
	if c.stream != nil {
		return c.stream.deliver(req, timeout, grace)
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), timeout+grace)
	defer cancel()
	r, err := c.rpc.Deliver(ctx, req)
	if err != nil {
		return transport.Receipt{}, fmt.Errorf("deliver: %w", err)
	}
	return fromReceipt(r.GetReceipt()), nil
}

// Check asks whether the target could be reached; see Deliver for the times.
func (c *Client) Check(ctx context.Context, timeout, grace time.Duration) (transport.Receipt, error) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), timeout+grace)
	defer cancel()
	r, err := c.rpc.Check(ctx, &pb.CheckRequest{Timeout: durationpb.New(timeout)})
	if err != nil {
		return transport.Receipt{}, fmt.Errorf("check: %w", err)
	}
	return fromReceipt(r.GetReceipt()), nil
}

var effects = map[transport.Effect]pb.Effect{
	transport.None:    pb.Effect_EFFECT_NONE,
	transport.Done:    pb.Effect_EFFECT_DONE,
	transport.Unknown: pb.Effect_EFFECT_UNKNOWN,
}

func toReceipt(r transport.Receipt) *pb.Receipt {
	out := &pb.Receipt{
		Effect: effects[r.Effect], Code: string(r.Code),
		TargetStatus: int32(r.TargetStatus), Body: r.Body, Truncated: r.Truncated,
		// protobuf refuses the whole receipt for one bad byte from the target.
		ContentType: strings.ToValidUTF8(r.ContentType, "?"), Detail: strings.ToValidUTF8(r.Detail, "?"),
	}
	if r.RetryAfter > 0 {
		out.RetryAfter = durationpb.New(r.RetryAfter)
	}
	if r.TargetTook > 0 {
		out.TargetTook = durationpb.New(r.TargetTook)
	}
	return out
}

func fromReceipt(r *pb.Receipt) transport.Receipt {
	out := transport.Receipt{
		Effect: transport.Unknown, Code: transport.Code(r.GetCode()),
		TargetStatus: int(r.GetTargetStatus()), ContentType: r.GetContentType(), Body: r.GetBody(), Truncated: r.GetTruncated(),
		Detail: r.GetDetail(),
	}
	switch r.GetEffect() {
	case pb.Effect_EFFECT_NONE:
		out.Effect = transport.None
	case pb.Effect_EFFECT_DONE:
		out.Effect = transport.Done
	}
	if r.GetRetryAfter() != nil {
		out.RetryAfter = max(0, r.GetRetryAfter().AsDuration())
	}
	if r.GetTargetTook() != nil {
		out.TargetTook = max(0, r.GetTargetTook().AsDuration())
	}
	return out
}
