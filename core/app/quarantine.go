package app

import (
	"context"
	"time"

	"github.com/hookline/hookline/core/journal"
	"github.com/hookline/hookline/transforms"
)

// quarantines keeps in the journal which scripts are in quarantine.
type quarantines struct{ store *journal.Store }

var _ transforms.Quarantines = quarantines{}

func (k quarantines) Quarantined(ctx context.Context) ([]transforms.Quarantine, error) {
	all, err := k.store.Quarantined(ctx)
	out := make([]transforms.Quarantine, 0, len(all))
	for _, q := range all {
		out = append(out, transforms.Quarantine{Script: q.Script, Hash: q.SHA, Since: q.Since, Why: q.Why})
	}
	return out, err
}

func (k quarantines) Quarantine(ctx context.Context, q transforms.Quarantine) error {
	return k.store.Quarantine(ctx, journal.Quarantine{SHA: q.Hash, Script: q.Script, Since: q.Since, Why: q.Why})
}

func (k quarantines) Unquarantine(ctx context.Context, hashes []string) error {
	return k.store.Unquarantine(ctx, hashes)
}

// shareEvery is how soon a daemon hears of what another one has put into quarantine, or
// released.
const shareEvery = 2 * time.Second

// shareQuarantines keeps to what the daemons of a shared journal know.
func (a *App) shareQuarantines(ctx context.Context) {
	t := time.NewTicker(shareEvery)
	defer t.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-t.C:
		}
		o := a.observation.Load()
		if o == nil || a.store.Unavailable() != nil {
			continue
		}
		engine := o.now.Load().scripts
		if engine == nil {
			continue
		}
		soon, cancel := context.WithTimeout(ctx, shareEvery)
		if err := engine.ShareQuarantines(soon); err != nil && ctx.Err() == nil {
			a.log.Warn("what is in quarantine is not shared with the other daemons, which is tried again", "error", err)
		}
		cancel()
	}
}
