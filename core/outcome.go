package core

import (
	"fmt"
	"time"

	"github.com/hookline/hookline/plugins/transport"
)

// State is where a delivery stands.
type State string

// The states a delivery can end in. Without a journal nothing is tried again
// after the answer, so there are no open states yet.
const (
	StateDelivered State = "delivered" // the target confirmed
	StateSkipped   State = "skipped"   // the script said so
	StateRejected  State = "rejected"  // the script refused the entry
	StateUnknown   State = "unknown"   // sent, and the target may have acted
	StateDead      State = "dead"      // surely not done, and not tried again
)

// Outcome is what came of one delivery.
type Outcome struct {
	DeliveryID string
	Route      *Route
	State      State
	Code       Code
	Reason     string // of ctx.skip or ctx.reject
	Position   string // in the script, for example "transforms/ehr.js:12:7"
	Clock      *Expired
	Attempts   int
	Duration   time.Duration
	Receipt    transport.Receipt // of the last attempt; zero if there was none
}

// Failed tells whether the caller must be told of a failure.
func (o *Outcome) Failed() bool { return o.State != StateDelivered && o.State != StateSkipped }

// Expired is the cause of a context whose time has run out: the setting that
// gave the time, so that a message can name it.
type Expired struct {
	Setting string // for example "routes.ehr.timeout"
	After   time.Duration
}

func (e *Expired) Error() string { return fmt.Sprintf("%s is %s", e.Setting, e.After) }

// ScriptError is why a transform gave no message. Its text may quote the record:
// only code and position are fit for a log.
type ScriptError struct {
	Code     Code   // TransformFailed, ScriptTimeout, or a plugin code if the script's process failed
	Position string // "file:line:column", "" if it is not known
	Text     string // what was thrown
}

func (e *ScriptError) Error() string {
	if e.Position == "" {
		return e.Text
	}
	return e.Position + ": " + e.Text
}

// classify turns a receipt into a state. It is the only place that does.
func classify(r transport.Receipt) (State, Code) {
	code := r.Code
	if _, known := table[code]; !known || !transportCode[code] {
		code = transport.PluginProtocol
	}
	switch {
	case r.Effect == transport.Done && code == transport.Delivered:
		return StateDelivered, code // invariant 1: only a confirmed effect
	case code == transport.Delivered:
		return StateUnknown, transport.PluginProtocol
	case r.Effect == transport.None:
		return StateDead, code
	default:
		return StateUnknown, code
	}
}

var transportCode = func() map[Code]bool {
	m := map[Code]bool{
		transport.PluginCrashed: true, transport.PluginProtocol: true, transport.PluginUnavailable: true,
	}
	for _, c := range transport.Codes {
		m[c] = true
	}
	return m
}()
