package journal

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"strconv"
	"sync"
	"time"
	"unicode/utf8"

	"github.com/google/uuid"

	"github.com/hookline/hookline/core"
)

// The audit: in the transaction that changes the journal a row goes along that says
// what was changed, and with what digests. Its hash is over the row before, so that
// no row can be altered, taken out or put in unseen; and what a row says must be
// what the tables hold. See [Store.Verify].

// The kinds of entries.
const (
	auditStart      = "start"      // of a chain; it names the heads of the others
	auditEvent      = "event"      // came in
	auditDelivery   = "delivery"   // changed: its newest version
	auditAnswer     = "answer"     // to the caller
	auditAct        = "act"        // of an operator
	auditView       = "view"       // of contents
	auditConfig     = "config"     // a set was accepted
	auditLoad       = "load"       // of a set was refused
	auditPrune      = "prune"      // of contents or events
	auditCare       = "care"       // backup, vacuum
	auditQuarantine = "quarantine" // of a script: begun by the daemon, ended as an operator asked for
	auditBefore     = "before"     // where the audit begins in an older journal
)

// AuditEntry is one line of an audit row. Digests are SHA-256 in base64url.
type AuditEntry struct {
	Kind     string `json:"t"`
	Event    string `json:"event,omitempty"`
	Delivery string `json:"delivery,omitempty"`
	Hook     string `json:"hook,omitempty"`
	Route    string `json:"route,omitempty"`
	Version  int64  `json:"v,omitempty"` // of the delivery
	State    string `json:"state,omitempty"`
	Was      string `json:"was,omitempty"` // the state before an act
	Code     string `json:"code,omitempty"`
	Status   int    `json:"status,omitempty"` // of the answer
	Actor    string `json:"actor,omitempty"`
	Act      string `json:"act,omitempty"`
	Reason   string `json:"reason,omitempty"` // an operator's
	What     string `json:"what,omitempty"`
	Node     string `json:"node,omitempty"`
	Revision string `json:"revision,omitempty"`
	Script   string `json:"script,omitempty"` // digest of the one in quarantine
	// Row is the digest of the row's ids, states and times, Text that of its
	// contents, which is salted.
	Row  string `json:"row,omitempty"`
	Text string `json:"text,omitempty"`
	// Attempts and Messages are salted digests of what this change has added, by
	// number.
	Attempts map[int]string `json:"attempts,omitempty"`
	Messages []string       `json:"messages,omitempty"`
	Snapshot string         `json:"snapshot,omitempty"` // salted digest of the record that was read
	// Events are those that were pruned.
	Events []string `json:"events,omitempty"`
	// Heads are the ends of the chains before, by name: a chain that is shorter
	// has lost rows.
	Heads map[string]Head `json:"heads,omitempty"`
	// These are the newest rows that an older version wrote.
	EventSeq    int64 `json:"event_seq,omitempty"`
	DeliverySeq int64 `json:"delivery_seq,omitempty"`
	ActSeq      int64 `json:"act_seq,omitempty"`
	AcceptedSeq int64 `json:"accepted_seq,omitempty"`
}

// Head is the end of a chain.
type Head struct {
	N    int64  `json:"n"`
	Hash string `json:"hash"`
}

// headsNamed is how many chains a new one names the ends of.
const headsNamed = 32

// auditBegins makes the first entries of a new process: which chains were there
// before, and, in a journal that is older than the audit, where that begins.
func (s *Store) auditBegins(ctx context.Context) (start, older *AuditEntry, err error) {
	start = &AuditEntry{Kind: auditStart, Node: s.node}
	err = s.engine.snapshot(ctx, func(read snapshot) error {
		// From one chain to the one before by the index: their names are in the order
		// of time, and there may be millions of rows.
		text := fmt.Sprintf(`with recursive c(chain, i) as (
				select max(chain), 1 from audit
				union all
				select (select max(a.chain) from audit a where a.chain < c.chain), i + 1 from c where c.chain is not null and i < %d)
			select a.chain, a.n, a.hash from c join audit a
			on a.chain = c.chain and a.n = (select max(n) from audit m where m.chain = c.chain)`, headsNamed)
		err := read(text, func(r row) {
			if start.Heads == nil {
				start.Heads = map[string]Head{}
			}
			start.Heads[r.str(0)] = Head{N: r.int(1), Hash: base64.RawURLEncoding.EncodeToString(r.bytes(2))}
		})
		if err != nil || start.Heads != nil {
			return err
		}
		older = &AuditEntry{Kind: auditBefore}
		return read(`select coalesce((select max(seq) from events), 0), coalesce((select max(seq) from deliveries), 0),
			coalesce((select max(seq) from acts), 0), coalesce((select max(seq) from accepted), 0)`, func(r row) {
			older.EventSeq, older.DeliverySeq, older.ActSeq, older.AcceptedSeq = r.int(0), r.int(1), r.int(2), r.int(3)
		})
	})
	if older != nil && older.EventSeq == 0 && older.AcceptedSeq == 0 {
		older = nil
	}
	if err != nil {
		err = fmt.Errorf("journal: its audit cannot be read: %w", err)
	}
	return start, older, err
}

