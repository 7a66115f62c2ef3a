package journal

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/hookline/hookline/core"
	"github.com/hookline/hookline/plugins/transport"
)

const pruneDay = 24 * time.Hour

// aged is an event of a hook that came some time ago, with one delivery that was
// shaped, attempted and has ended as set says.
func aged(t *testing.T, s *Store, h *core.Hook, record string, age time.Duration, set core.Settlement, logs ...string) *core.Delivery {
	t.Helper()
	ev := newEvent(record)
	ev.Stamp(h, time.UnixMicro(time.Now().Add(-age).UnixMicro()))
	p := place(ev, "r", true)
	p.Shape = core.ShapeOpen
	e := &core.Entry{Event: ev, Deliveries: []*core.Placement{p}, Key: "key-" + ev.ID, KeyAge: time.Hour}
	if err := s.Begin(context.Background(), e); err != nil {
		t.Fatal(err)
	}
	s.Answered(ev, core.AnswerRecord{Status: 200, Code: transport.Delivered, Detail: "told"})
	p.Contents, p.Logs = []core.Content{{ContentType: "text/plain", Key: "k", Path: "p", Payload: []byte("sent")}}, logs
	if err := s.Shaped(context.Background(), p.Delivery); err != nil {
		t.Fatal(err)
	}
	p.Attempts, p.Sent = 1, 1
	set.Attempts = []core.Attempt{{N: 1, Start: time.Now(), Receipt: transport.Receipt{
		Effect: transport.Done, Code: transport.Delivered, TargetStatus: 200, ContentType: "text/x", Body: []byte("reply"), Detail: "words",
	}}}
	if got := settle(t, s, p.Delivery, set); got.err != nil {
		t.Fatal(got.err)
	}
	return p.Delivery
}

// number reads one number.
func number(t *testing.T, s *Store, text string, args ...any) (n int64) {
	t.Helper()
	switch e := s.engine.(type) {
	case *sqliteEngine:
		text, order := positional(text)
		var given []any
		for _, n := range order {
			given = append(given, args[n])
		}
		if err := readRows(context.Background(), e.pool, text, given, func(r row) { n = r.int(0) }); err != nil {
			t.Fatal(err)
		}
	case *postgresEngine:
		conn, err := e.reader.acquire(context.Background())
		if err != nil {
			t.Fatal(err)
		}
		defer e.reader.release(conn)
		if err := conn.QueryRow(context.Background(), text, args...).Scan(&n); err != nil {
			t.Fatal(err)
		}
	}
	return n
}

func prune(t *testing.T, s *Store, dry bool, rules ...Retention) []Pruned {
	t.Helper()
	got, err := s.Prune(context.Background(), rules, dry)
	if err != nil {
		t.Fatal(err)
	}
	return got
}

// auditOf are the lines of the audit that hold all of parts.
func auditOf(t *testing.T, s *Store, parts ...string) (lines []string) {
	t.Helper()
	each := func(r row) {
		for line := range strings.SplitSeq(r.str(0), "\n") {
			if !slices.ContainsFunc(parts, func(p string) bool { return !strings.Contains(line, p) }) {
				lines = append(lines, line)
			}
		}
	}
	const text = "select entries from audit order by seq"
	switch e := s.engine.(type) {
	case *sqliteEngine:
		if err := readRows(context.Background(), e.pool, text, nil, each); err != nil {
			t.Fatal(err)
		}
	case *postgresEngine:
		conn, err := e.reader.acquire(context.Background())
		if err != nil {
			t.Fatal(err)
		}
		defer e.reader.release(conn)
		rows, err := conn.Query(context.Background(), text)
		if err != nil {
			t.Fatal(err)
		}
		if err := eachRow(rows, each); err != nil {
			t.Fatal(err)
		}
	}
	return lines
}

