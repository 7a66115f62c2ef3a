package app_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/hookline/hookline/core"
	"github.com/hookline/hookline/plugins/target/targettest"
	"github.com/hookline/hookline/plugins/transport"
)

const unkept = "[journal]\nurl = \"none\"\n"

// formTarget is a target that does what the form of the event says: a status, or a word.
func formTarget(t testing.TB) *target {
	var to *target
	over := make(chan struct{})
	to = newTarget(t, func(n int, w http.ResponseWriter, r *http.Request) {
		form, first := "", true
		for _, r := range to.got()[:n] {
			var ev struct {
				FormID string `json:"form_id"`
			}
			_ = json.Unmarshal(r.body, &ev)
			first = ev.FormID != form // one form comes after the other
			form = ev.FormID
		}
		switch form {
		case "recovers":
			if first {
				w.WriteHeader(http.StatusServiceUnavailable)
			}
		case "paused":
			if first {
				w.Header().Set("Retry-After", "1")
				w.WriteHeader(http.StatusTooManyRequests)
			}
		case "hangs", "budget":
			select {
			case <-r.Context().Done():
			case <-over:
			}
		case "reset", "half":
			c, _, err := w.(http.Hijacker).Hijack()
			if err != nil {
				t.Error(err)
				return
			}
			if form == "reset" {
				_ = c.(*net.TCPConn).SetLinger(0)
			} else {
				_, _ = c.Write([]byte("HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf of it"))
			}
			_ = c.Close()
		case "429":
			w.Header().Set("Retry-After", "3600")
			w.WriteHeader(http.StatusTooManyRequests)
		default:
			if code, err := strconv.Atoi(form); err == nil {
				w.WriteHeader(code)
			}
		}
	})
	t.Cleanup(func() { close(over) })
	return to
}

