package journal

import (
	"bytes"
	"context"
	"crypto/sha256"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
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
	Took      time.Duration   `json:"took_ns"`
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

// Export writes the audit rows that were written since and before until, one JSON
// object each, the oldest first.
func (s *Store) Export(ctx context.Context, w io.Writer, since, until time.Time) error {
	return asTrouble(s.engine.snapshot(ctx, func(read snapshot) error { return export(read, w, since, until) }))
}

// Reader reads a journal that it does not open for writing: one that a daemon
// uses, or a copy.
type Reader struct {
	engine interface {
		snapshot(ctx context.Context, f func(snapshot) error) error
		close() error
	}
}

// OpenReader opens a journal to look at it. Nothing in it is changed.
func OpenReader(ctx context.Context, rawURL string) (*Reader, error) {
	kind, path, _ := strings.Cut(rawURL, ":")
	switch kind {
	case "sqlite":
		if info, err := os.Stat(path); err != nil || !info.Mode().IsRegular() {
			return nil, fmt.Errorf("journal: there is no file %s: write sqlite: and the path of a journal", path)
		}
		path, err := filepath.Abs(path)
		if err != nil {
			return nil, fmt.Errorf("journal: %w", err)
		}
		query := url.Values{"mode": {"ro"}, "_pragma": {fmt.Sprintf("busy_timeout(%d)", busyWait.Milliseconds())}}
		if _, err := os.Stat(path + "-wal"); errors.Is(err, os.ErrNotExist) {
			if used, _ := userOf(path + ".lock"); !used {
				query.Set("immutable", "1") // or SQLite would want to make -wal and -shm to read it
			}
		}
		db, err := sql.Open("sqlite", fileURI(path)+"?"+query.Encode())
		if err != nil {
			return nil, sqliteError(err, path)
		}
		db.SetMaxOpenConns(1)
		e := &sqliteEngine{path: path, pool: db, log: slog.New(slog.DiscardHandler)}
		return &Reader{e}, readable(ctx, e, "select version_id, is_applied from goose_db_version order by id")
	case "postgres", "postgresql":
		config, err := pgx.ParseConfig(rawURL)
		if err != nil {
			return nil, errors.New("journal: that is not a Postgres URL: write postgres://USER@HOST:PORT/DATABASE")
		}
		config.ConnectTimeout = pgTimeout
		e := &postgresEngine{}
		if e.reader, err = newPGPool(config, 1); err != nil {
			return nil, postgresError(err, false)
		}
		return &Reader{e}, readable(ctx, e, "select version_id, is_applied::int from goose_db_version order by id")
	}
	return nil, errors.New("journal: write sqlite:PATH, or a URL that begins with postgres://")
}

// readable refuses a journal whose schema is not today's.
func readable(ctx context.Context, e interface {
	snapshot(ctx context.Context, f func(snapshot) error) error
	close() error
}, text string) error {
	var have int64
	err := e.snapshot(ctx, func(read snapshot) error {
		return read(text, func(r row) { have = r.int(0) })
	})
	switch know := newest("sqlite"); {
	case err != nil:
		err = fmt.Errorf("journal: it cannot be read, or is none: %w", err)
	case have > know:
		err = &NewerSchemaError{Have: have, Know: know}
	case have < know:
		err = fmt.Errorf("journal: its schema has version %d and this Hookline reads %d: start the daemon on it once, it migrates it", have, know)
	}
	if err != nil {
		return errors.Join(err, e.close())
	}
	return nil
}

// Close ends the reading.
func (r *Reader) Close() error { return r.engine.close() }

// Verify is [Store.Verify].
func (r *Reader) Verify(ctx context.Context) (v *Verification, err error) {
	err = r.engine.snapshot(ctx, func(read snapshot) error {
		v, err = verify(read)
		return err
	})
	return v, err
}

// Export is [Store.Export].
func (r *Reader) Export(ctx context.Context, w io.Writer, since, until time.Time) error {
	return r.engine.snapshot(ctx, func(read snapshot) error { return export(read, w, since, until) })
}

// verifier holds what the audit says, until the tables have been compared with it.
type verifier struct {
	Verification
	read snapshot

	events     map[string]*auditedEvent
	deliveries map[string]*auditedDelivery
	once       map[string]map[string]unchanging // by table and digest
	heads      map[string]Head                  // that later chains have named
	before     AuditEntry
}

// unchanging is a row that never changes.
type unchanging struct {
	event string // that it is about, or ""
	what  string
}

type auditedEvent struct {
	row, text string
	answer    string // digest; "" for none
	code      string // of the answer
	pruned    int
	gone      bool
	seen      bool
	answered  bool // seen
}

type auditedDelivery struct {
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
		read: read, events: map[string]*auditedEvent{}, deliveries: map[string]*auditedDelivery{}, heads: map[string]Head{},
		once: map[string]map[string]unchanging{"acts": {}, "accepted": {}},
	}
	v.Heads, v.Findings = map[string]Head{}, []Finding{}
	for _, step := range []func() error{
		v.chains, v.eventRows, v.deliveryRows, v.answerRows, v.attemptRows, v.messageRows, v.snapshotRows, v.actRows, v.acceptedRows,
	} {
		if err := step(); err != nil {
			return nil, err
		}
	}
	v.missing()
	v.Took = time.Since(start)
	return &v.Verification, nil
}

