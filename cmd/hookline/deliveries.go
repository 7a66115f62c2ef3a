package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strconv"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/hookline/hookline/core"
	"github.com/hookline/hookline/core/admin"
	"github.com/hookline/hookline/core/journal"
)

func deliveriesCommand() *cobra.Command {
	return group("deliveries", "See deliveries, send them again, or end them",
		deliveriesListCommand(),
		actCommand(act{
			name: "retry", done: "Send deliveries again",
			long: `Send deliveries again at once: those that wait, are held, or have ended without a
success. The bytes and the id that the target sees stay the same. One that has left
its record's line comes back to its old place in it.`,
			do: (*admin.Client).Retry,
		}),
		actCommand(act{
			name: "cancel", done: "End deliveries for good", needsReason: true,
			long: `End deliveries that are still open, for good, and let the record's later events go
on. What was sent already cannot be taken back.`,
			do: (*admin.Client).Cancel,
		}),
	)
}

func deliveriesListCommand() *cobra.Command {
	var o operator
	var f journal.DeliveryFilter
	var states []string
	var code string
	var stuck bool
	c := &cobra.Command{
		Use: "list", Short: "List deliveries, the newest first", Args: noArgs,
		Long: `List the deliveries in the running daemon's journal, the newest first. DUE is when
the next attempt is made; "behind" waits for an earlier one of its record.

With --stuck, list what waits for you: nothing sends it by itself, and its record's
later events wait behind it. Retry or cancel it.

Exit code 0: listed; 1: the daemon cannot; 2: a wrong flag; 3: no daemon answers.`,
		Example: "  hookline deliveries list --stuck\n  hookline deliveries list --state held,dead --route ehr",
		RunE: func(c *cobra.Command, _ []string) error {
			if err := pageOf(f.Limit); err != nil {
				return err
			}
			f.Code, f.States = core.Code(code), nil
			for _, s := range states {
				f.States = append(f.States, core.State(s))
			}
			list := (*admin.Client).Deliveries
			if stuck {
				list = (*admin.Client).Stuck
			}
			page, err := list(o.client(), c.Context(), f)
			if err != nil {
				return told(err)
			}
			if o.asJSON {
				return printJSON(c.OutOrStdout(), page)
			}
			if len(page.Deliveries) == 0 {
				fmt.Fprintln(c.ErrOrStderr(), "no such deliveries")
				return nil
			}
			printDeliveries(c.OutOrStdout(), page)
			return nil
		},
	}
	o.add(c)
	l := c.Flags()
	l.StringVar(&f.Hook, "hook", "", "only of this hook")
	l.StringVar(&f.Route, "route", "", "only on this route")
	l.StringVar(&f.Record, "record", "", "only of this record (trans_id)")
	l.StringSliceVar(&states, "state", nil, "only in these `STATES`, divided by commas: queued, running, waiting, unknown, held, delivered, skipped, rejected, dead, cancelled")
	l.StringVar(&code, "code", "", "only with this code, such as connection_refused")
	l.StringVar(&f.Event, "event", "", "only of the event with this id or reference")
	l.BoolVar(&stuck, "stuck", false, "only those that wait for you, and hold their record's later events")
	addPage(c, &f.Limit, &f.Cursor)
	return c
}

func printDeliveries(w io.Writer, page *admin.DeliveryPage) {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	row(t, "TIME", "DELIVERY", "EVENT", "ROUTE", "RECORD", "STATE", "CODE", "ATTEMPTS", "DUE")
	for i := range page.Deliveries {
		d := &page.Deliveries[i]
		row(t, d.CreatedAt.UTC().Format(time.RFC3339), d.ID, d.Ref, d.Route, d.TransID, string(d.State), string(d.Code), strconv.Itoa(d.Attempts), due(d))
	}
	_ = t.Flush()
	more(w, page.Next)
}

// due is when a delivery is tried next, "" for not by itself.
func due(d *admin.Delivery) string {
	switch {
	case !d.State.Open() || d.DueAt.IsZero():
		return ""
	case !d.Head:
		return "behind"
	}
	return d.DueAt.UTC().Format(time.RFC3339)
}

// act is something that an operator does to deliveries.
type act struct {
	name, done, long string
	needsReason      bool
	do               func(*admin.Client, context.Context, admin.Act) (*admin.ActResults, error)
}

func actCommand(a act) *cobra.Command {
	var o operator
	var reason string
	c := &cobra.Command{
		Use: a.name + " ID...", Short: a.done + ", by their ids",
		Long: a.long + `

The journal keeps who did it, and the reason. Exit code 0: all of it is done; 1: some
is not, and why; 2: wrong use; 3: no daemon answers.`,
		Example: "  hookline deliveries " + a.name + ` 0199f3a1-7c2e-7d10-9a55-0c1d2e3f4a5b --reason "target is up again"`,
		Args: func(c *cobra.Command, args []string) error {
			if len(args) > 0 {
				return nil
			}
			return usage(fmt.Errorf("%s takes the ids of deliveries; `hookline deliveries list` shows them", c.CommandPath()))
		},
		RunE: func(c *cobra.Command, args []string) error {
			if a.needsReason && reason == "" {
				return usage(errors.New("--reason is missing: say why, for whoever reads the journal later"))
			}
			answer, err := a.do(o.client(), c.Context(), admin.Act{IDs: args, Reason: reason})
			if err != nil {
				return told(err)
			}
			failed := false
			for _, r := range answer.Results {
				failed = failed || !r.OK
				switch {
				case o.asJSON:
				case r.OK:
					fmt.Fprintf(c.OutOrStdout(), "%s was %s and is %s\n", printable(r.ID), printable(string(r.Was)), printable(string(r.Now)))
				default:
					fmt.Fprintf(c.ErrOrStderr(), "%s %s\n", printable(r.ID), printable(r.Why))
				}
			}
			if o.asJSON {
				if err := printJSON(c.OutOrStdout(), answer); err != nil {
					return err
				}
			}
			if failed {
				return exitError{code: exitFailed}
			}
			return nil
		},
	}
	o.add(c)
	c.Flags().StringVar(&reason, "reason", "", "why, in one line, for the journal and the log")
	return c
}
