package http_test

import (
	"context"
	"net"
	"strings"
	"testing"

	"golang.org/x/net/dns/dnsmessage"

	"github.com/hookline/hookline/plugins/http"
	"github.com/hookline/hookline/plugins/target/targettest"
	"github.com/hookline/hookline/plugins/transport"
)

func TestGuard(t *testing.T) {
	addr := targettest.ClosedAddr(t)
	_, port, _ := net.SplitHostPort(addr)
	for _, host := range []string{
		"169.254.169.254", "169.254.1.1", "169.254.170.2", "100.100.100.200", "168.63.129.16", "0.0.0.0", "0.1.2.3", "224.0.0.1", "255.255.255.255",
		"[fe80::1]", "[fd00:ec2::254]", "[fd20:ce::254]", "[ff02::1]", "[::]", "[::ffff:169.254.169.254]", "[::ffff:a9fe:a9fe]",
		"[64:ff9b::169.254.169.254]", "[2002:a9fe:a9fe::1]", "[::169.254.169.254]", "10.9.1.2", "[::ffff:10.9.1.2]", "[2001:db8::7]", "10.10.10.10",
	} {
		tr := configured(t, obj{"url": "http://" + host + ":" + port, "deny_addresses": []string{"10.9.0.0/16", "2001:db8::7", "::ffff:10.10.10.10"}})
		want(t, deliver(t, tr, message()), transport.None, transport.AddressDenied, 0)
		want(t, tr.Check(t.Context()), transport.None, transport.AddressDenied, 0)
	}
	for _, host := range []string{"127.0.0.1", "[::ffff:127.0.0.1]"} {
		want(t, deliver(t, configured(t, obj{"url": "http://" + host + ":" + port}), message()), transport.None, transport.ConnectionRefused, 0)
	}
	// Allowed, link-local may be unreachable, but is not denied; metadata stays so.
	open := func(host string) transport.Code {
		tr := configured(t, obj{"url": "http://" + host, "allow_link_local": true, "dial_timeout": "50ms"})
		return deliver(t, tr, message()).Code
	}
	if c := open("169.254.1.1"); c == transport.AddressDenied {
		t.Error("link-local denied although allowed")
	}
	if c := open("169.254.169.254"); c != transport.AddressDenied {
		t.Errorf("metadata: %s", c)
	}
}

func TestGuardSeesWhatANameResolvesTo(t *testing.T) {
	s, _ := recorder(t)
	_, port, _ := net.SplitHostPort(s.Listener.Addr().String())
	dns := fakeDNS(t, map[string][4]byte{"evil.test.": {169, 254, 169, 254}, "good.test.": {127, 0, 0, 1}})
	r := deliver(t, configured(t, obj{"url": "http://evil.test:" + port}, http.WithResolver(dns)), message())
	want(t, r, transport.None, transport.AddressDenied, 0)
	if !strings.Contains(r.Detail, "169.254.169.254:"+port) {
		t.Errorf("detail %q", r.Detail)
	}
	want(t, deliver(t, configured(t, obj{"url": "http://good.test:" + port}, http.WithResolver(dns)), message()), transport.Done, transport.Delivered, 200)
}

// fakeDNS resolves the names, and says of others that they don't exist.
func fakeDNS(t *testing.T, names map[string][4]byte) *net.Resolver {
	pc, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		buf := make([]byte, 1500)
		for {
			n, from, err := pc.ReadFrom(buf)
			if err != nil {
				return
			}
			var q dnsmessage.Message
			if q.Unpack(buf[:n]) != nil || len(q.Questions) != 1 {
				continue
			}
			q.Response, q.Additionals = true, nil
			ip, known := names[q.Questions[0].Name.String()]
			if !known {
				q.RCode = dnsmessage.RCodeNameError
			} else if q.Questions[0].Type == dnsmessage.TypeA {
				q.Answers = []dnsmessage.Resource{{
					Header: dnsmessage.ResourceHeader{Name: q.Questions[0].Name, Class: dnsmessage.ClassINET, TTL: 1},
					Body:   &dnsmessage.AResource{A: ip},
				}}
			}
			if b, err := q.Pack(); err == nil {
				_, _ = pc.WriteTo(b, from)
			}
		}
	}()
	t.Cleanup(func() { _ = pc.Close(); <-done })
	return resolverAt(pc.LocalAddr().String())
}

// hangingDNS never gets through to its server.
func hangingDNS() *net.Resolver {
	return &net.Resolver{PreferGo: true, Dial: func(ctx context.Context, _, _ string) (net.Conn, error) {
		<-ctx.Done()
		return nil, ctx.Err()
	}}
}

func resolverAt(addr string) *net.Resolver {
	return &net.Resolver{PreferGo: true, Dial: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "udp", addr)
	}}
}