func encode(sum [sha256.Size]byte) string { return base64.RawURLEncoding.EncodeToString(sum[:]) }

// digest is over values with their lengths, so that no two lists look the same.
func digest(salt []byte, values ...any) string {
	b := make([]byte, 0, 512)
	b = append(b, salt...)
	for _, v := range values {
		b = appendValue(b, v)
	}
	return encode(sha256.Sum256(b))
}

func appendValue(b []byte, v any) []byte {
	switch v := v.(type) {
	case nil:
		return append(b, 'n')
	case int64:
		return append(strconv.AppendInt(append(b, 'i'), v, 10), ';')
	case int32:
		return appendValue(b, int64(v))
	case float64:
		return appendValue(b, int64(v))
	case string:
		return append(binary.AppendUvarint(append(b, 's'), uint64(len(v))), v...)
	case []byte:
		return append(binary.AppendUvarint(append(b, 'b'), uint64(len(v))), v...)
	}
	return append(b, '?')
}

// chain is a row of hashes. Who writes has one for himself: nobody waits for
// another's commit.
type chain struct {
	name string
	n    int64
	hash [sha256.Size]byte
}

// chains are those of this process that are free.
type chains struct {
	mu   sync.Mutex
	free []*chain
}

func (c *chains) take() *chain {
	c.mu.Lock()
	defer c.mu.Unlock()
	if n := len(c.free); n > 0 {
		out := c.free[n-1]
		c.free = c.free[:n-1]
		return out
	}
	return newChain()
}

func newChain() *chain { return &chain{name: uuid.Must(uuid.NewV7()).String()} }

// give takes a chain back whose last row is written.
func (c *chains) give(used *chain) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.free = append(c.free, used)
}

// chainHash is the hash of a chain's row.
func chainHash(before [sha256.Size]byte, name string, n, at int64, entries []byte) [sha256.Size]byte {
	b := make([]byte, 0, len(entries)+128)
	b = append(b, before[:]...)
	b = appendValue(b, name)
	b = appendValue(b, n)
	b = appendValue(b, at)
	b = appendValue(b, entries)
	return sha256.Sum256(b)
}

// trail collects what a transaction has done.
type trail struct {
	lines   []byte
	touched []int64
	marks   map[int64]*mark
}

// mark is what goes with the new version of a delivery.
type mark struct {
	attempts []*core.Attempt
	contents []core.Content
	shaped   bool
	snapshot *core.Snapshot
}

func (t *trail) add(e *AuditEntry) {
	text, err := json.Marshal(e)
	if err != nil { // it has strings and numbers only
		panic(err)
	}
	t.line(text)
}

func (t *trail) line(text []byte) {
	if len(t.lines) > 0 {
		t.lines = append(t.lines, '\n')
	}
	t.lines = append(t.lines, text...)
}

// touch notes that deliveries have changed.
func (t *trail) touch(seqs ...int64) {
	for _, seq := range seqs {
		if seq != 0 {
			t.mark(seq)
		}
	}
}

func (t *trail) promoted(all []core.Promotion) {
	for _, p := range all {
		t.touch(p.Seq)
	}
}

// attempted notes a delivery that was changed by attempts.
func (t *trail) attempted(seq int64, attempts []core.Attempt) {
	m := t.mark(seq)
	for i := range attempts {
		m.attempts = append(m.attempts, &attempts[i])
	}
}

// shaped notes a delivery that was given its messages.
func (t *trail) shaped(seq int64, contents []core.Content) {
	m := t.mark(seq)
	m.shaped, m.contents = true, contents
}

// enriched notes a delivery whose record was read.
func (t *trail) enriched(seq int64, snapshot *core.Snapshot) { t.mark(seq).snapshot = snapshot }

func (t *trail) mark(seq int64) *mark {
	if t.marks == nil {
		t.marks = map[int64]*mark{}
	}
	m := t.marks[seq]
	if m == nil {
		m = &mark{}
		t.marks[seq] = m
		t.touched = append(t.touched, seq)
	}
	return m
}

// finish reads the deliveries that were touched, and returns the row to write, or
// nil if nothing has changed. The chain moves on when it is committed.
func (t *trail) finish(c *chain, do func(step) error) (args []any, next *chain, err error) {
	if len(t.touched) > 0 {
		err := do(step{q: qAuditDeliveries, args: []any{list(t.touched)}, row: func(r row) { t.delivery(r) }})
		if err != nil {
			return nil, nil, err
		}
	}
	if len(t.lines) == 0 {
		return nil, nil, nil
	}
	at := time.Now().UnixMicro()
	next = &chain{name: c.name, n: c.n + 1, hash: chainHash(c.hash, c.name, c.n+1, at, t.lines)}
	return []any{c.name, next.n, at, t.lines, next.hash[:]}, next, nil
}

// The columns of auditDeliveryColumns that are looked at by name.
const (
	auSeq = iota
	auVersion
	auID
	auEvent
	auRoute
	auState
	auCode
	auEventSeq
	auHook
)

