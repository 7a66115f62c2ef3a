package app_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io/fs"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"github.com/hookline/hookline/core"
	"github.com/hookline/hookline/core/admin"
	"github.com/hookline/hookline/core/app"
	"github.com/hookline/hookline/examples/trialkit/standin"
	"github.com/hookline/hookline/plugins/transport"
)

// anyRecord is every record there is: one of form 319, with a name in it that no log
// may hold.
type anyRecord struct{}

func (anyRecord) Open(name string) (fs.File, error) {
	id := strings.TrimSuffix(name, ".json")
	return fstest.MapFS{name: {Data: fmt.Appendf(nil, `{"trans_id":%q,"form_id":319,"site":"042","subject":"Jane Doe"}`, id)}}.Open(name)
}

// newAPI starts TrialKit's API, and gives the table that names it.
func newAPI(t testing.TB) (api *standin.API, table string) {
	t.Helper()
	api = &standin.API{Email: apiEmail, Password: apiPassword, Header: "From-Access-Key", AccessKey: apiKey, Records: anyRecord{}}
	s := httptest.NewServer(api)
	t.Cleanup(s.Close)
	return api, trialkitTable(s.URL)
}

func trialkitTable(url string) string {
	return fmt.Sprintf("[hooks.demo.trialkit]\nurl = %q\nemail = %q\npassword = \"env:API_PASSWORD\"\naccess_key = \"env:API_KEY\"\n", url, apiEmail)
}

// enriching are the keys of a route that does.
const enriching = "enrich = true\ntransform = \"site.js\"\n" + quick

// site is its transform.
var site = files{"site.js": `export default (event, ctx) => event.record.site === "none"
	? ctx.skip("no site") : { id: event.trans_id, site: event.record.site, subject: event.record.subject }`}

func TestEnriched(t *testing.T) {
	api, table := newAPI(t)
	api.Before = func(string, int) { time.Sleep(200 * time.Millisecond) } // for the second route to come as well
	ehr, lab, raw := newTarget(t, nil), newTarget(t, nil), newTarget(t, nil)
	d := start(t, preamble+table+route("ehr", ehr.url, enriching, "")+route("lab", lab.url, enriching, "")+route("raw", raw.url, "", ""), site)
	body := event("319")
	a := d.send(call{body: body})
	if a.Code != transport.Delivered || len(a.Deliveries) != 3 {
		t.Fatalf("%d %s", a.status, a.body)
	}
	var id struct{ ID string }
	for _, got := range []*target{ehr, lab} {
		sent := got.got()
		if len(sent) != 1 || json.Unmarshal(sent[0].body, &id) != nil {
			t.Fatalf("%q", sent)
		}
		if want := fmt.Sprintf(`{"id":%q,"site":"042","subject":"Jane Doe"}`, id.ID); string(sent[0].body) != want {
			t.Errorf("sent %s, want %s", sent[0].body, want)
		}
	}
	if sent := raw.got(); len(sent) != 1 || !bytes.Equal(sent[0].body, body) {
		t.Errorf("a route without enrich sent %q", sent)
	}
	if got := api.Paths(); !slices.Equal(got, []string{"/form/7/" + id.ID}) {
		t.Errorf("requests %q: one was wanted for the event", got)
	}
	// Nothing is kept for the next event.
	d.update("319", transport.Delivered)
	if n := len(api.Paths()); n != 2 {
		t.Errorf("%d requests for two events", n)
	}
}

