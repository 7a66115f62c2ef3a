package main

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"text/template"

	"github.com/spf13/cobra"

	"github.com/hookline/hookline/core/app"
)

// scaffoldGo is the language version of a new module: that of this one.
const scaffoldGo = "1.26.0"

// released is the version of a release, which the module proxy has.
var released = regexp.MustCompile(`^v\d+\.\d+\.\d+(-[0-9A-Za-z.-]+)?$`)

var pluginName = regexp.MustCompile(`^[a-z][a-z0-9-]*$`)

func pluginInitCommand() *cobra.Command {
	var module, replace string
	c := &cobra.Command{
		Use: "init NAME", Short: "Make a new plugin in Go, with a test that runs the suite", Args: one("the plugin's name"),
		Long: `Make a folder NAME with a module of its own: main.go, a transport that works and is to
be changed to your target, a test that runs the conformance suite on it, and a README.

Exit code 0: made; 1: it cannot be made; 2: wrong use.`,
		Example: "  hookline plugin init acme\n  hookline plugin init acme --replace ~/src/hookline",
		RunE: func(c *cobra.Command, args []string) error {
			name := args[0]
			if !pluginName.MatchString(name) {
				return usage(fmt.Errorf("the name %q must be of a to z, 0 to 9 and -, and begin with a letter", name))
			}
			fill := map[string]string{
				"Name": name, "Module": module, "Go": scaffoldGo, "Version": app.Version(), "Replace": "",
				"Env": strings.ToUpper(strings.ReplaceAll(name, "-", "_")),
			}
			if module == "" {
				fill["Module"] = "example.org/" + name
			}
			released := released.MatchString(app.Version()) && !strings.HasPrefix(app.Version(), "v0.0.0-")
			if !released {
				fill["Version"] = "v0.0.0"
			}
			if replace != "" {
				path, err := filepath.Abs(replace)
				if err != nil {
					return usage(fmt.Errorf("--replace: %w", err))
				}
				if _, err := os.Stat(filepath.Join(path, "go.mod")); err != nil {
					return usage(fmt.Errorf("--replace %s is not Hookline's source: %w", replace, err))
				}
				fill["Replace"] = path
			}
			files, err := pluginFiles(name, fill)
			if err != nil {
				return err
			}
			if err := os.Mkdir(name, 0o755); errors.Is(err, fs.ErrExist) { // a module has its folder for itself
				return exitError{code: exitFailed, err: fmt.Errorf("%s is there already: choose another name, or move it away", name)}
			}
			out := c.OutOrStdout()
			if err := makeFiles(out, files); err != nil {
				return err
			}
			if !released && replace == "" {
				fmt.Fprintf(out, "this Hookline is no release: point the module to its source with\n"+
					"  (cd %s && go mod edit -replace github.com/hookline/hookline=DIR)\n", name)
			}
			fmt.Fprintf(out, "next:\n  cd %s && go mod tidy && go test ./...\n", name)
			return nil
		},
	}
	c.Flags().StringVar(&module, "module", "", "`PATH` of the module (default example.org/NAME)")
	c.Flags().StringVar(&replace, "replace", "", "`FOLDER` with Hookline's source, in the place of a release")
	return c
}

// pluginFiles are those that a plugin begins with.
func pluginFiles(dir string, fill map[string]string) (files []newFile, err error) {
	all, err := template.New("").Delims("[[", "]]").ParseFS(scaffold, "scaffold/plugin/*.tmpl")
	if err != nil {
		return nil, err
	}
	for _, t := range all.Templates() {
		var text bytes.Buffer
		if err := t.Option("missingkey=error").Execute(&text, fill); err != nil {
			return nil, err
		}
		files = append(files, newFile{path: filepath.Join(dir, strings.TrimSuffix(t.Name(), ".tmpl")), text: text.Bytes()})
	}
	return files, nil
}
