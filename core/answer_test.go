package core

import (
	"bytes"
	"encoding/json"
	"math"
	"net/http"
	"strings"
	"testing"
	"time"
)

// A caller that sends an event again may find its delivery held before any attempt, or
// with the code of another version. Either way the answer has a status.
func TestComposeAlwaysHasAStatus(t *testing.T) {
	ev := &Event{ID: "e", Ref: "K7QF2M9X", Hook: &Hook{}, FormID: "319", TransID: "435"}
	route := &Route{Name: "ehr", Transport: &Transport{Name: "ehr", Label: "Hospital EHR"}}
	for _, tt := range []struct {
		name    string
		outcome Outcome
		status  int
		code    Code
	}{
		{"held before the first attempt", Outcome{State: StateHeld, Outlook: OutlookHeld}, http.StatusAccepted, Accepted},
		{"held while it was queued", Outcome{State: StateHeld, Code: Accepted, Outlook: OutlookHeld}, http.StatusAccepted, Accepted},
		{"cancelled before the first attempt", Outcome{State: StateCancelled}, http.StatusOK, Skipped},
		{"a code of another version", Outcome{State: StateDead, Code: "of_the_future"}, http.StatusInternalServerError, Internal},
	} {
		tt.outcome.Route = route
		a := Compose(ev, []Outcome{tt.outcome})
		if a.Status != tt.status || a.Code != tt.code || a.Failed() != (tt.status >= 400) {
			t.Errorf("%s: %d %s, failed %v", tt.name, a.Status, a.Code, a.Failed())
		}
	}
}

func TestNoPauseIsForEver(t *testing.T) {
	retry := Retry{Initial: time.Second, Factor: 2, Max: time.Minute, MaxAge: 3 * 24 * time.Hour}
	if pause, again := retry.pause(1, 0, math.MaxInt64); !again || pause != longestAsked {
		t.Errorf("a target that asks for 292 years gets %v, %v", pause, again)
	}
	if _, again := retry.pause(1, 3*24*time.Hour, math.MaxInt64); again {
		t.Error("beyond max_age it is tried again")
	}
}

// An answer is written as encoding/json would.
func TestAnswerJSON(t *testing.T) {
	full := Answer{
		Type: "urn:hookline:problem:timeout", Title: "Protocol Error", Status: 504, Detail: `Your entry in "A <b> & c" é`,
		Hint: "routes.ehr.timeout is 10s\\\x00\x7f\u2028\xff", Code: "timeout", Step: "transport", Fault: "target",
		EventID: "1", Ref: "K7QF2M9X",
	}
	one := DeliveryReport{Route: "ehr", Transport: "x\n", Status: "delivered", Code: "delivered", Reason: "\t😀", Attempts: 2, DurationMS: -3}
	answers := []Answer{{Deliveries: []DeliveryReport{}}, {Status: 200, Code: "delivered", Deliveries: []DeliveryReport{one, {}, one}}}
	full.Deliveries = []DeliveryReport{one}
	for _, a := range append(answers, full) {
		var want bytes.Buffer
		enc := json.NewEncoder(&want)
		enc.SetEscapeHTML(false)
		if err := enc.Encode(a); err != nil {
			t.Fatal(err)
		}
		if got := string(a.AppendJSON([]byte("before "))); got != "before "+strings.TrimSuffix(want.String(), "\n") {
			t.Errorf("got\n%s\nwant\n%s", got, want.String())
		}
	}
}
