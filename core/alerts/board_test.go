package alerts

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/hookline/hookline/plugins/transport"
)

var start = time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)

func look(at time.Duration, active ...Condition) Look {
	return Look{At: start.Add(at), Active: active}
}

func dead(route string) Condition {
	return Condition{Key: Key{Dead, route}, Count: 2, Refs: []string{"HK-1", "HK-2", "HK-3", "HK-4", "HK-5", "HK-6"}}
}

// see returns the changes as text.
func see(t *testing.T, b *Board, l Look) string {
	t.Helper()
	changes, _ := b.See(l)
	var out []string
	for _, c := range changes {
		out = append(out, fmt.Sprintf("%s %s %s", c.Alert, c.Subject, c.State))
	}
	return strings.Join(out, ", ")
}

// take is the next letter over "ops", or nil.
func take(t *testing.T, b *Board, at time.Duration) (*letter, body) {
	t.Helper()
	l, _ := b.next(start.Add(at), "ops", "node-1")
	if l == nil {
		return nil, body{}
	}
	var m body
	if err := json.Unmarshal(l.payload, &m); err != nil {
		t.Fatal(err)
	}
	return l, m
}

func receipt(e transport.Effect) transport.Receipt { return transport.Receipt{Effect: e} }

func TestOneMessageForAChange(t *testing.T) {
	b := NewBoard(Usual)
	if got := see(t, b, look(0, dead("ehr"))); got != "dead ehr raised" {
		t.Fatal(got)
	}
	l, m := take(t, b, 0)
	if l == nil || m.Alert != Dead || m.State != Raised || m.Subject != "ehr" || m.Node != "node-1" || m.Count != 2 || len(m.Refs) != MaxRefs ||
		m.Since != "2026-01-02T03:04:05Z" || m.At != m.Since || !strings.Contains(m.Text, "--route ehr") {
		t.Fatalf("%+v", m)
	}
	if again, _ := take(t, b, 0); again != nil {
		t.Fatal("it is sent twice at a time")
	}
	b.sent(l, receipt(transport.Done), start)
	more := dead("ehr")
	more.Count = 9
	if got := see(t, b, look(time.Minute, more)); got != "" {
		t.Fatal(got)
	}
	if l, _ := take(t, b, time.Hour); l != nil {
		t.Fatal("what stays is sent again")
	}
	if a := b.Active(); len(a) != 1 || a[0].Count != 9 || !a[0].Sent || !a[0].Since.Equal(start) {
		t.Fatalf("%+v", a)
	}
	if got := see(t, b, look(2*time.Minute)); got != "dead ehr cleared" {
		t.Fatal(got)
	}
	l, m = take(t, b, 2*time.Minute)
	if l == nil || m.State != Cleared || m.Since != "2026-01-02T03:04:05Z" || m.At != "2026-01-02T03:06:05Z" || strings.Contains(m.Text, "{") {
		t.Fatalf("%+v", m)
	}
	b.sent(l, receipt(transport.Done), start)
	if l, _ := take(t, b, time.Hour); l != nil || len(b.entries) != 0 {
		t.Error("something is left")
	}
}

// What the target surely never heard of needs no end; what it may have, does.
func TestClearedBeforeItWasSent(t *testing.T) {
	for effect, want := range map[transport.Effect]bool{transport.None: false, transport.Unknown: true, "": true} {
		for _, inFlight := range []bool{true, false} {
			b := NewBoard(Usual)
			see(t, b, look(0, dead("ehr")))
			l, _ := take(t, b, 0)
			if inFlight {
				see(t, b, look(time.Second))
				b.sent(l, receipt(effect), start)
			} else {
				b.sent(l, receipt(effect), start)
				see(t, b, look(time.Second))
			}
			l, m := take(t, b, time.Second)
			if (l != nil) != want || l != nil && m.State != Cleared {
				t.Errorf("%q, in flight %v: %+v", effect, inFlight, m)
			}
		}
	}
	b := NewBoard(Usual)
	see(t, b, look(0, dead("ehr")))
	l, _ := take(t, b, 0)
	see(t, b, look(time.Second))
	b.sent(l, receipt(transport.Done), start)
	if l, m := take(t, b, time.Second); l == nil || m.State != Cleared {
		t.Error("the target heard that it began, and does not hear the end")
	}
}

