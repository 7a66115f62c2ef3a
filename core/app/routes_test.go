package app_test

import (
	"net/http"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/hookline/hookline/core"
	"github.com/hookline/hookline/plugins/transport"
)

// Several routes: each has its delivery, and if one failed the caller is told,
// with what did arrive.
func TestSeveralRoutes(t *testing.T) {
	good, failing, missing := newTarget(t, nil), newTarget(t, status(500)), newTarget(t, status(404))
	d := start(t, preamble+
		route("missing", missing.url, `forms = ["id:targets", "id:gravest"]`, "")+
		route("failing", failing.url, `forms = ["id:some", "id:targets"]`, "")+
		route("good", good.url, `forms = ["id:some", "id:both"]`, "")+
		route("alsogood", good.url, `forms = ["id:both"]`, "")+
		route("script", good.url, `forms = ["id:gravest"]`+"\ntransform = \"throw.js\"", ""),
		files{"throw.js": "export default function () {\n  throw new Error('no')\n}"})

	t.Run("all deliver", func(t *testing.T) {
		a := d.update("both", transport.Delivered)
		if len(a.Deliveries) != 2 || a.Deliveries[0].Route != "good" || a.Deliveries[1].Route != "alsogood" {
			t.Errorf("deliveries %+v", a.Deliveries)
		}
		got := good.got()
		if len(got) != 2 || got[0].header.Get("Webhook-Id") == got[1].header.Get("Webhook-Id") {
			t.Error("two deliveries are two messages with an id each")
		}
		if got[0].header.Get("Hookline-Event-Id") != got[1].header.Get("Hookline-Event-Id") {
			t.Error("they are of one event")
		}
	})
	t.Run("one fails", func(t *testing.T) {
		a := d.update("some", transport.TargetError)
		if a.status != 502 || len(a.Deliveries) != 2 || a.Deliveries[1].Status != core.StateDelivered || a.Deliveries[1].Code != transport.Delivered {
			t.Errorf("answer %d %s", a.status, a.body)
		}
		contains(t, "detail", a.Detail, "Target good received it.", "Target failing has not confirmed it")
	})
	t.Run("the first of equal faults", func(t *testing.T) {
		a := d.update("targets", transport.NotFoundAtTarget)
		contains(t, "detail", a.Detail, "Target missing has not confirmed it", "Target failing has not confirmed it")
	})
	t.Run("the gravest fault", func(t *testing.T) {
		a := d.update("gravest", core.TransformFailed)
		if a.status != 500 || a.Fault != core.FaultScript || a.Step != core.StepTransform {
			t.Errorf("answer %d %s", a.status, a.body)
		}
	})
	t.Run("ignored", func(t *testing.T) {
		a := d.update("nobody", core.Ignored)
		if a.status != 200 || a.Deliveries == nil || len(a.Deliveries) != 0 || !strings.Contains(a.body, `"deliveries":[]`) {
			t.Errorf("answer %d %s", a.status, a.body)
		}
	})
}

func TestRoutesByKindFormAndLevel(t *testing.T) {
	ehr := newTarget(t, nil)
	d := start(t, strings.Replace(preamble, `timeout = "5s"`, "timeout = \"5s\"\nunmatched = \"error\"", 1)+
		route("inserts", ehr.url, `events = ["insert"]`, "")+
		route("forms", ehr.url, "events = [\"update\"]\nforms = [\"Sample*\"]", "")+
		route("monitored", ehr.url, "events = [\"review\"]\nworkflow = [\"Monitor Review\"]", ""))
	for _, c := range []struct {
		name, body string
		want       string // the route
	}{
		{"kind", string(sample(t, "insert")), "inserts"},
		{"form's name", string(sample(t, "update")), "forms"},
		{"level", string(sample(t, "review")), "monitored"},
		{"another form", `{"trans_id":"1","form_id":"2","form_name":"Other","OnUpdate":true}`, ""},
		{"another level", `{"trans_id":"1","form_id":"2","OnReview":true,"wf_id":9,"wf_object":{"wf_name":"Data Review"}}`, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			a := d.send(call{body: []byte(c.body)})
			switch {
			case c.want == "":
				if a.status != 422 || a.Code != core.Unmatched || a.Fault != core.FaultCaller {
					t.Errorf("answer %d %s", a.status, a.body)
				}
			case a.Code != transport.Delivered || len(a.Deliveries) != 1 || a.Deliveries[0].Route != c.want:
				t.Errorf("answer %d %s", a.status, a.body)
			}
		})
	}
}

const scripts = `
export default function (event, ctx) {
  switch (event.form_id) {
  case "skip": return ctx.skip("not of this study");
  case "reject": return ctx.reject("the visit date is missing");
  case "throw":
    ctx.log("subject is " + event.subject);
    throw new Error("cannot handle " + event.subject);
  case "nothing": return;
  case "loop": for (;;) {}
  }
  return { record: event.trans_id, kind: ctx.kind, study: ctx.study };
}
`

