package config

import (
	"encoding/json"
	"errors"
	"io/fs"
	"log/slog"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/hookline/hookline/core"
)

const minimal = `
[hooks.demo]
anonymous = true
[transports.ehr]
plugin = "http"
[routes.ehr]
hooks = ["demo"]
transport = "ehr"
`

func parse(t *testing.T, toml string, environ ...string) *Config {
	t.Helper()
	c, err := Parse("config.toml", []byte(toml), t.TempDir(), nil, environ)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func TestBigIntegers(t *testing.T) {
	for choice, want := range map[string]bool{"string": false, "refuse": true} {
		if c := parse(t, minimal+`big_integers = "`+choice+`"`); c.Routes[0].RefuseBigIntegers != want {
			t.Errorf("%s: %+v", choice, c.Routes[0])
		}
	}
}

func TestDefaults(t *testing.T) {
	c := parse(t, minimal)
	s := c.Server
	if len(s.Listen) != 1 || s.Listen[0].String() != "tcp://127.0.0.1:8787" || s.MaxBody != 1<<20 || s.MaxInFlight != 1024 ||
		s.HeaderTimeout != 10*time.Second || s.BodyTimeout != 30*time.Second || s.IdleTimeout != 2*time.Minute ||
		s.DrainTimeout != 30*time.Second || s.Watch || s.TLS.Enabled() || s.TrustedProxies != nil {
		t.Errorf("server: %+v", s)
	}
	if c.Log != (Log{slog.LevelInfo, "auto"}) {
		t.Errorf("log: %+v", c.Log)
	}
	if want := (Address{"unix", filepath.Join(c.Dir, "hookline-admin.sock")}); len(c.Admin.Listen) != 1 || c.Admin.Listen[0] != want {
		t.Errorf("admin: %+v", c.Admin)
	}
	if h := c.Hooks[0]; h.Stage != core.Live || h.Timeout != 15*time.Second || h.UnmatchedError {
		t.Errorf("hook: %+v", h)
	}
	if tr := c.Transports[0]; tr.Label != "ehr" || string(tr.Settings) != "{}" || !tr.BuiltIn() {
		t.Errorf("transport: %+v", tr)
	}
	if r := c.Routes[0]; r.Timeout != 10*time.Second || r.ScriptTimeout != 250*time.Millisecond || r.RefuseBigIntegers {
		t.Errorf("route: %+v", r)
	}
	if len(c.Revision) != 64 || len(c.Warnings) != 0 {
		t.Errorf("revision %q, warnings %q", c.Revision, c.Warnings)
	}
}

func TestLayers(t *testing.T) {
	file := minimal + "[server]\nmax_in_flight = 1\nlisten = [\"tcp://127.0.0.1:1\"]\n[transports.ehr.settings]\nurl = \"file\"\nkept = \"file\"\n"
	environ := []string{
		"HOOKLINE__SERVER__MAX_IN_FLIGHT=2",
		"HOOKLINE__SERVER__MAX_IN_FLIGHT=3", // the first counts
		"HOOKLINE__SERVER__LISTEN=tcp://127.0.0.1:2, unix:///tmp/x.sock",
		"HOOKLINE__SERVER__WATCH=true",
		"HOOKLINE__SERVER__MAX_BODY=2MiB",
		"HOOKLINE__SERVER__BODY_TIMEOUT=7s",
		"HOOKLINE__LOG__LEVEL=debug",
		"HOOKLINE__HOOKS__DEMO__STAGE=uat",
		"HOOKLINE__TRANSPORTS__EHR__SETTINGS__URL=http://example.org:1/a.b",
		"HOOKLINE__TRANSPORTS__EHR__SETTINGS__TLS__CA_FILE=ca.pem",
		"HOOKLINE__TRANSPORTS__LAB_DATA__PLUGIN=http",
		"HOOKLINE__ROUTES__LAB_DATA__HOOKS=demo",
		"HOOKLINE__ROUTES__LAB_DATA__TRANSPORT=lab-data",
		"HOOKLINE__ROUTES__LAB_DATA__EVENTS=insert,review",
		"HOOKLINE_NOT_OURS=1",
	}
	c, err := Parse("config.toml", []byte(file), t.TempDir(), map[string]string{
		"log.level": "error", "log.format": "json", "server.listen": "tcp://[::1]:0", "transports.ehr.label": "EHR",
	}, environ)
	if err != nil {
		t.Fatal(err)
	}
	if c.Server.MaxInFlight != 2 || !c.Server.Watch || c.Server.MaxBody != 2<<20 || c.Server.BodyTimeout != 7*time.Second {
		t.Errorf("server: %+v", c.Server)
	}
	if len(c.Server.Listen) != 1 || c.Server.Listen[0].Address != "[::1]:0" {
		t.Errorf("listen: %v", c.Server.Listen)
	}
	if c.Log != (Log{slog.LevelError, "json"}) {
		t.Errorf("log: %+v", c.Log)
	}
	if c.Hooks[0].Stage != core.UAT {
		t.Errorf("hook: %+v", c.Hooks[0])
	}
	if tr := c.Transports[0]; tr.Label != "EHR" || string(tr.Settings) != `{"kept":"file","tls":{"ca_file":"ca.pem"},"url":"http://example.org:1/a.b"}` {
		t.Errorf("transport: %+v %s", tr, tr.Settings)
	}
	if r := c.Routes[1]; r.Name != "lab-data" || r.Transport != "lab-data" || !slices.Equal(r.Events, []core.Kind{core.Insert, core.Review}) {
		t.Errorf("route: %+v", r)
	}
}

func TestOverrideErrors(t *testing.T) {
	_, err := Parse("c.toml", []byte(minimal), ".", map[string]string{"server.lisen": "x", "log.level": "loud", "": "x"}, nil)
	want := "command line: is not a dotted key with a value in UTF-8\n" +
		"command line: log.level: \"loud\" is not a choice; use debug, info, warn or error\n" +
		"command line: server.lisen: is not a key: did you mean listen?"
	if err == nil || err.Error() != want {
		t.Errorf("got:\n%v\nwant:\n%s", err, want)
	}
}

// Names come in the order of the file, however their tables are written.
func TestOrder(t *testing.T) {
	c := parse(t, `
hooks.zeta.anonymous = true
hooks.beta = { anonymous = true }
transports = { z = { plugin = "http" }, a = { plugin = "http" } }
[hooks.alpha]
anonymous = true
[routes]
m.hooks = ["*"]
m.transport = "z"
[routes.b]
hooks = ["*"]
transport = "a"
[routes.a]
hooks = ["*"]
transport = "a"
`,
		"HOOKLINE__ROUTES__Y__HOOKS=alpha", "HOOKLINE__ROUTES__Y__TRANSPORT=a",
		"HOOKLINE__ROUTES__X__HOOKS=alpha", "HOOKLINE__ROUTES__X__TRANSPORT=a",
		"HOOKLINE__ROUTES__A__TRANSPORT=z")
	if got := hookNames(c); !slices.Equal(got, []string{"zeta", "beta", "alpha"}) {
		t.Errorf("hooks: %v", got)
	}
	if got := transportNames(c); !slices.Equal(got, []string{"z", "a"}) {
		t.Errorf("transports: %v", got)
	}
	if got := routeNames(c); !slices.Equal(got, []string{"m", "b", "a", "x", "y"}) {
		t.Errorf("routes: %v", got)
	}
}

// Settings are the plugin's: nothing in them is ours to change.
func TestSettingsVerbatim(t *testing.T) {
	c := parse(t, minimal+`
[transports.ehr.settings]
"a.b" = "dotted"
Mixed_Case = 1
html = "<&>"
float = 1.5
big = 9007199254740993
yes = true
list = [1, "two", { three = 3 }, []]
when = 2026-01-02T03:04:05Z
day = 2026-01-02
empty = {}
`+"\"nul\\u0000\" = 1\n")
	want := `{"Mixed_Case":1,"a.b":"dotted","big":9007199254740993,"day":"2026-01-02","empty":{},"float":1.5,"html":"<&>",` +
		`"list":[1,"two",{"three":3},[]],"nul\u0000":1,"when":"2026-01-02T03:04:05Z","yes":true}`
	if got := string(c.Transports[0].Settings); got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
}

func TestPasswords(t *testing.T) {
	const credentials = minimal + "\n[hooks.closed]\nemail = \"a\"\n"
	for _, tt := range []struct {
		env  string
		want []string
	}{
		{"hunter2", []string{"hunter2"}},
		{"with,comma", []string{"with,comma"}},
		{"env:A, env:B", []string{"env:A", "env:B"}},
		{"env:A,literal", []string{"env:A,literal"}},
	} {
		environ := []string{"HOOKLINE__HOOKS__CLOSED__PASSWORD=" + tt.env, "A=1", "B=2"}
		c, err := Parse("c.toml", []byte(credentials), ".", nil, environ)
		if tt.env == "env:A,literal" {
			// Half a list: taken as the one reference that it begins as.
			if err == nil {
				t.Errorf("%s: no error", tt.env)
			}
			continue
		}
		if err != nil {
			t.Errorf("%s: %v", tt.env, err)
			continue
		}
		if got := c.Hooks[1].Passwords; !slices.Equal(got, tt.want) {
			t.Errorf("%s: %q, want %q", tt.env, got, tt.want)
		}
		if len(c.Warnings) != 1 || !strings.Contains(c.Warnings[0], "served by no route") {
			t.Errorf("%s: a password of the environment is not written in the file: %q", tt.env, c.Warnings)
		}
	}
	if _, err := Parse("c.toml", []byte(credentials), ".", nil, []string{"HOOKLINE__HOOKS__CLOSED__PASSWORD="}); err == nil {
		t.Error("an empty password passed")
	}
}

func TestResolve(t *testing.T) {
	dir := t.TempDir()
	for name, content := range map[string]string{
		"plain": "s3cret", "newline": "s3cret\n", "crlf": "s3cret\r\n", "two": "s3cret\n\n", "cr": "s3cret\r", "empty": "\n",
		"large": strings.Repeat("x", maxSecret+1),
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	c, err := Parse("c.toml", []byte(minimal), dir, nil, []string{"SET=s3cret=1", "BLANK="})
	if err != nil {
		t.Fatal(err)
	}
	for ref, want := range map[string]string{
		"env:SET": "s3cret=1", "literal": "literal", "": "", "environment": "environment",
		"file:plain": "s3cret", "file:newline": "s3cret", "file:crlf": "s3cret", "file:two": "s3cret\n", "file:cr": "s3cret\r",
		"file:" + filepath.Join(dir, "plain"): "s3cret",
	} {
		if got, err := c.Resolve(ref); err != nil || got != want {
			t.Errorf("%s: %q, %v; want %q", ref, got, err, want)
		}
	}
	for ref, want := range map[string]string{
		"env:UNSET": "env:UNSET is not set", "env:BLANK": "env:BLANK is set but empty", "env:": "must be followed", "env:A B": "must be followed",
		"file:": "names no file", "file:gone": "no such file", "file:empty": "is empty", "file:.": "folder", "file:large": "larger than 64 KiB",
		"file:/dev/zero": "not a regular file",
	} {
		if got, err := c.Resolve(ref); err == nil || got != "" || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %q, %v; want an error with %q", ref, got, err, want)
		}
	}
}

func TestLoad(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "hookline.toml")
	if err := os.WriteFile(file, []byte("\xef\xbb\xbf"+minimal), 0o600); err != nil {
		t.Fatal(err)
	}
	c, err := Load(file, nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	if c.Path != file || c.Dir != dir {
		t.Errorf("path %s, dir %s", c.Path, c.Dir)
	}
	_, err = Load(filepath.Join(dir, "gone.toml"), nil, nil)
	var list *Error
	if !errors.As(err, &list) || !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a missing file: %v", err)
	}
	if _, err = Load(dir, nil, nil); err == nil {
		t.Error("a folder was loaded")
	}
}

