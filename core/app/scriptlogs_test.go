package app_test

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/hookline/hookline/core"
	"github.com/hookline/hookline/core/admin"
	"github.com/hookline/hookline/plugins/transport"
)

// What a script has logged, and thrown, is with its delivery for those who may read,
// until it goes with what was sent.
func TestScriptLogs(t *testing.T) {
	ehr := newTarget(t, nil)
	d := start(t, strings.Replace(preamble, "timeout", "retention = { sent = \"30d\" }\ntimeout", 1)+
		route("ehr", ehr.url, "transform = \"shape.js\"", ""), files{"shape.js": `export default (event, ctx) => {
			ctx.log("form", event.form_id);
			console.log("of", event.trans_id, { subject: "Jane Doe" });
			if (event.form_id == "2") throw new Error("thrown: Jane Doe");
			return event;
		}`})
	client := d.operator()
	reasons := map[string]string{"1": "", "2": "Error: thrown: Jane Doe"}
	refs := map[string]string{"1": d.update("1", transport.Delivered).Ref, "2": d.update("2", core.TransformFailed).Ref}
	for form, ref := range refs {
		var got admin.DeliveryDetail
		eventually(t, "the outcome", func() bool {
			seen, err := client.Event(t.Context(), ref)
			if err != nil {
				t.Fatal(err)
			}
			got = seen.Deliveries[0]
			return !got.EndedAt.IsZero()
		})
		if len(got.Logs) != 2 || got.Logs[0] != "form "+form || !strings.Contains(got.Logs[1], "Jane Doe") || got.Reason != reasons[form] {
			t.Errorf("form %s: %q, %q", form, got.Logs, got.Reason)
		}
		x, err := client.Explain(t.Context(), ref)
		if err != nil || !slices.Equal(x.Deliveries[0].Logs, got.Logs) || x.Deliveries[0].Reason != got.Reason {
			t.Errorf("form %s: %+v, %v", form, x, err)
		}
	}
	d.inJournal("update events set received_at = received_at - ?", (40 * 24 * time.Hour).Microseconds())
	if _, err := client.Prune(t.Context(), false, nil); err != nil {
		t.Fatal(err)
	}
	for form, ref := range refs {
		seen, err := client.Event(t.Context(), ref)
		if err != nil {
			t.Fatal(err)
		}
		if got := seen.Deliveries[0]; got.Logs != nil || got.Reason != "" || got.Position != "" {
			t.Errorf("form %s, pruned: %q, %q, %q", form, got.Logs, got.Reason, got.Position)
		}
	}
	assertClean(t, "the log", d.logs.String(), "Jane Doe")
}
