package journal

import (
	"context"
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"

	"github.com/google/uuid"

	"github.com/hookline/hookline/core"
)

// An answer to a search is bounded whatever is searched for: it takes candidates
// from the best index, looks at so many of them or for so long, and says how far it
// got. Whoever wants more goes on from there.
const (
	scanMost  = 20000
	scanTime  = 20 * time.Millisecond
	scanChunk = 1000 // candidates of one statement
	// recordMost is how many events of a record are searched by its index: those of
	// one with more are everywhere, and found by the way.
	recordMost = 2000
	// clockSlack is how far ids may be out of order, by clocks of several nodes or
	// one that was set: a time bounds the sequence that much more loosely.
	clockSlack = 10 * time.Minute
	// commitSlack is how long a commit may take: on a shared journal an event can
	// show up behind one that is younger.
	commitSlack = 10 * time.Second
	// materialized keeps the planners from taking a subquery apart.
	materialized = "limit 1000000000"
)

// search is a text with its arguments on their way.
type search struct {
	args []any
}

func (q *search) arg(v any) string {
	q.args = append(q.args, v)
	return "$" + strconv.Itoa(len(q.args))
}

// equal is a condition that no index is to be used for: the planner does not know
// how rare a value is, and which index is best has been decided.
func (q *search) equal(column, value string) string { return column + " || '' = " + q.arg(value) }

func (q *search) in(column string, values []string) string {
	return column + " || '' in {texts " + q.arg(list(values)) + "}"
}

// part is an index that candidates come from, or the table itself.
type part struct {
	table, column string
	cond          func(q *search) string // nil: all of it
	several       bool                   // it may give the same number more than once
}

// source is where candidates come from, by their sequence numbers.
type source []part

// text gives the numbers in between, in order.
func (s source) text(q *search, low, high int64, up bool, most string) string {
	order := "desc"
	if up {
		order = "asc"
	}
	parts := make([]string, len(s))
	for i, p := range s {
		cond, distinct := "", ""
		if p.cond != nil {
			cond = p.cond(q) + " and "
		}
		if p.several {
			distinct = "distinct "
		}
		parts[i] = fmt.Sprintf("select %s%s as n from %s where %s%s > %s and %s < %s order by n %s %s",
			distinct, p.column, p.table, cond, p.column, q.arg(low), p.column, q.arg(high), order, most)
	}
	if len(parts) == 1 {
		return parts[0]
	}
	for i, text := range parts {
		parts[i] = fmt.Sprintf("select n from (%s) p%d", text, i)
	}
	return "select n from (" + strings.Join(parts, " union ") + ") u order by n " + order + " " + most
}

// plan is how to search: where to look, and for what.
type plan struct {
	source     source
	columns    string
	from, join string // the table, and those that it is joined with
	key        string // its sequence
	// table is set if the candidates are all its rows.
	table  string
	filter func(q *search) []string

	low, high int64 // exclusive
	up        bool
	limit     int
}

// scanned is what came of a search.
type scanned struct {
	at   int64 // the last number that was looked at, 0 if it is through
	part bool  // it has ended early
}

// scan calls row for up to limit of what plan finds.
func (s *Store) scan(ctx context.Context, p *plan, each func(row)) (scanned, error) {
	deadline, looked, found := time.Now().Add(scanTime), int64(0), 0
	size := int64(min(p.limit+1, scanChunk))
	last := int64(0)
	for {
		count, edge, err := s.candidates(ctx, p, size)
		if err != nil || count == 0 {
			return scanned{}, err
		}
		q := &search{}
		low, high := edge-1, p.high
		if p.up {
			low, high = p.low, edge+1
		}
		from, where := p.from, []string(nil)
		if p.table != "" {
			where = []string{p.key + " > " + q.arg(low), p.key + " < " + q.arg(high)}
		} else {
			from = "(" + p.source.text(q, low, high, p.up, materialized) + ") c join " + p.from + " on " + p.key + " = c.n"
		}
		where = append(where, p.filter(q)...)
		if len(where) == 0 {
			where = []string{"1 = 1"}
		}
		order := "desc"
		if p.up {
			order = "asc"
		}
		text := fmt.Sprintf("select %s from %s %s where %s order by %s %s limit %s",
			p.columns, from, p.join, strings.Join(where, " and "), p.key, order, q.arg(int64(p.limit+1-found)))
		err = s.read(ctx, query(text), q.args, func(r row) {
			if found++; found <= p.limit {
				last = r.int(0)
				each(r)
			}
		})
		if err != nil {
			return scanned{}, err
		}
		if found > p.limit {
			return scanned{at: last}, nil
		}
		if count < size {
			return scanned{}, nil
		}
		if p.up {
			p.low = edge
		} else {
			p.high = edge
		}
		if looked += count; looked >= scanMost || time.Now().After(deadline) {
			return scanned{at: edge, part: true}, nil
		}
		size = min(size*4, scanChunk)
	}
}

