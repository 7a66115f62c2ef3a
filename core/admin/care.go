package admin

import (
	"context"
	"errors"
	"net/http"
	"path/filepath"
	"strings"
	"time"

	"github.com/hookline/hookline/core/journal"
)

// Care looks after the journal as a whole.
type Care interface {
	// Prune deletes what is older than the hooks' limits, for a while. more means
	// that there is more of it.
	Prune(ctx context.Context, dry bool) (done []journal.Pruned, more bool, err error)
	Stats(ctx context.Context) (*journal.Stats, error)
	Backup(ctx context.Context, actor, file string) (*journal.Backup, error)
}

// Times of what goes through all of a journal.
const (
	statsTimeout  = 5 * time.Minute
	backupTimeout = 6 * time.Hour
)

// PruneAsk is the body of a prune.
type PruneAsk struct {
	DryRun bool `json:"dry_run,omitempty"`
}

// PruneAnswer is what was pruned, or would be. With More, ask again for the rest.
type PruneAnswer struct {
	Pruned []Pruned `json:"pruned"`
	More   bool     `json:"more,omitempty"`
}

// Pruned is what was pruned of a hook's events.
type Pruned struct {
	Hook   string `json:"hook"`
	What   string `json:"what"` // "payloads", "sent" or "events"
	Events int    `json:"events"`
	Open   int    `json:"open"` // are old enough, and stay until their deliveries have ended
}

// BackupAsk is the body of a backup.
type BackupAsk struct {
	File string `json:"file"` // its whole path on the daemon's machine
}

func (a *api) care() (Care, error) {
	if _, err := a.kept(); err != nil {
		return nil, err
	}
	if a.Care == nil {
		return nil, &Error{Status: http.StatusNotFound, Text: "this daemon does not look after its journal"}
	}
	return a.Care, nil
}

func (a *api) stats(r *http.Request) (any, error) {
	c, err := a.care()
	if err != nil {
		return nil, err
	}
	if _, err := query(r, nil); err != nil {
		return nil, err
	}
	return c.Stats(r.Context())
}

func (a *api) prune(r *http.Request) (any, error) {
	c, err := a.care()
	if err != nil {
		return nil, err
	}
	var ask PruneAsk
	if err := readBody(r, &ask, `{"dry_run": true}, or {}`); err != nil {
		return nil, err
	}
	if !ask.DryRun {
		if err := a.Journal.Asked(r.Context(), actorOf(r.Context()), "prune", ""); err != nil {
			return nil, err
		}
	}
	done, more, err := c.Prune(r.Context(), ask.DryRun)
	if err != nil {
		return nil, err
	}
	out := PruneAnswer{Pruned: []Pruned{}, More: more}
	events := 0
	for _, p := range done {
		out.Pruned = append(out.Pruned, Pruned(p))
		events += p.Events
	}
	if !ask.DryRun {
		a.Log.Info("pruning was asked for in the admin API", "actor", actorOf(r.Context()), "pruned", events)
	}
	return out, nil
}

func (a *api) backup(r *http.Request) (any, error) {
	c, err := a.care()
	if err != nil {
		return nil, err
	}
	var ask BackupAsk
	if err := readBody(r, &ask, `{"file": "/..."}`); err != nil {
		return nil, err
	}
	switch {
	case !filepath.IsAbs(ask.File):
		return nil, refuse("file must be the whole path of a new file, from the root")
	case strings.ContainsFunc(ask.File, notOneLine):
		return nil, refuse("file must be one line, without control characters")
	}
	actor := actorOf(r.Context())
	b, err := c.Backup(r.Context(), actor, filepath.Clean(ask.File))
	if err != nil {
		a.Log.Error("the journal was not copied", "actor", actor, "error", err)
		if !errors.Is(err, journal.ErrUnavailable) && !errors.Is(err, context.DeadlineExceeded) {
			err = &Error{Status: http.StatusConflict, Text: err.Error()}
		}
		return nil, err
	}
	a.Log.Info("the journal was copied", "actor", actor, "file", b.File, "bytes", b.Bytes, "events", b.Events, "took", time.Duration(b.TookMS)*time.Millisecond)
	return b, nil
}

// Stats asks what the journal holds and takes.
func (c *Client) Stats(ctx context.Context) (*journal.Stats, error) {
	return decode[journal.Stats](c.call(ctx, http.MethodGet, "/v1/journal/stats", statsTimeout, nil))
}

// Prune deletes what is older than the hooks' limits, to the end; after each turn
// it calls told, if that is not nil, with what was done so far. With dry it only
// counts.
func (c *Client) Prune(ctx context.Context, dry bool, told func([]Pruned)) ([]Pruned, error) {
	var sum []Pruned
	for {
		got, err := decode[PruneAnswer](c.call(ctx, http.MethodPost, "/v1/journal/prune", statsTimeout, PruneAsk{DryRun: dry}))
		if err != nil {
			return sum, err
		}
		sum = addPruned(sum, got.Pruned)
		if !got.More {
			return sum, nil
		}
		if told != nil {
			told(sum)
		}
	}
}

// addPruned adds what one more turn has done; the newest count of the open ones is
// the right one.
func addPruned(sum, turn []Pruned) []Pruned {
	for _, p := range turn {
		known := false
		for i := range sum {
			if sum[i].Hook == p.Hook && sum[i].What == p.What {
				sum[i].Events += p.Events
				sum[i].Open, known = p.Open, true
			}
		}
		if !known {
			sum = append(sum, p)
		}
	}
	return sum
}

// Backup copies the journal to a new file on the daemon's machine.
func (c *Client) Backup(ctx context.Context, file string) (*journal.Backup, error) {
	return decode[journal.Backup](c.call(ctx, http.MethodPost, "/v1/journal/backup", backupTimeout, BackupAsk{File: file}))
}
