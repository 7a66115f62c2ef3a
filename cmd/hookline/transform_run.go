package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/hookline/hookline/core"
	"github.com/hookline/hookline/core/app"
	"github.com/hookline/hookline/core/config"
	"github.com/hookline/hookline/transforms"
	"github.com/hookline/hookline/transforms/workbench"
)

// trial is one script that is tried on one event.
type trial struct {
	flags         configFlags
	script        string
	event, record string
	route         string
	lookups       lookups
	watch, asJSON bool
	bench         *workbench.Bench // nil until there is something to run
}

func transformRunCommand() *cobra.Command {
	var t trial
	c := &cobra.Command{
		Use: "run FILE", Short: "Run a transform on an event and show what would be sent",
		Long: `Run a transform on an event and show what would be sent, what it logged and how long
it took. Nothing is sent, and no daemon is needed. The script runs as in the daemon, for
250 ms at most, or the script_timeout of the route.

The event is one as TrialKit sends it, or the NAME.in.json of a golden pair, which may
also hold record, ctx, secrets and trialkit. Without --route the names in ctx are
stand-ins, the same each time; with it they are those of that route in the
configuration.

Exit code 0: it gave a result, also to skip or to reject; 1: it cannot be loaded, or
failed; 2: the command line or a file is wrong.`,
		Example: `  hookline transform run transforms/ehr.ts
  hookline transform run transforms/ehr.ts --event review
  hookline transform run transforms/ehr.ts --event update.json --record rec.json --watch`,
		Args: func(_ *cobra.Command, args []string) error {
			switch {
			case len(args) == 1:
				t.script = args[0]
			case len(args) > 1 || t.route == "":
				return usage(errors.New("say which script to run: hookline transform run FILE, or --route NAME for that of a route"))
			}
			return nil
		},
		RunE: func(c *cobra.Command, _ []string) error { return t.run(c) },
	}
	t.flags.add(c)
	t.lookups.add(c)
	f := c.Flags()
	f.StringVar(&t.event, "event", string(core.Update), "`FILE` with the event (- for standard input), or insert, update or review for a sample")
	f.StringVar(&t.record, "record", "", "`FILE` with the record: event.record, as routes with enrich = true have it")
	f.StringVar(&t.route, "route", "", "take names and secrets of this `ROUTE` of the configuration")
	f.BoolVar(&t.watch, "watch", false, "run again when the script, what it imports, the event or the record changes")
	f.BoolVar(&t.asJSON, "json", false, "print JSON")
	return c
}

func (t *trial) run(c *cobra.Command) error {
	if t.watch && (t.event == "-" || t.asJSON) {
		return usage(errors.New("--watch goes with neither --event - nor --json: name a file, and read the text"))
	}
	defer func() {
		if t.bench != nil {
			t.bench.Stop()
		}
	}()
	if !t.watch {
		_, err := t.once(c)
		return err
	}
	for again := map[string]app.Stamp(nil); ; {
		began := time.Now().Add(-mtimeGrain)
		files, err := t.once(c)
		if err != nil && c.Context().Err() == nil {
			if text := err.Error(); !strings.HasPrefix(text, "exit ") {
				fmt.Fprintln(c.OutOrStdout(), text)
			}
		}
		files = existing(files)
		seen := app.Stamps(files)
		if changedSince(files, began) && !maps.Equal(seen, again) {
			again = seen // once: a clock that goes wrong must not run it for ever
			continue
		}
		fmt.Fprintf(c.OutOrStdout(), "── %s, watching %s ──\n", time.Now().Format(time.TimeOnly), strings.Join(files, ", "))
		if !changed(c.Context(), files, seen) {
			return nil
		}
	}
}

// changed waits for a change of one of the files, and tells whether there was one
// before ctx ended.
func changed(ctx context.Context, files []string, seen map[string]app.Stamp) bool {
	ticker := time.NewTicker(app.WatchEvery)
	defer ticker.Stop()
	for maps.Equal(app.Stamps(files), seen) {
		select {
		case <-ctx.Done():
			return false
		case <-ticker.C:
		}
	}
	return true
}

// mtimeGrain is how far a file's time may lie before that of its change.
const mtimeGrain = 20 * time.Millisecond

// changedSince tells whether a file has changed while it was run.
func changedSince(files []string, began time.Time) bool {
	return slices.ContainsFunc(files, func(f string) bool {
		info, err := os.Stat(f)
		return err == nil && info.ModTime().After(began)
	})
}

// existing are the files by their short names, each once. One that an import has
// looked for in vain is watched as its folder is: a change there may mend it.
func existing(files []string) []string {
	var out []string
	for _, f := range files {
		if _, err := os.Stat(f); err != nil {
			f = filepath.Dir(f)
		}
		if name := nameOf(f); !slices.Contains(out, name) {
			out = append(out, name)
		}
	}
	return out
}

// once runs the script and prints what came of it. It returns the files that the
// result depends on.
func (t *trial) once(c *cobra.Command) (files []string, err error) {
	script, given, files, err := t.read(c)
	if err != nil {
		return files, usage(err)
	}
	if t.bench == nil {
		if t.bench, err = startBench(c.Context(), c.ErrOrStderr()); err != nil {
			return files, err
		}
	}
	run, err := t.bench.Run(c.Context(), script, given)
	files = append(files, run.Inputs...)
	if refused, ok := errors.AsType[*transforms.CompileError](err); ok {
		files = append(files, refused.Inputs...)
	}
	if err != nil {
		return files, scriptError(err)
	}
	for _, warning := range run.Warnings {
		fmt.Fprintln(c.ErrOrStderr(), "warning:", warning)
	}
	if t.asJSON {
		err = printRunJSON(c.OutOrStdout(), run)
	} else {
		printRun(c.OutOrStdout(), run)
	}
	if err == nil && run.Outcome.Error != nil {
		err = exitError{code: exitFailed}
	}
	return files, err
}