// candidates counts those that come next, and finds the last of them.
func (s *Store) candidates(ctx context.Context, p *plan, size int64) (count, edge int64, err error) {
	q := &search{}
	last := "min(n)"
	if p.up {
		last = "max(n)"
	}
	from := p.source
	if p.table != "" {
		from = source{{table: p.table, column: "seq"}}
	}
	inner := from.text(q, p.low, p.high, p.up, "limit "+strconv.FormatInt(size, 10))
	err = s.read(ctx, query("select count(*), "+last+" from ("+inner+") c"), q.args, func(r row) { count, edge = r.int(0), r.int(1) })
	return count, edge, err
}

// rare are the states that have an index of their own.
var rare = map[core.State]bool{
	core.StateWaiting: true, core.StateUnknown: true, core.StateHeld: true, core.StateDead: true,
	core.StateCancelled: true, core.StateRejected: true, core.StateSkipped: true,
}

// The conditions of the partial indexes, as the schema has them.
const (
	rareStates  = `state in ('waiting', 'unknown', 'held', 'dead', 'cancelled', 'rejected', 'skipped')`
	rareCodes   = `code not in ('', 'delivered')`
	rareAnswers = `code not in ('delivered', 'accepted', 'skipped', 'ignored')`
)

// byStates are the deliveries in rare states; nil if some are not rare.
func byStates(states []core.State, column string) source {
	var out source
	for _, state := range states {
		if !rare[state] {
			return nil
		}
		out = append(out, part{table: "deliveries", column: column, several: column != "seq", cond: func(q *search) string {
			return rareStates + " and state = " + q.arg(string(state))
		}})
	}
	return out
}

// EventPage is an answer to a search for events.
type EventPage struct {
	Rows []EventRow
	Next string // cursor to go on with, "" if there is nothing more
	// Scanned is set if the search ended early, without a full page: how far it got.
	Scanned time.Time
}

// CursorNew is the cursor of an [EventFilter]'s After that begins after the newest
// event.
const CursorNew = "new"

// SearchEvents lists events, the newest first; with After, what came after it, the
// oldest first. It takes bounded time, and may end before the page is full.
func (s *Store) SearchEvents(ctx context.Context, f EventFilter) (*EventPage, error) {
	p := &plan{
		columns: eventColumns + ", " + eventExtra, from: "events e", join: "left join answers a on a.event_seq = e.seq", key: "e.seq",
	}
	var err error
	if p.limit, p.low, p.high, p.up, err = pageBounds(f.Limit, f.Cursor, f.After); err != nil {
		return nil, err
	}
	if f.After == CursorNew {
		err := s.read(ctx, "select max(seq) from events", nil, func(r row) { p.low = r.int(0) })
		return &EventPage{Next: cursorOf(p.low)}, err
	}
	began := p.low
	if err := s.bound(ctx, p, "events", f.Since, f.Until); err != nil {
		return nil, err
	}
	p.source = f.source()
	if p.source == nil {
		p.table = "events"
	}
	p.filter = f.conditions
	out := &EventPage{}
	end, err := s.scan(ctx, p, func(r row) { out.Rows = append(out.Rows, eventRowOf(r)) })
	if err != nil {
		return nil, err
	}
	if err := s.states(ctx, out.Rows); err != nil {
		return nil, err
	}
	if end.at != 0 {
		out.Next = cursorOf(end.at)
	}
	if end.part {
		err = s.read(ctx, "select received_at from events where seq = $1", []any{end.at}, func(r row) { out.Scanned = r.time(0) })
	}
	if err == nil && p.up {
		out.Next, err = s.follow(ctx, began, end.at, out.Rows)
	}
	return out, err
}

