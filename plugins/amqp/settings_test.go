//go:build unix

package amqp_test

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/santhosh-tekuri/jsonschema/v6"

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

// prop is a property of the schema.
type prop struct {
	Title, Description string
	Default            any
	WriteOnly          bool
	Properties         map[string]prop
}

func TestSchema(t *testing.T) {
	d := amqp.New(amqp.WithVersion("9")).Describe()
	if d.Name != "amqp" || d.Version != "9" || d.Idempotent || d.Exclusive {
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
	const need = `"address":"x","username":"u","password":"p"`
	for s, want := range map[string]bool{
		`{` + need + `}`: true,
		`{` + need + `,"vhost":"v","exchange":"e","routing_key":"r","channels":2047,"tls":{},"deny_addresses":["10.0.0.0/8"],"allow_link_local":true,"dial_timeout":"1m30s"}`: true,
		`{}`:                                  false,
		`{` + need + `,"other":1}`:            false,
		`{` + need + `,"channels":0}`:         false,
		`{` + need + `,"channels":1.5}`:       false,
		`{` + need + `,"dial_timeout":"5"}`:   false,
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
	in := amqp.Defaults()
	for name, v := range map[string]any{
		"vhost": in.VHost, "exchange": in.Exchange, "routing_key": in.RoutingKey, "channels": float64(in.Channels),
		"allow_link_local": in.AllowLinkLocal, "dial_timeout": in.DialTimeout,
	} {
		if top.Properties[name].Default != v {
			t.Errorf("%s: the schema says %v, the code %v", name, top.Properties[name].Default, v)
		}
	}
	page, err := os.ReadFile("../../docs/transport-amqp.md")
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
			t.Errorf("docs/transport-amqp.md does not name %s", path)
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
		if code != transport.RedirectRefused && code != transport.BadResponse && !strings.Contains(string(page), "`"+string(code)+"`") {
			t.Errorf("docs/transport-amqp.md does not name %s", code)
		}
	}
}
