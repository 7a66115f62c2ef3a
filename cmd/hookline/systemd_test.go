package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/coreos/go-systemd/v22/unit"

	"github.com/hookline/hookline/core/config"
)

// The units of examples/systemd fit the program: its commands, its default
// address and its time to drain.
func TestSystemdUnits(t *testing.T) {
	read := func(name string) func(section, key string) []string {
		f, err := os.Open(filepath.Join("..", "..", "examples", "systemd", name))
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = f.Close() }()
		options, err := unit.DeserializeOptions(f)
		if err != nil {
			t.Fatal(err)
		}
		return func(section, key string) (values []string) {
			for _, o := range options {
				if o.Section == section && o.Name == key {
					values = append(values, o.Value)
				}
			}
			return values
		}
	}
	c, err := config.Load(filepath.Join("..", "..", "config.toml"), nil, nil)
	if err != nil {
		// The example's secrets are files beside it; nothing else may be wrong.
		t.Fatal(err)
	}
	socket, service := read("hookline.socket"), read("hookline.service")
	if got := socket("Socket", "ListenStream"); len(got) != 1 || "tcp://"+got[0] != c.Server.Listen[0].String() {
		t.Errorf("systemd listens on %q, the example's server.listen is %s", got, c.Server.Listen[0])
	}
	for _, key := range []string{"ExecStart", "ExecReload"} {
		lines := service("Service", key)
		if len(lines) != 1 {
			t.Fatalf("%s stands %d times", key, len(lines))
		}
		args := strings.Fields(lines[0])[1:]
		cmd, rest, err := command().Find(args)
		if err != nil || !cmd.HasParent() {
			t.Fatalf("%s: there is no such command: %v", key, err)
		}
		if err := cmd.ParseFlags(rest); err != nil {
			t.Errorf("%s: %v", key, err)
		}
	}
	stop, err := time.ParseDuration(service("Service", "TimeoutStopSec")[0] + "s")
	if err != nil || stop <= c.Server.DrainTimeout {
		t.Errorf("TimeoutStopSec is %v, which must be longer than server.drain_timeout, %v", stop, c.Server.DrainTimeout)
	}
	if got := service("Service", "KillMode"); len(got) != 1 || got[0] != "mixed" {
		t.Errorf("KillMode is %q: systemd would end the plugins while they finish", got)
	}
}
