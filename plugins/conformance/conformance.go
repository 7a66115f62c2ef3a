// Package conformance is the suite that every transport must pass. It runs the
// same checks three ways: on the Go value, over gRPC in one process, and on a real
// child process, because each adds ways to be wrong.
package conformance

import (
	"context"
	"encoding/json"
	"testing"

	"github.com/hookline/hookline/plugins/transport"
)

// State is what a target does.
type State string

// The states a target can be put into.
const (
	Up        State = "up"        // takes messages
	Down      State = "down"      // cannot be reached
	Slow      State = "slow"      // takes a message and does not answer
	Rejecting State = "rejecting" // answers that it does not want the message, for good
)

// Target is the system that the transport under test delivers to.
type Target interface {
	// Settings reach the target. They hold the subject's secret, if it has one.
	Settings() json.RawMessage
	// Set puts the target into a state of Subject.States. It starts Up. What it
	// has confirmed must survive, and a target that is Up again is where it was.
	Set(State)
	// Received are the payloads that the target took, in order, those taken while
	// it was Slow included.
	Received() [][]byte
}

// Subject is the transport under test.
type Subject struct {
	// New makes the transport; nil if it is not written in Go.
	New func() transport.Transport
	// Command runs it as a plugin; nil to leave that way out.
	Command []string
	// NoMTLS: the plugin cannot do AutoMTLS, as with `mtls = false`.
	NoMTLS bool

	// Target makes a new target for one check, and cleans up by tb.Cleanup.
	Target func(tb testing.TB) Target
	// States that the target can be put into, beside Up.
	States []State
	// Settings lead to targets in these states, where nobody can control one and
	// Target is nil. What arrives is not compared then.
	Settings map[State]json.RawMessage

	// Faults are further ways in which a delivery must fail.
	Faults []Fault
	// Secret is a value in the settings that must never be told.
	Secret string
	// Bad are settings that must be refused, beside those that the suite makes from
	// the schema: a wrong type for each field, a required one missing, an unknown one.
	Bad []BadSettings

	// Payload puts a text into what the target takes, for a target that does not
	// take any JSON; nil: the text as it is. The text is JSON. Target.Received gives
	// the payload back, byte for byte.
	Payload func(text string) []byte
	// ContentType of the payloads; "": application/json.
	ContentType string
	// Big is the size in bytes of a message that must still arrive; 0: 1 MiB.
	Big int
}

// Fault is a way in which a delivery must fail: wrong credentials, a queue that is
// not there, a message that is too large.
type Fault struct {
	Name     string                       // "a wrong password"
	Settings func(Target) json.RawMessage // nil: the target's
	Make     func(Target)                 // done once the transport is configured; nil: nothing
	Message  func(*transport.Message)     // changes the message; nil: not
	Effect   transport.Effect             // that the receipt must have
	Codes    []transport.Code             // of which the receipt must have one
}

// BadSettings are settings that a transport must refuse.
type BadSettings struct {
	Name     string
	Settings json.RawMessage
	Field    string // that the error must name; "" for the whole
	Hidden   string // a value in them that the error must not hold
}

// Test runs the suite as subtests, one for each way and check. What the subject
// gives no means for is left out, and logged.
func Test(t *testing.T, s Subject) {
	ran := false
	for _, way := range ways {
		if !way.possible(s) {
			continue
		}
		ran = true
		t.Run(way.name, func(t *testing.T) {
			run := newRun(s, way)
			for _, c := range s.checks() {
				if !c.applies(way) {
					continue
				}
				if missing := run.missing(c); missing != "" {
					t.Logf("not checked: %s: %s", c.name, missing)
					continue
				}
				t.Run(c.name, func(t *testing.T) {
					result := run.check(t, c)
					for _, note := range result.Notes {
						t.Log(note)
					}
					for _, failure := range result.Failures {
						t.Error(failure)
					}
					if len(result.Failures) > 0 {
						t.Log("why it matters: " + c.why)
					}
				})
			}
		})
	}
	if !ran {
		t.Fatal("the subject has neither New nor Command: there is nothing to test")
	}
}

// Run runs the suite without a test, for `hookline plugin test`. It ends early,
// with what it has, when ctx ends. report, if not nil, is told of each result as
// it comes.
func Run(ctx context.Context, s Subject, report func(Result)) *Report {
	r := &Report{}
	for _, way := range ways {
		if way.possible(s) {
			r.run(ctx, s, way, s.checks(), report)
		}
	}
	return r
}
