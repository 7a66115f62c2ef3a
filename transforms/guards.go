package transforms

import (
	"fmt"
	"strings"
	"time"

	"github.com/dop251/goja"
)

// Limits of what one call of a built-in function may do: it cannot be interrupted.
const (
	maxString    = 16 << 20 // characters that it makes
	maxElements  = 1 << 20  // that it goes through
	maxArguments = 1 << 16
	maxBigInt    = 1 << 20 // bits that it writes out or cuts off
	// regexpTime is for one match of a regular expression that backtracks.
	regexpTime = 250 * time.Millisecond
	// regexpDoubt is how long a match that found nothing may have taken. The engine
	// says nothing else of one that ran out of time, and its clock is coarse.
	regexpDoubt = regexpTime / 2
)

type native = func(goja.FunctionCall) goja.Value

// guards puts limits before the built-in functions of a new runtime that could run or
// grow beyond measure in one call. What operators make is for the watch on the memory.
type guards struct {
	s          *sandbox
	rangeError *goja.Object
	nothing    goja.Callable // enters the engine, which notices an interrupt there
	joins      int           // that are inside each other now
	err        error         // the first of setting up
}

// guard guards the sandbox's runtime. Nothing of a script has run in it.
func (s *sandbox) guard() error {
	g := &guards{s: s}
	g.rangeError, _ = s.rt.Get("RangeError").(*goja.Object)
	nothing, err := s.rt.RunString("(() => {})")
	if err != nil {
		return err
	}
	g.nothing, _ = goja.AssertFunction(nothing)
	g.arrays()
	g.strings()
	g.regexps()
	g.json()
	g.calls()
	g.numbers()
	return g.err
}

// at follows a path of properties from the global object.
func (g *guards) at(path ...string) *goja.Object {
	o := g.s.rt.GlobalObject()
	for _, name := range path {
		next, ok := o.Get(name).(*goja.Object)
		if !ok {
			if g.err == nil {
				g.err = fmt.Errorf("the engine has no %s", strings.Join(path, "."))
			}
			return g.s.rt.NewObject()
		}
		o = next
	}
	return o
}

// wrap puts f in the place of a built-in; f gets the original.
func (g *guards) wrap(owner *goja.Object, name string, f func(original native, c goja.FunctionCall) goja.Value) {
	old, ok := owner.Get(name).(*goja.Object)
	var original native
	if ok {
		original, ok = old.Export().(native)
	}
	if !ok {
		if g.err == nil {
			g.err = fmt.Errorf("the engine has no function %s", name)
		}
		return
	}
	replacement := g.s.rt.ToValue(func(c goja.FunctionCall) goja.Value { return f(original, c) }).(*goja.Object)
	for _, p := range []string{"name", "length"} {
		if err := replacement.DefineDataProperty(p, old.Get(p), goja.FLAG_FALSE, goja.FLAG_FALSE, goja.FLAG_TRUE); err != nil && g.err == nil {
			g.err = err
		}
	}
	if err := owner.DefineDataProperty(name, replacement, goja.FLAG_TRUE, goja.FLAG_TRUE, goja.FLAG_FALSE); err != nil && g.err == nil {
		g.err = err
	}
}

// limit wraps a built-in: check comes before it and throws.
func (g *guards) limit(owner *goja.Object, name string, check func(c goja.FunctionCall)) {
	g.wrap(owner, name, func(original native, c goja.FunctionCall) goja.Value {
		check(c)
		return original(c)
	})
}

// tooMuch throws.
func (g *guards) tooMuch(format string, a ...any) {
	e, err := g.s.rt.New(g.rangeError, g.s.rt.ToValue(fmt.Sprintf(format, a...)))
	if err != nil {
		panic(err)
	}
	panic(e)
}

// goOn ends a script that was interrupted while built-in functions called each other.
func (g *guards) goOn() {
	if r := g.s.run; r != nil && r.cut.Load() {
		if _, err := g.nothing(goja.Undefined()); err != nil {
			panic(err)
		}
	}
}

// elements is the length of an array or of what looks like one.
func lengthOf(v goja.Value) float64 {
	switch v := v.(type) {
	case *goja.Object:
		if n := v.Get("length"); n != nil {
			return n.ToFloat()
		}
	case goja.String:
		return float64(v.Length())
	}
	return 0
}

// characters is the length of a string, 0 for everything else.
func characters(v goja.Value) float64 {
	if s, ok := v.(goja.String); ok {
		return float64(s.Length())
	}
	return 0
}

func (g *guards) few(what string, n float64) {
	if n > maxElements {
		g.tooMuch("%s would go through %.0f elements, the limit is %d", what, n, maxElements)
	}
}

func (g *guards) short(what string, n float64) {
	if n > maxString {
		g.tooMuch("%s would make a string of %.0f characters, the limit is %d", what, n, maxString)
	}
}

