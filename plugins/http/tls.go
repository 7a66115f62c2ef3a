package http

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hookline/hookline/plugins/transport"
)

// tlsSource is the TLS configuration of a target. It reads its files again when
// they change; each new configuration is a new pointer, by which the pool knows
// the connections that were made under an older one.
type tlsSource struct {
	settings tlsSettings
	name     string // server name
	ttl      time.Duration

	cur     atomic.Pointer[tls.Config]
	checked atomic.Int64 // nanoseconds since begin

	mu     sync.Mutex
	begin  time.Time
	stamps map[string]fs.FileInfo // the files that cur was made of
	err    error                  // why the newest files are not in use
}

func newTLSSource(s tlsSettings, hostname string, ttl time.Duration) (*tlsSource, error) {
	src := &tlsSource{settings: s, name: s.ServerName, ttl: ttl, begin: time.Now()}
	if src.name == "" {
		src.name = hostname
	}
	src.stamps = src.stat()
	cfg, err := src.load()
	if err != nil {
		return nil, err
	}
	src.cur.Store(cfg)
	return src, nil
}

// current returns the configuration to connect with, nil for http. It looks at
// the files at most once in ttl.
func (s *tlsSource) current() *tls.Config {
	if s == nil {
		return nil
	}
	if s.settings.CAFile == "" && s.settings.CertFile == "" {
		return s.cur.Load()
	}
	now := int64(time.Since(s.begin))
	if now-s.checked.Load() >= int64(s.ttl) && s.mu.TryLock() {
		s.checked.Store(now)
		s.refresh()
		s.mu.Unlock()
	}
	return s.cur.Load()
}

// refresh keeps the last good configuration if the new files don't make one, and
// tries them again next time: a certificate and its key are not replaced at once.
func (s *tlsSource) refresh() {
	stamps := s.stat()
	if sameFiles(stamps, s.stamps) {
		s.err = nil
		return
	}
	cfg, err := s.load()
	if s.err = err; err == nil {
		s.stamps = stamps
		s.cur.Store(cfg)
	}
}

// trouble is why the files as they are now are not in use.
func (s *tlsSource) trouble() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.err
}

func (s *tlsSource) stat() map[string]fs.FileInfo {
	m := make(map[string]fs.FileInfo, 3)
	for _, name := range []string{s.settings.CAFile, s.settings.CertFile, s.settings.KeyFile} {
		if name != "" {
			m[name], _ = os.Stat(name) // load reports a missing file
		}
	}
	return m
}

func sameFiles(a, b map[string]fs.FileInfo) bool {
	for name, x := range a {
		y := b[name]
		if x == nil || y == nil || !x.ModTime().Equal(y.ModTime()) || x.Size() != y.Size() || !os.SameFile(x, y) {
			return false
		}
	}
	return true
}

func (s *tlsSource) load() (*tls.Config, error) {
	cfg := &tls.Config{
		ServerName:         s.name,
		MinVersion:         tls.VersionTLS12,
		NextProtos:         []string{"http/1.1"},
		ClientSessionCache: tls.NewLRUClientSessionCache(64),
	}
	if s.settings.MinVersion == "1.3" {
		cfg.MinVersion = tls.VersionTLS13
	}
	if s.settings.CAFile != "" {
		pem, err := os.ReadFile(s.settings.CAFile)
		if err != nil {
			return nil, unreadable("tls.ca_file", err)
		}
		cfg.RootCAs = x509.NewCertPool()
		if !cfg.RootCAs.AppendCertsFromPEM(pem) {
			return nil, &transport.SettingError{Field: "tls.ca_file", Rule: "must hold certificates in PEM"}
		}
	}
	if s.settings.CertFile == "" {
		return cfg, nil
	}
	certPEM, err := os.ReadFile(s.settings.CertFile)
	if err != nil {
		return nil, unreadable("tls.cert_file", err)
	}
	keyPEM, err := os.ReadFile(s.settings.KeyFile)
	if err != nil {
		return nil, unreadable("tls.key_file", err)
	}
	cert, err := tls.X509KeyPair(certPEM, keyPEM)
	if err != nil {
		return nil, &transport.SettingError{
			Field: "tls.key_file",
			Rule:  "must be the unencrypted PEM key of the PEM certificate in tls.cert_file",
		}
	}
	// Unlike Certificates, this sends it also to a target that lists other
	// authorities: it then says what is wrong instead of "certificate required".
	cfg.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return &cert, nil }
	return cfg, nil
}

func unreadable(field string, err error) error {
	if pe, ok := errors.AsType[*fs.PathError](err); ok {
		err = pe.Err
	}
	return &transport.SettingError{Field: field, Rule: "must be a file that can be read: " + err.Error()}
}

// refusalWait is how long Check waits for a target to turn a client certificate
// down: in TLS 1.3 that comes after our side of the handshake has ended.
const refusalWait = 250 * time.Millisecond

func (t *Transport) checkTLS(ctx context.Context) transport.Receipt {
	cfg := t.tls.current().Clone()
	var asked bool
	var ours *tls.Certificate
	get := cfg.GetClientCertificate
	cfg.GetClientCertificate = func(r *tls.CertificateRequestInfo) (cert *tls.Certificate, err error) {
		asked, ours = true, new(tls.Certificate)
		if get != nil {
			ours, err = get(r)
		}
		return ours, err
	}
	cfg.ClientSessionCache = nil // a resumed session would show an old certificate
	c, err := t.dial(ctx, cfg)
	if err != nil {
		return t.dialFailure(ctx, err)
	}
	defer c.abort()
	if asked {
		if err := c.awaitRefusal(ctx); err != nil {
			if ctx.Err() != nil {
				return ended(ctx, transport.None, "TLS handshake with "+c.peer)
			}
			return t.dialFailure(ctx, &handshakeError{peer: c.peer, err: err})
		}
	}
	detail := "connected to " + c.peer
	if peers := c.rw.(*tls.Conn).ConnectionState().PeerCertificates; len(peers) > 0 {
		detail += "; the target's certificate expires on " + date(peers[0].NotAfter)
	}
	if asked && ours.Leaf != nil {
		detail += "; our client certificate expires on " + date(ours.Leaf.NotAfter)
	}
	if err := t.tls.trouble(); err != nil {
		detail += fmt.Sprintf("; the files changed, but the earlier ones are in use: %v", err)
	}
	return transport.Receipt{Effect: transport.Done, Code: transport.Delivered, Detail: oneLine(detail)}
}

// awaitRefusal returns nil if the target said nothing for a moment.
func (c *conn) awaitRefusal(ctx context.Context) error {
	stop := context.AfterFunc(ctx, c.interrupt)
	defer stop()
	if err := c.raw.SetReadDeadline(time.Now().Add(refusalWait)); err != nil {
		return err
	}
	if _, err := c.rw.Read(make([]byte, 1)); err != nil && (ctx.Err() != nil || !isTimeout(err)) {
		return err
	}
	return nil
}
