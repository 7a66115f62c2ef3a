package target

import (
	"context"
	"net/netip"
	"strconv"
	"syscall"
)

// guard refuses addresses at the moment of connecting, after DNS, so that no name
// can lead there. Loopback and private ranges are allowed: targets live there.
type guard struct {
	deny      []netip.Prefix
	linkLocal bool
}

var (
	linkLocal = prefixes("169.254.0.0/16", "fe80::/10")
	metadata  = prefixes(
		"169.254.169.254/32", // AWS, GCP, Azure and most others
		"169.254.170.2/32",   // AWS ECS
		"169.254.170.23/32",  // AWS EKS
		"fd00:ec2::254/128", "fd00:ec2::23/128",
		"fd20:ce::254/128",   // GCP
		"100.100.100.200/32", // Alibaba
		"168.63.129.16/32",   // Azure's wire server
		"192.0.0.192/32",     // Oracle
	)
	unroutable = prefixes("0.0.0.0/8", "::/128", "224.0.0.0/4", "ff00::/8", "255.255.255.255/32")

	// IPv6 ranges that carry an IPv4 address, and the byte where it begins.
	embedded = map[netip.Prefix]int{
		netip.MustParsePrefix("::/96"):           12,
		netip.MustParsePrefix("64:ff9b::/96"):    12, // NAT64
		netip.MustParsePrefix("2002::/16"):       2,  // 6to4
		netip.MustParsePrefix("::ffff:0:0:0/96"): 12, // SIIT
	}
)

func prefixes(list ...string) []netip.Prefix {
	out := make([]netip.Prefix, len(list))
	for i, s := range list {
		out[i] = netip.MustParsePrefix(s)
	}
	return out
}

// newGuard refuses the built-in ranges and those of deny; what is wrong with them
// is added to bad, under deny_addresses.
func newGuard(deny []string, linkLocal bool, bad *Faults) *guard {
	g := &guard{linkLocal: linkLocal}
	for i, s := range deny {
		p, err := netip.ParsePrefix(s)
		if err != nil {
			a, aerr := netip.ParseAddr(s)
			if aerr != nil || a.Zone() != "" {
				bad.Add("deny_addresses["+strconv.Itoa(i)+"]", "must be an IP address or a range such as 10.9.0.0/16")
				continue
			}
			p = netip.PrefixFrom(a, a.BitLen())
		}
		if p.Addr().Is4In6() && p.Bits() >= 96 {
			p = netip.PrefixFrom(p.Addr().Unmap(), p.Bits()-96)
		}
		g.deny = append(g.deny, p)
	}
	return g
}

// DeniedError is an address that the guard refused.
type DeniedError struct{ reason string }

func (e *DeniedError) Error() string { return "the address is refused: " + e.reason }

// control is net.Dialer.ControlContext: it sees the address that is connected to.
func (g *guard) control(_ context.Context, _, address string, _ syscall.RawConn) error {
	ap, err := netip.ParseAddrPort(address)
	if err != nil {
		return &DeniedError{"it cannot be read"}
	}
	return g.check(ap.Addr())
}

func (g *guard) check(a netip.Addr) error {
	a = a.WithZone("").Unmap()
	if err := g.checkOne(a); err != nil {
		return err
	}
	for p, at := range embedded {
		if p.Contains(a) && a != netip.IPv6Loopback() {
			b := a.As16()
			return g.checkOne(netip.AddrFrom4([4]byte(b[at : at+4])))
		}
	}
	return nil
}

func (g *guard) checkOne(a netip.Addr) error {
	switch {
	case contains(metadata, a):
		return &DeniedError{"it serves cloud metadata"}
	case contains(unroutable, a):
		return &DeniedError{"it is unspecified, multicast or broadcast"}
	case !g.linkLocal && contains(linkLocal, a):
		return &DeniedError{"it is link-local (allow_link_local is false)"}
	case contains(g.deny, a):
		return &DeniedError{"deny_addresses lists it"}
	}
	return nil
}

func contains(list []netip.Prefix, a netip.Addr) bool {
	for _, p := range list {
		if p.Contains(a) {
			return true
		}
	}
	return false
}
