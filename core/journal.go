package core

import (
	"context"
	"errors"
	"time"

	"github.com/hookline/hookline/plugins/transport"
)

// Delivery is one event on one route. It is the same thing in the foreground, in
// the background and in the journal.
type Delivery struct {
	ID    string // UUIDv7; also the id of its first message
	Seq   int64  // given by the journal: the order within its lane
	Event *Event
	Route string
	Lane  string

	State    State
	Code     Code      // of its last attempt, or why it is held; "" if there was none
	Attempts int       // those begun so far
	Begun    time.Time // of the first attempt, by the journal's clock; zero before
	Sent     int       // how many of its messages the target has confirmed

	// Snapshot is the record that the messages were made of, on a route that
	// enriches; nil before, and for a delivery that was shaped in an earlier run.
	Snapshot *Snapshot
	// Logs are the lines of ctx.log of the script's last run in this run of the
	// delivery. They may quote the record.
	Logs     []string
	Shape    Shape
	Contents []Content // of a shaped delivery; nil for ShapeBody
	Script   string    // SHA-256 of the script that shaped it
	Revision string    // of the configuration that it was shaped under
}

// Shape says how far a delivery's messages are settled. Once they are, every
// attempt sends these bytes (invariant 9).
type Shape int

// The shapes.
const (
	ShapeOpen     Shape = iota // not yet
	ShapeBody                  // one message: the event's body as it came
	ShapeMessages              // Contents
)

// Placement is a delivery on its way into the journal.
type Placement struct {
	*Delivery
	// Run asks to have it running at once, if nothing is ahead of it in its lane.
	// Otherwise, and if something is, it is queued.
	Run bool
	// Wait is how long the background leaves it alone once it is the head of its
	// lane, if the delivery ahead is running now: somebody waits for its turn.
	Wait time.Duration

	// Ahead is the state of the lane's head when the delivery was placed, "" if it
	// is itself the head. Set by the journal.
	Ahead State
	// Here: the delivery ahead runs on this node. Set by the journal.
	Here bool
}

// Entry is an event on its way into the journal.
type Entry struct {
	Event      *Event
	Deliveries []*Placement
	// Key is the caller's own id of the event, "" for none. Within KeyAge the same
	// key is the same event.
	Key    string
	KeyAge time.Duration
}

// What Begin may return besides the journal's own errors.
var (
	// ErrKeyConflict: the key stands for an event with another body.
	ErrKeyConflict = errors.New("this id was sent before with another body")
	// ErrUnsure: it was probably not written, and is taken back if it was. Until
	// then another node may deliver it.
	ErrUnsure = errors.New("it is not known whether it was written")
)

// DuplicateError is what Begin returns for a key that stands for the same body.
type DuplicateError struct {
	EventID    string
	Ref        string
	Deliveries []*Delivery // as they stand now
}

func (e *DuplicateError) Error() string { return "this event was sent before, as " + e.EventID }

// Attempt is one try as the journal keeps it.
type Attempt struct {
	N       int // 1 is the first
	Message int // index of the message it ended with
	Start   time.Time
	Took    time.Duration
	Receipt transport.Receipt
}

// Settlement is what becomes of a running delivery.
type Settlement struct {
	State State
	Code  Code
	// Blocks keeps the deliveries behind it waiting although it has ended.
	Blocks bool
	// Due is when the background tries again, from now; negative for never by
	// itself. Looked at for open states only.
	Due      time.Duration
	Reason   string // of ctx.skip, ctx.reject, what the script threw, or why it is held
	Position string // in the script
	Attempts []Attempt
	// Calm: nobody waits for it, so it may be written with what comes next, within
	// a few milliseconds.
	Calm bool
	// Settled, if set, is called once the settlement is durable, or could not be
	// made because the delivery is no longer this node's. It must not block.
	Settled func(Promotion, error)
}

// ErrLost means that another node has taken the delivery over.
var ErrLost = errors.New("another node has taken the delivery over")

// Promotion is a delivery that has become the head of its lane; Seq 0 is none.
type Promotion struct {
	Seq   int64
	Route string
	Due   time.Duration // from now; negative for not by itself
}

// AnswerRecord is what the caller was told.
type AnswerRecord struct {
	Status int
	Code   Code
	Detail string        // "" for a success
	Gone   time.Duration // after which the caller hung up before the answer, 0 if it did not
}

// Journal is the durable record. An error of a method that says durable means
// that nothing was written. All methods may be called at the same time.
type Journal interface {
	// Begin writes an event with its deliveries. It sets Seq and State, and
	// Placement's Ahead and Here. Durable when it returns. The error may be
	// ErrKeyConflict or a *DuplicateError.
	Begin(ctx context.Context, e *Entry) error
	// Refused writes a body that is not an event, with the rule it breaks.
	// Durable when it returns.
	Refused(ctx context.Context, ev *Event, code Code, key, rule string) error
	// Take makes a queued delivery that has become the head of its lane a running
	// one of this node. Durable when it returns true; false: it is not for taking.
	Take(ctx context.Context, d *Delivery) (bool, error)
	// Shaped writes Contents, Script, Revision, Snapshot and Logs. Durable when it
	// returns.
	Shaped(ctx context.Context, d *Delivery) error
	// Settle ends a running delivery's run. It does not wait: the journal keeps
	// the settlement until it is written, with the Snapshot and the Logs of one that
	// has no shape.
	Settle(d *Delivery, s Settlement)
	// Answered writes what the caller was told. It does not wait either.
	Answered(ev *Event, a AnswerRecord)
	// Live returns an error when the node may not begin an attempt, because others
	// may believe that it is dead. ctx of an attempt must derive from Lease, which
	// ends before they take its deliveries over.
	Live() error
	Lease() context.Context
}

// Queue is the background's side of the journal.
type Queue interface {
	// Claim makes up to n deliveries of the route that are heads of their lanes
	// and due running ones of this node, the longest due first. Unshaped ones get
	// ShapeBody if body is set. Durable when it returns.
	Claim(ctx context.Context, route string, body bool, n int) ([]*Delivery, error)
	// Next tells how long it is until a delivery of the route is due; ok is false
	// if none will be by itself.
	Next(ctx context.Context, route string) (due time.Duration, ok bool, err error)
	// Recover makes the running deliveries of dead nodes unknown ones, due at once
	// except on the routes in hold. It returns how many there were.
	Recover(ctx context.Context, hold []string) (int, error)
	// HoldOthers holds the open deliveries of all routes but these.
	HoldOthers(ctx context.Context, routes []string) (int, error)
}
