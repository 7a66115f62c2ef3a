package journal

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/hookline/hookline/core"
	"github.com/hookline/hookline/plugins/transport"
)

func TestEvents(t *testing.T) {
	onEach(t, func(t *testing.T, url string) {
		s := open(t, Options{URL: url})
		ctx := context.Background()
		var all []*core.Event
		for i := range 7 {
			all = append(all, begin1(t, s, fmt.Sprint(i%2), false).Event)
		}
		bad := newEvent("")
		bad.Kind, bad.Body = "", []byte("nonsense\x00")
		if err := s.Refused(ctx, bad, core.InvalidBody, "trans_id", "is missing"); err != nil {
			t.Fatal(err)
		}
		var got []string
		cursor, pages := "", 0
		for {
			rows, next, err := s.Events(ctx, EventFilter{Limit: 3, Cursor: cursor})
			if err != nil {
				t.Fatal(err)
			}
			pages++
			for _, r := range rows {
				got = append(got, r.ID)
			}
			if cursor = next; cursor == "" {
				break
			}
		}
		if len(got) != 8 || got[0] != bad.ID || got[7] != all[0].ID || pages != 3 {
			t.Errorf("%d pages: %v", pages, got)
		}
		for name, c := range map[string]struct {
			f EventFilter
			n int
		}{
			"hook":      {EventFilter{Hook: hook.Name}, 8},
			"no hook":   {EventFilter{Hook: "x"}, 0},
			"kind":      {EventFilter{Kind: core.Review}, 7},
			"form id":   {EventFilter{Form: "7"}, 8},
			"form name": {EventFilter{Form: "Labs / Chemistry"}, 8},
			"record":    {EventFilter{Record: "1"}, 3},
			"refused":   {EventFilter{Refused: true}, 1},
			"since":     {EventFilter{Since: all[5].ReceivedAt}, 3},
			"until":     {EventFilter{Until: all[0].ReceivedAt}, 0},
		} {
			rows, next, err := s.Events(ctx, c.f)
			if err != nil || len(rows) != c.n || next != "" {
				t.Errorf("%s: %d rows, want %d; next %q, %v", name, len(rows), c.n, next, err)
			}
		}
		if _, _, err := s.Events(ctx, EventFilter{Limit: 1001}); err == nil {
			t.Error("limit 1001")
		}
		if _, _, err := s.Events(ctx, EventFilter{Cursor: "!"}); err == nil {
			t.Error("cursor !")
		}

		d, err := s.Event(ctx, strings.ToLower(bad.Ref))
		if err != nil || d.ID != bad.ID || d.Refused == nil || *d.Refused != (Refusal{core.InvalidBody, "trans_id", "is missing"}) || d.Size != 9 {
			t.Errorf("%+v %v", d, err)
		}
		// Of an event everything comes back.
		d, err = s.Event(ctx, all[3].ID)
		if err != nil {
			t.Fatal(err)
		}
		want := *all[3]
		want.Salt = [16]byte{} // nobody needs it again
		want.Body = nil
		if !reflect.DeepEqual(*d.Event, want) || d.Answer != nil || len(d.Deliveries) != 1 {
			t.Errorf("%+v\nwant %+v", *d.Event, want)
		}
		if _, err := s.Event(ctx, "nothing"); !errors.Is(err, ErrNotFound) {
			t.Error(err)
		}
		if _, err := s.Body(ctx, "nothing"); !errors.Is(err, ErrNotFound) {
			t.Error(err)
		}

		a := core.AnswerRecord{Status: 502, Code: transport.ConnectionRefused, Detail: "x\x00", Gone: 3 * time.Second}
		s.Answered(all[3], a)
		s.Answered(newEvent("not in the journal"), a)
		a.Detail = "x\uFFFD"
		eventually(t, "answer written", func() bool {
			d, err := s.Event(ctx, all[3].Ref)
			return err == nil && d.Answer != nil && d.Answer.AnswerRecord == a && !d.Answer.At.IsZero()
		})
	})
}

