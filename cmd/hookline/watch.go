package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os/signal"
	"reflect"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"github.com/hookline/hookline/core"
	"github.com/hookline/hookline/core/admin"
	"github.com/hookline/hookline/core/journal"
)

const (
	watchEvery = 500 * time.Millisecond
	// watchOpen is how many events are watched for their ends: the newest.
	watchOpen = 100
	// watchSeen is how many are remembered, as one may be told of again for a while.
	watchSeen = 10000
)

func eventsWatchCommand() *cobra.Command {
	var o operator
	var which eventFlags
	c := &cobra.Command{
		Use: "watch", Short: "Print events as they come, and again when they have ended", Args: noArgs,
		Long: `Print each event as it comes into the running daemon's journal, and again when the
last of its deliveries has ended, until Ctrl-C. With --json, one object a line.

Exit code 0: ended by you; 1: the daemon cannot; 2: a wrong flag; 3: no daemon answers.`,
		Example: "  hookline events watch --hook demo",
		RunE: func(c *cobra.Command, _ []string) error {
			f, err := which.filter(time.Now())
			if err != nil {
				return err
			}
			if len(f.IDs) > 0 {
				return usage(errors.New("--id names what has come already: use `hookline events list`"))
			}
			ctx, stop := signal.NotifyContext(c.Context(), syscall.SIGINT, syscall.SIGTERM)
			defer stop()
			w := &watcher{client: o.client(), filter: f, out: c.OutOrStdout(), asJSON: o.asJSON, seen: map[string]bool{}}
			if err := w.run(ctx); err != nil && ctx.Err() == nil {
				return told(err)
			}
			return nil
		},
	}
	o.add(c)
	which.add(c)
	return c
}

// watcher follows the journal.
type watcher struct {
	client *admin.Client
	filter journal.EventFilter
	out    io.Writer
	asJSON bool

	seen   map[string]bool
	recent []string // the ids in seen, the oldest first
	open   []string // the ids of those that have not ended
}

func (w *watcher) run(ctx context.Context) error {
	first := w.filter
	first.After = journal.CursorNew
	page, err := w.client.Events(ctx, first)
	if err != nil {
		return err
	}
	w.filter.After, w.filter.Limit = page.Next, 500
	tick := time.NewTicker(watchEvery)
	defer tick.Stop()
	for {
		if err := w.look(ctx); err != nil {
			return err
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return nil
		}
	}
}

// look prints what is new, and what has ended.
func (w *watcher) look(ctx context.Context) error {
	if len(w.open) > 0 {
		page, err := w.client.Events(ctx, journal.EventFilter{IDs: w.open, Limit: watchOpen})
		if err != nil {
			return err
		}
		slices.Reverse(page.Events)
		for i := range page.Events {
			if e := &page.Events[i]; ended(e) {
				w.open = slices.DeleteFunc(w.open, func(id string) bool { return id == e.ID })
				if err := w.print(e); err != nil {
					return err
				}
			}
		}
	}
	page, err := w.client.Events(ctx, w.filter)
	if err != nil {
		return err
	}
	for i := range page.Events {
		e := &page.Events[i]
		if w.seen[e.ID] {
			continue
		}
		w.seen[e.ID] = true
		if w.recent = append(w.recent, e.ID); len(w.recent) > watchSeen {
			delete(w.seen, w.recent[0])
			w.recent = w.recent[1:]
		}
		if !ended(e) {
			if w.open = append(w.open, e.ID); len(w.open) > watchOpen {
				w.open = w.open[1:]
			}
		}
		if err := w.print(e); err != nil {
			return err
		}
	}
	w.filter.After = page.Next
	return nil
}

func ended(e *admin.Event) bool {
	return !slices.ContainsFunc(e.Deliveries, func(d admin.DeliveryState) bool { return d.State.Open() })
}

func (w *watcher) print(e *admin.Event) error {
	if w.asJSON {
		text, err := json.Marshal(e)
		if err == nil {
			_, err = fmt.Fprintln(w.out, escaped(string(text)))
		}
		return err
	}
	answer := ""
	if e.Answer != nil {
		answer = fmt.Sprint(e.Answer.Status)
	}
	cells := []string{
		e.ReceivedAt.UTC().Format(time.RFC3339), e.Ref, e.Hook, string(e.Kind), short(strings.TrimSpace(e.FormID + " " + e.FormName)),
		e.TransID, answer, deliveries(e),
	}
	for i, cell := range cells {
		if cells[i] = printable(cell); cell == "" {
			cells[i] = "-"
		}
	}
	_, err := fmt.Fprintln(w.out, strings.Join(cells, "  "))
	return err
}

