package host

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/santhosh-tekuri/jsonschema/v6"
	"github.com/santhosh-tekuri/jsonschema/v6/kind"
	"golang.org/x/text/language"
	"golang.org/x/text/message"

	"github.com/hookline/hookline/plugins/transport"
)

// ResolveSettings checks settings against a plugin's schema and replaces the
// references in its secret fields. It returns the secrets, to keep them out of
// what the plugin says. Settings that are refused are joined
// *[transport.SettingError]s.
func ResolveSettings(schemaText, settings json.RawMessage, resolve func(string) (string, error)) (resolved json.RawMessage, secrets []string, err error) {
	if len(settings) == 0 {
		settings = json.RawMessage("{}")
	}
	value, err := jsonschema.UnmarshalJSON(bytes.NewReader(settings))
	if err != nil {
		return nil, nil, fmt.Errorf("settings are not JSON: %w", err)
	}
	if len(schemaText) == 0 {
		return settings, nil, nil // no schema, no secrets
	}
	raw, err := jsonschema.UnmarshalJSON(bytes.NewReader(schemaText))
	if err != nil {
		return nil, nil, fmt.Errorf("the plugin's settings schema is not JSON: %w", err)
	}
	node, _ := raw.(map[string]any)
	value = coerce(node, value)

	compiler := jsonschema.NewCompiler()
	compiler.DefaultDraft(jsonschema.Draft2020)
	compiler.UseLoader(noLoader{})
	const url = "urn:hookline:settings"
	if err := compiler.AddResource(url, raw); err != nil {
		return nil, nil, fmt.Errorf("the plugin's settings schema: %w", err)
	}
	schema, err := compiler.Compile(url)
	if err != nil {
		return nil, nil, fmt.Errorf("the plugin's settings schema: %w", err)
	}
	// The rules hold for the secret itself, not for the reference to it.
	r := &resolver{resolve: resolve}
	value = r.walk(node, value, "")
	errs := r.errs
	if err := schema.Validate(value); err != nil {
		var invalid *jsonschema.ValidationError
		if !errors.As(err, &invalid) {
			return nil, nil, err
		}
		for _, e := range explain(node, invalid) {
			if !slices.ContainsFunc(r.errs, func(known *transport.SettingError) bool { return known.Field == e.Field }) {
				errs = append(errs, e)
			}
		}
	}
	if len(errs) > 0 {
		slices.SortStableFunc(errs, func(a, b *transport.SettingError) int { return strings.Compare(a.Field, b.Field) })
		return nil, nil, fmt.Errorf("settings: %w", errors.Join(asErrors(errs)...))
	}
	resolved, err = json.Marshal(value)
	if err != nil {
		return nil, nil, fmt.Errorf("settings: %w", err)
	}
	return resolved, r.secrets, nil
}

// resolver walks a value beside its schema. It follows properties, items,
// additionalProperties and the branches of oneOf, anyOf and allOf, which is what
// a settings schema needs to mark a secret; it does not follow $ref.
type resolver struct {
	resolve func(string) (string, error)
	secrets []string
	errs    []*transport.SettingError
}

func (r *resolver) walk(schema map[string]any, value any, at string) any {
	if schema == nil {
		return value
	}
	switch v := value.(type) {
	case string:
		if !isSecret(schema) {
			return v
		}
		secret, err := r.resolve(v)
		if err != nil {
			r.errs = append(r.errs, &transport.SettingError{Field: at, Rule: err.Error()})
			return v
		}
		r.secrets = append(r.secrets, secret)
		return secret
	case []any:
		items := branches(schema, "items")
		for i := range v {
			v[i] = r.walk(items, v[i], at+"["+strconv.Itoa(i)+"]")
		}
	case map[string]any:
		for _, k := range slices.Sorted(maps.Keys(v)) {
			v[k] = r.walk(property(schema, k), v[k], strings.TrimPrefix(at+"."+k, "."))
		}
	}
	return value
}

