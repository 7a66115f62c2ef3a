package admin_test

import (
	"context"
	"log/slog"
	"testing"
	"time"

	"github.com/hookline/hookline/core/admin"
)

// A daemon that stops does not wait for who goes through all of its journal.
func TestStopEndsCalls(t *testing.T) {
	path, begun := socket(t), make(chan struct{})
	s := serve(t, admin.Options{Path: path, Log: slog.New(slog.DiscardHandler), Reload: func(ctx context.Context) error {
		close(begun)
		<-ctx.Done()
		return ctx.Err()
	}})
	called := make(chan error, 1)
	go func() { called <- admin.Reload(context.Background(), path) }()
	<-begun
	start := time.Now()
	s.Stop()
	if took := time.Since(start); took > 10*time.Second {
		t.Errorf("it waited for the call, %v", took)
	}
	if err := <-called; err == nil {
		t.Error("the call came to a good end")
	}
}
