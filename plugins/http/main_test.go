package http_test

import (
	"bufio"
	"context"
	"encoding/json"
	"io"
	"net"
	nethttp "net/http"
	"net/http/httptest"
	"os"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/hookline/hookline/plugins"
	"github.com/hookline/hookline/plugins/http"
	"github.com/hookline/hookline/plugins/target/targettest"
	"github.com/hookline/hookline/plugins/transport"
)

func TestMain(m *testing.M) {
	if len(os.Args) == 2 && os.Args[1] == "plugin" { // the conformance suite's child
		plugins.Serve(http.New())
		return
	}
	goleak.VerifyTestMain(m)
}

type obj = map[string]any

// configured returns a transport with the settings, closed at the test's end.
func configured(t testing.TB, s obj, opts ...http.Option) *http.Transport {
	t.Helper()
	tr := http.New(append([]http.Option{http.WithVersion("1.2.3")}, opts...)...)
	raw, err := json.Marshal(s)
	if err != nil {
		t.Fatal(err)
	}
	if err := tr.Configure(t.Context(), raw); err != nil {
		t.Fatalf("configure: %v", err)
	}
	t.Cleanup(func() { _ = tr.Close() })
	return tr
}

func message() *transport.Message {
	return &transport.Message{
		ID: "msg_1", EventID: "0198c0de-0000-7000-8000-000000000001", DeliveryID: "d1", Attempt: 1,
		TraceParent: "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
		ContentType: "application/json",
		Payload:     []byte(payloadText),
	}
}

const payloadText = `{"trans_id":"435","patient":"payload-secret"}`

// deliver makes one attempt with a deadline that only a hanging target meets.
func deliver(t testing.TB, tr *http.Transport, m *transport.Message) transport.Receipt {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	return tr.Deliver(ctx, m)
}

// rawServer runs serve for each connection, and ends when the test does.
func rawServer(t testing.TB, serve func(c *net.TCPConn)) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	var mu sync.Mutex
	open := map[net.Conn]bool{}
	wg.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			mu.Lock()
			open[c] = true
			mu.Unlock()
			wg.Go(func() {
				serve(c.(*net.TCPConn))
				_ = c.Close()
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
		wg.Wait()
	})
	return l.Addr().String()
}

// readRequest reads one whole request.
func readRequest(c net.Conn) {
	if r, err := nethttp.ReadRequest(bufio.NewReader(c)); err == nil {
		_, _ = io.Copy(io.Discard, r.Body)
	}
}

// says answers each request with text and closes.
func says(text string) func(*net.TCPConn) {
	return func(c *net.TCPConn) {
		readRequest(c)
		_, _ = io.WriteString(c, text)
		_ = c.CloseWrite()
		_, _ = io.Copy(io.Discard, c)
	}
}

// hangs holds the connection until the other side gives up.
func hangs(c *net.TCPConn) { _, _ = io.Copy(io.Discard, c) }

// resets reads a request and then breaks off with RST.
func resets(c *net.TCPConn) {
	readRequest(c)
	_ = c.SetLinger(0)
}

func server(t testing.TB, h nethttp.HandlerFunc) *httptest.Server {
	return watchedServer(t, h, nil)
}

// watchedServer tells of its connections' states.
func watchedServer(t testing.TB, h nethttp.HandlerFunc, state func(nethttp.ConnState)) *httptest.Server {
	s := httptest.NewUnstartedServer(h)
	if state != nil {
		s.Config.ConnState = func(_ net.Conn, st nethttp.ConnState) { state(st) }
	}
	s.Start()
	t.Cleanup(s.Close)
	return s
}

// seen is a request as the target got it.
type seen struct {
	*nethttp.Request
	body []byte
}

// recorder answers 200 and tells what it got.
func recorder(t testing.TB) (*httptest.Server, chan seen) {
	ch := make(chan seen, 64)
	return server(t, func(w nethttp.ResponseWriter, r *nethttp.Request) {
		b, _ := io.ReadAll(r.Body)
		ch <- seen{r, b}
	}), ch
}

var want = targettest.Want
