package targettest

import (
	"context"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/hookline/hookline/plugins/transport"
)

// Want compares what a receipt says surely. Its detail is one line, and may hold
// neither "secret", which stands in the tests' secrets, nor any of hidden.
func Want(tb testing.TB, r transport.Receipt, effect transport.Effect, code transport.Code, status int, hidden ...string) {
	tb.Helper()
	if r.Effect != effect || r.Code != code || r.TargetStatus != status {
		tb.Errorf("got %s/%s status %d (%s %s), want %s/%s status %d", r.Code, r.Effect, r.TargetStatus, r.Detail, r.Body, code, effect, status)
	}
	for _, bad := range slices.Concat([]string{"\r", "\n", "secret"}, hidden) {
		if strings.Contains(r.Detail, bad) {
			tb.Errorf("detail %q holds %q", r.Detail, bad)
		}
	}
	if r.Detail == "" && r.Code != transport.Delivered {
		tb.Error("no detail")
	}
}

// Within delivers with so much time.
func Within(tr transport.Transport, m *transport.Message, d time.Duration) transport.Receipt {
	ctx, cancel := context.WithTimeout(context.Background(), d)
	defer cancel()
	return tr.Deliver(ctx, m)
}

// Eventually looks until ok: there is no signal for what another process does.
func Eventually(tb testing.TB, what string, ok func() bool) {
	tb.Helper()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for end := time.Now().Add(30 * time.Second); !ok(); <-tick.C {
		if time.Now().After(end) {
			tb.Fatalf("waited in vain for %s", what)
		}
	}
}
