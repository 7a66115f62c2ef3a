package journal

import (
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/hookline/hookline/core"
	"github.com/hookline/hookline/plugins/transport"
)

const (
	tamperEvents  = 2000
	tamperCallers = 64
	// verifyMost is what a verification of bigTamper events may take.
	verifyMost = 10 * time.Second
	bigTamper  = 100_000
)

// TestVerifyAllTampers fills a journal as a daemon does, with many callers at once,
// applies all ways of tampering at once, each to another event, and has every one of
// them named, and nothing else. HOOKLINE_TAMPER_EVENTS is how many events, and
// HOOKLINE_TAMPER_SEED repeats a run's choices.
func TestVerifyAllTampers(t *testing.T) {
	events := int(fromEnv(t, "HOOKLINE_TAMPER_EVENTS", tamperEvents))
	seed := fromEnv(t, "HOOKLINE_TAMPER_SEED", rand.Uint64())
	run := func(t *testing.T, url string) {
		t.Logf("HOOKLINE_TAMPER_SEED=%d", seed)
		began := time.Now()
		s := open(t, Options{URL: url, Node: "first"})
		fillMixed(t, s, events/2)
		_ = s.Close() // what ends here is named by the next
		s = open(t, Options{URL: url, Node: "second"})
		unaudited.Store(s, true)
		f := &forger{t: t, s: s, random: rand.New(rand.NewPCG(seed, 0)), used: map[string]bool{}, due: map[string]*forged{}, lost: map[string]bool{}} //nolint:gosec // a test's choice
		f.first = tops(t, s)
		fillMixed(t, s, events-events/2)
		filled := time.Since(began)
		v := verified(t, s)
		if len(v.Findings) > 0 || v.Before > 0 {
			t.Fatalf("%d events, nothing altered: %v", events, v.Findings)
		}
		t.Logf("%d events filled in %s by %d callers; verified in %s: %d rows, %d rows of the audit in %d chains, %d entries",
			events, filled.Round(time.Millisecond), tamperCallers, took(v), v.Rows, v.AuditRows, len(v.Heads), v.Entries)
		if events >= bigTamper {
			best := took(v)
			for range 2 { // a machine may have been busy with something else
				if best > verifyMost {
					best = min(best, took(verified(t, s)))
				}
			}
			if t.Logf("in %s at best", best); best > verifyMost {
				t.Errorf("a verification takes %s, more than %s", best, verifyMost)
			}
		}
		f.last, f.ends = tops(t, s), f.endsOfChains()
		all := slices.Concat(tampers, f.everyColumn())
		for range max(1, min(5, events/10_000)) {
			for _, c := range all {
				f.tamper(c)
			}
		}
		f.judge(verified(t, s))
	}
	if events < bigTamper {
		onDurable(t, run)
		return
	}
	// One after the other, as the time counts.
	t.Run("sqlite", func(t *testing.T) { run(t, sqliteURL(t)) })
	onPostgres(t, run)
}

func fromEnv(t *testing.T, name string, usual uint64) uint64 {
	t.Helper()
	text := os.Getenv(name)
	if text == "" {
		return usual
	}
	n, err := strconv.ParseUint(text, 10, 64)
	if err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	return n
}

