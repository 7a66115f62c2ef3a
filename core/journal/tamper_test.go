package journal

import (
	"context"
	"fmt"
	"math/rand/v2"
	"strconv"
	"strings"
	"testing"
)

// tamper is a statement that changes what was written, and what is to be said of it.
type tamper struct {
	sql, what, table string
	id               string   // query for the id that is to be named
	also             []string // what follows from it, on rows of the same event
}

// tampers are one for each column, row, order and gap. %d is a row.
var tampers = []tamper{
	{"update events set trans_id = trans_id || '0' where seq = %d", "altered", "events", "select id from events where seq = %d", nil},
	{"update events set received_at = received_at + 1 where seq = %d", "altered", "events", "select id from events where seq = %d", nil},
	{"update events set body = {blob} where seq = %d", "altered", "events", "select id from events where seq = %d", nil},
	{"update events set salt = {blob} where seq = %d", "altered", "events", "select id from events where seq = %d", []string{"altered answers", "altered deliveries", "altered attempts", "altered messages", "altered snapshots"}},
	{"update events set pruned = 1 where seq = %d", "altered", "events", "select id from events where seq = %d", nil},
	{"update events set refused_rule = 'x' where seq = %d", "altered", "events", "select id from events where seq = %d", nil},
	{"update events set hook = 'other' where seq = %d", "altered", "events", "select id from events where seq = %d", nil},
	{"update deliveries set state = 'delivered', code = 'delivered!' where seq = %d", "altered", "deliveries", "select id from deliveries where seq = %d", nil},
	{"update deliveries set ended_at = 7 where seq = %d", "altered", "deliveries", "select id from deliveries where seq = %d", nil},
	{"update deliveries set reason = 'x' where seq = %d", "altered", "deliveries", "select id from deliveries where seq = %d", nil},
	{"update deliveries set hook = hook || 'x' where seq = %d", "altered", "deliveries", "select id from deliveries where seq = %d", []string{"altered snapshots"}},
	{"update deliveries set logs = logs || 'x' where seq = %d", "altered", "deliveries", "select id from deliveries where seq = %d", nil},
	{"update deliveries set version = version + 1 where seq = %d", "altered", "deliveries", "select id from deliveries where seq = %d", nil},
	{"update deliveries set event_seq = event_seq - 1 where seq = %d and seq > 1", "altered", "deliveries", "select id from deliveries where seq = %d", []string{"altered attempts", "altered messages", "altered snapshots"}},
	{"delete from deliveries where seq = %d", "missing", "deliveries", "select id from deliveries where seq = %d", []string{"extra attempts", "extra messages", "extra snapshots"}},
	{"delete from events where seq = %d", "missing", "events", "select id from events where seq = %d", []string{"altered deliveries", "altered attempts", "altered messages", "extra answers", "extra snapshots"}},
	{"update answers set status = 500 where event_seq = %d", "altered", "answers", "select e.id from events e join answers a on a.event_seq = e.seq where e.seq = %d", nil},
	{"update answers set detail = 'x' where event_seq = %d", "altered", "answers", "select e.id from events e join answers a on a.event_seq = e.seq where e.seq = %d", nil},
	{"delete from answers where event_seq = %d", "missing", "answers", "select e.id from events e join answers a on a.event_seq = e.seq where e.seq = %d", nil},
	{"update attempts set target_status = 201 where delivery_seq = %d and n = 1", "altered", "attempts", "select d.id || '/1' from deliveries d join attempts t on t.delivery_seq = d.seq and t.n = 1 where d.seq = %d", nil},
	{"update attempts set reply = {blob} where delivery_seq = %d and n = 1", "altered", "attempts", "select d.id || '/1' from deliveries d join attempts t on t.delivery_seq = d.seq and t.n = 1 where d.seq = %d", nil},
	{"update attempts set n = 5 where delivery_seq = %d and n = 1", "extra", "attempts", "select d.id || '/5' from deliveries d join attempts t on t.delivery_seq = d.seq and t.n = 1 where d.seq = %d", []string{"missing attempts"}},
	{"delete from attempts where delivery_seq = %d and n = 1", "missing", "attempts", "select d.id || '/1' from deliveries d join attempts t on t.delivery_seq = d.seq and t.n = 1 where d.seq = %d", nil},
	{"update messages set payload = {blob} where delivery_seq = %d and n = 1", "altered", "messages", "select d.id || '/1' from deliveries d join messages t on t.delivery_seq = d.seq and t.n = 1 where d.seq = %d", nil},
	{"update messages set headers = '{}' where delivery_seq = %d and n = 0", "altered", "messages", "select d.id || '/0' from deliveries d join messages t on t.delivery_seq = d.seq and t.n = 0 where d.seq = %d", nil},
	{"delete from messages where delivery_seq = %d and n = 0", "missing", "messages", "select d.id || '/0' from deliveries d join messages t on t.delivery_seq = d.seq and t.n = 0 where d.seq = %d", nil},
	{"update snapshots set record = {blob} where delivery_seq = %d", "altered", "snapshots", "select d.id from deliveries d join snapshots s on s.delivery_seq = d.seq where d.seq = %d", nil},
	{"update snapshots set read_at = read_at - 1 where delivery_seq = %d", "altered", "snapshots", "select d.id from deliveries d join snapshots s on s.delivery_seq = d.seq where d.seq = %d", nil},
	{"update snapshots set event_seq = event_seq + 1 where delivery_seq = %d", "altered", "snapshots", "select d.id from deliveries d join snapshots s on s.delivery_seq = d.seq where d.seq = %d", nil},
	{"delete from snapshots where delivery_seq = %d", "missing", "snapshots", "select d.id from deliveries d join snapshots s on s.delivery_seq = d.seq where d.seq = %d", nil},
	{"insert into snapshots select seq, event_seq, hook, 7, {blob} from deliveries where seq = %d", "extra", "snapshots", "select d.id from deliveries d left join snapshots s on s.delivery_seq = d.seq where s.delivery_seq is null and d.seq = %d", nil},
	{"update acts set actor = 'x' where seq = %d", "missing", "acts", "", []string{"extra acts"}},
	{"delete from acts where seq = %d", "missing", "acts", "", nil},
	{"update accepted set revision = 'x' where seq = %d", "extra", "accepted", "select cast(seq as text) from accepted where seq = %d", []string{"missing accepted"}},
	{"delete from documents where sha = (select config_sha from accepted where seq = %d)", "missing", "documents", "select config_sha from accepted where seq = %d", nil},
	{"update documents set content = {blob} where sha = (select config_sha from accepted where seq = %d)", "altered", "documents", "select config_sha from accepted where seq = %d", nil},
	// What was put in.
	{`insert into events (id, ref, hook, study, stage, kind, trans_id, form_id, form_name, wf_id, wf_name, received_at, traceparent, salt, body)
		select id || 'x', ref, hook, study, stage, kind, trans_id, form_id, form_name, wf_id, wf_name, received_at, traceparent, salt, body from events where seq = %d`,
		"extra", "events", "select id || 'x' from events where seq = %d", nil},
	{`insert into deliveries (id, event_seq, hook, route, lane, head, open, state, wait, shape, script, revision, created_at, updated_at)
		select id || 'x', event_seq, hook, route, lane, 0, 0, 'delivered', 0, shape, script, revision, created_at, updated_at from deliveries where seq = %d`,
		"extra", "deliveries", "select id || 'x' from deliveries where seq = %d", nil},
	{"insert into answers select seq, 200, 'delivered', '', 0, 7 from events where seq = %d",
		"extra", "answers", "select id from events e where seq = %d and not exists (select 1 from answers a where a.event_seq = e.seq)", nil},
	{`insert into attempts select delivery_seq, n + 6, message, started_at, took_us, effect, code, target_status, reply_type, reply, truncated, retry_after_us, detail
		from attempts where delivery_seq = %d and n = 1`,
		"extra", "attempts", "select d.id || '/7' from deliveries d join attempts t on t.delivery_seq = d.seq and t.n = 1 where d.seq = %d", nil},
	{"insert into messages select delivery_seq, n + 6, content_type, headers, key, path, payload from messages where delivery_seq = %d and n = 1",
		"extra", "messages", "select d.id || '/7' from deliveries d join messages t on t.delivery_seq = d.seq and t.n = 1 where d.seq = %d", nil},
	{`insert into acts (seq, at, actor, act, delivery_seq, reason, was, now, event_id)
		select seq + 1000000, at + 1, actor, act, delivery_seq, reason, was, now, '' from acts where seq = %d`,
		"extra", "acts", "select cast(seq + 1000000 as text) from acts where seq = %d", nil},
	{"insert into accepted (seq, node, revision, config_sha, scripts, at) select seq + 1000000, node, revision, config_sha, scripts, at + 1 from accepted where seq = %d",
		"extra", "accepted", "select cast(seq + 1000000 as text) from accepted where seq = %d", nil},
	// What was moved. No delivery tells of the place of a refused event.
	{"update events set seq = seq + 1000000 where seq = %d and refused_code <> ''", "reordered", "events", "select id from events where seq = %d and refused_code <> '' and seq < (select max(seq) - 3 from events where seq < 1000000)", nil},
	{"update accepted set seq = seq + 1000000 where seq = %d", "reordered", "accepted", "select cast(seq + 1000000 as text) from accepted where seq = %d and seq < (select max(seq) - 3 from accepted where seq < 1000000)", nil},
	// These last: what a row of the audit spoke of has lost its proof.
	{"update audit set entries = {blob} where seq = %d", "altered", "audit", "select chain || '/' || n from audit where seq = %d", nil},
	{"update audit set at = at + 1 where seq = %d", "altered", "audit", "select chain || '/' || n from audit where seq = %d", nil},
	{"update audit set hash = {blob} where seq = %d", "altered", "audit", "select chain || '/' || n from audit where seq = %d", nil},
	{"update audit set hash = {hash} where seq = %d", "altered", "audit", "select chain || '/' || n from audit where seq = %d", nil},
	{"update audit set seq = seq + 1000000 where seq = %d", "reordered", "audit", "select chain || '/' || n from audit where seq = %d and n < (select max(n) - 2 from audit b where b.chain = audit.chain)", nil},
	{"delete from audit where seq = %d", "missing", "audit", "select chain || '/' || n from audit where seq = %d", nil},
	{"update audit set seq = -seq where seq = %d", "reordered", "audit", "select chain || '/' || n from audit where seq = %d and n > 3", nil},
}

