//go:build linux

package torture_test

import (
	"bytes"
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/hookline/hookline/core/journal"
)

// slack is how much later than it happened something may be noticed: the request
// of a process that has just died is still read, an outcome is still on its way
// into the journal.
const slack = time.Second

// evidence is all that is known when everything has ended.
type evidence struct {
	r      *round
	sent   map[number]*sent
	events map[string]*stored
	byNum  map[number]*stored
	lanes  map[string][]*delivery // in the journal's order
	visits map[string][]*visit    // by delivery

	delivered, afterUnknown, refusedYetKept int
	states                                  map[string]int
}

// check compares what the callers know, what the journal holds and what the
// target has seen. left deliveries were not settled in time.
func (r *round) check(left int) {
	events, err := r.reader.all(context.Background())
	if err != nil {
		r.wrong("the journal cannot be read: %v", err)
		return
	}
	e := &evidence{
		r: r, sent: map[number]*sent{}, events: events, byNum: map[number]*stored{},
		lanes: map[string][]*delivery{}, visits: r.target.seen(), states: map[string]int{},
	}
	for _, c := range r.callers {
		for _, s := range c.events {
			e.sent[s.number] = s
		}
	}
	e.readJournal()
	if left > 0 {
		r.wrong("%d deliveries were not settled %s after everything was well again", left, settling)
	}
	e.checkAccepted()
	e.checkStates()
	e.checkVisits()
	e.checkTruth()
	e.checkOrder()
	e.checkDuplicates()
	r.checkAudit()
	r.evidence = e
}

// checkAudit: whatever died in the middle of whatever, what is in the journal is
// what was written, and all of it is on record.
func (r *round) checkAudit() {
	ctx := context.Background()
	j, err := journal.OpenReader(ctx, r.journal)
	if err != nil {
		r.wrong("the audit: %v", err)
		return
	}
	defer func() { _ = j.Close() }()
	v, err := j.Verify(ctx)
	if err != nil {
		r.wrong("the audit: %v", err)
		return
	}
	for _, f := range v.Findings {
		r.wrong("the audit: %s", f)
	}
	if v.Rows == 0 || len(v.Heads) == 0 {
		r.wrong("the audit compared nothing: %+v", v)
	}
}

// readJournal finds out which event is which, and looks at its bytes.
func (e *evidence) readJournal() {
	for _, st := range e.events {
		var n struct{ Caller, N int }
		if err := json.Unmarshal(st.body, &n); err != nil {
			e.r.wrong("event %s in the journal is not what any caller sent: %.200s", st.id, st.body)
			continue
		}
		num := number{n.Caller, n.N}
		s := e.sent[num]
		if s == nil || !bytes.Equal(st.body, body(num, s.record)) || st.record != s.record {
			e.r.wrong("event %s in the journal has other bytes than what was sent as %s: %.200s", st.id, num, st.body)
			continue
		}
		if other := e.byNum[num]; other != nil {
			e.r.wrong("event %s was sent once and is in the journal twice: as %s and as %s", num, other.id, st.id)
		}
		e.byNum[num] = st
		for _, d := range st.deliveries {
			d.number = num
			// What the journal takes for a lane is not to be trusted.
			d.lane = d.route + " of record " + st.record
			e.lanes[d.lane] = append(e.lanes[d.lane], d)
			e.states[d.state]++
		}
		if len(st.deliveries) != len(routes) {
			e.r.wrong("event %s (%s) has deliveries on %v, not on every route", num, st.id, slices.Sorted(maps.Keys(st.deliveries)))
		}
	}
	for _, lane := range e.lanes {
		slices.SortFunc(lane, func(a, b *delivery) int { return cmp.Compare(a.seq, b.seq) })
	}
}

// checkAccepted: whatever a caller was told of is in the journal, under that id.
func (e *evidence) checkAccepted() {
	for num, s := range e.sent {
		st := e.byNum[num]
		switch {
		case s.journalled && st == nil:
			e.r.wrong("LOST: event %s (record %s, %s) was answered %s by daemon %d at %s and is not in the journal",
				num, s.record, s.event, s.said, s.daemon, e.r.since(s.answered))
		case s.journalled && st.id != s.event:
			e.r.wrong("event %s was answered as %s and is in the journal as %s", num, s.event, st.id)
		case s.never && st != nil:
			e.r.wrong("event %s could not be sent (%s) and is in the journal", num, s.said)
		case s.status != 0 && !s.journalled && st != nil:
			// The caller was told "not taken" of a write whose fate was unknown.
			for _, d := range st.deliveries {
				if d.state != "cancelled" {
					e.refusedYetKept++
					if e.refusedYetKept == 1 {
						e.r.t.Logf("event %s was answered %s, and yet:\n%s", num, s.said, e.history(d))
					}
					break
				}
			}
		}
	}
}

