package main

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"time"

	"github.com/hookline/hookline/plugins"
	"github.com/hookline/hookline/plugins/http"
	"github.com/hookline/hookline/plugins/transport"
)

// servePlugin is a transport that confirms everything and does nothing: what it
// takes is what the hop takes.
func servePlugin() { plugins.Serve(idle{}) }

type idle struct{}

func (idle) Describe() transport.Description {
	return transport.Description{Name: "idle", Version: "1", Settings: json.RawMessage(`{"type":"object"}`)}
}

func (idle) Configure(context.Context, json.RawMessage) error { return nil }

func (idle) Deliver(context.Context, *transport.Message) transport.Receipt {
	return transport.Receipt{
		Effect: transport.Done, Code: transport.Delivered,
		TargetStatus: 200, ContentType: "application/json", Body: []byte(`{"ok":true}`),
	}
}

func (idle) Check(context.Context) transport.Receipt {
	return transport.Receipt{Effect: transport.Done, Code: transport.Delivered}
}

// serveStamp is Hookline's own http plugin, but that it logs when it is ready to
// deliver: nothing else tells that to the microsecond.
func serveStamp() { plugins.Serve(stamp{http.New()}) }

type stamp struct{ *http.Transport }

// stampWords come before the nanoseconds since the epoch.
const stampWords = "configured at "

func (s stamp) Configure(ctx context.Context, settings json.RawMessage) error {
	err := s.Transport.Configure(ctx, settings)
	slog.Info(fmt.Sprint(stampWords, time.Now().UnixNano()))
	return err
}
