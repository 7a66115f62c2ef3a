package app_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/hookline/hookline/core"
	"github.com/hookline/hookline/core/admin"
	"github.com/hookline/hookline/plugins/transport"
)

// stuck does not obey its deadline in events of form 1.
const stuck = `export default (event) => {
	if (event.form_id !== "1") return event;
	let n = 0;
	return Array.prototype.indexOf.call({ get length() { return n++ ? 1e12 : 1; } }, 1);
};`

const stuckRoute = "transform = \"shape.js\"\nscript_timeout = \"100ms\"\n" + quick

// held are the scripts in quarantine.
func (d *daemon) held() (all []admin.Quarantined) {
	d.t.Helper()
	status, err := d.operator().Status(d.t.Context())
	if err != nil {
		d.t.Fatal(err)
	}
	return status.Quarantined
}

// restart ends the daemon and starts it again on what it has left.
func (d *daemon) restart() {
	d.t.Helper()
	d.client.CloseIdleConnections()
	d.app.Stop()
	if err := d.boot(); err != nil {
		d.t.Fatal(err)
	}
}

// A quarantine lasts until the script changes or an operator releases it, whatever
// becomes of the daemon, and the audit knows of both.
func TestQuarantineOutlivesTheDaemon(t *testing.T) {
	ehr := newTarget(t, nil)
	d := start(t, preamble+route("ehr", ehr.url, stuckRoute, ""), files{"shape.js": stuck})
	for range 2 {
		d.update("1", core.ScriptTimeout)
	}
	before := d.held()
	if len(before) != 1 || before[0].Script != "shape.js" {
		t.Fatalf("%+v", before)
	}
	d.restart()
	if after := d.held(); len(after) != 1 || after[0].Hash != before[0].Hash || after[0].Why != before[0].Why ||
		after[0].Since.Sub(before[0].Since.Time).Abs() > time.Millisecond {
		t.Fatalf("%+v, and before the restart %+v", after, before)
	}
	waits := d.update("2", core.TransformFailed)
	if waits.Deliveries[0].Status != core.StateWaiting {
		t.Errorf("%s", waits.body)
	}
	if n := strings.Count(d.logs.String(), "a script has cost its process"); n != 2 {
		t.Errorf("the script cost %d processes", n)
	}

	// Another version is free, and the first one is not when it comes back.
	d.write("shape.js", stuck+"\n// mended")
	d.restart()
	if held := d.held(); len(held) != 0 {
		t.Errorf("another version: %+v", held)
	}
	d.update("2", transport.Delivered)
	d.write("shape.js", stuck)
	d.restart()
	if held := d.held(); len(held) != 1 {
		t.Errorf("the same bytes again: %+v", held)
	}

	released, err := d.operator().ReleaseScript(t.Context(), admin.Release{Script: "shape.js", Reason: "form 1 is gone"})
	if err != nil || len(released.Released) != 1 {
		t.Fatal(released, err)
	}
	d.restart()
	if held := d.held(); len(held) != 0 {
		t.Errorf("after its release: %+v", held)
	}
	d.update("2", transport.Delivered)
	trail, err := d.operator().Export(t.Context(), time.Time{}, time.Time{})
	if err != nil {
		t.Fatal(err)
	}
	contains(t, "the audit", string(trail), `"actor":"daemon","act":"quarantine"`, `"act":"unquarantine"`, "release script shape.js", "form 1 is gone")
	if v, err := d.operator().Verify(t.Context()); err != nil || len(v.Findings) > 0 {
		t.Errorf("%+v, %v", v, err)
	}
}

// Without a journal there is nothing to keep it in.
func TestQuarantineWithoutAJournal(t *testing.T) {
	ehr := newTarget(t, nil)
	d := start(t, preamble+"[journal]\nurl = \"none\"\n"+route("ehr", ehr.url, "transform = \"shape.js\"\nscript_timeout = \"100ms\"\n", ""), files{"shape.js": stuck})
	for range 2 {
		d.update("1", core.ScriptTimeout)
	}
	if held := d.held(); len(held) != 1 {
		t.Errorf("%+v", held)
	}
	d.restart()
	if held := d.held(); len(held) != 0 {
		t.Errorf("after a restart: %+v", held)
	}
}

// The daemons of a shared journal have the same scripts in quarantine.
func TestQuarantineOfASharedJournal(t *testing.T) {
	url := postgresSchema(t)
	if url == "" {
		return
	}
	ehr := newTarget(t, nil)
	toml := preamble + fmt.Sprintf("[journal]\nurl = %q\n", url) + route("ehr", ehr.url, stuckRoute, "")
	a, b := start(t, toml, files{"shape.js": stuck}), start(t, toml, files{"shape.js": stuck})
	for range 2 {
		a.update("1", core.ScriptTimeout)
	}
	eventually(t, "the other daemon knows", func() bool { return len(b.held()) == 1 })
	if _, err := b.operator().ReleaseScript(t.Context(), admin.Release{Script: "shape.js"}); err != nil {
		t.Fatal(err)
	}
	eventually(t, "its release is known", func() bool { return len(a.held()) == 0 })
	a.update("2", transport.Delivered)
	contains(t, "the log", a.logs.String(), "it was released on another daemon")
	contains(t, "the log", b.logs.String(), "as another daemon found")
}
