package config

import (
	"fmt"
	"net"
	"net/netip"
	"regexp"
	"strconv"
	"strings"
)

// Address is where to listen, as net.Listen wants it: a TCP host and port, or
// the absolute path of a Unix socket. The zero Address is "nowhere".
type Address struct {
	Network string // "tcp" or "unix"
	Address string
}

// IsZero tells whether the address is nowhere.
func (a Address) IsZero() bool { return a == Address{} }

// String is the address as one writes it in the file.
func (a Address) String() string {
	if a.IsZero() {
		return "off"
	}
	return a.Network + "://" + a.Address
}

// MarshalText is String, for logs and JSON.
func (a Address) MarshalText() ([]byte, error) { return []byte(a.String()), nil }

// maxSocketPath is what the kernel's sockaddr_un holds on Linux.
const maxSocketPath = 107

var hostPattern = regexp.MustCompile(`^[A-Za-z0-9]([A-Za-z0-9._-]*[A-Za-z0-9])?$`)

// parseAddress reads tcp://host:port, unix:///path or unix:path.
func parseAddress(s, dir string) (Address, error) {
	if rest, ok := strings.CutPrefix(s, "tcp://"); ok {
		host, port, err := net.SplitHostPort(rest)
		if err != nil {
			return Address{}, fmt.Errorf("%s needs a host and a port, such as tcp://127.0.0.1:8787 or tcp://[::1]:8787", quote(s))
		}
		if _, err := netip.ParseAddr(host); err != nil && host != "" && !hostPattern.MatchString(host) {
			return Address{}, fmt.Errorf("%s does not name a host; write an address or a host name", quote(s))
		}
		if n, err := strconv.ParseUint(port, 10, 16); err != nil || strconv.FormatUint(n, 10) != port {
			return Address{}, fmt.Errorf("%s needs a port between 0 and 65535", quote(s))
		}
		return Address{"tcp", net.JoinHostPort(host, port)}, nil
	}
	if rest, ok := strings.CutPrefix(s, "unix:"); ok {
		path := rest
		if after, double := strings.CutPrefix(rest, "//"); double {
			path = after
			if !strings.HasPrefix(path, "/") {
				return Address{}, fmt.Errorf("%s is ambiguous: write unix:///path, or unix:path for one relative to the file", quote(s))
			}
		}
		if path == "" || strings.ContainsRune(path, 0) || strings.HasSuffix(path, "/") {
			return Address{}, fmt.Errorf("%s does not name a socket; write unix:///path or unix:path", quote(s))
		}
		path = abs(dir, path)
		if len(path) > maxSocketPath {
			return Address{}, fmt.Errorf("the path of the socket, %s, is longer than the %d bytes a system allows; write a shorter one, such as unix:///run/hookline/hookline.sock", quote(path), maxSocketPath)
		}
		return Address{"unix", path}, nil
	}
	return Address{}, fmt.Errorf("%s is not an address; write tcp://127.0.0.1:8787, unix:///path or unix:path", quote(s))
}

// loopback tells whether only this machine can reach the address.
func (a Address) loopback() bool {
	if a.Network != "tcp" {
		return true
	}
	host, _, _ := net.SplitHostPort(a.Address)
	ip, err := netip.ParseAddr(host)
	return host == "localhost" || err == nil && ip.IsLoopback()
}

func addresses(out *[]Address) field {
	return func(d *decoder, p path, value any) {
		items, ok := d.list(p, value)
		if !ok {
			return
		}
		if len(items) == 0 {
			d.fail(p, `must name at least one address, such as "tcp://127.0.0.1:8787"`)
		}
		list := make([]Address, 0, len(items))
		seen := map[Address]bool{}
		for _, item := range items {
			a, err := parseAddress(item, d.dir)
			switch {
			case err != nil:
				d.fail(p, "%s", err)
				continue
			case seen[a] && !strings.HasSuffix(a.Address, ":0"):
				d.fail(p, "names %s twice", a)
			}
			seen[a] = true
			list = append(list, a)
		}
		*out = list
	}
}

func prefixes(out *[]netip.Prefix) field {
	return func(d *decoder, p path, value any) {
		items, ok := d.list(p, value)
		if !ok {
			return
		}
		var list []netip.Prefix // nil when it is empty, as if it were left out
		for _, item := range items {
			prefix, err := netip.ParsePrefix(item)
			if err != nil {
				var ip netip.Addr
				ip, err = netip.ParseAddr(item)
				if err == nil && ip.Zone() == "" {
					prefix = netip.PrefixFrom(ip, ip.BitLen())
				}
			}
			if !prefix.IsValid() {
				d.fail(p, "%s is neither an address nor a range; write 10.0.0.5 or 10.0.0.0/8", quote(item))
				continue
			}
			list = append(list, prefix.Masked())
		}
		*out = list
	}
}
