package app_test

import (
	"context"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	collector "go.opentelemetry.io/proto/otlp/collector/trace/v1"
	pb "go.opentelemetry.io/proto/otlp/trace/v1"
	"go.yaml.in/yaml/v3"
	"google.golang.org/protobuf/proto"

	"github.com/hookline/hookline/core"
	"github.com/hookline/hookline/plugins/target/targettest"
	"github.com/hookline/hookline/plugins/transport"
)

const adminSocket = "[admin]\nlisten = \"unix:admin.sock\"\n"

// scrape is GET /metrics on the admin socket: samples by series.
func (d *daemon) scrape() (map[string]float64, string) {
	d.t.Helper()
	pool := &http.Transport{DisableKeepAlives: true, DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "unix", filepath.Join(d.dir, "admin.sock"))
	}}
	resp, err := (&http.Client{Transport: pool, Timeout: 10 * time.Second}).Get("http://hookline/metrics")
	if err != nil {
		d.t.Fatal(err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode != http.StatusOK || !strings.HasPrefix(resp.Header.Get("Content-Type"), "text/plain") {
		d.t.Fatalf("%d %s %v: %s", resp.StatusCode, resp.Header.Get("Content-Type"), err, text)
	}
	out := map[string]float64{}
	for line := range strings.Lines(string(text)) {
		if line = strings.TrimSpace(line); strings.HasPrefix(line, "#") {
			continue
		}
		i := strings.LastIndexByte(line, ' ')
		if out[line[:i]], err = strconv.ParseFloat(line[i+1:], 64); err != nil {
			d.t.Fatalf("%s: %v", line, err)
		}
	}
	assertClean(d.t, "the metrics", string(text), append(recordContents, "Reply-of-a-target")...)
	return out, string(text)
}

// untilScraped scrapes until ok: a settlement may come after its answer, and the
// queue is counted every few seconds.
func (d *daemon) untilScraped(what string, ok func(map[string]float64) bool) (got map[string]float64) {
	d.t.Helper()
	eventually(d.t, what, func() bool { got, _ = d.scrape(); return ok(got) })
	return got
}

func TestMetrics(t *testing.T) {
	ehr := newTarget(t, func(_ int, w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "Reply-of-a-target") })
	lab := route("lab", "http://"+targettest.ClosedAddr(t), "forms = [\"2\"]\nretry = { initial = \"1h\", max = \"1h\" }", "")
	toml := preamble + "reply = \"ehr\"\n" + adminSocket +
		route("ehr", ehr.url, "forms = [\"1\"]\ntransform = \"shape.js\"", basicAuth)
	d := start(t, toml+lab, files{"shape.js": "export default (event) => ({ subject: event.subject })"})

	for range 3 {
		if a := d.send(call{body: event("1")}); a.status != 200 || a.body != "Reply-of-a-target" {
			t.Fatalf("%d %s", a.status, a.body)
		}
	}
	d.update("2", transport.ConnectionRefused)
	d.update("3", core.Ignored)
	_ = d.send(call{body: []byte(`{"trans_id": 1}`)})

	got := d.untilScraped("the queue to be counted", func(m map[string]float64) bool {
		return m[`hookline_queue_depth{route="lab",state="waiting"}`] == 1 && m[`hookline_deliveries_total{code="delivered",route="ehr",state="delivered"}`] == 3
	})
	for series, want := range map[string]float64{
		`hookline_events_total{code="delivered",hook="demo",kind="update"}`:                3,
		`hookline_events_total{code="connection_refused",hook="demo",kind="update"}`:       1,
		`hookline_events_total{code="ignored",hook="demo",kind="update"}`:                  1,
		`hookline_events_total{code="invalid_event",hook="demo",kind=""}`:                  1,
		`hookline_answer_seconds_count{hook="demo"}`:                                       6,
		`hookline_attempts_total{code="delivered",route="ehr"}`:                            3,
		`hookline_transform_seconds_count{route="ehr"}`:                                    3,
		`hookline_attempt_seconds_count{route="ehr"}`:                                      3,
		`hookline_target_seconds_count{route="ehr"}`:                                       3,
		`hookline_hop_seconds_count{transport="ehr"}`:                                      3,
		`hookline_deliveries_total{code="connection_refused",route="lab",state="waiting"}`: 1,
		`hookline_queue_depth{route="ehr",state="waiting"}`:                                0,
		`hookline_circuit_state{transport="lab"}`:                                          0,
		`hookline_child_restarts_total{child="transport ehr"}`:                             0,
		`hookline_child_restarts_total{child="transforms"}`:                                0,
		`hookline_journal_up`:      1,
		`hookline_config_recalled`: 0,
		`hookline_in_flight`:       0,
	} {
		if v, ok := got[series]; !ok || v != want {
			t.Errorf("%s is %v (%v), want %v", series, v, ok, want)
		}
	}
	for _, series := range []string{
		"hookline_journal_commit_seconds_count", "hookline_journal_batch_size_sum", "hookline_disk_free_bytes",
		"hookline_config_last_reload_success_timestamp_seconds", `hookline_queue_oldest_seconds{route="lab"}`,
	} {
		if got[series] <= 0 {
			t.Errorf("%s is %v", series, got[series])
		}
	}
	if sum, all := got[`hookline_target_seconds_sum{route="ehr"}`], got[`hookline_attempt_seconds_sum{route="ehr"}`]; sum <= 0 || sum > all {
		t.Errorf("the target took %v s of attempts of %v s", sum, all)
	}

	// Whatever strangers send, there are no more series than before.
	hostile := func() {
		for i := range 20 {
			odd := fmt.Sprintf("hostile-%d", i)
			_ = d.send(call{hook: odd, body: event("1")})
			_ = d.send(call{hook: "../demo/" + odd, body: event("1")})
			_ = d.send(call{body: fmt.Appendf(nil, `{"trans_id":"%s","form_id":"%s","OnInsert":true,"OnNothing":"%s"}`, odd, odd, odd)})
			_ = d.send(call{body: []byte(odd), header: http.Header{"Content-Type": {odd}}})
			_ = d.send(call{body: event("1"), header: http.Header{"Authorization": {odd}}})
		}
	}
	hostile()
	before, _ := d.scrape()
	hostile()
	after, text := d.scrape()
	for series := range after {
		if _, had := before[series]; !had && !strings.HasPrefix(series, "go_") {
			t.Errorf("a new series: %s", series)
		}
	}
	if strings.Contains(text, "hostile") {
		t.Error("a stranger's words are in the metrics")
	}

	// A route that leaves the configuration takes its series along.
	d.reload(toml)
	got = d.untilScraped("the route's deliveries to count as nobody's", func(m map[string]float64) bool {
		return m[`hookline_queue_depth{route="",state="held"}`] == 1
	})
	for series := range got {
		if strings.Contains(series, `"lab"`) || strings.Contains(series, "transport lab") {
			t.Errorf("left of the route: %s", series)
		}
	}
	if n := got[`hookline_attempts_total{code="delivered",route="ehr"}`]; n != 3 {
		t.Errorf("the route that stayed begins at %v again", n)
	}
}

