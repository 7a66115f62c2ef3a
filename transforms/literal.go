package transforms

import (
	"strconv"
	"strings"

	"github.com/dop251/goja"
	"github.com/dop251/goja/ast"
	"github.com/dop251/goja/unistring"
)

// Most scripts end with an object literal: return { record: event.trans_id, ... }.
// Where only the encoder can ever get hold of the object, it is not made: the values
// go to the host as they are, and the keys, which the literal itself tells, are
// written between them.

// givesName is what a module knows the function by that takes the values. No script
// can write such a name.
const givesName = " gives"

// literal is an object literal whose keys and their order are plain to see.
type literal struct {
	fields []literalField
}

// literalField is a key of a literal and what stands there: a literal, or the next
// one of the values.
type literalField struct {
	key    string
	quoted string // "key":
	within *literal
}

// literals puts calls in the place of object literals that the script's function
// returns. A call's first argument is the literal's index in what literals returns,
// the others are its values in the order in which they are evaluated.
//
// It does so where nobody could tell the difference: only the host calls the
// function, so what it returns is only seen there; and what it returns in the end is
// what it said last, as nothing follows on a return.
func literals(tree *ast.Program) (found []*literal) {
	module := moduleOf(tree)
	if module == nil {
		return nil
	}
	r := &returns{}
	switch f := handed(module).(type) {
	case *ast.FunctionLiteral:
		if f.Generator {
			return nil
		}
		r.statement(f.Body)
	case *ast.ArrowFunctionLiteral:
		switch body := f.Body.(type) {
		case *ast.BlockStatement:
			r.statement(body)
		case *ast.ExpressionBody:
			r.result(&body.Expression)
		}
	}
	if r.goesOn {
		return nil
	}
	for _, result := range r.literals {
		o := (*result).(*ast.ObjectLiteral)
		l, values := plainLiteral(o)
		if l == nil {
			continue
		}
		index := &ast.NumberLiteral{Idx: o.LeftBrace, Literal: strconv.Itoa(len(found)), Value: int64(len(found))}
		found = append(found, l)
		*result = &ast.CallExpression{
			Callee:          &ast.Identifier{Name: givesName, Idx: o.LeftBrace},
			LeftParenthesis: o.LeftBrace, RightParenthesis: o.RightBrace,
			ArgumentList: append([]ast.Expression{index}, values...),
		}
	}
	if len(found) > 0 {
		list := module.ParameterList
		list.List = append(list.List, &ast.Binding{Target: &ast.Identifier{Name: givesName, Idx: list.Closing}})
	}
	return found
}

// handed is the function that a module hands to the host, or nil if it uses it in
// any other way.
func handed(module *ast.FunctionLiteral) (f ast.Expression) {
	var export ast.Expression
	for _, s := range module.Body.List {
		if s, ok := s.(*ast.ExpressionStatement); ok {
			if call, ok := s.Expression.(*ast.CallExpression); ok && len(call.ArgumentList) == 1 {
				if host, ok := call.Callee.(*ast.Identifier); ok && host.Name == hostName {
					export = call.ArgumentList[0]
				}
			}
		}
	}
	name, ok := export.(*ast.Identifier)
	if !ok {
		return nil // a bundle has a name for it
	}
	known := map[*ast.Identifier]bool{name: true} // uses that are none
	names := map[unistring.String]bool{}
	for name != nil { // it may have another: `export default transform` makes one
		if names[name.Name] {
			return nil
		}
		names[name.Name] = true
		f, name = declared(module, name, known), nil
		if other, ok := f.(*ast.Identifier); ok {
			name, known[other] = other, true
		}
	}
	if f, ok := f.(*ast.FunctionLiteral); ok && f.Name != nil {
		names[f.Name.Name] = true
	}
	w := &walker{scope: &scope{names: map[string]bool{}}, global: func(*ast.Identifier) {}, typeOf: func(*ast.Identifier) {}}
	w.node = func(n ast.Node) {
		if id, ok := n.(*ast.Identifier); ok && !known[id] && (names[id.Name] || id.Name == "eval") {
			f = nil
		}
	}
	w.walk(module.Body)
	return f
}

// declared is what a name of the top level stands for at first. The identifiers that
// declare it are known then.
func declared(module *ast.FunctionLiteral, name *ast.Identifier, known map[*ast.Identifier]bool) (value ast.Expression) {
	bound := func(list []*ast.Binding) {
		for _, b := range list {
			if id, ok := b.Target.(*ast.Identifier); ok && id.Name == name.Name {
				value, known[id] = b.Initializer, true
			}
		}
	}
	for _, s := range module.Body.List {
		switch s := s.(type) {
		case *ast.FunctionDeclaration:
			if s.Function.Name.Name == name.Name {
				value = s.Function
			}
		case *ast.VariableStatement:
			bound(s.List)
		case *ast.LexicalDeclaration:
			bound(s.List)
		}
	}
	return value
}

