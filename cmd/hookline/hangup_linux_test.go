package main

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"
)

// A reload that is asked for while the daemon starts does not end it. The plugin asks
// its parent for one, and then says that it cannot be started.
func TestHangupDuringTheStart(t *testing.T) {
	dir := t.TempDir()
	plugin := filepath.Join(dir, "plugin.sh")
	if err := os.WriteFile(plugin, []byte("#!/bin/sh\nkill -HUP $PPID\nexit 1\n"), 0o700); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, "config.toml")
	text := fmt.Sprintf(`
server.listen = ["tcp://127.0.0.1:0"]
admin.listen = "off"
journal.url = "none"
[hooks.demo]
anonymous = true
[transports.vendor]
plugin = %q
[routes.vendor]
hooks = ["demo"]
transport = "vendor"
`, plugin)
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	if code, _, errs := finish(t, hookline(t, nil, "serve", "--config", path)); code != exitConfig {
		t.Errorf("exit %d\n%s", code, errs)
	}
}
