package app_test

import (
	"context"
	"encoding/json"
	"errors"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/hookline/hookline/core"
	"github.com/hookline/hookline/core/app"
	"github.com/hookline/hookline/core/journal"
	"github.com/hookline/hookline/plugins/transport"
)

// Several messages of one event arrive in their order, each with its own id,
// headers and path. After a failure the delivery goes on where it stopped.
func TestSeveralMessages(t *testing.T) {
	ehr := newTarget(t, func(n int, w http.ResponseWriter, _ *http.Request) {
		if n == 2 {
			w.WriteHeader(http.StatusInternalServerError)
		}
	})
	d := start(t, preamble+route("ehr", ehr.url+"/base", quick+`transform = "t.js"`, ""), files{"t.js": `
		export default (event, ctx) => ["a", "b", "c"].map((name, i) => ctx.message(
			i === 1 ? "text " + name : { name, record: event.trans_id },
			{ path: "forms/" + name, headers: { "X-Part": String(i + 1) }, key: name, contentType: i === 2 ? "application/fhir+json" : undefined }));`})
	a := d.send(call{body: save("77", 1)})
	got := ehr.arrived(t, 4)
	id := got[0].header.Get("Webhook-Id")
	if id == "" || len(a.Deliveries) != 1 || a.Code == transport.Delivered {
		t.Errorf("the first message's id is %q, the answer %s", id, a.body)
	}
	for i, want := range []struct{ uri, id, part, contentType, body string }{
		{"/base/forms/a", id, "1", "application/json", `{"name":"a","record":"77"}`},
		{"/base/forms/b", id + "-2", "2", "text/plain; charset=utf-8", "text b"},
		{"/base/forms/b", id + "-2", "2", "text/plain; charset=utf-8", "text b"}, // again, as it failed
		{"/base/forms/c", id + "-3", "3", "application/fhir+json", `{"name":"c","record":"77"}`},
	} {
		r := got[i]
		if r.uri != want.uri || r.header.Get("Webhook-Id") != want.id || r.header.Get("X-Part") != want.part ||
			r.header.Get("Content-Type") != want.contentType || string(r.body) != want.body {
			t.Errorf("request %d: %s %v %s, want %+v", i+1, r.uri, r.header, r.body, want)
		}
	}
	d.update("319", transport.Delivered)
	if n := len(ehr.got()); n != 7 {
		t.Errorf("%d requests, want 7", n)
	}
}

const lookupScript = `export default (event, ctx) => ({ site: ctx.lookup("sites.csv").get(101).name, code: ctx.lookup("codes.json").male })`

// Lookup files are a part of the set: read at the start and at a reload, kept in
// the journal, seen in the revision.
func TestLookups(t *testing.T) {
	ehr := newTarget(t, nil)
	toml := preamble + "[transforms]\nlookups = \"lookups\"\n" + route("ehr", ehr.url, `transform = "t.js"`, "")
	d := prepare(t, toml, files{"t.js": lookupScript})
	if err := d.boot(); !errors.Is(err, fs.ErrNotExist) || !strings.Contains(err.Error(), "transforms.lookups: there is no folder "+filepath.Join(d.dir, "lookups")) {
		t.Fatal(err)
	}
	folder := filepath.Join(d.dir, "lookups")
	if err := os.Mkdir(folder, 0o700); err != nil {
		t.Fatal(err)
	}
	d.write("lookups/sites.csv", "site,name\n101,Berlin\n")
	d.write("lookups/codes.json", `{"male":"M"}`)
	if err := d.boot(); err != nil {
		t.Fatal(err)
	}
	sends := func(want string) {
		t.Helper()
		d.update("319", transport.Delivered)
		if got := ehr.got(); string(got[len(got)-1].body) != want {
			t.Errorf("the target got %s, want %s", got[len(got)-1].body, want)
		}
	}
	const first, second = `{"site":"Berlin","code":"M"}`, `{"site":"Paris","code":"M"}`
	sends(first)

	d.write("lookups/sites.csv", "site,name\n101,Paris\n")
	sends(first) // until the reload
	d.reload(toml)
	sends(second)

	d.write("lookups/sites.csv", "site,name\n101,Jane Doe,Rome\n")
	err := d.app.Reload(context.Background())
	if err == nil || !strings.Contains(err.Error(), "transforms.lookups: sites.csv:2: it has not as many fields") {
		t.Errorf("a bad file: %v", err)
	}
	sends(second)
	d.app.Stop()

	s, err := journal.Open(t.Context(), journal.Options{URL: "sqlite:" + d.dir + "/hookline.db", Log: discardSlog()})
	if err != nil {
		t.Fatal(err)
	}
	rows, _, err := s.Deliveries(t.Context(), journal.DeliveryFilter{})
	if err != nil || len(rows) != 4 {
		t.Fatal(rows, err)
	}
	revisions := map[string]string{} // revision -> content of sites.csv
	for _, row := range rows {
		set, err := s.SetOf(t.Context(), row.Revision, row.Event.ReceivedAt)
		if err != nil {
			t.Fatal(err)
		}
		content, err := s.Document(t.Context(), set.Lookups["sites.csv"])
		if err != nil || len(set.Lookups) != 2 || len(set.Scripts) != 1 {
			t.Fatal(set, err)
		}
		revisions[row.Revision] = string(content)
	}
	if len(revisions) != 2 {
		t.Errorf("the table is not in the revision: %v", revisions)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}

	// A start with bad files has those that were accepted last, whatever the
	// folder holds, if there is one.
	if err := os.RemoveAll(folder); err != nil {
		t.Fatal(err)
	}
	if err := d.boot(); err != nil {
		t.Fatal(err)
	}
	sends(second)
}

