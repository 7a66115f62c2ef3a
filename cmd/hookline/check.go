package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/hookline/hookline/core/admin"
	"github.com/hookline/hookline/core/app"
)

func checkCommand() *cobra.Command {
	var flags configFlags
	var probe, asJSON bool
	c := &cobra.Command{
		Use: "check", Short: "Check the configuration: scripts, plugins, certificates, targets", Args: noArgs,
		Long: `Do everything that a start does, except listening: read the configuration, compile
the transforms, start and configure the plugins, read the certificates, look at the
journal without a change to it. With --probe, also try to reach each target, without a
delivery, and the journal's Postgres database.

If a daemon of this configuration runs on the set that was accepted last, because it
could not use the files, that is told too.

Exit code 0: all is well; 1: the journal cannot be used or a probe failed; 2: the
configuration is bad.`,
		RunE: func(c *cobra.Command, _ []string) error {
			report, err := check(c, &flags, probe)
			daemon := recalledDaemon(c, &flags, asJSON)
			out := c.OutOrStdout()
			switch {
			case err != nil && asJSON:
				failure := map[string]any{"ok": false, "errors": strings.Split(err.Error(), "\n")}
				if daemon != nil {
					failure["daemon"] = daemon
				}
				if encErr := json.NewEncoder(out).Encode(failure); encErr != nil {
					return encErr
				}
				return exitError{code: exitCode(err)}
			case err != nil:
				return err
			case asJSON:
				enc := json.NewEncoder(out)
				enc.SetIndent("", "  ")
				if err := enc.Encode(struct {
					OK bool `json:"ok"`
					*app.CheckReport
					Daemon *admin.Status `json:"daemon,omitempty"`
				}{!report.Failed(), report, daemon}); err != nil {
					return err
				}
			default:
				printReport(out, report)
			}
			if report.Failed() {
				return exitError{code: exitFailed}
			}
			return nil
		},
	}
	flags.add(c)
	c.Flags().BoolVar(&probe, "probe", false, "try to reach each target, without a delivery, and the journal's database")
	c.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return c
}

// recalledDaemon is the status of the running daemon if it does not run on the
// files of now, because they could not be used when it started; otherwise nil.
func recalledDaemon(c *cobra.Command, flags *configFlags, quiet bool) *admin.Status {
	ctx, cancel := context.WithTimeout(c.Context(), time.Second)
	defer cancel()
	status, err := admin.NewClient(adminSocket(flags)).Status(ctx)
	if err != nil || status.Recalled == nil {
		return nil // whether a daemon runs is not what was asked
	}
	if !quiet {
		fmt.Fprintf(c.ErrOrStderr(), "the daemon runs on the configuration that was accepted on %s, as the files could not be used when it started: `hookline reload` once they are good\n",
			status.Recalled.AcceptedAt)
	}
	return status
}

func check(c *cobra.Command, flags *configFlags, probe bool) (*app.CheckReport, error) {
	cfg, err := flags.load()
	if err != nil {
		return nil, err
	}
	// What children say at their start is of use here only when it goes wrong.
	log := slog.New(slog.NewTextHandler(c.ErrOrStderr(), &slog.HandlerOptions{Level: slog.LevelWarn}))
	report, err := app.Check(c.Context(), cfg, log, probe)
	if err != nil {
		var unusable *app.Unusable
		if !errors.As(err, &unusable) {
			err = exitError{code: exitEnvironment, err: err}
		}
		return nil, err
	}
	return report, nil
}

func printReport(w io.Writer, r *app.CheckReport) {
	for _, warning := range r.Warnings {
		fmt.Fprintln(w, "warning:", warning)
	}
	fmt.Fprintln(w, "hooks:  ", strings.Join(r.Hooks, ", "))
	fmt.Fprintln(w, "routes: ", strings.Join(r.Routes, ", "))
	for _, s := range r.Scripts {
		golden := ""
		if s.Golden > 0 {
			golden = fmt.Sprintf(", golden pairs that it gives: %d", s.Golden)
		}
		fmt.Fprintf(w, "transform of %s compiles (sha256 %.12s)%s\n", s.Route, s.SHA256, golden)
	}
	for _, t := range r.TrialKit {
		use := "for ctx.trialkit only: no route has enrich = true"
		if len(t.Routes) > 0 {
			use = "and enriches " + strings.Join(t.Routes, ", ")
		}
		fmt.Fprintf(w, "hook %s reads %s/%s, %s (not tried)\n", t.Hook, strings.TrimSuffix(t.URL, "/"), t.Record, use)
	}
	for _, cert := range r.Certificates {
		fmt.Fprintf(w, "certificate %s is valid until %s (%d days)\n", cert.File, cert.NotAfter.Format("2006-01-02"), cert.DaysLeft)
	}
	for _, t := range r.Transports {
		fmt.Fprintf(w, "transport %s: plugin %s %s started and took its settings\n", t.Name, t.Plugin, t.Version)
		if t.Probe == nil {
			continue
		}
		verdict := "can be reached"
		if !t.Probe.OK {
			verdict = "CANNOT be reached: " + string(t.Probe.Code)
		}
		if t.Probe.Detail != "" {
			verdict += " (" + t.Probe.Detail + ")"
		}
		fmt.Fprintf(w, "  its target %s\n", verdict)
	}
	if r.Alerts != "" {
		fmt.Fprintln(w, "alerts → transport", r.Alerts)
	}
	if !r.Journal.OK {
		fmt.Fprint(w, "journal CANNOT be used: ", r.Journal.Detail, "\n")
	} else {
		fmt.Fprintln(w, "journal:", r.Journal.Detail)
	}
	if !r.Failed() {
		fmt.Fprintln(w, "ok")
	}
}