func TestTransforms(t *testing.T) {
	ehr := newTarget(t, nil)
	d := start(t, preamble+route("ehr", ehr.url, `transform = "shape.js"`, ""), files{"shape.js": scripts})
	for _, c := range []struct {
		form   string
		status int
		code   core.Code
		state  core.State
		detail string
		hint   string
	}{
		{form: "319", status: 200, code: transport.Delivered, state: core.StateDelivered},
		{form: "skip", status: 200, code: core.Skipped, state: core.StateSkipped},
		{form: "reject", status: 422, code: core.RejectedByTransform, state: core.StateRejected, detail: "It was not sent to Target ehr: the visit date is missing."},
		{form: "throw", status: 500, code: core.TransformFailed, state: core.StateDead, detail: "could not be prepared", hint: "shape.js:8:11"},
		{form: "nothing", status: 500, code: core.TransformFailed, state: core.StateDead, hint: "routes.ehr failed (shape.js): `hookline explain --ref "},
		{form: "loop", status: 500, code: core.ScriptTimeout, state: core.StateDead, detail: "longer than 250 milliseconds", hint: "routes.ehr.script_timeout is 250ms"},
		{form: "319", status: 200, code: transport.Delivered, state: core.StateDelivered},
	} {
		t.Run(c.form, func(t *testing.T) {
			a := d.update(c.form, c.code)
			if a.status != c.status || len(a.Deliveries) != 1 || a.Deliveries[0].Status != c.state {
				t.Errorf("answer %d %s", a.status, a.body)
			}
			contains(t, "detail", a.Detail, c.detail)
			contains(t, "hint", a.Hint, c.hint)
			if a.took > time.Second {
				t.Errorf("it took %s", a.took)
			}
			assertClean(t, "the answer", a.body, "Jane Doe", "cannot handle")
		})
	}
	got := ehr.got()
	if len(got) != 2 || !regexp.MustCompile(`^\{"record":"\d+","kind":"update","study":"ABC-123"\}$`).Match(got[0].body) {
		t.Errorf("the target got %d requests, %s", len(got), got[0].body)
	}
	line := d.logs.wait(t, "delivery dead", "code=transform_failed", "form=throw")
	contains(t, "the log", line, "shape.js:8:11")
	assertClean(t, "the log", d.logs.String(), "cannot handle", "subject is")
}

// Scripts get through each other's events: a loop costs its own event only. Of
// three rounds the best counts: on a machine that is busy with other things a loop
// may not be stopped in time, and its process, which others use, is killed for it.
func TestLoopingScriptBesideOthers(t *testing.T) {
	ehr := newTarget(t, nil)
	d := start(t, preamble+route("ehr", ehr.url, `transform = "shape.js"`, ""), files{"shape.js": scripts})
	round := func() map[core.Code]int {
		codes := make(chan core.Code, 40)
		for i := range cap(codes) {
			form := "319"
			if i%10 == 0 {
				form = "loop"
			}
			go func() {
				a, err := d.do(call{body: event(form)})
				if err != nil {
					codes <- core.Code(err.Error())
					return
				}
				codes <- core.Code(form) + " " + a.Code
			}()
		}
		count := map[core.Code]int{}
		for range cap(codes) {
			count[<-codes]++
		}
		return count
	}
	for try := 1; ; try++ {
		count := round()
		if count["319 delivered"] == 36 && count["loop script_timeout"] == 4 {
			break
		}
		t.Logf("round %d: %v", try, count)
		if try == 3 {
			t.Fatal("loops have cost other events theirs, three times")
		}
	}
	d.update("319", transport.Delivered)
}

// A hook with reply is a drop-in before an existing receiver.
func TestReplyRelaysTheTargetsAnswer(t *testing.T) {
	say := func(code int) func(int, http.ResponseWriter, *http.Request) {
		return func(_ int, w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "text/xml; charset=utf-8")
			w.Header().Set("X-Internal", "no")
			w.Header().Set("Set-Cookie", "no=1")
			w.WriteHeader(code)
			_, _ = w.Write([]byte("<ok record='435'/>"))
		}
	}
	toml := strings.Replace(preamble, `timeout = "5s"`, "timeout = \"5s\"\nreply = \"main\"", 1)
	for _, c := range []struct {
		name       string
		main, side int // the targets' statuses
		status     int
		code       core.Code // "": relayed
	}{
		{name: "200", main: 200, status: 200},
		{name: "201", main: 201, status: 201},
		{name: "422", main: 422, status: 422},
		{name: "500", main: 500, status: 500},
		{name: "401 is about our credentials", main: 401, status: 502, code: transport.UnauthorizedByTarget},
		{name: "302", main: 302, status: 502, code: transport.RedirectRefused},
		{name: "another route failed", main: 200, side: 500, status: 502, code: transport.TargetError},
	} {
		t.Run(c.name, func(t *testing.T) {
			config := toml + route("main", newTarget(t, say(c.main)).url, "", "")
			if c.side != 0 {
				config += route("side", newTarget(t, status(c.side)).url, "", "")
			}
			d := start(t, config)
			a := d.send(call{body: event("319")})
			if a.status != c.status || a.Code != c.code {
				t.Errorf("answer %d %s", a.status, a.body)
			}
			if c.code != "" {
				return
			}
			if a.body != "<ok record='435'/>" || a.header.Get("Content-Type") != "text/xml; charset=utf-8" {
				t.Errorf("relayed %q of type %q", a.body, a.header.Get("Content-Type"))
			}
			if a.header.Get("X-Internal") != "" || a.header.Get("Set-Cookie") != "" {
				t.Errorf("headers of the target came along: %v", a.header)
			}
			if a.header.Get("Hookline-Event-Id") == "" {
				t.Error("no id to find the event by")
			}
		})
	}
}
