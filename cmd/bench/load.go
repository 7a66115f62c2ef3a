package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/google/uuid"

	"github.com/hookline/hookline/plugins/host"
	"github.com/hookline/hookline/plugins/http"
	"github.com/hookline/hookline/plugins/transport"
)

// callTimeout ends a call that nobody answers.
const callTimeout = 20 * time.Second

// loadSpec says whom to call. Exactly one of Addr, Command, InProcess and Script is
// set.
type loadSpec struct {
	Callers int `json:"callers"`

	Addr string `json:"addr,omitempty"` // host:port of an HTTP server
	Head string `json:"head,omitempty"` // of each request
	Want int    `json:"want,omitempty"` // the status that is a success

	Command   []string        `json:"command,omitempty"` // of a transport plugin, behind plugins/host
	Unary     bool            `json:"unary,omitempty"`   // without the stream
	InProcess bool            `json:"in_process,omitempty"`
	Settings  json.RawMessage `json:"settings,omitempty"` // of the transport

	Script *scriptSpec `json:"script,omitempty"`
}

// loadTime is how long to call: for a time, or so many times.
type loadTime struct {
	Duration time.Duration `json:"duration,omitempty"`
	Events   int64         `json:"events,omitempty"`
}

// loaded is what came of it.
type loaded struct {
	Sent    tally         `json:"sent"`
	Failed  uint64        `json:"failed"` // of Sent
	Why     string        `json:"why"`    // the first of them
	Elapsed time.Duration `json:"elapsed"`
	P50     time.Duration `json:"p50"`
	P99     time.Duration `json:"p99"`
}

// caller makes one call at a time.
type caller interface {
	call(id uint64) error
	close()
}

// loader is the load generator.
type loader struct {
	callers []caller
	pid     func() int // of the child, 0 without one; nil: nothing is open
	close   func()
	lastID  atomic.Uint64
}

func (l *loader) operations() operations {
	return operations{
		"open": operation(func(spec loadSpec) (none, error) { return none{}, l.open(spec) }),
		"pid": operation(func(none) (int, error) {
			if l.pid == nil {
				return 0, nil
			}
			return l.pid(), nil
		}),
		"run":   operation(func(t loadTime) (loaded, error) { return l.run(t), nil }),
		"close": operation(func(none) (none, error) { l.end(); return none{}, nil }),
	}
}

func (l *loader) end() {
	for _, c := range l.callers {
		c.close()
	}
	if l.close != nil {
		l.close()
	}
	l.callers, l.pid, l.close = nil, nil, nil
}

func (l *loader) open(spec loadSpec) error {
	var deliver func(context.Context, *transport.Message) transport.Receipt
	var shape func(body []byte) ([]byte, error)
	var err error
	switch {
	case spec.InProcess:
		t := http.New()
		if err := t.Configure(context.Background(), spec.Settings); err != nil {
			return err
		}
		deliver, l.close = t.Deliver, func() { _ = t.Close() }
	case len(spec.Command) > 0:
		t, err := host.StartTransport(context.Background(), host.TransportSpec{
			Name: "bench", Command: spec.Command, Settings: spec.Settings, Unary: spec.Unary,
			Resolve: func(ref string) (string, error) { return ref, nil },
			Log:     slog.New(slog.DiscardHandler),
		})
		if err != nil {
			return err
		}
		deliver, l.close = t.Deliver, t.Stop
		l.pid = func() int { return t.Status().PID }
	case spec.Script != nil:
		if shape, l.pid, l.close, err = openScript(spec.Script, spec.Callers); err != nil {
			return err
		}
	}
	for range spec.Callers {
		if shape != nil {
			l.callers = append(l.callers, &shaper{body: []byte(sent.Text), shape: shape})
			continue
		}
		if deliver != nil {
			l.callers = append(l.callers, newDeliverer(deliver))
			continue
		}
		c := &client{spec: spec, request: []byte(spec.Head + sent.Text), buf: make([]byte, 16<<10)}
		if err := c.dial(); err != nil {
			l.end()
			return err
		}
		l.callers = append(l.callers, c)
	}
	return nil
}

