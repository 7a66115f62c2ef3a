// Package alerts tells a transport what stands against the work of this daemon: one
// message when a condition begins, one when it is over. An alert is no event and no
// delivery: nothing of it is journalled, and no alert is about another alert.
package alerts

import (
	"strconv"
	"strings"
	"time"
)

// Name is the kind of an alert. The set is closed.
type Name string

// The alerts.
const (
	Dead               Name = "dead"
	Held               Name = "held"
	CircuitOpen        Name = "circuit_open"
	Recalled           Name = "recalled"
	Unauthorized       Name = "unauthorized"
	CallerGone         Name = "caller_gone"
	DiskLow            Name = "disk_low"
	JournalUnavailable Name = "journal_unavailable"
	Certificate        Name = "certificate"
	Quiet              Name = "quiet"
	Child              Name = "child"
	Quarantined        Name = "quarantined"
)

// Names are all of them.
var Names = []Name{Dead, Held, CircuitOpen, Recalled, Unauthorized, CallerGone, DiskLow, JournalUnavailable, Certificate, Quiet, Child, Quarantined}

// MaxRefs is how many references of events an alert names.
const MaxRefs = 5

// Key is what makes an alert one: there is never more than one with the same key.
type Key struct {
	Alert   Name
	Subject string // the name of a hook, route, transport or key of the configuration
}

// Condition is something that stands now. It holds ids, names and numbers only.
type Condition struct {
	Key
	Since time.Time // zero: since it was first seen
	Count int       // of what it is about, 0 for what is not counted
	Refs  []string  // of events, the newest first, at most MaxRefs
	// Transport is the transport that it is about, "" for none: no message about a
	// transport goes out over that transport.
	Transport string
}

// Look is what one look at everything has found.
type Look struct {
	At     time.Time
	Active []Condition
	// Unknown are the kinds that could not be looked at: what stood of them stays.
	Unknown map[Name]bool
	// Elsewhere are the kinds that another daemon looks at: what stood of them here
	// is dropped without a word.
	Elsewhere map[Name]bool
}

// words are the sentences of an alert. They name the way out.
type words struct{ raised, cleared string }

var texts = map[Name]words{
	Dead: {
		"{count} deliveries on route {subject} have been given up in the last 24 hours: `hookline deliveries list --state dead --route {subject}` lists them, `hookline deliveries retry` sends them again",
		"no delivery on route {subject} is left that was given up in the last 24 hours",
	},
	Held: {
		"{count} deliveries on route {subject} wait for you, and nothing sends them by itself: `hookline deliveries list --stuck --route {subject}` lists what is first in line; retry or cancel each",
		"no delivery on route {subject} waits for you any more",
	},
	CircuitOpen: {
		"the target of transport {subject} has been failing for so long that it is left alone and its deliveries are queued: `hookline check --probe` says whether it can be reached",
		"the target of transport {subject} works again, and what is queued goes out",
	},
	Recalled: {
		"the configuration on disk cannot be used, so the one accepted last is in force: `hookline check` says what is wrong; mend it and run `hookline reload`",
		"the configuration on disk is in force again",
	},
	Unauthorized: {
		"{count} calls of hook {subject} came with a wrong email or password: compare those in TrialKit with hooks.{subject}.email and hooks.{subject}.password; the log names the addresses",
		"hook {subject} is not called with a wrong email or password any more",
	},
	CallerGone: {
		"{count} callers of hook {subject} hung up before they had an answer, so their users may have seen an error: `hookline events list --hook {subject}` shows what became of the events; hooks.{subject}.timeout may be longer than the caller waits",
		"for an hour no caller of hook {subject} has hung up before its answer",
	},
	DiskLow: {
		"the disk of the journal has less free than {subject}: make room before nothing can be written",
		"the disk of the journal has room again",
	},
	JournalUnavailable: {
		"the {subject} cannot be written and events are refused with 503: the log says why, `hookline check --probe` looks at it",
		"the {subject} can be written again",
	},
	Certificate: {
		"the certificate of {subject} ends within 30 days, or has ended: renew its files, which are read again by themselves; `hookline check` shows its end",
		"the certificate of {subject} has been renewed",
	},
	Quiet: {
		"no event has come to hook {subject} for longer than quiet_after: look whether TrialKit still calls it, and whether the way to Hookline is open",
		"events come to hook {subject} again",
	},
	Child: {
		"the process of {subject} does not run, or ends again and again: the log has its last words; `hookline check` starts it and says what is wrong",
		"the process of {subject} runs again",
	},
	Quarantined: {
		"the script {subject} has cost its process too often and is not run any more, and its deliveries wait: the log says what it did; mend it and run `hookline reload`, or `hookline transform release {subject}`",
		"the script {subject} is run again, and what waited for it goes out",
	},
}

// text is the sentence for a reader who knows nothing else.
func (c *Condition) text(raised bool) string {
	w := texts[c.Alert]
	s := w.cleared
	if raised {
		s = w.raised
	}
	if c.Count == 1 {
		s = singular.Replace(s)
	}
	return strings.NewReplacer("{subject}", c.Subject, "{count}", strconv.Itoa(c.Count)).Replace(s)
}

var singular = strings.NewReplacer(
	"{count} deliveries on route {subject} have", "{count} delivery on route {subject} has",
	"{count} deliveries on route {subject} wait for you, and nothing sends them", "{count} delivery on route {subject} waits for you, and nothing sends it",
	"lists them", "lists it", "sends them again", "sends it again", "retry or cancel each", "retry or cancel it",
	"{count} calls of", "{count} call of",
	"{count} callers of hook {subject} hung up before they had an answer, so their users", "{count} caller of hook {subject} hung up before it had an answer, so its user",
	"what became of the events", "what became of the event",
)

// Times are those of the alerts.
type Times struct {
	Every    time.Duration // between two looks
	Send     time.Duration // one message may take
	Retry    time.Duration // after the first failure to send; each pause is twice the one before
	RetryMax time.Duration

	Dead     time.Duration // for which a delivery that was given up is news
	Denied   time.Duration // within which so many wrong passwords are an alert
	Calm     time.Duration // without a wrong password, and it is over
	Gone     time.Duration // without a caller that hangs up, and it is over
	Child    time.Duration // for which a process may be down, and must run to be well
	Restarts time.Duration // within which so many restarts are an alert
}

// Usual are the times of a daemon.
var Usual = Times{
	Every: 15 * time.Second, Send: 5 * time.Second, Retry: 5 * time.Second, RetryMax: 5 * time.Minute,
	Dead: 24 * time.Hour, Denied: 5 * time.Minute, Calm: 15 * time.Minute, Gone: time.Hour,
	Child: time.Minute, Restarts: 5 * time.Minute,
}
