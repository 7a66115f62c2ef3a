package file_test

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/hookline/hookline/plugins/file"
	"github.com/hookline/hookline/plugins/transport"
)

// The clock of what is compared as a whole.
var written = time.Date(2026, 1, 2, 23, 30, 0, 0, time.FixedZone("west", -3600)) // 00:30 of the 3rd in UTC

func fixedClock() file.Option { return file.WithNow(func() time.Time { return written }) }

func TestEnvelope(t *testing.T) {
	for name, c := range map[string]struct {
		form, payload string
		want          obj // what is special of it
	}{
		"text":                {"envelope", "{\"a\" : 1}\r\n<&>\u2028", obj{"payload": "{\"a\" : 1}\r\n<&>\u2028"}},
		"empty":               {"envelope", "", obj{"payload": ""}},
		"not UTF-8":           {"envelope", "\xff\xfe", obj{"payload_base64": "//4="}},
		"json":                {"envelope-json", "{\"a\":\n[1.50]}\n", obj{"payload": obj{"a": []any{1.5}}}},
		"json that is a text": {"envelope-json", `"x"`, obj{"payload": "x"}},
	} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "a.jsonl")
			tr := configured(t, obj{"path": path, "line": c.form}, fixedClock())
			m := numbered(c.payload)
			m.Headers, m.Key, m.Path = map[string]string{"x-site": "042"}, "k", "p/q"
			want(t, deliver(t, tr, m), transport.Done, transport.Delivered)
			got := lines(t, path)
			if len(got) != 1 {
				t.Fatalf("%d lines", len(got))
			}
			var line obj
			if err := json.Unmarshal([]byte(got[0]), &line); err != nil {
				t.Fatal(err)
			}
			expected := obj{
				"webhook_id": "msg_1", "hookline_event_id": "0198c0de-0000-7000-8000-000000000001", "hookline_delivery_id": "d1", "hookline_attempt": 1.0,
				"hook": "abc-123", "route": "archive", "study": "ABC/123", "stage": "live", "lane": "abc-123/archive/435", "kind": "update",
				"received_at": "2026-01-02T03:04:05.678Z", "written_at": "2026-01-03T00:30:00Z",
				"traceparent": "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
				"key":         "k", "path": "p/q", "headers": obj{"x-site": "042"}, "content_type": "application/json",
			}
			for k, v := range c.want {
				expected[k] = v
			}
			if !reflect.DeepEqual(line, expected) {
				t.Errorf("got  %v\nwant %v", line, expected)
			}
		})
	}
}

func TestPayloadLine(t *testing.T) {
	for in, line := range map[string]string{
		`{"a": "é <&>"}`:        `{"a": "é <&>"}`,
		"{\"a\":\r\n\"\\n\"}\n": `{"a":  "\n"} `, // the same JSON
		"MSH|^~\\&|x":           "MSH|^~\\&|x",
		"a\rb":                  "a\rb",
		"a\nb":                  "",
		"":                      "",
		" \n":                   "",
	} {
		path := filepath.Join(t.TempDir(), "a")
		tr := configured(t, obj{"path": path, "line": "payload"})
		r := deliver(t, tr, numbered(in))
		if line == "" {
			want(t, r, transport.None, transport.RejectedByTarget)
			if _, err := os.Stat(path); err == nil {
				t.Errorf("%q: a file was made", in)
			}
			continue
		}
		want(t, r, transport.Done, transport.Delivered)
		if got := lines(t, path); len(got) != 1 || got[0] != line {
			t.Errorf("%q: the file has %q, want %q", in, got, line)
		}
	}
	tr := configured(t, obj{"path": filepath.Join(t.TempDir(), "a"), "line": "envelope-json"})
	want(t, deliver(t, tr, numbered("secret")), transport.None, transport.RejectedByTarget)
	want(t, deliver(t, tr, numbered("\"secret\xff\"")), transport.None, transport.RejectedByTarget)
}

