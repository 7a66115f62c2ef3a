package file_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/hookline/hookline/plugins/file"
	"github.com/hookline/hookline/plugins/target/targettest"
	"github.com/hookline/hookline/plugins/transport"
)

// disk is one whose fsync a test lets through, or has fail.
type disk struct {
	syncs  atomic.Int64
	enter  chan struct{} // one for each fsync that has begun
	leave  chan error    // what it comes to
	synced atomic.Pointer[os.File]
}

func newDisk() *disk {
	return &disk{enter: make(chan struct{}, 1024), leave: make(chan error, 1024)}
}

func (d *disk) sync(f *os.File) error {
	d.syncs.Add(1)
	d.synced.Store(f)
	d.enter <- struct{}{}
	if err := <-d.leave; err != nil {
		return err
	}
	return f.Sync()
}

// While one line is synced the others collect: 64 callers make two fsyncs.
func TestCallersShareAnFsync(t *testing.T) {
	path := filepath.Join(t.TempDir(), "a.jsonl")
	d := newDisk()
	tr := configured(t, obj{"path": path, "line": "payload"}, file.WithSync(d.sync))
	var calls sync.WaitGroup
	send := func(n int) {
		calls.Go(func() {
			want(t, deliver(t, tr, numbered(fmt.Sprint(n))), transport.Done, transport.Delivered)
		})
	}
	send(0)
	<-d.enter
	for n := range 63 {
		send(n + 1)
	}
	targettest.Eventually(t, "63 lines to wait", func() bool { return tr.Waiting() == 63 })
	if got := lines(t, path); len(got) != 1 {
		t.Errorf("%d lines are written while the first is synced", len(got))
	}
	d.leave <- nil
	<-d.enter
	d.leave <- nil
	calls.Wait()
	if n := d.syncs.Load(); n != 2 {
		t.Errorf("%d fsyncs for 64 callers, want 2", n)
	}
	got := lines(t, path)
	slices.Sort(got)
	if len(slices.Compact(got)) != 64 {
		t.Errorf("%d lines, want 64", len(got))
	}
}

// Who gives up before the line is written gets none, and the line never comes; who
// gives up later gets unknown.
func TestDeadlineOnAHangingDisk(t *testing.T) {
	path := filepath.Join(t.TempDir(), "a.jsonl")
	d := newDisk()
	tr := configured(t, obj{"path": path, "line": "payload"}, file.WithSync(d.sync))
	ctx, cancel := context.WithCancel(t.Context())
	first := make(chan transport.Receipt, 1)
	go func() { first <- tr.Deliver(ctx, numbered("1")) }()
	<-d.enter
	short, stop := context.WithTimeout(t.Context(), 10*time.Millisecond)
	defer stop()
	want(t, tr.Deliver(short, numbered("2")), transport.None, transport.Timeout)
	cancel()
	want(t, <-first, transport.Unknown, transport.Timeout)
	d.leave <- nil
	d.leave <- nil
	want(t, deliver(t, tr, numbered("3")), transport.Done, transport.Delivered)
	if got := strings.Join(lines(t, path), " "); got != "1 3" {
		t.Errorf("the file has %q", got)
	}
}

// After a failed fsync the file is opened again: the next fsync of the old one could
// succeed without the pages that were dropped.
func TestFsyncFails(t *testing.T) {
	path := filepath.Join(t.TempDir(), "a.jsonl")
	d := newDisk()
	tr := configured(t, obj{"path": path, "line": "payload"}, file.WithSync(d.sync))
	d.leave <- syscall.EIO
	want(t, deliver(t, tr, numbered("1")), transport.Unknown, transport.TargetError)
	failed := d.synced.Load()
	d.leave <- nil
	want(t, deliver(t, tr, numbered("2")), transport.Done, transport.Delivered)
	if d.synced.Load() == failed {
		t.Error("the file whose fsync failed is still in use")
	}
}

// A close that a hanging disk would hold up for ever does not.
func TestCloseOnAHangingDisk(t *testing.T) {
	d := newDisk()
	tr := file.New(file.WithSync(d.sync))
	if err := tr.Configure(t.Context(), fmt.Appendf(nil, `{"path":%q}`, filepath.Join(t.TempDir(), "a"))); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan transport.Receipt, 1)
	go func() { done <- tr.Deliver(ctx, message()) }()
	<-d.enter
	if err := tr.Close(); err != nil {
		t.Errorf("Close: %v", err)
	}
	cancel()
	want(t, <-done, transport.Unknown, transport.Timeout)
	want(t, deliver(t, tr, message()), transport.None, transport.TargetError)
	d.leave <- nil // goleak sees that the writer ends
}

