package transforms

import (
	"reflect"

	"github.com/dop251/goja/ast"
	"github.com/dop251/goja/token"
)

// scope holds the names that a piece of code declares.
type scope struct {
	names map[string]bool
	outer *scope
}

func (s *scope) has(name string) bool {
	for ; s != nil; s = s.outer {
		if s.names[name] {
			return true
		}
	}
	return false
}

// walker goes through a program with its scopes.
type walker struct {
	scope *scope
	// global is called for every use of a name that the program does not declare,
	// and node for every node before what is in it.
	global func(*ast.Identifier)
	node   func(ast.Node)
	typeOf func(*ast.Identifier) // of a name that the program does not declare
}

func (w *walker) program(p *ast.Program) {
	w.in(func() {
		w.vars(p.DeclarationList)
		w.statements(p.Body)
	})
}

// in walks what f walks in a scope of its own.
func (w *walker) in(f func()) {
	w.scope = &scope{names: map[string]bool{}, outer: w.scope}
	f()
	w.scope = w.scope.outer
}

func (w *walker) vars(list []*ast.VariableDeclaration) {
	for _, d := range list {
		w.bindings(d.List)
	}
}

func (w *walker) bindings(list []*ast.Binding) {
	for _, b := range list {
		w.declare(b.Target)
	}
}

// declare adds the names of a binding, which may be a pattern.
func (w *walker) declare(target ast.Expression) {
	switch t := target.(type) {
	case *ast.Identifier:
		w.scope.names[t.Name.String()] = true
	case *ast.Binding:
		w.declare(t.Target)
	case *ast.AssignExpression: // with a default
		w.declare(t.Left)
	case *ast.ArrayPattern:
		for _, e := range t.Elements {
			w.declare(e)
		}
		w.declare(t.Rest)
	case *ast.ObjectPattern:
		for _, p := range t.Properties {
			switch p := p.(type) {
			case *ast.PropertyShort:
				w.scope.names[p.Name.Name.String()] = true
			case *ast.PropertyKeyed:
				w.declare(p.Value)
			}
		}
		w.declare(t.Rest)
	}
}

// statements walks a list whose declarations count in all of it.
func (w *walker) statements(list []ast.Statement) {
	for _, s := range list {
		switch s := s.(type) {
		case *ast.LexicalDeclaration:
			w.bindings(s.List)
		case *ast.FunctionDeclaration:
			w.name(s.Function.Name)
		case *ast.ClassDeclaration:
			w.name(s.Class.Name)
		}
	}
	for _, s := range list {
		w.walk(s)
	}
}

func (w *walker) name(n *ast.Identifier) {
	if n != nil {
		w.scope.names[n.Name.String()] = true
	}
}

func (w *walker) function(name *ast.Identifier, list *ast.ParameterList, vars []*ast.VariableDeclaration, body ast.Node) {
	w.in(func() {
		w.name(name)
		w.bindings(list.List)
		w.declare(list.Rest)
		w.vars(vars)
		w.children(list)
		w.walk(body)
	})
}

// walk visits a node and all in it.
func (w *walker) walk(n ast.Node) {
	if n == nil || reflect.ValueOf(n).IsNil() {
		return
	}
	if w.node != nil {
		w.node(n)
	}
	switch n := n.(type) {
	case *ast.Identifier:
		if !w.scope.has(n.Name.String()) {
			w.global(n)
		}
	case *ast.UnaryExpression:
		if id, ok := n.Operand.(*ast.Identifier); ok && n.Operator == token.TYPEOF {
			if !w.scope.has(id.Name.String()) {
				w.typeOf(id)
			}
			return
		}
		w.walk(n.Operand)
	case *ast.FunctionLiteral:
		w.in(func() {
			w.scope.names["arguments"] = true
			w.function(n.Name, n.ParameterList, n.DeclarationList, n.Body)
		})
	case *ast.ArrowFunctionLiteral:
		w.function(nil, n.ParameterList, n.DeclarationList, n.Body)
	case *ast.ClassLiteral:
		w.in(func() {
			w.name(n.Name)
			w.walk(n.SuperClass)
			for _, e := range n.Body {
				w.walk(e)
			}
		})
	case *ast.ClassStaticBlock:
		w.in(func() {
			w.vars(n.DeclarationList)
			w.walk(n.Block)
		})
	case *ast.MethodDefinition:
		w.key(n.Key, n.Computed)
		w.walk(n.Body)
	case *ast.FieldDefinition:
		w.key(n.Key, n.Computed)
		w.walk(n.Initializer)
	case *ast.PropertyKeyed:
		w.key(n.Key, n.Computed)
		w.walk(n.Value)
	case *ast.PropertyShort:
		w.walk(&n.Name)
		w.walk(n.Initializer)
	case *ast.BlockStatement:
		w.in(func() { w.statements(n.List) })
	case *ast.SwitchStatement:
		w.walk(n.Discriminant)
		w.in(func() {
			var all []ast.Statement
			for _, c := range n.Body {
				w.walk(c.Test)
				all = append(all, c.Consequent...)
			}
			w.statements(all)
		})
	case *ast.ForStatement:
		w.in(func() {
			if l, ok := n.Initializer.(*ast.ForLoopInitializerLexicalDecl); ok {
				w.bindings(l.LexicalDeclaration.List)
			}
			w.children(n)
		})
	case *ast.ForInStatement:
		w.forEach(n.Into, n)
	case *ast.ForOfStatement:
		w.forEach(n.Into, n)
	case *ast.CatchStatement:
		w.in(func() {
			w.declare(n.Parameter)
			w.children(n)
		})
	case *ast.BranchStatement, *ast.MetaProperty:
	case *ast.LabelledStatement:
		w.walk(n.Statement)
	default:
		w.children(n)
	}
}

func (w *walker) key(key ast.Expression, computed bool) {
	if computed {
		w.walk(key)
	}
}

func (w *walker) forEach(into ast.ForInto, n ast.Node) {
	w.in(func() {
		if d, ok := into.(*ast.ForDeclaration); ok {
			w.declare(d.Target)
		}
		w.children(n)
	})
}

// children walks the fields of a node that has no scope of its own. An identifier
// that stands in a node by value is the name of a member, not a use.
func (w *walker) children(n ast.Node) {
	v := reflect.ValueOf(n).Elem()
	for i := range v.NumField() {
		w.field(v.Field(i))
	}
}

func (w *walker) field(v reflect.Value) {
	switch v.Kind() {
	case reflect.Interface, reflect.Pointer:
		if n, ok := v.Interface().(ast.Node); ok && !v.IsNil() {
			w.walk(n)
		}
	case reflect.Slice:
		for i := range v.Len() {
			w.field(v.Index(i))
		}
	case reflect.Struct: // a declaration in a for
		if n, ok := v.Addr().Interface().(ast.Node); ok {
			if _, name := n.(*ast.Identifier); !name {
				w.walk(n)
			}
		}
	}
}
