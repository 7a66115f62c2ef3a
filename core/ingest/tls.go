package ingest

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"sync"
	"time"
)

const (
	// lookAgain is how often, at most, the files of a certificate are looked at.
	lookAgain = time.Second
	// expiresSoon is when the warnings about a certificate's end begin.
	expiresSoon = 30 * 24 * time.Hour
	warnAgain   = 24 * time.Hour
)

// TLSConfig is the TLS of a listener: TLS 1.2 or later, with the certificate
// (chain) of certFile and the key of keyFile. The files are read again when they
// have changed, at the next handshake; a pair that is not good is logged and the
// last good one stays. From 30 days before its end the certificate is warned of,
// at most once a day, here and at handshakes.
func TLSConfig(certFile, keyFile string, log *slog.Logger) (*tls.Config, error) {
	p, err := newPair(certFile, keyFile, log, time.Now)
	if err != nil {
		return nil, err
	}
	return &tls.Config{
		MinVersion: tls.VersionTLS12,
		NextProtos: []string{"http/1.1"},
		GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) {
			return p.certificate(), nil
		},
	}, nil
}

// CertificateExpiry returns the end of the certificate in a PEM file, the first
// end of a chain.
func CertificateExpiry(certFile string) (time.Time, error) {
	text, err := os.ReadFile(certFile)
	if err != nil {
		return time.Time{}, fmt.Errorf("cannot read the certificate: %w", err)
	}
	var end time.Time
	for block, rest := pem.Decode(text); block != nil; block, rest = pem.Decode(rest) {
		if block.Type != "CERTIFICATE" {
			continue
		}
		cert, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return time.Time{}, fmt.Errorf("%s holds a certificate that cannot be read: %w", certFile, err)
		}
		end = earlier(end, cert.NotAfter)
	}
	if end.IsZero() {
		return end, fmt.Errorf("%s holds no certificate; it must be PEM, with a block CERTIFICATE", certFile)
	}
	return end, nil
}

func earlier(a, b time.Time) time.Time {
	if a.IsZero() || b.Before(a) {
		return b
	}
	return a
}

// pair is a certificate and its key, as good as the files last were.
type pair struct {
	certFile, keyFile string
	log               *slog.Logger
	now               func() time.Time

	mu     sync.Mutex
	cert   *tls.Certificate
	end    time.Time
	files  [2]os.FileInfo // as they were last tried
	looked time.Time
	warned time.Time
}

func newPair(certFile, keyFile string, log *slog.Logger, now func() time.Time) (*pair, error) {
	p := &pair{certFile: certFile, keyFile: keyFile, log: log, now: now}
	files, err := p.stat()
	if err == nil {
		err = p.load()
	}
	if err != nil {
		return nil, err
	}
	p.files, p.looked = files, now()
	p.warn()
	return p, nil
}

func (p *pair) certificate() *tls.Certificate {
	p.mu.Lock()
	defer p.mu.Unlock()
	now := p.now()
	if now.Sub(p.looked) < lookAgain {
		return p.cert
	}
	p.looked = now
	// The two files are never written at once: until they fit again, each change
	// is tried, and only the changes.
	files, err := p.stat()
	switch {
	case err == nil && !sameFiles(files, p.files):
		p.files = files
		if err = p.load(); err == nil {
			p.log.Info("certificate read again", "file", p.certFile, "expires", p.end)
		}
	case err != nil && p.files != [2]os.FileInfo{}:
		p.files = [2]os.FileInfo{} // say it once
	default:
		err = nil
	}
	if err != nil {
		p.log.Warn("the last good certificate stays in use", "file", p.certFile, "because", err, "expires", p.end)
	}
	p.warn()
	return p.cert
}

func (p *pair) stat() (out [2]os.FileInfo, err error) {
	for i, name := range []string{p.certFile, p.keyFile} {
		if out[i], err = os.Stat(name); err != nil {
			return out, fmt.Errorf("cannot read the certificate: %w", err)
		}
	}
	return out, nil
}

func sameFiles(a, b [2]os.FileInfo) bool {
	for i := range a {
		if a[i] == nil || b[i] == nil || !os.SameFile(a[i], b[i]) ||
			!a[i].ModTime().Equal(b[i].ModTime()) || a[i].Size() != b[i].Size() {
			return false
		}
	}
	return true
}

func (p *pair) load() error {
	cert, err := tls.LoadX509KeyPair(p.certFile, p.keyFile)
	if err != nil {
		var path *os.PathError
		if errors.As(err, &path) {
			return fmt.Errorf("cannot read the certificate: %w", err)
		}
		return fmt.Errorf("%s and %s are not a certificate and its key, both PEM: %w", p.certFile, p.keyFile, err)
	}
	end, err := CertificateExpiry(p.certFile)
	if err != nil {
		return err
	}
	p.cert, p.end, p.warned = &cert, end, time.Time{}
	return nil
}

// warn tells of the certificate's end before the callers do.
func (p *pair) warn() {
	now := p.now()
	left := p.end.Sub(now)
	if left > expiresSoon || !p.warned.IsZero() && now.Sub(p.warned) < warnAgain {
		return
	}
	p.warned = now
	if left <= 0 {
		p.log.Error("the certificate has expired: callers refuse it", "file", p.certFile, "expired", p.end)
		return
	}
	p.log.Warn(fmt.Sprintf("the certificate expires in %d days", int(left/(24*time.Hour))), "file", p.certFile, "expires", p.end)
}
