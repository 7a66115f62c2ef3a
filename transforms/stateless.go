package transforms

import (
	"slices"

	"github.com/dop251/goja/ast"
	"github.com/dop251/goja/token"
)

// hostName is what a bundle calls the function that collects its default export.
const hostName = "__hookline"

// stateless tells whether no run of a bundle can leave anything in its module scope
// for the next one, so that one evaluation of it is as good as one for each event.
// It says so only of what is plain to see:
//
//   - The top level has nothing but functions, other names for them, constants with a
//     string, a number, a boolean or null, and tables of those, and hands one of the
//     functions to the host. So it does nothing, and depends on nothing.
//   - The names of the functions are only called. A function is an object that could
//     keep something; nobody gets hold of it. Generators are left out: what they make
//     has the function's own prototype.
//   - The names of the constants are not assigned to, whatever they stand for there.
//   - Of the tables, only the entries are read, and by what cannot change a table.
//   - There is no eval, which sees the module scope, and neither the arguments of the
//     module's own function nor the function of the host is used.
//
// Everything else is either fresh in each call or frozen.
func stateless(tree *ast.Program) bool {
	module := moduleOf(tree)
	if module == nil {
		return false
	}
	m := &moduleScope{
		called: map[string]bool{}, constant: map[string]bool{}, table: map[string]bool{},
		fine: map[*ast.Identifier]bool{}, written: map[ast.Expression]bool{},
	}
	for _, s := range module.Body.List {
		if !m.statement(s) {
			return false
		}
	}
	w := &walker{scope: &scope{names: map[string]bool{}}, node: m.node}
	w.global = func(id *ast.Identifier) {
		switch id.Name.String() {
		case "eval", "arguments", hostName:
			m.unsure = m.unsure || !m.fine[id]
		}
	}
	m.global = func(name string) bool {
		return !w.scope.has(name) && !m.called[name] && !m.constant[name] && !m.table[name]
	}
	w.typeOf = w.global
	for _, s := range module.Body.List {
		w.walk(s)
	}
	return m.exported && !m.unsure
}

// moduleOf is the function that a bundle is, nil if it is something else.
func moduleOf(tree *ast.Program) *ast.FunctionLiteral {
	if len(tree.Body) != 1 {
		return nil
	}
	s, ok := tree.Body[0].(*ast.ExpressionStatement)
	if !ok {
		return nil
	}
	module, ok := s.Expression.(*ast.FunctionLiteral)
	if !ok || !strict(module.Body.List) {
		return nil
	}
	return module
}

// strict tells whether code begins with "use strict": otherwise a function can be had
// from its own arguments.
func strict(body []ast.Statement) bool {
	if len(body) == 0 {
		return false
	}
	s, ok := body[0].(*ast.ExpressionStatement)
	if !ok {
		return false
	}
	directive, ok := s.Expression.(*ast.StringLiteral)
	return ok && directive.Value == "use strict"
}

// moduleScope is what is known of a top level.
type moduleScope struct {
	called   map[string]bool // functions
	constant map[string]bool
	table    map[string]bool
	fine     map[*ast.Identifier]bool // uses
	written  map[ast.Expression]bool  // what is assigned to
	global   func(name string) bool   // nothing of that name is declared where the walk is
	exported bool
	unsure   bool
}

// statement takes a statement of the top level and tells whether it is one that does
// nothing.
func (m *moduleScope) statement(s ast.Statement) bool {
	switch s := s.(type) {
	case *ast.EmptyStatement:
		return true
	case *ast.FunctionDeclaration:
		return m.function(s.Function.Name, s.Function)
	case *ast.VariableStatement:
		return m.bindings(s.List)
	case *ast.LexicalDeclaration:
		return m.bindings(s.List)
	case *ast.ExpressionStatement:
		if _, directive := s.Expression.(*ast.StringLiteral); directive {
			return true
		}
		return m.export(s.Expression)
	}
	return false
}

