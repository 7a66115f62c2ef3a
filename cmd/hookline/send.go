package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/hookline/hookline/core"
	"github.com/hookline/hookline/core/config"
)

// callerTimeout is .NET's HttpWebRequest default, which TrialKit probably has.
const callerTimeout = 100 * time.Second

// maxAnswer bounds what is read of an answer, in bytes.
const maxAnswer = 8 << 20

// caller calls a hook as TrialKit does.
type caller struct {
	url             string
	email, password string
	unix            string // path of a socket to connect to instead of the URL's host
	challenge       bool   // send no credentials until they are asked for, as .NET does
}

// reply is what a caller got.
type reply struct {
	status int
	answer core.Answer
	raw    []byte
	took   time.Duration
}

func (c *caller) send(ctx context.Context, body []byte) (*reply, error) {
	transport := &http.Transport{DisableKeepAlives: !c.challenge, ExpectContinueTimeout: time.Second}
	defer transport.CloseIdleConnections()
	if c.unix != "" {
		transport.DialContext = func(ctx context.Context, _, _ string) (net.Conn, error) {
			return (&net.Dialer{}).DialContext(ctx, "unix", c.unix)
		}
	}
	client := &http.Client{Transport: transport, Timeout: callerTimeout}
	start := time.Now()
	authorize := c.email != "" && !c.challenge
	for {
		req, err := http.NewRequestWithContext(ctx, http.MethodPost, c.url, bytes.NewReader(body))
		if err != nil {
			return nil, usage(fmt.Errorf("--url: %w", err))
		}
		req.Header.Set("Content-Type", "application/json")
		if c.challenge {
			req.Header.Set("Expect", "100-continue")
		}
		if authorize {
			req.SetBasicAuth(c.email, c.password)
		}
		resp, err := client.Do(req)
		if err != nil {
			return nil, err
		}
		raw, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer))
		_ = resp.Body.Close()
		if err != nil {
			return nil, err
		}
		if resp.StatusCode == http.StatusUnauthorized && !authorize && c.email != "" {
			authorize = true
			continue
		}
		r := &reply{status: resp.StatusCode, raw: raw, took: time.Since(start)}
		_ = json.Unmarshal(raw, &r.answer) // a relayed answer is the target's own
		return r, nil
	}
}

// ok tells whether TrialKit lets the user go on.
func (r *reply) ok() bool { return r.status >= 200 && r.status < 300 }

// print shows what the site's user sees, and below it what the integrator gets.
func (r *reply) print(w io.Writer) {
	took := r.took.Round(time.Millisecond)
	if r.ok() {
		fmt.Fprintf(w, "  TrialKit's user goes on working after %s.\n", took)
		fmt.Fprintf(w, "  %d %s\n", r.status, facts(&r.answer))
		return
	}
	detail := r.answer.Detail
	if detail == "" {
		detail = fmt.Sprintf("(status %d, without a text of Hookline's)", r.status)
	}
	fmt.Fprintf(w, "  ┌─ Protocol Error %s\n", strings.Repeat("─", 58))
	for _, line := range wrap(detail, 72) {
		fmt.Fprintf(w, "  │ %s\n", line)
	}
	fmt.Fprintf(w, "  └%s after %s\n", strings.Repeat("─", 60), took)
	fmt.Fprintf(w, "  %d %s\n", r.status, facts(&r.answer))
	if r.answer.Hint != "" {
		fmt.Fprintf(w, "  hint for the integrator: %s\n", r.answer.Hint)
	}
}

func facts(a *core.Answer) string {
	parts := []string{string(a.Code)}
	if a.Fault != "" {
		parts = append(parts, "stage "+string(a.Step), "fault "+string(a.Fault))
	}
	if a.Ref != "" {
		parts = append(parts, "reference "+a.Ref)
	}
	for _, d := range a.Deliveries {
		s := fmt.Sprintf("%s: %s", d.Route, d.Status)
		if d.Attempts > 1 {
			s += fmt.Sprintf(" (%d attempts)", d.Attempts)
		}
		parts = append(parts, s)
	}
	return strings.Join(parts, ", ")
}