func TestPruneParts(t *testing.T) {
	onEach(t, func(t *testing.T, url string) {
		s := open(t, Options{URL: url})
		d := aged(t, s, hook, "1", 3*pruneDay, delivered)
		young := aged(t, s, hook, "2", pruneDay, delivered)
		other := aged(t, s, &core.Hook{Name: "study-b"}, "3", 3*pruneDay, delivered)
		body := Retention{Hook: hook.Name, Payloads: 2 * pruneDay}
		for range 2 { // it changes nothing
			if got := prune(t, s, true, body); !slices.Equal(got, []Pruned{{hook.Name, PrunePayloads, 1, 0}}) {
				t.Fatalf("dry: %+v", got)
			}
		}
		if got := prune(t, s, false, body); !slices.Equal(got, []Pruned{{hook.Name, PrunePayloads, 1, 0}}) {
			t.Fatalf("%+v", got)
		}
		const mine = " from events where id = $1 and "
		if n := number(t, s, "select count(*)"+mine+"length(body) = 0 and pruned = 1 and salt is not null", d.Event.ID); n != 1 {
			t.Error("the body is still there, or the salt is gone too early")
		}
		const parts = `select (select count(*) from messages where delivery_seq = $1)
			+ (select count(*) from attempts where delivery_seq = $1 and length(reply) > 0 and detail <> '')`
		if n := number(t, s, parts, d.Seq); n != 2 {
			t.Error("what was sent went with what came")
		}
		both := Retention{Hook: hook.Name, Payloads: 2 * pruneDay, Sent: 2 * pruneDay}
		want := []Pruned{{hook.Name, PrunePayloads, 0, 0}, {hook.Name, PruneSent, 1, 0}}
		if got := prune(t, s, false, both); !slices.Equal(got, want) {
			t.Fatalf("%+v", got)
		}
		if n := number(t, s, "select count(*)"+mine+"pruned = 3 and salt is null", d.Event.ID); n != 1 {
			t.Error("the salt is still there")
		}
		if n := number(t, s, parts, d.Seq); n != 0 {
			t.Error("what was sent is still there")
		}
		if n := number(t, s, "select count(*) from attempts where delivery_seq = $1 and reply_type = 'text/x' and target_status = 200", d.Seq); n != 1 {
			t.Error("the attempt itself is gone")
		}
		for _, kept := range []*core.Delivery{young, other} {
			if n := number(t, s, parts, kept.Seq); n != 2 {
				t.Errorf("%s of hook %s was pruned", kept.Event.TransID, kept.Event.Hook.Name)
			}
			if n := number(t, s, "select count(*)"+mine+"pruned = 0 and length(body) > 0", kept.Event.ID); n != 1 {
				t.Errorf("%s of hook %s was pruned", kept.Event.TransID, kept.Event.Hook.Name)
			}
		}
		for _, what := range []string{PrunePayloads, PruneSent} {
			lines := auditOf(t, s, `"t":"prune"`, `"what":"`+what+`"`)
			if len(lines) != 1 || !strings.Contains(lines[0], `"events":["`+d.Event.ID+`"]`) || !strings.Contains(lines[0], `"actor":"retention"`) {
				t.Errorf("audit of %s: %q", what, lines)
			}
		}
	})
}

// enrichedAged is aged on a route that enriches.
func enrichedAged(t *testing.T, s *Store, record string, age time.Duration) *core.Delivery {
	t.Helper()
	ev := newEvent(record)
	ev.Stamp(hook, time.UnixMicro(time.Now().Add(-age).UnixMicro()))
	p := place(ev, "r", true)
	p.Shape = core.ShapeOpen
	if err := s.Begin(context.Background(), &core.Entry{Event: ev, Deliveries: []*core.Placement{p}}); err != nil {
		t.Fatal(err)
	}
	p.Snapshot = &core.Snapshot{Record: []byte(`{"read":1}`), ReadAt: time.Now()}
	p.Contents = []core.Content{{Payload: []byte("sent")}}
	if err := s.Shaped(context.Background(), p.Delivery); err != nil {
		t.Fatal(err)
	}
	if got := settle(t, s, p.Delivery, delivered); got.err != nil {
		t.Fatal(got.err)
	}
	return p.Delivery
}