// follow is the cursor of what comes after: one that is not so young that others
// may still show up behind it.
func (s *Store) follow(ctx context.Context, began, at int64, rows []EventRow) (string, error) {
	if at == 0 {
		at = began
		if len(rows) > 0 {
			at = max(at, rows[len(rows)-1].Seq)
		}
	}
	if !s.single && at > began {
		err := s.read(ctx, "select seq from events where seq > $1 and seq <= $2 and received_at > $3 order by seq limit 1",
			[]any{began, at, time.Now().Add(-commitSlack).UnixMicro()}, func(r row) { at = r.int(0) - 1 })
		if err != nil {
			return "", err
		}
	}
	return cursorOf(at), nil
}

// states reads how the deliveries of a page's events stand, all at once.
func (s *Store) states(ctx context.Context, rows []EventRow) error {
	if len(rows) == 0 {
		return nil
	}
	seqs, at := make([]int64, len(rows)), make(map[int64]int, len(rows))
	for i := range rows {
		seqs[i], at[rows[i].Seq] = rows[i].Seq, i
	}
	return s.read(ctx, qEventsStates, []any{list(seqs)}, func(r row) {
		e := &rows[at[r.int(0)]]
		e.States = append(e.States, DeliveryState{ID: r.str(1), Route: r.str(2), State: core.State(r.str(3)), Code: core.Code(r.str(4))})
	})
}

// source is the best index, nil for none.
func (f *EventFilter) source() source {
	switch {
	case len(f.IDs) > 0:
		ids, refs := make([]string, len(f.IDs)), make([]string, len(f.IDs))
		for i, s := range f.IDs {
			ids[i], refs[i] = strings.ToLower(s), strings.ToUpper(s)
		}
		return source{
			{table: "events", column: "seq", cond: func(q *search) string { return "id in {texts " + q.arg(list(ids)) + "}" }},
			{table: "events", column: "seq", cond: func(q *search) string { return "ref in {texts " + q.arg(list(refs)) + "}" }},
		}
	case f.Record != "":
		return source{{table: "events", column: "seq", cond: func(q *search) string { return "trans_id = " + q.arg(clean(f.Record)) }}}
	case f.Refused:
		return source{{table: "events", column: "seq", cond: func(*search) string { return "refused_code <> ''" }}}
	case f.Gone:
		return source{{table: "answers", column: "event_seq", cond: func(*search) string { return "gone_us > 0" }}}
	case len(f.States) > 0 && byStates(f.States, "event_seq") != nil:
		return byStates(f.States, "event_seq")
	case rareAnswer(f.Code):
		return source{{table: "answers", column: "event_seq", cond: func(q *search) string { return rareAnswers + " and code = " + q.arg(string(f.Code)) }}}
	}
	return nil
}

func rareAnswer(code core.Code) bool {
	switch code {
	case "", "delivered", core.Accepted, core.Skipped, core.Ignored:
		return false
	}
	return true
}

func (f *EventFilter) conditions(q *search) (out []string) {
	add := func(column, value string) {
		if value != "" {
			out = append(out, q.equal(column, value))
		}
	}
	add("e.hook", f.Hook)
	add("e.study", f.Study)
	add("e.kind", string(f.Kind))
	add("e.trans_id", clean(f.Record))
	add("a.code", string(f.Code))
	out = append(out, formCondition(q, f.Form)...)
	out = append(out, timeConditions(q, "e.received_at", f.Since, f.Until)...)
	if f.Refused {
		out = append(out, "e.refused_code || '' <> ''")
	}
	if f.Gone {
		out = append(out, "a.gone_us + 0 > 0")
	}
	if f.Route != "" || len(f.States) > 0 {
		cond := "exists (select 1 from deliveries d where d.event_seq = e.seq"
		if f.Route != "" {
			cond += " and " + q.equal("d.route", f.Route)
		}
		if len(f.States) > 0 {
			cond += " and " + q.in("d.state", texts(f.States))
		}
		out = append(out, cond+")")
	}
	return out
}

