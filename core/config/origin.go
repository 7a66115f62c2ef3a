package config

import (
	"bytes"
	"regexp"
	"slices"
	"strings"

	"github.com/pelletier/go-toml/v2/unstable"
)

// path is a key's place: path{"hooks", "demo", "timeout"}.
type path []string

func (p path) at(key string) path { return append(slices.Clip(p), key) }

// id identifies the path in maps.
func (p path) id() string { return strings.Join(p, delim) }

var bareKey = regexp.MustCompile(`^[A-Za-z0-9_-]+$`)

// String is the dotted key, as one would write it in the file.
func (p path) String() string {
	parts := make([]string, len(p))
	for i, part := range p {
		if !bareKey.MatchString(part) {
			part = quote(part)
		}
		parts[i] = part
	}
	return strings.Join(parts, ".")
}

// origins knows where each key was written. koanf's maps lose that, and with it
// the order of the file, which is the order of routes.
type origins struct {
	file  string
	lines map[string]int // by path.id: the first line that mentions the key
	order []path         // keys of the file, at their first mention
	vars  []origin       // sorted by path.id; flags are over the environment
}

type origin struct {
	path path
	name string // HOOKLINE__..., or commandLine
}

// written tells whether any layer but the defaults has the key.
func (o *origins) written(p path) bool {
	_, inFile := o.lines[p.id()]
	return inFile || o.variable(p) != ""
}

// mentions tells whether a layer has the key or, of a table, any key below it.
func (o *origins) mentions(p path) bool {
	return o.written(p) || slices.ContainsFunc(o.vars, func(v origin) bool {
		return strings.HasPrefix(v.path.id(), p.id()+delim)
	})
}

// inFile tells whether the key's value is the file's.
func (o *origins) inFile(p path) bool {
	return o.lines[p.id()] > 0 && o.variable(p) == ""
}

// locate finds where to look: at the key itself, or else at the closest thing
// that is written, for a key that is missing.
func (o *origins) locate(p path) (source string, line int) {
	for ; len(p) > 0; p = p[:len(p)-1] {
		if name := o.variable(p); name != "" {
			return name, 0
		}
		if line := o.lines[p.id()]; line > 0 {
			return o.file, line
		}
		for _, v := range o.vars {
			if strings.HasPrefix(v.path.id(), p.id()+delim) {
				return v.name, 0
			}
		}
	}
	return o.file, 0
}

func (o *origins) variable(p path) string {
	for _, v := range o.vars {
		if slices.Equal(v.path, p) {
			return v.name
		}
	}
	return ""
}

// names orders the names of a section: as in the file, then the others.
func (o *origins) names(section path, table map[string]any) []string {
	var names []string
	for _, p := range o.order {
		if len(p) == len(section)+1 && slices.Equal(p[:len(section)], section) {
			if _, ok := table[p[len(p)-1]]; ok {
				names = append(names, p[len(p)-1])
			}
		}
	}
	var others []string
	for name := range table {
		if !slices.Contains(names, name) {
			others = append(others, name)
		}
	}
	slices.Sort(others)
	return append(names, others...)
}

// readPositions notes where the keys of the file are. It stops at a syntax
// error, which the real parser reports. deep is the line of a key that is nested
// deeper than maxDepth, 0 for none: what walks the tree later is recursive.
func (o *origins) readPositions(data []byte) (deep int) {
	o.lines = map[string]int{}
	r := positionReader{into: o, lines: lineCounter{data: data, line: 1}}
	var parser unstable.Parser
	parser.Reset(data)
	var table path
	for parser.NextExpression() && r.deep == 0 {
		switch e := parser.Expression(); e.Kind {
		case unstable.Table, unstable.ArrayTable:
			table = r.key(nil, e.Key(), true)
		case unstable.KeyValue:
			r.value(r.key(table, e.Key(), true), e.Value(), true)
		}
	}
	return r.deep
}

type positionReader struct {
	into  *origins
	lines lineCounter
	deep  int
}

// key walks a dotted key. What is in a list has no key of its own, so it is
// walked for its depth only (keep is false).
func (r *positionReader) key(parent path, keys unstable.Iterator, keep bool) path {
	p := slices.Clip(parent)
	for keys.Next() && r.deep == 0 {
		node := keys.Node()
		p = p.at(string(node.Data))
		line := r.lines.at(int(node.Raw.Offset))
		if len(p) > maxDepth {
			r.deep = line
		}
		if _, known := r.into.lines[p.id()]; keep && !known {
			r.into.lines[p.id()] = line
			r.into.order = append(r.into.order, p)
		}
	}
	return p
}

func (r *positionReader) value(p path, node *unstable.Node, keep bool) {
	if len(p) > maxDepth && r.deep == 0 {
		r.deep = r.lines.line
	}
	if r.deep > 0 {
		return
	}
	switch node.Kind {
	case unstable.InlineTable:
		for it := node.Children(); it.Next(); {
			kv := it.Node()
			r.value(r.key(p, kv.Key(), keep), kv.Value(), keep)
		}
	case unstable.Array:
		inside := p.at("[]")
		for it := node.Children(); it.Next(); {
			r.value(inside, it.Node(), false)
		}
	}
}

// lineCounter counts newlines up to offsets that hardly ever go back.
type lineCounter struct {
	data         []byte
	offset, line int
}

func (l *lineCounter) at(offset int) int {
	if offset < l.offset {
		l.offset, l.line = 0, 1
	}
	l.line += bytes.Count(l.data[l.offset:offset], []byte{'\n'})
	l.offset = offset
	return l.line
}
