package http

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	nethttp "net/http"
	"os"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/hookline/hookline/plugins/transport"
)

// This file turns what happened into a receipt. Effect None is said only if no
// byte of the request left, or if the target itself turned it away. A detail is
// made of addresses, system errors and our own words; never of what the target
// answered, nor of the URL's path and query.

const maxRetryAfter = 24 * time.Hour

var notConfigured = transport.Failed(transport.None, transport.ConnectionRefused, "the http transport is not configured")

// refused is a message that can't become a request, so no attempt can succeed. Of
// the closed set rejected_by_target is the permanent code; TargetStatus stays 0.
func refused(err error) transport.Receipt {
	return transport.Failed(transport.None, transport.RejectedByTarget, oneLine("nothing was sent: "+err.Error()))
}

// ended is an attempt that its context ended.
func ended(ctx context.Context, effect transport.Effect, where string) transport.Receipt {
	why := "the attempt's deadline passed"
	if errors.Is(ctx.Err(), context.Canceled) {
		why = "the attempt was cancelled"
	}
	return transport.Failed(effect, transport.Timeout, oneLine(where+": "+why))
}

// dialFailure is a connection that was not made; nothing was sent.
func (t *Transport) dialFailure(ctx context.Context, err error) transport.Receipt {
	hs, isHandshake := errors.AsType[*handshakeError](err)
	where := "dial tcp " + t.target.addr
	if isHandshake {
		where = "TLS handshake with " + hs.peer
	}
	if deadlinePassed(ctx) {
		return ended(ctx, transport.None, where)
	}
	fail := func(code transport.Code, detail string) transport.Receipt {
		return transport.Failed(transport.None, code, oneLine(detail))
	}
	if denied, ok := errors.AsType[*deniedError](err); ok {
		if op, ok := errors.AsType[*net.OpError](err); ok && op.Addr != nil {
			where = "dial tcp " + op.Addr.String()
		}
		return fail(transport.AddressDenied, where+": "+denied.Error())
	}
	if dns, ok := errors.AsType[*net.DNSError](err); ok {
		return fail(transport.DNSError, "lookup "+dns.Name+": "+dns.Err)
	}
	if isTimeout(err) {
		return fail(transport.Timeout, where+": no connection within dial_timeout ("+t.target.dialTimeout.String()+") or the system's own limit")
	}
	if isHandshake && !isReset(err) {
		return fail(transport.TLSError, where+": "+t.tlsDetail(hs.err))
	}
	if op, ok := errors.AsType[*net.OpError](err); ok && !isHandshake && op.Addr != nil {
		where = "dial tcp " + op.Addr.String()
	}
	code := transport.ConnectionRefused // also no route, host or network down
	if isReset(err) {
		code = transport.ConnectionReset
	}
	return fail(code, where+": "+cause(err))
}

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
	if x.writeErr != nil && !errors.Is(x.writeErr, errCutShort) && !isRefusedCertificate(err) {
		err = x.writeErr
	}
	elapsed := " after " + time.Since(start).Round(time.Millisecond).String()
	switch {
	case deadlinePassed(ctx) && isTimeout(err):
		where := "no answer from " + x.peer + elapsed
		if x.writeErr != nil {
			where = "the request to " + x.peer + " was not sent completely" + elapsed
		}
		return ended(ctx, effect, where)
	case !x.reused && !x.received && isRefusedCertificate(err):
		// In TLS 1.3 the target judges our certificate after we think the
		// handshake done; it has not read the request.
		return transport.Failed(transport.None, transport.TLSError, oneLine("TLS handshake with "+x.peer+": "+cause(err)))
	case x.received:
		what := "malformed answer"
		switch {
		case errors.Is(err, errHeadTooLong), errors.Is(err, errTooMany1xx):
			what = err.Error()
		case isReset(err):
			what = "the connection broke off within the answer's head"
		}
		return transport.Failed(effect, transport.BadResponse, oneLine(x.peer+": "+what))
	}
	what := "waiting for an answer"
	if x.writeErr != nil {
		what = "writing the request"
	}
	return transport.Failed(effect, transport.ConnectionReset, oneLine(what+" from "+x.peer+elapsed+": "+cause(err)))
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
		case deadlinePassed(ctx) && isTimeout(x.err):
			end := ended(ctx, transport.Unknown, "the answer ("+strconv.Itoa(status)+") from "+x.peer+
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

// deadlinePassed also knows a deadline whose timer is about to fire: the dialer
// keeps its own and may be first.
func deadlinePassed(ctx context.Context) bool {
	if ctx.Err() != nil {
		return true
	}
	at, ok := ctx.Deadline()
	return ok && !time.Now().Before(at)
}

func isTimeout(err error) bool {
	ne, ok := errors.AsType[net.Error](err)
	return errors.Is(err, os.ErrDeadlineExceeded) || errors.Is(err, context.DeadlineExceeded) || ok && ne.Timeout()
}

// isReset tells that the other side, or the way to it, ended the connection.
func isReset(err error) bool {
	for _, end := range []error{io.EOF, io.ErrUnexpectedEOF, syscall.ECONNRESET, syscall.EPIPE, syscall.ECONNABORTED, net.ErrClosed} {
		if errors.Is(err, end) {
			return true
		}
	}
	return false
}

// cause is the innermost reason, in words.
func cause(err error) string {
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return "the target closed the connection"
	}
	if errno, ok := errors.AsType[syscall.Errno](err); ok {
		return errno.Error()
	}
	if op, ok := errors.AsType[*net.OpError](err); ok && op.Err != nil {
		return op.Err.Error()
	}
	return err.Error()
}

