package smtp_test

import (
	"strings"
	"testing"

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
	const ok = `"address":"mx","from":"a@x.org"`
	targettest.Schema{
		About: d,
		Takes: map[string]bool{
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
		},
		Defaults: smtp.Defaults(),
		Optional: []string{"username", "envelope_from", "helo"},
		Secret:   []string{"password"},
		Told:     targettest.Told(transport.RedirectRefused),
	}.Check(t)
}
