//go:build unix

package amqp_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/hookline/hookline/plugins/amqp"
	"github.com/hookline/hookline/plugins/target/targettest"
	"github.com/hookline/hookline/plugins/transport"
)

func TestBadSettings(t *testing.T) {
	junk := filepath.Join(t.TempDir(), "junk.pem")
	if err := os.WriteFile(junk, []byte("secret"), 0o600); err != nil {
		t.Fatal(err)
	}
	const ok = `"address":"x","username":"u","password":"p","routing_key":"q"`
	for in, want := range map[string]string{
		``:                             "address username password routing_key",
		`{}`:                           "address username password routing_key",
		`[]`:                           "",
		`{"a":`:                        "",
		`{` + ok + `,"addr":"secret"}`: "addr",
		`{"address":"amqp://secret@x","username":"u","password":"p","routing_key":"q"}`: "address",
		`{"address":"x:0","username":"u","password":"p","routing_key":"q"}`:             "address",
		`{"address":5,"username":"u","password":"p","routing_key":"q"}`:                 "address",
		`{"address":"x","username":"u","password":"secret\n","routing_key":"q"}`:        "password",
		`{"address":"x","username":"u\u0000","password":"p","exchange":"e"}`:            "username",
		`{` + ok + `,"vhost":""}`:                                                                 "vhost",
		`{` + ok + `,"exchange":"` + strings.Repeat("x", 256) + `"}`:                              "exchange",
		`{` + ok + `,"channels":0}`:                                                               "channels",
		`{` + ok + `,"channels":2048}`:                                                            "channels",
		`{` + ok + `,"tls":true}`:                                                                 "tls",
		`{` + ok + `,"tls":{"insecure":true}}`:                                                    "insecure",
		`{` + ok + `,"tls":{"ca_file":"/nowhere/secret"}}`:                                        "tls.ca_file",
		`{` + ok + `,"tls":{"ca_file":"` + junk + `"}}`:                                           "tls.ca_file",
		`{` + ok + `,"tls":{"cert_file":"` + junk + `"}}`:                                         "tls.key_file",
		`{` + ok + `,"tls":{"min_version":"1.1"}}`:                                                "tls.min_version",
		`{` + ok + `,"deny_addresses":["10.0.0.0/33"]}`:                                           "deny_addresses[0]",
		`{` + ok + `,"dial_timeout":"0s"}`:                                                        "dial_timeout",
		`{"address":"","username":"u","password":"secret","channels":-1,"dial_timeout":"secret"}`: "address routing_key channels dial_timeout",
	} {
		err := amqp.New().Configure(t.Context(), []byte(in))
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
	settings := raw(obj{"address": "127.0.0.1", "username": "u", "password": "p", "routing_key": "q"})
	tr := amqp.New()
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
	d := amqp.New(amqp.WithVersion("9")).Describe()
	if d.Name != "amqp" || d.Version != "9" || d.Idempotent || d.Exclusive {
		t.Errorf("%+v", d)
	}
	const need = `"address":"x","username":"u","password":"p"`
	targettest.Schema{
		About: d,
		Takes: map[string]bool{
			`{` + need + `}`: true,
			`{` + need + `,"vhost":"v","exchange":"e","routing_key":"r","channels":2047,"tls":{},"deny_addresses":["10.0.0.0/8"],"allow_link_local":true,"dial_timeout":"1m30s"}`: true,
			`{}`:                                  false,
			`{` + need + `,"other":1}`:            false,
			`{` + need + `,"channels":0}`:         false,
			`{` + need + `,"channels":1.5}`:       false,
			`{` + need + `,"dial_timeout":"5"}`:   false,
			`{` + need + `,"tls":{"insecure":1}}`: false,
		},
		Defaults: amqp.Defaults(),
		Secret:   []string{"password"},
		Told:     targettest.Told(transport.RedirectRefused, transport.BadResponse),
	}.Check(t)
}
