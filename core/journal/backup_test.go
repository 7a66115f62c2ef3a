package journal

import (
	"context"
	"crypto/sha256"
	"database/sql"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/pressly/goose/v3"

	"github.com/hookline/hookline/core"
)

// A backup is of one moment while events flow, and a journal like any other.
func TestBackupWhileEventsFlow(t *testing.T) {
	dir := t.TempDir()
	s := open(t, Options{URL: "sqlite:" + filepath.Join(dir, "journal.db")})
	ctx := context.Background()
	for i := range 200 {
		settle(t, s, begin1(t, s, fmt.Sprint(i), true).Delivery, delivered)
	}
	waits := begin1(t, s, "open", false)
	stop := make(chan struct{})
	var writers sync.WaitGroup
	began := 0
	for w := range 2 {
		writers.Go(func() {
			for i := 0; ; i++ {
				select {
				case <-stop:
					return
				default:
					begin1(t, s, fmt.Sprintf("%d-%d", w, i), false)
				}
				if w == 0 {
					began = i
				}
			}
		})
	}
	file := filepath.Join(dir, "backup.db")
	b, err := s.Backup(ctx, "anna", file)
	close(stop)
	writers.Wait()
	if err != nil {
		t.Fatal(err)
	}
	info, err := os.Stat(file)
	if err != nil || info.Size() != b.Bytes || b.Events < 201 || !b.Audited || b.File != file {
		t.Fatalf("%+v, %v", b, err)
	}
	if runtime.GOOS != "windows" && info.Mode().Perm() != 0o600 {
		t.Error(info.Mode())
	}
	if began == 0 {
		t.Error("nothing was written meanwhile")
	}
	if lines := auditOf(t, s, `"t":"care"`, `"what":"backup"`, `"actor":"anna"`); len(lines) != 1 {
		t.Errorf("audit: %q", lines)
	}
	if _, err := os.Stat(file + ".part"); !os.IsNotExist(err) {
		t.Error("the part is left:", err)
	}

	if _, err := s.Backup(ctx, "anna", file); err == nil || !strings.Contains(err.Error(), "not overwritten") {
		t.Error(err)
	}
	if now, _ := os.Stat(file); now.Size() != info.Size() || !now.ModTime().Equal(info.ModTime()) {
		t.Error("it was overwritten")
	}
	if _, err := s.Backup(ctx, "anna", filepath.Join(dir, "none", "b.db")); err == nil || !strings.Contains(err.Error(), "does not exist") {
		t.Error(err)
	}
	if _, err := s.Backup(ctx, "anna", "b.db"); err == nil || !strings.Contains(err.Error(), "whole path") {
		t.Error(err)
	}
	cut, cancel := context.WithCancel(ctx)
	cancel()
	if _, err := s.Backup(cut, "anna", filepath.Join(dir, "cut.db")); err == nil {
		t.Error("a backup that was cut off is there")
	}
	if left, _ := filepath.Glob(filepath.Join(dir, "cut.db*")); len(left) > 0 {
		t.Error("left:", left)
	}

	r := open(t, Options{URL: "sqlite:" + file})
	if d := stateOf(t, r, waits.Delivery); d.State != core.StateQueued || !d.Head {
		t.Errorf("%+v", d.DeliveryRow)
	}
	if n := number(t, r, "select count(*) from events"); n != b.Events {
		t.Errorf("%d events, and it says %d", n, b.Events)
	}
	if n := number(t, r, "select count(*) from audit a where n > 1 and not exists (select 1 from audit b where b.chain = a.chain and b.n = a.n - 1)"); n != 0 {
		t.Error("the audit has gaps:", n)
	}
}

