package main

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"testing"

	"github.com/hookline/hookline/plugins/conformance"
	"github.com/hookline/hookline/plugins/transport"
)

// The test binary is the plugin as well.
func TestMain(m *testing.M) {
	if len(os.Args) == 2 && os.Args[1] == "plugin" {
		main()
		return
	}
	os.Exit(m.Run())
}

func TestConformance(t *testing.T) {
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	conformance.Test(t, conformance.Subject{
		New:     func() transport.Transport { return &file{} },
		Command: []string{exe, "plugin"},
		Target:  func(tb testing.TB) conformance.Target { return target{tb, filepath.Join(tb.TempDir(), "out.jsonl")} },
		Bad: []conformance.BadSettings{
			{Name: "no path", Settings: json.RawMessage(`{}`)},
			{Name: "a folder that is not there", Settings: json.RawMessage(`{"path":"/no/such/folder/file"}`), Field: "path"},
		},
	})
}

// target is a file: always up.
type target struct {
	tb   testing.TB
	path string
}

func (t target) Settings() json.RawMessage {
	out, _ := json.Marshal(map[string]string{"path": t.path})
	return out
}

func (t target) Set(conformance.State) {}

func (t target) Received() (out [][]byte) {
	data, err := os.ReadFile(t.path)
	if err != nil && !os.IsNotExist(err) {
		t.tb.Fatal(err)
	}
	for _, text := range bytes.Split(bytes.TrimSpace(data), []byte("\n")) {
		var l line
		if json.Unmarshal(text, &l) == nil {
			out = append(out, []byte(l.Payload))
		}
	}
	return out
}
