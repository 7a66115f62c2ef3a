package file_test

import (
	"bytes"
	"encoding/json"
	"os"
	"strings"
	"testing"

	"github.com/santhosh-tekuri/jsonschema/v6"

	"github.com/hookline/hookline/plugins/file"
	"github.com/hookline/hookline/plugins/target/targettest"
	"github.com/hookline/hookline/plugins/transport"
)

func TestBadSettings(t *testing.T) {
	const ok = `"path":"/var/x"`
	for in, want := range map[string]string{
		``:                                   "path",
		`{}`:                                 "path",
		`null`:                               "path",
		`[1]`:                                "",
		`{` + ok + `} {}`:                    "",
		`{"path":5}`:                         "path",
		`{"path":"x/secret"}`:                "path",
		`{"path":"/x/secret/"}`:              "path",
		`{"path":"/x/{secret}"}`:             "path",
		`{"path":"/x/{date"}`:                "path",
		`{"path":"/x/{date}}"}`:              "path",
		`{"path":"/x\u0000secret"}`:          "path",
		`{` + ok + `,"pth":"secret"}`:        "pth",
		`{` + ok + `,"line":"secret"}`:       "line",
		`{` + ok + `,"mode":"secret"}`:       "mode",
		`{` + ok + `,"mode":"0444"}`:         "mode",
		`{` + ok + `,"mode":"4755"}`:         "mode",
		`{` + ok + `,"mode":384}`:            "mode",
		`{` + ok + `,"rotate_size":5}`:       "rotate_size",
		`{` + ok + `,"rotate_size":-65536}`:  "rotate_size",
		`{` + ok + `,"rotate_size":"1MiB"}`:  "rotate_size",
		`{` + ok + `,"max_line":-1}`:         "max_line",
		`{"path":"x","line":"","mode":"rw"}`: "path line mode",
	} {
		err := file.New().Configure(t.Context(), []byte(in))
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
	tr := configured(t, obj{"path": "/x"})
	if err := tr.Configure(t.Context(), []byte(`{"path":"/y"}`)); err == nil {
		t.Error("configured twice")
	}
}

func TestSchema(t *testing.T) {
	d := file.New(file.WithVersion("9")).Describe()
	if d.Name != "file" || d.Version != "9" || d.Idempotent {
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
		`{"path":"/x"}`: true,
		`{"path":"/x/{date}","line":"payload","mode":"640","rotate_size":65536,"max_line":10}`: true,
		`{}`:                              false,
		`{"path":""}`:                     false,
		`{"path":"/x","line":"csv"}`:      false,
		`{"path":"/x","mode":"rw"}`:       false,
		`{"path":"/x","rotate_size":1.5}`: false,
		`{"path":"/x","max_line":-1}`:     false,
		`{"path":"/x","other":1}`:         false,
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
	text, _ := json.Marshal(file.Defaults())
	_ = json.Unmarshal(text, &inUse)
	page, err := os.ReadFile("../../docs/transport-file.md")
	if err != nil {
		t.Fatal(err)
	}
	for name, p := range top.Properties {
		if p.Title == "" || p.Description == "" {
			t.Errorf("%s has no title or description", name)
		}
		if p.Default != nil && p.Default != inUse[name] {
			t.Errorf("%s: the schema says %v, the code %v", name, p.Default, inUse[name])
		}
		if !strings.Contains(string(page), "`"+name+"`") {
			t.Errorf("docs/transport-file.md does not name %s", name)
		}
		delete(inUse, name)
	}
	if len(inUse) > 0 {
		t.Errorf("the schema does not have %v", inUse)
	}
	for _, code := range []transport.Code{
		transport.Delivered, transport.NotFoundAtTarget, transport.UnauthorizedByTarget, transport.RejectedByTarget, transport.TargetError, transport.Timeout,
	} {
		if !strings.Contains(string(page), "`"+string(code)+"`") {
			t.Errorf("docs/transport-file.md does not name %s", code)
		}
	}
}
