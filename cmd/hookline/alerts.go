package main

import (
	"fmt"
	"io"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/hookline/hookline/core/admin"
)

func alertsCommand() *cobra.Command {
	var o operator
	c := &cobra.Command{
		Use: "alerts", Short: "List what needs you now", Args: noArgs,
		Long: `List the alerts that stand on the running daemon, and what to do about each. SENT says
whether the transport of [alerts] has confirmed the message.

Exit code 0: listed, also if there is none; 1: the daemon cannot; 2: a wrong flag;
3: no daemon answers.`,
		RunE: func(c *cobra.Command, _ []string) error {
			list, err := o.client().Alerts(c.Context())
			if err != nil {
				return told(err)
			}
			if o.asJSON {
				return printJSON(c.OutOrStdout(), list)
			}
			if len(list.Alerts) == 0 {
				fmt.Fprintln(c.ErrOrStderr(), "no alert stands")
				return nil
			}
			printAlerts(c.OutOrStdout(), list)
			return nil
		},
	}
	o.add(c)
	return c
}

func printAlerts(w io.Writer, list *admin.AlertList) {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	row(t, "SINCE", "ALERT", "SUBJECT", "COUNT", "SENT", "EVENTS")
	for i := range list.Alerts {
		a := &list.Alerts[i]
		count, sent := "", "no"
		if a.Count > 0 {
			count = strconv.Itoa(a.Count)
		}
		if a.Sent {
			sent = "yes"
		}
		row(t, a.Since.UTC().Format(time.RFC3339), a.Alert, a.Subject, count, sent, strings.Join(a.Refs, " "))
	}
	_ = t.Flush()
	fmt.Fprintln(w)
	for i := range list.Alerts {
		fmt.Fprintf(w, "%s: %s\n", printable(list.Alerts[i].Alert), printable(list.Alerts[i].Text))
	}
}
