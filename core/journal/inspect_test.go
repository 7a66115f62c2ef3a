package journal

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/hookline/hookline/core"
)

func TestInspect(t *testing.T) {
	onDurable(t, func(t *testing.T, url string) {
		look := func() Report {
			t.Helper()
			r, err := Inspect(t.Context(), Options{URL: url}, true)
			if err != nil || !r.Looked || r.Know < 1 {
				t.Fatalf("%+v, %v", r, err)
			}
			return r
		}
		if r := look(); !r.New {
			t.Errorf("before: %+v", r)
		}
		s := open(t, Options{URL: url})
		file, sqlite := strings.CutPrefix(url, "sqlite:")
		if r := look(); r.New || r.Have != r.Know || r.Used != sqlite || sqlite && r.PID != os.Getpid() {
			t.Errorf("in use: %+v", r)
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		if r := look(); r.New || r.Have != r.Know || r.Used {
			t.Errorf("afterwards: %+v", r)
		}
		if !sqlite {
			r, err := Inspect(t.Context(), Options{URL: "postgres://nobody:s3cret@127.0.0.1:1/x"}, false)
			if err != nil || r.Looked || strings.Contains(r.Where, "s3cret") {
				t.Errorf("%+v, %v", r, err)
			}
			_, err = Inspect(t.Context(), Options{URL: "postgres://nobody:s3cret@127.0.0.1:1/x"}, true)
			if !errors.Is(err, ErrUnavailable) || strings.Contains(err.Error(), "s3cret") {
				t.Error(err)
			}
			return
		}
		if all, _ := filepath.Glob(file + "-*"); len(all) != 0 {
			t.Errorf("left: %q", all)
		}
		for path, want := range map[string]string{
			filepath.Join(filepath.Dir(file), "none", "x.db"): "does not exist",
			filepath.Dir(file): "is no file",
		} {
			if _, err := Inspect(t.Context(), Options{URL: "sqlite:" + path}, true); err == nil || !strings.Contains(err.Error(), want) {
				t.Errorf("%s: %v", path, err)
			}
		}
	})
}

func TestActsOfAnEvent(t *testing.T) {
	onEach(t, func(t *testing.T, url string) {
		s := open(t, Options{URL: url})
		a, b := begin(t, s, "1", true, "x", "y"), begin1(t, s, "2", true)
		settle(t, s, a[0].Delivery, core.Settlement{State: core.StateHeld, Due: -1})
		settle(t, s, b.Delivery, core.Settlement{State: core.StateHeld, Due: -1})
		if _, err := s.Retry(context.Background(), "me", "first", []string{a[0].ID, b.ID}); err != nil {
			t.Fatal(err)
		}
		if _, err := s.Cancel(context.Background(), "you", "second", []string{a[0].ID}); err != nil {
			t.Fatal(err)
		}
		acts, err := s.Acts(context.Background(), a[0].Event.ID)
		if err != nil || len(acts) != 2 || acts[0].At.IsZero() {
			t.Fatalf("%+v, %v", acts, err)
		}
		for i, want := range []Act{
			{Delivery: a[0].ID, Actor: "me", Act: "retry", Reason: "first", Was: core.StateHeld, Now: core.StateQueued},
			{Delivery: a[0].ID, Actor: "you", Act: "cancel", Reason: "second", Was: core.StateQueued, Now: core.StateCancelled},
		} {
			if want.At = acts[i].At; acts[i] != want {
				t.Errorf("%+v, want %+v", acts[i], want)
			}
		}
		route, state, err := s.RouteOf(context.Background(), a[1].ID)
		if err != nil || route != "y" || state != core.StateRunning {
			t.Error(route, state, err)
		}
		if route, _, err := s.RouteOf(context.Background(), "none"); err != nil || route != "" {
			t.Error(route, err)
		}
		if err := s.Probe(t.Context()); err != nil || s.Unavailable() != nil {
			t.Error(err)
		}
	})
}
