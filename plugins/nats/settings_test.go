//go:build unix

package nats_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/hookline/hookline/plugins/nats"
	"github.com/hookline/hookline/plugins/target/targettest"
	"github.com/hookline/hookline/plugins/transport"
)

func TestBadSettings(t *testing.T) {
	junk := filepath.Join(t.TempDir(), "junk.pem")
	if err := os.WriteFile(junk, []byte("secret"), 0o600); err != nil {
		t.Fatal(err)
	}
	const ok = `"servers":["x"],"subject":"a.b"`
	for in, want := range map[string]string{
		``:                               "servers subject",
		`{}`:                             "servers subject",
		`[]`:                             "",
		`{"a":`:                          "",
		`{` + ok + `,"server":"secret"}`: "server",
		`{"servers":"x","subject":"a"}`:  "servers",
		`{"servers":[],"subject":"a"}`:   "servers",
		`{"servers":["x","tls://secret@x"],"subject":"a"}`:                      "servers[1]",
		`{"servers":["x"],"subject":"a..b"}`:                                    "subject",
		`{"servers":["x"],"subject":"a.>"}`:                                     "subject",
		`{"servers":["x"],"subject":"a b"}`:                                     "subject",
		`{"servers":["x"],"subject":"$JS.API"}`:                                 "subject",
		`{` + ok + `,"inbox_prefix":"*"}`:                                       "inbox_prefix",
		`{` + ok + `,"username":"u"}`:                                           "password",
		`{` + ok + `,"password":"secret"}`:                                      "username",
		`{` + ok + `,"username":"u","password":"secret\n"}`:                     "password",
		`{` + ok + `,"token":"secret\n"}`:                                       "token",
		`{` + ok + `,"token":"secret","username":"u","password":"secret"}`:      "",
		`{` + ok + `,"nkey_seed":"secret"}`:                                     "nkey_seed",
		`{` + ok + `,"creds_file":"/nowhere/secret"}`:                           "creds_file",
		`{` + ok + `,"creds_file":"` + junk + `"}`:                              "creds_file",
		`{` + ok + `,"tls":true}`:                                               "tls",
		`{` + ok + `,"tls":{"insecure":true}}`:                                  "insecure",
		`{` + ok + `,"tls":{"ca_file":"` + junk + `"}}`:                         "tls.ca_file",
		`{` + ok + `,"tls":{"cert_file":"` + junk + `"}}`:                       "tls.key_file",
		`{` + ok + `,"deny_addresses":["10.0.0.0/33"]}`:                         "deny_addresses[0]",
		`{` + ok + `,"dial_timeout":"0s"}`:                                      "dial_timeout",
		`{"servers":[""],"subject":"","password":"secret","dial_timeout":"no"}`: "servers[0] subject username dial_timeout",
	} {
		err := nats.New().Configure(t.Context(), []byte(in))
		if err == nil {
			t.Errorf("%s: accepted", in)
			continue
		}
		if got := strings.Join(targettest.Fields(t, err), " "); got != want {
			t.Errorf("%s: %q (%v), want %q", in, got, err, want)
		}
		if strings.Contains(err.Error(), "secret") {
			t.Errorf("%s: the error shows a secret: %v", in, err)
		}
	}
}

func TestConfigureOnce(t *testing.T) {
	settings := raw(obj{"servers": []string{"127.0.0.1"}, "subject": "a"})
	tr := nats.New()
	if r := tr.Deliver(t.Context(), message()); r.Effect != transport.None || r.Code == transport.Delivered {
		t.Errorf("not configured: %+v", r)
	}
	if r := tr.Check(t.Context()); r.Effect != transport.None {
		t.Errorf("not configured: %+v", r)
	}
	if err := tr.Configure(t.Context(), settings); err != nil {
		t.Fatal(err)
	}
	if err := tr.Configure(t.Context(), settings); err == nil {
		t.Error("configured twice")
	}
	if err := tr.Close(); err != nil {
		t.Error(err)
	}
}

func TestSchema(t *testing.T) {
	d := nats.New(nats.WithVersion("9")).Describe()
	if d.Name != "nats" || d.Version != "9" || d.Idempotent || d.Exclusive {
		t.Errorf("%+v", d)
	}
	const need = `"servers":["x"],"subject":"a"`
	targettest.Schema{
		About: d,
		Takes: map[string]bool{
			`{` + need + `}`: true,
			`{` + need + `,"username":"u","password":"p","token":"t","nkey_seed":"s","creds_file":"f","inbox_prefix":"i","tls":{},"deny_addresses":["10.0.0.0/8"],"allow_link_local":true,"dial_timeout":"1m30s"}`: true,
			`{}`:                                  false,
			`{"servers":[],"subject":"a"}`:        false,
			`{"servers":"x","subject":"a"}`:       false,
			`{` + need + `,"other":1}`:            false,
			`{` + need + `,"dial_timeout":"5"}`:   false,
			`{` + need + `,"tls":{"insecure":1}}`: false,
		},
		Defaults: nats.Defaults(),
		Optional: []string{"username", "creds_file"},
		Secret:   []string{"nkey_seed", "password", "token"},
		Told:     targettest.Told(transport.RedirectRefused),
	}.Check(t)
}
