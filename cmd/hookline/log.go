package main

import (
	"io"
	"sync"
)

// maxLogBuffer is how much log may wait to be written, in bytes, before those who
// log have to wait as well.
const maxLogBuffer = 1 << 20

// logWriter writes what is logged in one go with what was logged meanwhile: under
// load there is one system call for many lines, and otherwise a line is written
// at once.
type logWriter struct {
	w io.Writer

	mu      sync.Mutex
	room    sync.Cond
	more    sync.Cond
	waiting []byte
	closed  bool
	done    chan struct{}
}

func newLogWriter(w io.Writer) *logWriter {
	l := &logWriter{w: w, done: make(chan struct{})}
	l.room.L, l.more.L = &l.mu, &l.mu
	go l.run()
	return l
}

// Write never fails: there is nobody left to tell.
func (l *logWriter) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for len(l.waiting) > maxLogBuffer && !l.closed {
		l.room.Wait()
	}
	if l.closed {
		return l.w.Write(p)
	}
	l.waiting = append(l.waiting, p...)
	l.more.Signal()
	return len(p), nil
}

func (l *logWriter) run() {
	defer close(l.done)
	var spare []byte
	l.mu.Lock()
	defer l.mu.Unlock()
	for {
		for len(l.waiting) == 0 {
			if l.closed {
				return
			}
			l.more.Wait()
		}
		lines := l.waiting
		l.waiting = spare[:0]
		l.room.Broadcast()
		l.mu.Unlock()
		_, _ = l.w.Write(lines)
		spare = lines
		l.mu.Lock()
	}
}

// Close writes what is waiting. Lines that come later are written directly.
func (l *logWriter) Close() {
	l.mu.Lock()
	l.closed = true
	l.more.Signal()
	l.room.Broadcast()
	l.mu.Unlock()
	<-l.done
}
