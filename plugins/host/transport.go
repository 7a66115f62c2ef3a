package host

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/go-plugin"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/hookline/hookline/plugins"
	"github.com/hookline/hookline/plugins/transport"
)

const (
	// grace is how long after an attempt's deadline the plugin's receipt may
	// still arrive. Within it a plugin tells more than a bare timeout: whether
	// the request had been written.
	grace = 30 * time.Millisecond
	// maxReply caps what is kept of a target's answer, whatever a plugin sends.
	maxReply = 1 << 20
	// maxDetail caps a receipt's line for the operator.
	maxDetail = 300
)

// TransportSpec is a transport as configured.
type TransportSpec struct {
	Name     string
	Command  []string // executable and arguments
	Title    string   // argv[0], for process lists; "": the executable
	SHA256   []byte   // pin, or nil
	NoMTLS   bool     // the plugin cannot do AutoMTLS
	Attach   string   // see [Spec]
	Settings json.RawMessage
	// Resolve turns a reference such as "env:NAME" into the secret. It is asked
	// only for fields that the plugin's schema marks as secret.
	Resolve func(ref string) (string, error)
	Log     *slog.Logger
	Health  time.Duration // see [Spec]
	// Unary makes each message a call of its own also where the plugin has a stream: to
	// measure what the stream is worth.
	Unary bool
}

// Transport is a transport plugin in a child process.
type Transport struct {
	calls    sync.RWMutex // held for reading by a call in flight, for writing once stopped
	stop     sync.Once
	inFlight atomic.Int64
	running  atomic.Pointer[Child] // that of life, for who cannot wait for calls to end
	life                           // guarded by calls
}

// life is a transport on one set of settings.
type life struct {
	spec   TransportSpec
	child  *Child
	about  transport.Description
	slots  chan struct{} // as many as the plugin takes at a time; nil: any number
	redact *Redactor
}

// StartTransport starts the plugin, checks the settings against its schema and
// configures it. Everything wrong with the settings is in the error, as joined
// *[transport.SettingError]s.
func StartTransport(ctx context.Context, spec TransportSpec) (*Transport, error) {
	l, err := start(ctx, spec)
	if err != nil {
		return nil, err
	}
	t := &Transport{}
	t.use(l)
	return t, nil
}

// use begins a life.
func (t *Transport) use(l life) {
	t.life = l
	t.running.Store(l.child)
}

func start(ctx context.Context, spec TransportSpec) (l life, err error) {
	l = life{spec: spec, redact: &Redactor{}}
	var settings json.RawMessage // resolved at the first start, the same for every later one
	setup := func(ctx context.Context, raw any) error {
		client := raw.(*plugins.Client)
		about, streams, err := client.Describe(ctx)
		if err != nil {
			return err
		}
		if settings == nil {
			resolved, secrets, err := ResolveSettings(about.Settings, spec.Settings, spec.Resolve)
			if err != nil {
				return err
			}
			l.redact.Hide(secrets...)
			l.about, settings = about, resolved
			if about.MaxInFlight > 0 {
				l.slots = make(chan struct{}, about.MaxInFlight)
			}
		}
		if err := client.Configure(ctx, settings); err != nil {
			return l.redact.settings(err)
		}
		if !streams || spec.Unary {
			return nil
		}
		return client.Open()
	}
	l.child, err = Start(ctx, Spec{
		Name:      "transport " + spec.Name,
		Command:   spec.Command,
		Title:     spec.Title,
		SHA256:    spec.SHA256,
		NoMTLS:    spec.NoMTLS,
		Attach:    spec.Attach,
		Handshake: plugins.Handshake,
		Protocols: map[int]plugin.PluginSet{1: {plugins.TransportService: &plugins.TransportPlugin{}}},
		Service:   plugins.TransportService,
		Setup:     setup,
		Health:    spec.Health,
		Log:       spec.Log,
		Redact:    l.redact,
	})
	return l, err
}

// settings takes the secrets out of each setting error: a plugin may quote the
// value that it refuses.
func (r *Redactor) settings(err error) error {
	if err == nil || r.String(err.Error()) == err.Error() {
		return err
	}
	var clean []error
	for _, e := range plugins.SettingErrors(err) {
		clean = append(clean, &transport.SettingError{Field: e.Field, Rule: r.String(e.Rule)})
	}
	return errors.Join(clean...)
}

