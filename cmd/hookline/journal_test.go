package main

import (
	"database/sql"
	"encoding/json"
	"errors"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/hookline/hookline/core"
	"github.com/hookline/hookline/core/admin"
	"github.com/hookline/hookline/core/journal"
)

// The commands that look after the journal, beside a daemon and without it.
func TestJournalCommands(t *testing.T) {
	s := newSite(t, "")
	config, err := os.ReadFile(s.file)
	if err != nil {
		t.Fatal(err)
	}
	s.write(strings.Replace(string(config), "anonymous = true\n", "anonymous = true\nretention = { payloads = \"30d\", events = \"10y\" }\n", 1))
	s.status.Store(http.StatusOK)
	dir := filepath.Dir(s.file)
	db := "sqlite:" + filepath.Join(dir, "hookline.db")
	refused := func(code int, says string, args ...string) {
		t.Helper()
		got, out, errs := s.run(args...)
		if got != code || out != "" || !strings.Contains(errs, says) {
			t.Errorf("%q: exit %d, want %d and %q\n%s%s", args, got, code, says, out, errs)
		}
	}
	refused(3, "no daemon answers", "journal", "stats")
	refused(3, "no daemon answers", "journal", "prune")
	refused(3, "no daemon answers", "journal", "backup", filepath.Join(dir, "b.db"))
	refused(3, "there is none at", "journal", "stats", "--journal", db)
	refused(3, "there is none at", "journal", "vacuum")
	refused(2, "--journal must be", "journal", "stats", "--journal", "hookline.db")
	refused(2, "no such variable", "journal", "stats", "--journal", "env:NOT_THERE_AT_ALL")
	refused(2, "takes one argument", "journal", "backup")

	s.start()
	a := s.send(`{"trans_id":"1","form_id":"319","form_name":"Sample Form","OnUpdate":true}`)
	s.await(a.EventID, "ehr", core.StateDelivered)
	s.await(a.EventID, "lab", core.StateDelivered)
	s.answered(a.EventID)
	var st journal.Stats
	for _, args := range [][]string{{"journal", "stats", "--json"}, {"journal", "stats", "--json", "--journal", db}} {
		if err := json.Unmarshal([]byte(s.good(args...)), &st); err != nil {
			t.Fatal(err)
		}
		if st.Engine != "sqlite" || st.Events != 1 || st.Deliveries[core.StateDelivered] != 2 || st.Newest.Ref != a.Ref || st.Bytes == 0 || st.Disk == nil {
			t.Errorf("%q: %+v", args, st)
		}
	}
	if out := s.good("journal", "stats"); !strings.Contains(out, "\nevents       1\n") || !strings.Contains(out, "\n  delivered  2\n") || !strings.Contains(out, a.Ref) {
		t.Error(out)
	}

	age(t, dir)
	if out := s.good("journal", "prune", "--dry-run"); stable(out) != "HOOK  WHAT  WOULD BE PRUNED  STILL OPEN\ndemo  events  0  0\ndemo  payloads  1  0\n" {
		t.Error(out)
	}
	var pruned admin.PruneAnswer
	if err := json.Unmarshal([]byte(s.good("journal", "prune", "--json")), &pruned); err != nil || len(pruned.Pruned) != 2 || pruned.Pruned[1].Events != 1 {
		t.Errorf("%+v, %v", pruned, err)
	}
	if out := s.good("journal", "prune"); !strings.Contains(out, "PRUNED") || !strings.Contains(out, "payloads  0") {
		t.Error(out)
	}

	file := filepath.Join(dir, "backup.db")
	if out := s.good("journal", "backup", file); !strings.HasPrefix(out, file+": ") || !strings.Contains(out, ", 1 event, checked, in ") {
		t.Error(out)
	}
	refused(1, "not overwritten", "journal", "backup", file)
	refused(1, "does not exist", "journal", "backup", filepath.Join(dir, "none", "b.db"))
	pid := "pid " + strconv.Itoa(s.daemon.cmd.Process.Pid)
	refused(3, pid, "journal", "backup", filepath.Join(dir, "b.db"), "--journal", db)
	refused(3, pid, "journal", "vacuum")

	if code := s.daemon.stop(); code != 0 {
		t.Fatal("exit", code)
	}
	if out := s.good("journal", "vacuum"); !strings.Contains(out, " before, ") {
		t.Error(out)
	}
	if out := s.good("journal", "stats", "--journal", db); !strings.Contains(out, "events       1\n") {
		t.Error(out)
	}
	if out := s.good("journal", "backup", filepath.Join(dir, "offline.db"), "--journal", db); !strings.Contains(out, "1 event, checked") {
		t.Error(out)
	}
	t.Setenv("POSTGRES_URL", "postgres://u:s3cret@127.0.0.1/d")
	refused(1, "pg_dump --format=custom --host=127.0.0.1 --port=5432 --username=u ", "journal", "backup", filepath.Join(dir, "x"), "--journal", "env:POSTGRES_URL")
	for _, shown := range []string{"postgres://u:s3cret@127.0.0.1/d", "postgres://127.0.0.1/d?user=u&password=s3cret"} {
		refused(2, "--journal must not hold a password", "journal", "backup", filepath.Join(dir, "x"), "--journal", shown)
	}
	for _, name := range []string{"offline.db", "backup.db"} {
		if info, err := os.Stat(filepath.Join(dir, name)); err != nil || info.Mode().Perm() != 0o600 {
			t.Error(name, info, err)
		}
	}
}

