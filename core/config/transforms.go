package config

import (
	"maps"
	"regexp"
	"slices"
)

// Transforms is what all scripts share.
type Transforms struct {
	Lookups string // absolute path of the folder with files for ctx.lookup, or ""
	Memory  int64  // what the process that runs them may hold, in bytes
}

// Limits of transforms.memory: with less the engine itself has no room.
const (
	minScriptMemory = 64 << 20
	maxScriptMemory = 16 << 30
)

func (t *Transforms) fields() fields {
	return fields{
		"lookups": folder(&t.Lookups, "the folder of the lookup files"),
		"memory":  size(&t.Memory, minScriptMemory, maxScriptMemory),
	}
}

// folder is the path of a folder. Whether it is there is told by who reads it: a
// set that was accepted can do without.
func folder(out *string, what string) field {
	return func(d *decoder, p path, value any) {
		s, ok := d.str(p, value, "a string")
		switch {
		case !ok:
		case s == "":
			d.fail(p, "must name %s, or be left out", what)
		default:
			*out = abs(d.dir, s)
		}
	}
}

// AddLookups makes the lookup files a part of the configuration's revision:
// SHA-256 in hex by name. They are read by those who know their formats.
func (c *Config) AddLookups(digests map[string]string) {
	c.lookups = digests
	c.Revision = c.revision()
}

var secretName = regexp.MustCompile(`^[a-z][a-z0-9_-]*$`)

// grants are the secrets of a route's script, by name. Only references are taken:
// there is no reason to write one into the file.
func grants(out *map[string]string) field {
	return func(d *decoder, p path, value any) {
		table, ok := value.(map[string]any)
		if !ok {
			d.noTable(p, value)
			return
		}
		*out = make(map[string]string, len(table))
		for _, name := range slices.Sorted(maps.Keys(table)) {
			at := p.at(name)
			ref, ok := d.str(at, table[name], "a string")
			switch {
			case !ok:
			case !secretName.MatchString(name) || len(name) > maxName:
				d.fail(at, "is not a name for a secret: use a to z, 0 to 9, _ and -, begin with a letter, at most %d characters", maxName)
			case !isReference(ref):
				d.fail(at, `must be a reference such as "env:NAME" or "file:PATH": a secret does not belong into the file`)
			default:
				(*out)[name] = ref
			}
		}
	}
}

// Secrets are what a route grants its script, with references resolved. The error
// never holds what one stands for.
func (c *Config) Secrets(r Route) (map[string]string, error) {
	return c.resolveAll("routes."+r.Name+".secrets", r.Secrets)
}

func (d *decoder) checkGrants(c *Config, r *Route, at path) {
	for _, name := range slices.Sorted(maps.Keys(r.Secrets)) {
		if _, err := c.Resolve(r.Secrets[name]); err != nil {
			d.fail(at.at(name), "%s", err)
		}
	}
	if r.Transform == "" && d.from.mentions(at) && !d.from.written(path{"routes", r.Name, "transform"}) {
		d.warn(at, "has no effect without a transform")
	}
}