// run has every caller call, again and again. When it returns nothing is under way.
func (l *loader) run(t loadTime) loaded {
	type part struct {
		sent, ids, failed uint64
		why               error
		took              []time.Duration
	}
	parts := make([]part, len(l.callers))
	var left atomic.Int64
	left.Store(t.Events)
	var calls sync.WaitGroup
	start := time.Now()
	for i, c := range l.callers {
		calls.Go(func() {
			p := part{took: make([]time.Duration, 0, 1<<14)}
			for now := start; ; {
				if t.Events > 0 && left.Add(-1) < 0 || t.Events == 0 && now.Sub(start) >= t.Duration {
					break
				}
				id := l.lastID.Add(1)
				err := c.call(id)
				then := time.Now()
				p.took = append(p.took, then.Sub(now))
				now = then
				p.sent++
				p.ids += id
				if err != nil {
					if p.failed++; p.why == nil {
						p.why = err
					}
					if errors.Is(err, errNoConnection) {
						break
					}
				}
			}
			parts[i] = p
		})
	}
	calls.Wait()
	out := loaded{Elapsed: time.Since(start)}
	var took []time.Duration
	for _, p := range parts {
		out.Sent.Events += p.sent
		out.Sent.IDs += p.ids
		if out.Failed += p.failed; p.why != nil && out.Why == "" {
			out.Why = p.why.Error()
		}
		took = append(took, p.took...)
	}
	out.Sent.Bytes = out.Sent.Events * uint64(len(sent.Text))
	slices.Sort(took)
	if n := len(took); n > 0 {
		out.P50, out.P99 = took[n/2], took[n*99/100]
	}
	return out
}

// client is the leanest HTTP/1.1 client that will do: net/http's takes more CPU
// than some of what is measured here.
type client struct {
	spec    loadSpec
	request []byte
	buf     []byte
	conn    net.Conn
}

var errNoConnection = errors.New("no connection")

func (c *client) dial() (err error) {
	if c.conn, err = net.DialTimeout("tcp", c.spec.Addr, callTimeout); err != nil {
		return fmt.Errorf("%w: %w", errNoConnection, err)
	}
	return nil
}

func (c *client) close() { _ = c.conn.Close() }

func (c *client) call(id uint64) error {
	body := c.request[len(c.spec.Head):]
	sent.put(body, id)
	status, answer, err := c.exchange()
	if err != nil {
		c.close()
		return errors.Join(err, c.dial())
	}
	if status != c.spec.Want {
		return fmt.Errorf("status %d: %.300s", status, answer)
	}
	return nil
}

var statusPrefix = []byte("HTTP/1.1 ")

func (c *client) exchange() (status int, body []byte, err error) {
	if _, err := c.conn.Write(c.request); err != nil {
		return 0, nil, err
	}
	have, head, size := 0, 0, 0
	for head == 0 || have < head+size {
		if have == len(c.buf) {
			return 0, nil, errors.New("the answer is too long")
		}
		n, err := c.conn.Read(c.buf[have:])
		if n == 0 && err != nil {
			return 0, nil, err
		}
		have += n
		if head > 0 {
			continue
		}
		i := bytes.Index(c.buf[:have], headEnd)
		if i < 0 {
			continue
		}
		head = i + len(headEnd)
		if size, _ = headers(c.buf[:head]); size < 0 || head < len(statusPrefix)+3 || !bytes.HasPrefix(c.buf, statusPrefix) {
			return 0, nil, fmt.Errorf("an answer that is not HTTP/1.1 with a Content-Length: %.100q", c.buf[:head])
		}
	}
	if have > head+size {
		return 0, nil, errors.New("more than one answer to one request")
	}
	status, err = strconv.Atoi(string(c.buf[len(statusPrefix) : len(statusPrefix)+3]))
	return status, c.buf[head:have], err
}

// deliverer calls a transport as the dispatcher does.
type deliverer struct {
	deliver func(context.Context, *transport.Message) transport.Receipt
	message transport.Message
}

func newDeliverer(deliver func(context.Context, *transport.Message) transport.Receipt) *deliverer {
	id := uuid.Must(uuid.NewV7()).String()
	return &deliverer{deliver: deliver, message: transport.Message{
		ID: id, EventID: id, DeliveryID: id, Attempt: 1,
		Hook: "bench", Route: "bench", Study: "ABC-123", Stage: "uat", Lane: "bench/bench/435", Kind: "insert",
		ReceivedAt: time.Now().UTC(), TraceParent: "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
		ContentType: "application/json", Payload: []byte(sent.Text),
	}}
}

func (d *deliverer) call(id uint64) error {
	ctx, cancel := context.WithTimeout(context.Background(), callTimeout)
	defer cancel()
	sent.put(d.message.Payload, id)
	if r := d.deliver(ctx, &d.message); r.Code != transport.Delivered {
		return fmt.Errorf("receipt %s, %s", r.Code, r.Detail)
	}
	return nil
}

func (d *deliverer) close() {}
