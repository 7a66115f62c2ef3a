package journal

import (
	"bytes"
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"time"
)

// Finding is something in the journal that is not as it was written.
type Finding struct {
	What   string `json:"what"`  // altered, missing, extra or reordered
	Table  string `json:"table"` // of the journal
	ID     string `json:"id"`    // of the row
	Detail string `json:"detail"`
}

func (f Finding) String() string { return f.What + ": " + f.Table + " " + f.ID + ": " + f.Detail }

// Verification is what [Store.Verify] found.
type Verification struct {
	AuditRows int             `json:"audit_rows"`
	Entries   int             `json:"entries"`
	Rows      int             `json:"rows"`   // of the other tables, that were compared
	Before    int             `json:"before"` // of them from before the audit began: nothing can be said of them
	Pruned    int             `json:"pruned"` // events whose contents, or themselves, were pruned
	Heads     map[string]Head `json:"heads"`  // the chains' ends: kept elsewhere, they prove later that none was cut
	Findings  []Finding       `json:"findings"`
	More      int             `json:"more,omitempty"` // findings that are left out
	TookMS    int64           `json:"took_ms"`
}

// maxFindings bounds what a verification tells. A journal of another kind would
// have every row.
const maxFindings = 10_000

// snapshot reads several tables as of one instant.
type snapshot func(text string, each func(row)) error

// Verify compares the journal with its audit: every row of it has to be what the
// audit says was written last, and the audit has to be whole. It reads one
// snapshot, and no writer waits for it.
func (s *Store) Verify(ctx context.Context) (v *Verification, err error) {
	err = s.engine.snapshot(ctx, func(read snapshot) error {
		v, err = verify(read)
		return err
	})
	return v, asTrouble(err)
}

// verifier holds what the audit says, until the tables have been compared with it.
type verifier struct {
	Verification
	read snapshot

	events     map[string]*auditedEvent
	deliveries map[string]*auditedDelivery
	// The rows that are there, by seq: the tables are read one by one, as a join of
	// them all costs the database as much as everything else.
	eventAt    map[int64]*auditedEvent
	deliveryAt map[int64]*auditedDelivery
	once       map[string]map[string]unchanging // by table and digest
	// quarantines are by script and digest how often each was begun, less how often
	// it was ended.
	quarantines map[string]map[string]int
	heads       map[string][]Head // that later chains have named
	before      AuditEntry
	chain       int                         // the number of the one that is read
	placed      map[string]map[int][]placed // rows by table and chain
}

// placed is a row of a table and where the audit has it.
type placed struct {
	entry int
	seq   int64
	id    string
}

// spot is where the audit has something. What one chain has from the writer is in the
// tables in the same order. What runs beside the writer takes a chain at its end only,
// so nothing follows for acts, nor for events with an id of their caller's.
type spot struct{ chain, entry int }

// unchanging is a row that never changes.
type unchanging struct {
	spot
	event string // that it is about, or ""
	what  string
}

type auditedEvent struct {
	spot
	id        string
	row, text string
	answer    string // digest; "" for none
	code      string // of the answer
	pruned    int
	refused   bool
	gone      bool
	seen      bool
	answered  bool   // seen
	salt      []byte // as it is now; nil for none
}

type auditedDelivery struct {
	id                        string
	of                        *auditedEvent // that it belongs to now; nil for none
	hook                      string        // that it says now
	event, route, state, code string
	version                   int64
	row, text                 string
	attempts                  map[int]string // set to "" once seen
	messages                  []string
	snapshot                  string // set to "" once seen
	snapshotVersion           int64
	seen                      bool
}

func verify(read snapshot) (*Verification, error) {
	start := time.Now()
	v := &verifier{
		read: read, eventAt: map[int64]*auditedEvent{}, deliveryAt: map[int64]*auditedDelivery{},
		events: map[string]*auditedEvent{}, deliveries: map[string]*auditedDelivery{}, heads: map[string][]Head{},
		placed:      map[string]map[int][]placed{"events": {}, "accepted": {}},
		quarantines: map[string]map[string]int{},
		once:        map[string]map[string]unchanging{"acts": {}, "accepted": {}},
	}
	v.Heads, v.Findings = map[string]Head{}, []Finding{}
	if err := v.chains(); err != nil {
		return nil, err
	}
	audit := len(v.Findings) // in the order of the chains
	for _, step := range []func() error{
		v.eventRows, v.deliveryRows, v.answerRows, v.attemptRows, v.messageRows, v.snapshotRows, v.actRows, v.acceptedRows, v.quarantineRows,
	} {
		if err := step(); err != nil {
			return nil, err
		}
	}
	v.missing()
	v.order()
	// What belongs together stands together, whatever order the database has.
	slices.SortFunc(v.Findings[audit:], func(a, b Finding) int {
		return cmp.Or(cmp.Compare(a.Table, b.Table), cmp.Compare(a.ID, b.ID), cmp.Compare(a.What, b.What))
	})
	v.TookMS = time.Since(start).Milliseconds()
	return &v.Verification, nil
}

