package http_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"io"
	"log"
	"math/big"
	"net"
	nethttp "net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/hookline/hookline/plugins/http"
	"github.com/hookline/hookline/plugins/target/targettest"
	"github.com/hookline/hookline/plugins/transport"
)

// authority signs certificates for a test.
type authority struct {
	t    testing.TB
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

func newAuthority(t testing.TB) *authority {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	a := &authority{t: t, key: key}
	tmpl := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "test authority"}, IsCA: true, BasicConstraintsValid: true,
		KeyUsage: x509.KeyUsageCertSign, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
	}
	a.cert = a.sign(tmpl, tmpl, &key.PublicKey)
	return a
}

func (a *authority) sign(tmpl, parent *x509.Certificate, pub any) *x509.Certificate {
	der, err := x509.CreateCertificate(rand.Reader, tmpl, parent, pub, a.key)
	if err != nil {
		a.t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		a.t.Fatal(err)
	}
	return cert
}

// leaf makes a certificate for 127.0.0.1, changed by edit.
func (a *authority) leaf(edit func(*x509.Certificate)) tls.Certificate {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		a.t.Fatal(err)
	}
	tmpl := &x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()), Subject: pkix.Name{CommonName: "leaf"}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
		NotBefore:   time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
	}
	if edit != nil {
		edit(tmpl)
	}
	cert := a.sign(tmpl, a.cert, &key.PublicKey)
	return tls.Certificate{Certificate: [][]byte{cert.Raw}, PrivateKey: key, Leaf: cert}
}

func (a *authority) pool() *x509.CertPool {
	p := x509.NewCertPool()
	p.AddCert(a.cert)
	return p
}

func (a *authority) pem() []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: a.cert.Raw})
}

func pair(t testing.TB, c tls.Certificate) (cert, key []byte) {
	der, err := x509.MarshalPKCS8PrivateKey(c.PrivateKey)
	if err != nil {
		t.Fatal(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: c.Certificate[0]}),
		pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})
}

