//go:build unix

package targettest

import (
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"testing"
	"time"
)

// NATS is a server of a test's own, with JetStream.
type NATS struct {
	Server
	Addr string // host:port
}

// FindNATS is the program for [StartNATS]. Without one the test is left out.
func FindNATS(tb testing.TB) string {
	tb.Helper()
	program := Find("nats-server", "/usr/sbin")
	if program == "" {
		Missing(tb, "NATS", "apt-get install nats-server")
	}
	return program
}

// StartNATS starts a server whose files are in dir. conf is added to its
// configuration.
func StartNATS(program, dir, conf string) (*NATS, error) {
	port, err := FreePort()
	if err != nil {
		return nil, err
	}
	n := &NATS{Addr: "127.0.0.1:" + strconv.Itoa(port)}
	file := filepath.Join(dir, "nats.conf")
	text := fmt.Sprintf("listen: %q\njetstream { store_dir: %q, max_mem: 64M, max_file: 1G }\n%s\n", n.Addr, filepath.Join(dir, "jetstream"), conf)
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		return nil, err
	}
	n.Server = Server{Program: program, Args: []string{"-c", file}, Dir: dir, Within: 30 * time.Second, Ready: func() error {
		c, err := net.DialTimeout("tcp", n.Addr, time.Second)
		if err != nil {
			return err
		}
		return c.Close()
	}}
	return n, n.Start()
}
