package core

import (
	"net/http"

	"github.com/hookline/hookline/plugins/transport"
)

// Code is the reason of an outcome or an answer. The set is closed: the codes
// of package transport and those below; table holds what each one means.
type Code = transport.Code

// The codes that the core adds to a transport's.
const (
	Skipped  Code = "skipped"
	Ignored  Code = "ignored"
	Accepted Code = "accepted"

	InvalidBody          Code = "invalid_event"
	Unauthorized         Code = "unauthorized"
	UnknownHook          Code = "unknown_hook"
	MethodNotAllowed     Code = "method_not_allowed"
	TooLarge             Code = "too_large"
	UnsupportedMediaType Code = "unsupported_media_type"
	Throttled            Code = "throttled"
	Unmatched            Code = "unmatched"
	KeyConflict          Code = "key_conflict"

	EnrichFailed Code = "enrich_failed"

	RejectedByTransform Code = "rejected_by_transform"
	TransformFailed     Code = "transform_failed"
	ScriptTimeout       Code = "script_timeout"

	Internal           Code = "internal"
	Overloaded         Code = "overloaded"
	Draining           Code = "draining"
	CircuitOpen        Code = "circuit_open"
	LaneBlocked        Code = "lane_blocked"
	JournalUnavailable Code = "journal_unavailable"
)

// Fault says whose fault a failure is.
type Fault string

// The faults, the gravest first: of several failures the caller is told the
// first by this order.
const (
	FaultHookline Fault = "hookline"
	FaultPlugin   Fault = "plugin"
	FaultScript   Fault = "script"
	FaultTarget   Fault = "target"
	FaultCaller   Fault = "caller"
)

var gravity = map[Fault]int{FaultHookline: 0, FaultPlugin: 1, FaultScript: 2, FaultTarget: 3, FaultCaller: 4}

// Step is where in an event's way a failure happened; "stage" in an answer.
type Step string

// The steps, in order.
const (
	StepRequest   Step = "request"
	StepRoute     Step = "route"
	StepEnrich    Step = "enrich"
	StepTransform Step = "transform"
	StepTransport Step = "transport"
)

// meaning is everything that follows from a code.
type meaning struct {
	status int // HTTP status of the answer
	fault  Fault
	step   Step
	// again: trying the same bytes again can help.
	again bool
	// user completes the sentence "<label> has not confirmed it: ...". %s is the
	// time waited, where there is one.
	user string
	// hint is for the integrator; {transport}, {route}, {ref}, and {script}, its place
	// in the script, are replaced.
	hint string
}

// down tells whether the code speaks against the transport as a whole, not just
// against one message: several in a row open its circuit.
func (m meaning) down() bool { return m.again && m.step == StepTransport }

