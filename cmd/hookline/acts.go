package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/hookline/hookline/core/admin"
)

// act is something that an operator does to deliveries.
type act struct {
	name, done, long string
	why              string // an example of a reason
	needsReason      bool
}

// actCall is a call of an act's command.
type actCall struct {
	act
	operator
	which            deliveryFlags
	reason           string
	dryRun, yes      bool
	reshape, force   bool
	stdin            io.Reader
	stdout, progress io.Writer
}

func actCommand(a act) *cobra.Command {
	call := actCall{act: a}
	c := &cobra.Command{
		Use: a.name + " [ID...]", Short: a.done + ", by their ids or by a filter",
		Long: a.long + `

Name the deliveries by their ids, or say which with the flags of "deliveries list". By
a filter they are counted first, and you are asked; --dry-run only counts them, --yes
does not ask.

The journal keeps who did it, and the reason. Exit code 0: all of it is done; 1: some
is not, and why; 2: wrong use; 3: no daemon answers.`,
		Example: "  hookline deliveries " + a.name + " 0199f3a1-7c2e-7d10-9a55-0c1d2e3f4a5b --reason \"" + a.why + "\"\n" +
			"  hookline deliveries " + a.name + " --route ehr --since 2h --reason \"" + a.why + "\"",
		RunE: func(c *cobra.Command, args []string) error {
			call.stdin, call.stdout, call.progress = c.InOrStdin(), c.OutOrStdout(), c.ErrOrStderr()
			f, err := call.which.filter(time.Now())
			if err != nil {
				return err
			}
			filter := admin.NewFilter(f)
			switch {
			case len(args) > 0 && len(filter) > 0:
				return usage(errors.New("name the deliveries by their ids, or say which with flags: not both"))
			case len(args) == 0 && len(filter) == 0:
				return usage(fmt.Errorf("%s takes the ids of deliveries, or flags that say which; `hookline deliveries list` shows them", c.CommandPath()))
			case len(args) > 0 && call.dryRun:
				return usage(errors.New("--dry-run counts what flags such as --route find: leave out the ids"))
			case !call.dryRun && strings.TrimSpace(call.reason) == "" && (a.needsReason || len(filter) > 0):
				return usage(errors.New("--reason is missing: say why, for whoever reads the journal later"))
			case len(args) > 0:
				return call.byIDs(c.Context(), args)
			}
			return call.byFilter(c.Context(), filter)
		},
	}
	call.add(c)
	call.which.add(c)
	l := c.Flags()
	required := "; required with flags that say which"
	if a.needsReason {
		required = "; required"
	}
	l.StringVar(&call.reason, "reason", "", "the `REASON`, in one line, for the journal"+required)
	l.BoolVar(&call.dryRun, "dry-run", false, "only count what the flags find")
	l.BoolVar(&call.yes, "yes", false, "do not ask")
	if a.name == "replay" {
		l.BoolVar(&call.reshape, "reshape", false, "run the transform of today instead of sending the same bytes")
		l.BoolVar(&call.force, "force", false, "also where it overwrites newer data")
	}
	return c
}

func (a *actCall) request() admin.Act {
	return admin.Act{Reason: a.reason, Reshape: a.reshape, Force: a.force}
}

func (a *actCall) byIDs(ctx context.Context, ids []string) error {
	call := a.request()
	call.IDs = ids
	answer, err := a.client().Do(ctx, a.name, call)
	if err != nil {
		return told(err)
	}
	if a.asJSON {
		if err := printJSON(a.stdout, answer); err != nil {
			return err
		}
	}
	if a.tell(answer.Results) > 0 {
		return exitError{code: exitFailed}
	}
	return nil
}

// tell prints what became of each, and returns how many were not done.
func (a *actCall) tell(results []admin.ActResult) (failed int) {
	for _, r := range results {
		if !r.OK {
			failed++
		}
		switch {
		case a.asJSON:
		case r.OK && r.New != "":
			fmt.Fprintf(a.stdout, "%s was %s and is sent again as %s\n", printable(r.ID), printable(string(r.Was)), printable(r.New))
		case r.OK:
			fmt.Fprintf(a.stdout, "%s was %s and is %s\n", printable(r.ID), printable(string(r.Was)), printable(string(r.Now)))
		default:
			fmt.Fprintf(a.progress, "%s %s\n", printable(r.ID), printable(r.Why))
		}
	}
	return failed
}

func (a *actCall) byFilter(ctx context.Context, f admin.Filter) error {
	client := a.client()
	count, err := client.Count(ctx, a.name, f)
	if err != nil {
		return told(err)
	}
	if a.dryRun && a.asJSON {
		return printJSON(a.stdout, count)
	}
	out := a.progress
	if a.dryRun {
		out = a.stdout
	}
	printCount(out, count)
	if a.asJSON && count.Count == 0 {
		return printJSON(a.stdout, &admin.ActResults{Results: []admin.ActResult{}})
	}
	if a.dryRun || count.Count == 0 {
		return nil
	}
	if !a.yes {
		if err := confirm(a.stdin, a.progress, a.name+" "+counted(count.Count, "delivery", "deliveries")+"?"); err != nil {
			return err
		}
	}
	if f["until"] == nil {
		f["until"] = []string{count.Until.String()} // not what comes meanwhile
	}
	call := a.request()
	call.Filter, call.Expect = f, &count.Count
	all := &admin.ActResults{Results: []admin.ActResult{}}
	seen, failed := 0, 0
	for {
		answer, err := client.Do(ctx, a.name, call)
		if err != nil {
			if seen > 0 {
				fmt.Fprintf(a.progress, "stopped after %d of %d, of which %d were not done\n", seen, count.Count, failed)
			}
			return told(err)
		}
		seen += len(answer.Results)
		failed += a.tell(answer.Results)
		if a.asJSON {
			all.Results = append(all.Results, answer.Results...)
		}
		if len(answer.Results) > 0 {
			fmt.Fprintf(a.progress, "%d of %d\n", seen, count.Count)
		}
		if answer.Next == "" {
			break
		}
		call.After, call.Expect = answer.Next, nil
	}
	if a.asJSON {
		if err := printJSON(a.stdout, all); err != nil {
			return err
		}
	}
	if failed > 0 {
		fmt.Fprintf(a.progress, "%d of %d were not done\n", failed, seen)
		return exitError{code: exitFailed}
	}
	return nil
}

func printCount(w io.Writer, count *admin.ActCount) {
	if count.Count == 0 {
		fmt.Fprintln(w, "no such deliveries")
		return
	}
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	row(t, "ROUTE", "STATE", "DELIVERIES")
	for _, g := range count.By {
		row(t, g.Route, string(g.State), fmt.Sprint(g.Count))
	}
	_ = t.Flush()
}

// confirm asks on a terminal. Elsewhere nobody can answer.
func confirm(stdin io.Reader, w io.Writer, question string) error {
	f, ok := stdin.(*os.File)
	if !ok || !term.IsTerminal(int(f.Fd())) {
		return usage(errors.New("there is no terminal to ask on: look with --dry-run, then use --yes"))
	}
	fmt.Fprintf(w, "%s [y/N] ", question)
	line, _ := bufio.NewReader(f).ReadString('\n')
	switch strings.ToLower(strings.TrimSpace(line)) {
	case "y", "yes":
		return nil
	}
	return exitError{code: exitFailed, err: errors.New("nothing was done")}
}

// counted is "1 delivery", "2 deliveries".
func counted(n int, one, many string) string {
	if n == 1 {
		return "1 " + one
	}
	return fmt.Sprintf("%d %s", n, many)
}
