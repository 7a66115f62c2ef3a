package transforms

import (
	"context"
	"runtime/debug"
	"time"

	"github.com/dlclark/regexp2/v2"
	"github.com/hashicorp/go-plugin"
	"google.golang.org/grpc"

	"github.com/hookline/hookline/plugins"
	pb "github.com/hookline/hookline/transforms/transformpb"
)

// service is the name under which the script process is dispensed.
const service = "transforms"

// handshake differs from a transport plugin's, so that neither is ever taken
// for the other.
var handshake = plugin.HandshakeConfig{
	MagicCookieKey:   "HOOKLINE_TRANSFORMS",
	MagicCookieValue: "5f0c6a52-transforms",
}

// protocols is what host and child agree on; impl is nil on the host's side.
func protocols(impl pb.TransformServiceServer) map[int]plugin.PluginSet {
	return map[int]plugin.PluginSet{1: {service: &scriptPlugin{impl: impl}}}
}

// scriptPlugin joins the script process to go-plugin.
type scriptPlugin struct {
	plugin.NetRPCUnsupportedPlugin
	impl pb.TransformServiceServer
}

func (p *scriptPlugin) GRPCServer(_ *plugin.GRPCBroker, s *grpc.Server) error {
	pb.RegisterTransformServiceServer(s, p.impl)
	return nil
}

func (p *scriptPlugin) GRPCClient(_ context.Context, _ *plugin.GRPCBroker, conn *grpc.ClientConn) (any, error) {
	return &running{rpc: pb.NewTransformServiceClient(conn)}, nil
}

// maxGoStack ends a process whose built-ins recurse without end before they have
// eaten the machine's memory; a script's own calls are limited earlier.
const maxGoStack = 256 << 20

// ServeChild is what the re-executed executable runs as the script process. It
// returns when the host asks it to end.
func ServeChild() {
	// A script's local time is UTC everywhere, whatever zone the machine is in:
	// the same event gives the same bytes.
	time.Local = time.UTC
	debug.SetMaxStack(maxGoStack)
	regexp2.DefaultMatchTimeout = regexpTime
	regexp2.SetTimeoutCheckPeriod(regexpTime / 25)
	plugins.ServeChild(handshake, protocols(newServer()))
}