func TestWatchLookups(t *testing.T) {
	ehr := newTarget(t, nil)
	toml := strings.Replace(preamble, "[server]", "[server]\nwatch = true", 1) + "[transforms]\nlookups = \".\"\n" + route("ehr", ehr.url, `transform = "t.js"`, "")
	d := start(t, toml, files{"t.js": lookupScript, "sites.csv": "site,name\n101,Berlin\n", "codes.json": `{"male":"M"}`})
	stop := d.serve()
	eventually(t, "the file's change", func() bool {
		d.write("sites.csv", "site,name\n101,Oslo\n")
		d.update("319", transport.Delivered)
		got := ehr.got()
		return strings.Contains(string(got[len(got)-1].body), "Oslo")
	})
	if err := stop(); err != nil {
		t.Errorf("Run: %v", err)
	}
}

// A secret is for the scripts of the routes that grant it, and is seen at the
// target only.
func TestScriptSecrets(t *testing.T) {
	ehr := newTarget(t, nil)
	grant := "transform = \"t.js\"\nforms = [\"id:%s\"]\nsecrets = { token = \"env:EHR_TOKEN\" }"
	toml := preamble +
		route("granted", ehr.url, strings.Replace(grant, "%s", "granted", 1), "") +
		route("other", ehr.url, strings.Replace(strings.Replace(grant, "%s", "other", 1), "EHR_TOKEN", "OTHER_TOKEN", 1), "") +
		route("none", ehr.url, "transform = \"t.js\"\nforms = [\"id:none\"]", "") +
		route("loose", ehr.url, strings.Replace(strings.Replace(grant, "%s", "loose", 1), "t.js", "loose.js", 1), "")
	d := prepare(t, toml, files{
		"t.js": `export default (event, ctx) => ctx.message(event, { headers: { "X-Token": ctx.secret("token") } })`,
		"loose.js": `export default (event, ctx) => {
			ctx.log(ctx.secret("token"), encodeURIComponent(ctx.secret("token")), ctx.base64.encode(ctx.secret("token")));
			return ctx.reject("the token is " + ctx.secret("token"));
		}`,
	})
	const other = "0ther-t0ken-91ab"
	d.env = append(d.env, "OTHER_TOKEN="+other)
	if err := d.boot(); err != nil {
		t.Fatal(err)
	}
	sent := func(form string) string {
		t.Helper()
		d.update(form, transport.Delivered)
		got := ehr.got()
		return got[len(got)-1].header.Get("X-Token")
	}
	for range 3 {
		if got := sent("granted"); got != bearerToken {
			t.Errorf("granted: %q", got)
		}
		if got := sent("other"); got != other {
			t.Errorf("other: %q", got)
		}
	}
	d.update("none", core.TransformFailed)
	if a := d.update("loose", core.RejectedByTransform); !strings.Contains(a.Detail, "the token is [secret]") {
		t.Errorf("the user reads %q", a.Detail)
	}

	c, err := d.load()
	if err != nil {
		t.Fatal(err)
	}
	report, err := app.Check(t.Context(), c, discardSlog(), false)
	if err != nil {
		t.Fatal(err)
	}
	text, _ := json.Marshal(report)
	assertClean(t, "the check", string(text), other)

	// A reload resolves the reference anew.
	d.mu.Lock()
	d.env = append([]string{"OTHER_TOKEN=rotated-t0ken"}, d.env...)
	d.mu.Unlock()
	d.reload(toml)
	if got := sent("other"); got != "rotated-t0ken" {
		t.Errorf("after the rotation: %q", got)
	}
	assertClean(t, "the log", d.logs.String(), other, "rotated-t0ken")

	d.write("config.toml", strings.Replace(toml, "OTHER_TOKEN", "NOT_SET", 1))
	if err := d.app.Reload(context.Background()); err == nil || !strings.Contains(err.Error(), "routes.other.secrets.token: env:NOT_SET is not set") {
		t.Error(err)
	}
}
