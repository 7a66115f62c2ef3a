// Command hookline delivers TrialKit's events to other systems.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"runtime"
	"slices"
	"strings"
	"syscall"

	"github.com/spf13/cobra"

	"github.com/hookline/hookline/core/app"
	"github.com/hookline/hookline/core/config"
)

func main() {
	os.Exit(run(os.Args[1:], os.Stdin, os.Stdout, os.Stderr))
}

// The exit codes.
const (
	exitOK          = 0
	exitFailed      = 1 // it ran, and what it was asked for failed
	exitConfig      = 2 // the configuration or the command line is wrong
	exitEnvironment = 3 // something outside: a port in use, a daemon that is not there
)

// run is the program: signals, streams and exit codes stay here.
func run(args []string, stdin io.Reader, stdout, stderr io.Writer) int {
	if len(args) > 0 && args[0] == app.ChildCommand {
		return app.RunChild(args[1:])
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()

	root := command()
	root.SetArgs(args)
	root.SetIn(stdin)
	root.SetOut(stdout)
	root.SetErr(stderr)
	err := root.ExecuteContext(ctx)
	if err == nil {
		return exitOK
	}
	var code exitError
	if errors.As(err, &code) && code.err == nil {
		return code.code // it has said all there is to say
	}
	fmt.Fprintln(stderr, "hookline:", err)
	return exitCode(err)
}

// exitError carries an exit code, and no error if all was said.
type exitError struct {
	code int
	err  error
}

func (e exitError) Error() string {
	if e.err == nil {
		return fmt.Sprintf("exit %d", e.code)
	}
	return e.err.Error()
}

func (e exitError) Unwrap() error { return e.err }

func exitCode(err error) int {
	var exit exitError
	var bad *config.Error
	var unusable *app.Unusable
	switch {
	case errors.As(err, &exit):
		return exit.code
	case errors.As(err, &bad), errors.As(err, &unusable):
		return exitConfig
	}
	return exitEnvironment
}

// usage marks an error of the command line.
func usage(err error) error { return exitError{code: exitConfig, err: err} }

// noArgs refuses what is not a flag.
func noArgs(c *cobra.Command, args []string) error {
	if len(args) == 0 {
		return nil
	}
	hint := "see " + c.CommandPath() + " --help"
	if near := c.SuggestionsFor(args[0]); len(near) > 0 { // in the order of the alphabet
		best := max(0, slices.IndexFunc(near, func(name string) bool { return strings.HasPrefix(name, args[0]) }))
		hint = "did you mean " + near[best] + "?"
	}
	return usage(fmt.Errorf("%s does not know %q: %s", c.CommandPath(), args[0], hint))
}

func command() *cobra.Command {
	root := &cobra.Command{
		Use:   "hookline",
		Short: "Delivers TrialKit's events to other systems, and tells the caller the truth",
		Long: `Hookline stands between TrialKit and other systems. TrialKit calls it when a
record is saved, updated or reviewed; Hookline shapes the event, delivers it, and
answers within one time budget with what really happened.

Start with:  hookline demo, then hookline init`,
		Args:          noArgs,
		RunE:          func(c *cobra.Command, _ []string) error { return c.Help() },
		SilenceUsage:  true,
		SilenceErrors: true,

		SuggestionsMinimumDistance: 2,
		Version:                    app.Version(),
	}
	root.SetFlagErrorFunc(func(c *cobra.Command, err error) error {
		return usage(fmt.Errorf("%w; see %s --help", err, c.CommandPath()))
	})
	root.AddCommand(initCommand(), serveCommand(), reloadCommand(), checkCommand(), eventsCommand(), explainCommand(), deliveriesCommand(), alertsCommand(), transformCommand(), auditCommand(), journalCommand(), pluginCommand(), sendCommand(), sinkCommand(), demoCommand(), hashPasswordCommand(), versionCommand())
	root.SetVersionTemplate(version() + "\n")
	strictHelp(root)
	return root
}

// strictHelp has cobra's own commands refuse what they do not know, as ours do: they
// would print a page and end well, also into a file that a shell is to read.
func strictHelp(root *cobra.Command) {
	root.InitDefaultHelpCmd()
	root.InitDefaultCompletionCmd()
	for _, c := range root.Commands() {
		switch c.Name() {
		case "completion":
			c.Args = noArgs
			c.RunE = func(c *cobra.Command, _ []string) error { return c.Help() }
		case "help":
			c.Args = func(_ *cobra.Command, args []string) error {
				about, rest, err := root.Find(args)
				if err == nil && len(rest) > 0 && about.HasSubCommands() {
					err = noArgs(about, rest)
				}
				return err
			}
		}
	}
}

func version() string { return "hookline " + app.Version() + " " + runtime.Version() }

func versionCommand() *cobra.Command {
	return &cobra.Command{
		Use: "version", Short: "Print the version", Args: noArgs,
		Run: func(c *cobra.Command, _ []string) { fmt.Fprintln(c.OutOrStdout(), version()) },
	}
}

// newLogger writes text for people and JSON for machines.
func newLogger(w io.Writer, terminal bool, level slog.Leveler, format string) (*slog.Logger, error) {
	options := &slog.HandlerOptions{Level: level}
	switch format {
	case "auto":
		if terminal {
			return slog.New(slog.NewTextHandler(w, options)), nil
		}
		return slog.New(slog.NewJSONHandler(w, options)), nil
	case "text":
		return slog.New(slog.NewTextHandler(w, options)), nil
	case "json":
		return slog.New(slog.NewJSONHandler(w, options)), nil
	}
	return nil, usage(fmt.Errorf("--log-format %q: use auto, text or json", format))
}

func isTerminal(w io.Writer) bool {
	f, ok := w.(*os.File)
	if !ok {
		return false
	}
	info, err := f.Stat()
	return err == nil && info.Mode()&os.ModeCharDevice != 0
}