func wrap(s string, width int) (lines []string) {
	var line string
	for _, word := range strings.Fields(s) {
		if line != "" && len(line)+1+len(word) > width {
			lines = append(lines, line)
			line = ""
		}
		line = strings.TrimSpace(line + " " + word)
	}
	return append(lines, line)
}

// sample is an event's body as TrialKit's help page shows it.
func sample(kind core.Kind, transID, formID, formName string) []byte {
	quote := func(s string) string {
		b, _ := json.Marshal(s) // a string always marshals
		return string(b)
	}
	record := fmt.Sprintf(`"trans_id":%s,"form_id":%s,"form_name":%s`, quote(transID), quote(formID), quote(formName))
	switch kind {
	case core.Insert:
		return []byte(`{` + record + `,"OnInsert":true}`)
	case core.Update:
		return []byte(`{` + record + `,"OnUpdate":true}`)
	default:
		return []byte(`{` + record + `,"OnReview":true,"wf_id":1,"wf_object":{"wf_id":1,"wf_seq":1,` +
			`"wf_name":"Monitor Review","wf_role1":4,"wf_role2":0,"wf_desc":"Monitor Review"}}`)
	}
}

func sendCommand() *cobra.Command {
	var to caller
	var transID, formID, formName, file string
	c := &cobra.Command{
		Use: "send insert|update|review", Short: "Call a hook as TrialKit does and show what the site's user would see",
		Long: `Call a hook as TrialKit does and show what the site's user would see.

Exit code 0: the user goes on working; 1: the user sees a Protocol Error; 2: wrong use;
3: nothing answers at the URL.`,
		Example:   "  HOOK_PASSWORD=secret hookline send update --email trialkit@example.org --password env:HOOK_PASSWORD",
		ValidArgs: []string{"insert", "update", "review"},
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) == 1 && new(core.Kind).UnmarshalText([]byte(args[0])) == nil {
				return nil
			}
			if len(args) == 0 && file != "" {
				return nil
			}
			return usage(errors.New("say which event to send: insert, update or review"))
		},
		RunE: func(c *cobra.Command, args []string) error {
			if u, err := url.Parse(to.url); err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" {
				return usage(errors.New("--url: write all of it, such as http://127.0.0.1:8787/hooks/demo"))
			}
			var body []byte
			var err error
			switch {
			case file == "-":
				body, err = io.ReadAll(c.InOrStdin())
			case file != "":
				body, err = os.ReadFile(file)
			default:
				body = sample(core.Kind(args[0]), transID, formID, formName)
			}
			if err != nil {
				return usage(fmt.Errorf("--file: %w", err))
			}
			if to.password, err = resolve(to.password); err != nil {
				return usage(fmt.Errorf("--password: %w", err))
			}
			r, err := to.send(c.Context(), body)
			if err != nil {
				return fmt.Errorf("TrialKit could not reach the hook: %w", err)
			}
			r.print(c.OutOrStdout())
			if !r.ok() {
				return exitError{code: exitFailed}
			}
			return nil
		},
	}
	f := c.Flags()
	f.StringVar(&to.url, "url", "http://127.0.0.1:8787/hooks/demo", "the hook's `URL`")
	f.StringVar(&to.unix, "unix", "", "connect to this Unix socket `PATH` instead of the URL's host")
	f.StringVar(&to.email, "email", "", "the hook's `EMAIL`")
	f.StringVar(&to.password, "password", "", "the hook's `PASSWORD`, better as env:NAME or file:PATH: a command line is no secret")
	f.BoolVar(&to.challenge, "challenge", false, "send no credentials until the hook asks for them, as .NET does")
	f.StringVar(&transID, "trans-id", "435", "the `RECORD`")
	f.StringVar(&formID, "form-id", "319", "the `FORM`")
	f.StringVar(&formName, "form-name", "Sample Form", "the form's `NAME`")
	f.StringVar(&file, "file", "", "send this `FILE` as it is (- for standard input)")
	return c
}

// resolve turns env:NAME and file:PATH into the secret.
func resolve(ref string) (string, error) {
	return config.ResolveReference(ref, ".", os.LookupEnv)
}
