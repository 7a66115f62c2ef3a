package conformance

import (
	"encoding/json"
	"maps"
	"slices"
	"strings"

	"github.com/hookline/hookline/plugins"
	"github.com/hookline/hookline/plugins/transport"
)

func checkBadSettings(t *trial) {
	good := t.target().Settings()
	bad := slices.Clone(t.Bad)
	if t.way.name == "value" || t.New == nil { // once is enough, and a process for each takes long
		bad = append(bad, wrongTypes(t.describe().Settings, good)...)
	}
	bad = append(bad, BadSettings{Name: "an unknown setting", Settings: withUnknown(good)})
	for _, b := range bad {
		log := &output{}
		_, stop, err := t.way.start(t, t.Subject, b.Settings, log)
		stop()
		t.told.hear("the output on bad settings", log.String(), b.Hidden)
		if err == nil {
			t.Errorf("%s: was accepted: a typing error would go unnoticed", b.Name)
			continue
		}
		t.told.hear("the error of bad settings ("+b.Name+")", err.Error(), b.Hidden)
		text := t.clean(err.Error())
		if b.Hidden != "" {
			text = strings.ReplaceAll(text, b.Hidden, "[hidden]")
		}
		if b.Field != "" && !names(err, b.Field) {
			t.Errorf("%s: the error does not name %s: %s", b.Name, b.Field, text)
		}
	}
}

// names tells whether one of the setting errors is about the field or a part of it.
func names(err error, field string) bool {
	return slices.ContainsFunc(plugins.SettingErrors(err), func(e *transport.SettingError) bool {
		rest, found := strings.CutPrefix(e.Field, field)
		return found && (rest == "" || rest[0] == '.' || rest[0] == '[')
	})
}

// hidden stands in values of a wrong type: where it comes back, a value was told.
const hidden = "hunter2-4711"

// wrongTypes makes settings that are bad in one field each: every property of the
// schema gets a value of a type that it does not allow, and every required one is
// left out once.
func wrongTypes(schemaText, good json.RawMessage) []BadSettings {
	var schema map[string]any
	if json.Unmarshal(schemaText, &schema) != nil {
		return nil
	}
	var out []BadSettings
	add := func(name, field string, change func(map[string]any) bool) {
		var settings map[string]any
		if json.Unmarshal(good, &settings) != nil || settings == nil {
			settings = map[string]any{}
		}
		if !change(settings) {
			return
		}
		text, _ := json.Marshal(settings) // it was JSON
		out = append(out, BadSettings{Name: name, Settings: text, Field: field, Hidden: hidden})
	}
	var walk func(schema map[string]any, at []string)
	walk = func(schema map[string]any, at []string) {
		properties, _ := schema["properties"].(map[string]any)
		for _, key := range slices.Sorted(maps.Keys(properties)) {
			property, _ := properties[key].(map[string]any)
			path := append(slices.Clone(at), key)
			if value, found := wrongValue(property); found {
				name := strings.Join(path, ".")
				add(name+" of a wrong type", name, func(s map[string]any) bool { return put(s, path, value) })
			}
			walk(property, path)
		}
		if len(at) > 0 {
			return // a part may be left out as a whole
		}
		required, _ := schema["required"].([]any)
		for _, key := range required {
			if key, ok := key.(string); ok {
				add("no "+key, "", func(s map[string]any) bool { delete(s, key); return true })
			}
		}
	}
	walk(schema, nil)
	return out
}

// put sets the value at the path; false: something else is in the way.
func put(settings map[string]any, path []string, value any) bool {
	for _, key := range path[:len(path)-1] {
		inner, ok := settings[key].(map[string]any)
		if settings[key] != nil && !ok {
			return false
		}
		if !ok {
			inner = map[string]any{}
			settings[key] = inner
		}
		settings = inner
	}
	settings[path[len(path)-1]] = value
	return true
}

// wrongValue is a value of a type that the property does not allow. A schema that
// does not say the type, or leaves it to another place, has none.
func wrongValue(property map[string]any) (any, bool) {
	allowed := map[string]bool{}
	types(property, allowed)
	for _, candidate := range []struct {
		types []string
		value any
	}{
		{[]string{"object"}, map[string]any{hidden: hidden}},
		{[]string{"string"}, hidden},
		{[]string{"number", "integer"}, 4711.5},
		{[]string{"boolean"}, true},
	} {
		if !slices.ContainsFunc(candidate.types, func(t string) bool { return allowed[t] }) {
			return candidate.value, len(allowed) > 0
		}
	}
	return nil, false
}

// types collects the types that a schema and its branches allow.
func types(schema map[string]any, into map[string]bool) {
	switch t := schema["type"].(type) {
	case string:
		into[t] = true
	case []any:
		for _, one := range t {
			if name, ok := one.(string); ok {
				into[name] = true
			}
		}
	}
	for _, key := range []string{"oneOf", "anyOf", "allOf"} {
		branches, _ := schema[key].([]any)
		for _, b := range branches {
			if branch, ok := b.(map[string]any); ok {
				types(branch, into)
			}
		}
	}
}

// untyped finds the properties of which the schema says nothing.
func untyped(schema any, at string, found func(name string)) {
	node, _ := schema.(map[string]any)
	properties, _ := node["properties"].(map[string]any)
	for _, key := range slices.Sorted(maps.Keys(properties)) {
		name := strings.TrimPrefix(at+"."+key, ".")
		property, _ := properties[key].(map[string]any)
		says := func(keyword string) bool { return property[keyword] != nil }
		if !slices.ContainsFunc([]string{"type", "enum", "const", "oneOf", "anyOf", "allOf", "$ref", "not"}, says) {
			found(name)
		}
		untyped(property, name, found)
	}
}