func (g *guards) arrays() {
	proto := g.at("Array", "prototype")
	for _, name := range proto.GetOwnPropertyNames() {
		switch name {
		case "length", "constructor", "at", "entries", "keys", "values", "pop", "push", "toString", "join", "concat", "flat":
			continue // none of these looks at all elements, or it stands below
		}
		g.limit(proto, name, func(c goja.FunctionCall) {
			g.goOn()
			g.few(name, lengthOf(c.This))
		})
	}
	g.limit(proto, "concat", func(c goja.FunctionCall) {
		n := lengthOf(c.This)
		for _, a := range c.Arguments {
			if o, ok := a.(*goja.Object); ok {
				n += lengthOf(o)
			}
		}
		g.few("concat", n)
	})
	g.wrap(proto, "join", g.join)
	// One that is not iterable is as long as it says.
	g.limit(g.at("Array"), "from", func(c goja.FunctionCall) { g.few("Array.from", lengthOf(c.Argument(0))) })
	typed := g.at("Uint8Array", "prototype").Prototype()
	g.wrap(typed, "join", g.join)
}

func (g *guards) join(original native, c goja.FunctionCall) goja.Value {
	g.goOn()
	n, separator := lengthOf(c.This), 1.0
	if a := c.Argument(0); !goja.IsUndefined(a) {
		separator = characters(a)
	}
	g.few("join", n)
	g.short("join", n*separator)
	// Arrays in arrays are joined by the engine itself.
	g.joins++
	defer func() { g.joins-- }()
	if g.joins > maxNesting {
		g.tooMuch("join: arrays are nested deeper than %d levels", maxNesting)
	}
	out := original(c)
	g.short("join", characters(out))
	return out
}

func (g *guards) strings() {
	proto := g.at("String", "prototype")
	g.limit(proto, "repeat", func(c goja.FunctionCall) {
		g.short("repeat", characters(c.This)*c.Argument(0).ToFloat())
	})
	for _, name := range []string{"padStart", "padEnd"} {
		g.limit(proto, name, func(c goja.FunctionCall) { g.short(name, c.Argument(0).ToFloat()) })
	}
	g.limit(proto, "concat", func(c goja.FunctionCall) {
		n := characters(c.This)
		for _, a := range c.Arguments {
			n += characters(a)
		}
		g.short("concat", n)
	})
	for _, name := range []string{"replace", "replaceAll"} {
		g.limit(proto, name, func(c goja.FunctionCall) { g.replacement(name, c.This, c.Argument(0), c.Argument(1)) })
	}
	g.wrap(proto, "split", func(original native, c goja.FunctionCall) goja.Value {
		separator, isString := c.Argument(0).(goja.String)
		if !isString || characters(c.This) <= maxElements {
			return original(c) // there cannot be more parts than characters
		}
		parts := strings.Count(c.This.String(), separator.String())
		if most := c.Argument(1); goja.IsUndefined(most) || most.ToFloat() > maxElements {
			g.few("split", float64(parts))
		}
		return original(c)
	})
	g.limit(g.at("String"), "raw", func(c goja.FunctionCall) {
		if o, ok := c.Argument(0).(*goja.Object); ok {
			g.few("String.raw", lengthOf(o.Get("raw")))
		}
	})
	for _, name := range []string{"keys", "values", "entries", "getOwnPropertyNames", "getOwnPropertyDescriptors"} {
		g.limit(g.at("Object"), name, func(c goja.FunctionCall) { g.few("Object."+name, characters(c.Argument(0))) })
	}
}

// replacement looks at how long the outcome of replacing can be. If there may be too
// much, what is really there is counted.
func (g *guards) replacement(name string, in, pattern, by goja.Value) {
	text, isString := in.(goja.String)
	replacement, ok := by.(goja.String)
	if !isString || !ok {
		return // a function is interrupted
	}
	each := characters(replacement)
	if strings.Contains(replacement.String(), "$") {
		each += float64(strings.Count(replacement.String(), "$")) * characters(text)
	}
	matches := characters(text) + 1
	if p, ok := pattern.(goja.String); ok {
		if name == "replace" {
			matches = 1
		} else if matches*each > maxString && p.Length() > 0 {
			matches = float64(strings.Count(text.String(), p.String()))
		}
		g.short(name, characters(text)+matches*each)
	} else if matches*each > 64*maxString { // a pattern does not match everywhere
		g.tooMuch("%s could make a string of %.0f characters; use a function as replacement", name, matches*each)
	}
}

