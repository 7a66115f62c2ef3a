package amqp

import (
	"context"
	"errors"
	"fmt"
	"time"

	amqp091 "github.com/rabbitmq/amqp091-go"

	"github.com/hookline/hookline/plugins/target"
	"github.com/hookline/hookline/plugins/transport"
)

// This file turns what the broker said, or did not say, into a receipt. A detail is
// made of addresses, AMQP's reply codes and our own words; never of the broker's text.

var notConfigured = transport.Failed(transport.None, transport.ConnectionRefused, "the amqp transport is not configured")

func throttled(addr string) transport.Receipt {
	return transport.Failed(transport.None, transport.ThrottledByTarget,
		"nothing was sent: "+addr+" holds up publishers (connection.blocked): its memory or disk is short")
}

// said is a receipt of a reply code.
func said(effect transport.Effect, code transport.Code, status int, detail string) transport.Receipt {
	r := transport.Failed(effect, code, target.OneLine(detail))
	r.TargetStatus = status
	return r
}

// failure is the receipt for a connection that was not made, or a login that was
// refused. Nothing was published.
func (b *broker) failure(ctx context.Context, err error) transport.Receipt {
	e, ok := errors.AsType[*amqp091.Error](err)
	if !ok || target.DeadlinePassed(ctx) {
		return target.Failure(ctx, b.addr, b.dialer.Timeout, err)
	}
	where := "logging in at " + b.addr + ": "
	switch {
	case !e.Server && errors.Is(err, amqp091.ErrSASL):
		return said(transport.None, transport.UnauthorizedByTarget, 0, where+"the broker does not offer PLAIN")
	case !e.Server:
		// What amqp091 says here is a guess at why the connection ended.
		return transport.Failed(transport.None, transport.ConnectionReset,
			where+"the connection ended; it may be a port for TLS, or not one of AMQP")
	case e.Code == amqp091.AccessRefused:
		return said(transport.None, transport.UnauthorizedByTarget, e.Code, where+"the user or password is wrong (ACCESS_REFUSED)")
	case e.Code == amqp091.NotAllowed:
		return said(transport.None, transport.UnauthorizedByTarget, e.Code,
			where+"the vhost is not there, or the user may not use it, or has too many connections (NOT_ALLOWED)")
	}
	return said(transport.None, transport.TargetError, e.Code, fmt.Sprintf("%sthe broker refused with code %d", where, e.Code))
}

// unopened is the receipt for a channel that was not opened.
func (b *broker) unopened(err error) transport.Receipt {
	if errors.Is(err, amqp091.ErrChannelMax) {
		return transport.Failed(transport.None, transport.ThrottledByTarget, b.addr+" allows no further channel")
	}
	r := b.ended(nil)
	if e, ok := errors.AsType[*amqp091.Error](err); ok {
		r = b.ended(e)
	}
	r.Effect = transport.None
	return r
}

// ended is the receipt for a message on a channel that ended. A channel that the
// broker closes carried only this message, and it took no part of it; the end of a
// whole connection says nothing of a message.
func (b *broker) ended(e *amqp091.Error) transport.Receipt {
	if e == nil || !e.Server {
		return transport.Failed(transport.Unknown, transport.ConnectionReset, "the connection to "+b.addr+" ended before a confirmation")
	}
	switch e.Code {
	case amqp091.NotFound:
		return said(transport.None, transport.NotFoundAtTarget, e.Code, fmt.Sprintf("exchange %q is not there (NOT_FOUND)", b.exchange))
	case amqp091.AccessRefused:
		return said(transport.None, transport.UnauthorizedByTarget, e.Code, fmt.Sprintf("the user may not write to exchange %q with this routing key (ACCESS_REFUSED)", b.exchange))
	case amqp091.PreconditionFailed, amqp091.ContentTooLarge:
		return said(transport.None, transport.RejectedByTarget, e.Code, "the broker refused the message; it may be larger than its max_message_size (PRECONDITION_FAILED)")
	case amqp091.ConnectionForced:
		return said(transport.Unknown, transport.ConnectionReset, e.Code, b.addr+" is shutting down, or an operator closed the connection (CONNECTION_FORCED)")
	}
	return said(transport.Unknown, transport.TargetError, e.Code, fmt.Sprintf("%s ended the channel with code %d before a confirmation", b.addr, e.Code))
}

// unroutable is a message that no queue was found for.
func (b *broker) unroutable(r *amqp091.Return) transport.Receipt {
	detail := fmt.Sprintf("no queue is bound to exchange %q for the message's routing key", b.exchange)
	if b.exchange == "" {
		detail = "there is no queue of the routing key's name"
	}
	return said(transport.None, transport.NotFoundAtTarget, int(r.ReplyCode), fmt.Sprintf("%s (returned with code %d)", detail, r.ReplyCode))
}

// nacked is a message that a queue did not take. Others, bound as well, may have.
func (b *broker) nacked() transport.Receipt {
	return transport.Failed(transport.Unknown, transport.ThrottledByTarget,
		b.addr+" did not take the message into every queue (basic.nack): a queue is full (overflow reject-publish) or failed")
}

// check looks at the broker on a connection of its own.
func (b *broker) check(ctx context.Context) transport.Receipt {
	l, err := b.connect(ctx)
	if err != nil {
		return b.failure(ctx, err)
	}
	defer l.close()
	stop := context.AfterFunc(ctx, func() { _ = l.CloseDeadline(time.Now()) })
	defer stop()
	err = b.look(l)
	switch {
	case err != nil && target.DeadlinePassed(ctx):
		return target.Ended(ctx, transport.None, "no answer from "+b.addr)
	case err != nil:
		r := b.unopened(err)
		if b.exchange == "" && r.Code == transport.NotFoundAtTarget {
			r.Detail = fmt.Sprintf("queue %q is not there (NOT_FOUND)", b.key)
		}
		return r
	}
	detail := "connected to " + b.addr
	if l.tls != nil && len(l.tls.PeerCertificates) > 0 {
		detail += "; the target's certificate expires on " + target.Date(l.tls.PeerCertificates[0].NotAfter)
	}
	return transport.Receipt{Effect: transport.Done, Code: transport.Delivered, Detail: target.OneLine(detail)}
}

// look asks for the exchange or, with the default exchange, the queue, without
// declaring it.
func (b *broker) look(l *link) error {
	ch, err := l.Channel()
	if err != nil {
		return err
	}
	if b.exchange != "" {
		return ch.ExchangeDeclarePassive(b.exchange, amqp091.ExchangeDirect, true, false, false, false, nil) // of any kind
	}
	_, err = ch.QueueDeclarePassive(b.key, true, false, false, false, nil)
	return err
}
