// Package ingest is the hook endpoint: it authenticates TrialKit's call, decodes
// the event, has it dispatched and answers with the truth. It also makes the
// sockets that it listens on.
//
// Invariants that it upholds: every request gets an answer, a panic's included;
// contents and credentials never reach the log; a caller that hangs up does not
// stop a delivery; an event ends on the set of hooks that it began on.
package ingest
