// Package mqtt is the transport for MQTT brokers: one PUBLISH per delivery, over
// MQTT 5 or 3.1.1, acknowledged by the broker.
//
// It has a client of its own, of which Eclipse Paho's packages encode the packets.
// Paho's clients keep what is not acknowledged and send it again on the next
// connection; here an attempt is one PUBLISH, and the receipt tells whether it left.
package mqtt

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

// Transport publishes messages under one topic. Make it with [New].
type Transport struct {
	version string
	broker  *broker // nil until Configure
	shared  target.Shared[*link]
}

// Option changes what [New] makes.
type Option func(*Transport)

// WithVersion sets the version that Describe tells.
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

// Describe implements [transport.Transport]. Idempotent is false: with QoS 2 too a
// broker knows a message twice only within one connection.
func (t *Transport) Describe() transport.Description {
	return transport.Description{Name: "mqtt", Version: t.version, Settings: slices.Clone(schema)}
}

// Configure implements [transport.Transport]. Its error joins one
// *[transport.SettingError] for each thing that is wrong.
func (t *Transport) Configure(_ context.Context, settings json.RawMessage) error {
	if t.broker != nil {
		return errors.New("the mqtt transport is configured already; new settings need a new process")
	}
	b, err := parseSettings(settings)
	if err != nil {
		return err
	}
	t.shared.Dial = func(ctx context.Context) (*link, error) { return b.connect(ctx, b.clientID) }
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
	start := time.Now()
	p, err := t.broker.publication(m, start)
	if err != nil {
		return target.Refused(err)
	}
	defer func() { r.TargetTook = time.Since(start) }()
	for again := true; ; again = false {
		l, err := t.shared.Get(ctx)
		if err != nil {
			return t.broker.failure(ctx, err)
		}
		f, err := l.send(ctx, p)
		switch {
		case err == nil:
			return t.broker.answer(ctx, l, f)
		case errors.Is(err, errTooLarge):
			return target.Refused(err)
		case ctx.Err() != nil:
			return target.Ended(ctx, transport.None, "waiting for a turn to publish to "+t.broker.addr)
		case again: // the connection ended while nobody used it
			continue
		}
		return t.broker.ended(l, transport.None)
	}
}

// answer waits for what the broker says of a message that may have been sent.
func (b *broker) answer(ctx context.Context, l *link, f *flight) transport.Receipt {
	select {
	case code := <-f.answer:
		return b.acknowledged(code)
	case <-l.ended:
	case <-ctx.Done():
	}
	select {
	case code := <-f.answer: // it came at the same moment
		return b.acknowledged(code)
	case <-l.ended:
		return b.ended(l, transport.Unknown)
	default:
		l.leave(f)
		return target.Ended(ctx, transport.Unknown, "no acknowledgement from "+b.addr)
	}
}

// Check implements [transport.Transport]: it logs in on a connection of its own.
// Detail tells when the certificates expire.
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
