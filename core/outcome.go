package core

import (
	"fmt"
	"time"

	"github.com/hookline/hookline/plugins/transport"
)

// State is where a delivery stands.
type State string

// The open states: Hookline, or an operator, still has something to do.
const (
	StateQueued  State = "queued"  // its turn has not come
	StateRunning State = "running" // an attempt is being made
	StateWaiting State = "waiting" // surely not done; it will be tried again
	StateUnknown State = "unknown" // sent, and the target may have acted
	StateHeld    State = "held"    // an operator decides
)

// The states in which a delivery ends.
const (
	StateDelivered State = "delivered" // the target confirmed
	StateSkipped   State = "skipped"   // the script said so
	StateRejected  State = "rejected"  // the script refused the entry
	StateDead      State = "dead"      // given up
	StateCancelled State = "cancelled" // an operator ended it
)

// Open tells whether the delivery has not ended.
func (s State) Open() bool {
	switch s {
	case StateQueued, StateRunning, StateWaiting, StateUnknown, StateHeld:
		return true
	}
	return false
}

// Outlook is what follows a failure, as far as it is known when it is told.
type Outlook int

// The outlooks.
const (
	OutlookEnd   Outlook = iota // it is not sent again
	OutlookRetry                // Hookline keeps trying
	OutlookHeld                 // it waits for somebody to decide
)

// Outcome is what came of one delivery.
type Outcome struct {
	DeliveryID string
	Route      *Route
	State      State
	Code       Code
	Outlook    Outlook
	MaybeSent  bool   // the target may have received it
	Reason     string // of ctx.skip or ctx.reject
	Position   string // in the script, for example "transforms/ehr.js:12:7"
	Thrown     string // why the script failed, for the journal only: it may quote the record
	Because    string // for the integrator: why the record could not be read
	Clock      *Expired
	Attempts   int
	Duration   time.Duration
	Receipt    transport.Receipt // of the last attempt; zero if there was none

	hopeless bool // to try at once again would come to the same
	unmade   bool // it found no way to the transport: no attempt was made
}

// Failed tells whether the caller must be told of a failure. A delivery that is
// still to be made is none: it was accepted. Nor is one that an operator ended, or
// holds before its first attempt: that was a decision.
func (o *Outcome) Failed() bool {
	switch o.State {
	case StateDelivered, StateSkipped, StateCancelled:
		return false
	case StateQueued, StateRunning, StateHeld:
		return o.Code != Accepted && o.Code != "" // without a code nothing has gone wrong yet
	}
	return true
}

// Expired is the cause of a context whose time has run out: the setting that
// gave the time, so that a message can name it.
type Expired struct {
	Setting string // for example "routes.ehr.timeout"
	After   time.Duration
	caller  bool // it is the time that the caller waits, and nobody else's fault
}

func (e *Expired) Error() string { return fmt.Sprintf("%s is %s", e.Setting, e.After) }

// ScriptError is why a transform gave no message. Its text may quote the record:
// only code and position are fit for a log.
type ScriptError struct {
	Code      Code     // TransformFailed or ScriptTimeout
	Blameless bool     // the script had no fair run: its process was gone, or busy with others
	Position  string   // "file:line:column", "" if it is not known
	Text      string   // what was thrown
	Logs      []string // of ctx.log before that; they may quote the record

	After time.Duration // a blameless one is not tried again earlier
}

func (e *ScriptError) Error() string {
	if e.Position == "" {
		return e.Text
	}
	return e.Position + ": " + e.Text
}

// fate is what an attempt came to, before the route's policy.
type fate int

const (
	delivered fate = iota
	notDone        // the target surely did not act
	maybeDone      // it may have acted
)

// classify turns a receipt into a fate. It is the only place that does.
func classify(r transport.Receipt) (fate, Code) {
	code := r.Code
	if !transportCode[code] {
		code = transport.PluginProtocol
	}
	switch {
	case r.Effect == transport.Done && code == transport.Delivered:
		return delivered, code // invariant 1: only a confirmed effect
	case code == transport.Delivered:
		return maybeDone, transport.PluginProtocol
	case r.Effect == transport.None:
		return notDone, code
	default:
		return maybeDone, code
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
