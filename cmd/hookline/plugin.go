package main

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/hookline/hookline/core/admin"
	"github.com/hookline/hookline/core/config"
)

func pluginCommand() *cobra.Command {
	c := &cobra.Command{
		Use: "plugin", Short: "Write, test, pin and watch transport plugins", Args: noArgs,
		RunE: func(c *cobra.Command, _ []string) error { return c.Help() },
	}
	c.AddCommand(pluginListCommand(), pluginTestCommand(), pluginPinCommand(), pluginInitCommand())
	return c
}

func pluginListCommand() *cobra.Command {
	var o operator
	c := &cobra.Command{
		Use: "list", Short: "List the transports' plugins: version, process, state, restarts, memory", Args: noArgs,
		Long: `List the plugin of each transport of the running daemon, with its process. STATE is
running; starting, while a process that has ended is started again; or crash-loop, if
it ends again and again soon after its start, until one has run for 10 s. Of a process
that took the place of another it is told why that one ended, however long ago.

Exit code 0: listed; 1: the daemon cannot; 2: a wrong flag; 3: no daemon answers.`,
		RunE: func(c *cobra.Command, _ []string) error {
			list, err := o.client().Plugins(c.Context())
			if err != nil {
				return told(err)
			}
			if o.asJSON {
				return printJSON(c.OutOrStdout(), list)
			}
			printPlugins(c.OutOrStdout(), list, time.Now())
			return nil
		},
	}
	o.add(c)
	return c
}

func printPlugins(w io.Writer, list *admin.PluginList, now time.Time) {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	row(t, "TRANSPORT", "PLUGIN", "VERSION", "PID", "STATE", "FOR", "RESTARTS", "IN FLIGHT", "MEMORY", "CPU")
	for _, p := range list.Plugins {
		pid, since, memory, cpu := "", "", "", ""
		if p.PID != 0 {
			pid = strconv.Itoa(p.PID)
		}
		if p.Since != nil {
			since = ago(now, p.Since.Time)
		}
		if p.MemoryBytes > 0 {
			memory = size(p.MemoryBytes)
			cpu = (time.Duration(p.CPUSeconds * float64(time.Second))).Round(10 * time.Millisecond).String()
		}
		row(t, p.Transport, p.Plugin, p.Version, pid, p.State, since, strconv.Itoa(p.Restarts), strconv.Itoa(p.InFlight), memory, cpu)
	}
	_ = t.Flush()
	for _, p := range list.Plugins {
		if p.LastEnd != "" {
			fmt.Fprintf(w, "%s: the process before ended: %s\n", printable(p.Transport), printable(p.LastEnd))
		}
	}
}

