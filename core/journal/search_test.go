package journal

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/hookline/hookline/core"
	"github.com/hookline/hookline/plugins/transport"
)

// library is a journal with its contents in simple lists, in the order of seq.
type library struct {
	*Store
	events     []*modelEvent
	deliveries []*modelDelivery
}

type modelEvent struct {
	*core.Event
	refused    bool
	code       core.Code
	gone       bool
	deliveries []*modelDelivery
}

type modelDelivery struct {
	*core.Delivery
	event  *modelEvent
	head   bool
	due    bool
	origin string
}

// stock fills a journal at random.
func stock(t *testing.T, url string, seed uint64) *library {
	t.Helper()
	l := &library{Store: open(t, Options{URL: url})}
	ctx := context.Background()
	rnd := rand.New(rand.NewPCG(seed, 2))
	hooks := []*core.Hook{{Name: "a", Study: "A", Stage: core.UAT}, {Name: "b", Study: "B", Stage: core.UAT}}
	codes := []core.Code{transport.Delivered, core.Accepted, transport.ConnectionRefused, transport.Timeout}
	for i := range 80 {
		ev := &core.Event{
			Kind: core.Kinds[rnd.IntN(3)], TransID: fmt.Sprint(rnd.IntN(25)), FormID: fmt.Sprint(rnd.IntN(3)),
			FormName: "Form " + fmt.Sprint(rnd.IntN(3)), Body: []byte("{}"),
		}
		ev.Stamp(hooks[rnd.IntN(2)], time.UnixMicro(time.Now().UnixMicro()))
		e := &modelEvent{Event: ev}
		l.events = append(l.events, e)
		if i%11 == 0 {
			e.refused, ev.Kind, ev.TransID, ev.FormID, ev.FormName = true, "", "", "", ""
			if err := l.Refused(ctx, ev, core.InvalidBody, "", "is bad"); err != nil {
				t.Fatal(err)
			}
			continue
		}
		entry := &core.Entry{Event: ev}
		for _, route := range []string{"r", "q"}[:rnd.IntN(3)] {
			entry.Deliveries = append(entry.Deliveries, place(ev, route, rnd.IntN(3) > 0))
		}
		if err := l.Begin(ctx, entry); err != nil {
			t.Fatal(err)
		}
		for _, p := range entry.Deliveries {
			d := &modelDelivery{Delivery: p.Delivery, event: e}
			e.deliveries, l.deliveries = append(e.deliveries, d), append(l.deliveries, d)
			if p.State == core.StateRunning {
				set := []core.Settlement{
					delivered, delivered, dead, waiting(time.Hour), {State: core.StateHeld, Due: -1},
					{State: core.StateUnknown, Code: transport.Timeout, Due: -1}, {State: core.StateDead, Code: transport.RejectedByTarget, Blocks: true},
					{State: core.StateSkipped, Code: core.Skipped},
				}[rnd.IntN(8)]
				settle(t, l.Store, p.Delivery, set)
			}
		}
		if rnd.IntN(5) > 0 {
			e.code, e.gone = codes[rnd.IntN(4)], rnd.IntN(8) == 0
			a := core.AnswerRecord{Status: 200, Code: e.code}
			if e.gone {
				a.Gone = time.Second
			}
			l.Answered(ev, a)
		}
	}
	// Some are replayed: a younger delivery of an older event.
	for _, d := range slices.Clone(l.deliveries) {
		if rnd.IntN(3) > 0 {
			continue
		}
		res, err := l.Replay(ctx, "anna", "why", []string{d.ID}, Replay{Force: true})
		if err != nil {
			t.Fatal(err)
		}
		if res[0].OK {
			n := &modelDelivery{Delivery: &core.Delivery{ID: res[0].New, Event: d.Event, Route: d.Route, Lane: d.Lane}, event: d.event, origin: d.ID}
			d.event.deliveries, l.deliveries = append(d.event.deliveries, n), append(l.deliveries, n)
		}
	}
	// States as they are in the end come from the journal: they are not what is
	// tested here.
	for _, d := range l.deliveries {
		got := stateOf(t, l.Store, d.Delivery)
		d.State, d.Code, d.head, d.due, d.Seq = got.State, got.Code, got.Head, !got.Due.IsZero(), got.Seq
	}
	slices.SortFunc(l.deliveries, func(a, b *modelDelivery) int { return int(a.Seq - b.Seq) })
	// Answers are written in order, and each once, as the daemon gives them.
	last := l.events[len(l.events)-1]
	if last.code == "" {
		last.code = core.Accepted
		l.Answered(last.Event, core.AnswerRecord{Status: 200, Code: last.code})
	}
	eventually(t, "the answers are written", func() bool {
		d, err := l.Event(ctx, last.ID)
		return err == nil && d.Answer != nil
	})
	return l
}

