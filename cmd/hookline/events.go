package main

import (
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"
	"unicode"
	"unicode/utf16"
	"unicode/utf8"

	"github.com/spf13/cobra"

	"github.com/hookline/hookline/core"
	"github.com/hookline/hookline/core/admin"
)

// operator are the flags of the commands that call the daemon.
type operator struct {
	flags  configFlags
	daemon daemon
	asJSON bool
}

func (o *operator) add(c *cobra.Command) {
	o.flags.add(c)
	o.daemon.add(c, &o.flags)
	c.Flags().BoolVar(&o.asJSON, "json", false, "print JSON")
}

func (o *operator) client() *admin.Client { return admin.Connect(o.daemon.at) }

// told gives what the daemon answered its exit code. What it refuses is what
// stood on the command line.
func told(err error) error {
	var answer *admin.Error
	switch {
	case err == nil:
		return nil
	case errors.Is(err, admin.ErrRefused):
		return usage(err)
	case errors.As(err, &answer):
		return exitError{code: exitFailed, err: err}
	}
	return exitError{code: exitEnvironment, err: err}
}

// group is a command that has only subcommands.
func group(use, short string, commands ...*cobra.Command) *cobra.Command {
	c := &cobra.Command{
		Use: use, Short: short, Args: noArgs,
		RunE:                       func(c *cobra.Command, _ []string) error { return c.Help() },
		SuggestionsMinimumDistance: 2,
	}
	c.AddCommand(commands...)
	return c
}

func eventsCommand() *cobra.Command {
	return group("events", "See what TrialKit sent and what became of it", eventsListCommand(), eventsShowCommand(), eventsWatchCommand(), eventsRetryCommand())
}

func eventsListCommand() *cobra.Command {
	var o operator
	var which eventFlags
	var limit int
	var cursor string
	c := &cobra.Command{
		Use: "list", Short: "List the events in the journal, the newest first", Args: noArgs,
		Long: `List the events in the running daemon's journal, the newest first: what came, what
the caller was told, and how each delivery stands. A search for what is rare may take
a while in a large journal; after 30 s it tells how far it got.

Exit code 0: listed; 1: the daemon cannot; 2: a wrong flag; 3: no daemon answers.`,
		Example: "  hookline events list --hook demo --since 2h\n  hookline events list --route ehr --state dead,held\n  hookline events list --refused",
		RunE: func(c *cobra.Command, _ []string) error {
			if err := pageOf(limit); err != nil {
				return err
			}
			f, err := which.filter(time.Now())
			if err != nil {
				return err
			}
			f.Limit, f.Cursor = limit, cursor
			page, err := searchEvents(c.Context(), o.client(), f)
			if err != nil {
				return told(err)
			}
			if o.asJSON {
				return printJSON(c.OutOrStdout(), page)
			}
			if len(page.Events) == 0 {
				fmt.Fprintln(c.ErrOrStderr(), "no such events"+soFar(page.Next, page.ScannedUntil))
				return nil
			}
			printEvents(c.OutOrStdout(), page)
			return nil
		},
	}
	o.add(c)
	which.add(c)
	addPage(c, &limit, &cursor)
	return c
}

// addPage adds the flags of a list that comes in pages.
func addPage(c *cobra.Command, limit *int, cursor *string) {
	c.Flags().IntVar(limit, "limit", 50, "`N` at most, up to 1000")
	c.Flags().StringVar(cursor, "cursor", "", "go on at the `CURSOR` with which the last page ended")
}

// pageOf refuses the limit that would stand for the daemon's own; it knows the
// others.
func pageOf(limit int) error {
	if limit == 0 {
		return usage(errors.New("--limit 0: it must be between 1 and 1000"))
	}
	return nil
}

// moment reads a time, or how long ago it was.
func moment(flag, s string, now time.Time) (time.Time, error) {
	if s == "" {
		return time.Time{}, nil
	}
	if ago, err := time.ParseDuration(s); err == nil && ago >= 0 {
		return now.Add(-ago), nil
	}
	t, err := time.Parse(time.RFC3339, s)
	if err != nil {
		return t, usage(fmt.Errorf("%s %s: write how long ago, such as 90m or 48h, or a time such as 2026-01-31T08:30:00Z", flag, strconv.Quote(s)))
	}
	return t, nil
}

// maxCell is how many characters of a form's name a table shows.
const maxCell = 32

func printEvents(w io.Writer, page *admin.EventPage) {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	row(t, "TIME", "REF", "HOOK", "KIND", "FORM", "RECORD", "ANSWER", "DELIVERIES")
	for i := range page.Events {
		e := &page.Events[i]
		answer := ""
		if e.Answer != nil {
			answer = strconv.Itoa(e.Answer.Status)
		}
		row(t, e.ReceivedAt.UTC().Format(time.RFC3339), e.Ref, e.Hook, string(e.Kind), short(strings.TrimSpace(e.FormID+" "+e.FormName)),
			e.TransID, answer, deliveries(e))
	}
	_ = t.Flush()
	more(w, page.Next)
}

