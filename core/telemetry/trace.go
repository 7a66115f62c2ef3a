package telemetry

import (
	"context"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"math/rand/v2"
	"strings"
	"sync"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracehttp"
	"go.opentelemetry.io/otel/sdk/resource"
	sdk "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/trace"

	"github.com/hookline/hookline/core"
	"github.com/hookline/hookline/plugins/transport"
)

// TraceOptions say where traces go.
type TraceOptions struct {
	URL     string            // of a collector for OTLP over HTTP, without /v1/traces
	Headers map[string]string // may hold secrets
	Sample  float64           // part of the events without a caller's decision
	Node    string            // of this daemon
}

const (
	// queueSpans bounds the spans that wait for the collector; what comes while it is
	// full is dropped.
	queueSpans    = 8192
	sendTimeout   = 10 * time.Second
	flushTimeout  = 3 * time.Second // at the end
	tracesPath    = "/v1/traces"
	traceFlagByte = 53 // of a traceparent
)

// tracer makes the spans: call, delivery, enrich, transform and attempt.
type tracer struct {
	trace.Tracer
	provider *sdk.TracerProvider
	sender   *sender
	once     sync.Once
}

func newTracer(o TraceOptions, version string, log *slog.Logger) (*tracer, error) {
	url := strings.TrimSuffix(o.URL, "/")
	if !strings.HasSuffix(url, tracesPath) {
		url += tracesPath
	}
	exporter, err := otlptracehttp.New(context.Background(),
		otlptracehttp.WithEndpointURL(url), otlptracehttp.WithHeaders(o.Headers), otlptracehttp.WithTimeout(sendTimeout),
		otlptracehttp.WithRetry(otlptracehttp.RetryConfig{
			Enabled: true, InitialInterval: time.Second, MaxInterval: 5 * time.Second, MaxElapsedTime: sendTimeout,
		}),
	)
	if err != nil {
		return nil, fmt.Errorf("telemetry.otlp: %w", err)
	}
	t := &tracer{sender: newSender(exporter, log)}
	t.provider = sdk.NewTracerProvider(
		sdk.WithBatcher(t.sender, sdk.WithMaxQueueSize(queueSpans), sdk.WithBatchTimeout(2*time.Second), sdk.WithExportTimeout(sendTimeout)),
		sdk.WithSampler(sdk.ParentBased(ratio(o.Sample))), sdk.WithIDGenerator(ids{}),
		sdk.WithResource(resource.NewSchemaless(
			attribute.String("service.name", "hookline"), attribute.String("service.version", version),
			attribute.String("service.instance.id", o.Node),
		)),
	)
	t.Tracer = t.provider.Tracer("github.com/hookline/hookline")
	return t, nil
}

// stop sends what is left, within flushTimeout.
func (t *tracer) stop() {
	t.once.Do(func() {
		ctx, cancel := context.WithTimeout(context.Background(), flushTimeout)
		defer cancel()
		_ = t.provider.Shutdown(ctx) // the sender has said what is wrong
		t.sender.cut()
	})
}

// came begins the span of a call. From then on the event's trace context is the
// span's, in the journal too, so that what the background does later belongs to it.
func (t *tracer) came(ev *core.Event, given bool, tracestate string) func(int, core.Code) {
	at := trace.WithTimestamp(ev.ReceivedAt)
	kind := trace.WithSpanKind(trace.SpanKindServer)
	parent, ok := parse(ev.TraceParent)
	ctx := context.Background()
	switch {
	case !ok:
		return nil
	case given:
		if state, err := trace.ParseTraceState(tracestate); err == nil {
			parent = parent.WithTraceState(state)
		}
		ctx = trace.ContextWithRemoteSpanContext(ctx, parent)
	default: // the ids are made of the event's, see core.Event.Stamp: they stay
		ctx = context.WithValue(ctx, wanted{}, parent)
	}
	_, span := t.Start(ctx, "call "+ev.Hook.Name, at, kind)
	ev.TraceParent = format(span.SpanContext())
	if !span.IsRecording() {
		return nil
	}
	span.SetAttributes(
		attribute.String("hookline.hook", ev.Hook.Name), attribute.String("hookline.kind", string(ev.Kind)),
		attribute.String("hookline.event", ev.ID), attribute.String("hookline.ref", ev.Ref),
	)
	return func(status int, code core.Code) {
		span.SetAttributes(attribute.String("hookline.code", string(code)), attribute.Int("http.response.status_code", status))
		if status >= 500 {
			span.SetStatus(codes.Error, string(code))
		}
		span.End()
	}
}