// spans is a collector for OTLP over HTTP.
type spans struct {
	url string

	mu     sync.Mutex
	all    []*pb.Span
	text   strings.Builder // everything that came, headers excluded
	header http.Header
}

func newCollector(t testing.TB) *spans {
	t.Helper()
	s := &spans{}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		var req collector.ExportTraceServiceRequest
		if err != nil || r.URL.Path != "/v1/traces" || proto.Unmarshal(body, &req) != nil {
			w.WriteHeader(http.StatusBadRequest)
			return
		}
		s.mu.Lock()
		defer s.mu.Unlock()
		s.header = r.Header.Clone()
		s.text.Write(body)
		for _, of := range req.GetResourceSpans() {
			for _, scope := range of.GetScopeSpans() {
				s.all = append(s.all, scope.GetSpans()...)
			}
		}
		w.Header().Set("Content-Type", "application/x-protobuf")
	}))
	t.Cleanup(server.Close)
	s.url = server.URL
	return s
}

func (s *spans) got() []*pb.Span {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.all)
}

// spansNamed are the spans of one trace whose names begin so.
func spansNamed(all []*pb.Span, trace, name string) (out []*pb.Span) {
	for _, s := range all {
		if hex.EncodeToString(s.GetTraceId()) == trace && strings.HasPrefix(s.GetName(), name) {
			out = append(out, s)
		}
	}
	return out
}

