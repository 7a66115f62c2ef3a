package http1_test

import (
	"crypto/tls"
	"fmt"
	"io"
	"testing"
	"time"
)

// What is unread is not taken for a hang-up, and does not hide one: a request ahead of
// its turn, and the empty line that some callers put behind a body, which under TLS 1.3
// is as long as the farewell.
func TestGoneBehindUnread(t *testing.T) {
	secure, trusting := certificate(t)
	for name, config := range map[string]*tls.Config{"TCP": nil, "TLS": secure} {
		for _, unread := range []string{"\r\n", "GET / HTTP/1.1\r\nHost: h\r\n\r\n"} {
			t.Run(fmt.Sprintf("%s %q", name, unread), func(t *testing.T) {
				s := start(t, config, nil)
				c := s.dial(t)
				if config != nil {
					c = tls.Client(c, trusting)
				}
				send(t, c, "/wait")
				w := <-s.came
				_, _ = io.WriteString(c, unread) // loopback: it is there at once
				if w.Gone() {
					t.Error("gone, before it was")
				}
				c.Close()
				for begun := time.Now(); !w.Gone(); {
					if time.Since(begun) > 10*time.Second {
						t.Fatal("not gone")
					}
				}
				close(s.let)
			})
		}
	}
}
