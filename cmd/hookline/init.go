package main

import (
	"cmp"
	"crypto/rand"
	"fmt"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"github.com/hookline/hookline/core"
)

func initCommand() *cobra.Command {
	return &cobra.Command{
		Use: "init [DIR]", Short: "Begin a configuration that works: a hook, a route with a transform, a target",
		Long: `Begin a configuration in the folder DIR, which is made, or in this one: config.toml
with a hook, a transform and an HTTP target, the password of the hook, the transform with
its test, and an event to try it with. Nothing is overwritten.

Exit code 0: begun; 1: a file stands in the way, or cannot be written; 2: wrong use.`,
		Example: "  hookline init trialkit",
		Args: func(c *cobra.Command, args []string) error {
			if len(args) > 1 {
				return usage(fmt.Errorf("%s takes one folder, or none for this one; see %s --help", c.CommandPath(), c.CommandPath()))
			}
			return nil
		},
		RunE: func(c *cobra.Command, args []string) error {
			dir := filepath.Clean(cmp.Or(strings.Join(args, ""), "."))
			files, err := firstFiles(dir)
			if err != nil {
				return err
			}
			out := c.OutOrStdout()
			if err := makeFiles(out, files); err != nil {
				return err
			}
			fmt.Fprintln(out, "\nNext:")
			if dir != "." {
				if strings.Contains(dir, " ") {
					dir = strconv.Quote(dir)
				}
				fmt.Fprintf(out, "  cd %s\n", dir)
			}
			fmt.Fprint(out, `  hookline check
  hookline transform test

In one terminal a stand-in for the target, in another the daemon:
  hookline sink
  hookline serve

In a third, call the hook as TrialKit does, and look at what became of it:
  curl -i -u "trialkit@example.org:$(cat hook-password)" -H "Content-Type: application/json" -d @event.json http://127.0.0.1:8787/hooks/demo
  hookline events list
`)
			return nil
		},
	}
}

// firstFiles are those that a configuration begins with.
func firstFiles(dir string) ([]newFile, error) {
	config, err := scaffold.ReadFile("scaffold/init/config.toml")
	if err != nil {
		return nil, err
	}
	ignore, err := scaffold.ReadFile("scaffold/init/gitignore")
	if err != nil {
		return nil, err
	}
	script, err := transformFiles(filepath.Join(dir, "transforms"), "ehr") // as config.toml has it
	return append([]newFile{
		{path: filepath.Join(dir, "config.toml"), text: config},
		{path: filepath.Join(dir, "hook-password"), text: []byte(rand.Text() + "\n"), secret: true},
		{path: filepath.Join(dir, "event.json"), text: append(sample(core.Update, "435", "319", "Sample Form"), '\n')},
		{path: filepath.Join(dir, ".gitignore"), text: ignore, shared: true},
	}, script...), err
}
