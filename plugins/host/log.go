package host

import (
	"bytes"
	"context"
	"encoding/json"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"sync"
)

// maxLine is how much of one line of a child's output is kept, in bytes.
const maxLine = 4 << 10

// lineLogger turns what a child writes into log records under its name. A line
// of JSON as log/slog or hclog writes it keeps its level and message.
type lineLogger struct {
	log    *slog.Logger
	redact *Redactor

	mu   sync.Mutex
	rest []byte // an unfinished line
}

func (w *lineLogger) Write(p []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.rest = append(w.rest, p...)
	for {
		line, rest, found := bytes.Cut(w.rest, []byte("\n"))
		if !found {
			if len(line) > maxLine { // it may never end
				w.record(line)
				w.rest = nil
			}
			return len(p), nil
		}
		w.record(line)
		w.rest = rest
	}
}

func (w *lineLogger) record(line []byte) {
	// Before it is cut: of a secret that is cut in two nobody would know the halves.
	text := w.redact.String(string(line))
	text = strings.TrimSpace(strings.ToValidUTF8(text[:min(len(text), maxLine)], "?"))
	if text == "" {
		return
	}
	level, msg, attrs := slog.LevelInfo, text, []slog.Attr(nil)
	var fields map[string]any
	if text[0] == '{' && json.Unmarshal([]byte(text), &fields) == nil {
		level = levelOf(fields)
		msg = firstOf(fields, "msg", "@message")
		for _, k := range []string{"time", "level", "msg", "@message", "@level", "@timestamp", "@module"} {
			delete(fields, k)
		}
		for _, k := range slices.Sorted(maps.Keys(fields)) {
			attrs = append(attrs, slog.Any(k, fields[k]))
		}
	}
	w.log.LogAttrs(context.Background(), level, msg, attrs...)
}

func levelOf(fields map[string]any) slog.Level {
	switch strings.ToLower(firstOf(fields, "level", "@level")) {
	case "trace", "debug":
		return slog.LevelDebug
	case "warn", "warning":
		return slog.LevelWarn
	case "error", "fatal":
		return slog.LevelError
	}
	return slog.LevelInfo
}

func firstOf(fields map[string]any, keys ...string) string {
	for _, k := range keys {
		if s, ok := fields[k].(string); ok {
			return s
		}
	}
	return ""
}
