package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net/http"
	"os"
	"os/signal"
	"path/filepath"
	"runtime/debug"
	"syscall"

	"github.com/spf13/cobra"

	"github.com/hookline/hookline/core/admin"
	"github.com/hookline/hookline/core/app"
	"github.com/hookline/hookline/core/config"
)

// configFlags are the flags that lie over the config file.
type configFlags struct {
	path      string
	listen    []string
	logLevel  string
	logFormat string
}

func (f *configFlags) add(c *cobra.Command) {
	c.Flags().StringVarP(&f.path, "config", "c", "config.toml", "configuration `FILE`")
	_ = c.MarkFlagFilename("config", "toml")
}

func (f *configFlags) addOverrides(c *cobra.Command) {
	c.Flags().StringSliceVar(&f.listen, "listen", nil, "server.listen: `ADDRESS` for TrialKit to call, such as tcp://127.0.0.1:8787")
	c.Flags().StringVar(&f.logLevel, "log-level", "", "log.level: this `LEVEL`, which is debug, info, warn or error")
	offer(c, "log-level", "debug", "info", "warn", "error")
	c.Flags().StringVar(&f.logFormat, "log-format", "", "log.format: this `FORMAT`, which is auto, text or json")
	offer(c, "log-format", "auto", "text", "json")
}

func (f *configFlags) load() (*config.Config, error) {
	return config.Load(f.path, f.overrides(), os.Environ())
}

// recall is how a daemon with these flags starts when the file is bad.
func (f *configFlags) recall() *app.Recall {
	return &app.Recall{
		Journal: func() (url, node string) {
			if _, err := os.Stat(f.path); errors.Is(err, fs.ErrNotExist) {
				return "", "" // no bad file but a wrong name: what lies there is another's
			}
			return config.FindJournal(f.path, f.overrides(), os.Environ())
		},
		Parse: func(source []byte) (*config.Config, error) {
			return config.Parse(f.path, source, filepath.Dir(f.path), f.overrides(), os.Environ())
		},
		Past: func(source []byte) (*config.Config, error) {
			return config.Past(f.path, source, filepath.Dir(f.path), f.overrides(), os.Environ())
		},
	}
}

func (f *configFlags) overrides() map[string]string {
	overrides := map[string]string{}
	for i, l := range f.listen {
		if i == 0 {
			overrides["server.listen"] = l
		} else {
			overrides["server.listen"] += "," + l
		}
	}
	if f.logLevel != "" {
		overrides["log.level"] = f.logLevel
	}
	if f.logFormat != "" {
		overrides["log.format"] = f.logFormat
	}
	return overrides
}

func serveCommand() *cobra.Command {
	var flags configFlags
	var showOutput, strict bool
	c := &cobra.Command{
		Use: "serve", Short: "Run the daemon that TrialKit calls", Args: noArgs,
		Long: `Run the daemon in the foreground until SIGTERM or SIGINT. SIGHUP reloads the
configuration; a bad one changes nothing.

If the configuration or a script is bad at the start, the daemon runs on the set that
its journal accepted last, and says so in its log and at /readyz. --strict refuses
instead.

Exit code 0: it was told to stop; 2: the configuration is bad, and there is no other to
run on; 3: something outside, such as a port in use, or a journal that another daemon
uses.`,
		RunE: func(c *cobra.Command, _ []string) error {
			return serve(c, &flags, showOutput, strict)
		},
	}
	flags.add(c)
	flags.addOverrides(c)
	c.Flags().BoolVar(&strict, "strict", false, "refuse to start with a bad configuration instead of running on the one accepted last")
	c.Flags().BoolVar(&showOutput, "show-script-output", false,
		"print what transforms log and throw; it may hold record contents, so for development only")
	return c
}

func serve(c *cobra.Command, flags *configFlags, showOutput, strict bool) error {
	format := flags.logFormat
	if first, err := flags.load(); err == nil {
		format = first.Log.Format
	} else if format == "" {
		format = "auto" // the file is bad; what is done about it is the app's to say
	}
	level := &slog.LevelVar{}
	lines := newLogWriter(c.ErrOrStderr())
	defer lines.Close()
	log, err := newLogger(lines, isTerminal(c.ErrOrStderr()), level, format)
	if err != nil {
		return err
	}
	lines.lost = func(n int) {
		log.Warn("lines of this log were dropped, as nobody took what is written to standard error", "lines", n)
	}
	hangups := make(chan os.Signal, 1)
	signal.Notify(hangups, syscall.SIGHUP) // first: one that comes during the start would end it
	defer signal.Stop(hangups)
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(400) // the heap is small: less frequent collection costs little memory
	}
	options := app.Options{Log: log, Level: level, Load: flags.load}
	if !strict {
		options.Recall = flags.recall()
	}
	if showOutput {
		options.ShowScriptOutput = func(script, deliveryID, text string) {
			fmt.Fprintf(c.ErrOrStderr(), "%s %s: %s\n", script, deliveryID, text)
		}
	}
	a, err := app.New(c.Context(), options)
	if err != nil {
		return err
	}
	stop := onHangup(c.Context(), hangups, func(ctx context.Context) {
		if err := a.Reload(ctx); err != nil {
			log.Error(err.Error())
		}
	})
	defer stop()
	return a.Run(c.Context())
}

// onHangup calls reload at each of hangups until the returned function is called.
func onHangup(ctx context.Context, hangups <-chan os.Signal, reload func(context.Context)) (stop func()) {
	ended := make(chan struct{})
	ctx, cancel := context.WithCancel(ctx)
	go func() {
		defer close(ended)
		for {
			select {
			case <-hangups:
				reload(ctx)
			case <-ctx.Done():
				return
			}
		}
	}()
	return func() {
		cancel()
		<-ended
	}
}

func reloadCommand() *cobra.Command {
	var flags configFlags
	var d daemon
	c := &cobra.Command{
		Use: "reload", Short: "Have the running daemon read its configuration again", Args: noArgs,
		Long: `Have the running daemon read its configuration again. All of it is checked first;
if anything is wrong nothing changes, and the reason is printed.

Exit code 0: reloaded; 1: the daemon cannot; 2: the configuration is bad, or a wrong
flag; 3: no daemon answers.`,
		RunE: func(c *cobra.Command, _ []string) error {
			err := admin.Connect(d.at).Reload(c.Context())
			var answer *admin.Error
			switch {
			case errors.Is(err, admin.ErrNoDaemon):
				return exitError{code: exitEnvironment, err: err}
			case errors.As(err, &answer) && answer.Status != http.StatusUnprocessableEntity:
				return told(err)
			case err != nil:
				return exitError{code: exitConfig, err: err}
			}
			fmt.Fprintln(c.OutOrStdout(), "reloaded")
			return nil
		},
	}
	flags.add(c)
	d.add(c, &flags)
	return c
}

// adminSocket is where the daemon of this configuration listens. Whether all of it
// is good here and now is the daemon's to say.
func adminSocket(flags *configFlags) string {
	return config.FindAdmin(flags.path, flags.overrides(), os.Environ())
}
