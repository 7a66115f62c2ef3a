package amqp

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"
	"unicode/utf8"

	amqp091 "github.com/rabbitmq/amqp091-go"

	"github.com/hookline/hookline/plugins/target"
	"github.com/hookline/hookline/plugins/transport"
)

// publication is a message as it is sent.
type publication struct {
	amqp091.Publishing
	key string
}

// publishing makes the message. The error says why m can't be sent at all.
func (b *broker) publishing(m *transport.Message, now time.Time) (*publication, error) {
	p := &publication{key: b.key, Publishing: amqp091.Publishing{
		DeliveryMode: amqp091.Persistent,
		ContentType:  m.ContentType,
		MessageId:    m.ID,
		Type:         m.Kind,
		AppId:        "hookline",
		Timestamp:    now,
		Body:         m.Payload,
	}}
	if m.Key != "" {
		p.key = m.Key
	}
	headers := make(amqp091.Table, 5+len(m.Headers))
	if err := target.HeaderCount(m); err != nil {
		return nil, err
	}
	for name, value := range m.Headers {
		lower := strings.ToLower(name)
		switch {
		case name == "" || !short(name):
			return nil, errors.New("the transform set a header whose name is empty, longer than 255 bytes or has control characters")
		case reserved(lower):
			return nil, fmt.Errorf("the transform set header %s, which Hookline or RabbitMQ itself uses; remove it from the script", name)
		case !utf8.ValidString(value):
			return nil, fmt.Errorf("header %s is not text in UTF-8", name)
		case lower == "content-type":
			p.ContentType = value
		default:
			headers[name] = value
		}
	}
	if p.ContentType == "" {
		p.ContentType = "application/json"
	}
	for _, f := range []struct{ what, value string }{
		{"id", p.MessageId}, {"routing key", p.key}, {"content type", p.ContentType}, {"kind", p.Type},
	} {
		if !short(f.value) {
			return nil, fmt.Errorf("the message's %s is longer than %d bytes or has control characters", f.what, maxShort)
		}
	}
	for name, value := range map[string]string{
		"webhook-id": m.ID, "hookline-event-id": m.EventID, "traceparent": m.TraceParent,
	} {
		if value != "" {
			headers[name] = value
		}
	}
	headers["hookline-attempt"] = int32(min(m.Attempt, 1<<30))
	p.Headers = headers
	return p, nil
}

// reserved tells whether Hookline or RabbitMQ owns a header. name is in lower case.
func reserved(name string) bool {
	switch name {
	case "cc", "bcc", // lists of further routing keys, to RabbitMQ
		"x-death", "x-first-death-queue", "x-first-death-reason", "x-first-death-exchange":
		return true
	}
	return transport.OwnHeader(name)
}

// publish sends p on c and waits for what the broker says of it.
func (b *broker) publish(ctx context.Context, l *link, c *channel, p *publication) transport.Receipt {
	type sent struct {
		confirmation *amqp091.DeferredConfirmation
		err          error
	}
	// A broker that does not read makes this wait, and it does not heed a context.
	written := make(chan sent, 1)
	go func() {
		confirmation, err := c.PublishWithDeferredConfirm(b.exchange, p.key, true, false, p.Publishing)
		written <- sent{confirmation, err}
	}()
	var s sent
	select {
	case s = <-written:
	case <-ctx.Done():
		l.abandon(c)
		return b.silent(ctx, l, "the message was not sent completely")
	}
	if s.err != nil {
		end := c.end(ctx)
		l.abandon(c)
		return b.ended(end)
	}
	select {
	case <-s.confirmation.Done():
	case <-ctx.Done():
		l.abandon(c)
		return b.silent(ctx, l, "no confirmation")
	}
	// The end of a channel counts what is outstanding as refused, so it comes first.
	if !s.confirmation.Acked() && c.IsClosed() {
		end := c.end(ctx)
		l.put(c)
		return b.ended(end)
	}
	var returned *amqp091.Return
	select {
	case r, ok := <-c.returned: // the broker sends it before the confirmation
		if ok { // and not that the channel ended after it
			returned = &r
		}
	default:
	}
	l.put(c)
	switch {
	case returned != nil:
		return b.unroutable(returned)
	case !s.confirmation.Acked():
		return b.nacked()
	}
	return transport.Receipt{Effect: transport.Done, Code: transport.Delivered, Detail: "confirmed by " + b.addr}
}

// end is why a channel has ended; nil if it has not, or nobody said.
func (c *channel) end(ctx context.Context) *amqp091.Error {
	if !c.IsClosed() {
		return nil
	}
	select {
	case err := <-c.ended: // nil if it was closed without one
		return err
	case <-ctx.Done(): // the client first answers the broker, which may not read
		return nil
	}
}

// silent is an attempt whose time ended before the broker said anything.
func (b *broker) silent(ctx context.Context, l *link, what string) transport.Receipt {
	r := target.Ended(ctx, transport.Unknown, what+" from "+b.addr)
	if l.blocked.Load() {
		r.Code = transport.ThrottledByTarget
		r.Detail = target.OneLine(r.Detail + "; the broker has begun to hold up publishers: its memory or disk is short")
	}
	return r
}
