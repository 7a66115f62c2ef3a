package journal

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"

	"github.com/hookline/hookline/core"
)

// jsonType is what a message has whose script named no type.
const jsonType = "application/json"

// Limits of a page.
const (
	defaultLimit = 50
	maxLimit     = 1000
)

// EventFilter says which events to list. Empty fields match everything.
type EventFilter struct {
	IDs     []string // any of these ids or refs
	Hook    string
	Study   string
	Kind    core.Kind
	Form    string       // its id or its name
	Record  string       // trans_id
	Code    core.Code    // of the answer
	Since   time.Time    // received then or later
	Until   time.Time    // received before
	Refused bool         // only bodies that were refused
	Gone    bool         // only those whose caller hung up before the answer
	Route   string       // one of its deliveries is on this route ...
	States  []core.State // ... and in one of these states
	Limit   int          // 50 by default, 1000 at most
	Cursor  string       // of the page before
	// After lists upward what came after it: [CursorNew], or Next of the answer
	// before.
	After string
}

// EventRow is an event without its body.
type EventRow struct {
	*core.Event // Body is nil
	Seq         int64
	Size        int      // of the body
	Refused     *Refusal // nil for an event that was taken in
	Answer      *Answer  // nil while the caller waits, or if the daemon died first
	// States are how its deliveries stand, in a list.
	States []DeliveryState
}

// DeliveryState is how a delivery stands, in short.
type DeliveryState struct {
	ID    string
	Route string
	State core.State
	Code  core.Code
}

// Refusal says why a body is no event.
type Refusal struct {
	Code core.Code
	Key  string
	Rule string
}

// Answer is what the caller was told, and when.
type Answer struct {
	core.AnswerRecord
	At time.Time
}

// EventDetail is an event with all that became of it.
type EventDetail struct {
	EventRow
	Deliveries []DeliveryDetail
}

// DeliveryRow is a delivery as it stands.
type DeliveryRow struct {
	*core.Delivery // Contents is nil; its Event has no body
	Hook           string
	Head           bool      // its lane is its turn
	Blocks         bool      // what is behind it waits for it
	Due            time.Time // when the background takes it, zero for not by itself
	Owner          string    // node that it runs on
	Code           core.Code
	Reason         string
	Position       string
	Origin         string // id of the delivery that it is a replay of
	Created        time.Time
	Updated        time.Time
	Ended          time.Time // zero while it is open
}

// DeliveryDetail is a delivery with its attempts and messages.
type DeliveryDetail struct {
	DeliveryRow
	Attempts []core.Attempt
	Messages []MessageMeta
	Logs     []string // of its script's run
}

// MessageMeta is a message without its payload.
type MessageMeta struct {
	N           int
	ID          string
	ContentType string
	Size        int
	Key         string
	Path        string
}

// DeliveryFilter says which deliveries to list. Empty fields match everything.
type DeliveryFilter struct {
	Hook   string
	Study  string
	Route  string
	Kind   core.Kind
	Form   string // id or name
	Record string // trans_id
	States []core.State
	Code   core.Code
	Since  time.Time // made then or later
	Until  time.Time // made before
	Event  string    // id or ref
	Origin string    // id of the delivery that it is a replay of
	Stuck  bool      // only what waits for an operator, and holds its lane
	Limit  int       // 50 by default, 1000 at most
	Cursor string    // of the page before
	After  string    // lists upward what was made after it
}

// page reads limit and cursor.
func page(limit int, cursor string) (int64, int64, error) {
	switch {
	case limit == 0:
		limit = defaultLimit
	case limit < 0 || limit > maxLimit:
		return 0, 0, fmt.Errorf("limit is %d: it must be between 1 and %d", limit, maxLimit)
	}
	before := int64(math.MaxInt64)
	if cursor != "" {
		n, err := strconv.ParseInt(cursor, 36, 64)
		if err != nil || n <= 0 {
			return 0, 0, fmt.Errorf("cursor %q is not one: use the one that came with the page before", cursor)
		}
		before = n
	}
	return int64(limit), before, nil
}

// messageID is what the target gets as webhook-id: the delivery's id for the
// first message, as it is the only one nearly always.
func messageID(delivery string, n int) string {
	if n == 0 {
		return delivery
	}
	return fmt.Sprintf("%s-%d", delivery, n+1)
}

func cursorOf(seq int64) string { return strconv.FormatInt(seq, 36) }

// Events lists events, the newest first, however long that takes. next is the
// cursor of the next page, "" after the last.
func (s *Store) Events(ctx context.Context, f EventFilter) (out []EventRow, next string, err error) {
	limit := cmp.Or(f.Limit, defaultLimit)
	for {
		page, err := s.SearchEvents(ctx, f)
		if err != nil {
			return nil, "", err
		}
		out = append(out, page.Rows...)
		if len(out) >= limit || page.Next == "" {
			return out, page.Next, nil
		}
		f.Cursor, f.Limit = page.Next, limit-len(out)
	}
}

