package transforms

import (
	"fmt"
	"slices"
	"strings"
	"sync"

	"github.com/dop251/goja"
	"github.com/dop251/goja/ast"
	"github.com/dop251/goja/file"

	pb "github.com/hookline/hookline/transforms/transformpb"
)

// maxFindings is how many are told of a script: more are one mistake, or a package
// that scripts cannot use.
const maxFindings = 30

// lint looks for what the script engine lacks or silently gets wrong, and what
// would only be noticed by the event that comes to it. In the user's own files that
// is a problem, in packages a warning: most hold code that no script calls.
func lint(name string, source []byte) (problems, warnings []*pb.Problem) {
	p, tree, problems := parse(name, source)
	if len(problems) > 0 {
		return problems, nil
	}
	l := &linter{program: p, file: tree.File, guarded: map[[2]string]bool{}, called: map[*ast.DotExpression]bool{}, told: map[[2]string]bool{}, scratch: goja.New()}
	w := &walker{global: l.global, typeOf: l.guard, node: l.node}
	l.names = w
	w.program(tree)
	return l.results()
}

// finding is something that a script should not do.
type finding struct {
	at   place
	name string // what it needs; a look whether it exists, in the same file, makes it good
	text string
	mild bool // a warning in the user's own files too
}

type linter struct {
	program  *program
	file     *file.File
	names    *walker
	scratch  *goja.Runtime // to ask what exists
	findings []finding
	guarded  map[[2]string]bool // file, name
	called   map[*ast.DotExpression]bool
	told     map[[2]string]bool // file, text
}

// results sorts the findings out.
func (l *linter) results() (problems, warnings []*pb.Problem) {
	slices.SortStableFunc(l.findings, func(a, b finding) int {
		if c := strings.Compare(a.at.file, b.at.file); c != 0 {
			return c
		}
		if a.at.line != b.at.line {
			return a.at.line - b.at.line
		}
		return a.at.column - b.at.column
	})
	told := map[string]bool{}
	for i, f := range l.findings {
		foreign := inPackage(f.at.file)
		key := f.at.file + "\x00" + f.text
		if f.name != "" && l.guarded[[2]string{f.at.file, f.name}] || foreign && told[key] || i > 0 && f == l.findings[i-1] {
			continue
		}
		told[key] = true
		if foreign || f.mild {
			warnings = append(warnings, l.program.problem(f.at, f.text))
		} else {
			problems = append(problems, l.program.problem(f.at, f.text))
		}
	}
	return capped(problems), capped(warnings)
}

func capped(found []*pb.Problem) []*pb.Problem {
	if more := len(found) - maxFindings; more > 0 {
		found = append(found[:maxFindings], &pb.Problem{Text: fmt.Sprintf("and %d more like these", more)})
	}
	return found
}

// inPackage tells files that are not the user's own.
func inPackage(file string) bool {
	return strings.HasPrefix(file, "node_modules/") || strings.Contains(file, "/node_modules/")
}

func (l *linter) place(at file.Idx) place {
	return l.program.place(l.file.Position(int(at) - l.file.Base()))
}

func (l *linter) found(at file.Idx, name, text string) {
	if p := l.place(at); p != (place{}) {
		l.findings = append(l.findings, finding{at: p, name: name, text: text})
	}
}

// guard notes that a file asks whether something exists before it uses it.
func (l *linter) guard(id *ast.Identifier) {
	l.guarding(id.Idx, id.Name.String())
	// Old packages try the global object's names one after the other.
	if ways := []string{"globalThis", "window", "self", "global"}; slices.Contains(ways, id.Name.String()) {
		for _, name := range ways {
			l.guarding(id.Idx, name)
		}
	}
}

func (l *linter) guarding(at file.Idx, name string) {
	if p := l.place(at); p != (place{}) {
		l.guarded[[2]string{p.file, name}] = true
	}
}

// globals are the names that every script has.
var globals = sync.OnceValue(func() map[string]bool {
	names := map[string]bool{"console": true}
	for _, name := range goja.New().GlobalObject().GetOwnPropertyNames() {
		names[name] = true
	}
	delete(names, "GoError") // taken away by the sandbox
	return names
})

func (l *linter) global(id *ast.Identifier) {
	name := id.Name.String()
	if globals()[name] {
		return
	}
	if advice, ok := lacks[name]; ok {
		l.found(id.Idx, name, fmt.Sprintf("%s does not exist here: %s", name, advice))
		return
	}
	l.undeclared(id)
}

// undeclared tells of a name once a file: it is one mistake.
func (l *linter) undeclared(id *ast.Identifier) {
	text := fmt.Sprintf("nothing is called %s here: declare it, import it, or mend its name", id.Name)
	if p := l.place(id.Idx); !l.told[[2]string{p.file, text}] {
		l.told[[2]string{p.file, text}] = true
		l.found(id.Idx, id.Name.String(), text)
	}
}

