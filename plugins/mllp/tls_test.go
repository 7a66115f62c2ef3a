package mllp_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"io"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/hookline/hookline/plugins/target/targettest"
	"github.com/hookline/hookline/plugins/transport"
)

// authority signs certificates.
type authority struct {
	t    testing.TB
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
	file string
}

func newAuthority(t testing.TB, name string) *authority {
	a := &authority{t: t}
	a.cert, a.key, a.file, _ = a.issue(name, func(c *x509.Certificate) {
		c.IsCA, c.BasicConstraintsValid, c.KeyUsage = true, true, x509.KeyUsageCertSign
	})
	return a
}

// issue makes a certificate and its key, in files; an authority's first signs itself.
func (a *authority) issue(name string, with func(*x509.Certificate)) (cert *x509.Certificate, key *ecdsa.PrivateKey, certFile, keyFile string) {
	a.t.Helper()
	check := func(err error) {
		if err != nil {
			a.t.Fatal(err)
		}
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	check(err)
	serial, err := rand.Int(rand.Reader, big.NewInt(1<<62))
	check(err)
	cert = &x509.Certificate{
		SerialNumber: serial, Subject: pkix.Name{CommonName: name},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Date(2099, 1, 2, 0, 0, 0, 0, time.UTC),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}
	with(cert)
	parent, signer := a.cert, a.key
	if parent == nil {
		parent, signer = cert, key
	}
	der, err := x509.CreateCertificate(rand.Reader, cert, parent, &key.PublicKey, signer)
	check(err)
	cert, err = x509.ParseCertificate(der)
	check(err)
	keyDER, err := x509.MarshalPKCS8PrivateKey(key)
	check(err)
	dir := a.t.TempDir()
	certFile, keyFile = filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")
	check(os.WriteFile(certFile, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), 0o600))
	check(os.WriteFile(keyFile, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: keyDER}), 0o600))
	return cert, key, certFile, keyFile
}

func TestTLS(t *testing.T) {
	ours, theirs := newAuthority(t, "ours"), newAuthority(t, "theirs")
	none := func(*x509.Certificate) {}
	_, _, serverCert, serverKey := ours.issue("receiver", none)
	_, _, clientCert, clientKey := ours.issue("hookline", none)
	_, _, strangeCert, strangeKey := theirs.issue("hookline", none)
	_, _, otherCert, otherKey := ours.issue("other", func(c *x509.Certificate) { c.IPAddresses, c.DNSNames = nil, []string{"other.example"} })
	_, _, oldCert, oldKey := ours.issue("old", func(c *x509.Certificate) { c.NotAfter = time.Now().Add(-time.Minute) })

	plain := newReceiver(t, serverCert, serverKey)
	mutual := newReceiver(t, serverCert, serverKey, ours.file)
	other := newReceiver(t, otherCert, otherKey)
	old := newReceiver(t, oldCert, oldKey)

	for _, c := range []struct {
		name   string
		to     *receiver
		tls    obj
		effect transport.Effect
		code   transport.Code
		detail string
	}{
		{"good", plain, obj{"ca_file": ours.file}, transport.Done, transport.Delivered, "AA"},
		{"TLS 1.3", plain, obj{"ca_file": ours.file, "min_version": "1.3"}, transport.Done, transport.Delivered, "AA"},
		{"another authority", plain, obj{"ca_file": theirs.file}, transport.None, transport.TLSError, "unknown authority"},
		{"the system's authorities", plain, obj{}, transport.None, transport.TLSError, "unknown authority"},
		{"another name", other, obj{"ca_file": ours.file}, transport.None, transport.TLSError, "not for 127.0.0.1"},
		{"that name", other, obj{"ca_file": ours.file, "server_name": "other.example"}, transport.Done, transport.Delivered, "AA"},
		{"expired", old, obj{"ca_file": ours.file}, transport.None, transport.TLSError, "expired on"},
		{"a client certificate", mutual, obj{"ca_file": ours.file, "cert_file": clientCert, "key_file": clientKey}, transport.Done, transport.Delivered, "AA"},
		// Python's asyncio closes where others send an alert (see TestRefusedCertificate), and
		// whether we hear a close or a reset is a matter of time.
		{"no client certificate", mutual, obj{"ca_file": ours.file}, transport.Unknown, transport.ConnectionReset, "127.0.0.1"},
		{"a stranger's client certificate", mutual, obj{"ca_file": ours.file, "cert_file": strangeCert, "key_file": strangeKey}, transport.Unknown, transport.ConnectionReset, ""},
		{"no TLS", plain, nil, transport.Unknown, transport.ConnectionReset, "127.0.0.1"},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := obj{"address": c.to.address}
			if c.tls != nil {
				s["tls"] = c.tls
			}
			got := deliver(t, configured(t, s), string(adt("435", "Jane")))
			if c.tls == nil && got.Code == transport.TLSError {
				c.effect, c.code, c.detail = transport.None, transport.TLSError, "set tls" // it depends on the server whether it says so
			}
			want(t, got, c.effect, c.code)
			if !strings.Contains(got.Detail, c.detail) {
				t.Errorf("detail: %s; want %q", got.Detail, c.detail)
			}
		})
	}

	check := configured(t, obj{"address": mutual.address, "tls": obj{"ca_file": ours.file, "cert_file": clientCert, "key_file": clientKey}}).Check(t.Context())
	want(t, check, transport.Done, transport.Delivered)
	if strings.Count(check.Detail, "2099-01-02") != 2 {
		t.Errorf("check: %s", check.Detail)
	}
	check = configured(t, obj{"address": mutual.address, "tls": obj{"ca_file": ours.file, "cert_file": strangeCert, "key_file": strangeKey}}).Check(t.Context())
	want(t, check, transport.None, transport.ConnectionReset)
}

