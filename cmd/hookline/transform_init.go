package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"

	"github.com/spf13/cobra"

	"github.com/hookline/hookline/transforms"
)

const typesFile = "hookline.d.ts"

func transformTypesCommand() *cobra.Command {
	var out string
	var force bool
	c := &cobra.Command{
		Use: "types", Short: "Write hookline.d.ts: completion and types for your editor", Args: noArgs,
		Long: `Write the types of what a transform gets and gives, for the editor and for
tsc --noEmit; Hookline does not check types when it loads a script.

A file that an earlier version of this command wrote is replaced; another needs --force.

Exit code 0: it is as it should be; 2: it cannot be written, and why.`,
		RunE: func(c *cobra.Command, _ []string) error {
			if out == "-" {
				_, err := fmt.Fprint(c.OutOrStdout(), transforms.Types)
				return err
			}
			if out == "" {
				out = filepath.Join(transformsFolder(), typesFile)
			}
			wrote, err := writeTypes(out, force)
			if err != nil {
				return err
			}
			if wrote {
				fmt.Fprintln(c.OutOrStdout(), "wrote", out)
			} else {
				fmt.Fprintln(c.OutOrStdout(), out, "is up to date")
			}
			return nil
		},
	}
	c.Flags().StringVar(&out, "out", "", "write `FILE` (- for standard output); otherwise hookline.d.ts in the folder transforms, or here if there is none")
	c.Flags().BoolVar(&force, "force", false, "replace the file, whatever it is")
	return c
}

// transformsFolder is where transforms are, unless it is told otherwise.
func transformsFolder() string {
	if info, err := os.Stat("transforms"); err == nil && info.IsDir() {
		return "transforms"
	}
	return "."
}

// writeTypes tells whether it had to write the file.
func writeTypes(path string, force bool) (bool, error) {
	first, _, _ := strings.Cut(transforms.Types, "\n")
	old, err := os.ReadFile(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
	case err != nil:
		return false, usage(err)
	case string(old) == transforms.Types:
		return false, nil
	case !force && !strings.HasPrefix(string(old), first):
		return false, usage(fmt.Errorf("%s was not written by this command: name another file with --out, or replace it with --force", path))
	}
	return true, writeSource(path, []byte(transforms.Types))
}

// writeSource writes a file that the user's editor and version control look after.
func writeSource(path string, text []byte) error {
	if err := os.WriteFile(path, text, 0o644); err != nil {
		return usage(err)
	}
	return nil
}

var transformName = regexp.MustCompile(`^[a-z][a-z0-9-]*$`)

func transformInitCommand() *cobra.Command {
	var dir string
	c := &cobra.Command{
		Use: "init NAME", Short: "Begin a transform: a script with its test, golden pair and types",
		Long: `Begin a transform: NAME.ts, its test NAME.test.ts, a golden pair in NAME.golden, and
hookline.d.ts and tsconfig.json if they are not there yet. Nothing is overwritten.

Exit code 0: begun; 1: a file stands in the way, or cannot be written; 2: wrong use.`,
		Example: "  hookline transform init ehr",
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) != 1 || !transformName.MatchString(args[0]) {
				return usage(errors.New("give the transform a name of lower case letters, digits and hyphens: hookline transform init ehr"))
			}
			return nil
		},
		RunE: func(c *cobra.Command, args []string) error {
			files, err := transformFiles(dir, args[0])
			if err != nil {
				return err
			}
			out := c.OutOrStdout()
			if err := makeFiles(out, files); err != nil {
				return err
			}
			script := filepath.ToSlash(filepath.Join(dir, args[0]+".ts"))
			fmt.Fprintf(out, `
Next:
  hookline transform run %[1]s --watch
  hookline transform test %[2]s

In config.toml, with the names of your hook and transport:

[routes.%[3]s]
hooks = ["demo"]
transport = "ehr"
transform = "%[1]s"
`, script, dir, args[0])
			return nil
		},
	}
	c.Flags().StringVar(&dir, "dir", "transforms", "write into this `FOLDER`")
	return c
}

// transformFiles are those that a transform begins with.
func transformFiles(dir, name string) ([]newFile, error) {
	files := []newFile{
		{path: filepath.Join(dir, name+".ts")},
		{path: filepath.Join(dir, name+".test.ts")},
		{path: filepath.Join(dir, name+".golden", "update.in.json")},
		{path: filepath.Join(dir, name+".golden", "update.out.json")},
		{path: filepath.Join(dir, "tsconfig.json"), shared: true},
	}
	for i, from := range []string{"transform.ts.txt", "transform.test.ts.txt", "update.in.json", "update.out.json", "tsconfig.json"} {
		text, err := scaffold.ReadFile("scaffold/transform/" + from)
		if err != nil {
			return nil, err
		}
		files[i].text = []byte(strings.ReplaceAll(string(text), "NAME", name))
	}
	return append(files, newFile{path: filepath.Join(dir, typesFile), text: []byte(transforms.Types), shared: true}), nil
}
