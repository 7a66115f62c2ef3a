package app_test

import (
	"bufio"
	"encoding/base64"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/hookline/hookline/plugins/target/targettest"
	"github.com/hookline/hookline/plugins/transport"
)

// A daemon with the mllp transport and the example's transform, before a receiver on
// python-hl7: what was answered with success is there, and what it rejects is not.
func TestMLLPTransport(t *testing.T) {
	python := ""
	for _, name := range []string{"/usr/bin/python3", "python3"} {
		if python == "" && exec.Command(name, "-c", "import hl7.mllp").Run() == nil {
			python = name
		}
	}
	if python == "" {
		targettest.Missing(t, "an MLLP receiver", "apt-get install python3-hl7")
	}
	dir, address := t.TempDir(), targettest.ClosedAddr(t)
	_, port, _ := net.SplitHostPort(address)
	cmd := exec.Command(python, filepath.Join("..", "..", "plugins", "mllp", "testdata", "receiver.py"), port, dir, "1000000")
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = cmd.Process.Kill(); _ = cmd.Wait() })
	if line, _ := bufio.NewReader(out).ReadString('\n'); line != "ready\n" {
		t.Fatal("the receiver does not start")
	}
	script, err := os.ReadFile(filepath.Join("..", "..", "examples", "demo", "adt.js"))
	if err != nil {
		t.Fatal(err)
	}
	d := start(t, preamble+fmt.Sprintf(`
[transports.ehr]
plugin = "mllp"
settings = { address = %q }
[routes.ehr]
hooks = ["demo"]
transform = "adt.js"
transport = "ehr"
on_failure = "stop"
`, address), files{"adt.js": string(script)})
	d.update("1", transport.Delivered)
	if err := os.WriteFile(filepath.Join(dir, "answer"), []byte("AR"), 0o600); err != nil {
		t.Fatal(err)
	}
	d.update("2", transport.RejectedByTarget)

	text, err := os.ReadFile(filepath.Join(dir, "received"))
	if err != nil {
		t.Fatal(err)
	}
	first, _, _ := strings.Cut(string(text), "\n")
	block, err := base64.StdEncoding.DecodeString(first)
	if err != nil {
		t.Fatal(err)
	}
	contains(t, "the message", string(block), `MSH|^~\&|HOOKLINE|ABC-123|EHR|HOSPITAL|`, "\rNTE|1||Sample Form\r")
}
