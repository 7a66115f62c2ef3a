package smtp_test

import (
	"bufio"
	"net"
	"strings"
	"sync"
	"testing"
	"time"
)

// dialogue is a server of which the test decides each answer: for what no real one
// does when it is asked to. It answers to a command's first word, "." being the end
// of a mail; "" is no answer, "close" ends the connection.
type dialogue map[string]string

func (d dialogue) reply(command string) string {
	if r, ok := d[command]; ok {
		return r
	}
	switch command {
	case "connect":
		return "220 hello"
	case "DATA":
		return "354 go on"
	case "QUIT":
		return "221 bye"
	}
	return "250 ok"
}

// fake runs the dialogue for each connection, ends with the test, and tells what it
// was told, a line at a time.
func fake(t testing.TB, d dialogue) (addr string, heard func() []string) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var serving sync.WaitGroup
	var mu sync.Mutex
	var lines []string
	open := map[net.Conn]bool{}
	serving.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			mu.Lock()
			open[c] = true
			mu.Unlock()
			serving.Go(func() {
				defer c.Close()
				say := func(command string) bool {
					r := d.reply(command)
					if r == "close" {
						return false
					}
					if r != "" {
						_, _ = c.Write([]byte(r + "\r\n"))
					}
					return true
				}
				if !say("connect") {
					return
				}
				inMail := false
				for in := bufio.NewScanner(c); in.Scan(); {
					line := in.Text()
					mu.Lock()
					lines = append(lines, line)
					mu.Unlock()
					command, _, _ := strings.Cut(line, " ")
					switch {
					case inMail && line == ".":
						inMail, command = false, "."
					case inMail:
						continue
					}
					if !say(command) {
						return
					}
					inMail = inMail || command == "DATA" && strings.HasPrefix(d.reply("DATA"), "354")
				}
			})
		}
	})
	t.Cleanup(func() {
		_ = l.Close()
		mu.Lock()
		for c := range open {
			_ = c.Close()
		}
		mu.Unlock()
		done := make(chan struct{})
		go func() { serving.Wait(); close(done) }()
		select {
		case <-done:
		case <-time.After(10 * time.Second):
			t.Error("the fake server does not end")
		}
	})
	return l.Addr().String(), func() []string {
		mu.Lock()
		defer mu.Unlock()
		return append([]string(nil), lines...)
	}
}
