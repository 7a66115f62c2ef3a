package app

import (
	"cmp"
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/hookline/hookline/core/config"
	"github.com/hookline/hookline/core/journal"
	"github.com/hookline/hookline/plugins/transport"
)

// CheckReport is what `hookline check` found.
type CheckReport struct {
	Revision     string              `json:"revision"`
	Warnings     []string            `json:"warnings"`
	Hooks        []string            `json:"hooks"`
	Routes       []string            `json:"routes"`
	Transports   []TransportReport   `json:"transports"`
	Scripts      []ScriptReport      `json:"scripts"`
	TrialKit     []TrialKitReport    `json:"trialkit"`
	Certificates []CertificateReport `json:"certificates"`
	Journal      JournalReport       `json:"journal"`
	Alerts       string              `json:"alerts,omitempty"` // the transport that they go to
}

// JournalReport says whether the journal could be opened. Nothing is created.
type JournalReport struct {
	OK     bool   `json:"ok"`
	Detail string `json:"detail"`
}

// TransportReport is a transport that was started and configured.
type TransportReport struct {
	Name       string       `json:"name"`
	Plugin     string       `json:"plugin"`
	Version    string       `json:"version"`
	Idempotent bool         `json:"idempotent"`
	Exclusive  bool         `json:"exclusive"`
	Probe      *ProbeReport `json:"probe,omitempty"`
}

// ProbeReport says whether a transport's target can be reached.
type ProbeReport struct {
	OK     bool           `json:"ok"`
	Code   transport.Code `json:"code"`
	Detail string         `json:"detail,omitempty"`
}

// ScriptReport is a transform that compiled, and gave what its golden pairs say.
type ScriptReport struct {
	Route  string `json:"route"`
	SHA256 string `json:"sha256"`
	Golden int    `json:"golden"` // how many pairs it has
}

// TrialKitReport is how a hook reads from TrialKit's API. Nothing was asked of it: a
// record to ask for is not known.
type TrialKitReport struct {
	Hook   string   `json:"hook"`
	URL    string   `json:"url"`
	Record string   `json:"record_path"`
	Routes []string `json:"enrich"` // that enrich the hook's events
}

// CertificateReport is a certificate of the hook endpoint or of the admin API.
type CertificateReport struct {
	File     string    `json:"file"`
	NotAfter time.Time `json:"not_after"`
	DaysLeft int       `json:"days_left"`
}

// warnBefore is how long before its end a certificate is warned of.
const warnBefore = 30 * 24 * time.Hour

// probeTimeout bounds the probe of one target.
const probeTimeout = 10 * time.Second

// Failed tells whether the journal cannot be used, or a probe failed.
func (r *CheckReport) Failed() bool {
	return !r.Journal.OK || slices.ContainsFunc(r.Transports, func(t TransportReport) bool { return t.Probe != nil && !t.Probe.OK })
}

// Check does everything that a start does, except listening: scripts are
// compiled, plugins started and configured, and the journal is looked at. With
// probe the targets are tried, without a delivery, and a journal's database.
func Check(ctx context.Context, c *config.Config, log *slog.Logger, probe bool) (*CheckReport, error) {
	a := &App{log: log, gates: map[string]gate{}}
	defer a.release()
	g, err := a.build(ctx, c, nil, nil)
	if err != nil {
		return nil, &Unusable{Config: c, Err: err}
	}
	a.current = g
	r := &CheckReport{
		Revision: c.Revision, Warnings: append([]string{}, c.Warnings...),
		Hooks: []string{}, Routes: []string{}, Transports: []TransportReport{}, Scripts: []ScriptReport{}, TrialKit: []TrialKitReport{}, Certificates: []CertificateReport{},
	}
	for _, h := range c.Hooks {
		r.Hooks = append(r.Hooks, h.Name)
		if t := h.TrialKit; t != nil {
			report := TrialKitReport{Hook: h.Name, URL: t.URL, Record: t.RecordPath, Routes: []string{}}
			for _, route := range c.Routes {
				if route.Enrich && route.Serves(h.Name) {
					report.Routes = append(report.Routes, route.Name)
				}
			}
			r.TrialKit = append(r.TrialKit, report)
		}
	}
	for _, route := range c.Routes {
		r.Routes = append(r.Routes, route.Name)
		if t := g.scripts[route.Name]; t != nil {
			r.Scripts = append(r.Scripts, ScriptReport{Route: route.Name, SHA256: t.Hash(), Golden: g.golden[route.Name]})
			for _, warning := range t.Warnings() {
				if text := "routes." + route.Name + ".transform: " + warning; !slices.Contains(r.Warnings, text) {
					r.Warnings = append(r.Warnings, text)
				}
			}
		}
	}
	if err := r.certificates(c); err != nil {
		return nil, &Unusable{Config: c, Err: err}
	}
	r.transports(ctx, c, g, probe)
	r.Alerts = c.Alerts.Transport
	r.Journal = inspectJournal(ctx, c, probe)
	return r, nil
}

