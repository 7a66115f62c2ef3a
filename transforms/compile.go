package transforms

import (
	"errors"

	"github.com/dop251/goja"
	"github.com/dop251/goja/ast"
	"github.com/dop251/goja/file"
	"github.com/dop251/goja/parser"

	pb "github.com/hookline/hookline/transforms/transformpb"
)

// program is a compiled script. It is immutable and shared by all its sandboxes.
type program struct {
	name  string
	code  *goja.Program
	kept  *kept             // until it is loaded
	names map[string]string // of files: as the engine writes them -> as the user knows them
	idle  chan *sandbox
	// stateless: the top level can be evaluated once for all events.
	stateless bool
	literals  []*literal // that its function returns

	given *given // set before its first run
	tests bool   // it is a file of tests; set before its first run
}

// compile turns what is kept of a script into a program, or says what is wrong with
// it. It does not touch the disk.
func compile(name string, source []byte, idle int) (*program, []*pb.Problem) {
	if !isKept(source) {
		var problems []*pb.Problem
		if source, problems = bundleText(name, source); len(problems) > 0 {
			return nil, problems
		}
	}
	p, tree, problems := parse(name, source)
	if len(problems) > 0 {
		return nil, problems
	}
	p.idle, p.stateless = make(chan *sandbox, idle), stateless(tree)
	p.literals = literals(tree)
	var err error
	if p.code, err = goja.CompileAST(tree, false); err != nil {
		return nil, p.refused(err)
	}
	return p, nil
}

// parse reads a bundle. Every position in the tree is the user's.
func parse(name string, source []byte) (*program, *ast.Program, []*pb.Problem) {
	p := &program{name: name, given: &given{}}
	var err error
	if p.kept, err = openKept(source); err != nil {
		return nil, nil, []*pb.Problem{{Text: err.Error()}}
	}
	maps, names, err := p.kept.consumer()
	if err != nil {
		return nil, nil, []*pb.Problem{{Text: "its source map cannot be read: " + err.Error()}}
	}
	p.names = names
	// The engine's own way to a source map would open files that a comment names.
	tree, err := parser.ParseFile(nil, codeName, p.kept.code, 0, parser.WithDisableSourceMaps)
	if err != nil {
		// The parser knew no map yet.
		return nil, nil, p.refusedAt(err, func(at file.Position) file.Position {
			if source, _, line, column, ok := maps.Source(at.Line, at.Column); ok {
				return file.Position{Filename: written(source), Line: line, Column: column}
			}
			return at
		})
	}
	tree.File.SetSourceMap(maps)
	return p, tree, nil
}

// refused says what the script engine does not take of esbuild's output.
func (p *program) refused(err error) []*pb.Problem {
	return p.refusedAt(err, func(at file.Position) file.Position { return at })
}

func (p *program) refusedAt(err error, original func(file.Position) file.Position) (problems []*pb.Problem) {
	const why = "the script engine does not take this: "
	var list parser.ErrorList
	var syntax *goja.CompilerSyntaxError
	switch {
	case errors.As(err, &list):
		for _, e := range list {
			problems = append(problems, p.problem(p.place(original(e.Position)), why+e.Message))
		}
	case errors.As(err, &syntax) && syntax.File != nil:
		problems = append(problems, p.problem(p.place(original(syntax.File.Position(syntax.Offset))), why+syntax.Message))
	}
	if len(problems) == 0 {
		problems = append(problems, &pb.Problem{Text: why + err.Error()})
	}
	return problems
}

// problem is a problem at a place of the user's files, with its line.
func (p *program) problem(at place, text string) *pb.Problem {
	problem := &pb.Problem{Text: text, File: at.file, Line: int32(at.line), Column: int32(at.column)}
	if at.line > 0 {
		problem.LineText = lineOf(p.kept.content(at.file), at.line)
	}
	return problem
}
