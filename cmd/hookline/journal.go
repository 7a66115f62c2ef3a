package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"net/url"
	"os"
	"os/user"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/hookline/hookline/core/admin"
	"github.com/hookline/hookline/core/config"
	"github.com/hookline/hookline/core/journal"
)

func journalCommand() *cobra.Command {
	return group("journal", "Look after the journal: its size, what is kept, backups",
		journalStatsCommand(), journalPruneCommand(), journalBackupCommand(), journalVacuumCommand())
}

// offline is a journal that is named, in place of the running daemon's.
type offline struct {
	url   string // --journal
	found string // in the configuration, without the flag
}

func (o *offline) add(c *cobra.Command, without string) {
	c.Flags().StringVar(&o.url, "journal", "", "`URL` of the journal: sqlite:PATH, postgres://..., or env:NAME of one; without it, "+without)
}

// options open the journal that is named.
func (o *offline) options() (journal.Options, error) {
	if showsPassword(o.url) {
		return journal.Options{}, usage(errors.New("--journal must not hold a password, which every list of processes shows: put the URL into a variable and write env:NAME"))
	}
	url := cmp.Or(o.url, o.found)
	if name, ok := strings.CutPrefix(url, "env:"); ok {
		if url = os.Getenv(name); url == "" {
			return journal.Options{}, usage(fmt.Errorf("--journal %s: there is no such variable in the environment", o.url))
		}
	}
	kind, rest, _ := strings.Cut(url, ":")
	if rest == "" || kind != "sqlite" && kind != "postgres" && kind != "postgresql" {
		return journal.Options{}, usage(errors.New("--journal must be sqlite:PATH, postgres://..., or env:NAME of one"))
	}
	return journal.Options{URL: url, Log: slog.New(slog.DiscardHandler)}, nil
}

// showsPassword tells whether a URL of the command line holds a password, or may.
func showsPassword(s string) bool {
	if !strings.HasPrefix(s, "postgres") {
		return false
	}
	u, err := url.Parse(s)
	if err != nil {
		return true
	}
	_, set := u.User.Password()
	return set || u.Query().Has("password")
}

// offlineError gives an error of a journal its exit code: of one that cannot be used
// as it is, for all commands that take --journal, it is the environment's.
func offlineError(err error) error {
	var locked *journal.LockedError
	switch {
	case err == nil:
		return nil
	case errors.As(err, &locked), errors.Is(err, journal.ErrUnavailable):
		return exitError{code: exitEnvironment, err: err}
	}
	return exitError{code: exitFailed, err: err}
}

// whoami is who acts on a journal without a daemon that could tell.
func whoami() string {
	if u, err := user.Current(); err == nil {
		return u.Username
	}
	return "uid " + strconv.Itoa(os.Getuid())
}

func journalStatsCommand() *cobra.Command {
	var o operator
	var off offline
	c := &cobra.Command{
		Use: "stats", Short: "Show what the journal holds, and what it takes", Args: noArgs,
		Long: `Show what the running daemon's journal holds, and what it takes on the disk. With
--journal it is read without a daemon, or beside one, and nothing is changed.

In a journal of many millions of events it takes a while to count.

Exit code 0: shown; 1: it cannot be counted; 2: a wrong flag; 3: no daemon answers, or
there is no such journal, or none that can be used.`,
		Example: "  hookline journal stats\n  hookline journal stats --journal sqlite:/var/lib/hookline/hookline.db",
		RunE: func(c *cobra.Command, _ []string) error {
			st, err := readStats(c.Context(), &o, &off)
			if err != nil {
				return err
			}
			if o.asJSON {
				return printJSON(c.OutOrStdout(), st)
			}
			printStats(c.OutOrStdout(), st, time.Now())
			return nil
		},
	}
	o.add(c)
	off.add(c, "the running daemon is asked")
	return c
}

func readStats(ctx context.Context, o *operator, off *offline) (*journal.Stats, error) {
	if off.url == "" {
		st, err := o.client().Stats(ctx)
		return st, told(err)
	}
	options, err := off.options()
	if err != nil {
		return nil, err
	}
	st, err := journal.ReadStats(ctx, options)
	return st, offlineError(err)
}

