//go:build unix

package ingest

import (
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/hookline/hookline/core"
)

func TestUnixSocket(t *testing.T) {
	path := filepath.Join(t.TempDir(), "h.sock")
	s := start(t, Options{}, setOf(hook("demo", password)))
	l := s.serve(t, "unix://"+path)
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o660 {
		t.Fatalf("%v %v", info, err)
	}
	p := dial(t, "unix", path)
	p.send(post("demo", basic(email, password), insert))
	p.want(http.StatusOK, core.Ignored)
	s.log.await(t, "first call of a hook", "remote=unix")

	if _, err := Listen("unix://" + path); err == nil || !strings.Contains(err.Error(), "another process listens there") {
		t.Errorf("a live socket was taken over: %v", err)
	}
	p.send(post("demo", basic(email, password), insert))
	p.want(http.StatusOK, core.Ignored)

	if err := s.Drain(t.Context()); err != nil {
		t.Error(err)
	}
	if _, err := os.Lstat(path); !os.IsNotExist(err) {
		t.Errorf("the file is still there: %v", err)
	}
	l.Close() // again
}

func TestStaleSocketIsReplaced(t *testing.T) {
	path := filepath.Join(t.TempDir(), "h.sock")
	dead, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	dead.(*net.UnixListener).SetUnlinkOnClose(false)
	dead.Close()

	l, err := Listen("unix:" + path)
	if err != nil {
		t.Fatal(err)
	}
	// A file that has become another's stays.
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	other, err := Listen("unix:" + path)
	if err != nil {
		t.Fatal(err)
	}
	l.Close()
	if _, err := os.Lstat(path); err != nil {
		t.Errorf("another's socket was removed: %v", err)
	}
	other.Close()
}

func TestListenErrors(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "file")
	if err := os.WriteFile(file, []byte("precious"), 0o600); err != nil {
		t.Fatal(err)
	}
	taken, err := Listen("tcp://127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	for url, want := range map[string]string{
		"unix://" + file:                  "not a socket",
		"unix://" + dir + "/no/such.sock": "no such file",
		"unix:":                           "names no socket",
		"http://127.0.0.1:80":             "write tcp://host:port or unix:///path",
		"tcp://" + taken.Addr().String():  "cannot listen on tcp://",
	} {
		if _, err := Listen(url); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", url, err)
		}
	}
	if text, _ := os.ReadFile(file); string(text) != "precious" {
		t.Error("the file is gone")
	}
}

func TestActivated(t *testing.T) {
	if ls, err := Activated(); len(ls) != 0 || err != nil {
		t.Fatalf("without systemd: %v %v", ls, err)
	}
	tcp, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer tcp.Close()
	udp, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer udp.Close()
	stream, err := tcp.(*net.TCPListener).File()
	if err != nil {
		t.Fatal(err)
	}
	defer stream.Close()
	packet, err := udp.(*net.UDPConn).File()
	if err != nil {
		t.Fatal(err)
	}
	defer packet.Close()

	for _, c := range []struct {
		files []*os.File
		want  string
	}{
		{[]*os.File{stream}, "listens on " + tcp.Addr().String()},
		{[]*os.File{stream, packet}, "use ListenStream"},
	} {
		// LISTEN_PID must be the child's own, as systemd sets it between fork and exec.
		cmd := exec.Command("sh", "-c", `LISTEN_PID=$$ exec "$0"`, os.Args[0])
		cmd.Env = append(os.Environ(), "INGEST_CHILD=1", fmt.Sprintf("LISTEN_FDS=%d", len(c.files)))
		cmd.ExtraFiles = c.files
		out, err := cmd.CombinedOutput()
		if err != nil || !strings.Contains(string(out), c.want) {
			t.Errorf("%v, want %q in\n%s", err, c.want, out)
		}
	}
}