func (v *verifier) find(what, table, id, format string, args ...any) {
	if len(v.Findings) >= maxFindings {
		v.More++
		return
	}
	v.Findings = append(v.Findings, Finding{What: what, Table: table, ID: id, Detail: fmt.Sprintf(format, args...)})
}

// chained is a row of a chain.
type chained struct {
	n, seq int64
	hash   [sha256.Size]byte
}

// chains follows each chain from its first row, and takes note of what the rows say.
func (v *verifier) chains() error {
	const text = `select seq, chain, n, at, entries, hash from audit order by chain, n`
	var name string
	var n, at int64
	// The row before has these hashes: the one it holds, and the one that its contents
	// have. If they differ it was altered, and the next one follows from either.
	var held, own [sha256.Size]byte
	known := true // that they are those of row n
	var links []chained
	all := map[string][]chained{}
	end := func() {
		if name == "" {
			return
		}
		v.Heads[name] = Head{N: n, Hash: encode(held)}
		all[name] = links
		for _, i := range outOfOrder(links, func(l chained) int64 { return l.seq }) {
			v.find("reordered", "audit", fmt.Sprintf("%s/%d", name, links[i].n), "its place among the rows of the audit is not the one in its chain")
		}
	}
	err := v.read(text, func(r row) {
		v.AuditRows++
		if r.str(1) != name {
			end()
			name, n, at, held, own, known, links = r.str(1), 0, 0, [sha256.Size]byte{}, [sha256.Size]byte{}, true, nil
			v.chain++
		}
		id := fmt.Sprintf("%s/%d", name, r.int(2))
		if r.int(2) > n+1 {
			v.find("missing", "audit", fmt.Sprintf("%s/%d", name, n+1), "%d rows are gone, written between %s and %s; row %d cannot be checked without them",
				r.int(2)-n-1, clock(at), clock(r.int(3)), r.int(2))
			known = false
		}
		entries, hash := r.bytes(4), r.bytes(5)
		sum := chainHash(held, name, r.int(2), r.int(3), entries)
		if own != held && !bytes.Equal(sum[:], hash) {
			sum = chainHash(own, name, r.int(2), r.int(3), entries)
		}
		switch {
		case !known:
			copy(sum[:], hash)
		case !bytes.Equal(sum[:], hash):
			v.find("altered", "audit", id, "its hash is not that of its contents and of the row before (written at %s)", clock(r.int(3)))
		}
		n, at, known, own, held = r.int(2), r.int(3), true, sum, [sha256.Size]byte{}
		copy(held[:], hash)
		links = append(links, chained{n: n, seq: r.int(0), hash: held})
		for line := range bytes.SplitSeq(entries, []byte("\n")) {
			var e AuditEntry
			if err := json.Unmarshal(line, &e); err != nil {
				v.find("altered", "audit", id, "a line of it is no entry")
				continue
			}
			v.Entries++
			v.note(&e)
		}
	})
	end()
	for _, name := range slices.Sorted(maps.Keys(v.heads)) {
		for _, head := range v.heads[name] {
			v.ended(name, head, all[name])
		}
	}
	return err
}

// ended compares a chain with what a later one knew as its end.
func (v *verifier) ended(name string, head Head, links []chained) {
	i, found := slices.BinarySearchFunc(links, head.N, func(l chained, n int64) int { return cmp.Compare(l.n, n) })
	switch now := v.Heads[name].N; {
	case now < head.N:
		v.find("missing", "audit", fmt.Sprintf("%s/%d", name, now+1), "the chain's last %d rows are gone: it had %d when a later one began", head.N-now, head.N)
	case found && encode(links[i].hash) != head.Hash:
		v.find("altered", "audit", fmt.Sprintf("%s/%d", name, head.N), "it had another hash when a later chain began: it, or rows before it, were written anew")
	}
}

// outOfOrder are the indexes of what has to move so that the rest is in ascending
// order: all but a longest row of values that ascend. One that has moved far does
// not put the blame on those that it has passed.
func outOfOrder[T any](all []T, value func(T) int64) (out []int) {
	if slices.IsSortedFunc(all, func(a, b T) int { return cmp.Compare(value(a), value(b)) }) {
		return nil
	}
	var ends []int // by length, the last index of such a row whose value is the least
	before := make([]int, len(all))
	for i := range all {
		at, _ := slices.BinarySearchFunc(ends, value(all[i]), func(end int, v int64) int { return cmp.Compare(value(all[end]), v) })
		before[i] = -1
		if at > 0 {
			before[i] = ends[at-1]
		}
		if at == len(ends) {
			ends = append(ends, i)
		} else {
			ends[at] = i
		}
	}
	stays := make([]bool, len(all))
	for i := ends[len(ends)-1]; i >= 0; i = before[i] {
		stays[i] = true
	}
	for i, yes := range stays {
		if !yes {
			out = append(out, i)
		}
	}
	return out
}

func clock(micros int64) string {
	if micros == 0 {
		return "its beginning"
	}
	return time.UnixMicro(micros).UTC().Format(time.RFC3339Nano)
}

