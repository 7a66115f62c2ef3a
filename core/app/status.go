package app

import (
	"strings"
	"time"

	"github.com/hookline/hookline/core/admin"
	"github.com/hookline/hookline/core/config"
)

// adminOptions are those of the admin socket of a daemon that starts on c.
func (a *App) adminOptions(c *config.Config) admin.Options {
	started, kind := time.Now(), a.journalKind(c)
	o := admin.Options{
		Path: c.Admin.Listen.Address, Reload: a.Reload, Log: a.log,
		Metrics: a.observation.Load().Handler(),
		Status:  func() admin.Status { return a.status(started, kind) },
	}
	if a.store != nil {
		o.Journal, o.Routes = a.store, a.routes
	}
	return o
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
	c, recalled := a.current.config, a.recalled.Load()
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
	if recalled != nil {
		s.Recalled = &admin.Recalled{AcceptedAt: admin.Time{Time: recalled.at}, Why: recalled.why.Error()}
	}
	return s
}
