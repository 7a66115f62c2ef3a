package core_test

import (
	"strings"
	"testing"

	"github.com/hookline/hookline/core"
)

func patterns(t *testing.T, list ...string) (out []core.Pattern) {
	t.Helper()
	for _, s := range list {
		p, err := core.ParsePattern(s)
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, p)
	}
	return out
}

func TestRouterMatch(t *testing.T) {
	router := core.Router{Routes: []*core.Route{
		{Name: "all", Hooks: []string{"*"}},
		{Name: "kinds", Hooks: []string{"demo"}, Kinds: []core.Kind{core.Insert, core.Update}},
		{Name: "form-id", Hooks: []string{"demo"}, Forms: patterns(t, "319")},
		{Name: "form-glob", Hooks: []string{"demo"}, Forms: patterns(t, "Adverse*", "Vitals")},
		{Name: "name-only", Hooks: []string{"demo"}, Forms: patterns(t, "name:319")},
		{Name: "id-only", Hooks: []string{"demo"}, Forms: patterns(t, "id:3?9")},
		{Name: "level", Hooks: []string{"demo"}, Workflow: patterns(t, "Monitor*", "id:9")},
	}}
	for _, tt := range []struct {
		name string
		ev   core.Event
		want string
	}{
		{"insert", core.Event{Kind: core.Insert, FormID: "319", FormName: "Sample"}, "all kinds form-id id-only level"},
		{"glob over a slash", core.Event{Kind: core.Insert, FormID: "7", FormName: "Adverse / serious"}, "all kinds form-glob level"},
		{"a name that looks like an id", core.Event{Kind: core.Insert, FormID: "8", FormName: "319"}, "all kinds form-id name-only level"},
		{"review of another level", core.Event{Kind: core.Review, FormID: "1", Workflow: core.Workflow{ID: "1", Name: "Data Review"}}, "all"},
		{"review by name", core.Event{Kind: core.Review, FormID: "1", Workflow: core.Workflow{ID: "1", Name: "Monitor Review"}}, "all level"},
		{"review by id", core.Event{Kind: core.Review, FormID: "1", Workflow: core.Workflow{ID: "9"}}, "all level"},
		{"review without a level", core.Event{Kind: core.Review, FormID: "1"}, "all"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			tt.ev.Hook = &core.Hook{Name: "demo"}
			var got []string
			for _, r := range router.Match(&tt.ev) {
				got = append(got, r.Name)
			}
			if s := strings.Join(got, " "); s != tt.want {
				t.Errorf("got %q, want %q", s, tt.want)
			}
			got = nil
			for i, v := range router.Explain(&tt.ev) {
				if v.Route != router.Routes[i] || v.Why == "" {
					t.Errorf("verdict %d: %+v", i, v)
				}
				if v.Failed == "" {
					got = append(got, v.Route.Name)
				}
			}
			if s := strings.Join(got, " "); s != tt.want {
				t.Errorf("Explain disagrees with Match: %q, want %q", s, tt.want)
			}
		})
	}
	other := core.Event{Kind: core.Insert, FormID: "319", Hook: &core.Hook{Name: "other"}}
	if got := router.Match(&other); len(got) != 1 || got[0].Name != "all" {
		t.Errorf("an event of another hook matched %d routes", len(got))
	}
	if why := router.Routes[1].Unwanted(&core.Event{Kind: core.Review, Hook: &core.Hook{Name: "demo"}}); why != "events" {
		t.Errorf("Unwanted = %q, want events", why)
	}
}

func TestExplain(t *testing.T) {
	router := core.Router{Routes: []*core.Route{
		{Name: "all", Hooks: []string{"*"}},
		{Name: "exact", Hooks: []string{"demo", "other"}, Kinds: []core.Kind{core.Insert, core.Review}, Forms: patterns(t, "id:3?9", "name:Labs / *"), Workflow: patterns(t, "Sign*", "7")},
		{Name: "hook", Hooks: []string{"live"}},
		{Name: "kind", Hooks: []string{"demo"}, Kinds: []core.Kind{core.Insert, core.Update}},
		{Name: "form", Hooks: []string{"demo"}, Forms: patterns(t, "Adverse / *", "12")},
		{Name: "level", Hooks: []string{"demo"}, Workflow: patterns(t, "name:Monitor*")},
	}}
	ev := &core.Event{
		Hook: &core.Hook{Name: "demo"}, Kind: core.Review, FormID: "319", FormName: "Labs",
		Workflow: core.Workflow{ID: "7"},
	}
	want := `all  it takes every hook
exact  it takes hooks demo or other; insert or review; forms id:3?9 or name:Labs / *; reviews of level Sign* or 7
hook hooks it takes hook live, and this came on hook demo
kind events it takes insert or update, and this is review
form forms it takes forms Adverse / * or 12, and this is form 319 "Labs"
level workflow it takes reviews of level name:Monitor*, and this is a review of level 7
`
	var got strings.Builder
	for _, v := range router.Explain(ev) {
		got.WriteString(v.Route.Name + " " + v.Failed + " " + v.Why + "\n")
	}
	if got.String() != want {
		t.Errorf("got:\n%s\nwant:\n%s", got.String(), want)
	}
}

func TestParsePatternRefuses(t *testing.T) {
	for _, s := range []string{"", "id:", "name:", "[", "a[", `\`} {
		if _, err := core.ParsePattern(s); err == nil {
			t.Errorf("ParsePattern(%q) was accepted", s)
		}
	}
}
