package target

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io/fs"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hookline/hookline/plugins/transport"
)

// TLS are the settings of a target's TLS, under the key "tls".
type TLS struct {
	CAFile     string `json:"ca_file"`     // PEM; in place of the system's authorities
	CertFile   string `json:"cert_file"`   // PEM of the client's certificate and its chain
	KeyFile    string `json:"key_file"`    // PEM, not encrypted
	MinVersion string `json:"min_version"` // "1.2" (default) or "1.3"
	ServerName string `json:"server_name"` // default: the target's host
}

// Check adds to bad what is wrong without looking at the files. Nil, no TLS, is right.
func (t *TLS) Check(bad *Faults) {
	if t == nil {
		return
	}
	if (t.CertFile == "") != (t.KeyFile == "") {
		field, other := "tls.cert_file", "tls.key_file"
		if t.CertFile != "" {
			field, other = other, field
		}
		bad.Add(field, "is missing; %s needs it", other)
	}
	if t.MinVersion != "" && t.MinVersion != "1.2" && t.MinVersion != "1.3" {
		bad.Add("tls.min_version", "must be 1.2 or 1.3")
	}
	if t.ServerName != "" && !ValidHost(t.ServerName) {
		bad.Add("tls.server_name", "must be a host name or an IP address")
	}
}

// TLSSource is the TLS configuration of a target. It reads its files again when
// they change; each new configuration is a new pointer, by which the pool knows
// the connections that were made under an older one.
type TLSSource struct {
	settings  TLS
	name      string // server name
	ttl       time.Duration
	protocols []string

	cur     atomic.Pointer[tls.Config]
	checked atomic.Int64 // nanoseconds since begin

	mu     sync.Mutex
	begin  time.Time
	stamps map[string]fs.FileInfo // the files that cur was made of
	err    error                  // why the newest files are not in use
}

// Source reads the files of t, and again when they have changed, for which it looks at
// most once in ttl. hostname is the server's name unless t has one; protocols are offered
// by ALPN. The error is a *[transport.SettingError] under "tls". Of nil, no TLS, the
// source is nil.
func (t *TLS) Source(hostname string, ttl time.Duration, protocols ...string) (*TLSSource, error) {
	if t == nil {
		return nil, nil
	}
	src := &TLSSource{settings: *t, name: t.ServerName, ttl: ttl, protocols: protocols, begin: time.Now()}
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

// Current is the configuration to connect with; nil of a nil source.
func (s *TLSSource) Current() *tls.Config {
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
func (s *TLSSource) refresh() {
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

// Trouble is why the files as they are now are not in use.
func (s *TLSSource) Trouble() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.err
}

func (s *TLSSource) stat() map[string]fs.FileInfo {
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

func (s *TLSSource) load() (*tls.Config, error) {
	cfg := &tls.Config{
		ServerName:         s.name,
		MinVersion:         tls.VersionTLS12,
		NextProtos:         s.protocols,
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
