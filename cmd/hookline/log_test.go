package main

import (
	"bytes"
	"strings"
	"sync"
	"testing"
	"time"
)

// stalled is a standard error that nobody reads until it is released.
type stalled struct {
	release chan struct{}
	mu      sync.Mutex
	out     bytes.Buffer
}

func (s *stalled) Write(p []byte) (int, error) {
	<-s.release
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.out.Write(p)
}

// Whoever logs answers callers: one who does not read the log must not hold them up.
func TestLogThatNobodyReads(t *testing.T) {
	s := &stalled{release: make(chan struct{})}
	w := newLogWriter(s)
	w.patience = 20 * time.Millisecond
	var lost int
	w.lost = func(n int) { lost = n }
	line := []byte(strings.Repeat("x", 1023) + "\n")
	const lines = 3 * maxLogBuffer / 1024
	begin := time.Now()
	for range lines {
		_, _ = w.Write(line)
	}
	if took := time.Since(begin); took > 5*time.Second {
		t.Errorf("the log took %v", took)
	}
	w.Close() // nor does the end wait
	close(s.release)
	<-w.done
	if got := strings.Count(s.out.String(), "\n"); lost == 0 || got+lost != lines {
		t.Errorf("%d lines are written and %d told to be lost, of %d", got, lost, lines)
	}
}
