package config_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/hookline/hookline/core/config"
)

func TestMaskSecrets(t *testing.T) {
	const in = `# study A; password = "gone-s3cret"
# it was "old-s3cret" as a token
journal.url = "postgres://hookline:pg-s3cret@db/hookline?sslmode=require&password=q-s3cret" # moved
[hooks.demo]
email = "a@example.org" # not the password 's3cret'
password = [ "env:NEW", # "old s3cret password"
  'file:old', "$2a$10$s3cret", """
s3cret
""" ]
[hooks.other]
email = "b@example.org"
"password" = "lit\"s3cret"
trialkit = { url = "https://api.example.org", access_key = "s3cret", access_key_header = "X-Key" }
[transports.ehr]
plugin = "http"
label = "Hospital EHR"
args = ["--token=s3cret", "--verbose"]
settings = { url = "https://u:s3cret@ehr.example.org/x?key=s3cret&a=b", headers = { X-Plain = "s3cret", X-Ref = "env:KEY" }, max_idle = 3, password = "s3cret" }
[transports.ehr.settings.tls]
ca_file = "ca.pem"
passphrase = "s3cret"
[transports.vendor]
plugin = "./vendor"
settings.word = "s3cret"
settings.pin = 53211
settings.url = "https:\u002f/u:s3cret@h/"
[routes.ehr]
hooks = ["demo"]
transport = "ehr"
forms = ["Token*"]
secrets = { token = "env:EHR_TOKEN", plain = "s3cret" }
`
	const want = `# study A; password = (masked)
# it was "(masked)" as a token
journal.url = "postgres://(masked)@db/hookline?sslmode=require&password=(masked)" # moved
[hooks.demo]
email = "a@example.org" # not the password "(masked)"
password = [ "env:NEW", # "(masked)"
  'file:old', "(masked)", "(masked)" ]
[hooks.other]
email = "b@example.org"
"password" = "(masked)"
trialkit = { url = "https://api.example.org", access_key = "(masked)", access_key_header = "X-Key" }
[transports.ehr]
plugin = "http"
label = "Hospital EHR"
args = ["--token=(masked)", "--verbose"]
settings = { url = "https://(masked)@ehr.example.org/x?key=(masked)&a=b", headers = { X-Plain = "(masked)", X-Ref = "env:KEY" }, max_idle = 3, password = "(masked)" }
[transports.ehr.settings.tls]
ca_file = "ca.pem"
passphrase = "(masked)"
[transports.vendor]
plugin = "./vendor"
settings.word = "(masked)"
settings.pin = "(masked)"
settings.url = "(masked)"
[routes.ehr]
hooks = ["demo"]
transport = "ehr"
forms = ["Token*"]
secrets = { token = "env:EHR_TOKEN", plain = "(masked)" }
`
	if got := string(config.MaskSecrets([]byte(in))); got != want {
		t.Errorf("got:\n%s\nwant:\n%s", got, want)
	}
	if got := string(config.MaskSecrets([]byte(`password = "s3cret`))); strings.Contains(got, "s3cret") {
		t.Errorf("not TOML: %s", got)
	}
}

// A configuration is told of as it was, although its files are gone.
func TestPast(t *testing.T) {
	dir := t.TempDir()
	for name, text := range map[string]string{"ehr.js": "", "pw": "x"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	text := []byte(`
[hooks.demo]
email = "a@example.org"
password = "file:pw"
[transports.ehr]
plugin = "http"
label = "Hospital EHR"
settings = { url = "https://ehr.example.org" }
[routes.ehr]
hooks = ["demo"]
transport = "ehr"
forms = ["319"]
transform = "ehr.js"
`)
	now, err := config.Parse("c.toml", text, dir, nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"ehr.js", "pw"} {
		if err := os.Remove(filepath.Join(dir, name)); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := config.Parse("c.toml", text, dir, nil, nil); err == nil {
		t.Fatal("it can still be run")
	}
	then, err := config.Past("c.toml", text, dir, nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	if then.Revision != now.Revision || then.Routes[0].Transform != now.Routes[0].Transform {
		t.Errorf("%s, was %s", then.Revision, now.Revision)
	}
	over, err := config.Past("c.toml", text, dir, nil, []string{"HOOKLINE__ROUTES__EHR__FORMS=320"})
	if err != nil || over.Revision == now.Revision {
		t.Errorf("%v: what lies over it now does not show", err)
	}
	if _, err := config.Past("c.toml", []byte("x = "), dir, nil, nil); err == nil {
		t.Error("what is not TOML was read")
	}
}

// What url.Parse takes for a password is masked to its end, whatever is in it, and so
// is the key of any collector.
func TestMaskWhatIsInAURL(t *testing.T) {
	for in, want := range map[string]string{
		`journal.url = "postgres://u:s3@cret@db/x"`:                        `journal.url = "postgres://(masked)@db/x"`,
		`journal.url = "postgres://u:s3'cret@db/x"`:                        `journal.url = "postgres://(masked)@db/x"`,
		`journal.url = 'postgres://u:s3"cret@db/x'`:                        `journal.url = 'postgres://(masked)@db/x'`,
		`journal.url = "postgres://u:s3\"cret@db/x"`:                       `journal.url = "postgres://(masked)@db/x"`,
		`journal.url = "postgres://db/x?user=u&password=s3'cret"`:          `journal.url = "postgres://db/x?user=u&password=(masked)"`,
		"journal.url = \"\"\"postgres://db/x?password=s3'cret\"\"\"":       "journal.url = \"\"\"postgres://db/x?password=(masked)\"\"\"",
		`# journal.url is postgres://u:s3'cr@et@db/x now`:                  `# journal.url is postgres://(masked)@db/x now`,
		`telemetry.headers = { x-honeycomb-team = "s3cret", a = "env:A" }`: `telemetry.headers = { x-honeycomb-team = "(masked)", a = "env:A" }`,
	} {
		if got := string(config.MaskSecrets([]byte(in))); got != want {
			t.Errorf("%s\nis shown as %s", in, got)
		}
	}
}
