package app_test

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/hookline/hookline/plugins/transport"
)

// A daemon with the file transport: what was answered with success is in the file.
func TestFileTransport(t *testing.T) {
	dir := t.TempDir()
	config := preamble + fmt.Sprintf(`
[transports.archive]
plugin = "file"
settings = { path = %q }
[routes.archive]
hooks = ["demo"]
transport = "archive"
`, dir+"/{hook}/{route}.jsonl")
	d := start(t, config)
	body := event("1")
	if a := d.send(call{body: body}); a.Code != transport.Delivered {
		t.Fatalf("got %d %s", a.status, a.body)
	}
	d.reload(strings.Replace(config, "settings = {", `settings = { mode = "0640",`, 1)) // another process
	d.update("2", transport.Delivered)

	text, err := os.ReadFile(filepath.Join(dir, "demo", "archive.jsonl"))
	if err != nil {
		t.Fatal(err)
	}
	first, second, _ := strings.Cut(string(text), "\n")
	var line struct{ Hook, Route, Study, Kind, Payload string }
	if err := json.Unmarshal([]byte(first), &line); err != nil {
		t.Fatal(err)
	}
	if line.Hook != "demo" || line.Route != "archive" || line.Study != "ABC-123" || line.Kind != "update" || line.Payload != string(body) {
		t.Errorf("the file has %s", first)
	}
	if strings.Count(second, "\n") != 1 || !strings.HasSuffix(second, "\n") {
		t.Errorf("after it the file has %q", second)
	}
}

// An event for a disk that is not mounted waits for it.
func TestFileTransportWaitsForItsDisk(t *testing.T) {
	disk := filepath.Join(t.TempDir(), "disk")
	d := start(t, preamble+fmt.Sprintf(`
[transports.archive]
plugin = "file"
settings = { path = %q }
[routes.archive]
hooks = ["demo"]
transport = "archive"
`, disk+"/archive.jsonl")+quick)
	a := d.update("1", transport.ConnectionRefused)
	if len(a.Deliveries) != 1 || a.Deliveries[0].Status != "waiting" {
		t.Fatalf("got %s", a.body)
	}
	if err := os.Mkdir(disk, 0o700); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the line", func() bool {
		text, _ := os.ReadFile(filepath.Join(disk, "archive.jsonl"))
		return strings.Contains(string(text), a.EventID)
	})
}
