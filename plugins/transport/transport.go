// Package transport is the contract between Hookline and a transport plugin, in
// plain Go. A vendor implements [Transport] and hands it to plugins.Serve; the
// protobuf beneath is never seen. It imports the standard library only.
package transport

import (
	"context"
	"encoding/json"
	"strings"
	"time"
)

// Transport delivers messages to one configured target.
//
// A transport's life: Describe, then Configure exactly once, then any number of
// Deliver and Check calls, many of them at the same time. New settings start a
// new process; Configure is never called twice.
//
// If it also implements [io.Closer], Close is called before the process ends, even
// if Configure was not called or failed.
type Transport interface {
	// Describe says what the plugin is. It is called before Configure.
	Describe() Description

	// Configure takes the settings as JSON, already valid against
	// Description.Settings and with secret references resolved. A bad value
	// should be reported as a *[SettingError], which names the field.
	Configure(ctx context.Context, settings json.RawMessage) error

	// Deliver makes one attempt. It must return by ctx's deadline and report in
	// the receipt what surely happened; it has no error because every end of an
	// attempt is a receipt.
	Deliver(ctx context.Context, m *Message) Receipt

	// Check tells whether the target could be reached now, without a delivery.
	// Effect Done means yes; any other receipt says why not.
	Check(ctx context.Context) Receipt
}

// Description is what a plugin says of itself.
type Description struct {
	Name    string // for example "http"
	Version string // the plugin's own, for example "1.4.0"

	// Idempotent: the target recognises a message id it has seen, so a second
	// delivery of the same message has no second effect.
	Idempotent bool
	// Exclusive: two processes with the same settings must not run side by side
	// (a serial line, a lock file). On reload the old one ends first.
	Exclusive bool
	// MaxInFlight is how many attempts at a time the plugin takes; more wait in
	// Hookline. 0: any number.
	MaxInFlight int

	// Settings is the JSON Schema (2020-12) of Configure's settings. A string
	// property with "writeOnly": true is a secret: only there are references
	// such as "env:NAME" resolved, and its value never appears in a log.
	Settings json.RawMessage
}

// Message is one attempt's input. ID and Payload are the same for every attempt
// of a message.
type Message struct {
	ID         string // sent as webhook-id, constant over the attempts
	EventID    string // UUIDv7 of TrialKit's event
	DeliveryID string // the event on one route
	Attempt    int    // 1 is the first

	Hook  string
	Route string
	Study string // from the hook, may be empty
	Stage string // "live" or "uat"
	Lane  string // deliveries with the same lane are in order
	Kind  string // "insert", "update" or "review"

	ReceivedAt  time.Time         // when Hookline took the event in, UTC
	TraceParent string            // W3C Trace Context, version 00
	ContentType string            // of Payload
	Headers     map[string]string // set by the transform, may be nil
	Key         string            // set by the transform: partition, routing or row key
	Path        string            // set by the transform: appended to the target's path
	Payload     []byte
}

// Effect says what surely happened at the target.
type Effect string

// The effects. The zero Effect is read as Unknown.
const (
	None    Effect = "none"    // the target surely did not act
	Done    Effect = "done"    // the target has confirmed, durably
	Unknown Effect = "unknown" // it may have acted
)

// Code is the reason of an outcome. The set is closed: a code that is not listed
// here is treated as PluginProtocol.
type Code string

// The codes a transport may answer.
const (
	Delivered            Code = "delivered"
	ConnectionRefused    Code = "connection_refused"
	ConnectionReset      Code = "connection_reset"
	DNSError             Code = "dns_error"
	TLSError             Code = "tls_error"
	AddressDenied        Code = "address_denied"
	RedirectRefused      Code = "redirect_refused"
	UnauthorizedByTarget Code = "unauthorized_by_target"
	NotFoundAtTarget     Code = "not_found_at_target"
	RejectedByTarget     Code = "rejected_by_target"
	TargetError          Code = "target_error"
	BadResponse          Code = "bad_response"
	ThrottledByTarget    Code = "throttled_by_target"
	Timeout              Code = "timeout"
)

// The codes the host answers in a plugin's place.
const (
	PluginCrashed     Code = "plugin_crashed"     // the process died during the attempt
	PluginProtocol    Code = "plugin_protocol"    // it broke the contract
	PluginUnavailable Code = "plugin_unavailable" // no process to send to
)

// Codes are the codes a plugin may answer, in the order of this page.
var Codes = []Code{
	Delivered, ConnectionRefused, ConnectionReset, DNSError, TLSError, AddressDenied,
	RedirectRefused, UnauthorizedByTarget, NotFoundAtTarget, RejectedByTarget,
	TargetError, BadResponse, ThrottledByTarget, Timeout,
}

// Receipt is what came of one attempt.
type Receipt struct {
	Effect Effect
	Code   Code

	TargetStatus int           // the target's own status, 0 if it gave none
	ContentType  string        // of Body
	Body         []byte        // the target's answer, cut at the transport's max_reply
	Truncated    bool          // Body is not the whole answer
	RetryAfter   time.Duration // the target asked for this pause, 0 if it did not

	// Detail is one line for an operator: an address, a system error. Never the
	// payload, the target's answer or a secret.
	Detail string

	// TargetTook is how long the target took, connecting included; 0 if it was not
	// asked or nobody measured. It is for the operator's metrics only.
	TargetTook time.Duration
}

// Failed is a receipt for an attempt that did not succeed.
func Failed(effect Effect, code Code, detail string) Receipt {
	return Receipt{Effect: effect, Code: code, Detail: detail}
}

// SettingError is a setting that the plugin cannot work with.
type SettingError struct {
	Field string // path within the settings, for example "tls.ca_file"
	Rule  string // what the value must be, without the value
}

func (e *SettingError) Error() string {
	if e.Field == "" {
		return e.Rule
	}
	return e.Field + ": " + e.Rule
}

// ReservedHeader tells whether a header of a message may not be set by a transform,
// because Hookline, an HTTP client or HTTP itself owns it. name is in lower case.
func ReservedHeader(name string) bool {
	switch name {
	case "authorization", "host", "content-length",
		"connection", "keep-alive", "proxy-authenticate", "proxy-authorization",
		"proxy-connection", "te", "trailer", "transfer-encoding", "upgrade",
		"http2-settings",
		"expect",          // nobody waits for 100 Continue
		"accept-encoding": // a receipt can't say that its body is compressed
		return true
	}
	return OwnHeader(name)
}

// OwnHeader tells whether Hookline itself sets a header, whatever carries the message.
// name is in lower case.
func OwnHeader(name string) bool {
	return name == "traceparent" || strings.HasPrefix(name, "webhook-") || strings.HasPrefix(name, "hookline-")
}
