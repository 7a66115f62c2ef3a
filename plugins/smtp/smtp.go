// Package smtp is the transport that mails a message: one SMTP transaction for each,
// over connections that are kept. It composes with go-mail and uses its SMTP client
// a command at a time, because the receipt must tell on which side of the final dot
// an attempt ended: before it no server may act, after it none needs to answer.
package smtp

import (
	"context"
	_ "embed" // the schema
	"encoding/json"
	"errors"
	"slices"
	"time"

	"github.com/hookline/hookline/plugins/target"
	"github.com/hookline/hookline/plugins/transport"
)

//go:embed settings.schema.json
var schema []byte

// Transport mails messages by one server. Make it with [New].
type Transport struct {
	version string

	mail *mailbox // nil until Configure
	tls  *target.TLSSource
	idle target.Idle[*session]
	// slots bounds the connections in use: mail servers count them, and turn away
	// whoever has too many.
	slots chan struct{}
}

// Option changes what [New] makes.
type Option func(*Transport)

// WithVersion sets the version that Describe and the User-Agent header tell.
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

// Describe implements [transport.Transport]. Idempotent is false: a Message-ID is the
// same in every attempt, but no mail server promises to look at it.
func (t *Transport) Describe() transport.Description {
	return transport.Description{Name: "smtp", Version: t.version, Settings: slices.Clone(schema)}
}

// Configure implements [transport.Transport]. Its error joins one
// *[transport.SettingError] for each thing that is wrong.
func (t *Transport) Configure(_ context.Context, settings json.RawMessage) error {
	if t.mail != nil {
		return errors.New("the smtp transport is configured already; new settings need a new process")
	}
	m, err := parseSettings(settings, t.version)
	if err != nil {
		return err
	}
	if m.security != securityNone {
		if t.tls, err = m.tls.Source(m.host, time.Second); err != nil {
			return err
		}
	}
	t.idle.Max, t.idle.End = m.maxConnections, (*session).close
	t.slots = make(chan struct{}, m.maxConnections)
	t.mail = m
	return nil
}

var notConfigured = transport.Failed(transport.None, transport.ConnectionRefused, "the smtp transport is not configured")

// Deliver implements [transport.Transport].
func (t *Transport) Deliver(ctx context.Context, m *transport.Message) (r transport.Receipt) {
	if t.mail == nil {
		return notConfigured
	}
	if ctx.Err() != nil {
		return target.Ended(ctx, transport.None, "before anything was sent")
	}
	l, err := t.mail.compose(m)
	if err != nil {
		return target.Refused(err)
	}
	select {
	case t.slots <- struct{}{}:
	case <-ctx.Done():
		return target.Ended(ctx, transport.None, "waiting for one of the connections (max_connections)")
	}
	defer func() { <-t.slots }()
	start := time.Now()
	defer func() { r.TargetTook = time.Since(start) }()
	for {
		s := t.take()
		if s == nil {
			if s, err = t.connect(ctx); err != nil {
				return t.notConnected(ctx, err)
			}
		}
		x := s.send(ctx, l)
		if x.reusable {
			t.idle.Put(s, t.mail.idleTimeout)
		} else {
			s.drop() // without a goodbye: the server may be what is slow
		}
		if x.stale && ctx.Err() == nil {
			continue // the server had ended a kept connection; nothing was sent
		}
		return x.receipt
	}
}

// Check implements [transport.Transport]: it connects, authenticates and asks
// whether the settings' recipients would be taken, but sends no message. Detail
// tells when the server's certificate expires.
func (t *Transport) Check(ctx context.Context) transport.Receipt {
	if t.mail == nil {
		return notConfigured
	}
	if ctx.Err() != nil {
		return target.Ended(ctx, transport.None, "before connecting")
	}
	s, err := t.connect(ctx)
	if err != nil {
		return t.notConnected(ctx, err)
	}
	defer s.close()
	if x := s.ask(ctx, t.mail.sender, t.mail.recipients()); x.receipt.Effect != transport.Done {
		return x.receipt
	}
	detail := "connected to " + s.peer
	if state, ok := s.client.TLSConnectionState(); ok && len(state.PeerCertificates) > 0 {
		detail += "; the target's certificate expires on " + target.Date(state.PeerCertificates[0].NotAfter)
	}
	if t.tls != nil {
		if err := t.tls.Trouble(); err != nil {
			detail += "; the files changed, but the earlier ones are in use: " + err.Error()
		}
	}
	return transport.Receipt{Effect: transport.Done, Code: transport.Delivered, Detail: target.OneLine(detail)}
}

// Close closes the idle connections; those in use close when their attempt ends.
func (t *Transport) Close() error {
	t.idle.Close()
	return nil
}
