// Package nats is the transport for NATS JetStream: one message per delivery, stored
// by a stream that acknowledges it.
package nats

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

// Transport publishes messages to one subject and below. Make it with [New].
type Transport struct {
	version string
	cluster *cluster // nil until Configure
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

// Describe implements [transport.Transport]. Idempotent is false, though a stream
// recognises Nats-Msg-Id: it does so within a window of two minutes by default, and a
// message may be sent again after days.
func (t *Transport) Describe() transport.Description {
	return transport.Description{Name: "nats", Version: t.version, Settings: slices.Clone(schema)}
}

// Configure implements [transport.Transport]. Its error joins one
// *[transport.SettingError] for each thing that is wrong.
func (t *Transport) Configure(_ context.Context, settings json.RawMessage) error {
	if t.cluster != nil {
		return errors.New("the nats transport is configured already; new settings need a new process")
	}
	c, err := parseSettings(settings)
	if err != nil {
		return err
	}
	t.shared.Dial = c.connect
	t.shared.Within = c.within()
	t.shared.Alive = (*link).alive
	t.shared.End = (*link).close
	t.cluster = c
	return nil
}

// Deliver implements [transport.Transport].
func (t *Transport) Deliver(ctx context.Context, m *transport.Message) (r transport.Receipt) {
	if t.cluster == nil {
		return notConfigured
	}
	if ctx.Err() != nil {
		return target.Ended(ctx, transport.None, "before anything was sent")
	}
	msg, err := t.cluster.message(m)
	if err != nil {
		return target.Refused(err)
	}
	start := time.Now()
	defer func() { r.TargetTook = time.Since(start) }()
	l, err := t.shared.Get(ctx)
	if err != nil {
		return t.cluster.failure(ctx, err)
	}
	return l.publish(ctx, msg, m.ID)
}

// Check implements [transport.Transport]: on a connection of its own it asks which
// stream takes the subject. Detail tells for how long that recognises a message id, and
// when the server's certificate expires.
func (t *Transport) Check(ctx context.Context) transport.Receipt {
	if t.cluster == nil {
		return notConfigured
	}
	if ctx.Err() != nil {
		return target.Ended(ctx, transport.None, "before connecting")
	}
	return t.cluster.check(ctx)
}

// Close ends the connection. Attempts under way end with it.
func (t *Transport) Close() error {
	t.shared.Close()
	return nil
}
