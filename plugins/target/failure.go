package target

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"syscall"
	"time"

	"github.com/hookline/hookline/plugins/transport"
)

// HandshakeError is a TLS handshake that failed; nothing of a message was sent.
type HandshakeError struct {
	Peer string // address
	Err  error
}

func (e *HandshakeError) Error() string { return "TLS handshake with " + e.Peer + ": " + e.Err.Error() }

// Unwrap gives the handshake's own error.
func (e *HandshakeError) Unwrap() error { return e.Err }

// Ended is an attempt that its context ended.
func Ended(ctx context.Context, effect transport.Effect, where string) transport.Receipt {
	why := "the attempt's deadline passed"
	if errors.Is(ctx.Err(), context.Canceled) {
		why = "the attempt was cancelled"
	}
	return transport.Failed(effect, transport.Timeout, OneLine(where+": "+why))
}

// Refused is a message that can't be sent at all, so no attempt can succeed. Of the
// closed set rejected_by_target is the permanent code; TargetStatus stays 0.
func Refused(err error) transport.Receipt {
	return transport.Failed(transport.None, transport.RejectedByTarget, OneLine("nothing was sent: "+err.Error()))
}

// Failure is the receipt for a connection to addr ("host:port") that was not made;
// nothing was sent. within is the
// dial_timeout of the settings.
func Failure(ctx context.Context, addr string, within time.Duration, err error) transport.Receipt {
	hs, isHandshake := errors.AsType[*HandshakeError](err)
	where := "dial tcp " + addr
	if isHandshake {
		where = "TLS handshake with " + hs.Peer
	}
	if DeadlinePassed(ctx) {
		return Ended(ctx, transport.None, where)
	}
	fail := func(code transport.Code, detail string) transport.Receipt {
		return transport.Failed(transport.None, code, OneLine(detail))
	}
	if denied, ok := errors.AsType[*DeniedError](err); ok {
		if op, ok := errors.AsType[*net.OpError](err); ok && op.Addr != nil {
			where = "dial tcp " + op.Addr.String()
		}
		return fail(transport.AddressDenied, where+": "+denied.Error())
	}
	if dns, ok := errors.AsType[*net.DNSError](err); ok {
		return fail(transport.DNSError, "lookup "+dns.Name+": "+dns.Err)
	}
	if IsTimeout(err) {
		return fail(transport.Timeout, where+": no connection within dial_timeout ("+within.String()+") or the system's own limit")
	}
	if isHandshake && !IsReset(err) {
		return fail(transport.TLSError, where+": "+tlsDetail(hs.Err))
	}
	if op, ok := errors.AsType[*net.OpError](err); ok && !isHandshake && op.Addr != nil {
		where = "dial tcp " + op.Addr.String()
	}
	code := transport.ConnectionRefused // also no route, host or network down
	if IsReset(err) {
		code = transport.ConnectionReset
	}
	return fail(code, where+": "+Cause(err))
}

// DeadlinePassed also knows a deadline whose timer is about to fire: the dialer
// keeps its own and may be first.
func DeadlinePassed(ctx context.Context) bool {
	if ctx.Err() != nil {
		return true
	}
	at, ok := ctx.Deadline()
	return ok && !time.Now().Before(at)
}

// IsTimeout tells that a clock ended it: the attempt's, or one of the system's.
func IsTimeout(err error) bool {
	ne, ok := errors.AsType[net.Error](err)
	return errors.Is(err, os.ErrDeadlineExceeded) || errors.Is(err, context.DeadlineExceeded) || ok && ne.Timeout()
}

// IsReset tells that the other side, or the way to it, ended the connection.
func IsReset(err error) bool {
	for _, end := range []error{io.EOF, io.ErrUnexpectedEOF, syscall.ECONNRESET, syscall.EPIPE, syscall.ECONNABORTED, net.ErrClosed} {
		if errors.Is(err, end) {
			return true
		}
	}
	return false
}

// Cause is the innermost reason, in words.
func Cause(err error) string {
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

// IsRefusedCertificate tells that a server turned our certificate away. In TLS 1.3
// that comes after our side of the handshake has ended.
func IsRefusedCertificate(err error) bool {
	op, ok := errors.AsType[*net.OpError](err)
	return ok && op.Op == "remote error" && certificateAlerts[op.Err.Error()]
}

// tlsDetail says what is wrong with a handshake, and what to do.
func tlsDetail(err error) string {
	if e, ok := errors.AsType[x509.CertificateInvalidError](err); ok && e.Reason == x509.Expired && e.Cert != nil {
		if time.Now().After(e.Cert.NotAfter) {
			return "a certificate of the target expired on " + Date(e.Cert.NotAfter)
		}
		return "a certificate of the target is not valid before " + Date(e.Cert.NotBefore)
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

// Date writes the day of t, in UTC.
func Date(t time.Time) string { return t.UTC().Format(time.DateOnly) }

// OneLine keeps a detail short and printable: a certificate or a resolver may
// have put anything into an error.
func OneLine(s string) string {
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
