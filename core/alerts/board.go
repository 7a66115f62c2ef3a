package alerts

import (
	"cmp"
	"encoding/json"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/google/uuid"

	"github.com/hookline/hookline/plugins/transport"
)

// maxAlerts bounds what is kept: names of the configuration do not come near it.
const maxAlerts = 1000

// State says whether an alert has begun or is over.
type State string

// The states.
const (
	Raised  State = "raised"
	Cleared State = "cleared"
)

// Change is an alert that has begun, or is over.
type Change struct {
	Condition
	State State
}

// Alert is one that stands.
type Alert struct {
	Condition
	Text string
	Sent bool // the transport has confirmed it
}

// known is what the target knows of an alert that was raised.
type known uint8

const (
	untold known = iota // surely nothing
	unsure              // a message was sent and not confirmed, or tells of the time before
	told
)

// entry is an alert with what is still to be said of it.
type entry struct {
	Condition
	active   bool
	at       time.Time // of the last change
	id       string    // of that change's message
	target   known
	inFlight bool
	tries    int
	due      time.Time
}

// Board holds the alerts that stand, and those of which the target is still to hear
// that they are over. Of an alert only the last change is ever sent.
type Board struct {
	mu      sync.Mutex
	entries map[Key]*entry
	times   Times
	full    bool
}

// NewBoard returns a board without alerts.
func NewBoard(t Times) *Board { return &Board{entries: map[Key]*entry{}, times: t} }

// See compares what is with what was. full tells that some is left out, once.
func (b *Board) See(l Look) (changes []Change, full bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	seen := map[Key]bool{}
	over := false
	for _, c := range l.Active {
		if l.Elsewhere[c.Alert] || seen[c.Key] {
			continue
		}
		seen[c.Key] = true
		e := b.entries[c.Key]
		if e == nil {
			if len(b.entries) >= maxAlerts {
				over = true
				continue
			}
			e = &entry{}
			b.entries[c.Key] = e
		}
		if e.active {
			since := e.Since
			e.Condition = c
			e.Since = since
			continue
		}
		e.Condition = c
		if e.Since.IsZero() {
			e.Since = l.At
		}
		if e.target == told {
			e.target = unsure // it has yet to hear that this is another time
		}
		e.change(true, l.At)
		changes = append(changes, Change{e.Condition, Raised})
	}
	for _, k := range b.keys() {
		e := b.entries[k]
		switch {
		case seen[k] || l.Unknown[k.Alert]:
		case l.Elsewhere[k.Alert]:
			delete(b.entries, k)
		case e.active:
			e.change(false, l.At)
			changes = append(changes, Change{e.Condition, Cleared})
			b.settle(k, e)
		}
	}
	full = over && !b.full
	b.full = over
	return changes, full
}

// keys are in the order in which alerts are logged and sent.
func (b *Board) keys() []Key {
	return slices.SortedFunc(maps.Keys(b.entries), func(x, y Key) int {
		return cmp.Or(cmp.Compare(x.Alert, y.Alert), cmp.Compare(x.Subject, y.Subject))
	})
}

func (e *entry) change(active bool, at time.Time) {
	e.active, e.at, e.id = active, at, uuid.Must(uuid.NewV7()).String()
	e.tries, e.due = 0, time.Time{}
}

// settle forgets an alert that is over and of which the target surely never heard.
func (b *Board) settle(k Key, e *entry) {
	if !e.active && e.target == untold && !e.inFlight {
		delete(b.entries, k)
	}
}

// Active are the alerts that stand.
func (b *Board) Active() []Alert {
	b.mu.Lock()
	defer b.mu.Unlock()
	out := []Alert{}
	for _, k := range b.keys() {
		if e := b.entries[k]; e.active {
			c := e.Condition
			c.Refs = slices.Clone(c.Refs)
			out = append(out, Alert{Condition: c, Text: c.text(true), Sent: e.target == told})
		}
	}
	return out
}

// letter is a message to send.
type letter struct {
	key     Key
	id      string
	state   State
	payload []byte
	tries   int
}

// body is what a message says.
type body struct {
	Alert   Name     `json:"alert"`
	State   State    `json:"state"`
	Subject string   `json:"subject"`
	Node    string   `json:"node"`
	Since   string   `json:"since"`
	At      string   `json:"at"`
	Text    string   `json:"text"`
	Count   int      `json:"count"`
	Refs    []string `json:"refs"`
}

// next takes what is to be sent over the transport now, the longest due first, or
// says when to ask again; zero: at the next change.
func (b *Board) next(now time.Time, via, node string) (l *letter, again time.Time) {
	b.mu.Lock()
	defer b.mu.Unlock()
	var first *entry
	for _, k := range b.keys() {
		e := b.entries[k]
		switch {
		case e.inFlight || e.active && e.target == told:
		case via == "" || e.Transport == via:
			// Nobody is to be told. What is over need not be kept for someone who might.
			if !e.active {
				delete(b.entries, k)
			}
		case e.due.After(now):
			if again.IsZero() || e.due.Before(again) {
				again = e.due
			}
		case first == nil || e.due.Before(first.due):
			first = e
		}
	}
	if first == nil {
		return nil, again
	}
	first.inFlight = true
	l = &letter{key: first.Key, id: first.id, state: Cleared, tries: first.tries}
	if first.active {
		l.state = Raised
	}
	refs := append([]string{}, first.Refs[:min(len(first.Refs), MaxRefs)]...)
	l.payload, _ = json.Marshal(body{ // strings and numbers can be written
		Alert: first.Alert, State: l.state, Subject: first.Subject, Node: node,
		Since: first.Since.UTC().Format(time.RFC3339), At: first.at.UTC().Format(time.RFC3339),
		Text: first.text(first.active), Count: first.Count, Refs: refs,
	})
	return l, time.Time{}
}

// sent notes what came of a letter.
func (b *Board) sent(l *letter, r transport.Receipt, now time.Time) {
	b.mu.Lock()
	defer b.mu.Unlock()
	e := b.entries[l.key]
	if e == nil {
		return
	}
	e.inFlight = false
	same := e.id == l.id // otherwise the alert has changed meanwhile
	switch {
	case l.state == Raised && same && r.Effect == transport.Done:
		e.target = told
	case l.state == Raised && r.Effect != transport.None:
		e.target = unsure
	case l.state == Cleared && r.Effect == transport.Done:
		e.target = untold
	}
	if same && r.Effect != transport.Done {
		e.due = now.Add(b.pause(e.tries))
		e.tries++
	}
	b.settle(l.key, e)
}

// pause is how long to wait after one more failure.
func (b *Board) pause(tries int) time.Duration {
	d := b.times.Retry
	for range tries {
		if d *= 2; d >= b.times.RetryMax {
			return b.times.RetryMax
		}
	}
	return d
}
