package main

import (
	"context"
	"fmt"
	"net"
	"net/url"
	"os"
	"time"

	"github.com/hookline/hookline/plugins/mqtt"
	"github.com/hookline/hookline/plugins/transport"
)

// mqttEntry is Mosquitto on its standard port, or where HOOKLINE_BENCH_MQTT says
// (mqtt://USER:PASSWORD@HOST:PORT), over MQTT 5 with QoS 1.
var mqttEntry = transportEntry{name: "mqtt", make: func() transport.Transport { return mqtt.New() }, open: openMQTT}

func openMQTT(ctx context.Context, _ *bench) (any, func(), error) {
	text := os.Getenv("HOOKLINE_BENCH_MQTT")
	if text == "" {
		text = "mqtt://127.0.0.1:1883"
	}
	at, err := url.Parse(text)
	if err != nil || at.Host == "" {
		return nil, nil, fmt.Errorf("HOOKLINE_BENCH_MQTT is not a URL")
	}
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	c, err := (&net.Dialer{}).DialContext(ctx, "tcp", at.Host)
	if err != nil {
		return nil, nil, fmt.Errorf("%w: Mosquitto: set HOOKLINE_BENCH_MQTT to its URL: %w", errAbsent, err)
	}
	_ = c.Close()
	settings := map[string]any{"address": at.Host, "topic": fmt.Sprintf("hookline/bench/%d", os.Getpid())}
	if at.User != nil {
		settings["username"] = at.User.Username()
		if password, ok := at.User.Password(); ok {
			settings["password"] = password
		}
	}
	return settings, func() {}, nil // nothing is kept there
}
