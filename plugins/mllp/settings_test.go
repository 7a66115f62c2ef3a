package mllp_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/santhosh-tekuri/jsonschema/v6"

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
	for s, want := range map[string]bool{
		`{"address":"ehr"}`: true,
		`{"address":"ehr:2575","tls":{},"wait_for":"application","retry_on":[],"charset":"iso-8859-1","convert_line_ends":false,"connections":4,"idle_timeout":"1m","max_reply":1024,"dial_timeout":"1s","deny_addresses":["10.0.0.0/8"],"allow_link_local":true}`: true,
		`{}`:                                   false,
		`{"address":"ehr","tls":{"x":1}}`:      false,
		`{"address":"ehr","retry_on":["AA"]}`:  false,
		`{"address":"ehr","charset":"utf-16"}`: false,
		`{"address":"ehr","connections":0}`:    false,
		`{"address":"ehr","other":1}`:          false,
	} {
		v, err := jsonschema.UnmarshalJSON(strings.NewReader(s))
		if err != nil || (sch.Validate(v) == nil) != want {
			t.Errorf("%s: valid is %v", s, !want)
		}
	}
	var top struct {
		Properties map[string]struct {
			Title, Description string
			Default            any
		}
	}
	if err := json.Unmarshal(d.Settings, &top); err != nil {
		t.Fatal(err)
	}
	var inUse map[string]any
	text, _ := json.Marshal(mllp.Defaults())
	_ = json.Unmarshal(text, &inUse)
	page, err := os.ReadFile("../../docs/transport-mllp.md")
	if err != nil {
		t.Fatal(err)
	}
	for name, p := range top.Properties {
		if p.Title == "" || p.Description == "" {
			t.Errorf("%s has no title or description", name)
		}
		if p.Default != nil && fmt.Sprint(p.Default) != strings.ReplaceAll(fmt.Sprint(inUse[name]), "<nil>", "[]") {
			t.Errorf("%s: the schema says %v, the code %v", name, p.Default, inUse[name])
		}
		if !strings.Contains(string(page), "`"+name+"`") {
			t.Errorf("docs/transport-mllp.md does not name %s", name)
		}
		delete(inUse, name)
	}
	if len(inUse) > 0 {
		t.Errorf("the schema does not have %v", inUse)
	}
	for _, code := range transport.Codes {
		if slices.Contains([]transport.Code{transport.RedirectRefused, transport.ThrottledByTarget, transport.UnauthorizedByTarget, transport.NotFoundAtTarget}, code) {
			continue // nothing of MLLP is that
		}
		if !strings.Contains(string(page), "`"+string(code)+"`") {
			t.Errorf("docs/transport-mllp.md does not name %s", code)
		}
	}
}