// isGlobal tells whether e is a built-in object by its name.
func (l *linter) isGlobal(e ast.Expression) (string, bool) {
	id, ok := e.(*ast.Identifier)
	if !ok || l.names.scope.has(id.Name.String()) || !globals()[id.Name.String()] {
		return "", false
	}
	return id.Name.String(), true
}

func (l *linter) node(n ast.Node) {
	switch n := n.(type) {
	case *ast.RegExpLiteral:
		l.pattern(n.Idx, n.Pattern, n.Flags)
	case *ast.NewExpression:
		l.call(n.Callee, n.ArgumentList)
	case *ast.CallExpression:
		l.call(n.Callee, n.ArgumentList)
	case *ast.DotExpression:
		l.member(n)
	}
}

// call looks at what is called.
func (l *linter) call(callee ast.Expression, args []ast.Expression) {
	switch c := callee.(type) {
	case *ast.Identifier:
		if name, ok := l.isGlobal(c); ok && name == "RegExp" {
			l.made(c.Idx, args)
		}
		if c.Name == "__require" && l.names.scope.has("__require") { // esbuild's, for what it cannot see through
			l.required(c.Idx, args)
		}
	case *ast.DotExpression:
		l.called[c] = true
		l.localized(c, args)
	}
}

// required looks at an import that is not part of the bundle.
func (l *linter) required(at file.Idx, args []ast.Expression) {
	text := "what is imported here is not known before it runs: import a file or package by its name"
	if len(args) > 0 {
		if name, ok := constant(args[0]); ok {
			text = missing(name)
		}
	}
	l.found(at, "require", text)
}

// member looks at what is taken from a built-in object that it does not have.
func (l *linter) member(d *ast.DotExpression) {
	owner, ok := l.isGlobal(d.Left)
	if !ok {
		return
	}
	name := d.Identifier.Name.String()
	o, ok := l.scratch.Get(owner).(*goja.Object)
	if !ok || o.Get(name) != nil {
		return
	}
	full := owner + "." + name
	if !l.called[d] && owner != "Symbol" {
		l.guarding(d.Identifier.Idx, full) // undefined is what it asks for
		return
	}
	advice, known := lacksStatic[full]
	if owner == "globalThis" {
		advice, known = lacks[name]
	}
	text := full + " does not exist here"
	if known {
		text += ": " + advice
	}
	l.found(d.Identifier.Idx, full, text)
}

// localized looks at methods that ignore in which language they are to work, or
// fail on it: there is no Intl behind them.
func (l *linter) localized(d *ast.DotExpression, args []ast.Expression) {
	name := d.Identifier.Name.String()
	most := 0
	switch name {
	case "toLocaleString", "toLocaleDateString", "toLocaleTimeString", "toLocaleUpperCase", "toLocaleLowerCase":
	case "localeCompare":
		most = 1
	default:
		return
	}
	if len(args) > most {
		advice := map[string]string{
			"toLocaleUpperCase": "leave it out", "toLocaleLowerCase": "leave it out",
			"localeCompare": "leave them out; the order is that of Unicode's collation",
		}[name]
		if advice == "" {
			advice = useLocale
		}
		l.found(d.Identifier.Idx, "", fmt.Sprintf("%s does not know languages and options: %s", name, advice))
	}
}

// made looks at RegExp(text, flags).
func (l *linter) made(at file.Idx, args []ast.Expression) {
	if len(args) == 0 {
		return
	}
	pattern, ok := constant(args[0])
	flags := ""
	if ok && len(args) > 1 {
		flags, ok = constant(args[1])
	}
	if ok {
		l.pattern(at, pattern, flags)
	}
}

// constant is the text that an expression always has.
func constant(e ast.Expression) (string, bool) {
	switch e := e.(type) {
	case *ast.StringLiteral:
		return e.Value.String(), true
	case *ast.TemplateLiteral:
		if len(e.Elements) != 1 {
			return "", false
		}
		if e.Tag == nil {
			return e.Elements[0].Parsed.String(), true
		}
		if d, ok := e.Tag.(*ast.DotExpression); ok && d.Identifier.Name == "raw" {
			return e.Elements[0].Literal, true
		}
	}
	return "", false
}

func (l *linter) pattern(at file.Idx, pattern, flags string) {
	problems, warnings := patternProblems(l.scratch, pattern, flags)
	for _, text := range problems {
		l.found(at, "", text)
	}
	for _, text := range warnings {
		if p := l.place(at); p != (place{}) && !inPackage(p.file) {
			l.findings = append(l.findings, finding{at: p, text: text, mild: true})
		}
	}
}
