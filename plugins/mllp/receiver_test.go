package mllp_test

import (
	"bufio"
	"encoding/base64"
	"encoding/json"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/hookline/hookline/plugins/conformance"

	"github.com/hookline/hookline/plugins/target/targettest"
)

// python is an interpreter that has python-hl7, the independent implementation.
var python = sync.OnceValue(func() string {
	for _, name := range []string{"/usr/bin/python3", "python3"} {
		if exec.Command(name, "-c", "import hl7.mllp").Run() == nil {
			return name
		}
	}
	return ""
})

// receiver is testdata/receiver.py in a process of its own, on a port that it keeps.
type receiver struct {
	tb      testing.TB
	dir     string
	address string
	limit   int
	tls     []string // certificate, key, and authority of the clients' certificates

	cmd *exec.Cmd // nil while it is down
}

func newReceiver(tb testing.TB, tls ...string) *receiver {
	tb.Helper()
	if python() == "" {
		tb.Skip("no python3 with hl7.mllp, so nothing was tested against a real receiver: install it with `apt-get install python3-hl7`, or `pip install hl7`")
	}
	r := &receiver{tb: tb, dir: tb.TempDir(), address: targettest.ClosedAddr(tb), limit: 16 << 20, tls: tls}
	tb.Cleanup(r.kill)
	r.start()
	return r
}

// start waits until it listens. Its port may be busy for a moment after a kill.
func (r *receiver) start() {
	r.tb.Helper()
	_, port, _ := net.SplitHostPort(r.address)
	var errs strings.Builder
	for end := time.Now().Add(30 * time.Second); time.Now().Before(end); {
		cmd := exec.Command(python(), append([]string{"testdata/receiver.py", port, r.dir, strconv.Itoa(r.limit)}, r.tls...)...)
		cmd.Stderr = &errs
		out, err := cmd.StdoutPipe()
		if err == nil {
			err = cmd.Start()
		}
		if err != nil {
			r.tb.Fatal(err)
		}
		if line, _ := bufio.NewReader(out).ReadString('\n'); line == "ready\n" {
			r.cmd = cmd
			return
		}
		_ = cmd.Wait()
	}
	r.tb.Fatalf("the receiver does not start: %s", errs.String())
}

func (r *receiver) kill() {
	if r.cmd != nil {
		_ = r.cmd.Process.Kill()
		_ = r.cmd.Wait()
		r.cmd = nil
	}
}

// answers sets what it answers from now on.
func (r *receiver) answers(words string) {
	r.tb.Helper()
	path := filepath.Join(r.dir, "answer")
	err := os.WriteFile(path+".new", []byte(words), 0o600)
	if err == nil {
		err = os.Rename(path+".new", path)
	}
	if err != nil {
		r.tb.Fatal(err)
	}
}

// Settings implements conformance.Target.
func (r *receiver) Settings() json.RawMessage {
	out, _ := json.Marshal(map[string]any{"address": r.address})
	return out
}

// Set implements conformance.Target. Down is a kill, Slow a stopped process.
func (r *receiver) Set(s conformance.State) {
	if s == conformance.Down {
		r.kill()
		return
	}
	if r.cmd == nil {
		r.start()
	}
	answer, signal := "AA", resume
	switch s {
	case conformance.Rejecting:
		answer = "AR"
	case conformance.Slow:
		signal = pause
	}
	r.answers(answer)
	if err := signal(r.cmd.Process); err != nil {
		r.tb.Fatal(err)
	}
}

// Received implements conformance.Target: the blocks, byte for byte.
func (r *receiver) Received() (out [][]byte) {
	text, err := os.ReadFile(filepath.Join(r.dir, "received"))
	if err != nil && !os.IsNotExist(err) {
		r.tb.Fatal(err)
	}
	for line := range strings.Lines(string(text)) {
		block, err := base64.StdEncoding.DecodeString(strings.TrimSpace(line))
		if err != nil {
			r.tb.Fatal(err)
		}
		out = append(out, block)
	}
	return out
}
