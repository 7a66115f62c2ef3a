package http_test

import (
	"fmt"
	"path/filepath"
	"strings"
	"testing"

	"github.com/hookline/hookline/plugins/http"
	"github.com/hookline/hookline/plugins/target/targettest"
)

func TestBadSettings(t *testing.T) {
	dir := t.TempDir()
	junk := write(t, filepath.Join(dir, "junk.pem"), []byte("secret"))
	const ok = `"url":"http://x"`
	for in, want := range map[string]string{
		``:                                 "url",
		`{}`:                               "url",
		`null`:                             "url",
		`[1]`:                              "",
		`{"url":`:                          "",
		`{` + ok + `} {}`:                  "",
		`{"url":5}`:                        "url",
		`{"url":"ftp://x"}`:                "url",
		`{"url":"x/secret"}`:               "url",
		`{"url":"http:x"}`:                 "url",
		`{"url":"http://"}`:                "url",
		`{"url":"http://:80"}`:             "url",
		`{"url":"http://u:secret@x"}`:      "url",
		`{"url":"http://x/#secret"}`:       "url",
		`{"url":"http://x/#"}`:             "url",
		`{"url":"http://x/?a b=secret"}`:   "url",
		`{"url":"http://x/a\nb"}`:          "url",
		`{"url":"http://x:0"}`:             "url",
		`{"url":"http://x:99999"}`:         "url",
		`{"url":"http://bücher.example"}`:  "url",
		`{"url":"http://x%20y"}`:           "url",
		`{"url":"http://[::zz]"}`:          "url",
		`{` + ok + `,"methd":"POST"}`:      "methd",
		`{` + ok + `,"method":"GET"}`:      "method",
		`{` + ok + `,"username":"u"}`:      "password",
		`{` + ok + `,"password":"secret"}`: "username",
		`{` + ok + `,"username":"","password":"secret"}`:                                            "username",
		`{` + ok + `,"username":"a:b","password":"secret"}`:                                         "username",
		`{` + ok + `,"username":"a","password":"secret\n"}`:                                         "password",
		`{` + ok + `,"bearer_token":"secret","username":"u","password":"secret"}`:                   "bearer_token",
		`{` + ok + `,"bearer_token":"secret\n"}`:                                                    "bearer_token",
		`{` + ok + `,"bearer_token":""}`:                                                            "bearer_token",
		`{` + ok + `,"headers":{"Host":"secret"}}`:                                                  "headers.Host",
		`{` + ok + `,"headers":{"webhook-id":"secret"}}`:                                            "headers.webhook-id",
		`{` + ok + `,"headers":{"a b":"secret"}}`:                                                   "headers",
		`{` + ok + `,"headers":{"X-A":"secret\r\nX: y"}}`:                                           "headers.X-A",
		`{` + ok + `,"headers":{"X-A":"1","x-a":"2"}}`:                                              "headers.x-a",
		`{` + ok + `,"headers":{"Authorization":"secret"},"bearer_token":"x"}`:                      "headers.Authorization",
		`{` + ok + `,"headers":{"X-A":1}}`:                                                          "headers",
		`{` + ok + `,"headers":[]}`:                                                                 "headers",
		`{` + ok + `,"signing_secrets":"secret"}`:                                                   "signing_secrets[0]",
		`{` + ok + `,"signing_secrets":["whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw","whsec_secret!"]}`: "signing_secrets[1]",
		`{` + ok + `,"signing_secrets":"whsec_c2hvcnQ="}`:                                           "signing_secrets[0]",
		`{` + ok + `,"signing_secrets":7}`:                                                          "signing_secrets",
		`{` + ok + `,"tls":{}}`:                                                                     "tls",
		`{` + ok + `,"tls":"secret"}`:                                                               "tls",
		`{"url":"https://x","tls":{"insecure":true}}`:                                               "insecure",
		`{"url":"https://x","tls":{"min_version":"1.1"}}`:                                           "tls.min_version",
		`{"url":"https://x","tls":{"server_name":"a b"}}`:                                           "tls.server_name",
		`{"url":"https://x","tls":{"cert_file":"c"}}`:                                               "tls.key_file",
		`{"url":"https://x","tls":{"key_file":"c"}}`:                                                "tls.cert_file",
		`{"url":"https://x","tls":{"ca_file":"/nowhere/secret"}}`:                                   "tls.ca_file",
		`{"url":"https://x","tls":{"ca_file":"` + junk + `"}}`:                                      "tls.ca_file",
		`{"url":"https://x","tls":{"cert_file":"` + junk + `","key_file":"` + junk + `"}}`:          "tls.key_file",
		`{` + ok + `,"deny_addresses":["10.0.0.0/33"]}`:                                             "deny_addresses[0]",
		`{` + ok + `,"deny_addresses":["10.0.0.1","secret.example"]}`:                               "deny_addresses[1]",
		`{` + ok + `,"allow_link_local":"yes"}`:                                                     "allow_link_local",
		`{` + ok + `,"dial_timeout":"5"}`:                                                           "dial_timeout",
		`{` + ok + `,"dial_timeout":"0s"}`:                                                          "dial_timeout",
		`{` + ok + `,"idle_timeout":"-5s"}`:                                                         "idle_timeout",
		`{` + ok + `,"max_idle":-1}`:                                                                "max_idle",
		`{` + ok + `,"max_reply":1}`:                                                                "max_reply",
		`{` + ok + `,"max_reply":1.5}`:                                                              "max_reply",
		`{"url":"ftp://x","method":"GET","max_reply":0}`:                                            "url method max_reply",
	} {
		err := http.New().Configure(t.Context(), []byte(in))
		if err == nil {
			t.Errorf("%s: accepted", in)
			continue
		}
		if got := strings.Join(targettest.Fields(t, err), " "); got != want {
			t.Errorf("%s: %q (%v), want %q", in, got, err, want)
		}
		if shown := strings.ReplaceAll(fmt.Sprintf("%v %+v", err, err), "signing_secrets", ""); strings.Contains(shown, "secret") {
			t.Errorf("%s: the error shows a secret: %v", in, err)
		}
	}
}

