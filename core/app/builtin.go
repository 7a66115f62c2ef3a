package app

import (
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"runtime/debug"

	"github.com/hookline/hookline/plugins"
	"github.com/hookline/hookline/plugins/amqp"
	"github.com/hookline/hookline/plugins/http"
	"github.com/hookline/hookline/plugins/nats"
	"github.com/hookline/hookline/plugins/smtp"
	"github.com/hookline/hookline/plugins/transport"
	"github.com/hookline/hookline/transforms"
)

// builtIn are the transports in the box. This file is the one place that knows
// all implementations.
var builtIn = map[string]func() transport.Transport{
	"amqp": func() transport.Transport { return amqp.New(amqp.WithVersion(Version())) },
	"http": func() transport.Transport { return http.New(http.WithVersion(Version())) },
	"nats": func() transport.Transport { return nats.New(nats.WithVersion(Version())) },
	"smtp": func() transport.Transport { return smtp.New(smtp.WithVersion(Version())) },
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