// run begins the span of a delivery's run, or returns nil if it is not sampled.
func (t *tracer) run(of *route, d *core.Delivery, r *core.Route, background bool) core.Run {
	parent, ok := parse(d.Event.TraceParent)
	if !ok || !parent.IsSampled() {
		return nil
	}
	ctx := trace.ContextWithRemoteSpanContext(context.Background(), parent)
	ctx, span := t.Start(ctx, "deliver "+r.Name, trace.WithAttributes(
		attribute.String("hookline.event", d.Event.ID), attribute.String("hookline.delivery", d.ID),
		attribute.String("hookline.hook", d.Event.Hook.Name), attribute.String("hookline.route", r.Name),
		attribute.String("hookline.kind", string(d.Event.Kind)), attribute.Bool("hookline.background", background),
	))
	return &run{route: of, t: t, ctx: ctx, span: span, name: r.Name, transport: of.transport}
}

// run is a delivery's run that is traced.
type run struct {
	*route
	t               *tracer
	ctx             context.Context // with span
	span, attempt   trace.Span      // attempt is nil between two
	name, transport string
}

func (r *run) Enriched(start time.Time, took time.Duration, code core.Code) {
	r.route.Enriched(start, took, code)
	r.part("enrich ", start, took, code, trace.WithSpanKind(trace.SpanKindClient))
}

func (r *run) Transformed(start time.Time, took time.Duration, code core.Code) {
	r.route.Transformed(start, took, code)
	r.part("transform ", start, took, code)
}

// part is the span of what comes before the attempts, and is over.
func (r *run) part(what string, start time.Time, took time.Duration, code core.Code, options ...trace.SpanStartOption) {
	_, span := r.t.Start(r.ctx, what+r.name, append(options, trace.WithTimestamp(start),
		trace.WithAttributes(attribute.String("hookline.route", r.name)))...)
	if code != "" {
		span.SetAttributes(attribute.String("hookline.code", string(known(code))))
	}
	if code != "" && code != core.Skipped && code != core.RejectedByTransform {
		span.SetStatus(codes.Error, string(known(code)))
	}
	span.End(trace.WithTimestamp(start.Add(took)))
}

func (r *run) Attempt(n int) string {
	_, r.attempt = r.t.Start(r.ctx, "attempt "+r.transport, trace.WithSpanKind(trace.SpanKindClient),
		trace.WithAttributes(
			attribute.String("hookline.route", r.name), attribute.String("hookline.transport", r.transport),
			attribute.Int("hookline.attempt", n),
		))
	return format(r.attempt.SpanContext())
}

func (r *run) Attempted(a *core.Attempt, target time.Duration) {
	r.route.Attempted(a, target)
	r.attempt.SetAttributes(attribute.String("hookline.code", string(known(a.Receipt.Code))))
	if a.Receipt.TargetStatus != 0 {
		r.attempt.SetAttributes(attribute.Int("http.response.status_code", a.Receipt.TargetStatus))
	}
	if target > 0 {
		r.attempt.SetAttributes(attribute.Float64("hookline.target_seconds", target.Seconds()))
	}
	if a.Receipt.Code != transport.Delivered {
		r.attempt.SetStatus(codes.Error, string(known(a.Receipt.Code)))
	}
	r.attempt.End()
	r.attempt = nil
}

func (r *run) Settled(s core.State, code core.Code) {
	r.route.Settled(s, code)
	if r.attempt != nil { // a panic came between
		r.attempt.End()
	}
	r.span.SetAttributes(attribute.String("hookline.state", string(s)))
	if code != "" {
		r.span.SetAttributes(attribute.String("hookline.code", string(known(code))))
	}
	if s == core.StateDead || s == core.StateUnknown || s == core.StateWaiting {
		r.span.SetStatus(codes.Error, string(known(code)))
	}
	r.span.End()
}