func formCondition(q *search, form string) []string {
	if form == "" {
		return nil
	}
	return []string{"(" + q.equal("e.form_id", form) + " or " + q.equal("e.form_name", form) + ")"}
}

func timeConditions(q *search, column string, since, until time.Time) (out []string) {
	if !since.IsZero() {
		out = append(out, column+" >= "+q.arg(since.UnixMicro()))
	}
	if !until.IsZero() {
		out = append(out, column+" < "+q.arg(until.UnixMicro()))
	}
	return out
}

func texts[T ~string](values []T) []string {
	out := make([]string, len(values))
	for i, v := range values {
		out[i] = string(v)
	}
	return out
}

// DeliveryPage is an answer to a search for deliveries.
type DeliveryPage struct {
	Rows []DeliveryRow
	Next string // cursor to go on with, "" if there is nothing more
	// Scanned is set if the search ended early, without a full page: how far it got.
	Scanned time.Time
}

// SearchDeliveries lists deliveries, the newest first; with After, those that were
// made after it, the oldest first. It takes bounded time, and may end before the
// page is full.
func (s *Store) SearchDeliveries(ctx context.Context, f DeliveryFilter) (*DeliveryPage, error) {
	out := &DeliveryPage{}
	end, err := s.scanDeliveries(ctx, f, deliveryColumns+", "+eventColumns+", "+deliveryExtra, func(r row) {
		out.Rows = append(out.Rows, deliveryRowOf(r))
	})
	if err != nil {
		return nil, err
	}
	if end.at != 0 {
		out.Next = cursorOf(end.at)
	}
	if end.part {
		err = s.read(ctx, "select created_at from deliveries where seq = $1", []any{end.at}, func(r row) { out.Scanned = r.time(0) })
	}
	return out, err
}

// Selected is a delivery that an act is for, in short.
type Selected struct {
	ID    string
	Route string
	State core.State
}

// Select lists deliveries in short, the oldest first. next is the cursor for After,
// "" if there is nothing more.
func (s *Store) Select(ctx context.Context, f DeliveryFilter) (out []Selected, next string, err error) {
	if f.After == "" {
		f.After = "0"
	}
	end, err := s.scanDeliveries(ctx, f, "d.seq, d.id, d.route, d.state", func(r row) {
		out = append(out, Selected{ID: r.str(1), Route: r.str(2), State: core.State(r.str(3))})
	})
	if err == nil && end.at != 0 {
		next = cursorOf(end.at)
	}
	return out, next, err
}

func (s *Store) scanDeliveries(ctx context.Context, f DeliveryFilter, columns string, each func(row)) (scanned, error) {
	p := &plan{columns: columns, from: "deliveries d", join: "join events e on e.seq = d.event_seq", key: "d.seq"}
	var err error
	if p.limit, p.low, p.high, p.up, err = pageBounds(f.Limit, f.Cursor, f.After); err != nil {
		return scanned{}, err
	}
	if err := s.bound(ctx, p, "deliveries", f.Since, f.Until); err != nil {
		return scanned{}, err
	}
	if f.Stuck && len(f.States) == 0 {
		f.States = maybeStuck
	}
	var none bool
	if p.source, none, err = s.deliverySource(ctx, &f); err != nil || none {
		return scanned{}, err
	}
	if p.source == nil {
		p.table = "deliveries"
	}
	p.filter = f.conditions
	return s.scan(ctx, p, each)
}

// maybeStuck are the states in which a delivery may have no next attempt.
var maybeStuck = []core.State{core.StateUnknown, core.StateHeld, core.StateDead}

