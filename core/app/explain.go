package app

import (
	"context"
	"errors"
	"path/filepath"
	"strings"
	"time"

	"github.com/hookline/hookline/core"
	"github.com/hookline/hookline/core/admin"
	"github.com/hookline/hookline/core/config"
	"github.com/hookline/hookline/core/journal"
	"github.com/hookline/hookline/transforms"
)

// past tells what a configuration said that was in force at a time, and what its
// routes make of an event. What it cannot tell is in the Note.
func (a *App) past(ctx context.Context, revision string, ev *core.Event, at time.Time) (*admin.Configuration, error) {
	out := &admin.Configuration{Revision: revision, Routes: []admin.RouteVerdict{}}
	set, err := a.store.SetOf(ctx, revision, at)
	switch {
	case errors.Is(err, journal.ErrNotFound):
		out.Note = "the journal does not hold the text of this configuration"
	case err != nil:
		return nil, err
	default:
		out.Node, out.SHA256, out.Text = set.Node, set.ConfigSHA, string(config.MaskSecrets(set.Config))
		out.AcceptedAt, out.ReplacedAt, out.ReplacedBy = admin.Time{Time: set.AcceptedAt}, admin.Time{Time: set.Replaced}, set.ReplacedBy
		out.Scripts, out.Lookups = set.Scripts, set.Lookups
	}
	c := a.running(revision)
	out.Running = c != nil
	if c == nil && set != nil {
		c, out.Note = a.reread(set)
	}
	if c == nil {
		return out, nil
	}
	transports := map[string]config.Transport{}
	for _, t := range c.Transports {
		transports[t.Name] = t
	}
	var router core.Router
	for _, r := range c.Routes {
		router.Routes = append(router.Routes, coreRoute(r, nil))
	}
	for i, v := range router.Explain(ev) {
		r := c.Routes[i]
		t := transports[r.Transport]
		route := admin.RouteVerdict{
			Route: r.Name, Matched: v.Failed == "", Failed: v.Failed, Why: v.Why,
			Transport: r.Transport, Label: t.Label, Plugin: t.Plugin,
		}
		if r.Transform != "" {
			route.Script, route.ScriptSHA256 = relative(c.Dir, r.Transform), out.Scripts[r.Transform]
		}
		out.Routes = append(out.Routes, route)
	}
	return out, nil
}

// running is the configuration in force, if it has that revision.
func (a *App) running(revision string) *config.Config {
	a.reloading.Lock()
	defer a.reloading.Unlock()
	if c := a.current.config; c.Revision == revision {
		return c
	}
	return nil
}

// reread makes a configuration of a set that is not in force, or says why there is
// none that can be relied on.
func (a *App) reread(set *journal.PastSet) (*config.Config, string) {
	if a.options.Recall == nil || a.options.Recall.Past == nil {
		return nil, "this daemon cannot read a configuration that is not in force"
	}
	c, err := a.options.Recall.Past(set.Config)
	if err != nil {
		return nil, "the text of this configuration can no longer be read, so what its routes made of the event is not known"
	}
	c.AddLookups(set.Lookups)
	if c.Revision != set.Revision {
		return c, "read today, with today's environment, command line and version, this text means something else than it did: " +
			"what is said of the routes may not be what was in force. The deliveries are what was done"
	}
	return c, ""
}

// sourceFiles takes what is kept of a script apart.
func sourceFiles(kept []byte) (out []admin.SourceFile) {
	for _, f := range transforms.SourceFiles(kept) {
		out = append(out, admin.SourceFile{Name: f.Name, Text: f.Text})
	}
	return out
}

// relative is a path as people know it: from the configuration's folder.
func relative(dir, path string) string {
	if rel, err := filepath.Rel(dir, path); err == nil && !strings.HasPrefix(rel, "..") {
		return rel
	}
	return path
}
