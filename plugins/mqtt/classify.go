package mqtt

import (
	"context"
	"errors"
	"fmt"

	v5 "github.com/eclipse/paho.golang/packets"

	"github.com/hookline/hookline/plugins/target"
	"github.com/hookline/hookline/plugins/transport"
)

// This file turns what the broker said, or did not say, into a receipt. A detail is
// made of addresses, MQTT's reason codes and our own words; never of the broker's text
// nor of a topic, which a transform may have made of a record.

// checkSuffix tells the connection of a check from that of deliveries: with the same
// client id it would end it.
const checkSuffix = "-check"

var notConfigured = transport.Failed(transport.None, transport.ConnectionRefused, "the mqtt transport is not configured")

// said is a receipt of a reason code.
func said(effect transport.Effect, code transport.Code, status int, detail string) transport.Receipt {
	r := transport.Failed(effect, code, target.OneLine(detail))
	r.TargetStatus = status
	return r
}

// meaning maps a reason code by which a broker refuses, and says it in words.
func meaning(code byte) (transport.Code, string) {
	switch code {
	case v5.ConnackUnsupportedProtocolVersion:
		return transport.BadResponse, "it does not speak this version of MQTT; set version"
	case v5.ConnackInvalidClientID:
		return transport.UnauthorizedByTarget, "it does not take this client id; set client_id"
	case v5.ConnackBadUsernameOrPassword:
		return transport.UnauthorizedByTarget, "the user or password is wrong"
	case v5.ConnackNotAuthorized:
		return transport.UnauthorizedByTarget, "not authorized"
	case v5.ConnackBanned:
		return transport.UnauthorizedByTarget, "this client is banned"
	case v5.ConnackBadAuthenticationMethod:
		return transport.UnauthorizedByTarget, "it wants another way of logging in"
	case v5.ConnackServerBusy:
		return transport.ThrottledByTarget, "it is busy"
	case v5.DisconnectMessageRateTooHigh:
		return transport.ThrottledByTarget, "the message rate is too high"
	case v5.ConnackQuotaExceeded:
		return transport.ThrottledByTarget, "a quota is exceeded"
	case v5.ConnackConnectionRateExceeded:
		return transport.ThrottledByTarget, "there are too many connections in too short a time"
	case v5.ConnackTopicNameInvalid:
		return transport.RejectedByTarget, "it does not take this topic"
	case v5.ConnackPacketTooLarge:
		return transport.RejectedByTarget, "the packet is too large"
	case v5.ConnackPayloadFormatInvalid:
		return transport.RejectedByTarget, "the payload's format is invalid"
	case v5.ConnackRetainNotSupported:
		return transport.RejectedByTarget, "it retains no messages; set retain to false"
	case v5.ConnackQoSNotSupported:
		return transport.RejectedByTarget, "it does not support this qos; set qos"
	case v5.ConnackUseAnotherServer, v5.ConnackServerMoved:
		return transport.RedirectRefused, "it refers to another server; set address to that"
	case v5.ConnackServerUnavailable:
		return transport.TargetError, "it is not available"
	}
	return transport.TargetError, "it gives no reason"
}

// failure is the receipt for a connection that was not made, or a login that was
// refused. Nothing was published.
func (b *broker) failure(ctx context.Context, err error) transport.Receipt {
	if !target.DeadlinePassed(ctx) {
		if r, ok := errors.AsType[*refusal](err); ok {
			code, words := meaning(r.code)
			if code == transport.RejectedByTarget { // for good, which no login is
				code = transport.TargetError
			}
			return said(transport.None, code, r.status, fmt.Sprintf("logging in at %s: %s (reason code 0x%02x)", b.addr, words, r.code))
		}
		if e, ok := errors.AsType[errProtocol](err); ok {
			return transport.Failed(transport.None, transport.BadResponse,
				"logging in at "+b.addr+": "+e.Error()+"; it may be a port for TLS, or not one of MQTT")
		}
		if e, ok := errors.AsType[*loginError](err); ok && target.IsReset(err) {
			return transport.Failed(transport.None, transport.ConnectionReset,
				target.OneLine("logging in at "+b.addr+": "+target.Cause(e.error)+"; it may be a port for TLS, or not one of MQTT"))
		}
	}
	return target.Failure(ctx, b.addr, b.dialer.Timeout, err)
}

// acknowledged is the receipt for a message that the broker has answered.
func (b *broker) acknowledged(code byte) transport.Receipt {
	switch {
	case code == v5.PubackNoMatchingSubscribers && b.requireSubscriber:
		return said(transport.None, transport.NotFoundAtTarget, int(code), b.addr+" has no subscriber for the message's topic (reason code 0x10)")
	case code < 0x80:
		return transport.Receipt{Effect: transport.Done, Code: transport.Delivered, TargetStatus: int(code), Detail: "acknowledged by " + b.addr}
	case code == v5.PubcompPacketIdentifierNotFound:
		// Only at the end of QoS 2, when the broker may have passed it on.
		return said(transport.Unknown, transport.TargetError, int(code), b.addr+" lost track of the message (reason code 0x92)")
	}
	what, words := meaning(code)
	return said(transport.None, what, int(code), fmt.Sprintf("%s refused the message: %s (reason code 0x%02x)", b.addr, words, code))
}

// ended is the receipt for a message whose connection ended before an answer. effect is
// None if surely nothing of it was sent.
func (b *broker) ended(l *link, effect transport.Effect) transport.Receipt {
	l.mu.Lock()
	err, alone := l.err, l.alone
	l.mu.Unlock()
	if r, ok := errors.AsType[*refusal](err); ok {
		what, words := meaning(r.code)
		detail := fmt.Sprintf("%s ended the connection: %s (reason code 0x%02x)", b.addr, words, r.code)
		if effect == transport.Unknown && alone && what == transport.RejectedByTarget {
			return said(transport.None, what, r.status, detail) // it can be about no other message
		}
		if what == transport.TargetError {
			detail = fmt.Sprintf("%s ended the connection (reason code 0x%02x)", b.addr, r.code)
		}
		return said(effect, transport.ConnectionReset, r.status, detail+", before an acknowledgement")
	}
	if e, ok := errors.AsType[errProtocol](err); ok {
		return transport.Failed(effect, transport.BadResponse, b.addr+" sent "+e.Error())
	}
	if errors.Is(err, errSilent) {
		return transport.Failed(effect, transport.Timeout, "no sign of life from "+b.addr+" within keepalive ("+l.keepalive.String()+")")
	}
	return transport.Failed(effect, transport.ConnectionReset,
		target.OneLine("the connection to "+b.addr+" ended before an acknowledgement: "+target.Cause(err)))
}

// check logs in and out again.
func (b *broker) check(ctx context.Context) transport.Receipt {
	within, cancel := context.WithTimeout(ctx, b.dialer.Timeout)
	defer cancel()
	id := b.clientID
	if id != "" {
		id += checkSuffix
	}
	l, err := b.connect(within, id)
	if err != nil {
		return b.failure(ctx, err)
	}
	l.close()
	detail := "connected to " + b.addr
	if l.tls != nil && len(l.tls.PeerCertificates) > 0 {
		detail += "; the target's certificate expires on " + target.Date(l.tls.PeerCertificates[0].NotAfter)
	}
	return transport.Receipt{Effect: transport.Done, Code: transport.Delivered, Detail: target.OneLine(detail)}
}
