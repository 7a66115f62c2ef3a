package app_test

import (
	"bufio"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/hookline/hookline/plugins/target/targettest"
	"github.com/hookline/hookline/plugins/transport"
)

// A caller that hangs up does not stop the delivery; the log says how long it
// waited and how long it should have.
func TestCallerDisappears(t *testing.T) {
	hold := newGate(t)
	d := start(t, preamble+route("ehr", hold.url, "", ""))
	ctx, hangUp := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { _, err := d.do(call{body: event("319"), ctx: ctx}); ended <- err }()
	hold.await(t)
	hangUp()
	if err := <-ended; err == nil {
		t.Fatal("it got an answer")
	}
	hold.open()
	line := d.logs.wait(t, "caller hung up")
	contains(t, "the log", line, "before the budget of 5s", "waited=", "budget=5s", "code=delivered", "hooks.demo.timeout")
	d.logs.wait(t, "delivery delivered", "form=319")
	if n := len(hold.got()); n != 1 {
		t.Errorf("the target got %d requests", n)
	}
	d.update("319", transport.Delivered)
}

// .NET asks first which credentials are wanted, and waits with the body until it
// is told to go on.
func TestChallengeFirstWithExpect(t *testing.T) {
	ehr := newTarget(t, nil)
	d := start(t, preamble+route("ehr", ehr.url, "", ""))
	dial := func() (net.Conn, *bufio.Reader) {
		c, err := net.Dial("tcp", d.app.Addrs()[0].String())
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = c.Close() })
		return c, bufio.NewReader(c)
	}
	body := sample(t, "insert")
	head := fmt.Sprintf("POST /hooks/demo HTTP/1.1\r\nHost: h\r\nContent-Type: application/json; charset=utf-8\r\nContent-Length: %d\r\nExpect: 100-continue\r\n", len(body))

	c, replies := dial()
	r := raw(t, c, replies, head+"\r\n")
	if r.StatusCode != 401 || !strings.HasPrefix(r.Header.Get("WWW-Authenticate"), "Basic ") {
		t.Fatalf("the challenge: %d %v", r.StatusCode, r.Header)
	}
	if r.Close {
		c, replies = dial()
	}
	credentials := "Authorization: Basic " + base64.StdEncoding.EncodeToString([]byte(hookEmail+":"+hookPassword)) + "\r\n"
	if r = raw(t, c, replies, head+credentials+"\r\n"); r.StatusCode != http.StatusContinue {
		t.Fatalf("with credentials: %d", r.StatusCode)
	}
	if r = raw(t, c, replies, string(body)); r.StatusCode != 200 {
		t.Fatalf("the event: %d", r.StatusCode)
	}
	contains(t, "the log", d.logs.wait(t, "first call of a hook"), "challenge_first=true", "expect=100-continue")
	if n := len(ehr.got()); n != 1 {
		t.Errorf("the target got %d requests", n)
	}
}

// A connection serves many events, also after one that was refused or failed.
func TestKeepAlive(t *testing.T) {
	ehr := newTarget(t, nil)
	d := start(t, preamble+route("ehr", ehr.url, `forms = ["319"]`, "")+route("down", "http://"+targettest.ClosedAddr(t), `forms = ["down"]`, ""))
	c, err := net.Dial("tcp", d.app.Addrs()[0].String())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = c.Close() }()
	replies := bufio.NewReader(c)
	credentials := "Authorization: Basic " + base64.StdEncoding.EncodeToString([]byte(hookEmail+":"+hookPassword)) + "\r\n"
	for _, step := range []struct {
		head, body string
		status     int
	}{
		{credentials, string(event("319")), 200},
		{"", string(event("319")), 401},
		{credentials, "not JSON", 400},
		{credentials, string(event("down")), 502},
		{credentials, string(event("319")), 200},
	} {
		r := raw(t, c, replies, fmt.Sprintf("POST /hooks/demo HTTP/1.1\r\nHost: h\r\n%sContent-Length: %d\r\n\r\n%s", step.head, len(step.body), step.body))
		if r.StatusCode != step.status || r.Close {
			t.Fatalf("got %d (close %v), want %d", r.StatusCode, r.Close, step.status)
		}
	}
}

// heldSocket listens as systemd does: the file keeps the port, whoever answers.
func heldSocket(t *testing.T) (*os.File, net.Addr) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	file, err := l.(*net.TCPListener).File()
	if err != nil {
		t.Fatal(err)
	}
	_ = l.Close()
	t.Cleanup(func() { _ = file.Close() })
	return file, l.Addr()
}

