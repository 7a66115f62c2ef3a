package app

import "time"

// SetPruneEvery has daemons prune so soon after their start, and so often, until
// undo.
func SetPruneEvery(d time.Duration) (undo func()) {
	first, every := pruneFirst, pruneEvery
	pruneFirst, pruneEvery = d, d
	return func() { pruneFirst, pruneEvery = first, every }
}

// KillChildren is what a daemon does that has lost its database.
func (a *App) KillChildren() { a.killChildren() }

// Reloading tells whether a reload is under way.
func (a *App) Reloading() bool {
	if a.reloading.TryLock() {
		a.reloading.Unlock()
		return false
	}
	return true
}
