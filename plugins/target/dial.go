package target

import (
	"context"
	"net"
	"time"
)

// Network are the settings of how a target is connected to, to be embedded in a
// transport's own.
type Network struct {
	DenyAddresses  []string `json:"deny_addresses"`
	AllowLinkLocal bool     `json:"allow_link_local"`
	DialTimeout    string   `json:"dial_timeout"`
}

// DefaultNetwork is what applies where nothing is written.
func DefaultNetwork() Network { return Network{DialTimeout: "10s"} }

// Dialer connects as the settings say.
type Dialer struct {
	Timeout  time.Duration // of one connection, DNS included
	Resolver *net.Resolver // nil: the system's
	guard    *guard
}

// Dialer adds to bad what is wrong with the settings.
func (n Network) Dialer(bad *Faults) *Dialer {
	g := newGuard(n.DenyAddresses, n.AllowLinkLocal, bad)
	return &Dialer{Timeout: bad.Duration("dial_timeout", n.DialTimeout), guard: g}
}

// DialContext connects within the timeout, and not to an address that is denied.
// [Failure] makes a receipt of its error.
func (d *Dialer) DialContext(ctx context.Context, network, addr string) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, d.Timeout)
	defer cancel()
	dialer := net.Dialer{Resolver: d.Resolver, ControlContext: d.guard.control}
	return dialer.DialContext(ctx, network, addr)
}
