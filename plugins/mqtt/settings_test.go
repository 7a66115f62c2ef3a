//go:build unix

package mqtt_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/hookline/hookline/plugins/mqtt"
	"github.com/hookline/hookline/plugins/target/targettest"
	"github.com/hookline/hookline/plugins/transport"
)

func TestBadSettings(t *testing.T) {
	junk := filepath.Join(t.TempDir(), "junk.pem")
	if err := os.WriteFile(junk, []byte("secret"), 0o600); err != nil {
		t.Fatal(err)
	}
	const ok = `"address":"x","topic":"t"`
	for in, want := range map[string]string{
		``:                               "address topic",
		`{}`:                             "address topic",
		`[]`:                             "",
		`{"a":`:                          "",
		`{` + ok + `,"adress":"secret"}`: "adress",
		`{"address":"mqtt://u:secret@x","topic":"t"}`:                                          "address",
		`{"address":"x:0","topic":"t"}`:                                                        "address",
		`{"address":5,"topic":"t"}`:                                                            "address",
		`{"address":"x","topic":"secret/+/a"}`:                                                 "topic",
		`{"address":"x","topic":"secret#"}`:                                                    "topic",
		`{"address":"x","topic":"secret\u0000"}`:                                               "topic",
		`{"address":"x","topic":"` + strings.Repeat("x", 1<<16) + `"}`:                         "topic",
		`{` + ok + `,"version":"4"}`:                                                           "version",
		`{` + ok + `,"version":5}`:                                                             "version",
		`{` + ok + `,"client_id":"secret\n"}`:                                                  "client_id",
		`{` + ok + `,"password":"secret"}`:                                                     "username",
		`{` + ok + `,"username":"","password":"secret"}`:                                       "username",
		`{` + ok + `,"username":"u","password":"secret\n"}`:                                    "password",
		`{` + ok + `,"qos":0}`:                                                                 "qos",
		`{` + ok + `,"qos":3}`:                                                                 "qos",
		`{` + ok + `,"require_subscriber":true,"version":"3.1.1"}`:                             "require_subscriber",
		`{` + ok + `,"require_subscriber":true,"qos":2}`:                                       "require_subscriber",
		`{` + ok + `,"require_subscriber":true,"retain":true}`:                                 "require_subscriber",
		`{` + ok + `,"max_payload":0}`:                                                         "max_payload",
		`{` + ok + `,"max_payload":268435456}`:                                                 "max_payload",
		`{` + ok + `,"in_flight":0}`:                                                           "in_flight",
		`{` + ok + `,"in_flight":65536}`:                                                       "in_flight",
		`{` + ok + `,"keepalive":"0s"}`:                                                        "keepalive",
		`{` + ok + `,"keepalive":"500ms"}`:                                                     "keepalive",
		`{` + ok + `,"keepalive":"1500ms"}`:                                                    "keepalive",
		`{` + ok + `,"keepalive":"20h"}`:                                                       "keepalive",
		`{` + ok + `,"tls":true}`:                                                              "tls",
		`{` + ok + `,"tls":{"insecure":true}}`:                                                 "insecure",
		`{` + ok + `,"tls":{"ca_file":"/nowhere/secret"}}`:                                     "tls.ca_file",
		`{` + ok + `,"tls":{"ca_file":"` + junk + `"}}`:                                        "tls.ca_file",
		`{` + ok + `,"tls":{"cert_file":"` + junk + `"}}`:                                      "tls.key_file",
		`{` + ok + `,"tls":{"min_version":"1.1"}}`:                                             "tls.min_version",
		`{` + ok + `,"deny_addresses":["10.0.0.0/33"]}`:                                        "deny_addresses[0]",
		`{` + ok + `,"dial_timeout":"0s"}`:                                                     "dial_timeout",
		`{"address":"","topic":"","version":"secret","qos":9,"in_flight":-1,"keepalive":"ab"}`: "address version topic qos in_flight keepalive",
	} {
		err := mqtt.New().Configure(t.Context(), []byte(in))
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
	tr := mqtt.New()
	if r := tr.Deliver(t.Context(), message()); r.Effect != transport.None || r.Code == transport.Delivered {
		t.Errorf("not configured: %+v", r)
	}
	if r := tr.Check(t.Context()); r.Effect != transport.None {
		t.Errorf("not configured: %+v", r)
	}
	// An empty password is one, and a user needs none.
	for _, login := range []obj{{}, {"username": "u"}, {"username": "u", "password": ""}} {
		login["address"], login["topic"] = "127.0.0.1", "t"
		if err := mqtt.New().Configure(t.Context(), raw(login)); err != nil {
			t.Error(err)
		}
	}
	if err := tr.Configure(t.Context(), raw(settings("127.0.0.1", nil))); err != nil {
		t.Fatal(err)
	}
	if err := tr.Configure(t.Context(), raw(settings("127.0.0.1", nil))); err == nil {
		t.Error("configured twice")
	}
	if err := tr.Close(); err != nil {
		t.Error(err)
	}
}

func TestSchema(t *testing.T) {
	d := mqtt.New(mqtt.WithVersion("9")).Describe()
	if d.Name != "mqtt" || d.Version != "9" || d.Idempotent || d.Exclusive {
		t.Errorf("%+v", d)
	}
	const need = `"address":"x","topic":"t"`
	targettest.Schema{
		About: d,
		Takes: map[string]bool{
			`{` + need + `}`: true,
			`{` + need + `,"version":"3.1.1","client_id":"c","username":"u","password":"","qos":2,"retain":true,"require_subscriber":false,
			"max_payload":1,"in_flight":65535,"keepalive":"1m","tls":{},"deny_addresses":["10.0.0.0/8"],"allow_link_local":true,"dial_timeout":"1m30s"}`: true,
			`{}`:                                  false,
			`{` + need + `,"other":1}`:            false,
			`{` + need + `,"qos":0}`:              false,
			`{` + need + `,"version":"4"}`:        false,
			`{` + need + `,"in_flight":1.5}`:      false,
			`{` + need + `,"keepalive":"5"}`:      false,
			`{` + need + `,"tls":{"insecure":1}}`: false,
		},
		Defaults: mqtt.Defaults(),
		Optional: []string{"username"},
		Secret:   []string{"password"},
		Told:     targettest.Told(),
	}.Check(t)
}
