package app

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"time"

	"github.com/hookline/hookline/core/config"
	"github.com/hookline/hookline/transforms/workbench"
)

// goldenTime bounds the golden tests of all scripts of a set: a reload waits for them.
const goldenTime = 30 * time.Second

// testScripts runs the golden pairs of the scripts that g has compiled, as they were
// compiled. They run in a process of their own: one that goes wrong in it costs no
// event anything. What they hold may have been a record once, so an error names the
// pair and no contents.
func (a *App) testScripts(ctx context.Context, g *generation, problems *problems) {
	ctx, cancel := context.WithTimeoutCause(ctx, goldenTime, fmt.Errorf(
		"the golden pairs did not end within %s: find the slow one with `hookline transform test`, or take it away", goldenTime))
	defer cancel()
	var bench *workbench.Bench
	g.golden = map[string]int{}
	tested := map[string]bool{}
	for _, r := range g.config.Routes {
		script := g.scripts[r.Name]
		if script == nil {
			continue
		}
		pairs, err := workbench.Pairs(r.Transform)
		if err != nil {
			problems.add("routes."+r.Name+".transform", err)
			continue
		}
		g.golden[r.Name] = len(pairs)
		if len(pairs) == 0 || tested[r.Transform] {
			continue
		}
		tested[r.Transform] = true
		if bench == nil {
			if bench, err = a.startBench(ctx); err != nil {
				problems.add("routes."+r.Name+".transform", fmt.Errorf("its golden pairs cannot be run: %w", err))
				return
			}
			defer bench.Stop()
		}
		name := scriptName(g.config, r)
		results, err := bench.Golden(ctx, workbench.Script{Name: name, Path: r.Transform, Source: script.Source(), Tables: g.tables}, false)
		if ctx.Err() != nil {
			problems.add("routes."+r.Name+".transform", fmt.Errorf("%s: %w", name, context.Cause(ctx)))
			return
		}
		if err != nil {
			problems.add("routes."+r.Name+".transform", fmt.Errorf("%s: its golden pairs cannot be run: %w", name, err))
		}
		for i := range results {
			if results[i].Failed() {
				problems.add("routes."+r.Name+".transform", goldenError(name, r.Transform, results[i]))
			}
		}
	}
}

// goldenError says which pair failed and the way out.
func goldenError(name, path string, r workbench.Result) error {
	if r.Name == "" {
		return errors.New(r.Failure) // it does not load
	}
	at := ""
	if r.Position != "" {
		at = ", and failed at " + r.Position
	}
	return fmt.Errorf("%s does not give what its golden pair %q says%s: `hookline transform test %s` shows the difference; mend the script, or take the new result with --update",
		name, r.Name, at, path)
}

func (a *App) startBench(ctx context.Context) (*workbench.Bench, error) {
	command, err := ScriptCommand()
	if err != nil {
		return nil, err
	}
	return workbench.Start(ctx, workbench.Options{Command: command, Log: a.log})
}

// scriptName is a route's script as positions name it.
func scriptName(c *config.Config, r config.Route) string {
	name, err := filepath.Rel(c.Dir, r.Transform)
	if err != nil || !filepath.IsLocal(name) {
		return r.Transform
	}
	return name
}