func TestPruneEnriched(t *testing.T) {
	onEach(t, func(t *testing.T, url string) {
		s := open(t, Options{URL: url})
		ctx := context.Background()
		plain := aged(t, s, hook, "1", 3*pruneDay, delivered)
		d, second := enrichedAged(t, s, "2", 3*pruneDay), enrichedAged(t, s, "3", 3*pruneDay)
		young := enrichedAged(t, s, "4", pruneDay)
		const state = "select pruned * 10 + case when salt is null then 0 else 1 end from events where id = $1"
		of := func(d *core.Delivery) int64 { return number(t, s, state, d.Event.ID) }

		// The salt stays as long as a snapshot has a digest.
		contents := Retention{Hook: hook.Name, Payloads: 2 * pruneDay, Sent: 2 * pruneDay}
		prune(t, s, false, contents)
		if of(plain) != 30 || of(d) != 31 || of(second) != 31 || of(young) != 1 {
			t.Fatalf("pruned and salt: %d %d %d %d", of(plain), of(d), of(second), of(young))
		}
		records := Retention{Hook: hook.Name, Enriched: 2 * pruneDay}
		want := []Pruned{{hook.Name, PruneEnriched, 2, 0}}
		for range 2 {
			if got := prune(t, s, true, records); !slices.Equal(got, want) {
				t.Fatalf("dry: %+v", got)
			}
		}
		if got := prune(t, s, false, records); !slices.Equal(got, want) {
			t.Fatalf("%+v", got)
		}
		if of(plain) != 30 || of(d) != 70 || of(young) != 1 || number(t, s, "select count(*) from snapshots") != 1 {
			t.Fatalf("pruned and salt: %d %d %d", of(plain), of(d), of(young))
		}
		if got := prune(t, s, false, records); got[0].Events != 0 {
			t.Fatalf("again: %+v", got)
		}
		if lines := auditOf(t, s, `"t":"prune"`, `"what":"enriched"`); len(lines) != 1 || !strings.Contains(lines[0], d.Event.ID) || strings.Contains(lines[0], plain.Event.ID) {
			t.Errorf("audit: %q", lines)
		}
		detail, err := s.Event(ctx, d.Event.ID)
		if err != nil {
			t.Fatal(err)
		}
		if got, err := s.Traces(ctx, detail); err != nil || !got.ReadPruned || len(got.Read) != 0 {
			t.Errorf("%+v %v", got, err)
		}

		// The other order, and a replay in between: what it reads is used and not kept.
		e := enrichedAged(t, s, "5", 3*pruneDay)
		prune(t, s, false, records)
		if of(e) != 41 {
			t.Fatalf("pruned and salt: %d", of(e))
		}
		res, err := s.Replay(ctx, "anna", "why", []string{e.ID}, Replay{Reshape: true})
		if err != nil || !res[0].OK {
			t.Fatal(res, err)
		}
		again, err := s.Claim(ctx, "r", false, 1)
		if err != nil || len(again) != 1 {
			t.Fatal(again, err)
		}
		again[0].Snapshot, again[0].Contents = d.Snapshot, []core.Content{{Payload: []byte("sent")}}
		if err := s.Shaped(ctx, again[0]); err != nil {
			t.Fatal(err)
		}
		settle(t, s, again[0], delivered)
		if n := number(t, s, "select count(*) from snapshots"); n != 1 {
			t.Errorf("%d snapshots", n)
		}
		prune(t, s, false, contents)
		if of(e) != 70 {
			t.Errorf("pruned and salt: %d", of(e))
		}
		enrichedAged(t, s, "6", 0)
		prune(t, s, false, Retention{Hook: hook.Name, Events: pruneDay})
		if n := number(t, s, "select count(*) from snapshots"); n != 1 {
			t.Errorf("%d snapshots after their events went", n)
		}
	})
}

func TestPruneEvents(t *testing.T) {
	onEach(t, func(t *testing.T, url string) {
		s := open(t, Options{URL: url})
		ctx := context.Background()
		d := aged(t, s, hook, "1", 20*pruneDay, dead)
		for range 2 {
			if res, err := s.Retry(ctx, "anna", "why", []string{d.ID}); err != nil || !res[0].OK {
				t.Fatal(res, err)
			}
			if res, err := s.Cancel(ctx, "anna", "why", []string{d.ID}); err != nil || !res[0].OK {
				t.Fatal(res, err)
			}
		}
		if err := s.Accept(ctx, Set{Node: "n", Revision: "1", Config: []byte("x")}); err != nil {
			t.Fatal(err)
		}
		refused := newEvent("")
		refused.Stamp(hook, time.Now().Add(-21*pruneDay))
		if err := s.Refused(ctx, refused, "invalid_event", "k", "r"); err != nil {
			t.Fatal(err)
		}
		all := Retention{Hook: hook.Name, Payloads: pruneDay, Sent: pruneDay, Events: 10 * pruneDay}
		want := []Pruned{{hook.Name, PruneEvents, 1, 0}, {hook.Name, PrunePayloads, 1, 0}, {hook.Name, PruneSent, 1, 0}}
		// The newest event stays, and the one with the newest delivery: their numbers
		// must not be given to others.
		want[0].Events = 0
		want[1].Events, want[2].Events = 2, 2
		if got := prune(t, s, false, all); !slices.Equal(got, want) {
			t.Fatalf("%+v", got)
		}
		young := aged(t, s, hook, "2", 0, delivered)
		want = []Pruned{{hook.Name, PruneEvents, 2, 0}, {hook.Name, PrunePayloads, 0, 0}, {hook.Name, PruneSent, 0, 0}}
		if got := prune(t, s, false, all); !slices.Equal(got, want) {
			t.Fatalf("%+v", got)
		}
		for table, n := range map[string]int64{
			"events": 1, "answers": 1, "deliveries": 1, "attempts": 1, "messages": 1, "acts": 0, "keys": 1, "documents": 1, "accepted": 1,
		} {
			if got := number(t, s, "select count(*) from "+table); got != n {
				t.Errorf("%s has %d rows, want %d", table, got, n)
			}
		}
		if _, err := s.Event(ctx, d.Event.ID); !errors.Is(err, ErrNotFound) {
			t.Error(err)
		}
		if _, err := s.Event(ctx, young.Event.ID); err != nil {
			t.Error(err)
		}
		if again := newEvent("1"); true { // its key is free again
			again.Stamp(hook, time.Now())
			e := &core.Entry{Event: again, Key: "key-" + d.Event.ID, KeyAge: time.Hour, Deliveries: []*core.Placement{place(again, "r", false)}}
			again.Body = []byte("another")
			if err := s.Begin(ctx, e); err != nil {
				t.Error(err)
			}
		}
		if lines := auditOf(t, s, `"t":"prune"`, `"what":"events"`); len(lines) != 1 ||
			!strings.Contains(lines[0], d.Event.ID) || !strings.Contains(lines[0], refused.ID) {
			t.Errorf("audit: %q", lines)
		}
	})
}