// isSecret: JSON Schema's writeOnly ("never returned by the owning authority",
// validation vocabulary, section 9.4) on the value or on one of its branches.
func isSecret(schema map[string]any) bool {
	if secret, _ := schema["writeOnly"].(bool); secret {
		return true
	}
	for _, branch := range branchesOf(schema) {
		if t, ok := branch["type"].(string); (!ok || t == "string") && isSecret(branch) {
			return true
		}
	}
	return false
}

func property(schema map[string]any, key string) map[string]any {
	for _, s := range append([]map[string]any{schema}, branchesOf(schema)...) {
		properties, _ := s["properties"].(map[string]any)
		if p, ok := properties[key].(map[string]any); ok {
			return p
		}
	}
	return branches(schema, "additionalProperties")
}

// branches finds keyword in the schema or in one of its branches.
func branches(schema map[string]any, keyword string) map[string]any {
	for _, s := range append([]map[string]any{schema}, branchesOf(schema)...) {
		if p, ok := s[keyword].(map[string]any); ok {
			return p
		}
	}
	return nil
}

func branchesOf(schema map[string]any) []map[string]any {
	var out []map[string]any
	for _, k := range []string{"oneOf", "anyOf", "allOf"} {
		list, _ := schema[k].([]any)
		for _, b := range list {
			if m, ok := b.(map[string]any); ok {
				out = append(out, m)
			}
		}
	}
	return out
}

// coerce gives a string from the environment the type that the schema asks for:
// an environment variable has no other type.
func coerce(schema map[string]any, value any) any {
	switch v := value.(type) {
	case string:
		want, _ := schema["type"].(string)
		switch want {
		case "integer", "number":
			// Go takes more for a number than JSON does, such as NaN, 0x10 and 1_000.
			if _, err := strconv.ParseFloat(v, 64); err == nil && json.Valid([]byte(v)) {
				return json.Number(v)
			}
		case "boolean":
			if b, err := strconv.ParseBool(v); err == nil {
				return b
			}
		}
	case map[string]any:
		for k := range v {
			if p := property(schema, k); p != nil {
				v[k] = coerce(p, v[k])
			}
		}
	}
	return value
}

// explain flattens a validation error into one error per field, in the words of
// Hookline's own configuration. It never quotes a value: it might be a secret.
func explain(schema map[string]any, e *jsonschema.ValidationError) []*transport.SettingError {
	var out []*transport.SettingError
	for _, c := range meant(e) {
		out = append(out, explain(schema, c)...)
	}
	if len(e.Causes) > 0 {
		return out
	}
	at, field := schema, ""
	for _, step := range e.InstanceLocation {
		if _, err := strconv.Atoi(step); err == nil && property(at, step) == nil {
			at, field = branches(at, "items"), field+"["+step+"]"
			continue
		}
		at, field = property(at, step), within(field, step)
	}
	fail := func(field, rule string) { out = append(out, &transport.SettingError{Field: field, Rule: rule}) }
	switch k := e.ErrorKind.(type) {
	case *kind.AdditionalProperties:
		for _, key := range k.Properties {
			fail(within(field, key), "is not a key; "+knownKeys(at))
		}
	case *kind.Required:
		for _, key := range k.Missing {
			fail(within(field, key), "is missing"+described(property(at, key)))
		}
	case *kind.DependentRequired:
		for _, key := range k.Missing {
			fail(within(field, key), "is missing: "+k.Prop+" needs it")
		}
	case *kind.Type:
		want := make([]string, len(k.Want))
		for i, t := range k.Want {
			want[i] = typeNames[t]
		}
		rule := "must be " + strings.Join(want, " or ")
		if k.Got == "string" && k.Want[0] != "array" && k.Want[0] != "object" {
			rule += " without quotes"
		}
		got := typeNames[k.Got]
		if k.Got == "number" && slices.Contains(k.Want, "integer") {
			got = "a number with a fraction"
		}
		fail(field, rule+", but is "+got)
	case *kind.Pattern:
		fail(field, "must match the pattern "+k.Want+described(at))
	case *kind.Format:
		fail(field, "must be a valid "+k.Want+described(at))
	case *kind.Const:
		fail(field, fmt.Sprintf("must be %v", k.Want))
	case *kind.Enum:
		fail(field, "is not a choice; use "+choices(k.Want))
	case *kind.MinLength:
		if k.Want == 1 {
			fail(field, "must not be empty")
		} else {
			fail(field, fmt.Sprintf("must have at least %d characters", k.Want))
		}
	case *kind.MaxLength:
		fail(field, fmt.Sprintf("must have at most %d characters", k.Want))
	case *kind.MinItems:
		fail(field, fmt.Sprintf("must have at least %d items", k.Want))
	case *kind.MaxItems:
		fail(field, fmt.Sprintf("must have at most %d items", k.Want))
	case *kind.Minimum:
		fail(field, "must be at least "+k.Want.RatString())
	case *kind.Maximum:
		fail(field, "must be at most "+k.Want.RatString())
	default:
		fail(field, k.LocalizedString(english))
	}
	return out
}

