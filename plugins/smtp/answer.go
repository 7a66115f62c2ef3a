package smtp

import (
	"context"
	"errors"
	"net/textproto"
	"regexp"
	"strconv"
	"strings"

	"github.com/hookline/hookline/plugins/target"
	"github.com/hookline/hookline/plugins/transport"
)

// This file turns what happened into a receipt. A detail is made of the command,
// addresses of machines, status codes and our own words: what a server says may
// repeat recipients or the mail.

const (
	closing  = 421 // the server closes the connection
	stepRcpt = "RCPT TO"
	maxReply = 4 << 10
)

// failure is the receipt of a command that failed; effect is for the case that no
// answer came.
func failure(ctx context.Context, peer, step string, effect transport.Effect, err error) transport.Receipt {
	if reply, ok := errors.AsType[*textproto.Error](err); ok {
		return answered(peer, step, effect, reply)
	}
	_, malformed := errors.AsType[textproto.ProtocolError](err)
	switch {
	case malformed:
		return transport.Failed(effect, transport.BadResponse, target.OneLine(step+": "+peer+" does not answer as an SMTP server"))
	case errors.Is(err, errTooMuch):
		return transport.Failed(effect, transport.BadResponse, target.OneLine(step+": "+peer+": "+errTooMuch.Error()))
	case target.DeadlinePassed(ctx) && !target.IsReset(err):
		return target.Ended(ctx, effect, step+": no answer from "+peer)
	case target.IsTimeout(err):
		return transport.Failed(effect, transport.Timeout, target.OneLine(step+": no answer from "+peer))
	}
	return transport.Failed(effect, transport.ConnectionReset, target.OneLine(step+": "+peer+": "+target.Cause(err)))
}

// answered is the receipt of a command that the server has turned down.
func answered(peer, step string, effect transport.Effect, reply *textproto.Error) transport.Receipt {
	status := enhanced(reply)
	r := transport.Receipt{Effect: transport.None, Code: meaning(step, reply.Code, status), TargetStatus: reply.Code}
	if r.Code == transport.BadResponse {
		r.Effect = effect
	}
	r.Detail = target.OneLine(strings.TrimSuffix(step+": "+peer+" answered "+strconv.Itoa(reply.Code)+" "+status, " "))
	text := strings.ToValidUTF8(reply.Msg, "?")
	if len(text) > maxReply {
		text, r.Truncated = strings.ToValidUTF8(text[:maxReply], ""), true
	}
	if text != "" {
		r.ContentType, r.Body = "text/plain; charset=utf-8", []byte(text)
	}
	return r
}

var enhancedStatus = regexp.MustCompile(`^[245]\.[0-9]{1,3}\.[0-9]{1,3}\b`)

// enhanced is the enhanced status code (RFC 3463) that an answer begins with, or "".
func enhanced(reply *textproto.Error) string { return enhancedStatus.FindString(reply.Msg) }

// meaning maps an answer that is not the one hoped for.
func meaning(step string, code int, status string) transport.Code {
	switch {
	case code < 400 || code > 599:
		return transport.BadResponse
	case code < 500:
		switch status {
		case "4.2.1", "4.3.1", "4.3.2", "4.5.3", "4.7.28": // too fast, no space, not now, too many
			return transport.ThrottledByTarget
		}
		if code == closing || code == 452 {
			return transport.ThrottledByTarget
		}
		return transport.TargetError
	case code == 530 || code == 534 || code == 535 || code == 538 || step == "AUTH":
		return transport.UnauthorizedByTarget
	case strings.HasPrefix(step, stepRcpt) && (strings.HasPrefix(status, "5.1.") || status == "" && (code == 550 || code == 551)):
		return transport.NotFoundAtTarget
	}
	return transport.RejectedByTarget
}

// notConnected is the receipt of a connection that could not be made or used;
// nothing was sent.
func (t *Transport) notConnected(ctx context.Context, err error) transport.Receipt {
	if own, ok := errors.AsType[*refusal](err); ok {
		return transport.Failed(transport.None, own.code, target.OneLine(own.detail))
	}
	step, ok := errors.AsType[*stepError](err)
	if !ok || target.IsTimeout(err) && !target.DeadlinePassed(ctx) {
		return target.Failure(ctx, t.mail.addr, t.mail.dialer.Timeout, err)
	}
	return failure(ctx, t.mail.addr, step.step, transport.None, step.err)
}