// A change replaces what could not be sent of the one before.
func TestRaisedAgain(t *testing.T) {
	b := NewBoard(Usual)
	see(t, b, look(0, dead("ehr")))
	l, _ := take(t, b, 0)
	b.sent(l, receipt(transport.Done), start)
	see(t, b, look(time.Second))
	l, _ = take(t, b, time.Second)
	b.sent(l, receipt(transport.None), start)
	see(t, b, look(2*time.Second, dead("ehr")))
	l, m := take(t, b, 2*time.Second)
	if l == nil || m.State != Raised || m.At != "2026-01-02T03:04:07Z" || l.tries != 0 {
		t.Fatalf("%+v", m)
	}
	b.sent(l, receipt(transport.Done), start)
	if l, _ := take(t, b, time.Hour); l != nil {
		t.Error("there is more to send")
	}
}

func TestBackoff(t *testing.T) {
	b := NewBoard(Usual)
	see(t, b, look(0, dead("ehr")))
	id, at := "", time.Duration(0)
	for _, pause := range []time.Duration{5, 10, 20, 40, 80, 160, 300, 300} {
		l, _ := take(t, b, at)
		if l == nil || id != "" && l.id != id {
			t.Fatal("no attempt, or under another id")
		}
		id = l.id
		b.sent(l, receipt(transport.Unknown), start.Add(at))
		at += pause * time.Second
		if l, again := b.next(start.Add(at-1), "ops", ""); l != nil || !again.Equal(start.Add(at)) {
			t.Fatalf("after a pause of less than %ds: %v %v", pause, l, again)
		}
	}
}

// An alert about the transport of the alerts is not sent over it.
func TestNotAboutItself(t *testing.T) {
	b := NewBoard(Usual)
	c := Condition{Key: Key{CircuitOpen, "ops"}, Transport: "ops"}
	if got := see(t, b, look(0, c)); got != "circuit_open ops raised" {
		t.Fatal(got)
	}
	if l, _ := take(t, b, 0); l != nil {
		t.Fatal("it is sent")
	}
	if l, _ := b.next(start, "", ""); l != nil {
		t.Fatal("it is sent to nobody")
	}
	// Over another one that a reload names, it is.
	if l, _ := b.next(start, "mail", ""); l == nil {
		t.Fatal("it is not sent over another")
	}
	b = NewBoard(Usual)
	see(t, b, look(0, c))
	if got := see(t, b, look(1)); got != "circuit_open ops cleared" || len(b.entries) != 0 {
		t.Error(got, b.entries)
	}
}

func TestUnknownAndElsewhere(t *testing.T) {
	b := NewBoard(Usual)
	see(t, b, look(0, dead("ehr"), Condition{Key: Key{DiskLow, "journal.min_free"}}))
	blind := look(1)
	blind.Unknown = map[Name]bool{Dead: true}
	if got := see(t, b, blind); got != "disk_low journal.min_free cleared" {
		t.Error(got)
	}
	other := look(2, dead("lab"))
	other.Elsewhere = map[Name]bool{Dead: true}
	if got := see(t, b, other); got != "" || len(b.Active()) != 0 {
		t.Error(got, b.Active())
	}
}

func TestBounded(t *testing.T) {
	b := NewBoard(Usual)
	var many []Condition
	for i := range maxAlerts + 5 {
		many = append(many, dead(fmt.Sprint("r", i)))
	}
	changes, full := b.See(look(0, many...))
	if len(changes) != maxAlerts || !full {
		t.Error(len(changes), full)
	}
	if changes, full := b.See(look(1, many...)); len(changes) != 0 || full {
		t.Error("it is said twice", len(changes), full)
	}
}

// Every alert has its words, and one of something reads well.
func TestTexts(t *testing.T) {
	for _, n := range Names {
		for _, raised := range []bool{true, false} {
			for _, count := range []int{0, 1, 2} {
				c := Condition{Key: Key{n, "x-1"}, Count: count}
				s := c.text(raised)
				if len(s) < 20 || strings.ContainsAny(s, "{}") || strings.Contains(s, "1 deliveries") || strings.Contains(s, "1 call") && strings.Contains(s, "1 calls") {
					t.Errorf("%s: %q", n, s)
				}
			}
		}
		if !strings.Contains(texts[n].raised, "`hookline") && n != Unauthorized && n != DiskLow && n != Quiet {
			t.Errorf("%s names no way out", n)
		}
	}
	if len(texts) != len(Names) {
		t.Error("there are texts of no alert")
	}
}