// meant are the causes that are worth telling. Of several branches it is those that
// the value has the type for; where it fits none, the types of all are one cause.
func meant(e *jsonschema.ValidationError) []*jsonschema.ValidationError {
	switch e.ErrorKind.(type) {
	case *kind.OneOf, *kind.AnyOf:
	default:
		return e.Causes
	}
	var fit []*jsonschema.ValidationError
	var types *kind.Type
	for _, c := range e.Causes {
		t, ok := c.ErrorKind.(*kind.Type)
		switch {
		case !ok || len(c.InstanceLocation) > len(e.InstanceLocation):
			fit = append(fit, c)
		case types == nil:
			types = &kind.Type{Got: t.Got, Want: slices.Clone(t.Want)}
		default:
			types.Want = append(types.Want, t.Want...)
		}
	}
	if len(fit) > 0 || types == nil {
		return fit
	}
	return []*jsonschema.ValidationError{{InstanceLocation: e.InstanceLocation, ErrorKind: types}}
}

// typeNames are JSON Schema's types as somebody who writes TOML knows them.
var typeNames = map[string]string{
	"string": "a string", "integer": "a whole number", "number": "a number", "boolean": "true or false",
	"array": "a list", "object": "a table", "null": "nothing",
}

func within(field, key string) string { return strings.TrimPrefix(field+"."+key, ".") }

// described is what the schema says about a field, to be put behind a rule.
func described(schema map[string]any) string {
	text, _ := schema["description"].(string)
	if text = strings.TrimRight(strings.TrimSpace(text), "."); text == "" {
		return ""
	}
	return " (" + text + ")"
}

func knownKeys(schema map[string]any) string {
	known := map[string]bool{}
	for _, s := range append([]map[string]any{schema}, branchesOf(schema)...) {
		properties, _ := s["properties"].(map[string]any)
		for key := range properties {
			known[key] = true
		}
	}
	if len(known) == 0 {
		return "there are none here"
	}
	return "the keys here are " + strings.Join(slices.Sorted(maps.Keys(known)), ", ")
}

func choices(want []any) string {
	all := make([]string, len(want))
	for i, w := range want {
		all[i] = fmt.Sprint(w)
	}
	if last := len(all) - 1; last > 0 {
		return strings.Join(all[:last], ", ") + " or " + all[last]
	}
	return strings.Join(all, "")
}

var english = message.NewPrinter(language.English)

// noLoader keeps a schema from reaching for files or the network.
type noLoader struct{}

func (noLoader) Load(url string) (any, error) {
	return nil, fmt.Errorf("%s: a settings schema must be complete in itself", url)
}

func asErrors(list []*transport.SettingError) []error {
	out := make([]error, len(list))
	for i, e := range list {
		out[i] = e
	}
	return out
}
