//go:build unix

package mqtt_test

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/santhosh-tekuri/jsonschema/v6"

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

// prop is a property of the schema.
type prop struct {
	Title, Description string
	Default            any
	WriteOnly          bool
	Properties         map[string]prop
}

func TestSchema(t *testing.T) {
	d := mqtt.New(mqtt.WithVersion("9")).Describe()
	if d.Name != "mqtt" || d.Version != "9" || d.Idempotent || d.Exclusive {
		t.Errorf("%+v", d)
	}
	doc, err := jsonschema.UnmarshalJSON(bytes.NewReader(d.Settings))
	if err != nil {
		t.Fatal(err)
	}
	c := jsonschema.NewCompiler()
	if err := c.AddResource("settings.json", doc); err != nil {
		t.Fatal(err)
	}
	sch, err := c.Compile("settings.json")
	if err != nil {
		t.Fatal(err)
	}
	const need = `"address":"x","topic":"t"`
	for s, want := range map[string]bool{
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
	} {
		v, err := jsonschema.UnmarshalJSON(strings.NewReader(s))
		if valid := err == nil && sch.Validate(v) == nil; valid != want {
			t.Errorf("%s: valid is %v", s, valid)
		}
	}

	var top prop
	if err := json.Unmarshal(d.Settings, &top); err != nil {
		t.Fatal(err)
	}
	in := mqtt.Defaults()
	for name, v := range map[string]any{
		"version": in.Version, "client_id": in.ClientID, "qos": float64(in.QoS), "retain": in.Retain, "require_subscriber": in.RequireSubscriber,
		"max_payload": float64(in.MaxPayload), "in_flight": float64(in.InFlight), "keepalive": in.Keepalive,
		"allow_link_local": in.AllowLinkLocal, "dial_timeout": in.DialTimeout,
	} {
		if top.Properties[name].Default != v {
			t.Errorf("%s: the schema says %v, the code %v", name, top.Properties[name].Default, v)
		}
	}
	page, err := os.ReadFile("../../docs/transport-mqtt.md")
	if err != nil {
		t.Fatal(err)
	}
	var secret []string
	var check func(path string, p prop)
	check = func(path string, p prop) {
		if p.Title == "" || p.Description == "" {
			t.Errorf("%s has no title or description", path)
		}
		if !strings.Contains(string(page), "`"+path+"`") {
			t.Errorf("docs/transport-mqtt.md does not name %s", path)
		}
		if p.WriteOnly {
			secret = append(secret, path)
		}
		for name, sub := range p.Properties {
			check(path+"."+name, sub)
		}
	}
	for name, p := range top.Properties {
		check(name, p)
	}
	if want := []string{"password"}; !slices.Equal(secret, want) {
		t.Errorf("secret: %v, want %v", secret, want)
	}
	for _, code := range transport.Codes {
		if !strings.Contains(string(page), "`"+string(code)+"`") {
			t.Errorf("docs/transport-mqtt.md does not name %s", code)
		}
	}
}