// What cannot be read keeps its delivery waiting: nothing is sent meanwhile, and the
// whole afterwards.
func TestEnrichFails(t *testing.T) {
	for fault, want := range map[standin.Fault]string{
		standin.Unauthorized: "hooks.demo.trialkit.email",
		standin.Forbidden:    "hooks.demo.trialkit.access_key",
		standin.OtherStudy:   "the default study of the API user hooks.demo.trialkit.email may be another one",
		standin.Broken:       "TrialKit's API answered 500",
		standin.Busy:         "TrialKit's API answered 503",
		standin.Huge:         "hooks.demo.trialkit.max_reply",
		standin.NotJSON:      "is not JSON",
		standin.Redirect:     "redirects are not followed",
		standin.Cut:          "broke off",
		standin.Slow:         "hooks.demo.trialkit.timeout is 100ms",
	} {
		t.Run(string(fault), func(t *testing.T) {
			t.Parallel()
			api, table := newAPI(t)
			api.Fail(fault)
			ehr := newTarget(t, nil)
			timeout := "2s"
			if fault == standin.Slow {
				timeout = "100ms"
			}
			d := start(t, preamble+table+"timeout = \""+timeout+"\"\n"+route("ehr", ehr.url, enriching, ""), site)
			a := d.update("319", core.EnrichFailed)
			if a.status != http.StatusBadGateway || a.Step != core.StepEnrich || a.Fault != core.FaultTarget {
				t.Errorf("%d %s", a.status, a.body)
			}
			contains(t, "the answer", a.Detail, "Target ehr has not confirmed it: the record could not be read from TrialKit. Hookline keeps trying; please do not enter it again.")
			contains(t, "the hint", a.Hint, "routes.ehr has enrich = true: ", want)
			contains(t, "the log", d.logs.wait(t, "delivery waiting", "because="), "code=enrich_failed")
			if n := len(ehr.got()); n != 0 {
				t.Fatalf("%d messages without their record", n)
			}
			api.Fail(standin.None)
			eventually(t, "the message with its record", func() bool { return len(ehr.got()) == 1 })
			contains(t, "the message", string(ehr.got()[0].body), `"site":"042"`)
		})
	}
}

// The caller's own time ends first: the answer comes by then, and names that setting.
func TestEnrichBudget(t *testing.T) {
	api, table := newAPI(t)
	api.Fail(standin.Slow)
	ehr := newTarget(t, nil)
	d := start(t, strings.Replace(preamble, `timeout = "5s"`, `timeout = "300ms"`, 1)+table+route("ehr", ehr.url, enriching, ""), site)
	a := d.update("319", core.EnrichFailed)
	contains(t, "the hint", a.Hint, "hooks.demo.timeout is 300ms")
	if a.took > 2*time.Second {
		t.Errorf("answered after %s", a.took)
	}
	api.Fail(standin.None)
	eventually(t, "the message", func() bool { return len(ehr.got()) == 1 })
}

// What was shaped is sent again as it is; the record is not read again.
func TestEnrichedOnce(t *testing.T) {
	api, table := newAPI(t)
	ehr := newTarget(t, func(n int, w http.ResponseWriter, _ *http.Request) {
		if n < 4 {
			w.WriteHeader(http.StatusServiceUnavailable)
		}
	})
	d := start(t, preamble+table+route("ehr", ehr.url, enriching, ""), site)
	d.update("319", transport.ThrottledByTarget)
	eventually(t, "four attempts", func() bool { return len(ehr.got()) == 4 })
	sent := ehr.got()
	for _, r := range sent[1:] {
		if !bytes.Equal(r.body, sent[0].body) {
			t.Errorf("%s, and then %s", sent[0].body, r.body)
		}
	}
	if n := len(api.Paths()); n != 1 {
		t.Errorf("the record was read %d times", n)
	}
}

// A delivery that never gets its record is given up by the route's policy, and
// without a journal at once.
func TestEnrichGivenUp(t *testing.T) {
	api, table := newAPI(t)
	api.Fail(standin.Broken)
	ehr := newTarget(t, nil)
	d := start(t, preamble+table+route("ehr", ehr.url, strings.Replace(enriching, `max = "100ms"`, `max = "30ms", attempts = 3`, 1), ""), site)
	d.update("319", core.EnrichFailed)
	d.logs.wait(t, "delivery dead", "code=enrich_failed")

	d = start(t, preamble+table+"[journal]\nurl = \"none\"\n"+route("ehr", ehr.url, "enrich = true\ntransform = \"site.js\"\n", ""), site)
	a := d.update("319", core.EnrichFailed)
	contains(t, "the answer", a.Detail, "It was not received there. Hookline will not send it again: please tell your study team.")
	if n := len(ehr.got()); n != 0 {
		t.Errorf("%d messages", n)
	}
}