// Replace changes the settings of an exclusive plugin: the old process ends
// before the new one starts, and calls in between find the plugin unavailable.
// If the new one fails, the old is started again. It returns the spec it
// replaced.
func (t *Transport) Replace(ctx context.Context, spec TransportSpec) (TransportSpec, error) {
	t.calls.Lock()
	defer t.calls.Unlock()
	was := t.spec
	t.child.Stop()
	l, err := start(ctx, spec)
	if err != nil {
		back, errBack := start(context.WithoutCancel(ctx), was)
		if errBack != nil {
			// Nothing runs now; Deliver says so, and the next reload tries again.
			return was, errors.Join(err, errBack)
		}
		t.use(back)
		return was, err
	}
	t.use(l)
	return was, nil
}

// Description is what the plugin says of itself; empty once it is stopped.
func (t *Transport) Description() transport.Description {
	if !t.calls.TryRLock() {
		return transport.Description{}
	}
	defer t.calls.RUnlock()
	return t.about
}

// InFlight is how many attempts and checks the plugin is at work on.
func (t *Transport) InFlight() int { return int(t.inFlight.Load()) }

// Status tells how the plugin's process is, also while it is to be stopped or
// replaced and calls are still in flight.
func (t *Transport) Status() Status { return t.running.Load().Status() }

// Stop takes no new attempt, waits for those in flight, which have deadlines, and
// ends the plugin's process. It may be called more than once.
func (t *Transport) Stop() {
	t.stop.Do(func() {
		t.calls.Lock() // for good
		t.child.Stop()
	})
}

// Deliver makes one attempt. Every end is a receipt, at the latest shortly after
// ctx's deadline.
func (t *Transport) Deliver(ctx context.Context, m *transport.Message) transport.Receipt {
	return t.call(ctx, func(ctx context.Context, c *plugins.Client, timeout time.Duration) (transport.Receipt, error) {
		return c.Deliver(ctx, m, timeout, grace)
	})
}

// Check tells whether the target could be reached.
func (t *Transport) Check(ctx context.Context) transport.Receipt {
	return t.call(ctx, func(ctx context.Context, c *plugins.Client, timeout time.Duration) (transport.Receipt, error) {
		return c.Check(ctx, timeout, grace)
	})
}

func (t *Transport) call(ctx context.Context, rpc func(context.Context, *plugins.Client, time.Duration) (transport.Receipt, error)) transport.Receipt {
	if !t.calls.TryRLock() {
		return transport.Failed(transport.None, transport.PluginUnavailable, "it is being stopped")
	}
	defer t.calls.RUnlock()
	raw, gone, err := t.child.Client()
	if err != nil {
		return transport.Failed(transport.None, transport.PluginUnavailable, err.Error())
	}
	deadline, ok := ctx.Deadline()
	if !ok {
		deadline = time.Now().Add(time.Minute) // invariant 4, whoever calls
	}
	if t.slots != nil {
		wait := time.NewTimer(time.Until(deadline))
		defer wait.Stop()
		select {
		case t.slots <- struct{}{}:
			defer func() { <-t.slots }()
		case <-gone:
			return transport.Failed(transport.None, transport.PluginUnavailable, ErrUnavailable.Error())
		case <-wait.C:
			return transport.Failed(transport.None, transport.Timeout, "the plugin had no room for another attempt")
		}
	}
	t.inFlight.Add(1)
	defer t.inFlight.Add(-1)
	timeout := time.Until(deadline)
	if timeout <= 0 {
		return transport.Failed(transport.None, transport.Timeout, "no time was left for an attempt")
	}
	r, err := rpc(ctx, raw.(*plugins.Client), timeout)
	if err != nil {
		return t.broken(err, gone)
	}
	if len(r.Body) > maxReply {
		r.Body, r.Truncated = r.Body[:maxReply], true
	}
	if r.Detail != "" {
		r.Detail = t.redact.String(r.Detail)
		r.Detail = r.Detail[:min(len(r.Detail), maxDetail)]
	}
	return r
}

// broken turns a gRPC error into the receipt that the plugin did not give.
func (t *Transport) broken(err error, gone <-chan struct{}) transport.Receipt {
	var s interface{ GRPCStatus() *status.Status }
	code := codes.Unknown
	if errors.As(err, &s) {
		code = s.GRPCStatus().Code()
	}
	detail := t.redact.String(err.Error())
	detail = detail[:min(len(detail), maxDetail)]
	switch code {
	case codes.DeadlineExceeded:
		return transport.Failed(transport.Unknown, transport.Timeout, "the plugin did not answer by the deadline")
	case codes.Unavailable, codes.Canceled:
		return transport.Failed(transport.Unknown, transport.PluginCrashed, detail)
	}
	select {
	case <-gone:
		return transport.Failed(transport.Unknown, transport.PluginCrashed, detail)
	default:
		return transport.Failed(transport.Unknown, transport.PluginProtocol, detail)
	}
}