// write replaces a file at once, so that no test sees half of it.
func write(t testing.TB, file string, b []byte) string {
	if err := os.WriteFile(file+".new", b, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(file+".new", file); err != nil {
		t.Fatal(err)
	}
	return file
}

// tlsServer counts connections and answers 200.
func tlsServer(t testing.TB, cfg *tls.Config) (url string, conns *atomic.Int32) {
	s := httptest.NewUnstartedServer(nethttp.HandlerFunc(func(w nethttp.ResponseWriter, r *nethttp.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
	}))
	s.TLS = cfg
	s.Config.ErrorLog = log.New(io.Discard, "", 0)
	conns = new(atomic.Int32)
	s.Config.ConnState = func(_ net.Conn, st nethttp.ConnState) {
		if st == nethttp.StateNew {
			conns.Add(1)
		}
	}
	s.StartTLS()
	t.Cleanup(s.Close)
	return s.URL, conns
}

func TestTLS(t *testing.T) {
	ca, dir := newAuthority(t), t.TempDir()
	caFile := write(t, filepath.Join(dir, "ca.pem"), ca.pem())
	good := ca.leaf(nil)
	yesterday := time.Now().Add(-24 * time.Hour)
	with := func(edit func(*x509.Certificate)) *tls.Config {
		return &tls.Config{Certificates: []tls.Certificate{ca.leaf(edit)}}
	}
	for name, tc := range map[string]struct {
		server *tls.Config
		tls    obj
		ok     bool
		detail string
	}{
		"good":           {&tls.Config{Certificates: []tls.Certificate{good}}, obj{"ca_file": caFile}, true, ""},
		"good 1.3":       {&tls.Config{Certificates: []tls.Certificate{good}}, obj{"ca_file": caFile, "min_version": "1.3"}, true, ""},
		"good 1.2":       {&tls.Config{Certificates: []tls.Certificate{good}, MaxVersion: tls.VersionTLS12}, obj{"ca_file": caFile}, true, ""},
		"other name":     {with(func(c *x509.Certificate) { c.IPAddresses, c.DNSNames = nil, []string{"ehr.test"} }), obj{"ca_file": caFile, "server_name": "ehr.test"}, true, ""},
		"unknown":        {&tls.Config{Certificates: []tls.Certificate{good}}, obj{}, false, "unknown authority; name it in tls.ca_file"},
		"expired":        {with(func(c *x509.Certificate) { c.NotAfter = yesterday; c.NotBefore = yesterday.Add(-time.Hour) }), obj{"ca_file": caFile}, false, "expired on " + yesterday.UTC().Format(time.DateOnly)},
		"not yet valid":  {with(func(c *x509.Certificate) { c.NotBefore = time.Now().Add(time.Minute) }), obj{"ca_file": caFile}, false, "not valid before"},
		"wrong name":     {with(func(c *x509.Certificate) { c.IPAddresses, c.DNSNames = nil, []string{"other.test"} }), obj{"ca_file": caFile}, false, "not for 127.0.0.1"},
		"only TLS 1.1":   {&tls.Config{Certificates: []tls.Certificate{good}, MinVersion: tls.VersionTLS10, MaxVersion: tls.VersionTLS11}, obj{"ca_file": caFile}, false, "protocol version"},
		"only TLS 1.2":   {&tls.Config{Certificates: []tls.Certificate{good}, MaxVersion: tls.VersionTLS12}, obj{"ca_file": caFile, "min_version": "1.3"}, false, "protocol version"},
		"does not speak": {nil, obj{"ca_file": caFile}, false, ""},
	} {
		t.Run(name, func(t *testing.T) {
			var url string
			if tc.server == nil {
				url = "https://" + rawServer(t, func(c *net.TCPConn) {
					_, _ = c.Read(make([]byte, 1000))
					_, _ = io.WriteString(c, "HTTP/1.1 400 Bad Request\r\n\r\n")
					hangs(c)
				})
				tc.detail = "does not speak TLS"
			} else {
				url, _ = tlsServer(t, tc.server)
			}
			tr := configured(t, obj{"url": url + "/secret", "tls": tc.tls})
			d, c := deliver(t, tr, message()), tr.Check(t.Context())
			if tc.ok {
				want(t, d, transport.Done, transport.Delivered, 200)
				want(t, c, transport.Done, transport.Delivered, 0)
				if day := time.Now().Add(time.Hour).UTC().Format(time.DateOnly); !strings.Contains(c.Detail, "certificate expires on "+day) {
					t.Errorf("check: %q", c.Detail)
				}
				return
			}
			for _, r := range []transport.Receipt{d, c} {
				want(t, r, transport.None, transport.TLSError, 0)
				if !strings.Contains(r.Detail, tc.detail) {
					t.Errorf("detail %q, want %q", r.Detail, tc.detail)
				}
			}
		})
	}
	t.Run("plain request to TLS", func(t *testing.T) {
		url, _ := tlsServer(t, &tls.Config{Certificates: []tls.Certificate{good}})
		r := deliver(t, configured(t, obj{"url": strings.Replace(url, "https", "http", 1)}), message())
		want(t, r, transport.None, transport.RejectedByTarget, 400)
	})
	t.Run("closes in the handshake", func(t *testing.T) {
		tr := configured(t, obj{"url": "https://" + rawServer(t, func(c *net.TCPConn) { _, _ = c.Read(make([]byte, 4096)) })})
		want(t, deliver(t, tr, message()), transport.None, transport.ConnectionReset, 0)
	})
	t.Run("refused", func(t *testing.T) {
		want(t, deliver(t, configured(t, obj{"url": "https://" + targettest.ClosedAddr(t)}), message()), transport.None, transport.ConnectionRefused, 0)
	})
}

func TestTLSReset(t *testing.T) {
	ca := newAuthority(t)
	caFile := write(t, filepath.Join(t.TempDir(), "ca.pem"), ca.pem())
	cfg := &tls.Config{Certificates: []tls.Certificate{ca.leaf(nil)}}
	for name, tc := range map[string]struct {
		serve  func(*tls.Conn)
		code   transport.Code
		status int
	}{
		"reset":  {func(c *tls.Conn) { readRequest(c); _ = c.NetConn().(*net.TCPConn).SetLinger(0) }, transport.ConnectionReset, 0},
		"closed": {func(c *tls.Conn) { readRequest(c); _ = c.Close() }, transport.ConnectionReset, 0},
		"half reply": {func(c *tls.Conn) {
			readRequest(c)
			_, _ = io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n1")
			_ = c.Close()
		}, transport.BadResponse, 200},
	} {
		t.Run(name, func(t *testing.T) {
			addr := rawServer(t, func(c *net.TCPConn) { tc.serve(tls.Server(c, cfg)) })
			r := deliver(t, configured(t, obj{"url": "https://" + addr, "tls": obj{"ca_file": caFile}}), message())
			want(t, r, transport.Unknown, tc.code, tc.status)
		})
	}
}

func TestClientCertificate(t *testing.T) {
	ca, foreign, dir := newAuthority(t), newAuthority(t), t.TempDir()
	caFile := write(t, filepath.Join(dir, "ca.pem"), ca.pem())
	files := func(name string, c tls.Certificate) obj {
		cert, key := pair(t, c)
		return obj{"ca_file": caFile, "cert_file": write(t, filepath.Join(dir, name+".pem"), cert), "key_file": write(t, filepath.Join(dir, name+".key"), key)}
	}
	for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
		url, _ := tlsServer(t, &tls.Config{
			Certificates: []tls.Certificate{ca.leaf(nil)}, ClientCAs: ca.pool(), ClientAuth: tls.RequireAndVerifyClientCert, MaxVersion: version,
		})
		good := configured(t, obj{"url": url, "tls": files("good", ca.leaf(nil))})
		want(t, deliver(t, good, message()), transport.Done, transport.Delivered, 200)
		c := good.Check(t.Context())
		want(t, c, transport.Done, transport.Delivered, 0)
		if !strings.Contains(c.Detail, "our client certificate expires on ") {
			t.Errorf("check: %q", c.Detail)
		}
		for name, set := range map[string]obj{"none": {"ca_file": caFile}, "foreign": files("foreign", foreign.leaf(nil))} {
			tr := configured(t, obj{"url": url, "tls": set})
			// The alert may be lost to a reset on a machine under load.
			r := deliver(t, tr, message())
			want(t, r, transport.None, transport.TLSError, 0)
			c := tr.Check(t.Context())
			want(t, c, transport.None, transport.TLSError, 0)
			t.Logf("%s, TLS %x: %s | %s", name, version, r.Detail, c.Detail)
		}
	}
}