func TestPaths(t *testing.T) {
	for in, want := range map[string]string{
		"a.jsonl":                             "a.jsonl",
		"{date}.jsonl":                        "2026-01-03.jsonl",
		"{hook}/{date}/{route}-{kind}-{hour}": "abc-123/2026-01-03/archive-update-00",
		"{study}.{stage}":                     "_._secret_..live",
		"x/../{date}":                         "2026-01-03",
	} {
		dir := t.TempDir()
		tr := configured(t, obj{"path": dir + "/" + in, "mode": "0640"}, fixedClock())
		m := message()
		m.Study = "../secret/."
		if r := deliver(t, tr, m); r.Effect != transport.Done {
			t.Errorf("%s: %v", in, r)
			continue
		}
		path := filepath.Join(dir, want)
		info, err := os.Stat(path)
		if err != nil {
			t.Errorf("%s: %v", in, err)
			continue
		}
		if info.Mode().Perm() != 0o640 {
			t.Errorf("%s: mode %v", in, info.Mode())
		}
		if folder := filepath.Dir(path); folder != dir {
			if info, err := os.Stat(folder); err != nil || info.Mode().Perm() != 0o750 {
				t.Errorf("%s: the folder has %v", in, info.Mode())
			}
		}
	}
}

// The folders before the first placeholder are not made: they may be of a volume
// that is not mounted.
func TestFoldersThatAreNotMade(t *testing.T) {
	dir := t.TempDir()
	write(t, filepath.Join(dir, "file"), "")
	for path, code := range map[string]transport.Code{
		"mnt/a.jsonl": transport.ConnectionRefused, "mnt/{hook}/a.jsonl": transport.ConnectionRefused, "mnt/x-{hook}": transport.ConnectionRefused,
		"file/a": transport.NotFoundAtTarget, "file/{hook}/a": transport.NotFoundAtTarget,
	} {
		tr := configured(t, obj{"path": dir + "/" + path})
		want(t, deliver(t, tr, message()), transport.None, code)
		want(t, tr.Check(t.Context()), transport.None, code)
	}
	if list, _ := os.ReadDir(dir); len(list) != 1 {
		t.Errorf("something was made: %v", list)
	}
	if err := os.Mkdir(filepath.Join(dir, "mnt"), 0o700); err != nil { // it is mounted
		t.Fatal(err)
	}
	tr := configured(t, obj{"path": dir + "/mnt/{hook}/{kind}/a.jsonl"})
	want(t, deliver(t, tr, message()), transport.Done, transport.Delivered)
}

// A folder that is away, as that of a disk that is not mounted, costs nothing but time:
// it is told as what comes back, nothing is made in its place, and the lines go on in the
// files that were there.
func TestFolderComesBack(t *testing.T) {
	for _, name := range []string{"a.jsonl", "{hook}/a.jsonl"} {
		disk := filepath.Join(t.TempDir(), "disk")
		if err := os.Mkdir(disk, 0o700); err != nil {
			t.Fatal(err)
		}
		tr := configured(t, obj{"path": filepath.Join(disk, name), "line": "payload"})
		for n := range 3 {
			want(t, deliver(t, tr, numbered(fmt.Sprint(n))), transport.Done, transport.Delivered)
			if err := os.Rename(disk, disk+".away"); err != nil {
				t.Fatal(err)
			}
			for _, r := range []transport.Receipt{deliver(t, tr, numbered("away")), tr.Check(t.Context())} {
				want(t, r, transport.None, transport.ConnectionRefused)
				if !strings.Contains(r.Detail, disk) || !strings.Contains(r.Detail, "not there") {
					t.Errorf("detail: %s", r.Detail)
				}
			}
			if exists(disk) {
				t.Fatal("a folder was made in the place of the disk")
			}
			if err := os.Rename(disk+".away", disk); err != nil {
				t.Fatal(err)
			}
			want(t, tr.Check(t.Context()), transport.Done, transport.Delivered)
		}
		path := filepath.Join(disk, strings.ReplaceAll(name, "{hook}", message().Hook))
		if got := strings.Join(lines(t, path), " "); got != "0 1 2" {
			t.Errorf("%s: the file has %q", name, got)
		}
	}
}

func TestCheckLeavesNothing(t *testing.T) {
	dir := t.TempDir()
	for _, path := range []string{"a.jsonl", "{hook}/{date}"} {
		tr := configured(t, obj{"path": dir + "/" + path})
		r := tr.Check(t.Context())
		want(t, r, transport.Done, transport.Delivered)
		if !strings.Contains(r.Detail, dir) {
			t.Errorf("detail: %s", r.Detail)
		}
	}
	if list, _ := os.ReadDir(dir); len(list) != 0 {
		t.Errorf("a check left %v", list)
	}
	if err := os.Mkdir(filepath.Join(dir, "a.jsonl"), 0o700); err != nil {
		t.Fatal(err)
	}
	tr := configured(t, obj{"path": dir + "/a.jsonl"})
	want(t, tr.Check(t.Context()), transport.None, transport.NotFoundAtTarget)
	want(t, deliver(t, tr, message()), transport.None, transport.NotFoundAtTarget)
}
