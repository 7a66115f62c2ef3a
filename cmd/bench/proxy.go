package main

import (
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"runtime/debug"
	"sync"
	"time"
)

// proxySpec is a ReverseProxy to measure against.
type proxySpec struct {
	Target        string `json:"target"` // host:port
	Authorization string `json:"authorization"`
	Pooled        bool   `json:"pooled"`
}

func proxyOperations() operations {
	return operations{"listen": operation(startProxy)}
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

// bufferPool saves ReverseProxy the 32 KiB that it allocates for each answer.
type bufferPool struct{ pool sync.Pool }

func (p *bufferPool) Get() []byte {
	if b, ok := p.pool.Get().(*[]byte); ok {
		return *b
	}
	return make([]byte, 32<<10)
}

func (p *bufferPool) Put(b []byte) { p.pool.Put(&b) }
