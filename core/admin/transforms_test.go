package admin_test

import (
	"errors"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/hookline/hookline/core/admin"
)

// TestReleaseScript: it is done, and it is on record who did it and why.
func TestReleaseScript(t *testing.T) {
	f := openOffice(t)
	client := admin.NewClient(f.settings.Path)
	done, err := client.ReleaseScript(t.Context(), admin.Release{Script: bad.Script, Reason: "mended the target"})
	if err != nil || len(done.Released) != 1 || done.Released[0].Script != bad.Script {
		t.Fatalf("%+v, %v", done, err)
	}
	if !slices.Equal(f.released, []string{bad.Script}) {
		t.Errorf("released: %q", f.released)
	}
	trail := f.send(f.request(http.MethodGet, "/v1/audit/export", "aud", password, ""))
	if !strings.Contains(trail.body, "release script "+bad.Script) || !strings.Contains(trail.body, "mended the target") {
		t.Errorf("the audit does not tell of it: %s", trail.body)
	}
	status, err := client.Status(t.Context())
	if err != nil || len(status.Quarantined) != 1 || status.Quarantined[0].Why != bad.Why {
		t.Errorf("%+v, %v", status, err)
	}

	for _, c := range []struct {
		call   admin.Release
		status int
		want   string
	}{
		{admin.Release{Script: "transforms/good.js"}, http.StatusNotFound, "is not in quarantine"},
		{admin.Release{}, http.StatusBadRequest, "script is missing"},
		{admin.Release{Script: bad.Script, Reason: "two\nlines"}, http.StatusBadRequest, "one line"},
	} {
		_, err := client.ReleaseScript(t.Context(), c.call)
		var refused *admin.Error
		if !errors.As(err, &refused) || refused.Status != c.status || !strings.Contains(refused.Text, c.want) {
			t.Errorf("%+v: %v", c.call, err)
		}
	}
	if len(f.released) != 1 {
		t.Errorf("released: %q", f.released)
	}
}