// table is the one place that maps a code to its status and its words.
var table = map[Code]meaning{
	transport.Delivered: {status: http.StatusOK},
	Skipped:             {status: http.StatusOK},
	Ignored:             {status: http.StatusOK},
	Accepted:            {status: http.StatusAccepted},

	InvalidBody:          {status: http.StatusBadRequest, fault: FaultCaller, step: StepRequest},
	Unauthorized:         {status: http.StatusUnauthorized, fault: FaultCaller, step: StepRequest},
	UnknownHook:          {status: http.StatusNotFound, fault: FaultCaller, step: StepRequest},
	MethodNotAllowed:     {status: http.StatusMethodNotAllowed, fault: FaultCaller, step: StepRequest},
	TooLarge:             {status: http.StatusRequestEntityTooLarge, fault: FaultCaller, step: StepRequest},
	UnsupportedMediaType: {status: http.StatusUnsupportedMediaType, fault: FaultCaller, step: StepRequest},
	Throttled:            {status: http.StatusTooManyRequests, fault: FaultCaller, step: StepRequest},
	Unmatched:            {status: http.StatusUnprocessableEntity, fault: FaultCaller, step: StepRoute},
	KeyConflict:          {status: http.StatusConflict, fault: FaultCaller, step: StepRequest},

	EnrichFailed: {
		status: http.StatusBadGateway, fault: FaultTarget, step: StepEnrich, again: true,
		user: "the record could not be read from TrialKit",
		hint: "routes.{route} has enrich = true",
	},
	RejectedByTransform: {
		status: http.StatusUnprocessableEntity, fault: FaultCaller, step: StepTransform,
		hint: "the transform of routes.{route} called ctx.reject",
	},
	TransformFailed: {
		status: http.StatusInternalServerError, fault: FaultScript, step: StepTransform,
		user: "the message for it could not be prepared",
		hint: "the transform of routes.{route} failed{script}: `hookline explain --ref {ref}` shows why, `hookline transform run --route {route}` tries it",
	},
	ScriptTimeout: {
		status: http.StatusInternalServerError, fault: FaultScript, step: StepTransform,
		user: "preparing the message for it took longer than %s",
		hint: "the transform of routes.{route} did not end in time{script}",
	},
	Internal: {
		status: http.StatusInternalServerError, fault: FaultHookline, step: StepRoute,
		user: "Hookline itself failed",
		hint: "this is a defect of Hookline: its log has the stack trace",
	},

	transport.ConnectionRefused: {
		status: http.StatusBadGateway, fault: FaultTarget, step: StepTransport, again: true,
		user: "it cannot be reached",
		hint: "nothing accepts connections at the target of transports.{transport}: is it up, and is its address right?",
	},
	transport.ConnectionReset: {
		status: http.StatusBadGateway, fault: FaultTarget, step: StepTransport, again: true,
		user: "the connection to it broke off",
		hint: "the target of transports.{transport} closed the connection before it answered",
	},
	transport.DNSError: {
		status: http.StatusBadGateway, fault: FaultTarget, step: StepTransport, again: true,
		user: "its address cannot be found",
		hint: "the host name of transports.{transport} does not resolve",
	},
	transport.TLSError: {
		status: http.StatusBadGateway, fault: FaultTarget, step: StepTransport, again: true,
		user: "no secure connection to it can be made",
		hint: "TLS with the target of transports.{transport} failed: `hookline check --probe` says why",
	},
	transport.AddressDenied: {
		status: http.StatusBadGateway, fault: FaultTarget, step: StepTransport,
		user: "its address is not allowed",
		hint: "the address of transports.{transport} is link-local, multicast or a metadata service",
	},
	transport.RedirectRefused: {
		status: http.StatusBadGateway, fault: FaultTarget, step: StepTransport,
		user: "it has moved to another address",
		hint: "redirects are not followed: put the final address into transports.{transport}",
	},
	transport.UnauthorizedByTarget: {
		status: http.StatusBadGateway, fault: FaultTarget, step: StepTransport,
		user: "it does not accept Hookline's credentials",
		hint: "check the credentials in transports.{transport}.settings",
	},
	transport.NotFoundAtTarget: {
		status: http.StatusBadGateway, fault: FaultTarget, step: StepTransport,
		user: "it does not know the address that the message was sent to",
		hint: "check the address in transports.{transport}.settings",
	},
	transport.RejectedByTarget: {
		status: http.StatusBadGateway, fault: FaultTarget, step: StepTransport,
		user: "it rejected the message",
		hint: "the target of transports.{transport} does not take what routes.{route} sends",
	},
	transport.TargetError: {
		status: http.StatusBadGateway, fault: FaultTarget, step: StepTransport, again: true,
		user: "it reported an error of its own",
		hint: "the target of transports.{transport} failed: its own log says why",
	},
	transport.BadResponse: {
		status: http.StatusBadGateway, fault: FaultTarget, step: StepTransport, again: true,
		user: "its answer could not be read",
		hint: "the target of transports.{transport} did not answer in its protocol",
	},
	transport.ThrottledByTarget: {
		status: http.StatusServiceUnavailable, fault: FaultTarget, step: StepTransport, again: true,
		user: "it is too busy",
		hint: "the target of transports.{transport} asked for a pause",
	},
	transport.Timeout: {
		status: http.StatusGatewayTimeout, fault: FaultTarget, step: StepTransport, again: true,
		user: "no answer within %s",
	},
	transport.PluginCrashed: {
		status: http.StatusBadGateway, fault: FaultPlugin, step: StepTransport, again: true,
		user: "the program that connects to it crashed",
		hint: "the plugin process of transports.{transport} ended during the attempt: the log has its last words",
	},
	transport.PluginProtocol: {
		status: http.StatusBadGateway, fault: FaultPlugin, step: StepTransport,
		user: "the program that connects to it failed",
		hint: "the plugin of transports.{transport} broke the plugin contract: tell its vendor",
	},
	transport.PluginUnavailable: {
		status: http.StatusServiceUnavailable, fault: FaultPlugin, step: StepTransport, again: true,
		user: "the program that connects to it is not running",
		hint: "the plugin process of transports.{transport} is being restarted: `hookline plugin list` and the log say why it ended",
	},

	CircuitOpen: {
		status: http.StatusServiceUnavailable, fault: FaultTarget, step: StepTransport,
		user: "it has failed several times and is left alone for a moment",
		hint: "the circuit of transports.{transport} is open: as many attempts in a row have failed as its circuit.failures says",
	},
	LaneBlocked: {
		status: http.StatusServiceUnavailable, fault: FaultTarget, step: StepRoute, again: true,
		user: "an earlier entry of this record has to arrive there first",
		hint: "an earlier delivery of this record on routes.{route} has not ended, and the route has on_blocked = \"fail\"",
	},
	JournalUnavailable: {
		status: http.StatusServiceUnavailable, fault: FaultHookline, step: StepRequest, again: true,
		user: "Hookline cannot write its journal at the moment",
		hint: "the journal cannot be written: the log says why",
	},
	Overloaded: {
		status: http.StatusServiceUnavailable, fault: FaultHookline, step: StepRequest, again: true,
		user: "too much is being sent there at the moment",
		hint: "transports.{transport}.concurrency or .rate, server.max_in_flight or the hook's loop_limit was reached; it is queued and routes.{route} has on_blocked = \"fail\", or there is no journal to queue it in",
	},
	Draining: {
		status: http.StatusServiceUnavailable, fault: FaultHookline, step: StepRequest,
		user: "Hookline is being stopped or restarted",
		hint: "the daemon stopped while the event waited for a place at transports.{transport} (concurrency, rate)",
	},
}
