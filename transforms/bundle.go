package transforms

import (
	"context"
	"encoding/json"
	"fmt"
	"net/url"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"

	"github.com/evanw/esbuild/pkg/api"

	pb "github.com/hookline/hookline/transforms/transformpb"
)

const (
	// entryFile is a file of ours that hands the script's default export to the
	// host. Bundling it with the script gives flat code without a module loader,
	// which would cost more per event than most scripts do.
	entryFile = "hookline:entry"
	// The call has a line of its own: its column is in the source map, and so in the
	// hash, which must not tell how long the paths are.
	entry     = "import script from %s;\n__hookline(script)"
	mainEntry = "import %s; import main from %s;\n__hookline(main)"
	banner    = "\n" + `(function (__hookline) { "use strict";`
	footer    = `})`

	// ownText is where the text of a script comes from that is not on the disk, and
	// ownModule that of a module.
	ownText   = "script"
	ownModule = "module"
)

// lacking is what esbuild must lower or refuse because goja does not know it.
var lacking = map[string]bool{
	"async-generator": false, "for-await": false, "top-level-await": false,
	"import-meta": false, "dynamic-import": false, "using": false, "decorators": false,
	// As a call of RegExp they get past goja's parser, and the lint can tell of all.
	"regexp-match-indices": false, "regexp-set-notation": false,
}

// bundler makes one text of a script and all that it imports.
type bundler struct {
	name string // of the script as the user knows it
	root string // the folder beyond which nothing is read; no symlinks in it
	path string // of the script, below root

	modules map[string]string // that are not on the disk

	mu     sync.Mutex // esbuild reads files concurrently
	inputs map[string]bool
	bytes  int
	alias  map[string]string // real path -> path by which it was imported
}

// Bundle reads a script from the disk.
func (s *server) Bundle(_ context.Context, req *pb.BundleRequest) (out *pb.BundleResponse, err error) {
	defer notPanic(&err)
	out = &pb.BundleResponse{}
	b, err := newBundler(req.GetName(), req.GetPath(), req.GetRoot())
	if err != nil {
		out.Problems = []*pb.Problem{{Text: err.Error()}}
		return out, nil
	}
	b.modules = req.GetModules()
	first := fmt.Sprintf(entry, strconv.Quote(filepath.ToSlash(b.path)))
	if main := req.GetMain(); main != "" {
		first = fmt.Sprintf(mainEntry, strconv.Quote(filepath.ToSlash(b.path)), strconv.Quote(main))
	}
	source, problems, warnings := b.build(b.options(first))
	if len(problems) == 0 {
		var lacks, mayLack []*pb.Problem
		if lacks, mayLack = lint(req.GetName(), source); len(lacks) > 0 {
			problems = lacks
		}
		warnings = append(warnings, mayLack...)
	}
	out.Problems, out.Warnings, out.Inputs = problems, warnings, b.files()
	if len(problems) == 0 {
		out.Source = source
	}
	return out, nil
}

// bundleText makes a bundle of a script's text alone: what was kept before there
// were bundles.
func bundleText(name string, source []byte) ([]byte, []*pb.Problem) {
	b := &bundler{name: name, root: string(filepath.Separator), inputs: map[string]bool{}}
	o := b.options(fmt.Sprintf(entry, strconv.Quote(ownText)))
	text := strings.TrimPrefix(string(source), string(utf8BOM))
	o.Plugins = []api.Plugin{{Name: "hookline", Setup: func(build api.PluginBuild) {
		build.OnResolve(api.OnResolveOptions{Filter: ".*"}, func(a api.OnResolveArgs) (api.OnResolveResult, error) {
			if a.Namespace != ownText && a.Path == ownText {
				return api.OnResolveResult{Path: name, Namespace: ownText}, nil
			}
			return api.OnResolveResult{}, fmt.Errorf("%q is not part of what was kept of this script", a.Path)
		})
		build.OnLoad(api.OnLoadOptions{Filter: ".*", Namespace: ownText}, func(api.OnLoadArgs) (api.OnLoadResult, error) {
			return api.OnLoadResult{Contents: &text, Loader: api.LoaderJS}, nil
		})
	}}}
	out, problems, _ := b.build(o)
	return out, problems
}

// options are esbuild's for a bundle that begins with the text of entryFile.
func (b *bundler) options(first string) api.BuildOptions {
	return api.BuildOptions{
		Stdin:  &api.StdinOptions{Contents: first, Sourcefile: entryFile, ResolveDir: b.root},
		Bundle: true, Write: false, Outfile: filepath.Join(b.root, "out.js"), AbsWorkingDir: b.root, LogLevel: api.LogLevelSilent,
		Format: api.FormatESModule, Platform: api.PlatformNeutral, Target: api.ES2022, Supported: lacking,
		MainFields: []string{"module", "main"}, Conditions: []string{"module"}, // "import", "require" and "default" are esbuild's
		ResolveExtensions: []string{".ts", ".mts", ".js", ".mjs", ".cjs", ".json"},
		Define:            map[string]string{"process.env.NODE_ENV": `"production"`}, // many packages ask
		Sourcemap:         api.SourceMapExternal, SourcesContent: api.SourcesContentInclude,
		TreeShaking: api.TreeShakingTrue, LegalComments: api.LegalCommentsNone,
		Banner: map[string]string{"js": head(b.name) + banner}, Footer: map[string]string{"js": footer},
		TsconfigRaw: "{}", // or esbuild looks for one on the disk
		LogLimit:    0,    // all problems at once
		Plugins:     []api.Plugin{{Name: "hookline", Setup: b.plugin}},
	}
}

