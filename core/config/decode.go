package config

import (
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"
)

// decoder turns the merged layers into a Config and gathers everything that is
// wrong on the way.
//
// It is not koanf's Unmarshal: mapstructure glues keys with dots, names Go types
// to the user, and holds values, which may be secrets, in its errors.
type decoder struct {
	dir      string
	from     *origins
	past     bool // it is about a configuration of long ago: its files may be gone
	problems []Problem
	warnings []Problem

	// checking is set while check runs. What is wrong with a key by itself is
	// then not repeated in other words: unfit holds those keys, true for one that
	// should have been a table.
	checking bool
	unfit    map[string]bool
}

// field puts one key's value into its place. It reports a value that is unfit
// and leaves the default.
type field func(d *decoder, p path, value any)

// fields are the keys of a table.
type fields map[string]field

func (d *decoder) fail(p path, format string, args ...any) {
	if !d.checking {
		d.unfit[p.id()] = d.unfit[p.id()]
	} else if d.isUnfit(p) {
		return
	}
	d.problems = append(d.problems, d.problem(p, format, args...))
}

func (d *decoder) warn(p path, format string, args ...any) {
	d.warnings = append(d.warnings, d.problem(p, format, args...))
}

func (d *decoder) problem(p path, format string, args ...any) Problem {
	source, line := d.from.locate(p)
	return Problem{Source: source, Line: line, Key: p.String(), Rule: fmt.Sprintf(format, args...)}
}

func (d *decoder) isUnfit(p path) bool {
	if _, unfit := d.unfit[p.id()]; unfit {
		return true
	}
	for ; len(p) > 0; p = p[:len(p)-1] {
		if d.unfit[p.id()] {
			return true
		}
	}
	return false
}

func (d *decoder) mismatch(p path, want string, value any) {
	d.fail(p, "must be %s, but is %s", want, kindOf(value))
}

func (d *decoder) noTable(p path, value any) {
	d.mismatch(p, "a table", value)
	d.unfit[p.id()] = true
}

func kindOf(value any) string {
	switch value.(type) {
	case string, text:
		return "a string"
	case int64, float64:
		return "a number"
	case bool:
		return "true or false"
	case []any:
		return "a list"
	case map[string]any:
		return "a table"
	}
	return "a date or time"
}

func (d *decoder) table(p path, value any, fs fields) {
	table, ok := value.(map[string]any)
	if !ok {
		d.noTable(p, value)
		return
	}
	for _, key := range slices.Sorted(maps.Keys(table)) {
		at := p.at(key)
		if f, known := fs[key]; known {
			f(d, at, table[key])
			continue
		}
		keys := slices.Sorted(maps.Keys(fs))
		if near := nearest(key, keys); near != "" {
			d.fail(at, "is not a key: did you mean %s?", near)
		} else {
			d.fail(at, "is not a key; the keys here are %s", strings.Join(keys, ", "))
		}
	}
}

// section is a table with fixed keys.
func section(fs fields) field {
	return func(d *decoder, p path, value any) { d.table(p, value, fs) }
}

var namePattern = regexp.MustCompile(`^[a-z][a-z0-9-]*$`)

const maxName = 63

// names is a table whose keys the user chooses. each is called in the order of
// the file.
func names(each func(name string) fields) field {
	return func(d *decoder, p path, value any) {
		table, ok := value.(map[string]any)
		if !ok {
			d.noTable(p, value)
			return
		}
		for _, name := range d.from.names(p, table) {
			at := p.at(name)
			switch {
			case !namePattern.MatchString(name):
				d.fail(at, "is not a name: use a to z, 0 to 9 and -, and begin with a letter")
			case len(name) > maxName:
				d.fail(at, "is too long for a name: use at most %d characters", maxName)
			}
			d.table(at, table[name], each(name))
		}
	}
}
