package admin

import (
	"strings"
	"testing"
	"time"

	"github.com/hookline/hookline/core"
)

func TestHeadline(t *testing.T) {
	at := func(s int) Time { return Time{time.Date(2026, 1, 31, 8, 30, s, 0, time.UTC)} }
	facts := EventFacts{TransID: "435", Kind: core.Update, FormName: "Labs", FormID: "319", ReceivedAt: at(0), Hook: "demo"}
	delivery := func(state core.State, code core.Code, attempts int, end bool, acts ...Done) ExplainedDelivery {
		d := ExplainedDelivery{Label: "Hospital EHR"}
		d.State, d.Code, d.Attempts, d.Acts = state, code, attempts, acts
		if end {
			d.EndedAt = at(9)
		}
		return d
	}
	for _, tt := range []struct {
		d    ExplainedDelivery
		want string
	}{
		{delivery(core.StateDelivered, "delivered", 3, true), "delivered to Hospital EHR on the third attempt at 2026-01-31 08:30:09 UTC"},
		{delivery(core.StateDelivered, "delivered", 22, true), "delivered to Hospital EHR on the 22nd attempt at 2026-01-31 08:30:09 UTC"},
		{delivery(core.StateDelivered, "delivered", 111, false), "delivered to Hospital EHR on the 111th attempt"},
		{delivery(core.StateQueued, "", 0, false), "queued for Hospital EHR"},
		{delivery(core.StateRunning, "", 0, false), "being sent to Hospital EHR"},
		{delivery(core.StateWaiting, "target_error", 1, false), "to be sent to Hospital EHR again after one attempt (target_error)"},
		{delivery(core.StateUnknown, "timeout", 2, false), "sent to Hospital EHR and not confirmed after 2 attempts (timeout)"},
		{delivery(core.StateHeld, "", 0, false), "held for Hospital EHR until somebody decides"},
		{delivery(core.StateSkipped, "skipped", 0, true), "not sent to Hospital EHR, as its script decided at 2026-01-31 08:30:09 UTC"},
		{delivery(core.StateRejected, "rejected_by_transform", 0, true), "refused by the script for Hospital EHR at 2026-01-31 08:30:09 UTC"},
		{delivery(core.StateDead, "transform_failed", 0, true), "given up for Hospital EHR after no attempt (transform_failed) at 2026-01-31 08:30:09 UTC"},
		{
			delivery(core.StateCancelled, "timeout", 1, true, Done{Actor: "berta", Now: core.StateQueued}, Done{Actor: "anna", Now: core.StateCancelled}),
			"ended for Hospital EHR by anna after one attempt at 2026-01-31 08:30:09 UTC",
		},
	} {
		if got := outcome(&tt.d); got != tt.want {
			t.Errorf("%s: %q, want %q", tt.d.State, got, tt.want)
		}
	}

	x := &Explanation{EventFacts: facts, Deliveries: []ExplainedDelivery{delivery(core.StateQueued, "", 0, false), delivery(core.StateHeld, "", 0, false)}}
	x.Answer = &Answer{Status: 502, Code: "target_error", At: at(2)}
	want := "Record 435, update on form Labs, received 2026-01-31 08:30:00 UTC by hook demo: told the site 502 target_error at 2026-01-31 08:30:02 UTC; " +
		"queued for Hospital EHR; held for Hospital EHR until somebody decides."
	if got := headline(x); got != want {
		t.Errorf("%s\nwant %s", got, want)
	}
	x.Answer, x.Deliveries, x.FormName = nil, nil, ""
	if got := headline(x); !strings.HasSuffix(got, "update on form 319, received 2026-01-31 08:30:00 UTC by hook demo: the site was not answered, or not yet; no route took it.") {
		t.Error(got)
	}
	x.Refused = &Refusal{Code: "invalid_event", Key: "trans_id", Rule: "is missing"}
	if got := headline(x); got != "Received 2026-01-31 08:30:00 UTC by hook demo and refused as invalid_event: trans_id is missing; the site was not answered, or not yet." {
		t.Error(got)
	}
}
