package main

import (
	"fmt"

	"github.com/spf13/cobra"

	"github.com/hookline/hookline/core/admin"
)

func releaseScriptCommand() *cobra.Command {
	var o operator
	var reason string
	c := &cobra.Command{
		Use: "release NAME", Short: "Run a script again that is in quarantine",
		Long: `A script that has cost its process twice is in quarantine: it is not run any more, and
its deliveries wait. "hookline alerts" lists such scripts. Mend the script and reload;
that ends it too. Release it if you know that it was not its fault, or was a single
event's.

NAME is the script as the alert names it: transforms/ehr.js. The journal keeps who did
it, and the reason. What waits is tried again by itself.

Exit code 0: it is run again; 1: it is not in quarantine; 2: wrong use; 3: no daemon
answers.`,
		Example: "  hookline transform release transforms/ehr.js --reason \"the event that hurt it is cancelled\"",
		Args: func(c *cobra.Command, args []string) error {
			if len(args) != 1 {
				return usage(fmt.Errorf("%s takes the name of one script; `hookline alerts` shows it", c.CommandPath()))
			}
			return nil
		},
		RunE: func(c *cobra.Command, args []string) error {
			done, err := o.client().ReleaseScript(c.Context(), admin.Release{Script: args[0], Reason: reason})
			if err != nil {
				return told(err)
			}
			if o.asJSON {
				return printJSON(c.OutOrStdout(), done)
			}
			for _, q := range done.Released {
				fmt.Fprintf(c.OutOrStdout(), "%s was in quarantine since %s and is run again\n", printable(q.Script), q.Since)
			}
			return nil
		},
	}
	o.add(c)
	c.Flags().StringVar(&reason, "reason", "", "the `REASON`, in one line, for the journal; required")
	return c
}