func TestConfigureTwice(t *testing.T) {
	tr := configured(t, obj{"url": "http://x"})
	if err := tr.Configure(t.Context(), []byte(`{"url":"http://y"}`)); err == nil {
		t.Error("configured twice")
	}
}

func TestSchema(t *testing.T) {
	d := http.New(http.WithVersion("9")).Describe()
	if d.Name != "http" || d.Version != "9" || d.Idempotent || d.Exclusive {
		t.Errorf("%+v", d)
	}
	targettest.Schema{
		About: d,
		Takes: map[string]bool{
			`{"url":"http://x"}`: true,
			`{"url":"https://x","method":"PUT","username":"u","password":"","headers":{"a":"b"},"signing_secrets":["a","b"],"tls":{"ca_file":"c","min_version":"1.3"},"deny_addresses":["10.0.0.0/8"],"allow_link_local":true,"dial_timeout":"1m30s","idle_timeout":"500ms","max_idle":0,"max_reply":1024}`: true,
			`{"url":"http://x","signing_secrets":"one"}`: true,
			`{}`:                                false,
			`{"url":"x"}`:                       false,
			`{"url":"http://x","other":1}`:      false,
			`{"url":"http://x","method":"GET"}`: false,
			`{"url":"http://x","tls":{"insecure":true}}`: false,
			`{"url":"http://x","headers":{"a":1}}`:       false,
			`{"url":"http://x","signing_secrets":[1]}`:   false,
			`{"url":"http://x","dial_timeout":"5"}`:      false,
			`{"url":"http://x","max_reply":10}`:          false,
			`{"url":"http://x","max_idle":1.5}`:          false,
		},
		Defaults: http.Defaults(),
		Optional: []string{"username"},
		Secret:   []string{"bearer_token", "headers.*", "password", "signing_secrets"},
		Told:     targettest.Told(),
	}.Check(t)
}
