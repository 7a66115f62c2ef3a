package conformance

import (
	"bufio"
	"context"
	"crypto/x509"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/go-plugin"
	"github.com/hashicorp/go-plugin/runner"
	"google.golang.org/grpc"

	"github.com/hookline/hookline/plugins"
	"github.com/hookline/hookline/plugins/host"
	"github.com/hookline/hookline/plugins/transport"
	pb "github.com/hookline/hookline/plugins/transportpb"
)

// observed is the plugin's process with its outputs seen raw, which the host
// hides: started as the host starts it, but nobody restarts it.
type observed struct {
	*watched
	client    *plugin.Client
	conn      *grpc.ClientConn
	closePipe func() // as the host's death does
	sockets   string // the folder for its socket
}

// observe starts the plugin. If it cannot be used, the check fails.
func observe(t *trial) *observed {
	t.Helper()
	o, err := tryObserve(t)
	if err != nil {
		t.Fatalf("%v", err)
	}
	return o
}

func tryObserve(t *trial) (*observed, error) {
	t.Helper()
	cmd := exec.Command(t.Command[0], t.Command[1:]...)
	closePipe, err := host.Prepare(cmd)
	if err != nil {
		return nil, err
	}
	o := &observed{watched: &watched{cmd: cmd}, closePipe: sync.OnceFunc(closePipe)}
	o.client = plugin.NewClient(&plugin.ClientConfig{
		HandshakeConfig:  plugins.Handshake,
		VersionedPlugins: map[int]plugin.PluginSet{1: {plugins.TransportService: &plugins.TransportPlugin{}}},
		AllowedProtocols: []plugin.Protocol{plugin.ProtocolGRPC},
		RunnerFunc: func(_ hclog.Logger, with *exec.Cmd, sockets string) (runner.Runner, error) {
			cmd.Env = append(cmd.Env, with.Env...)
			o.sockets = sockets
			return o.watched, nil
		},
		SkipHostEnv:     true,
		AutoMTLS:        !t.NoMTLS,
		StartTimeout:    startTimeout,
		Logger:          hclog.NewNullLogger(),
		SyncStderr:      &o.synced,
		SyncStdout:      &o.synced,
		GRPCDialOptions: host.DialOptions(),
	})
	t.Cleanup(func() {
		o.end()
		o.closePipe()
		t.told.hear("the plugin's output", o.stdout.String()+o.stderr.String()+o.synced.String(), recordMark)
	})
	protocol, err := o.client.Client()
	if err != nil {
		return o, fmt.Errorf("the process started and no connection came of it: %w", err)
	}
	o.conn = protocol.(*plugin.GRPCClient).Conn // AllowedProtocols admits no other
	return o, nil
}

// end tells the process to end, and kills it if it does not.
func (o *observed) end() {
	hard := time.AfterFunc(endTimeout+time.Second, func() { _ = o.Kill(context.Background()) }) // it may never answer the word to end
	defer hard.Stop()
	o.client.Kill()
}

// watched is go-plugin's way to a process, looked at.
type watched struct {
	cmd            *exec.Cmd
	stdout, stderr output // what the process wrote itself
	synced         output // what came by the SDK's own way
	handshake      string // the line
	early          string // what stood before it on standard output
	lines, errs    *io.PipeReader
	reading        sync.WaitGroup
	done           chan struct{} // closed when it has ended
	waited         error
}

var handshakeLine = regexp.MustCompile(`^\d+\|\d+\|[a-z]+\|`)

// Start starts the process.
func (w *watched) Start(context.Context) error {
	stdout, err := w.cmd.StdoutPipe()
	if err != nil {
		return err
	}
	stderr, err := w.cmd.StderrPipe()
	if err != nil {
		return err
	}
	var lines, errs *io.PipeWriter
	w.lines, lines = io.Pipe()
	w.errs, errs = io.Pipe()
	w.done = make(chan struct{})
	if err := w.cmd.Start(); err != nil {
		return err
	}
	w.reading.Go(func() {
		defer lines.Close()
		in := bufio.NewReader(stdout)
		for {
			line, err := in.ReadString('\n')
			switch {
			case handshakeLine.MatchString(line) && w.handshake == "":
				w.handshake = strings.TrimSpace(line)
				_, _ = io.WriteString(lines, line) // the rest is none of go-plugin's business
			case w.handshake == "":
				w.early += line
			default:
				_, _ = w.stdout.Write([]byte(line))
			}
			if err != nil {
				return
			}
		}
	})
	w.reading.Go(func() {
		defer errs.Close()
		_, _ = io.Copy(&w.stderr, stderr)
	})
	return nil
}

// Wait waits for its end. Go-plugin calls it once the outputs have ended.
func (w *watched) Wait(context.Context) error {
	w.reading.Wait()
	w.waited = w.cmd.Wait()
	close(w.done)
	return w.waited
}

// Kill kills it.
func (w *watched) Kill(context.Context) error {
	if w.cmd.Process == nil {
		return nil
	}
	if err := w.cmd.Process.Kill(); !errors.Is(err, os.ErrProcessDone) {
		return err
	}
	return nil
}

// Stdout gives the handshake line.
func (w *watched) Stdout() io.ReadCloser { return w.lines }

// Stderr ends when the process's does.
func (w *watched) Stderr() io.ReadCloser { return w.errs }

// Name is the executable.
func (w *watched) Name() string { return w.cmd.Path }

// ID is the process id.
func (w *watched) ID() string {
	if w.cmd.Process == nil {
		return ""
	}
	return strconv.Itoa(w.cmd.Process.Pid)
}

// Diagnose adds what the process has said.
func (w *watched) Diagnose(context.Context) string {
	return strings.TrimSpace(w.early + w.stderr.String())
}