// checkStates: everything has ended, or waits where somebody can see it.
func (e *evidence) checkStates() {
	for _, lane := range e.lanes {
		var stuck *delivery // that those behind it wait for
		for _, d := range lane {
			s := e.sent[d.number]
			ok := false
			switch d.state {
			case "delivered":
				ok = true
				e.delivered++
			case "unknown":
				ok = d.stuck() && d.route == routeHold
			case "queued":
				ok = stuck != nil && d.head == 0
			case "dead":
				// Only by the machine's fault, which is too busy for a script that
				// takes no time; the retries last for days.
				ok = d.route == routeScript && d.code == "script_timeout"
			case "cancelled":
				// Only an event that its caller was told is not taken.
				ok = s != nil && !s.journalled
			}
			if !ok {
				e.r.wrong("event %s on route %s ended as %s (code %q, reason %q, due %v)\n%s",
					d.number, d.route, d.state, d.code, d.reason, d.due, e.history(d))
			}
			if d.head == 1 && d.stuck() {
				stuck = d
			}
		}
	}
}

// checkVisits: what arrived is what was sent, under ids that never change.
func (e *evidence) checkVisits() {
	byID := map[string]*delivery{}
	for _, lane := range e.lanes {
		for _, d := range lane {
			byID[d.id] = d
		}
	}
	for id, visits := range e.visits {
		d := byID[id]
		if d == nil {
			e.r.wrong("the target was sent delivery %q of event %s, which is not in the journal", id, visits[0].number)
			continue
		}
		bodies := map[digest]bool{}
		for _, v := range visits {
			bodies[v.body] = true
			if v.number != d.number || v.event != d.of.id {
				e.r.wrong("delivery %s of event %s (%s) arrived as event %s (%s)", id, d.number, d.of.id, v.number, v.event)
			}
		}
		if len(bodies) > 1 {
			e.r.wrong("event %s on route %s arrived with %d different bodies\n%s", d.number, d.route, len(bodies), e.history(d))
		}
		if d.route != routeScript && !bodies[sha256.Sum256(d.of.body)] {
			e.r.wrong("event %s on route %s arrived with other bytes than were sent", d.number, d.route)
		}
	}
	for _, d := range byID {
		if d.state == "delivered" && !slices.ContainsFunc(e.visits[d.id], func(v *visit) bool { return !v.confirmed.IsZero() }) {
			e.r.wrong("event %s on route %s is delivered, says the journal, and the target has never confirmed it\n%s", d.number, d.route, e.history(d))
		}
	}
}

// checkTruth: nothing was called delivered before the target had confirmed it.
func (e *evidence) checkTruth() {
	for num, s := range e.sent {
		st := e.byNum[num]
		if st == nil {
			continue // told above
		}
		for _, route := range s.delivered {
			d := st.deliveries[route]
			if d == nil {
				continue
			}
			// The caller does not wait until the outcome is in the journal: if its
			// daemon dies before, the delivery is unknown after all.
			forgotten := d.stuck() && e.struck(s.daemon, s.at, s.answered.Add(slack))
			first := confirmed(e.visits[d.id])
			if first.IsZero() || first.After(s.answered) || d.state != "delivered" && !forgotten {
				e.r.wrong("UNTRUE: event %s was called delivered on route %s at %s\n%s", num, route, e.r.since(s.answered), e.history(d))
			}
		}
	}
}

// confirmed is when the first visit was confirmed, zero for never.
func confirmed(visits []*visit) (first time.Time) {
	for _, v := range visits {
		if !v.confirmed.IsZero() && (first.IsZero() || v.confirmed.Before(first)) {
			first = v.confirmed
		}
	}
	return first
}

// checkOrder: within a lane, the journal has the order in which the caller sent,
// and the target saw that order.
func (e *evidence) checkOrder() {
	for _, lane := range e.lanes {
		e.checkSequence(lane)
		for i := 1; i < len(lane); i++ {
			e.checkPair(lane[i-1], lane[i])
		}
	}
}

