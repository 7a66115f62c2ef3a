package file_test

import (
	"strings"
	"testing"

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
	targettest.Schema{
		About: d,
		Takes: map[string]bool{
			`{"path":"/x"}`: true,
			`{"path":"/x/{date}","line":"payload","mode":"640","rotate_size":65536,"max_line":10}`: true,
			`{}`:                              false,
			`{"path":""}`:                     false,
			`{"path":"/x","line":"csv"}`:      false,
			`{"path":"/x","mode":"rw"}`:       false,
			`{"path":"/x","rotate_size":1.5}`: false,
			`{"path":"/x","max_line":-1}`:     false,
			`{"path":"/x","other":1}`:         false,
		},
		Defaults: file.Defaults(),
		Told: []string{
			string(transport.Delivered), string(transport.ConnectionRefused), string(transport.NotFoundAtTarget), string(transport.UnauthorizedByTarget),
			string(transport.RejectedByTarget), string(transport.TargetError), string(transport.Timeout),
		},
	}.Check(t)
}
