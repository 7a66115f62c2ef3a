package app

import (
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"slices"
	"strings"

	"github.com/hookline/hookline/core/config"
	"github.com/hookline/hookline/core/trialkit"
	"github.com/hookline/hookline/plugins"
	"github.com/hookline/hookline/plugins/amqp"
	"github.com/hookline/hookline/plugins/file"
	"github.com/hookline/hookline/plugins/http"
	"github.com/hookline/hookline/plugins/mllp"
	"github.com/hookline/hookline/plugins/mqtt"
	"github.com/hookline/hookline/plugins/nats"
	"github.com/hookline/hookline/plugins/smtp"
	"github.com/hookline/hookline/plugins/sql"
	"github.com/hookline/hookline/plugins/transport"
	"github.com/hookline/hookline/transforms"
)

// builtIn are the transports in the box. This file is the one place that knows
// all implementations.
var builtIn = map[string]func() transport.Transport{
	"amqp": func() transport.Transport { return amqp.New(amqp.WithVersion(Version())) },
	"file": func() transport.Transport { return file.New(file.WithVersion(Version())) },
	"http": func() transport.Transport { return http.New(http.WithVersion(Version())) },
	"mllp": func() transport.Transport { return mllp.New(mllp.WithVersion(Version())) },
	"mqtt": func() transport.Transport { return mqtt.New(mqtt.WithVersion(Version())) },
	"nats": func() transport.Transport { return nats.New(nats.WithVersion(Version())) },
	"smtp": func() transport.Transport { return smtp.New(smtp.WithVersion(Version())) },
	"sql":  func() transport.Transport { return sql.New(sql.WithVersion(Version())) },
}

// newTrialKit makes the reader of TrialKit's API for the hooks that have one.
func newTrialKit(c *config.Config, problems *problems) *trialkit.Client {
	var hooks []trialkit.Options
	for _, h := range c.Hooks {
		t := h.TrialKit
		if t == nil {
			continue
		}
		o := trialkit.Options{
			Hook: h.Name, URL: t.URL, Email: t.Email, AccessKeyHeader: t.AccessKeyHeader,
			RecordPath: t.RecordPath, FormIDField: t.FormIDField, Timeout: t.Timeout, MaxReply: t.MaxReply,
			CAFile: t.CAFile, Version: Version(),
		}
		for _, secret := range []struct {
			key, ref string
			out      *string
		}{{"password", t.Password, &o.Password}, {"access_key", t.AccessKey, &o.AccessKey}} {
			var err error
			if *secret.out, err = c.Resolve(secret.ref); err != nil {
				problems.add("hooks."+h.Name+".trialkit."+secret.key, err)
			}
		}
		hooks = append(hooks, o)
	}
	client, err := trialkit.New(hooks)
	if err != nil {
		problems.add("", err)
	}
	return client
}

// Version is the module's version, or the commit that it was built from.
func Version() string {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return "unknown"
	}
	if v := info.Main.Version; v != "" && v != "(devel)" {
		return v
	}
	for _, s := range info.Settings {
		if s.Key == "vcs.revision" {
			return "devel-" + s.Value[:min(12, len(s.Value))]
		}
	}
	return "devel"
}

// ChildCommand is the first argument of this executable when it runs as a child:
// built-in transports and scripts are the same file, executed again.
const ChildCommand = "child"

// PluginCommand starts a plugin by itself, outside a daemon: a built-in one by its
// name, any other by its path.
func PluginCommand(plugin string, args ...string) ([]string, error) {
	if strings.ContainsRune(plugin, '/') || strings.ContainsRune(plugin, filepath.Separator) {
		path, err := filepath.Abs(plugin)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", plugin, err)
		}
		if _, err := exec.LookPath(path); err != nil {
			return nil, fmt.Errorf("%s cannot be executed: %w", plugin, err)
		}
		return append([]string{path}, args...), nil
	}
	if builtIn[plugin] == nil {
		return nil, fmt.Errorf("there is no built-in plugin %q; name one of %s, or a path such as ./%s",
			plugin, strings.Join(slices.Sorted(maps.Keys(builtIn)), ", "), plugin)
	}
	exe, err := self()
	if err != nil {
		return nil, err
	}
	return []string{exe, ChildCommand, childTransport, plugin, "under-test"}, nil
}

// The kinds of children.
const (
	childTransport  = "transport"
	childTransforms = "transforms"
)

// RunChild is main for a child process; args follow [ChildCommand]. It returns
// the exit code when the host has told the child to end.
func RunChild(args []string) int {
	if runtime.GOOS == "linux" {
		// Started from /proc/self/exe, the kernel calls it "exe".
		_ = os.WriteFile("/proc/self/comm", []byte("hookline"), 0)
	}
	switch {
	case len(args) >= 2 && args[0] == childTransport && builtIn[args[1]] != nil:
		plugins.Serve(builtIn[args[1]]())
	case len(args) == 1 && args[0] == childTransforms:
		transforms.ServeChild()
	default:
		fmt.Fprintf(os.Stderr, "%s %s: no such child; Hookline starts its children itself\n", filepath.Base(os.Args[0]), ChildCommand)
		return 3
	}
	return 0
}

// ScriptCommand is what becomes a process for scripts: [transforms.Options].
func ScriptCommand() ([]string, error) {
	exe, err := self()
	if err != nil {
		return nil, err
	}
	return []string{exe, ChildCommand, childTransforms}, nil
}

// self is the executable to start children from. On Linux it is the running file
// itself even if an upgrade has replaced its name.
func self() (string, error) {
	if runtime.GOOS == "linux" {
		return "/proc/self/exe", nil
	}
	path, err := os.Executable()
	if err != nil {
		return "", fmt.Errorf("this program cannot find its own file, which its children are started from: %w", err)
	}
	return path, nil
}