// certificateAlerts are the TLS alerts by which a server turns a client away
// before it reads a request.
var certificateAlerts = func() map[string]bool {
	m := make(map[string]bool)
	for _, n := range []uint8{
		40,                     // handshake_failure
		42, 43, 44, 45, 46, 48, // bad, unsupported, revoked, expired, unknown certificate; unknown CA
		49,  // access_denied
		116, // certificate_required
	} {
		m[tls.AlertError(n).Error()] = true
	}
	return m
}()

func isRefusedCertificate(err error) bool {
	op, ok := errors.AsType[*net.OpError](err)
	return ok && op.Op == "remote error" && certificateAlerts[op.Err.Error()]
}

// tlsDetail says what is wrong with a handshake, and what to do.
func (t *Transport) tlsDetail(err error) string {
	if e, ok := errors.AsType[x509.CertificateInvalidError](err); ok && e.Reason == x509.Expired && e.Cert != nil {
		if time.Now().After(e.Cert.NotAfter) {
			return "a certificate of the target expired on " + date(e.Cert.NotAfter)
		}
		return "a certificate of the target is not valid before " + date(e.Cert.NotBefore)
	}
	if _, ok := errors.AsType[x509.UnknownAuthorityError](err); ok {
		return "the target's certificate is signed by an unknown authority; name it in tls.ca_file"
	}
	if e, ok := errors.AsType[x509.HostnameError](err); ok {
		return fmt.Sprintf("the target's certificate is not for %s; set tls.server_name if another name is right", e.Host)
	}
	if _, ok := errors.AsType[tls.RecordHeaderError](err); ok {
		return "the target does not speak TLS on this port"
	}
	if op, ok := errors.AsType[*net.OpError](err); ok && op.Op == "remote error" {
		return "the target refused: " + op.Err.Error()
	}
	return err.Error()
}

func date(t time.Time) string { return t.UTC().Format(time.DateOnly) }

// oneLine keeps a detail short and printable: a certificate or a resolver may
// have put anything into an error.
func oneLine(s string) string {
	s = strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f {
			return ' '
		}
		return r
	}, strings.ToValidUTF8(s, "?"))
	if r := []rune(s); len(r) > 400 {
		s = string(r[:400]) + "..."
	}
	return s
}