// What is open stays, and is found again when it has ended.
func TestPruneWaitsForTheOpen(t *testing.T) {
	t.Parallel()
	blocks := dead
	blocks.Blocks = true
	for name, set := range map[string]core.Settlement{"waiting": waiting(time.Hour), "blocking": blocks} {
		t.Run(name, func(t *testing.T) {
			onEach(t, func(t *testing.T, url string) {
				s := open(t, Options{URL: url})
				first := aged(t, s, hook, "1", 5*pruneDay, delivered)
				stuck := aged(t, s, hook, "2", 4*pruneDay, set)
				last := aged(t, s, hook, "3", 3*pruneDay, delivered)
				young := aged(t, s, hook, "4", 0, delivered)
				rule := Retention{Hook: hook.Name, Events: pruneDay}
				if got := prune(t, s, false, rule); !slices.Equal(got, []Pruned{{hook.Name, PruneEvents, 2, 1}}) {
					t.Fatalf("%+v", got)
				}
				if n := number(t, s, "select count(*) from deliveries where id = $1 or id = $2", first.ID, last.ID); n != 0 {
					t.Error("what has ended is still there:", n)
				}
				var seq int64
				if err := s.read(t.Context(), qPruneFrom, []any{hook.Name, PruneEvents}, func(r row) { seq = r.int(0) }); err != nil || seq <= 0 {
					t.Fatal(seq, err)
				}
				if n := number(t, s, "select count(*) from events where id = $1 and seq > $2", stuck.Event.ID, seq); n != 1 {
					t.Error("the progress has passed what is still there")
				}
				if res, err := s.Cancel(context.Background(), "anna", "x", []string{stuck.ID}); err != nil || !res[0].OK {
					t.Fatal(res, err)
				}
				for _, fresh := range []bool{false, true} { // what a restart knows is enough
					if fresh {
						clear(s.pruner.done)
					}
					if got := prune(t, s, true, rule); !slices.Equal(got, []Pruned{{hook.Name, PruneEvents, 1, 0}}) {
						t.Fatalf("%+v", got)
					}
				}
				if got := prune(t, s, false, rule); !slices.Equal(got, []Pruned{{hook.Name, PruneEvents, 1, 0}}) {
					t.Fatalf("%+v", got)
				}
				if n := number(t, s, "select count(*) from events where id <> $1", young.Event.ID); n != 0 {
					t.Error("left:", n)
				}
			})
		})
	}
}