// rowsOf are the tables whose seq a tamper of a table takes.
var rowsOf = map[string]string{
	"events": "events", "answers": "events", "deliveries": "deliveries", "attempts": "deliveries", "messages": "deliveries", "snapshots": "deliveries",
	"acts": "acts", "accepted": "accepted", "documents": "accepted", "audit": "audit",
}

// tops are the numbers of the newest rows.
func tops(t testing.TB, s *Store) map[string]int64 {
	t.Helper()
	tops := map[string]int64{}
	for _, table := range rowsOf {
		tops[table], _ = strconv.ParseInt(one(t, s, "select coalesce(max(seq), 0) from "+table), 10, 64)
	}
	return tops
}

// on is the statement for a row, as the engine writes it.
func (c tamper) on(s *Store, n int) string {
	blob, hash := hexLiteral(s, "00ff"), hexLiteral(s, strings.Repeat("5a", 32))
	return strings.NewReplacer("{blob}", blob, "{hash}", hash).Replace(fmt.Sprintf(c.sql, n))
}

func hexLiteral(s *Store, hex string) string {
	if _, lite := s.engine.(*sqliteEngine); lite {
		return "x'" + hex + "'"
	}
	return `'\x` + hex + "'::bytea"
}

// one reads the first column of the first row.
func one(t testing.TB, s *Store, text string) (out string) {
	t.Helper()
	err := s.engine.snapshot(context.Background(), func(read snapshot) error {
		return read(text, func(r row) {
			if out == "" {
				out = fmt.Sprint(r[0])
			}
		})
	})
	if err != nil {
		t.Fatal(text, err)
	}
	return out
}

