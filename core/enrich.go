package core

import (
	"context"
	"errors"
	"time"
)

// Enricher reads the record that an event is about, as it stands now. ctx is
// marked by [WithReadSince]. An error is an *[EnrichError].
type Enricher interface {
	Enrich(ctx context.Context, ev *Event) (*Snapshot, error)
}

// Snapshot is a record as it was when it was read, which is after the event.
type Snapshot struct {
	Record []byte // JSON, as TrialKit gave it
	ReadAt time.Time
}

// EnrichError is why a record could not be read. Its text is fit for a log and for
// the integrator: it holds nothing of what TrialKit answered, and no secret.
type EnrichError struct {
	Text       string        // names the setting to look at
	Hopeless   bool          // to try at once again would come to the same
	RetryAfter time.Duration // that TrialKit asked for, or 0
	Err        error         // what is behind it, such as an [*Expired], or nil
}

func (e *EnrichError) Error() string { return e.Text }

func (e *EnrichError) Unwrap() error { return e.Err }

// enrich reads the event's record. Without it nothing is made of the event, and
// nothing is sent.
func (d *Dispatcher) enrich(ctx context.Context, j *job) (out Outcome, ended bool) {
	if j.route.Enricher == nil {
		return out, false
	}
	start := time.Now()
	snapshot, err := j.route.Enricher.Enrich(ctx, j.Event)
	took := time.Since(start)
	if err == nil {
		j.Snapshot = snapshot
		j.watch.Enriched(start, took, "")
		return out, false
	}
	j.watch.Enriched(start, took, EnrichFailed)
	out = Outcome{State: StateWaiting, Code: EnrichFailed}
	var failed *EnrichError
	if errors.As(err, &failed) {
		out.Because, out.hopeless = failed.Text, failed.Hopeless
		out.Receipt.RetryAfter = failed.RetryAfter
	}
	errors.As(err, &out.Clock)
	return out, true
}

// sinceKey is the context's key of WithReadSince.
type sinceKey struct{}

// WithReadSince marks a context: what is read under it must be no older than at.
func WithReadSince(ctx context.Context, at time.Time) context.Context {
	return context.WithValue(ctx, sinceKey{}, at)
}

// ReadSince tells from when on a read under ctx may be of use to it, that is since
// its event came: what was read for another event before that may be older than
// this one. Without an event that is from now.
func ReadSince(ctx context.Context) time.Time {
	if at, ok := ctx.Value(sinceKey{}).(time.Time); ok {
		return at
	}
	return time.Now()
}