// delivery notes the newest version of one: auditDeliveryColumns.
func (t *trail) delivery(r row) {
	m := t.marks[r.int(auSeq)]
	e := deliveryEntry(r)
	if m != nil {
		salt := r.bytes(len(r) - 1)
		for _, a := range m.attempts {
			if e.Attempts == nil {
				e.Attempts = make(map[int]string, len(m.attempts))
			}
			e.Attempts[a.N] = digest(salt, attemptValues(a)...)
		}
		if m.snapshot != nil {
			e.Snapshot = digest(salt, snapshotValues(m.snapshot)...)
		}
		if m.shaped {
			for n, c := range m.contents {
				e.Messages = append(e.Messages, digest(salt, messageValues(n, c)...))
			}
		}
	}
	t.line(e.appendDelivery(nil))
}

// deliveryEntry reads auditDeliveryColumns.
func deliveryEntry(r row) AuditEntry {
	n := len(r)
	salt, reason, position, logs := r.bytes(n-1), r.str(n-4), r.str(n-3), r.str(n-2)
	e := AuditEntry{
		Kind: auditDelivery, Event: r.str(auEvent), Delivery: r.str(auID), Route: r.str(auRoute),
		Version: r.int(auVersion), State: r.str(auState), Code: r.str(auCode), Row: digest(nil, r[:n-4]...),
	}
	switch {
	case logs != "":
		e.Text = digest(salt, reason, position, logs)
	case reason != "" || position != "": // as it was before there were logs
		e.Text = digest(salt, reason, position)
	}
	return e
}

// appendDelivery is json.Marshal without its price: there is one for each change.
func (e *AuditEntry) appendDelivery(b []byte) []byte {
	b = append(b, `{"t":"delivery"`...)
	b = appendField(b, "event", e.Event)
	b = appendField(b, "delivery", e.Delivery)
	b = appendField(b, "route", e.Route)
	b = strconv.AppendInt(append(b, `,"v":`...), e.Version, 10)
	b = appendField(b, "state", e.State)
	b = appendField(b, "code", e.Code)
	b = appendField(b, "row", e.Row)
	b = appendField(b, "text", e.Text)
	if len(e.Attempts) > 0 {
		text, _ := json.Marshal(e.Attempts)
		b = append(append(b, `,"attempts":`...), text...)
	}
	if len(e.Messages) > 0 {
		text, _ := json.Marshal(e.Messages)
		b = append(append(b, `,"messages":`...), text...)
	}
	b = appendField(b, "snapshot", e.Snapshot)
	return append(b, '}')
}

func appendField(b []byte, name, value string) []byte {
	if value == "" {
		return b
	}
	b = append(append(append(b, `,"`...), name...), `":`...)
	for i := range len(value) {
		if c := value[i]; c < ' ' || c == '"' || c == '\\' || c >= utf8.RuneSelf || c == 0x7f {
			text, _ := json.Marshal(value)
			return append(b, text...)
		}
	}
	return append(append(append(b, '"'), value...), '"')
}

// attemptValues are the columns of an attempt, but for its delivery.
func attemptValues(a *core.Attempt) []any {
	r := &a.Receipt
	reply, cut := keptReply(r)
	return []any{
		int64(a.N), int64(a.Message), a.Start.UnixMicro(), a.Took.Microseconds(), string(r.Effect), string(r.Code),
		int64(r.TargetStatus), clean(r.ContentType), blob(reply), flag(cut), r.RetryAfter.Microseconds(), clean(r.Detail),
	}
}

// messageValues are the columns of a message, but for its delivery.
func messageValues(n int, c core.Content) []any {
	headers := "{}"
	if len(c.Headers) > 0 {
		text, _ := json.Marshal(c.Headers) // strings always can be
		headers = string(text)
	}
	return []any{int64(n), clean(c.ContentType), headers, []byte(c.Key), []byte(c.Path), blob(c.Payload)}
}

// snapshotValues are the columns of a snapshot, but for its delivery.
func snapshotValues(s *core.Snapshot) []any { return []any{s.ReadAt.UnixMicro(), blob(s.Record)} }

// eventValues are the columns of an event that hold no contents.
func eventValues(ev *core.Event, refused [3]string) []any {
	h := ev.Hook
	return []any{
		ev.ID, ev.Ref, h.Name, h.Study, string(h.Stage), string(ev.Kind), clean(ev.TransID), clean(ev.FormID),
		clean(ev.FormName), clean(ev.Workflow.ID), clean(ev.Workflow.Name), ev.ReceivedAt.UnixMicro(), ev.TraceParent,
		ev.Revision, ev.Origin, refused[0], refused[1], refused[2],
	}
}

// eventAudit notes an event as it is written.
func eventAudit(ev *core.Event, refused [3]string) func(*trail) {
	return func(t *trail) {
		b := append([]byte(nil), `{"t":"event"`...)
		b = appendField(b, "event", ev.ID)
		b = appendField(b, "hook", ev.Hook.Name)
		b = appendField(b, "code", refused[0])
		b = appendField(b, "row", digest(nil, eventValues(ev, refused)...))
		b = appendField(b, "text", digest(ev.Salt[:], ev.Body))
		t.line(append(b, '}'))
	}
}
