package sql

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"net"
	"time"

	"github.com/hookline/hookline/plugins/target"
	"github.com/hookline/hookline/plugins/transport"
)

// This file turns what happened into a receipt. A detail is made of addresses, codes
// and names of the database's objects, and our own words; never of what the server
// wrote, as it quotes rows.

var notConfigured = transport.Failed(transport.None, transport.ConnectionRefused, "the sql transport is not configured")

// notConnected is an attempt that got no session; nothing was sent.
func (t *Transport) notConnected(ctx context.Context, err error) transport.Receipt {
	d := t.database
	if a, ok := t.answered(err); ok {
		return transport.Failed(transport.None, a.code, target.OneLine(d.addr+": "+a.detail))
	}
	if _, ok := errors.AsType[waited](err); ok {
		return target.Ended(ctx, transport.None, "waiting for one of the connections to "+d.addr+" (max_connections)")
	}
	_, network := errors.AsType[*net.OpError](err)
	_, dns := errors.AsType[*net.DNSError](err)
	_, handshake := errors.AsType[*target.HandshakeError](err)
	if target.DeadlinePassed(ctx) || network || dns || handshake || target.IsReset(err) || target.IsTimeout(err) {
		return target.Failure(ctx, d.addr, d.dialer.Timeout, err)
	}
	return transport.Failed(transport.None, transport.BadResponse, target.OneLine(d.addr+" does not log in as "+d.dialect+" does: is dialect right, and the port?"))
}

// notRun is a statement that failed before COMMIT was sent: the server rolls back what
// it did of it. stale tells that the session has ended.
func (t *Transport) notRun(ctx context.Context, s *held, err error) (r transport.Receipt, stale bool) {
	a, answered := t.answered(err)
	if answered && !a.ended && s.rollback(ctx) == nil {
		t.pool.put(s)
	} else {
		t.pool.drop(s)
	}
	effect := transport.None
	if !answered && t.database.statement.commits {
		effect = transport.Unknown
	}
	return t.failed(ctx, effect, "running the statement at "+t.database.addr, err)
}

// notCommitted is a COMMIT that was not confirmed.
func (t *Transport) notCommitted(ctx context.Context, err error) transport.Receipt {
	effect := transport.Unknown
	if a, ok := t.answered(err); ok && !a.unsure && !a.ended {
		effect = transport.None
	}
	r, _ := t.failed(ctx, effect, "waiting for "+t.database.addr+" to confirm COMMIT", err)
	return r
}

// failed is what came of a session that was there. stale tells that it has ended, and
// that the effect is none.
func (t *Transport) failed(ctx context.Context, effect transport.Effect, where string, err error) (r transport.Receipt, stale bool) {
	if a, ok := t.answered(err); ok {
		return transport.Failed(effect, a.code, target.OneLine(a.detail)), a.ended && effect == transport.None
	}
	if target.DeadlinePassed(ctx) {
		return target.Ended(ctx, effect, where), false
	}
	what := ": the connection has ended"
	if cause := target.Cause(err); target.IsReset(err) {
		what = ": " + cause
	}
	return transport.Failed(effect, transport.ConnectionReset, target.OneLine(where+what)), effect == transport.None
}

func (t *Transport) answered(err error) (answer, bool) {
	if r, ok := errors.AsType[*refusal](err); ok {
		return r.answer, true
	}
	return t.dialect.answer(err)
}

// asHandshake marks what a TLS handshake may fail with, where a driver does not.
func asHandshake(peer string, err error) error {
	_, verify := errors.AsType[*tls.CertificateVerificationError](err)
	_, header := errors.AsType[tls.RecordHeaderError](err)
	_, alert := errors.AsType[tls.AlertError](err)
	_, invalid := errors.AsType[x509.CertificateInvalidError](err)
	op, isOp := errors.AsType[*net.OpError](err)
	if verify || header || alert || invalid || isOp && op.Op == "remote error" {
		return &target.HandshakeError{Peer: peer, Err: err}
	}
	return err
}

// probe notes the certificates of one handshake.
type probe struct {
	cfg          *tlsConfig
	theirs, ours time.Time
}

func newProbe(cfg *tlsConfig) *probe {
	p := &probe{}
	if cfg == nil {
		return p
	}
	p.cfg = cfg.Clone()
	p.cfg.ClientSessionCache = nil // a resumed session would show an old certificate
	p.cfg.VerifyConnection = func(state tls.ConnectionState) error {
		if len(state.PeerCertificates) > 0 {
			p.theirs = state.PeerCertificates[0].NotAfter
		}
		return nil
	}
	if get := cfg.GetClientCertificate; get != nil {
		p.cfg.GetClientCertificate = func(r *tls.CertificateRequestInfo) (*tls.Certificate, error) {
			cert, err := get(r)
			if err == nil && cert.Leaf != nil {
				p.ours = cert.Leaf.NotAfter
			}
			return cert, err
		}
	}
	return p
}

func (p *probe) config() *tlsConfig { return p.cfg }

func (p *probe) expiry() (text string) {
	if !p.theirs.IsZero() {
		text = "; the target's certificate expires on " + target.Date(p.theirs)
	}
	if !p.ours.IsZero() {
		text += "; our client certificate expires on " + target.Date(p.ours)
	}
	return text
}