// checkSequence: an event that was sent after the answer to another is behind it.
// Of one that got no answer the write may have come late.
func (e *evidence) checkSequence(lane []*delivery) {
	sorted := slices.SortedFunc(slices.Values(lane), func(a, b *delivery) int { return cmp.Compare(a.number.n, b.number.n) })
	var last *delivery
	for _, d := range sorted {
		if last != nil && d.seq < last.seq {
			e.r.wrong("ORDER: event %s was sent after the answer to %s, and is before it in the journal\n%s", d.number, last.number, e.history(d))
		}
		if e.sent[d.number].journalled && (last == nil || d.seq > last.seq) {
			last = d
		}
	}
}

// checkPair: the later delivery is not sent before the earlier one has ended, nor
// the earlier one afterwards.
func (e *evidence) checkPair(earlier, later *delivery) {
	visits := e.visits[later.id]
	if len(visits) == 0 {
		return
	}
	begun := visits[0].arrived
	switch {
	case earlier.state == "delivered":
		if at := confirmed(e.visits[earlier.id]); at.After(begun) {
			e.r.wrong("ORDER: event %s arrived on route %s at %s, before %s in front of it was confirmed at %s\n%s",
				later.number, later.route, e.r.since(begun), earlier.number, e.r.since(at), e.history(later))
		}
	case !earlier.ended.Valid:
		e.r.wrong("ORDER: event %s arrived on route %s although %s in front of it is %s\n%s",
			later.number, later.route, earlier.number, earlier.state, e.history(later))
	case earlier.endedAt().After(begun):
		e.r.wrong("ORDER: event %s arrived on route %s at %s, before %s in front of it was %s at %s\n%s",
			later.number, later.route, e.r.since(begun), earlier.number, earlier.state, e.r.since(earlier.endedAt()), e.history(later))
	}
	for _, v := range e.visits[earlier.id] {
		if v.arrived.Sub(begun) > slack/4 {
			e.r.wrong("ORDER: event %s arrived on route %s at %s, when %s behind it had already come at %s\n%s",
				earlier.number, earlier.route, e.r.since(v.arrived), later.number, e.r.since(begun), e.history(later))
			return
		}
	}
}

// checkDuplicates: what the target has confirmed is sent again only if its sender
// cannot have known. Where twice is worse than late, it never is.
func (e *evidence) checkDuplicates() {
	for _, lane := range e.lanes {
		for _, d := range lane {
			visits := e.visits[d.id]
			for i, v := range visits[:max(0, len(visits)-1)] {
				if d.route == routeHold && v.mayHaveActed() {
					e.r.wrong("TWICE: event %s was sent again on route %s although the target may have acted at %s\n%s",
						d.number, d.route, e.r.since(v.arrived), e.history(d))
					break
				}
				if v.confirmed.IsZero() {
					continue
				}
				if !e.unsure(d, v) {
					e.r.wrong("TWICE: event %s was confirmed on route %s at %s, nothing happened to daemon %d, and it was sent again at %s\n%s",
						d.number, d.route, e.r.since(v.confirmed), v.daemon, e.r.since(visits[i+1].arrived), e.history(d))
					break
				}
				e.afterUnknown++
			}
		}
	}
}

// mayHaveActed: a sender that hears this cannot say that nothing was done.
func (v *visit) mayHaveActed() bool {
	return v.did != "answered 503" && v.did != "answered 429"
}

// unsure tells whether there is a reason why the sender did not know the outcome.
func (e *evidence) unsure(d *delivery, v *visit) bool {
	from, to := v.arrived.Add(-slack), v.confirmed.Add(slack)
	for _, t := range d.tries {
		if t.effect == "unknown" && t.begun.Before(v.arrived) && t.ended.After(from) {
			return true
		}
	}
	return e.struck(v.daemon, from, to)
}

// struck tells whether the daemon may have lost outcomes in that time.
func (e *evidence) struck(daemon int, from, to time.Time) bool {
	return slices.ContainsFunc(e.r.blows, func(b blow) bool {
		return b.lossy && b.daemon == daemon && b.at.Before(to) && b.until.After(from)
	})
}