// read gathers what the run needs.
func (t *trial) read(c *cobra.Command) (script workbench.Script, given workbench.Given, files []string, err error) {
	t.lookups.read = nil // --watch: the files may have changed
	script.Timeout = transforms.DefaultTimeout
	path := t.script
	var names workbench.Names
	var secrets map[string]string
	if t.route != "" {
		cfg, err := t.flags.load()
		files = append(files, t.flags.path)
		if err != nil {
			return script, given, files, err
		}
		route, err := routeOf(cfg, t.route)
		if err != nil {
			return script, given, files, err
		}
		if path == "" {
			if path = route.Transform; path == "" {
				return script, given, files, fmt.Errorf("routes.%s has no transform: name the script", t.route)
			}
		}
		names = namesOf(cfg, route)
		if secrets, err = cfg.Secrets(route); err != nil {
			return script, given, files, err
		}
		if t.lookups.folder == "" && cfg.Transforms.Lookups != "" {
			script.Tables, err = t.lookups.from(cfg.Transforms.Lookups)
			if err != nil {
				return script, given, files, err
			}
		}
		script.Root, script.Timeout = cfg.Dir, route.ScriptTimeout
	}
	script.Name, script.Path = nameOf(path), path
	if script.Root == "" {
		script.Root = rootOf(path)
	}
	files = append(files, path)
	if script.Tables == nil {
		if script.Tables, err = t.lookups.of(path); err != nil {
			return script, given, files, err
		}
	}

	var text []byte
	if kind := core.Kind(t.event); slices.Contains(core.Kinds, kind) {
		text = sample(kind, "435", "319", "Sample Form")
	} else if t.event == "-" {
		text, err = io.ReadAll(c.InOrStdin())
	} else {
		files = append(files, t.event)
		text, err = os.ReadFile(t.event)
	}
	if err != nil {
		return script, given, files, fmt.Errorf("--event: %w", err)
	}
	if given, err = workbench.ParseGiven(text); err != nil {
		return script, given, files, fmt.Errorf("--event %s: %w", t.event, err)
	}
	given.Names = given.Names.Or(names)
	if given.Secrets == nil {
		given.Secrets = secrets
	}
	if t.record != "" {
		files = append(files, t.record)
		if given.Record, err = os.ReadFile(t.record); err != nil {
			return script, given, files, fmt.Errorf("--record: %w", err)
		}
		if !json.Valid(given.Record) {
			return script, given, files, fmt.Errorf("--record %s: it is not JSON", t.record)
		}
	}
	return script, given, files, nil
}

func routeOf(c *config.Config, name string) (config.Route, error) {
	var known []string
	for _, r := range c.Routes {
		if r.Name == name {
			return r, nil
		}
		known = append(known, r.Name)
	}
	return config.Route{}, fmt.Errorf("--route: %s has no route %q; it has %s", c.Path, name, strings.Join(known, ", "))
}

// namesOf are a route's names, on the first of its hooks.
func namesOf(c *config.Config, r config.Route) workbench.Names {
	n := workbench.Names{Route: r.Name}
	for _, h := range c.Hooks {
		if r.Serves(h.Name) {
			n.Hook, n.Study, n.Stage = h.Name, h.Study, h.Stage
			break
		}
	}
	return n
}

func printRunJSON(w io.Writer, run workbench.Run) error {
	var at string
	if run.Outcome.Error != nil {
		at = run.Outcome.Error.Position
	}
	return printJSON(w, struct {
		OK bool `json:"ok"`
		workbench.Outcome
		Position string   `json:"position,omitempty"`
		Logs     []string `json:"logs"`
		TookMS   float64  `json:"took_ms"`
	}{run.Outcome.Error == nil, run.Outcome, at, append([]string{}, run.Logs...), inMS(run.Took)})
}

func inMS(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }

func printRun(w io.Writer, run workbench.Run) {
	colour := coloursFor(w)
	o := run.Outcome
	for i, m := range o.Messages {
		title := m.ContentType
		if len(o.Messages) > 1 {
			title = fmt.Sprintf("message %d of %d, %s", i+1, len(o.Messages), m.ContentType)
		}
		fmt.Fprintln(w, colour.faint(printable(title)))
		for _, name := range slices.Sorted(maps.Keys(m.Headers)) {
			fmt.Fprintf(w, "%s %s: %s\n", colour.faint("header"), printable(name), printable(m.Headers[name]))
		}
		if m.Key != "" {
			fmt.Fprintln(w, colour.faint("key"), printable(m.Key))
		}
		if m.Path != "" {
			fmt.Fprintln(w, colour.faint("path"), printable(m.Path))
		}
		fmt.Fprint(w, plain.lines(0, m.Show()))
	}
	switch {
	case o.Skip != nil:
		fmt.Fprintln(w, "skipped:", printable(*o.Skip))
	case o.Reject != nil:
		fmt.Fprintln(w, "rejected, the site's user reads:", printable(*o.Reject))
	case o.Error != nil:
		fmt.Fprintln(w, colour.red(string(o.Error.Code)))
		fmt.Fprint(w, plain.lines(0, withExcerpt(o.Error.Position, o.Error.Text)))
	}
	if len(run.Logs) > 0 {
		fmt.Fprintln(w, colour.faint("log"))
		for _, line := range run.Logs {
			fmt.Fprint(w, plain.lines(2, line))
		}
	}
	fmt.Fprintln(w, colour.faint(fmt.Sprintf("took %.1f ms", inMS(run.Took))))
}
