package ingest

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/hookline/hookline/core"
)

// certificate writes a pair into dir that ends at end.
func certificate(t *testing.T, dir, name string, end time.Time) (certFile, keyFile string) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	tmpl := &x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()), Subject: pkix.Name{CommonName: name}, DNSNames: []string{name},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: end,
	}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, tmpl, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	keyDER, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	certFile, keyFile = filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")
	replace(t, certFile, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}))
	replace(t, keyFile, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: keyDER}))
	return certFile, keyFile
}

// replace puts a new file in the place of an old one, as a careful tool does.
func replace(t *testing.T, name string, text []byte) {
	t.Helper()
	if err := os.WriteFile(name+".new", text, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(name+".new", name); err != nil {
		t.Fatal(err)
	}
}

func TestTLS(t *testing.T) {
	certFile, keyFile := certificate(t, t.TempDir(), "h", time.Now().Add(90*24*time.Hour))
	s := start(t, Options{}, setOf(hook("demo", password)))
	cfg, err := TLSConfig(certFile, keyFile, s.Server.log)
	if err != nil {
		t.Fatal(err)
	}
	inner, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- s.Serve(tls.NewListener(inner, cfg)) }()
	t.Cleanup(func() {
		if err := s.Drain(t.Context()); err != nil && t.Context().Err() == nil {
			t.Error(err)
		}
		<-ended
	})

	p := dial(t, "tcp", inner.Addr().String())
	conn := tls.Client(p.Conn, &tls.Config{InsecureSkipVerify: true, NextProtos: []string{"h2", "http/1.1"}})
	p.Conn = conn
	p.buf.Reset(conn)
	p.send(post("demo", basic(email, password), insert))
	p.want(http.StatusOK, core.Ignored)
	if got := conn.ConnectionState().NegotiatedProtocol; got != "http/1.1" {
		t.Errorf("protocol %q", got)
	}
	conn.Close()

	old := tls.Client(dial(t, "tcp", inner.Addr().String()).Conn, &tls.Config{InsecureSkipVerify: true, MaxVersion: tls.VersionTLS11})
	if err := old.Handshake(); err == nil {
		t.Error("TLS 1.1 is taken")
	}
}

func TestCertificateRotation(t *testing.T) {
	dir, log, now := t.TempDir(), newLogbook(), time.Now()
	clock := func() time.Time { now = now.Add(lookAgain); return now }
	certFile, keyFile := certificate(t, dir, "first", now.Add(90*24*time.Hour))
	p, err := newPair(certFile, keyFile, log.logger(), clock)
	if err != nil {
		t.Fatal(err)
	}
	name := func() string {
		leaf, err := x509.ParseCertificate(p.certificate().Certificate[0])
		if err != nil {
			t.Fatal(err)
		}
		return leaf.Subject.CommonName
	}
	if got := name(); got != "first" || log.String() != "" {
		t.Fatalf("%s %s", got, log)
	}

	certificate(t, dir, "second", now.Add(90*24*time.Hour))
	if got := name(); got != "second" {
		t.Errorf("certificate %s", got)
	}
	log.await(t, "certificate read again")

	// Half a rotation, then a broken one: the last good pair stays, and it is said once.
	oldKey, _ := os.ReadFile(keyFile)
	certificate(t, dir, "third", now.Add(90*24*time.Hour))
	newKey, _ := os.ReadFile(keyFile)
	replace(t, keyFile, oldKey)
	for range 3 {
		if got := name(); got != "second" {
			t.Errorf("certificate %s", got)
		}
	}
	os.Remove(keyFile)
	for range 3 {
		if got := name(); got != "second" {
			t.Errorf("certificate %s", got)
		}
	}
	if n := strings.Count(log.String(), "the last good certificate stays"); n != 2 {
		t.Errorf("%d warnings:\n%s", n, log)
	}
	replace(t, keyFile, newKey)
	if got := name(); got != "third" {
		t.Errorf("certificate %s", got)
	}
}

func TestCertificateExpiry(t *testing.T) {
	dir, log, now := t.TempDir(), newLogbook(), time.Now()
	end := now.Add(31 * 24 * time.Hour)
	certFile, keyFile := certificate(t, dir, "h", end)
	if got, err := CertificateExpiry(certFile); err != nil || !got.Equal(end.Truncate(time.Second)) {
		t.Errorf("%s %v", got, err)
	}
	p, err := newPair(certFile, keyFile, log.logger(), func() time.Time { return now })
	if err != nil {
		t.Fatal(err)
	}
	for range 33 * 4 { // four handshakes a day
		now = now.Add(6 * time.Hour)
		p.certificate()
	}
	if n := strings.Count(log.String(), "level=WARN msg=\"the certificate expires in"); n < 29 || n > 31 {
		t.Errorf("%d warnings:\n%s", n, log)
	}
	log.await(t, "level=ERROR", "expired")

	for file, want := range map[string]string{keyFile: "holds no certificate", dir + "/none": "cannot read the certificate"} {
		if _, err := CertificateExpiry(file); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", file, err)
		}
	}
	for _, pair := range [][2]string{{certFile, certFile}, {dir + "/none", keyFile}} {
		if _, err := TLSConfig(pair[0], pair[1], log.logger()); err == nil || strings.Contains(err.Error(), "PRIVATE KEY-----") {
			t.Errorf("%v: %v", pair, err)
		}
	}
}
