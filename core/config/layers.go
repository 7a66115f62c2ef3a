package config

import (
	"bytes"
	"errors"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	tomlparser "github.com/knadh/koanf/parsers/toml/v2"
	"github.com/knadh/koanf/providers/env/v2"
	"github.com/knadh/koanf/providers/rawbytes"
	"github.com/knadh/koanf/v2"
	"github.com/pelletier/go-toml/v2"
)

const (
	envPrefix   = "HOOKLINE__"
	envDelim    = "__"
	commandLine = "command line"

	// delim joins the parts of a key inside koanf. TOML is UTF-8, so no key
	// holds this byte: a dot inside a key of settings stays part of it.
	delim = "\xff"

	maxDepth = 64 // nesting of the file
)

// text is a value of the environment or the command line: it has no type yet,
// where a value of the file has one that must be right.
type text string

// named are the sections whose keys are names that the user chooses.
var named = []string{"hooks", "transports", "routes"}

// layers merges the file, the environment and the overrides. The tree is nil
// when the file cannot be read as TOML: nothing more can be said then.
func layers(name string, data []byte, environ, overrides map[string]string) (map[string]any, *origins, []Problem) {
	from := &origins{file: name}
	data = bytes.TrimPrefix(data, []byte("\xef\xbb\xbf")) // some editors write it
	if len(data) > maxFile {
		return nil, nil, []Problem{{Source: name, Rule: fmt.Sprintf("is larger than %d KiB", maxFile>>10)}}
	}
	if line := from.readPositions(data); line > 0 {
		return nil, nil, []Problem{{Source: name, Line: line, Rule: fmt.Sprintf("is nested deeper than %d levels", maxDepth)}}
	}
	ko := koanf.New(delim)
	if err := ko.Load(rawbytes.Provider(data), tomlparser.Parser()); err != nil {
		return nil, nil, []Problem{syntaxProblem(name, data, err)}
	}

	vars, problems := variables(environ)
	keys := make(map[string]string, len(vars))
	for _, v := range vars {
		keys[v.name] = v.path.id()
	}
	provider := env.Provider(delim, env.Opt{
		Prefix:        envPrefix,
		EnvironFunc:   func() []string { return list(environ) },
		TransformFunc: func(name, value string) (string, any) { return keys[name], text(value) },
	})
	if err := ko.Load(provider, nil); err != nil {
		return nil, nil, append(problems, Problem{Source: envPrefix + "*", Rule: err.Error()})
	}

	for _, key := range slices.Sorted(maps.Keys(overrides)) {
		p := path(strings.Split(key, "."))
		if slices.Contains(p, "") || len(p) > maxDepth || !utf8.ValidString(key) || !utf8.ValidString(overrides[key]) {
			problems = append(problems, Problem{Source: commandLine, Key: strings.ToValidUTF8(key, "?"), Rule: "is not a dotted key with a value in UTF-8"})
			continue
		}
		if err := ko.Set(p.id(), text(overrides[key])); err != nil {
			problems = append(problems, Problem{Source: commandLine, Key: key, Rule: err.Error()})
			continue
		}
		vars = slices.DeleteFunc(vars, func(v origin) bool { return slices.Equal(v.path, p) })
		vars = append(vars, origin{path: p, name: commandLine})
	}
	from.vars = vars
	return ko.Raw(), from, problems
}

// variables finds the HOOKLINE__ variables and the keys that they set, sorted.
func variables(environ map[string]string) ([]origin, []Problem) {
	var vars []origin
	var problems []Problem
	for _, name := range slices.Sorted(maps.Keys(environ)) {
		if !strings.HasPrefix(name, envPrefix) {
			continue
		}
		p := variablePath(name)
		switch {
		case p == nil:
			problems = append(problems, Problem{Source: strings.ToValidUTF8(name, "?"), Rule: "does not have the form HOOKLINE__SECTION__KEY"})
		case !utf8.ValidString(environ[name]):
			problems = append(problems, Problem{Source: name, Key: p.String(), Rule: "is not valid UTF-8"})
		default:
			vars = append(vars, origin{path: p, name: name})
		}
	}
	// koanf would let one of two that exclude each other win, at random.
	slices.SortStableFunc(vars, func(a, b origin) int { return slices.Compare(a.path, b.path) })
	kept := vars[:0]
	for i, v := range vars {
		if i+1 < len(vars) && len(vars[i+1].path) >= len(v.path) && slices.Equal(vars[i+1].path[:len(v.path)], v.path) {
			problems = append(problems, Problem{Source: v.name, Key: v.path.String(), Rule: "contradicts " + vars[i+1].name + ": unset one of them"})
			continue
		}
		kept = append(kept, v)
	}
	return kept, problems
}

// variablePath is the key that a variable sets, nil if it does not name one.
func variablePath(name string) path {
	p := path(strings.Split(strings.ToLower(strings.TrimPrefix(name, envPrefix)), envDelim))
	if slices.Contains(p, "") || len(p) > maxDepth || !utf8.ValidString(name) {
		return nil
	}
	if len(p) > 1 && slices.Contains(named, p[0]) {
		// A name has no '_', and most shells refuse a '-' in a variable.
		p[1] = strings.ReplaceAll(p[1], "_", "-")
	} else if len(p) > 2 && p[0] == "admin" && p[1] == "users" {
		p[2] = strings.ReplaceAll(p[2], "_", "-")
	}
	return p
}

func list(environ map[string]string) []string {
	out := make([]string, 0, len(environ))
	for name, value := range environ {
		out = append(out, name+"="+value)
	}
	return out
}

// syntaxProblem says where the file is not TOML.
func syntaxProblem(name string, data []byte, err error) Problem {
	p := Problem{Source: name, Rule: "is not TOML: " + strings.TrimPrefix(err.Error(), "toml: ")}
	var syntax *toml.DecodeError
	if !errors.As(err, &syntax) {
		return p
	}
	p.Line, p.Column = syntax.Position()
	p.Rule = "is not TOML: " + strings.TrimPrefix(syntax.Error(), "toml: ")
	if strings.Contains(p.Rule, "at start of value") {
		p.Rule += " (a string needs quotes)"
	}
	if lines := strings.Split(string(data), "\n"); p.Line <= len(lines) {
		p.Rule += excerpt(lines[p.Line-1])
	}
	return p
}

var (
	beforeValue = regexp.MustCompile(`^\s*[A-Za-z0-9_.-]+\s*=`)
	header      = regexp.MustCompile(`^\s*\[{1,2}[A-Za-z0-9_. -]*\]{0,2}`)
)

// excerpt shows a line's key or table, and never its value: with a quote
// forgotten, a password looks like anything else.
func excerpt(line string) string {
	line = strings.TrimRight(line, "\r")
	for _, shape := range []*regexp.Regexp{beforeValue, header} {
		if shown := shape.FindString(line); shown != "" {
			if shown != line {
				shown += " ..."
			}
			return " in: " + strings.TrimSpace(shown)
		}
	}
	return ""
}

// quote is strconv.Quote, cut: a value may be a whole certificate by mistake.
func quote(s string) string {
	const limit = 60
	if r := []rune(s); len(r) > limit {
		s = string(r[:limit]) + "..."
	}
	return strconv.Quote(s)
}
