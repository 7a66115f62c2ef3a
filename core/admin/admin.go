// Package admin is the operator's side: an HTTP API, and its client. It is on a
// Unix socket that only the daemon's user can open, who may do everything, and on
// TCP, for users with a password and a role.
package admin

import (
	"bytes"
	"cmp"
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"mime"
	"net"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/net/netutil"

	"github.com/hookline/hookline/core/credential"
	"github.com/hookline/hookline/core/journal"
	"github.com/hookline/hookline/core/socket"
)

// Reloader applies the configuration on disk, or says why it cannot.
type Reloader func(ctx context.Context) error

// Options are what a Server is made from.
type Options struct {
	Path string // of the Unix socket; "" for none

	TCP   []string    // host:port
	TLS   *tls.Config // of TCP; nil for none
	Hosts []string    // names that it is called by over TCP, lower case
	Users []User      // who may call over TCP, until the next Use

	Reload  Reloader
	Status  func() Status
	Journal Journal          // nil without a journal
	Care    Care             // nil without a journal
	Alerts  func() AlertList // nil for none
	Plugins func() []Plugin  // nil for none
	// Routes are the names of those in force; nil allows a retry on any.
	Routes func() []string
	// Viewed, if set, is told what of an event's contents ("body", "detail") an actor
	// is about to see. Its error keeps it from them.
	Viewed func(ctx context.Context, actor, what, eventID string) error
	// Redrive drives events again; nil: that cannot be done.
	Redrive Redriver
	// Past tells of the configurations that were in force; nil for nothing.
	Past Past
	// SourceFiles takes what is kept of a script apart, the script itself first; nil,
	// or none: it is the text of one file.
	SourceFiles func(kept []byte) []SourceFile
	// Release lets a script in quarantine run again; nil: there are no scripts.
	Release Releaser
	// Metrics, if set, answers GET /metrics.
	Metrics http.Handler
	Log     *slog.Logger

	headerTimeout time.Duration // tests
}

// Journal is what the operator can see of the journal, and do to it.
type Journal interface {
	eventJournal
	deliveryJournal
	auditJournal
	explainJournal
}

// Times of a call.
const (
	headerTimeout = 5 * time.Second
	bodyTimeout   = 10 * time.Second
	callTimeout   = 30 * time.Second
	readTimeout   = 5 * time.Second // of one read of the journal
	reloadTimeout = time.Minute
	writeTimeout  = 2 * time.Minute // of an answer, from the moment it is known
	stopTimeout   = callTimeout     // of calls in progress when the daemon stops
)

// Limits of the server.
const (
	idleTimeout    = 2 * time.Minute
	maxHeaderBytes = 32 << 10
	maxConns       = 256 // over TCP, where strangers may connect
)

// Server serves the admin API.
type Server struct {
	log       *slog.Logger
	local     *http.Server // on the Unix socket
	remote    *http.Server // on TCP
	listeners []net.Listener
	addrs     []net.Addr
	serving   sync.WaitGroup
	life      context.Context // of all calls; ends when Stop begins
	end       context.CancelFunc

	users    atomic.Pointer[users]
	checker  *credential.Checker
	failures failures
}

// Listen opens the Unix socket with mode 0600, and the TCP addresses, and serves. A
// file that a dead daemon has left in the place of the socket is replaced.
func Listen(o Options) (*Server, error) {
	s := &Server{log: o.Log, checker: credential.NewChecker()}
	s.life, s.end = context.WithCancel(context.Background())
	s.Use(o.Users)
	routes := (&api{o}).routes()
	s.local, s.remote = s.server(o, bare(front(o.Hosts, true, peer, routes))), s.server(o, bare(front(o.Hosts, false, s.login, routes)))
	s.local.ConnContext = withPeer
	if err := s.listen(o); err != nil {
		s.end()
		for _, l := range s.listeners {
			_ = l.Close()
		}
		return nil, err
	}
	for _, l := range s.listeners {
		server := s.remote
		if l.Addr().Network() == "unix" {
			server = s.local
		}
		s.serving.Go(func() { _ = server.Serve(l) })
	}
	return s, nil
}

