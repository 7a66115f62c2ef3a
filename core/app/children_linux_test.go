package app_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/hookline/hookline/plugins/transport"
)

// A daemon that has lost its database ends its children before others take its
// deliveries over. A reload that happens to be under way, and may hang for the same
// reason, does not hold that up.
func TestChildrenAreEndedBesideAReload(t *testing.T) {
	ehr := newTarget(t, nil)
	toml := preamble + route("ehr", ehr.url, "", "")
	d := start(t, toml)
	first := transportPID(t, "ehr")
	reloaded := make(chan error, 1)
	d.mu.Lock() // the configuration cannot be read for a while
	go func() { reloaded <- d.app.Reload(context.Background()) }()
	eventually(t, "the reload", d.app.Reloading)
	ended := make(chan struct{})
	go func() { d.app.KillChildren(); close(ended) }()
	select {
	case <-ended:
		awaitExit(t, first)
	case <-time.After(5 * time.Second):
		t.Error("the children are not ended while a reload is under way")
	}
	d.mu.Unlock()
	if err := <-reloaded; err != nil {
		t.Error(err)
	}
	<-ended
}

// An exclusive plugin that could be neither replaced nor started again is started by
// the next reload, also by one that goes back to what was before.
func TestExclusivePluginThatIsGoneComesBack(t *testing.T) {
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	script := fmt.Sprintf("#!/bin/sh\nexec %s \"$@\"\n", exe)
	toml := func(word string) string {
		return preamble + fmt.Sprintf(`
[transports.vendor]
plugin = "./vendor.sh"
args = [%q]
settings = { word = %q }
[routes.vendor]
hooks = ["demo"]
transport = "vendor"
`, modeVendor, word)
	}
	d := prepare(t, toml("first"))
	file, then := filepath.Join(d.dir, "vendor.sh"), time.Now().Add(-time.Hour)
	put := func(text string) {
		t.Helper()
		if err := os.WriteFile(file, []byte(text), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.Chtimes(file, then, then); err != nil {
			t.Fatal(err)
		}
	}
	put(script)
	if err := d.boot(); err != nil {
		t.Fatal(err)
	}
	d.update("319", transport.Delivered)
	put("#!/bin/sh\nexit 1\n")
	d.write("config.toml", toml("second"))
	if err := d.app.Reload(context.Background()); err == nil {
		t.Fatal("a plugin that cannot be started was taken")
	}
	put(script)
	d.reload(toml("first"))
	d.update("319", transport.Delivered)
}