func (e *modelEvent) is(f *EventFilter) bool {
	if len(f.IDs) > 0 && !slices.Contains(f.IDs, e.ID) && !slices.Contains(f.IDs, e.Ref) {
		return false
	}
	if f.Route != "" || len(f.States) > 0 {
		if !slices.ContainsFunc(e.deliveries, func(d *modelDelivery) bool {
			return (f.Route == "" || d.Route == f.Route) && (len(f.States) == 0 || slices.Contains(f.States, d.State))
		}) {
			return false
		}
	}
	return (f.Hook == "" || e.Hook.Name == f.Hook) && (f.Study == "" || e.Hook.Study == f.Study) && (f.Kind == "" || e.Kind == f.Kind) &&
		(f.Form == "" || e.FormID == f.Form || e.FormName == f.Form) && (f.Record == "" || e.TransID == f.Record) &&
		(f.Code == "" || e.code == f.Code) && (f.Since.IsZero() || !e.ReceivedAt.Before(f.Since)) && (f.Until.IsZero() || e.ReceivedAt.Before(f.Until)) &&
		(!f.Refused || e.refused) && (!f.Gone || e.gone)
}

func (d *modelDelivery) is(f *DeliveryFilter) bool {
	e := d.event
	states := f.States
	if f.Stuck && len(states) == 0 {
		states = maybeStuck
	}
	return (f.Hook == "" || e.Hook.Name == f.Hook) && (f.Study == "" || e.Hook.Study == f.Study) && (f.Route == "" || d.Route == f.Route) &&
		(f.Kind == "" || e.Kind == f.Kind) && (f.Form == "" || e.FormID == f.Form || e.FormName == f.Form) && (f.Record == "" || e.TransID == f.Record) &&
		(len(states) == 0 || slices.Contains(states, d.State)) && (f.Code == "" || d.Code == f.Code) &&
		(f.Event == "" || e.ID == f.Event || e.Ref == f.Event) && (f.Origin == "" || d.origin == f.Origin) &&
		(!f.Stuck || d.head && !d.due && d.State != core.StateRunning)
}