// systemd opens the socket: the daemon takes it in place of server.listen, and no
// child hears of it.
func TestSocketActivation(t *testing.T) {
	ehr := newTarget(t, nil)
	file, addr := heldSocket(t)
	d := prepare(t, preamble+route("ehr", ehr.url, "", ""))
	cmd, address := spawn(t, d, []string{modeActivate}, file)
	if address != addr.String() {
		t.Errorf("it listens on %s, want %s", address, addr)
	}
	d.connect(addr)
	t.Cleanup(d.client.CloseIdleConnections)
	d.update("319", transport.Delivered)
	for _, p := range descendants(t, cmd.Process.Pid) {
		environ, err := os.ReadFile(fmt.Sprintf("/proc/%d/environ", p.pid))
		if err != nil {
			t.Fatal(err)
		}
		if strings.Contains(string(environ), "LISTEN_") {
			t.Errorf("%s hears of systemd's socket", p.cmdline)
		}
		if got := sockets(t, p.pid, cmd.Process.Pid); got != "" {
			t.Errorf("%s has inherited %s", p.cmdline, got)
		}
	}
	assertChildrenClean(t)
}

// sockets names a listening socket that both processes have open.
func sockets(t testing.TB, child, parent int) string {
	t.Helper()
	links := func(pid int) map[string]bool {
		out := map[string]bool{}
		names, _ := filepath.Glob(fmt.Sprintf("/proc/%d/fd/*", pid))
		for _, name := range names {
			if to, err := os.Readlink(name); err == nil && strings.HasPrefix(to, "socket:") {
				out[to] = true
			}
		}
		return out
	}
	own := links(parent)
	for s := range links(child) {
		if own[s] {
			return s
		}
	}
	return ""
}

// TLS on the TCP listener: 1.2 or later, and a new certificate is taken up
// without a reload, by new connections.
func TestTLSFront(t *testing.T) {
	ehr := newTarget(t, nil)
	cert, key := certificate(t, "first", time.Now().Add(-time.Hour), time.Now().Add(90*24*time.Hour))
	next, nextKey := certificate(t, "second", time.Now().Add(-time.Hour), time.Now().Add(90*24*time.Hour))
	config := strings.Replace(preamble, `"tcp://127.0.0.1:0"`, `"tcp://127.0.0.1:0", "unix:hook.sock"`, 1) +
		"[server.tls]\ncert_file = \"tls.crt\"\nkey_file = \"tls.key\"\n" + route("ehr", ehr.url, "", "")
	d := start(t, config, files{"tls.crt": string(cert), "tls.key": string(key)})
	addr := d.app.Addrs()[0].String()

	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(cert)
	roots.AppendCertsFromPEM(next)
	var seen sync.Map
	d.url = "https://" + addr
	d.client.Transport.(*http.Transport).TLSClientConfig = &tls.Config{
		RootCAs: roots,
		VerifyConnection: func(s tls.ConnectionState) error {
			seen.Store(s.PeerCertificates[0].Subject.CommonName, true)
			return nil
		},
	}
	d.update("319", transport.Delivered)
	if _, ok := seen.Load("first"); !ok {
		t.Error("it did not show the certificate of the file")
	}
	if c, err := tls.Dial("tcp", addr, &tls.Config{RootCAs: roots, MaxVersion: tls.VersionTLS11}); err == nil {
		_ = c.Close()
		t.Error("TLS 1.1 is taken")
	}
	plain, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = plain.Close() }()
	_ = plain.SetDeadline(time.Now().Add(10 * time.Second))
	_, _ = io.WriteString(plain, "GET /healthz HTTP/1.1\r\nHost: h\r\n\r\n")
	if text, _ := io.ReadAll(plain); strings.Contains(string(text), " 200 ") {
		t.Errorf("without TLS it answers %q", text)
	}

	d.write("tls.crt", string(next))
	d.write("tls.key", string(nextKey))
	eventually(t, "the new certificate", func() bool {
		d.client.CloseIdleConnections()
		d.update("319", transport.Delivered)
		_, ok := seen.Load("second")
		return ok
	})

	// The Unix socket has no TLS.
	d.client.CloseIdleConnections()
	d.connect(d.app.Addrs()[1])
	d.update("319", transport.Delivered)
}