func TestBackupOffline(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	o := Options{URL: "sqlite:" + filepath.Join(dir, "journal.db")}
	ctx := context.Background()
	if _, err := BackupOffline(ctx, o, "anna", filepath.Join(dir, "b.db")); err == nil || !strings.Contains(err.Error(), "there is none") {
		t.Error(err)
	}
	s := open(t, o)
	begin1(t, s, "1", false)
	var locked *LockedError
	if _, err := BackupOffline(ctx, o, "anna", filepath.Join(dir, "b.db")); !errors.As(err, &locked) || locked.PID != os.Getpid() {
		t.Error(err)
	}
	if _, err := Vacuum(ctx, o, "anna"); !errors.As(err, &locked) || locked.PID != os.Getpid() {
		t.Error(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	b, err := BackupOffline(ctx, o, "anna", filepath.Join(dir, "b.db"))
	if err != nil || b.Events != 1 || !b.Audited {
		t.Fatal(b, err)
	}
	if lines := auditOf(t, open(t, o), `"what":"backup"`, `"actor":"anna"`); len(lines) != 1 {
		t.Errorf("audit: %q", lines)
	}
}

func TestBackupOfPostgres(t *testing.T) {
	t.Parallel()
	onPostgres(t, func(t *testing.T, url string) {
		s := open(t, Options{URL: url})
		_, err := s.Backup(context.Background(), "anna", "/tmp/it's.dump")
		if err == nil || !strings.Contains(err.Error(), `pg_dump --format=custom --host=`) || !strings.Contains(err.Error(), `--file='/tmp/it'\''s.dump'`) {
			t.Error(err)
		}
		withPassword := strings.Replace("postgres://hookline:s3cret@127.0.0.1:5432/test", "s3cret", "pa55", 1)
		_, err = BackupOffline(context.Background(), Options{URL: withPassword}, "anna", "/tmp/x")
		if err == nil || strings.Contains(err.Error(), "pa55") || !strings.Contains(err.Error(), "--username=hookline --file=/tmp/x test") {
			t.Error(err)
		}
		if v, err := Vacuum(context.Background(), Options{URL: url}, "anna"); err != nil || v.Engine != "postgres" {
			t.Error(v, err)
		}
		if lines := auditOf(t, s, `"what":"vacuum"`); len(lines) != 1 {
			t.Errorf("audit: %q", lines)
		}
	})
}

func TestVacuum(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	path := filepath.Join(dir, "journal.db")
	o := Options{URL: "sqlite:" + path}
	s := open(t, o)
	var last *core.Delivery
	for i := range 300 {
		last = aged(t, s, hook, fmt.Sprint(i), 2*pruneDay, delivered)
	}
	if got := prune(t, s, false, Retention{Hook: hook.Name, Events: pruneDay}); got[0].Events != 299 {
		t.Fatalf("%+v", got)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	v, err := Vacuum(context.Background(), o, "anna")
	if err != nil || v.After >= v.Before {
		t.Fatalf("%+v, %v", v, err)
	}
	s = open(t, o)
	if d := stateOf(t, s, last); d.State != core.StateDelivered {
		t.Errorf("%+v", d.DeliveryRow)
	}
	if lines := auditOf(t, s, `"t":"care"`, `"what":"vacuum"`); len(lines) != 1 {
		t.Errorf("audit: %q", lines)
	}
	if lines := auditOf(t, s, `"t":"prune"`); len(lines) == 0 {
		t.Error("the audit from before is gone")
	}
	if left, _ := filepath.Glob(path + ".vacuum*"); len(left) > 0 {
		t.Error("left:", left)
	}
}

func TestStats(t *testing.T) {
	onEach(t, func(t *testing.T, url string) {
		s := open(t, Options{URL: url})
		ctx := context.Background()
		st, err := s.Stats(ctx)
		if err != nil || st.Events != 0 || st.Oldest != nil || st.OldestOpen != nil || st.Schema != newest("sqlite") {
			t.Fatalf("empty: %+v, %v", st, err)
		}
		first := aged(t, s, hook, "old", 2*pruneDay, delivered)
		want := map[core.State]int64{core.StateDelivered: 1}
		var open *core.Delivery
		for i, state := range []core.State{
			core.StateDead, core.StateWaiting, core.StateQueued, core.StateRunning, core.StateUnknown, core.StateHeld,
			core.StateSkipped, core.StateRejected, core.StateCancelled,
		} {
			d := inState(t, s, state, fmt.Sprint(i))
			want[state]++
			if open == nil && state == core.StateWaiting {
				open = d
			}
		}
		check := func(st *Stats, err error) {
			t.Helper()
			if err != nil {
				t.Fatal(err)
			}
			if st.Events != 10 || st.Attempts != 1 || st.Audit == 0 || fmt.Sprint(st.Deliveries) != fmt.Sprint(want) {
				t.Errorf("%+v, want %v", st, want)
			}
			if st.Oldest == nil || st.Oldest.ID != first.Event.ID || !st.Oldest.ReceivedAt.Equal(first.Event.ReceivedAt) || st.Newest.ID == first.Event.ID {
				t.Errorf("%+v %+v", st.Oldest, st.Newest)
			}
			if st.OldestOpen == nil || st.OldestOpen.ID != open.ID || st.OldestOpen.Event != open.Event.ID || st.OldestOpen.State != core.StateWaiting {
				t.Errorf("%+v", st.OldestOpen)
			}
			if st.Tables["events"] == 0 {
				t.Errorf("%+v", st.Tables)
			}
		}
		check(s.Stats(ctx))
		if s.single && url == "memory:" {
			return
		}
		st, err = ReadStats(ctx, Options{URL: url}) // beside the daemon
		check(st, err)
		if st.Bytes == 0 || st.Engine == "sqlite" && (st.Pages == 0 || st.Disk == nil) {
			t.Errorf("%+v", st)
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		check(ReadStats(ctx, Options{URL: url}))
		if path, ok := strings.CutPrefix(url, "sqlite:"); ok {
			for _, name := range []string{"-wal", "-shm"} {
				if _, err := os.Stat(path + name); !os.IsNotExist(err) {
					t.Errorf("%s was made to read it", name)
				}
			}
		}
	})
	if _, err := ReadStats(t.Context(), Options{URL: sqliteURL(t)}); err == nil {
		t.Error("a journal that is not there has stats")
	}
}

// version1 makes a journal as the version before wrote it, with one delivery that
// waits and one that has ended.
func version1(t *testing.T, url string) {
	t.Helper()
	older(t, url, 1)
}

// older makes one with the schema of a version, and has also done to it.
func older(t *testing.T, url string, version int64, also ...string) {
	t.Helper()
	var db *sql.DB
	dialect, folder := goose.DialectPostgres, "postgres"
	literal := func(text string) string { return fmt.Sprintf(`'\x%x'`, text) }
	if path, ok := strings.CutPrefix(url, "sqlite:"); ok {
		var err error
		if db, err = sql.Open("sqlite", fileURI(path)); err != nil {
			t.Fatal(err)
		}
		dialect, folder = goose.DialectSQLite3, "sqlite"
		literal = func(text string) string { return fmt.Sprintf("x'%x'", text) }
	} else {
		db = openSQL(t, url)
	}
	defer func() { _ = db.Close() }()
	upTo(t, dialect, folder, db, version)
	now := time.Now().UnixMicro()
	for i, d := range []struct{ state, head, due, ended string }{
		{"waiting", "1", fmt.Sprint(now), "null"},
		{"delivered", "0", "null", fmt.Sprint(now)},
	} {
		for _, text := range []string{
			fmt.Sprintf(`insert into events (id, ref, hook, study, stage, kind, trans_id, form_id, form_name, wf_id, wf_name, received_at, traceparent, body)
				values ('e%d', 'r%d', 'study-a', '', 'uat', 'update', '%d', '7', '', '', '', %d, '', '{}')`, i, i, i, now),
			fmt.Sprintf(`insert into deliveries (id, event_seq, hook, route, lane, head, open, state, due_at, wait, attempts, sent, shape, script, revision,
					created_at, updated_at, ended_at)
				select 'd%d', seq, 'study-a', 'r', 'lane-%d', %s, %s, '%s', %s, 0, 1, 0, 2, '', '', %d, %d, %s from events where id = 'e%d'`,
				i, i, d.head, d.head, d.state, d.due, now, now, d.ended, i),
			fmt.Sprintf("insert into acts (at, actor, act, delivery_seq, reason, was, now) values (%d, 'anna', 'retry', 1, '', 'dead', 'queued')", now+int64(i)),
			fmt.Sprintf("insert into accepted (node, revision, config_sha, scripts, at) values ('n', 'r%d', '%x', '{}', %d)", i, sha256.Sum256(fmt.Append(nil, i)), now+int64(i)),
			fmt.Sprintf("insert into documents (sha, content, at) values ('%x', %s, %d)", sha256.Sum256(fmt.Append(nil, i)), literal(fmt.Sprint(i)), now),
		} {
			if _, err := db.Exec(text); err != nil {
				t.Fatal(err)
			}
		}
	}
	for _, text := range also {
		if _, err := db.Exec(text); err != nil {
			t.Fatal(err)
		}
	}
}

func TestMigrationFromVersion1(t *testing.T) {
	onDurable(t, func(t *testing.T, url string) {
		version1(t, url)
		path, sqlite := strings.CutPrefix(url, "sqlite:")
		if sqlite { // what is made before an upgrade does not upgrade
			file := filepath.Join(t.TempDir(), "backup.db")
			b, err := BackupOffline(t.Context(), Options{URL: url}, "anna", file)
			if err != nil || b.Events != 2 || b.Audited {
				t.Fatal(b, err)
			}
			if _, err := Vacuum(t.Context(), Options{URL: url}, "anna"); err == nil || !strings.Contains(err.Error(), "start it once") {
				t.Error(err)
			}
		}
		st, err := ReadStats(t.Context(), Options{URL: url})
		if err != nil || st.Schema != 1 || st.Events != 2 || st.Deliveries[core.StateDelivered] != 1 {
			t.Fatalf("%+v, %v", st, err)
		}
		s := open(t, Options{URL: url})
		if sqlite {
			old, err := Inspect(t.Context(), Options{URL: "sqlite:" + path + ".before-v2.bak"}, false)
			if err != nil || old.Have != 1 {
				t.Errorf("the copy from before: %+v, %v", old, err)
			}
		}
		got := claim(t, s, "r", 9)
		if len(got) != 1 || got[0].ID != "d0" || string(got[0].Event.Body) != "{}" || got[0].Attempts != 1 {
			t.Fatalf("claimed %+v", got)
		}
		if p := settle(t, s, got[0], delivered); p.err != nil {
			t.Fatal(p.err)
		}
		if d := stateOf(t, s, got[0]); d.State != core.StateDelivered {
			t.Errorf("%+v", d.DeliveryRow)
		}
		if lines := auditOf(t, s, `"t":"delivery"`, `"delivery":"d0"`, `"state":"delivered"`); len(lines) == 0 {
			t.Error("the audit does not go on with it")
		}
		if ended, err := s.Event(t.Context(), "e1"); err != nil || ended.Deliveries[0].State != core.StateDelivered {
			t.Errorf("%+v, %v", ended, err)
		}
		if n := number(t, s, "select count(*) from events where pruned = 0 and salt is null and revision = ''"); n != 2 {
			t.Error("events of before:", n)
		}
		// What is new stands beside what the audit cannot tell of.
		if err := s.Accept(t.Context(), Set{Node: "n", Revision: "new", Config: []byte("new")}); err != nil {
			t.Fatal(err)
		}
		if v := verified(t, s); len(v.Findings) > 0 || v.Before != 7 { // 2 events, acts and sets; d0 has a version since
			t.Errorf("%+v", v)
		}
	})
}

// A journal from before records were read takes them, for what it held as well.
func TestMigrationFromVersion2(t *testing.T) {
	onDurable(t, func(t *testing.T, url string) {
		older(t, url, 2, "update deliveries set reason = 'Jane Doe', position = 'a.js:1:2'", "update events set pruned = 3 where id = 'e1'")
		if _, err := OpenReader(t.Context(), url); err == nil || !strings.Contains(err.Error(), "its schema has version 2 and this Hookline reads 3") {
			t.Error(err)
		}
		s := open(t, Options{URL: url})
		if path, ok := strings.CutPrefix(url, "sqlite:"); ok {
			old, err := Inspect(t.Context(), Options{URL: "sqlite:" + path + ".before-v3.bak"}, false)
			if err != nil || old.Have != 2 {
				t.Errorf("the copy from before: %+v, %v", old, err)
			}
		}
		if n := number(t, s, "select count(*) from deliveries where reason <> '' or position <> ''"); n != 1 {
			t.Errorf("%d deliveries have a reason: one of an event whose contents were pruned was to lose it", n)
		}
		got := claim(t, s, "r", 9)
		if len(got) != 1 || got[0].ID != "d0" {
			t.Fatalf("claimed %+v", got)
		}
		got[0].Snapshot, got[0].Contents = &core.Snapshot{Record: []byte("{}"), ReadAt: time.Now()}, []core.Content{{Payload: []byte("x")}}
		if err := s.Shaped(t.Context(), got[0]); err != nil {
			t.Fatal(err)
		}
		if p := settle(t, s, got[0], delivered); p.err != nil {
			t.Fatal(p.err)
		}
		if n := number(t, s, "select count(*) from snapshots where hook = 'study-a'"); n != 1 {
			t.Errorf("%d snapshots", n)
		}
		if v := verified(t, s); len(v.Findings) > 0 {
			t.Error(v.Findings)
		}
	})
}

func openSQL(t *testing.T, url string) *sql.DB {
	t.Helper()
	config, err := pgx.ParseConfig(url)
	if err != nil {
		t.Fatal(err)
	}
	return pgSQL(config)
}

func upTo(t *testing.T, dialect goose.Dialect, folder string, db *sql.DB, version int64) {
	t.Helper()
	p, err := provider(dialect, folder, db)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := p.UpTo(t.Context(), version); err != nil {
		t.Fatal(err)
	}
}
