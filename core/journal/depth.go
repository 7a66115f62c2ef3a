package journal

import (
	"context"
	"path/filepath"
	"time"

	"github.com/hookline/hookline/core"
)

// maxCounted bounds what one look at the queue reads, twice: heads of lanes, and
// what waits behind them.
const maxCounted = 250_000

// Depth is how many deliveries of a route are in a state.
type Depth struct {
	Route  string
	State  core.State // an open one
	Count  int
	Oldest time.Duration // age of the oldest
}

// Depths counts the open deliveries by route and state. Beyond a quarter of a
// million it stops counting.
func (s *Store) Depths(ctx context.Context) (out []Depth, err error) {
	err = s.read(ctx, qDepth, []any{int64(maxCounted)}, func(r row) {
		out = append(out, Depth{Route: r.str(0), State: core.State(r.str(1)), Count: int(r.int(2)), Oldest: max(0, r.micros(3))})
	})
	return out, err
}

// DiskFree is what may still be written on the disk of a SQLite file; ok is false
// if that is not known.
func (s *Store) DiskFree() (bytes int64, ok bool) {
	if s.file == "" {
		return 0, false
	}
	return freeBytes(filepath.Dir(s.file))
}