// build runs esbuild.
func (b *bundler) build(o api.BuildOptions) (source []byte, problems, warnings []*pb.Problem) {
	result := api.Build(o)
	for _, m := range result.Errors {
		problems = append(problems, b.problem(m))
	}
	for _, m := range result.Warnings {
		warnings = append(warnings, b.problem(m))
	}
	if len(problems) > 0 {
		return nil, problems, warnings
	}
	k := &kept{name: b.name}
	for _, f := range result.OutputFiles {
		if !strings.HasSuffix(f.Path, ".map") {
			k.code = strings.TrimSuffix(string(f.Contents), "\n")
			continue
		}
		if err := json.Unmarshal(f.Contents, &k.maps); err != nil {
			return nil, []*pb.Problem{{Text: "its source map cannot be read: " + err.Error()}}, warnings
		}
	}
	for i, name := range k.maps.Sources {
		if plain, err := url.PathUnescape(name); err == nil { // a map has URLs
			name = plain
		}
		name = path.Clean(name)
		if k.maps.Sources[i] = b.known(name); name == entryFile {
			k.maps.SourcesContent[i] = "" // it names a path of this machine
		}
	}
	source, err := k.text()
	if err == nil && len(source) > maxSource {
		err = fmt.Errorf("with all that it imports it has %d bytes, the limit is %d: import less, or read tables with ctx.lookup", len(source), maxSource)
	}
	if err != nil {
		return nil, []*pb.Problem{{Text: err.Error()}}, warnings
	}
	return source, nil, warnings
}

// known is the name of a file, as esbuild writes it, as the user knows it.
func (b *bundler) known(name string) string {
	switch {
	case name == entryFile:
		return entryFile
	case strings.HasPrefix(name, ownModule+":"):
		return strings.TrimPrefix(name, ownModule+":")
	case strings.HasPrefix(name, ownText+":"):
		return b.name
	case strings.HasPrefix(name, "<"):
		return name
	}
	return b.shown(filepath.Join(b.root, filepath.FromSlash(name)))
}

// shown is the path of a file as the user knows it. What the script's name is
// relative to, all names are.
func (b *bundler) shown(file string) string {
	b.mu.Lock()
	defer b.mu.Unlock()
	if by, ok := b.alias[file]; ok {
		file = by
	}
	rel, err := filepath.Rel(filepath.Dir(b.path), file)
	if err != nil {
		return filepath.ToSlash(file)
	}
	return path.Join(path.Dir(filepath.ToSlash(b.name)), filepath.ToSlash(rel))
}

func (b *bundler) files() []string {
	b.mu.Lock()
	defer b.mu.Unlock()
	var files []string
	for name := range b.inputs {
		files = append(files, name)
	}
	slices.Sort(files)
	return files
}

var (
	// environment is what esbuild says of the target, which users do not choose.
	environment = regexp.MustCompile(` in the configured target environment \(.*\)`)
	unresolved  = regexp.MustCompile(`^Could not resolve "(.*)"$`)
)

// problem is what esbuild has found wrong.
func (b *bundler) problem(m api.Message) *pb.Problem {
	text := environment.ReplaceAllString(m.Text, "")
	if found := unresolved.FindStringSubmatch(text); found != nil {
		text = missing(found[1])
	}
	if strings.HasPrefix(text, "Top-level await") {
		text += ": await inside of the function"
	}
	l := m.Location
	if l == nil || l.File == entryFile {
		// The entry is ours: there is only one thing that can be wrong with it.
		if strings.HasPrefix(m.Text, "No matching export") {
			text = "it has no default export: write `export default function (event, ctx) { ... }`"
		}
		return &pb.Problem{Text: text}
	}
	for _, n := range m.Notes {
		if at := n.Location; at != nil && at.File != entryFile { // the others speak of esbuild's options
			text += fmt.Sprintf("\n  %s (%s:%d:%d)", n.Text, b.known(at.File), at.Line, columnOf(at))
		}
	}
	return &pb.Problem{
		File: b.known(l.File), Line: int32(l.Line), Column: int32(columnOf(l)),
		Text: text, LineText: strings.ToValidUTF8(l.LineText, "?"),
	}
}

func columnOf(l *api.Location) int { return units(l.LineText[:min(l.Column, len(l.LineText))]) + 1 }