// Every command that takes --journal exits alike for one that cannot be used.
func TestJournalThatCannotBeUsed(t *testing.T) {
	t.Chdir(t.TempDir())
	other, err := sql.Open("sqlite", "other.db")
	if err != nil {
		t.Fatal(err)
	}
	_, err = other.Exec("create table t (x)")
	if err := errors.Join(err, other.Close()); err != nil {
		t.Fatal(err)
	}
	for name, text := range map[string]string{"empty.db": "", "text.db": strings.Repeat("no database of SQLite\n", 100)} {
		if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	newer := "sqlite:" + filepath.Join(t.TempDir(), "newer.db")
	s, err := journal.Open(t.Context(), journal.Options{URL: newer})
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	db, err := sql.Open("sqlite", strings.TrimPrefix(newer, "sqlite:"))
	if err != nil {
		t.Fatal(err)
	}
	_, err = db.Exec("insert into goose_db_version (version_id, is_applied) values (99, 1)")
	if err := errors.Join(err, db.Close()); err != nil {
		t.Fatal(err)
	}
	t.Setenv("NOT_SET", "")
	for _, command := range []string{"journal stats", "journal backup copy.db", "journal vacuum", "audit verify", "audit export"} {
		for url, want := range map[string]int{
			"sqlite:/nowhere/hookline.db": exitEnvironment,
			"sqlite:nowhere.db":           exitEnvironment,
			"sqlite:.":                    exitEnvironment,
			"sqlite:empty.db":             exitEnvironment,
			"sqlite:text.db":              exitEnvironment,
			"sqlite:other.db":             exitEnvironment,
			newer:                         exitEnvironment,
			"postgres://127.0.0.1:1/none": exitEnvironment,
			"sqlite:":                     exitConfig,
			"mysql://127.0.0.1/none":      exitConfig,
			"env:NOT_SET":                 exitConfig,
		} {
			if command == "journal backup copy.db" && strings.HasPrefix(url, "postgres") {
				want = exitFailed // it names pg_dump, and has not looked
			}
			code, out, errs := hooklineHere(append(strings.Fields(command), "--journal", url)...)
			if code != want || out != "" || !strings.Contains(errs, "journal") {
				t.Errorf("%s --journal %s: exit %d, want %d\n%s%s", command, url, code, want, out, errs)
			}
		}
	}
}

// age makes what is in the journal older.
func age(t *testing.T, dir string) {
	t.Helper()
	db, err := sql.Open("sqlite", "file:"+filepath.Join(dir, "hookline.db")+"?_pragma=busy_timeout(5000)")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = db.Close() }()
	if _, err := db.Exec("update events set received_at = received_at - ?", (40 * 24 * time.Hour).Microseconds()); err != nil {
		t.Fatal(err)
	}
}
