package admin_test

import (
	"bytes"
	"encoding/json"
	"maps"
	"net/http"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/santhosh-tekuri/jsonschema/v6"

	"github.com/hookline/hookline/core/admin"
	"github.com/hookline/hookline/core/journal"
)

// views are all answers and requests that openapi.json describes, by their names
// there.
var views = map[string]any{
	"Status": admin.Status{}, "Recalled": admin.Recalled{}, "Refusal": admin.Refusal{}, "Answer": admin.Answer{},
	"Event": admin.Event{}, "DeliveryState": admin.DeliveryState{}, "EventPage": admin.EventPage{}, "EventDetail": admin.EventDetail{},
	"Delivery": admin.Delivery{}, "DeliveryPage": admin.DeliveryPage{}, "DeliveryDetail": admin.DeliveryDetail{},
	"Message": admin.Message{}, "Attempt": admin.Attempt{}, "Done": admin.Done{},
	"Stats": journal.Stats{}, "StatsEvent": journal.StatsEvent{}, "StatsDelivery": journal.StatsDelivery{}, "Backup": journal.Backup{},
	"PruneAsk": admin.PruneAsk{}, "PruneAnswer": admin.PruneAnswer{}, "Pruned": admin.Pruned{}, "BackupAsk": admin.BackupAsk{},
	"Verification": journal.Verification{}, "Finding": journal.Finding{}, "Head": journal.Head{},
	"Quarantined": admin.Quarantined{}, "Release": admin.Release{}, "Released": admin.Released{},
	"Alert": admin.Alert{}, "AlertList": admin.AlertList{},
	"Plugin": admin.Plugin{}, "PluginList": admin.PluginList{},
	"Act": admin.Act{}, "ActResult": admin.ActResult{}, "ActResults": admin.ActResults{},
	"ActCount": admin.ActCount{}, "ActGroup": admin.ActGroup{}, "Redrive": admin.Redrive{}, "Redriven": admin.Redriven{},
}

// notStructs are the schemas that are no Go type of their own.
var notStructs = []string{"Failure", "State", "Nothing"}

type openAPI struct {
	OpenAPI string
	Paths   map[string]map[string]struct {
		OperationID string `json:"operationId"`
		Permission  string `json:"x-permission"`
		Parameters  []struct{ Name, In string }
		RequestBody *struct{}
		Responses   map[string]struct {
			Ref     string `json:"$ref"`
			Content map[string]struct{ Schema json.RawMessage }
		}
	}
	Components struct {
		Schemas   map[string]struct{ Properties map[string]any }
		Responses map[string]any
	}
}

func readOpenAPI(t *testing.T) (doc openAPI) {
	t.Helper()
	if err := json.Unmarshal(admin.OpenAPI(), &doc); err != nil {
		t.Fatal(err)
	}
	if doc.OpenAPI != "3.1.0" {
		t.Errorf("openapi: %q", doc.OpenAPI)
	}
	return doc
}

// Every endpoint is in the document with what it needs, and nothing else is.
func TestOpenAPIHasTheEndpoints(t *testing.T) {
	doc := readOpenAPI(t)
	want, got, ids := map[string]string{}, map[string]string{}, map[string]bool{}
	for _, e := range admin.Endpoints() {
		want[strings.ToLower(e.Method)+" "+e.Path] = strings.Join(e.Needs, ",")
	}
	for path, operations := range doc.Paths {
		for method, op := range operations {
			got[method+" "+path] = op.Permission
			if op.OperationID == "" || ids[op.OperationID] {
				t.Errorf("%s %s: operationId %q is missing or another's", method, path, op.OperationID)
			}
			ids[op.OperationID] = true
			if (method == "post") != (op.RequestBody != nil) {
				t.Errorf("%s %s: requestBody", method, path)
			}
			for _, p := range op.Parameters {
				if p.In == "path" && !strings.Contains(path, "{"+p.Name+"}") {
					t.Errorf("%s %s: no {%s} in the path", method, path, p.Name)
				}
			}
			for status, r := range op.Responses {
				if name, ok := strings.CutPrefix(r.Ref, "#/components/responses/"); status != "200" && (!ok || doc.Components.Responses[name] == nil) {
					t.Errorf("%s %s: %s leads nowhere: %q", method, path, status, r.Ref)
				}
			}
		}
	}
	if !maps.Equal(want, got) {
		t.Errorf("the document has  %v\nthe endpoints are %v", got, want)
	}
}

// So is the page, where somebody looks who has no daemon yet.
func TestDocsHaveTheEndpoints(t *testing.T) {
	page, err := os.ReadFile(filepath.Join("..", "..", "docs", "admin-api.md"))
	if err != nil {
		t.Fatal(err)
	}
	want, got := map[string]string{}, map[string]string{}
	for _, e := range admin.Endpoints() {
		want[e.Method+" "+e.Path] = strings.Join(e.Needs, ",")
	}
	call := regexp.MustCompile("`((?:GET|POST) /[^`]*)`")
	for line := range strings.Lines(string(page)) {
		if cells := strings.Split(line, "|"); len(cells) == 4 {
			for _, m := range call.FindAllStringSubmatch(cells[1], -1) {
				got[m[1]] = strings.TrimSpace(cells[2])
			}
		}
	}
	if !maps.Equal(want, got) {
		t.Errorf("docs/admin-api.md has %v\nthe endpoints are %v", got, want)
	}
}

