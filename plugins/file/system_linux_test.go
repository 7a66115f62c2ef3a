package file_test

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/hookline/hookline/plugins/transport"
)

// Real file systems in a mount namespace of the test binary's own, executed again:
// one that is full, and one that can only be read.
func TestFullAndReadOnlyDisk(t *testing.T) {
	if os.Getenv("HOOKLINE_TEST_NAMESPACE") == "" {
		inNamespace(t)
		return
	}
	dir := t.TempDir()
	mount := func(flags uintptr) {
		t.Helper()
		if err := syscall.Mount("tmpfs", dir, "tmpfs", flags, "size=256k"); err != nil {
			t.Fatal(err)
		}
	}
	mount(0)
	t.Cleanup(func() { _ = syscall.Unmount(dir, syscall.MNT_DETACH) })
	path := filepath.Join(dir, "a.jsonl")
	tr := configured(t, obj{"path": path, "line": "payload"})

	// Many callers fill it. Those that fit are whole, and of the others nothing is left.
	var mu sync.Mutex
	delivered := map[string]bool{}
	var full int
	var calls sync.WaitGroup
	for c := range 8 {
		calls.Go(func() {
			for k := range 20 {
				text := fmt.Sprintf("%d-%d-%s", c, k, strings.Repeat("x", 5000))
				r := deliver(t, tr, numbered(text))
				mu.Lock()
				if r.Effect == transport.Done {
					delivered[text] = true
				} else {
					full++
					want(t, r, transport.None, transport.TargetError)
					if !strings.Contains(r.Detail, "no space left") {
						t.Errorf("detail: %s", r.Detail)
					}
				}
				mu.Unlock()
			}
		})
	}
	calls.Wait()
	got := lines(t, path)
	if full == 0 || len(got) != len(delivered) {
		t.Errorf("%d lines, %d delivered, %d did not fit", len(got), len(delivered), full)
	}
	for _, line := range got {
		if !delivered[line] {
			t.Errorf("in the file and not delivered: %.20q", line)
		}
	}
	// Room is made, and it goes on without a restart.
	if err := os.Truncate(path, 0); err != nil {
		t.Fatal(err)
	}
	want(t, deliver(t, tr, message()), transport.Done, transport.Delivered)
	_ = tr.Close() // a file that is open for writing keeps the disk from turning read-only

	mount(syscall.MS_REMOUNT | syscall.MS_RDONLY)
	tr = configured(t, obj{"path": path, "line": "payload"})
	r := deliver(t, tr, message())
	want(t, r, transport.None, transport.TargetError)
	if c := tr.Check(t.Context()); c.Effect != transport.None || !strings.Contains(r.Detail+c.Detail, "read-only") {
		t.Errorf("read-only: %v, %v", r, c)
	}
	mount(syscall.MS_REMOUNT)
	want(t, deliver(t, tr, message()), transport.Done, transport.Delivered)
}

// A disk whose server has gone while a file on it was about to be opened: each call to it
// fails, until it is mounted again.
func TestDiskThatWentAway(t *testing.T) {
	if os.Getenv("HOOKLINE_TEST_NAMESPACE") == "" {
		inNamespace(t)
		return
	}
	dir := filepath.Join(t.TempDir(), "disk")
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	fuse, err := os.OpenFile("/dev/fuse", os.O_RDWR, 0)
	if err != nil {
		t.Skipf("no FUSE here (%v): a disk that went away is not tested", err)
	}
	err = syscall.Mount("hookline-test", dir, "fuse", 0,
		fmt.Sprintf("fd=%d,rootmode=40000,user_id=%d,group_id=%d", fuse.Fd(), os.Getuid(), os.Getgid()))
	_ = fuse.Close() // it ends before it has said a word
	if err != nil {
		t.Skipf("FUSE cannot be mounted here (%v): a disk that went away is not tested", err)
	}
	for _, name := range []string{"a.jsonl", "{hook}/a.jsonl"} {
		tr := configured(t, obj{"path": filepath.Join(dir, name)})
		for _, r := range []transport.Receipt{deliver(t, tr, message()), tr.Check(t.Context())} {
			want(t, r, transport.None, transport.TargetError)
			if !strings.Contains(r.Detail, "not connected") {
				t.Errorf("%s: detail: %s", name, r.Detail)
			}
		}
	}
	tr := configured(t, obj{"path": filepath.Join(dir, "a.jsonl")})
	want(t, deliver(t, tr, message()), transport.None, transport.TargetError)
	if err := syscall.Unmount(dir, syscall.MNT_DETACH); err != nil {
		t.Fatal(err)
	}
	want(t, deliver(t, tr, message()), transport.Done, transport.Delivered)
}

// inNamespace runs the test again where it may mount.
func inNamespace(t *testing.T) {
	t.Helper()
	cmd := exec.Command("/proc/self/exe", "-test.run", "^"+t.Name()+"$", "-test.v")
	cmd.Env = append(os.Environ(), "HOOKLINE_TEST_NAMESPACE=1")
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNS}
	if os.Getuid() != 0 {
		cmd.SysProcAttr.Cloneflags |= syscall.CLONE_NEWUSER
		cmd.SysProcAttr.UidMappings = []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getuid(), Size: 1}}
		cmd.SysProcAttr.GidMappings = []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getgid(), Size: 1}}
	}
	out, err := cmd.CombinedOutput()
	text := string(out)
	if err != nil && (len(text) == 0 || strings.Contains(text, "operation not permitted")) {
		t.Skipf("no mount namespace here (%v): real file systems are not tested; run as root, or allow user namespaces\n%s", err, text)
	}
	if err == nil && strings.Contains(text, "--- SKIP: "+t.Name()) {
		t.Skip(text)
	}
	if err != nil || !strings.Contains(text, "--- PASS: "+t.Name()) {
		t.Errorf("%v\n%s", err, text)
	}
}

// A folder, and a file, of somebody else.
func TestNotPermitted(t *testing.T) {
	dir, err := os.MkdirTemp("", "hookline-file-") // t.TempDir is private
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	path := filepath.Join(dir, "a.jsonl")
	write(t, path, "")
	for _, mode := range []os.FileMode{0o555, 0o711} {
		if err := os.Chmod(dir, mode); err != nil {
			t.Fatal(err)
		}
		if mode == 0o711 && os.Getuid() != 0 {
			_ = os.Chmod(path, 0o400)
		}
		cmd := exec.Command("/proc/self/exe", modeAs, path)
		if mode == 0o555 {
			cmd.Args[2] = filepath.Join(dir, "new.jsonl")
		}
		if os.Getuid() == 0 { // whom nothing stops
			cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
		}
		cmd.Stderr = os.Stderr
		out, err := cmd.Output()
		var got struct{ Deliver, Check transport.Receipt }
		if err == nil {
			err = json.Unmarshal(out, &got)
		}
		if err != nil {
			t.Fatal(err)
		}
		want(t, got.Deliver, transport.None, transport.UnauthorizedByTarget)
		want(t, got.Check, transport.None, transport.UnauthorizedByTarget)
	}
}

// A named pipe in the file's place hangs nobody.
func TestNamedPipe(t *testing.T) {
	path := filepath.Join(t.TempDir(), "a.jsonl")
	if err := syscall.Mkfifo(path, 0o600); err != nil {
		t.Fatal(err)
	}
	tr := configured(t, obj{"path": path})
	want(t, deliver(t, tr, message()), transport.None, transport.NotFoundAtTarget)
	want(t, tr.Check(t.Context()), transport.None, transport.NotFoundAtTarget)
}
