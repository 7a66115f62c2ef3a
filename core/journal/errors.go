package journal

import (
	"errors"
	"fmt"
	"strings"

	"github.com/hookline/hookline/core"
)

var (
	// ErrUnavailable means that the journal cannot be written, or read, now. The
	// text of the error that wraps it says why and what to do.
	ErrUnavailable = errors.New("the journal is not available")
	// ErrUnsure is wrapped besides [ErrUnavailable] if it could not be found out
	// whether what was to be written is.
	ErrUnsure = core.ErrUnsure
	// ErrNotFound means that the journal holds no such thing.
	ErrNotFound = errors.New("not in the journal")
	// ErrClosed means that the journal has been closed.
	ErrClosed = fmt.Errorf("%w: it has been closed", ErrUnavailable)
)

// LockedError means that another daemon uses the journal.
type LockedError struct {
	File string // the lock file
	PID  int    // of the other daemon, 0 if the lock file does not say
}

func (e *LockedError) Error() string {
	who := "another daemon"
	if e.PID != 0 {
		who = fmt.Sprintf("the daemon with pid %d", e.PID)
	}
	return fmt.Sprintf("journal: %s uses it (lock file %s): stop that one first, or give this one a journal.url of its own", who, e.File)
}

// unusable is why a journal that was named cannot be used as it is. It wraps
// [ErrUnavailable] without its words: nobody waits for this one.
type unusable struct{ error }

func (u unusable) Unwrap() []error { return []error{ErrUnavailable, u.error} }

// NewerSchemaError means that a newer Hookline has written the journal.
type NewerSchemaError struct {
	Have, Know int64 // schema versions: of the journal, and of this program
}

func (e *NewerSchemaError) Error() string {
	return fmt.Sprintf("journal: its schema has version %d and this Hookline knows versions up to %d: run the newer Hookline, or restore the backup that it made before it migrated", e.Have, e.Know)
}

// trouble is a failure of the store and not of what was asked of it.
type trouble struct {
	why string // with the way out
	err error
	// reopen: the open database is of no use any more.
	reopen bool
	// unsure: the commit may have been made all the same.
	unsure bool
	// again: the other transactions were in the way; the same again will do.
	again bool
}

func (t *trouble) Error() string {
	s := ErrUnavailable.Error() + ": " + t.why
	if t.err != nil {
		s += " (" + oneLine(t.err.Error()) + ")"
	}
	return s
}

func (t *trouble) Unwrap() []error {
	all := []error{ErrUnavailable}
	if t.unsure {
		all = append(all, ErrUnsure)
	}
	if t.err != nil {
		all = append(all, t.err)
	}
	return all
}

// sure is the same failure of what is now known not to be written.
func (t *trouble) sure() *trouble {
	known := *t
	known.unsure = false
	return &known
}

// troubleOf returns nil if err is about what was asked.
func troubleOf(err error) *trouble {
	var t *trouble
	if errors.As(err, &t) {
		return t
	}
	return nil
}

func oneLine(s string) string { return strings.Join(strings.Fields(s), " ") }

// clean makes text fit for a text column: Postgres takes no NUL and nothing but
// UTF-8, and a script may put anything into a reason.
func clean(s string) string {
	if strings.IndexByte(s, 0) >= 0 {
		s = strings.ReplaceAll(s, "\x00", "\uFFFD")
	}
	return strings.ToValidUTF8(s, "\uFFFD")
}