func (s *Server) listen(o Options) error {
	if o.Path != "" {
		l, err := socket.Listen("unix:"+o.Path, socketMode)
		if err != nil {
			return fmt.Errorf("the admin socket: %w", err)
		}
		s.listeners = append(s.listeners, l)
	}
	for _, addr := range o.TCP {
		l, err := socket.Listen("tcp://"+addr, 0)
		if err != nil {
			return fmt.Errorf("the admin API: %w", err)
		}
		s.addrs = append(s.addrs, l.Addr())
		l = netutil.LimitListener(l, maxConns)
		if o.TLS != nil {
			l = tls.NewListener(l, o.TLS)
		}
		s.listeners = append(s.listeners, l)
	}
	return nil
}

func (s *Server) server(o Options, handler http.Handler) *http.Server {
	var protocols http.Protocols
	protocols.SetHTTP1(true) // each further protocol is something to attack
	return &http.Server{
		Handler:                      handler,
		Protocols:                    &protocols,
		ReadHeaderTimeout:            cmp.Or(o.headerTimeout, headerTimeout),
		IdleTimeout:                  idleTimeout,
		MaxHeaderBytes:               maxHeaderBytes,
		DisableGeneralOptionsHandler: true,
		BaseContext:                  func(net.Listener) context.Context { return s.life },
		ErrorLog:                     slog.NewLogLogger(o.Log.Handler(), slog.LevelDebug),
	}
}

// Addrs are the TCP addresses that it listens on.
func (s *Server) Addrs() []net.Addr { return s.addrs }

// Stop closes the sockets and ends calls in progress: those that read go through all
// of a journal perhaps, and nobody waits for that. What is being written to the journal
// ends with its own deadline, and its answer with the caller's patience or stopTimeout.
func (s *Server) Stop() {
	s.end()
	ctx, cancel := context.WithTimeout(context.Background(), stopTimeout)
	defer cancel()
	for _, server := range []*http.Server{s.local, s.remote} {
		if server.Shutdown(ctx) != nil {
			_ = server.Close() // whoever does not read his answer
		}
	}
	s.serving.Wait()
}

// socketMode lets only the daemon's own user call.
const socketMode = 0o600

// Error is an answer that is not what was asked for.
type Error struct {
	Status int // of HTTP
	Text   string
}

func (e *Error) Error() string { return e.Text }

// refuse is the answer to a call that is wrong in itself.
func refuse(format string, args ...any) error {
	return &Error{Status: http.StatusBadRequest, Text: fmt.Sprintf(format, args...)}
}

// failure is an Error on its way.
type failure struct {
	Error string `json:"error"`
}

// document is an answer that is not the API's own JSON.
type document struct {
	mediaType string
	content   []byte
}

// api answers the calls.
type api struct{ Options }

// endpoint is one thing that can be asked for.
type endpoint struct {
	needs        permission
	method, path string
	limit        time.Duration
	call         func(*http.Request) (any, error)
	raw          http.Handler // in place of call: it answers by itself
	// list leaves contents out for everyone: each page would be a view of the
	// contents of all its events.
	list bool
}