// TestVerifyTampered alters the journal at random places, one after the other. What
// is said must name the place; the next one comes on top.
func TestVerifyTampered(t *testing.T) {
	seed := rand.Uint64()
	onDurable(t, func(t *testing.T, url string) {
		s := open(t, Options{URL: url})
		unaudited.Store(s, true)
		fill(t, s, 300)
		random := rand.New(rand.NewPCG(seed, 0)) //nolint:gosec // a test's choice
		t.Log("seed", seed)
		before := verified(t, s)
		if len(before.Findings) > 0 {
			t.Fatal(before.Findings)
		}
		used := map[string]bool{}
		most := tops(t, s)
		for _, c := range tampers {
			// A row that is there: each may have been changed once before.
			var id string
			n := 0
			for range 200 {
				n = 1 + random.IntN(int(most[rowsOf[c.table]]))
				row := fmt.Sprint(rowsOf[c.table], " ", n)
				apart := c.table == "acts" || c.table == "accepted"
				if c.what == "reordered" && n > int(most[rowsOf[c.table]])*3/4 {
					continue // with a higher number the newest of a chain, of which Postgres has several, is where it was
				}
				if apart && (used[row] || known(before, fmt.Sprint(n))) {
					continue // what is said of it then does not have this number
				}
				if id = "any"; c.id != "" {
					id = one(t, s, fmt.Sprintf(c.id, n))
				}
				if id != "" && !known(before, id) && !last(t, s, c, n) {
					used[row] = apart
					break
				}
				id = ""
			}
			if id == "" {
				t.Fatal("no row for", c.sql)
			}
			if err := raw(s, c.on(s, n)); err != nil {
				t.Fatal(c.sql, err)
			}
			after := verified(t, s)
			if !names(after, before, c, id) {
				t.Errorf("%s: %s %s %s is not named:\n%v", fmt.Sprintf(c.sql, n), c.what, c.table, id, fresh(after, before))
			}
			before = after
		}
	})
}

// last: the end of a chain that nobody has named may go unseen, but for the rows
// that it speaks of.
func last(t *testing.T, s *Store, c tamper, n int) bool {
	return c.table == "audit" && one(t, s, fmt.Sprintf("select a.n from audit a where a.seq = %d and (a.n < 3 or not exists (select 1 from audit b where b.chain = a.chain and b.n > a.n + 1) or not exists (select 1 from audit b where b.chain = a.chain and b.n = a.n - 1))", n)) != ""
}

func known(v *Verification, id string) bool {
	for _, f := range v.Findings {
		if f.ID == id {
			return true
		}
	}
	return false
}

func fresh(after, before *Verification) (out []Finding) {
	had := map[Finding]bool{}
	for _, f := range before.Findings {
		had[f] = true
	}
	for _, f := range after.Findings {
		if !had[f] {
			out = append(out, f)
		}
	}
	return out
}

func names(after, before *Verification, c tamper, id string) bool {
	for _, f := range fresh(after, before) {
		if f.What == c.what && f.Table == c.table && (c.id == "" || f.ID == id) {
			return true
		}
	}
	return false
}
