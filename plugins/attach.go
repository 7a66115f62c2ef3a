package plugins

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"os/signal"
	"path/filepath"

	"google.golang.org/grpc"
	"google.golang.org/grpc/health"
	"google.golang.org/grpc/health/grpc_health_v1"

	"github.com/hookline/hookline/plugins/transport"
)

// AttachEnv names a file. A plugin that is started by hand with it, for example
// under a debugger, serves without a host and writes there where it is; a transport
// with `attach` set to the file uses it. For development: nothing is encrypted, and
// each reload that changes the settings calls Configure again.
const AttachEnv = "HOOKLINE_ATTACH"

// Attached is what stands in the file.
type Attached struct {
	Socket string `json:"socket"` // path of a Unix socket
	PID    int    `json:"pid"`
}

// serveAttached serves until the user interrupts it.
func serveAttached(file string, t transport.Transport) error {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	dir, err := os.MkdirTemp("", "hookline-") // 0700: the settings go over it
	if err != nil {
		return fmt.Errorf("folder for the socket: %w", err)
	}
	defer func() { _ = os.RemoveAll(dir) }()
	l, err := net.Listen("unix", filepath.Join(dir, "plugin"))
	if err != nil {
		return fmt.Errorf("the socket: %w", err)
	}
	server := grpc.NewServer(ServerOptions()...)
	alive := health.NewServer()
	alive.SetServingStatus("plugin", grpc_health_v1.HealthCheckResponse_SERVING)
	grpc_health_v1.RegisterHealthServer(server, alive)
	if err := (&TransportPlugin{Impl: t}).GRPCServer(nil, server); err != nil {
		return err
	}
	text, err := json.Marshal(Attached{Socket: l.Addr().String(), PID: os.Getpid()})
	if err == nil {
		// Whole or not at all: a host may be reading it.
		if err = os.WriteFile(file+".new", append(text, '\n'), 0o600); err == nil {
			err = os.Rename(file+".new", file)
		}
	}
	if err != nil {
		return fmt.Errorf("%s=%s: %w", AttachEnv, file, err)
	}
	defer func() { _ = os.Remove(file) }()
	slog.Info("waiting for Hookline: set attach of a transport to the file; Ctrl-C ends", "file", file, "pid", os.Getpid())
	defer context.AfterFunc(ctx, server.Stop)()
	if err := server.Serve(l); err != nil && ctx.Err() == nil {
		return err
	}
	if c, ok := t.(io.Closer); ok {
		_ = c.Close() // the process ends anyway
	}
	return nil
}
