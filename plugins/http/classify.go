package http

import (
	"context"
	"errors"
	nethttp "net/http"
	"strconv"
	"strings"
	"time"

	"github.com/hookline/hookline/plugins/target"
	"github.com/hookline/hookline/plugins/transport"
)

// This file turns what happened into a receipt. Effect None is said only if no
// byte of the request left, or if the target itself turned it away. A detail is
// made of addresses, system errors and our own words; never of what the target
// answered, nor of the URL's path and query.

const maxRetryAfter = 24 * time.Hour

var notConfigured = transport.Failed(transport.None, transport.ConnectionRefused, "the http transport is not configured")

// receipt tells what came of a request that was begun.
func (x *exchange) receipt(ctx context.Context, start time.Time) transport.Receipt {
	if x.resp != nil {
		return x.answered(ctx, start)
	}
	effect := transport.Unknown
	if !x.sent {
		effect = transport.None
	}
	err := x.err
	if x.writeErr != nil && !errors.Is(x.writeErr, errCutShort) && !target.IsRefusedCertificate(err) {
		err = x.writeErr
	}
	elapsed := " after " + time.Since(start).Round(time.Millisecond).String()
	switch {
	case target.DeadlinePassed(ctx) && target.IsTimeout(err):
		where := "no answer from " + x.peer + elapsed
		if x.writeErr != nil {
			where = "the request to " + x.peer + " was not sent completely" + elapsed
		}
		return target.Ended(ctx, effect, where)
	case !x.reused && !x.received && target.IsRefusedCertificate(err):
		// In TLS 1.3 the target judges our certificate after we think the
		// handshake done; it has not read the request.
		return transport.Failed(transport.None, transport.TLSError, target.OneLine("TLS handshake with "+x.peer+": "+target.Cause(err)))
	case x.received:
		what := "malformed answer"
		switch {
		case errors.Is(err, errHeadTooLong), errors.Is(err, errTooMany1xx):
			what = err.Error()
		case target.IsReset(err):
			what = "the connection broke off within the answer's head"
		}
		return transport.Failed(effect, transport.BadResponse, target.OneLine(x.peer+": "+what))
	}
	what := "waiting for an answer"
	if x.writeErr != nil {
		what = "writing the request"
	}
	return transport.Failed(effect, transport.ConnectionReset, target.OneLine(what+" from "+x.peer+elapsed+": "+target.Cause(err)))
}

// answered tells what the target's answer means.
func (x *exchange) answered(ctx context.Context, start time.Time) transport.Receipt {
	status := x.resp.StatusCode
	r := transport.Receipt{
		TargetStatus: status,
		ContentType:  x.resp.Header.Get("Content-Type"),
		Body:         x.body,
		Truncated:    x.truncated || x.err != nil,
		Detail:       "the target answered " + strconv.Itoa(status),
	}
	if x.resp.ProtoMajor != 1 || status < 200 || status > 599 {
		r.Effect, r.Code = transport.Unknown, transport.BadResponse
		return r
	}
	if status < 300 {
		switch {
		case x.err == nil:
			r.Effect, r.Code = transport.Done, transport.Delivered
		case target.DeadlinePassed(ctx) && target.IsTimeout(x.err):
			end := target.Ended(ctx, transport.Unknown, "the answer ("+strconv.Itoa(status)+") from "+x.peer+
				" was not complete after "+time.Since(start).Round(time.Millisecond).String())
			r.Effect, r.Code, r.Detail = end.Effect, end.Code, end.Detail
		default:
			r.Effect, r.Code = transport.Unknown, transport.BadResponse
			r.Detail += ", but its answer broke off"
		}
		return r
	}
	r.Effect, r.Code = meaning(status)
	r.RetryAfter = retryAfter(x.resp.Header, time.Now())
	if r.Code == transport.RedirectRefused {
		r.Detail += "; redirects are not followed, set url to the final address"
	}
	return r
}

// meaning maps a status from 300 to 599.
func meaning(status int) (transport.Effect, transport.Code) {
	switch status {
	case 401, 403:
		return transport.None, transport.UnauthorizedByTarget
	case 404, 410:
		return transport.None, transport.NotFoundAtTarget
	case 408, 425: // the target gave up waiting, or wants it later: not permanent
		return transport.None, transport.TargetError
	case 429, 503:
		return transport.None, transport.ThrottledByTarget
	}
	switch {
	case status < 400:
		return transport.None, transport.RedirectRefused
	case status < 500:
		return transport.None, transport.RejectedByTarget
	}
	return transport.Unknown, transport.TargetError
}

// retryAfter reads seconds or a date; anything else is as if absent.
func retryAfter(h nethttp.Header, now time.Time) time.Duration {
	v := strings.TrimSpace(h.Get("Retry-After"))
	if v == "" {
		return 0
	}
	var d time.Duration
	if strings.Trim(v, "0123456789") == "" {
		n, err := strconv.ParseInt(v, 10, 64)
		if err != nil || n > int64(maxRetryAfter/time.Second) {
			return maxRetryAfter
		}
		d = time.Duration(n) * time.Second
	} else if at, err := nethttp.ParseTime(v); err == nil {
		d = at.Sub(now)
	}
	return min(max(d, 0), maxRetryAfter)
}

func (t *Transport) dialFailure(ctx context.Context, err error) transport.Receipt {
	return target.Failure(ctx, t.endpoint.addr, t.endpoint.dialer.Timeout, err)
}