func printStats(w io.Writer, st *journal.Stats, now time.Time) {
	line := func(label, format string, args ...any) {
		fmt.Fprintf(w, "%-12s %s\n", label, printable(fmt.Sprintf(format, args...)))
	}
	line("journal", "%s %s, schema %d", st.Engine, st.Where, st.Schema)
	line("size", "%s", size(st.Bytes))
	if st.WAL > 0 {
		line("  -wal", "%s", size(st.WAL))
	}
	if st.Pages > 0 {
		line("  free in it", "%s, for new events (%d of %d pages)", size(st.FreePages*st.PageSize), st.FreePages, st.Pages)
	}
	if st.Disk != nil {
		line("disk", "%s free", size(*st.Disk))
	}
	for i, name := range slices.SortedFunc(maps.Keys(st.Tables), func(a, b string) int {
		return cmp.Or(cmp.Compare(st.Tables[b], st.Tables[a]), cmp.Compare(a, b))
	}) {
		if i < shownTables {
			line("  "+name, "%s", size(st.Tables[name]))
		}
	}
	line("events", "%d", st.Events)
	event := func(label string, e *journal.StatsEvent) {
		if e != nil {
			line(label, "%s, received %s (%s ago)", e.Ref, e.ReceivedAt.UTC().Format(time.RFC3339), ago(now, e.ReceivedAt))
		}
	}
	event("  oldest", st.Oldest)
	event("  newest", st.Newest)
	sum := int64(0)
	for _, n := range st.Deliveries {
		sum += n
	}
	line("deliveries", "%d", sum)
	for _, state := range slices.Sorted(maps.Keys(st.Deliveries)) {
		line("  "+string(state), "%d", st.Deliveries[state])
	}
	if d := st.OldestOpen; d != nil {
		line("oldest open", "%s on route %s, %s since %s (%s)", d.ID, d.Route, d.State, d.CreatedAt.UTC().Format(time.RFC3339), ago(now, d.CreatedAt))
	}
	line("attempts", "%d", st.Attempts)
	line("audit", "%d rows", st.Audit)
}

// shownTables is how many of the largest tables are shown.
const shownTables = 5

func ago(now, then time.Time) string {
	d := max(0, now.Sub(then))
	if days := d / (24 * time.Hour); days > 1 {
		return fmt.Sprintf("%d days", days)
	}
	return d.Round(time.Second).String()
}

// size is a number of bytes for people.
func size(n int64) string {
	const unit = 1024
	if n < unit {
		return fmt.Sprintf("%d bytes", n)
	}
	f, names := float64(n)/unit, []string{"KiB", "MiB", "GiB", "TiB"}
	for len(names) > 1 && f >= unit {
		f, names = f/unit, names[1:]
	}
	return fmt.Sprintf("%.1f %s", f, names[0])
}

func journalPruneCommand() *cobra.Command {
	var o operator
	var dry bool
	c := &cobra.Command{
		Use: "prune", Short: "Delete now what is older than the hooks' retention", Args: noArgs,
		Long: `Have the running daemon delete what is older than hooks.NAME.retention, as it does
by itself every ten minutes. Events with a delivery that has not ended, or that blocks
its record, stay.

Exit code 0: done; 1: the daemon cannot; 2: a wrong flag; 3: no daemon answers.`,
		Example: "  hookline journal prune --dry-run",
		RunE: func(c *cobra.Command, _ []string) error {
			done, err := o.client().Prune(c.Context(), dry, func(sum []admin.Pruned) {
				n := 0
				for _, p := range sum {
					n += p.Events
				}
				fmt.Fprintf(c.ErrOrStderr(), "%d so far\n", n)
			})
			if err != nil {
				return told(err)
			}
			if o.asJSON {
				return printJSON(c.OutOrStdout(), admin.PruneAnswer{Pruned: append([]admin.Pruned{}, done...)})
			}
			if len(done) == 0 {
				fmt.Fprintln(c.ErrOrStderr(), "no hook has a retention: all is kept for ever")
				return nil
			}
			t := tabwriter.NewWriter(c.OutOrStdout(), 0, 0, 2, ' ', 0)
			pruned := "PRUNED"
			if dry {
				pruned = "WOULD BE PRUNED"
			}
			row(t, "HOOK", "WHAT", pruned, "STILL OPEN")
			for _, p := range done {
				row(t, p.Hook, p.What, strconv.Itoa(p.Events), strconv.Itoa(p.Open))
			}
			return t.Flush()
		},
	}
	o.add(c)
	c.Flags().BoolVar(&dry, "dry-run", false, "count only, and delete nothing")
	return c
}