func inspectJournal(ctx context.Context, c *config.Config, probe bool) JournalReport {
	if c.Journal.None() {
		return JournalReport{OK: true, Detail: "none"}
	}
	url, err := c.JournalURL()
	if err != nil {
		return JournalReport{Detail: err.Error()}
	}
	found, err := journal.Inspect(ctx, journal.Options{URL: url}, probe)
	if err != nil {
		return JournalReport{Detail: strings.TrimPrefix(atStart(err).Error(), "journal: ")}
	}
	return JournalReport{OK: true, Detail: describe(found)}
}

func describe(r journal.Report) string {
	s := strings.TrimSpace(r.Kind + " " + r.Where)
	switch {
	case !r.Looked:
		return s + ", not tried: that takes --probe"
	case r.Kind == "memory":
		return s + ", lost at the end"
	case r.New:
		s += ", will be created"
	case r.Have < r.Know:
		s += fmt.Sprintf(", schema %d, will be migrated to %d", r.Have, r.Know)
	default:
		s += fmt.Sprintf(", schema %d", r.Have)
	}
	switch {
	case r.Used && r.PID != 0:
		s += fmt.Sprintf(", used by pid %d", r.PID)
	case r.Used:
		s += ", used by a daemon"
	}
	return s
}

func (r *CheckReport) transports(ctx context.Context, c *config.Config, g *generation, probe bool) {
	r.Transports = make([]TransportReport, len(c.Transports))
	var probes sync.WaitGroup
	for i, t := range c.Transports {
		about := g.transports[t.Name].Description()
		r.Transports[i] = TransportReport{
			Name: t.Name, Plugin: cmp.Or(about.Name, t.Plugin), Version: about.Version,
			Idempotent: about.Idempotent, Exclusive: about.Exclusive,
		}
		if !probe {
			continue
		}
		probes.Go(func() {
			ctx, cancel := context.WithTimeout(ctx, probeTimeout)
			defer cancel()
			receipt := g.transports[t.Name].Check(ctx)
			r.Transports[i].Probe = &ProbeReport{OK: receipt.Effect == transport.Done, Code: receipt.Code, Detail: receipt.Detail}
		})
	}
	probes.Wait()
}

func (r *CheckReport) certificates(c *config.Config) error {
	for _, of := range certificateFiles(c) {
		if err := r.certificate(of.section, of.files); err != nil {
			return err
		}
	}
	return nil
}

// sectionTLS is the TLS of a section of the configuration.
type sectionTLS struct {
	section string
	files   config.TLS
}

// certificateFiles are those that the configuration names.
func certificateFiles(c *config.Config) (out []sectionTLS) {
	for _, of := range []sectionTLS{{"server.tls", c.Server.TLS}, {"admin.tls", c.Admin.TLS}} {
		if of.files.Enabled() {
			out = append(out, of)
		}
	}
	return out
}

func (r *CheckReport) certificate(section string, files config.TLS) error {
	pair, err := tls.LoadX509KeyPair(files.CertFile, files.KeyFile)
	if err != nil {
		return fmt.Errorf("%s: %w", section, err)
	}
	leaf, err := x509.ParseCertificate(pair.Certificate[0])
	if err != nil {
		return fmt.Errorf("%s.cert_file: %w", section, err)
	}
	left := time.Until(leaf.NotAfter)
	r.Certificates = append(r.Certificates, CertificateReport{
		File: files.CertFile, NotAfter: leaf.NotAfter.UTC(), DaysLeft: int(left.Hours() / 24),
	})
	switch {
	case left <= 0:
		return fmt.Errorf("%s.cert_file: the certificate expired on %s; renew it", section, leaf.NotAfter.UTC().Format(time.DateOnly))
	case left < warnBefore:
		r.Warnings = append(r.Warnings, fmt.Sprintf("%s.cert_file: the certificate expires on %s; renew it", section, leaf.NotAfter.UTC().Format(time.DateOnly)))
	}
	return nil
}