// endpoints are all of them, with what they need. openapi.json describes each.
func (a *api) endpoints() []endpoint {
	all := []endpoint{
		{needs: act, method: http.MethodPost, path: "/v1/reload", limit: reloadTimeout, call: a.reload},
		{needs: see, method: http.MethodGet, path: "/v1/status", limit: callTimeout, call: a.status},
		{needs: see, method: http.MethodGet, path: "/v1/alerts", limit: callTimeout, call: a.alerts},
		{needs: see, method: http.MethodGet, path: "/v1/plugins", limit: callTimeout, call: a.plugins},
		{needs: see, method: http.MethodGet, path: "/v1/events", limit: callTimeout, call: a.events, list: true},
		{needs: see, method: http.MethodGet, path: "/v1/events/{id}", limit: callTimeout, call: a.event},
		{needs: read, method: http.MethodGet, path: "/v1/events/{id}/body", limit: callTimeout, call: a.body},
		{needs: read, method: http.MethodGet, path: "/v1/events/{id}/explain", limit: callTimeout, call: a.explain},
		{needs: see, method: http.MethodGet, path: "/v1/deliveries", limit: callTimeout, call: a.deliveries, list: true},
		{needs: act, method: http.MethodPost, path: "/v1/events/{id}/retry", limit: callTimeout, call: a.redrive},
		{needs: see, method: http.MethodGet, path: "/v1/openapi.json", limit: callTimeout, call: a.openAPI},
		{needs: see, method: http.MethodGet, path: "/v1/audit/verify", limit: auditTimeout, call: a.verify},
		{needs: read, method: http.MethodGet, path: "/v1/audit/export", limit: auditTimeout, call: a.export},
		{needs: see, method: http.MethodGet, path: "/v1/journal/stats", limit: statsTimeout, call: a.stats},
		{needs: act, method: http.MethodPost, path: "/v1/transforms/release", limit: callTimeout, call: a.releaseScript},
		{needs: act, method: http.MethodPost, path: "/v1/journal/prune", limit: statsTimeout, call: a.prune},
		{needs: act, method: http.MethodPost, path: "/v1/journal/backup", limit: backupTimeout, call: a.backup},
	}
	if a.Metrics != nil {
		all = append(all, endpoint{needs: see, method: http.MethodGet, path: "/metrics", limit: callTimeout, raw: a.Metrics})
	}
	for _, do := range acts {
		all = append(all, endpoint{
			needs: act, method: http.MethodPost, path: "/v1/deliveries/" + do.name, limit: callTimeout,
			call: func(r *http.Request) (any, error) { return a.acts(r, &do) },
		})
	}
	return all
}

func (a *api) routes() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		fail(w, &Error{Status: http.StatusNotFound, Text: fmt.Sprintf("this version has no %s", shown(r.URL.Path))})
	})
	paths := map[string][]endpoint{}
	for _, e := range a.endpoints() {
		paths[e.path] = append(paths[e.path], e)
	}
	for path, on := range paths {
		mux.HandleFunc(path, func(w http.ResponseWriter, r *http.Request) { a.answer(w, r, on) })
	}
	return mux
}

// answer answers a call of one of the endpoints on a path.
func (a *api) answer(w http.ResponseWriter, r *http.Request, on []endpoint) {
	e, err := pick(w, r, on)
	if err == nil {
		err = callerOf(r.Context()).allows(e.needs)
	}
	if err == nil {
		err = a.fits(w, r, e.method)
	}
	if err != nil {
		fail(w, err)
		return
	}
	ctx, cancel := context.WithTimeout(r.Context(), e.limit)
	defer cancel()
	if e.raw != nil {
		_ = http.NewResponseController(w).SetWriteDeadline(time.Now().Add(e.limit + writeTimeout))
		e.raw.ServeHTTP(w, r.WithContext(ctx))
		return
	}
	answer, err := e.call(r.WithContext(ctx))
	if err != nil {
		fail(w, err)
		return
	}
	if answer, err = a.view(ctx, e, answer); err != nil {
		fail(w, err)
		return
	}
	reply(w, http.StatusOK, answer)
}

// pick finds the endpoint for the method.
func pick(w http.ResponseWriter, r *http.Request, on []endpoint) (*endpoint, error) {
	methods := make([]string, len(on))
	for i := range on {
		if r.Method == on[i].method || r.Method == http.MethodHead && on[i].method == http.MethodGet {
			return &on[i], nil
		}
		methods[i] = on[i].method
	}
	takes := strings.Join(methods, ", ")
	w.Header().Set("Allow", takes)
	return nil, &Error{Status: http.StatusMethodNotAllowed, Text: fmt.Sprintf("%s takes %s, not %s", r.URL.Path, takes, shown(r.Method))}
}

