package file_test

import (
	"context"
	"path/filepath"
	"testing"
	"time"

	"github.com/hookline/hookline/plugins/file"
	"github.com/hookline/hookline/plugins/transport"
)

// A disk may hang for hours: lines whose attempts have given up are not kept for it.
func TestGivenUpLinesAreNotKept(t *testing.T) {
	d := newDisk()
	tr := configured(t, obj{"path": filepath.Join(t.TempDir(), "a.jsonl"), "line": "payload"}, file.WithSync(d.sync))
	first := make(chan transport.Receipt, 1)
	go func() { first <- deliver(t, tr, numbered("1")) }()
	<-d.enter
	for range 20 {
		ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
		want(t, tr.Deliver(ctx, numbered("2")), transport.None, transport.Timeout)
		cancel()
	}
	if n := tr.Waiting(); n != 0 {
		t.Errorf("%d lines are kept that nobody waits for", n)
	}
	d.leave <- nil
	want(t, <-first, transport.Done, transport.Delivered)
}
