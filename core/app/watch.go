package app

import (
	"context"
	"os"
	"path/filepath"
	"time"

	"github.com/hookline/hookline/transforms"
	"github.com/hookline/hookline/transforms/workbench"
)

// WatchEvery is how often files are looked at that are watched for changes. A
// look costs a few microseconds a file, and polling works on every file system.
const WatchEvery = 500 * time.Millisecond

// Stamp is what shows that a file has changed; zero: there is none.
type Stamp struct{ size, at int64 }

// watch reloads when a file has changed that the configuration names or a script
// imports, or that a script which was refused would have.
func (a *App) watch(ctx context.Context) {
	ticker := time.NewTicker(WatchEvery)
	defer ticker.Stop()
	began := time.Now() // the last reload
	seen := a.stamps()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
		now := a.stamps()
		changed := false
		for name, s := range now {
			was, known := seen[name]
			// A file that the last reload brought in may have changed since it was read.
			changed = changed || known && s != was || !known && s.at > began.UnixNano()
		}
		seen = now
		if !changed {
			continue
		}
		began = time.Now()
		if err := a.Reload(ctx); err != nil {
			a.log.Error(err.Error())
		}
	}
}

// stamps are those of the watched files; nil if watching is off.
func (a *App) stamps() map[string]Stamp {
	a.reloading.Lock()
	c := a.current.config
	files := append([]string{c.Path}, a.awaited...)
	for _, script := range a.current.scripts {
		files = append(files, script.Inputs()...)
	}
	a.reloading.Unlock()
	if !c.Server.Watch {
		return nil
	}
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
	return Stamps(files)
}

// Stamps are those of files.
func Stamps(files []string) map[string]Stamp {
	stamps := make(map[string]Stamp, len(files))
	for _, name := range files {
		var s Stamp
		if info, err := os.Stat(name); err == nil {
			s = Stamp{info.Size(), info.ModTime().UnixNano()}
		}
		stamps[name] = s
	}
	return stamps
}
