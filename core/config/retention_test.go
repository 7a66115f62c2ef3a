package config

import (
	"strings"
	"testing"
	"time"
)

func TestRetention(t *testing.T) {
	const text = "[hooks.demo]\nanonymous = true\nretention = { RETENTION }\n[transports.ehr]\nplugin = \"http\"\n[routes.ehr]\nhooks = [\"demo\"]\ntransport = \"ehr\"\n"
	for written, want := range map[string]Retention{
		``:                                   {},
		`payloads = "90d"`:                   {Payloads: 90 * 24 * time.Hour},
		`sent = "2w", events = "2w"`:         {Sent: 14 * 24 * time.Hour, Events: 14 * 24 * time.Hour},
		`events = "100y"`:                    {Events: 100 * 365 * 24 * time.Hour},
		`enriched = "36h"`:                   {Enriched: 36 * time.Hour},
		`payloads = " 1d ", events = "365d"`: {Payloads: 24 * time.Hour, Events: 365 * 24 * time.Hour},
	} {
		c, err := Parse("c.toml", []byte(strings.Replace(text, "RETENTION", written, 1)), ".", nil, nil)
		if err != nil {
			t.Errorf("%s: %v", written, err)
		} else if got := c.Hooks[0].Retention; got != want {
			t.Errorf("%s: %+v, want %+v", written, got, want)
		}
	}
}
