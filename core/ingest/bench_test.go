package ingest

import (
	"bufio"
	"io"
	"net/http"
	"strconv"
	"sync/atomic"
	"testing"
)

// BenchmarkEndpoint is a keep-alive request on a real socket, with a dispatcher
// that does nothing. The client writes and reads bytes only, to stay out of the
// figures.
func BenchmarkEndpoint(b *testing.B) {
	for name, passwords := range map[string][]string{"plain": {password}, "bcrypt": {hashOf(b, password)}} {
		b.Run(name, func(b *testing.B) {
			s := start(b, Options{Log: quietLog()}, setOf(hook("demo", passwords...)))
			request := []byte(crlf(post("demo", basic(email, password), insert)))
			var n atomic.Int64
			b.SetParallelism(8)
			b.ReportAllocs()
			b.RunParallel(func(pb *testing.PB) {
				p := s.dial(b)
				for pb.Next() {
					p.Write(request)
					if skipAnswer(p.buf) != http.StatusOK {
						b.Error("not 200")
						return
					}
					n.Add(1)
				}
			})
			b.ReportMetric(float64(n.Load())/b.Elapsed().Seconds(), "req/s")
		})
	}
}

// skipAnswer reads an answer without looking at more than it must.
func skipAnswer(r *bufio.Reader) (status int) {
	length := 0
	for first := true; ; first = false {
		line, err := r.ReadSlice('\n')
		if err != nil {
			return 0
		}
		switch {
		case first:
			status, _ = strconv.Atoi(string(line[9:12]))
		case len(line) == 2:
			_, _ = io.CopyN(io.Discard, r, int64(length))
			return status
		case string(line[:min(len(line), 15)]) == "Content-Length:":
			length, _ = strconv.Atoi(string(line[16 : len(line)-2]))
		}
	}
}
