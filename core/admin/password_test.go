package admin_test

import (
	"errors"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/crypto/bcrypt"

	"github.com/hookline/hookline/core/admin"
)

// A password is checked once, then remembered until the users change; an unknown
// user costs what a known one does.
func TestPasswords(t *testing.T) {
	f := openOffice(t)
	var checks atomic.Int64
	f.server.Checks(2, 20*time.Second, func(hash, password []byte) error {
		checks.Add(1)
		return bcrypt.CompareHashAndPassword(hash, password)
	})
	try := func(user, pass string, status int, want int64) {
		t.Helper()
		before := checks.Load()
		if got := f.send(f.request("GET", "/v1/status", user, pass, "")); got.status != status {
			t.Errorf("%s: %d, want %d", user, got.status, status)
		}
		if n := checks.Load() - before; n != want {
			t.Errorf("%s: %d checks, want %d", user, n, want)
		}
	}
	try("vera", password, 200, 1)
	try("vera", password, 200, 0)
	try("aud", password, 200, 1) // not another's
	try("vera", "wrong", 401, 1)
	try("vera", "wrong", 401, 1)
	try("nobody", password, 401, 1)
	try("nobody", password, 401, 1)
	f.server.Use([]admin.User{{Name: "vera", Role: admin.Operator, Hash: hashOf(t, password)}})
	try("vera", password, 200, 1)
	try("aud", password, 401, 1)
	if got := f.send(f.request("POST", "/v1/reload", "vera", password, "{}")); got.status != 200 {
		t.Errorf("the role of now: %d", got.status)
	}
	f.server.Use([]admin.User{{Name: "vera", Role: admin.Operator, Hash: hashOf(t, "changed")}})
	try("vera", password, 401, 1)
	long := strings.Repeat("x", 72) // bcrypt looks at no more
	f.server.Use([]admin.User{{Name: "vera", Role: admin.Viewer, Hash: hashOf(t, long)}})
	try("vera", long+"y", 401, 1)
	try("vera", long, 200, 1)
	f.server.Use(nil)
	try("vera", "changed", 401, 0)

	f.server.Use(everyRole(t))
	began, let := make(chan struct{}), make(chan struct{})
	f.server.Checks(1, time.Millisecond, func(_, _ []byte) error {
		began <- struct{}{}
		<-let
		return errors.New("wrong")
	})
	held := make(chan answer, 1)
	go func() { held <- f.send(f.request("GET", "/v1/status", "vera", "wrong", "")) }()
	<-began
	got := f.send(f.request("GET", "/v1/status", "aud", password, ""))
	if got.status != http.StatusTooManyRequests || got.header.Get("Retry-After") != "1" {
		t.Errorf("beyond the bound: %d %s", got.status, got.body)
	}
	close(let)
	if got := <-held; got.status != 401 {
		t.Errorf("%d", got.status)
	}
	if n := strings.Count(f.logs.String(), "wrong name or password"); n != 1 {
		t.Errorf("%d lines for a burst of failures: %s", n, f.logs)
	}
}
