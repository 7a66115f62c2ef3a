package app

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/hookline/hookline/transforms"
)

// watchEvery is how often the files are looked at with server.watch = true. A
// look costs a few microseconds a file, and polling works on every file system.
const watchEvery = 500 * time.Millisecond

// watch reloads when a file that the configuration names has changed.
func (a *App) watch(ctx context.Context) {
	ticker := time.NewTicker(watchEvery)
	defer ticker.Stop()
	seen := a.stamp()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
		now := a.stamp()
		if now == "" || now == seen {
			continue
		}
		seen = now
		if err := a.Reload(ctx); err != nil {
			a.log.Error(err.Error())
		}
	}
}

// stamp changes when one of the watched files does; "" if watching is off.
func (a *App) stamp() string {
	a.reloading.Lock()
	c := a.current.config
	a.reloading.Unlock()
	if !c.Server.Watch {
		return ""
	}
	files := []string{c.Path}
	for _, r := range c.Routes {
		if r.Transform != "" {
			files = append(files, r.Transform)
		}
	}
	for _, t := range c.Transports {
		if !t.BuiltIn() {
			files = append(files, t.Plugin)
		}
	}
	if dir := c.Transforms.Lookups; dir != "" {
		entries, _ := os.ReadDir(dir) // gone for a moment: as if it were empty
		for _, e := range entries {
			if transforms.IsTable(e.Name()) {
				files = append(files, filepath.Join(dir, e.Name()))
			}
		}
	}
	slices.Sort(files)
	var b strings.Builder
	for _, name := range slices.Compact(files) {
		if info, err := os.Stat(name); err == nil {
			fmt.Fprintln(&b, name, info.Size(), info.ModTime().UnixNano())
		}
	}
	return b.String()
}
