//go:build linux

package http_test

import (
	"io"
	"net"
	"os"
	"sync/atomic"
	"testing"

	"github.com/hookline/hookline/plugins/target/targettest"
	"github.com/hookline/hookline/plugins/transport"
)

// Thousands of failures leave no file descriptor behind; TestMain looks after the
// goroutines.
func TestFailuresLeaveNothing(t *testing.T) {
	var n atomic.Int32
	addr := rawServer(t, func(c *net.TCPConn) {
		readRequest(c)
		switch n.Add(1) % 4 {
		case 0:
			_ = c.SetLinger(0)
		case 1:
			_, _ = io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n1")
		case 2:
			_, _ = io.WriteString(c, "HTTP/1.1 500 No\r\nContent-Length: 0\r\n\r\n")
		}
	})
	broken := configured(t, obj{"url": "http://" + addr})
	refused := configured(t, obj{"url": "http://" + targettest.ClosedAddr(t)})
	denied := configured(t, obj{"url": "http://169.254.169.254"})
	rounds := 1000
	if testing.Short() {
		rounds = 100
	}
	before := openFiles(t)
	for range rounds {
		if r := deliver(t, broken, message()); r.Code == transport.Delivered {
			t.Fatal("delivered")
		}
		want(t, deliver(t, refused, message()), transport.None, transport.ConnectionRefused, 0)
		want(t, deliver(t, denied, message()), transport.None, transport.AddressDenied, 0)
	}
	// The server's side of the last connections may close a moment later.
	if after := openFiles(t); after > before+20 {
		t.Errorf("%d open files before, %d after", before, after)
	}
}

func openFiles(t *testing.T) int {
	list, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	return len(list)
}