// history is what happened to the lane of d around it, for a person.
func (e *evidence) history(d *delivery) string {
	lane := e.lanes[d.lane]
	at := slices.Index(lane, d)
	type line struct {
		at   time.Time
		text string
	}
	var lines []line
	add := func(at time.Time, format string, args ...any) {
		lines = append(lines, line{at, fmt.Sprintf(format, args...)})
	}
	out := &strings.Builder{}
	fmt.Fprintf(out, "    lane %s, %d deliveries; times in seconds since the start\n", d.lane, len(lane))
	around := lane[max(0, at-2):min(len(lane), at+3)]
	for _, x := range around {
		mark := " "
		if x == d {
			mark = "*"
		}
		fmt.Fprintf(out, "  %s #%d event %s (%s) delivery %s: %s, code %q, %d attempts\n", mark, x.seq, x.number, x.of.id, x.id, x.state, x.code, x.attempts)
		if s := e.sent[x.number]; s != nil {
			add(s.at, "caller sends %s to daemon %d", x.number, s.daemon)
			if s.status != 0 {
				add(s.answered, "caller hears of %s: %s", x.number, s.said)
			} else {
				add(s.at, "caller never gets an answer to %s: %s", x.number, s.said)
			}
		}
		for _, v := range e.visits[x.id] {
			add(v.arrived, "target gets %s from daemon %d, %s", x.number, v.daemon, v.did)
			if !v.confirmed.IsZero() {
				add(v.confirmed, "target confirms %s", x.number)
			}
		}
		for _, t := range x.tries {
			add(t.begun, "attempt %d of %s begins", t.n, x.number)
			add(t.ended, "attempt %d of %s ends: %s, effect %s", t.n, x.number, t.code, t.effect)
		}
		if x.ended.Valid {
			add(x.endedAt(), "journal: %s has ended as %s", x.number, x.state)
		}
	}
	if len(lines) > 0 {
		first, last := lines[0].at, lines[0].at
		for _, l := range lines {
			if l.at.Before(first) {
				first = l.at
			}
			if l.at.After(last) {
				last = l.at
			}
		}
		for _, b := range e.r.blows {
			if b.until.After(first.Add(-slack)) && b.at.Before(last.Add(slack)) {
				add(b.at, "chaos, daemon %d: %s%s", b.daemon, b.what, until(e.r, b))
			}
		}
	}
	slices.SortStableFunc(lines, func(a, b line) int { return a.at.Compare(b.at) })
	for _, l := range lines {
		fmt.Fprintf(out, "    %s  %s\n", e.r.since(l.at), l.text)
	}
	return out.String()
}

func until(r *round, b blow) string {
	if b.until.Equal(b.at) {
		return ""
	}
	return " until" + r.since(b.until)
}

// figures are one line of what happened, and a complaint if it was too little to
// show anything.
func (r *round) figures(settled time.Duration) string {
	var sent, answered, taken, never, unheard, refused, stops, kills, children, cuts, late int
	var longest, patience time.Duration
	for _, c := range r.callers {
		for _, s := range c.events {
			sent++
			switch {
			case s.never:
				never++
			case s.status == 0:
				unheard++
			case s.status < 300:
				answered++
			case !s.journalled:
				refused++
			}
			if s.journalled {
				taken++
			}
			if s.status != 0 {
				patience = max(patience, s.answered.Sub(s.at))
			}
		}
	}
	for _, b := range r.blows {
		switch {
		case !b.lossy:
			stops++
		case b.until.After(b.at):
			cuts++
		case !strings.HasPrefix(b.what, "killed its "):
			kills++
		default:
			children++
		}
	}
	for _, d := range r.daemons {
		longest = max(longest, d.longest)
		late += d.log.lateOutcomes()
	}
	e := r.evidence
	if e == nil {
		e = &evidence{}
	}
	if taken < 20 || kills+stops+children+cuts == 0 {
		r.wrong("only %d events were taken and %d blows struck: this shows nothing", taken, kills+stops+children+cuts)
	}
	return fmt.Sprintf("%d events: %d 2xx, %d taken in all, %d refused (%d of them kept), %d unheard, %d sent to nobody; "+
		"deliveries %v; %d daemons killed, %d stopped, %d children killed, %d cuts; %d repeated after unknown, %d outcomes too late; "+
		"longest without a daemon %s, longest answer %s, settled after %s",
		sent, answered, taken, refused, e.refusedYetKept, unheard, never,
		e.states, kills, stops, children, cuts, e.afterUnknown, late,
		longest.Round(time.Millisecond), patience.Round(time.Millisecond), settled.Round(time.Millisecond))
}
