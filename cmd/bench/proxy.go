package main

import (
	"context"
	"encoding/json"
	"io"
	"log"
	"log/slog"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"runtime/debug"
	"sync"
	"time"

	"github.com/hookline/hookline/core/http1"
	"github.com/hookline/hookline/plugins/host"
	"github.com/hookline/hookline/plugins/transport"
)

// proxySpec is a ReverseProxy to measure against.
type proxySpec struct {
	Target        string `json:"target"` // host:port
	Authorization string `json:"authorization"`
	Pooled        bool   `json:"pooled"`
}

// bareSpec is the least that a daemon can do which has a plugin call the target.
type bareSpec struct {
	Command  []string        `json:"command"` // of the plugin
	Settings json.RawMessage `json:"settings"`
}

// bareReply tells where it listens, and which process its plugin is.
type bareReply struct {
	Addr string `json:"addr"`
	PID  int    `json:"pid"`
}

func proxyOperations() operations {
	return operations{"listen": operation(startProxy), "listen-bare": operation(startBare)}
}

// startProxy starts Go's ReverseProxy with what an informed user would set, and
// what Hookline sets for itself: enough idle connections, and GOGC=400. It puts
// the target's credentials in the place of the caller's, which it does not check.
func startProxy(spec proxySpec) (string, error) {
	debug.SetGCPercent(400) // as hookline serve and its children
	to := &url.URL{Scheme: "http", Host: spec.Target, Path: okPath}
	authorization := []string{spec.Authorization}
	proxy := &httputil.ReverseProxy{
		Rewrite: func(r *httputil.ProxyRequest) {
			r.Out.URL, r.Out.Host = to, ""
			r.Out.Header["Authorization"] = authorization
		},
		Transport: &http.Transport{MaxIdleConnsPerHost: 256},
		ErrorLog:  log.New(io.Discard, "", 0),
	}
	if spec.Pooled {
		proxy.BufferPool = &bufferPool{}
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	server := &http.Server{Handler: proxy, ReadHeaderTimeout: 10 * time.Second}
	go func() { _ = server.Serve(l) }() // ends with the process
	return l.Addr().String(), nil
}

// startBare starts a server that hands each body to a plugin in its process, and does
// nothing else: it checks nobody, routes nothing, notes nothing. What is between it and
// hookline is what the core takes; what is between it and reverseproxy are the hop, and
// core/http1 and plugins/http in the place of net/http.
func startBare(spec bareSpec) (*bareReply, error) {
	debug.SetGCPercent(400) // as hookline serve and its children
	none := slog.New(slog.DiscardHandler)
	t, err := host.StartTransport(context.Background(), host.TransportSpec{
		Name: "bench", Command: spec.Command, Settings: spec.Settings,
		Resolve: func(ref string) (string, error) { return ref, nil },
		Log:     none,
	})
	if err != nil {
		return nil, err
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	const wait = 10 * time.Second
	server := &http1.Server{
		HeaderTimeout: wait, IdleTimeout: time.Minute, WriteTimeout: wait, MaxHeader: 32 << 10, Log: none,
		Handler: func(w *http1.Response, r *http.Request) {
			w.ReadWithin(wait)
			body, err := io.ReadAll(r.Body)
			if err != nil {
				w.WriteHeader(http.StatusBadRequest)
				return
			}
			ctx, cancel := context.WithTimeout(context.Background(), wait)
			defer cancel()
			receipt := t.Deliver(ctx, &transport.Message{
				ID: "1", EventID: "1", DeliveryID: "1", Attempt: 1, ContentType: "application/json", Payload: body,
			})
			w.Set("Content-Type", "application/json")
			if receipt.Effect != transport.Done {
				w.WriteHeader(http.StatusBadGateway)
			}
			_, _ = io.WriteString(w, `{"status":"delivered"}`)
		},
	}
	go func() { _ = server.Serve(l) }() // ends with the process
	return &bareReply{Addr: l.Addr().String(), PID: t.Status().PID}, nil
}

// bufferPool saves ReverseProxy the 32 KiB that it allocates for each answer.
type bufferPool struct{ pool sync.Pool }

func (p *bufferPool) Get() []byte {
	if b, ok := p.pool.Get().(*[]byte); ok {
		return *b
	}
	return make([]byte, 32<<10)
}

func (p *bufferPool) Put(b []byte) { p.pool.Put(&b) }