// Whatever is searched for, and in whatever pages: all of it is found once, in order.
func TestSearchFindsAllOfIt(t *testing.T) {
	onEach(t, func(t *testing.T, url string) {
		seed := uint64(time.Now().UnixNano())
		t.Logf("seed %d", seed)
		l := stock(t, url, seed)
		ctx := context.Background()
		rnd := rand.New(rand.NewPCG(seed, 3))
		pick := func(n int) bool { return rnd.IntN(n) == 0 }
		someStates := func() (out []core.State) {
			all := []core.State{core.StateQueued, core.StateWaiting, core.StateUnknown, core.StateHeld, core.StateDelivered, core.StateDead, core.StateSkipped}
			for range 1 + rnd.IntN(3) {
				if s := all[rnd.IntN(len(all))]; !slices.Contains(out, s) {
					out = append(out, s)
				}
			}
			return out
		}
		found := 0
		for range 40 {
			var f EventFilter
			e := l.events[rnd.IntN(len(l.events))]
			if pick(8) {
				f.IDs = []string{e.ID, l.events[rnd.IntN(len(l.events))].Ref}
			}
			if pick(5) {
				f.Hook = e.Hook.Name
			}
			if pick(5) {
				f.Study = e.Hook.Study
			}
			if pick(5) {
				f.Kind = e.Kind
			}
			if pick(5) {
				f.Form = []string{e.FormID, e.FormName}[rnd.IntN(2)]
			}
			if pick(6) {
				f.Record = e.TransID
			}
			if pick(5) {
				f.Code = e.code
			}
			if pick(5) {
				f.Since = e.ReceivedAt
			}
			if pick(5) {
				f.Until = l.events[rnd.IntN(len(l.events))].ReceivedAt
			}
			f.Refused, f.Gone = pick(8), pick(8)
			if pick(5) {
				f.Route = "q"
			}
			if pick(4) {
				f.States = someStates()
			}
			var want, up []string
			for _, e := range l.events {
				if e.is(&f) {
					want = append(want, e.ID)
				}
			}
			f.Limit = 1 + rnd.IntN(40)
			var got []string
			for g := f; ; {
				page, err := l.SearchEvents(ctx, g)
				if err != nil {
					t.Fatalf("%+v: %v", f, err)
				}
				for i := range page.Rows {
					got = append(got, page.Rows[i].ID)
					at := slices.IndexFunc(l.events, func(e *modelEvent) bool { return e.ID == page.Rows[i].ID })
					if len(page.Rows[i].States) != len(l.events[at].deliveries) {
						t.Fatalf("event %s: %+v", page.Rows[i].ID, page.Rows[i].States)
					}
				}
				if g.Cursor = page.Next; g.Cursor == "" {
					break
				}
			}
			slices.Reverse(got)
			if !slices.Equal(got, want) {
				t.Fatalf("%+v\n got %d %v\nwant %d %v", f, len(got), got, len(want), want)
			}
			found += len(got)
			// Upward it is the same, but for what may come twice on a shared journal.
			g := f
			for g.After = "0"; ; {
				page, err := l.SearchEvents(ctx, g)
				if err != nil {
					t.Fatal(err)
				}
				for i := range page.Rows {
					if !slices.Contains(up, page.Rows[i].ID) {
						up = append(up, page.Rows[i].ID)
					}
				}
				if page.Next == g.After || !l.single && len(page.Rows) == 0 {
					break
				}
				if !l.single { // the cursor stays behind what is young
					g.Limit = 1000
				}
				g.After = page.Next
			}
			if l.single && !slices.Equal(up, want) {
				t.Fatalf("upward: %+v\n got %v\nwant %v", f, up, want)
			}
		}
		if found == 0 {
			t.Error("nothing was ever found")
		}
		for range 40 {
			var f DeliveryFilter
			d := l.deliveries[rnd.IntN(len(l.deliveries))]
			if pick(8) {
				f.Event = []string{d.event.ID, d.event.Ref}[rnd.IntN(2)]
			}
			if pick(6) {
				f.Origin = d.origin
			}
			if pick(6) {
				f.Hook, f.Study = d.event.Hook.Name, d.event.Hook.Study
			}
			if pick(4) {
				f.Route = d.Route
			}
			if pick(5) {
				f.Kind = d.event.Kind
			}
			if pick(5) {
				f.Form = d.event.FormID
			}
			if pick(6) {
				f.Record = d.event.TransID
			}
			if pick(5) {
				f.Code = d.Code
			}
			if pick(4) {
				f.States = someStates()
			}
			f.Stuck = pick(6)
			var want []string
			for _, d := range l.deliveries {
				if d.is(&f) {
					want = append(want, d.ID)
				}
			}
			f.Limit = 1 + rnd.IntN(40)
			var got, up []string
			for g := f; ; {
				page, err := l.SearchDeliveries(ctx, g)
				if err != nil {
					t.Fatalf("%+v: %v", f, err)
				}
				for i := range page.Rows {
					got = append(got, page.Rows[i].ID)
				}
				if g.Cursor = page.Next; g.Cursor == "" {
					break
				}
			}
			slices.Reverse(got)
			for g := f; ; {
				rows, next, err := l.Select(ctx, g)
				if err != nil {
					t.Fatal(err)
				}
				for _, r := range rows {
					up = append(up, r.ID)
				}
				if g.After = next; next == "" {
					break
				}
			}
			if !slices.Equal(got, want) || !slices.Equal(up, want) {
				t.Fatalf("%+v\n got %v\n  up %v\nwant %v", f, got, up, want)
			}
		}
	})
}

func TestDeliveriesByTime(t *testing.T) {
	onEach(t, func(t *testing.T, url string) {
		s := open(t, Options{URL: url})
		ctx := context.Background()
		var at []time.Time
		for i := range 3 {
			at = append(at, stateOf(t, s, begin1(t, s, fmt.Sprint(i), false).Delivery).Created)
		}
		for i, c := range []struct {
			f DeliveryFilter
			n int
		}{
			{DeliveryFilter{Since: at[1]}, 2},
			{DeliveryFilter{Until: at[1]}, 1},
			{DeliveryFilter{Since: at[0], Until: at[2]}, 2},
			{DeliveryFilter{Until: time.Date(2, 1, 1, 0, 0, 0, 0, time.UTC)}, 0},
			{DeliveryFilter{Since: time.Date(9999, 1, 1, 0, 0, 0, 0, time.UTC)}, 0},
			{DeliveryFilter{Since: time.Date(1, 1, 2, 0, 0, 0, 0, time.UTC)}, 3},
		} {
			if rows, _, err := s.Deliveries(ctx, c.f); err != nil || len(rows) != c.n {
				t.Errorf("%d: %d rows, want %d, %v", i, len(rows), c.n, err)
			}
		}
	})
}

