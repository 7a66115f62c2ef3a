package transforms

import (
	"maps"
	"slices"
	"strings"

	"github.com/dop251/goja"
)

// What ctx.lookup gives are views: objects that are made as a script looks at them,
// on data that all sandboxes share. They cost nothing until then, however large a
// file is, and cannot be changed. They are made anew for each event, as a view's
// prototype could be (no state).

// lookup is ctx.lookup.
func (s *sandbox) lookup(c goja.FunctionCall) goja.Value {
	file := c.Argument(0)
	if !goja.IsString(file) {
		panic(s.rt.NewTypeError("ctx.lookup: the file must be a string, but is %s", kindOf(file)))
	}
	name := file.String()
	if seen, ok := s.run.lookups[name]; ok {
		return seen
	}
	t := s.run.program.given.tables[name]
	if t == nil {
		panic(s.rt.NewTypeError("ctx.lookup: there is no file %.60q; %s", name, known("transforms.lookups", "has", s.run.program.given.tables)))
	}
	var v goja.Value
	if t.csv {
		v = s.tableView(t)
	} else {
		v = s.viewOf(t.value)
	}
	if s.run.lookups == nil {
		s.run.lookups = map[string]goja.Value{}
	}
	s.run.lookups[name] = v
	return v
}

// maxNamed is how many names an error lists.
const maxNamed = 20

// known ends an error about a name that a key of the configuration does not have.
func known[T any](key, verb string, names map[string]T) string {
	if len(names) == 0 {
		return key + " " + verb + " none"
	}
	list := slices.Sorted(maps.Keys(names))
	more := ""
	if len(list) > maxNamed {
		list, more = list[:maxNamed], ", ..."
	}
	return key + " " + verb + " " + strings.Join(list, ", ") + more
}

// viewOf is a value of a .json file.
func (s *sandbox) viewOf(value any) goja.Value {
	switch v := value.(type) {
	case nil:
		return goja.Null()
	case tableNumber:
		number, err := s.decode([]byte(v), false)
		if err != nil { // it was read as JSON before
			panic(s.rt.NewGoError(err))
		}
		return number
	case []any:
		return s.list(len(v), func(i int) goja.Value { return s.viewOf(v[i]) })
	case *tableObject:
		return s.object(v.keys, func(key string) goja.Value {
			if value, ok := v.values[key]; ok {
				return s.viewOf(value)
			}
			return nil
		})
	}
	return s.rt.ToValue(value) // string, bool
}

// tableView is a .csv file.
func (s *sandbox) tableView(t *table) goja.Value {
	made := map[int]goja.Value{} // a row is the same object however it is found
	row := func(i int) goja.Value {
		if made[i] == nil {
			made[i] = s.rowView(t, t.rows[i])
		}
		return made[i]
	}
	return s.object([]string{"columns", "rows", "get", "find", "filter"}, func(key string) goja.Value {
		switch key {
		case "columns":
			return s.list(len(t.columns), func(i int) goja.Value { return s.rt.ToValue(t.columns[i]) })
		case "rows":
			return s.list(len(t.rows), row) // of objects that row keeps
		case "get":
			return s.method(key, func(c goja.FunctionCall) goja.Value {
				if found := t.find(0, s.cell("get", "key", c.Argument(0))); len(found) > 0 {
					return row(int(found[0]))
				}
				return goja.Undefined()
			})
		case "find":
			return s.method(key, func(c goja.FunctionCall) goja.Value {
				column := s.column("find", t, c.Argument(0))
				if found := t.find(column, s.cell("find", "value", c.Argument(1))); len(found) > 0 {
					return row(int(found[0]))
				}
				return goja.Undefined()
			})
		case "filter":
			return s.method(key, func(c goja.FunctionCall) goja.Value {
				column := s.column("filter", t, c.Argument(0))
				found := t.find(column, s.cell("filter", "value", c.Argument(1)))
				return s.list(len(found), func(i int) goja.Value { return row(int(found[i])) })
			})
		}
		return nil
	})
}

func (s *sandbox) rowView(t *table, row []string) goja.Value {
	return s.object(t.columns, func(column string) goja.Value {
		if i, ok := t.number[column]; ok {
			return s.rt.ToValue(row[i])
		}
		return nil
	})
}

// column is the number of the column that the script names.
func (s *sandbox) column(function string, t *table, v goja.Value) int {
	if goja.IsString(v) {
		if i, ok := t.number[v.String()]; ok {
			return i
		}
		panic(s.rt.NewTypeError("%s: there is no column %.60q; %s", function, v.String(), known("the file", "has", t.number)))
	}
	panic(s.rt.NewTypeError("%s: the column must be a string, but is %s", function, kindOf(v)))
}

// cell is a value to look for. Cells are text, ids in events are often numbers.
func (s *sandbox) cell(function, what string, v goja.Value) string {
	if !goja.IsString(v) && !goja.IsNumber(v) {
		panic(s.rt.NewTypeError("%s: the %s must be a string or a number, but is %s", function, what, kindOf(v)))
	}
	return v.String()
}

// method is a frozen function of a table.
func (s *sandbox) method(name string, f func(goja.FunctionCall) goja.Value) goja.Value {
	o := s.function(name, f)
	if _, err := s.freeze(goja.Undefined(), o); err != nil {
		panic(err)
	}
	return o
}

// view is an object of ctx.lookup.
type view struct {
	s    *sandbox
	keys []string
	make func(key string) goja.Value // nil: there is no such key
	made map[string]goja.Value       // objects, so that each is itself whenever it is asked for
}

func (s *sandbox) object(keys []string, f func(key string) goja.Value) goja.Value {
	return s.rt.NewDynamicObject(&view{s: s, keys: keys, make: f})
}

func (v *view) Get(key string) goja.Value {
	if o, ok := v.made[key]; ok {
		return o
	}
	value := v.make(key)
	if _, ok := value.(*goja.Object); ok {
		if v.made == nil {
			v.made = map[string]goja.Value{}
		}
		v.made[key] = value
	}
	return value
}

func (v *view) Set(string, goja.Value) bool { panic(v.s.readOnly()) }
func (v *view) Delete(string) bool          { panic(v.s.readOnly()) }
func (v *view) Keys() []string              { return v.keys }

func (v *view) Has(key string) bool { return v.Get(key) != nil }

// listView is an array of ctx.lookup.
type listView struct {
	s    *sandbox
	len  int
	make func(i int) goja.Value
	made map[int]goja.Value // objects, as in a view
}

func (s *sandbox) list(n int, f func(i int) goja.Value) goja.Value {
	return s.rt.NewDynamicArray(&listView{s: s, len: n, make: f})
}

func (l *listView) Len() int { return l.len }

func (l *listView) Get(i int) goja.Value {
	if i < 0 || i >= l.len {
		return nil
	}
	if o, ok := l.made[i]; ok {
		return o
	}
	value := l.make(i)
	if _, ok := value.(*goja.Object); ok {
		if l.made == nil {
			l.made = map[int]goja.Value{}
		}
		l.made[i] = value
	}
	return value
}

func (l *listView) Set(int, goja.Value) bool { panic(l.s.readOnly()) }
func (l *listView) SetLen(int) bool          { panic(l.s.readOnly()) }

func (s *sandbox) readOnly() *goja.Object {
	return s.rt.NewTypeError("what ctx.lookup gives cannot be changed: copy it first, with {...row} or [...rows]")
}
