package journal

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/hookline/hookline/core"
	"github.com/hookline/hookline/plugins/transport"
)

func TestTraces(t *testing.T) {
	onEach(t, func(t *testing.T, url string) {
		s := open(t, Options{URL: url, Node: "n1"})
		ctx := context.Background()
		ev := newEvent("435")
		plain, shaped := place(ev, "plain", true), place(ev, "shaped", true)
		shaped.Shape = core.ShapeOpen
		if err := s.Begin(ctx, &core.Entry{Event: ev, Deliveries: []*core.Placement{plain, shaped}}); err != nil {
			t.Fatal(err)
		}
		begin1(t, s, "other", false)
		shaped.Contents = []core.Content{
			{ContentType: "text/plain", Headers: map[string]string{"X-A": "<b>"}, Key: "k", Path: "/p", Payload: []byte("\x00one")},
			{Payload: []byte("two")},
		}
		shaped.Script = strings.Repeat("ab", 32)
		if err := s.Shaped(ctx, shaped.Delivery); err != nil {
			t.Fatal(err)
		}
		settle(t, s, plain.Delivery, core.Settlement{State: core.StateDelivered, Code: transport.Delivered})
		settle(t, s, shaped.Delivery, waiting(time.Hour))
		if res, err := s.Cancel(ctx, "anna", "typed in by hand", []string{shaped.ID}); err != nil || !res[0].OK {
			t.Fatal(res, err)
		}
		// Long after it has ended, somebody looks; and others at other events.
		for id, actor := range map[string]string{ev.ID: "berta", newEvent("x").ID: "carl"} {
			e := &AuditEntry{Kind: auditView, Actor: actor, What: "body", Event: id}
			if err := s.writer.do(ctx, &op{name: "view", audit: func(t *trail) { t.add(e) }}); err != nil {
				t.Fatal(err)
			}
		}
		detail, err := s.Event(ctx, ev.ID)
		if err != nil {
			t.Fatal(err)
		}
		got, err := s.Traces(ctx, detail)
		if err != nil {
			t.Fatal(err)
		}
		if string(got.Body) != string(ev.Body) || got.BodyPruned || got.SentPruned || !got.Until.IsZero() {
			t.Errorf("%+v", got)
		}
		sent := got.Sent[shaped.ID]
		if len(got.Sent) != 1 || len(sent) != 2 || string(sent[0].Payload) != "\x00one" || sent[0].Headers["X-A"] != "<b>" || sent[0].Key != "k" ||
			sent[0].Path != "/p" || sent[0].ContentType != "text/plain" || sent[1].ContentType != "application/json" ||
			sent[1].ID != shaped.ID+"-2" || sent[1].Size != 3 {
			t.Errorf("sent: %+v", got.Sent)
		}
		var story []string
		for _, c := range got.Changes {
			name := map[string]string{plain.ID: "plain", shaped.ID: "shaped"}[c.Delivery]
			story = append(story, strings.TrimSpace(fmt.Sprintf("%s %s %d %s %s", c.Kind, name, c.Version, c.State, c.Actor)))
			if c.At.Before(ev.ReceivedAt.Add(-time.Second)) || c.At.After(time.Now().Add(time.Second)) {
				t.Errorf("at %s", c.At)
			}
		}
		want := "event  0|delivery plain 1 running|delivery shaped 1 running|delivery shaped 2 running|delivery plain 2 delivered|" +
			"delivery shaped 3 waiting|act shaped 0 cancelled anna|delivery shaped 4 cancelled|view  0  berta"
		if text := strings.Join(story, "|"); text != want {
			t.Errorf("changes:\n%s\nwant:\n%s", text, want)
		}

		if _, err := s.Traces(ctx, &EventDetail{EventRow: EventRow{Event: newEvent("x")}}); !errors.Is(err, ErrNotFound) {
			t.Errorf("of no event: %v", err)
		}
	})
}

