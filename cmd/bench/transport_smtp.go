package main

import (
	"context"
	"errors"
	"fmt"

	"github.com/hookline/hookline/plugins/smtp"
	"github.com/hookline/hookline/plugins/smtp/postfix"
	"github.com/hookline/hookline/plugins/transport"
)

// smtpEntry is a Postfix of the bench's own, which delivers what it takes to a
// mailbox meanwhile, over four connections without TLS.
var smtpEntry = transportEntry{name: "smtp", make: func() transport.Transport { return smtp.New() }, open: openSMTP}

func openSMTP(context.Context, *bench) (any, func(), error) {
	s, err := postfix.Start(postfix.Options{})
	if errors.Is(err, postfix.ErrMissing) {
		return nil, nil, fmt.Errorf("%w: %w", errAbsent, err)
	}
	if err != nil {
		return nil, nil, err
	}
	return map[string]any{
		"address": s.Addr, "security": "none", "from": "bench@" + postfix.Domain, "to": []string{"in-bench@" + postfix.Domain},
	}, s.Stop, nil
}