func (m *moduleScope) function(name *ast.Identifier, f ast.Expression) bool {
	switch f := f.(type) {
	case *ast.FunctionLiteral:
		if f.Generator {
			return false
		}
		if f.Name != nil { // in itself, it goes by this one too
			m.called[f.Name.Name.String()] = true
		}
	case *ast.ArrowFunctionLiteral:
	default:
		return false
	}
	if name != nil {
		m.called[name.Name.String()] = true
	}
	return true
}

func (m *moduleScope) bindings(list []*ast.Binding) bool {
	for _, b := range list {
		name, ok := b.Target.(*ast.Identifier)
		if !ok {
			return false
		}
		switch value := b.Initializer.(type) {
		case *ast.Identifier: // another name, as `export default transform` makes it
			if !m.called[value.Name.String()] {
				return false
			}
			m.called[name.Name.String()], m.fine[value] = true, true
		default:
			switch {
			case isConstant(value):
				m.constant[name.Name.String()] = true
			case isTable(value):
				m.table[name.Name.String()] = true
			case !m.function(name, value):
				return false
			}
		}
		m.fine[name] = true // the walk comes by the declaration
	}
	return true
}

func isConstant(e ast.Expression) bool {
	switch e := e.(type) {
	case *ast.StringLiteral, *ast.NumberLiteral, *ast.BooleanLiteral, *ast.NullLiteral:
		return true
	case *ast.UnaryExpression:
		return e.Operator == token.MINUS && isConstant(e.Operand)
	}
	return false
}

// isTable tells whether e is an object or an array of constants. What is deeper would
// be handed out as it is looked at.
func isTable(e ast.Expression) bool {
	switch e := e.(type) {
	case *ast.ObjectLiteral:
		for _, p := range e.Value {
			p, ok := p.(*ast.PropertyKeyed)
			if !ok || p.Computed || p.Kind != ast.PropertyKindValue || !isConstant(p.Value) {
				return false
			}
		}
		return true
	case *ast.ArrayLiteral:
		return !slices.ContainsFunc(e.Value, func(v ast.Expression) bool { return !isConstant(v) })
	}
	return false
}

// export takes the one call of the top level: it hands over a function.
func (m *moduleScope) export(e ast.Expression) bool {
	call, ok := e.(*ast.CallExpression)
	if !ok || m.exported || len(call.ArgumentList) != 1 {
		return false
	}
	host, ok := call.Callee.(*ast.Identifier)
	if !ok || host.Name.String() != hostName {
		return false
	}
	m.exported, m.fine[host] = true, true
	if f, ok := call.ArgumentList[0].(*ast.Identifier); ok {
		m.fine[f] = true
		return m.called[f.Name.String()]
	}
	return m.function(nil, call.ArgumentList[0])
}

// node looks at each node before what is in it.
func (m *moduleScope) node(n ast.Node) {
	switch n := n.(type) {
	case *ast.CallExpression:
		m.call(n)
	case *ast.TemplateLiteral:
		m.unsure = m.unsure || m.entryOf(n.Tag) != nil // it would be called, with the table as this
	case *ast.DotExpression:
		m.entry(n)
	case *ast.BracketExpression:
		m.entry(n)
	case *ast.BinaryExpression:
		if n.Operator == token.IN {
			m.read(n.Right)
		}
	case *ast.SpreadElement:
		m.read(n.Expression)
	case *ast.Identifier:
		name := n.Name.String()
		m.unsure = m.unsure || (m.called[name] || m.table[name]) && !m.fine[n]
	case *ast.PropertyShort:
		name := n.Name.Name.String()
		m.unsure = m.unsure || m.called[name] || m.table[name]
	case *ast.AssignExpression:
		m.assigned(n.Left)
	case *ast.UnaryExpression:
		switch n.Operator {
		case token.INCREMENT, token.DECREMENT, token.DELETE:
			m.assigned(n.Operand)
		}
	case *ast.ForInStatement:
		m.read(n.Source)
		m.each(n.Into)
	case *ast.ForOfStatement:
		m.read(n.Source)
		m.each(n.Into)
	}
}