func (v *verifier) find(what, table, id, format string, args ...any) {
	if len(v.Findings) >= maxFindings {
		v.More++
		return
	}
	v.Findings = append(v.Findings, Finding{What: what, Table: table, ID: id, Detail: fmt.Sprintf(format, args...)})
}

// chains follows each chain from its first row, and takes note of what the rows say.
func (v *verifier) chains() error {
	const text = `select seq, chain, n, at, entries, hash from audit order by chain, n`
	var name string
	var n, seq, at int64
	var before [sha256.Size]byte
	known := true // that before is the hash of row n
	end := func() {
		if name != "" {
			v.Heads[name] = Head{N: n, Hash: encode(before)}
		}
	}
	err := v.read(text, func(r row) {
		v.AuditRows++
		if r.str(1) != name {
			end()
			name, n, seq, at, before, known = r.str(1), 0, 0, 0, [sha256.Size]byte{}, true
		}
		id := fmt.Sprintf("%s/%d", name, r.int(2))
		if r.int(2) > n+1 {
			v.find("missing", "audit", fmt.Sprintf("%s/%d", name, n+1), "%d rows are gone, written between %s and %s; row %d cannot be checked without them",
				r.int(2)-n-1, clock(at), clock(r.int(3)), r.int(2))
			known = false
		}
		if r.int(0) < seq {
			v.find("reordered", "audit", id, "it stands before row %d, which was written first", n)
		}
		entries, hash := r.bytes(4), r.bytes(5)
		if sum := chainHash(before, name, r.int(2), r.int(3), entries); known && !bytes.Equal(sum[:], hash) {
			v.find("altered", "audit", id, "its hash is not that of its contents and of the row before (written at %s)", clock(r.int(3)))
		}
		n, seq, at, known = r.int(2), max(seq, r.int(0)), r.int(3), len(hash) == sha256.Size
		copy(before[:], hash)
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
	for chain, head := range v.heads {
		if now := v.Heads[chain]; now.N < head.N {
			v.find("missing", "audit", fmt.Sprintf("%s/%d", chain, now.N+1), "the chain's last %d rows are gone: it had %d when a later one began", head.N-now.N, head.N)
		}
	}
	return err
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
		e = &auditedEvent{}
		v.events[id] = e
	}
	return e
}

func (v *verifier) note(e *AuditEntry) {
	switch e.Kind {
	case auditStart:
		for name, head := range e.Heads {
			if head.N > v.heads[name].N {
				v.heads[name] = head
			}
		}
	case auditBefore:
		v.before = *e
	case auditEvent:
		ev := v.event(e.Event)
		ev.row, ev.text = e.Row, e.Text
	case auditAnswer:
		ev := v.event(e.Event)
		if ev.answer == "" { // the first is kept
			ev.answer, ev.code = e.Text, e.Code
		}
	case auditDelivery:
		d := v.deliveries[e.Delivery]
		if d == nil {
			d = &auditedDelivery{}
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
		v.once["acts"][e.Row] = unchanging{e.Event, fmt.Sprintf("%s of delivery %s by %s", e.Act, e.Delivery, e.Actor)}
	case auditConfig:
		v.once["accepted"][e.Row] = unchanging{what: fmt.Sprintf("configuration %s of node %s", e.Revision, e.Node)}
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

func (v *verifier) eventRows() error {
	const text = `select id, ref, hook, study, stage, kind, trans_id, form_id, form_name, wf_id, wf_name, received_at,
		traceparent, revision, origin, refused_code, refused_key, refused_rule, seq, pruned, salt, body from events order by seq`
	return v.read(text, func(r row) {
		v.Rows++
		id := r.str(0)
		e := v.events[id]
		if e == nil || e.row == "" {
			if r.int(18) <= v.before.EventSeq {
				v.Before++
				v.event(id).seen = true
				return
			}
			v.find("extra", "events", id, "nobody has written it (hook %s, received at %s)", r.str(2), clock(r.int(11)))
			v.event(id).seen = true
			return
		}
		if e.seen {
			v.find("extra", "events", id, "it is there twice")
			return
		}
		e.seen = true
		pruned := int(r.int(19))
		switch {
		case e.gone:
			v.find("extra", "events", id, "it was pruned, and is there again")
		case digest(nil, r[:18]...) != e.row:
			v.find("altered", "events", id, "what it says of its hook, record, form or time is not what came")
		case pruned != e.pruned:
			v.find("altered", "events", id, "its mark of what was pruned is %d, and the audit says %d", pruned, e.pruned)
		case e.pruned&prunedBody != 0 && len(r.bytes(21)) > 0:
			v.find("altered", "events", id, "its body was pruned, and is there again")
		case e.pruned&prunedBody == 0 && digest(r.bytes(20), r.bytes(21)) != e.text:
			v.find("altered", "events", id, "its body, or the salt of its digests, is not what came")
		}
		if e.pruned != 0 {
			v.Pruned++
		}
	})
}

func (v *verifier) deliveryRows() error {
	return v.read(`select `+auditDeliveryColumns+` from deliveries d left join events e on e.seq = d.event_seq order by d.seq`, func(r row) {
		v.Rows++
		id := r.str(auID)
		d := v.deliveries[id]
		if d == nil {
			v.deliveries[id] = &auditedDelivery{seen: true, event: r.str(auEvent)}
			if r.int(auSeq) <= v.before.DeliverySeq {
				v.Before++
				return
			}
			v.find("extra", "deliveries", id, "nobody has written it (event %s, route %s)", r.str(auEvent), r.str(auRoute))
			return
		}
		if d.seen {
			v.find("extra", "deliveries", id, "it is there twice")
			return
		}
		d.seen = true
		now := deliveryEntry(r)
		salted := !r.null(len(r) - 1) // else its contents' digests mean nothing any more
		switch {
		case now.Row == d.row && (now.Text == d.text || !salted):
		case now.State != d.state || now.Code != d.code:
			v.find("altered", "deliveries", id, "it was %s, and says %s now (event %s)", told(d.state, d.code), told(now.State, now.Code), d.event)
		case now.Version > d.version:
			v.find("altered", "deliveries", id, "it has version %d, and the audit ends at %d: it was changed, or the end of the audit is gone", now.Version, d.version)
		default:
			v.find("altered", "deliveries", id, "it is not what was written with version %d, as %s (event %s)", d.version, told(d.state, d.code), d.event)
		}
	})
}

func told(state, code string) string {
	if code == "" || code == state {
		return state
	}
	return state + " (" + code + ")"
}

func (v *verifier) answerRows() error {
	const text = `select e.id, a.status, a.code, a.detail, a.gone_us, a.at, a.event_seq, e.salt
		from answers a left join events e on e.seq = a.event_seq order by a.event_seq`
	return v.read(text, func(r row) {
		v.Rows++
		id := r.str(0)
		e := v.events[id]
		switch {
		case id == "":
			v.find("extra", "answers", strconv.FormatInt(r.int(6), 10), "its event is not there")
		case e == nil || e.answer == "":
			if r.int(6) <= v.before.EventSeq {
				v.Before++
				return
			}
			v.find("extra", "answers", id, "nobody has given it")
		case e.answered:
			v.find("extra", "answers", id, "it is there twice")
		case !r.null(7) && digest(r.bytes(7), r[1:6]...) != e.answer:
			v.find("altered", "answers", id, "it is not what the caller was told, which was %s", e.code)
		}
		if e != nil {
			e.answered = true
		}
	})
}

func (v *verifier) attemptRows() error {
	const text = `select d.id, t.n, t.message, t.started_at, t.took_us, t.effect, t.code, t.target_status, t.reply_type,
		t.reply, t.truncated, t.retry_after_us, t.detail, t.delivery_seq, e.id, e.salt
		from attempts t left join deliveries d on d.seq = t.delivery_seq left join events e on e.seq = d.event_seq
		order by t.delivery_seq, t.n`
	return v.read(text, func(r row) {
		v.Rows++
		id := fmt.Sprintf("%s/%d", r.str(0), r.int(1))
		d := v.deliveries[r.str(0)]
		if r.null(0) || d == nil {
			v.find("extra", "attempts", fmt.Sprintf("%d/%d", r.int(13), r.int(1)), "its delivery is not there")
			return
		}
		want := d.attempts[int(r.int(1))]
		pruned := v.event(r.str(14)).pruned&prunedSent != 0
		values := slices.Clone(r[1:13])
		values[8] = r.bytes(9)
		switch {
		case want == "":
			if r.int(13) <= v.before.DeliverySeq {
				v.Before++
				return
			}
			v.find("extra", "attempts", id, "nobody has made it")
		case pruned && (len(r.bytes(9)) > 0 || r.str(12) != ""):
			v.find("altered", "attempts", id, "what the target said was pruned, and is there again")
		case !pruned && digest(r.bytes(15), values...) != want:
			v.find("altered", "attempts", id, "it is not what was written of it")
		}
		delete(d.attempts, int(r.int(1)))
	})
}

func (v *verifier) messageRows() error {
	const text = `select d.id, m.n, m.content_type, m.headers, m.key, m.path, m.payload, m.delivery_seq, e.id, e.salt
		from messages m left join deliveries d on d.seq = m.delivery_seq left join events e on e.seq = d.event_seq
		order by m.delivery_seq, m.n`
	return v.read(text, func(r row) {
		v.Rows++
		id := fmt.Sprintf("%s/%d", r.str(0), r.int(1))
		d := v.deliveries[r.str(0)]
		n := int(r.int(1))
		switch {
		case r.null(0) || d == nil:
			v.find("extra", "messages", fmt.Sprintf("%d/%d", r.int(7), n), "its delivery is not there")
		case v.event(r.str(8)).pruned&prunedSent != 0:
			v.find("extra", "messages", id, "it was pruned, and is there again")
		case n < 0 || n >= len(d.messages) || d.messages[n] == "":
			if r.int(7) <= v.before.DeliverySeq {
				v.Before++
				return
			}
			v.find("extra", "messages", id, "nobody has written it")
		default:
			if digest(r.bytes(9), r.int(1), r.str(2), r.str(3), r.bytes(4), r.bytes(5), r.bytes(6)) != d.messages[n] {
				v.find("altered", "messages", id, "it is not what was sent")
			}
			d.messages[n] = ""
		}
	})
}

func (v *verifier) snapshotRows() error {
	const text = `select d.id, s.read_at, s.record, s.delivery_seq, e.id, e.salt,
			case when s.event_seq = d.event_seq and s.hook = d.hook then 1 else 0 end
		from snapshots s left join deliveries d on d.seq = s.delivery_seq left join events e on e.seq = d.event_seq
		order by s.delivery_seq`
	return v.read(text, func(r row) {
		v.Rows++
		id := r.str(0)
		d := v.deliveries[id]
		switch {
		case r.null(0) || d == nil:
			v.find("extra", "snapshots", strconv.FormatInt(r.int(3), 10), "its delivery is not there")
			return
		case v.event(r.str(4)).pruned&prunedRecord != 0:
			v.find("extra", "snapshots", id, "it was pruned, and is there again")
		case d.snapshot == "":
			v.find("extra", "snapshots", id, "nobody has written it")
		case digest(r.bytes(5), r.int(1), r.bytes(2)) != d.snapshot || !r.flag(6):
			v.find("altered", "snapshots", id, "it is not the record that was read, or not when, or is another event's")
		}
		d.snapshot = ""
	})
}

// rows compares a table whose rows never change.
func (v *verifier) rows(table, id string, r row) {
	v.Rows++
	sum := digest(nil, r...)
	if _, known := v.once[table][sum]; !known {
		v.find("extra", table, id, "it is not what was written: altered, or put in")
		return
	}
	delete(v.once[table], sum)
}

func (v *verifier) actRows() error {
	return v.read(`select at, actor, act, delivery_seq, event_id, reason, was, now, seq from acts order by seq`, func(r row) {
		if r.str(4) == "" { // from before the audit
			v.Rows++
			v.Before++
			return
		}
		v.rows("acts", strconv.FormatInt(r.int(8), 10), r[:8])
	})
}

// acceptedRows looks at the accepted sets and at what they hold, which is named by
// its own hash.
func (v *verifier) acceptedRows() error {
	needed := map[string]bool{}
	err := v.read(`select node, revision, config_sha, scripts, at, seq from accepted order by seq`, func(r row) {
		needed[r.str(2)] = true
		var scripts map[string]string
		_ = json.Unmarshal(r.bytes(3), &scripts) // an altered row is found below
		for _, sha := range scripts {
			needed[sha] = true
		}
		if len(v.once["accepted"]) == 0 && v.before.EventSeq > 0 {
			v.Rows++
			v.Before++
			return
		}
		v.rows("accepted", strconv.FormatInt(r.int(5), 10), r[:5])
	})
	if err != nil {
		return err
	}
	err = v.read(`select sha, content from documents order by sha`, func(r row) {
		v.Rows++
		delete(needed, r.str(0))
		if sum := sha256.Sum256(r.bytes(1)); fmt.Sprintf("%x", sum) != r.str(0) {
			v.find("altered", "documents", r.str(0), "this configuration or script is not the one with this hash")
		}
	})
	for _, sha := range slices.Sorted(maps.Keys(needed)) {
		v.find("missing", "documents", sha, "a configuration that was accepted needs it")
	}
	return err
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

// exported is an audit row as it leaves the journal.
type exported struct {
	Chain   string            `json:"chain"`
	N       int64             `json:"n"`
	At      time.Time         `json:"at"`
	AtMicro int64             `json:"at_us"` // that the hash is over
	Hash    string            `json:"hash"`
	Entries []json.RawMessage `json:"entries"`
}

func export(read snapshot, w io.Writer, since, until time.Time) error {
	from, to := int64(0), int64(1)<<62
	if !since.IsZero() {
		from = since.UnixMicro()
	}
	if !until.IsZero() {
		to = until.UnixMicro()
	}
	enc := json.NewEncoder(w)
	enc.SetEscapeHTML(false)
	var failed error
	err := read(fmt.Sprintf(`select chain, n, at, entries, hash from audit where at >= %d and at < %d order by seq`, from, to), func(r row) {
		if failed != nil {
			return
		}
		x := exported{Chain: r.str(0), N: r.int(1), AtMicro: r.int(2), At: r.time(2)}
		var sum [sha256.Size]byte
		copy(sum[:], r.bytes(4))
		x.Hash = encode(sum)
		for line := range bytes.SplitSeq(r.bytes(3), []byte("\n")) {
			if !json.Valid(line) {
				line, _ = json.Marshal(string(line)) // an altered one
			}
			x.Entries = append(x.Entries, line)
		}
		failed = enc.Encode(x)
	})
	return firstError(err, failed)
}