// An explanation holds the record as it was read, also where nothing was sent.
func TestEnrichExplained(t *testing.T) {
	api, table := newAPI(t)
	ehr := newTarget(t, nil)
	const skips = `export default (event, ctx) => ctx.skip("of site " + event.record.site)`
	d := start(t, preamble+table+adminSocket+route("ehr", ehr.url, enriching, "")+
		route("none", ehr.url, "enrich = true\ntransform = \"skips.js\"\n", ""), site, files{"skips.js": skips})
	before := time.Now().Add(-time.Millisecond)
	a := d.update("319", transport.Delivered)
	client := admin.NewClient(filepath.Join(d.dir, "admin.sock"))
	var x *admin.Explanation
	eventually(t, "both outcomes", func() bool {
		var err error
		if x, err = client.Explain(t.Context(), a.Ref); err != nil {
			t.Fatal(err)
		}
		return !slices.ContainsFunc(x.Deliveries, func(d admin.ExplainedDelivery) bool { return d.EndedAt.IsZero() })
	})
	for _, delivery := range x.Deliveries {
		r := delivery.Read
		if r == nil || r.At.Before(before) || r.At.After(time.Now()) || r.Content.Size != len(r.Content.Text) || !strings.Contains(r.Content.Text, "Jane Doe") {
			t.Fatalf("%s: %+v", delivery.Route, r)
		}
	}
	if x.Deliveries[1].State != core.StateSkipped || !slices.ContainsFunc(x.Timeline, func(m admin.Moment) bool {
		return m.What == "read" && m.Route == "none" && strings.Contains(m.Text, "was read from TrialKit")
	}) {
		t.Errorf("%+v", x)
	}
	if n := len(api.Paths()); n == 0 || n > 2 {
		t.Errorf("%d requests", n)
	}
}

// Metrics and traces know how long the reading took.
func TestEnrichObserved(t *testing.T) {
	api, table := newAPI(t)
	collector := newCollector(t)
	ehr := newTarget(t, nil)
	d := start(t, preamble+table+adminSocket+fmt.Sprintf("[telemetry]\notlp = %q\n", collector.url)+route("ehr", ehr.url, enriching, ""), site)
	a := d.update("319", transport.Delivered)
	id := strings.ReplaceAll(a.EventID, "-", "")
	eventually(t, "the span", func() bool { return len(spansNamed(collector.got(), id, "enrich ehr")) == 1 })
	if got, _ := d.scrape(); got[`hookline_enrich_seconds_count{route="ehr"}`] != 1 {
		t.Errorf("%v readings", got[`hookline_enrich_seconds_count{route="ehr"}`])
	}
	api.Fail(standin.NotJSON)
	a = d.update("319", core.EnrichFailed)
	id = strings.ReplaceAll(a.EventID, "-", "")
	eventually(t, "the span of a failure", func() bool {
		all := spansNamed(collector.got(), id, "enrich ehr")
		return len(all) > 0 && attribute(all[0], "hookline.code") == "enrich_failed"
	})
	api.Fail(standin.None)
	eventually(t, "the message", func() bool { return len(ehr.got()) == 2 })
}

// A reload ends no reading that is under way; the next event is read by the new set.
func TestEnrichReload(t *testing.T) {
	api, table := newAPI(t)
	came, let := make(chan struct{}, 9), make(chan struct{})
	api.Before = func(string, int) { came <- struct{}{}; <-let }
	other, otherTable := newAPI(t)
	ehr := newTarget(t, nil)
	d := start(t, preamble+table+route("ehr", ehr.url, enriching, ""), site)
	answered := make(chan *answer, 1)
	go func() {
		a, err := d.do(call{body: event("319")})
		if err != nil {
			t.Error(err)
		}
		answered <- a
	}()
	<-came
	d.reload(preamble + otherTable + route("ehr", ehr.url, enriching, ""))
	d.update("319", transport.Delivered)
	close(let)
	if a := <-answered; a.Code != transport.Delivered {
		t.Errorf("%d %s", a.status, a.body)
	}
	if len(api.Paths()) != 1 || len(other.Paths()) != 1 {
		t.Errorf("%q and %q", api.Paths(), other.Paths())
	}
}

