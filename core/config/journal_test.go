package config

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/hookline/hookline/core"
)

func TestJournalDefaults(t *testing.T) {
	c := parse(t, minimal)
	if want := (Journal{URL: "sqlite:" + filepath.Join(c.Dir, "hookline.db"), MinFree: 512 << 20}); c.Journal != want || c.Journal.None() {
		t.Errorf("journal: %+v, want %+v", c.Journal, want)
	}
	if h := c.Hooks[0]; h.AcceptedStatus != 202 || h.LoopLimit != 20 || h.Dedup != 24*time.Hour {
		t.Errorf("hook: %+v", h)
	}
	if tr := c.Transports[0]; tr.Concurrency != 256 || tr.Rate != 0 || tr.Circuit != (Circuit{10, 15 * time.Second}) {
		t.Errorf("transport: %+v", tr)
	}
	r := c.Routes[0]
	if r.Async || r.AcceptOnTimeout || r.HoldUnknown || r.HoldDead || r.StopOnFailure || r.FailBlocked {
		t.Errorf("route: %+v", r)
	}
	if want := (core.Retry{Initial: 2 * time.Second, Factor: 2, Max: 10 * time.Minute, MaxAge: 72 * time.Hour}); r.Retry != want {
		t.Errorf("retry: %+v, want %+v", r.Retry, want)
	}
}

func TestJournalKeys(t *testing.T) {
	c := parse(t, `
[journal]
url = "sqlite:data.db"
min_free = 0
node = "file"
[hooks.demo]
anonymous = true
accepted_status = 200
loop_limit = 7
dedup = "1h"
[transports.ehr]
plugin = "http"
concurrency = 8
rate = 2
circuit = { failures = 3, pause = "1s" }
[routes.ehr]
hooks = ["demo"]
transport = "ehr"
mode = "async"
on_timeout = "accept"
on_unknown = "hold"
on_dead = "hold"
on_failure = "stop"
on_blocked = "fail"
retry = { initial = "1s", factor = 1.5, max = "1m", max_age = "1h", attempts = 4 }
`,
		"HOOKLINE__JOURNAL__NODE=env", "HOOKLINE__TRANSPORTS__EHR__RATE=0.5", "HOOKLINE__TRANSPORTS__EHR__CIRCUIT__PAUSE=2s",
		"HOOKLINE__ROUTES__EHR__RETRY__FACTOR=3", "HOOKLINE__HOOKS__DEMO__DEDUP=0s")
	if want := (Journal{"sqlite:" + filepath.Join(c.Dir, "data.db"), 0, "env"}); c.Journal != want {
		t.Errorf("journal: %+v, want %+v", c.Journal, want)
	}
	if h := c.Hooks[0]; h.AcceptedStatus != 200 || h.LoopLimit != 7 || h.Dedup != 0 {
		t.Errorf("hook: %+v", h)
	}
	if tr := c.Transports[0]; tr.Concurrency != 8 || tr.Rate != 0.5 || tr.Circuit != (Circuit{3, 2 * time.Second}) {
		t.Errorf("transport: %+v", tr)
	}
	r := c.Routes[0]
	if !r.Async || !r.AcceptOnTimeout || !r.HoldUnknown || !r.HoldDead || !r.StopOnFailure || !r.FailBlocked {
		t.Errorf("route: %+v", r)
	}
	if want := (core.Retry{Initial: time.Second, Factor: 3, Max: time.Minute, MaxAge: time.Hour, Attempts: 4}); r.Retry != want {
		t.Errorf("retry: %+v, want %+v", r.Retry, want)
	}
}

