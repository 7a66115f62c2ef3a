package app

import (
	"context"
	"errors"
	"time"

	"github.com/hookline/hookline/core/journal"
)

// pruneTurn bounds a turn of pruning, and with it a call of the admin API.
const pruneTurn = 20 * time.Second

// Shorter in tests.
var (
	pruneFirst = time.Minute // after the start, which has other things to do
	pruneEvery = 10 * time.Minute
)

// tidy prunes again and again what the hooks do not want to be kept any longer.
func (a *App) tidy(ctx context.Context) {
	if a.store == nil {
		return
	}
	for next := time.NewTimer(pruneFirst); ; next.Reset(pruneEvery) {
		select {
		case <-ctx.Done():
			next.Stop()
			return
		case <-next.C:
		}
		// In turns, so that a reload counts soon.
		for a.prune(ctx) {
			continue
		}
	}
}

// prune is one turn of tidy. more means that there is more to do now.
func (a *App) prune(ctx context.Context) (more bool) {
	done, more, err := a.pruneTurn(ctx)
	for _, p := range done {
		if p.Events > 0 {
			a.log.Info("pruned, as retention says", "hook", p.Hook, "what", p.What, "events", p.Events, "still_open", p.Open)
		}
	}
	if err != nil && ctx.Err() == nil {
		a.log.Warn("the journal could not be pruned: it is tried again", "in", pruneEvery, "error", err)
	}
	return more && err == nil
}

// pruneTurn prunes for some time by the rules of now.
func (a *App) pruneTurn(ctx context.Context) (done []journal.Pruned, more bool, err error) {
	turn, cancel := context.WithTimeout(ctx, pruneTurn)
	defer cancel()
	done, err = a.store.Prune(turn, a.retention(), false)
	if more = err != nil && errors.Is(err, turn.Err()) && ctx.Err() == nil; more {
		err = nil
	}
	return done, more, err
}

// retention are the limits of the hooks in force. Of a hook that is gone from the
// configuration nothing is pruned.
func (a *App) retention() (rules []journal.Retention) {
	a.reloading.Lock()
	defer a.reloading.Unlock()
	for _, h := range a.current.config.Hooks {
		r := journal.Retention{Hook: h.Name, Payloads: h.Retention.Payloads, Sent: h.Retention.Sent, Enriched: h.Retention.Enriched, Events: h.Retention.Events}
		if r != (journal.Retention{Hook: h.Name}) {
			rules = append(rules, r)
		}
	}
	return rules
}

// carer does for the admin API what concerns the journal as a whole. The daemon's
// stop ends it.
type carer struct{ app *App }

// Prune implements [admin.Care].
func (c carer) Prune(ctx context.Context, dry bool) (done []journal.Pruned, more bool, err error) {
	err = c.live(ctx, func(ctx context.Context) (err error) {
		if dry {
			done, err = c.app.store.Prune(ctx, c.app.retention(), true)
		} else {
			done, more, err = c.app.pruneTurn(ctx)
		}
		return err
	})
	return done, more, err
}

// Stats implements [admin.Care].
func (c carer) Stats(ctx context.Context) (st *journal.Stats, err error) {
	err = c.live(ctx, func(ctx context.Context) (err error) {
		st, err = c.app.store.Stats(ctx)
		return err
	})
	return st, err
}

// Backup implements [admin.Care].
func (c carer) Backup(ctx context.Context, actor, file string) (b *journal.Backup, err error) {
	err = c.live(ctx, func(ctx context.Context) (err error) {
		b, err = c.app.store.Backup(ctx, actor, file)
		return err
	})
	return b, err
}

// live ends do when the daemon stops.
func (c carer) live(ctx context.Context, do func(context.Context) error) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(c.app.life, cancel)()
	err := do(ctx)
	if err != nil && c.app.life.Err() != nil {
		return errStopping
	}
	return err
}
