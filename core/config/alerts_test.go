package config

import (
	"testing"
	"time"
)

// A hook that says nothing of its own is as quiet as the alerts allow.
func TestQuietAfter(t *testing.T) {
	c, err := Parse("config.toml", []byte(`
[alerts]
transport = "ops"
quiet_after = "2h"
[hooks.a]
anonymous = true
[hooks.b]
anonymous = true
quiet_after = "0s"
[hooks.c]
anonymous = true
quiet_after = "30m"
[transports.ops]
plugin = "http"
[routes.ops]
hooks = ["*"]
transport = "ops"
`), ".", nil, []string{"HOOKLINE__ALERTS__CIRCUIT_AFTER=1m"})
	if err != nil {
		t.Fatal(err)
	}
	for i, want := range []time.Duration{2 * time.Hour, 0, 30 * time.Minute} {
		if got := c.Hooks[i].QuietAfter; got != want {
			t.Errorf("hook %s: %s, want %s", c.Hooks[i].Name, got, want)
		}
	}
	if c.Alerts.CircuitAfter != time.Minute || len(c.Warnings) > 0 {
		t.Errorf("%+v %q", c.Alerts, c.Warnings)
	}
}
