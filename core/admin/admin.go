// Package admin is the operator's side: an HTTP API on a Unix socket that only
// the daemon's user can open, and its client.
package admin

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"time"

	"github.com/hookline/hookline/core/socket"
)

// Reloader applies the configuration on disk, or says why it cannot.
type Reloader func(ctx context.Context) error

// Times of a call.
const (
	headerTimeout = 5 * time.Second
	reloadTimeout = time.Minute
)

// Server serves the admin API.
type Server struct {
	http    *http.Server
	serving sync.WaitGroup
}

// Listen opens the socket at path with mode 0600 and serves. A file that a dead
// daemon has left there is replaced.
func Listen(path string, reload Reloader, log *slog.Logger) (*Server, error) {
	l, err := socket.Listen("unix:"+path, socketMode)
	if err != nil {
		return nil, fmt.Errorf("the admin socket: %w", err)
	}
	mux := http.NewServeMux()
	mux.HandleFunc("POST /v1/reload", func(w http.ResponseWriter, r *http.Request) {
		ctx, cancel := context.WithTimeout(r.Context(), reloadTimeout)
		defer cancel()
		actor := actorOf(r.Context())
		if err := reload(ctx); err != nil {
			log.Error(err.Error(), "asked_by", actor)
			reply(w, http.StatusUnprocessableEntity, Result{Error: err.Error()})
			return
		}
		log.Info("reload was asked for on the admin socket", "asked_by", actor)
		reply(w, http.StatusOK, Result{})
	})
	s := &Server{http: &http.Server{
		Handler:           mux,
		ReadHeaderTimeout: headerTimeout,
		ConnContext:       withPeer,
		ErrorLog:          slog.NewLogLogger(log.Handler(), slog.LevelDebug),
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

// Result is what the API answers.
type Result struct {
	Error string `json:"error,omitempty"`
}

func reply(w http.ResponseWriter, status int, r Result) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(r)
}

type peerKey struct{}

func withPeer(ctx context.Context, c net.Conn) context.Context {
	return context.WithValue(ctx, peerKey{}, peerOf(c))
}

func actorOf(ctx context.Context) string {
	actor, _ := ctx.Value(peerKey{}).(string)
	return actor
}

// ErrNoDaemon means that nothing answers on the admin socket.
var ErrNoDaemon = errors.New("no daemon answers")

// Reload asks the daemon behind the socket at path to reload. The error is
// [ErrNoDaemon], or the daemon's own reason.
func Reload(ctx context.Context, path string) error {
	client := http.Client{
		Timeout: reloadTimeout,
		Transport: &http.Transport{
			DisableKeepAlives: true,
			DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
				return (&net.Dialer{}).DialContext(ctx, "unix", path)
			},
		},
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://admin/v1/reload", nil)
	if err != nil {
		return err
	}
	resp, err := client.Do(req)
	if err != nil {
		return fmt.Errorf("%w on %s (is it running, under this user, with this admin.listen?): %w", ErrNoDaemon, path, err)
	}
	defer func() { _ = resp.Body.Close() }()
	body, err := io.ReadAll(io.LimitReader(resp.Body, 1<<20))
	if err != nil {
		return fmt.Errorf("answer of the daemon: %w", err)
	}
	var r Result
	if err := json.Unmarshal(bytes.TrimSpace(body), &r); err != nil {
		return fmt.Errorf("answer of the daemon: status %d: %w", resp.StatusCode, err)
	}
	if r.Error != "" {
		return errors.New(r.Error)
	}
	return nil
}
