package mllp

import (
	"bytes"
	"context"
	"errors"
	"slices"
	"strings"
	"time"

	"github.com/hookline/hookline/plugins/target"
	"github.com/hookline/hookline/plugins/transport"
)

// ack is an acknowledgement.
type ack struct {
	code   string   // MSA-1, of HL7 table 0008
	errors []string // error codes, of HL7 table 0357
	raw    []byte
}

var (
	errNoAck   = errors.New("the answer is not an acknowledgement: it has no segments MSH and MSA")
	errOtherID = errors.New("the acknowledgement is of another message: its MSA-2 is not the MSH-10 that was sent")
	errNoCode  = errors.New("the acknowledgement has an MSA-1 that is not in HL7 table 0008")
)

var ackCodes = []string{"AA", "AE", "AR", "CA", "CE", "CR"}

// parseAck reads an acknowledgement of the message with the control id. No error holds
// anything of the answer.
func parseAck(raw []byte, controlID string) (*ack, error) {
	segments := bytes.Split(bytes.ReplaceAll(raw, []byte("\n"), []byte("\r")), []byte("\r"))
	h, err := parseHeader(segments[0])
	if err != nil {
		return nil, errNoAck
	}
	a := &ack{raw: raw}
	found := false
	for _, s := range segments[1:] {
		f := strings.Split(string(s), string(segments[0][3]))
		field := func(n int) string {
			if n < len(f) {
				return f[n]
			}
			return ""
		}
		component := func(s string, n int) string {
			if parts := strings.Split(s, h.component); n <= len(parts) {
				return parts[n-1]
			}
			return ""
		}
		switch f[0] {
		case "MSA":
			if found {
				break
			}
			found = true
			a.code = field(1)
			if field(2) != controlID {
				return nil, errOtherID
			}
			a.note(component(field(6), 1)) // until 2.6
		case "ERR":
			a.note(component(field(3), 1)) // since 2.5
			for one := range strings.SplitSeq(field(1), h.repetition) {
				code, _, _ := strings.Cut(component(one, 4), "&") // until 2.4
				a.note(code)
			}
		}
	}
	switch {
	case !found:
		return nil, errNoAck
	case !slices.Contains(ackCodes, a.code):
		return nil, errNoCode
	}
	return a, nil
}

// note keeps an error code if it is one of the table's: anything else could be
// anything, and details show it.
func (a *ack) note(code string) {
	if len(code) == 3 && (code[0] == '1' || code[0] == '2') && strings.Trim(code, "0123456789") == "" && !slices.Contains(a.errors, code) {
		a.errors = append(a.errors, code)
	}
}

// meaning maps an acknowledgement. Chapter 2 says of AE and AR that the message may be
// at fault as well as the receiver, so that a code of table 0357 decides if there is
// one: 206 (record locked) and 207 (internal error) pass, the others don't. Without
// one retryOn decides.
func (a *ack) meaning(retryOn []string) (transport.Effect, transport.Code) {
	if a.code == "AA" || a.code == "CA" {
		return transport.Done, transport.Delivered
	}
	again := slices.Contains(retryOn, a.code)
	for i, code := range a.errors {
		passes := code == "206" || code == "207"
		again = passes && (i == 0 || again)
	}
	switch {
	case !again:
		return transport.None, transport.RejectedByTarget
	case a.code == "AE" && !slices.Contains(a.errors, "206"):
		// The application was at it, and it is not said how far it came.
		return transport.Unknown, transport.TargetError
	}
	return transport.None, transport.TargetError
}

// receipt tells what came of a message.
func (x *exchange) receipt(ctx context.Context, l *link, start time.Time) transport.Receipt {
	if x.ack != nil {
		r := transport.Receipt{ContentType: "application/hl7-v2", Body: x.ack.raw, Detail: x.peer + " answered " + x.ack.code}
		r.Effect, r.Code = x.ack.meaning(l.retryOn)
		if len(x.ack.errors) > 0 {
			r.Detail += " with HL7 error " + strings.Join(x.ack.errors, ", ")
		}
		return r
	}
	effect := transport.Unknown
	if !x.sent {
		effect = transport.None
	}
	where := "no acknowledgement from " + x.peer + " after " + time.Since(start).Round(time.Millisecond).String()
	if x.accepted {
		where = "committed (CA), but the application's word is missing: " + where
	}
	fail := func(effect transport.Effect, code transport.Code, why string) transport.Receipt {
		return transport.Failed(effect, code, target.OneLine(why))
	}
	switch {
	case errors.Is(x.err, errNoAck), errors.Is(x.err, errOtherID), errors.Is(x.err, errNoCode),
		errors.Is(x.err, errNotMLLP), errors.Is(x.err, errTooLong), errors.Is(x.err, errUnasked):
		return fail(effect, transport.BadResponse, x.peer+": "+x.err.Error())
	case errors.Is(x.err, errTLSPort): // it has not understood a byte of it
		return fail(transport.None, transport.TLSError, x.peer+": "+x.err.Error())
	case target.DeadlinePassed(ctx):
		return target.Ended(ctx, effect, where)
	case x.tls && target.IsRefusedCertificate(x.err):
		// In TLS 1.3 the receiver judges our certificate after we think the handshake
		// done; it has not read the message.
		return fail(transport.None, transport.TLSError, "TLS handshake with "+x.peer+": "+target.Cause(x.err))
	}
	return fail(effect, transport.ConnectionReset, where+": "+target.Cause(x.err))
}