func (v *verifier) event(id string) *auditedEvent {
	e := v.events[id]
	if e == nil {
		e = &auditedEvent{id: id}
		v.events[id] = e
	}
	return e
}

func (v *verifier) note(e *AuditEntry) {
	switch e.Kind {
	case auditStart:
		for name, head := range e.Heads {
			if !slices.Contains(v.heads[name], head) {
				v.heads[name] = append(v.heads[name], head)
			}
		}
	case auditBefore:
		v.before = *e
	case auditEvent:
		ev := v.event(e.Event)
		ev.row, ev.text, ev.spot, ev.refused = e.Row, e.Text, spot{v.chain, v.Entries}, e.Code != ""
	case auditAnswer:
		ev := v.event(e.Event)
		if ev.answer == "" { // the first is kept
			ev.answer, ev.code = e.Text, e.Code
		}
	case auditDelivery:
		d := v.deliveries[e.Delivery]
		if d == nil {
			d = &auditedDelivery{id: e.Delivery}
			v.deliveries[e.Delivery] = d
		}
		for n, sum := range e.Attempts {
			if d.attempts == nil {
				d.attempts = map[int]string{}
			}
			if d.attempts[n] == "" { // the same attempt is kept once
				d.attempts[n] = sum
			}
		}
		if e.Version >= d.version {
			d.event, d.route, d.state, d.code = e.Event, e.Route, e.State, e.Code
			d.version, d.row, d.text = e.Version, e.Row, e.Text
		}
		if e.Messages != nil {
			d.messages = e.Messages
		}
		if e.Snapshot != "" && e.Version >= d.snapshotVersion { // a later one has replaced it
			d.snapshot, d.snapshotVersion = e.Snapshot, e.Version
		}
	case auditAct:
		if e.Row == "" {
			return // about no delivery: it is in the audit only
		}
		v.once["acts"][e.Row] = unchanging{spot{v.chain, v.Entries}, e.Event, fmt.Sprintf("%s of delivery %s by %s", e.Act, e.Delivery, e.Actor)}
	case auditConfig:
		v.once["accepted"][e.Row] = unchanging{spot: spot{v.chain, v.Entries}, what: fmt.Sprintf("configuration %s of node %s", e.Revision, e.Node)}
	case auditQuarantine:
		v.quarantine(e)
	case auditPrune:
		for _, id := range e.Events {
			ev := v.event(id)
			switch e.What {
			case "payloads":
				ev.pruned |= prunedBody
			case "sent":
				ev.pruned |= prunedSent
			case "enriched":
				ev.pruned |= prunedRecord
			case "events":
				ev.gone = true
			}
		}
	}
}

// put takes note of a row that is what the audit says.
func (v *verifier) put(table string, at spot, seq int64, id string) {
	if chains := v.placed[table]; chains != nil {
		chains[at.chain] = append(chains[at.chain], placed{at.entry, seq, id})
	}
}

// order tells which rows of a table are not in the order in which they were written.
func (v *verifier) order() {
	for table, chains := range v.placed {
		for _, rows := range chains {
			slices.SortFunc(rows, func(a, b placed) int { return cmp.Compare(a.entry, b.entry) })
			for _, i := range outOfOrder(rows, func(p placed) int64 { return p.seq }) {
				v.find("reordered", table, rows[i].id, "its place among the rows is not the one in which it was written")
			}
		}
	}
}

// missing tells what the audit knows and no table has.
func (v *verifier) missing() {
	for _, id := range slices.Sorted(maps.Keys(v.events)) {
		e := v.events[id]
		switch {
		case e.gone && !e.seen:
			v.Pruned++
		case !e.seen && e.row != "":
			v.find("missing", "events", id, "it came in, and is gone")
		case e.seen && !e.answered && e.answer != "":
			v.find("missing", "answers", id, "the caller was told %s, and that is gone", e.code)
		}
	}
	for _, id := range slices.Sorted(maps.Keys(v.deliveries)) {
		d := v.deliveries[id]
		e := v.event(d.event)
		switch {
		case e.gone:
			continue
		case !d.seen:
			v.find("missing", "deliveries", id, "it was %s on route %s, and is gone (event %s)", told(d.state, d.code), d.route, d.event)
			continue
		}
		for _, n := range slices.Sorted(maps.Keys(d.attempts)) {
			v.find("missing", "attempts", fmt.Sprintf("%s/%d", id, n), "it was made, and is gone")
		}
		for n, sum := range d.messages {
			if sum != "" && e.pruned&prunedSent == 0 {
				v.find("missing", "messages", fmt.Sprintf("%s/%d", id, n), "it was written, and is gone")
			}
		}
		if d.snapshot != "" && e.pruned&prunedRecord == 0 {
			v.find("missing", "snapshots", id, "it was read, and is gone")
		}
	}
	for _, table := range slices.Sorted(maps.Keys(v.once)) {
		for _, sum := range slices.Sorted(maps.Keys(v.once[table])) {
			if row := v.once[table][sum]; row.event == "" || !v.event(row.event).gone {
				v.find("missing", table, sum[:8], "%s: it was written, and is gone or altered", row.what)
			}
		}
	}
}
