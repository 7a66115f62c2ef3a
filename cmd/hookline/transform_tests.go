package main

import (
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/hookline/hookline/transforms/workbench"
)

func transformTestCommand() *cobra.Command {
	var update, asJSON bool
	var junit string
	var tables lookups
	c := &cobra.Command{
		Use: "test [FOLDER|FILE]...", Short: "Run the golden pairs and the tests of transforms",
		Long: `Run the golden pairs and the tests of the transforms in a folder and below it; without
one, those of the folder transforms, or of this folder if there is none.

The golden pairs of ehr.ts are files in the folder ehr.golden beside it: NAME.in.json
holds an event, NAME.out.json all that must come of it. --update writes the latter.
Files named *.test.ts or *.test.js hold tests, with the module "hookline/test".

Exit code 0: all passed; 1: one failed, or there are none; 2: the command line is wrong.`,
		RunE: func(c *cobra.Command, args []string) error {
			if len(args) == 0 {
				args = []string{transformsFolder()}
			}
			var suites []workbench.Suite
			for _, target := range args {
				found, err := workbench.Find(target)
				if err != nil {
					return usage(err)
				}
				suites = append(suites, found...)
			}
			if len(suites) == 0 {
				return exitError{code: exitFailed, err: fmt.Errorf(
					"no tests found in %s: they are files named *.test.ts, and golden pairs such as ehr.golden/NAME.in.json beside ehr.ts; `hookline transform init` begins some",
					strings.Join(args, ", "))}
			}
			out := c.OutOrStdout()
			if asJSON {
				out = io.Discard
			}
			report, err := runSuites(c, out, suites, &tables, update)
			if err != nil {
				return err
			}
			if junit != "" {
				if err := report.writeJUnit(junit); err != nil {
					return usage(fmt.Errorf("--junit: %w", err))
				}
			}
			if asJSON {
				if err := report.printJSON(c.OutOrStdout()); err != nil {
					return err
				}
			}
			if report.failed > 0 {
				return exitError{code: exitFailed}
			}
			return nil
		},
	}
	tables.add(c)
	f := c.Flags()
	f.BoolVar(&update, "update", false, "write what comes of the golden pairs into their files; look at the difference before you keep it")
	f.BoolVar(&asJSON, "json", false, "print JSON")
	f.StringVar(&junit, "junit", "", "write a report in JUnit's XML to `FILE`")
	return c
}

// testReport is what came of all tests.
type testReport struct {
	results        []workbench.Result
	passed, failed int
	took           time.Duration
}

// runSuites runs the tests and prints each as it ends.
func runSuites(c *cobra.Command, out io.Writer, suites []workbench.Suite, tables *lookups, update bool) (*testReport, error) {
	bench, err := startBench(c.Context(), c.ErrOrStderr())
	if err != nil {
		return nil, err
	}
	defer bench.Stop()
	report := &testReport{}
	begin := time.Now()
	for _, s := range suites {
		script := workbench.Script{Name: nameOf(s.Path), Path: s.Path, Root: rootOf(s.Path)}
		if script.Tables, err = tables.of(s.Path); err != nil {
			return nil, usage(err)
		}
		var results []workbench.Result
		if s.Tests {
			results, err = bench.Tests(c.Context(), script)
		} else {
			results, err = bench.Golden(c.Context(), script, update)
		}
		if err != nil {
			if c.Context().Err() != nil {
				return nil, exitError{code: exitFailed, err: errors.New("interrupted")}
			}
			return nil, usage(err)
		}
		printResults(out, script.Name, results)
		for i := range results {
			if results[i].Failed() {
				report.failed++
			} else {
				report.passed++
			}
		}
		report.results = append(report.results, results...)
	}
	report.took = time.Since(begin)
	colour := coloursFor(out)
	last := fmt.Sprintf("%d passed", report.passed)
	if report.failed > 0 {
		last += ", " + colour.red(fmt.Sprintf("%d failed", report.failed))
	}
	fmt.Fprintf(out, "%s in %.2f s\n", last, report.took.Seconds())
	return report, nil
}

