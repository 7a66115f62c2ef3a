package nats

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	natsgo "github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/hookline/hookline/plugins/target"
	"github.com/hookline/hookline/plugins/transport"
)

// This file turns what the server said, or did not say, into a receipt. A detail is
// made of addresses, the subject of the settings, error codes and our own words.

var notConfigured = transport.Failed(transport.None, transport.ConnectionRefused, "the nats transport is not configured")

// failure is the receipt for a connection that was not made, or a login that was
// refused. Nothing was published.
func (c *cluster) failure(ctx context.Context, err error) transport.Receipt {
	addr := c.servers[0]
	if e, ok := errors.AsType[*connectError](err); ok {
		addr, err = e.addr, e.err
	}
	fail := func(code transport.Code, what string) transport.Receipt {
		return transport.Failed(transport.None, code, target.OneLine("logging in at "+addr+": "+what))
	}
	switch {
	case target.DeadlinePassed(ctx):
	case errors.Is(err, natsgo.ErrSecureConnWanted):
		return fail(transport.TLSError, "the server does not speak TLS on this port")
	case errors.Is(err, natsgo.ErrTLS):
		// The handshake's own error is beside ErrTLS.
		if both, ok := errors.AsType[interface {
			error
			Unwrap() []error
		}](err); ok {
			for _, e := range both.Unwrap() {
				if !errors.Is(e, natsgo.ErrTLS) {
					err = e
				}
			}
		}
		err = &target.HandshakeError{Peer: addr, Err: err}
	case target.IsRefusedCertificate(err): // after our side of the handshake has ended
		err = &target.HandshakeError{Peer: addr, Err: err}
	case isLogin(err):
		return fail(transport.UnauthorizedByTarget, "the server does not take this user")
	case errors.Is(err, natsgo.ErrMaxConnectionsExceeded), errors.Is(err, natsgo.ErrMaxAccountConnectionsExceeded),
		strings.Contains(strings.ToLower(err.Error()), "connections exceeded"):
		return fail(transport.ThrottledByTarget, "the server has as many connections as it takes")
	case !target.IsReset(err) && strings.HasPrefix(err.Error(), "nats: "):
		return fail(transport.BadResponse, "the server does not answer as NATS does")
	}
	return target.Failure(ctx, addr, c.dialer.Timeout, err)
}

func isLogin(err error) bool {
	for _, e := range []error{
		natsgo.ErrAuthorization, natsgo.ErrAuthExpired, natsgo.ErrAuthRevoked, natsgo.ErrPermissionViolation, natsgo.ErrAccountAuthExpired,
		natsgo.ErrNkeysNotSupported,
	} {
		if errors.Is(err, e) {
			return true
		}
	}
	text := strings.ToLower(err.Error()) // while connecting it is only a text
	return strings.Contains(text, "authorization violation") || strings.Contains(text, "authentication")
}

// publish sends msg and waits for a stream's acknowledgement.
func (l *link) publish(ctx context.Context, msg *natsgo.Msg, id string) transport.Receipt {
	if l.isDeaf() {
		return transport.Failed(transport.None, transport.UnauthorizedByTarget, errDeaf.Error())
	}
	ack, err := ask(ctx, l, msg.Subject, func(ctx context.Context) (*jetstream.PubAck, error) {
		options := []jetstream.PublishOpt{jetstream.WithRetryAttempts(0)} // Hookline tries again, not nats.go
		if id != "" {
			options = append(options, jetstream.WithMsgID(id))
		}
		return l.js.PublishMsg(ctx, msg, options...)
	})
	if err != nil {
		return l.unacknowledged(ctx, err)
	}
	detail := fmt.Sprintf("stream %s has it", ack.Stream)
	if ack.Duplicate {
		detail = fmt.Sprintf("stream %s had it already", ack.Stream)
	}
	return transport.Receipt{Effect: transport.Done, Code: transport.Delivered, Detail: target.OneLine(detail)}
}

// unacknowledged tells what became of a message that no stream has acknowledged.
func (l *link) unacknowledged(ctx context.Context, err error) transport.Receipt {
	api, isAPI := errors.AsType[*jetstream.APIError](err)
	switch {
	case isAPI:
		return rejected(api)
	case errors.Is(err, errDenied):
		return transport.Failed(transport.None, transport.UnauthorizedByTarget, "the user may not publish to the message's subject")
	case errors.Is(err, errDeaf):
		return transport.Failed(transport.Unknown, transport.UnauthorizedByTarget, err.Error())
	case errors.Is(err, jetstream.ErrNoStreamResponse), errors.Is(err, natsgo.ErrNoResponders):
		return transport.Failed(transport.None, transport.NotFoundAtTarget, "no stream takes the message's subject, or JetStream is off or away")
	case errors.Is(err, natsgo.ErrMaxPayload):
		return transport.Failed(transport.None, transport.RejectedByTarget, fmt.Sprintf("the message is larger than the server's max_payload, %d bytes", l.conn.MaxPayload()))
	case errors.Is(err, natsgo.ErrBadSubject), errors.Is(err, natsgo.ErrHeadersNotSupported):
		return target.Refused(err)
	case errors.Is(err, jetstream.ErrInvalidJSAck):
		return transport.Failed(transport.Unknown, transport.BadResponse, "what answered on the message's subject is not a stream")
	case errors.Is(err, natsgo.ErrConnectionClosed), errors.Is(err, natsgo.ErrDisconnected):
		return transport.Failed(transport.Unknown, transport.ConnectionReset, "the connection to "+l.addr+" ended before an acknowledgement")
	case ctx.Err() != nil:
		return target.Ended(ctx, transport.Unknown, "no acknowledgement from "+l.addr)
	}
	return transport.Failed(transport.Unknown, transport.ConnectionReset, target.OneLine("sending to "+l.addr+": "+target.Cause(err)))
}