func TestFilesAreReadAgain(t *testing.T) {
	one, two, dir := newAuthority(t), newAuthority(t), t.TempDir()
	caFile := write(t, filepath.Join(dir, "ca.pem"), one.pem())
	cert, key := pair(t, one.leaf(nil))
	certFile, keyFile := write(t, filepath.Join(dir, "c.pem"), cert), write(t, filepath.Join(dir, "c.key"), key)

	var current atomic.Pointer[tls.Config]
	serve := func(a *authority) {
		current.Store(&tls.Config{
			Certificates: []tls.Certificate{a.leaf(nil)}, ClientCAs: a.pool(), ClientAuth: tls.RequireAndVerifyClientCert, SessionTicketsDisabled: true,
		})
	}
	serve(one)
	url, conns := tlsServer(t, &tls.Config{
		Certificates:       []tls.Certificate{one.leaf(nil)},
		GetConfigForClient: func(*tls.ClientHelloInfo) (*tls.Config, error) { return current.Load(), nil },
	})
	tr := configured(t, obj{"url": url, "tls": obj{"ca_file": caFile, "cert_file": certFile, "key_file": keyFile}}, http.WithFileTTL(0))
	ok := func(n int32) {
		t.Helper()
		want(t, deliver(t, tr, message()), transport.Done, transport.Delivered, 200)
		if conns.Load() != n {
			t.Errorf("%d connections, want %d", conns.Load(), n)
		}
	}
	ok(1)
	ok(1)

	// Half a rotation, and then nonsense: the last good files stay in use.
	newCert, newKey := pair(t, two.leaf(nil))
	write(t, certFile, newCert)
	ok(1)
	write(t, caFile, []byte("nonsense"))
	ok(1)
	if c := tr.Check(t.Context()); c.Code != transport.Delivered || !strings.Contains(c.Detail, "earlier ones are in use: tls.ca_file") {
		t.Errorf("check: %+v", c)
	}
	if err := os.Remove(keyFile); err != nil {
		t.Fatal(err)
	}
	ok(2) // with Check's connection

	// The rest of it: a new connection under the new files.
	write(t, caFile, two.pem())
	write(t, keyFile, newKey)
	serve(two)
	ok(3)
	if c := tr.Check(t.Context()); c.Code != transport.Delivered || strings.Contains(c.Detail, "earlier") {
		t.Errorf("check: %+v", c)
	}
	serve(one)
	configuredAnew := configured(t, obj{"url": url, "tls": obj{"ca_file": caFile, "cert_file": certFile, "key_file": keyFile}})
	want(t, deliver(t, configuredAnew, message()), transport.None, transport.TLSError, 0)
}
