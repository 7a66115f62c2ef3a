package journal

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/hookline/hookline/core"
	"github.com/hookline/hookline/plugins/transport"
)

// fill makes a journal with some of everything.
func fill(t testing.TB, s *Store, events int) {
	t.Helper()
	ctx := context.Background()
	for i := range events {
		ev := newEvent(fmt.Sprint(i % 50))
		switch i % 10 {
		case 9:
			if err := s.Refused(ctx, ev, core.InvalidBody, "trans_id", "is missing"); err != nil {
				t.Fatal(err)
			}
			continue
		case 8:
			begin1(t, s, fmt.Sprint("open ", i), false)
			continue
		}
		p := place(ev, "r", true)
		p.Shape, p.Contents = core.ShapeMessages, []core.Content{
			{Payload: []byte(`{"n":1}`), Key: "k", Headers: map[string]string{"x-a": "1"}}, {Payload: []byte("two")},
		}
		snapshot := &core.Snapshot{Record: []byte(`{"form_id":"7"}`), ReadAt: time.Now()}
		if i%10 == 6 { // skipped by what the record says
			p.Shape, p.Contents = core.ShapeOpen, nil
		}
		if err := s.Begin(ctx, &core.Entry{Event: ev, Deliveries: []*core.Placement{p}}); err != nil {
			t.Fatal(err)
		}
		switch i % 10 {
		case 5:
			p.Snapshot = snapshot
			if err := s.Shaped(ctx, p.Delivery); err != nil {
				t.Fatal(err)
			}
		case 6:
			p.Snapshot = snapshot
			s.Settle(p.Delivery, core.Settlement{State: core.StateSkipped, Code: core.Skipped, Reason: "not wanted"})
			continue
		}
		set := core.Settlement{State: core.StateDelivered, Code: transport.Delivered, Attempts: []core.Attempt{{
			N: 1, Start: time.Now(), Took: time.Millisecond,
			Receipt: transport.Receipt{Effect: transport.Done, Code: transport.Delivered, TargetStatus: 200, Body: []byte("ok"), ContentType: "text/plain", Detail: "well"},
		}}}
		if i%10 == 7 {
			set.State, set.Code, set.Reason = core.StateDead, transport.RejectedByTarget, "no such form"
			set.Attempts[0].Receipt.Body = nil
		}
		s.Settle(p.Delivery, set)
		s.Answered(ev, core.AnswerRecord{Status: 200, Code: transport.Delivered, Detail: "fine"})
	}
	for i := range 12 {
		d := begin1(t, s, fmt.Sprint("act ", i), false)
		if _, err := s.Cancel(ctx, "anna", "not wanted", []string{d.ID}); err != nil {
			t.Fatal(err)
		}
		if err := s.Accept(ctx, Set{Node: "n", Revision: fmt.Sprint("rev ", i), Config: fmt.Append(nil, "config ", i), Scripts: map[string][]byte{"a.js": fmt.Append(nil, i)}}); err != nil {
			t.Fatal(err)
		}
	}
}

