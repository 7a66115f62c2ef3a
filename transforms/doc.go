// Package transforms runs the scripts that shape payloads. A script is foreign
// code: it is parsed, compiled and run in a child process, the daemon's own
// executable re-executed, and never in the daemon (DESIGN 7 and 8).
//
// The host's side is [Engine] and [Transform]; the child's side is [ServeChild].
// What holds for both:
//
//   - Deadline (invariant 4): a run ends within its limit. The child interrupts
//     the script; a child that does not answer shortly after is killed, and what
//     else was in flight runs again on the next one.
//   - Same input, same bytes (invariant 9): clock, random numbers and time zone
//     come from the event and the delivery, so that a second run is harmless.
//   - No contents in logs (invariant 7): what a script logs or throws leaves this
//     package in ScriptError, in Shaped.Logs and through Options.ShowOutput, nowhere else.
//   - No state: every event gets a fresh module scope on frozen globals, or one that
//     nothing can change (stateless.go).
package transforms