// Methods of arrays, and functions of Object, that change nothing and hand the table
// to nobody.
var (
	readers   = []string{"at", "hasOwnProperty", "includes", "indexOf", "join", "lastIndexOf"}
	ofEntries = []string{"entries", "hasOwn", "keys", "values"}
)

func (m *moduleScope) call(n *ast.CallExpression) {
	if id, ok := n.Callee.(*ast.Identifier); ok && id.Name.String() != hostName && id.Name.String() != "eval" {
		m.fine[id] = m.fine[id] || !m.table[id.Name.String()]
	}
	dot, ok := n.Callee.(*ast.DotExpression)
	if !ok {
		// A method by a name that nobody knows.
		m.unsure = m.unsure || m.entryOf(n.Callee) != nil
		return
	}
	if m.entryOf(dot) != nil {
		m.unsure = m.unsure || !slices.Contains(readers, dot.Identifier.Name.String())
	}
	object, ok := dot.Left.(*ast.Identifier)
	if ok && object.Name == "Object" && m.global("Object") && slices.Contains(ofEntries, dot.Identifier.Name.String()) && len(n.ArgumentList) > 0 {
		m.read(n.ArgumentList[0])
	}
}

// entryOf is the table of which e is an entry, or nil.
func (m *moduleScope) entryOf(e ast.Expression) (table *ast.Identifier) {
	switch of := e.(type) {
	case *ast.DotExpression:
		table, _ = of.Left.(*ast.Identifier)
	case *ast.BracketExpression:
		table, _ = of.Left.(*ast.Identifier)
	case *ast.Optional:
		return m.entryOf(of.Expression)
	case *ast.OptionalChain:
		return m.entryOf(of.Expression)
	}
	if table == nil || !m.table[table.Name.String()] {
		return nil
	}
	return table
}

// entry takes an entry of whatever; it is fine to read one.
func (m *moduleScope) entry(e ast.Expression) {
	if table := m.entryOf(e); table != nil && !m.written[e] {
		m.fine[table] = true
	}
}

// read takes what is read, and no more, by what is around it.
func (m *moduleScope) read(e ast.Expression) {
	if table, ok := e.(*ast.Identifier); ok && m.table[table.Name.String()] {
		m.fine[table] = true
	}
}

func (m *moduleScope) each(into ast.ForInto) {
	switch into := into.(type) {
	case *ast.ForIntoExpression:
		m.assigned(into.Expression)
	case *ast.ForIntoVar:
		m.assigned(into.Binding)
	}
}

// assigned takes what is assigned to: a name or a pattern.
func (m *moduleScope) assigned(target ast.Expression) {
	w := &walker{scope: &scope{names: map[string]bool{}}}
	w.declare(target)
	for name := range w.scope.names {
		m.unsure = m.unsure || m.constant[name] || m.called[name] || m.table[name]
	}
	m.write(target)
}

// write notes what is assigned to that is no name.
func (m *moduleScope) write(target ast.Expression) {
	switch t := target.(type) {
	case *ast.DotExpression, *ast.BracketExpression:
		m.written[t] = true
	case *ast.Optional:
		m.write(t.Expression)
	case *ast.OptionalChain:
		m.write(t.Expression)
	case *ast.Binding:
		m.write(t.Target)
	case *ast.AssignExpression: // with a default
		m.write(t.Left)
	case *ast.ArrayPattern:
		for _, e := range t.Elements {
			m.write(e)
		}
		m.write(t.Rest)
	case *ast.ObjectPattern:
		for _, p := range t.Properties {
			if p, ok := p.(*ast.PropertyKeyed); ok {
				m.write(p.Value)
			}
		}
		m.write(t.Rest)
	}
}
