package core_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"
	"unicode"

	"github.com/google/uuid"

	"github.com/hookline/hookline/core"
)

func TestParseEventReadsTrialKitsSamples(t *testing.T) {
	for _, tt := range []struct {
		file string
		want core.Event
	}{
		{"insert.json", core.Event{Kind: core.Insert, TransID: "436", FormID: "319", FormName: "Sample Form"}},
		{"update.json", core.Event{Kind: core.Update, TransID: "435", FormID: "319", FormName: "Sample Form"}},
		{"review.json", core.Event{
			Kind: core.Review, TransID: "435", FormID: "319", FormName: "Sample Form",
			Workflow: core.Workflow{ID: "1", Name: "Monitor Review"},
		}},
	} {
		t.Run(tt.file, func(t *testing.T) {
			body, err := os.ReadFile(filepath.Join("..", "examples", "events", tt.file))
			if err != nil {
				t.Fatal(err)
			}
			got, err := core.ParseEvent(body)
			if err != nil {
				t.Fatal(err)
			}
			if !bytes.Equal(got.Body, body) {
				t.Errorf("the body was changed: %q", got.Body)
			}
			if got.Kind != tt.want.Kind || got.TransID != tt.want.TransID || got.FormID != tt.want.FormID ||
				got.FormName != tt.want.FormName || got.Workflow != tt.want.Workflow {
				t.Errorf("got %+v, want %+v", got, tt.want)
			}
		})
	}
}

func TestParseEvent(t *testing.T) {
	const ids = `"trans_id":"435","form_id":"319"`
	for _, tt := range []struct {
		name, body, want string // want is "kind record form workflow", or the error
	}{
		{"flag as text", `{` + ids + `,"OnInsert":"true"}`, `insert 435 319 `},
		{"flag as number", `{` + ids + `,"OnReview":1}`, `review 435 319 `},
		{"other flags false", `{` + ids + `,"OnInsert":false,"OnUpdate":"true","OnReview":null}`, `update 435 319 `},
		{"ids as numbers", `{"trans_id":435,"form_id":-319,"OnUpdate":true}`, `update 435 -319 `},
		{"a number beyond 2^53", `{"trans_id":9007199254740993123,"form_id":1,"OnUpdate":true}`, `update 9007199254740993123 1 `},
		{"BOM", "\xef\xbb\xbf{" + ids + `,"OnUpdate":true}`, `update 435 319 `},
		{"white space around", " \r\n{" + ids + ",\"OnUpdate\":true}\n\t", `update 435 319 `},
		{"unknown keys, even twice", `{` + ids + `,"OnUpdate":true,"x":1,"x":[{}]}`, `update 435 319 `},
		{"a known key inside an unknown one", `{` + ids + `,"OnUpdate":true,"x":{"OnInsert":true}}`, `update 435 319 `},
		{"workflow as text", `{` + ids + `,"OnReview":true,"wf_id":"7","wf_object":{"wf_id":7,"wf_name":"SDV"}}`, `review 435 319 7/SDV`},
		{"workflow id only inside", `{` + ids + `,"OnReview":true,"wf_object":{"wf_id":2}}`, `review 435 319 2/`},
		{"workflow null", `{` + ids + `,"OnReview":true,"wf_object":null}`, `review 435 319 `},
		{"workflow of an update is not ours to judge", `{` + ids + `,"OnUpdate":true,"wf_object":5}`, `update 435 319 `},

		{"empty", ``, `the body is empty; send TrialKit's dictionary as it is`},
		{"not JSON", `trans_id=435`, `the body is not JSON: it goes wrong at byte 3; send TrialKit's dictionary as it is`},
		{"cut short", `{"trans_id":"4`, `the body is not JSON: it ends too early, after 14 bytes; send TrialKit's dictionary as it is`},
		{"two values", `{` + ids + `,"OnUpdate":true}{}`, `the body is not JSON: it goes wrong at byte 51; send TrialKit's dictionary as it is`},
		{"UTF-16", "\xff\xfe{\x00}\x00", `the body is not valid UTF-8; send JSON as UTF-8`},
		{"array", `[]`, `the body must be a JSON object`},
		{"string", `"x"`, `the body must be a JSON object`},
		{"too deep", `{"x":` + strings.Repeat("[", 64) + strings.Repeat("]", 64) + `}`, `the body is nested deeper than 64 levels`},
		{"deep but quoted", `{` + ids + `,"OnUpdate":true,"x":"` + strings.Repeat("[", 99) + `\"["}`, `update 435 319 `},
		{"no flag", `{` + ids + `}`, `OnInsert, OnUpdate, OnReview are missing or false: exactly one of them must be true`},
		{"all false", `{` + ids + `,"OnInsert":0}`, `OnInsert, OnUpdate, OnReview are missing or false: exactly one of them must be true`},
		{"two flags", `{` + ids + `,"OnInsert":true,"OnReview":1}`, `OnReview contradicts OnInsert: exactly one of OnInsert, OnUpdate and OnReview must be true`},
		{"strange flag", `{` + ids + `,"OnInsert":"yes"}`, `OnInsert must be true or false`},
		{"flag twice", `{` + ids + `,"OnInsert":true,"OnInsert":true}`, `OnInsert stands twice; send it once`},
		{"id twice", `{` + ids + `,"trans_id":"436","OnInsert":true}`, `trans_id stands twice; send it once`},
		{"id twice, escaped", `{` + ids + `,"tr\u0061ns_id":"436","OnInsert":true}`, `trans_id stands twice; send it once`},
		{"no record", `{"form_id":"319","OnInsert":true}`, `trans_id is missing`},
		{"record null", `{"trans_id":null,"form_id":"319","OnInsert":true}`, `trans_id is missing`},
		{"record empty", `{"trans_id":" ","form_id":"319","OnInsert":true}`, `trans_id must not be empty`},
		{"record fraction", `{"trans_id":4.5,"form_id":"319","OnInsert":true}`, `trans_id must be a string or a whole number`},
		{"record exponent", `{"trans_id":4e2,"form_id":"319","OnInsert":true}`, `trans_id must be a string or a whole number`},
		{"record object", `{"trans_id":{},"form_id":"319","OnInsert":true}`, `trans_id must be a string or a whole number`},
		{"record with a newline", `{"trans_id":"4\n5","form_id":"319","OnInsert":true}`, `trans_id must not hold control characters`},
		{"record too long", `{"trans_id":"` + strings.Repeat("9", 129) + `","form_id":"319","OnInsert":true}`, `trans_id must be at most 128 bytes long`},
		{"no form", `{"trans_id":"1","OnInsert":true}`, `form_id is missing`},
		{"form name object", `{` + ids + `,"form_name":[],"OnInsert":true}`, `form_name must be a string or a whole number`},
		{"workflow not an object", `{` + ids + `,"OnReview":true,"wf_object":"x"}`, `wf_object must be a JSON object`},
		{"workflow contradicts", `{` + ids + `,"OnReview":true,"wf_id":1,"wf_object":{"wf_id":2}}`, `wf_object.wf_id contradicts wf_id`},
		{"workflow key twice", `{` + ids + `,"OnReview":true,"wf_object":{"wf_name":"a","wf_name":"b"}}`, `wf_object.wf_name stands twice; send it once`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			ev, err := core.ParseEvent([]byte(tt.body))
			var got string
			if err != nil {
				got = err.Error()
				var invalid *core.InvalidEvent
				if !errors.As(err, &invalid) {
					t.Errorf("%T is not an *InvalidEvent", err)
				}
			} else {
				got = strings.Join([]string{string(ev.Kind), ev.TransID, ev.FormID, ""}, " ")
				if ev.Workflow != (core.Workflow{}) {
					got += ev.Workflow.ID + "/" + ev.Workflow.Name
				}
			}
			if got != tt.want {
				t.Errorf("got  %s\nwant %s", got, tt.want)
			}
		})
	}
}