func TestDenied(t *testing.T) {
	tally := NewTally(Usual)
	at := start.Add
	active := func(d time.Duration) []Condition { return tally.Conditions("h", at(d)) }
	for i := range 4 {
		tally.Denied("h", at(time.Duration(i)*time.Minute))
	}
	if got := active(4 * time.Minute); got != nil {
		t.Fatalf("four: %+v", got)
	}
	tally.Denied("h", at(5*time.Minute))
	if got := active(5 * time.Minute); len(got) != 1 || got[0].Key != (Key{Unauthorized, "h"}) || got[0].Count != 5 || !got[0].Since.Equal(start) {
		t.Fatalf("five in five minutes: %+v", got)
	}
	// One more every ten minutes keeps it up, though it would not raise it.
	tally.Denied("h", at(15*time.Minute))
	tally.Denied("h", at(25*time.Minute))
	if got := active(39 * time.Minute); len(got) != 1 || got[0].Count != 7 {
		t.Fatalf("while it goes on: %+v", got)
	}
	if got := active(40 * time.Minute); got != nil {
		t.Fatalf("after 15 minutes without: %+v", got)
	}
	for i := range 5 {
		tally.Denied("h", at(time.Hour+time.Duration(i)*2*time.Minute))
	}
	if got := active(time.Hour + 8*time.Minute); got != nil {
		t.Errorf("five in eight minutes: %+v", got)
	}
}

func TestGone(t *testing.T) {
	tally := NewTally(Usual)
	for i := range 7 {
		tally.Gone("h", fmt.Sprint("HK-", i), start.Add(time.Duration(i)*time.Minute))
	}
	got := tally.Conditions("h", start.Add(65*time.Minute))
	if len(got) != 1 || got[0].Count != 7 || len(got[0].Refs) != MaxRefs || got[0].Refs[0] != "HK-6" || !got[0].Since.Equal(start) {
		t.Fatalf("%+v", got)
	}
	if got := tally.Conditions("h", start.Add(66*time.Minute)); got != nil {
		t.Fatalf("after an hour: %+v", got)
	}
	tally.Gone("h", "HK-9", start.Add(2*time.Hour))
	if got := tally.Conditions("h", start.Add(2*time.Hour)); len(got) != 1 || got[0].Count != 1 || len(got[0].Refs) != 1 {
		t.Errorf("the next one: %+v", got)
	}
}

func TestChildren(t *testing.T) {
	c := NewChildren(Usual)
	note := func(at time.Duration, runs bool, restarts int) bool {
		return !c.Note("x", runs, restarts, start.Add(at)).IsZero()
	}
	for i, s := range []struct {
		at       time.Duration
		runs     bool
		restarts int
		sick     bool
	}{
		{0, true, 0, false},
		{15 * time.Second, false, 1, false},
		{60 * time.Second, false, 1, false},
		{75 * time.Second, false, 1, true}, // down for a minute
		{90 * time.Second, true, 2, true},  // for how long will it run?
		{149 * time.Second, true, 2, true},
		{150 * time.Second, true, 2, false},
		{10 * time.Minute, true, 6, false},  // four more
		{11 * time.Minute, true, 7, true},   // five in two minutes
		{12 * time.Minute, true, 7, false},  // a minute without
		{20 * time.Minute, true, 0, false},  // another process
		{30 * time.Minute, true, 40, true},  // many at once
		{31 * time.Minute, false, 41, true}, // and on
	} {
		if got := note(s.at, s.runs, s.restarts); got != s.sick {
			t.Errorf("%d, at %s: %v", i, s.at, got)
		}
	}
	c.Keep(nil)
	if len(c.all) != 0 {
		t.Error("it remembers what is gone")
	}
}

func TestSpells(t *testing.T) {
	s := Spells{}
	if got := s.Note("x", true, start); !got.Equal(start) {
		t.Error(got)
	}
	if got := s.Note("x", true, start.Add(time.Hour)); !got.Equal(start) {
		t.Error(got)
	}
	if got := s.Note("x", false, start.Add(time.Hour)); !got.IsZero() {
		t.Error(got)
	}
	if got := s.Note("x", true, start.Add(2*time.Hour)); !got.Equal(start.Add(2 * time.Hour)) {
		t.Error(got)
	}
	if s.Keep(nil); len(s) != 0 {
		t.Error("it remembers what is gone")
	}
}
