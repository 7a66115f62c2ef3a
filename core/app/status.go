package app

import (
	"cmp"
	"context"
	"errors"
	"path/filepath"
	"strings"
	"time"

	"github.com/hookline/hookline/core/admin"
	"github.com/hookline/hookline/core/config"
	"github.com/hookline/hookline/core/telemetry"
	"github.com/hookline/hookline/transforms"
)

// adminOptions are those of the admin API of a daemon that starts on c.
func (a *App) adminOptions(c *config.Config) (admin.Options, error) {
	started, kind := time.Now(), a.journalKind(c)
	o := admin.Options{
		Path: c.Admin.Socket(), Hosts: c.Admin.Hosts, Users: a.current.users, Reload: a.Reload, Log: a.log,
		Metrics: a.observation.Load().Handler(),
		Status:  func() admin.Status { return a.status(started, kind) },
		Alerts:  a.vigil.list,
		Plugins: a.plugins,
		Release: a.releaseScript,
	}
	for _, addr := range c.Admin.TCP() {
		o.TCP = append(o.TCP, addr.Address)
	}
	if a.store != nil {
		o.Journal, o.Routes, o.Viewed, o.Care, o.Redrive = a.store, a.routes, a.store.Viewed, carer{a}, redriver{a}
		o.Past, o.SourceFiles = a.past, sourceFiles
	}
	var err error
	o.TLS, err = listenerTLS(c.Admin.TLS, "admin.tls", a.log)
	return o, err
}

// adminUsers are those who may call the admin API over TCP.
func adminUsers(c *config.Config, problems *problems) []admin.User {
	var out []admin.User
	for _, u := range c.Admin.Users {
		hash, err := c.ResolveHash(u.Password)
		if err != nil {
			problems.add("admin.users."+u.Name+".password", err)
			continue
		}
		out = append(out, admin.User{Name: u.Name, Role: admin.Role(u.Role), Hash: hash})
	}
	return out
}

// routes are the names of those in force.
func (a *App) routes() []string {
	a.reloading.Lock()
	defer a.reloading.Unlock()
	names := make([]string, 0, len(a.current.config.Routes))
	for _, r := range a.current.config.Routes {
		names = append(names, r.Name)
	}
	return names
}

// journalKind is the scheme of the open journal's URL: the rest may hold a
// password.
func (a *App) journalKind(c *config.Config) string {
	if a.store == nil {
		return "none"
	}
	url, err := c.JournalURL()
	if err != nil {
		return "unknown"
	}
	scheme, _, _ := strings.Cut(url, ":")
	if scheme == "postgresql" {
		return "postgres"
	}
	return scheme
}

// status waits for a reload in progress, and tells what it came to.
func (a *App) status(started time.Time, journal string) admin.Status {
	a.reloading.Lock()
	c, recalled, engine := a.current.config, a.recalled.Load(), a.engine
	a.reloading.Unlock()
	s := admin.Status{
		Version: Version(), Revision: c.Revision, StartedAt: admin.Time{Time: started}, Journal: journal,
		Hooks: []string{}, Routes: []string{},
	}
	for _, h := range c.Hooks {
		s.Hooks = append(s.Hooks, h.Name)
	}
	for _, r := range c.Routes {
		s.Routes = append(s.Routes, r.Name)
	}
	if engine != nil {
		s.Quarantined = quarantined(engine.Quarantined())
	}
	if recalled != nil {
		s.Recalled = &admin.Recalled{AcceptedAt: admin.Time{Time: recalled.at}, Why: recalled.why.Error()}
	}
	return s
}

// plugins tells how the processes of the transports in force stand.
func (a *App) plugins() []admin.Plugin {
	a.reloading.Lock()
	g := a.current
	a.reloading.Unlock()
	var out []admin.Plugin
	for _, t := range g.config.Transports {
		running := g.transports[t.Name]
		s, about := running.Status(), running.Description()
		p := admin.Plugin{
			Transport: t.Name, Plugin: cmp.Or(about.Name, filepath.Base(t.Plugin)), Version: about.Version,
			BuiltIn: t.BuiltIn(), Pinned: t.SHA256 != "",
			State: string(s.State), PID: s.PID, Restarts: s.Restarts, LastEnd: s.LastEnd, InFlight: running.InFlight(),
		}
		if s.PID != 0 {
			p.Since = &admin.Time{Time: s.Since}
			if memory, cpu, known := telemetry.UseOf(s.PID); known {
				p.MemoryBytes, p.CPUSeconds = int64(memory), cpu
			}
		}
		out = append(out, p)
	}
	return out
}

// scripts is the engine in use, nil if no route has had a transform.
func (a *App) scripts() *transforms.Engine {
	a.reloading.Lock()
	defer a.reloading.Unlock()
	return a.engine
}

// releaseScript lets a script in quarantine run again.
func (a *App) releaseScript(ctx context.Context, name string) ([]admin.Quarantined, error) {
	engine := a.scripts()
	if engine == nil {
		return []admin.Quarantined{}, nil
	}
	released, err := engine.Release(ctx, name)
	if errors.Is(err, transforms.ErrNotQuarantined) { // released meanwhile, or changed
		return []admin.Quarantined{}, nil
	}
	return quarantined(released), err
}

func quarantined(list []transforms.Quarantine) []admin.Quarantined {
	out := make([]admin.Quarantined, 0, len(list))
	for _, q := range list {
		out = append(out, admin.Quarantined{Script: q.Script, Hash: q.Hash, Since: admin.Time{Time: q.Since}, Why: q.Why})
	}
	return out
}
