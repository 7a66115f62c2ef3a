package targettest

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/santhosh-tekuri/jsonschema/v6"

	"github.com/hookline/hookline/plugins/target"
	"github.com/hookline/hookline/plugins/transport"
)

// Schema is what the schema of a transport's settings is held against.
type Schema struct {
	About transport.Description
	// Takes are settings, as JSON, and whether they are good ones.
	Takes map[string]bool
	// Defaults are the settings, a struct, as the code has them where nothing is
	// written. The schema must have exactly its fields and tell what is in them.
	Defaults any
	// Optional may be left out and have no default.
	Optional []string
	// Secret are the paths of the secrets, sorted; * stands for any key.
	Secret []string
	// Told is what the page docs/transport-NAME.md must name, beside all settings.
	Told []string
}

// Told is all codes but those that a transport never has, for [Schema.Told].
func Told(never ...transport.Code) (out []string) {
	for _, code := range transport.Codes {
		if !slices.Contains(never, code) {
			out = append(out, string(code))
		}
	}
	return out
}

// property is a setting in a schema.
type property struct {
	Type                 any
	Title, Description   string
	Default              any
	WriteOnly            bool
	Required             []string
	Properties           map[string]property
	AdditionalProperties any // false, or a schema
}

// Check finds where schema, code and page differ. It runs in the transport's folder.
func (s Schema) Check(t *testing.T) {
	doc, err := jsonschema.UnmarshalJSON(bytes.NewReader(s.About.Settings))
	if err != nil {
		t.Fatal(err)
	}
	c := jsonschema.NewCompiler()
	if err := c.AddResource("settings.json", doc); err != nil {
		t.Fatal(err)
	}
	schema, err := c.Compile("settings.json")
	if err != nil {
		t.Fatal(err)
	}
	for text, want := range s.Takes {
		v, err := jsonschema.UnmarshalJSON(strings.NewReader(text))
		if err != nil {
			t.Fatalf("%s: %v", text, err)
		}
		if err := schema.Validate(v); (err == nil) != want {
			t.Errorf("%s: %v", text, err)
		}
	}
	var top property
	if err := json.Unmarshal(s.About.Settings, &top); err != nil {
		t.Fatal(err)
	}
	s.checkDefaults(t, top)
	if tls, ok := top.Properties["tls"]; ok {
		checkTLS(t, tls)
	}

	file := filepath.Join("..", "..", "docs", "transport-"+s.About.Name+".md")
	page, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	told := slices.Clone(s.Told)
	var secret []string
	var walk func(path string, p property)
	walk = func(path string, p property) {
		if p.WriteOnly {
			secret = append(secret, path)
		}
		if inner, ok := p.AdditionalProperties.(map[string]any); ok && inner["writeOnly"] == true {
			secret = append(secret, path+".*")
		}
		for name, sub := range p.Properties {
			name = strings.TrimPrefix(path+"."+name, ".")
			if told = append(told, name); sub.Title == "" || sub.Description == "" {
				t.Errorf("%s has no title or description", name)
			}
			walk(name, sub)
		}
	}
	walk("", top)
	for _, name := range told {
		if !bytes.Contains(page, []byte("`"+name+"`")) {
			t.Errorf("%s does not name %s", file, name)
		}
	}
	if slices.Sort(secret); !slices.Equal(secret, s.Secret) {
		t.Errorf("secret: %v, want %v", secret, s.Secret)
	}
}

func (s Schema) checkDefaults(t *testing.T, top property) {
	text, err := json.Marshal(s.Defaults)
	if err != nil {
		t.Fatal(err)
	}
	var used map[string]any
	if err := json.Unmarshal(text, &used); err != nil {
		t.Fatal(err)
	}
	for name := range used {
		if _, ok := top.Properties[name]; !ok {
			t.Errorf("the schema does not have %s", name)
		}
	}
	for name, p := range top.Properties {
		value, ok := used[name]
		if !ok {
			t.Errorf("the code does not have %s, which the schema has", name)
		}
		if p.Default == nil && !slices.Contains(top.Required, name) && !slices.Contains(s.Optional, name) && !p.WriteOnly && name != "tls" {
			t.Errorf("%s: the schema tells no default", name)
		}
		if !same(p.Default, value) {
			t.Errorf("%s: the schema says %v, the code %v", name, p.Default, value)
		}
	}
}

// same tells whether two values mean the same to a reader: nothing is nothing.
func same(a, b any) bool {
	nothing := func(v any) bool { return slices.Contains([]string{"<nil>", "", "[]", "map[]"}, fmt.Sprint(v)) }
	return nothing(a) && nothing(b) || reflect.DeepEqual(a, b)
}

// checkTLS holds what the schemas repeat, as each is to be read by itself, against the
// code that the transports share.
func checkTLS(t *testing.T, tls property) {
	fields := reflect.TypeFor[target.TLS]()
	for i := range fields.NumField() {
		if name := fields.Field(i).Tag.Get("json"); tls.Properties[name].Type != "string" {
			t.Errorf("the schema does not have tls.%s, which all transports have", name)
		}
	}
	if len(tls.Properties) != fields.NumField() || tls.AdditionalProperties != false || tls.Required != nil {
		t.Error("the schema of tls is not that of all transports")
	}
}