// eventRowOf reads eventColumns and eventExtra.
func eventRowOf(r row) EventRow {
	out := EventRow{Event: eventOf(r), Seq: r.int(0), Size: int(r.int(16))}
	if code := r.str(17); code != "" {
		out.Refused = &Refusal{Code: core.Code(code), Key: r.str(18), Rule: r.str(19)}
	}
	if !r.null(20) {
		out.Answer = &Answer{
			AnswerRecord: core.AnswerRecord{
				Status: int(r.int(20)), Code: core.Code(r.str(21)), Detail: r.str(22), Gone: r.micros(23),
			},
			At: r.time(24),
		}
	}
	return out
}

// Event returns an event by its id or its ref, of which the newest counts. The
// error may be [ErrNotFound].
func (s *Store) Event(ctx context.Context, idOrRef string) (*EventDetail, error) {
	var out *EventDetail
	err := s.read(ctx, qEventFind, named(idOrRef), func(r row) {
		out = &EventDetail{EventRow: eventRowOf(r)}
	})
	if err != nil {
		return nil, err
	}
	if out == nil {
		return nil, fmt.Errorf("event %s: %w", idOrRef, ErrNotFound)
	}
	var bad error
	err = s.read(ctx, qEventParts, []any{out.Seq}, func(r row) {
		d := DeliveryDetail{DeliveryRow: deliveryRowOf(r)}
		if text := r.bytes(len(r) - 1); len(text) > 0 {
			if err := json.Unmarshal(text, &d.Logs); err != nil {
				bad = cmp.Or(bad, fmt.Errorf("journal: what the script of delivery %s has logged: %w", d.ID, err))
			}
		}
		out.Deliveries = append(out.Deliveries, d)
	})
	if err = firstError(err, bad); err != nil || len(out.Deliveries) == 0 {
		return out, err
	}
	bySeq := make(map[int64]*DeliveryDetail, len(out.Deliveries))
	for i := range out.Deliveries {
		d := &out.Deliveries[i]
		d.Event = out.Event
		bySeq[d.Seq] = d
		if d.Shape == core.ShapeBody {
			d.Messages = []MessageMeta{{ID: d.ID, ContentType: jsonType, Size: out.Size}}
		}
	}
	// What was read between two statements may know deliveries that the first
	// did not.
	err = s.read(ctx, qEventMessages, []any{out.Seq}, func(r row) {
		if d := bySeq[r.int(0)]; d != nil && d.Shape == core.ShapeMessages {
			n := int(r.int(1))
			d.Messages = append(d.Messages, MessageMeta{
				N: n, ID: messageID(d.ID, n), ContentType: cmp.Or(r.str(2), jsonType), Size: int(r.int(3)), Key: r.str(4), Path: r.str(5),
			})
		}
	})
	if err != nil {
		return nil, err
	}
	err = s.read(ctx, qEventAttempts, []any{out.Seq}, func(r row) {
		if d := bySeq[r.int(0)]; d != nil {
			d.Attempts = append(d.Attempts, attemptOf(r))
		}
	})
	if err != nil {
		return nil, err
	}
	return out, nil
}

// named are the arguments that find an event. A ref is read aloud: upper and
// lower case are the same.
func named(idOrRef string) []any {
	return []any{strings.ToLower(idOrRef), strings.ToUpper(idOrRef)}
}

// eventSeq is 0 for an event that is not there.
func (s *Store) eventSeq(ctx context.Context, idOrRef string) (seq int64, err error) {
	err = s.read(ctx, qEventFind, named(idOrRef), func(r row) { seq = r.int(0) })
	return seq, err
}

// deliveryRowOf reads deliveryColumns, eventColumns and deliveryExtra.
func deliveryRowOf(r row) DeliveryRow {
	d := deliveryOf(r)
	d.Event = eventOf(r[11:])
	x := r[27:]
	return DeliveryRow{
		Delivery: d, Hook: x.str(0), Head: x.flag(1), Blocks: x.flag(2), Due: x.time(3), Owner: x.str(4),
		Code: core.Code(x.str(5)), Reason: x.str(6), Position: x.str(7),
		Created: x.time(8), Updated: x.time(9), Ended: x.time(10), Origin: x.str(11),
	}
}

// Body returns the body of the event with this id, exactly as it came. The error
// may be [ErrNotFound].
func (s *Store) Body(ctx context.Context, eventID string) ([]byte, error) {
	var body []byte
	err := s.read(ctx, qBody, []any{eventID}, func(r row) { body = r.bytes(0) })
	if err == nil && body == nil {
		err = fmt.Errorf("event %s: %w", eventID, ErrNotFound)
	}
	return body, err
}

// Deliveries lists deliveries, the newest first, however long that takes. next is
// the cursor of the next page, "" after the last.
func (s *Store) Deliveries(ctx context.Context, f DeliveryFilter) (out []DeliveryRow, next string, err error) {
	limit := cmp.Or(f.Limit, defaultLimit)
	for {
		page, err := s.SearchDeliveries(ctx, f)
		if err != nil {
			return nil, "", err
		}
		out = append(out, page.Rows...)
		if len(out) >= limit || page.Next == "" {
			return out, page.Next, nil
		}
		f.Cursor, f.Limit = page.Next, limit-len(out)
	}
}
