package app_test

import (
	"strings"
	"testing"

	"github.com/hookline/hookline/core/app"
	"github.com/hookline/hookline/plugins/transport"
)

const (
	goldenIn  = `{"event":{"trans_id":"435","form_id":"319","OnUpdate":true},"ctx":{"study":"GOLDEN"}}`
	goldenOut = `{"messages": [{"contentType": "application/json", "payload": {"study": "GOLDEN", "v": 1}}]}`
)

// Golden pairs are run wherever files are taken: at a reload, at the start and by a
// check. What was accepted once needs no second look.
func TestGoldenPairs(t *testing.T) {
	t.Parallel()
	ehr := newTarget(t, nil)
	toml := preamble + route("ehr", ehr.url, `transform = "shape.js"`, "")
	const script = `export default (event, ctx) => ({ study: ctx.study, v: 1 })`
	d := start(t, toml, files{"shape.js": script, "shape.golden/one.in.json": goldenIn, "shape.golden/one.out.json": goldenOut})
	d.update("319", transport.Delivered)
	check := func() (*app.CheckReport, error) {
		c, err := d.load()
		if err != nil {
			t.Fatal(err)
		}
		return app.Check(t.Context(), c, discardSlog(), false)
	}
	report, err := check()
	if err != nil || report.Scripts[0].Golden != 1 {
		t.Fatalf("check: %+v, %v", report, err)
	}

	d.write("shape.js", strings.Replace(script, "v: 1", "v: 2", 1))
	refused := func(what string, err error) {
		t.Helper()
		if err == nil {
			t.Fatalf("%s takes a script that does not give what its pair says", what)
		}
		contains(t, what, err.Error(), "routes.ehr.transform", `golden pair "one"`, "hookline transform test")
	}
	refused("a reload", d.app.Reload(t.Context()))
	_, err = check()
	refused("check", err)
	if got := string(ehr.got()[0].body); got != `{"study":"ABC-123","v":1}` {
		t.Errorf("the target got %s", got)
	}
	d.update("319", transport.Delivered)

	// At the start the set that was accepted last runs, whatever the pairs say now.
	d.app.Stop()
	d.write("shape.golden/one.out.json", `{"skip":"never"}`)
	d.strict = true
	refused("a strict start", d.boot())
	d.strict = false
	if err := d.boot(); err != nil {
		t.Fatal(err)
	}
	d.logs.wait(t, "level=ERROR", "running on the one that was accepted last", `golden pair \"one\"`)
	d.update("319", transport.Delivered)
	if got := string(ehr.got()[2].body); got != `{"study":"ABC-123","v":1}` {
		t.Errorf("after a start with bad files the target got %s", got)
	}

	d.write("shape.golden/one.out.json", strings.Replace(goldenOut, `"v": 1`, `"v": 2`, 1))
	d.reload(toml)
	d.update("319", transport.Delivered)
	if got := string(ehr.got()[3].body); got != `{"study":"ABC-123","v":2}` {
		t.Errorf("after it was mended the target got %s", got)
	}
}

// A script that hangs on its pair is found out within bounds, and costs no event of
// another route anything.
func TestGoldenPairThatHangs(t *testing.T) {
	ehr := newTarget(t, nil)
	toml := preamble + route("ehr", ehr.url, `transform = "shape.js"`, "")
	d := start(t, toml, files{"shape.js": `export default () => ({ v: 1 })`})
	d.write("shape.js", `export default () => Array.prototype.indexOf.call({ length: 1e12 }, 1)`)
	d.write("shape.golden/one.in.json", goldenIn)
	d.write("shape.golden/one.out.json", goldenOut)
	reloaded := make(chan error, 1)
	go func() { reloaded <- d.app.Reload(t.Context()) }()
	for done := false; !done; {
		d.update("319", transport.Delivered)
		select {
		case err := <-reloaded:
			done = true
			if err == nil {
				t.Error("it was taken")
			} else {
				contains(t, "the error", err.Error(), `golden pair "one"`)
			}
		default:
		}
	}
}