func printResults(w io.Writer, file string, results []workbench.Result) {
	colour := coloursFor(w)
	fmt.Fprintln(w, file)
	for _, r := range results {
		verdict := colour.green("ok  ")
		switch {
		case r.Failed():
			verdict = colour.red("FAIL")
		case r.Written:
			verdict = "new "
		}
		fmt.Fprintf(w, "  %s %s %s\n", verdict, title(r), colour.faint(fmt.Sprintf("(%.1f ms)", inMS(r.Took))))
		if !r.Failed() {
			continue
		}
		fmt.Fprint(w, colour.lines(7, withExcerpt(r.Position, r.Failure)))
		fmt.Fprint(w, colour.lines(7, r.Diff))
		for _, line := range r.Logs {
			fmt.Fprint(w, colour.lines(7, "log: "+line))
		}
	}
}

func title(r workbench.Result) string {
	switch {
	case r.Name == "":
		return "(the file)"
	case r.Golden:
		return "golden " + r.Name
	}
	return r.Name
}

func (r *testReport) printJSON(w io.Writer) error {
	type result struct {
		File     string   `json:"file"`
		Name     string   `json:"name"`
		Golden   bool     `json:"golden"`
		OK       bool     `json:"ok"`
		Failure  string   `json:"failure,omitempty"`
		Position string   `json:"position,omitempty"`
		Diff     string   `json:"diff,omitempty"`
		Logs     []string `json:"logs,omitempty"`
		Written  bool     `json:"written,omitempty"`
		TookMS   float64  `json:"took_ms"`
	}
	all := struct {
		OK      bool     `json:"ok"`
		Passed  int      `json:"passed"`
		Failed  int      `json:"failed"`
		TookMS  float64  `json:"took_ms"`
		Results []result `json:"results"`
	}{r.failed == 0, r.passed, r.failed, inMS(r.took), []result{}}
	for _, t := range r.results {
		all.Results = append(all.Results, result{
			t.File, t.Name, t.Golden, !t.Failed(), t.Failure, t.Position, t.Diff, t.Logs, t.Written, inMS(t.Took),
		})
	}
	return printJSON(w, all)
}

// The report in the form that build servers read.
type (
	junitSuites struct {
		XMLName  xml.Name      `xml:"testsuites"`
		Tests    int           `xml:"tests,attr"`
		Failures int           `xml:"failures,attr"`
		Time     string        `xml:"time,attr"`
		Suites   []*junitSuite `xml:"testsuite"`
	}
	junitSuite struct {
		Name     string      `xml:"name,attr"`
		Tests    int         `xml:"tests,attr"`
		Failures int         `xml:"failures,attr"`
		Time     string      `xml:"time,attr"`
		Cases    []junitCase `xml:"testcase"`
		took     time.Duration
	}
	junitCase struct {
		Name    string        `xml:"name,attr"`
		Class   string        `xml:"classname,attr"`
		Time    string        `xml:"time,attr"`
		Failure *junitFailure `xml:"failure"`
		Output  string        `xml:"system-out,omitempty"`
	}
	junitFailure struct {
		Message string `xml:"message,attr"`
		Text    string `xml:",cdata"`
	}
)

func (r *testReport) writeJUnit(path string) error {
	all := junitSuites{Tests: len(r.results), Failures: r.failed, Time: seconds(r.took)}
	var suite *junitSuite
	for _, t := range r.results {
		if suite == nil || suite.Name != t.File {
			suite = &junitSuite{Name: t.File}
			all.Suites = append(all.Suites, suite)
		}
		suite.Tests++
		suite.took += t.Took
		suite.Time = seconds(suite.took)
		one := junitCase{Name: title(t), Class: t.File, Time: seconds(t.Took), Output: strings.Join(t.Logs, "\n")}
		if t.Failed() {
			suite.Failures++
			first, _, _ := strings.Cut(t.Failure, "\n")
			one.Failure = &junitFailure{Message: first, Text: strings.TrimSpace(withExcerpt(t.Position, t.Failure) + "\n" + t.Diff)}
		}
		suite.Cases = append(suite.Cases, one)
	}
	text, err := xml.MarshalIndent(all, "", "  ")
	if err != nil {
		return err
	}
	if dir := filepath.Dir(path); dir != "." {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return err
		}
	}
	return os.WriteFile(path, append([]byte(xml.Header), append(text, '\n')...), 0o644)
}

func seconds(d time.Duration) string { return fmt.Sprintf("%.3f", d.Seconds()) }
