package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"time"
)

// asRole is the first argument of this executable when it is one of its workers.
const asRole = "as"

// The roles of a worker.
const (
	roleLoad   = "load"   // sends events
	roleTarget = "target" // stands for the external system
	roleProxy  = "proxy"  // httputil.ReverseProxy
	rolePlugin = "plugin" // a transport plugin that does nothing
	roleStamp  = "stamp"  // the http plugin, which tells when it is ready
)

// operations are what a role can be asked for, by name.
type operations map[string]func(in json.RawMessage) (out any, err error)

func runRole(role string, stdin io.Reader, stdout, stderr io.Writer) int {
	var ops operations
	switch role {
	case roleLoad:
		ops = new(loader).operations()
	case roleTarget:
		ops = new(target).operations()
	case roleProxy:
		ops = proxyOperations()
	case rolePlugin:
		servePlugin()
		return 0
	case roleStamp:
		serveStamp()
		return 0
	default:
		fmt.Fprintf(stderr, "bench: there is no role %q\n", role)
		return 2
	}
	ops.serve(stdin, stdout)
	return 0
}

type request struct {
	Op string          `json:"op"`
	In json.RawMessage `json:"in"`
}

type response struct {
	Out   any    `json:"out,omitempty"`
	Error string `json:"error,omitempty"`
}

// serve answers requests, one a time, until the other side is gone. Then the
// process ends, and with it all that it has started.
func (ops operations) serve(r io.Reader, w io.Writer) {
	dec, enc := json.NewDecoder(r), json.NewEncoder(w)
	for {
		var req request
		if dec.Decode(&req) != nil {
			return
		}
		var resp response
		op, ok := ops[req.Op]
		if !ok {
			resp.Error = "there is no operation " + req.Op
		} else if out, err := op(req.In); err != nil {
			resp.Error = err.Error()
		} else {
			resp.Out = out
		}
		if enc.Encode(resp) != nil {
			return
		}
	}
}

// operation makes one of a function with typed parameters.
func operation[In, Out any](f func(In) (Out, error)) func(json.RawMessage) (any, error) {
	return func(raw json.RawMessage) (any, error) {
		var in In
		if len(raw) > 0 {
			if err := json.Unmarshal(raw, &in); err != nil {
				return nil, err
			}
		}
		return f(in)
	}
}

// none is the parameter or result of an operation that has none.
type none struct{}

// worker is a process of this executable in a role.
type worker struct {
	role string
	cmd  *exec.Cmd
	in   io.WriteCloser
	enc  *json.Encoder
	dec  *json.Decoder
}

func startWorker(ctx context.Context, role string) (*worker, error) {
	exe, err := os.Executable()
	if err != nil {
		return nil, err
	}
	w := &worker{role: role, cmd: exec.CommandContext(ctx, exe, asRole, role)}
	w.cmd.Stderr = os.Stderr
	if w.in, err = w.cmd.StdinPipe(); err != nil {
		return nil, err
	}
	out, err := w.cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	w.enc, w.dec = json.NewEncoder(w.in), json.NewDecoder(out)
	if err := w.cmd.Start(); err != nil {
		return nil, err
	}
	return w, nil
}

func (w *worker) pid() int { return w.cmd.Process.Pid }

// call asks the worker; out may be nil.
func (w *worker) call(op string, in, out any) error {
	raw, err := json.Marshal(in)
	if err != nil {
		return err
	}
	if err := w.enc.Encode(request{Op: op, In: raw}); err != nil {
		return fmt.Errorf("%s: %w", w.role, err)
	}
	var resp struct {
		Out   json.RawMessage `json:"out"`
		Error string          `json:"error"`
	}
	if err := w.dec.Decode(&resp); err != nil {
		return fmt.Errorf("the %s process is gone: %w", w.role, err)
	}
	if resp.Error != "" {
		return fmt.Errorf("%s: %w", w.role, errors.New(resp.Error))
	}
	if out == nil {
		return nil
	}
	return json.Unmarshal(resp.Out, out)
}

func (w *worker) stop() {
	_ = w.in.Close() // it ends at the end of its input
	hard := time.AfterFunc(5*time.Second, func() { _ = w.cmd.Process.Kill() })
	defer hard.Stop()
	_ = w.cmd.Wait()
}
