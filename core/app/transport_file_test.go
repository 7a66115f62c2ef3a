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