func verified(t testing.TB, s *Store) *Verification {
	t.Helper()
	v, err := s.Verify(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	return v
}

func TestVerifyGood(t *testing.T) {
	onEach(t, func(t *testing.T, url string) {
		s := open(t, Options{URL: url})
		fill(t, s, 100)
		if v := verified(t, s); len(v.Findings) > 0 || v.Rows < 100 || v.AuditRows < 3 || v.Before > 0 {
			t.Fatalf("%+v", v)
		}
		if url == "memory:" {
			return
		}
		_ = s.Close()
		s = open(t, Options{URL: url})
		fill(t, s, 20)
		v := verified(t, s)
		if len(v.Findings) > 0 || len(v.Heads) < 2 {
			t.Fatalf("after a restart: %+v", v)
		}
		// So does a copy, and a program that is not the daemon.
		r, err := OpenReader(context.Background(), url)
		if err != nil {
			t.Fatal(err)
		}
		defer r.Close()
		if other, err := r.Verify(context.Background()); err != nil || len(other.Findings) > 0 || other.Rows != v.Rows {
			t.Fatalf("read by another: %+v, %v", other, err)
		}
		var out bytes.Buffer
		if err := r.Export(context.Background(), &out, time.Time{}, time.Time{}); err != nil {
			t.Fatal(err)
		}
		if lines := strings.Count(out.String(), "\n"); lines != v.AuditRows {
			t.Errorf("%d lines were exported of %d", lines, v.AuditRows)
		}
		var first exported
		if err := json.Unmarshal(out.Bytes()[:bytes.IndexByte(out.Bytes(), '\n')], &first); err != nil || first.N != 1 || len(first.Entries) == 0 {
			t.Errorf("%+v, %v", first, err)
		}
	})
}

// tamper is a statement that changes what was written, and what is to be said of it.
type tamper struct {
	sql, what, table string
	id               string // query for the id that is to be named
}

// tampers are one for each column, row, order and gap. %d is a row.
var tampers = []tamper{
	{"update events set trans_id = trans_id || '0' where seq = %d", "altered", "events", "select id from events where seq = %d"},
	{"update events set received_at = received_at + 1 where seq = %d", "altered", "events", "select id from events where seq = %d"},
	{"update events set body = {blob} where seq = %d", "altered", "events", "select id from events where seq = %d"},
	{"update events set salt = {blob} where seq = %d", "altered", "events", "select id from events where seq = %d"},
	{"update events set pruned = 1 where seq = %d", "altered", "events", "select id from events where seq = %d"},
	{"update events set refused_rule = 'x' where seq = %d", "altered", "events", "select id from events where seq = %d"},
	{"update events set hook = 'other' where seq = %d", "altered", "events", "select id from events where seq = %d"},
	{"update deliveries set state = 'delivered', code = 'delivered!' where seq = %d", "altered", "deliveries", "select id from deliveries where seq = %d"},
	{"update deliveries set ended_at = 7 where seq = %d", "altered", "deliveries", "select id from deliveries where seq = %d"},
	{"update deliveries set reason = 'x' where seq = %d", "altered", "deliveries", "select id from deliveries where seq = %d"},
	{"update deliveries set version = version + 1 where seq = %d", "altered", "deliveries", "select id from deliveries where seq = %d"},
	{"update deliveries set event_seq = event_seq - 1 where seq = %d and seq > 1", "altered", "deliveries", "select id from deliveries where seq = %d"},
	{"delete from deliveries where seq = %d", "missing", "deliveries", "select id from deliveries where seq = %d"},
	{"delete from events where seq = %d", "missing", "events", "select id from events where seq = %d"},
	{"update answers set status = 500 where event_seq = %d", "altered", "answers", "select e.id from events e join answers a on a.event_seq = e.seq where e.seq = %d"},
	{"update answers set detail = 'x' where event_seq = %d", "altered", "answers", "select e.id from events e join answers a on a.event_seq = e.seq where e.seq = %d"},
	{"delete from answers where event_seq = %d", "missing", "answers", "select e.id from events e join answers a on a.event_seq = e.seq where e.seq = %d"},
	{"update attempts set target_status = 201 where delivery_seq = %d", "altered", "attempts", "select d.id || '/1' from deliveries d join attempts t on t.delivery_seq = d.seq where d.seq = %d"},
	{"update attempts set reply = {blob} where delivery_seq = %d", "altered", "attempts", "select d.id || '/1' from deliveries d join attempts t on t.delivery_seq = d.seq where d.seq = %d"},
	{"update attempts set n = 5 where delivery_seq = %d", "extra", "attempts", "select d.id || '/5' from deliveries d join attempts t on t.delivery_seq = d.seq where d.seq = %d"},
	{"delete from attempts where delivery_seq = %d", "missing", "attempts", "select d.id || '/1' from deliveries d join attempts t on t.delivery_seq = d.seq where d.seq = %d"},
	{"update messages set payload = {blob} where delivery_seq = %d and n = 1", "altered", "messages", "select d.id || '/1' from deliveries d join messages t on t.delivery_seq = d.seq and t.n = 1 where d.seq = %d"},
	{"update messages set headers = '{}' where delivery_seq = %d and n = 0", "altered", "messages", "select d.id || '/0' from deliveries d join messages t on t.delivery_seq = d.seq and t.n = 0 where d.seq = %d"},
	{"delete from messages where delivery_seq = %d and n = 0", "missing", "messages", "select d.id || '/0' from deliveries d join messages t on t.delivery_seq = d.seq and t.n = 0 where d.seq = %d"},
	{"update snapshots set record = {blob} where delivery_seq = %d", "altered", "snapshots", "select d.id from deliveries d join snapshots s on s.delivery_seq = d.seq where d.seq = %d"},
	{"update snapshots set read_at = read_at - 1 where delivery_seq = %d", "altered", "snapshots", "select d.id from deliveries d join snapshots s on s.delivery_seq = d.seq where d.seq = %d"},
	{"update snapshots set event_seq = event_seq + 1 where delivery_seq = %d", "altered", "snapshots", "select d.id from deliveries d join snapshots s on s.delivery_seq = d.seq where d.seq = %d"},
	{"delete from snapshots where delivery_seq = %d", "missing", "snapshots", "select d.id from deliveries d join snapshots s on s.delivery_seq = d.seq where d.seq = %d"},
	{"insert into snapshots select seq, event_seq, hook, 7, {blob} from deliveries where seq = %d", "extra", "snapshots", "select d.id from deliveries d left join snapshots s on s.delivery_seq = d.seq where s.delivery_seq is null and d.seq = %d"},
	{"update acts set actor = 'x' where seq = %d", "missing", "acts", ""},
	{"delete from acts where seq = %d", "missing", "acts", ""},
	{"update accepted set revision = 'x' where seq = %d", "extra", "accepted", "select cast(seq as text) from accepted where seq = %d"},
	{"delete from documents where sha = (select config_sha from accepted where seq = %d)", "missing", "documents", "select config_sha from accepted where seq = %d"},
	{"update documents set content = {blob} where sha = (select config_sha from accepted where seq = %d)", "altered", "documents", "select config_sha from accepted where seq = %d"},
	// These last: what a row of the audit spoke of has lost its proof.
	{"update audit set entries = {blob} where seq = %d", "altered", "audit", "select chain || '/' || n from audit where seq = %d"},
	{"update audit set at = at + 1 where seq = %d", "altered", "audit", "select chain || '/' || n from audit where seq = %d"},
	{"update audit set hash = {blob} where seq = %d", "altered", "audit", "select chain || '/' || n from audit where seq = %d"},
	{"delete from audit where seq = %d", "missing", "audit", "select chain || '/' || n from audit where seq = %d"},
	{"update audit set seq = -seq where seq = %d", "reordered", "audit", "select chain || '/' || n from audit where seq = %d"},
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
		blob := map[bool]string{true: "x'00ff'", false: `'\x00ff'::bytea`}[strings.HasPrefix(url, "sqlite")]
		random := rand.New(rand.NewPCG(seed, 0)) //nolint:gosec // a test's choice
		t.Log("seed", seed)
		if v := verified(t, s); len(v.Findings) > 0 {
			t.Fatal(v.Findings)
		}
		used := map[string]bool{}
		for _, c := range tampers {
			// A row that is there: each may have been changed once before.
			var id string
			n := 0
			for range 200 {
				rows := map[string]string{"acts": "acts", "accepted": "accepted", "documents": "accepted", "audit": "audit"}
				top := one(t, s, "select max(seq) from "+cmp.Or(rows[c.table], "deliveries"))
				var most int
				_, _ = fmt.Sscan(top, &most)
				n = 1 + random.IntN(most)
				if c.id == "" {
					id = "any"
					if row := fmt.Sprint("acts ", n); !used[row] {
						used[row] = true
						break
					}
				} else if id = one(t, s, fmt.Sprintf(c.id, n)); id != "" && !known(verified(t, s), id) && !last(t, s, c, n) {
					break
				}
				id = ""
			}
			if id == "" {
				t.Fatal("no row for", c.sql)
			}
			before := verified(t, s)
			if err := raw(s, strings.ReplaceAll(fmt.Sprintf(c.sql, n), "{blob}", blob)); err != nil {
				t.Fatal(c.sql, err)
			}
			after := verified(t, s)
			if !names(after, before, c, id) {
				t.Errorf("%s: %s %s %s is not named:\n%v", fmt.Sprintf(c.sql, n), c.what, c.table, id, fresh(after, before))
			}
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

// TestVerifyCut takes the end of a chain away, which a later one has named.
func TestVerifyCut(t *testing.T) {
	onDurable(t, func(t *testing.T, url string) {
		s := open(t, Options{URL: url})
		fill(t, s, 20)
		_ = s.Close()
		s = open(t, Options{URL: url})
		unaudited.Store(s, true)
		chain := one(t, s, "select min(chain) from audit")
		if err := raw(s, "delete from audit where chain = '"+chain+"' and n = (select max(n) from audit where chain = '"+chain+"')"); err != nil {
			t.Fatal(err)
		}
		if v := verified(t, s); len(v.Findings) == 0 || v.Findings[0].What != "missing" || !strings.HasPrefix(v.Findings[0].ID, chain) {
			t.Fatal(v.Findings)
		}
	})
}