func TestTooDeep(t *testing.T) {
	for name, toml := range map[string]string{
		"dotted": strings.Repeat("a.", 100_000) + "a = 1",
		"header": "[" + strings.Repeat("a.", 100_000) + "a]",
		"list":   "a = " + strings.Repeat("[", 9000) + strings.Repeat("]", 9000),
		"inline": "a = " + strings.Repeat("{a = ", 9000) + "1" + strings.Repeat("}", 9000),
		"inside": "a = [{" + strings.Repeat("a.", 1000) + "a = 1}]",
	} {
		_, err := Parse("c.toml", []byte(toml), ".", nil, nil)
		if err == nil || err.Error() != "c.toml:1: is nested deeper than 64 levels" {
			t.Errorf("%s: %.200v", name, err)
		}
	}
}

func TestRevision(t *testing.T) {
	dir := t.TempDir()
	revision := func(toml string, environ ...string) string {
		t.Helper()
		c, err := Parse("c.toml", []byte(toml), dir, nil, environ)
		if err != nil {
			t.Fatal(err)
		}
		return c.Revision
	}
	two := "\n[routes.two]\nhooks = [\"demo\"]\ntransport = \"ehr\"\n"
	base := revision(minimal + two)
	if revision("# comment\n"+minimal+two+"[server]\nmax_body = 1048576\ntrusted_proxies = []\n") != base {
		t.Error("a default that is written out changes the revision")
	}
	for name, other := range map[string]string{
		"order": two + minimal,
		"forms": minimal + two + "forms = [\"319\"]\n",
		"level": minimal + two + "[log]\nlevel = \"warn\"\n",
	} {
		if revision(other) == base {
			t.Errorf("%s: the revision is the same", name)
		}
	}
	if revision(minimal+two, "HOOKLINE__LOG__LEVEL=warn") != revision(minimal+two+"[log]\nlevel = \"warn\"\n") {
		t.Error("the revision tells where a value is from")
	}
}

