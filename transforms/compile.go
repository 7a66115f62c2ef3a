package transforms

import (
	"errors"
	"regexp"
	"strings"
	"unicode/utf8"

	"github.com/dop251/goja"
	"github.com/dop251/goja/file"
	"github.com/dop251/goja/parser"
	"github.com/evanw/esbuild/pkg/api"
	"github.com/go-sourcemap/sourcemap"

	pb "github.com/hookline/hookline/transforms/transformpb"
)

// program is a compiled script. It is immutable and shared by all its sandboxes.
type program struct {
	name string
	code *goja.Program
	maps *sourcemap.Consumer
	idle chan *sandbox

	given *given // set before its first run
}

const (
	namespace = "script" // of the user's file in esbuild; keeps it off the disk
	// entry hands the default export to the host. Bundling it with the script
	// gives flat code without a module loader, which would cost more per event
	// than most scripts do.
	entry  = `import script from "script"; __hookline(script)`
	banner = `(function (__hookline) { "use strict";`
	footer = `})`
)

// lacking is what esbuild must lower or refuse because goja does not know it.
var lacking = map[string]bool{
	"async-generator": false, "for-await": false, "top-level-await": false,
	"import-meta": false, "dynamic-import": false, "using": false, "decorators": false,
}

// compile turns a script into a program, or says what is wrong with it.
func compile(name string, source []byte, idle int) (*program, []*pb.Problem) {
	code, sourceMap, problems := bundle(name, string(source))
	if len(problems) > 0 {
		return nil, problems
	}
	p := &program{name: name, idle: make(chan *sandbox, idle)}
	var err error
	if p.maps, err = sourcemap.Parse("", sourceMap); err != nil {
		return nil, []*pb.Problem{{Text: "its source map cannot be read: " + err.Error()}}
	}
	// goja's own use of source maps is off by a column, and it would open files
	// that a comment in the script names.
	tree, err := goja.Parse(name, code, parser.WithDisableSourceMaps)
	if err == nil {
		p.code, err = goja.CompileAST(tree, false)
	}
	if err != nil {
		return nil, p.refused(err, source)
	}
	return p, nil
}

// bundle lets esbuild check the script and lower it to what goja runs.
func bundle(name, source string) (code string, sourceMap []byte, problems []*pb.Problem) {
	result := api.Build(api.BuildOptions{
		Stdin:  &api.StdinOptions{Contents: entry, Sourcefile: "hookline"},
		Bundle: true, Write: false, Outfile: "out.js", LogLevel: api.LogLevelSilent,
		Format: api.FormatESModule, Platform: api.PlatformNeutral, Target: api.ES2022, Supported: lacking,
		Sourcemap: api.SourceMapExternal, SourcesContent: api.SourcesContentExclude,
		TreeShaking: api.TreeShakingTrue, LegalComments: api.LegalCommentsNone,
		Banner: map[string]string{"js": banner}, Footer: map[string]string{"js": footer},
		TsconfigRaw: "{}", // or esbuild looks for one on the disk
		Plugins:     []api.Plugin{oneFile(name, source)},
	})
	for _, m := range result.Errors {
		problems = append(problems, problemOf(m))
	}
	for _, f := range result.OutputFiles {
		if strings.HasSuffix(f.Path, ".map") {
			sourceMap = f.Contents
		} else {
			code = string(f.Contents)
		}
	}
	return code, sourceMap, problems
}

// oneFile gives esbuild the script and nothing else.
func oneFile(name, source string) api.Plugin {
	return api.Plugin{Name: "hookline", Setup: func(b api.PluginBuild) {
		b.OnResolve(api.OnResolveOptions{Filter: ".*"}, func(a api.OnResolveArgs) (api.OnResolveResult, error) {
			if a.Namespace != namespace && a.Path == "script" {
				return api.OnResolveResult{Path: name, Namespace: namespace}, nil
			}
			return api.OnResolveResult{}, errors.New("imports are not supported yet: put everything into this file")
		})
		b.OnLoad(api.OnLoadOptions{Filter: ".*", Namespace: namespace}, func(api.OnLoadArgs) (api.OnLoadResult, error) {
			return api.OnLoadResult{Contents: &source, Loader: api.LoaderJS}, nil
		})
	}}
}

// environment is what esbuild says of the target, which users do not choose.
var environment = regexp.MustCompile(` in the configured target environment \(.*\)`)

func problemOf(m api.Message) *pb.Problem {
	l := m.Location
	text := environment.ReplaceAllString(m.Text, "")
	if l == nil || !strings.HasPrefix(l.File, namespace+":") {
		// The entry is ours: there is only one thing that can be wrong with it.
		if strings.HasPrefix(m.Text, "No matching export") {
			return &pb.Problem{Text: "it has no default export: write `export default function (event, ctx) { ... }`"}
		}
		return &pb.Problem{Text: text}
	}
	line := strings.ToValidUTF8(l.LineText, "?")
	return &pb.Problem{
		Line:   int32(l.Line),
		Column: int32(utf8.RuneCountInString(l.LineText[:min(l.Column, len(l.LineText))]) + 1),
		Text:   text, LineText: line,
	}
}

// refused says what goja does not take of esbuild's output.
func (p *program) refused(err error, source []byte) []*pb.Problem {
	var list parser.ErrorList
	var syntax *goja.CompilerSyntaxError
	problem := &pb.Problem{Text: err.Error()}
	var at file.Position
	switch {
	case errors.As(err, &list) && len(list) > 0:
		problem.Text, at = list[0].Message, list[0].Position
	case errors.As(err, &syntax) && syntax.File != nil:
		problem.Text, at = syntax.Message, syntax.File.Position(syntax.Offset)
	}
	problem.Text = "the script engine does not take this: " + problem.Text
	locate(problem, p.original(at), source)
	return []*pb.Problem{problem}
}

// locate adds a place and its line to a problem.
func locate(problem *pb.Problem, at place, source []byte) {
	if at == (place{}) {
		return
	}
	problem.Line, problem.Column = int32(at.line), int32(at.column)
	if lines := strings.Split(string(source), "\n"); at.line <= len(lines) {
		problem.LineText = strings.ToValidUTF8(strings.TrimSuffix(lines[at.line-1], "\r"), "?")
	}
}
