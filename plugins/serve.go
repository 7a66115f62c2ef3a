// Package plugins is what a transport plugin imports: implement
// transport.Transport and call [Serve] from main. The host's side of the hop is
// in package host.
package plugins

import (
	"fmt"
	"io"
	"log/slog"
	"os"
	"runtime/debug"
	"strconv"

	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/go-plugin"
	"google.golang.org/grpc"

	"github.com/hookline/hookline/plugins/transport"
)

// The names that host and child agree on. They are part of the contract for
// plugins in other languages: docs/writing-a-plugin.md.
const (
	// TransportService is the name under which a plugin is dispensed.
	TransportService = "transport"
	// HostPipeEnv holds the number of a file descriptor whose other end the host
	// keeps open. End of file there means that the host is gone, however it
	// died: the child must end.
	HostPipeEnv = "HOOKLINE_HOST_PIPE"
	// MaxMessage is the largest gRPC message in bytes that either side takes.
	MaxMessage = 32 << 20
	// Window is how many bytes either side takes of a stream, and of all of them,
	// before they are read. It is fixed: to find out a better one gRPC sends a ping with
	// about every message as long as there are few at a time: a write on both sides.
	Window = 1 << 20
)

// Handshake lets a host and a plugin recognise each other. It is no secret: it
// keeps a user from starting a plugin by hand.
var Handshake = plugin.HandshakeConfig{
	MagicCookieKey:   "HOOKLINE_PLUGIN",
	MagicCookieValue: "b1e5b2a4-transport",
}

// Serve runs the transport as a plugin process. It returns when the host asks
// it to end; the process exits if the host dies. Log with log/slog: what is
// written to standard error becomes Hookline's log, under the transport's name.
func Serve(t transport.Transport) {
	if file := os.Getenv(AttachEnv); file != "" && os.Getenv(Handshake.MagicCookieKey) == "" {
		if err := serveAttached(file, t); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	ServeChild(Handshake, map[int]plugin.PluginSet{
		1: {TransportService: &TransportPlugin{Impl: t}},
	})
	if c, ok := t.(io.Closer); ok {
		_ = c.Close() // the process ends anyway
	}
}

// ServeChild runs any go-plugin protocol in a child process under the rules that
// all of Hookline's children follow: structured logs on standard error, death
// with the host, bounded messages. Transports use [Serve].
func ServeChild(handshake plugin.HandshakeConfig, protocols map[int]plugin.PluginSet) {
	endWithHost()
	slog.SetDefault(slog.New(slog.NewJSONHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelDebug})))
	if os.Getenv("GOGC") == "" {
		// The live heap is a few MB: collecting less often costs little memory
		// and about a tenth of the CPU per message less.
		debug.SetGCPercent(400)
	}
	plugin.Serve(&plugin.ServeConfig{
		HandshakeConfig:  handshake,
		VersionedPlugins: protocols,
		Logger:           hclog.NewNullLogger(), // go-plugin's own chatter
		GRPCServer: func(opts []grpc.ServerOption) *grpc.Server {
			return grpc.NewServer(append(opts, ServerOptions()...)...)
		},
	})
}

// ServerOptions are the gRPC options of a plugin's side.
func ServerOptions() []grpc.ServerOption {
	return []grpc.ServerOption{
		grpc.MaxRecvMsgSize(MaxMessage),
		grpc.MaxSendMsgSize(MaxMessage),
		grpc.MaxConcurrentStreams(4096),
		// See Window.
		grpc.InitialWindowSize(Window),
		grpc.InitialConnWindowSize(Window),
		// A goroutine with a grown stack is kept for the next call.
		grpc.NumStreamWorkers(64),
	}
}

// endWithHost makes this process exit when its host is gone (invariant 5).
func endWithHost() {
	fd, err := strconv.Atoi(os.Getenv(HostPipeEnv))
	if err != nil {
		return // run by hand, or by a host that has no pipes to give
	}
	pipe := os.NewFile(uintptr(fd), "host pipe")
	if pipe == nil {
		return
	}
	closeOnExec(fd)
	go func() {
		_, _ = io.Copy(io.Discard, pipe)
		fmt.Fprintln(os.Stderr, `{"level":"WARN","msg":"the host is gone, ending"}`)
		if dir := os.Getenv(plugin.EnvUnixSocketDir); dir != "" {
			_ = os.RemoveAll(dir) // nobody else is left to do it
		}
		os.Exit(1)
	}()
}
