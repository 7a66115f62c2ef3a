package file

import (
	"encoding/json"
	"io/fs"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/hookline/hookline/plugins/target"
	"github.com/hookline/hookline/plugins/transport"
)

// settings is the JSON as written; settings.schema.json describes it.
type settings struct {
	Path       string `json:"path"`
	Line       string `json:"line"`
	Mode       string `json:"mode"`
	RotateSize int64  `json:"rotate_size"`
	MaxLine    int    `json:"max_line"`
}

// defaults are those that the schema tells; a test holds the two together.
func defaults() settings { return settings{Line: formEnvelope, Mode: "0600"} }

const (
	minRotate = 64 << 10
	maxRotate = 1 << 40
	maxPath   = 1024
)

// archive is the settings as they are used. It does not change.
type archive struct {
	path       template
	form       string
	mode       fs.FileMode
	folderMode fs.FileMode
	rotate     int64 // bytes, 0: never
	maxLine    int   // bytes, 0: any
}

// full tells that a file of size bytes should not get more bytes. A line that is
// longer than rotate_size has a file of its own.
func (s *archive) full(size int64, more int) bool {
	return s.rotate > 0 && size > 0 && size+int64(more) > s.rotate
}

func parseSettings(raw json.RawMessage) (*archive, error) {
	s := defaults()
	if err := target.Decode("file", raw, &s); err != nil {
		return nil, err
	}
	var bad target.Faults
	a := &archive{form: s.Line, rotate: s.RotateSize, maxLine: s.MaxLine}
	a.path = parseTemplate(s.Path, &bad)
	if !slices.Contains([]string{formEnvelope, formJSON, formPayload}, s.Line) {
		bad.Add("line", "must be envelope, envelope-json or payload")
	}
	mode, err := strconv.ParseUint(s.Mode, 8, 32)
	if err != nil || mode > 0o777 || mode&0o600 != 0o600 {
		bad.Add("mode", `must be file permissions in octal, such as "0640", that let Hookline read and write`)
	}
	a.mode = fs.FileMode(mode)
	a.folderMode = a.mode | a.mode&0o444>>2 // whoever may read a file may enter its folder
	if s.RotateSize != 0 && (s.RotateSize < minRotate || s.RotateSize > maxRotate) {
		bad.Add("rotate_size", "must be 0 or from %d to %d bytes", minRotate, maxRotate)
	}
	if s.MaxLine < 0 {
		bad.Add("max_line", "must be 0 or more bytes")
	}
	if err := bad.Err(); err != nil {
		return nil, err
	}
	return a, nil
}

// template is a path with placeholders.
type template struct {
	text string
	root string // the folder before the first placeholder
}

// placeholders are what stands in braces in a path. Dates are of the writing, in
// UTC, so that yesterday's file is complete.
var placeholders = map[string]func(m *transport.Message, now time.Time) string{
	"{date}":  func(_ *transport.Message, now time.Time) string { return now.UTC().Format(time.DateOnly) },
	"{hour}":  func(_ *transport.Message, now time.Time) string { return now.UTC().Format("15") },
	"{hook}":  func(m *transport.Message, _ time.Time) string { return name(m.Hook) },
	"{route}": func(m *transport.Message, _ time.Time) string { return name(m.Route) },
	"{study}": func(m *transport.Message, _ time.Time) string { return name(m.Study) },
	"{stage}": func(m *transport.Message, _ time.Time) string { return name(m.Stage) },
	"{kind}":  func(m *transport.Message, _ time.Time) string { return name(m.Kind) },
}

// name makes a text part of a file's name: it can neither lead elsewhere nor hide.
func name(s string) string {
	if s == "" {
		return "none"
	}
	s = strings.Map(func(r rune) rune {
		if r|0x20 >= 'a' && r|0x20 <= 'z' || r >= '0' && r <= '9' || strings.ContainsRune("-_.", r) {
			return r
		}
		return '_'
	}, s)
	if s[0] == '.' {
		s = "_" + s[1:]
	}
	return s[:min(len(s), 100)]
}

func parseTemplate(text string, bad *target.Faults) (t template) {
	t.text = filepath.Clean(text)
	switch {
	case text == "":
		bad.Add("path", "is missing; it must be the absolute path of a file")
		return t
	case !filepath.IsAbs(text):
		bad.Add("path", "must be absolute: a daemon's working folder is not a place to keep data")
	case strings.HasSuffix(text, "/") || strings.HasSuffix(text, string(filepath.Separator)):
		bad.Add("path", "must be of a file, not of a folder; end it with a name such as {date}.jsonl")
	case len(text) > maxPath || target.HasControl(text):
		bad.Add("path", "must have no control characters and at most %d bytes", maxPath)
	}
	fixed := text
	for p := range placeholders {
		fixed = strings.ReplaceAll(fixed, p, "")
	}
	if strings.ContainsAny(fixed, "{}") {
		bad.Add("path", "has a brace that is not of {date}, {hour}, {hook}, {route}, {study}, {stage} or {kind}")
	}
	before, _, _ := strings.Cut(t.text, "{")
	t.root = filepath.Dir(before + "x")
	return t
}

// fixed is the path if it has no placeholders.
func (t template) fixed() (string, bool) { return t.text, !strings.Contains(t.text, "{") }

func (t template) expand(m *transport.Message, now time.Time) string {
	if _, fixed := t.fixed(); fixed {
		return t.text
	}
	path := t.text
	for p, value := range placeholders {
		if strings.Contains(path, p) {
			path = strings.ReplaceAll(path, p, value(m, now))
		}
	}
	return path
}
