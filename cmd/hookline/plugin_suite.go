package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"testing"

	"github.com/spf13/cobra"

	"github.com/hookline/hookline/core/app"
	"github.com/hookline/hookline/plugins/conformance"
)

// suiteFlags are those of `hookline plugin test`.
type suiteFlags struct {
	settings map[conformance.State]*string
	bad      string
	target   string
	states   []string
	noMTLS   bool
	asJSON   bool
}

func pluginTestCommand() *cobra.Command {
	f := suiteFlags{settings: map[conformance.State]*string{
		conformance.Up: new(string), conformance.Down: new(string), conformance.Slow: new(string), conformance.Rejecting: new(string),
	}}
	c := &cobra.Command{
		Use: "test PLUGIN [ARG...]", Short: "Run the conformance suite on a plugin",
		Args: func(c *cobra.Command, args []string) error {
			if len(args) > 0 {
				return nil
			}
			return usage(fmt.Errorf("%s takes a plugin, by its path or its built-in name; see %s --help", c.CommandPath(), c.CommandPath()))
		},
		Long: `Start a plugin as Hookline does, again and again, and check that it behaves as it must
in production: the handshake, its settings, deliveries, deadlines, a target that is
down, slow or says no, a crash, the end. PLUGIN is the path of an executable, or the
name of a built-in plugin.

Messages are really delivered: --settings must lead to a target for tests. What cannot
be checked with what is given is reported as "not checked", with what to give.

The target's states can be given in two ways:

  --down, --slow, --rejecting   settings that lead to a target in this state
  --target COMMAND              a command that controls the target of --settings. It is
                                called with one argument: reset (empty and up), up, down,
                                slow, rejecting, or received, for which it prints a JSON
                                array with the payloads that the target took, as strings
                                and in order. --states says which states it knows.

A Go plugin has more of it from a test: see docs/writing-a-plugin.md.

Exit code 0: all that was checked has passed; 1: a check has failed; 2: wrong use.`,
		Example: "  hookline plugin test ./vendor --settings test.json --down down.json\n" +
			"  hookline plugin test ./vendor --settings test.json --target ./target.sh --states down,slow",
		RunE: func(c *cobra.Command, args []string) error {
			s, err := f.subject(args)
			if err != nil {
				return usage(err)
			}
			return f.run(c, s)
		},
	}
	l := c.Flags()
	l.StringVar(f.settings[conformance.Up], "settings", "", "`FILE` with settings, JSON, that lead to a target for tests")
	for _, s := range []conformance.State{conformance.Down, conformance.Slow, conformance.Rejecting} {
		l.StringVar(f.settings[s], string(s), "", "`FILE` with settings that lead to a target that is "+string(s))
	}
	l.StringVar(&f.bad, "bad", "", "`FILE` with settings that must be refused: a JSON array of {name, settings, field}")
	l.StringVar(&f.target, "target", "", "`COMMAND` that controls the target of --settings")
	l.StringSliceVar(&f.states, "states", []string{string(conformance.Down)}, "`STATES` that --target knows, divided by commas")
	l.BoolVar(&f.noMTLS, "no-mtls", false, "the plugin cannot do AutoMTLS, as with mtls = false")
	l.BoolVar(&f.asJSON, "json", false, "print JSON")
	l.SetInterspersed(true)
	return c
}

func (f *suiteFlags) subject(args []string) (s conformance.Subject, err error) {
	s.NoMTLS = f.noMTLS
	if s.Command, err = app.PluginCommand(args[0], args[1:]...); err != nil {
		return s, err
	}
	s.Settings = map[conformance.State]json.RawMessage{}
	for state, file := range f.settings {
		if *file == "" {
			continue
		}
		var settings json.RawMessage
		if err := readJSON(*file, &settings); err != nil {
			return s, err
		}
		s.Settings[state] = settings
	}
	if f.bad != "" {
		if err := readJSON(f.bad, &s.Bad); err != nil {
			return s, err
		}
	}
	if f.target == "" {
		return s, nil
	}
	switch {
	case strings.TrimSpace(f.target) == "":
		return s, errors.New("--target is blank: write a command")
	case s.Settings[conformance.Up] == nil:
		return s, errors.New("--target needs --settings, which lead to the target that it controls")
	case len(s.Settings) > 1:
		return s, errors.New("give --target, or --down, --slow and --rejecting: not both")
	}
	for _, name := range f.states {
		state := conformance.State(name)
		if f.settings[state] == nil || state == conformance.Up {
			return s, fmt.Errorf("--states %s: use down, slow and rejecting", name)
		}
		s.States = append(s.States, state)
	}
	s.Target = func(tb testing.TB) conformance.Target {
		t := &commandTarget{tb: tb, command: f.target, settings: s.Settings[conformance.Up]}
		t.call("reset")
		tb.Cleanup(func() { t.call("reset") })
		return t
	}
	return s, nil
}

func readJSON(file string, into any) error {
	text, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	if err := json.Unmarshal(text, into); err != nil {
		return fmt.Errorf("%s is not JSON as it should be: %w", file, err)
	}
	return nil
}

func (f *suiteFlags) run(c *cobra.Command, s conformance.Subject) error {
	out := c.OutOrStdout()
	print := func(r conformance.Result) { r.Print(out) }
	if f.asJSON {
		print = nil
	}
	report := conformance.Run(c.Context(), s, print)
	if f.asJSON {
		if err := printJSON(out, report); err != nil {
			return err
		}
	} else {
		if report.Plugin != "" {
			fmt.Fprintf(out, "plugin %s %s: ", printable(report.Plugin), printable(report.Version))
		}
		fmt.Fprintf(out, "%d passed, %d failed, %d not checked\n", report.Passed, report.Failed, report.NotChecked)
	}
	if !report.OK() {
		return exitError{code: exitFailed}
	}
	return nil
}

// commandTarget is a target that a command controls.
type commandTarget struct {
	tb       testing.TB
	command  string
	settings json.RawMessage
}

func (t *commandTarget) Settings() json.RawMessage   { return t.settings }
func (t *commandTarget) Set(state conformance.State) { t.call(string(state)) }

func (t *commandTarget) call(what string) []byte {
	words := strings.Fields(t.command)
	cmd := exec.Command(words[0], append(words[1:], what)...)
	var said bytes.Buffer
	cmd.Stderr = &said
	out, err := cmd.Output()
	if err != nil {
		t.tb.Errorf("%s %s: %v %s", t.command, what, err, bytes.TrimSpace(said.Bytes()))
	}
	return out
}

func (t *commandTarget) Received() (got [][]byte) {
	var texts []string
	if err := json.Unmarshal(t.call("received"), &texts); err != nil {
		t.tb.Errorf("%s received must print a JSON array of strings: %v", t.command, err)
	}
	for _, text := range texts {
		got = append(got, []byte(text))
	}
	return got
}
