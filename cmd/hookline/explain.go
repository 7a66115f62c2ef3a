package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"time"

	"github.com/spf13/cobra"

	"github.com/hookline/hookline/core/admin"
	"github.com/hookline/hookline/core/app"
	"github.com/hookline/hookline/core/journal"
)

// explained is what is told of one record's events, the oldest first.
type explained struct {
	Events []*admin.Explanation `json:"events"`
	// More: the journal holds earlier ones that were asked for.
	More bool `json:"more"`
}

// question is what an explanation is asked by.
type question struct {
	ref, event, since, until string
	filter                   journal.EventFilter
}

func explainCommand() *cobra.Command {
	var o operator
	var q question
	var html string
	var force bool
	c := &cobra.Command{
		Use: "explain (--ref REFERENCE | --event ID | --hook NAME --record ID)", Short: "Tell all that happened to an event, or to a record", Args: noArgs,
		Long: `Tell all that happened to an event, or to all events of a record: what came, which
routes took it and why the others did not, under which configuration and script, what
was sent, each attempt with the target's answer, what the site was told, who acted and
who has looked.

It holds data of patients. The daemon notes who asked. With --html, it goes into one
file that needs nothing else and can be printed; with --json, nothing is cut.

Exit code 0: told; 1: there is no such event; 2: a wrong flag; 3: no daemon answers, or
the file cannot be written.`,
		Example: "  hookline explain --ref K7QX2M4D\n  hookline explain --hook demo --record 435 --since 2025-11-01T00:00:00Z --html 435.html",
		RunE: func(c *cobra.Command, _ []string) error {
			switch {
			case html != "" && o.asJSON:
				return usage(errors.New("--html and --json exclude each other: leave one out"))
			case force && html == "":
				return usage(errors.New("--force is for --html: name its file"))
			case html != "" && !force:
				if _, err := os.Lstat(html); err == nil {
					return usage(fmt.Errorf("--html %s is there already: name another file, or write --force to replace it", strconv.Quote(html)))
				}
			}
			x, err := q.ask(c, o.client())
			if err != nil {
				return err
			}
			out := c.OutOrStdout()
			switch {
			case o.asJSON:
				return printJSON(out, x)
			case html != "":
				page, err := explainHTML(x, time.Now(), app.Version())
				if err != nil {
					return err
				}
				if err := writeNew(html, page, 0o600, force); err != nil {
					return exitError{code: exitEnvironment, err: fmt.Errorf("the explanation was not written: %w", err)}
				}
				fmt.Fprintf(out, "%s explained in %s\n", events(len(x.Events)), printable(html))
				if x.More {
					fmt.Fprintln(out, moreEvents)
				}
				return nil
			}
			return explainText(out, x)
		},
	}
	o.add(c)
	l := c.Flags()
	l.StringVar(&q.ref, "ref", "", "the event with this `REFERENCE`, which the site's user has read on the screen")
	l.StringVar(&q.event, "event", "", "the event with this `ID`")
	l.StringVar(&q.filter.Hook, "hook", "", "the events of this `HOOK`, with --record")
	l.StringVar(&q.filter.Record, "record", "", "the events of this `RECORD` (trans_id), with --hook")
	l.StringVar(&q.filter.Form, "form", "", "of those, only of the `FORM` with this id or this name")
	l.StringVar(&q.since, "since", "", "of those, only what came since this `TIME`: 48h for two days ago, or 2026-01-31T08:30:00Z")
	l.StringVar(&q.until, "until", "", "of those, only what came before this `TIME`, written likewise")
	l.IntVar(&q.filter.Limit, "limit", 20, "of those, only the newest: `N` at most, up to 100")
	l.StringVar(&html, "html", "", "write one HTML `FILE`, for its owner only")
	l.BoolVar(&force, "force", false, "replace the file of --html")
	_ = c.MarkFlagFilename("html", "html")
	return c
}

const (
	maxExplained = 100
	moreEvents   = "There are earlier events that are left out: raise --limit, or narrow it with --since, --until and --form"
)

func events(n int) string {
	if n == 1 {
		return "1 event"
	}
	return strconv.Itoa(n) + " events"
}

// check refuses what is not one question.
func (q *question) check() error {
	record := q.filter.Hook != "" || q.filter.Record != ""
	asked := 0
	for _, given := range []bool{q.ref != "", q.event != "", record} {
		if given {
			asked++
		}
	}
	switch {
	case asked == 0:
		return errors.New("name what to explain: --ref, --event, or --hook with --record")
	case asked > 1:
		return errors.New("--ref, --event, and --hook with --record exclude each other")
	case record && q.filter.Hook == "":
		return errors.New("--record needs --hook: two studies may have the same record")
	case record && q.filter.Record == "":
		return errors.New("--hook needs --record")
	case !record && (q.filter.Form != "" || q.since != "" || q.until != ""):
		return errors.New("--form, --since and --until go with --hook and --record")
	case q.filter.Limit < 1 || q.filter.Limit > maxExplained:
		return fmt.Errorf("--limit %d: it must be between 1 and %d", q.filter.Limit, maxExplained)
	}
	return nil
}

func (q *question) ask(c *cobra.Command, client *admin.Client) (x *explained, err error) {
	if err := q.check(); err != nil {
		return nil, usage(err)
	}
	x = &explained{}
	names := []string{q.ref + q.event}
	if q.filter.Record != "" {
		now := time.Now()
		if q.filter.Since, err = moment("--since", q.since, now); err != nil {
			return nil, err
		}
		if q.filter.Until, err = moment("--until", q.until, now); err != nil {
			return nil, err
		}
		page, err := client.Events(c.Context(), q.filter)
		if err != nil {
			return nil, told(err)
		}
		names, x.More = nil, page.Next != ""
		for _, e := range page.Events {
			names = append(names, e.ID)
		}
		slices.Reverse(names)
		if len(names) == 0 {
			return nil, exitError{code: exitFailed, err: fmt.Errorf("the journal holds no such events of record %s on hook %s",
				printable(q.filter.Record), printable(q.filter.Hook))}
		}
	}
	for _, name := range names {
		e, err := client.Explain(c.Context(), name)
		if err != nil {
			return nil, told(err)
		}
		x.Events = append(x.Events, e)
	}
	return x, nil
}

// writeNew writes a file, whole or not at all. It replaces one only if that is asked
// for.
func writeNew(path string, content []byte, mode fs.FileMode, replace bool) (err error) {
	f, err := os.CreateTemp(filepath.Dir(path), ".hookline-*")
	if err != nil {
		return err
	}
	defer func() { _ = os.Remove(f.Name()) }()
	err = f.Chmod(mode)
	if err == nil {
		_, err = f.Write(content)
	}
	if err == nil {
		err = f.Sync()
	}
	if closed := f.Close(); err == nil {
		err = closed
	}
	switch {
	case err != nil:
		return err
	case replace:
		return os.Rename(f.Name(), path)
	}
	// Unlike a rename, a link does not replace what has come meanwhile.
	switch err := os.Link(f.Name(), path); {
	case err == nil:
		return nil
	case errors.Is(err, fs.ErrExist):
		return fmt.Errorf("%s is there already: name another file, or write --force to replace it", strconv.Quote(path))
	}
	return writeExclusive(path, content, mode) // some file systems have no links
}

func writeExclusive(path string, content []byte, mode fs.FileMode) error {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, mode)
	if err != nil {
		return err
	}
	_, err = f.Write(content)
	if closed := f.Close(); err == nil {
		err = closed
	}
	if err != nil {
		_ = os.Remove(path)
	}
	return err
}
