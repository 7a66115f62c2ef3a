package admin

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hookline/hookline/core/journal"
)

// A database that does not answer is told of in seconds, in words that are true.
func TestBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		hang := func(ctx context.Context) error { <-ctx.Done(); return ctx.Err() }
		away := fmt.Errorf("%w: look whether it is up (%w)", journal.ErrUnavailable, context.DeadlineExceeded)
		for name, tt := range map[string]struct {
			read func(context.Context) error
			took time.Duration
			says string
		}{
			"hangs":       {hang, readTimeout, "the journal has not answered within 5s"},
			"unavailable": {func(context.Context) error { return away }, 0, `{"error":"` + away.Error()},
		} {
			begun := time.Now()
			err := listError(bounded(t.Context(), tt.read))
			if took := time.Since(begun); took != tt.took {
				t.Errorf("%s: after %s", name, took)
			}
			w := httptest.NewRecorder()
			fail(w, err)
			if w.Code != http.StatusServiceUnavailable || !strings.Contains(w.Body.String(), tt.says) {
				t.Errorf("%s: %d %s", name, w.Code, w.Body)
			}
		}
		gone, cancel := context.WithCancel(t.Context())
		cancel()
		if err := bounded(gone, hang); !errors.Is(err, context.Canceled) {
			t.Error(err)
		}
	})
}
