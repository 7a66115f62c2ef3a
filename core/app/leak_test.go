package app_test

import (
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/crypto/bcrypt"

	"github.com/hookline/hookline/core"
	"github.com/hookline/hookline/core/admin"
	"github.com/hookline/hookline/core/journal"
	"github.com/hookline/hookline/plugins/transport"
)

// What people and systems around a record say, beside recordContents.
var saidContents = []string{"Reply-of-a-target", "thrown: Jane Doe", "skipped as Jane Doe", "rejected for Jane Doe", operatorReason}

// TestNothingLeaks drives contents and secrets through everything that can go wrong
// with them, and looks at all that a daemon shows to those who may not read them:
// its log, metrics, traces, alerts, audit, and every call of a viewer.
func TestNothingLeaks(t *testing.T) {
	const viewer = "viewer-Pa55word-0f3d"
	hash, err := bcrypt.GenerateFromPassword([]byte(viewer), bcrypt.MinCost)
	if err != nil {
		t.Fatal(err)
	}
	collector, o := newCollector(t), newOps(t)
	ehr := newTarget(t, func(_ int, w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(http.StatusBadRequest)
		fmt.Fprint(w, "Reply-of-a-target about Jane Doe")
	})
	d := alerted(t, preamble+"[journal]\nnode = \"n1\"\n[admin]\nlisten = [\"unix:admin.sock\", \"tcp://127.0.0.1:0\"]\n"+
		fmt.Sprintf("[admin.users.vera]\npassword = %q\nrole = \"viewer\"\n", hash)+
		fmt.Sprintf("[telemetry]\notlp = %q\nheaders = { authorization = \"env:EHR_TOKEN\" }\n", collector.url)+o.section("")+
		route("ehr", ehr.url, "transform = \"shape.js\"\non_dead = \"hold\"", basicAuth),
		files{"shape.js": `export default (event, ctx) => {
			ctx.log("seen: Jane Doe");
			if (event.form_id == "2") throw new Error("thrown: Jane Doe");
			if (event.form_id == "3") return ctx.skip("skipped as Jane Doe");
			if (event.form_id == "4") return ctx.reject("rejected for Jane Doe");
			return event;
		}`})
	refs := map[string]string{}
	for form, code := range map[string]core.Code{
		"1": transport.RejectedByTarget, "2": core.TransformFailed, "3": core.Skipped, "4": core.RejectedByTransform,
	} {
		body := fmt.Appendf(nil, `{"OnUpdate":true,"trans_id":"r%s","form_id":%q,"form_name":"Sample Form","subject":"Jane Doe"}`, form, form)
		a := d.send(call{body: body})
		if a.Code != code {
			t.Fatalf("form %s: %d %s", form, a.status, a.body)
		}
		refs[form] = a.Ref
	}
	refused := d.send(call{body: []byte(`{"trans_id":"9","subject":"Jane Doe"}`)})
	refs["refused"] = refused.Ref
	d.knock("demo", 6)
	client := d.admin()
	held, err := client.Deliveries(t.Context(), journal.DeliveryFilter{Event: refs["1"]})
	if err != nil || len(held.Deliveries) != 1 {
		t.Fatalf("%+v, %v", held, err)
	}
	if _, err := client.Cancel(t.Context(), admin.Act{IDs: []string{held.Deliveries[0].ID}, Reason: operatorReason}); err != nil {
		t.Fatal(err)
	}
	o.await(t, "unauthorized demo raised")
	o.await(t, "dead ehr raised")
	eventually(t, "the spans", func() bool { return len(collector.got()) >= 8 })

	// All calls that a viewer may make, with all that they may name.
	dial := "http://" + d.app.AdminAddrs()[0].String()
	get := func(path string) string {
		t.Helper()
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, dial+path, http.NoBody)
		if err != nil {
			t.Fatal(err)
		}
		req.SetBasicAuth("vera", viewer)
		resp, err := d.client.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = resp.Body.Close() }()
		text, err := io.ReadAll(resp.Body)
		if err != nil {
			t.Fatal(err)
		}
		return fmt.Sprint(resp.StatusCode, " ", string(text))
	}
	// A form's name is no content to an operator: it is how they find it.
	hidden := append([]string{"Jane Doe", viewer}, saidContents...)
	for _, path := range []string{"/v1/status", "/v1/alerts", "/v1/events", "/v1/deliveries", "/v1/journal/stats", "/v1/audit/verify", "/metrics"} {
		text := get(path)
		if !strings.HasPrefix(text, "200 ") {
			t.Errorf("%s: %s", path, text)
		}
		assertClean(t, path, text, hidden...)
	}
	for form, ref := range refs {
		text := get("/v1/events/" + ref)
		if !strings.HasPrefix(text, "200 ") {
			t.Errorf("event of form %s: %s", form, text)
		}
		assertClean(t, "the event of form "+form, text, hidden...)
		for _, part := range []string{"/body", "/explain"} {
			if text := get("/v1/events/" + ref + part); !strings.HasPrefix(text, "403 ") {
				t.Errorf("%s of form %s: %s", part, form, text)
			}
		}
	}
	if text := get("/v1/audit/export"); !strings.HasPrefix(text, "403 ") {
		t.Error(text)
	}
	trail, err := client.Export(t.Context(), time.Time{}, time.Time{})
	if err != nil {
		t.Fatal(err)
	}
	// Operators' reasons are the audit's own; contents are not.
	assertClean(t, "the audit", string(trail), "Jane Doe", "Reply-of-a-target", "Sample Form", viewer)
	assertClean(t, "the log", d.logs.String(), hidden...)
	for _, s := range collector.got() {
		assertClean(t, "a span", s.String(), append(hidden, recordContents...)...)
	}
	_, all := o.messages(t) // looks at them too
	if len(all) < 2 {
		t.Errorf("%d alerts", len(all))
	}

	// One who may read does see them: the test would otherwise find nothing anywhere.
	for form, reason := range map[string]string{"2": "Error: thrown: Jane Doe", "3": "skipped as Jane Doe", "4": "rejected for Jane Doe"} {
		seen, err := client.Event(t.Context(), refs[form])
		if err != nil || len(seen.Deliveries) != 1 || seen.Deliveries[0].Reason != reason || !slices.Equal(seen.Deliveries[0].Logs, []string{"seen: Jane Doe"}) {
			t.Errorf("form %s: %+v, %v", form, seen, err)
		}
	}
}
