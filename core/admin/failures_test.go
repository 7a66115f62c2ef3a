package admin

import (
	"bytes"
	"log/slog"
	"strings"
	"testing"
	"time"
)

// A flood of wrong passwords is a line now and then, with how many there were.
func TestFailuresAreSaidNowAndThen(t *testing.T) {
	var out bytes.Buffer
	log := slog.New(slog.NewTextHandler(&out, nil))
	var f failures
	now := time.Now()
	for i := range 100 {
		f.note(log, now.Add(time.Duration(i)*time.Millisecond), "", "192.0.2.7:4711")
	}
	f.note(log, now.Add(sayAgain), "alice", "[2001:db8::1]:1")
	f.note(log, now.Add(2*sayAgain), "alice", "@")
	lines := strings.Split(strings.TrimSpace(out.String()), "\n")
	want := []string{
		"user=(unknown) remote=192.0.2.7 others_since_the_last_such_line=0",
		"user=alice remote=2001:db8::1 others_since_the_last_such_line=99",
		"user=alice remote=@ others_since_the_last_such_line=0",
	}
	if len(lines) != len(want) {
		t.Fatalf("%d lines: %s", len(lines), out.String())
	}
	for i, line := range lines {
		if !strings.HasSuffix(line, want[i]) {
			t.Errorf("%s, want %s", line, want[i])
		}
	}
}
