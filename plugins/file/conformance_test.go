package file_test

import (
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/hookline/hookline/plugins/conformance"
	"github.com/hookline/hookline/plugins/transport"
)

func TestConformance(t *testing.T) {
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	with := func(key string, value any) func(conformance.Target) json.RawMessage {
		return func(to conformance.Target) json.RawMessage {
			s := map[string]any{}
			_ = json.Unmarshal(to.Settings(), &s)
			s[key] = value
			out, _ := json.Marshal(s)
			return out
		}
	}
	conformance.Test(t, conformance.Subject{
		New:     func() transport.Transport { return newStalling() },
		Command: []string{exe, modePlugin},
		Target:  newFolder,
		States:  []conformance.State{conformance.Down, conformance.Slow},
		Bad: []conformance.BadSettings{
			{Name: "a path that is not absolute", Settings: json.RawMessage(`{"path":"out.jsonl"}`), Field: "path"},
			{Name: "an unknown placeholder", Settings: json.RawMessage(`{"path":"/x/{lane}.jsonl"}`), Field: "path"},
			{Name: "a mode that is none", Settings: json.RawMessage(`{"path":"/x","mode":"0999"}`), Field: "mode"},
		},
		Faults: []conformance.Fault{{
			Name: "a line that is too long", Effect: transport.None, Codes: []transport.Code{transport.RejectedByTarget},
			Settings: with("max_line", 1000),
			Message:  func(m *transport.Message) { m.Payload = []byte(`"` + strings.Repeat("x", 1000) + `"`) },
		}, {
			Name: "a payload that is not one line", Effect: transport.None, Codes: []transport.Code{transport.RejectedByTarget},
			Settings: with("line", "payload"),
			Message:  func(m *transport.Message) { m.Payload = []byte("Jane\nDoe") },
		}, {
			Name: "a folder that is not there", Effect: transport.None, Codes: []transport.Code{transport.ConnectionRefused},
			Make: func(to conformance.Target) { to.Set(conformance.Down) },
		}},
	})
}

const fileName = "out.jsonl"

// folder is a folder on a real disk. While it is Down it has another name, as a
// volume that is not mounted; while it is Slow no fsync returns.
type folder struct {
	tb   testing.TB
	dir  string
	down bool
}

func newFolder(tb testing.TB) conformance.Target {
	f := &folder{tb: tb, dir: filepath.Join(tb.TempDir(), "archive")}
	if err := os.Mkdir(f.dir, 0o700); err != nil {
		tb.Fatal(err)
	}
	return f
}

func (f *folder) Settings() json.RawMessage {
	out, _ := json.Marshal(map[string]string{"path": filepath.Join(f.dir, fileName)})
	return out
}

func (f *folder) Set(s conformance.State) {
	var err error
	switch down := s == conformance.Down; {
	case down && !f.down:
		err = os.Rename(f.dir, f.dir+".away")
	case !down && f.down:
		err = os.Rename(f.dir+".away", f.dir)
	}
	if err != nil {
		f.tb.Fatal(err)
	}
	f.down = s == conformance.Down
	if s == conformance.Slow {
		err = os.WriteFile(f.dir+stallSuffix, nil, 0o600)
	} else if err = os.Remove(f.dir + stallSuffix); errors.Is(err, fs.ErrNotExist) {
		err = nil
	}
	if err != nil {
		f.tb.Fatal(err)
	}
}

func (f *folder) Received() (out [][]byte) {
	path := filepath.Join(f.dir, fileName)
	data, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil // nothing was written
	}
	if err != nil {
		f.tb.Fatal(err)
	}
	for line := range strings.Lines(string(data)) {
		var e struct{ Payload string }
		if err := json.Unmarshal([]byte(line), &e); err != nil {
			f.tb.Errorf("a line is not JSON: %v: %.80q", err, line)
		}
		out = append(out, []byte(e.Payload))
	}
	return out
}