// PluginToHost leaves addresses as they are.
func (w *watched) PluginToHost(network, address string) (string, string, error) {
	return network, address, nil
}

// HostToPlugin leaves addresses as they are.
func (w *watched) HostToPlugin(network, address string) (string, string, error) {
	return network, address, nil
}

func checkHandshake(t *trial) {
	o, err := tryObserve(t)
	if err != nil {
		t.Errorf("%s", t.clean(err.Error()))
	}
	if o == nil || o.handshake == "" {
		t.Fatalf("there is no handshake line on standard output: 1|1|unix|SOCKET|grpc|CERTIFICATE")
	}
	parts := append(strings.Split(o.handshake, "|"), make([]string, 6)...)
	if parts[1] != "1" {
		t.Errorf("the handshake line speaks of version %q of the contract: it is 1, chosen from PLUGIN_PROTOCOL_VERSIONS", parts[1])
	}
	if parts[4] != string(plugin.ProtocolGRPC) {
		t.Errorf("the handshake line speaks of protocol %q: it must be grpc", parts[4])
	}
	if runtime.GOOS != "windows" {
		if parts[2] != "unix" {
			t.Errorf("the plugin listens on %s: every user of the machine could reach it; it must be a Unix socket", parts[2])
		} else if filepath.Dir(parts[3]) != filepath.Clean(o.sockets) {
			t.Errorf("the socket is not in the folder PLUGIN_UNIX_SOCKET_DIR, which only Hookline's user can enter")
		}
	}
	if t.NoMTLS {
		return
	}
	der, err := base64.RawStdEncoding.DecodeString(strings.TrimRight(parts[5], "="))
	if err == nil {
		_, err = x509.ParseCertificate(der)
	}
	if err != nil {
		t.Errorf("the sixth part of the handshake line is not the plugin's certificate in base64, which AutoMTLS needs (with `mtls = false` it is not needed): %v", err)
	}
}

func checkStdout(t *trial) {
	o, err := tryObserve(t)
	if o != nil && o.early != "" {
		t.Fatalf("%d bytes stand before the handshake line on standard output: Hookline does not start such a plugin. Write to standard error", len(o.early))
	}
	if err != nil {
		t.Fatalf("%s", t.clean(err.Error()))
	}
	rpc := pb.NewTransportServiceClient(o.conn)
	if settings := t.target().Settings(); settings != nil {
		t.configure(rpc, settings)
		t.single(rpc, t.message(t.text("stdout")))
	}
	o.end()
	if left := o.stdout.String(); left != "" {
		t.Errorf("%d bytes stand after the handshake line on standard output, where they are lost. Write to standard error", len(left))
	}
}

// endTimeout is how long a plugin may take to end: go-plugin kills it then.
const endTimeout = 2 * time.Second

func checkEnds(t *trial) {
	target := t.target()
	o := observe(t)
	rpc := pb.NewTransportServiceClient(o.conn)
	t.configure(rpc, target.Settings())
	t.single(rpc, t.message(t.text("last")))
	o.end()
	if o.waited == nil {
		return
	}
	var exit *exec.ExitError
	if errors.As(o.waited, &exit) && exit.ExitCode() < 0 { // a signal: it had to be killed
		t.Errorf("%v after it was told to end (plugin.GRPCController/Shutdown) it still ran, and was killed: what it holds open is not closed", endTimeout)
		return
	}
	t.Errorf("told to end, it ended with %v: with a code other than 0 it has failed", o.waited)
}

func checkHostDeath(t *trial) {
	target := t.target()
	o := observe(t)
	t.configure(pb.NewTransportServiceClient(o.conn), target.Settings())
	o.closePipe()
	select {
	case <-o.done:
	case <-time.After(endTimeout):
		t.Errorf("%v after the pipe %s was closed, which means that the host is gone, it still ran", endTimeout, plugins.HostPipeEnv)
	}
}

// backWithin is how long a restart may take.
const backWithin = 10 * time.Second

func checkCrash(t *trial) {
	target := t.target()
	log := &output{}
	ctx, cancel := context.WithTimeout(context.Background(), startTimeout)
	defer cancel()
	i, err := host.StartTransport(ctx, host.TransportSpec{
		Name: "under-test", Command: t.Command, NoMTLS: t.NoMTLS, Settings: target.Settings(), Resolve: literally,
		Log: slog.New(slog.NewTextHandler(log, nil)),
	})
	if err != nil {
		t.Fatalf("good settings were refused: %s", t.clean(err.Error()))
	}
	t.Cleanup(i.Stop)
	if r := t.deliver(i, t.text("before"), ample); r.Effect != transport.Done {
		t.Fatalf("before the crash: %s", t.say(r))
	}
	process, err := os.FindProcess(i.Status().PID)
	if err == nil {
		err = process.Kill()
	}
	if err != nil {
		t.Fatalf("the process cannot be killed: %v", err)
	}
	killed := time.Now()
	m := t.message(t.text("after"))
	for {
		ctx, cancel := context.WithTimeout(context.Background(), ample)
		r := i.Deliver(ctx, m)
		cancel()
		if r.Effect == transport.Done && i.Status().Restarts > 0 { // else it was the old one's last
			return
		}
		if time.Since(killed) > backWithin {
			t.Fatalf("%v after it was killed it does not deliver again: %s\n%s", backWithin, t.say(r), t.clean(lastLines(log.String(), 3)))
		}
		time.Sleep(20 * time.Millisecond) // a pace for the loop
	}
}

func lastLines(text string, n int) string {
	lines := strings.Split(strings.TrimSpace(text), "\n")
	return strings.Join(lines[max(0, len(lines)-n):], "\n")
}