func deliveries(e *admin.Event) string {
	if e.Refused != nil {
		return "refused: " + string(e.Refused.Code)
	}
	parts := make([]string, len(e.Deliveries))
	for i, d := range e.Deliveries {
		parts[i] = d.Route + " " + string(d.State)
	}
	return strings.Join(parts, ", ")
}

// row writes cells, an empty one as "-".
func row(w io.Writer, cells ...string) {
	for i, cell := range cells {
		cells[i] = cmp.Or(printable(cell), "-")
	}
	fmt.Fprintln(w, strings.Join(cells, "\t"))
}

func short(s string) string {
	if utf8.RuneCountInString(s) <= maxCell {
		return s
	}
	return string([]rune(s)[:maxCell-1]) + "…"
}

func more(w io.Writer, next string) {
	if next != "" {
		fmt.Fprintf(w, "There are more: run the same again with --cursor %s\n", printable(next))
	}
}

func eventsShowCommand() *cobra.Command {
	var o operator
	var body bool
	c := &cobra.Command{
		Use: "show ID|REFERENCE", Short: "Show all that is known of one event",
		Long: `Show one event: what came, what the caller was told and when, and each delivery
with its attempts and what operators did to it. It is named by its id, or by the
reference that the site's user has read on the screen.

With --body, print what came, byte for byte, and nothing else. It may hold data of
patients; the daemon's log notes who read it.

Exit code 0: shown; 1: there is no such event; 2: a wrong flag; 3: no daemon answers.`,
		Example: "  hookline events show K7QX2M4D",
		Args:    one("the event's id or reference"),
		RunE: func(c *cobra.Command, args []string) error {
			if body && o.asJSON {
				return usage(errors.New("--body prints what came as it is: leave out --json"))
			}
			out := c.OutOrStdout()
			if body {
				content, err := o.client().Body(c.Context(), args[0])
				if err != nil {
					return told(err)
				}
				_, err = out.Write(content)
				return err
			}
			e, err := o.client().Event(c.Context(), args[0])
			if err != nil {
				return told(err)
			}
			if o.asJSON {
				return printJSON(out, e)
			}
			printEvent(out, e, time.Now())
			return nil
		},
	}
	o.add(c)
	c.Flags().BoolVar(&body, "body", false, "print the body as it came, and nothing else")
	return c
}

// one wants exactly one argument.
func one(what string) cobra.PositionalArgs {
	return func(c *cobra.Command, args []string) error {
		if len(args) == 1 && args[0] != "" {
			return nil
		}
		return usage(fmt.Errorf("%s takes one argument, %s; see %s --help", c.CommandPath(), what, c.CommandPath()))
	}
}

func printEvent(w io.Writer, e *admin.EventDetail, now time.Time) {
	line := func(label, format string, args ...any) {
		fmt.Fprintf(w, "%-10s %s\n", label, printable(fmt.Sprintf(format, args...)))
	}
	line("event", "%s", e.ID)
	line("reference", "%s", e.Ref)
	if e.Origin != "" {
		line("origin", "event %s, which was refused and driven again", e.Origin)
	}
	from := "stage " + e.Stage
	if e.Study != "" {
		from = "study " + e.Study + ", " + from
	}
	line("received", "%s on hook %s (%s)", e.ReceivedAt, e.Hook, from)
	if e.Refused == nil {
		line("what", "%s", what(e))
	}
	line("body", "%d bytes", e.Size)
	if r := e.Refused; r != nil {
		line("refused", "%s", r.Code)
		if r.Key == "" || !strings.HasPrefix(r.Rule, r.Key) {
			line("  key", "%s", cmp.Or(r.Key, "the body as a whole"))
		}
		line("  rule", "%s", r.Rule)
	}
	if a := e.Answer; a == nil {
		line("answered", "not yet, or the daemon ended before it could")
	} else {
		line("answered", "%d %s at %s, after %s", a.Status, a.Code, a.At, max(0, a.At.Sub(e.ReceivedAt.Time)))
		if a.Detail != "" {
			line("  told", "%s", a.Detail)
		}
		if a.GoneMS > 0 {
			line("  but", "the caller had hung up after %s", milliseconds(a.GoneMS))
		}
	}
	if len(e.Deliveries) == 0 && e.Refused == nil {
		line("delivery", "none: no route takes it")
	}
	for i := range e.Deliveries {
		fmt.Fprintln(w)
		printDelivery(w, &e.Deliveries[i], now)
	}
	printActs(w, e.Acts)
}

func what(e *admin.EventDetail) string {
	s := fmt.Sprintf("%s of record %s, form %s", e.Kind, e.TransID, e.FormID)
	if e.FormName != "" {
		s += ` "` + e.FormName + `"`
	}
	if e.WorkflowID != "" || e.WorkflowName != "" {
		s += fmt.Sprintf(", review level %s", strings.TrimSpace(e.WorkflowID+" "+e.WorkflowName))
	}
	return s
}

