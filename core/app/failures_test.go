package app_test

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"encoding/pem"
	"flag"
	"fmt"
	"math/big"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/hookline/hookline/core"
	"github.com/hookline/hookline/plugins/target/targettest"
	"github.com/hookline/hookline/plugins/transport"
)

var update = flag.Bool("update", false, "write the golden files anew")

// rawTarget answers each connection with the bytes that it writes itself.
func rawTarget(t testing.TB, answer func(*net.TCPConn)) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	t.Cleanup(func() { _ = l.Close(); <-done })
	go func() {
		defer close(done)
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			buf := make([]byte, 4096)
			_, _ = c.Read(buf) // the request, in one packet
			answer(c.(*net.TCPConn))
			_ = c.Close()
		}
	}()
	return "http://" + l.Addr().String()
}

func status(code int, header ...string) func(int, http.ResponseWriter, *http.Request) {
	return func(_ int, w http.ResponseWriter, _ *http.Request) {
		for i := 0; i < len(header); i += 2 {
			w.Header().Set(header[i], header[i+1])
		}
		w.WriteHeader(code)
		_, _ = w.Write([]byte("the target's own words, which may name Jane Doe"))
	}
}

// certificate makes one for 127.0.0.1 that signs itself, in PEM.
func certificate(t testing.TB, name string, from, to time.Time) (cert, key []byte) {
	t.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	serial, _ := rand.Int(rand.Reader, big.NewInt(1<<62))
	template := &x509.Certificate{
		SerialNumber: serial, Subject: pkix.Name{CommonName: name},
		NotBefore: from, NotAfter: to, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		IsCA: true, BasicConstraintsValid: true,
		KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &private.PublicKey, private)
	if err != nil {
		t.Fatal(err)
	}
	pkcs8, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		t.Fatal(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}),
		pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: pkcs8})
}

// tlsTarget is a target behind such a certificate.
func tlsTarget(t testing.TB, cert, key []byte) string {
	t.Helper()
	pair, err := tls.X509KeyPair(cert, key)
	if err != nil {
		t.Fatal(err)
	}
	l, err := tls.Listen("tcp", "127.0.0.1:0", &tls.Config{Certificates: []tls.Certificate{pair}})
	if err != nil {
		t.Fatal(err)
	}
	s := &http.Server{Handler: http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}), ErrorLog: discardLog()}
	done := make(chan struct{})
	go func() { defer close(done); _ = s.Serve(l) }()
	t.Cleanup(func() { _ = s.Close(); <-done })
	return "https://" + l.Addr().String()
}

// Every way in which a target fails has its own code, status and sentence. The
// golden file holds the whole answers.
func TestFailingTargets(t *testing.T) {
	hour := time.Hour
	selfSigned, selfSignedKey := certificate(t, "self-signed", time.Now().Add(-hour), time.Now().Add(hour))
	expired, expiredKey := certificate(t, "expired", time.Now().Add(-2*hour), time.Now().Add(-hour))
	reset := rawTarget(t, func(c *net.TCPConn) { _ = c.SetLinger(0) })
	half := rawTarget(t, func(c *net.TCPConn) {
		_, _ = c.Write([]byte("HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf of it"))
	})
	hang := newGate(t)

	const ca = "tls = { ca_file = \"expired.pem\" }"
	cases := []struct {
		name, url, more, settings string
		code                      core.Code
		status                    int
		fault                     core.Fault
	}{
		{name: "down", url: "http://" + targettest.ClosedAddr(t), code: transport.ConnectionRefused, status: 502},
		{name: "reset", url: reset, code: transport.ConnectionReset, status: 502},
		{name: "hangs", url: hang.url, more: `timeout = "300ms"`, code: transport.Timeout, status: 504},
		{name: "s301", url: newTarget(t, status(301, "Location", "http://127.0.0.1:1/")).url, code: transport.RedirectRefused, status: 502},
		{name: "s401", url: newTarget(t, status(401)).url, settings: basicAuth, code: transport.UnauthorizedByTarget, status: 502},
		{name: "s404", url: newTarget(t, status(404)).url, code: transport.NotFoundAtTarget, status: 502},
		{name: "s422", url: newTarget(t, status(422)).url, code: transport.RejectedByTarget, status: 502},
		{name: "s429", url: newTarget(t, status(429, "Retry-After", "3600")).url, code: transport.ThrottledByTarget, status: 503},
		{name: "s500", url: newTarget(t, status(500)).url, code: transport.TargetError, status: 502},
		{name: "half", url: half, code: transport.BadResponse, status: 502},
		{name: "self-signed", url: tlsTarget(t, selfSigned, selfSignedKey), code: transport.TLSError, status: 502},
		{name: "expired", url: tlsTarget(t, expired, expiredKey), settings: ca, code: transport.TLSError, status: 502},
		{name: "unknown-host", url: "http://ehr.hookline.invalid", code: transport.DNSError, status: 502},
		{name: "link-local", url: "http://169.254.169.254/latest/meta-data", code: transport.AddressDenied, status: 502},
	}
	toml := preamble
	for _, c := range cases {
		toml += route(c.name, c.url, fmt.Sprintf("forms = [\"id:%s\"]\n%s", c.name, c.more), c.settings)
	}
	// The folder is known only once it is there.
	d := prepare(t, toml, files{"expired.pem": string(expired)})
	d.write("config.toml", strings.ReplaceAll(toml, `"expired.pem"`, fmt.Sprintf("%q", filepath.Join(d.dir, "expired.pem"))))
	if err := d.boot(); err != nil {
		t.Fatal(err)
	}

	var golden bytes.Buffer
	sentences := map[string]string{}
	for _, c := range cases {
		a := d.send(call{body: event(c.name)})
		if a.status != c.status || a.Status != c.status || a.Code != c.code || a.Fault != core.FaultTarget || a.Step != core.StepTransport {
			t.Errorf("%s: got %d %s, want %d %s", c.name, a.status, a.body, c.status, c.code)
		}
		if a.header.Get("Content-Type") != "application/problem+json" {
			t.Errorf("%s: Content-Type %q", c.name, a.header.Get("Content-Type"))
		}
		if strings.Contains(a.body, "own words") {
			t.Errorf("%s: the target's text is in the answer: %s", c.name, a.body)
		}
		key := strings.ReplaceAll(a.Detail, "Target "+c.name, "")
		key = recordPattern.ReplaceAllString(strings.ReplaceAll(key, a.Ref, ""), "")
		if other, twice := sentences[key]; twice && other != string(a.Code) {
			t.Errorf("%s: %s has the same sentence as %s: %s", c.name, a.Code, other, a.Detail)
		}
		sentences[key] = string(a.Code)
		fmt.Fprintf(&golden, "# %s\n%s\n", c.name, masked(t, a))
	}
	checkGolden(t, "failing-targets.golden", golden.Bytes())
}

