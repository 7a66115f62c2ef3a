package app

import "time"

// SetPruneEvery has daemons prune so soon after their start, and so often, until
// undo.
func SetPruneEvery(d time.Duration) (undo func()) {
	first, every := pruneFirst, pruneEvery
	pruneFirst, pruneEvery = d, d
	return func() { pruneFirst, pruneEvery = first, every }
}