func pluginPinCommand() *cobra.Command {
	var flags configFlags
	var write bool
	c := &cobra.Command{
		Use: "pin [TRANSPORT | PATH]", Short: "Print the sha256 that pins a plugin's file, or write it into the configuration",
		Args: func(c *cobra.Command, args []string) error {
			if len(args) < 2 {
				return nil
			}
			return usage(fmt.Errorf("%s takes one transport or path, or none for all; see %s --help", c.CommandPath(), c.CommandPath()))
		},
		Long: `Print the line that pins a plugin: from then on a file with a changed byte is refused.
Name an executable by its path, or a transport of the configuration; without either, all
transports whose plugin is a file. With --write the line is put into the configuration
file. A built-in plugin needs no pin: it is Hookline's own executable.

Of a plugin that an interpreter runs, only the file in "plugin" is pinned, not those
that it reads.

Exit code 0: done; 1: there is nothing to pin, or the file cannot be read; 2: the
configuration or the command line is wrong.`,
		Example: "  hookline plugin pin ./vendor-transport\n  hookline plugin pin vendor --write",
		RunE: func(c *cobra.Command, args []string) error {
			if len(args) == 1 && strings.ContainsAny(args[0], `/\`) {
				if write {
					return usage(errors.New("--write needs the name of a transport, to know where"))
				}
				sum, err := fileSum(args[0])
				if err != nil {
					return exitError{code: exitFailed, err: err}
				}
				fmt.Fprintf(c.OutOrStdout(), "sha256 = %q\n", sum)
				return nil
			}
			cfg, err := flags.load()
			if err != nil {
				return err
			}
			return pin(c.OutOrStdout(), cfg, strings.Join(args, ""), write)
		},
	}
	flags.add(c)
	c.Flags().BoolVar(&write, "write", false, "put it into the configuration file")
	return c
}

// pin pins the transport with the name, or all of them.
func pin(w io.Writer, cfg *config.Config, name string, write bool) error {
	found := false
	for _, t := range cfg.Transports {
		if name != "" && t.Name != name || t.BuiltIn() && name == "" {
			continue
		}
		found = true
		if t.BuiltIn() {
			return exitError{code: exitFailed, err: fmt.Errorf("the plugin %s of transport %s is built in: there is nothing to pin", t.Plugin, t.Name)}
		}
		sum, err := fileSum(t.Plugin)
		if err != nil {
			return exitError{code: exitFailed, err: err}
		}
		was := ""
		switch {
		case t.SHA256 == sum:
			was = " # as it is"
		case t.SHA256 != "":
			was = " # instead of " + t.SHA256
		}
		fmt.Fprintf(w, "[transports.%s]\nsha256 = %q%s\n", t.Name, sum, was)
		if !write || t.SHA256 == sum {
			continue
		}
		if err := writePin(cfg.Path, t.Name, sum); err != nil {
			return exitError{code: exitFailed, err: err}
		}
		fmt.Fprintf(w, "written to %s; `hookline reload` puts it to work\n", cfg.Path)
	}
	if !found && name != "" {
		return usage(fmt.Errorf("%s has no transport %q; a path has a /, such as ./%s", cfg.Path, name, name))
	}
	if !found {
		return exitError{code: exitFailed, err: fmt.Errorf("no transport of %s has a plugin that is a file", cfg.Path)}
	}
	return nil
}

func fileSum(path string) (string, error) {
	f, err := os.Open(path)
	if err != nil {
		return "", fmt.Errorf("the plugin cannot be read: %w", err)
	}
	defer f.Close()
	sum := sha256.New()
	if _, err := io.Copy(sum, f); err != nil {
		return "", fmt.Errorf("the plugin cannot be read: %w", err)
	}
	return hex.EncodeToString(sum.Sum(nil)), nil
}

// writePin puts the line into the transport's table, in the place of one that is
// there or after "plugin".
func writePin(path, transport, sum string) error {
	file, err := filepath.EvalSymlinks(path) // a link stays one
	if err != nil {
		return err
	}
	info, err := os.Stat(file)
	if err != nil {
		return err
	}
	text, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	lines := strings.SplitAfter(string(text), "\n")
	in, after, at := false, -1, -1
	for i, line := range lines {
		trimmed := strings.TrimSpace(line)
		switch key, _, _ := strings.Cut(trimmed, "="); {
		case strings.HasPrefix(trimmed, "["):
			in = strings.TrimSpace(strings.SplitN(trimmed, "#", 2)[0]) == "[transports."+transport+"]"
		case in && strings.TrimSpace(key) == "sha256":
			at = i
		case in && strings.TrimSpace(key) == "plugin":
			after = i
		}
	}
	pinned := fmt.Sprintf("sha256 = %q\n", sum)
	switch {
	case at >= 0:
		lines[at] = pinned
	case after >= 0:
		if !strings.HasSuffix(lines[after], "\n") {
			lines[after] += "\n"
		}
		lines[after] += pinned
	default:
		return fmt.Errorf("%s has no table [transports.%s] with a line \"plugin = …\": put the line there yourself", path, transport)
	}
	// Whole or not at all: a daemon may be reading it.
	return writeNew(file, []byte(strings.Join(lines, "")), info.Mode().Perm(), true)
}
