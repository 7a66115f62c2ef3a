package transforms

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"unicode/utf8"

	"github.com/evanw/esbuild/pkg/api"
)

// loaders are how files are taken, by the end of their names.
var loaders = map[string]api.Loader{
	".ts": api.LoaderTS, ".mts": api.LoaderTS, ".cts": api.LoaderTS,
	".js": api.LoaderJS, ".mjs": api.LoaderJS, ".cjs": api.LoaderJS,
	".json": api.LoaderJSON,
	".txt":  api.LoaderText, ".hl7": api.LoaderText, ".xml": api.LoaderText, ".csv": api.LoaderText, ".html": api.LoaderText,
}

// nodeModules are Node's own modules, with what to use instead.
var nodeModules = map[string]string{
	"fs": noFiles, "fs/promises": noFiles, "path": noFiles, "path/posix": noFiles, "os": noEnvironment,
	"crypto": useCrypto, "buffer": useBase64, "process": noEnvironment,
	"http": noNetwork, "https": noNetwork, "http2": noNetwork, "net": noNetwork, "tls": noNetwork, "dns": noNetwork, "dgram": noNetwork,
	"url": "there is no URL: put it together as text, with encodeURIComponent", "querystring": "use encodeURIComponent",
	"timers": noTimers, "timers/promises": noTimers, "child_process": noEnvironment, "worker_threads": noEnvironment, "cluster": noEnvironment,
	"util": "", "util/types": "", "events": "", "stream": "", "stream/promises": "", "stream/web": "", "assert": "", "assert/strict": "",
	"zlib": "", "vm": "", "module": "", "perf_hooks": noClock, "async_hooks": "", "string_decoder": useBase64, "readline": noFiles, "tty": "",
	"v8": "", "punycode": "", "constants": "", "diagnostics_channel": "", "inspector": "", "sqlite": noFiles, "test": "", "console": "use ctx.log",
}

// newBundler finds out where the script is for real. Nothing outside of root is
// read: a script is given to others, and must hold no more than its folder does.
func newBundler(name, file, root string) (*bundler, error) {
	real, err := filepath.EvalSymlinks(root)
	if err != nil {
		return nil, err
	}
	rel, err := filepath.Rel(root, file)
	if err != nil {
		return nil, err
	}
	b := &bundler{name: name, root: real, path: filepath.Join(real, rel), inputs: map[string]bool{file: true}, alias: map[string]string{}}
	b.called(b.path)
	return b, nil
}

