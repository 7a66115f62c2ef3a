package journal

import (
	"slices"
	"strings"
	"testing"
	"time"
)

func TestQuarantines(t *testing.T) {
	onEach(t, func(t *testing.T, url string) {
		s := open(t, Options{URL: url, Node: "n1"})
		unaudited.Store(s, true)
		ctx := t.Context()
		since := time.UnixMicro(time.Now().UnixMicro()).UTC()
		bad := Quarantine{SHA: strings.Repeat("ab", 32), Script: "transforms/bad.js", Since: since, Why: "it did not obey its deadline"}
		worse := Quarantine{SHA: strings.Repeat("cd", 32), Script: "transforms/bad.js", Since: since.Add(time.Second), Why: "it hung"}
		again := bad
		again.Since, again.Why = since.Add(time.Hour), "of another node"
		for _, q := range []Quarantine{bad, worse, again} {
			if err := s.Quarantine(ctx, q); err != nil {
				t.Fatal(err)
			}
		}
		kept := func(want ...Quarantine) {
			t.Helper()
			got, err := s.Quarantined(ctx)
			if err != nil || !slices.Equal(got, want) {
				t.Errorf("%+v, want %+v: %v", got, want, err)
			}
			if v := verified(t, s); len(v.Findings) > 0 {
				t.Error(v.Findings)
			}
		}
		kept(bad, worse)
		if lines := auditOf(t, s, `"t":"quarantine"`, `"act":"quarantine"`, `"actor":"daemon"`, `"node":"n1"`, `"what":"transforms/bad.js"`); len(lines) != 2 {
			t.Errorf("audit: %q", lines)
		}
		for range 2 {
			if err := s.Unquarantine(ctx, []string{bad.SHA, "of no script"}); err != nil {
				t.Fatal(err)
			}
			kept(worse)
		}
		if lines := auditOf(t, s, `"t":"quarantine"`, `"act":"unquarantine"`, bad.SHA); len(lines) != 1 {
			t.Errorf("audit: %q", lines)
		}
		// The same bytes, once more.
		if err := s.Quarantine(ctx, again); err != nil {
			t.Fatal(err)
		}
		kept(worse, again)

		const put = "insert into quarantines (sha, script, since, why) values "
		for _, c := range []struct{ sql, undo, what, id string }{
			{"update quarantines set script = 'x' where sha like 'ab%'", "update quarantines set script = 'transforms/bad.js' where sha like 'ab%'", "altered", bad.SHA},
			{"update quarantines set since = since + 1 where sha like 'ab%'", "update quarantines set since = since - 1 where sha like 'ab%'", "altered", bad.SHA},
			{"update quarantines set why = 'x' where sha like 'ab%'", "update quarantines set why = 'of another node' where sha like 'ab%'", "altered", bad.SHA},
			{put + "('ee', 'a.js', 1, 'x')", "delete from quarantines where sha = 'ee'", "extra", "ee"},
			{"delete from quarantines where sha like 'cd%'", "", "missing", worse.SHA},
		} {
			if err := raw(s, c.sql); err != nil {
				t.Fatal(err)
			}
			v := verified(t, s)
			if len(v.Findings) != 1 || v.Findings[0].What != c.what || v.Findings[0].Table != "quarantines" || v.Findings[0].ID != c.id {
				t.Errorf("%s: %v", c.sql, v.Findings)
			}
			if c.undo != "" {
				if err := raw(s, c.undo); err != nil {
					t.Fatal(err)
				}
			}
		}
	})
}