func TestJournalURL(t *testing.T) {
	dir := t.TempDir()
	for name, content := range map[string]string{"url": "postgres://hookline:hunter2@db/hookline\n", "two-lines": "postgres://hookline:hunter2@db/\nhookline\n"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	environ := []string{
		"POSTGRES=postgres://hookline:hunter2@db/hookline", "SQLITE=sqlite:x.db", "MYSQL=mysql://hookline:hunter2@db/hookline",
		"NONE=none", "MEMORY=memory:", "GONE=sqlite:gone/x.db",
	}
	const (
		forms    = `write "sqlite:PATH", "postgres://...", or "none" to do without a journal`
		complete = `is not a complete URL: write "postgres://USER:PASSWORD@HOST:PORT/DATABASE", and a space as %20`
		seen     = "holds a password that everyone who may read the file sees: put the URL into env:NAME or file:PATH"
		lost     = "is memory:, which is for tests: everything that is in the journal is lost when Hookline ends"
		unkept   = "is none, so nothing is kept: an event that cannot be delivered within its hook's timeout is answered with an error and not tried again"
	)
	for _, tt := range []struct{ written, kept, resolved, warning, problem string }{
		{written: "sqlite:x.db", kept: "sqlite:DIR/x.db"},
		{written: "sqlite:./a/../x:y.db", kept: "sqlite:DIR/x:y.db"},
		{written: "sqlite:///tmp/x.db", kept: "sqlite:/tmp/x.db"},
		{written: "sqlite:/tmp/x.db", kept: "sqlite:/tmp/x.db"},
		{written: "postgres://hookline@db/hookline", kept: "postgres://hookline@db/hookline"},
		{written: "postgresql://db:5432,db2/hookline?sslmode=verify-full", kept: "postgresql://db:5432,db2/hookline?sslmode=verify-full"},
		{written: "postgres:///hookline?host=/run/postgresql", kept: "postgres:///hookline?host=/run/postgresql"},
		{written: "env:POSTGRES", kept: "env:POSTGRES", resolved: "postgres://hookline:hunter2@db/hookline"},
		{written: "file:url", kept: "file:url", resolved: "postgres://hookline:hunter2@db/hookline"},
		{written: "env:SQLITE", kept: "env:SQLITE", resolved: "sqlite:DIR/x.db"},
		{written: "env:GONE", kept: "env:GONE", resolved: "sqlite:DIR/gone/x.db"}, // not ours to look at
		{written: "none", kept: "none", warning: unkept},
		{written: "memory:", kept: "memory:", warning: lost},
		{written: "postgres://hookline:hunter2@db/hookline", kept: "postgres://hookline:hunter2@db/hookline", warning: seen},
		{written: "postgres://hookline:hunter/2@db/hookline", kept: "postgres://hookline:hunter/2@db/hookline", warning: seen},
		{written: "postgres://db/hookline?password=hunter2", kept: "postgres://db/hookline?password=hunter2", warning: seen},

		{written: "", problem: "must not be empty: " + forms},
		{written: "hookline.db", problem: "does not name a journal: " + forms},
		{written: "memory", problem: "does not name a journal: " + forms},
		{written: "mysql://hookline:hunter2@db/hookline", problem: "does not name a journal: " + forms},
		{written: "postgres:hookline:hunter2@db/hookline", problem: "does not name a journal: " + forms},
		{written: "host=db password=hunter2", problem: "does not name a journal: " + forms},
		{written: "postgres://", problem: complete},
		{written: "postgres://hookline:hunter2 @db/hookline", problem: complete},
		{written: "postgres://hookline:hunter2\t@db/hookline", problem: "must be one line, without control characters: " + forms},
		{written: "sqlite:", problem: `must name a file: write "sqlite:PATH", such as "sqlite:hookline.db"`},
		{written: "sqlite:data/", problem: `must name a file: write "sqlite:PATH", such as "sqlite:hookline.db"`},
		{written: "sqlite://x.db", problem: `is ambiguous: write "sqlite:///path", or "sqlite:path" for one relative to the file`},
		{written: "sqlite::memory:", problem: `must name a file: for a test without one, write "memory:"`},
		{written: "sqlite:x.db?_key=hunter2", problem: `must be a plain path after "sqlite:", without ? and #: Hookline sets SQLite's parameters itself`},
		{written: "sqlite:.", problem: `"DIR" is a folder; name a file in it`},
		{written: "sqlite:gone/x.db", problem: `there is no folder "DIR/gone" to keep the journal in: make it, or name another; a relative path is relative to the configuration file`},
		{written: "env:UNSET", problem: "env:UNSET is not set in Hookline's environment"},
		{written: "file:gone", problem: `file: "DIR/gone" cannot be read: no such file or directory`},
		{written: "env:MYSQL", problem: `"env:MYSQL" stands for what does not name a journal: ` + forms},
		{written: "file:two-lines", problem: `"file:two-lines" stands for what must be one line, without control characters: ` + forms},
		{written: "env:NONE", problem: `"env:NONE" stands for "none", which must be written in its place`},
		{written: "env:MEMORY", problem: `"env:MEMORY" stands for "memory:", which must be written in its place`},
	} {
		file := minimal + "[journal]\nurl = '" + tt.written + "'\n"
		c, err := Parse("c.toml", []byte(file), dir, nil, environ)
		if tt.problem != "" {
			want := "c.toml:10: journal.url: " + strings.ReplaceAll(tt.problem, "DIR", dir)
			if err == nil || err.Error() != want {
				t.Errorf("%q: %v\nwant %s", tt.written, err, want)
			}
			if err != nil && strings.Contains(err.Error(), "hunter2") {
				t.Errorf("%q: a password is in the message", tt.written)
			}
			continue
		}
		if err != nil {
			t.Errorf("%q: %v", tt.written, err)
			continue
		}
		if tt.resolved == "" {
			tt.resolved = tt.kept
		}
		kept, resolved := strings.ReplaceAll(tt.kept, "DIR", dir), strings.ReplaceAll(tt.resolved, "DIR", dir)
		if got, err := c.JournalURL(); c.Journal.URL != kept || got != resolved || err != nil {
			t.Errorf("%q: %q, resolved %q, %v; want %q and %q", tt.written, c.Journal.URL, got, err, kept, resolved)
		}
		var warnings []string
		if tt.warning != "" {
			warnings = []string{"c.toml:10: journal.url: " + tt.warning}
		}
		if !slices.Equal(c.Warnings, warnings) {
			t.Errorf("%q: warnings %q, want %q", tt.written, c.Warnings, warnings)
		}
	}
}

// A reference is looked at anew each time.
func TestJournalURLChanges(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "url")
	write := func(s string) {
		t.Helper()
		if err := os.WriteFile(file, []byte(s), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write("postgres://a:s3cret@db/x")
	c, err := Parse("c.toml", []byte(minimal+"[journal]\nurl = \"file:url\"\n"), dir, nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	write("postgres://b:s3cret@db/x")
	if url, err := c.JournalURL(); url != "postgres://b:s3cret@db/x" || err != nil {
		t.Errorf("%q, %v", url, err)
	}
	write("mysql://b:s3cret@db/x")
	want := `journal.url: "file:url" stands for what does not name a journal: write "sqlite:PATH", "postgres://...", or "none" to do without a journal`
	if url, err := c.JournalURL(); url != "" || err == nil || err.Error() != want {
		t.Errorf("%q, %v", url, err)
	}
}

func TestNoJournal(t *testing.T) {
	c := parse(t, minimal, "HOOKLINE__JOURNAL__URL=none")
	if !c.Journal.None() || !c.Routes[0].StopOnFailure {
		t.Errorf("journal %+v, route %+v", c.Journal, c.Routes[0])
	}
	if len(c.Warnings) != 1 || !strings.HasPrefix(c.Warnings[0], "HOOKLINE__JOURNAL__URL: journal.url: is none, so nothing is kept") {
		t.Errorf("warnings: %q", c.Warnings)
	}
	if c := parse(t, minimal); c.Routes[0].StopOnFailure {
		t.Error("with a journal, a failure is not tried again")
	}
}

// What needs a journal is refused without one, and is fine with one.
func TestNeedsJournal(t *testing.T) {
	hook := strings.Replace(minimal, "anonymous = true\n", "anonymous = true\nKEY\n", 1)
	route := minimal + "KEY\n"
	for _, tt := range []struct {
		file, key string
		needs     bool
	}{
		{hook, `accepted_status = 202`, true},
		{hook, `accepted_status = 200`, true},
		{hook, `dedup = "24h"`, true},
		{hook, `retention = { payloads = "90d" }`, true},
		{hook, `loop_limit = 20`, false},
		{route, `mode = "async"`, true},
		{route, `mode = "sync"`, false},
		{route, `on_timeout = "accept"`, true},
		{route, `on_timeout = "fail"`, false},
		{route, `on_unknown = "retry"`, true},
		{route, `on_unknown = "hold"`, true},
		{route, `on_dead = "hold"`, true},
		{route, `on_dead = "continue"`, false},
		{route, `on_failure = "retry"`, true},
		{route, `on_failure = "stop"`, false},
		{route, `on_blocked = "accept"`, true},
		{route, `on_blocked = "fail"`, true},
		{route, `retry = {}`, true},
		{route, `retry = { attempts = 1 }`, true},
	} {
		file := []byte(strings.Replace(tt.file, "KEY", tt.key, 1))
		if _, err := Parse("c.toml", file, ".", nil, nil); err != nil {
			t.Errorf("%s: %v", tt.key, err)
		}
		_, err := Parse("c.toml", file, ".", map[string]string{"journal.url": "none"}, nil)
		name, _, _ := strings.Cut(tt.key, " ")
		if refused := err != nil && strings.Contains(err.Error(), name+": needs the journal, and journal.url is none: "); refused != tt.needs || (err != nil) != tt.needs {
			t.Errorf("%s without a journal: %v", tt.key, err)
		}
	}
}

// Every key of the journal is part of the revision, and a default is not.
func TestJournalRevision(t *testing.T) {
	const file = "[journal]\nJOURNAL\n[hooks.demo]\nanonymous = true\nHOOK\n[transports.ehr]\nplugin = \"http\"\nTRANSPORT\n[routes.ehr]\nhooks = [\"demo\"]\ntransport = \"ehr\"\nROUTE\n"
	revision := func(place, key string) string {
		t.Helper()
		text := file
		for _, p := range []string{"JOURNAL", "HOOK", "TRANSPORT", "ROUTE"} {
			line := ""
			if p == place {
				line = key
			}
			text = strings.Replace(text, p, line, 1)
		}
		c, err := Parse("c.toml", []byte(text), ".", nil, nil)
		if err != nil {
			t.Fatalf("%s: %v", key, err)
		}
		return c.Revision
	}
	seen := map[string]string{revision("", ""): "nothing"}
	for _, tt := range [][3]string{
		{"JOURNAL", `url = "sqlite:hookline.db"`, `url = "sqlite:other.db"`},
		{"JOURNAL", `min_free = "512MiB"`, `min_free = 1`},
		{"JOURNAL", `node = ""`, `node = "a"`},
		{"HOOK", `accepted_status = 202`, `accepted_status = 200`},
		{"HOOK", `loop_limit = 20`, `loop_limit = 21`},
		{"HOOK", `dedup = "24h"`, `dedup = "0s"`},
		{"HOOK", `retention = {}`, `retention = { payloads = "90d" }`},
		{"HOOK", `retention = {}`, `retention = { sent = "90d" }`},
		{"HOOK", `retention = {}`, `retention = { enriched = "90d" }`},
		{"HOOK", `retention = {}`, `retention = { events = "90d" }`},
		{"TRANSPORT", `concurrency = 256`, `concurrency = 1`},
		{"TRANSPORT", `rate = 0.0`, `rate = 0.1`},
		{"TRANSPORT", `circuit = {}`, `circuit = { failures = 0 }`},
		{"TRANSPORT", `circuit = { failures = 10, pause = "15s" }`, `circuit = { pause = "16s" }`},
		{"ROUTE", `mode = "sync"`, `mode = "async"`},
		{"ROUTE", `on_timeout = "fail"`, `on_timeout = "accept"`},
		{"ROUTE", `on_unknown = "retry"`, `on_unknown = "hold"`},
		{"ROUTE", `on_dead = "continue"`, `on_dead = "hold"`},
		{"ROUTE", `on_failure = "retry"`, `on_failure = "stop"`},
		{"ROUTE", `on_blocked = "accept"`, `on_blocked = "fail"`},
		{"ROUTE", `retry = {}`, `retry = { initial = "3s" }`},
		{"ROUTE", `retry = { initial = "2s" }`, `retry = { factor = 3 }`},
		{"ROUTE", `retry = { factor = 2 }`, `retry = { max = "11m" }`},
		{"ROUTE", `retry = { max = "10m" }`, `retry = { max_age = "73h" }`},
		{"ROUTE", `retry = { max_age = "72h", attempts = 0 }`, `retry = { attempts = 1 }`},
	} {
		if seen[revision(tt[0], tt[1])] != "nothing" {
			t.Errorf("%s, a default, changes the revision", tt[1])
		}
		r := revision(tt[0], tt[2])
		if other, known := seen[r]; known {
			t.Errorf("%s has the revision of %s", tt[2], other)
		}
		seen[r] = tt[2]
	}
}

// The bytes are kept as they came, and what they say counts, not they.
func TestSource(t *testing.T) {
	file := "\xef\xbb\xbf# comment\r\n" + minimal
	data := []byte(file)
	c, err := Parse("c.toml", data, ".", nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	clear(data)
	if string(c.Source) != file {
		t.Errorf("%q", c.Source)
	}
	plain, err := Parse("c.toml", []byte(minimal), ".", nil, nil)
	if err != nil || plain.Revision != c.Revision {
		t.Errorf("a comment changes the revision: %v", err)
	}
}

func TestFindJournal(t *testing.T) {
	const (
		missing = "\x00" // no file
		broken  = "\n[routes.ehr\nhooks = [\"demo\"\n"
	)
	for _, tt := range []struct {
		name, file string
		overrides  map[string]string
		environ    []string
		url, node  string
	}{
		{name: "no file", file: missing, url: "sqlite:DIR/hookline.db"},
		{name: "no file, environment", file: missing, environ: []string{"HOOKLINE__JOURNAL__URL=sqlite:x.db", "hookline__journal__url=y"}, url: "sqlite:DIR/x.db"},
		{name: "empty", url: "sqlite:DIR/hookline.db"},
		{name: "good", file: minimal + "[journal]\nurl = \"sqlite:x.db\"\nnode = \"n\"\n", url: "sqlite:DIR/x.db", node: "n"},
		{name: "other keys wrong", file: "[journal]\nurl = \"sqlite:x.db\"\nmin_fre = 1\n[hooks]\n", url: "sqlite:DIR/x.db"},
		{
			name: "layers", file: "[journal]\nurl = \"sqlite:x.db\"\nnode = \"n\"\n", environ: []string{"HOOKLINE__JOURNAL__URL=sqlite:y.db", "HOOKLINE__JOURNAL__NODE=e"},
			url: "sqlite:DIR/y.db", node: "e",
		},
		{
			name: "flags", file: "[journal]\nurl = \"sqlite:x.db\"\n", overrides: map[string]string{"journal.url": "sqlite:z.db", "journal.node": "f"},
			environ: []string{"HOOKLINE__JOURNAL__URL=sqlite:y.db", "HOOKLINE__JOURNAL__NODE=e"}, url: "sqlite:DIR/z.db", node: "f",
		},
		{name: "variable in lower case", environ: []string{"HOOKLINE__journal__URL=sqlite:y.db"}, url: "sqlite:DIR/y.db"},
		{name: "reference", file: "[journal]\nurl = \"env:DB\"\n", environ: []string{"DB=postgres://a:s3cret@db/x"}, url: "postgres://a:s3cret@db/x"},
		{name: "reference of a broken file", file: "[journal]\nurl = \"env:DB\"" + broken, environ: []string{"DB=sqlite:x.db"}, url: "sqlite:DIR/x.db"},
		{name: "reference to nothing", file: "[journal]\nurl = \"env:DB\"\n", url: "sqlite:DIR/hookline.db"},
		{name: "reference to something else", file: "[journal]\nurl = \"env:DB\"\n", environ: []string{"DB=none"}, url: "sqlite:DIR/hookline.db"},
		{name: "none", file: "[journal]\nurl = \"none\"\n", url: "none"},
		{name: "memory", file: "[journal]\nurl = \"memory:\"" + broken, url: "memory:"},
		{name: "not a URL", file: "[journal]\nurl = \"mysql:x\"\nnode = 1\n", url: "sqlite:DIR/hookline.db"},
		{name: "not a table", file: "journal = 1\n", url: "sqlite:DIR/hookline.db"},
		{name: "a folder that is gone", file: "[journal]\nurl = \"sqlite:gone/x.db\"\n", url: "sqlite:DIR/gone/x.db"},
		{name: "broken", file: "[server]\nurl = \"sqlite:no.db\"\n[ journal ] # here\n  url = 'sqlite:x.db' # \"quoted\"\nnode = \"n\\u0021\"\nurl = \"sqlite:twice.db\"\n[x]\nurl = \"sqlite:no.db\"" + broken, url: "sqlite:DIR/x.db", node: "n!"},
		{name: "broken, windows", file: "\xef\xbb\xbf[journal]\r\nurl = \"sqlite:x.db\"\r\n" + broken, url: "sqlite:DIR/x.db"},
		{name: "broken, dotted", file: "journal.url = \"sqlite:x.db\"" + broken, url: "sqlite:DIR/x.db"},
		{name: "broken, inline", file: "journal = { url = \"sqlite:x.db\", node = \"n\" }" + broken, url: "sqlite:DIR/x.db", node: "n"},
		{name: "broken itself", file: "[journal]\nurl = \"sqlite:x.db\n" + broken, url: "sqlite:DIR/hookline.db"},
		{name: "in another table", file: "[server]\njournal.url = \"sqlite:x.db\"\n[journal.more]\nurl = \"sqlite:x.db\"" + broken, url: "sqlite:DIR/hookline.db"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			dir := t.TempDir()
			path := filepath.Join(dir, "c.toml")
			if tt.file != missing {
				if err := os.WriteFile(path, []byte(tt.file), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			url, node := FindJournal(path, tt.overrides, tt.environ)
			if want := strings.ReplaceAll(tt.url, "DIR", dir); url != want || node != tt.node {
				t.Errorf("%q, %q; want %q, %q", url, node, want, tt.node)
			}
		})
	}
}

// Where Load finds a journal, FindJournal finds the same.
func TestFindJournalAgrees(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "c.toml")
	environ := []string{"DB=postgres://a:s3cret@db/x"}
	for _, url := range []string{"", "url = 'sqlite:x.db'", "url = 'sqlite:///tmp/x.db'", "url = 'none'", "url = 'memory:'", "url = 'env:DB'", "url = 'postgres://db/x'"} {
		if err := os.WriteFile(path, []byte(minimal+"[journal]\nnode = 'n'\n"+url+"\n"), 0o600); err != nil {
			t.Fatal(err)
		}
		c, err := Load(path, nil, environ)
		if err != nil {
			t.Fatal(err)
		}
		want, err := c.JournalURL()
		if err != nil {
			t.Fatal(err)
		}
		if got, node := FindJournal(path, nil, environ); got != want || node != c.Journal.Node {
			t.Errorf("%s: %q, %q; want %q", url, got, node, want)
		}
	}
}

func TestFindAdmin(t *testing.T) {
	const broken = "\n[routes.ehr\nhooks = [\"demo\"\n"
	for _, tt := range []struct {
		name, file string
		environ    []string
		want       string
	}{
		{name: "empty", want: "DIR/hookline-admin.sock"},
		{name: "good", file: minimal + "[admin]\nlisten = \"unix:a.sock\"\n", want: "DIR/a.sock"},
		{name: "absolute", file: "[admin]\nlisten = \"unix:///run/a.sock\"\n", want: "/run/a.sock"},
		{name: "a secret is missing", file: "[admin]\nlisten = \"unix:a.sock\"\n[hooks.demo]\npassword = \"env:NONE\"\n", want: "DIR/a.sock"},
		{name: "environment", file: "[admin]\nlisten = \"unix:a.sock\"\n", environ: []string{"HOOKLINE__ADMIN__LISTEN=unix:b.sock"}, want: "DIR/b.sock"},
		{name: "broken", file: "[server]\nlisten = [\"unix:no.sock\"]\n[admin]\nlisten = \"unix:a.sock\"" + broken, want: "DIR/a.sock"},
		{name: "broken, dotted", file: "admin.listen = \"unix:a.sock\"" + broken, want: "DIR/a.sock"},
		{name: "off", file: "[admin]\nlisten = \"off\"\n", want: "DIR/hookline-admin.sock"},
		{name: "tcp", file: "[admin]\nlisten = \"tcp://127.0.0.1:1\"\n", want: "DIR/hookline-admin.sock"},
		{name: "both", file: "[admin]\nlisten = [\"tcp://127.0.0.1:1\", \"unix:a.sock\"]\n", want: "DIR/a.sock"},
		{name: "both, environment", environ: []string{"HOOKLINE__ADMIN__LISTEN=tcp://127.0.0.1:1, unix:b.sock"}, want: "DIR/b.sock"},
		{name: "both, broken", file: "[admin]\nlisten = [\"tcp://127.0.0.1:1\", \"unix:a.sock\"]" + broken, want: "DIR/a.sock"},
		{name: "a list of what is no string", file: "admin.listen = [1]\n", want: "DIR/hookline-admin.sock"},
		{name: "no string", file: "admin.listen = 1\n", want: "DIR/hookline-admin.sock"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			dir := t.TempDir()
			path := filepath.Join(dir, "c.toml")
			if err := os.WriteFile(path, []byte(tt.file), 0o600); err != nil {
				t.Fatal(err)
			}
			if got, want := FindAdmin(path, nil, tt.environ), strings.ReplaceAll(tt.want, "DIR", dir); got != want {
				t.Errorf("%q, want %q", got, want)
			}
		})
	}
}

func FuzzFindJournal(f *testing.F) {
	f.Add([]byte("[journal]\nurl = \"sqlite:x.db\"\n"), "sqlite:y.db")
	f.Add([]byte("journal = { url = 'env:DB' }\n[x"), "")
	f.Add([]byte("[journal]\nurl = [[[\n"), "none")
	f.Fuzz(func(t *testing.T, file []byte, db string) {
		path := filepath.Join(t.TempDir(), "c.toml")
		if err := os.WriteFile(path, file, 0o600); err != nil {
			t.Fatal(err)
		}
		url, node := FindJournal(path, nil, []string{"DB=" + db})
		sqlite, ok := strings.CutPrefix(url, "sqlite:")
		switch {
		case ok && filepath.IsAbs(sqlite), strings.HasPrefix(url, "postgres"), url == "none", url == "memory:":
		default:
			t.Fatalf("%q", url)
		}
		if !validNode(node) {
			t.Fatalf("node %q", node)
		}
	})
}
