package main

import (
	"context"
	"fmt"
	"net/url"
	"os"
	"time"

	natsgo "github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/hookline/hookline/plugins/nats"
	"github.com/hookline/hookline/plugins/transport"
)

// natsEntry is NATS with JetStream on its standard port, or where HOOKLINE_BENCH_NATS
// says (nats://USER:PASSWORD@HOST:PORT), with a stream in files.
var natsEntry = transportEntry{name: "nats", make: func() transport.Transport { return nats.New() }, open: openNATS}

func openNATS(ctx context.Context, _ *bench) (any, func(), error) {
	text := os.Getenv("HOOKLINE_BENCH_NATS")
	if text == "" {
		text = "nats://127.0.0.1:4222"
	}
	at, err := url.Parse(text)
	if err != nil {
		return nil, nil, fmt.Errorf("HOOKLINE_BENCH_NATS is not a URL")
	}
	c, err := natsgo.Connect(text)
	if err != nil {
		return nil, nil, fmt.Errorf("%w: NATS: set HOOKLINE_BENCH_NATS to its URL: %w", errAbsent, err)
	}
	name := fmt.Sprintf("hookline-bench-%d", os.Getpid())
	js, err := jetstream.New(c)
	if err == nil {
		_, err = js.CreateStream(ctx, jetstream.StreamConfig{Name: name, Subjects: []string{name}, MaxMsgs: 10000})
	}
	if err != nil {
		c.Close()
		return nil, nil, fmt.Errorf("%w: NATS has no JetStream: %w", errAbsent, err)
	}
	end := func() {
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		_ = js.DeleteStream(ctx, name) // the server may have gone away
		c.Close()
	}
	settings := map[string]any{"servers": []string{at.Host}, "subject": name}
	if password, ok := at.User.Password(); ok {
		settings["username"], settings["password"] = at.User.Username(), password
	}
	return settings, end, nil
}