// A search that finds nothing ends all the same, says how far it got, and goes on.
func TestSearchEndsEarly(t *testing.T) {
	s := open(t, Options{URL: "memory:"})
	unaudited.Store(s, true)
	ctx := context.Background()
	ev := begin1(t, s, "1", false).Event
	id := uuid.NewString()[:8]
	// One statement, as 25,000 events would take long to come.
	err := raw(s, `with recursive n(i) as (select 1 union all select i + 1 from n where i < 25000)
		insert into events (id, ref, hook, study, stage, kind, trans_id, form_id, form_name, wf_id, wf_name, received_at, traceparent, body)
		select '`+id+`' || i, 'x', 'h', '', 'uat', 'insert', 'many', '1', '', '', '', `+fmt.Sprint(ev.ReceivedAt.UnixMicro())+` + i, '', '{}' from n`)
	if err != nil {
		t.Fatal(err)
	}
	for name, f := range map[string]EventFilter{"the table": {Form: "7"}, "an index": {Record: "many", Form: "7"}} {
		rest := 0
		for {
			page, err := s.SearchEvents(ctx, f)
			if err != nil {
				t.Fatal(err)
			}
			if f.Cursor = page.Next; page.Next == "" {
				if name == "the table" && len(page.Rows) != 1 || name != "the table" && len(page.Rows) != 0 {
					t.Errorf("%s: %d rows in the end", name, len(page.Rows))
				}
				break
			}
			if page.Scanned.IsZero() || len(page.Rows) != 0 {
				t.Fatalf("%s: %+v", name, page)
			}
			rest++
		}
		if rest == 0 {
			t.Errorf("%s: all of it in one answer", name)
		}
	}
}

func TestBadCursors(t *testing.T) {
	s := open(t, Options{URL: "memory:"})
	ctx := context.Background()
	for _, f := range []EventFilter{
		{Cursor: "!"}, {Cursor: "0"}, {Cursor: "-1"}, {Cursor: "zzzzzzzzzzzzzz"}, {After: "!"}, {After: "-1"}, {After: "zzzzzzzzzzzzzz"}, {After: "1", Cursor: "1"}, {Limit: 1001}, {Limit: -1},
	} {
		if _, err := s.SearchEvents(ctx, f); err == nil {
			t.Errorf("%+v", f)
		}
	}
	if page, err := s.SearchEvents(ctx, EventFilter{After: CursorNew}); err != nil || page.Next != "0" || len(page.Rows) > 0 {
		t.Errorf("%+v %v", page, err)
	}
}

// What decides the speed of a search: the index that its candidates come from.
func TestSearchPlans(t *testing.T) {
	s := open(t, Options{URL: "memory:"})
	states := []core.State{core.StateHeld, core.StateDead}
	event := func(f EventFilter) source { return f.source() }
	delivery := func(f DeliveryFilter) source {
		src, _, err := s.deliverySource(context.Background(), &f)
		if err != nil {
			t.Fatal(err)
		}
		return src
	}
	begin1(t, s, "1", false)
	for want, src := range map[string]source{
		"events_record":          event(EventFilter{Record: "1", Refused: true}),
		"events_ref":             event(EventFilter{IDs: []string{"x"}}),
		"events_refused":         event(EventFilter{Refused: true}),
		"answers_gone":           event(EventFilter{Gone: true}),
		"answers_code":           event(EventFilter{Code: transport.Timeout}),
		"deliveries_state_event": event(EventFilter{States: states}),
		"deliveries_state (":     delivery(DeliveryFilter{States: states}),
		"deliveries_code":        delivery(DeliveryFilter{Code: transport.Timeout}),
		"deliveries_event":       delivery(DeliveryFilter{Record: "1"}),
	} {
		q := &search{}
		text := src.text(q, 0, 1<<40, false, "limit 9")
		text, order := positional(sqliteDialect.spell(text))
		args := make([]any, len(order))
		for i, n := range order {
			args[i] = q.args[n]
		}
		var plan strings.Builder
		err := readRows(context.Background(), s.engine.(*sqliteEngine).pool, "explain query plan "+text, args, func(r row) { plan.WriteString(r.str(3) + " \n") })
		if err != nil || !strings.Contains(plan.String(), want) {
			t.Errorf("%s is not used (%v):\n%s\n%s", want, err, text, plan.String())
		}
	}
}
