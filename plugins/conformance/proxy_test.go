package conformance

import (
	"bufio"
	"errors"
	"fmt"
	"net"
	"os"
	"testing"
	"time"
)

func TestProxy(t *testing.T) {
	target := newLines(false)(t).(*lines)
	p := NewProxy(t, target.address)
	send := func(c net.Conn, id string) (word string, err error) {
		t.Helper()
		_ = c.SetReadDeadline(time.Now().Add(200 * time.Millisecond))
		if _, err := fmt.Fprintf(c, `{"id":%q,"token":%q,"payload":%[1]q}`+"\n", id, lineSecret); err != nil {
			return "", err
		}
		return bufio.NewReader(c).ReadString('\n')
	}
	dial := func() net.Conn {
		t.Helper()
		c, err := net.Dial("tcp", p.Addr())
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { c.Close() })
		return c
	}

	c := dial()
	if word, err := send(c, "1"); err != nil || word != "ok\n" {
		t.Fatalf("up: %q %v", word, err)
	}
	p.Set(Slow)
	if _, err := send(c, "2"); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("slow: %v", err)
	}
	if got := target.Received(); len(got) != 2 {
		t.Errorf("slow: the server has %q", got)
	}
	p.Set(Down)
	if _, err := send(c, "3"); err == nil || errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("down: the connection is still there: %v", err)
	}
	if c, err := net.Dial("tcp", p.Addr()); err == nil {
		c.Close()
		t.Error("down: a connection is taken")
	}
	p.Set(Up)
	if word, err := send(dial(), "4"); err != nil || word != "ok\n" {
		t.Errorf("up again: %q %v", word, err)
	}
}
