package config_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/hookline/hookline/core/config"
)

// A hash that takes an hour to check would keep every caller out, and one that is not
// whole would be taken for the password itself.
func TestHashesOfHooks(t *testing.T) {
	const rest = "abcdefghijklmnopqrstuuJ3xU1Yk0oDkW0gVJ3Wm9n1d2Qe0o5bK"
	whole := "$2a$12$" + rest[:53]
	for _, tt := range []struct{ hash, fault string }{
		{whole, ""},
		{strings.Replace(whole, "$12$", "$31$", 1), "takes too long to check: its cost must be at most 15"},
		{whole + "x", "is damaged or cut: a whole one has 60 characters"},
		{whole[:40], "is damaged or cut: a whole one has 60 characters"},
	} {
		for _, ref := range []string{tt.hash, "env:HASH"} {
			text := fmt.Sprintf("[hooks.demo]\nemail = \"a@example.org\"\npassword = %q\n[transports.t]\nplugin = \"http\"\n[routes.r]\nhooks = [\"demo\"]\ntransport = \"t\"\n", ref)
			_, err := config.Parse("c.toml", []byte(text), t.TempDir(), nil, []string{"HASH=" + tt.hash})
			switch {
			case tt.fault == "" && err != nil:
				t.Errorf("%s: %v", ref, err)
			case tt.fault != "" && (err == nil || !strings.Contains(err.Error(), tt.fault) || strings.Contains(err.Error(), rest[:20])):
				t.Errorf("%s as %s: %v", tt.hash, ref, err)
			}
		}
	}
}
