package main

import (
	"bufio"
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"strings"

	"github.com/hookline/hookline/plugins/mllp"
	"github.com/hookline/hookline/plugins/transport"
)

// mllpEntry is a receiver on python-hl7, which parses each message and acknowledges
// it, over four connections. It keeps nothing.
var mllpEntry = transportEntry{name: "mllp", make: func() transport.Transport { return hl7{mllp.New()} }, open: openMLLP}

// hl7 makes an HL7 message of each message.
type hl7 struct{ *mllp.Transport }

func (h hl7) Deliver(ctx context.Context, m *transport.Message) transport.Receipt {
	m.Payload = fmt.Appendf(nil, "MSH|^~\\&|HOOKLINE|BENCH|EHR|HOSPITAL|20260102030405||ADT^A08^ADT_A01|%s|P|2.5\rPID|1||435\rNTE|1||%s\r",
		m.ID, strings.Repeat("x", 200))
	return h.Transport.Deliver(ctx, m)
}

const receiver = `
import asyncio
from hl7.mllp import start_hl7_server

async def connected(reader, writer):
    try:
        while True:
            message = await reader.readmessage()
            writer.writemessage(message.create_ack())
            await writer.drain()
    except (asyncio.IncompleteReadError, ConnectionError):
        writer.close()

async def main():
    server = await start_hl7_server(connected, "127.0.0.1", 0)
    print(server.sockets[0].getsockname()[1], flush=True)
    async with server:
        await server.serve_forever()

asyncio.run(main())
`

func openMLLP(context.Context, *bench) (any, func(), error) {
	for _, python := range []string{"/usr/bin/python3", "python3"} {
		cmd := exec.Command(python, "-c", receiver)
		out, err := cmd.StdoutPipe()
		if err == nil {
			err = cmd.Start()
		}
		if err != nil {
			continue
		}
		end := func() { _ = cmd.Process.Signal(os.Kill); _ = cmd.Wait() }
		if port, _ := bufio.NewReader(out).ReadString('\n'); port != "" {
			return map[string]any{"address": net.JoinHostPort("127.0.0.1", strings.TrimSpace(port)), "connections": 4}, end, nil
		}
		end()
	}
	return nil, nil, fmt.Errorf("%w: python3 with hl7.mllp: apt-get install python3-hl7", errAbsent)
}
