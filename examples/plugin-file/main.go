// Command plugin-file is a vendor's transport, complete: it appends each message
// to a file as a line of JSON, and says delivered when the line is on the disk. The
// payload is a string in it, so that no JSON library changes a byte.
package main

import (
	"context"
	"encoding/json"
	"os"
	"path/filepath"
	"sync"
	"unicode/utf8"

	"github.com/hookline/hookline/plugins"
	"github.com/hookline/hookline/plugins/transport"
)

func main() { plugins.Serve(&file{}) }

type file struct {
	mu  sync.Mutex
	out *os.File
}

func (f *file) Describe() transport.Description {
	return transport.Description{Name: "file", Version: "1.0.0", Settings: json.RawMessage(`{
		"type": "object", "additionalProperties": false, "required": ["path"],
		"properties": {"path": {"type": "string", "minLength": 1, "description": "file to append to"}}
	}`)}
}

func (f *file) Configure(_ context.Context, settings json.RawMessage) (err error) {
	var s struct{ Path string }
	if err := json.Unmarshal(settings, &s); err != nil {
		return err
	}
	if f.out, err = os.OpenFile(s.Path, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600); err != nil {
		return &transport.SettingError{Field: "path", Rule: "must be a file that can be written: " + err.Error()}
	}
	if dir, err := os.Open(filepath.Dir(s.Path)); err == nil { // a new file is there after a power cut
		_ = dir.Sync()
		_ = dir.Close()
	}
	return nil
}

type line struct {
	ID      string `json:"id"`
	Kind    string `json:"kind"`
	Payload string `json:"payload"`
}

func (f *file) Deliver(ctx context.Context, m *transport.Message) transport.Receipt {
	text, err := json.Marshal(line{m.ID, m.Kind, string(m.Payload)})
	if err != nil || !utf8.Valid(m.Payload) {
		return transport.Failed(transport.None, transport.RejectedByTarget, "the payload is not UTF-8")
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if ctx.Err() != nil { // the disk was slow for those before
		return transport.Failed(transport.None, transport.Timeout, "nothing was written")
	}
	info, err := f.out.Stat()
	if err != nil {
		return transport.Failed(transport.None, transport.TargetError, err.Error())
	}
	if _, err := f.out.Write(append(text, '\n')); err != nil {
		// Half a line would spoil the next one.
		if f.out.Truncate(info.Size()) != nil {
			return transport.Failed(transport.Unknown, transport.TargetError, err.Error())
		}
		return transport.Failed(transport.None, transport.TargetError, err.Error())
	}
	if err := f.out.Sync(); err != nil { // before this a power cut could take it back
		return transport.Failed(transport.Unknown, transport.TargetError, err.Error())
	}
	return transport.Receipt{Effect: transport.Done, Code: transport.Delivered}
}

func (f *file) Check(context.Context) transport.Receipt {
	if _, err := f.out.Stat(); err != nil {
		return transport.Failed(transport.None, transport.TargetError, err.Error())
	}
	return transport.Receipt{Effect: transport.Done, Code: transport.Delivered}
}

func (f *file) Close() error {
	if f.out == nil { // it was never configured
		return nil
	}
	return f.out.Close()
}
