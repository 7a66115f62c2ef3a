package http_test

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	nethttp "net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/hookline/hookline/plugins/transport"
)

// leanServer answers requests of one known length with as little work as it can,
// so that the benchmark shows the client.
func leanServer(b *testing.B) string {
	return rawServer(b, func(c *net.TCPConn) {
		br := bufio.NewReaderSize(c, 64<<10)
		for {
			size := 0
			for {
				line, err := br.ReadSlice('\n')
				if err != nil {
					return
				}
				if len(line) <= 2 {
					break
				}
				if n, ok := strings.CutPrefix(string(line), "Content-Length: "); ok {
					_, _ = fmt.Sscan(n, &size)
				}
			}
			if _, err := br.Discard(size); err != nil {
				return
			}
			if _, err := io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 11\r\n\r\n{\"ok\":true}"); err != nil {
				return
			}
		}
	})
}

func BenchmarkDeliver(b *testing.B) {
	signed := obj{"signing_secrets": "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", "username": "u", "password": "p"}
	for _, bc := range []struct {
		name    string
		size    int
		set     obj
		callers int
	}{
		{"1KiB/1", 1 << 10, obj{}, 1}, {"1KiB/16", 1 << 10, obj{}, 16}, {"1KiB/64", 1 << 10, obj{}, 64},
		{"signed1KiB/64", 1 << 10, signed, 64}, {"256KiB/16", 256 << 10, obj{}, 16},
	} {
		b.Run(bc.name, func(b *testing.B) {
			bc.set["url"] = "http://" + leanServer(b) + "/trialkit"
			tr := configured(b, bc.set)
			m := message()
			m.Payload = []byte(strings.Repeat("x", bc.size))
			parallel(b, bc.callers, func(ctx context.Context) bool {
				return tr.Deliver(ctx, m).Code == transport.Delivered
			})
		})
	}
}

// BenchmarkNetHTTP is what net/http's client takes for the least of such requests.
func BenchmarkNetHTTP(b *testing.B) {
	for _, callers := range []int{1, 64} {
		b.Run(fmt.Sprint(callers), func(b *testing.B) {
			url := "http://" + leanServer(b) + "/trialkit"
			rt := &nethttp.Transport{MaxIdleConnsPerHost: 1024, DisableCompression: true}
			b.Cleanup(rt.CloseIdleConnections)
			body := strings.Repeat("x", 1<<10)
			parallel(b, callers, func(ctx context.Context) bool {
				req, _ := nethttp.NewRequestWithContext(ctx, "POST", url, strings.NewReader(body))
				req.Header.Set("Content-Type", "application/json")
				resp, err := rt.RoundTrip(req)
				if err != nil {
					return false
				}
				_, _ = io.ReadAll(resp.Body)
				_ = resp.Body.Close()
				return resp.StatusCode == 200
			})
		})
	}
}

func parallel(b *testing.B, callers int, f func(context.Context) bool) {
	b.ReportAllocs()
	b.ResetTimer()
	var left atomic.Int64
	left.Store(int64(b.N))
	done := make(chan bool)
	for range callers {
		go func() {
			ok := true
			for ok && left.Add(-1) >= 0 {
				ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
				ok = f(ctx)
				cancel()
			}
			done <- ok
		}()
	}
	for range callers {
		if !<-done {
			b.Error("an attempt failed")
		}
	}
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "req/s")
}