func attribute(s *pb.Span, key string) string {
	for _, a := range s.GetAttributes() {
		if a.GetKey() == key {
			if a.GetValue().GetStringValue() == "" {
				return strconv.FormatInt(a.GetValue().GetIntValue(), 10)
			}
			return a.GetValue().GetStringValue()
		}
	}
	return ""
}

// One trace from the caller to the target, in the foreground and, after a failure,
// in the background.
func TestTraces(t *testing.T) {
	const trace, caller = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
	collector := newCollector(t)
	ehr := newTarget(t, func(n int, w http.ResponseWriter, _ *http.Request) {
		if n == 1 { // the first fails for so long that the caller does not wait
			w.Header().Set("Retry-After", "3")
			w.WriteHeader(http.StatusServiceUnavailable)
		}
		fmt.Fprint(w, "Reply-of-a-target")
	})
	d := start(t, preamble+fmt.Sprintf("[telemetry]\notlp = %q\nheaders = { authorization = \"env:EHR_TOKEN\" }\n", collector.url)+
		route("ehr", ehr.url, "transform = \"shape.js\"\nretry = { initial = \"10ms\" }", basicAuth+"\nsigning_secrets = [\"env:EHR_SIGNING\"]"),
		files{"shape.js": "export default (event) => ({ subject: event.subject })"})
	a := d.send(call{body: event("1"), header: http.Header{
		"Traceparent": {"00-" + trace + "-" + caller + "-01"}, "Tracestate": {"vendor=opaque"},
	}})
	if a.Code != transport.ThrottledByTarget {
		t.Fatalf("%d %s", a.status, a.body)
	}
	var all []*pb.Span
	eventually(t, "two runs' spans", func() bool {
		all = collector.got()
		return len(spansNamed(all, trace, "deliver ehr")) == 2 && len(spansNamed(all, trace, "call demo")) == 1
	})

	in := spansNamed(all, trace, "call demo")[0]
	if hex.EncodeToString(in.GetParentSpanId()) != caller || in.GetTraceState() != "vendor=opaque" || in.GetKind() != pb.Span_SPAN_KIND_SERVER {
		t.Errorf("the call's span does not go on from the caller's: %v", in)
	}
	if attribute(in, "hookline.event") != a.EventID || attribute(in, "hookline.code") != "throttled_by_target" {
		t.Errorf("attributes of the call: %v", in.GetAttributes())
	}
	requests := ehr.got()
	if len(requests) != 2 {
		t.Fatalf("%d requests", len(requests))
	}
	if string(requests[0].body) != string(requests[1].body) || requests[0].header.Get("Webhook-Id") != requests[1].header.Get("Webhook-Id") {
		t.Error("the second attempt's message is not the first's (invariant 9)")
	}
	if n := len(spansNamed(all, trace, "transform ehr")); n != 1 {
		t.Errorf("%d spans of a transform that ran once", n)
	}
	for i, r := range requests {
		var attempt *pb.Span
		for _, s := range spansNamed(all, trace, "attempt ehr") {
			if r.header.Get("Traceparent") == "00-"+trace+"-"+hex.EncodeToString(s.GetSpanId())+"-01" {
				attempt = s
			}
		}
		if attempt == nil {
			t.Fatalf("request %d is of no attempt's span: %s", i+1, r.header.Get("Traceparent"))
		}
		if got := attribute(attempt, "hookline.attempt"); got != strconv.Itoa(i+1) {
			t.Errorf("request %d is of attempt %s", i+1, got)
		}
		run := slices.IndexFunc(all, func(s *pb.Span) bool { return string(s.GetSpanId()) == string(attempt.GetParentSpanId()) })
		if run < 0 || all[run].GetName() != "deliver ehr" || string(all[run].GetParentSpanId()) != string(in.GetSpanId()) {
			t.Errorf("attempt %d does not lead back to the call", i+1)
		}
	}

	// A trace that begins here is found by the event's id.
	a = d.update("1", transport.Delivered)
	id := strings.ReplaceAll(a.EventID, "-", "")
	eventually(t, "the event's own trace", func() bool { return len(spansNamed(collector.got(), id, "attempt ehr")) == 1 })

	// A caller that does not want a trace gets none, and the target hears so.
	const quiet = "5bf92f3577b34da6a3ce929d0e0e4736"
	_ = d.send(call{body: event("1"), header: http.Header{"Traceparent": {"00-" + quiet + "-" + caller + "-00"}}})
	if got := ehr.got()[3].header.Get("Traceparent"); !strings.HasPrefix(got, "00-"+quiet+"-") || !strings.HasSuffix(got, "-00") {
		t.Errorf("traceparent %s", got)
	}

	d.app.Stop() // flushes
	if left := spansNamed(collector.got(), quiet, ""); len(left) > 0 {
		t.Errorf("spans of a trace that is not wanted: %v", left)
	}
	collector.mu.Lock()
	defer collector.mu.Unlock()
	assertClean(t, "the spans", collector.text.String(), append(recordContents, "Reply-of-a-target")...)
	if collector.header.Get("Authorization") != bearerToken {
		t.Error("the collector did not get its header")
	}
}

