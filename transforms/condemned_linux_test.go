package transforms_test

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"sync"
	"testing"
	"time"

	"github.com/hookline/hookline/core"
	"github.com/hookline/hookline/plugins/target/targettest"
	"github.com/hookline/hookline/transforms"
)

// asked is a TrialKit that does something each time that it is asked.
type asked struct {
	mu   sync.Mutex
	next []func()
}

func (a *asked) Get(context.Context, string, string) ([]byte, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if len(a.next) > 0 {
		f := a.next[0]
		a.next = a.next[1:]
		f()
	}
	return []byte("1"), nil
}

// A script that runs alone is not to blame for a process that is killed as it does not
// answer another.
func TestKilledForAnother(t *testing.T) {
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	api := &asked{}
	e, err := transforms.Start(t.Context(), transforms.Options{Command: []string{exe, "child"}, Log: slog.New(slog.DiscardHandler), TrialKit: api})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(e.Stop)
	tr := compile(t, e, `export default async (event, ctx) => await ctx.trialkit.get("form/7/435")`, 20*time.Second)
	other := compile(t, e, `export default () => 2`, 20*time.Second)
	api.next = []func(){
		func() { kill(t, e) }, // so it runs again, alone
		func() {
			if err := targettest.Freeze(e.Status().PID); err != nil {
				t.Error(err)
			}
			ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
			defer cancel()
			_, err := other.Transform(ctx, event(update), route, delivery, nil)
			var script *core.ScriptError
			if !errors.As(err, &script) || !script.Blameless {
				t.Errorf("the other: %v", err)
			}
		},
	}
	if got := payload(t, tr, update, delivery); got != "1" {
		t.Errorf("got %s", got)
	}
	if list := e.Quarantined(); len(list) != 0 {
		t.Errorf("%+v", list)
	}
}
