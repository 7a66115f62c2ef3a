// Package http is Hookline's default transport: one HTTP/1.1 request per message.
//
// It has a small client of its own, because the receipt must tell the truth about
// bytes on the wire. net/http's client repeats a request on another connection by
// rules of its own and keeps to itself whether anything was written; here a request
// is sent a second time only if no byte of the first reached the kernel. Responses
// are parsed by net/http.
package http

import (
	"context"
	_ "embed"
	"encoding/json"
	"errors"
	"net"
	"slices"
	"time"

	"github.com/hookline/hookline/plugins/target"
	"github.com/hookline/hookline/plugins/transport"
)

//go:embed settings.schema.json
var schema []byte

// Transport delivers messages to one URL. Make it with [New].
type Transport struct {
	version  string
	resolver *net.Resolver
	dialFunc func(ctx context.Context, network, address string) (net.Conn, error) // tests only
	fileTTL  time.Duration

	endpoint *endpoint         // nil until Configure
	tls      *target.TLSSource // nil for http
	idle     target.Idle[*conn]
}

// Option changes what [New] makes.
type Option func(*Transport)

// WithVersion sets the version that Describe and the User-Agent header tell.
func WithVersion(v string) Option {
	return func(t *Transport) { t.version = v }
}

// WithResolver sets what resolves the target's name; the default is the system's.
func WithResolver(r *net.Resolver) Option {
	return func(t *Transport) { t.resolver = r }
}

// New returns a transport that waits for Configure.
func New(opts ...Option) *Transport {
	t := &Transport{version: "dev", fileTTL: time.Second}
	for _, opt := range opts {
		opt(t)
	}
	return t
}

// Describe implements [transport.Transport]. Idempotent is false: whether the
// target recognises a webhook-id is its own affair.
func (t *Transport) Describe() transport.Description {
	return transport.Description{Name: "http", Version: t.version, Settings: slices.Clone(schema)}
}

// Configure implements [transport.Transport]. Its error joins one
// *[transport.SettingError] for each thing that is wrong.
func (t *Transport) Configure(_ context.Context, settings json.RawMessage) error {
	if t.endpoint != nil {
		return errors.New("the http transport is configured already; new settings need a new process")
	}
	tgt, err := parseSettings(settings, t.version)
	if err != nil {
		return err
	}
	if tgt.https {
		if t.tls, err = tgt.tls.Source(tgt.hostname, t.fileTTL, "http/1.1"); err != nil {
			return err
		}
	}
	tgt.dialer.Resolver = t.resolver
	t.idle.Max, t.idle.End = tgt.maxIdle, (*conn).close
	t.endpoint = tgt
	return nil
}

// Deliver implements [transport.Transport].
func (t *Transport) Deliver(ctx context.Context, m *transport.Message) (r transport.Receipt) {
	if t.endpoint == nil {
		return notConfigured
	}
	if ctx.Err() != nil {
		return target.Ended(ctx, transport.None, "before anything was sent")
	}
	start := time.Now()
	buf := buffers.Get().(*buffer)
	defer buf.release()
	rest, err := t.endpoint.appendRequest(buf, m, start)
	if err != nil {
		return target.Refused(err)
	}
	defer func() { r.TargetTook = time.Since(start) }()
	for pooled := true; ; pooled = false {
		var c *conn
		if pooled {
			c = t.take(start, t.tls.Current())
		}
		if c == nil {
			if c, err = t.dial(ctx, t.tls.Current()); err != nil {
				return t.dialFailure(ctx, err)
			}
		}
		x := c.exchange(ctx, buf.b, rest, t.endpoint.maxReply)
		if x.reusable {
			t.put(c) // from here on c is another attempt's
		} else {
			c.abort()
		}
		if x.nothingSent() && ctx.Err() == nil {
			continue
		}
		return x.receipt(ctx, start)
	}
}

// Check implements [transport.Transport]: it connects, and with https shakes
// hands, but sends no request. Detail tells when the certificates expire.
func (t *Transport) Check(ctx context.Context) transport.Receipt {
	if t.endpoint == nil {
		return notConfigured
	}
	if ctx.Err() != nil {
		return target.Ended(ctx, transport.None, "before connecting")
	}
	if t.tls == nil {
		c, err := t.dial(ctx, nil)
		if err != nil {
			return t.dialFailure(ctx, err)
		}
		c.close()
		return transport.Receipt{Effect: transport.Done, Code: transport.Delivered, Detail: "connected to " + c.peer}
	}
	return t.checkTLS(ctx)
}

// Close closes the idle connections; those in use close when their attempt ends.
func (t *Transport) Close() error {
	t.idle.Close()
	return nil
}