// Without a journal every outcome is final when it is answered: nothing is accepted for
// later, nothing promised, and a 2xx means that the target has it, or that nothing was
// to be sent.
func TestOutcomesWithoutAJournal(t *testing.T) {
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cert, key := certificate(t, "self-signed", time.Now().Add(-time.Hour), time.Now().Add(time.Hour))
	ehr, busy := formTarget(t), newGate(t)
	down := "http://" + targettest.ClosedAddr(t)

	toml := preamble + unkept + `
[hooks.brief]
study = "ABC-123"
email = "` + hookEmail + `"
password = "env:HOOK_PASSWORD"
timeout = "500ms"
unmatched = "error"
[transports.crash]
plugin = "` + exe + `"
label = "Target crash"
args = ["` + modeVendor + `"]
settings = { word = "crash" }
`
	for _, tr := range []struct{ name, url, limits string }{
		{"ehr", ehr.url, ""},
		{"down", down, "circuit = { failures = 1 }"}, // it must not open: nothing can wait for its end
		{"down-limited", down, "rate = 0.01"},
		{"dns", "http://ehr.hookline.invalid", ""},
		{"tls", tlsTarget(t, cert, key), ""},
		{"limited", ehr.url, "rate = 0.01"},
		{"busy", busy.url, "concurrency = 1"},
	} {
		toml += fmt.Sprintf("[transports.%s]\nplugin = \"http\"\nlabel = \"Target %[1]s\"\n%s\nsettings = { url = %q }\n", tr.name, tr.limits, tr.url)
	}
	for _, r := range []struct{ name, transport, forms, more string }{
		{"ehr", "ehr", `"ok", "two", "one-fails", "one-is-full", "recovers", "paused", "budget", "reset", "half", "301", "401", "404", "422", "429", "500", "503"`, ""},
		{"script", "ehr", `"two", "shaped", "skip", "reject", "throw", "nothing", "loop", "part", "part-503"`, `transform = "shape.js"`},
		{"short", "ehr", `"hangs"`, `timeout = "300ms"`},
		{"down", "down", `"down", "one-fails"`, ""},
		{"down-limited", "down-limited", `"down-limited"`, ""},
		{"dns", "dns", `"dns"`, ""},
		{"tls", "tls", `"tls"`, ""},
		{"limited", "limited", `"limited", "one-is-full"`, ""},
		{"busy", "busy", `"busy"`, ""},
		{"crash", "crash", `"crash"`, ""},
	} {
		toml += fmt.Sprintf("[routes.%s]\nhooks = [\"demo\", \"brief\"]\ntransport = %q\nforms = [%s]\n%s\n", r.name, r.transport, r.forms, r.more)
	}
	d := start(t, toml, files{"shape.js": `
		const ok = { form_id: "ok" };
		export default function (event, ctx) {
			switch (event.form_id) {
			case "two":
			case "skip": return ctx.skip("not of this study");
			case "reject": return ctx.reject("the visit date is missing");
			case "throw": throw new Error("cannot handle " + event.subject);
			case "nothing": return;
			case "loop": for (;;) {}
			case "part": return [ctx.message(ok), ctx.message({ form_id: "422" })];
			case "part-503": return [ctx.message(ok), ctx.message({ form_id: "503" })];
			}
			return ok;
		}`})

	held := make(chan struct{})
	const not, maybe = "It was not received there. Hookline will not send it again: please tell your study team.", "It may have been received there. Hookline will not send it again: please tell your study team."
	for _, c := range []struct {
		form, hook string // of the event
		name       string // "" for the form
		before     func()
		status     int
		code       core.Code
		deliveries string // route, state, code and attempts of each
		sent       int    // requests that reached a target
		says       string
	}{
		{form: "ok", status: 200, code: transport.Delivered, deliveries: "ehr delivered delivered 1", sent: 1},
		{form: "shaped", status: 200, code: transport.Delivered, deliveries: "script delivered delivered 1", sent: 1},
		{form: "skip", status: 200, code: core.Skipped, deliveries: "script skipped skipped 0"},
		{form: "two", status: 200, code: transport.Delivered, deliveries: "ehr delivered delivered 1, script skipped skipped 0", sent: 1},
		{form: "nobody", status: 200, code: core.Ignored},
		{form: "nobody", hook: "brief", name: "unmatched", status: 422, code: core.Unmatched},
		{form: "reject", status: 422, code: core.RejectedByTransform, deliveries: "script rejected rejected_by_transform 0", says: "It was not sent to Target ehr: the visit date is missing."},

		// Surely not acted: one retry while the caller waits, and then the end.
		{form: "recovers", status: 200, code: transport.Delivered, deliveries: "ehr delivered delivered 2", sent: 2},
		{form: "paused", status: 200, code: transport.Delivered, deliveries: "ehr delivered delivered 2", sent: 2},
		{form: "down", status: 502, code: transport.ConnectionRefused, deliveries: "down dead connection_refused 2", says: not},
		{form: "down", name: "again, the circuit stays closed", status: 502, code: transport.ConnectionRefused, deliveries: "down dead connection_refused 2", says: not},
		{form: "dns", status: 502, code: transport.DNSError, deliveries: "dns dead dns_error 2", says: not},
		{form: "tls", status: 502, code: transport.TLSError, deliveries: "tls dead tls_error 2", says: not},
		{form: "503", status: 503, code: transport.ThrottledByTarget, deliveries: "ehr dead throttled_by_target 2", sent: 2, says: not},
		{form: "429", status: 503, code: transport.ThrottledByTarget, deliveries: "ehr dead throttled_by_target 1", sent: 1, says: not},
		{form: "down-limited", name: "no place for the retry", status: 502, code: transport.ConnectionRefused, deliveries: "down-limited dead connection_refused 1", says: not},
		{form: "down-limited", name: "no place for the first attempt", status: 503, code: core.Overloaded, deliveries: "down-limited dead overloaded 0", says: not},

		// Sent, no answer: it may have been received, and that is said.
		{form: "hangs", status: 504, code: transport.Timeout, deliveries: "short unknown timeout 1", sent: 1, says: maybe},
		{form: "budget", hook: "brief", status: 504, code: transport.Timeout, deliveries: "ehr unknown timeout 1", sent: 1, says: maybe},
		{form: "reset", status: 502, code: transport.ConnectionReset, deliveries: "ehr unknown connection_reset 1", sent: 1, says: maybe},
		{form: "half", status: 502, code: transport.BadResponse, deliveries: "ehr unknown bad_response 1", sent: 1, says: maybe},
		{form: "500", status: 502, code: transport.TargetError, deliveries: "ehr unknown target_error 1", sent: 1, says: maybe},
		{form: "crash", status: 502, code: transport.PluginCrashed, deliveries: "crash unknown plugin_crashed 1", says: maybe},
		{form: "part-503", status: 503, code: transport.ThrottledByTarget, deliveries: "script unknown throttled_by_target 2", sent: 3, says: maybe},

		// For good.
		{form: "301", status: 502, code: transport.RedirectRefused, deliveries: "ehr dead redirect_refused 1", sent: 1, says: not},
		{form: "401", status: 502, code: transport.UnauthorizedByTarget, deliveries: "ehr dead unauthorized_by_target 1", sent: 1, says: not},
		{form: "404", status: 502, code: transport.NotFoundAtTarget, deliveries: "ehr dead not_found_at_target 1", sent: 1, says: not},
		{form: "422", status: 502, code: transport.RejectedByTarget, deliveries: "ehr dead rejected_by_target 1", sent: 1, says: not},
		{form: "part", status: 502, code: transport.RejectedByTarget, deliveries: "script dead rejected_by_target 1", sent: 2, says: maybe},
		{form: "throw", status: 500, code: core.TransformFailed, deliveries: "script dead transform_failed 0", says: not},
		{form: "nothing", status: 500, code: core.TransformFailed, deliveries: "script dead transform_failed 0", says: not},
		{form: "loop", status: 500, code: core.ScriptTimeout, deliveries: "script dead script_timeout 0", says: not},

		// No place at the transport.
		{form: "limited", status: 200, code: transport.Delivered, deliveries: "limited delivered delivered 1", sent: 1},
		{form: "limited", name: "rate", status: 503, code: core.Overloaded, deliveries: "limited dead overloaded 0", says: not},
		{form: "busy", hook: "brief", name: "concurrency", before: func() {
			go func() { _, _ = d.do(call{body: event("busy")}); close(held) }()
			busy.await(t)
		}, status: 503, code: core.Overloaded, deliveries: "busy dead overloaded 0", says: not},

		// Several routes: what arrived is told beside what failed.
		{form: "one-fails", status: 502, code: transport.ConnectionRefused, deliveries: "ehr delivered delivered 1, down dead connection_refused 2", sent: 1, says: "Target ehr received it. Target down has not confirmed it"},
		{form: "one-is-full", status: 503, code: core.Overloaded, deliveries: "ehr delivered delivered 1, limited dead overloaded 0", sent: 1, says: "Target ehr received it. Target limited has not confirmed it"},
	} {
		if c.name == "" {
			c.name = c.form
		}
		t.Run(c.name, func(t *testing.T) {
			if c.before != nil {
				c.before()
			}
			a := d.send(call{hook: c.hook, body: event(c.form)})
			var deliveries []string
			for _, del := range a.Deliveries {
				deliveries = append(deliveries, fmt.Sprint(del.Route, " ", del.Status, " ", del.Code, " ", del.Attempts))
				if !slices.Contains([]core.State{core.StateDelivered, core.StateSkipped, core.StateRejected, core.StateDead, core.StateUnknown}, del.Status) {
					t.Errorf("route %s is told as %s, and nobody will end it", del.Route, del.Status)
				}
			}
			if a.status != c.status || a.Status != c.status || a.Code != c.code || strings.Join(deliveries, ", ") != c.deliveries {
				t.Errorf("got %d %s with %q, want %d %s with %q", a.status, a.Code, deliveries, c.status, c.code, c.deliveries)
			}
			contains(t, "the answer", a.Detail, c.says)
			if strings.Contains(a.Detail, "keeps trying") || strings.Contains(a.Detail, "holds it") {
				t.Errorf("it promises what nobody keeps: %s", a.Detail)
			}
			if failed := a.header.Get("Content-Type") == "application/problem+json"; failed != (a.status != http.StatusOK) || failed && a.Detail == "" {
				t.Errorf("the answer is %d %v %s", a.status, a.header, a.body)
			}
			if n := len(slices.DeleteFunc(append(ehr.got(), busy.got()...), func(r request) bool { return r.header.Get("Hookline-Event-Id") != a.EventID })); n != c.sent {
				t.Errorf("%d requests reached a target, want %d", n, c.sent)
			}
		})
	}

	t.Run("unknown hook", func(t *testing.T) {
		a := d.send(call{hook: "other", body: event("ok")})
		if a.status != http.StatusNotFound || a.Code != core.UnknownHook || a.Deliveries == nil || len(a.Deliveries) != 0 {
			t.Errorf("the answer is %d %s", a.status, a.body)
		}
	})
	t.Run("the same id twice", func(t *testing.T) {
		id := http.Header{"Webhook-Id": {"msg_1"}}
		first, second := d.send(call{body: event("ok"), header: id}), d.send(call{body: event("ok"), header: id})
		if first.Code != transport.Delivered || second.Code != transport.Delivered || first.EventID == second.EventID {
			t.Errorf("the answers are %s and %s: what came before is not known here", first.body, second.body)
		}
	})
	busy.open()
	<-held
	d.app.Stop()
	if _, err := os.Stat(filepath.Join(d.dir, "hookline.db")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a journal is there: %v", err)
	}
}