// A snapshot goes with what was shaped, or with a settlement of what was not; a later
// run of the same delivery replaces it.
func TestSnapshots(t *testing.T) {
	onEach(t, func(t *testing.T, url string) {
		s := open(t, Options{URL: url})
		ctx := context.Background()
		ev := newEvent("435")
		var all []*core.Placement
		for _, route := range []string{"shaped", "skipped", "failed", "plain"} {
			p := place(ev, route, true)
			p.Shape = core.ShapeOpen
			all = append(all, p)
		}
		if err := s.Begin(ctx, &core.Entry{Event: ev, Deliveries: all}); err != nil {
			t.Fatal(err)
		}
		read := func(text string) *core.Snapshot {
			return &core.Snapshot{Record: []byte(text), ReadAt: time.UnixMicro(time.Now().UnixMicro()).UTC()}
		}
		want := map[string]*core.Snapshot{all[0].ID: read("one"), all[1].ID: read("two"), all[2].ID: read("three")}
		for _, p := range all {
			p.Snapshot = want[p.ID]
		}
		all[0].Contents, all[3].Contents = []core.Content{{Payload: []byte("x")}}, []core.Content{{Payload: []byte("y")}}
		for _, p := range []*core.Placement{all[0], all[3]} {
			if err := s.Shaped(ctx, p.Delivery); err != nil {
				t.Fatal(err)
			}
			settle(t, s, p.Delivery, delivered)
		}
		settle(t, s, all[1].Delivery, core.Settlement{State: core.StateSkipped, Code: core.Skipped})
		settle(t, s, all[2].Delivery, core.Settlement{State: core.StateDead, Code: core.TransformFailed})
		check := func() {
			t.Helper()
			detail, err := s.Event(ctx, ev.ID)
			if err != nil {
				t.Fatal(err)
			}
			got, err := s.Traces(ctx, detail)
			if err != nil || len(got.Read) != len(want) {
				t.Fatalf("%+v %v", got, err)
			}
			for id, w := range want {
				if g := got.Read[id]; string(g.Record) != string(w.Record) || !g.ReadAt.Equal(w.ReadAt) {
					t.Errorf("%s: %+v, want %+v", id, g, w)
				}
			}
		}
		check()

		if res, err := s.Retry(ctx, "anna", "the script is mended", []string{all[2].ID}); err != nil || !res[0].OK {
			t.Fatal(res, err)
		}
		again, err := s.Claim(ctx, "failed", false, 1)
		if err != nil || len(again) != 1 || again[0].Shape != core.ShapeOpen {
			t.Fatal(again, err)
		}
		want[all[2].ID] = read("three, later")
		again[0].Snapshot, again[0].Contents = want[all[2].ID], []core.Content{{Payload: []byte("z")}}
		if err := s.Shaped(ctx, again[0]); err != nil {
			t.Fatal(err)
		}
		settle(t, s, again[0], delivered)
		check()
		if v := verified(t, s); len(v.Findings) > 0 {
			t.Error(v.Findings)
		}
	})
}

func TestTracesOfPruned(t *testing.T) {
	s := open(t, Options{URL: "memory:"})
	unaudited.Store(s, true)
	ctx := context.Background()
	d := begin1(t, s, "1", true)
	e := s.engine.(*sqliteEngine)
	if _, err := e.pool.ExecContext(ctx, "update events set pruned = 3, body = x'', salt = null"); err != nil {
		t.Fatal(err)
	}
	detail, err := s.Event(ctx, d.Event.ID)
	if err != nil {
		t.Fatal(err)
	}
	got, err := s.Traces(ctx, detail)
	if err != nil || !got.BodyPruned || !got.SentPruned || got.Body != nil {
		t.Errorf("%+v %v", got, err)
	}
}

func TestSetOf(t *testing.T) {
	onEach(t, func(t *testing.T, url string) {
		s := open(t, Options{URL: url})
		ctx := context.Background()
		accept := func(node, revision, config, script string) time.Time {
			t.Helper()
			set := Set{Node: node, Revision: revision, Config: []byte(config), Scripts: map[string][]byte{"/a.js": []byte(script)}}
			if err := s.Accept(ctx, set); err != nil {
				t.Fatal(err)
			}
			return time.Now()
		}
		accept("n1", "r1", "one", "x")
		between := accept("n1", "r1", "one, again", "y") // the script has changed
		accept("n2", "r3", "three", "x")                 // another node's is no end of it
		after := accept("n1", "r2", "two", "x")
		accept("n1", "r1", "one, later", "x")

		set, err := s.SetOf(ctx, "r1", after)
		if err != nil || string(set.Config) != "one, again" || set.Node != "n1" || set.ReplacedBy != "r2" || !set.Replaced.After(set.AcceptedAt) ||
			!set.AcceptedAt.Before(between) || len(set.ConfigSHA) != 64 {
			t.Fatalf("%+v %v", set, err)
		}
		source, err := s.Document(ctx, set.Scripts["/a.js"])
		if err != nil || string(source) != "y" {
			t.Errorf("%q %v", source, err)
		}
		if set, err = s.SetOf(ctx, "r1", time.Unix(1, 0)); err != nil || string(set.Config) != "one" {
			t.Errorf("before all of them: %+v %v", set, err)
		}
		if set, err = s.SetOf(ctx, "r3", after); err != nil || set.ReplacedBy != "" || !set.Replaced.IsZero() {
			t.Errorf("in force: %+v %v", set, err)
		}
		if _, err = s.SetOf(ctx, "r9", after); !errors.Is(err, ErrNotFound) {
			t.Error(err)
		}
		if _, err = s.Document(ctx, "nonsense"); !errors.Is(err, ErrNotFound) {
			t.Error(err)
		}
	})
}
