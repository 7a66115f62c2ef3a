// Package admin is the operator's side: an HTTP API on a Unix socket that only
// the daemon's user can open, and its client.
package admin

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"mime"
	"net"
	"net/http"
	"strconv"
	"sync"
	"time"

	"github.com/hookline/hookline/core/journal"
	"github.com/hookline/hookline/core/socket"
)

// Reloader applies the configuration on disk, or says why it cannot.
type Reloader func(ctx context.Context) error

// Options are what a Server is made from.
type Options struct {
	Path    string // of the socket
	Reload  Reloader
	Status  func() Status
	Journal Journal // nil without a journal
	// Routes are the names of those in force; nil allows a retry on any.
	Routes func() []string
	Log    *slog.Logger
	// Metrics, if set, answers GET /metrics.
	Metrics http.Handler
}

// Journal is what the operator can see of the journal, and do to it.
type Journal interface {
	eventJournal
	deliveryJournal
}

// Times of a call.
const (
	headerTimeout = 5 * time.Second
	bodyTimeout   = 10 * time.Second
	callTimeout   = 30 * time.Second
	readTimeout   = 5 * time.Second // of one read of the journal
	reloadTimeout = time.Minute
)

// Server serves the admin API.
type Server struct {
	http    *http.Server
	serving sync.WaitGroup
}

// Listen opens the socket with mode 0600 and serves. A file that a dead daemon has
// left there is replaced.
func Listen(o Options) (*Server, error) {
	l, err := socket.Listen("unix:"+o.Path, socketMode)
	if err != nil {
		return nil, fmt.Errorf("the admin socket: %w", err)
	}
	s := &Server{http: &http.Server{
		Handler:           (&api{o}).routes(),
		ReadHeaderTimeout: headerTimeout,
		ConnContext:       withPeer,
		ErrorLog:          slog.NewLogLogger(o.Log.Handler(), slog.LevelDebug),
	}}
	s.serving.Go(func() { _ = s.http.Serve(l) })
	return s, nil
}

// Stop closes the socket and waits for calls in progress, at most until their
// own deadlines.
func (s *Server) Stop() {
	ctx, cancel := context.WithTimeout(context.Background(), reloadTimeout)
	defer cancel()
	_ = s.http.Shutdown(ctx)
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

func (a *api) routes() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		fail(w, &Error{Status: http.StatusNotFound, Text: fmt.Sprintf("this version has no %s", shown(r.URL.Path))})
	})
	on := func(method, path string, limit time.Duration, call func(*http.Request) (any, error)) {
		mux.HandleFunc(path, func(w http.ResponseWriter, r *http.Request) {
			if err := a.fits(w, r, method); err != nil {
				fail(w, err)
				return
			}
			ctx, cancel := context.WithTimeout(r.Context(), limit)
			defer cancel()
			answer, err := call(r.WithContext(ctx))
			if err != nil {
				fail(w, err)
				return
			}
			reply(w, http.StatusOK, answer)
		})
	}
	if a.Metrics != nil {
		mux.Handle("GET /metrics", a.Metrics)
	}
	on(http.MethodPost, "/v1/reload", reloadTimeout, a.reload)
	on(http.MethodGet, "/v1/status", callTimeout, a.status)
	on(http.MethodGet, "/v1/events", callTimeout, a.events)
	on(http.MethodGet, "/v1/events/{id}", callTimeout, a.event)
	on(http.MethodGet, "/v1/events/{id}/body", callTimeout, a.body)
	on(http.MethodGet, "/v1/deliveries", callTimeout, a.deliveries)
	on(http.MethodPost, "/v1/deliveries/retry", callTimeout, a.retry)
	on(http.MethodPost, "/v1/deliveries/cancel", callTimeout, a.cancel)
	return mux
}

// maxRequest bounds a request's body, in bytes.
const maxRequest = 1 << 20

// fits refuses what is wrong before the call itself is looked at, and reads the
// body.
func (a *api) fits(w http.ResponseWriter, r *http.Request, method string) error {
	if r.Method != method && (method != http.MethodGet || r.Method != http.MethodHead) {
		w.Header().Set("Allow", method)
		return &Error{Status: http.StatusMethodNotAllowed, Text: fmt.Sprintf("%s takes %s, not %s", r.URL.Path, method, shown(r.Method))}
	}
	if method != http.MethodPost {
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
	r.Body = io.NopCloser(bytes.NewReader(body))
	return nil
}

const mediaJSON = "application/json"

func (a *api) reload(r *http.Request) (any, error) {
	actor := actorOf(r.Context())
	if err := a.Reload(r.Context()); err != nil {
		a.Log.Error(err.Error(), "asked_by", actor)
		return nil, &Error{Status: http.StatusUnprocessableEntity, Text: err.Error()}
	}
	a.Log.Info("reload was asked for on the admin socket", "asked_by", actor)
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
	w.Header().Set("Content-Type", d.mediaType)
	w.Header().Set("Content-Length", strconv.Itoa(len(d.content)))
	w.WriteHeader(status)
	_, _ = w.Write(d.content)
}

type peerKey struct{}

func withPeer(ctx context.Context, c net.Conn) context.Context {
	return context.WithValue(ctx, peerKey{}, peerOf(c))
}

// actorOf is the user who calls, as far as the system tells.
func actorOf(ctx context.Context) string {
	actor, _ := ctx.Value(peerKey{}).(string)
	return cmp.Or(actor, "unknown")
}