// An end waits for no API: what is read when server.drain_timeout is over stays
// waiting.
func TestEnrichStop(t *testing.T) {
	api, table := newAPI(t)
	came := make(chan struct{}, 9)
	api.Before = func(string, int) { came <- struct{}{} }
	api.Fail(standin.Slow)
	ehr := newTarget(t, nil)
	d := prepare(t, strings.Replace(preamble, "[hooks.demo]", "drain_timeout = \"100ms\"\n[hooks.demo]", 1)+
		table+"timeout = \"1m\"\n"+route("ehr", ehr.url, enriching+"mode = \"async\"\n", ""), site)
	d.cut = true
	if err := d.boot(); err != nil {
		t.Fatal(err)
	}
	d.update("319", core.Accepted)
	<-came
	begun := time.Now()
	d.app.Stop()
	if took := time.Since(begun); took > 5*time.Second {
		t.Errorf("Stop took %s", took)
	}
	if n := len(ehr.got()); n != 0 {
		t.Errorf("%d messages", n)
	}
}

// The example does what it says, with what its folder holds.
func TestEnrichExample(t *testing.T) {
	folder := filepath.Join("..", "..", "examples", "trialkit")
	secret := func(name string) string {
		text, err := os.ReadFile(filepath.Join(folder, name))
		if err != nil {
			t.Fatal(err)
		}
		return strings.TrimSpace(string(text))
	}
	s := httptest.NewServer(&standin.API{
		Email: "api@example.org", Password: secret("api-password"), Header: "From-Access-Key", AccessKey: secret("access-key"),
		Records: os.DirFS(filepath.Join(folder, "records")),
	})
	defer s.Close()
	ehr := newTarget(t, nil)
	d := prepare(t, "")
	d.path, d.strict = filepath.Join(folder, "hookline.toml"), true
	d.env = append(d.env, "HOOKLINE__SERVER__LISTEN=tcp://127.0.0.1:0", "HOOKLINE__ADMIN__LISTEN=off", "HOOKLINE__HOOKS__DEMO__PASSWORD=env:HOOK_PASSWORD",
		"HOOKLINE__HOOKS__DEMO__TRIALKIT__URL="+s.URL, "HOOKLINE__TRANSPORTS__EHR__SETTINGS__URL="+ehr.url)
	if err := d.boot(); err != nil {
		t.Fatal(err)
	}
	if a := d.send(call{body: sample(t, "update")}); a.Code != core.Accepted {
		t.Fatalf("%d %s", a.status, a.body)
	}
	eventually(t, "the message", func() bool { return len(ehr.got()) == 1 })
	if got := string(ehr.got()[0].body); got != `{"record":"435","site":"042","subject":"S-0017","date":"2026-03-02","pressure":[128,81]}` {
		t.Error(got)
	}
}

// Check tells of the section, and refuses what it cannot use.
func TestEnrichCheck(t *testing.T) {
	_, table := newAPI(t)
	ehr := newTarget(t, nil)
	d := prepare(t, preamble+table+route("ehr", ehr.url, enriching, ""), site)
	c, err := d.load()
	if err != nil {
		t.Fatal(err)
	}
	report, err := app.Check(context.Background(), c, slog.New(slog.DiscardHandler), false)
	if err != nil || len(report.TrialKit) != 1 || report.TrialKit[0].Hook != "demo" || !slices.Equal(report.TrialKit[0].Routes, []string{"ehr"}) {
		t.Fatalf("%+v %v", report, err)
	}
	d.write("config.toml", preamble+table+"record_path = \"form/7\"\naccess_key_header = \"a b\"\n"+route("ehr", ehr.url, enriching, ""))
	if c, err = d.load(); err != nil {
		t.Fatal(err)
	}
	_, err = app.Check(context.Background(), c, slog.New(slog.DiscardHandler), false)
	contains(t, "the error", fmt.Sprint(err), "hooks.demo.trialkit.record_path: must hold {trans_id}", "hooks.demo.trialkit.access_key_header: must be the name of a header")
}