// parse reads a traceparent of version 00.
func parse(s string) (trace.SpanContext, bool) {
	if len(s) != 55 {
		return trace.SpanContext{}, false
	}
	var c trace.SpanContextConfig
	var flags [1]byte
	for _, part := range []struct {
		to   []byte
		from string
	}{{c.TraceID[:], s[3:35]}, {c.SpanID[:], s[36:52]}, {flags[:], s[traceFlagByte:]}} {
		if _, err := hex.Decode(part.to, []byte(part.from)); err != nil {
			return trace.SpanContext{}, false
		}
	}
	c.TraceFlags = trace.TraceFlags(flags[0]) & trace.FlagsSampled
	out := trace.NewSpanContext(c)
	return out, out.IsValid()
}

// format writes a traceparent of version 00.
func format(c trace.SpanContext) string {
	id, span := c.TraceID(), c.SpanID()
	b := make([]byte, 0, 55)
	b = append(b, "00-"...)
	b = hex.AppendEncode(b, id[:])
	b = append(b, '-')
	b = hex.AppendEncode(b, span[:])
	if c.IsSampled() {
		return string(append(b, "-01"...))
	}
	return string(append(b, "-00"...))
}

// wanted is the context's key for the ids of a trace that begins here.
type wanted struct{}

// ids gives the first span of an event's trace the ids that core made of the
// event's own: a trace is found by the event and back.
type ids struct{}

func (ids) NewIDs(ctx context.Context) (trace.TraceID, trace.SpanID) {
	if c, ok := ctx.Value(wanted{}).(trace.SpanContext); ok {
		return c.TraceID(), c.SpanID()
	}
	var id trace.TraceID
	binary.BigEndian.PutUint64(id[:8], rand.Uint64())
	binary.BigEndian.PutUint64(id[8:], rand.Uint64()|1) // never all zero
	return id, newSpanID()
}

func (ids) NewSpanID(context.Context, trace.TraceID) trace.SpanID { return newSpanID() }

func newSpanID() (id trace.SpanID) {
	binary.BigEndian.PutUint64(id[:], rand.Uint64()|1)
	return id
}

// ratio samples a part of the traces by the last 56 bits of their id, which are
// random by W3C's second level. The SDK's own sampler looks at the upper ones of 64,
// which in a UUIDv7 are its variant: it would take all or none.
func ratio(part float64) sdk.Sampler {
	switch {
	case part >= 1:
		return sdk.AlwaysSample()
	case part <= 0:
		return sdk.NeverSample()
	}
	return sampler{uint64(part * math.Exp2(56))}
}

type sampler struct{ below uint64 }

func (s sampler) ShouldSample(p sdk.SamplingParameters) sdk.SamplingResult {
	out := sdk.SamplingResult{Decision: sdk.Drop, Tracestate: trace.SpanContextFromContext(p.ParentContext).TraceState()}
	if binary.BigEndian.Uint64(p.TraceID[8:])<<8>>8 < s.below {
		out.Decision = sdk.RecordAndSample
	}
	return out
}

func (s sampler) Description() string { return "by the trace's id" }

// sender exports spans. The SDK would tell a global handler of every failure; it
// says at most once a minute that the collector is away, and once that it is back.
type sender struct {
	sdk.SpanExporter
	log  *slog.Logger
	life context.Context
	cut  context.CancelFunc // ends what is under way

	mu   sync.Mutex
	down bool
	said time.Time
	lost int // spans
}

func newSender(e *otlptrace.Exporter, log *slog.Logger) *sender {
	s := &sender{SpanExporter: e, log: log}
	s.life, s.cut = context.WithCancel(context.Background())
	return s
}

// ExportSpans implements [sdk.SpanExporter].
func (s *sender) ExportSpans(ctx context.Context, spans []sdk.ReadOnlySpan) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(s.life, cancel)()
	err := s.SpanExporter.ExportSpans(ctx, spans)
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case err == nil && s.down:
		s.down = false
		s.log.Info("the collector takes traces again")
	case err != nil:
		s.down = true
		s.lost += len(spans)
		if time.Since(s.said) > sayAgain {
			s.log.Warn("traces cannot be sent to telemetry.otlp: they are dropped", "spans", s.lost, "error", reason(err))
			s.said, s.lost = time.Now(), 0
		}
	}
	return nil
}

// reason leaves out what the collector answered: it may quote the request.
func reason(err error) string {
	if errors.Is(err, context.DeadlineExceeded) {
		return "no answer within " + sendTimeout.String()
	}
	text, _, _ := strings.Cut(err.Error(), " (body")
	text, _, _ = strings.Cut(text, "\n")
	return text[:min(len(text), 300)]
}