// The schemas have the fields of the views, no more and no fewer.
func TestOpenAPIHasTheFields(t *testing.T) {
	doc := readOpenAPI(t)
	for name := range doc.Components.Schemas {
		if views[name] == nil && !slices.Contains(notStructs, name) {
			t.Errorf("the schema %s is of no view: add it to views", name)
		}
	}
	for name, view := range views {
		schema, ok := doc.Components.Schemas[name]
		if !ok {
			t.Errorf("openapi.json has no schema %s", name)
			continue
		}
		want, got := jsonFields(reflect.TypeOf(view)), slices.Sorted(maps.Keys(schema.Properties))
		slices.Sort(want)
		if !slices.Equal(want, got) {
			t.Errorf("%s: the view has\n%q, the schema\n%q", name, want, got)
		}
	}
}

func jsonFields(t reflect.Type) (out []string) {
	for i := range t.NumField() {
		f := t.Field(i)
		if f.Anonymous {
			out = append(out, jsonFields(f.Type)...)
			continue
		}
		name, _, _ := strings.Cut(f.Tag.Get("json"), ",")
		out = append(out, name)
	}
	return out
}

// Parameters in the document are those that the daemon takes: it names them when it
// refuses another.
func TestOpenAPIHasTheParameters(t *testing.T) {
	f := openOffice(t)
	for path, operations := range readOpenAPI(t).Paths {
		op, ok := operations["get"]
		if !ok || path == "/metrics" { // a scraper may send what it likes
			continue
		}
		var want []string
		for _, p := range op.Parameters {
			if p.In == "query" {
				want = append(want, p.Name)
			}
		}
		got := f.send(f.request("GET", strings.ReplaceAll(path, "{id}", f.event.ID)+"?no-such=1", "aud", password, ""))
		var failure struct{ Error string }
		if err := json.Unmarshal([]byte(got.body), &failure); err != nil {
			t.Fatal(err)
		}
		takes := "it takes none"
		if len(want) > 0 {
			takes = "it takes " + strings.Join(want, ", ")
		}
		if got.status != 400 || !strings.HasSuffix(failure.Error, takes) {
			t.Errorf("%s: %d %q, want %q", path, got.status, failure.Error, takes)
		}
	}
}

// Real answers of every endpoint, to every role, are what the document says.
func TestOpenAPIHoldsForAnswers(t *testing.T) {
	f := openOffice(t)
	doc := readOpenAPI(t)
	const base = "https://hookline.invalid/openapi.json"
	raw, err := jsonschema.UnmarshalJSON(bytes.NewReader(admin.OpenAPI()))
	if err != nil {
		t.Fatal(err)
	}
	c := jsonschema.NewCompiler()
	c.DefaultDraft(jsonschema.Draft2020)
	c.AssertFormat()
	if err := c.AddResource(base, raw); err != nil {
		t.Fatal(err)
	}
	escape := strings.NewReplacer("~", "~0", "/", "~1", "{", "%7B", "}", "%7D")
	valid := func(name, pointer, answer string) {
		t.Helper()
		schema, err := c.Compile(base + "#" + pointer)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			return
		}
		value, err := jsonschema.UnmarshalJSON(strings.NewReader(answer))
		if err != nil {
			t.Errorf("%s: %v: %s", name, err, answer)
			return
		}
		if err := schema.Validate(value); err != nil {
			t.Errorf("%s: %v\n%s", name, err, answer)
		}
	}
	for _, e := range admin.Endpoints() {
		for _, user := range []string{"vera", "aud", "otto", ""} {
			name := user + " " + e.Method + " " + e.Path
			got := f.send(f.call(e, user, password))
			if got.status != http.StatusOK {
				status := map[int]string{401: "Unauthorized", 403: "Forbidden"}[got.status]
				if ref := doc.Paths[e.Path][strings.ToLower(e.Method)].Responses[map[string]string{"Unauthorized": "401", "Forbidden": "403"}[status]].Ref; !strings.HasSuffix(ref, "/"+status) || status == "" {
					t.Errorf("%s: %d is not in the document (%q): %s", name, got.status, ref, got.body)
				}
				valid(name, "/components/schemas/Failure", got.body)
				continue
			}
			media, _, _ := strings.Cut(got.header.Get("Content-Type"), ";")
			if _, ok := doc.Paths[e.Path][strings.ToLower(e.Method)].Responses["200"].Content[media]; !ok {
				t.Errorf("%s: the document has no %s", name, media)
				continue
			}
			if media == "text/plain" {
				continue
			}
			answers := []string{got.body}
			if media == "application/jsonl" {
				answers = strings.Split(strings.TrimSuffix(got.body, "\n"), "\n")
			}
			for _, answer := range answers {
				valid(name, "/paths/"+escape.Replace(e.Path)+"/"+strings.ToLower(e.Method)+"/responses/200/content/"+escape.Replace(media)+"/schema", answer)
			}
		}
	}
	for name := range doc.Components.Schemas {
		if _, err := c.Compile(base + "#/components/schemas/" + name); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	// A schema that everything satisfies would have let all of that pass.
	schema, err := c.Compile(base + "#/components/schemas/EventPage")
	if err != nil {
		t.Fatal(err)
	}
	for _, bad := range []string{`{}`, `{"events":[{}]}`, `{"events":1}`} {
		value, _ := jsonschema.UnmarshalJSON(strings.NewReader(bad))
		if schema.Validate(value) == nil {
			t.Errorf("%s is no EventPage", bad)
		}
	}
}