func printDelivery(w io.Writer, d *admin.DeliveryDetail, now time.Time) {
	line := func(label, text string) { fmt.Fprintf(w, "  %-9s %s\n", label, printable(text)) }
	fmt.Fprintf(w, "route %s: %s\n", printable(d.Route), printable(stateAndCode(&d.Delivery)))
	line("delivery", d.ID)
	if d.Origin != "" {
		line("replay of", d.Origin)
	}
	if d.Reason != "" {
		line("reason", d.Reason)
	}
	if d.Position != "" {
		line("script", d.Position)
	}
	for _, logged := range d.Logs {
		line("logged", logged)
	}
	if s := next(&d.Delivery, now); s != "" {
		line("next", s)
	}
	if !d.EndedAt.IsZero() {
		line("ended", d.EndedAt.String())
	}
	for _, m := range d.Messages {
		s := fmt.Sprintf("%s, %s, %d bytes", m.ID, m.ContentType, m.Size)
		if m.Key != "" {
			s += ", key " + m.Key
		}
		if m.Path != "" {
			s += ", path " + m.Path
		}
		line("message", s)
	}
	printHistory(w, d.History)
	printActs(w, d.Acts)
}

func printHistory(w io.Writer, history []admin.Attempt) {
	if len(history) == 0 {
		return
	}
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	row(t, "  ATTEMPT", "TIME", "TOOK", "CODE", "TARGET", "DETAIL")
	for _, a := range history {
		status := ""
		if a.TargetStatus != 0 {
			status = strconv.Itoa(a.TargetStatus)
		}
		row(t, "  "+strconv.Itoa(a.N), a.StartedAt.String(), milliseconds(a.TookMS).String(), string(a.Code), status, a.Detail)
	}
	_ = t.Flush()
}

func printActs(w io.Writer, acts []admin.Done) {
	if len(acts) == 0 {
		return
	}
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	row(t, "  ACT", "TIME", "BY", "WAS", "NOW", "REASON")
	for _, a := range acts {
		row(t, "  "+a.Act, a.At.String(), a.Actor, string(a.Was), string(a.Now), a.Reason)
	}
	_ = t.Flush()
}

func stateAndCode(d *admin.Delivery) string {
	if d.Code == "" || string(d.Code) == string(d.State) {
		return string(d.State)
	}
	return string(d.State) + ", " + string(d.Code)
}

// next says what happens next to a delivery, "" for nothing at all.
func next(d *admin.Delivery, now time.Time) string {
	switch {
	case d.State == core.StateRunning:
		return "an attempt is being made"
	case !d.State.Open() && d.Blocks:
		return "it has ended, and the record's later events wait for you: retry or cancel it"
	case !d.State.Open():
		return ""
	case !d.Head && d.State != core.StateHeld:
		return "its turn comes after the record's earlier events"
	case d.State == core.StateHeld:
		return "nothing by itself: release or cancel it"
	case d.DueAt.IsZero():
		return "nothing by itself: retry or cancel it"
	case d.DueAt.After(now):
		return "an attempt at " + d.DueAt.String()
	}
	return "an attempt, as soon as there is room (due " + d.DueAt.String() + ")"
}

func milliseconds(ms int64) time.Duration { return time.Duration(ms) * time.Millisecond }

// printable shows text that others have written: what could move a terminal's
// cursor, or hide, is escaped.
func printable(s string) string {
	if !strings.ContainsFunc(s, hidden) && utf8.ValidString(s) {
		return s
	}
	var b strings.Builder
	for len(s) > 0 {
		r, n := utf8.DecodeRuneInString(s)
		if hidden(r) || r == utf8.RuneError && n == 1 {
			quoted := strconv.QuoteToASCII(s[:n])
			b.WriteString(quoted[1 : len(quoted)-1])
		} else {
			b.WriteString(s[:n])
		}
		s = s[n:]
	}
	return b.String()
}

// hidden are control and formatting characters.
func hidden(r rune) bool { return !unicode.IsGraphic(r) }

// printJSON writes v for machines that may be terminals.
func printJSON(w io.Writer, v any) error {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	enc.SetIndent("", "  ")
	if err := enc.Encode(v); err != nil {
		return err
	}
	_, err := io.WriteString(w, escaped(b.String()))
	return err
}

// escaped is JSON without what could move a terminal's cursor, or hide.
func escaped(text string) string {
	var out strings.Builder
	for _, r := range text {
		if r == '\n' || !hidden(r) {
			out.WriteRune(r)
			continue
		}
		for _, unit := range utf16.Encode([]rune{r}) { // it stands in a string
			fmt.Fprintf(&out, `\u%04x`, unit)
		}
	}
	return out.String()
}
