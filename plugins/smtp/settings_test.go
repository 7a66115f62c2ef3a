package smtp_test

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/santhosh-tekuri/jsonschema/v6"

	"github.com/hookline/hookline/plugins/smtp"
	"github.com/hookline/hookline/plugins/target/targettest"
	"github.com/hookline/hookline/plugins/transport"
)

func TestBadSettings(t *testing.T) {
	const ok = `"address":"mx","from":"a@x.org","to":["b@x.org"]`
	for in, want := range map[string]string{
		``:                               "address from to",
		`null`:                           "address from to",
		`[1]`:                            "",
		`{` + ok + `} {}`:                "",
		`{` + ok + `,"sevurity":"tls"}`:  "sevurity",
		`{` + ok + `,"security":"ssl"}`:  "security",
		`{` + ok + `,"security":"none"}`: "security",
		`{"address":"secret host","from":"a@x.org","to":["b@x.org"]}`:                          "address",
		`{"address":"mx:secret","from":"a@x.org","to":["b@x.org"]}`:                            "address",
		`{"address":"mx","from":"secret","to":["b@x.org"]}`:                                    "from",
		`{"address":"mx","from":"a@secret\u00e9.org","to":["b@x.org"]}`:                        "from",
		`{"address":"mx","from":"a@x.org","to":["b@x.org","secret"]}`:                          "to[1]",
		`{"address":"mx","from":"a@x.org","cc":["secret@x.org, c@y.z"]}`:                       "cc[0]",
		`{"address":"mx","from":"a@x.org","bcc":["secret@x.org\r\nX: y"]}`:                     "bcc[0]",
		`{` + ok + `,"envelope_from":"secret"}`:                                                "envelope_from",
		`{` + ok + `,"reply_to":["secret"]}`:                                                   "reply_to[0]",
		`{` + ok + `,"allow_recipients":["@"]}`:                                                "allow_recipients[0]",
		`{` + ok + `,"allow_recipients":["secret"]}`:                                           "allow_recipients[0]",
		`{` + ok + `,"username":"u"}`:                                                          "password",
		`{` + ok + `,"password":"secret"}`:                                                     "username",
		`{` + ok + `,"username":"u","password":"secret\n"}`:                                    "password",
		`{` + ok + `,"username":"u","password":""}`:                                            "password",
		`{` + ok + `,"username":"","password":"secret"}`:                                       "username",
		`{` + ok + `,"auth":"cram-md5"}`:                                                       "auth username",
		`{` + ok + `,"auth":"plain"}`:                                                          "username",
		`{` + ok + `,"subject":":secret"}`:                                                     "subject",
		`{` + ok + `,"subject":"a\r\nBcc:: secret@x.org"}`:                                     "subject",
		`{` + ok + `,"text":"a :payload"}`:                                                     "text",
		`{` + ok + `,"json":"body"}`:                                                           "json",
		`{` + ok + `,"helo":"secret host"}`:                                                    "helo",
		`{` + ok + `,"tls":{"insecure":true}}`:                                                 "insecure",
		`{` + ok + `,"tls":{"ca_file":"/nowhere/secret"}}`:                                     "tls.ca_file",
		`{` + ok + `,"tls":{"key_file":"c"}}`:                                                  "tls.cert_file",
		`{"address":"127.0.0.1","security":"none","tls":{},"from":"a@x.org","to":["b@x.org"]}`: "tls",
		`{` + ok + `,"deny_addresses":["secret"]}`:                                             "deny_addresses[0]",
		`{` + ok + `,"dial_timeout":"5"}`:                                                      "dial_timeout",
		`{` + ok + `,"idle_timeout":"0s"}`:                                                     "idle_timeout",
		`{` + ok + `,"max_connections":0}`:                                                     "max_connections",
		`{"address":5}`:                                                                        "address",
		`{"security":"x","json":"y","max_connections":0}`:                                      "security address from to json max_connections",
	} {
		err := smtp.New().Configure(t.Context(), []byte(in))
		if err == nil {
			t.Errorf("%s: accepted", in)
			continue
		}
		if got := strings.Join(targettest.Fields(t, err), " "); got != want {
			t.Errorf("%s: %q (%v), want %q", in, got, err, want)
		}
		if strings.Contains(err.Error(), "secret") {
			t.Errorf("%s: the error shows a value: %v", in, err)
		}
	}
}