// fillMixed has callers write events of all kinds at once.
func fillMixed(t *testing.T, s *Store, events int) {
	t.Helper()
	var next, outcomes atomic.Int64
	var wg sync.WaitGroup
	settled := func(_ core.Promotion, err error) {
		if err != nil {
			t.Errorf("an outcome is not written: %v", err)
		}
		outcomes.Add(-1)
	}
	for caller := range tamperCallers {
		wg.Go(func() {
			for i := int(next.Add(1)); i <= events && !t.Failed(); i = int(next.Add(1)) {
				if err := fillOne(s, caller, i, func() func(core.Promotion, error) { outcomes.Add(1); return settled }); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	for i := range 60 {
		set := Set{Node: "n", Revision: fmt.Sprint("revision ", i), Config: fmt.Append(nil, s.node, i), Scripts: map[string][]byte{"a.js": fmt.Append(nil, s.node, " script ", i)}}
		if err := s.Accept(context.Background(), set); err != nil {
			t.Fatal(err)
		}
	}
	eventually(t, "all outcomes are written", func() bool { return outcomes.Load() == 0 })
	if t.Failed() {
		t.FailNow()
	}
}

// fillOne writes one event; settled is asked for what is to hear of its outcome.
func fillOne(s *Store, caller, i int, settled func() func(core.Promotion, error)) error {
	ctx := context.Background()
	ev := newEvent(fmt.Sprint(caller, "/", i%50)) // a lane of this caller's own
	kind := i % 20
	if kind >= 11 {
		kind -= 10 // most are as usual
	}
	if kind == 9 {
		return s.Refused(ctx, ev, core.InvalidBody, "trans_id", "is missing")
	}
	if kind == 8 || kind == 7 { // it stays open, with a record of its own
		ev = newEvent(fmt.Sprint(s.node, " open ", i))
	}
	p := place(ev, "r", kind != 8)
	p.Shape, p.Contents = core.ShapeMessages, []core.Content{
		{Payload: []byte(`{"n":1}`), Key: "k", Headers: map[string]string{"x-a": "1"}}, {Payload: []byte("two")},
	}
	if err := s.Begin(ctx, &core.Entry{Event: ev, Deliveries: []*core.Placement{p}}); err != nil {
		return err
	}
	if i%50 == 0 {
		if err := s.Viewed(ctx, "auditor", "body", ev.ID); err != nil {
			return err
		}
	}
	if kind == 8 {
		if i%20 != 8 {
			return nil
		}
		acts := [](func(context.Context, string, string, []string) ([]ActResult, error)){s.Cancel, s.Hold, s.Retry}
		_, err := acts[i/20%len(acts)](ctx, "anna", "as a test", []string{p.ID})
		return err
	}
	if kind == 5 { // an enriched route
		p.Logs = []string{"made of the record"}
		p.Snapshot = &core.Snapshot{Record: []byte(`{"form_id":"7"}`), ReadAt: time.Now()}
		if err := s.Shaped(ctx, p.Delivery); err != nil {
			return err
		}
	}
	set := core.Settlement{State: core.StateDelivered, Code: transport.Delivered, Settled: settled()}
	answer := core.AnswerRecord{Status: 200, Code: transport.Delivered, Detail: "fine"}
	attempts := 1
	switch kind {
	case 4:
		set.State, set.Code, set.Reason, attempts = core.StateDead, transport.RejectedByTarget, "no such form", 2
		answer = core.AnswerRecord{Status: 502, Code: transport.RejectedByTarget, Detail: "no such form"}
	case 5:
		attempts = 3
	case 6:
		set.State, set.Code, set.Reason, attempts = core.StateSkipped, core.Skipped, "not a visit", 0
	case 7:
		set.State, set.Code, set.Due = core.StateHeld, transport.Timeout, -1
		answer = core.AnswerRecord{Status: 504, Code: transport.Timeout, Detail: "it may have arrived"}
	}
	for n := range attempts {
		a := core.Attempt{N: n + 1, Start: time.Now(), Took: time.Millisecond, Receipt: transport.Receipt{
			Effect: transport.None, Code: transport.ConnectionRefused, Detail: "nobody listens",
		}}
		if n == attempts-1 {
			a.Receipt = transport.Receipt{Effect: transport.Done, Code: set.Code, TargetStatus: 200, Body: []byte("ok"), ContentType: "text/plain", Detail: "well"}
		}
		set.Attempts = append(set.Attempts, a)
	}
	s.Settle(p.Delivery, set)
	s.Answered(ev, answer)
	return nil
}

// forged is a tampering that was done, and what is to be said of it.
type forged struct {
	tamper
	statement string
	id        string // "" if any of the rows will do
	named     bool
}

// forger tampers.
type forger struct {
	t      *testing.T
	s      *Store
	random *rand.Rand
	first  map[string]int64   // the newest rows of the first half, by table
	last   map[string]int64   // and of all
	ends   map[string]bool    // refused events, and digests of sets, that are the last of a chain
	used   map[string]bool    // events and rows that have been tampered with
	done   []*forged          // in order
	due    map[string]*forged // by table, a space, and the row, without its part
	lost   map[string]bool    // the same, of what has lost its proof
}

// read returns the rows of a query.
func (f *forger) read(format string, args ...any) (all []row) {
	f.t.Helper()
	text := fmt.Sprintf(format, args...)
	err := f.s.engine.snapshot(f.t.Context(), func(read snapshot) error {
		return read(text, func(r row) { all = append(all, slices.Clone(r)) })
	})
	if err != nil {
		f.t.Fatal(text, err)
	}
	return all
}

// everyColumn makes a tamper for each column that the table of tampers has none for.
func (f *forger) everyColumn() (all []tamper) {
	_, lite := f.s.engine.(*sqliteEngine)
	for _, c := range []struct{ table, key, id string }{
		{"events", "seq = %d", ""},
		{"deliveries", "seq = %d", ""},
		{"answers", "event_seq = %d", ""},
		{"attempts", "delivery_seq = %d and n = 1", ""},
		{"messages", "delivery_seq = %d and n = 0", ""},
		{"snapshots", "delivery_seq = %d", ""},
		{"acts", "seq = %d", "select cast(seq as text) from acts where seq = %d"},
		{"accepted", "seq = %d", "select cast(seq as text) from accepted where seq = %d"},
	} {
		like := slices.IndexFunc(tampers, func(o tamper) bool {
			return o.table == c.table && strings.HasPrefix(o.sql, "update "+c.table+" set ") && strings.HasSuffix(o.sql, " where "+c.key)
		})
		base := tampers[like]
		if c.id != "" {
			base.id, base.what, base.also = c.id, "extra", []string{"missing " + c.table, "missing documents"}
		}
		text := fmt.Sprintf(`select column_name, data_type from information_schema.columns
			where table_schema = current_schema() and table_name = '%s' order by ordinal_position`, c.table)
		if lite {
			text = fmt.Sprintf("select name, type from pragma_table_info('%s') order by cid", c.table)
		}
		for _, r := range f.read("%s", text) {
			column, value := r.str(0), ""
			// A row's own number and id are in the digests of what belongs to it; for an
			// act and a set only their order counts.
			if column == "seq" || column == "id" || column == "n" || strings.HasSuffix(column, "_seq") && c.table != "acts" ||
				slices.ContainsFunc(tampers, func(o tamper) bool { return strings.HasPrefix(o.sql, "update "+c.table+" set "+column+" =") }) {
				continue
			}
			switch kind := strings.ToLower(r.str(1)); kind {
			case "text":
				value = "coalesce(" + column + ", '') || 'x'"
			case "bytea", "blob":
				value = "{blob}"
			case "bigint", "integer":
				value = "coalesce(" + column + ", 0) + 7"
			default:
				f.t.Fatalf("%s.%s has the type %s", c.table, column, kind)
			}
			one := base
			one.sql = fmt.Sprintf("update %s set %s = %s where ", c.table, column, value) + c.key
			all = append(all, one)
		}
	}
	return all
}

// tamper does it to a row of an event that nothing was done to.
func (f *forger) tamper(c tamper) {
	f.t.Helper()
	table := rowsOf[c.table]
	low, high := f.first[table], f.last[table]
	if c.table == "audit" { // of the first half: the rows that it speaks of are left alone
		low, high = 0, low
	}
	for range 1000 {
		n := low + 1 + f.random.Int64N(high-low)
		id := ""
		if c.id != "" {
			if id = one(f.t, f.s, fmt.Sprintf(c.id, n)); id == "" {
				continue
			}
		} else if len(f.read("select seq from %s where seq = %d", table, n)) == 0 {
			continue
		}
		rows, free := f.about(c, n)
		if !free {
			continue
		}
		d := &forged{tamper: c, statement: c.on(f.s, int(n)), id: id}
		if err := raw(f.s, d.statement); err != nil {
			f.t.Fatal(d.statement, err)
		}
		f.done = append(f.done, d)
		for _, row := range rows {
			f.due[row] = d
		}
		return
	}
	f.t.Fatal("no row for ", c.sql)
}

// endsOfChains are the last rows of each table in each chain. They stay as they are:
// what is moved to the end has to pass several, as of two that have changed places
// either may be the one that was moved.
func (f *forger) endsOfChains() map[string]bool {
	f.t.Helper()
	lasts := map[string][]string{}
	keep := func(rows, id string) {
		lasts[rows] = append(lasts[rows], id)
		lasts[rows] = lasts[rows][max(0, len(lasts[rows])-3):]
	}
	for _, r := range f.read("select chain, entries from audit order by chain, n") {
		for line := range strings.SplitSeq(string(r.bytes(1)), "\n") {
			var e AuditEntry
			if err := json.Unmarshal([]byte(line), &e); err != nil {
				f.t.Fatal(err)
			}
			switch e.Kind {
			case auditEvent:
				if e.Code != "" { // it was refused
					keep("events "+r.str(0), e.Event)
				}
			case auditConfig:
				keep("accepted "+r.str(0), e.Row)
			}
		}
	}
	ends := map[string]bool{}
	for _, ids := range lasts {
		for _, id := range ids {
			ends[id] = true
		}
	}
	return ends
}

// about are the rows that may be named for row n and what belongs to it. It is not
// free if one of them was tampered with.
func (f *forger) about(c tamper, n int64) (rows []string, free bool) {
	f.t.Helper()
	switch c.table {
	case "acts":
		r := f.read("select at, actor, act, delivery_seq, event_id, reason, was, now from acts where seq = %d", n)[0]
		rows = append(rows, fmt.Sprint("acts ", n), fmt.Sprint("acts ", n+1_000_000), "acts "+digest(nil, r...)[:8])
	case "accepted", "documents":
		r := f.read("select node, revision, config_sha, scripts, at from accepted where seq = %d", n)[0]
		if f.ends[digest(nil, r...)] {
			return nil, false
		}
		rows = append(rows, fmt.Sprint("accepted ", n), fmt.Sprint("accepted ", n+1_000_000), "accepted "+digest(nil, r...)[:8], "documents "+r.str(2), "documents "+r.str(2)+"x")
	case "audit":
		r := f.read("select chain, n, entries from audit where seq = %d", n)[0]
		for near := r.int(1) - 2; near <= r.int(1)+2; near++ {
			if f.used[fmt.Sprintf("audit %s/%d", r.str(0), near)] {
				return nil, false
			}
		}
		row := fmt.Sprintf("audit %s/%d", r.str(0), r.int(1))
		f.used[row] = true
		if strings.Contains(c.sql, "set entries") || strings.HasPrefix(c.sql, "delete") {
			f.unproven(r.bytes(2))
		}
		return []string{row}, true
	default:
		which := "d.seq"
		if rowsOf[c.table] == "events" {
			which = "e.seq"
		}
		for _, r := range f.read("select e.id, e.seq, d.id, d.seq from events e left join deliveries d on d.event_seq = e.seq where %s = %d", which, n) {
			if f.ends[r.str(0)] {
				return nil, false
			}
			rows = append(rows, "events "+r.str(0), "events "+r.str(0)+"x", "answers "+r.str(0), fmt.Sprint("answers ", r.int(1)))
			if !r.null(2) {
				rows = append(rows, "deliveries "+r.str(2), "deliveries "+r.str(2)+"x")
				for _, table := range []string{"attempts", "messages", "snapshots"} {
					rows = append(rows, table+" "+r.str(2), fmt.Sprint(table, " ", r.int(3)))
				}
			}
		}
	}
	if len(rows) == 0 || f.used[rows[0]] {
		return nil, false // its event is gone, or it was its turn
	}
	f.used[rows[0]] = true
	if strings.Contains(c.sql, "set event_seq") { // nothing may happen to the event that it moves to
		for _, r := range f.read("select e.id from events e where e.seq = (select event_seq - 1 from deliveries where seq = %d)", n) {
			if f.used["events "+r.str(0)] {
				return nil, false
			}
			f.used["events "+r.str(0)] = true
		}
	}
	return rows, true
}

// unproven takes note of what entries speak of that are gone.
func (f *forger) unproven(entries []byte) {
	f.t.Helper()
	for line := range strings.SplitSeq(string(entries), "\n") {
		var e AuditEntry
		if err := json.Unmarshal([]byte(line), &e); err != nil {
			f.t.Fatal(err)
		}
		for _, table := range []string{"events", "answers", "deliveries", "attempts", "messages", "snapshots"} {
			f.lost[table+" "+e.Event], f.lost[table+" "+e.Delivery] = true, true
		}
		for table, text := range map[string]string{
			"acts":     "select at, actor, act, delivery_seq, event_id, reason, was, now, seq from acts order by seq",
			"accepted": "select node, revision, config_sha, scripts, at, seq from accepted order by seq",
		} {
			if (e.Kind != auditAct || table != "acts") && (e.Kind != auditConfig || table != "accepted") {
				continue
			}
			for _, r := range f.read("%s", text) {
				if digest(nil, r[:len(r)-1]...) == e.Row {
					f.lost[fmt.Sprint(table, " ", r[len(r)-1])] = true
				}
			}
		}
	}
}

// judge compares what was found with what was done.
func (f *forger) judge(v *Verification) {
	f.t.Helper()
	if v.More > 0 {
		f.t.Fatalf("%d findings were left out", v.More)
	}
	var follow, unproven, wrong int
	for _, found := range v.Findings {
		row, _, _ := strings.Cut(found.ID, "/")
		if found.Table == "audit" {
			row = found.ID
		}
		row = found.Table + " " + row
		d := f.due[row]
		switch {
		case d != nil && d.what == found.What && d.table == found.Table && (d.id == "" || d.id == found.ID):
			d.named = true
		case d != nil && slices.Contains(d.also, found.What+" "+found.Table):
			follow++
		case f.lost[row] && (found.What == "extra" || found.What == "altered"):
			unproven++
		default:
			if wrong++; wrong < 20 {
				why := ""
				if d != nil {
					why = ", after " + d.statement
				}
				f.t.Errorf("it is named and was not tampered with: %s%s", found, why)
			}
		}
	}
	kinds, ways := map[string]int{}, map[string]bool{}
	for _, d := range f.done {
		kinds[d.what+" "+d.table]++
		ways[d.sql] = true
		if !d.named {
			f.t.Errorf("it is not named: %s: %s %s %s", d.statement, d.what, d.table, d.id)
		}
	}
	f.t.Logf("%d tampers in %d ways at once, verified in %s: %d findings, of which %d follow from others and %d are of rows whose audit was taken: %v",
		len(f.done), len(ways), took(v), len(v.Findings), follow, unproven, kinds)
}

func took(v *Verification) time.Duration { return time.Duration(v.TookMS) * time.Millisecond }
