package main

import (
	"io"
	"sync"
	"time"
)

const (
	// maxLogBuffer is how much log may wait to be written, in bytes, before those who
	// log have to wait as well.
	maxLogBuffer = 1 << 20
	// logPatience is how long they wait. Whoever reads the log may have stopped to; the
	// answers to callers do not wait for that, and lines are dropped and counted.
	logPatience = time.Second
	// logPause is the least time between two writes.
	logPause = 2 * time.Millisecond
)

// logWriter writes what is logged in one go with what was logged meanwhile: under
// load there is one system call for the lines of 2 ms, and otherwise a line is written
// at once.
type logWriter struct {
	w        io.Writer
	patience time.Duration
	// lost, if set, is told how many lines were dropped, once there is room again.
	lost func(lines int)

	mu      sync.Mutex
	room    sync.Cond
	more    sync.Cond
	waiting []byte
	stuck   bool // nothing was written for the whole of somebody's patience
	dropped int
	closed  bool
	ended   bool // run has
	done    chan struct{}
}

func newLogWriter(w io.Writer) *logWriter {
	l := &logWriter{w: w, patience: logPatience, done: make(chan struct{})}
	l.room.L, l.more.L = &l.mu, &l.mu
	go l.run()
	return l
}

// Write never fails: there is nobody left to tell.
func (l *logWriter) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.waiting) > maxLogBuffer && !l.closed && !l.stuck {
		l.await()
	}
	switch {
	case l.ended:
		return l.w.Write(p)
	case len(l.waiting) > maxLogBuffer:
		l.dropped++
	default:
		l.waiting = append(l.waiting, p...)
		l.more.Signal()
	}
	return len(p), nil
}

// await waits for room, and no longer than patience.
func (l *logWriter) await() {
	enough := time.AfterFunc(l.patience, func() {
		l.mu.Lock()
		l.stuck = true
		l.room.Broadcast()
		l.mu.Unlock()
	})
	defer enough.Stop()
	for len(l.waiting) > maxLogBuffer && !l.closed && !l.stuck {
		l.room.Wait()
	}
}

func (l *logWriter) run() {
	defer close(l.done)
	var spare []byte
	var last time.Time // when the write before ended
	l.mu.Lock()
	defer l.mu.Unlock()
	for {
		for len(l.waiting) == 0 {
			if l.closed {
				l.ended = true
				return
			}
			l.more.Wait()
		}
		if pause := logPause - time.Since(last); pause > 0 && !l.closed {
			l.mu.Unlock()
			time.Sleep(pause)
			l.mu.Lock()
		}
		lines, dropped := l.waiting, l.dropped
		l.waiting, l.dropped = spare[:0], 0
		l.room.Broadcast()
		l.mu.Unlock()
		if dropped > 0 && l.lost != nil {
			l.lost(dropped)
		}
		_, _ = l.w.Write(lines)
		last = time.Now()
		spare = lines
		l.mu.Lock()
		l.stuck = false
	}
}

// Close writes what is waiting, if somebody takes it. Lines that come later are
// written directly.
func (l *logWriter) Close() {
	l.mu.Lock()
	l.closed = true
	l.more.Signal()
	l.room.Broadcast()
	l.mu.Unlock()
	select {
	case <-l.done:
	case <-time.After(l.patience):
	}
}
