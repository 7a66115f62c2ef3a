package file

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"time"
	"unicode/utf8"

	"github.com/hookline/hookline/plugins/transport"
)

// The forms of a line.
const (
	formEnvelope = "envelope"      // what Hookline knows, and the payload as text
	formJSON     = "envelope-json" // and the payload as a JSON value
	formPayload  = "payload"       // the payload alone
)

// envelope is a line with what Hookline knows of the message.
type envelope struct {
	ID            string            `json:"webhook_id"`
	EventID       string            `json:"hookline_event_id,omitempty"`
	DeliveryID    string            `json:"hookline_delivery_id,omitempty"`
	Attempt       int               `json:"hookline_attempt"`
	Hook          string            `json:"hook"`
	Route         string            `json:"route"`
	Study         string            `json:"study,omitempty"`
	Stage         string            `json:"stage,omitempty"`
	Lane          string            `json:"lane,omitempty"`
	Kind          string            `json:"kind"`
	ReceivedAt    time.Time         `json:"received_at,omitzero"`
	WrittenAt     time.Time         `json:"written_at"`
	TraceParent   string            `json:"traceparent,omitempty"`
	Key           string            `json:"key,omitempty"`
	Path          string            `json:"path,omitempty"`
	Headers       map[string]string `json:"headers,omitempty"`
	ContentType   string            `json:"content_type,omitempty"`
	Payload       any               `json:"payload,omitempty"` // *string or json.RawMessage
	PayloadBase64 string            `json:"payload_base64,omitempty"`
}

// line is the message's line with its end. The error says why it can't be one; it
// holds nothing of the message.
func (s *archive) line(m *transport.Message, now time.Time) ([]byte, error) {
	var line []byte
	var err error
	if s.form == formPayload {
		line, err = bare(m.Payload)
	} else {
		line, err = s.envelope(m, now)
	}
	if err == nil && s.maxLine > 0 && len(line) > s.maxLine {
		err = fmt.Errorf("the line has %d bytes; max_line allows %d", len(line), s.maxLine)
	}
	return line, err
}

func (s *archive) envelope(m *transport.Message, now time.Time) ([]byte, error) {
	e := envelope{
		ID: m.ID, EventID: m.EventID, DeliveryID: m.DeliveryID, Attempt: m.Attempt,
		Hook: m.Hook, Route: m.Route, Study: m.Study, Stage: m.Stage, Lane: m.Lane, Kind: m.Kind,
		ReceivedAt: m.ReceivedAt, WrittenAt: now.UTC(), TraceParent: m.TraceParent,
		Key: m.Key, Path: m.Path, Headers: m.Headers, ContentType: m.ContentType,
	}
	switch {
	case s.form == formJSON && !json.Valid(m.Payload):
		return nil, errors.New("the payload is not JSON, which line = \"envelope-json\" needs")
	case !utf8.Valid(m.Payload) && s.form == formJSON:
		return nil, errors.New("the payload is not UTF-8, which line = \"envelope-json\" needs")
	case s.form == formJSON:
		e.Payload = json.RawMessage(m.Payload)
	case !utf8.Valid(m.Payload):
		e.PayloadBase64 = base64.StdEncoding.EncodeToString(m.Payload)
	default:
		text := string(m.Payload)
		e.Payload = &text // a pointer: an empty one is told too
	}
	var b bytes.Buffer
	b.Grow(len(m.Payload) + len(m.Payload)/4 + 512)
	enc := json.NewEncoder(&b) // it ends with a line's end
	enc.SetEscapeHTML(false)
	if err := enc.Encode(e); err != nil {
		return nil, errors.New("the message cannot be written as JSON")
	}
	return b.Bytes(), nil
}

// bare is the payload as it is. A line's end in JSON is a space between two tokens,
// and becomes one that does not end the line.
func bare(payload []byte) ([]byte, error) {
	line := make([]byte, 0, len(payload)+1)
	line = append(line, payload...)
	if bytes.IndexByte(line, '\n') >= 0 {
		if !json.Valid(line) {
			return nil, errors.New("the payload has a line break and is not JSON; use line = \"envelope\"")
		}
		for i, c := range line {
			if c == '\n' || c == '\r' {
				line[i] = ' '
			}
		}
	}
	if len(bytes.TrimSpace(line)) == 0 {
		return nil, errors.New("the payload is empty; use line = \"envelope\"")
	}
	return append(line, '\n'), nil
}
