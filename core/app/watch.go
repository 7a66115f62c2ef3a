package app

import (
	"context"
	"os"
	"time"
)

// watchEvery is how often the files are looked at with server.watch = true. A
// look costs a few microseconds a file, and polling works on every file system.
const watchEvery = 500 * time.Millisecond

// stamp is what shows that a file has changed; zero: there is none.
type stamp struct{ size, at int64 }

// watch reloads when a file has changed that the configuration names or a script
// imports, or that a script which was refused would have.
func (a *App) watch(ctx context.Context) {
	ticker := time.NewTicker(watchEvery)
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
func (a *App) stamps() map[string]stamp {
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
		}
	}
	for _, t := range c.Transports {
		if !t.BuiltIn() {
			files = append(files, t.Plugin)
		}
	}
	stamps := make(map[string]stamp, len(files))
	for _, name := range files {
		var s stamp
		if info, err := os.Stat(name); err == nil {
			s = stamp{info.Size(), info.ModTime().UnixNano()}
		}
		stamps[name] = s
	}
	return stamps
}
