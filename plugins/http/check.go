package http

import (
	"context"
	"crypto/tls"
	"fmt"
	"time"

	"github.com/hookline/hookline/plugins/target"
	"github.com/hookline/hookline/plugins/transport"
)

// refusalWait is how long Check waits for a target to turn a client certificate
// down: in TLS 1.3 that comes after our side of the handshake has ended.
const refusalWait = 250 * time.Millisecond

func (t *Transport) checkTLS(ctx context.Context) transport.Receipt {
	cfg := t.tls.Current().Clone()
	var asked bool
	var ours *tls.Certificate
	get := cfg.GetClientCertificate
	cfg.GetClientCertificate = func(r *tls.CertificateRequestInfo) (cert *tls.Certificate, err error) {
		asked, ours = true, new(tls.Certificate)
		if get != nil {
			ours, err = get(r)
		}
		return ours, err
	}
	cfg.ClientSessionCache = nil // a resumed session would show an old certificate
	c, err := t.dial(ctx, cfg)
	if err != nil {
		return t.dialFailure(ctx, err)
	}
	defer c.abort()
	if asked {
		if err := c.awaitRefusal(ctx); err != nil {
			if ctx.Err() != nil {
				return target.Ended(ctx, transport.None, "TLS handshake with "+c.peer)
			}
			return t.dialFailure(ctx, &target.HandshakeError{Peer: c.peer, Err: err})
		}
	}
	detail := "connected to " + c.peer
	if peers := c.rw.(*tls.Conn).ConnectionState().PeerCertificates; len(peers) > 0 {
		detail += "; the target's certificate expires on " + target.Date(peers[0].NotAfter)
	}
	if asked && ours.Leaf != nil {
		detail += "; our client certificate expires on " + target.Date(ours.Leaf.NotAfter)
	}
	if err := t.tls.Trouble(); err != nil {
		detail += fmt.Sprintf("; the files changed, but the earlier ones are in use: %v", err)
	}
	return transport.Receipt{Effect: transport.Done, Code: transport.Delivered, Detail: target.OneLine(detail)}
}

// awaitRefusal returns nil if the target said nothing for a moment.
func (c *conn) awaitRefusal(ctx context.Context) error {
	stop := context.AfterFunc(ctx, c.interrupt)
	defer stop()
	if err := c.raw.SetReadDeadline(time.Now().Add(refusalWait)); err != nil {
		return err
	}
	if _, err := c.rw.Read(make([]byte, 1)); err != nil && (ctx.Err() != nil || !target.IsTimeout(err)) {
		return err
	}
	return nil
}
