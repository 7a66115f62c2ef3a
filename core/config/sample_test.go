package config

import (
	"errors"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/hookline/hookline/core"
)

// root is the repository: config.toml there is the documented sample.
const root = "../.."

func sample(t *testing.T) string {
	t.Helper()
	data, err := os.ReadFile(root + "/config.toml")
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

func TestSample(t *testing.T) {
	c, err := Load(root+"/config.toml", nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	if len(c.Warnings) > 0 {
		t.Errorf("warnings: %q", c.Warnings)
	}
	// Its first lines show the command that sends with the same password.
	ref := c.Hooks[0].Passwords[0]
	if _, err := c.Resolve(ref); err != nil || !strings.Contains(sample(t), "--password "+ref) {
		t.Errorf("the sample's password is not the one in its first lines: %s, %v", ref, err)
	}
}

// What the sample calls a default is one.
func TestSampleDefaults(t *testing.T) {
	text := sample(t)
	c, err := Parse("config.toml", []byte(text), root, nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	written := regexp.MustCompile(`(?m)^#([a-z])`).ReplaceAllString(text, "$1")
	// With email and password there, this one says nothing but must not be wrong.
	all, err := Parse("config.toml", []byte(written), root, nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	if c.Revision != all.Revision {
		t.Errorf("a default in the sample is not the default:\n%+v\n%+v", c, all)
	}
}

// The sample's examples are valid, but for files that it has not got.
func TestSampleExamples(t *testing.T) {
	written := regexp.MustCompile(`(?m)^# (\[[a-z.]+\]$|[a-z0-9_]+ = )`).ReplaceAllString(sample(t), "$1")
	_, err := Parse("config.toml", []byte(written), root, nil, nil)
	var list *Error
	if !errors.As(err, &list) {
		t.Fatal("the examples name files that are there?", err)
	}
	var keys []string
	for _, p := range list.Problems {
		if strings.HasPrefix(p.Rule, "there is no file") || strings.HasPrefix(p.Rule, "file: ") {
			keys = append(keys, p.Key)
		} else {
			t.Error(p)
		}
	}
	if want := []string{
		"server.tls.cert_file", "server.tls.key_file", "admin.tls.cert_file", "admin.tls.key_file", "admin.users.alice.password", "hooks.demo.trialkit.ca_file", "routes.ehr.secrets.token", "transports.vendor.plugin",
	}; !slices.Equal(keys, want) {
		t.Errorf("files that are missing: %v, want %v", keys, want)
	}
}

// TestDocumented holds the sample and the reference against the keys that the
// decoder itself knows.
func TestDocumented(t *testing.T) {
	reference, err := os.ReadFile(root + "/docs/configuration.md")
	if err != nil {
		t.Fatal(err)
	}
	var rows []string // what the reference has and the decoder does not know is left over
	for _, m := range regexp.MustCompile("(?m)^\\| `([a-z_.A-Z0-9]+)` \\|").FindAllStringSubmatch(string(reference), -1) {
		if strings.Contains(m[1], ".") {
			rows = append(rows, m[0])
		}
	}
	c := defaults()
	for name, fs := range map[string]fields{
		"server": c.Server.fields(), "log": c.Log.fields(), "admin": c.adminFields(), "server.tls": c.Server.TLS.fields(),
		"admin.tls": c.Admin.TLS.fields(), "admin.users.NAME": c.addUser("x"),
		"journal": c.Journal.fields(), "alerts": c.Alerts.fields(), "transports.circuit": (&Circuit{}).fields(), "routes.retry": retryFields(&core.Retry{}), "hooks.retention": (&Retention{}).fields(), "hooks.trialkit": (&TrialKit{}).fields(), "telemetry": c.Telemetry.fields(), "transforms": c.Transforms.fields(),
		"hooks": c.addHook("x"), "transports": c.addTransport("x"), "routes": c.addRoute("x"),
	} {
		for key := range fs {
			heading := "| `" + name + "." + key + "` |"
			section, inline, _ := strings.Cut(name, ".")
			if slices.Contains(named, section) {
				heading = "| `" + strings.Join(slices.DeleteFunc([]string{section, "NAME", inline, key}, func(s string) bool { return s == "" }), ".") + "` |"
			}
			table := key == "tls" || key == "users" || key == "circuit" || key == "retry" || key == "retention" || key == "trialkit" // its keys have the rows
			if !table && !strings.Contains(string(reference), heading) {
				t.Errorf("docs/configuration.md has no row %s", heading)
			}
			rows = slices.DeleteFunc(rows, func(row string) bool { return row == heading })
			if key == "users" {
				continue
			}
			if inline != "" && inline != "trialkit" && slices.Contains(named, section) {
				if !regexp.MustCompile(`(?m)^# ?` + inline + ` = \{.*\b` + key + ` = `).MatchString(sample(t)) {
					t.Errorf("config.toml does not show %s.%s", name, key)
				}
				continue
			}
			if !regexp.MustCompile(`(?m)^(# ?)?` + key + ` = |\[[a-z.]*\.` + key + `\]`).MatchString(sample(t)) {
				t.Errorf("config.toml does not show %s.%s", name, key)
			}
		}
	}
	if len(rows) > 0 {
		t.Errorf("docs/configuration.md has rows for what is no key: %q", rows)
	}
}