// A file that nothing is written to is closed, and opened again.
func TestIdleFilesClose(t *testing.T) {
	dir := t.TempDir()
	tr := configured(t, obj{"path": dir + "/{kind}.jsonl", "line": "payload"}, file.WithIdle(time.Millisecond))
	for range 3 {
		for _, kind := range []string{"insert", "update", "review"} {
			m := message()
			m.Kind = kind
			want(t, deliver(t, tr, m), transport.Done, transport.Delivered)
		}
		targettest.Eventually(t, "idle files to close", func() bool { return tr.Writers() == 0 })
	}
	for _, kind := range []string{"insert", "update", "review"} {
		if n := len(lines(t, filepath.Join(dir, kind+".jsonl"))); n != 3 {
			t.Errorf("%s: %d lines, want 3", kind, n)
		}
	}
}

// The last line of a crash is a line of its own, and costs no other.
func TestTornLastLine(t *testing.T) {
	path := filepath.Join(t.TempDir(), "a.jsonl")
	write(t, path, "whole\nto")
	tr := configured(t, obj{"path": path, "line": "payload"})
	want(t, deliver(t, tr, numbered("1")), transport.Done, transport.Delivered)
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_APPEND, 0)
	if err != nil {
		t.Fatal(err)
	}
	_, _ = f.WriteString("half") // another process died while the file is open here
	_ = f.Close()
	want(t, deliver(t, tr, numbered("2")), transport.Done, transport.Delivered)
	want(t, deliver(t, tr, numbered("3")), transport.Done, transport.Delivered)
	if got := strings.Join(lines(t, path), " "); got != "whole to 1 half 2 3" {
		t.Errorf("the file has %q", got)
	}
}

// logrotate moves the file away: the next line begins a new one.
func TestMovedAway(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "a.jsonl")
	tr := configured(t, obj{"path": path, "line": "payload"})
	want(t, deliver(t, tr, numbered("1")), transport.Done, transport.Delivered)
	if err := os.Rename(path, path+".1"); err != nil {
		t.Fatal(err)
	}
	want(t, deliver(t, tr, numbered("2")), transport.Done, transport.Delivered)
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	want(t, deliver(t, tr, numbered("3")), transport.Done, transport.Delivered)
	if a, b := lines(t, path+".1"), lines(t, path); a[0] != "1" || len(a) != 1 || b[0] != "3" || len(b) != 1 {
		t.Errorf("moved: %q, new: %q", a, b)
	}
}

// Two transports write to one path and rotate it: no line is lost, torn or doubled,
// which is why a reload need not wait for the old process.
func TestTwoWritersRotate(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "a.jsonl")
	const callers, each = 8, 60
	filler := strings.Repeat("x", 500)
	var calls sync.WaitGroup
	for n := range 2 {
		tr := configured(t, obj{"path": path, "line": "payload", "rotate_size": 64 << 10})
		for c := range callers {
			calls.Go(func() {
				for k := range each {
					want(t, deliver(t, tr, numbered(fmt.Sprintf("%d-%d-%d-%s", n, c, k, filler))), transport.Done, transport.Delivered)
				}
			})
		}
	}
	calls.Wait()
	names, err := filepath.Glob(filepath.Join(dir, "*"))
	if err != nil || len(names) < 5 {
		t.Fatalf("%v, %v: want several files", names, err)
	}
	slices.Sort(names)
	seen := map[string]bool{}
	for i, name := range names {
		info, err := os.Stat(name)
		if err != nil {
			t.Fatal(err)
		}
		if info.Size() > 64<<10 {
			t.Errorf("%s has %d bytes", name, info.Size())
		}
		if base, last := filepath.Base(name), i == len(names)-1; last && base != "a.jsonl" || !last && base != fmt.Sprintf("a.%06d.jsonl", i+1) {
			t.Errorf("file %d is called %s", i, base)
		}
		for _, line := range lines(t, name) {
			if seen[line] || !strings.HasSuffix(line, filler) {
				t.Errorf("torn or doubled: %.30q", line)
			}
			seen[line] = true
		}
	}
	if len(seen) != 2*callers*each {
		t.Errorf("%d lines, want %d", len(seen), 2*callers*each)
	}
}

// A line that is longer than rotate_size has a file of its own.
func TestLongLineRotates(t *testing.T) {
	dir := t.TempDir()
	tr := configured(t, obj{"path": filepath.Join(dir, "a"), "line": "payload", "rotate_size": 64 << 10})
	for _, p := range []string{"1", strings.Repeat("2", 100<<10), "3"} {
		want(t, deliver(t, tr, numbered(p)), transport.Done, transport.Delivered)
	}
	for name, first := range map[string]string{"a.000001": "1", "a.000002": "2", "a": "3"} {
		if got := lines(t, filepath.Join(dir, name)); len(got) != 1 || got[0][:1] != first {
			t.Errorf("%s: %d lines, %.10q", name, len(got), got)
		}
	}
}