// maxRequest bounds a request's body, in bytes.
const maxRequest = 1 << 20

// fits refuses what is wrong before the call itself is looked at, and reads the
// body.
func (a *api) fits(w http.ResponseWriter, r *http.Request, method string) error {
	if method == http.MethodGet {
		if r.ContentLength != 0 {
			return refuse("%s takes no body", r.URL.Path)
		}
		return nil
	}
	// A page in a browser cannot send it to another origin unasked.
	if media, _, err := mime.ParseMediaType(r.Header.Get("Content-Type")); err != nil || media != mediaJSON {
		return &Error{Status: http.StatusUnsupportedMediaType, Text: "Content-Type must be " + mediaJSON}
	}
	// The server's own read timeout would go on during the call, and end it.
	conn := http.NewResponseController(w)
	_ = conn.SetReadDeadline(time.Now().Add(bodyTimeout))
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxRequest))
	_ = conn.SetReadDeadline(time.Time{})
	var large *http.MaxBytesError
	switch {
	case errors.As(err, &large):
		return &Error{Status: http.StatusRequestEntityTooLarge, Text: fmt.Sprintf("the body must be at most %d bytes", large.Limit)}
	case err != nil:
		return &Error{Status: http.StatusRequestTimeout, Text: fmt.Sprintf("the body did not come whole within %s", bodyTimeout)}
	}
	w.Header().Del("Connection") // it came whole, so the connection is good for more
	r.Body = io.NopCloser(bytes.NewReader(body))
	return nil
}

const mediaJSON = "application/json"

func (a *api) reload(r *http.Request) (any, error) {
	actor := actorOf(r.Context())
	if a.Journal != nil {
		if err := a.Journal.Asked(r.Context(), actor, "reload", ""); err != nil {
			a.Log.Warn("that a reload was asked for could not be noted in the journal", "error", err)
		}
	}
	if err := a.Reload(r.Context()); err != nil {
		a.Log.Error(err.Error(), "asked_by", actor)
		return nil, &Error{Status: http.StatusUnprocessableEntity, Text: err.Error()}
	}
	a.Log.Info("reload was asked for in the admin API", "asked_by", actor)
	return struct{}{}, nil
}

func (a *api) status(r *http.Request) (any, error) {
	if _, err := query(r, nil); err != nil {
		return nil, err
	}
	return a.Status(), nil
}

func fail(w http.ResponseWriter, err error) {
	status := http.StatusInternalServerError
	var known *Error
	switch {
	case errors.As(err, &known):
		status = known.Status
	case errors.Is(err, journal.ErrNotFound):
		status = http.StatusNotFound
	case errors.Is(err, journal.ErrUnavailable): // it has its own words, also for a time that ran out
		status = http.StatusServiceUnavailable
	case errors.Is(err, context.DeadlineExceeded):
		status = http.StatusServiceUnavailable
		err = fmt.Errorf("it took longer than %s: %w", callTimeout, err)
	}
	reply(w, status, failure{err.Error()})
}

func reply(w http.ResponseWriter, status int, answer any) {
	d, ok := answer.(document)
	if !ok {
		text, err := json.Marshal(answer)
		if err != nil {
			status, text = http.StatusInternalServerError, []byte(`{"error":"the answer cannot be written as JSON"}`)
		}
		d = document{mediaJSON, append(text, '\n')}
	}
	_ = http.NewResponseController(w).SetWriteDeadline(time.Now().Add(writeTimeout))
	w.Header().Set("Content-Type", d.mediaType)
	w.Header().Set("Content-Length", strconv.Itoa(len(d.content)))
	w.WriteHeader(status)
	_, _ = w.Write(d.content)
}

// actorOf is the user who calls, as far as the system tells.
func actorOf(ctx context.Context) string { return cmp.Or(callerOf(ctx).actor, "unknown") }
