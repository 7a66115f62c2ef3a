package alerts

import (
	"context"
	"log/slog"
	"sync"
	"time"

	"github.com/hookline/hookline/plugins/transport"
)

// Sender makes one attempt on a transport.
type Sender interface {
	Deliver(ctx context.Context, m *transport.Message) transport.Receipt
}

// Target is where alerts go now.
type Target struct {
	Transport string // its name, "" for none
	Sender    Sender
	Node      string // what this daemon is called in a message
}

// Options are what a Watch is made from.
type Options struct {
	Times  Times
	Log    *slog.Logger
	Look   func(ctx context.Context) Look
	Target func() Target // of the configuration in force
}

// Watch looks again and again, and sends what has changed.
type Watch struct {
	*Board
	o    Options
	wake chan struct{}
}

// New returns a watch that has seen nothing yet.
func New(o Options) *Watch {
	return &Watch{Board: NewBoard(o.Times), o: o, wake: make(chan struct{}, 1)}
}

// Run looks and sends until ctx ends. A message that is on its way then is waited
// for, at most as long as one may take.
func (w *Watch) Run(ctx context.Context) {
	var sending sync.WaitGroup
	sending.Go(func() { w.send(ctx) }) // apart: a target that hangs must not blind the watch
	defer sending.Wait()
	tick := time.NewTicker(w.o.Times.Every)
	defer tick.Stop()
	for {
		w.look(ctx)
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

func (w *Watch) look(ctx context.Context) {
	l := w.o.Look(ctx)
	if ctx.Err() != nil {
		return // what could not be read because of that is not over
	}
	changes, full := w.See(l)
	via := w.o.Target().Transport
	for _, c := range changes {
		level, msg := slog.LevelWarn, "alert raised"
		if c.State == Cleared {
			level, msg = slog.LevelInfo, "alert cleared"
		}
		attrs := []slog.Attr{slog.String("alert", string(c.Alert)), slog.String("subject", c.Subject), slog.Int("count", c.Count), slog.Time("since", c.Since.UTC())}
		if via != "" && c.Transport == via {
			attrs = append(attrs, slog.String("not_sent", "it is about the transport of the alerts itself"))
		}
		w.o.Log.LogAttrs(ctx, level, msg, attrs...)
	}
	if full {
		w.o.Log.Error("there are so many alerts that no further ones are kept", "alerts", maxAlerts)
	}
	// Also without a change: a reload may have named another transport.
	select {
	case w.wake <- struct{}{}:
	default:
	}
}

// send sends one message at a time, so that a target that is down is not flooded.
func (w *Watch) send(ctx context.Context) {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-timer.C:
		case <-w.wake:
		}
		for ctx.Err() == nil {
			t := w.o.Target()
			l, again := w.next(time.Now(), t.Transport, t.Node)
			if l == nil {
				if !again.IsZero() {
					timer.Reset(time.Until(again))
				}
				break
			}
			r := w.deliver(t, l)
			w.sent(l, r, time.Now())
			if r.Effect != transport.Done {
				level := slog.LevelDebug
				if l.tries == 0 { // said once; the next change is another message
					level = slog.LevelWarn
				}
				w.o.Log.Log(ctx, level, "an alert could not be sent: it is tried again until it changes", "alert", string(l.key.Alert), "subject", l.key.Subject, "state", string(l.state), "transport", t.Transport, "code", string(r.Code))
			}
		}
	}
}

// deliver has a deadline and no cancellation, as every attempt.
func (w *Watch) deliver(t Target, l *letter) transport.Receipt {
	ctx, cancel := context.WithTimeout(context.Background(), w.o.Times.Send)
	defer cancel()
	r := t.Sender.Deliver(ctx, &transport.Message{
		ID: l.id, EventID: l.id, DeliveryID: l.id, Attempt: l.tries + 1, Kind: "alert",
		Lane: "alert:" + string(l.key.Alert) + ":" + l.key.Subject, ReceivedAt: time.Now().UTC(),
		ContentType: "application/json", Payload: l.payload,
	})
	return r
}
