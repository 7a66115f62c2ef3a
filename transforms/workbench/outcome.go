package workbench

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"mime"
	"strings"
	"unicode/utf8"

	"github.com/hookline/hookline/core"
)

// Outcome is all that comes of a run: what would be sent, or the word or the error
// in its place. It is what a golden file holds.
type Outcome struct {
	Messages []Message `json:"messages,omitempty"`
	Skip     *string   `json:"skip,omitempty"`
	Reject   *string   `json:"reject,omitempty"`
	Error    *Failure  `json:"error,omitempty"`
}

// Message is what a transport would get.
type Message struct {
	ContentType string            `json:"contentType"`
	Headers     map[string]string `json:"headers,omitempty"`
	Key         string            `json:"key,omitempty"`
	Path        string            `json:"path,omitempty"`
	// Payload is the JSON that is sent, or a string of the text that is.
	Payload json.RawMessage `json:"payload,omitempty"`
	// Base64 holds what is neither.
	Base64 []byte `json:"payloadBase64,omitempty"`
}

// Failure is why a transform gave nothing.
type Failure struct {
	Code     core.Code `json:"code"`
	Position string    `json:"-"` // "file:line:column"; a line more above it is no other result
	Text     string    `json:"text"`
}

const contentTypeJSON = "application/json"

func outcomeOf(shaped core.Shaped, err error) (Outcome, error) {
	var script *core.ScriptError
	switch {
	case errors.As(err, &script):
		text := script.Text
		if clock := (*core.Expired)(nil); errors.As(err, &clock) {
			text += " (" + clock.After.String() + ")"
		}
		return Outcome{Error: &Failure{Code: script.Code, Position: script.Position, Text: text}}, nil
	case err != nil:
		return Outcome{}, err
	}
	o := Outcome{Skip: shaped.Skip, Reject: shaped.Reject}
	for _, m := range shaped.Messages {
		o.Messages = append(o.Messages, messageOf(m))
	}
	return o, nil
}

func messageOf(c core.Content) Message {
	m := Message{ContentType: c.ContentType, Headers: c.Headers, Key: c.Key, Path: c.Path}
	if m.ContentType == "" {
		m.ContentType = contentTypeJSON
	}
	switch {
	case isJSON(m.ContentType) && json.Valid(c.Payload):
		m.Payload = c.Payload
	case utf8.Valid(c.Payload):
		m.Payload = quote(string(c.Payload))
	default:
		m.Base64 = c.Payload
	}
	return m
}

func isJSON(contentType string) bool {
	kind, _, err := mime.ParseMediaType(contentType)
	return err == nil && (kind == contentTypeJSON || strings.HasSuffix(kind, "+json"))
}

// Text is the outcome as a golden file holds it. Keys keep their order, as they
// are sent in it.
func (o *Outcome) Text() string {
	raw, err := marshal(o)
	if err != nil {
		return err.Error() // raw messages of ours are valid
	}
	return pretty(raw)
}

// pretty indents JSON and spells its strings in one way; order and numbers stay.
func pretty(raw []byte) string {
	var b bytes.Buffer
	if err := json.Indent(&b, respell(raw), "", "  "); err != nil {
		return string(raw)
	}
	return strings.TrimSpace(b.String()) + "\n"
}

// respell writes each string of a JSON text without escapes that need not be:
// "caf\u00e9" is the same as "café".
func respell(raw []byte) []byte {
	out := make([]byte, 0, len(raw))
	for i := 0; i < len(raw); i++ {
		if raw[i] != '"' {
			out = append(out, raw[i])
			continue
		}
		end := i + 1
		for end < len(raw) && raw[end] != '"' {
			if raw[end] == '\\' {
				end++
			}
			end++
		}
		end = min(end+1, len(raw))
		var s string
		if bytes.IndexByte(raw[i:end], '\\') < 0 || json.Unmarshal(raw[i:end], &s) != nil || strings.ContainsRune(s, utf8.RuneError) {
			out = append(out, raw[i:end]...) // a lone surrogate stays as it is
		} else {
			out = append(out, quote(s)...)
		}
		i = end - 1
	}
	return out
}

// Show is the payload for people: JSON with its lines, a text as it is.
func (m *Message) Show() string {
	var text string
	switch {
	case len(m.Base64) > 0:
		return fmt.Sprintf("%d bytes that are no text", len(m.Base64))
	case !isJSON(m.ContentType) && json.Unmarshal(m.Payload, &text) == nil:
		// A terminal would write segments of HL7 over one another.
		return strings.ReplaceAll(strings.ReplaceAll(text, "\r\n", "\n"), "\r", "\n")
	}
	return strings.TrimSuffix(pretty(m.Payload), "\n")
}

func quote(s string) []byte {
	b, _ := marshal(s) // a string always marshals
	return b
}

// marshal is json.Marshal without escapes for HTML.
func marshal(v any) ([]byte, error) {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	err := e.Encode(v)
	return bytes.TrimRight(b.Bytes(), "\n"), err
}

// Lines is a text of [Outcome.Text] to look at: strings with line breaks, such as
// HL7 segments or a mail, have each line on its own.
func Lines(text string) string {
	var b strings.Builder
	var indent string
	inString := false
	for line := range strings.Lines(text) {
		indent = line[:len(line)-len(strings.TrimLeft(line, " "))] + "    "
		for i := 0; i < len(line); i++ {
			b.WriteByte(line[i])
			switch {
			case line[i] == '"':
				inString = !inString
			case inString && line[i] == '\\' && i+1 < len(line):
				i++
				b.WriteByte(line[i])
				rest := line[i+1:]
				if (line[i] == 'n' || line[i] == 'r' && !strings.HasPrefix(rest, `\n`)) && !strings.HasPrefix(rest, `"`) {
					b.WriteString("\n" + indent)
				}
			}
		}
	}
	return b.String()
}
