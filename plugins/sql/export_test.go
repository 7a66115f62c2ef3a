package sql

import (
	"strings"

	"github.com/hookline/hookline/plugins/transport"
)

// Spell is a statement as it is prepared, and where its parameters come from.
func Spell(dialect, text string) (spelled, sources string, err error) {
	st, err := parseStatement(text, dialect)
	if err != nil {
		return "", "", err
	}
	var all []string
	for _, s := range st.sources {
		if s.name == "" {
			s.name = "/" + strings.Join(s.pointer, "|")
		}
		all = append(all, s.name)
	}
	return st.text, strings.Join(all, " "), nil
}

// Value is what a parameter has of a message.
func Value(parameter string, m *transport.Message) (any, error) {
	src, err := parseSource(parameter)
	if err != nil {
		return nil, err
	}
	values, err := (&statement{sources: []source{src}}).values(m)
	if err != nil {
		return nil, err
	}
	return values[0], nil
}

// Answer is what the server's error means, in a dialect.
func Answer(dialect string, err error) (code transport.Code, detail string, ended, ok bool) {
	var d dialecter = &maria{}
	if dialect == postgreSQL {
		d = &postgres{}
	}
	a, ok := d.answer(err)
	return a.code, a.detail, a.ended, ok
}

type dialecter interface{ answer(error) (answer, bool) }

// Defaults are the settings that apply where none is written.
var Defaults = defaults

// Parameters are the names that a statement may use.
var Parameters = parameters
