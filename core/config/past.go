package config

import (
	"bytes"
	"path/filepath"
)

// Past reads a configuration that was accepted once, to tell what it said. Files
// and secrets that it names may be gone since, so what is wrong with it does not
// matter: the Config is not fit to run on. Where what lies over the file has changed,
// its Revision is not the one that it had. The error is an *[Error]; there is one
// only for what is not TOML.
func Past(name string, toml []byte, dir string, overrides map[string]string, environ []string) (*Config, error) {
	abs, err := filepath.Abs(dir)
	if err != nil {
		return nil, &Error{Problems: []Problem{{Source: name, Rule: "is in a folder that cannot be found: " + reason(err)}}, cause: err}
	}
	vars := environment(environ)
	tree, from, problems := layers(name, toml, vars, overrides)
	if tree == nil {
		return nil, &Error{Problems: sorted(problems)}
	}
	d := &decoder{dir: abs, from: from, past: true, unfit: map[string]bool{}}
	c := defaults()
	c.Path, c.Dir, c.environ, c.Source = name, abs, vars, bytes.Clone(toml)
	d.table(nil, tree, c.fields())
	d.checking = true
	d.check(c)
	c.Revision = c.revision()
	return c, nil
}