// What only a journal can keep is refused where it is written. A reload may bring it
// together with a journal, which takes effect at the next start: until then nothing is
// promised either.
func TestPromisesWithoutAJournal(t *testing.T) {
	ehr := newTarget(t, nil)
	hang := newGate(t)
	promises := route("later", ehr.url, "forms = [\"id:later\"]\nmode = \"async\"", "") +
		route("long", hang.url, "forms = [\"id:long\"]\non_timeout = \"accept\"", "") +
		route("both", ehr.url, "forms = [\"id:long\"]\nmode = \"async\"", "")
	brief := strings.Replace(preamble, `timeout = "5s"`, `timeout = "500ms"`, 1)
	err := prepare(t, brief+unkept+promises).boot()
	if err == nil {
		t.Fatal("it started")
	}
	contains(t, "the error", err.Error(), "routes.later.mode: needs the journal", "routes.long.on_timeout: needs the journal")

	d := start(t, brief+unkept+route("ehr", ehr.url, "", ""))
	d.reload(brief + promises)
	d.logs.wait(t, "take effect at the next start", "journal.url")
	if a := d.update("later", transport.Delivered); a.status != http.StatusOK || len(ehr.got()) != 1 {
		t.Errorf("%d %s", a.status, a.body)
	}
	if a := d.update("long", transport.Timeout); a.status != http.StatusGatewayTimeout || a.Deliveries[0].Status != core.StateUnknown || a.Deliveries[1].Status != core.StateDelivered {
		t.Errorf("%d %s", a.status, a.body)
	}
}
