package main

import (
	"net/http"
	"strings"
	"testing"

	"github.com/hookline/hookline/core"
)

// What an operator reads: the alerts that stand, where they go, and what to do. A
// restart says again what stands.
func TestAlerts(t *testing.T) {
	s := newSite(t, "alerts.transport = \"lab\"\n")
	s.status.Store(http.StatusBadRequest)
	s.start()
	if code, out, errs := s.run("alerts"); code != 0 || out != "" || errs != "no alert stands\n" {
		t.Fatalf("exit %d %q %q", code, out, errs)
	}
	a := s.send(`{"OnUpdate": true, "trans_id": "435", "form_id": "7"}`)
	s.await(a.Ref, "ehr", core.StateDead)
	s.daemon.stop()
	s.start()
	var out string
	s.until("the alert stands and was sent", func() bool {
		_, out, _ = s.run("alerts")
		return strings.Contains(out, "  yes   ")
	})
	for _, want := range []string{"SINCE", "dead   ehr      1      yes   " + a.Ref, "\ndead: 1 delivery on route ehr has been given up", "`hookline deliveries list --state dead --route ehr`"} {
		if !strings.Contains(out, want) {
			t.Errorf("it does not say %q:\n%s", want, out)
		}
	}
	if out := s.good("alerts", "--json"); !strings.Contains(out, `"transport": "lab"`) || !strings.Contains(out, `"alert": "dead"`) {
		t.Error(out)
	}
	if out := s.good("check"); !strings.Contains(out, "alerts → transport lab\n") {
		t.Error(out)
	}
	if code, _, errs := s.run("alerts", "list"); code != 2 || !strings.Contains(errs, "hookline alerts does not know") {
		t.Errorf("exit %d %s", code, errs)
	}
}