func TestGoodSettings(t *testing.T) {
	for _, in := range []string{
		`{"address":"mx","from":"a@x.org","to":["b@x.org"]}`,
		`{"address":"[::1]:25","security":"none","from":"A <a@x.org>","allow_recipients":["@x.org"]}`,
		`{"address":"LOCALHOST","security":"none","from":"a@x.org","bcc":["b@x.org"]}`,
		`{"address":"192.0.2.1","security":"none","allow_plaintext":true,"from":"a@x.org","to":["b@x.org"]}`,
		`{"address":"mx","from":"a@x.org","to":["b@x.org"],"subject":":: 12:30 :study:kind a:","helo":"[192.0.2.1]"}`,
	} {
		if err := smtp.New().Configure(t.Context(), []byte(in)); err != nil {
			t.Errorf("%s: %v", in, err)
		}
	}
	tr := configured(t, obj{"address": "mx", "from": "a@x.org", "to": []string{"b@x.org"}})
	if err := tr.Configure(t.Context(), nil); err == nil {
		t.Error("configured twice")
	}
}

func TestSchema(t *testing.T) {
	d := smtp.New(smtp.WithVersion("9")).Describe()
	if d.Name != "smtp" || d.Version != "9" || d.Idempotent || d.Exclusive {
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
	const ok = `"address":"mx","from":"a@x.org"`
	for s, want := range map[string]bool{
		`{` + ok + `}`: true,
		`{` + ok + `,"security":"tls","auth":"login","username":"u","password":"p","to":["b@x.org"],"tls":{"ca_file":"c"},"max_connections":1}`: true,
		`{"from":"a@x.org"}`:                  false,
		`{"address":"mx"}`:                    false,
		`{` + ok + `,"other":1}`:              false,
		`{` + ok + `,"security":"ssl"}`:       false,
		`{` + ok + `,"to":"b@x.org"}`:         false,
		`{` + ok + `,"tls":{"insecure":1}}`:   false,
		`{` + ok + `,"max_connections":1000}`: false,
		`{` + ok + `,"idle_timeout":"5"}`:     false,
	} {
		v, err := jsonschema.UnmarshalJSON(strings.NewReader(s))
		if err != nil {
			t.Fatal(err)
		}
		if valid := sch.Validate(v) == nil; valid != want {
			t.Errorf("%s: valid is %v", s, valid)
		}
	}

	type prop struct {
		Title, Description string
		Default            any
		WriteOnly          bool
		Properties         map[string]prop
	}
	var top prop
	if err := json.Unmarshal(d.Settings, &top); err != nil {
		t.Fatal(err)
	}
	written := smtp.Defaults()
	page, err := os.ReadFile(filepath.Join("..", "..", "docs", "transport-smtp.md"))
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
			t.Errorf("docs/transport-smtp.md does not name %s", path)
		}
		if list, isList := p.Default.([]any); p.Default != nil && path != "tls.min_version" && p.Default != written[path] && (!isList || len(list) > 0) {
			t.Errorf("%s: the schema says %v, the code %v", path, p.Default, written[path])
		}
		if p.WriteOnly {
			secret = append(secret, path)
		}
		for name, sub := range p.Properties {
			check(strings.TrimPrefix(path+"."+name, "."), sub)
		}
	}
	for name, p := range top.Properties {
		check(name, p)
	}
	for name := range written {
		if top.Properties[name].Default == nil {
			t.Errorf("%s: the schema tells no default", name)
		}
	}
	if !slices.Equal(secret, []string{"password"}) {
		t.Errorf("secret: %v", secret)
	}
	for _, code := range transport.Codes {
		if code != transport.RedirectRefused && !strings.Contains(string(page), "`"+string(code)+"`") {
			t.Errorf("docs/transport-smtp.md does not name %s", code)
		}
	}
}