// A receiver that says by an alert that it does not want our certificate, in TLS 1.3
// after we think the handshake done, has not read the message.
func TestRefusedCertificate(t *testing.T) {
	ours, theirs := newAuthority(t, "ours"), newAuthority(t, "theirs")
	none := func(*x509.Certificate) {}
	_, _, serverCert, serverKey := ours.issue("receiver", none)
	_, _, strangeCert, strangeKey := theirs.issue("hookline", none)
	pair, err := tls.LoadX509KeyPair(serverCert, serverKey)
	if err != nil {
		t.Fatal(err)
	}
	pool := x509.NewCertPool()
	pool.AddCert(ours.cert)
	l, err := tls.Listen("tcp", "127.0.0.1:0", &tls.Config{Certificates: []tls.Certificate{pair}, ClientAuth: tls.RequireAndVerifyClientCert, ClientCAs: pool})
	if err != nil {
		t.Fatal(err)
	}
	var serving sync.WaitGroup
	serving.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			_ = c.(*tls.Conn).Handshake()
			// The message is read away: a reset could overtake the alert.
			raw := c.(*tls.Conn).NetConn()
			_ = raw.(*net.TCPConn).CloseWrite()
			_, _ = io.Copy(io.Discard, raw)
			_ = c.Close()
		}
	})
	t.Cleanup(func() { _ = l.Close(); serving.Wait() })
	for _, s := range []obj{{"ca_file": ours.file}, {"ca_file": ours.file, "cert_file": strangeCert, "key_file": strangeKey}} {
		tr := configured(t, obj{"address": l.Addr().String(), "tls": s})
		want(t, deliver(t, tr, string(adt("1", "Jane"))), transport.None, transport.TLSError)
		if s["cert_file"] != nil {
			want(t, tr.Check(t.Context()), transport.None, transport.TLSError)
		}
	}
}

// Connections that are not made, or not to be made.
func TestNoConnection(t *testing.T) {
	for address, code := range map[string]transport.Code{
		targettest.ClosedAddr(t): transport.ConnectionRefused,
		"169.254.169.254":        transport.AddressDenied,
		"no-such-host.invalid:1": transport.DNSError,
	} {
		tr := configured(t, obj{"address": address})
		want(t, deliver(t, tr, string(adt("1", ""))), transport.None, code)
		want(t, tr.Check(t.Context()), transport.None, code)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0") // takes a connection and says nothing
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	tr := configured(t, obj{"address": l.Addr().String(), "tls": obj{}, "dial_timeout": "50ms"})
	want(t, deliver(t, tr, string(adt("1", ""))), transport.None, transport.Timeout)
}
