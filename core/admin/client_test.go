package admin_test

import (
	"errors"
	"net/http"
	"net/http/httptest"
	"net/url"
	"reflect"
	"strings"
	"testing"

	"github.com/hookline/hookline/core/admin"
)

func at(t *testing.T, text, password string) admin.Address {
	t.Helper()
	a, err := admin.ParseAddress(text)
	if err != nil {
		t.Fatal(err)
	}
	a.Password = password
	return a
}

func TestClientOverTCP(t *testing.T) {
	f := openOffice(t)
	c := admin.Connect(at(t, "http://otto@"+f.addr, password))
	if s, err := c.Status(t.Context()); err != nil || s.Version != "1" {
		t.Errorf("%+v, %v", s, err)
	}
	if got, err := c.Retry(t.Context(), admin.Act{IDs: []string{f.held.ID}}); err != nil || !got.Results[0].OK {
		t.Errorf("%+v, %v", got, err)
	}
	var refused *admin.Error
	if _, err := c.Body(t.Context(), f.event.ID); !errors.As(err, &refused) || refused.Status != 403 {
		t.Errorf("%v", err)
	}
	if _, err := admin.Connect(at(t, "http://otto@"+f.addr, "wrong")).Status(t.Context()); !errors.As(err, &refused) || refused.Status != 401 || strings.Contains(err.Error(), "wrong@") {
		t.Errorf("%v", err)
	}
	f.server.Stop()
	if _, err := c.Status(t.Context()); !errors.Is(err, admin.ErrNoDaemon) || !strings.Contains(err.Error(), f.addr) || strings.Contains(err.Error(), password) {
		t.Errorf("%v", err)
	}

	// Another host never gets the password.
	asked := make(chan string, 4)
	other := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asked <- r.URL.Path + " " + r.Header.Get("Authorization")
		http.Redirect(w, r, "/elsewhere", http.StatusTemporaryRedirect)
	}))
	defer other.Close()
	if _, err := admin.Connect(at(t, strings.Replace(other.URL, "//", "//otto@", 1), password)).Status(t.Context()); err == nil {
		t.Error("a redirect is no answer")
	}
	if len(asked) != 1 {
		t.Errorf("it went after the redirect, %d calls", len(asked))
	}
}

func TestParseAddress(t *testing.T) {
	for text, want := range map[string]admin.Address{
		"hookline-admin.sock":     {Socket: "hookline-admin.sock"},
		"unix:/run/a.sock":        {Socket: "/run/a.sock"},
		"unix:///run/a.sock":      {Socket: "/run/a.sock"},
		"https://h.example.org":   {URL: &url.URL{Scheme: "https", Host: "h.example.org"}},
		"http://al@127.0.0.1:88/": {URL: &url.URL{Scheme: "http", Host: "127.0.0.1:88"}, User: "al"},
	} {
		got, err := admin.ParseAddress(text)
		if err != nil || !reflect.DeepEqual(got, want) {
			t.Errorf("%s: %+v, %v", text, got, err)
		}
	}
	for _, text := range []string{
		"", "unix:", "tcp://127.0.0.1:1", "http://", "https://:1", "http://a:hunter2@h", "http://a:hunter2@[h", "http://h/v1", "http://h?x", "https://h#x", "http://a:@h", "https:h",
	} {
		if got, err := admin.ParseAddress(text); err == nil || strings.Contains(err.Error(), "hunter2") {
			t.Errorf("%s: %+v, %v", text, got, err)
		}
	}
	for text, open := range map[string]bool{
		"a.sock": false, "https://h": false, "http://h": true, "http://127.0.0.1:1": false, "http://[::1]:1": false, "http://localhost": false, "http://10.0.0.1": true,
	} {
		if got := at(t, text, "").InTheOpen(); got != open {
			t.Errorf("%s: %v", text, got)
		}
	}
}
