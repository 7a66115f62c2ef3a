package main

import (
	"bytes"
	"context"
	_ "embed"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/hookline/hookline/core"
	"github.com/hookline/hookline/core/app"
	"github.com/hookline/hookline/core/config"
)

//go:embed demo.toml
var demoConfig string

//go:embed demo.js
var demoScript []byte

const (
	demoEmail    = "trialkit@example.org"
	demoPassword = "hook-password"
	ehrUsername  = "hookline"
	ehrPassword  = "ehr-password"
)

func demoCommand() *cobra.Command {
	var verbose bool
	c := &cobra.Command{
		Use: "demo", Short: "Show all of it: events delivered, and targets that fail", Args: noArgs,
		Long: `Run a real daemon, a stand-in for the external system and a stand-in for TrialKit
on free ports, without any configuration: three events are delivered through a
transform, then three targets fail, each with the Protocol Error that a site's user
would see. The last one comes back, and gets what it missed from the journal.

Exit code 0: shown; 3: something outside, such as no free port.`,
		RunE: func(c *cobra.Command, _ []string) error {
			logs := io.Discard
			if verbose {
				logs = c.ErrOrStderr()
			}
			return demo(c.Context(), c.OutOrStdout(), slog.New(slog.NewTextHandler(logs, nil)))
		},
	}
	c.Flags().BoolVar(&verbose, "verbose", false, "print the daemon's log as well")
	return c
}

// target is an HTTP server of the demo, on a free port.
type target struct {
	url    string
	server *http.Server
	done   chan struct{}
}

func startTarget(address string, handler http.Handler) (*target, error) {
	l, err := net.Listen("tcp", address)
	if err != nil {
		return nil, fmt.Errorf("a port for the demo: %w", err)
	}
	t := &target{
		url:    "http://" + l.Addr().String(),
		server: &http.Server{Handler: handler, ReadHeaderTimeout: 10 * time.Second},
		done:   make(chan struct{}),
	}
	go func() { defer close(t.done); _ = t.server.Serve(l) }()
	return t, nil
}

func (t *target) stop() {
	_ = t.server.Close()
	<-t.done
}

func demo(ctx context.Context, out io.Writer, log *slog.Logger) error {
	dir, err := os.MkdirTemp("", "hookline-demo-")
	if err != nil {
		return err
	}
	defer func() { _ = os.RemoveAll(dir) }()
	if err := os.WriteFile(filepath.Join(dir, "demo.js"), demoScript, 0o600); err != nil {
		return err
	}

	// What the targets print is held back until the caller has its answer: the
	// story reads in order.
	var received bytes.Buffer
	urls := map[string]string{}
	for name, s := range map[string]*sink{
		"EHR":     {status: http.StatusOK, username: ehrUsername, password: ehrPassword, out: &received},
		"FAILING": {status: http.StatusInternalServerError, out: io.Discard},
		"HANGING": {hang: true, out: io.Discard},
		"DOWN":    {out: io.Discard},
	} {
		t, err := startTarget("127.0.0.1:0", s)
		if err != nil {
			return err
		}
		urls[name] = t.url
		if name == "DOWN" {
			t.stop() // its port is free now: connections are refused
		} else {
			defer t.stop()
		}
	}

	text := demoConfig
	for name, url := range urls {
		text = strings.ReplaceAll(text, "{"+name+"}", url)
	}
	secrets := []string{"DEMO_HOOK_PASSWORD=" + demoPassword, "DEMO_EHR_PASSWORD=" + ehrPassword}
	daemon, err := app.New(ctx, app.Options{
		Log:  log,
		Load: func() (*config.Config, error) { return config.Parse("demo.toml", []byte(text), dir, nil, secrets) },
	})
	if err != nil {
		return err
	}
	defer daemon.Stop()
	address := "http://" + daemon.Addrs()[0].String()

	fmt.Fprintf(out, `Hookline listens on %s, with its plugin and its transform in child
processes. "TrialKit" calls it; "Hospital EHR" is an HTTP server with Basic auth.

`, address)
	fmt.Fprintln(out, "── Three events, shaped by a transform and delivered ──")
	for _, kind := range core.Kinds {
		body := sample(kind, "435", "319", "Sample Form")
		fmt.Fprintf(out, "\n%s: TrialKit sends\n    %s\n", kind, body)
		r, err := callDemo(ctx, address, "study", body)
		if err != nil {
			return err
		}
		fmt.Fprintf(out, "  Hospital EHR receives\n%s", received.String())
		received.Reset()
		r.print(out)
		if !r.ok() {
			return exitError{code: exitFailed, err: fmt.Errorf("the demo's %s was not delivered: %s", kind, r.raw)}
		}
	}

	fmt.Fprintln(out, "\n── Three targets that fail: what the site's user sees ──")
	for _, failure := range []struct{ hook, story string }{
		{"failing", "The target answers 500"},
		{"hanging", "The target takes the event and never answers (the route's timeout is 1s)"},
		{"down", "The target is down (Hookline tries twice, and goes on in the background)"},
	} {
		fmt.Fprintf(out, "\n%s:\n", failure.story)
		r, err := callDemo(ctx, address, failure.hook, sample(core.Update, "435", "319", "Sample Form"))
		if err != nil {
			return err
		}
		r.print(out)
		if r.ok() {
			return exitError{code: exitFailed, err: fmt.Errorf("the demo's target %q did not fail", failure.hook)}
		}
	}
	fmt.Fprintln(out, "\nThe same record is saved again meanwhile: nobody has to wait for the target")
	r, err := callDemo(ctx, address, "down", sample(core.Update, "435", "319", "Sample Form"))
	if err != nil {
		return err
	}
	r.print(out)
	if err := comeBack(ctx, out, strings.TrimPrefix(urls["DOWN"], "http://")); err != nil {
		return err
	}
	fmt.Fprint(out, `
Next: begin a configuration of your own, which says how to run it:
  hookline init trialkit
`)
	return nil
}

// comeBack starts the target that was down, and waits for the two events that it
// missed.
func comeBack(ctx context.Context, out io.Writer, address string) error {
	fmt.Fprintln(out, "\n── That target comes back: what was kept in the journal arrives, in order ──\n\n  Hospital EHR receives")
	came := make(chan struct{}, 2)
	s := &sink{status: http.StatusOK, out: out}
	t, err := startTarget(address, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s.ServeHTTP(w, r)
		came <- struct{}{}
	}))
	if err != nil {
		return err
	}
	defer t.stop()
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	for range cap(came) {
		select {
		case <-came:
		case <-ctx.Done():
			return exitError{code: exitFailed, err: errors.New("the demo's target came back, and did not get what was kept for it")}
		}
	}
	return nil
}

func callDemo(ctx context.Context, address, hook string, body []byte) (*reply, error) {
	c := &caller{url: address + "/hooks/" + hook, email: demoEmail, password: demoPassword}
	return c.send(ctx, body)
}