// Error codes of JetStream that nats.go does not name.
const (
	insufficientResources  = 10023
	memoryExceeded         = 10028
	storageExceeded        = 10047
	messageTooLarge        = 10054
	storeFailed            = 10077
	headerTooLarge         = 10097
	streamSealed           = 10109
	tooManyOutstandingAPIs = 10167
)

// rejected is what a stream said instead of storing the message.
func rejected(e *jetstream.APIError) transport.Receipt {
	effect, code, what := transport.Unknown, transport.TargetError, "the stream did not store the message"
	switch {
	case e.ErrorCode == messageTooLarge || e.ErrorCode == headerTooLarge:
		effect, code, what = transport.None, transport.RejectedByTarget, "the message is larger than the stream takes (max_msg_size)"
	case e.ErrorCode == streamSealed:
		effect, code, what = transport.None, transport.RejectedByTarget, "the stream is sealed"
	case e.ErrorCode == insufficientResources || e.ErrorCode == memoryExceeded || e.ErrorCode == storageExceeded || e.ErrorCode == tooManyOutstandingAPIs:
		effect, code, what = transport.None, transport.ThrottledByTarget, "the account or the server has no room left"
	case e.ErrorCode == storeFailed && strings.Contains(e.Description, "exceeded"):
		effect, code, what = transport.None, transport.ThrottledByTarget, "the stream is full and discards new messages"
	case e.Code == 404:
		effect, code = transport.None, transport.NotFoundAtTarget
	case e.Code >= 400 && e.Code < 500:
		effect, code, what = transport.None, transport.RejectedByTarget, "the stream refused the message"
	}
	r := transport.Failed(effect, code, fmt.Sprintf("%s (JetStream error %d)", what, e.ErrorCode))
	r.TargetStatus = e.Code
	return r
}

// check looks at the server on a connection of its own.
func (c *cluster) check(ctx context.Context) transport.Receipt {
	within, cancel := context.WithTimeout(ctx, c.within())
	defer cancel()
	l, err := c.connect(within)
	if err != nil {
		return c.failure(ctx, err)
	}
	defer l.close()
	detail := "connected to " + l.addr
	if state := l.tlsState(); state != nil && len(state.PeerCertificates) > 0 {
		detail += "; the target's certificate expires on " + target.Date(state.PeerCertificates[0].NotAfter)
	}
	asking, cancel := context.WithTimeout(ctx, c.dialer.Timeout)
	defer cancel()
	name, err := ask(asking, l, "$JS.API.STREAM.NAMES", func(ctx context.Context) (string, error) {
		return l.js.StreamNameBySubject(ctx, c.subject)
	})
	switch {
	case errors.Is(err, errDenied):
		detail += "; this user may not ask which stream takes the subject"
	case errors.Is(err, jetstream.ErrStreamNotFound):
		return transport.Failed(transport.None, transport.NotFoundAtTarget, target.OneLine("no stream takes subject "+c.subject))
	case errors.Is(err, natsgo.ErrNoResponders), errors.Is(err, jetstream.ErrJetStreamNotEnabled), errors.Is(err, jetstream.ErrJetStreamNotEnabledForAccount):
		return transport.Failed(transport.None, transport.NotFoundAtTarget, "JetStream is off at "+l.addr+", or for this account")
	case errors.Is(err, errDeaf):
		return transport.Failed(transport.None, transport.UnauthorizedByTarget, err.Error())
	case err != nil && target.DeadlinePassed(asking):
		return target.Ended(asking, transport.None, "no answer from "+l.addr)
	case err != nil:
		return transport.Failed(transport.None, transport.TargetError, "asking "+l.addr+" for the subject's stream failed")
	default:
		detail += "; stream " + name + l.window(asking, name)
	}
	return transport.Receipt{Effect: transport.Done, Code: transport.Delivered, Detail: target.OneLine(detail)}
}

// window says for how long a stream recognises an id, if the user may know.
func (l *link) window(ctx context.Context, name string) string {
	window, err := ask(ctx, l, "$JS.API.STREAM.INFO."+name, func(ctx context.Context) (time.Duration, error) {
		s, err := l.js.Stream(ctx, name)
		if err != nil {
			return 0, err
		}
		return s.CachedInfo().Config.Duplicates, nil
	})
	if err != nil {
		return ""
	}
	return " recognises a message id for " + window.String()
}