func TestStampGivesReadableIdentity(t *testing.T) {
	seen := map[string]bool{}
	for range 200 {
		ev := &core.Event{}
		ev.Stamp(&core.Hook{Name: "demo"}, time.Date(2026, 1, 2, 3, 4, 5, 0, time.FixedZone("", 3600)))
		if id, err := uuid.Parse(ev.ID); err != nil || id.Version() != 7 {
			t.Fatalf("id %q is not a UUIDv7", ev.ID)
		}
		if !regexp.MustCompile(`^[0-9A-HJKMNP-TV-Z]{8}$`).MatchString(ev.Ref) {
			t.Fatalf("ref %q is not eight letters of Crockford's alphabet", ev.Ref)
		}
		if !regexp.MustCompile(`^00-[0-9a-f]{32}-[0-9a-f]{16}-01$`).MatchString(ev.TraceParent) {
			t.Fatalf("traceparent %q", ev.TraceParent)
		}
		if ev.ReceivedAt.Location() != time.UTC || ev.ReceivedAt.Hour() != 2 {
			t.Fatalf("received at %v, want UTC", ev.ReceivedAt)
		}
		if seen[ev.Ref] {
			t.Fatalf("ref %s twice in 200", ev.Ref)
		}
		seen[ev.Ref] = true
	}
}

func FuzzParseEvent(f *testing.F) {
	files, err := filepath.Glob("../examples/events/*.json")
	if err != nil || len(files) == 0 {
		f.Fatal("no sample events", err)
	}
	for _, name := range files {
		body, err := os.ReadFile(name)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(body)
	}
	f.Add([]byte(`{"trans_id":1,"form_id":"\ud800","OnUpdate":1}`))
	f.Add([]byte("\xef\xbb\xbf{\"trans_id\":\"\\u0000\"}"))
	f.Fuzz(func(t *testing.T, body []byte) {
		sent := bytes.Clone(body)
		ev, err := core.ParseEvent(body)
		if !bytes.Equal(sent, body) {
			t.Fatal("the body was changed")
		}
		if err != nil {
			var invalid *core.InvalidEvent
			if !errors.As(err, &invalid) || invalid.Rule == "" {
				t.Fatalf("error %v says no rule", err)
			}
			return
		}
		var reference map[string]json.RawMessage
		if err := json.Unmarshal(bytes.TrimPrefix(body, []byte("\xef\xbb\xbf")), &reference); err != nil {
			t.Fatal("accepted what is not a JSON object:", err)
		}
		var id string
		if json.Unmarshal(reference["trans_id"], &id) != nil {
			id = string(reference["trans_id"])
		}
		if ev.TransID != id {
			t.Fatalf("trans_id %q, encoding/json reads %q", ev.TransID, id)
		}
		if ev.TransID == "" || ev.FormID == "" || !bytes.Equal(ev.Body, sent) {
			t.Fatalf("accepted an incomplete event %+v", ev)
		}
		for _, s := range []string{ev.TransID, ev.FormID, ev.FormName, ev.Workflow.ID, ev.Workflow.Name} {
			if strings.ContainsFunc(s, unicode.IsControl) {
				t.Fatalf("control character in %q", s)
			}
		}
	})
}

func BenchmarkParseEvent(b *testing.B) {
	body, err := os.ReadFile("../examples/events/review.json")
	if err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	for b.Loop() {
		if _, err := core.ParseEvent(body); err != nil {
			b.Fatal(err)
		}
	}
}