// A collector that never answers costs nobody anything.
func TestCollectorAway(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close() // it is never accepted from
	for name, url := range map[string]string{"silent": "http://" + l.Addr().String(), "refusing": "http://" + targettest.ClosedAddr(t)} {
		t.Run(name, func(t *testing.T) {
			ehr := newTarget(t, nil)
			d := start(t, preamble+fmt.Sprintf("[telemetry]\notlp = %q\n", url)+route("ehr", ehr.url, "", ""))
			for range 50 {
				if a := d.update("1", transport.Delivered); a.took > 2*time.Second {
					t.Errorf("an answer took %s", a.took)
				}
			}
			begun := time.Now()
			d.app.Stop()
			if took := time.Since(begun); took > 8*time.Second {
				t.Errorf("the stop took %s", took)
			}
			if n := strings.Count(d.logs.String(), "telemetry.otlp"); n > 1 {
				t.Errorf("it was logged %d times", n)
			}
		})
	}
}

var (
	metricName = regexp.MustCompile(`\b(?:hookline|process|go)_[a-z0-9_]+\b`)
	selector   = regexp.MustCompile(`\b((?:hookline|process|go)_[a-z0-9_]+)\{([^{}]*)\}`)
	matcher    = regexp.MustCompile(`([a-z_]+)\s*(?:=~|!=|!~|=)\s*"`)
	grouping   = regexp.MustCompile(`\bby \(([^()]*)\)`)
	legend     = regexp.MustCompile(`\{\{\s*(?:\$labels\.)?([a-z_]+)\s*\}\}`)
)