// returns are the results of a function.
type returns struct {
	literals []*ast.Expression
	goesOn   bool // after a return there may be another
}

func (r *returns) result(e *ast.Expression) {
	switch result := (*e).(type) {
	case *ast.ObjectLiteral:
		r.literals = append(r.literals, e)
	case *ast.ConditionalExpression:
		r.result(&result.Consequent)
		r.result(&result.Alternate)
	}
}

// statement looks for returns. What it does not know has none, or is left as it is.
func (r *returns) statement(s ast.Statement) {
	switch s := s.(type) {
	case *ast.ReturnStatement:
		r.result(&s.Argument)
	case *ast.BlockStatement:
		r.statements(s.List)
	case *ast.IfStatement:
		r.statement(s.Consequent)
		r.statement(s.Alternate)
	case *ast.ForStatement:
		r.statement(s.Body)
	case *ast.ForInStatement:
		r.statement(s.Body)
	case *ast.ForOfStatement:
		r.statement(s.Body)
	case *ast.WhileStatement:
		r.statement(s.Body)
	case *ast.DoWhileStatement:
		r.statement(s.Body)
	case *ast.LabelledStatement:
		r.statement(s.Statement)
	case *ast.SwitchStatement:
		for _, c := range s.Body {
			r.statements(c.Consequent)
		}
	case *ast.TryStatement:
		r.goesOn = r.goesOn || s.Finally != nil
		r.statement(s.Body)
		if s.Catch != nil {
			r.statement(s.Catch.Body)
		}
	}
}

func (r *returns) statements(list []ast.Statement) {
	for _, s := range list {
		r.statement(s)
	}
}

// plainLiteral is a literal and its values, or nil if there is more to it than keys
// that stand there once and in the order in which they are written.
func plainLiteral(o *ast.ObjectLiteral) (l *literal, values []ast.Expression) {
	l = &literal{fields: make([]literalField, 0, len(o.Value))}
	had := make(map[string]bool, len(o.Value))
	for _, p := range o.Value {
		var key string
		var value ast.Expression
		switch p := p.(type) {
		case *ast.PropertyShort:
			name := p.Name
			key, value = name.Name.String(), &name
		case *ast.PropertyKeyed:
			name, ok := p.Key.(*ast.StringLiteral)
			if !ok || p.Computed || p.Kind != ast.PropertyKindValue {
				return nil, nil
			}
			key, value = name.Value.String(), p.Value
		default:
			return nil, nil
		}
		if had[key] || !plainKey(key) {
			return nil, nil
		}
		had[key] = true
		e := &encoder{}
		e.quote(key)
		field := literalField{key: key, quoted: string(e.out) + ":"}
		if inner, ok := value.(*ast.ObjectLiteral); ok {
			var within []ast.Expression
			if field.within, within = plainLiteral(inner); field.within != nil {
				values = append(values, within...)
			}
		}
		if field.within == nil {
			values = append(values, value)
		}
		l.fields = append(l.fields, field)
	}
	return l, values
}

// plainKey tells whether a key means nothing to the language, keeps its place and is
// what a string of Go can hold.
func plainKey(key string) bool {
	switch key {
	case "__proto__", "toJSON", "then":
		return false
	}
	index := key != "" && isDigit(key[0]) // perhaps: those come first
	return !index && !strings.Contains(key, "\uFFFD")
}

// returned is what the script's function gave last.
type returned struct {
	token  *goja.Object // what it returns instead
	of     *literal
	values []goja.Value
}

// gives is the function that stands in the place of literals.
func (s *sandbox) gives(c goja.FunctionCall) goja.Value {
	r := &s.returned
	r.of = s.run.program.literals[c.Argument(0).ToInteger()]
	r.values = append(r.values[:0], c.Arguments[1:]...)
	return r.token
}

// forget lets go of the event.
func (r *returned) forget() {
	if clear(r.values); cap(r.values) > maxSpareSteps {
		r.values = nil
	}
}

// literal writes a literal with the first of the values, and returns the others.
func (e *encoder) literal(l *literal, values []goja.Value) ([]goja.Value, error) {
	if err := e.enter(nil); err != nil {
		return nil, err
	}
	e.out = append(e.out, '{')
	first := true
	for i := range l.fields {
		f := &l.fields[i]
		from := len(e.out)
		if !first {
			e.out = append(e.out, ',')
		}
		e.path[len(e.path)-1] = step{key: f.key, index: -1}
		e.out = append(e.out, f.quoted...)
		ok := true
		var err error
		if f.within != nil {
			values, err = e.literal(f.within, values)
		} else {
			ok, err = e.value(values[0])
			values = values[1:]
		}
		if err != nil {
			return nil, err
		}
		if ok {
			first = false
		} else {
			e.out = e.out[:from]
		}
	}
	e.leave()
	return values, e.put("}")
}
