package main

import (
	"context"
	"database/sql"
	"encoding/binary"
	"fmt"
	"io"
	"log/slog"
	"path/filepath"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/google/uuid"

	"github.com/hookline/hookline/core"
	"github.com/hookline/hookline/core/admin"
	"github.com/hookline/hookline/core/journal"
)

const (
	searchSection = "search"
	searchGoal    = 50    // ms, of the p99 of each answer
	searchTimes   = 200   // answers of each, at the usual --duration
	searchBatch   = 50000 // events of a transaction of the filling
	searchSpan    = 10 * 24 * time.Hour
)

// searchReport is how long the admin API takes to answer from a large journal.
type searchReport struct {
	Events  int          `json:"events"`
	Filling float64      `json:"filling_s"`
	Times   int          `json:"times"` // answers of each search
	Cells   []searchCell `json:"cells"`
	Goals   []goal       `json:"goals"`
}

type searchCell struct {
	What string  `json:"what"`
	P50  float64 `json:"p50_ms"`
	P99  float64 `json:"p99_ms"`
	Rows int     `json:"rows"` // of the first answer
	Part bool    `json:"part"` // it has more to look at than one answer does
}

func searchRun(ctx context.Context, b *bench, r *report) error {
	url, remove, err := b.newJournal(ctx, keeperSQLite)
	if err != nil {
		return err
	}
	defer remove()
	times := min(searchTimes, max(10, int(b.duration/(10*time.Millisecond))))
	out := &searchReport{Events: b.events, Times: times}
	b.say("search: filling a journal with %d events", b.events)
	begun := time.Now()
	if err := fillSearch(ctx, url, b.events); err != nil {
		return err
	}
	out.Filling = time.Since(begun).Seconds()
	store, err := journal.Open(ctx, journal.Options{URL: url})
	if err != nil {
		return err
	}
	defer func() { _ = store.Close() }()
	path := filepath.Join(b.dir, "search.sock")
	server, err := admin.Listen(admin.Options{
		Path: path, Journal: store, Status: func() admin.Status { return admin.Status{} },
		Reload: func(context.Context) error { return nil }, Log: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		return err
	}
	defer server.Stop()
	client := admin.NewClient(path)
	for _, s := range searches(b.events) {
		c := searchCell{What: s.what}
		var took []time.Duration
		cursor := ""
		for i := range times {
			start := time.Now()
			n, next, part, err := s.answer(ctx, client, cursor)
			took = append(took, time.Since(start))
			if err != nil {
				return fmt.Errorf("%s: %w", s.what, err)
			}
			if i == 0 {
				c.Rows, c.Part = n, part
			}
			cursor = next // as whoever leafs through it
		}
		c.P50, c.P99 = quantile(took, 0.5)/1000, quantile(took, 0.99)/1000
		out.Cells = append(out.Cells, c)
		out.Goals = append(out.Goals, atMost(searchGoal, " ms", c.P99, "search for %s: p99 of an answer", s.what))
	}
	r.Search = out
	return nil
}

// searching is something to search for, answer by answer.
type searching struct {
	what   string
	answer func(ctx context.Context, client *admin.Client, cursor string) (rows int, next string, part bool, err error)
}

func searches(n int) []searching {
	event := func(what string, f journal.EventFilter) searching {
		return searching{what, func(ctx context.Context, client *admin.Client, cursor string) (int, string, bool, error) {
			f.Cursor = cursor
			page, err := client.Events(ctx, f)
			if err != nil {
				return 0, "", false, err
			}
			return len(page.Events), page.Next, !page.ScannedUntil.IsZero(), nil
		}}
	}
	delivery := func(what string, f journal.DeliveryFilter) searching {
		return searching{what, func(ctx context.Context, client *admin.Client, cursor string) (int, string, bool, error) {
			f.Cursor = cursor
			page, err := client.Deliveries(ctx, f)
			if err != nil {
				return 0, "", false, err
			}
			return len(page.Deliveries), page.Next, !page.ScannedUntil.IsZero(), nil
		}}
	}
	newest := time.Now()
	return []searching{
		event("the newest events", journal.EventFilter{}),
		event("1000 events", journal.EventFilter{Limit: 1000}),
		event("a deep page of events", journal.EventFilter{Until: newest.Add(-searchSpan / 2)}),
		event("a record", journal.EventFilter{Record: "7"}),
		event("a record that is not there", journal.EventFilter{Record: "nothing"}),
		event("a reference", journal.EventFilter{IDs: []string{"ZZZZZZZZ"}}),
		event("a form of one event", journal.EventFilter{Form: "999"}),
		event("a hook that is not there", journal.EventFilter{Hook: "nothing"}),
		event("refused bodies", journal.EventFilter{Refused: true}),
		event("callers that hung up, of one hook", journal.EventFilter{Gone: true, Hook: "b"}),
		event("an answer's code, a kind and a form", journal.EventFilter{Code: "rejected_by_target", Kind: core.Update, Form: "7"}),
		event("events with a delivery that is held", journal.EventFilter{States: []core.State{core.StateHeld}, Route: "ehr"}),
		event("an hour of long ago, of one form", journal.EventFilter{Since: newest.Add(-searchSpan / 2), Until: newest.Add(-searchSpan/2 + time.Hour), Form: "7"}),
		delivery("the newest deliveries", journal.DeliveryFilter{}),
		delivery("dead and held deliveries", journal.DeliveryFilter{States: []core.State{core.StateDead, core.StateHeld}}),
		delivery("a code and a form of one event", journal.DeliveryFilter{Code: "rejected_by_target", Form: "999"}),
		delivery("queued deliveries, of which there are none", journal.DeliveryFilter{States: []core.State{core.StateQueued}}),
		delivery("a record's deliveries", journal.DeliveryFilter{Record: fmt.Sprint(n / 40)}),
	}
}

// fillSearch writes n events with a delivery and an answer each, as the daemon would
// have over some days.
func fillSearch(ctx context.Context, url string, n int) error {
	s, err := journal.Open(ctx, journal.Options{URL: url}) // for its tables
	if err != nil {
		return err
	}
	if err := s.Close(); err != nil {
		return err
	}
	db, err := sql.Open("sqlite", strings.TrimPrefix(url, "sqlite:")+"?_pragma=synchronous(OFF)&_pragma=cache_size(-262144)")
	if err != nil {
		return err
	}
	defer func() { _ = db.Close() }()
	begun := time.Now().Add(-searchSpan)
	for done := 0; done < n; {
		upto := min(n, done+searchBatch)
		if err := fillSome(ctx, db, begun, done, upto, n); err != nil {
			return err
		}
		done = upto
	}
	return nil
}

func fillSome(ctx context.Context, db *sql.DB, begun time.Time, from, upto, n int) error {
	tx, err := db.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	defer func() { _ = tx.Rollback() }()
	var stmts []*sql.Stmt
	for _, text := range []string{
		`insert into events (seq, id, ref, hook, study, stage, kind, trans_id, form_id, form_name, wf_id, wf_name, received_at, traceparent, refused_code, revision, salt, body)
			values (?, ?, ?, ?, 'ABC-123', 'live', ?, ?, ?, ?, '', '', ?, '', ?, 'r1', zeroblob(16), ?)`,
		`insert into answers (event_seq, status, code, detail, gone_us, at) values (?, 200, ?, '', ?, ?)`,
		`insert into deliveries (seq, id, event_seq, hook, route, lane, head, open, state, wait, shape, script, revision, code, created_at, updated_at)
			values (?, ?, ?, ?, 'ehr', ?, ?, ?, ?, 0, 1, '', 'r1', ?, ?, ?)`,
	} {
		st, err := tx.PrepareContext(ctx, text)
		if err != nil {
			return err
		}
		defer func() { _ = st.Close() }()
		stmts = append(stmts, st)
	}
	body := []byte(sent.Text)
	for i := from + 1; i <= upto; i++ {
		at := begun.Add(time.Duration(int64(searchSpan) / int64(n) * int64(i)))
		us := at.UnixMicro()
		id := idOf(at, i)
		hook, kind, form, record := []string{"a", "b", "c"}[i%3], core.Kinds[i%2], fmt.Sprint(i%20), fmt.Sprint(i%(n/20+1))
		if i == n/2 {
			form = "999"
		}
		code, state, head, gone, refused := "delivered", "delivered", 0, 0, ""
		switch {
		case i%3000 == 1:
			refused = "invalid_event"
		case i%5000 == 0:
			code, state, head, record = "timeout", "held", 1, "held-"+record+"-"+fmt.Sprint(i)
		case i%1000 == 7:
			code, state = "rejected_by_target", "dead"
		}
		if i%2000 == 3 {
			gone = 1000
		}
		if _, err := stmts[0].ExecContext(ctx, i, id, fmt.Sprintf("%08d", i), hook, string(kind), record, form, "Form "+form, us, refused, body); err != nil {
			return err
		}
		if _, err := stmts[1].ExecContext(ctx, i, code, gone, us); err != nil {
			return err
		}
		if refused != "" {
			continue
		}
		if _, err := stmts[2].ExecContext(ctx, i, idOf(at, n+i), i, hook, hook+"/ehr/"+record, head, head, state, code, us, us); err != nil {
			return err
		}
	}
	return tx.Commit()
}

// idOf is a UUIDv7.
func idOf(at time.Time, n int) string {
	var id uuid.UUID
	binary.BigEndian.PutUint64(id[:8], uint64(at.UnixMilli())<<16) //nolint:gosec // it is positive
	binary.BigEndian.PutUint64(id[8:], uint64(n))                  //nolint:gosec // it is positive
	id[6], id[8] = 0x70, id[8]|0x80
	return id.String()
}

func (r *searchReport) print(w io.Writer) {
	fmt.Fprintf(w, "\nsearch: answers of the admin API from a SQLite journal of %d events (filled in %.0f s), %d of each, leafing on; rows of the first one.\n\n",
		r.Events, r.Filling, r.Times)
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "search\tp50 ms\tp99 ms\trows\tbit by bit")
	for _, c := range r.Cells {
		part := ""
		if c.Part {
			part = "yes"
		}
		fmt.Fprintf(t, "%s\t%.1f\t%.1f\t%d\t%s\n", c.What, c.P50, c.P99, c.Rows, part)
	}
	_ = t.Flush()
	printGoals(w, r.Goals)
}
