package transforms

import (
	"github.com/dop251/goja/ast"
	"github.com/dop251/goja/token"
)

// hostName is what a bundle calls the function that collects its default export.
const hostName = "__hookline"

// stateless tells whether no run of a bundle can leave anything in its module scope
// for the next one, so that one evaluation of it is as good as one for each event.
// It says so only of what is plain to see:
//
//   - The top level has nothing but functions and constants with a string, a number,
//     a boolean or null, and hands one of the functions to the host. So it does
//     nothing, and depends on nothing.
//   - The names of the functions are only called. A function is an object that could
//     keep something; nobody gets hold of it. Generators are left out: what they make
//     has the function's own prototype.
//   - The names of the constants are not assigned to, whatever they stand for there.
//   - There is no eval, which sees the module scope, and neither the arguments of the
//     module's own function nor the function of the host is used.
//
// Everything else is either fresh in each call or frozen.
func stateless(tree *ast.Program) bool {
	module := moduleOf(tree)
	if module == nil {
		return false
	}
	m := &moduleScope{called: map[string]bool{}, constant: map[string]bool{}, callee: map[*ast.Identifier]bool{}}
	for _, s := range module.Body.List {
		if !m.statement(s) {
			return false
		}
	}
	w := &walker{scope: &scope{names: map[string]bool{}}, node: m.node}
	w.global = func(id *ast.Identifier) {
		switch id.Name.String() {
		case "eval", "arguments", hostName:
			m.unsure = m.unsure || !m.callee[id]
		}
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
	callee   map[*ast.Identifier]bool // uses that are fine
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
		switch b.Initializer.(type) {
		case *ast.StringLiteral, *ast.NumberLiteral, *ast.BooleanLiteral, *ast.NullLiteral:
			m.constant[name.Name.String()] = true
		default:
			if !m.function(name, b.Initializer) {
				return false
			}
		}
		m.callee[name] = true // the walk comes by the declaration
	}
	return true
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
	m.exported, m.callee[host] = true, true
	if f, ok := call.ArgumentList[0].(*ast.Identifier); ok {
		m.callee[f] = true
		return m.called[f.Name.String()]
	}
	return m.function(nil, call.ArgumentList[0])
}

// node looks at each node before what is in it.
func (m *moduleScope) node(n ast.Node) {
	switch n := n.(type) {
	case *ast.CallExpression:
		if id, ok := n.Callee.(*ast.Identifier); ok && id.Name.String() != hostName && id.Name.String() != "eval" {
			m.callee[id] = true
		}
	case *ast.Identifier:
		m.unsure = m.unsure || m.called[n.Name.String()] && !m.callee[n]
	case *ast.PropertyShort:
		m.unsure = m.unsure || m.called[n.Name.Name.String()]
	case *ast.AssignExpression:
		m.assigned(n.Left)
	case *ast.UnaryExpression:
		if n.Operator == token.INCREMENT || n.Operator == token.DECREMENT {
			m.assigned(n.Operand)
		}
	case *ast.ForInStatement:
		m.each(n.Into)
	case *ast.ForOfStatement:
		m.each(n.Into)
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
		m.unsure = m.unsure || m.constant[name] || m.called[name]
	}
}
