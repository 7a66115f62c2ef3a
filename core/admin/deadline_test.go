package admin

import (
	"context"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"
)

// patient remembers how long its caller may take to read.
type patient struct {
	*httptest.ResponseRecorder
	until time.Time
}

func (p *patient) SetWriteDeadline(t time.Time) error {
	p.until = t
	return nil
}

// Whoever asks for metrics and does not read them must not keep their place for ever.
func TestMetricsHaveADeadline(t *testing.T) {
	w := &patient{ResponseRecorder: httptest.NewRecorder()}
	a := &api{Options{Metrics: http.HandlerFunc(func(http.ResponseWriter, *http.Request) {
		if w.until.IsZero() {
			t.Error("the answer has no deadline")
		}
	})}}
	r := httptest.NewRequest(http.MethodGet, "/metrics", nil)
	r = r.WithContext(withCaller(context.Background(), caller{may: everything}))
	a.routes().ServeHTTP(w, r)
	if w.Code != http.StatusOK {
		t.Errorf("status %d", w.Code)
	}
}
