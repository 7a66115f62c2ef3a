// Package amqp is the transport for RabbitMQ: one persistent message per delivery,
// published over AMQP 0-9-1 and confirmed by the broker.
//
// Many attempts share one connection. Each has a channel of its own while it lasts, so
// that a return, a refusal or a confirmation can only be about its message.
package amqp

import (
	"context"
	_ "embed"
	"encoding/json"
	"errors"
	"slices"
	"time"

	"github.com/hookline/hookline/plugins/target"
	"github.com/hookline/hookline/plugins/transport"
)

//go:embed settings.schema.json
var schema []byte

// Transport publishes messages to one exchange. Make it with [New].
type Transport struct {
	version string
	broker  *broker // nil until Configure
	shared  target.Shared[*link]
}

// Option changes what [New] makes.
type Option func(*Transport)

// WithVersion sets the version that Describe and the client's properties tell.
func WithVersion(v string) Option {
	return func(t *Transport) { t.version = v }
}

// New returns a transport that waits for Configure.
func New(opts ...Option) *Transport {
	t := &Transport{version: "dev"}
	for _, opt := range opts {
		opt(t)
	}
	return t
}

// Describe implements [transport.Transport]. Idempotent is false: RabbitMQ knows no
// message twice, and whether a consumer recognises message_id is its own affair.
func (t *Transport) Describe() transport.Description {
	return transport.Description{Name: "amqp", Version: t.version, Settings: slices.Clone(schema)}
}

// Configure implements [transport.Transport]. Its error joins one
// *[transport.SettingError] for each thing that is wrong.
func (t *Transport) Configure(_ context.Context, settings json.RawMessage) error {
	if t.broker != nil {
		return errors.New("the amqp transport is configured already; new settings need a new process")
	}
	b, err := parseSettings(settings, t.version)
	if err != nil {
		return err
	}
	t.shared.Dial = b.connect
	t.shared.Within = b.dialer.Timeout
	t.shared.Alive = (*link).alive
	t.shared.End = (*link).close
	t.broker = b
	return nil
}

// Deliver implements [transport.Transport].
func (t *Transport) Deliver(ctx context.Context, m *transport.Message) (r transport.Receipt) {
	if t.broker == nil {
		return notConfigured
	}
	if ctx.Err() != nil {
		return target.Ended(ctx, transport.None, "before anything was sent")
	}
	p, err := t.broker.publishing(m, time.Now())
	if err != nil {
		return target.Refused(err)
	}
	start := time.Now()
	defer func() { r.TargetTook = time.Since(start) }()
	for again := true; ; again = false {
		l, err := t.shared.Get(ctx)
		if err != nil {
			return t.broker.failure(ctx, err)
		}
		if l.blocked.Load() {
			return throttled(t.broker.addr)
		}
		c, err := l.take(ctx)
		switch {
		case err == nil:
			return t.broker.publish(ctx, l, c, p)
		case target.DeadlinePassed(ctx):
			return target.Ended(ctx, transport.None, "no free channel to "+t.broker.addr)
		case again && !l.alive(): // it ended while nobody used it
			continue
		}
		return t.broker.unopened(err)
	}
}

// Check implements [transport.Transport]: on a connection of its own it looks that the
// exchange is there or, with the default exchange, the queue. Detail tells when the
// certificates expire.
func (t *Transport) Check(ctx context.Context) transport.Receipt {
	if t.broker == nil {
		return notConfigured
	}
	if ctx.Err() != nil {
		return target.Ended(ctx, transport.None, "before connecting")
	}
	return t.broker.check(ctx)
}

// Close ends the connection. Attempts under way end with it.
func (t *Transport) Close() error {
	t.shared.Close()
	return nil
}
