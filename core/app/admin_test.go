package app_test

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"io"
	"log/slog"
	"net/http"
	"strings"
	"testing"
	"time"

	"golang.org/x/crypto/bcrypt"

	"github.com/hookline/hookline/core/app"
)

// The admin API over TLS: its users follow the configuration, its listener does not.
func TestAdminOverTCP(t *testing.T) {
	hash := func(password string) string {
		h, err := bcrypt.GenerateFromPassword([]byte(password), bcrypt.MinCost)
		if err != nil {
			t.Fatal(err)
		}
		return string(h)
	}
	const first, second = "alice-Pa55word-1", "alice-Pa55word-2"
	cert, key := certificate(t, "admin", time.Now().Add(-time.Hour), time.Now().Add(time.Hour))
	toml := preamble + route("ehr", newTarget(t, nil).url, "", "") + `
[admin]
listen = ["unix:admin.sock", "tcp://127.0.0.1:0"]
tls = { cert_file = "cert.pem", key_file = "key.pem" }
[admin.users.alice]
password = "file:alice.hash"
role = "viewer"
`
	d := start(t, toml, files{"cert.pem": string(cert), "key.pem": string(key), "alice.hash": hash(first) + "\n"})
	d.logs.wait(t, "listening for the admin API", "users=1", "tls=true")

	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(cert)
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true, TLSClientConfig: &tls.Config{RootCAs: roots}}, Timeout: 20 * time.Second}
	call := func(method, path, password string, want int) string {
		t.Helper()
		r, err := http.NewRequest(method, "https://"+d.app.AdminAddrs()[0].String()+path, strings.NewReader(""))
		if err != nil {
			t.Fatal(err)
		}
		r.Header.Set("Content-Type", "application/json")
		r.SetBasicAuth("alice", password)
		resp, err := client.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		body, err := io.ReadAll(resp.Body)
		if err != nil {
			t.Fatal(err)
		}
		if resp.StatusCode != want {
			t.Errorf("%s %s: %d, want %d: %s", method, path, resp.StatusCode, want, body)
		}
		return string(body)
	}
	contains(t, "status", call("GET", "/v1/status", first, 200), `"routes":["ehr"]`)
	call("GET", "/v1/status", second, 401)
	call("POST", "/v1/reload", first, 403)

	// Another role and another password, in another file's content.
	d.write("alice.hash", hash(second))
	d.reload(strings.Replace(toml, `"viewer"`, `"operator"`, 1))
	call("GET", "/v1/status", first, 401)
	call("POST", "/v1/reload", second, 200)
	d.logs.wait(t, "reload was asked for", "asked_by=tcp:alice")

	// What cannot be a hash changes nothing.
	d.write("alice.hash", second)
	if err := d.app.Reload(context.Background()); err == nil {
		t.Error("a password in the place of its hash was taken")
	} else {
		contains(t, "the error", err.Error(), "admin.users.alice.password", "hookline hash-password")
		assertClean(t, "the error", err.Error(), second)
	}
	call("GET", "/v1/status", second, 200)

	d.write("alice.hash", hash(second))
	d.reload(strings.NewReplacer("admin.users.alice", "admin.users.bob", "tcp://127.0.0.1:0\"]\ntls", "tcp://127.0.0.1:1\"]\ntls").Replace(toml))
	call("GET", "/v1/status", second, 401)
	d.logs.wait(t, "take effect at the next start", "admin.listen")
	assertClean(t, "the log", d.logs.String(), first, second)

	c, err := d.load()
	if err != nil {
		t.Fatal(err)
	}
	report, err := app.Check(context.Background(), c, slog.New(slog.DiscardHandler), false)
	if err != nil {
		t.Fatal(err)
	}
	if len(report.Certificates) != 1 || report.Certificates[0].DaysLeft != 0 {
		t.Errorf("check does not look at the certificate: %+v", report.Certificates)
	}
}

// Without a certificate that can be used it does not start, and says whose it is.
func TestAdminTLSIsLookedAt(t *testing.T) {
	hash, err := bcrypt.GenerateFromPassword([]byte("x"), bcrypt.MinCost)
	if err != nil {
		t.Fatal(err)
	}
	d := prepare(t, preamble+route("ehr", "http://127.0.0.1:1", "", "")+`
[admin]
listen = "tcp://127.0.0.1:0"
tls = { cert_file = "bad.pem", key_file = "bad.pem" }
users = { alice = { role = "viewer", password = "`+string(hash)+`" } }
`, files{"bad.pem": "x"})
	if err := d.boot(); err == nil {
		t.Fatal("it runs")
	} else {
		contains(t, "the error", err.Error(), "admin.tls", "bad.pem")
	}
}