// deliverySource is the best index, nil for none; none: there can be no such
// delivery.
func (s *Store) deliverySource(ctx context.Context, f *DeliveryFilter) (_ source, none bool, err error) {
	ofEvent := func(seq int64) source {
		return source{{table: "deliveries", column: "seq", cond: func(q *search) string { return "event_seq = " + q.arg(seq) }}}
	}
	switch {
	case f.Event != "":
		seq, err := s.eventSeq(ctx, f.Event)
		return ofEvent(seq), seq == 0, err
	case f.Origin != "":
		var seq int64
		err := s.read(ctx, "select event_seq from deliveries where id = $1", []any{f.Origin}, func(r row) { seq = r.int(0) })
		return ofEvent(seq), seq == 0, err
	case f.Record != "":
		var n int
		err := s.read(ctx, "select seq from events where trans_id = $1 limit $2", []any{clean(f.Record), int64(recordMost + 1)}, func(row) { n++ })
		if err != nil || n <= recordMost {
			return source{{table: "deliveries", column: "seq", cond: func(q *search) string {
				return "event_seq in (select seq from events where trans_id = " + q.arg(clean(f.Record)) + ")"
			}}}, n == 0, err
		}
	}
	if len(f.States) > 0 {
		if by := byStates(f.States, "seq"); by != nil {
			return by, false, nil
		}
	}
	if f.Code != "" && f.Code != "delivered" {
		return source{{table: "deliveries", column: "seq", cond: func(q *search) string { return rareCodes + " and code = " + q.arg(string(f.Code)) }}}, false, nil
	}
	return nil, false, nil
}

func (f *DeliveryFilter) conditions(q *search) (out []string) {
	add := func(column, value string) {
		if value != "" {
			out = append(out, q.equal(column, value))
		}
	}
	add("d.hook", f.Hook)
	add("d.route", f.Route)
	add("d.code", string(f.Code))
	add("d.origin", f.Origin)
	add("e.study", f.Study)
	add("e.kind", string(f.Kind))
	add("e.trans_id", clean(f.Record))
	out = append(out, formCondition(q, f.Form)...)
	out = append(out, timeConditions(q, "d.created_at", f.Since, f.Until)...)
	if len(f.States) > 0 {
		out = append(out, q.in("d.state", texts(f.States)))
	}
	if f.Stuck {
		out = append(out, "d.head + 0 = 1 and d.due_at is null and d.state || '' <> 'running'")
	}
	return out
}

// pageBounds read limit and cursors.
func pageBounds(limit int, cursor, after string) (n int, low, high int64, up bool, err error) {
	size, high, err := page(limit, cursor)
	if err != nil || after == "" {
		return int(size), 0, high, false, err
	}
	switch {
	case cursor != "":
		return 0, 0, 0, false, fmt.Errorf("cursor and after cannot both be given: one goes down the list, and the other up")
	case after != CursorNew:
		if low, err = strconv.ParseInt(after, 36, 64); err != nil || low < 0 {
			return 0, 0, 0, false, fmt.Errorf("after %q is no cursor: use the one that came with the answer before, or %s", after, CursorNew)
		}
	}
	return int(size), low, math.MaxInt64, true, nil
}

// bound narrows a plan to a time, by the ids, which begin with it.
func (s *Store) bound(ctx context.Context, p *plan, table string, since, until time.Time) error {
	if !since.IsZero() {
		err := s.read(ctx, query("select seq from "+table+" where id < $1 order by id desc limit 1"),
			[]any{idAt(since.Add(-clockSlack))}, func(r row) { p.low = max(p.low, r.int(0)) })
		if err != nil {
			return err
		}
	}
	if !until.IsZero() {
		return s.read(ctx, query("select seq from "+table+" where id >= $1 order by id limit 1"),
			[]any{idAt(until.Add(clockSlack))}, func(r row) { p.high = min(p.high, r.int(0)) })
	}
	return nil
}

// idAt is the first UUIDv7 of a time.
func idAt(t time.Time) string {
	var id uuid.UUID
	ms := min(max(t.UnixMilli(), 0), 1<<48-1)
	for i := range 6 {
		id[i] = byte(ms >> (40 - 8*i)) //nolint:gosec // the lowest eight bits are meant
	}
	id[6], id[8] = 0x70, 0x80
	return id.String()
}
