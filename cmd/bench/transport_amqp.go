package main

import (
	"context"
	"fmt"
	"os"
	"time"

	amqp091 "github.com/rabbitmq/amqp091-go"

	"github.com/hookline/hookline/plugins/amqp"
	"github.com/hookline/hookline/plugins/transport"
)

// amqpEntry is RabbitMQ on its standard port, or where HOOKLINE_BENCH_AMQP says
// (amqp://USER:PASSWORD@HOST:PORT), with a durable queue.
var amqpEntry = transportEntry{name: "amqp", make: func() transport.Transport { return amqp.New() }, open: openAMQP}

func openAMQP(context.Context, *bench) (any, func(), error) {
	url := os.Getenv("HOOKLINE_BENCH_AMQP")
	if url == "" {
		url = "amqp://guest:guest@127.0.0.1:5672/"
	}
	uri, err := amqp091.ParseURI(url)
	if err != nil {
		return nil, nil, fmt.Errorf("HOOKLINE_BENCH_AMQP is not an AMQP URL: %w", err)
	}
	c, err := amqp091.DialConfig(url, amqp091.Config{Dial: amqp091.DefaultDial(5 * time.Second)})
	if err != nil {
		return nil, nil, fmt.Errorf("%w: RabbitMQ: set HOOKLINE_BENCH_AMQP to its URL: %w", errAbsent, err)
	}
	queue := fmt.Sprintf("hookline-bench-%d", os.Getpid())
	ch, err := c.Channel()
	if err == nil {
		// What came long ago makes room: a queue of millions would be measured too.
		_, err = ch.QueueDeclare(queue, true, false, false, false, amqp091.Table{"x-max-length": int32(10000)})
	}
	if err != nil {
		_ = c.Close()
		return nil, nil, err
	}
	end := func() {
		_, _ = ch.QueueDelete(queue, false, false, false) // the server may have gone away
		_ = c.Close()
	}
	return map[string]any{
		"address": fmt.Sprintf("%s:%d", uri.Host, uri.Port), "vhost": uri.Vhost, "username": uri.Username, "password": uri.Password, "routing_key": queue,
	}, end, nil
}
