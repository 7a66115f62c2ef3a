package postfix

import (
	"bufio"
	"fmt"
	"net"
	"strings"
	"sync"
)

// policy is a server of Postfix's policy delegation protocol.
type policy struct {
	listener net.Listener
	ask      func(map[string]string) string

	mu      sync.Mutex
	open    map[net.Conn]bool
	serving sync.WaitGroup
}

func newPolicy(ask func(map[string]string) string) (*policy, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	p := &policy{listener: l, ask: ask, open: map[net.Conn]bool{}}
	p.serving.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			p.mu.Lock()
			p.open[c] = true
			p.mu.Unlock()
			p.serving.Go(func() { p.serve(c) })
		}
	})
	return p, nil
}

func (p *policy) serve(c net.Conn) {
	defer func() {
		_ = c.Close()
		p.mu.Lock()
		delete(p.open, c)
		p.mu.Unlock()
	}()
	attributes := map[string]string{}
	for in := bufio.NewScanner(c); in.Scan(); {
		if name, value, ok := strings.Cut(in.Text(), "="); ok {
			attributes[name] = value
			continue
		}
		fmt.Fprintf(c, "action=%s\n\n", p.ask(attributes))
		attributes = map[string]string{}
	}
}

func (p *policy) address() string {
	if p == nil {
		return ""
	}
	return p.listener.Addr().String()
}

// close waits for answers that are being made.
func (p *policy) close() {
	if p == nil {
		return
	}
	_ = p.listener.Close()
	p.mu.Lock()
	for c := range p.open {
		_ = c.Close()
	}
	p.mu.Unlock()
	p.serving.Wait()
}
