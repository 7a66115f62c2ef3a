package main

import (
	"context"
	"encoding/json"

	"github.com/hookline/hookline/plugins"
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
