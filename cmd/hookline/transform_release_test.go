package main

import (
	"net/http"
	"strings"
	"testing"
)

func TestReleaseScript(t *testing.T) {
	s := newSite(t, "")
	s.status.Store(http.StatusOK)
	s.start()
	if code, out, errs := s.run("transform", "release", "transforms/ehr.js"); code != 1 || out != "" || !strings.Contains(errs, `"transforms/ehr.js" is not in quarantine`) {
		t.Errorf("exit %d %q %q", code, out, errs)
	}
	for _, args := range [][]string{{"transform", "release"}, {"transform", "release", "a", "b"}, {"transform", "relaese"}} {
		if code, _, errs := s.run(args...); code != 2 {
			t.Errorf("%v: exit %d %q", args, code, errs)
		}
	}
}
