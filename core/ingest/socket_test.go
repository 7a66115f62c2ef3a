//go:build unix

package ingest

import (
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/hookline/hookline/core"
	"github.com/hookline/hookline/core/socket"
)

func TestUnixSocket(t *testing.T) {
	path := filepath.Join(t.TempDir(), "h.sock")
	s := start(t, Options{}, setOf(hook("demo", password)))
	l := s.serve(t, "unix://"+path)
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o660 {
		t.Fatalf("%v %v", info, err)
	}
	p := dial(t, "unix", path)
	p.send(post("demo", basic(email, password), insert))
	p.want(http.StatusOK, core.Ignored)
	s.log.await(t, "first call of a hook", "remote=unix")

	if _, err := socket.Listen("unix://"+path, 0o660); err == nil || !strings.Contains(err.Error(), "another process listens there") {
		t.Errorf("a live socket was taken over: %v", err)
	}
	p.send(post("demo", basic(email, password), insert))
	p.want(http.StatusOK, core.Ignored)

	if err := s.Drain(t.Context()); err != nil {
		t.Error(err)
	}
	if _, err := os.Lstat(path); !os.IsNotExist(err) {
		t.Errorf("the file is still there: %v", err)
	}
	l.Close() // again
}
