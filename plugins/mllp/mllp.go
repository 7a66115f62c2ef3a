// Package mllp is the transport for HL7 version 2 over MLLP: a message in a frame, and
// one acknowledgement for it on the same connection before the next message.
//
// Acknowledgements are those of HL7 2.x, chapter 2: in the original mode and in the
// enhanced mode, which the message's own MSH-15 and MSH-16 choose.
package mllp

import (
	"context"
	_ "embed"
	"encoding/json"
	"errors"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hookline/hookline/plugins/target"
	"github.com/hookline/hookline/plugins/transport"
)

//go:embed settings.schema.json
var schema []byte

// Transport delivers messages to one receiver. Make it with [New].
type Transport struct {
	version string

	link    *link // nil until Configure
	dialer  *target.Dialer
	tls     *target.TLSSource // nil for plain TCP
	slots   chan *conn        // one for each connection; nil: not made yet
	reading sync.WaitGroup    // of the connections' readers

	dialled atomic.Int64 // tests only

	mu     sync.Mutex
	open   map[*conn]struct{}
	closed bool
}

// Option changes what [New] makes.
type Option func(*Transport)

// WithVersion sets the version that Describe tells.
func WithVersion(v string) Option {
	return func(t *Transport) { t.version = v }
}

// New returns a transport that waits for Configure.
func New(opts ...Option) *Transport {
	t := &Transport{version: "dev", open: make(map[*conn]struct{})}
	for _, opt := range opts {
		opt(t)
	}
	return t
}

// Describe implements [transport.Transport]. Idempotent is false: whether the
// receiver recognises a control id (MSH-10) is its own affair.
func (t *Transport) Describe() transport.Description {
	return transport.Description{Name: "mllp", Version: t.version, Settings: slices.Clone(schema)}
}

// Configure implements [transport.Transport]. Its error joins one
// *[transport.SettingError] for each thing that is wrong.
func (t *Transport) Configure(_ context.Context, settings json.RawMessage) error {
	if t.link != nil {
		return errors.New("the mllp transport is configured already; new settings need a new process")
	}
	l, dialer, err := parseSettings(settings)
	if err != nil {
		return err
	}
	if t.tls, err = l.tls.Source(l.host, time.Second); err != nil {
		return err
	}
	t.dialer = dialer
	t.slots = make(chan *conn, l.connections)
	for range l.connections {
		t.slots <- nil
	}
	t.link = l
	return nil
}

var notConfigured = transport.Failed(transport.None, transport.ConnectionRefused, "the mllp transport is not configured")

// Deliver implements [transport.Transport]. It waits for a connection that no other
// attempt uses.
func (t *Transport) Deliver(ctx context.Context, m *transport.Message) (r transport.Receipt) {
	if t.link == nil {
		return notConfigured
	}
	if ctx.Err() != nil {
		return target.Ended(ctx, transport.None, "before anything was sent")
	}
	out, err := t.link.message(m.Payload)
	if err != nil {
		return target.Refused(err)
	}
	c, ended := t.take(ctx)
	if ended {
		return target.Ended(ctx, transport.None, "waiting for one of the connections to "+t.link.addr)
	}
	defer func() { t.slots <- c }()
	start := time.Now()
	defer func() { r.TargetTook = time.Since(start) }()
	for {
		reused := c != nil
		if !reused {
			if c, err = t.dial(ctx); err != nil {
				return t.dialFailure(ctx, err)
			}
		}
		x := c.exchange(ctx, out, t.link)
		if x.keep {
			c.rest(t.link.idleTimeout)
		} else {
			c.close()
			c = nil
		}
		if x.err != nil && !x.sent && reused && ctx.Err() == nil {
			continue // the receiver had closed it: nothing left, so this is still the first time
		}
		return x.receipt(ctx, t.link, start)
	}
}

// take waits for a slot. The connection in it, if there is one, is open and silent.
func (t *Transport) take(ctx context.Context) (c *conn, ended bool) {
	select {
	case c = <-t.slots:
	case <-ctx.Done():
		return nil, true
	}
	if c != nil && !c.usable(t.tls.Current()) {
		c.close()
		c = nil
	}
	return c, false
}

// Check implements [transport.Transport]: it connects, and with TLS shakes hands, but
// sends no message. It does so in the place of one of the connections, as a receiver
// may take no more.
func (t *Transport) Check(ctx context.Context) transport.Receipt {
	if t.link == nil {
		return notConfigured
	}
	if ctx.Err() != nil {
		return target.Ended(ctx, transport.None, "before connecting")
	}
	c, ended := t.take(ctx)
	if ended {
		return target.Ended(ctx, transport.None, "waiting for one of the connections to "+t.link.addr)
	}
	defer func() { t.slots <- c }()
	if c != nil { // that it is open proves nothing of now
		c.close()
		c = nil
	}
	fresh, err := t.dial(ctx)
	if err != nil {
		return t.dialFailure(ctx, err)
	}
	if err := fresh.awaitRefusal(ctx); err != nil {
		fresh.close()
		return t.dialFailure(ctx, &target.HandshakeError{Peer: fresh.peer, Err: err})
	}
	c = fresh
	c.rest(t.link.idleTimeout)
	return transport.Receipt{Effect: transport.Done, Code: transport.Delivered, Detail: target.OneLine("connected to " + c.peer + c.certificates(t.tls))}
}

func (t *Transport) dialFailure(ctx context.Context, err error) transport.Receipt {
	return target.Failure(ctx, t.link.addr, t.dialer.Timeout, err)
}

// Close closes all connections; attempts that wait for an answer get unknown.
func (t *Transport) Close() error {
	t.mu.Lock()
	t.closed = true
	for c := range t.open {
		_ = c.raw.Close()
	}
	t.mu.Unlock()
	t.reading.Wait()
	return nil
}