// More events than one look and one batch take, in the order of a clock that jumped.
func TestPruneMany(t *testing.T) {
	onDurable(t, func(t *testing.T, url string) {
		s := open(t, Options{URL: url})
		unaudited.Store(s, true)
		const n = pruneLook + 2*pruneBatch
		salt := sha256.Sum256(nil)
		insert := func(seq int, age time.Duration) string {
			return fmt.Sprintf(`insert into events (seq, id, ref, hook, study, stage, kind, trans_id, form_id, form_name, wf_id, wf_name,
				received_at, traceparent, salt, body) values (%d, 'e%d', 'r', 'study-a', '', '', '', '', '', '', '', '', %d, '', '%x', 'body')`,
				seq, seq, time.Now().Add(-age).UnixMicro(), salt)
		}
		var texts []string
		for seq := 1; seq <= n; seq++ {
			age := 2 * pruneDay
			if seq == 7 {
				age = -pruneDay // the clock was wrong
			}
			texts = append(texts, insert(seq, age))
		}
		if err := raw(s, append(texts, insert(n+1, 0))...); err != nil {
			t.Fatal(err)
		}
		rule := Retention{Hook: "study-a", Payloads: pruneDay}
		ctx, cancel := context.WithCancel(context.Background())
		cancel()
		if got, err := s.Prune(ctx, []Retention{rule}, false); !errors.Is(err, context.Canceled) {
			t.Fatal(got, err)
		}
		// In turns that are cut off: nothing is lost, and nothing counted twice.
		sum, turns := 0, 0
		for more := true; more; turns++ {
			ctx, cancel := context.WithTimeout(context.Background(), 100*time.Millisecond)
			got, err := s.Prune(ctx, []Retention{rule}, false)
			cancel()
			if more = errors.Is(err, context.DeadlineExceeded); err != nil && !more {
				t.Fatal(err)
			}
			for _, p := range got {
				sum += p.Events
			}
		}
		if sum != n-1 || turns < 2 {
			t.Fatalf("%d were pruned in %d turns, want %d", sum, turns, n-1)
		}
		if left := number(t, s, "select count(*) from events where length(body) > 0"); left != 2 {
			t.Error("left:", left)
		}
		if lines := auditOf(t, s, `"t":"prune"`); len(lines) < n/pruneBatch {
			t.Errorf("%d batches", len(lines))
		}
		if got := prune(t, s, false, rule); !slices.Equal(got, []Pruned{{"study-a", PrunePayloads, 0, 0}}) {
			t.Fatalf("again: %+v", got)
		}
	})
}

// Two nodes prune the same: each event once.
func TestPruneOnTwoNodes(t *testing.T) {
	t.Parallel()
	onPostgres(t, func(t *testing.T, url string) {
		a, b := open(t, Options{URL: url}), open(t, Options{URL: url})
		const n = 2 * pruneBatch
		for i := range n {
			aged(t, a, hook, fmt.Sprint(i), 2*pruneDay, delivered)
		}
		rule := Retention{Hook: hook.Name, Sent: pruneDay, Payloads: pruneDay}
		got := make(chan int, 2)
		for _, s := range []*Store{a, b} {
			go func() {
				sum := 0
				all, err := s.Prune(context.Background(), []Retention{rule}, false)
				if err != nil {
					t.Error(err)
				}
				for _, p := range all {
					sum += p.Events
				}
				got <- sum
			}()
		}
		if sum := receive(t, got) + receive(t, got); sum != 2*n {
			t.Errorf("%d were pruned, want %d", sum, 2*n)
		}
		if left := number(t, a, "select count(*) from events where pruned <> 3 or salt is not null"); left != 0 {
			t.Error("left:", left)
		}
	})
}

// What was pruned is not in the file any more, also where its place is free.
func TestPrunedIsOverwritten(t *testing.T) {
	t.Parallel()
	url := sqliteURL(t)
	s := open(t, Options{URL: url})
	const words = "Jane Doe was here"
	for i, size := range []int{1, 2000} { // in a page with others, and in pages of its own
		ev := newEvent(fmt.Sprint(i))
		ev.Stamp(hook, time.Now().Add(-2*pruneDay))
		ev.Body = []byte(strings.Repeat(words, size))
		p := place(ev, "r", true)
		if err := s.Begin(context.Background(), &core.Entry{Event: ev, Deliveries: []*core.Placement{p}}); err != nil {
			t.Fatal(err)
		}
		settle(t, s, p.Delivery, delivered)
	}
	if err := s.Close(); err != nil { // so that it is in the file
		t.Fatal(err)
	}
	path := strings.TrimPrefix(url, "sqlite:")
	holds := func() bool {
		t.Helper()
		content, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		return strings.Contains(string(content), words)
	}
	if !holds() {
		t.Fatal("it is not in the file to begin with")
	}
	s = open(t, Options{URL: url})
	if got := prune(t, s, false, Retention{Hook: hook.Name, Payloads: pruneDay}); got[0].Events != 2 {
		t.Fatalf("%+v", got)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if holds() {
		t.Error("what was pruned is in the file")
	}
}
