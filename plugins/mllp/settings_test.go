package mllp_test

import (
	"strings"
	"testing"

	"github.com/hookline/hookline/plugins/mllp"
	"github.com/hookline/hookline/plugins/target/targettest"
	"github.com/hookline/hookline/plugins/transport"
)

func TestBadSettings(t *testing.T) {
	const ok = `"address":"ehr"`
	for in, want := range map[string]string{
		``:                                     "address",
		`{}`:                                   "address",
		`[1]`:                                  "",
		`{"address":5}`:                        "address",
		`{"address":"tcp://secret"}`:           "address",
		`{"address":"ehr:secret"}`:             "address",
		`{` + ok + `,"addr":"secret"}`:         "addr",
		`{` + ok + `,"tls":true}`:              "tls",
		`{` + ok + `,"tls":{"x":1}}`:           "x",
		`{` + ok + `,"tls":{"cert_file":"x"}}`: "tls.key_file",
		`{` + ok + `,"tls":{"ca_file":"/secret"}}`:      "tls.ca_file",
		`{` + ok + `,"wait_for":"secret"}`:              "wait_for",
		`{` + ok + `,"retry_on":["AE","secret"]}`:       "retry_on[1]",
		`{` + ok + `,"retry_on":"AE"}`:                  "retry_on",
		`{` + ok + `,"charset":"secret"}`:               "charset",
		`{` + ok + `,"convert_line_ends":1}`:            "convert_line_ends",
		`{` + ok + `,"connections":0}`:                  "connections",
		`{` + ok + `,"connections":257}`:                "connections",
		`{` + ok + `,"idle_timeout":"5"}`:               "idle_timeout",
		`{` + ok + `,"max_reply":1}`:                    "max_reply",
		`{` + ok + `,"deny_addresses":["secret"]}`:      "deny_addresses[0]",
		`{` + ok + `,"dial_timeout":"-1s"}`:             "dial_timeout",
		`{"address":"","charset":"x","connections":-1}`: "address charset connections",
	} {
		err := mllp.New().Configure(t.Context(), []byte(in))
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
	tr := configured(t, obj{"address": "ehr"})
	if err := tr.Configure(t.Context(), []byte(`{"address":"ehr"}`)); err == nil {
		t.Error("configured twice")
	}
}

func TestSchema(t *testing.T) {
	d := mllp.New(mllp.WithVersion("9")).Describe()
	if d.Name != "mllp" || d.Version != "9" || d.Idempotent || d.Exclusive {
		t.Errorf("%+v", d)
	}
	targettest.Schema{
		About: d,
		Takes: map[string]bool{
			`{"address":"ehr"}`: true,
			`{"address":"ehr:2575","tls":{},"wait_for":"application","retry_on":[],"charset":"iso-8859-1","convert_line_ends":false,"connections":4,"idle_timeout":"1m","max_reply":1024,"dial_timeout":"1s","deny_addresses":["10.0.0.0/8"],"allow_link_local":true}`: true,
			`{}`:                                   false,
			`{"address":"ehr","tls":{"x":1}}`:      false,
			`{"address":"ehr","retry_on":["AA"]}`:  false,
			`{"address":"ehr","charset":"utf-16"}`: false,
			`{"address":"ehr","connections":0}`:    false,
			`{"address":"ehr","other":1}`:          false,
		},
		Defaults: mllp.Defaults(),
		// Nothing of MLLP is what is left out.
		Told: targettest.Told(transport.RedirectRefused, transport.ThrottledByTarget, transport.UnauthorizedByTarget, transport.NotFoundAtTarget),
	}.Check(t)
}
