package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"time"

	"github.com/spf13/cobra"

	"github.com/hookline/hookline/core/journal"
)

func auditCommand() *cobra.Command {
	return group("audit", "Prove that the journal is as it was written", auditVerifyCommand(), auditExportCommand())
}

// look opens the journal that was named, and reads it.
func (o *offline) look(ctx context.Context, read func(*journal.Reader) error) error {
	options, err := o.options()
	if err != nil {
		return err
	}
	r, err := journal.OpenReader(ctx, options.URL)
	if err != nil {
		return offlineError(err)
	}
	return offlineError(errors.Join(read(r), r.Close()))
}

func auditVerifyCommand() *cobra.Command {
	var o operator
	var off offline
	c := &cobra.Command{
		Use: "verify", Short: "Compare every row of the journal with the audit", Args: noArgs,
		Long: `Compare every row of the journal with what the audit says was written, and follow
each chain of the audit from its first row. What was altered, is missing, is extra or
out of order is named, with what it was.

The end of the newest chain is only as safe as the table is: keep what this prints as
its heads somewhere else, and compare it later.

Exit code 0: all is as it was written; 1: it is not, or it could not be read; 2: wrong
use; 3: no daemon answers, or there is no such journal.`,
		Example: "  hookline audit verify\n  hookline audit verify --journal sqlite:/backup/hookline.db",
		RunE: func(c *cobra.Command, _ []string) error {
			var v *journal.Verification
			var err error
			if off.url == "" {
				v, err = o.client().Verify(c.Context())
				err = told(err)
			} else {
				err = off.look(c.Context(), func(r *journal.Reader) (err error) {
					v, err = r.Verify(c.Context())
					return err
				})
			}
			if err != nil {
				return err
			}
			if o.asJSON {
				if err := printJSON(c.OutOrStdout(), v); err != nil {
					return err
				}
			} else {
				printVerification(c.OutOrStdout(), v)
			}
			if len(v.Findings) > 0 {
				return exitError{code: exitFailed}
			}
			return nil
		},
	}
	o.add(c)
	off.add(c, "the running daemon is asked")
	return c
}

func printVerification(w io.Writer, v *journal.Verification) {
	for _, f := range v.Findings {
		fmt.Fprintln(w, printable(f.String()))
	}
	if v.More > 0 {
		fmt.Fprintf(w, "and %d more\n", v.More)
	}
	fmt.Fprintf(w, "%d rows compared with %d entries of the audit, in %d of its rows, in %s\n",
		v.Rows, v.Entries, v.AuditRows, milliseconds(v.TookMS))
	if v.Before > 0 {
		fmt.Fprintf(w, "%d rows are from before the audit began: nothing can be said of them\n", v.Before)
	}
	if v.Pruned > 0 {
		fmt.Fprintf(w, "of %d events contents were pruned: that is on record, they themselves cannot be compared\n", v.Pruned)
	}
	for _, name := range slices.Sorted(maps.Keys(v.Heads)) {
		fmt.Fprintf(w, "head of %s: %d %s\n", printable(name), v.Heads[name].N, printable(v.Heads[name].Hash))
	}
	if n := len(v.Findings) + v.More; n > 0 {
		fmt.Fprintf(w, "NOT as it was written: %s\n", counted(n, "finding", "findings"))
		return
	}
	fmt.Fprintln(w, "all is as it was written")
}

func auditExportCommand() *cobra.Command {
	var o operator
	var off offline
	var since, until string
	c := &cobra.Command{
		Use: "export", Short: "Print the audit, one JSON object a line", Args: noArgs,
		Long: `Print the audit: who saw, changed and configured what, and every change of every
delivery, the oldest first. Each line is one transaction with its place in its chain
and its hash, which docs/audit.md shows how to check without Hookline.

Exit code 0: printed; 1: it could not be read; 2: wrong use; 3: no daemon answers, or
there is no such journal.`,
		Example: "  hookline audit export --since 720h > audit.jsonl",
		RunE: func(c *cobra.Command, _ []string) error {
			now := time.Now()
			from, err := moment("--since", since, now)
			if err != nil {
				return err
			}
			to, err := moment("--until", until, now)
			if err != nil {
				return err
			}
			if off.url == "" {
				text, err := o.client().Export(c.Context(), from, to)
				if err != nil {
					return told(err)
				}
				_, err = c.OutOrStdout().Write(text)
				return err
			}
			return off.look(c.Context(), func(r *journal.Reader) error {
				w := bufio.NewWriter(c.OutOrStdout())
				return errors.Join(r.Export(c.Context(), w, from, to), w.Flush())
			})
		},
	}
	o.add(c)
	off.add(c, "the running daemon is asked")
	c.Flags().StringVar(&since, "since", "", "only what was written since this `TIME`: 2h for two hours ago, or 2026-01-31T08:30:00Z")
	c.Flags().StringVar(&until, "until", "", "only what was written before this `TIME`, written likewise")
	return c
}