// What examples/grafana asks for is what a daemon tells.
func TestGrafana(t *testing.T) {
	ehr := newTarget(t, nil)
	cert, key := certificate(t, "front", time.Now().Add(-time.Hour), time.Now().Add(90*24*time.Hour))
	toml := strings.Replace(preamble, `"tcp://127.0.0.1:0"`, `"unix:hook.sock", "tcp://127.0.0.1:0"`, 1) +
		"[server.tls]\ncert_file = \"tls.crt\"\nkey_file = \"tls.key\"\n" + adminSocket +
		route("ehr", ehr.url, "transform = \"shape.js\"", "")
	d := start(t, toml, files{
		"tls.crt": string(cert), "tls.key": string(key),
		"shape.js": "export default (event) => ({ subject: event.subject })",
	})
	d.update("1", transport.Delivered)
	_ = d.send(call{body: event("1"), header: http.Header{"Authorization": {"Basic eDp5"}}})
	d.untilScraped("the delivery", func(m map[string]float64) bool {
		return m[`hookline_deliveries_total{code="delivered",route="ehr",state="delivered"}`] == 1
	})
	samples, _ := d.scrape()
	labels := map[string]map[string]bool{} // by metric
	for series := range samples {
		name, rest, _ := strings.Cut(series, "{")
		if labels[name] == nil {
			labels[name] = map[string]bool{"instance": true, "job": true} // Prometheus adds them
		}
		for _, m := range matcher.FindAllStringSubmatch(rest, -1) {
			labels[name][m[1]] = true
		}
	}

	exprs := map[string]string{} // to the text of labels around it
	read := func(name string) []byte {
		b, err := os.ReadFile(filepath.Join("..", "..", "examples", "grafana", name))
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	var board struct {
		Panels []struct {
			Targets []struct{ Expr, LegendFormat string }
		}
	}
	if err := json.Unmarshal(read("hookline.json"), &board); err != nil {
		t.Fatal(err)
	}
	for _, p := range board.Panels {
		for _, target := range p.Targets {
			exprs[target.Expr] = target.LegendFormat
		}
	}
	var alerts struct {
		Groups []struct {
			Name  string
			Rules []struct {
				Alert, Expr, For    string
				Labels, Annotations map[string]string
			}
		}
	}
	if err := yaml.Unmarshal(read("alerts.yml"), &alerts); err != nil {
		t.Fatal(err)
	}
	for _, g := range alerts.Groups {
		for _, r := range g.Rules {
			if _, err := time.ParseDuration(r.For); r.Alert == "" || r.Expr == "" || err != nil || r.Labels["severity"] == "" || r.Annotations["summary"] == "" {
				t.Errorf("the rule %q is not complete", r.Alert)
			}
			exprs[r.Expr] = r.Annotations["summary"] + r.Annotations["description"]
		}
	}
	if len(exprs) < 30 {
		t.Fatalf("only %d expressions were found", len(exprs))
	}
	for expr, around := range exprs {
		names := metricName.FindAllString(expr, -1)
		if len(names) == 0 && !strings.Contains(expr, "up{") {
			t.Errorf("no metric in %s", expr)
		}
		for _, name := range names {
			if labels[name] == nil {
				t.Errorf("there is no %s, in %s", name, expr)
			}
		}
		for _, s := range selector.FindAllStringSubmatch(expr, -1) {
			for _, m := range matcher.FindAllStringSubmatch(s[2], -1) {
				if !labels[s[1]][m[1]] {
					t.Errorf("%s has no label %s, in %s", s[1], m[1], expr)
				}
			}
		}
		has := func(label string) bool {
			return slices.ContainsFunc(names, func(n string) bool { return labels[n][label] }) || len(names) == 0 && label == "instance"
		}
		groups := grouping.FindAllStringSubmatch(expr, -1)
		for _, by := range groups {
			for label := range strings.SplitSeq(by[1], ",") {
				if !has(strings.TrimSpace(label)) {
					t.Errorf("nothing has the label %s, in %s", label, expr)
				}
			}
		}
		for _, l := range legend.FindAllStringSubmatch(around, -1) {
			switch kept := len(groups) == 0 || strings.Contains(groups[0][1], l[1]); {
			case !has(l[1]):
				t.Errorf("nothing has the label %s of %q, in %s", l[1], around, expr)
			case !kept:
				t.Errorf("the label %s of %q is summed away, in %s", l[1], around, expr)
			}
		}
	}
}