func journalBackupCommand() *cobra.Command {
	var o operator
	var off offline
	c := &cobra.Command{
		Use: "backup FILE", Short: "Copy the journal to a new file, while it is used", Args: one("the file to make"),
		Long: `Have the running daemon copy its journal to FILE, which must not be there, on the
daemon's machine and writable for the daemon's user. Events go on meanwhile. The copy is
checked. It holds data of patients; its mode is 0600.

With --journal, a journal that no daemon uses is copied. A journal in Postgres is backed
up with pg_dump.

Exit code 0: made and checked; 1: not made, and why; 2: wrong use; 3: no daemon answers,
or one uses the journal, or there is no such journal.`,
		Example: "  hookline journal backup /var/backups/hookline-2026-01-31.db",
		RunE: func(c *cobra.Command, args []string) error {
			file, err := filepath.Abs(args[0])
			if err != nil {
				return err
			}
			b, err := makeBackup(c.Context(), &o, &off, file)
			if err != nil {
				return err
			}
			if o.asJSON {
				return printJSON(c.OutOrStdout(), b)
			}
			fmt.Fprintf(c.OutOrStdout(), "%s: %s, %s, checked, in %s\n", printable(b.File), size(b.Bytes), counted(int(b.Events), "event", "events"), milliseconds(b.TookMS))
			return nil
		},
	}
	o.add(c)
	off.add(c, "the running daemon copies its own")
	return c
}

func makeBackup(ctx context.Context, o *operator, off *offline, file string) (*journal.Backup, error) {
	if off.url == "" {
		b, err := o.client().Backup(ctx, file)
		return b, told(err)
	}
	options, err := off.options()
	if err != nil {
		return nil, err
	}
	b, err := journal.BackupOffline(ctx, options, whoami(), file)
	return b, offlineError(err)
}

func journalVacuumCommand() *cobra.Command {
	var flags configFlags
	var off offline
	var asJSON bool
	c := &cobra.Command{
		Use: "vacuum", Short: "Give the disk back what was pruned", Args: noArgs,
		Long: `Make the journal's file as small as what it holds. No daemon may use it meanwhile:
stop it first. It takes as much free disk as the file will need.

New events fill what was pruned anyhow, so this is for after a first, large pruning. In
Postgres, autovacuum does the like by itself; this runs VACUUM (ANALYZE) on Hookline's
tables now, beside the daemons.

Exit code 0: done; 1: not done, and why; 2: wrong use; 3: a daemon uses it, or there is
no such journal.`,
		Example: "  hookline journal vacuum --config /etc/hookline/config.toml",
		RunE: func(c *cobra.Command, _ []string) error {
			if off.url == "" {
				off.found, _ = config.FindJournal(flags.path, nil, os.Environ())
			}
			options, err := off.options()
			if err != nil {
				return err
			}
			v, err := journal.Vacuum(c.Context(), options, whoami())
			if err != nil {
				return offlineError(err)
			}
			switch {
			case asJSON:
				return printJSON(c.OutOrStdout(), v)
			case v.Engine == "postgres":
				fmt.Fprintln(c.OutOrStdout(), "vacuumed and analyzed; otherwise Postgres's autovacuum does it by itself")
			default:
				fmt.Fprintf(c.OutOrStdout(), "%s before, %s now\n", size(v.Before), size(v.After))
			}
			return nil
		},
	}
	flags.add(c)
	c.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	off.add(c, "that of the configuration")
	return c
}