var (
	uuidPattern     = regexp.MustCompile(`[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[0-9a-f]{4}-[0-9a-f]{12}`)
	recordPattern   = regexp.MustCompile(`record \d+`)
	durationPattern = regexp.MustCompile(`"duration_ms": \d+`)
)

// masked is an answer without what differs each time.
func masked(t testing.TB, a *answer) string {
	t.Helper()
	var out bytes.Buffer
	if err := json.Indent(&out, []byte(a.body), "", "  "); err != nil {
		t.Fatal(err)
	}
	s := strings.ReplaceAll(out.String(), a.Ref, "REF")
	s = uuidPattern.ReplaceAllString(s, "UUID")
	s = recordPattern.ReplaceAllString(s, "record N")
	return durationPattern.ReplaceAllString(s, `"duration_ms": N`)
}

func checkGolden(t testing.TB, name string, got []byte) {
	t.Helper()
	path := filepath.Join("testdata", name)
	if *update {
		if err := os.MkdirAll("testdata", 0o750); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, got, 0o600); err != nil {
			t.Fatal(err)
		}
		return
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, want) {
		t.Errorf("%s has changed; look at it with -update and git diff. Got:\n%s", path, got)
	}
}

// The caller's wait ends in time: at the route's timeout or at the hook's budget,
// whichever is first, and both are named.
func TestHangingTargetIsAnsweredInTime(t *testing.T) {
	hang := newGate(t)
	toml := strings.Replace(preamble, `timeout = "5s"`, `timeout = "600ms"`, 1) +
		route("short", hang.url, "forms = [\"id:short\"]\ntimeout = \"400ms\"", "") +
		route("long", hang.url, "forms = [\"id:long\"]", "")
	d := start(t, toml)
	for _, c := range []struct {
		form string
		wait time.Duration
		says string
		hint string
	}{
		{"short", 400 * time.Millisecond, "no answer within 400 milliseconds", "routes.short.timeout is 400ms"},
		{"long", 600 * time.Millisecond, "no answer within 600 milliseconds", "hooks.demo.timeout is 600ms"},
	} {
		t.Run(c.form, func(t *testing.T) {
			// Of three, the best counts: the machine may be busy with other things.
			late := time.Hour
			for range 3 {
				a := d.update(c.form, transport.Timeout)
				contains(t, "detail", a.Detail, c.says, "Hookline keeps trying")
				contains(t, "hint", a.Hint, c.hint)
				if a.took < c.wait {
					t.Errorf("answered after %s, before %s", a.took, c.wait)
				}
				late = min(late, a.took-c.wait)
				if a.Deliveries[0].Attempts != 1 || a.Deliveries[0].Status != core.StateUnknown {
					t.Errorf("deliveries %+v", a.Deliveries)
				}
			}
			t.Logf("at best %s late", late)
			if late > 50*time.Millisecond {
				t.Errorf("answered %s late", late)
			}
		})
	}
}