func eventsRetryCommand() *cobra.Command {
	var o operator
	var how admin.Redrive
	var which eventFlags
	var dryRun, yes bool
	c := &cobra.Command{
		Use: "retry [ID|REFERENCE...]", Short: "Drive events again",
		Long: `Drive events again. A body that was refused is read by the rules of today and, if it
is good, taken in as a new event. Of an event that was taken in, all deliveries that
have ended without success are sent again; with --routes it also goes to the routes of
today that want it and have not had it.

Name the events, or say which with the flags of "events list": they are counted first,
and you are asked; --dry-run only counts them, --yes does not ask.

The journal keeps who did it, and the reason. Exit code 0: all of it is done; 1: some
is not, and why; 2: wrong use; 3: no daemon answers.`,
		Example: "  hookline events retry K7QX2M4D --reason \"the form has its name again\"\n" +
			"  hookline events retry --refused --hook demo --since 2h --reason \"the form has its name again\"",
		RunE: func(c *cobra.Command, args []string) error {
			filter, err := which.filter(time.Now())
			if err != nil {
				return err
			}
			empty := reflect.DeepEqual(filter, journal.EventFilter{})
			switch {
			case len(args) > 0 && !empty:
				return usage(errors.New("name the events by their ids or references, or say which with flags: not both"))
			case len(args) > 0 && dryRun:
				return usage(errors.New("--dry-run counts what flags such as --hook find: leave out the ids"))
			case len(args) == 0 && empty:
				return usage(fmt.Errorf("%s takes the ids or references of events, or flags that say which; `hookline events list` shows them", c.CommandPath()))
			case len(args) == 0 && !dryRun && strings.TrimSpace(how.Reason) == "":
				return usage(errors.New("--reason is missing: say why, for whoever reads the journal later"))
			}
			bulk := len(args) == 0
			if bulk {
				if args, err = references(c.Context(), o.client(), filter); err != nil {
					return told(err)
				}
				switch {
				case o.asJSON && dryRun:
					return printJSON(c.OutOrStdout(), map[string]int{"count": len(args)})
				case dryRun:
					fmt.Fprintln(c.OutOrStdout(), counted(len(args), "event", "events"))
					return nil
				}
				fmt.Fprintln(c.ErrOrStderr(), counted(len(args), "event", "events"))
				if !yes && len(args) > 0 {
					if err := confirm(c.InOrStdin(), c.ErrOrStderr(), "drive "+counted(len(args), "event", "events")+" again?"); err != nil {
						return err
					}
				}
			}
			tell := actCall{operator: o, stdout: c.OutOrStdout(), progress: c.ErrOrStderr()}
			failed := 0
			all := []*admin.Redriven{}
			for n, id := range args {
				if bulk && n > 0 && n%progressEvery == 0 {
					fmt.Fprintf(c.ErrOrStderr(), "%d of %d\n", n, len(args))
				}
				done, err := o.client().Redrive(c.Context(), id, how)
				var answer *admin.Error
				if errors.As(err, &answer) && !errors.Is(err, admin.ErrRefused) {
					failed++
					why := answer.Text
					if !strings.Contains(why, id) { // some of what the daemon says names it
						why = id + ": " + why
					}
					fmt.Fprintln(c.ErrOrStderr(), printable(why))
					continue
				}
				if err != nil {
					return told(err)
				}
				all = append(all, done)
				if done.EventID != "" && !o.asJSON {
					fmt.Fprintf(c.OutOrStdout(), "%s was refused and is event %s, reference %s\n", printable(id), done.EventID, done.Ref)
				}
				failed += tell.tell(placed(done.Results))
			}
			if o.asJSON {
				if err := printJSON(c.OutOrStdout(), all); err != nil {
					return err
				}
			}
			if failed > 0 {
				return exitError{code: exitFailed}
			}
			return nil
		},
	}
	o.add(c)
	which.add(c)
	c.Flags().BoolVar(&dryRun, "dry-run", false, "only count what the flags find")
	c.Flags().BoolVar(&yes, "yes", false, "do not ask")
	c.Flags().StringVar(&how.Reason, "reason", "", "the `REASON`, in one line, for the journal; required with flags that say which")
	c.Flags().BoolVar(&how.Routes, "routes", false, "also on the routes of today that want it and have not had it")
	c.Flags().BoolVar(&how.Force, "force", false, "with --routes, also where it overwrites newer data")
	return c
}

// progressEvery is how many events are driven again between two words about it.
const progressEvery = 50

// references are all events that a filter finds, the oldest first: so they came.
func references(ctx context.Context, client *admin.Client, f journal.EventFilter) (out []string, err error) {
	f.Limit = 1000
	for {
		page, err := client.Events(ctx, f)
		if err != nil {
			return nil, err
		}
		for i := range page.Events {
			out = append(out, page.Events[i].ID)
		}
		if f.Cursor = page.Next; f.Cursor == "" {
			slices.Reverse(out)
			return out, nil
		}
	}
}

// placed words what was made on a route that had nothing.
func placed(results []admin.ActResult) []admin.ActResult {
	for i := range results {
		if r := &results[i]; r.OK && r.New != "" && r.Was == "" {
			r.ID, r.New, r.Was = r.New, "", core.State("not there")
		}
	}
	return results
}
