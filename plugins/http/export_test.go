package http

import (
	"context"
	"net"
	"time"
)

// WithDial replaces the dialer, for what loopback can't do.
func WithDial(f func(ctx context.Context, network, address string) (net.Conn, error)) Option {
	return func(t *Transport) { t.dialFunc = f }
}

// WithFileTTL sets how often TLS files are looked at.
func WithFileTTL(d time.Duration) Option {
	return func(t *Transport) { t.fileTTL = d }
}

// Idle is the number of pooled connections.
func (t *Transport) Idle() int { return t.idle.Len() }

// JoinPath joins as a request does.
func JoinPath(base, path string) (string, error) {
	b, err := appendPath([]byte(base), path)
	return string(b), err
}

// Sign signs as a request does.
func Sign(secret, id, timestamp string, payload []byte) (string, error) {
	s, err := newSigner(secret)
	if err != nil {
		return "", err
	}
	return string(s.append(nil, id, []byte(timestamp), payload)), nil
}

// Defaults are the settings that apply where none is written.
var Defaults = defaults