func (g *guards) regexps() {
	proto := g.at("RegExp", "prototype")
	// The other ways to match call exec themselves, as it is not the original any more.
	for _, name := range []string{"exec", "test"} {
		g.wrap(proto, name, func(original native, c goja.FunctionCall) goja.Value {
			g.goOn()
			r := g.s.run
			begun := time.Now()
			r.inRegexp.Store(true)
			out := original(c)
			r.inRegexp.Store(false)
			g.goOn()
			if (goja.IsNull(out) || !out.ToBoolean()) && time.Since(begun) >= regexpDoubt {
				g.tooMuch("the regular expression %s took longer than %s and found nothing", clip(c.This.String(), 100), regexpDoubt)
			}
			return out
		})
	}
}

func (g *guards) json() {
	json := g.at("JSON")
	g.limit(json, "parse", func(c goja.FunctionCall) {
		if text, ok := c.Argument(0).(goja.String); ok && nesting(text.String()) > maxNesting {
			g.tooMuch("JSON.parse: the text is nested deeper than %d levels", maxNesting)
		}
	})
	g.wrap(json, "stringify", g.stringify)
}

// nesting is how deep brackets are inside each other in JSON.
func nesting(text string) (deepest int) {
	depth, inString := 0, false
	for i := 0; i < len(text); i++ {
		switch text[i] {
		case '\\':
			i++
		case '"':
			inString = !inString
		case '[', '{':
			if !inString {
				depth++
				deepest = max(deepest, depth)
			}
		case ']', '}':
			if !inString {
				depth--
			}
		}
	}
	return deepest
}

// stringify lets a replacer count what is written: the engine asks it for each value.
// A list of keys, or a function of the script's own, is called as it is.
func (g *guards) stringify(original native, c goja.FunctionCall) goja.Value {
	g.goOn()
	own, isObject := c.Argument(1).(*goja.Object)
	var replace goja.Callable
	if isObject {
		var isFunc bool
		if replace, isFunc = goja.AssertFunction(own); !isFunc {
			g.goOn()
			return original(c)
		}
	}
	if _, ok := c.Argument(0).(*goja.Object); !ok && !isObject {
		return original(c)
	}
	count := g.counter()
	counting := g.s.rt.ToValue(func(inner goja.FunctionCall) goja.Value {
		v := inner.Argument(1)
		if replace != nil {
			var err error
			if v, err = replace(inner.This, inner.Arguments...); err != nil {
				panic(err)
			}
		}
		count(inner.This, inner.Argument(0), v)
		return v
	})
	args := append([]goja.Value{c.Argument(0), counting}, c.Arguments[min(2, len(c.Arguments)):]...)
	return original(goja.FunctionCall{This: c.This, Arguments: args})
}

// counter returns what JSON.stringify tells of each value: its holder, key and itself.
func (g *guards) counter() func(holder, key, v goja.Value) {
	var parents []goja.Value
	values, size := 0, 0.0
	return func(holder, key, v goja.Value) {
		g.goOn()
		values++
		size += characters(key) + characters(v)
		g.few("JSON.stringify", float64(values))
		g.short("JSON.stringify", size)
		for len(parents) > 0 && parents[len(parents)-1] != holder {
			parents = parents[:len(parents)-1]
		}
		if len(parents) > maxNesting {
			g.tooMuch("JSON.stringify: values are nested deeper than %d levels", maxNesting)
		}
		if o, ok := v.(*goja.Object); ok {
			parents = append(parents, o)
		}
	}
}

func (g *guards) calls() {
	list := func(what string, v goja.Value) {
		if o, ok := v.(*goja.Object); ok {
			if n := lengthOf(o); n > maxArguments {
				g.tooMuch("%s: a call with %.0f arguments, the limit is %d", what, n, maxArguments)
			}
		}
	}
	g.limit(g.at("Function", "prototype"), "apply", func(c goja.FunctionCall) { list("apply", c.Argument(1)) })
	g.limit(g.at("Reflect"), "apply", func(c goja.FunctionCall) { list("Reflect.apply", c.Argument(2)) })
	g.limit(g.at("Reflect"), "construct", func(c goja.FunctionCall) { list("Reflect.construct", c.Argument(1)) })
}

func (g *guards) numbers() {
	bigInt := g.at("BigInt")
	for _, name := range []string{"asIntN", "asUintN"} {
		g.limit(bigInt, name, func(c goja.FunctionCall) {
			if bits := c.Argument(0).ToFloat(); bits > maxBigInt {
				g.tooMuch("BigInt.%s: %.0f bits, the limit is %d", name, bits, maxBigInt)
			}
		})
	}
	for _, name := range []string{"toString", "toLocaleString"} {
		g.limit(g.at("BigInt", "prototype"), name, func(c goja.FunctionCall) {
			if n, ok := c.This.Export().(interface{ BitLen() int }); ok && n.BitLen() > maxBigInt {
				g.tooMuch("%s: a BigInt of %d bits, the limit is %d", name, n.BitLen(), maxBigInt)
			}
		})
	}
}