func TestRestartKeys(t *testing.T) {
	dir, err := filepath.Abs("testdata")
	if err != nil {
		t.Fatal(err)
	}
	load := func(toml string) *Config {
		t.Helper()
		c, err := Parse("c.toml", []byte(toml), dir, nil, nil)
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	a := load(minimal)
	if keys := a.RestartKeys(load(minimal + "[log]\nlevel = \"warn\"\n[server]\nwatch = true\n")); keys != nil {
		t.Errorf("%v need no restart", keys)
	}
	b := load(minimal + `
[server]
listen = ["tcp://127.0.0.1:0"]
max_body = 7
max_in_flight = 7
tls = { cert_file = "secret", key_file = "secret" }
[log]
format = "json"
[admin]
listen = "tcp://127.0.0.1:0"
hosts = ["a.example.org"]
tls = { cert_file = "secret", key_file = "secret" }
users = { alice = { password = "$2a$10$7EqJtq98hPqEX7fNZaFWoOhi5Q1gYb5DJi9cAF9nV9vJ0n5bqk2dK", role = "viewer" } }
[journal]
url = "memory:"
min_free = 7
node = "b"
`)
	want := []string{"server.listen", "server.max_body", "server.max_in_flight", "server.tls.cert_file", "server.tls.key_file", "log.format",
		"admin.listen", "admin.hosts", "admin.tls.cert_file", "admin.tls.key_file", "journal.url", "journal.min_free", "journal.node"}
	if keys := a.RestartKeys(b); !slices.Equal(keys, want) {
		t.Errorf("%v, want %v", keys, want)
	}
	if b.Admin.Socket() != "" || len(b.Admin.TCP()) != 1 || len(b.Admin.Users) != 1 {
		t.Errorf("admin: %+v", b.Admin)
	}
	off := load(minimal + "[admin]\nlisten = \"off\"\n")
	if len(off.Admin.Listen) > 0 {
		t.Errorf("off: %v", off.Admin.Listen)
	}
	other := load(minimal + `
[admin]
listen = "tcp://127.0.0.1:0"
hosts = ["a.example.org"]
tls = { cert_file = "secret", key_file = "secret" }
users = { bob = { password = "$2a$10$7EqJtq98hPqEX7fNZaFWoOhi5Q1gYb5DJi9cAF9nV9vJ0n5bqk2dK", role = "operator" } }
`)
	if keys := b.RestartKeys(other); slices.ContainsFunc(keys, func(key string) bool { return strings.HasPrefix(key, "admin.") }) || b.Revision == other.Revision {
		t.Errorf("users are applied by a reload: %v", keys)
	}
}

func TestProblemJSON(t *testing.T) {
	_, err := Parse("c.toml", []byte("a ="), ".", nil, nil)
	var list *Error
	if !errors.As(err, &list) {
		t.Fatal(err)
	}
	got, err := json.Marshal(list.Problems)
	if want := `[{"source":"c.toml","line":1,"column":3,"rule":"is not TOML: expected value, not end of input in: a ="}]`; err != nil || string(got) != want {
		t.Errorf("%s, %v\nwant %s", got, err, want)
	}
}

func FuzzParse(f *testing.F) {
	f.Add([]byte(minimal), "HOOKLINE__SERVER__LISTEN", "unix:a", "log.level", "warn")
	f.Add([]byte(minimal+"retry = { initial = \"1s\", factor = 1e0 }\n"), "HOOKLINE__TRANSPORTS__EHR__RATE", "nan", "journal.url", "env:X")
	f.Add([]byte("[routes.a]\nforms = [\"[\"]\n[[hooks]]\n"), "HOOKLINE__HOOKS", "1", "hooks.a", "x")
	files, err := filepath.Glob("testdata/*.toml")
	if err != nil {
		f.Fatal(err)
	}
	for _, file := range files {
		data, err := os.ReadFile(file)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(data, "HOOKLINE__TRANSPORTS__EHR__SETTINGS__X", "\xff", "a.b.c", "")
	}
	f.Fuzz(func(t *testing.T, toml []byte, name, value, key, override string) {
		c, err := Parse("c.toml", toml, "testdata", map[string]string{key: override}, []string{name + "=" + value})
		if (c == nil) == (err == nil) {
			t.Fatalf("%v and %v", c, err)
		}
		if err != nil {
			var list *Error
			if !errors.As(err, &list) || len(list.Problems) == 0 {
				t.Fatalf("no *Error with problems: %v", err)
			}
			return
		}
		again, err := Parse("c.toml", toml, "testdata", map[string]string{key: override}, []string{name + "=" + value})
		if err != nil || again.Revision != c.Revision {
			t.Fatalf("not the same again: %v", err)
		}
		for _, tr := range c.Transports {
			if tr.Rate < 0 || math.IsNaN(tr.Rate) {
				t.Fatalf("rate is %g", tr.Rate)
			}
			if !json.Valid(tr.Settings) {
				t.Fatalf("settings are no JSON: %s", tr.Settings)
			}
		}
	})
}

// What is found wrong later, by a plugin or in a script, is told with its place too.
func TestPlace(t *testing.T) {
	c := parse(t, minimal+"[transports.ehr.settings]\nurl = \"http://x\"\nheaders = { X-Site = \"1\" }\nlist = [\"a\"]\n",
		"HOOKLINE__TRANSPORTS__EHR__SETTINGS__METHOD=PUT")
	for key, want := range map[string]string{
		"":                                       "config.toml",
		"hooks.demo.anonymous":                   "config.toml:3",
		"transports.ehr.settings.url":            "config.toml:10",
		"transports.ehr.settings.none":           "config.toml:9",
		"transports.ehr.settings.headers.X-Site": "config.toml:11",
		"transports.ehr.settings.list[0]":        "config.toml:12",
		"transports.ehr.settings.method":         "HOOKLINE__TRANSPORTS__EHR__SETTINGS__METHOD",
	} {
		if got := c.Place(key); got != want {
			t.Errorf("%q: %s, want %s", key, got, want)
		}
	}
}
