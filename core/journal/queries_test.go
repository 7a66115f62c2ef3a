package journal

import (
	"context"
	"strings"
	"testing"
)

func TestQueries(t *testing.T) {
	onEach(t, func(t *testing.T, url string) {
		s := open(t, Options{URL: url}) // SQLite prepares all as it opens
		if e, ok := s.engine.(*postgresEngine); ok {
			ctx := context.Background()
			conn, err := e.reader.acquire(ctx)
			if err != nil {
				t.Fatal(err)
			}
			defer e.reader.release(conn)
			for q, text := range e.texts {
				if _, err := conn.Prepare(ctx, string(q), text); err != nil {
					t.Errorf("query %q: %v", q, err)
				}
			}
			if _, err := conn.Prepare(ctx, "lock", lockLanes); err != nil {
				t.Error(err)
			}
		}
	})
}

// TestPlans: what runs all the time must not slow down with the backlog.
func TestPlans(t *testing.T) {
	plan := func(t *testing.T, s *Store, q query, args ...any) string {
		var out strings.Builder
		switch e := s.engine.(type) {
		case *sqliteEngine:
			text, order := positional(sqliteDialect.spell(queries[q]))
			given := make([]any, len(order))
			for i, n := range order {
				if n >= 0 { // otherwise the time, which plans do not depend on
					given[i] = args[n]
				}
			}
			err := readRows(context.Background(), e.pool, "explain query plan "+text, given, func(r row) {
				out.WriteString(r.str(3) + "\n")
			})
			if err != nil {
				t.Fatal(err)
			}
		case *postgresEngine:
			ctx := context.Background()
			conn, err := e.reader.acquire(ctx)
			if err != nil {
				t.Fatal(err)
			}
			defer e.reader.release(conn)
			if _, err := conn.Exec(ctx, "set enable_seqscan = off"); err != nil { // the tables are small
				t.Fatal(err)
			}
			rows, err := conn.Query(ctx, "explain "+e.texts[q], args...)
			if err != nil {
				t.Fatal(err)
			}
			if err := eachRow(rows, func(r row) { out.WriteString(r.str(0) + "\n") }); err != nil {
				t.Fatal(err)
			}
			if _, err := conn.Exec(ctx, "reset enable_seqscan"); err != nil {
				t.Fatal(err)
			}
		}
		return out.String()
	}
	onEach(t, func(t *testing.T, url string) {
		s := open(t, Options{URL: url})
		for q, want := range map[query]struct {
			index string
			args  []any
		}{
			qDue:                {"deliveries_due", []any{"r", int64(9)}},
			qNext:               {"deliveries_due", []any{"r"}},
			qHead:               {"deliveries_head", []any{"l"}},
			qPromote:            {"deliveries_behind", []any{"l"}},
			qEventFind:          {"events_ref", []any{"i", "r"}},
			qEventsOfRecord:     {"events_record", []any{int64(1), int64(1), int64(1), "", "", "", int64(0), "1", int64(9)}},
			qDeliveriesOfRecord: {"events_record", []any{int64(1), "", "", "[]", "", "1", int64(9)}},
			qDeliveriesOfEvent:  {"deliveries_event", []any{int64(1), "", "", "[]", "", int64(1), int64(9)}},
			qTroubles:           {"deliveries_state", []any{"dead", int64(9), int64(1)}},
			qRecover:            {"deliveries_head", []any{"c", "r", "[]", "me"}},
		} {
			got := plan(t, s, q, want.args...)
			if !strings.Contains(got, want.index) {
				t.Errorf("query %q does not use %s:\n%s", q, want.index, got)
			}
			for line := range strings.Lines(got) {
				if strings.Contains(line, "Seq Scan") || strings.Contains(line, "SCAN") && strings.Contains(line, "deliveries") && !strings.Contains(line, "INDEX") {
					t.Errorf("query %q scans:\n%s", q, got)
				}
			}
		}
	})
}
