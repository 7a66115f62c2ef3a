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
	"github.com/hookline/hookline/transforms/workbench"
)

// WatchEvery is how often files are looked at that are watched for changes. A
// look costs a few microseconds a file, and polling works on every file system.
const WatchEvery = 500 * time.Millisecond

// watch reloads when a file that the configuration names has changed.
func (a *App) watch(ctx context.Context) {
	ticker := time.NewTicker(WatchEvery)
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
			pairs, _ := workbench.Pairs(r.Transform) // what is wrong with them a reload tells
			for _, p := range pairs {
				files = append(files, p.In, p.Out)
			}
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
	return Stamp(files)
}

// Stamp changes when one of the files does.
func Stamp(files []string) string {
	files = slices.Sorted(slices.Values(files))
	var b strings.Builder
	for _, name := range slices.Compact(files) {
		if info, err := os.Stat(name); err == nil {
			fmt.Fprintln(&b, name, info.Size(), info.ModTime().UnixNano())
		}
	}
	return b.String()
}
