//go:build unix

package socket

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) {
	if os.Getenv("SOCKET_CHILD") != "" {
		os.Exit(activatedChild())
	}
	goleak.VerifyTestMain(m)
}

func TestStaleSocketIsReplaced(t *testing.T) {
	path := filepath.Join(t.TempDir(), "h.sock")
	dead, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	dead.(*net.UnixListener).SetUnlinkOnClose(false)
	dead.Close()

	l, err := Listen("unix:"+path, 0o660)
	if err != nil {
		t.Fatal(err)
	}
	// A file that has become another's stays.
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	other, err := Listen("unix:"+path, 0o660)
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
	taken, err := Listen("tcp://127.0.0.1:0", 0o660)
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
		if _, err := Listen(url, 0o660); err == nil || !strings.Contains(err.Error(), want) {
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
		cmd.Env = append(os.Environ(), "SOCKET_CHILD=1", fmt.Sprintf("LISTEN_FDS=%d", len(c.files)))
		cmd.ExtraFiles = c.files
		out, err := cmd.CombinedOutput()
		if err != nil || !strings.Contains(string(out), c.want) {
			t.Errorf("%v, want %q in\n%s", err, c.want, out)
		}
	}
}

// activatedChild is what the daemon does with sockets that systemd hands over; it
// runs in a process of its own, see TestMain.
func activatedChild() (code int) {
	ls, err := Activated()
	for _, l := range ls {
		fmt.Println("listens on", l.Addr())
		l.Close()
	}
	if err != nil {
		fmt.Println(err)
	}
	if os.Getenv("LISTEN_FDS") != "" {
		fmt.Println("a child would take the sockets for its own")
		return 1
	}
	return 0
}
