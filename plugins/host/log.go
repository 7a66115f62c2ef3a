package host

import (
	"bytes"
	"cmp"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"log/slog"
	"maps"
	"net/url"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
)

// maxLine is how much of one line of a child's output is kept, in bytes.
const maxLine = 4 << 10

// longLine is how long a line of a secret must be to be a secret by itself.
const longLine = 16

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

// Redactor takes secrets out of what a child says. The zero value takes out
// nothing.
type Redactor struct {
	replacer atomic.Pointer[strings.Replacer]
}

// Hide makes the redactor take out the secrets from now on, as they are and as
// they are commonly encoded.
func (r *Redactor) Hide(secrets ...string) {
	forms := map[string]bool{}
	for _, s := range secrets {
		if s == "" {
			continue
		}
		for _, form := range []string{
			s, inJSON(s, true), inJSON(s, false), url.QueryEscape(s), url.PathEscape(s),
			strings.TrimPrefix(url.UserPassword("", s).String(), ":"),
			// Without padding: with it, it is found too.
			base64.RawStdEncoding.EncodeToString([]byte(s)), base64.RawURLEncoding.EncodeToString([]byte(s)),
		} {
			forms[form] = true
		}
		// A log has lines, and a key of many of them is seen by the line.
		for line := range strings.Lines(s) {
			if line = strings.TrimSpace(line); len(line) >= longLine && !strings.HasPrefix(line, "-----") {
				forms[line] = true
			}
		}
	}
	// The replacer takes the first that fits: a secret that begins another must
	// not leave the other's end behind.
	longest := slices.SortedFunc(maps.Keys(forms), func(a, b string) int {
		return cmp.Or(cmp.Compare(len(b), len(a)), cmp.Compare(a, b))
	})
	pairs := make([]string, 0, 2*len(longest))
	for _, form := range longest {
		pairs = append(pairs, form, "[secret]")
	}
	r.replacer.Store(strings.NewReplacer(pairs...))
}

// inJSON is s between the quotes of JSON, as encoding/json writes it or, without html,
// log/slog.
func inJSON(s string, html bool) string {
	var b strings.Builder
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(html)
	_ = enc.Encode(s) // a string can always be written
	return strings.TrimSuffix(strings.TrimPrefix(b.String(), `"`), "\"\n")
}

// String returns s without the secrets.
func (r *Redactor) String(s string) string {
	if replacer := r.replacer.Load(); replacer != nil {
		return replacer.Replace(s)
	}
	return s
}

// Error returns err itself if it holds no secret, else an error of the same text
// without them.
func (r *Redactor) Error(err error) error {
	if clean := r.String(err.Error()); clean != err.Error() {
		return errors.New(clean)
	}
	return err
}
