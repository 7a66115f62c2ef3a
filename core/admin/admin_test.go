package admin_test

import (
	"bytes"
	"context"
	"errors"
	"io/fs"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/hookline/hookline/core/admin"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

type logs struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (l *logs) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.Write(p)
}

func (l *logs) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.String()
}

// socket is a path that is short enough for a socket.
func socket(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "hl-admin-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	return filepath.Join(dir, "admin.sock")
}

func listen(t *testing.T, path string, reload admin.Reloader) (*admin.Server, *logs) {
	t.Helper()
	l := &logs{}
	return serve(t, admin.Options{Path: path, Reload: reload, Log: slog.New(slog.NewTextHandler(l, nil))}), l
}

func serve(t *testing.T, o admin.Options) *admin.Server {
	t.Helper()
	s, err := admin.Listen(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Stop)
	return s
}

func accept(context.Context) error { return nil }

func TestReload(t *testing.T) {
	reason := errors.New("config.toml: routes.ehr.timeout: must be a duration\nconfig.toml: hooks: \"x\" is unknown")
	for _, c := range []struct {
		name   string
		result error
		log    string
	}{
		{"good", nil, "reload was asked for in the admin API"},
		{"bad", reason, "routes.ehr.timeout"},
	} {
		t.Run(c.name, func(t *testing.T) {
			path := socket(t)
			_, log := listen(t, path, func(ctx context.Context) error {
				if _, ok := ctx.Deadline(); !ok {
					t.Error("a reload without a deadline")
				}
				return c.result
			})
			err := admin.Reload(t.Context(), path)
			if (err == nil) != (c.result == nil) || err != nil && err.Error() != c.result.Error() {
				t.Errorf("got %v, want %v", err, c.result)
			}
			if errors.Is(err, admin.ErrNoDaemon) {
				t.Error("the daemon answered")
			}
			if text := log.String(); !strings.Contains(text, c.log) || !strings.Contains(text, "asked_by=") {
				t.Errorf("log: %s", text)
			}
		})
	}
}

func TestSocketIsItsOwnersOnly(t *testing.T) {
	path := socket(t)
	s, _ := listen(t, path, accept)
	info, err := os.Lstat(path)
	if err != nil {
		t.Fatal(err)
	}
	if info.Mode() != fs.ModeSocket|0o600 {
		t.Errorf("mode %s", info.Mode())
	}
	s.Stop()
	if _, err := os.Lstat(path); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the socket is still there: %v", err)
	}
	if err := admin.Reload(t.Context(), path); !errors.Is(err, admin.ErrNoDaemon) || !strings.Contains(err.Error(), path) {
		t.Errorf("reload of a daemon that is not there: %v", err)
	}
	s.Stop() // twice is fine
}

func TestWhatIsInThePlaceOfTheSocket(t *testing.T) {
	fail := func(t *testing.T, path string, says ...string) {
		t.Helper()
		s, err := admin.Listen(admin.Options{Path: path, Reload: accept, Log: slog.New(slog.DiscardHandler)})
		if err == nil {
			s.Stop()
			t.Fatal("it listens")
		}
		for _, part := range append(says, path) {
			if !strings.Contains(err.Error(), part) {
				t.Errorf("%q does not say %q", err, part)
			}
		}
	}
	t.Run("a dead daemon's socket", func(t *testing.T) {
		path := socket(t)
		l, err := net.Listen("unix", path)
		if err != nil {
			t.Fatal(err)
		}
		l.(*net.UnixListener).SetUnlinkOnClose(false)
		_ = l.Close()
		listen(t, path, accept)
		if err := admin.Reload(t.Context(), path); err != nil {
			t.Error(err)
		}
	})
	t.Run("a living daemon's socket", func(t *testing.T) {
		path := socket(t)
		listen(t, path, accept)
		fail(t, path, "another process listens there")
		if err := admin.Reload(t.Context(), path); err != nil {
			t.Errorf("the first daemon has lost its socket: %v", err)
		}
	})
	t.Run("a file", func(t *testing.T) {
		path := socket(t)
		if err := os.WriteFile(path, []byte("precious"), 0o600); err != nil {
			t.Fatal(err)
		}
		fail(t, path, "not a socket")
		if b, _ := os.ReadFile(path); string(b) != "precious" {
			t.Error("the file is gone")
		}
	})
	t.Run("no folder", func(t *testing.T) {
		fail(t, filepath.Join(socket(t), "admin.sock"), "admin socket")
	})
}

// What is no call of the API is refused, and a reload in progress is waited for.
func TestOtherCalls(t *testing.T) {
	path := socket(t)
	began, finish := make(chan struct{}), make(chan struct{})
	s, _ := listen(t, path, func(context.Context) error { close(began); <-finish; return nil })
	pool := &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "unix", path)
	}}
	defer pool.CloseIdleConnections()
	client := &http.Client{Transport: pool, Timeout: 10 * time.Second}
	for _, c := range []struct {
		method, path string
		status       int
	}{
		{http.MethodGet, "/v1/reload", 405},
		{http.MethodPost, "/v1/other", 404},
		{http.MethodGet, "/", 404},
	} {
		req, err := http.NewRequestWithContext(t.Context(), c.method, "http://admin"+c.path, nil)
		if err != nil {
			t.Fatal(err)
		}
		resp, err := client.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		_ = resp.Body.Close()
		if resp.StatusCode != c.status {
			t.Errorf("%s %s: %d", c.method, c.path, resp.StatusCode)
		}
	}
	pool.CloseIdleConnections()

	result, stopped := make(chan error, 1), make(chan struct{})
	go func() { result <- admin.Reload(context.Background(), path) }()
	<-began
	go func() { s.Stop(); close(stopped) }()
	select {
	case <-stopped:
		t.Error("stopped in the middle of a reload")
	default:
	}
	close(finish)
	if err := <-result; err != nil {
		t.Errorf("the reload in progress: %v", err)
	}
	<-stopped
}
