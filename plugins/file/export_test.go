package file

import (
	"os"
	"time"
)

// WithSync replaces fsync.
func WithSync(f func(*os.File) error) Option { return func(t *Transport) { t.sync = f } }

// WithNow replaces the clock that names files.
func WithNow(f func() time.Time) Option { return func(t *Transport) { t.now = f } }

// WithIdle sets how long an unused file stays open.
func WithIdle(d time.Duration) Option { return func(t *Transport) { t.idle = d } }

// Writers is the number of files that are open or about to be.
func (t *Transport) Writers() int {
	t.mu.Lock()
	defer t.mu.Unlock()
	return len(t.writers)
}

// Waiting is the number of lines that no writer has taken.
func (t *Transport) Waiting() (n int) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, w := range t.writers {
		n += len(w.queue)
	}
	return n
}

// Defaults are the settings that apply where none is written.
var Defaults = defaults
