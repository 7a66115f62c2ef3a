package admin

import (
	"bytes"
	"context"
	"encoding/json"
	"log/slog"
	"reflect"
	"slices"
	"testing"

	"github.com/hookline/hookline/core/journal"
)

// Whatever an endpoint answers is looked through, as deep as it goes.
func TestContentsAreFoundEverywhere(t *testing.T) {
	type leaf struct {
		Code string `json:"code"`
		Text string `json:"text" access:"read"`
	}
	type inner struct {
		EventFacts
		Raw     json.RawMessage `access:"read"`
		Number  int             `access:"read"`
		Pointer *leaf
		Any     any
		Nothing any
		List    []leaf
		Named   map[string]leaf
		Behind  map[string]*leaf
		hidden  leaf
	}
	answer := func() any {
		l := func() leaf { return leaf{"code", "Jane Doe"} }
		p := l()
		q := l()
		return struct{ Page []any }{[]any{
			inner{
				EventFacts: EventFacts{ID: "1", Answer: &Answer{Detail: "Jane Doe"}}, Raw: json.RawMessage(`"Jane Doe"`), Number: 7,
				Pointer: &p, Any: l(), List: []leaf{l()}, Named: map[string]leaf{"a": l()}, Behind: map[string]*leaf{"b": &q}, hidden: l(),
			},
			DeliveryDetail{Delivery: Delivery{EventID: "2", Reason: "Jane Doe"}, History: []Attempt{{Detail: "Jane Doe"}}},
			EventFacts{ID: "3"}, // has none
		}}
	}
	var told []string
	a := &api{Options{Log: slog.New(slog.DiscardHandler)}}
	e := &endpoint{needs: see}
	for role, want := range map[Role]int{Viewer: 0, Operator: 0, Auditor: 10} {
		var views []string
		a.Viewed = func(_ context.Context, actor, what, eventID string) error {
			views = append(views, actor+" "+what+" "+eventID)
			return nil
		}
		got, err := a.view(withCaller(t.Context(), caller{actor: "x", role: role, may: role.may()}), e, answer())
		if err != nil {
			t.Fatal(err)
		}
		n := 0
		box := reflect.New(reflect.TypeOf(got))
		box.Elem().Set(reflect.ValueOf(got))
		contents(box.Elem(), "", func(string, reflect.Value) { n++ })
		if n != want {
			text, _ := json.Marshal(got)
			t.Errorf("%s: %d contents, want %d: %s", role, n, want, text)
		}
		if role == Auditor {
			told = views
		} else if len(views) > 0 {
			t.Errorf("%s: %q", role, views)
		}
	}
	if want := []string{"x detail 1", "x detail 2"}; !slices.Equal(told, want) {
		t.Errorf("told %q, want %q", told, want)
	}
	e.list = true
	listed, err := a.view(withCaller(t.Context(), caller{may: everything}), e, answer())
	text, failed := json.Marshal(listed)
	if err != nil || failed != nil || bytes.Contains(text, []byte("Jane Doe")) || !bytes.Contains(text, []byte(`"code":"code"`)) {
		t.Errorf("a list: %s, %v", text, err)
	}
	if got, err := a.view(t.Context(), &endpoint{}, nil); got != nil || err != nil {
		t.Errorf("%v, %v", got, err)
	}
	// What cannot be noted is not shown.
	e.list = false
	a.Viewed = func(context.Context, string, string, string) error { return journal.ErrUnavailable }
	if got, err := a.view(withCaller(t.Context(), caller{actor: "x", may: everything}), e, answer()); got != nil || err == nil {
		t.Errorf("%v, %v", got, err)
	}
	// What is of no event is told in the log only: the audit has no place for it, and a
	// plugin's last words are wanted while the journal is away too.
	list := PluginList{Plugins: []Plugin{{Transport: "ehr", LastEnd: "exit status 1"}}}
	got, err := a.view(withCaller(t.Context(), caller{actor: "x", may: everything}), e, list)
	if err != nil || got.(PluginList).Plugins[0].LastEnd == "" {
		t.Errorf("%+v, %v", got, err)
	}
	// Of whom nothing is known, nothing is allowed.
	if err := callerOf(t.Context()).allows(see); err == nil {
		t.Error("a caller of whom nothing is known may see")
	}
}
