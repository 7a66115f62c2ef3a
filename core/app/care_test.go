package app_test

import (
	"context"
	"database/sql"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/hookline/hookline/core"
	"github.com/hookline/hookline/core/admin"
	"github.com/hookline/hookline/core/app"
)

func (d *daemon) operator() *admin.Client {
	return admin.NewClient(filepath.Join(d.dir, "hookline-admin.sock"))
}

// inJournal runs one statement beside a running daemon.
func (d *daemon) inJournal(text string, args ...any) {
	d.t.Helper()
	db, err := sql.Open("sqlite", "file:"+filepath.Join(d.dir, "hookline.db")+"?_pragma=busy_timeout(5000)")
	if err != nil {
		d.t.Fatal(err)
	}
	defer func() { _ = db.Close() }()
	if _, err := db.Exec(text, args...); err != nil {
		d.t.Fatal(err)
	}
}

// The steps of docs/operating.md: what came before the backup is there, what was
// open goes on, and the audit with it.
func TestRestore(t *testing.T) {
	t.Parallel()
	ehr := newOutage(t)
	d := start(t, preamble+route("ehr", ehr.url, quick, ""))
	const before = 20
	var kept []string
	for n := range before {
		kept = append(kept, d.send(call{body: save(fmt.Sprint(n), 1)}).EventID)
	}
	stop := make(chan struct{})
	var sending sync.WaitGroup
	during := 0
	sending.Go(func() {
		for n := before; ; n++ {
			select {
			case <-stop:
				return
			default:
			}
			d.send(call{body: save(fmt.Sprint(n), 1)})
			during++
		}
	})
	file := filepath.Join(d.dir, "backup.db")
	b, err := d.operator().Backup(t.Context(), file)
	close(stop)
	sending.Wait()
	if err != nil || b.Events < before || !b.Audited {
		t.Fatal(b, err)
	}
	if during == 0 {
		t.Error("nothing came during the backup")
	}

	d.app.Stop()
	db := filepath.Join(d.dir, "hookline.db")
	for _, suffix := range []string{"", "-wal", "-shm"} {
		if err := os.Rename(db+suffix, db+".old"+suffix); err != nil && !os.IsNotExist(err) {
			t.Fatal(err)
		}
	}
	content, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(db, content, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := d.boot(); err != nil {
		t.Fatal(err)
	}

	ehr.up()
	events := int(b.Events)
	eventually(t, "all that was open at the backup", func() bool { return len(ehr.got()) >= events })
	st, err := d.operator().Stats(t.Context())
	if err != nil || st.Events != b.Events {
		t.Errorf("%+v, %v; the backup has %d events", st, err, b.Events)
	}
	after := d.update("319", "delivered")
	s := d.stopAndRead()
	for _, id := range append(kept, after.EventID) {
		ev, err := s.Event(context.Background(), id)
		if err != nil {
			t.Fatal(err)
		}
		if got := ev.Deliveries[0].State; got != core.StateDelivered {
			t.Errorf("event %s is %s", id, got)
		}
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	assertChains(t, db)
}

// assertChains looks that no row of the audit is missing but at a chain's end.
func assertChains(t *testing.T, path string) {
	t.Helper()
	db, err := sql.Open("sqlite", "file:"+path)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = db.Close() }()
	var rows, chains, gaps int
	err = db.QueryRow(`select count(*), count(distinct chain),
		count(case when n > 1 and not exists (select 1 from audit b where b.chain = a.chain and b.n = a.n - 1) then 1 end)
		from audit a`).Scan(&rows, &chains, &gaps)
	if err != nil || gaps > 0 || chains < 2 || rows < chains {
		t.Errorf("%d rows in %d chains, %d gaps: %v", rows, chains, gaps, err)
	}
}

// A hook's retention is what is pruned by, on demand and after a reload; hooks
// without one, and those that are gone, keep all.
func TestRetention(t *testing.T) {
	ehr := newTarget(t, nil)
	hook := func(name, more string) string {
		return "[hooks." + name + "]\nanonymous = true\n" + more + "\n"
	}
	text := strings.Replace(preamble+route("ehr", ehr.url, "", ""), `hooks = ["demo"]`, `hooks = ["*"]`, 1)
	d := start(t, text+hook("short", "")+hook("gone", ""))
	ids := map[string]string{}
	for _, name := range []string{"demo", "short", "gone"} {
		ids[name] = d.send(call{hook: name, body: save("1", 1)}).EventID
	}
	d.inJournal("update events set received_at = received_at - ?", (40 * 24 * time.Hour).Microseconds())
	if got, err := d.operator().Prune(t.Context(), false, nil); err != nil || len(got) != 0 {
		t.Fatal(got, err)
	}
	d.reload(text + hook("short", `retention = { payloads = "30d", sent = "5w", events = "1y" }`))
	want := []admin.Pruned{{Hook: "short", What: "events"}, {Hook: "short", What: "payloads", Events: 1}, {Hook: "short", What: "sent", Events: 1}}
	for _, dry := range []bool{true, false} {
		if got, err := d.operator().Prune(t.Context(), dry, nil); err != nil || !slices.Equal(got, want) {
			t.Fatalf("dry %t: %+v, %v", dry, got, err)
		}
	}
	for name, id := range ids {
		body, err := d.operator().Body(t.Context(), id)
		if gone := err != nil || len(body) == 0; gone != (name == "short") {
			t.Errorf("hook %s: %q, %v", name, body, err)
		}
	}
	d.logs.wait(t, "pruning was asked for", "pruned=2")
}

// Nobody has to ask.
func TestRetentionByItself(t *testing.T) {
	defer app.SetPruneEvery(10 * time.Millisecond)()
	d := prepare(t, strings.Replace(preamble, "timeout", "retention = { payloads = \"30d\" }\ntimeout", 1)+route("ehr", newTarget(t, nil).url, "", ""))
	if err := d.boot(); err != nil {
		t.Fatal(err)
	}
	d.update("319", "delivered")
	d.inJournal("update events set received_at = received_at - ?", (40 * 24 * time.Hour).Microseconds())
	stop := d.serve()
	d.logs.wait(t, "pruned, as retention says", "hook=demo", "what=payloads", "events=1")
	if err := stop(); err != nil {
		t.Error(err)
	}
}

// A stop does not wait for a backup.
func TestStopEndsABackup(t *testing.T) {
	d := start(t, preamble+route("ehr", newTarget(t, nil).url, "", ""))
	d.inJournal(`with recursive n(i) as (select 1 union all select i + 1 from n where i < 64)
		insert into documents (sha, content, at) select 'big' || i, zeroblob(1000000), 0 from n`)
	file := filepath.Join(d.dir, "backup.db")
	done := make(chan error, 1)
	go func() {
		_, err := d.operator().Backup(context.Background(), file)
		done <- err
	}()
	eventually(t, "the backup to begin", func() bool { _, err := os.Stat(file + ".part"); return err == nil })
	d.app.Stop()
	if err := <-done; err == nil {
		t.Error("it was made all the same")
	}
	if left, _ := filepath.Glob(file + "*"); len(left) > 0 {
		t.Error("left:", left)
	}
}