func TestDeliveries(t *testing.T) {
	onEach(t, func(t *testing.T, url string) {
		s := open(t, Options{URL: url})
		ctx := context.Background()
		one := begin(t, s, "1", true, "r", "q")
		two := begin(t, s, "2", false, "r")
		settle(t, s, one[0].Delivery, dead)
		for name, c := range map[string]struct {
			f DeliveryFilter
			n int
		}{
			"all":    {DeliveryFilter{}, 3},
			"hook":   {DeliveryFilter{Hook: "x"}, 0},
			"route":  {DeliveryFilter{Route: "r"}, 2},
			"record": {DeliveryFilter{Record: "2"}, 1},
			"states": {DeliveryFilter{States: []core.State{core.StateDead, core.StateQueued}}, 2},
			"code":   {DeliveryFilter{Code: transport.RejectedByTarget}, 1},
			"event":  {DeliveryFilter{Event: one[0].Event.ID}, 2},
			"ref":    {DeliveryFilter{Event: two[0].Event.Ref}, 1},
		} {
			rows, next, err := s.Deliveries(ctx, c.f)
			if err != nil || len(rows) != c.n || next != "" {
				t.Errorf("%s: %d rows, want %d; next %q, %v", name, len(rows), c.n, next, err)
			}
		}
		rows, next, err := s.Deliveries(ctx, DeliveryFilter{Limit: 2})
		if err != nil || len(rows) != 2 || next == "" || rows[0].ID != two[0].ID {
			t.Fatal(rows, next, err)
		}
		rows, next, err = s.Deliveries(ctx, DeliveryFilter{Limit: 2, Cursor: next})
		if err != nil || len(rows) != 1 || next != "" || rows[0].ID != one[0].ID {
			t.Fatal(rows, next, err)
		}
	})
}

func TestAccepted(t *testing.T) {
	onEach(t, func(t *testing.T, url string) {
		s := open(t, Options{URL: url})
		ctx := context.Background()
		if _, err := s.Accepted(ctx, "n"); !errors.Is(err, ErrNotFound) {
			t.Fatal(err)
		}
		old := Set{Node: "n", Revision: "1", Config: []byte("a"), Scripts: map[string][]byte{"x.js": []byte("same")}}
		set := Set{Node: "n", Revision: "2", Config: []byte("b\x00"), Scripts: map[string][]byte{
			"x.js": []byte("same"), "y/z.js": []byte("same"), "e.js": {},
		}, Lookups: map[string][]byte{"sites.csv": []byte("a,b\n"), "same.json": []byte("same")}}
		for _, a := range []Set{old, set, {Node: "other", Revision: "3"}} {
			if err := s.Accept(ctx, a); err != nil {
				t.Fatal(err)
			}
		}
		got, err := s.Accepted(ctx, "n")
		if err != nil || got.AcceptedAt.IsZero() {
			t.Fatal(err)
		}
		got.AcceptedAt = time.Time{}
		if !reflect.DeepEqual(*got, set) {
			t.Errorf("%+v", got)
		}
	})
}

func TestReopen(t *testing.T) {
	onDurable(t, func(t *testing.T, url string) {
		l := &logs{}
		s := open(t, Options{URL: url, Log: l.logger()})
		if !strings.Contains(l.String(), "new journal") {
			t.Error("not announced:", l)
		}
		a, b := begin1(t, s, "1", true), begin1(t, s, "1", false)
		s.Settle(a.Delivery, delivered)
		for range 2 {
			if err := s.Close(); err != nil {
				t.Fatal(err)
			}
		}
		if err := s.Begin(context.Background(), &core.Entry{Event: newEvent("1")}); !errors.Is(err, ErrClosed) {
			t.Error(err)
		}
		got := make(chan error, 1)
		s.Settle(b.Delivery, core.Settlement{Settled: func(_ core.Promotion, err error) { got <- err }})
		if err := receive(t, got); !errors.Is(err, ErrUnavailable) {
			t.Error(err)
		}
		l = &logs{}
		s = open(t, Options{URL: url, Log: l.logger()})
		if strings.Contains(l.String(), "new journal") {
			t.Error("announced again")
		}
		if d := stateOf(t, s, a.Delivery); d.State != core.StateDelivered {
			t.Errorf("%+v", d.DeliveryRow)
		}
		if got := claim(t, s, "r", 9); len(got) != 1 || got[0].ID != b.ID {
			t.Error("claimed", got)
		}
	})
}

func TestKilledDaemon(t *testing.T) {
	file := filepath.Join(t.TempDir(), "journal.db")
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), "HOOKLINE_TEST_CHILD="+file)
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	line, err := bufio.NewReader(out).ReadString('\n')
	id, ok := strings.CutPrefix(strings.TrimSpace(line), "begun ")
	if err != nil || !ok {
		t.Fatal(line, err)
	}
	var locked *LockedError
	if _, err := Open(context.Background(), Options{URL: "sqlite:" + file}); !errors.As(err, &locked) || locked.PID != cmd.Process.Pid || locked.File != file+".lock" {
		t.Errorf("a second daemon: %v", err)
	}
	_ = cmd.Process.Kill()
	_ = cmd.Wait()

	s := open(t, Options{URL: "sqlite:" + file})
	if n, err := s.Recover(context.Background(), nil); n != 1 || err != nil {
		t.Fatal(n, err)
	}
	ev, err := s.Event(context.Background(), id)
	if err != nil || len(ev.Deliveries) != 1 || ev.Deliveries[0].State != core.StateUnknown {
		t.Fatalf("%+v %v", ev, err)
	}
	if got := claim(t, s, "r", 9); len(got) != 1 || got[0].ID != ev.Deliveries[0].ID {
		t.Error("claimed", got)
	}
}