// called notes by which path a file is known that is a symlink.
func (b *bundler) called(file string) {
	real, err := filepath.EvalSymlinks(file)
	if err != nil || real == file {
		return
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.alias[real] = file
	b.inputs[file] = true
}

func (b *bundler) plugin(build api.PluginBuild) {
	build.OnResolve(api.OnResolveOptions{Filter: ".*"}, func(a api.OnResolveArgs) (api.OnResolveResult, error) {
		if _, ok := b.modules[a.Path]; ok {
			return api.OnResolveResult{Path: a.Path, Namespace: ownModule}, nil
		}
		return api.OnResolveResult{}, b.imported(a)
	})
	build.OnLoad(api.OnLoadOptions{Filter: ".*", Namespace: ownModule}, func(a api.OnLoadArgs) (api.OnLoadResult, error) {
		text := b.modules[a.Path]
		return api.OnLoadResult{Contents: &text, Loader: api.LoaderTS}, nil
	})
	build.OnLoad(api.OnLoadOptions{Filter: ".*", Namespace: "file"}, func(a api.OnLoadArgs) (api.OnLoadResult, error) {
		text, loader, err := b.read(a.Path)
		if err != nil {
			return api.OnLoadResult{}, err
		}
		return api.OnLoadResult{Contents: &text, Loader: loader, ResolveDir: filepath.Dir(a.Path)}, nil
	})
}

// imported refuses what a script cannot import, and leaves all else to esbuild.
func (b *bundler) imported(a api.OnResolveArgs) error {
	switch {
	case a.Importer == entryFile || a.Namespace != "file":
		return nil
	case a.Path == "hookline":
		return errors.New(`"hookline" has only types: write import type { ... } from "hookline"; ctx is what your function is given`)
	case a.Path == "hookline/test":
		return errors.New(`"hookline/test" is for tests, in files named *.test.ts: no transform may import it`)
	case strings.HasPrefix(a.Path, "node:"):
		return errors.New(missing(a.Path))
	case strings.HasPrefix(a.Path, "data:"):
		return errors.New("a data URL cannot be imported: put it into a file beside the script")
	case strings.Contains(a.Path, "://"), strings.HasPrefix(a.Path, "//"):
		return fmt.Errorf("%q is on the network: put the file beside the script, or install the package into node_modules", a.Path)
	}
	if strings.HasPrefix(a.Path, "./") || strings.HasPrefix(a.Path, "../") {
		// Looked for again by esbuild; this is for its name, and for who watches.
		from := a.Importer
		b.mu.Lock()
		if by, ok := b.alias[from]; ok {
			from = by
		}
		b.mu.Unlock()
		file := filepath.Join(filepath.Dir(from), filepath.FromSlash(a.Path))
		for _, name := range candidates(file) {
			if info, err := os.Lstat(name); err == nil && !info.IsDir() {
				b.called(name)
				return nil
			}
		}
		b.mu.Lock()
		defer b.mu.Unlock()
		for _, name := range candidates(file) {
			b.inputs[name] = true
		}
	}
	return nil
}

// candidates are the files that an import of file may mean.
func candidates(file string) []string {
	names := []string{file}
	if stem, ok := strings.CutSuffix(file, ".js"); ok {
		names = append(names, stem+".ts")
	}
	if stem, ok := strings.CutSuffix(file, ".mjs"); ok {
		names = append(names, stem+".mts")
	}
	for _, ext := range []string{".ts", ".mts", ".js", ".mjs", ".json"} {
		names = append(names, file+ext)
	}
	return names
}

// read gives esbuild a file. Its name is real, free of symlinks.
func (b *bundler) read(name string) (text string, loader api.Loader, err error) {
	rel, err := filepath.Rel(b.root, name)
	if err != nil || !filepath.IsLocal(rel) {
		return "", 0, fmt.Errorf("%s is outside of %s, and a script may only be made of files in it: put it there, without a symlink that leads out of it", name, b.root)
	}
	ext := filepath.Ext(name)
	loader, ok := loaders[ext]
	if !ok {
		return "", 0, fmt.Errorf("a file that ends in %q cannot be imported: use .ts, .mts, .js, .mjs, .json, or as text .txt, .hl7, .xml, .csv, .html", ext)
	}
	b.mu.Lock()
	b.inputs[name] = true
	b.mu.Unlock()
	content, err := readBelow(b.root, rel)
	if err != nil {
		return "", 0, err
	}
	b.mu.Lock()
	b.bytes += len(content)
	total := b.bytes
	b.mu.Unlock()
	if total > maxSource {
		return "", 0, fmt.Errorf("with all that it imports the script has more than %d bytes: import less, or read tables with ctx.lookup", maxSource)
	}
	// A byte order mark would count as a column.
	text = strings.TrimPrefix(string(content), string(utf8BOM))
	if !utf8.ValidString(text) {
		return "", 0, fmt.Errorf("%s is not UTF-8: save it as UTF-8", b.shown(name))
	}
	return text, loader, nil
}

// readBelow reads a file below root, wherever a symlink that was put there by now
// would lead.
func readBelow(root, name string) ([]byte, error) {
	folder, err := os.OpenRoot(root)
	if err != nil {
		return nil, err
	}
	defer func() { _ = folder.Close() }()
	f, err := folder.Open(name)
	if err != nil {
		return nil, err
	}
	defer func() { _ = f.Close() }()
	if info, err := f.Stat(); err != nil {
		return nil, err
	} else if !info.Mode().IsRegular() {
		return nil, fmt.Errorf("%s is no regular file", name)
	}
	return io.ReadAll(io.LimitReader(f, maxSource+1))
}

// missing is what to say of an import that leads nowhere.
func missing(name string) string {
	bare := strings.TrimPrefix(name, "node:")
	advice, node := nodeModules[bare]
	switch {
	case node || strings.HasPrefix(name, "node:"):
		text := fmt.Sprintf("%q is a module of Node.js, which scripts do not run on", name)
		if advice != "" {
			text += ": " + advice
		}
		return text
	case strings.HasPrefix(name, "."), filepath.IsAbs(name):
		return fmt.Sprintf("there is no file %q", name)
	default:
		return fmt.Sprintf("there is no package %q: install it into a node_modules folder beside the script or above it, up to the configuration's folder", name)
	}
}
