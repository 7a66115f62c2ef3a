package main

import (
	"fmt"
	"io"
	"strconv"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/hookline/hookline/core/admin"
)

func deliveriesCommand() *cobra.Command {
	return group("deliveries", "See deliveries, send them again, hold or end them",
		deliveriesListCommand(),
		actCommand(act{
			name: "retry", done: "Send deliveries again", why: "the target is up again",
			long: `Send deliveries again at once: those that wait, are held, or have ended without a
success. The bytes and the id that the target sees stay the same. One that has left
its record's line comes back to its old place in it.`,
		}),
		actCommand(act{
			name: "cancel", done: "End deliveries for good", why: "corrected by phone", needsReason: true,
			long: `End deliveries that are still open, for good, and let the record's later events go
on. What was sent already cannot be taken back.`,
		}),
		actCommand(act{
			name: "hold", done: "Keep deliveries from being sent", why: "the target moves tonight", needsReason: true,
			long: `Keep open deliveries from being sent until they are released. Their records' later
events wait behind them.`,
		}),
		actCommand(act{
			name: "release", done: "Send what is held", why: "the target has moved",
			long: `Send deliveries that are held, in their old places: of a record, the first comes
first.`,
		}),
		actCommand(act{
			name: "replay", done: "Send again what has ended", why: "the target has lost it", needsReason: true,
			long: `Send again what has ended, delivered or not, as a new delivery with an id of its own:
the bytes that were sent before, or with --reshape what the transform of today makes.
It is the last of its record, so it is refused where it would overwrite newer data,
unless you --force it.`,
		}),
	)
}

func deliveriesListCommand() *cobra.Command {
	var o operator
	var which deliveryFlags
	var limit int
	var cursor string
	c := &cobra.Command{
		Use: "list", Short: "List deliveries, the newest first", Args: noArgs,
		Long: `List the deliveries in the running daemon's journal, the newest first. DUE is when
the next attempt is made; "behind" waits for an earlier one of its record.

With --stuck, list what waits for you: nothing sends it by itself, and its record's
later events wait behind it. Retry or cancel it.

Exit code 0: listed; 1: the daemon cannot; 2: a wrong flag; 3: no daemon answers.`,
		Example: "  hookline deliveries list --stuck\n  hookline deliveries list --state held,dead --route ehr",
		RunE: func(c *cobra.Command, _ []string) error {
			if err := pageOf(limit); err != nil {
				return err
			}
			f, err := which.filter(time.Now())
			if err != nil {
				return err
			}
			f.Limit, f.Cursor = limit, cursor
			page, err := searchDeliveries(c.Context(), o.client(), f)
			if err != nil {
				return told(err)
			}
			if o.asJSON {
				return printJSON(c.OutOrStdout(), page)
			}
			if len(page.Deliveries) == 0 {
				fmt.Fprintln(c.ErrOrStderr(), "no such deliveries"+soFar(page.Next, page.ScannedUntil))
				return nil
			}
			printDeliveries(c.OutOrStdout(), page)
			return nil
		},
	}
	o.add(c)
	which.add(c)
	addPage(c, &limit, &cursor)
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