func TestOpenErrors(t *testing.T) {
	ctx := context.Background()
	dir := t.TempDir()
	for url, want := range map[string]string{
		"":                                    "journal.url must begin with",
		"mysql://x":                           "journal.url must begin with",
		"sqlite:":                             "names no file",
		"sqlite:" + dir + "/no/journal.db":    "folder " + dir + "/no does not exist",
		"sqlite:" + dir:                       "",
		"postgres://u:hunter2%zz@h/db":        "is not a Postgres URL",
		"postgres://u:hunter2@127.0.0.1:1/db": "cannot be reached",
	} {
		s, err := Open(ctx, Options{URL: url})
		if err == nil {
			_ = s.Close()
			t.Errorf("%s was opened", url)
			continue
		}
		if !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "hunter2") {
			t.Errorf("%s: %v", url, err)
		}
	}
}

func TestFiles(t *testing.T) {
	file := filepath.Join(t.TempDir(), "a b?c#d%20.db")
	s := open(t, Options{URL: "sqlite:" + file})
	begin1(t, s, "1", true)
	for _, suffix := range []string{"", "-wal", "-shm", ".lock"} {
		info, err := os.Stat(file + suffix)
		if err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("%s: %v %v", suffix, info, err)
		}
	}
	var locked *LockedError
	if _, err := Open(context.Background(), Options{URL: "sqlite:" + file}); !errors.As(err, &locked) || locked.PID != os.Getpid() {
		t.Errorf("a second one: %v", err)
	}
}

func TestNewerSchema(t *testing.T) {
	onDurable(t, func(t *testing.T, url string) {
		s := open(t, Options{URL: url})
		if err := raw(s, "insert into goose_db_version (version_id, is_applied) values (99, "+
			map[bool]string{true: "1", false: "true"}[strings.HasPrefix(url, "sqlite")]+")"); err != nil {
			t.Fatal(err)
		}
		_ = s.Close()
		var newer *NewerSchemaError
		if _, err := Open(context.Background(), Options{URL: url}); !errors.As(err, &newer) || newer.Have != 99 || newer.Know != 3 {
			t.Fatal(err)
		}
	})
}

func TestBackup(t *testing.T) {
	file := filepath.Join(t.TempDir(), "it's.db")
	s := open(t, Options{URL: "sqlite:" + file})
	p := begin1(t, s, "1", true)
	l := &logs{}
	for range 2 { // the second one must not replace the first
		if err := backup(context.Background(), s.engine.(*sqliteEngine).pool, file, 1, l.logger()); err != nil {
			t.Fatal(err)
		}
	}
	for _, name := range []string{file + ".before-v2.bak", file + ".before-v2.2.bak"} {
		if info, err := os.Stat(name); err != nil || info.Mode().Perm() != 0o600 {
			t.Fatal(info, err)
		}
		b := open(t, Options{URL: "sqlite:" + name})
		if got := stateOf(t, b, p.Delivery); got.State != core.StateRunning {
			t.Errorf("%+v", got.DeliveryRow)
		}
	}
	if strings.Count(l.String(), "copied before its migration") != 2 {
		t.Error(l)
	}
}

func TestMinFree(t *testing.T) {
	l := &logs{}
	open(t, Options{URL: sqliteURL(t), MinFree: 1 << 62, Log: l.logger()})
	if strings.Count(l.String(), "getting full") != 1 {
		t.Error(l)
	}
	d := &diskWatch{dir: t.TempDir(), min: 1, low: true, log: l.logger()}
	d.look()
	d.look()
	if strings.Count(l.String(), "has room again") != 1 {
		t.Error(l)
	}
}

// Depths counts open deliveries, heads and those behind them, and nothing that has
// ended.
func TestDepths(t *testing.T) {
	onEach(t, func(t *testing.T, url string) {
		s := open(t, Options{URL: url})
		running := begin1(t, s, "1", true)
		begin1(t, s, "1", true) // behind it
		ended := begin1(t, s, "2", true)
		settled := make(chan error, 1)
		s.Settle(ended.Delivery, core.Settlement{
			State: core.StateDelivered, Code: transport.Delivered, Due: -1,
			Settled: func(_ core.Promotion, err error) { settled <- err },
		})
		if err := <-settled; err != nil {
			t.Fatal(err)
		}
		got, err := s.Depths(context.Background())
		if err != nil {
			t.Fatal(err)
		}
		counts := map[core.State]int{}
		for _, d := range got {
			if d.Route != running.Route || d.Oldest < 0 || d.Oldest > time.Minute {
				t.Errorf("%+v", d)
			}
			counts[d.State] = d.Count
		}
		if want := map[core.State]int{core.StateRunning: 1, core.StateQueued: 1}; !reflect.DeepEqual(counts, want) {
			t.Errorf("got %v, want %v", counts, want)
		}
	})
}
